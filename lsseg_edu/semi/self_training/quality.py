"""How good pseudo-labels are: for a report on images whose truth is known after all."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lsseg_edu.data import IGNORE


class PseudoQuality(NamedTuple):
    """How good pseudo-labels are.

    Attributes:
        precision: ``(K,)`` share of the pixels given a class that are of it; NaN if none is.
        foreground: the same for all classes but the background together.
        coverage: share of the pixels that have a pseudo-label.
        coverage_foreground: share of the true foreground's pixels that have one.
    """

    precision: Tensor
    foreground: float
    coverage: float
    coverage_foreground: float


def pseudo_label_quality(pseudo: Tensor, truth: Tensor) -> PseudoQuality:
    """Compare pseudo-labels with the truth: to report, never to train or to choose.

    Args:
        pseudo: ``(N, *S)`` int64, IGNORE where there is none.
        truth: ``(N, *S)`` int64 masks of the same images.
    """
    given, true = pseudo != IGNORE, pseudo == truth
    classes = 1 + max(int(truth.max()), int(pseudo.where(given, 0).max()))
    count, right = (pseudo[m].bincount(minlength=classes).double() for m in (given, true & given))
    mean = given.double().mean().item()
    inside = given[truth > 0].double().mean().item()
    return PseudoQuality(right / count, (right[1:].sum() / count[1:].sum()).item(), mean, inside)
