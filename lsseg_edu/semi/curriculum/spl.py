"""Self-paced learning: the network says what is easy, and changes its mind."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.semi.curriculum.easy_first import check_pacing, difficulty_by_size
from lsseg_edu.semi.curriculum.hardness import item_losses
from lsseg_edu.train import Budget, Fitted, Supervised, fit


def self_paced(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    start: float = 0.5,
    full: float = 0.6,
    every: int = 20,
    region: bool = False,
    **kwargs,
) -> Fitted:
    r"""Weights and the choice of examples are minimised in turn; a threshold lets in more.

    .. math::
        \min_{\theta,\, v \in [0,1]^n} \sum_i v_i\, \ell_i(\theta) - \lambda \sum_i v_i
        \qquad \Rightarrow \qquad v_i = [\ell_i(\theta) < \lambda] .

    With ``v`` fixed, only the chosen examples are trained on. With the network fixed, ``v`` has a
    closed form. :math:`\lambda` grows until everybody is in.

    **Self-paced curriculum** (``region=True``): what a teacher knows beforehand restricts the
    choice to :math:`\{v : a^\top v \le c\}`, where :math:`a_i` is large for hard examples; ``c``
    grows as well.

    Reference: Kumar, Packer, Koller, "Self-Paced Learning for Latent Variable Models", NIPS 2010;
    Jiang et al., "Self-Paced Curriculum Learning", AAAI 2015 (the region).
    Simplified: :math:`\lambda` is set so that a growing share of the examples lies below it; the
    paper multiplies it by a factor, which would have to be tuned to the scale of the loss.

    Args:
        task: the problem.
        budget: of the training.
        seed: of weights and draws.
        start: share of the examples below the first threshold (Kumar: half).
        full: fraction of training after which all are in.
        every: steps between two choices of ``v``.
        region: also keep within the prior of
            :func:`~lsseg_edu.semi.curriculum.difficulty_by_size`.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: an empty first pool.
    """
    check_pacing(start, full)
    method = Supervised.for_task(task, seed)
    mine, weights = task.train.select(task.labelled), []
    prior = difficulty_by_size(task) if region else None
    prior = prior - 2 * prior.min() if region else None  # positive: small organs cost more
    step = iter(range(10**9))

    def chances(progress: float) -> Tensor:
        if next(step) % every == 0:
            share = min(start + (1 - start) * (progress / full if full else 1), 1)
            losses = item_losses(method, mine).double()
            capacity = None if prior is None else share * prior.sum()
            weights[:] = [self_paced_weights(losses, pace(losses, share), prior, capacity)]
        return weights[0]

    return fit(method, task, budget, seed, chances=chances, **kwargs)


def pace(losses: Tensor, share: float) -> float:
    """The threshold with this share of the losses below it (at least one); infinite for all."""
    number = math.ceil(len(losses) * share - 1e-9)
    return float("inf") if number >= len(losses) else float(losses.sort().values[number])


def self_paced_weights(
    losses: Tensor, threshold: float, prior: Tensor | None = None, capacity: float | None = None
) -> Tensor:
    r"""The ``v`` that minimises :math:`\sum v_i \ell_i - \lambda \sum v_i`, in closed form.

    Without a prior, 1 below the threshold and 0 elsewhere. With :math:`a^\top v \le c`, it is a
    fractional knapsack: take what gains most for its difficulty, :math:`(\lambda - \ell_i)/a_i`,
    until the capacity is used up; the last one may be taken in part.

    Args:
        losses: ``(n,)``.
        threshold: :math:`\lambda`.
        prior: ``a``, ``(n,)`` positive.
        capacity: ``c``.
    """
    easy = (losses < threshold).to(losses.dtype)
    if prior is None:
        return easy
    gain = (min(threshold, float(losses.max()) + 1) - losses) / prior
    order = gain.argsort(descending=True)
    before = (prior * easy)[order].cumsum(0) - (prior * easy)[order]
    room = ((capacity - before) / prior[order]).clamp(0, 1)
    return torch.zeros_like(losses).scatter(0, order, room * easy[order])
