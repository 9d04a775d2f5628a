r"""Smooth, invertible motion: from a velocity to a displacement, and how much it squeezes.

Displacements ``(B, *S, D)`` are counted like the grids of :mod:`lsseg_edu.augment.geometry`
(``x, y[, z]``, the image is 2 wide), so that ``warp(images, displaced(u))`` moves an image by
``u``: the output at :math:`x` is the input at :math:`x + u(x)`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.augment.geometry import affine_grid, warp
from lsseg_edu.augment.smooth import full_precision


def displaced(displacement: Tensor) -> Tensor:
    """The grid ``x + u(x)`` of a displacement ``(B, *S, D)``, to be read with ``warp``."""
    dims = displacement.shape[-1]
    still = torch.eye(dims, dims + 1, device=displacement.device)
    grid = affine_grid(still.expand(len(displacement), -1, -1), displacement.shape[1:-1])
    return grid + displacement


@full_precision
def compose(first: Tensor, second: Tensor) -> Tensor:
    r"""Displacement of warping with ``first``, then with ``second``.

    :math:`w(x) = v(x) + u(x + v(x))` for ``first`` :math:`u` and ``second`` :math:`v`: the second
    warp reads the first one's output.
    """
    return second + warp(first.movedim(-1, 1), displaced(second)).movedim(1, -1)


@full_precision
def integrate(velocity: Tensor, steps: int = 6) -> Tensor:
    r"""The displacement of a stationary velocity: :math:`\exp(v)` by scaling and squaring.

    :math:`\exp(v) = \exp(v / 2^n)^{2^n}`: a motion ``2**steps`` times smaller is nearly
    :math:`x + v / 2^n`; composing it with itself ``steps`` times gives the whole. The result can
    be undone: :math:`\exp(-v)` is its inverse.

    Args:
        velocity: ``(B, *S, D)`` in units of the grid.
        steps: squarings; 6 are enough while ``v`` stays below a quarter of the image.

    Reference: Arsigny, Commowick, Pennec, Ayache, "A Log-Euclidean Framework for Statistics on
    Diffeomorphisms", MICCAI 2006.
    """
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


@full_precision
def jacobian(displacement: Tensor) -> Tensor:
    r"""Determinant of :math:`\partial (x + u) / \partial x`, ``(B, *S)`` less one along each axis.

    Forward differences, in pixels: 1 is no change of volume, below 1 shrinking of what is read,
    0 and less a fold, where two places of the output read the same place of the input in the
    wrong order.
    """
    size, dims = displacement.shape[1:-1], displacement.shape[-1]
    pixels = displacement * torch.tensor(size[::-1], device=displacement.device) / 2
    columns = []
    for axis in range(dims, 0, -1):  # of the tensor: x is the last in space
        step = pixels.diff(dim=axis)
        for other in range(1, dims + 1):
            step = step.narrow(other, 0, size[other - 1] - 1)
        columns.append(step)
    return torch.linalg.det(torch.stack(columns, -1) + torch.eye(dims, device=pixels.device))


def folded(displacement: Tensor) -> float:
    """The fraction of places where a displacement folds (Jacobian determinant not positive)."""
    return float((jacobian(displacement) <= 0).float().mean())
