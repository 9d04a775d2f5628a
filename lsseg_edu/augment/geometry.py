r"""Where each output pixel comes from: grids, and how images and labels follow them.

A grid ``(B, *S, D)`` holds, for every output pixel, the place in the input to read, as
:func:`torch.nn.functional.grid_sample` defines it: coordinates in ``x, y[, z]`` order (last
axis of ``*S`` first), with ``align_corners=False``, so that -1 and 1 are the outer *edges* of
the border pixels and pixel ``i`` of ``n`` has its centre at :math:`(2i + 1)/n - 1`. Outside,
the border pixel is repeated, in images and in labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.augment.smooth import full_precision, smooth_field, uniform


@full_precision
def random_affine(
    images: Tensor,
    generator: torch.Generator,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
    tilt: float = 0.0,
) -> Tensor:
    r"""Random affine maps from output to input, one for each image: ``(B, D, D + 1)``.

    :math:`x_\mathrm{in} = s\,R\,H\,x_\mathrm{out} + t` about the image centre, where pixels
    count as square: a rotation stays a rotation when the image is longer than wide.

    Args:
        images: ``(B, C, *S)``, for their size and device only.
        generator: on the device of ``images``.
        rotation: largest angle in the plane of the last two axes, in degrees.
        scale: largest ``|ln s|``: 0.25 is between 0.78 and 1.28 times the size.
        shear: largest entry of ``H`` off its diagonal.
        shift: largest ``|t|`` on each axis, as a fraction of the image's extent.
        tilt: in 3D, largest angle out of that plane, in degrees of voxel space.
    """
    size = images.shape[2:]
    dims = len(size)
    maps = _rotation(images, 0, 1, rotation, generator)
    for axis in range(2 if dims == 3 else 0):
        maps = maps @ _rotation(images, axis, 2, tilt, generator)
    pairs = torch.rand((len(images), dims, dims), generator=generator, device=images.device)
    maps = maps @ (torch.eye(dims, device=images.device) + ((2 * pairs - 1) * shear).triu(1))
    maps = maps * uniform(images, scale, generator).exp()[:, None, None]
    half = torch.tensor(size[::-1], device=images.device) / 2
    maps = maps * half / half[:, None]
    moves = torch.rand((len(images), dims, 1), generator=generator, device=images.device)
    return torch.cat([maps, 2 * (2 * moves - 1) * shift], dim=2)


def _rotation(images, i, j, degrees, generator):
    angle = torch.deg2rad(uniform(images, degrees, generator))
    turn = torch.eye(images.ndim - 2, device=images.device).repeat(len(images), 1, 1)
    turn[:, i, i] = turn[:, j, j] = angle.cos()
    turn[:, i, j], turn[:, j, i] = -angle.sin(), angle.sin()
    return turn


@full_precision
def affine_grid(maps: Tensor, size) -> Tensor:
    """The grid ``(B, *S, D)`` of affine maps ``(B, D, D + 1)``; ``size`` is ``*S``."""
    return F.affine_grid(maps, [len(maps), 1, *size], align_corners=False)


def elastic_displacement(
    images: Tensor, generator: torch.Generator, strength: float = 0.03, cells: int = 4
) -> Tensor:
    """A smooth random displacement ``(B, *S, D)``, to be added to a grid.

    Args:
        images: ``(B, C, *S)``, for their size and device only.
        generator: on the device of ``images``.
        strength: standard deviation of the control points, as a fraction of the image's extent.
            A cubic B-spline cannot fold while every point moves less than 0.4 of a cell (Choi
            and Lee 2000); with 4 cells that is a tenth of the image: 0.03 keeps 3 deviations.
        cells: control-point cells along each axis.
    """
    field = smooth_field(images, images.ndim - 2, cells, generator)
    return 2 * strength * field.movedim(1, -1)


def warp(images: Tensor, grid: Tensor) -> Tensor:
    """Read ``images (B, C, *S)`` at ``grid``, linearly; differentiable in both."""
    return F.grid_sample(images, grid, "bilinear", "border", align_corners=False)


def warp_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Read integer ``labels (B, *S)`` or ``(B, M, *S)`` at the nearest pixel of ``grid``.

    Values are moved, never computed with: any integer (255, instance numbers) survives.
    """
    size = grid.shape[1:-1]
    where = 0
    for axis, length in enumerate(size):
        place = ((grid[..., -1 - axis] + 1) * length - 1) / 2
        where = where * length + place.round().clamp(0, length - 1).long()
    flat = labels.reshape(len(labels), -1, where[0].numel())
    where = where.flatten(1)[:, None].expand_as(flat)
    return flat.gather(2, where).reshape(labels.shape)


def flip(
    images: Tensor, labels: Tensor, generator: torch.Generator, axis: int = -1, p: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Mirror each image and its labels along ``axis`` with probability ``p``.

    Not part of any preset: a mirrored body has its liver on the left.
    """
    flipped = torch.rand(len(images), generator=generator, device=images.device) < p
    images, labels = images.clone(), labels.clone()
    images[flipped] = images[flipped].flip(axis)
    labels[flipped] = labels[flipped].flip(axis)
    return images, labels


def crop(images: Tensor, labels: Tensor, size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A window of ``size`` at a place drawn for each image, the same for its labels.

    The place never depends on the labels: a crop that looks for the organ would leak it.

    Raises:
        ValueError: the window does not fit.
    """
    whole = images.shape[2:]
    if len(size) != len(whole) or any(s > w for s, w in zip(size, whole, strict=True)):
        raise ValueError(f"A crop of {tuple(size)} does not fit images of {tuple(whole)}.")
    for axis, (want, have) in enumerate(zip(size, whole, strict=True), start=-len(whole)):
        draw = torch.rand(len(images), generator=generator, device=images.device)
        start = (draw * (have - want + 1)).long().clamp(max=have - want)
        where = start[:, None] + torch.arange(want, device=images.device)
        images, labels = _take(images, where, axis), _take(labels, where, axis)
    return images, labels


def _take(values, where, axis):
    shape = [1] * values.ndim
    shape[0], shape[axis] = where.shape
    return values.take_along_dim(where.view(shape), axis)
