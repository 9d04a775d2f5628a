"""UMCT: three views of a volume teach each other, and the doubtful one is heard less."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.networks.blocks import drops
from lsseg_edu.semi.co_training.asymmetric import asymmetric_unet
from lsseg_edu.semi.co_training.planes import InView, need_volumes
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.train import Method


class UMCT(Method):
    r"""Each view learns what the others say, weighted by how sure they are.

    View ``a`` is a 3D network of asymmetric kernels that sees the volume with axis ``a`` in
    front. It answers ``T`` times with dropout on; the mean is its opinion :math:`\bar p_a`, the
    variance its uncertainty :math:`U_a`, voxel by voxel. The label of a view is the fusion of
    all *other* views:

    .. math::
        c_a = \frac{1}{U_a + \delta}, \qquad
        \hat p_a = \frac{\sum_{b \ne a} c_b\, \bar p_b}{\sum_{b \ne a} c_b}, \qquad
        L = \sum_a L_{sup}(f_a) + w(t) \sum_a H\big(\hat p_a(x_u),\ f_a(x_u)\big) .

    The labels are detached: a view cannot make its teachers say what it says.

    Reference: Xia et al., "Uncertainty-aware multi-view co-training for semi-supervised medical
    image segmentation and domain adaptation", Medical Image Analysis 2020.
    Simplified: a small network from scratch, without the paper's initialisation from 2D and
    without a first stage of single views, which the ramp replaces; soft labels.

    Args:
        nets: one for each view, volumes to logits, with dropout; usually :class:`.InView`.
        weight: largest weight of the co-training term. The paper's 0.2 goes with a Dice loss.
        passes: ``T`` (paper: 10). Each costs a forward pass of every view.
        floor: :math:`\delta`, the uncertainty of a view that never changes its mind. It bounds
            how often the surest view counts for another one.
        ramp: fraction of training over which the weight rises.

    Raises:
        ValueError: one view, a network without dropout, a single pass, or a task of slices.
    """

    unlabelled = True

    def __init__(
        self,
        nets: Sequence[nn.Module],
        weight: float = 0.5,
        passes: int = 3,
        floor: float = 0.01,
        ramp: float = 0.4,
    ):
        if len(nets) < 2 or passes < 2:
            raise ValueError(
                f"UMCT compares at least 2 views in at least 2 passes, not {len(nets)} in {passes}."
            )
        for net in nets:
            if not drops(net):
                raise ValueError(
                    "A view's doubt is measured with dropout, and one of the networks has none: "
                    "build it with dropout, e.g. asymmetric_unet(task, dropout=0.1)."
                )
        super().__init__(nets[0])
        self.nets = nn.ModuleList(nets)
        self.weight, self.passes, self.floor, self.ramp = weight, passes, floor, ramp

    @classmethod
    def for_task(cls, task, seed: int = 0, dropout: float = 0.1, **options) -> UMCT:
        """Three asymmetric networks, one along each axis of the task's volumes."""
        need_volumes(task, "UMCT")
        seeds = [seed + 10_000 * axis for axis in range(3)]
        nets = [asymmetric_unet(task, dropout=dropout, seed=s) for s in seeds]
        return cls([InView(net, axis) for axis, net in enumerate(nets)], **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` of all views, and ``cotraining`` (already weighted)."""
        many, images = len(batch.labelled.images), batch.unlabelled.images
        both = torch.cat([batch.labelled.images, images])
        answers = [net(both) for net in self.nets]
        supervised = sum(losses.dice_ce(a[:many], batch.labelled.labels) for a in answers)
        terms = {"supervised": supervised}
        if self.weight:
            labels = weighted_fusion(*self.opinions(images), self.floor)
            pairs = zip(answers, labels, strict=True)
            fused = sum(F.cross_entropy(a[many:].float(), label) for a, label in pairs)
            terms["cotraining"] = self.weight * sigmoid_rampup(batch.progress, self.ramp) * fused
        return terms

    @torch.no_grad()
    def opinions(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(M, B, K, *S)`` of the passes with dropout, and variance ``(M, B, 1, *S)``."""
        copies = images.repeat(self.passes, *(1,) * (images.ndim - 1))
        self.nets.train()
        answers = torch.stack([net(copies).float().softmax(1) for net in self.nets])
        self.nets.train(self.training)
        answers = answers.unflatten(1, (self.passes, -1))  # (M, T, B, K, *S)
        return answers.mean(1), answers.var(1, correction=0).sum(2, keepdim=True)

    def predict(self, images: Tensor) -> Tensor:
        """The mean of all views' probabilities ``(B, K, D, H, W)``, without dropout."""
        return torch.stack([net(images).float().softmax(1) for net in self.nets]).mean(0)


def weighted_fusion(probs: Tensor, uncertainty: Tensor, floor: float = 0.01) -> Tensor:
    """For each view the mean of all others, weighted by ``1 / (uncertainty + floor)``.

    Args:
        probs: ``(M, B, K, *S)``, ``M`` at least 2.
        uncertainty: ``(M, B, 1, *S)``, not negative.
        floor: added to it.

    Returns:
        ``(M, B, K, *S)``: at ``a`` the label of view ``a``, in which ``probs[a]`` has no part.
    """
    confidence = 1 / (uncertainty + floor)
    weighted = confidence * probs
    return (weighted.sum(0) - weighted) / (confidence.sum(0) - confidence)
