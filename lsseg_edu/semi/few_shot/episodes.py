"""A few-shot problem: base classes to train with, novel classes to be asked about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort, Task, load

NOVEL = ("spleen", "right kidney")
"""One organ that is like none of the base classes, and one whose twin is among them."""


@dataclass(frozen=True, repr=False)
class FewShotTask(Task):
    """A task whose test asks for classes that its training masks do not hold.

    ``train`` shows *base* classes; novel organs are background there, as in any data set whose
    annotators were not asked for them. ``valid`` and ``test`` are labelled with the *novel*
    classes only, and so are the few items of ``support``, whose subjects are in no other part.

    Simplified: every novel class is asked of every test slice. The literature also reports a
    harder setting in which training images that show a novel organ are left out.

    Attributes:
        support: the annotated examples of the novel classes, one slice of each support subject.

    Reference: Shaban, Bansal, Liu, Essa, Boots, "One-Shot Learning for Semantic Segmentation",
    BMVC 2017, for the setting.
    """

    support: Cohort = field(kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        check_support(self.support)
        for part in (self.train, self.valid, self.test):
            if torch.isin(part.subjects, self.support.subjects).any():
                raise ValueError(
                    "A support subject is also trained with or judged: give the support set "
                    "subjects of its own."
                )

    @classmethod
    def of(cls, task: Task, novel, shots: int = 1, seed: int = 0) -> FewShotTask:
        """Hide the classes ``novel`` from the training masks of a fully annotated task.

        Raises:
            ValueError: a class that does not exist, no base class left, more shots than
                training subjects, a novel class that no support slice shows.
        """
        names, train = task.train.names, task.train
        strangers = [name for name in novel if name not in names[1:]]
        base = [k for k, name in enumerate(names) if k and name not in novel]
        if strangers or not base or not novel:
            raise ValueError(
                f"novel must name some, but not all, of {', '.join(names[1:])}; "
                f"not {', '.join(novel) or 'nothing'}."
            )
        asked = [names.index(name) for name in novel]
        chosen = choose_support(train.labels, train.subjects, asked, shots, seed)
        rest = ~torch.isin(train.subjects, train.subjects[chosen])
        return cls(
            only(train.select(rest), base),
            only(task.valid, asked),
            only(task.test, asked),
            supervision=f"base classes, {shots} shots of the novel ones",
            support=only(train.select(chosen), asked),
        )

    def on_support(self, items=slice(None)) -> Task:
        """The task of learning the novel classes from the support set (or ``items`` of it)."""
        support = self.support.select(items)
        return Task(support, self.valid, self.test, f"{len(support)} support slices")

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()}\nbase classes: {', '.join(self.train.names[1:])}; novel: "
            f"{', '.join(self.support.names[1:])} in {len(self.support)} support slices"
        )


def few_shot_task(shots: int = 1, novel=NOVEL, seed: int = 0, size: int = 64) -> FewShotTask:
    """The abdomen phantom with ``novel`` organs that only ``shots`` support slices name.

    The draw for 5 shots contains the draw for 1; the test subjects do not depend on ``seed``.

    Args:
        shots: annotated slices of novel classes, each of another subject.
        novel: names of the novel organs.
        seed: which subjects are the support.
        size: pixels along a side.

    Raises:
        ValueError: see :meth:`FewShotTask.of`.

    Example:
        >>> task = few_shot_task(shots=1)
        >>> task.train.names, task.test.names
        (('background', 'liver', 'left kidney', 'aorta', 'stomach'), ('background', 'spleen', \
'right kidney'))
    """
    return FewShotTask.of(Task.split(load("abdomen", size=size)), novel, shots, seed)


def few_shot_upper(shots: int = 1, novel=NOVEL, seed: int = 0, size: int = 64) -> Task:
    """The upper reference: novel classes annotated on all training subjects of the same task.

    A function of its own, so that no method can find these masks in its task.
    """
    task = few_shot_task(shots, novel, seed, size)
    whole = load("abdomen", size=size)
    masks = only(whole.of(task.train.subjects.unique()), [whole.names.index(n) for n in novel])
    return Task(masks, task.valid, task.test)


def choose_support(labels: Tensor, subjects: Tensor, classes, shots: int, seed=0) -> Tensor:
    """Indices of ``shots`` items to annotate, each of another subject, by their masks alone.

    One by one: the subject, in an order drawn by ``seed``, that shows the most classes not yet
    shown, then the most classes; of this subject the slice whose smallest organ is largest.

    Args:
        labels: masks ``(N, *S)``.
        subjects: ``(N,)``.
        classes: the novel class numbers.
        shots: how many.
        seed: of the order of the subjects.
    """
    everyone, own = subjects.unique(return_inverse=True)
    if not 1 <= shots < len(everyone):
        raise ValueError(
            f"{shots} shots asked for, but {len(everyone)} training subjects can give 1 to "
            f"{len(everyone) - 1}, one slice each, and leave one to train with."
        )
    sizes = torch.stack([(labels == k).flatten(1).sum(1) for k in classes], 1)
    shown, rank = sizes > 0, torch.randperm(len(everyone), generator=_generator(seed))[own]
    missing, free, chosen = torch.ones(len(classes), dtype=torch.bool), rank >= 0, []
    for _ in range(shots):
        worth = (shown & missing).sum(1) * (len(classes) + 1) + shown.sum(1)
        worth = worth.where(free, -1)
        best = (worth == worth.max()).nonzero()[:, 0]
        mine = best[rank[best] == rank[best].min()]
        smallest = sizes[mine].where(shown[mine], sizes.max()).amin(1)
        chosen.append(mine[smallest.argmax()])
        free, missing = free & (own != own[chosen[-1]]), missing & ~shown[chosen[-1]]
    return torch.stack(chosen)


def only(cohort: Cohort, classes) -> Cohort:
    """The cohort with these classes, renumbered from 1; all others become background."""
    table = torch.zeros(IGNORE + 1, dtype=torch.long)
    table[IGNORE] = IGNORE
    table[torch.as_tensor(classes)] = torch.arange(1, len(classes) + 1)
    names = (cohort.names[0], *(cohort.names[k] for k in classes))
    return replace(cohort, labels=table.to(cohort.labels.device)[cohort.labels], names=names)


def check_support(support: Cohort) -> None:
    """Every class must be shown by at least one support item, or nothing could be asked of it."""
    for k, name in enumerate(support.names[1:], 1):
        if not (support.labels == k).any():
            raise ValueError(
                f"No support item shows the class {name!r}: take more shots, other subjects "
                f"(seed), or do not ask for it."
            )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
