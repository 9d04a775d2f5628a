"""From masks to tasks: which masks are there to annotate from, and handing over what is left."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import BLANK, Task, maps

SPARSE = (
    "scribbles",
    "expert scribbles",
    "points",
    "boxes",
    "boundary scribbles",
    "annotated areas",
    "boxes and few masks",
    "points and rough masks",
    "strokes on the whole + tags",
    "graph cuts",
)


def dense(task: Task) -> tuple[Tensor, Tensor, Tensor | None]:
    """The labelled items of ``task.train``: their index, masks ``(B, *S)`` and instances.

    Raises:
        ValueError: the masks are gone already.
    """
    if task.supervision in SPARSE:
        raise ValueError(
            f"This task has only {task.supervision} left: annotate starts from dense masks, "
            f"so begin again from Task.split."
        )
    index = task.labelled
    instances = task.train.extras.get("instances")
    return index, task.train.labels[index], None if instances is None else instances[index]


def give(task: Task, index: Tensor, labels: Tensor, supervision: str, seconds, **extras) -> Task:
    """The task with ``labels`` and ``extras (B, ...)`` at ``index``; other masks are dropped."""
    hidden = maps(task.train)
    kept = {key: value for key, value in task.train.extras.items() if key not in hidden}
    task = replace(task, train=replace(task.train, extras=kept))
    spread = {key: _spread(task, index, value, BLANK[key]) for key, value in extras.items()}
    labels = _spread(task, index, labels, IGNORE)
    return task.supervise(labels, supervision, float(seconds), **spread)


def _spread(task: Task, index: Tensor, value: Tensor, blank) -> Tensor:
    """``value (B, ...)`` at ``index`` of all ``N`` training items, ``blank`` at the others."""
    full = value.new_full((len(task.train), *value.shape[1:]), blank)
    full[index] = value
    return full
