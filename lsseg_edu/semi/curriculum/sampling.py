"""The book's training with one change: labelled items are not drawn alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import trange

from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.train import Budget, Fitted, Method, Part, Run
from lsseg_edu.train.batch import augmented
from lsseg_edu.train.budget import device as choose_device


class WeightedRun(Run):
    """A training whose labelled items are drawn with the probabilities that ``chances`` gives.

    Args:
        chances: progress in [0, 1) to ``(n,)`` non-negative weights of the ``n`` labelled items,
            in the order of ``task.labelled``; they need not sum to 1.
        *args: of :class:`~lsseg_edu.train.Run`.
    """

    def __init__(self, chances: Callable[[float], Tensor], *args):
        super().__init__(*args)
        self.chances = chances

    def draw(self, name: str) -> Part | None:
        """Without replacement, unless fewer items than the batch needs have a chance."""
        if name != "labelled":
            return super().draw(name)
        chances = self.chances(self.step / self.budget.steps).to(self.device)
        few = int((chances > 0).sum())
        if few == 0:
            raise ValueError("The pool is empty, no labelled item has a chance: start with more.")
        generator, size = self.generators[name], self.budget.batch
        order = torch.multinomial(chances, size, replacement=few < size, generator=generator)
        return augmented(self.train, self.pools[name][order], self.augments[name], generator)


def fit_weighted(
    method: Method,
    task: Task,
    chances: Callable[[float], Tensor],
    budget: Budget | None = None,
    seed: int = 0,
    augment=None,
    device: str | None = None,
    progress: bool = True,
) -> Fitted:
    """:func:`~lsseg_edu.train.fit` with a :class:`WeightedRun`; no checkpoints.

    Args:
        chances: see :class:`WeightedRun`. It is called at every step, and may ask ``method``.
        method, task, budget, seed, augment, device, progress: as in ``fit``.

    Raises:
        ValueError: an empty pool.
    """
    budget, start = budget or Budget.auto(), time.perf_counter()
    run = WeightedRun(chances, method, task, budget, seed, augment, choose_device(device))
    quiet = not progress or os.environ.get("TQDM_DISABLE") == "1"
    for _ in trange(budget.steps, desc=type(method).__name__, disable=quiet):
        run.one_step()
    return Fitted(method, run.history, time.perf_counter() - start)


def item_losses(method: Method, cohort: Cohort) -> Tensor:
    """Mean cross-entropy ``(N,)`` of the annotated pixels of each item, as it is, in nats."""
    probs = Fitted(method).predict(cohort.images)
    method.train()
    labels = cohort.labels.cpu()
    each = F.nll_loss(probs.clamp(min=1e-8).log(), labels, ignore_index=IGNORE, reduction="none")
    return each.flatten(1).sum(1) / (labels != IGNORE).flatten(1).sum(1).clamp(min=1)
