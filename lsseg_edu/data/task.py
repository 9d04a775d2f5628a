"""A learning problem: who trains, who chooses, who judges, and what supervision is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lsseg_edu.data.cohort import IGNORE, Cohort

BLANK = {
    "points": -1,
    "boxes": -1,
    "inside": 0,
    "annotated": 0,
    "raters": IGNORE,
    "contours": IGNORE,
    "scribbles": IGNORE,
    "pseudo": IGNORE,
    "clicks": IGNORE,
    "whole": IGNORE,
    "instances": 0,
}
"""Extras that are annotation, and what they hold for an item that nobody annotated (others: 0)."""


def maps(cohort: Cohort) -> list[str]:
    """Names of the integer extras ``(N, *S)`` or ``(N, M, *S)`` that describe pixel by pixel."""
    size = cohort.labels.shape[1:]
    return [
        key
        for key, value in cohort.extras.items()
        if value.shape[-len(size) :] == size and not value.is_floating_point()
    ]


@dataclass(frozen=True)
class Task:
    """A cohort split by subject, with just the supervision a method may use.

    ``train`` holds the *remaining* labels: whatever an annotator did not give is
    :data:`~lsseg_edu.data.IGNORE` there, so that no method can look at it by accident.
    ``valid`` (to choose) and ``test`` (to judge, once) keep their full masks.

    Attributes:
        train: training images with the supervision that is left.
        valid: validation subjects.
        test: test subjects.
        supervision: the kind of annotation, e.g. ``"full"``, ``"scribbles"``, ``"noisy"``.
        seconds: estimate of the annotators' time for ``train``, in seconds (0: not estimated).
    """

    train: Cohort
    valid: Cohort
    test: Cohort
    supervision: str = "full"
    seconds: float = 0.0

    @classmethod
    def split(
        cls, cohort: Cohort, labelled: int | None = None, valid=10, test=20, seed: int = 0
    ) -> Task:
        """Split by subject; keep the masks of ``labelled`` training subjects only.

        The test subjects do not depend on ``seed``: every seed is judged by the same subjects.
        ``seed`` draws the labelled ones, and the draw for 3 contains the draw for 1.

        Args:
            cohort: fully annotated subjects.
            labelled: number of training subjects whose masks are kept; ``None`` keeps all.
            valid: number of validation subjects, or the subjects themselves.
            test: number of test subjects, or the subjects themselves.
            seed: which labelled subjects are drawn.

        Raises:
            ValueError: too few subjects, a subject in two parts, a class no labelled subject has.

        Example:
            >>> from lsseg_edu import data
            >>> task = Task.split(data.load("cardiac"), labelled=3, seed=0)
            >>> len(task.labelled) < len(task.train)
            True
        """
        everyone = cohort.subjects.unique()
        order = everyone[_permutation(len(everyone), seed=0)]
        test = order[: _count(test, "test")] if isinstance(test, int) else torch.as_tensor(test)
        rest = order[~torch.isin(order, test)]
        valid = rest[: _count(valid, "valid")] if isinstance(valid, int) else torch.as_tensor(valid)
        train = rest[~torch.isin(rest, valid)]
        for part, subjects in (("validation", valid), ("test", test)):
            strangers = subjects[~torch.isin(subjects, everyone)]
            if len(strangers):
                raise ValueError(f"The {part} subject {strangers[0]} is not in {cohort.name!r}.")
        if len(train) == 0:
            raise ValueError(
                f"{cohort.name!r} has {len(everyone)} subjects; {len(valid)} for validation and "
                f"{len(test)} for test leave none for training. Ask for fewer."
            )
        task = cls(cohort.of(train), cohort.of(valid), cohort.of(test))
        return task if labelled is None else task.keep(labelled, seed)

    def __post_init__(self):
        parts = {"training": self.train, "validation": self.valid, "test": self.test}
        names = list(parts)
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                both = parts[a].subjects[torch.isin(parts[a].subjects, parts[b].subjects)]
                if len(both):
                    raise ValueError(
                        f"Subject {both[0]} is in the {a} and in the {b} part: the score would "
                        f"be of memory, not of learning. Split by subject."
                    )

    def keep(self, labelled: int, seed: int = 0) -> Task:
        """The same task with the masks of only ``labelled`` training subjects left."""
        subjects = self.train.subjects.unique()
        if not 1 <= labelled <= len(subjects):
            raise ValueError(
                f"{labelled} labelled subjects asked for, but the training part has "
                f"{len(subjects)}: ask for 1 to {len(subjects)}."
            )
        chosen = subjects[_permutation(len(subjects), seed)[:labelled]]
        given = torch.isin(self.train.subjects, chosen)
        blank = {"labels": IGNORE, **dict.fromkeys(maps(self.train), 0), **BLANK}
        left = {"labels": self.train.labels, **self.train.extras}
        left = {key: value.clone() for key, value in left.items() if key in blank}
        for key, value in left.items():
            value[~given] = blank[key]
        return self.supervise(**left)

    def supervise(
        self, labels: Tensor, supervision: str | None = None, seconds: float = 0.0, **extras
    ) -> Task:
        """The same task with other supervision ``labels (N, *S)`` (and per-item ``extras``).

        Raises:
            ValueError: a class that no labelled subject shows (it could never be learnt).
        """
        train = replace(self.train, labels=labels, extras={**self.train.extras, **extras})
        supervision = supervision or self.supervision
        task = replace(self, train=train, supervision=supervision, seconds=seconds)
        seen = set(labels.flatten().bincount().nonzero()[:, 0].tolist())
        if "boxes" in train.extras:  # a box names its class, though it labels none of its pixels
            seen.update(train.extras["boxes"][..., 0].unique().tolist())
        for k, name in enumerate(self.train.names):
            if k not in seen:
                raise ValueError(
                    f"No labelled subject shows the class {name!r}: label more subjects, "
                    f"draw others (seed), or drop the class."
                )
        return task

    @property
    def labelled(self) -> Tensor:
        """Index into ``train`` of the items with at least one annotated pixel."""
        return (self.train.labels != IGNORE).flatten(1).any(1).nonzero()[:, 0]

    @property
    def unlabelled(self) -> Tensor:
        """Index into ``train`` of the items nobody annotated."""
        return (self.train.labels == IGNORE).flatten(1).all(1).nonzero()[:, 0]

    def __repr__(self) -> str:
        subjects = len(self.train.subjects[self.labelled].unique())
        return (
            f"Task on {self.train.name!r}: {subjects} of {len(self.train.subjects.unique())} "
            f"training subjects with {self.supervision} labels, "
            f"{len(self.valid.subjects.unique())} for validation, "
            f"{len(self.test.subjects.unique())} for test"
        )


def _count(n: int, part: str) -> int:
    if n < 0:
        raise ValueError(f"The number of {part} subjects cannot be {n}.")
    return n


def _permutation(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
