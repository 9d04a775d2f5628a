"""Curriculum learning: easy examples first, and the pool grows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.curriculum.hardness import item_losses
from lsseg_edu.train import Budget, Fitted, Supervised, fit

ORDERS = ("easy", "anti", "random")
RANKINGS = ("taught", "size")


def data_curriculum(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    order: str = "easy",
    ranking: str = "taught",
    start: float = 0.25,
    full: float = 0.6,
    **kwargs,
) -> Fitted:
    r"""Rank the labelled images by difficulty; draw from the first :math:`g(t)` of them.

    .. math::
        D_t = \{x_{(1)}, \dots, x_{(g(t))}\}, \qquad
        g(t) = \lceil n \min(1, s + (1-s)\, t/T) \rceil .

    Two parts, both arguable: a *ranking* (what is easy?) and a *pacing* (how fast?). And two
    **control arms** that share everything else: the order turned around, and a random one. What a
    random order gains, the pacing gained, not the curriculum.

    Reference: Bengio, Louradour, Collobert, Weston, "Curriculum Learning", ICML 2009; Hacohen,
    Weinshall, "On The Power of Curriculum Learning in Training Deep Networks", ICML 2019 (ranking
    by a taught network, controls).
    Simplified: linear pacing.

    Args:
        task: the problem.
        budget: of the training, and of the one before it that ranks; default ``Budget.auto()``.
        seed: of weights and draws.
        order: ``"easy"`` first; ``"anti"``: hard first; ``"random"``.
        ranking: ``"taught"``: by the loss of a baseline trained before, which costs as much again;
            ``"size"``: a prior, free: slices that show little of the organs are hard.
        start: ``s``, share of the images in the first pool.
        full: ``T``, fraction of training after which all are in.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: an unknown order or ranking; an empty first pool.
    """
    check_pacing(start, full)
    if order not in ORDERS or ranking not in RANKINGS:
        raise ValueError(
            f"Unknown arm {order!r} by {ranking!r}: the order is one of {', '.join(ORDERS)}, "
            f"the ranking one of {', '.join(RANKINGS)}."
        )
    if ranking == "size":
        difficulty = difficulty_by_size(task)
    else:
        difficulty = difficulty_by_loss(task, budget, seed, **kwargs)
    rank = ordered(difficulty, order, seed)

    def chances(progress: float) -> Tensor:
        return growing_pool(rank, progress, start, full).float()

    return fit(Supervised.for_task(task, seed), task, budget, seed, chances=chances, **kwargs)


def difficulty_by_size(task: Task) -> Tensor:
    """Minus the share of foreground ``(n,)`` of each labelled image: little to see is hard."""
    labels = task.train.labels[task.labelled]
    return -((labels > 0) & (labels != IGNORE)).flatten(1).double().mean(1)


def difficulty_by_loss(task: Task, budget=None, seed: int = 0, **kwargs) -> Tensor:
    """Loss ``(n,)`` of each labelled image under a baseline with weights of its own."""
    other = seed + 1000
    teacher = fit(Supervised.for_task(task, other), task, budget, other, **kwargs)
    return item_losses(teacher.method, task.train.select(task.labelled))


def ordered(difficulty: Tensor, order: str = "easy", seed: int = 0) -> Tensor:
    """Place ``(n,)`` of each item in the queue, 0 first."""
    if order == "random":
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(difficulty), generator=generator)
    return (difficulty if order == "easy" else -difficulty).argsort(stable=True).argsort()


def growing_pool(rank: Tensor, progress: float, start: float = 0.25, full: float = 0.6) -> Tensor:
    """Which items ``(n,)`` are in the pool at this moment of training.

    Args:
        rank: ``(n,)`` places in the queue.
        progress: fraction of training done.
        start: share of the items that are in from the beginning.
        full: progress at which all are in; 0 for all at once.
    """
    share = start + (1 - start) * (progress / full if full else 1)
    return rank < math.ceil(len(rank) * min(share, 1) - 1e-9)


def check_pacing(start: float, full: float) -> None:
    """Raise unless the pool starts with something and is full in the end."""
    if not 0 < start <= 1:
        raise ValueError(f"The first pool would be empty: give start in (0, 1], not {start}.")
    if not 0 <= full <= 1:
        raise ValueError(f"All items must be in by the end: give full in [0, 1], not {full}.")
