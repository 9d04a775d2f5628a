"""A change of scanner: all masks on one machine, all patients of the clinic on another."""

from __future__ import annotations

from dataclasses import replace

import torch

from lsseg_edu.data import IGNORE, Cohort, Task, load
from lsseg_edu.data.task import maps


def scanner_shift(seed: int = 0, labelled_target: int | None = 0, cohort: str = "cardiac") -> Task:
    """Masks of scanner A, images of scanner B, and it is B that counts.

    Half of the training subjects are annotated and were imaged on A, the other half on B. No
    subject is imaged on both: a network that could compare the same heart on two machines would
    have an easier problem than any hospital has. Validation and test are scanner B's.

    Args:
        seed: which training subjects were imaged where. The test subjects do not depend on it.
        labelled_target: subjects of scanner B that have masks as well; ``None`` for all of them,
            the upper reference. With 0 the supervised baseline has only ever seen A.
        cohort: a phantom.

    Returns:
        A task whose ``train.extras["scanner"]`` is 0 for A and 1 for B.

    Raises:
        ValueError: more annotated target subjects than there are.

    Example:
        >>> task = scanner_shift()
        >>> sorted(task.train.extras["scanner"].unique().tolist())
        [0, 1]
    """
    a, b = (load(cohort, scanner=scanner) for scanner in "AB")
    split = Task.split(b)
    subjects = split.train.subjects.unique()
    order = subjects[torch.randperm(len(subjects), generator=torch.Generator().manual_seed(seed))]
    source, target = order.chunk(2)
    given = len(target) if labelled_target is None else labelled_target
    if not 0 <= given <= len(target):
        raise ValueError(
            f"{given} annotated subjects of scanner B asked for, but {len(target)} are there: "
            f"ask for 0 to {len(target)}."
        )
    train = _join(a.of(source), b.of(target))
    hidden = torch.isin(train.subjects, target[given:])
    left = {"labels": train.labels, **{key: train.extras[key] for key in maps(train)}}
    for key, value in left.items():
        value[hidden] = IGNORE if key == "labels" else 0
    return replace(split, train=train).supervise(**left)


def _join(first: Cohort, second: Cohort) -> Cohort:
    keys = ("images", "labels", "subjects")
    parts = {key: torch.cat([getattr(first, key), getattr(second, key)]) for key in keys}
    extras = {key: torch.cat([first.extras[key], second.extras[key]]) for key in first.extras}
    return replace(first, **parts, extras=extras)
