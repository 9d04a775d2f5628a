"""Boxes: where an object is, without its outline."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data.annotate.components import classes, objects, padded, whole
from lsseg_edu.data.annotate.cost import SECONDS
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import Task


def boxes(
    task: Task, margin: float = 0.0, jitter: float = 0.0, per: str = "object", seed: int = 0
) -> Task:
    """Leave boxes of the masks: see :func:`draw_boxes`.

    The labels that are left say what a box makes certain: background (0) outside all boxes,
    :data:`IGNORE` within any. Which classes a pixel may have there is in the extras:

    - ``extras["boxes"]``, ``(N, M, 1 + 2 dims)``: class, first index per axis, end (exclusive) per
      axis; rows of -1 are padding. They are in the coordinates of the unaugmented image.
    - ``extras["inside"]``, ``(N, *S)``: an integer whose bit k is set where a box of class k
      covers the pixel: ``(inside >> k) & 1``. As a map it is warped with its image.

    Cost: 7 s a box by extreme clicking (Papadopoulos et al., ICCV 2017); a volume's box takes two
    views, 14 s (our estimate).

    Raises:
        ValueError: negative ``margin`` or ``jitter``, unknown ``per``, no dense masks.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> tight = annotate.boxes(Task.split(load("lesions"), labelled=5))
        >>> loose = annotate.boxes(Task.split(load("lesions"), labelled=5), margin=0.2, jitter=0.1)
    """
    index, labels, instances = dense(task)
    drawn = draw_boxes(labels, margin, jitter, per, seed, instances)
    masks = boxes_to_masks(drawn, task.train.classes, labels.shape[1:])
    bits = (
        masks.long() << torch.arange(task.train.classes).view(1, -1, *[1] * task.train.dims)
    ).sum(1)
    certain = torch.where(labels == IGNORE, IGNORE, torch.where(bits > 0, IGNORE, 0))
    seconds = SECONDS["box"] * (task.train.dims - 1) * int((drawn[..., 0] >= 0).sum())
    return give(task, index, certain, "boxes", seconds, boxes=drawn, inside=bits)


def draw_boxes(
    labels: Tensor,
    margin: float = 0.0,
    jitter: float = 0.0,
    per: str = "object",
    seed: int = 0,
    instances: Tensor | None = None,
) -> Tensor:
    """Draw a box around each foreground object of masks ``(B, *S)``.

    Each side moves outwards by ``margin + jitter * u`` times the box's length along that axis,
    rounded, with u uniform in [-1, 1] for each side; with both 0 the box is tight, and with
    ``jitter <= margin`` it always holds the whole object. Boxes end at the image's border.

    Args:
        labels: ``(B, *S)`` dense masks.
        margin: how loose, as a fraction of the box's length.
        jitter: how uneven, as a fraction of the box's length.
        per: ``"object"`` (connected component or instance) or ``"class"`` (one box for each class
            of an item).
        seed: of the jitter.
        instances: ``(B, *S)`` numbers of objects that touch, where they are known.

    Returns:
        ``(B, M, 1 + 2 dims)``: class, start per axis, end (exclusive) per axis; -1 is padding.
    """
    if margin < 0 or jitter < 0 or per not in ("object", "class"):
        raise ValueError(
            f"margin and jitter must not be negative and per must be 'object' or 'class', "
            f"not {margin}, {jitter} and {per!r}."
        )
    rng, flat = np.random.default_rng(seed), labels.cpu().numpy()
    single = None if instances is None else instances.cpu().numpy()
    rows = []
    for k in classes(flat):
        if k > 0:
            number = objects(flat, k, 0, single) if per == "object" else whole(flat == k)
            rows += [_row(found, k) for found in ndimage.find_objects(number) if found]
    rows = np.array(rows, int).reshape(-1, 2 * flat.ndim)
    dims = flat.ndim - 1
    start, end = rows[:, 2 : 2 + dims], rows[:, 2 + dims :]
    move = margin + jitter * rng.uniform(-1, 1, (2, *start.shape))
    outwards = np.rint(move * (end - start)).astype(int)
    start[:], end[:] = start - outwards[0], end + outwards[1]
    end[:] = np.clip(np.maximum(end, start + 1), 1, flat.shape[1:])
    start[:] = np.clip(start, 0, end - 1)
    return padded(rows, len(flat))


def boxes_to_masks(boxes: Tensor, classes: int, size) -> Tensor:
    """Paint boxes ``(B, M, 1 + 2 dims)`` as ``(B, K, *size)``: True within a box of class k."""
    masks = torch.zeros(len(boxes), classes, *size, dtype=torch.bool, device=boxes.device)
    for item, row in (boxes[..., 0] >= 0).nonzero().tolist():
        k, *sides = boxes[item, row].tolist()
        start, end = sides[: len(size)], sides[len(size) :]
        where = tuple(slice(a, b) for a, b in zip(start, end, strict=True))
        masks[(item, k, *where)] = True
    return masks


def _row(found: tuple[slice, ...], k: int) -> list[int]:
    """Item, class, starts, ends."""
    item, *axes = found
    return [item.start, k, *(axis.start for axis in axes), *(axis.stop for axis in axes)]
