"""Reading clicks: checked once, and what lies nearest to which."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate.cost import point_seconds


def clicked(task: Task) -> Tensor:
    """The clicks of the labelled training images, ``(B, M, 1 + dims)``: class, then coordinates.

    Rows of -1 are padding. Coordinates are whole pixels.

    Raises:
        ValueError: no points, a point outside its image, an unknown class, a class nobody clicked.
    """
    if "points" not in task.train.extras:
        raise ValueError("There are no points: make the task with annotate.points.")
    points = task.train.extras["points"][task.labelled]
    size = torch.tensor(task.train.labels.shape[1:])
    real = points[..., 0] >= 0
    inside = ((points[..., 1:] >= 0) & (points[..., 1:] < size)).all(-1)
    if (real & ~inside).any():
        item, row = (real & ~inside).nonzero()[0].tolist()
        raise ValueError(
            f"Point {points[item, row, 1:].tolist()} lies outside its image of {size.tolist()} "
            f"pixels: give coordinates from 0 to size - 1, in the order of the image's axes."
        )
    if points[..., 0].max() >= task.train.classes:
        raise ValueError(
            f"A point has class {int(points[..., 0].max())}, but there are {task.train.classes} "
            f"classes: number them from 0, the background."
        )
    for k, name in enumerate(task.train.names):
        if not (points[..., 0] == k).any():
            raise ValueError(f"The class {name!r} has no point: click on it, or drop the class.")
    return points


def nearest(points: Tensor, size) -> tuple[Tensor, Tensor]:
    """Distance to the nearest click on an object, and which it is: a Voronoi diagram.

    Args:
        points: ``(B, M, 1 + dims)``; those of class 0 and padding are no objects.
        size: ``*S``.

    Returns:
        Pixels ``(B, *S)``, infinite where an image has no object; rows of ``points``
        ``(B, *S)``, -1 there.
    """
    distance = np.full((len(points), *size), np.inf, np.float32)
    owner = np.full((len(points), *size), -1)
    for item, rows in enumerate(points.cpu().numpy()):
        mine = np.flatnonzero(rows[:, 0] > 0)
        if len(mine):
            at = np.full(size, -1)
            at[tuple(rows[mine, 1:].T)] = mine
            distance[item], where = ndimage.distance_transform_edt(at < 0, return_indices=True)
            owner[item] = at[tuple(where)]
    return torch.from_numpy(distance), torch.from_numpy(owner)


def class_of(points: Tensor, owner: Tensor) -> Tensor:
    """The class of the nearest click ``(B, *S)``; 0 where an image has no object."""
    found = points[..., 0].cpu().gather(1, owner.clamp(min=0).flatten(1)).view(owner.shape)
    return found.where(owner >= 0, 0)


def taught(task: Task, labels: Tensor, **extras: Tensor) -> Task:
    """The task with ``labels (B, *S)`` and ``extras (B, ...)`` at its labelled items."""
    index = task.labelled
    full = torch.full_like(task.train.labels, IGNORE)
    full[index] = labels.to(full)
    spread = {}
    for key, value in extras.items():
        spread[key] = value.new_zeros((len(task.train), *value.shape[1:]))
        spread[key][index] = value
    return task.supervise(full, seconds=task.seconds, **spread)


def partial_points(task: Task, share: float = 0.25, seed: int = 0) -> Task:
    """Leave a share of the clicks on objects; those on the background stay.

    Each image keeps at least one object, if it has any. The others are then *not annotated*:
    nothing says that what was not clicked is background.

    Args:
        task: made by ``annotate.points``.
        share: of each image's objects, in (0, 1].
        seed: draws them.

    Raises:
        ValueError: a share out of range; those of :func:`clicked`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"Keep a share of the clicks in (0, 1], not {share}.")
    points = clicked(task).clone()
    rank = torch.rand(points.shape[:2], generator=torch.Generator().manual_seed(seed))
    objects = points[..., 0] > 0
    order = rank.masked_fill(~objects, 2).argsort(1).argsort(1)
    kept = (share * objects.sum(1, keepdim=True)).ceil()
    points[objects & (order >= kept)] = -1
    at = torch.zeros_like(task.train.labels[task.labelled], dtype=torch.bool)
    item, row = (points[..., 0] >= 0).nonzero(as_tuple=True)
    at[(item, *points[item, row, 1:].T)] = True
    labels = task.train.labels[task.labelled].where(at, IGNORE)
    left = torch.full_like(task.train.extras["points"], -1)
    left[task.labelled] = points
    labels = taught(task, labels).train.labels
    return task.supervise(labels, "points", point_seconds(points), points=left)
