"""Scribbles: a line through the middle of each object, and one on the background."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage, sparse
from torch import Tensor

from lsseg_edu.data.annotate.components import (
    best,
    classes,
    depth,
    largest,
    objects,
    planes,
    smooth_noise,
)
from lsseg_edu.data.annotate.cost import SECONDS, count_classes
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import Task


def scribbles(
    task: Task, length: float = 0.7, width: int = 1, wobble: float = 1.0, seed: int = 0
) -> Task:
    """Leave scribbles of the masks: see :func:`draw_scribbles`.

    Cost: 10.9 s for each class that a plane shows, background included (Bearman et al., 2016).

    Raises:
        ValueError: ``length`` outside (0, 1], ``width`` below 1, no dense masks to start from.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.scribbles(Task.split(load("cardiac"), labelled=3))
        >>> task.supervision
        'scribbles'
    """
    index, labels, instances = dense(task)
    drawn = draw_scribbles(labels, length, width, wobble, seed, instances)
    seconds = SECONDS["scribble"] * count_classes(labels)
    return give(task, index, drawn, "scribbles", seconds)


def expert_scribbles(task: Task) -> Task:
    """Supervise with the scribbles an expert drew: ``task.train.extras["scribbles"]``.

    Real cohorts bring them (ACDC: Valvano et al., IEEE TMI 2021). Cost as in :func:`scribbles`.

    Raises:
        ValueError: the cohort has no expert scribbles.
    """
    index, _, _ = dense(task)
    if "scribbles" not in task.train.extras:
        raise ValueError(
            f"{task.train.name!r} has no expert scribbles in its extras: "
            f"draw them from the masks with annotate.scribbles(task)."
        )
    drawn = task.train.extras["scribbles"][index].long()
    seconds = SECONDS["scribble"] * count_classes(drawn)
    return give(task, index, drawn, "expert scribbles", seconds)


def draw_scribbles(
    labels: Tensor,
    length: float = 0.7,
    width: int = 1,
    wobble: float = 1.0,
    seed: int = 0,
    instances: Tensor | None = None,
) -> Tensor:
    """Draw one scribble inside each object of each class of masks ``(B, *S)``.

    The object loses an uneven margin, and its core where it is thick (a hand draws a loop there,
    not a dot), and is thinned to its skeleton; the scribble is a random piece of the longest path
    on that skeleton. Volumes are drawn plane by plane.

    Args:
        labels: ``(B, *S)`` dense masks.
        length: the piece, as a fraction of the longest path.
        width: of the line, in pixels; it never leaves its class.
        wobble: unevenness of the margin, in pixels; 0 follows the eroded skeleton exactly.
        seed: of the noise and the pieces.
        instances: ``(B, *S)`` numbers of objects that touch, where they are known.

    Returns:
        ``(B, *S)``: the class on a scribble, :data:`IGNORE` elsewhere.
    """
    if not 0 < length <= 1 or width < 1:
        raise ValueError(
            f"length must be in (0, 1] and width at least 1, not {length} and {width}."
        )
    rng, flat = np.random.default_rng(seed), planes(labels)
    single = None if instances is None else planes(instances)
    drawn = np.full_like(flat, IGNORE)
    for k in classes(flat):
        line = _strokes(objects(flat, k, instances=single), length, wobble, rng)
        line = ndimage.binary_dilation(line, np.ones((1, width, width), bool))
        drawn[line & (flat == k)] = k
    return torch.from_numpy(drawn).view(labels.shape)


def _strokes(region: np.ndarray, length: float, wobble: float, rng) -> np.ndarray:
    """One line ``(P, H, W)`` within each numbered object of ``region``."""
    from skimage.morphology import skeletonize

    thin = np.stack([skeletonize(plane) for plane in _where_hands_go(region, wobble, rng)])
    lost = np.bincount(region.ravel(), thin.ravel(), region.max() + 1) == 0
    middle = best(rng.random(region.shape), region * lost[region])
    thin[tuple(middle.T)] = True  # thinning can lose a 2x2 block
    return _pieces(thin, region, length, rng)


def _where_hands_go(region: np.ndarray, wobble: float, rng) -> np.ndarray:
    """Each object without an uneven margin, and without its core where it is thick."""
    deep = depth(region > 0)
    deepest = largest(deep, region)
    inner = (deep > 1 + wobble * smooth_noise(region.shape, 3, rng)) & (region > 0)
    inner &= (deep < 0.7 * deepest[region]) | (deepest[region] < 4)
    gone = np.bincount(region.ravel(), inner.ravel(), len(deepest)) == 0
    return inner | (gone[region] & (region > 0))


def _pieces(thin: np.ndarray, region: np.ndarray, length: float, rng) -> np.ndarray:
    """A random piece of the longest path on each object's skeleton, for all objects at once."""
    graph, where, group = _graph(thin, region)
    start = _pick(rng.random(len(group)), group)
    one_end = _pick(_distances(graph, start)[0], group)
    along, previous = _distances(graph, one_end)
    node = _pick(along, group)
    half = np.maximum(length * along[node] / 2, 0.71)  # half a diagonal step: never empty
    middle = half + rng.random(len(node)) * np.maximum(along[node] - 2 * half, 0)
    line = np.zeros(thin.shape, bool)
    while len(node):
        on = np.abs(along[node] - middle) <= half
        line[tuple(where[node[on]].T)] = True
        node = previous[node]
        more = node >= 0
        node, middle, half = node[more], middle[more], half[more]
    return line


def _graph(thin: np.ndarray, region: np.ndarray):
    """Skeleton pixels as a graph: edges, coordinates ``(V, 3)`` and object of each node."""
    where = np.argwhere(thin)
    number = np.full(np.add(thin.shape, (0, 2, 2)), -1)
    number[:, 1:-1, 1:-1][thin] = np.arange(len(where))
    group = region[thin]
    pairs = []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        other = number[where[:, 0], where[:, 1] + 1 + down, where[:, 2] + 1 + right]
        node = np.flatnonzero((other >= 0) & (group[other] == group))
        pairs.append((node, other[node], np.full(len(node), np.hypot(down, right))))
    i, j, weight = map(np.concatenate, zip(*pairs, strict=True))
    return sparse.csr_array((weight, (i, j)), shape=(len(where),) * 2), where, group


def _distances(graph, sources):
    """Distance of each node to its source along the skeleton (-1: not reached), and the way."""
    distance, previous, _ = sparse.csgraph.dijkstra(
        graph, directed=False, indices=sources, min_only=True, return_predecessors=True
    )
    return np.where(np.isfinite(distance), distance, -1.0), previous


def _pick(score: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The node of highest score in each group."""
    order = np.lexsort((score, group))
    return order[np.r_[group[order][1:] != group[order][:-1], True]]
