"""Is the doubt any good? Asked pixel by pixel, and patient by patient."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort
from lsseg_edu.evaluate import expected_calibration_error, score


class Reliability(NamedTuple):
    """What :func:`reliability` finds.

    Attributes:
        ece: expected calibration error of the mean answer; lower is better.
        overlap: of the doubtful and the wrong pixels, in [0, 1]; higher is better.
        correlation: Spearman's, of a subject's doubt and its ``1 - Dice``; 1 would find the
            patients that went wrong in exactly their order. NaN if all subjects are alike.
    """

    ece: float
    overlap: float
    correlation: float


def reliability(probs: Tensor, doubt: Tensor, cohort: Cohort, threshold: float) -> Reliability:
    r"""Three questions at once: calibrated? doubtful where wrong? doubtful for the bad patients?

    The paper's finding is that the answers differ: voxel-wise uncertainty can be well calibrated
    over a data set, and still fail for a single patient, or as an alarm for it.

    Args:
        probs: ``(N, K, *S)`` mean answers.
        doubt: ``(N, *S)`` any map of :mod:`.measures`.
        cohort: the same items with full masks.
        threshold: a pixel that reaches it is called doubtful. Choose it on other subjects, see
            :func:`best_threshold`.

    Raises:
        ValueError: shapes that do not agree, fewer than two subjects.

    Reference: Jungo, Reyes, "Assessing Reliability and Challenges of Uncertainty Estimations for
    Medical Image Segmentation", MICCAI 2019.
    Simplified: of its measures ECE, overlap and a subject-level correlation.
    """
    predicted, labels = probs.argmax(1), cohort.labels
    if doubt.shape != labels.shape or predicted.shape != labels.shape:
        raise ValueError(
            f"probs and doubt must be of the cohort's {tuple(labels.shape)} pixels; got "
            f"{tuple(predicted.shape)} and {tuple(doubt.shape)}."
        )
    known = labels != IGNORE
    wrong = (predicted != labels)[known]
    found = error_overlap(doubt[known], wrong, threshold)
    dice = score(predicted, cohort, surfaces=False).dice
    seen = ~np.isnan(dice).all(1)  # a subject without foreground, true or found, has no Dice
    people = subject_doubt(doubt, predicted, cohort.subjects)[seen]
    correlation = _spearman(people.numpy(), 1 - np.nanmean(dice[seen], axis=1))
    return Reliability(expected_calibration_error(probs, labels), found, correlation)


def error_overlap(doubt: Tensor, wrong: Tensor, threshold: float) -> float:
    r"""Dice of the doubtful :math:`U = \{u_i \ge \tau\}` and the wrong pixels ``E``.

    .. math:: \mathrm{UE} = \frac{2 |U \cap E|}{|U| + |E|}

    1 if nothing is wrong and nothing doubtful.
    """
    doubtful = doubt >= threshold
    size = int(doubtful.sum() + wrong.sum())
    return 2 * int((doubtful & wrong).sum()) / size if size else 1.0


def best_threshold(doubt: Tensor, wrong: Tensor, candidates: int = 50) -> float:
    """The threshold of largest :func:`error_overlap`, among quantiles of the wrong pixels' doubt.

    To be chosen on validation subjects and used on others. Without any error it is infinite:
    nobody is called doubtful then.
    """
    if not wrong.any():
        return float("inf")
    levels = np.quantile(doubt[wrong].numpy(), np.linspace(0, 1, candidates))
    return float(max(levels, key=lambda level: error_overlap(doubt, wrong, level)))


def subject_doubt(doubt: Tensor, predicted: Tensor, subjects: Tensor) -> Tensor:
    r"""One number a subject: its summed doubt over the size of the organ it was found to have.

    .. math:: u_s = \frac{\sum_{i \in s} u_i}{\max(1, |\{i \in s : \hat y_i \ne 0\}|)}

    A mean over all pixels would mostly count background, and a sum would call large organs
    doubtful.

    Args:
        doubt: ``(N, *S)``.
        predicted: ``(N, *S)`` classes.
        subjects: ``(N,)``.

    Returns:
        ``(n,)`` double, subjects in the order of ``unique``.
    """
    people, owner = subjects.unique(return_inverse=True)
    total, size = (
        torch.zeros(len(people), dtype=torch.double).index_add_(0, owner, x.flatten(1).sum(1))
        for x in (doubt.double(), (predicted != 0).double())
    )
    return total / size.clamp(min=1)


def _spearman(a, b) -> float:
    if len(a) < 2:
        raise ValueError("A correlation over subjects needs at least two of them.")
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")
