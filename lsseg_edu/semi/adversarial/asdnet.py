"""Attention twice: to the regions the critic trusts, and to the images that are hard."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE
from lsseg_edu.semi.adversarial.discriminator import one_hot
from lsseg_edu.semi.adversarial.hung import HungSemi


class ASDNet(HungSemi):
    r"""The game of :class:`.HungSemi` with two kinds of attention, both on the Dice loss.

    *Sample attention*, on labelled images: an image the network already does well has little to
    teach. With :math:`D_b` the soft Dice of image ``b`` (its mean over classes),

    .. math:: L_{sup} = \sum_b a_b\, (1 - D_b) \Big/ \sum_b a_b , \qquad
              a_b = (1 - D_b)^\beta \text{ (a constant for the gradient).}

    *Region attention*, on unlabelled ones: Dice with the network's own answer
    :math:`\hat y = \arg\max f(u)`, in the region where the confidence network trusts it,

    .. math:: L_{semi} = 1 - D\big(f(u), \hat y;\ [\sigma(d(f(u))) > \tau]\big).

    Dice counts overlap, so that a large trusted background does not drown a small trusted organ.

    Reference: Nie, Gao, Wang, Shen, "ASDNet: Attention Based Semi-supervised Deep Networks for
    Medical Image Segmentation", MICCAI 2018.
    Simplified: each image's cross-entropy is added to its Dice, as in every baseline here, and
    attended with it; the weights of the samples are normalised to sum to one.

    Args:
        net: the segmenter.
        critic: the confidence network; sees ``K`` channels, judges every pixel.
        beta: :math:`\beta`, how much the hard images count; 0 treats all alike.
        **options: those of :class:`.HungSemi`.
    """

    def __init__(self, net, critic, beta: float = 1.0, **options):
        super().__init__(net, critic, **options)
        self.beta = beta

    def supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy and Dice of each image, the mean weighted towards the hard ones."""
        known = labels != IGNORE
        hard = region_dice(logits, labels, known)
        pixels = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
        entropy = pixels.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
        attention = hard.detach().clamp(min=1e-6) ** self.beta
        return (attention * (hard + entropy)).sum() / attention.sum()

    def teach(self, logits: Tensor, belief: Tensor) -> Tensor:
        """Dice with the network's own labels in the region that the confidence network trusts."""
        trusted = belief[:, 0] > self.threshold
        return region_dice(logits, logits.argmax(1), trusted).mean()


def region_dice(logits: Tensor, labels: Tensor, where: Tensor, eps: float = 1.0) -> Tensor:
    """Soft Dice loss of each image ``(B,)``, its mean over classes, inside a region.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)``.
        where: ``(B, *S)`` boolean, the region; an empty one costs nothing.
        eps: smoothing, pixels.
    """
    where = where.unsqueeze(1)
    probs = logits.float().softmax(1) * where
    truth = one_hot(labels, logits.shape[1]) * where
    overlap = (probs * truth).flatten(2).sum(2)
    size = (probs.square() + truth).flatten(2).sum(2)
    return (1 - (2 * overlap + eps) / (size + eps)).mean(1)
