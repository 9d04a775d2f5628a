"""Frozen protocols: which data, which labels, how many steps. One name fixes all of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lsseg_edu.data import Task, annotate, load, phantoms, public
from lsseg_edu.inaccurate.noise.models import corrupt
from lsseg_edu.semi.adversarial.shift import scanner_shift
from lsseg_edu.semi.augmentation.ea_gan import paired_scanners
from lsseg_edu.semi.curriculum.dasl import with_annotator
from lsseg_edu.semi.few_shot.episodes import few_shot_task, few_shot_upper
from lsseg_edu.semi.priors.constraints.size import tagged
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
    baseline: str = "supervised"

    @property
    def budget(self) -> Budget:
        """The frozen training: AdamW, one cycle, as many unlabelled as labelled images a step."""
        return Budget("study", steps=self.steps, batch=self.batch)

    def task(self, seed: int) -> Task:
        """The problem of one seed, which draws the labelled subjects and the annotator's hand."""
        if self.problem:
            return self.problem(seed)
        task = _full(self.cohort, self.size, self.dims)
        if self.labelled is not None:
            task = task.keep(self.labelled, seed)
        return self.weaken(task, seed) if self.weaken else task

    def upper(self, seed: int) -> Task:
        """The upper reference: full masks, of the same subjects if labels are weak, else of all."""
        if self.reference:
            return self.reference(seed)
        task = _full(self.cohort, self.size, self.dims)
        return task.keep(self.labelled, seed) if self.weaken and self.labelled else task


def _few(cohort: str) -> Protocol:
    n = phantoms.FEW[cohort]
    return Protocol(f"{cohort}-{n}", cohort, n)


def _scribbles(task: Task, seed: int) -> Task:
    return annotate.scribbles(task, seed=seed)


def _expert_scribbles(task: Task, seed: int) -> Task:
    return annotate.expert_scribbles(task)


def _points(task: Task, seed: int) -> Task:
    return annotate.points(task, seed=seed)


def _shots(n: int) -> Protocol:
    """Novel organs in ``n`` support slices; what the support set alone teaches is the baseline."""
    return Protocol(
        f"abdomen-{n}shot",
        "abdomen",
        None,
        problem=lambda seed: few_shot_task(n, seed=seed),
        reference=lambda seed: few_shot_upper(n, seed=seed),
        baseline="support-only",
    )


def _beside(name: str, cohort: str, words: str, give: Callable[[Task, Tensor], Task]) -> Protocol:
    """Few masks, and something else that an annotator tells of every training image."""
    labelled = phantoms.FEW[cohort]

    def full() -> Task:
        return _full(cohort, 64, 2)

    return Protocol(
        name,
        cohort,
        labelled,
        words,
        problem=lambda seed: give(full().keep(labelled, seed), full().train.labels),
        reference=lambda seed: full(),
    )


def _noise(kind: str, level: float):
    return lambda task, seed: corrupt(task, kind, level, seed)


PROTOCOLS = {
    p.name: p
    for p in [
        *map(_few, ("cardiac", "brain", "abdomen", "nuclei", "vessels", "lesions")),
        Protocol("brain3d-2", "brain", 2, steps=300, batch=2, size=32, dims=3),
        Protocol("acdc-3", "acdc", 3),
        Protocol("acdc-7", "acdc", 7),
        Protocol("hippocampus-4", "hippocampus", 4, steps=300, batch=2),
        _shots(1),
        _shots(5),
        Protocol(
            "cardiac-shift",
            "cardiac",
            None,
            problem=scanner_shift,
            reference=lambda seed: scanner_shift(seed, labelled_target=None),
        ),
        Protocol(
            "brain-paired",
            "brain",
            None,
            problem=paired_scanners,
            reference=lambda seed: paired_scanners(seed, labelled_target=None),
        ),
        _beside("lesions-active", "lesions", "masks on request", with_annotator),
        _beside("cardiac-tags", "cardiac", "image tags", tagged),
        Protocol(
            "lesions-tags", "lesions", None, "tags and severity", baseline="tang-attention-cl"
        ),
        Protocol("lesions-points", "lesions", 20, "one point a lesion", _points, baseline="pce"),
        Protocol("cardiac-scribbles", "cardiac", 20, "scribbles", _scribbles, baseline="pce"),
        Protocol(
            "acdc-scribbles", "acdc", None, "expert scribbles", _expert_scribbles, baseline="pce"
        ),
        Protocol("cardiac-pixel", "cardiac", 20, "40 % random flips", _noise("pixel", 0.4)),
        Protocol(
            "cardiac-boundary", "cardiac", 20, "boundaries off by <= 3 px", _noise("boundary", 3)
        ),
        Protocol("acdc-boundary", "acdc", 20, "boundaries off by <= 3 px", _noise("boundary", 3)),
    ]
}


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: there is none; the sentence lists those there are.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


@functools.lru_cache(maxsize=2)
def _full(cohort: str, size: int, dims: int) -> Task:
    """A cohort with all its training masks; public data with its public split."""
    if cohort in phantoms.FEW:
        return Task.split(load(cohort, size=size, dims=dims))
    return public.task(cohort)
