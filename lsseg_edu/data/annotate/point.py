"""Points: a click on each object, and the next click that an interactive method asks for."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data.annotate.components import (
    best,
    classes,
    components,
    depth,
    objects,
    padded,
    whole,
)
from lsseg_edu.data.annotate.cost import point_seconds
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import Task


def points(task: Task, n: int = 1, where: str = "random", radius: int = 0, seed: int = 0) -> Task:
    """Leave points of the masks: see :func:`draw_points`.

    ``extras["points"]`` holds the coordinates, ``(N, M, 1 + dims)``: class, then one number for
    each axis; rows of -1 are padding.
    Cost: 2.4 s for the first point of a class in an image, 0.9 s for each further one (Bearman et
    al., ECCV 2016).

    Raises:
        ValueError: ``n`` below 1, an unknown ``where``, no dense masks to start from.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.points(Task.split(load("nuclei"), labelled=3), where="centre")
    """
    index, labels, instances = dense(task)
    clicked, coordinates = draw_points(labels, n, where, radius, seed, instances)
    seconds = point_seconds(coordinates)
    return give(task, index, clicked, "points", seconds, points=coordinates)


def draw_points(
    labels: Tensor,
    n: int = 1,
    where: str = "random",
    radius: int = 0,
    seed: int = 0,
    instances: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Click ``n`` times on each object of masks ``(B, *S)``, and ``n`` times on the background.

    Args:
        labels: ``(B, *S)`` dense masks; in volumes an object is a component in 3D.
        n: points for each object; an object of fewer pixels gives them all.
        where: ``"random"``, or ``"centre"``: the first is the pixel farthest from the object's
            boundary (never outside it, as a centroid may be), the others are random.
        radius: a point becomes a ball of this radius in pixels, cut to its class.
        seed: of the random points.
        instances: ``(B, *S)`` numbers of objects that touch, where they are known.

    Returns:
        Labels ``(B, *S)``, :data:`IGNORE` off the points, and ``(B, M, 1 + dims)`` coordinates.
    """
    if n < 1 or where not in ("random", "centre"):
        raise ValueError(f"Ask for n >= 1 points, 'random' or 'centre', not {n} at {where!r}.")
    rng, flat = np.random.default_rng(seed), labels.cpu().numpy()
    single = None if instances is None else instances.cpu().numpy()
    rows, clicked = [], np.full_like(flat, IGNORE)
    for k in classes(flat):
        number = objects(flat, k, 0, single) if k else whole(flat == 0)
        found = best(_score(number, where, rng), number, n)
        rows.append(np.insert(found, 1, k, axis=1))
        at = np.zeros(flat.shape, bool)
        at[tuple(found.T)] = True
        clicked[_grow(at, radius) & (flat == k)] = k
    return torch.from_numpy(clicked), padded(np.concatenate(rows), len(flat))


def clicks(predicted: Tensor, labels: Tensor) -> Tensor:
    """The next click of a simulated user: the middle of the largest error.

    Among all connected regions where ``predicted`` is wrong and the truth is one class, the
    largest is taken and its pixel farthest from the region's boundary is clicked, as interactive
    methods are trained and judged (e.g. Sofiiuk et al., ICIP 2022).

    Args:
        predicted: ``(B, *S)`` classes.
        labels: ``(B, *S)`` truth; pixels of :data:`IGNORE` are no errors.

    Returns:
        ``(B, 1 + dims)``: the true class there and the coordinates; -1 where nothing is wrong.
    """
    truth = labels.cpu().numpy()
    wrong = (predicted.cpu().numpy() != truth) & (truth != IGNORE)
    number = np.zeros(truth.shape, np.int64)
    for k in classes(truth):
        part = components(wrong & (truth == k))
        number += np.where(part > 0, part + number.max(), 0)
    sizes = np.bincount(number.ravel())
    sizes[0] = 0
    largest = sizes[number].reshape(len(truth), -1).argmax(1)
    winner = number.reshape(len(truth), -1)[np.arange(len(truth)), largest]
    mask = (number == winner.reshape(-1, *[1] * (truth.ndim - 1))) & (number > 0)
    found = best(depth(mask), whole(mask))
    answer = np.full((len(truth), truth.ndim), -1)
    answer[found[:, 0], 0] = truth[tuple(found.T)]
    answer[found[:, 0], 1:] = found[:, 1:]
    return torch.from_numpy(answer)


def _score(number: np.ndarray, where: str, rng) -> np.ndarray:
    """What :func:`best` ranks: chance, with the deepest pixel of each object first if asked."""
    score = rng.random(number.shape)
    if where == "centre":
        middle = best(_own_depth(number), number)
        score[tuple(middle.T)] = 2
    return score


def _own_depth(number: np.ndarray) -> np.ndarray:
    """Depth within each object; a touching neighbour counts as outside."""
    inner = number > 0
    for axis in range(1, number.ndim):
        for step in (-1, 1):
            same = np.roll(number, step, axis) == number
            inner &= same
    return depth(inner) + (number > 0)


def _grow(at: np.ndarray, radius: int) -> np.ndarray:
    """Balls of ``radius`` pixels around the points of each item."""
    if radius == 0:
        return at
    axes = np.meshgrid(*[np.arange(-radius, radius + 1)] * (at.ndim - 1), indexing="ij")
    ball = sum(axis**2 for axis in axes) <= radius**2
    return ndimage.binary_dilation(at, ball[None])
