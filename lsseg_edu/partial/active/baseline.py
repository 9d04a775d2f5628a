"""The two ends of the scale: who asks at random, and who knows where the errors are."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.partial.active.loop import Acquire, Asked, Pool, active_learning
from lsseg_edu.train import Budget


def at_random(pool: Pool) -> Tensor:
    """Every image of the pool alike."""
    generator = torch.Generator().manual_seed(pool.seed)
    return torch.randperm(len(pool.task.unlabelled), generator=generator)


def by_true_error(masks: Tensor) -> Acquire:
    r"""A control that **cheats**: first the images in which most pixels *are* wrong.

    .. math:: e_i = \frac{1}{|\Omega|} \sum_j [\hat y_{ij} \ne y_{ij}]

    It must be handed the annotator's masks to be made, which is why no honest function can do the
    same. It is what uncertainty tries to guess. It is an upper reference, not an upper bound: the
    most wrong image need not be the one that teaches most.

    Args:
        masks: ``(N, *S)`` of all training images.
    """

    def choose(pool: Pool) -> Tensor:
        answers = pool.each(lambda x: pool.fitted.method.predict(x).argmax(1))
        wrong = (answers != masks[pool.task.unlabelled]).flatten(1).double().mean(1)
        return wrong.argsort(descending=True, stable=True)

    return choose


def random_queries(
    task: Task, budget: Budget | None = None, seed: int = 0, oracle: bool = False, **kwargs
) -> Asked:
    """Active learning without a choice: the baseline that every acquisition function must beat.

    Chance is a strong opponent. It is diverse, it has the proportions of the pool, and it cannot be
    misled by a network that has seen three patients.

    Args:
        task: the problem and its annotator.
        budget, seed, kwargs: as for :func:`.active_learning`.
        oracle: ask by the true error instead, the control that cheats: :func:`by_true_error`.

    Reference: Settles, "Active Learning Literature Survey", Univ. of Wisconsin-Madison TR 1648,
    2009.
    """
    acquire = by_true_error(task.train.extras.get("annotator")) if oracle else at_random
    return active_learning(task, budget, seed, acquire=acquire, **kwargs)
