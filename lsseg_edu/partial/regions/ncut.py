"""Normalised cut loss: what a class cuts, measured by what the class is connected to."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu.partial.regions.regularised import AllPairs, cut_and_degree


def normalised_cut(probs: Tensor, affinity: Tensor) -> Tensor:
    r"""Soft normalised cut, summed over classes.

    .. math:: R(S) = \sum_k \frac{S_k^\top W (1 - S_k)}{d^\top S_k + \bar d}, \qquad d = W\mathbf{1}

    A plain cut is cheapest around a tiny region, or none (it *shrinks*). Divided by the class's
    own degree, a small class must be a tight cluster to be cheap.

    :math:`\bar d`, the mean degree, is one average pixel: a class that the image does not show
    costs nothing, where 0 / 0 would be asked otherwise.

    Args:
        probs: ``(B, K, P)``.
        affinity: ``W (B, P, P)``, symmetric, not negative.

    Returns:
        ``(B,)`` in [0, K).
    """
    cut, degree = cut_and_degree(probs, affinity)
    volume = (probs * degree).sum(2)
    return (cut / (volume + degree.mean(2).clamp(min=1e-6))).sum(1)


class NormalisedCut(AllPairs):
    r"""Partial cross-entropy and :func:`normalised_cut`.

    Reference: Tang, Djelouah, Perazzi, Boykov, Schroers, "Normalized Cut Loss for
    Weakly-Supervised CNN Segmentation", CVPR 2018; the criterion: Shi, Malik, "Normalized Cuts
    and Image Segmentation", IEEE TPAMI 2000.
    Simplified: all pairs of a 24 x 24 grid; a pixel makes no pair with itself, and one average
    pixel is added to each class's degree.

    Args:
        net: images to logits.
        weight: the energy is a sum of ``K`` shares, so its weight is about ``1 / K`` of
            :class:`.DenseCRFLoss`'s.
        **options: of :class:`.AllPairs`.
    """

    def __init__(self, net, weight: float = 0.3, **options):
        super().__init__(net, weight, **options)

    def energy(self, probs: Tensor, affinity: Tensor) -> Tensor:
        """:func:`normalised_cut`."""
        return normalised_cut(probs, affinity)
