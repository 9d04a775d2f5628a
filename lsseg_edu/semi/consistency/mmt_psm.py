"""Mask-guided mean teacher: teach features inside the organs, answers where noise matters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher
from lsseg_edu.semi.consistency.ua_mt import masked_mse


class MMTPSM(MeanTeacher):
    r"""Mean Teacher on features and on answers, each at the places that are worth it.

    The teacher answers ``n`` noisy copies :math:`p'_1, ..., p'_n`; their mean :math:`\bar p` is
    the target. How much they differ is each pixel's *sensitivity* to perturbation, and only the
    most sensitive share ``R`` of the pixels is learnt from:

    .. math::
        s_i = \frac1n \sum_j \lVert p'_{j,i} - \bar p_i \rVert^2, \qquad
        L_{pred} = \frac{1}{|R|K} \sum_{i \in R} \lVert p_i - \bar p_i \rVert^2 .

    Beside that, the student's features :math:`F^l` at every level ``l`` of the encoder follow
    the teacher's inside the mask :math:`M^l` of what the teacher takes for foreground, so that
    the large background does not drown them:

    .. math::
        L_{feat} = \frac15 \sum_{l} \frac{1}{|M^l| C_l} \sum_{i \in M^l}
            \lVert F^l_i - F'^l_i \rVert^2 .

    UA-MT drops the pixels on which the teacher wavers; this method looks for them.

    Reference: Zhou, Chen, Lin, Heng, "Deep Semi-supervised Knowledge Distillation for
    Overlapping Cervical Cell Instance Segmentation", MICCAI 2020.
    Simplified: semantic classes in place of Mask R-CNN instances, so pixels are mined instead of
    region proposals; encoder levels in place of the feature pyramid.

    Args:
        net: the student, with ``encode``, ``decode`` and ``final_conv``.
        copies: ``n``, noisy copies for the teacher.
        share: fraction of the batch's pixels that is mined, about that of organs and their rims.
        features: weight of the features beside the answers.
        **options: those of :class:`.MeanTeacher`.

    Raises:
        ValueError: a network whose features cannot be seen, or a share outside (0, 1].
    """

    def __init__(self, net: nn.Module, copies: int = 4, share=0.25, features=0.1, **options):
        if not hasattr(net, "encode"):
            raise ValueError(
                f"{type(net).__name__} does not show its features: take a network with encode, "
                f"decode and final_conv, such as networks.unet(task)."
            )
        if not 0 < share <= 1:
            raise ValueError(f"share is a fraction of the pixels, above 0 and at most 1: {share}.")
        super().__init__(net, **options)
        self.copies, self.share, self.features = copies, share, features

    def consistency(self, batch) -> Tensor:
        """Answers at the sensitive pixels, plus features inside the predicted organs."""
        images = batch.unlabelled.images
        student, answer = look(self.net, self.perturb(images))
        with torch.no_grad():
            copies = self.perturb(images.repeat(self.copies, *(1,) * (images.ndim - 1)))
            teacher, answers = look(self.teacher, copies)
            answers = answers.unflatten(0, (self.copies, -1))
            target = answers.mean(0)
            teacher = [level.unflatten(0, (self.copies, -1)).mean(0) for level in teacher]
            sensitive = most(answers.var(0, unbiased=False).sum(1, keepdim=True), self.share)
            organs = (target.argmax(1, keepdim=True) > 0).float()
        features = sum(map(masked_mse, student, teacher, (_shrink(organs, s) for s in student)))
        return masked_mse(answer, target, sensitive) + self.features * features / len(student)


def look(net: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """The encoder's features at every level, and the probabilities ``(B, K, *S)``."""
    features = net.encode(images)
    return features, net.final_conv(net.decode(features)).softmax(1)


def most(values: Tensor, share: float) -> Tensor:
    """True at the largest ``share`` of ``values`` (at least one, and all that tie with it)."""
    count = max(1, round(share * values.numel()))
    return values >= values.flatten().topk(count).values[-1]


def _shrink(mask, features):
    """A cell of the coarse mask is foreground if any of its pixels is."""
    pool = F.adaptive_max_pool2d if mask.ndim == 4 else F.adaptive_max_pool3d
    return pool(mask, features.shape[2:])
