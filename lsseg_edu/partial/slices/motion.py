"""From plane to plane: neighbours are registered, and labels travel along the motion."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.augment import compose, displaced, integrate, warp
from lsseg_edu.augment.smooth import bspline_matrix
from lsseg_edu.partial.slices.completion import known_planes
from lsseg_edu.semi.priors.registration import alignment

SQUARINGS = 4
"""Of a velocity between neighbouring planes: it is small, so 16 parts of it are enough."""


class Motion(NamedTuple):
    """Displacements between neighbouring planes, each ``(B, D - 1, H, W, 2)``.

    Attributes:
        up: entry ``i`` reads plane ``i`` so that it looks like plane ``i + 1``.
        down: entry ``i`` reads plane ``i + 1`` so that it looks like plane ``i``.
    """

    up: Tensor
    down: Tensor


def plane_motion(
    volumes: Tensor, cells: int = 6, steps: int = 20, rate: float = 0.03, bending: float = 0.01
) -> Motion:
    r"""Register every plane of every volume to the next one, all pairs in one batch.

    .. math::
        v_i = \arg\min_v\; 1 - \mathrm{LNCC}(x_i \circ \exp(v), x_{i+1})
              + \lambda \int \lVert \nabla^2 v \rVert^2

    Free-form deformation: :math:`v` is a cubic B-spline over a few control points, found by
    descent (Adam) for each pair. Nothing is learnt, no label is looked at. The way back is
    :math:`\exp(-v)`, so it costs nothing.

    Args:
        volumes: ``(B, C, D, H, W)``.
        cells: control-point cells along each axis: a cell is 5 pixels of an image of 32.
        steps: of the descent.
        rate: of the descent; in units of the grid, half a pixel of an image of 32.
        bending: :math:`\lambda`, that of :class:`~lsseg_edu.semi.priors.Registration`.

    Raises:
        ValueError: a single plane, or slices instead of volumes.

    Reference: Rueckert, Sonoda, Hayes, Hill, Leach, Hawkes, "Nonrigid registration using free-form
    deformations", TMI 1999; the way back: Arsigny et al., as :func:`lsseg_edu.augment.integrate`.
    """
    if volumes.ndim != 5 or volumes.shape[2] < 2:
        raise ValueError(
            f"Volumes are (B, C, D, H, W) with at least two planes, not {tuple(volumes.shape)}."
        )
    moving, fixed = (planes(part) for part in (volumes[:, :, :-1], volumes[:, :, 1:]))
    velocity = register(moving, fixed, cells, steps, rate, bending)
    pairs = (len(volumes), volumes.shape[2] - 1)
    return Motion(*(integrate(v, SQUARINGS).unflatten(0, pairs) for v in (velocity, -velocity)))


def register(moving: Tensor, fixed: Tensor, cells, steps, rate, bending) -> Tensor:
    """Velocities ``(N, H, W, 2)`` between images ``(N, C, H, W)``, each pair for itself."""
    bases = [bspline_matrix(n, cells, moving.device) for n in moving.shape[2:]]
    shape = (len(moving), 2, cells + 3, cells + 3)
    points = torch.zeros(shape, device=moving.device, requires_grad=True)
    optimiser = torch.optim.Adam([points], lr=rate)
    with torch.enable_grad():
        for _ in range(steps):
            velocity = spline(points, bases)
            moved = warp(moving, displaced(integrate(velocity, SQUARINGS)))
            loss = len(moving) * sum(alignment(moved, fixed, velocity, bending).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return spline(points.detach(), bases)


def spline(points: Tensor, bases: list[Tensor]) -> Tensor:
    """The field ``(N, H, W, 2)`` of control points ``(N, 2, h, w)``."""
    return (bases[0] @ points @ bases[1].T).movedim(1, -1)


def planes(volumes: Tensor) -> Tensor:
    """``(B, C, D, H, W)`` as images ``(B D, C, H, W)``."""
    return volumes.movedim(2, 1).flatten(0, 1)


def propagate(labels: Tensor, classes: int, motion: Motion) -> tuple[Tensor, Tensor]:
    r"""Carry the labelled planes through the volume, one plane at a time.

    The motions are composed on the way and the mask is read once, so it does not blur with the
    distance. A plane between two labelled ones hears from both, the nearer one louder:
    :math:`q = (q_1 / d_1 + q_2 / d_2) / (1 / d_1 + 1 / d_2)`. Half-way the one before it has a
    slight edge, so that a draw of two classes does not always go to the lower number.

    Args:
        labels: ``(B, D, H, W)``, whole planes labelled, IGNORE in the others.
        classes: ``K``.
        motion: of :func:`plane_motion`.

    Returns:
        Soft labels ``(B, K, D, H, W)`` and the distance ``(B, D)`` to the nearest labelled
        plane, in planes.

    Raises:
        ValueError: a volume without a labelled plane.
    """
    known = known_planes(labels)
    if not known.any(1).all():
        empty = int((~known.any(1)).nonzero()[0])
        raise ValueError(f"Volume {empty} has no labelled plane to start from: label one in it.")
    masks = F.one_hot(labels.where(known[..., None, None], 0), classes)
    masks = masks.permute(1, 0, 4, 2, 3).float()  # (D, B, K, H, W)
    known = known.T
    up, near_up = sweep(masks, known, motion.up.transpose(0, 1))
    back = motion.down.transpose(0, 1).flip(0)
    down, near_down = (x.flip(0) for x in sweep(masks.flip(0), known.flip(0), back))
    closeness = torch.stack([near_up, near_down + 1e-3]).clamp(min=1e-3).reciprocal()
    share = (closeness / closeness.sum(0))[..., None, None, None]
    soft = share[0] * up + share[1] * down
    soft = torch.where(known[..., None, None, None], masks, soft)
    return soft.permute(1, 2, 0, 3, 4), torch.minimum(near_up, near_down).T


def sweep(masks: Tensor, known: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """From the first plane to the last: masks ``(D, B, K, H, W)`` and planes since a known one.

    The distance is infinite before the first known plane.
    """
    source, moved = masks[0], torch.zeros_like(motion[0])
    distance = torch.full(known.shape[1:], torch.inf, device=masks.device)
    answers, distances = [], []
    for i in range(len(masks)):
        if i > 0:
            moved, distance = compose(moved, motion[i - 1]), distance + 1
        here = known[i].view(-1, 1, 1, 1)
        source, moved = torch.where(here, masks[i], source), torch.where(here, 0.0, moved)
        distance = distance.masked_fill(known[i], 0.0)
        answers.append(warp(source, displaced(moved)))
        distances.append(distance)
    return torch.stack(answers), torch.stack(distances)
