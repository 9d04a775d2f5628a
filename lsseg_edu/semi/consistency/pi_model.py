"""Pi model: one network, asked twice."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.consistency.transforms import Shift
from lsseg_edu.train import Method


class PiModel(Method):
    r"""The same network sees an unlabelled image twice and must answer the same.

    Each answer draws its own shift ``T``, input noise :math:`\eta` and dropout mask. The shift is
    undone before the answers are compared, so that pixel ``i`` means the same place in both:

    .. math::
        z = T^{-1} f_\theta(T x + \eta), \quad \tilde z = \tilde T^{-1} f_\theta(\tilde T x +
        \tilde\eta), \qquad
        L = L_{sup} + w(t)\, \frac{1}{|\Omega|K} \sum_{i,k} (z_{ik} - \tilde z_{ik})^2 .

    The gradient flows through **both** answers, as in the paper: there is no teacher. What keeps
    the two from agreeing on a constant is the supervised term alone.

    Reference: Laine, Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017.
    Simplified: consistency on the unlabelled images only; no mirrors, since organs have sides.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``, with dropout that is on in training.
        weight: largest weight of the consistency term (as for Mean Teacher, to compare).
        noise: standard deviation of the input noise (paper 0.15; 0.1 as for Mean Teacher).
        shift: largest shift on each axis, pixels (paper 2).
        ramp: fraction of training over which the weight rises.
    """

    unlabelled = True

    def __init__(self, net: nn.Module, weight=1.0, noise: float = 0.1, shift: int = 2, ramp=0.4):
        super().__init__(net)
        self.weight, self.noise, self.shift, self.ramp = weight, noise, shift, ramp

    @classmethod
    def for_task(cls, task, seed: int = 0, dropout: float = 0.1, **options) -> PiModel:
        """On the book's U-Net with ``dropout`` (paper 0.5, in a far wider network)."""
        from lsseg_edu import networks

        return cls(networks.unet(task, dropout=dropout, seed=seed), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on labelled images, ``consistency`` (already weighted) on the others."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"supervised": supervised, "consistency": weight * self.consistency(batch)}

    def consistency(self, batch) -> Tensor:
        """Mean squared difference of two answers of the one network."""
        images = batch.unlabelled.images
        return (self.answer(images) - self.answer(images)).square().mean()

    def answer(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, K, *S)`` of a perturbed copy, moved back to where the image is."""
        view = Shift.draw(images, most=self.shift)
        noisy = view(images) + self.noise * torch.randn_like(images)
        return view.inverse(self.net(noisy).softmax(1))
