"""Smooth random fields: cubic B-splines over a few random control points."""

from __future__ import annotations

from functools import wraps

import torch
from torch import Tensor


def full_precision(function):
    """Run ``function(tensor, ...)`` in float32 even under autocast: half of a grid is blocks."""

    @wraps(function)
    def run(tensor, *args, **kwargs):
        with torch.autocast(tensor.device.type, enabled=False):
            return function(tensor, *args, **kwargs)

    return run


def bspline_matrix(size: int, cells: int, device=None) -> Tensor:
    r"""Cubic B-spline basis along one axis, ``(size, cells + 3)``; rows sum to 1.

    Pixel centres lie at :math:`t_i = (i + 1/2)\,\mathrm{cells} / \mathrm{size}`; column ``k``
    holds :math:`\beta^3(t_i - k + 1)`. With a matrix per axis, a field costs two or three small
    matrix products, in 2D and 3D alike.

    Source: Rueckert et al., *Nonrigid registration using free-form deformations*, 1999.
    """
    t = (torch.arange(size, device=device) + 0.5) * cells / size
    distance = (t[:, None] - torch.arange(-1, cells + 2, device=device)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


@full_precision
def smooth_field(images: Tensor, fields: int, cells: int, generator: torch.Generator) -> Tensor:
    """Smooth Gaussian fields ``(B, fields, *S)``: control points of standard deviation 1.

    Args:
        images: ``(B, C, *S)``, for their size and device only.
        fields: number of independent fields for each image.
        cells: control-point cells along each axis; the field bends about this often.
        generator: on the device of ``images``.
    """
    size = images.shape[2:]
    points = (len(images), fields, *(cells + 3 for _ in size))
    field = torch.randn(points, generator=generator, device=images.device)
    for axis, length in enumerate(size, start=2):
        basis = bspline_matrix(length, cells, images.device)
        field = (field.movedim(axis, -1) @ basis.T).movedim(-1, axis)
    return field


def uniform(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """One number for each image, ``(B,)``, uniform in ``[-strength, strength]``."""
    values = torch.rand(len(images), generator=generator, device=images.device)
    return (2 * values - 1) * strength


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Shape ``(B,)`` as ``(B, 1, 1, 1[, 1])``, to multiply images with it."""
    return values.view(-1, *(1,) * (images.ndim - 1))
