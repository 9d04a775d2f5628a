"""Plausibility: whether a mask could be anatomy at all, whatever Dice says of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort


@dataclass(frozen=True)
class Rules:
    """What the masks of a cohort obey; learnt from true masks, and plain data afterwards.

    Attributes:
        names: the ``K`` class names.
        pieces: ``(K,)`` most connected pieces of each class. Pixels that touch at a corner
            belong to one piece.
        holes: ``(K,)`` most holes: parts of the rest of the image that the class encloses. The
            myocardium's one hole is the ventricle.
        apart: pairs of classes that never touch (pixels with a side in common).
    """

    names: tuple[str, ...]
    pieces: tuple[int, ...]
    holes: tuple[int, ...]
    apart: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, labels: Tensor, names, tolerance: float = 0.02) -> Rules:
        """The strictest rules that at most ``tolerance`` of the masks break, each.

        A rule that anatomy itself breaks now and then is no rule: the bound is raised, or the
        pair left out, until nearly all true masks obey.

        Args:
            labels: complete masks ``(N, *S)``.
            names: the ``K`` class names.
            tolerance: largest share of the masks that may break one rule; a slice cut at an
                odd place, a pixel lost to resampling.

        Raises:
            ValueError: no mask, or masks with pixels that nobody annotated.

        Example:
            >>> from lsseg_edu.data import load
            >>> cohort = load("cardiac")
            >>> rules = Rules.of(cohort.labels, cohort.names)
            >>> rules.pieces, rules.holes, rules.apart
            ((1, 1, 1, 1), (1, 0, 1, 0), ((0, 3), (1, 3)))
        """
        if len(labels) == 0:
            raise ValueError("Rules need at least one true mask to be learnt from.")
        if bool((labels == IGNORE).any()):
            raise ValueError("Rules are learnt from complete masks: leave partial ones out.")
        names, counts = tuple(names), np.array
        pieces, holes, touch = (counts(m) for m in measure(labels, len(names)))
        allowed = int(tolerance * len(labels))
        bound = [np.sort(m, 0)[::-1][min(allowed, len(m) - 1)] for m in (pieces, holes)]
        pairs = combinations(range(len(names)), 2)
        apart = tuple((a, b) for a, b in pairs if touch[:, a, b].sum() <= allowed)
        return cls(names, *(tuple(map(int, b)) for b in bound), apart)

    @property
    def sentences(self) -> list[str]:
        """The rules in words, in the order of :meth:`broken`."""
        said = [f"{n}: at most {p} piece(s)" for n, p in zip(self.names, self.pieces, strict=True)]
        said += [f"{n}: at most {h} hole(s)" for n, h in zip(self.names, self.holes, strict=True)]
        return said + [f"{self.names[a]} does not touch {self.names[b]}" for a, b in self.apart]

    def broken(self, labels: Tensor) -> Tensor:
        """Which mask breaks which rule: boolean ``(N, rules)``.

        Raises:
            ValueError: labels that are none of the classes.
        """
        pieces, holes, touch = measure(labels, len(self.names))
        pairs = np.array(self.apart, int).reshape(-1, 2)
        parts = [pieces > np.array(self.pieces), holes > np.array(self.holes)]
        return torch.from_numpy(np.concatenate([*parts, touch[:, pairs[:, 0], pairs[:, 1]]], 1))


def implausible(predicted: Tensor, cohort: Cohort, rules: Rules | None = None) -> float:
    """The fraction of masks that break at least one rule.

    An empty mask breaks none: read this number beside Dice, never instead of it.

    Args:
        predicted: classes ``(N, *S)``.
        cohort: the images' cohort; only its names and masks are used.
        rules: by default those that the cohort's own true masks obey.

    Raises:
        ValueError: a prediction of another shape than the masks, or with other classes.
    """
    if predicted.shape != cohort.labels.shape:
        raise ValueError(
            f"The prediction has shape {tuple(predicted.shape)}, the masks "
            f"{tuple(cohort.labels.shape)}."
        )
    rules = rules or Rules.of(cohort.labels, cohort.names)
    return float(rules.broken(predicted).any(1).float().mean())


def measure(labels: Tensor, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pieces ``(N, K)``, holes ``(N, K)`` and who touches whom ``(N, K, K)`` of each mask.

    The whole batch is one array of one more axis, along which nothing is connected.

    Raises:
        ValueError: labels that are none of the classes.
    """
    masks = labels.cpu().numpy()
    if masks.size and (masks.min() < 0 or masks.max() >= classes):
        raise ValueError(f"Masks must have classes 0 to {classes - 1} only, not {masks.max()}.")
    dims = masks.ndim - 1
    border = [(0, 0), *[(1, 1)] * dims]
    pieces, holes = (np.zeros((len(masks), classes), int) for _ in range(2))
    for k in range(classes):
        pieces[:, k] = _pieces(masks == k, dims)
        rest = np.pad(masks != k, border, constant_values=True)
        holes[:, k] = _pieces(rest, 1) - 1  # the rest outside is one piece, thanks to the border
    return pieces, holes, _touching(masks, classes)


def _pieces(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Connected pieces of each item of ``(N, *S)``."""
    structure = np.zeros((3,) * mask.ndim, bool)
    structure[1] = ndimage.generate_binary_structure(mask.ndim - 1, connectivity)
    numbered, count = ndimage.label(mask, structure)
    owner = np.zeros(count + 1, int)
    owner[numbered] = np.arange(len(mask)).reshape(-1, *[1] * (mask.ndim - 1))
    return np.bincount(owner[1:], minlength=len(mask))


def _touching(masks: np.ndarray, classes: int) -> np.ndarray:
    """Boolean, symmetric ``(N, K, K)``: classes of which two pixels share a side."""
    touch = np.zeros((len(masks), classes, classes), bool)
    item = np.arange(len(masks)).reshape(-1, *[1] * (masks.ndim - 1))
    for axis in range(1, masks.ndim):
        here, there = np.delete(masks, -1, axis), np.delete(masks, 0, axis)
        touch[np.broadcast_to(item, here.shape), here, there] = True
    return touch | touch.transpose(0, 2, 1)
