"""Several raters: each sees another boundary, and not for the same reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data.annotate.components import (
    classes,
    components,
    planes,
    signed_distance,
    smooth_noise,
)
from lsseg_edu.data.annotate.cost import mask_seconds
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import Task


@dataclass(frozen=True)
class Style:
    """How a rater errs; lengths in pixels.

    Attributes:
        bias: how far boundaries to the background move, outwards if positive.
        ragged: standard deviation of the boundary's noise.
        coarse: scale of that noise along the boundary.
        shift: how far everything moves, in a direction of the rater's own.
        miss: a component of ``a`` pixels is overlooked with probability exp(-a / miss).
    """

    bias: float = 0.0
    ragged: float = 0.3
    coarse: float = 3.0
    shift: float = 0.0
    miss: float = 0.0


STYLES = {
    "careful": Style(),
    "generous": Style(bias=1.0),
    "tight": Style(bias=-1.0),
    "hasty": Style(ragged=1.2, coarse=2.0),
    "shifted": Style(shift=2.0),
    "overlooking": Style(miss=20.0),
}
"""Raters one meets: the sizes are ours, chosen for images of about 64 pixels."""


def raters(
    task: Task, styles: tuple[str | Style, ...] = ("generous", "tight", "hasty"), seed: int = 0
) -> Task:
    """Replace the masks by those of several raters: see :func:`rate`.

    ``extras["raters"]``, ``(N, R, *S)``, holds each rater's masks, in the order of ``styles``.
    The labels are their majority vote (in a tie, the smallest class number).
    Cost: R times the full masks, 79 s an object (Lin et al., ECCV 2014).

    Raises:
        ValueError: no rater, an unknown style, no dense masks to start from.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.raters(Task.split(load("cardiac"), 10), ("careful", "hasty"))
        >>> task.train.extras["raters"].shape[1]
        2
    """
    index, labels, instances = dense(task)
    if len(styles) == 0:
        raise ValueError("Name at least one rater's style.")
    drawn = torch.stack([rate(labels, s, seed + 1000 * i) for i, s in enumerate(styles)], 1)
    seconds = len(styles) * mask_seconds(labels, instances)
    return give(task, index, drawn.mode(1).values, "raters", seconds, raters=drawn)


def rate(labels: Tensor, style: str | Style = "hasty", seed: int = 0) -> Tensor:
    """Segment masks ``(B, *S)`` as a rater of this style would, plane by plane.

    Each pixel goes to the class of largest s_k: the signed distance phi_k to class k, plus twice
    the bias and the rater's smooth noise for the foreground classes. At a boundary to the
    background phi_k = -phi_0, so bias and noise move it by just as many pixels; boundaries
    between two organs move by noise only. Pixels of :data:`IGNORE` stay.

    Args:
        labels: dense masks.
        style: a key of :data:`STYLES`, or a :class:`Style`.
        seed: of the noise, the direction of the shift and what is overlooked.

    Raises:
        ValueError: an unknown style.
    """
    if isinstance(style, str) and style not in STYLES:
        raise ValueError(f"There is no style {style!r}; there are {', '.join(STYLES)}.")
    style = STYLES[style] if isinstance(style, str) else style
    rng, flat = np.random.default_rng(seed), planes(labels)
    seen = _overlook(flat, style.miss, rng)
    angle = rng.uniform(0, 2 * np.pi)
    offset = style.shift * np.array([0, np.sin(angle), np.cos(angle)])
    seen = ndimage.shift(seen, offset, order=0, mode="nearest")
    seen = _redraw(seen, style, rng)
    return torch.from_numpy(np.where(flat == IGNORE, IGNORE, seen)).view(labels.shape)


def _redraw(flat: np.ndarray, style: Style, rng) -> np.ndarray:
    """The class of largest biased and noisy signed distance."""
    best, winner = np.full(flat.shape, -np.inf), np.zeros_like(flat)
    for k in classes(flat):
        score = signed_distance(flat == k)
        if k > 0:
            noise = smooth_noise(flat.shape, style.coarse, rng)
            score = score + 2 * (style.bias + style.ragged * noise)
        winner = np.where(score > best, k, winner)
        best = np.maximum(score, best)
    return winner


def _overlook(flat: np.ndarray, miss: float, rng) -> np.ndarray:
    """Turn components into background, the small ones more often."""
    flat = flat.copy()
    for k in classes(flat) if miss else ():
        number = components(flat == k)
        sizes = np.bincount(number.ravel())
        gone = rng.random(len(sizes)) < np.exp(-sizes / miss)
        gone[0] = False
        flat[gone[number] & (k > 0)] = 0
    return flat
