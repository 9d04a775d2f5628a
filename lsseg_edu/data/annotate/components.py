"""Connected components, depths and smooth noise of whole stacks of masks at once."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data.cohort import IGNORE


def planes(labels: Tensor) -> np.ndarray:
    """Masks ``(B, H, W)`` or ``(B, D, H, W)`` as a stack of planes ``(P, H, W)``.

    Annotators draw in planes: a volume is ``D`` drawings, cut across its first axis.
    """
    labels = labels.cpu().numpy()
    return labels.reshape(-1, *labels.shape[-2:])


def classes(labels: np.ndarray) -> list[int]:
    """The classes that ``labels`` shows, background included, :data:`IGNORE` left out."""
    return [int(k) for k in np.unique(labels) if k != IGNORE]


def components(mask: np.ndarray) -> np.ndarray:
    """Number the connected components of ``mask (B, *S)``; items of the batch never connect.

    Pixels that touch at a corner are connected.
    """
    structure = np.zeros((3,) * mask.ndim, int)
    structure[1] = 1
    return ndimage.label(mask, structure)[0]


def objects(
    labels: np.ndarray, k: int, smallest: float = 0.1, instances: np.ndarray | None = None
) -> np.ndarray:
    """Number the objects of class ``k`` in ``labels (B, *S)`` from 1; 0 elsewhere.

    An object is an instance where ``instances (B, *S)`` (0 = none) are known, else a connected
    component. Objects smaller than ``smallest`` times the largest of the same item are left out:
    nobody scribbles on each speck of a class.
    """
    mask = labels == k
    number = components(mask) if instances is None or k == 0 else _apart(instances) * mask
    sizes = np.bincount(number.ravel())
    sizes[0] = 0
    size = sizes[number].reshape(len(labels), -1)
    enough = (size > 0) & (size >= smallest * size.max(1, keepdims=True))
    kept = np.zeros(len(sizes), bool)
    kept[number[enough.reshape(number.shape)]] = True
    return np.cumsum(kept)[number] * kept[number]


def _apart(instances: np.ndarray) -> np.ndarray:
    """Instance numbers ``(B, *S)`` that no two items share; 0 stays 0."""
    item = np.arange(len(instances)).reshape(-1, *[1] * (instances.ndim - 1))
    return np.where(instances > 0, instances + item * instances.max(), 0)


def whole(mask: np.ndarray) -> np.ndarray:
    """Number ``mask (B, *S)`` as one object per item, however many parts it has."""
    return mask * np.arange(1, len(mask) + 1).reshape(-1, *[1] * (mask.ndim - 1))


def depth(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of ``mask (B, *S)`` to the nearest pixel outside it, 0 outside.

    What lies beyond the image counts as outside, so the deepest pixel is a centre.
    """
    inner = (slice(1, -1),) * (mask.ndim - 1)
    return np.stack([ndimage.distance_transform_edt(np.pad(m, 1))[inner] for m in mask])


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of ``mask (B, *S)`` to the boundary, positive inside.

    Boundaries lie between pixels, half a pixel from both; the image's border is none. An item
    that is all inside, or all outside, is as far from any boundary as the image is wide.
    """
    far, out = float(sum(mask.shape[1:])), np.empty(mask.shape, np.float32)
    for m, d in zip(mask, out, strict=True):
        if m.any() and not m.all():
            inner, outer = ndimage.distance_transform_edt(m), ndimage.distance_transform_edt(~m)
            d[...] = np.where(m, inner - 0.5, 0.5 - outer)
        else:
            d[...] = far if m.any() else -far
    return out


def largest(value: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Largest ``value`` of each numbered object (entry 0: of the rest, at least 0)."""
    top = np.zeros(number.max() + 1)
    np.maximum.at(top, number.ravel(), value.ravel())
    return top


def smooth_noise(shape, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise ``(B, *S)`` of mean 0 and standard deviation 1, ``scale`` pixels coarse."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0, *[scale] * (len(shape) - 1)), mode="wrap")
    return noise / noise.std()


def best(score: np.ndarray, number: np.ndarray, n: int = 1) -> np.ndarray:
    """Coordinates ``(M, 1 + dims)`` of the ``n`` best-scored pixels of each numbered object.

    Rows are ordered by object, then by falling score; an object of fewer pixels gives them all.
    """
    where = np.flatnonzero(number)
    group, value = number.ravel()[where], score.ravel()[where]
    value = value / (2 * np.abs(value).max(initial=1e-9))  # within +-0.5: groups stay apart
    order = np.argsort(group - value, kind="stable")
    group = group[order]
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    rank = np.arange(len(group)) - np.repeat(first, np.diff(np.r_[first, len(group)]))
    return np.stack(np.unravel_index(where[order[rank < n]], number.shape), 1)


def padded(rows: np.ndarray, items: int) -> Tensor:
    """Rows ``(item, ...)`` as ``(items, M, ...)``, padded with -1 to the longest list."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    count = np.bincount(rows[:, 0], minlength=items)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    table = np.full((items, max(count.max(), 1), rows.shape[1] - 1), -1)
    table[rows[:, 0], rank] = rows[:, 1:]
    return torch.from_numpy(table)
