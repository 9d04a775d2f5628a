"""A simulated annotator: masks in a drawer, handed out on request, and paid by the second."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from lsseg_edu.data.annotate.components import planes
from lsseg_edu.data.annotate.cost import SECONDS, mask_seconds
from lsseg_edu.data.task import Task


def with_annotator(task: Task, masks: Tensor) -> Task:
    """The task and somebody to ask: ``masks (N, *S)`` of all training images, kept in a drawer.

    They are there for :func:`ask` only. A method that looks at them otherwise cheats.
    """
    labels = task.train.labels
    return task.supervise(labels, seconds=task.seconds, annotator=masks)


def ask(task: Task, index: Tensor | tuple[Tensor, Tensor]) -> Task:
    """The task with the annotator's masks of the items ``index``, and the seconds they took.

    Planes of volumes are asked for by a pair of tensors, ``(items (n,), planes (n,))``.
    """
    labels = task.train.labels.clone()
    labels[index] = task.train.extras["annotator"][index]
    seconds = task.seconds + answer_seconds(labels[index])
    return task.supervise(labels, seconds=seconds)


def answer_seconds(masks: Tensor) -> float:
    """Time for masks ``(B, *S)``: each object's outline, and a look at each plane.

    To see that there is nothing to outline takes as long as a point, or it would be free to ask.
    """
    return mask_seconds(masks) + SECONDS["point"] * len(planes(masks))


def unaided(task: Task) -> Task:
    """The task without the drawer: what training and choosing may see."""
    extras = {key: value for key, value in task.train.extras.items() if key != "annotator"}
    return replace(task, train=replace(task.train, extras=extras))
