"""Proper scores of probabilities, and temperature: one number that mends too much confidence.

Beside :func:`lsseg_edu.evaluate.expected_calibration_error`. Pixels labelled IGNORE are left out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from lsseg_edu.data import IGNORE
from lsseg_edu.evaluate import expected_calibration_error

TINY = 1e-7
"""Smallest probability that is told from 0: one sure mistake must not make the mean infinite."""


class Scores(NamedTuple):
    """Negative log-likelihood (nats), Brier score, expected calibration error: low is good."""

    nll: float
    brier: float
    ece: float


def proper_scores(probs: Tensor, labels: Tensor) -> Scores:
    """All three of ``probs (N, K, *S)`` and ``labels (N, *S)``.

    NLL and Brier are *proper*: only the true probabilities minimise them. The ECE is not (saying
    each class's frequency everywhere is calibrated, and useless), but it has a plain meaning.
    """
    ece = expected_calibration_error(probs, labels)
    return Scores(nll(probs, labels), brier(probs, labels), ece)


def nll(probs: Tensor, labels: Tensor) -> float:
    r"""Mean of :math:`-\ln p_{i y_i}` over the annotated pixels, in nats."""
    return float(F.nll_loss(probs.clamp(min=TINY).log(), labels, ignore_index=IGNORE))


def brier(probs: Tensor, labels: Tensor) -> float:
    r"""Mean of :math:`\sum_k (p_{ik} - [y_i = k])^2` over the annotated pixels, in [0, 2]."""
    known = labels != IGNORE
    truth = F.one_hot(labels.where(known, 0), probs.shape[1]).movedim(-1, 1)
    return float((probs - truth).square().sum(1)[known].mean())


def tempered(probs: Tensor, temperature: float) -> Tensor:
    r""":math:`\mathrm{softmax}(\ln p / \tau)`: the same order of classes, another confidence.

    For a softmax :math:`\ln p` are the logits up to a constant, so this is the paper's scaling; for
    the mean of several answers it scales the mean.

    Args:
        probs: ``(N, K, *S)``.
        temperature: :math:`\tau`; above 1 softens, below 1 sharpens.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"A temperature is positive, not {temperature}.")
    return (probs.clamp(min=TINY).log() / temperature).softmax(1)


def fit_temperature(probs: Tensor, labels: Tensor) -> float:
    r"""The :math:`\tau` in [0.05, 20] that minimises the NLL, on *validation* subjects.

    One number, fitted to many pixels: it cannot learn the subjects by heart. It cannot tell one
    pixel from another either. The NLL is convex in :math:`1/\tau`, so the minimum is the only one.

    Reference: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    known = labels != IGNORE
    probs, labels = probs.movedim(1, -1)[known], labels[known]
    found = minimize_scalar(
        lambda log: nll(tempered(probs, math.exp(log)), labels),
        bounds=(math.log(0.05), math.log(20)),
        method="bounded",
    )
    return math.exp(found.x)


def reliability_bins(probs: Tensor, labels: Tensor, bins: int = 10) -> np.ndarray:
    """The points of a reliability diagram, ``(3, b)``: confidence, accuracy, share of the pixels.

    Equal bins of the predicted class's probability, as in the ECE; empty ones are left out.
    """
    known = labels != IGNORE
    confidence, predicted = probs.max(1)
    confidence, right = confidence[known].double(), (predicted == labels)[known].double()
    b = (confidence * bins).long().clamp(max=bins - 1)
    count, claimed, found = (
        torch.zeros(bins, dtype=torch.double).index_add_(0, b, x)
        for x in (torch.ones_like(right), confidence, right)
    )
    seen = count > 0
    points = torch.stack([claimed / count, found / count, count / len(b)])
    return points[:, seen].numpy()
