"""From the id of a technique to a trained network, always by the same recipe."""

from __future__ import annotations

import inspect

from lsseg_edu import networks, survey
from lsseg_edu.data import Task
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit


def train_method(id: str, task: Task, budget: Budget, seed: int, **options) -> Fitted:
    """Train the technique ``id`` of the survey on a task.

    What the technique *is* decides how: a Method is fitted, a network or a loss takes its place in
    the supervised baseline, and a procedure is called as ``procedure(task, budget, seed)``.

    Args:
        id: of ``survey.csv``.
        task: the problem.
        budget: shared by all.
        seed: of weights, draws and augmentation.
        **options: constructor arguments that differ from the defaults (controls, ablations).
    """
    thing = survey.load(id)
    if inspect.isclass(thing) and issubclass(thing, Method):
        method = thing.for_task(task, seed, **options)
    elif thing.__module__.startswith("lsseg_edu.networks"):
        method = Supervised(thing(task, seed=seed, **options))
    elif thing.__module__ == "lsseg_edu.losses":
        method = Supervised(networks.unet(task, seed=seed), loss=thing, **options)
    else:
        return thing(task, budget=budget, seed=seed, **options)
    return fit(method, task, budget, seed, progress=False)
