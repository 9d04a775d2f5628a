"""Kernel cut loss: the normalised cut clusters, the CRF smooths."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu.partial.regions.dense_crf_loss import crf_loss
from lsseg_edu.partial.regions.ncut import NormalisedCut, normalised_cut


class KernelCut(NormalisedCut):
    r"""Partial cross-entropy, and both energies at once.

    .. math:: R_{KC}(S) = R_{NC}(S) + \gamma\, R_{CRF}(S)

    The normalised cut is a *high-order* energy (a ratio of sums over the image), blind to ragged
    borders inside a cluster; the CRF is pairwise, and shrinks.

    Reference: Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov, "On Regularized Losses for
    Weakly-supervised CNN Segmentation", ECCV 2018; the energy: Tang, Marin, Ben Ayed, Boykov,
    "Normalized Cut Meets MRF", ECCV 2016.
    Simplified: one affinity ``W`` for both; the rest as for its two parts.

    Args:
        net: images to logits.
        weight: that of :class:`.NormalisedCut`.
        crf: :math:`\gamma`. With 3 the CRF has its own default weight, 1.
        **options: of :class:`.AllPairs`.
    """

    def __init__(self, net, weight: float = 0.3, crf: float = 3.0, **options):
        super().__init__(net, weight, **options)
        self.crf = crf

    def energy(self, probs: Tensor, affinity: Tensor) -> Tensor:
        """The sum of :func:`.normalised_cut` and ``crf`` times :func:`.crf_loss`."""
        return normalised_cut(probs, affinity) + self.crf * crf_loss(probs, affinity)
