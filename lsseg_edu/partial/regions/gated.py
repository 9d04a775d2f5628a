"""Gated CRF loss: the dense CRF loss in a window, at full resolution, with gates."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE
from lsseg_edu.partial.regions.regularised import Regularised
from lsseg_edu.semi.self_training.dense_crf import offsets, shifted


def gated_crf(
    probs: Tensor,
    images: Tensor,
    sends: Tensor,
    receives: Tensor,
    near: float = 6.0,
    alike: float = 0.5,
    appearance: float = 0.9,
    radius: int = 4,
) -> Tensor:
    r"""The share of the admitted affinity that a soft segmentation cuts.

    .. math::
        R(S) = \frac{\sum_i \sum_{j \in \mathcal N(i)} g^{in}_i g^{out}_j\, \kappa_{ij}
                     (1 - \sum_k S_{ik} S_{jk})}
                    {\sum_i \sum_{j \in \mathcal N(i)} g^{in}_i g^{out}_j\, \kappa_{ij}}, \qquad
        \kappa = a\, k^{app} + (1 - a)\, k^{place}

    :math:`\mathcal N(i)` is a window without its middle. Both kernels are Gaussian, the first in
    place and intensity, the second in place alone.

    The sum has ``(2 radius + 1)^D`` terms a pixel, too many to remember for the backward pass.
    But it is quadratic in ``S``, so its gradient is the very sum of messages that its value is
    made of: it is computed once, without a graph.

    Args:
        probs: ``(B, K, *S)``, summing to one over ``K``.
        images: ``(B, C, *S)``.
        sends: ``(B, 1, *S)``, :math:`g^{out}` in [0, 1]: who is listened to.
        receives: ``(B, 1, *S)``, :math:`g^{in}`: who listens.
        near: width in pixels (paper 6).
        alike: width in image deviations; the paper's 0.1 of the grey range is about 0.4.
        appearance: :math:`a` (published code 0.9).
        radius: of the window in pixels (paper 5, in larger images); in volumes take 2.

    Returns:
        A scalar in [0, 1], over the whole batch; 0 if no pair is admitted.
    """
    classes = probs.shape[1]
    with torch.no_grad():
        letters = torch.cat([sends * probs, receives * probs], 1)
        mail = torch.zeros_like(letters)
        pairs = zip(shifted(images, radius), shifted(letters, radius), strict=True)
        steps = offsets(radius, images.ndim - 2)
        for offset, (other, letter) in zip(steps, pairs, strict=True):
            contrast = (images - other).square().sum(1, keepdim=True)
            place = torch.tensor(-sum(n * n for n in offset) / (2 * near**2)).exp().item()
            look = (contrast / (-2 * alike**2)).clamp_(min=-30).exp_()
            mail.addcmul_(look.mul_(appearance * place).add_((1 - appearance) * place), letter)
        to, back = mail[:, :classes], mail[:, classes:]
        admitted = (receives * to).sum()
        pull = receives * to + sends * back
        own = (probs * pull).sum() / 2
    agreement = (probs * pull).sum() - own  # value S.GS, gradient (G + G^T) S
    return (admitted - agreement) / admitted.clamp(min=1e-6)


class GatedCRF(Regularised):
    r"""Partial cross-entropy and :func:`gated_crf`, in planes and in volumes.

    Everybody sends; scribbled pixels do not receive. What a scribble says is known, so the
    neighbours must come to it and not the reverse.

    Reference: Obukhov, Georgoulis, Dai, Van Gool, "Gated CRF Loss for Weakly Supervised Semantic
    Image Segmentation", arXiv:1906.04651, 2019.
    Simplified: the share of the affinity in place of a mean over pixels, so that ``weight``
    means what it means in :class:`.DenseCRFLoss`. The paper leaves the gates to the
    problem; the choice above is ours.

    Args:
        net: images to logits.
        weight: the paper's 0.1, on a mean over pixels whose windows hold several tens of like
            neighbours, is a few units on the share; 1 as for the other energies.
        gated: False opens all gates: the control.
        ramp: as in :class:`.Regularised`.
        **window: ``near``, ``alike``, ``appearance`` and ``radius`` of :func:`gated_crf`.
    """

    def __init__(self, net, weight: float = 1.0, gated: bool = True, ramp=0.4, **window):
        super().__init__(net, weight, ramp)
        self.gated, self.window = gated, window

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> GatedCRF:
        """On the book's U-Net; in volumes with a radius of 2."""
        if task.train.dims == 3:
            options = {"radius": 2, **options}
        return super().for_task(task, seed, **options)

    def penalty(self, probs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """:func:`gated_crf`."""
        everybody = torch.ones_like(probs[:, :1])
        unknown = (labels == IGNORE)[:, None].to(probs)
        receives = unknown if self.gated else everybody
        return gated_crf(probs, images, everybody, receives, **self.window)
