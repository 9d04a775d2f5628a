"""The baseline: learn from the labelled images, ignore the others."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.train.budget import Budget
from lsseg_edu.train.fit import Fitted, fit
from lsseg_edu.train.method import Method


class Supervised(Method):
    """Cross-entropy + Dice on the annotated pixels: the arm that every technique must beat.

    With all training masks it is the upper reference; with a few, the lower one.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        loss: logits and labels to a scalar; Dice + cross-entropy unless a loss is the subject.
    """

    def __init__(self, net: nn.Module, loss=losses.dice_ce):
        super().__init__(net)
        self.criterion = loss

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"supervised": criterion}`` on the labelled half of the batch."""
        return {
            "supervised": self.criterion(self.net(batch.labelled.images), batch.labelled.labels)
        }


def supervised_longer(
    task: Task, budget: Budget | None = None, seed: int = 0, times: int = 2, **kwargs
) -> Fitted:
    """The baseline trained ``times`` as long: the arm for methods of several rounds.

    Rounds, pre-training and a second forward pass all cost time. What the same time buys when it
    is simply spent on the labelled images is what such a method must beat.

    Args:
        task: the problem.
        budget: of *one* training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        times: how many trainings' worth of steps.
        **kwargs: passed on to :func:`fit`.
    """
    budget = budget or Budget.auto()
    longer = replace(budget, steps=times * budget.steps)
    return fit(Supervised.for_task(task, seed), task, longer, seed, **kwargs)
