"""What a comparison fixes: data, supervision, net and budget."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from lsseg_edu.data import Task, load, phantoms, public
from lsseg_edu.train import Budget


@dataclass(frozen=True)
class Protocol:
    """A comparison that anybody can repeat.

    Attributes:
        name: how ``results.csv`` calls it.
        cohort: a phantom, or a public data set.
        labelled: training subjects that have labels; ``None`` for all.
        supervision: in words.
        weaken: takes ``(task, seed)`` to the supervision that is left of these subjects' masks.
        steps: optimiser steps of every training.
        batch: labelled images a step.
        size: pixels along a side (phantoms).
        dims: 2 for slices, 3 for volumes (phantoms).
        problem: takes the seed to the task, where the few lines above cannot say it.
        reference: takes the seed to the task of the upper reference, likewise.
        clicks: of a simulated user on each test image; 0: nobody is asked.
        baseline: the id of the arm that the others are compared with.
    """

    name: str
    cohort: str
    labelled: int | None
    supervision: str = "full"
    weaken: Callable[[Task, int], Task] | None = None
    steps: int = 400
    batch: int = 8
    size: int = 64
    dims: int = 2
    problem: Callable[[int], Task] | None = None
    reference: Callable[[int], Task] | None = None
    clicks: int = 0
    baseline: str = "supervised"

    @property
    def budget(self) -> Budget:
        """The frozen training: AdamW, one cycle, as many unlabelled as labelled images a step."""
        return Budget("study", steps=self.steps, batch=self.batch)

    def task(self, seed: int) -> Task:
        """The problem of one seed, which draws the labelled subjects and the annotator's hand."""
        if self.problem:
            return self.problem(seed)
        task = full_task(self.cohort, self.size, self.dims)
        if self.labelled is not None:
            task = task.keep(self.labelled, seed)
        return self.weaken(task, seed) if self.weaken else task

    def upper(self, seed: int) -> Task:
        """The upper reference: full masks, of the same subjects if labels are weak, else of all."""
        if self.reference:
            return self.reference(seed)
        task = full_task(self.cohort, self.size, self.dims)
        return task.keep(self.labelled, seed) if self.weaken and self.labelled else task


@functools.lru_cache(maxsize=2)
def full_task(cohort: str, size: int, dims: int) -> Task:
    """A cohort with all its training masks; public data with its public split."""
    if cohort in phantoms.FEW:
        return Task.split(load(cohort, size=size, dims=dims))
    return public.task(cohort)
