"""A level set that stays one: contours that move smoothly, and never need to be redrawn."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def level_set(
    inside: Tensor,
    images: Tensor,
    steps: int = 20,
    length: float = 0.5,
    regular: float = 0.2,
    width: float = 1.5,
) -> Tensor:
    r"""Move the contour :math:`\phi = 0` towards where ``inside`` says, shortly and along edges.

    .. math::
        \frac{\partial \phi}{\partial t} = \mu\, \mathrm{div}\big(d(|\nabla\phi|) \nabla\phi\big)
        + \delta(\phi) \Big[\nu\, \mathrm{div}\Big(g \frac{\nabla\phi}{|\nabla\phi|}\Big)
        + \ln\frac{q}{1 - q}\Big], \qquad g = \frac{1}{1 + |\nabla x|^2}

    The first term keeps :math:`|\nabla\phi|` at 1 near the contour and lets it be 0 far away
    (:math:`d(s) = 1 - 1/s` for :math:`s \ge 1`, else :math:`\sin(2\pi s) / (2\pi s)`): without it
    :math:`\phi` degenerates into cliffs. The second shortens the contour, less so at the
    image's edges; the third moves it outwards where the probability :math:`q` is above a half.

    Args:
        inside: ``(B, *S)``, :math:`q`.
        images: ``(B, C, *S)``.
        steps: of size 1.
        length: :math:`\nu`.
        regular: :math:`\mu`; at most 0.25, or the scheme is not stable.
        width: of the smoothed delta function in pixels; Li's 1.5.

    Returns:
        :math:`\phi`, ``(B, *S)``, positive inside.

    Reference: Li, Xu, Gui, Fox, "Distance Regularized Level Set Evolution and Its Application to
    Image Segmentation", IEEE TIP 2010; with a term for probabilities and clicks: Wang G. et al.,
    MICCAI 2020.
    """
    dims = inside.ndim - 1
    edge = 1 / (1 + sum(g.square().sum(1) for g in gradient(images, dims)))
    force = inside.double().clamp(0.02, 0.98).logit()
    phi = torch.where(inside > 0.5, 2.0, -2.0).double()
    for _ in range(steps):
        slope = gradient(phi, dims)
        steep = sum(g.square() for g in slope).sqrt().clamp(min=1e-8)
        unit = [g / steep for g in slope]
        near = phi.abs() < width
        delta = near * (1 + torch.cos(math.pi * phi / width)) / (2 * width)
        move = delta * (length * divergence([edge * u for u in unit]) + force)
        phi = phi + regular * divergence([pull(steep) * g for g in slope]) + move
    return phi.to(inside.dtype)


def pull(steep: Tensor) -> Tensor:
    """The double-well diffusion rate ``d(|grad phi|)``: 0 at 1, and 1 at 0."""
    return torch.where(steep > 1, 1 - 1 / steep, torch.sinc(2 * steep))


def gradient(values: Tensor, dims: int) -> list[Tensor]:
    """Central differences along the last ``dims`` axes."""
    return list(torch.gradient(values, dim=tuple(range(-dims, 0))))


def divergence(field: list[Tensor]) -> Tensor:
    """Sum of the differences of each component along its own axis."""
    axes = range(-len(field), 0)
    return sum(torch.gradient(f, dim=axis)[0] for f, axis in zip(field, axes, strict=True))
