"""Boundary scribbles: a rough line around each object, and doubt on both sides of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lsseg_edu.data.annotate.components import (
    classes,
    components,
    largest,
    planes,
    signed_distance,
    smooth_noise,
)
from lsseg_edu.data.annotate.cost import SECONDS, count_objects
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import Task


def boundary_scribbles(task: Task, rough: float = 1.0, band: float = 1.5, seed: int = 0) -> Task:
    """Leave rough contours of the masks: see :func:`draw_contours`.

    ``extras["contours"]``, ``(N, *S)``, holds the lines themselves: the class on its contour,
    :data:`IGNORE` elsewhere.
    Cost: 20 s an object: our estimate, a quarter of an exact outline.

    Raises:
        ValueError: negative ``rough`` or ``band``, no dense masks to start from.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.boundary_scribbles(Task.split(load("lesions"), labelled=5))
    """
    index, labels, _ = dense(task)
    known, lines = draw_contours(labels, rough, band, seed)
    seconds = SECONDS["contour"] * count_objects(labels)
    return give(task, index, known, "boundary scribbles", seconds, contours=lines)


def draw_contours(
    labels: Tensor, rough: float = 1.0, band: float = 1.5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Contour each foreground class of masks ``(B, *S)`` roughly, plane by plane.

    The contour of class k is the zero line of phi_k + rough * n, with phi_k the signed distance
    to the class (positive inside) and n smooth noise of standard deviation 1. Pixels within
    ``band`` of a contour are uncertain; beyond it, they are of class k inside the contour and
    background outside all of them. In an object too thin for that the band takes 0.6 of its half
    width, so that a core is left. Where ``rough`` exceeds ``band`` some certain pixels are wrong.

    Args:
        labels: dense masks.
        rough: standard deviation of the contour from the true boundary, in pixels.
        band: half width of the uncertain band, in pixels.
        seed: of the noise.

    Returns:
        Labels ``(B, *S)``, :data:`IGNORE` where uncertain, and the lines ``(B, *S)``: the class
        on its contour, :data:`IGNORE` elsewhere.
    """
    if rough < 0 or band < 0:
        raise ValueError(f"rough and band must not be negative, not {rough} and {band}.")
    rng, flat = np.random.default_rng(seed), planes(labels)
    known, lines = np.zeros_like(flat), np.full_like(flat, IGNORE)
    doubt = flat == IGNORE
    for k in classes(flat):
        if k > 0:
            inside = signed_distance(flat == k) + rough * smooth_noise(flat.shape, 4, rng) > 0
            away = signed_distance(inside)
            number = components(inside)
            width = np.minimum(band, 0.6 * largest(away, number)[number])
            doubt |= (away <= width) & (away >= -band) | (inside & (known > 0))
            known[inside] = k
            lines[(away > 0) & (away < 1)] = k
    known[doubt] = IGNORE
    return tuple(torch.from_numpy(part).view(labels.shape) for part in (known, lines))
