"""Supervised losses shared by every method. Pixels labelled IGNORE count for nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data.cohort import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Mean of :math:`-\log p_{y_i}(i)` over the annotated pixels.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)`` int64 in ``0..K-1`` or IGNORE.

    Returns:
        A scalar in nats; 0 where nothing is annotated (the gradient is 0 too, not NaN).
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def dice(logits: Tensor, labels: Tensor, eps: float = 1.0) -> Tensor:
    r"""Soft Dice loss, averaged over classes and summed over the pixels of the whole batch.

    .. math:: 1 - \frac1K \sum_k \frac{2\sum_i p_k(i)\, y_k(i) + \epsilon}
                                      {\sum_i p_k(i)^2 + \sum_i y_k(i)^2 + \epsilon}

    The sums run over the batch, not over one image: a slice without the organ then does not turn
    the loss into a penalty for a single stray pixel. The squares in the denominator are
    V-Net's. ``eps`` is counted in pixels.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)`` int64 in ``0..K-1`` or IGNORE.
        eps: smoothing; a class absent from the batch and not predicted then costs nothing.

    Returns:
        A scalar in [0, 1].

    Reference: Milletari, Navab, Ahmadi, "V-Net", 3DV 2016.
    """
    known = (labels != IGNORE).unsqueeze(1)
    probs = logits.float().softmax(1) * known
    target = torch.zeros_like(probs).scatter_(1, labels.unsqueeze(1).where(known, 0), 1.0) * known
    axes = [0, *range(2, logits.ndim)]
    overlap = (probs * target).sum(axes)
    size = probs.square().sum(axes) + target.sum(axes)
    return 1 - ((2 * overlap + eps) / (size + eps)).mean()


def dice_ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus Dice, equally weighted: the supervised loss of every baseline here.

    Cross-entropy gives a steady gradient from the first step, Dice does not care how much
    background there is.
    """
    return cross_entropy(logits, labels) + dice(logits, labels)
