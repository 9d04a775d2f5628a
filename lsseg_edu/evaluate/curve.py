"""Learning curves: how good after how much annotation, and one number for the whole of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.integrate import trapezoid

from lsseg_edu.data import Cohort
from lsseg_edu.evaluate.report import score


def area_under_curve(seconds, dice) -> float:
    r"""Mean height of a learning curve over the annotator's time.

    .. math:: A = \frac{1}{s_R - s_0} \sum_{r=1}^R (s_r - s_{r-1})\, \frac{d_{r-1} + d_r}{2}

    The trapezoid rule, divided by the length of the axis: a Dice again, that of a moment chosen at
    random. It rewards whoever is good *early*; the last point rewards whoever is good in the end.
    Compare curves of the same start and the same budget only. Where no time passes between two
    points the later one counts from then on.

    Args:
        seconds: ``(R + 1,)`` seconds :math:`s` spent, not falling.
        dice: ``(R + 1,)`` the score :math:`d` then.

    Raises:
        ValueError: lists that do not fit together, time that runs backwards or does not pass.

    Example:
        >>> round(area_under_curve([0, 100, 300], [0.4, 0.6, 0.6]), 3)
        0.567
    """
    seconds, dice = np.asarray(seconds, float), np.asarray(dice, float)
    if seconds.shape != dice.shape or seconds.ndim != 1 or len(seconds) < 2:
        raise ValueError(
            f"A curve needs as many times as scores, at least two: got {seconds.shape} and "
            f"{dice.shape}."
        )
    if (np.diff(seconds) < 0).any() or seconds[-1] == seconds[0]:
        raise ValueError("The seconds of a curve must not fall, and some time must pass.")
    return float(trapezoid(dice, seconds) / (seconds[-1] - seconds[0]))


def learning_curve(fitted, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and mean Dice ``(R + 1,)`` of every stage of a training that asked questions.

    Args:
        fitted: with ``stages``, as active learning leaves it.
        cohort: images with full masks.

    Raises:
        ValueError: no stages.
    """
    if not fitted.stages:
        raise ValueError("This training asked nobody: it has no stages to draw a curve of.")
    dice = []
    for _, method in fitted.stages:
        probs = replace(fitted, method=method).predict(cohort.images)
        dice.append(score(probs.argmax(1), cohort, surfaces=False).mean_dice)
    return np.array([seconds for seconds, _ in fitted.stages]), np.array(dice)
