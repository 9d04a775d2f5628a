"""Missing classes: every subject comes from a data set that annotated something else."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data.annotate.cost import mask_seconds
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import Task


def missing_classes(task: Task, given: int = 1, others: str = "background", seed: int = 0) -> Task:
    """Leave ``given`` foreground classes to each labelled subject.

    Classes are dealt in turn to the subjects, in an order drawn by ``seed``, so that each class is
    annotated in some subject. By default pixels of the others *appear as background*, as in real
    single-organ data sets: label 0 then means "none of the classes annotated here".
    ``extras["annotated"]``, ``(N, K)`` bool, tells for each item which classes its labels speak of.

    Cost: 79 s for each object of the classes that are given (Lin et al., ECCV 2014).

    Args:
        task: dense masks of at least two foreground classes.
        given: classes for each subject.
        others: what the other classes become, ``"background"`` or ``"ignore"``.
        seed: of the deal.

    Raises:
        ValueError: nothing would be missing, or some class would never be annotated.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.missing_classes(Task.split(load("abdomen"), labelled=12), given=1)
    """
    index, labels, instances = dense(task)
    subjects, own = task.train.subjects[index].unique(return_inverse=True)
    annotated = _deal(len(subjects), task.train.classes, given, seed)[own]
    left = drop_classes(labels, annotated, others)
    seconds = mask_seconds(left, instances)
    return give(task, index, left, "missing classes", seconds, annotated=annotated)


def drop_classes(labels: Tensor, annotated: Tensor, others: str = "background") -> Tensor:
    """Masks ``(B, *S)`` without the classes that ``annotated (B, K)`` has as False."""
    if others not in ("background", "ignore"):
        raise ValueError(f"others must be 'background' or 'ignore', not {others!r}.")
    known = labels.where(labels != IGNORE, 0)
    kept = annotated.gather(1, known.flatten(1)).view(labels.shape) | (labels == IGNORE)
    return labels.where(kept, 0 if others == "background" else IGNORE)


def _deal(subjects: int, classes: int, given: int, seed: int) -> Tensor:
    """Which classes each subject gets: ``(subjects, classes)`` bool, background always."""
    organs = classes - 1
    if organs < 2:
        raise ValueError("For one to be missing, there must be at least two foreground classes.")
    if not 1 <= given < organs:
        raise ValueError(
            f"With {organs} foreground classes, each subject can be given 1 to {organs - 1} of "
            f"them for others to be missing, not {given}."
        )
    if subjects * given < organs:
        raise ValueError(
            f"{subjects} labelled subjects with {given} class each cannot cover {organs} classes: "
            f"label more subjects."
        )
    generator = torch.Generator().manual_seed(seed)
    turn = torch.randperm(subjects, generator=generator)[:, None] * given + torch.arange(given)
    deck = torch.randperm(organs, generator=generator) + 1
    annotated = torch.zeros(subjects, classes, dtype=torch.bool)
    annotated[:, 0] = True
    return annotated.scatter(1, deck[turn % organs], True)
