"""Labels and network in turn: what the techniques of several rounds share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from lsseg_edu.data import Task
from lsseg_edu.semi.self_training import SelfTrained
from lsseg_edu.train import Budget, Fitted, Method, fit


def alternate(
    teach: Callable[[Fitted | None], Task],
    make: Callable[[nn.Module | None], Method],
    budget: Budget | None,
    seed: int,
    rounds: int,
    **kwargs,
) -> SelfTrained:
    """Label, train, label again. It is one network that goes on.

    Args:
        teach: the training so far (None before the first) to the task of the next one.
        make: the network so far (None for a new one) to a method.
        budget: of **all trainings together**: each has its share of the steps and a learning-rate
            cycle of its own. A method of rounds has then seen as many images as the baseline.
        seed: of the first draws; they differ from round to round.
        rounds: how often labels are made.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: no round, or more of them than steps.
    """
    budget, trained = budget or Budget.auto(), []
    if not 1 <= rounds <= budget.steps:
        raise ValueError(f"{budget.steps} steps cannot be shared by {rounds} rounds.")
    share = replace(budget, steps=-(-budget.steps // rounds))
    for number in range(rounds):
        last = trained[-1] if trained else None
        now = teach(last)
        method = make(copy.deepcopy(last.method.net) if last else None)
        trained.append(fit(method, now, share, seed + 1000 * number, **kwargs))
        trained[-1].method.cpu()
    return SelfTrained.of(trained)
