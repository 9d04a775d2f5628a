"""What scanners do to intensities. Nothing moves, so labels are not touched.

Every function draws its own parameters for each image of ``(B, C, *S)`` from ``generator`` (on
the images' device). Images may have mean 0: where physics multiplies, each image and channel is
first counted from its own minimum, so that the empty background stays what it was.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from lsseg_edu.augment.smooth import full_precision, per_image, smooth_field, uniform


def gamma(images: Tensor, generator: torch.Generator, strength: float = 0.4) -> Tensor:
    r"""Bend the grey scale: :math:`x \mapsto x^g` on each channel's range scaled to [0, 1].

    The range is put back afterwards: minimum and maximum stay.

    Args:
        images: ``(B, C, *S)``.
        generator: source of :math:`\ln g`, uniform in ``[-strength, strength]``.
        strength: 0.4 is a :math:`g` between 0.67 and 1.49.
    """
    low, span = _range(images)
    power = per_image(uniform(images, strength, generator).exp(), images)
    unit = ((images - low) / span).clamp(1e-6, 1)  # the slope of x^g at 0 is infinite for g < 1
    return unit**power * span + low


def contrast(images: Tensor, generator: torch.Generator, strength: float = 0.3) -> Tensor:
    r"""Stretch about the mean and shift: :math:`x \mapsto a (x - \bar x) + \bar x + b\sigma`.

    Args:
        images: ``(B, C, *S)``; mean :math:`\bar x` and deviation :math:`\sigma` per channel.
        generator: source of :math:`\ln a` and :math:`b`, uniform in ``[-strength, strength]``.
        strength: 0.3 is an :math:`a` between 0.74 and 1.35.
    """
    axes = tuple(range(2, images.ndim))
    std, mean = torch.std_mean(images, axes, keepdim=True)
    stretch = per_image(uniform(images, strength, generator).exp(), images)
    shift = per_image(uniform(images, strength, generator), images)
    return (images - mean) * stretch + mean + shift * std


def bias_field(
    images: Tensor, generator: torch.Generator, strength: float = 0.3, cells: int = 2
) -> Tensor:
    r"""Multiply by a smooth positive field :math:`e^{f}`, as an uneven receive coil does.

    Args:
        images: ``(B, C, *S)``; all channels get the same field.
        generator: source of the control points of :math:`f`.
        strength: standard deviation of the control points of :math:`f`.
        cells: control-point cells along each axis; coils are smooth, so few.
    """
    low, _ = _range(images)
    return (images - low) * (strength * smooth_field(images, 1, cells, generator)).exp() + low


def noise(images: Tensor, generator: torch.Generator, strength: float = 0.2) -> Tensor:
    """Add Gaussian noise whose deviation is uniform in ``[0, strength]`` (image deviations)."""
    level = per_image(uniform(images, strength, generator).abs(), images)
    grain = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return images + level * grain


@full_precision
def blur(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Gaussian blur whose deviation is uniform in ``[0, strength]`` pixels.

    One matrix product along each axis: rows are Gaussians cut at the border and normalised.
    """
    sigma = uniform(images, strength, generator).abs()
    for axis in range(2, images.ndim):
        place = torch.arange(images.shape[axis], device=images.device)
        distance = (place[:, None] - place).square()
        kernel = torch.exp(-distance / (2 * sigma.square() + 1e-6)[:, None, None])
        kernel = kernel / kernel.sum(2, keepdim=True)
        lines = images.reshape(len(images), -1, len(place), prod(images.shape[axis + 1 :]))
        images = torch.einsum("bij,bpjq->bpiq", kernel, lines).reshape(images.shape)
    return images


def _range(images):
    axes = tuple(range(2, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return low, (high - low).clamp(min=1e-8)
