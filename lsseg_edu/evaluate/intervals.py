"""How far a mean over subjects or seeds can be trusted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isinf(self.high):
            return f"{self.mean:.3f} (one run)"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval_over_seeds(values, level: float = 0.95) -> Interval:
    """Mean over independent runs with Student's t interval; infinite for a single run.

    The runs must differ in all that a rerun would change: weights, batches, labelled subjects.
    """
    values = np.asarray(values, float)
    if len(values) == 0:
        raise ValueError("No run to average: run the study first.")
    mean = values.mean()
    if len(values) == 1:
        return Interval(mean, -np.inf, np.inf)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return Interval(mean, mean - half, mean + half)


def paired_bootstrap(a, b, level: float = 0.95, draws: int = 5000, seed: int = 0) -> Interval:
    """Interval of the mean difference ``a - b`` over the *same* subjects.

    Subjects differ far more from one another than methods do; pairing removes that part. The
    subjects are drawn with replacement ``draws`` times (percentile interval).

    Raises:
        ValueError: the two score lists are not over the same subjects.

    Reference: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"Pair scores of the same subjects, not {a.shape} with {b.shape}.")
    difference = a - b
    rng = np.random.default_rng(seed)
    means = difference[rng.integers(len(a), size=(draws, len(a)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference.mean()), float(low), float(high))
