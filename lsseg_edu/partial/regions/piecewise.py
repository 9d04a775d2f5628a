"""Mumford-Shah: regions whose grey values are nearly constant, with short borders."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu.partial.regions.regularised import Regularised
from lsseg_edu.partial.regions.tv import total_variation


def mumford_shah(probs: Tensor, images: Tensor, length: float = 0.2) -> Tensor:
    r"""The piecewise-constant Mumford-Shah functional of soft regions, per pixel.

    .. math::
        E(S) = \frac{1}{|\Omega|} \sum_k \sum_i S_{ik}\, |x_i - c_k|^2 + \mu\, TV(S), \qquad
        c_k = \frac{\sum_i S_{ik}\, x_i}{\sum_i S_{ik}}

    With two regions it is Chan and Vese's. The means ``c`` are the best there are, so their own
    dependence on ``S`` does not change the gradient.

    Args:
        probs: ``(B, K, *S)``.
        images: ``(B, C, *S)``; each image has its own means.
        length: :math:`\mu`, in pixels times squared intensity.

    Returns:
        A scalar, mean over images.
    """
    fit = (probs * residuals(probs, images)).sum(1).mean()
    return fit + length * total_variation(probs)


def residuals(weights: Tensor, images: Tensor) -> Tensor:
    """Squared distance of each pixel to each region's mean, ``(B, K, *S)``.

    Args:
        weights: ``(B, K, *S)``: how much a pixel counts in a region's mean.
        images: ``(B, C, *S)``.
    """
    space = tuple(range(3, images.ndim + 1))
    u, x = weights[:, :, None], images[:, None]
    mean = (u * x).sum(space, keepdim=True) / u.sum(space, keepdim=True).clamp(min=1e-6)
    return (x - mean).square().sum(2)


class MumfordShah(Regularised):
    r"""Partial cross-entropy and :func:`mumford_shah`.

    Reference: Kim, Ye, "Mumford-Shah Loss Functional for Image Segmentation with Deep Learning",
    IEEE TIP 2020; the functional: Mumford, Shah, Comm. Pure Appl. Math. 1989.
    Simplified: regions of constant intensity, without the bias field of the paper's variant.

    Args:
        net: images to logits.
        weight: small, since an organ is not of one grey and the background is of many: the term
            may break ties, not overrule scribbles. The paper's is tuned to each data set.
        length: :math:`\mu`.
        ramp: as in :class:`.Regularised`.
    """

    def __init__(self, net, weight: float = 0.1, length: float = 0.2, ramp: float = 0.4):
        super().__init__(net, weight, ramp)
        self.length = length

    def penalty(self, probs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """:func:`mumford_shah`."""
        return mumford_shah(probs, images, self.length)
