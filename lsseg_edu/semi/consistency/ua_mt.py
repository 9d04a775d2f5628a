"""Uncertainty-aware mean teacher: believe the teacher where it is sure."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lsseg_edu.networks.blocks import drops
from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup


class UAMT(MeanTeacher):
    r"""Mean Teacher that leaves out the pixels at which the teacher contradicts itself.

    The teacher answers ``T`` noisy copies of an image with its dropout *on*. The entropy of the
    mean answer :math:`\bar p` is its uncertainty, and pixels above a threshold do not count:

    .. math::
        U_i = -\sum_k \bar p_{ik} \ln \bar p_{ik}, \qquad
        L_{cons} = \frac{\sum_i [U_i < H(t)]\, \lVert p_i - p'_i \rVert^2}
                        {K \sum_i [U_i < H(t)]} , \qquad
        H(t) = \big(\tfrac34 + \tfrac14 w(t)\big) \ln K .

    :math:`\ln K` is the largest entropy of ``K`` classes (the paper's :math:`\ln 2` is that of
    two). At first only pixels below about three quarters of it take part, in the end all. The
    sum is divided by the mask's own size, not by the image's: else a cautious teacher would be
    a weak loss. The target :math:`p'` is one pass with noise and without dropout.

    Reference: Yu, Wang, Li, Fu, Heng, "Uncertainty-Aware Self-ensembling Model for
    Semi-supervised 3D Left Atrium Segmentation", MICCAI 2019.
    Simplified: consistency on the unlabelled images only; a U-Net with little dropout everywhere.

    Args:
        net: the student, with dropout layers.
        passes: ``T``. The paper takes 8; 4 halve the cost of the estimate.
        **options: those of :class:`.MeanTeacher`.

    Raises:
        ValueError: a network without dropout, whose passes would differ by the noise alone.
    """

    def __init__(self, net: nn.Module, passes: int = 4, **options):
        if not drops(net):
            raise ValueError(
                "UA-MT measures uncertainty with dropout, and this network has none: "
                "build it with dropout, e.g. networks.unet(task, dropout=0.1)."
            )
        super().__init__(net, **options)
        self.passes = passes

    @classmethod
    def for_task(cls, task, seed: int = 0, dropout: float = 0.1, **options) -> UAMT:
        """On the book's U-Net with ``dropout`` everywhere (paper: 0.5 at two layers of a V-Net)."""
        from lsseg_edu import networks

        return cls(networks.unet(task, dropout=dropout, seed=seed), **options)

    def consistency(self, batch) -> Tensor:
        """Mean squared difference of the two answers over the pixels the teacher is sure of."""
        images = batch.unlabelled.images
        student = self.net(self.perturb(images)).softmax(1)
        with torch.no_grad():
            self.teacher.eval()
            target = self.teacher(self.perturb(images)).softmax(1)
            sure = self.uncertainty(images) < self.threshold(batch.progress, target.shape[1])
        return masked_mse(student, target, sure)

    @torch.no_grad()
    def uncertainty(self, images: Tensor) -> Tensor:
        """Entropy ``(B, 1, *S)`` in nats of the teacher's mean over noisy passes with dropout."""
        copies = self.perturb(images.repeat(self.passes, *(1,) * (images.ndim - 1)))
        self.teacher.train()
        answers = self.teacher(copies).softmax(1)
        self.teacher.train(self.training)
        return entropy(answers.unflatten(0, (self.passes, -1)).mean(0))

    def threshold(self, progress: float, classes: int) -> float:
        """``H(t)``: from about three quarters of the largest entropy to all of it."""
        return (0.75 + 0.25 * sigmoid_rampup(progress, 1.0)) * math.log(classes)


def entropy(probs: Tensor) -> Tensor:
    r""":math:`-\sum_k p_k \ln p_k` of ``probs (B, K, *S)``, as ``(B, 1, *S)``; 0 ln 0 is 0."""
    return torch.special.entr(probs.float()).sum(1, keepdim=True)


def masked_mse(probs: Tensor, target: Tensor, where: Tensor) -> Tensor:
    """Squared difference of ``(B, K, *S)`` averaged over classes and the pixels ``where``.

    Args:
        probs: what learns.
        target: what it is compared with.
        where: ``(B, 1, *S)`` boolean. Where it is false nothing counts, in the sum or in its
            divisor; if it is false everywhere the result is 0.
    """
    total = ((probs - target).square() * where).sum()
    return total / (probs.shape[1] * where.sum()).clamp(min=1)
