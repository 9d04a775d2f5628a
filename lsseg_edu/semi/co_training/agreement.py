"""How far several answers agree, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def jensen_shannon(probs: Tensor) -> Tensor:
    r"""Jensen-Shannon divergence of ``M`` answers, pixel by pixel, in nats.

    .. math:: JSD(p_1, \dots, p_M) = H\Big(\frac1M \sum_m p_m\Big) - \frac1M \sum_m H(p_m)

    0 where all say the same, however doubtful; at most :math:`\ln M`, where each is certain of
    a class of its own (or :math:`\ln K`, if there are fewer classes than answers).

    Args:
        probs: ``(M, B, K, *S)``. The gradient flows into every one of them.

    Returns:
        ``(B, *S)``.
    """
    return _entropy(probs.mean(0), 1) - _entropy(probs, 2).mean(0)


def _entropy(probs: Tensor, axis: int) -> Tensor:
    """Entropy in nats; 0 ln 0 is 0, and its gradient is finite."""
    return -(probs * probs.clamp(min=1e-12).log()).sum(axis)


def vote(probs: Tensor) -> Tensor:
    r"""Majority vote of ``M <= 8`` answers; a tie is broken by the mean probability.

    .. math:: 0.9\, \frac1M \sum_m [k = \arg\max_{k'} p_{mk'}] + 0.1\, \frac1M \sum_m p_{mk}

    One vote weighs at least 0.9 / 8, all probabilities together at most 0.1: they can decide
    between classes of as many votes, and nothing else.

    Args:
        probs: ``(M, B, K, *S)``.

    Returns:
        ``(B, K, *S)``; sums to 1 over ``K``, and its largest entry is the class chosen.

    Raises:
        ValueError: more than 8 answers.
    """
    if len(probs) > 8:
        raise ValueError(f"The vote is of at most 8 answers, not {len(probs)}: average them.")
    votes = F.one_hot(probs.argmax(2), probs.shape[2]).movedim(-1, 2).to(probs.dtype)
    return 0.9 * votes.mean(0) + 0.1 * probs.mean(0)


def product(probs: Tensor) -> Tensor:
    r"""The answers multiplied, :math:`p_k \propto \prod_m p_{mk}`: right if views are independent.

    Args:
        probs: ``(M, B, K, *S)``.

    Returns:
        ``(B, K, *S)`` that sums to 1 over ``K``.
    """
    return probs.clamp(min=1e-12).log().sum(0).softmax(1)


def different(nets: Sequence[nn.Module]) -> None:
    """Refuse networks that cannot tell each other anything.

    Raises:
        ValueError: fewer than two networks, or two of them with the same weights.
    """
    if len(nets) < 2:
        raise ValueError(f"Co-training needs at least 2 networks, not {len(nets)}.")
    for i, a in enumerate(nets):
        for b in nets[:i]:
            pairs = zip(a.parameters(), b.parameters(), strict=False)
            if all(p.shape == q.shape and torch.equal(p, q) for p, q in pairs):
                raise ValueError(
                    "Two of the networks are equal and have nothing to tell each other: build "
                    "each one with another seed."
                )
