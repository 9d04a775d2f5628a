"""Dense CRF loss: it costs to part two pixels that look alike, be they neighbours or not."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu.partial.regions.regularised import AllPairs, cut_and_degree


def crf_loss(probs: Tensor, affinity: Tensor) -> Tensor:
    r"""The share of all affinity that a soft segmentation cuts.

    .. math:: R(S) = \frac{\sum_k S_k^\top W (1 - S_k)}{\mathbf{1}^\top W \mathbf{1}}

    It is the Potts energy of a dense CRF, with probabilities in the place of labels. Where ``S``
    is a labelling, the numerator counts each cut pair at both its ends, as the denominator does.

    Args:
        probs: ``(B, K, P)``.
        affinity: ``W (B, P, P)``, symmetric, not negative.

    Returns:
        ``(B,)`` in [0, 1]; 0 for "one class everywhere".
    """
    cut, degree = cut_and_degree(probs, affinity)
    return cut.sum(1) / degree.sum((1, 2)).clamp(min=1e-6)


class DenseCRFLoss(AllPairs):
    r"""Partial cross-entropy and :func:`crf_loss`: inference moved into the training.

    No CRF is needed when the network answers, and nothing has to be iterated: the gradient at a
    pixel is :math:`2 W (\tfrac12 - S_k)` up to the scale, so each pixel is pulled towards what
    those that look like it say.

    Reference: Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov, "On Regularized Losses for
    Weakly-supervised CNN Segmentation", ECCV 2018.
    Simplified: all pairs of a 24 x 24 grid in place of fast filtering at half resolution; a pixel
    makes no pair with itself; the energy is a share, not a sum. The published code's
    weight of 2e-9 on the *sum*, with its widths and image size, is of the order of 1 on the
    share, hence ``weight=1``; widths as in :class:`.AllPairs`.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> from lsseg_edu.train import Budget, fit
        >>> task = annotate.scribbles(Task.split(load("cardiac"), labelled=5))
        >>> fitted = fit(DenseCRFLoss.for_task(task), task, Budget.named("smoke"), progress=False)
        >>> sorted(fitted.history)
        ['regulariser', 'scribbles']
    """

    def energy(self, probs: Tensor, affinity: Tensor) -> Tensor:
        """:func:`crf_loss`."""
        return crf_loss(probs, affinity)
