"""Corresponding points on the outlines of organs, and outlines filled back into masks.

Points are complex numbers ``row + i column``: a rotation with a scaling is then one factor, and
the best one (Procrustes) one division.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label
from skimage.draw import polygon2mask
from skimage.measure import find_contours

PIXELS = 8
"""Smaller pieces have no outline worth a landmark."""


def present(mask: np.ndarray, classes: int) -> tuple[int, ...]:
    """The organs of a mask ``(H, W)`` that are large enough to have an outline."""
    return tuple(k for k in range(1, classes) if (mask == k).sum() >= PIXELS)


def landmarks(mask: np.ndarray, organs: tuple[int, ...], points: int = 32) -> np.ndarray:
    """Outlines of the organs of a mask: complex ``(organs, points)``.

    Of each organ the largest piece, its holes filled, has one outer contour. Points lie on it at
    equal arc length, counted from where it is farthest along the row axis away from the middle of
    all organs; :func:`align` moves that start to where it corresponds best.

    Args:
        mask: ``(H, W)`` class numbers.
        organs: classes that are :func:`present`.
        points: of each outline.
    """
    outlines = [_spread(_outline(mask == k), points) for k in organs]
    middle = np.mean(outlines)
    starts = [int(np.argmax((z - middle).real)) for z in outlines]
    return np.stack([np.roll(z, -s) for z, s in zip(outlines, starts, strict=True)])


def _outline(region: np.ndarray) -> np.ndarray:
    numbered, count = label(region)
    largest = 1 + np.argmax(np.bincount(numbered.ravel(), minlength=count + 1)[1:])
    filled = np.pad(binary_fill_holes(numbered == largest), 1).astype(float)
    contour = max(find_contours(filled, 0.5), key=len) - 1
    return contour[:, 0] + 1j * contour[:, 1]


def _spread(closed: np.ndarray, points: int) -> np.ndarray:
    """Points at equal arc length on a closed line (its last point is its first)."""
    along = np.concatenate([[0], np.abs(np.diff(closed)).cumsum()])
    where = np.arange(points) * along[-1] / points
    return np.interp(where, along, closed.real) + 1j * np.interp(where, along, closed.imag)


def pose(shape: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    r"""Procrustes: ``(a, t)`` with :math:`\sum |a z + t - m|^2` least, over complex numbers."""
    z, m = shape - shape.mean(), target - target.mean()
    a = np.vdot(z, m) / np.vdot(z, z)
    return a, target.mean() - a * shape.mean()


def align(shape: np.ndarray, target: np.ndarray, rounds: int = 3) -> np.ndarray:
    """``shape`` with the start of each outline moved to where it corresponds to ``target``.

    Pose and starts are found in turn: given a pose, every start of an outline is tried.

    Args:
        shape: complex ``(organs, points)``.
        target: likewise, e.g. the mean shape.
        rounds: turns.
    """
    points = shape.shape[1]
    index = (np.arange(points)[:, None] + np.arange(points)) % points
    for _ in range(rounds):
        a, t = pose(shape, target)
        starts = shape[:, index]  # (organs, every start, points)
        cost = (np.abs(a * starts + t - target[:, None]) ** 2).sum(2)
        shape = starts[np.arange(len(shape)), cost.argmin(1)]
    return shape


def fill(shape: np.ndarray, organs: tuple[int, ...], size) -> np.ndarray:
    """Outlines ``(organs, points)`` painted into a mask of ``size``, the largest area first.

    What lies inside another organ is painted later, so that the ventricle stays visible within
    the filled outline of its wall. Outlines of neighbours do not know of each other; a sliver of
    background that they enclose goes to the nearest of them.
    """
    mask = np.zeros(size, np.int64)
    outlines = np.stack([shape.real, shape.imag], 2)
    y, x = outlines[..., 0], outlines[..., 1]
    area = np.abs((y * np.roll(x, 1, 1) - x * np.roll(y, 1, 1)).sum(1))
    for i in np.argsort(-area, kind="stable"):
        mask[polygon2mask(tuple(size), outlines[i])] = organs[i]
    sliver = binary_fill_holes(mask > 0) & (mask == 0)
    if sliver.any():
        nearest = distance_transform_edt(mask == 0, return_distances=False, return_indices=True)
        mask[sliver] = mask[tuple(nearest)][sliver]
    return mask
