"""What the room shares: labels that speak of some classes, and answers that say no more."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.data import IGNORE

UNKNOWN = (
    "The task does not say which classes its labels speak of: make it with "
    "annotate.missing_classes, or give extras['annotated'], (N, K) bool."
)


def annotated_classes(part) -> Tensor:
    """``extras["annotated"] (B, K)`` of half a batch: the classes that its labels speak of.

    Raises:
        ValueError: nobody said which; a label of a class that is not among them.
    """
    if "annotated" not in part.extras:
        raise ValueError(UNKNOWN)
    annotated, labels = part.extras["annotated"].bool(), part.labels
    shown = labels.where(labels != IGNORE, 0).flatten(1)
    top = int(shown.max())
    if annotated.ndim != 2 or top >= annotated.shape[1]:
        raise ValueError(
            f"extras['annotated'] must be (N, K) with a column for each class; it is "
            f"{tuple(annotated.shape)}, and the labels show class {top}."
        )
    if not (annotated[:, 0].all() and annotated.gather(1, shown).all()):
        raise ValueError(
            "An image shows a class (or the background) that it is said not to annotate: "
            "correct extras['annotated'], or the labels."
        )
    return annotated


def marginal_logits(logits: Tensor, annotated: Tensor) -> Tensor:
    r"""Logits whose background is everything that the labels would call background.

    With :math:`A` the classes that are annotated, and :math:`M` the others and the background,

    .. math:: z'_0 = \ln \sum_{k \in M} e^{z_k}, \qquad z'_k = z_k \ (k \in A),
              \qquad z'_k = -\infty \ (\text{else}).

    Then :math:`\mathrm{softmax}(z')_0 = \sum_{k \in M} p_k = q_0`, the *marginal probability*, and
    any loss of logits becomes a loss for partial labels.

    Args:
        logits: ``(B, K, *S)``.
        annotated: ``(B, K)`` bool, true for the background.

    Returns:
        ``(B, K, *S)``, the logits themselves where all classes are annotated.

    Example:
        >>> logits = torch.tensor([0.1, 0.6, 0.3]).log().view(1, 3, 1, 1)
        >>> spleen_only = torch.tensor([[True, False, True]])
        >>> marginal_logits(logits, spleen_only).softmax(1).flatten()
        tensor([0.7000, 0.0000, 0.3000])
    """
    logits = precise(logits)
    there = annotated.view(*annotated.shape, *[1] * (logits.ndim - 2))
    merged = ~there
    merged[:, 0] = True
    background = logits.masked_fill(~merged, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, logits[:, 1:].masked_fill(~there[:, 1:], -torch.inf)], 1)


def precise(values: Tensor) -> Tensor:
    """In single precision at least: logarithms of sums need it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def marginal_loss(logits: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
    """Dice + cross-entropy of :func:`marginal_logits`: the baseline's loss for partial labels.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)``; 0 means *none of the classes annotated here*.
        annotated: ``(B, K)`` bool.
    """
    return losses.dice_ce(marginal_logits(logits, annotated), labels)


def annotated_items(task) -> Tensor:
    """Which classes each labelled item of a task annotates, ``(n, K)``, in their order.

    Raises:
        ValueError: the task does not say.
    """
    if "annotated" not in task.train.extras:
        raise ValueError(UNKNOWN)
    return task.train.extras["annotated"][task.labelled].bool()
