"""A part of the image is hidden; its labels stay, so the rest has to tell what was there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsseg_edu.augment.smooth import per_image


def erase(
    images: Tensor,
    generator: torch.Generator | None = None,
    p: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: float = 0.3,
    noise: bool = True,
) -> Tensor:
    r"""Random Erasing: a rectangle of random size and shape is filled with noise, or the mean.

    With probability ``p`` an image loses a share :math:`a` of its area, uniform between the two
    given. The sides are :math:`\sqrt{a r}` and :math:`\sqrt{a / r}`, :math:`\ln r` uniform among
    the aspects that fit. In 3D all sides are :math:`\sqrt[3]{a}` first, then the last two are
    stretched by :math:`\sqrt{r}` and its inverse. The place is uniform, inside the image.

    Args:
        images: ``(B, C, *S)``; not changed. No label is an argument: none is touched.
        generator: on the device of ``images``; by default the global random state.
        p: the paper's 0.5.
        area: least and largest :math:`a` (paper 0.02 and 0.4).
        aspect: least :math:`r`; its inverse is the largest (paper 0.3).
        noise: fill with noise of each channel's mean and deviation; if not, with its mean.

    Raises:
        ValueError: an area or an aspect outside (0, 1].

    Reference: Zhong, Zheng, Kang, Li, Yang, "Random Erasing Data Augmentation", AAAI 2020.
    Simplified: Gaussian noise about the image's mean instead of uniform bytes.
    """
    if not (0 < area[0] <= area[1] <= 1 and 0 < aspect <= 1):
        raise ValueError(f"area {area} and aspect {aspect} must lie in (0, 1], area in order.")
    size, count = images.shape[2:], len(images)
    draws = torch.rand(3 + len(size), count, generator=generator, device=images.device)
    share = area[0] + (area[1] - area[0]) * draws[0]
    side = share ** (1 / len(size))
    widest = (-2 * side.log()).clamp(max=-math.log(aspect))  # of ln r: no side above 1
    stretch = ((2 * draws[1] - 1) * widest / 2).exp()
    sides = torch.stack([side] * (len(size) - 2) + [side * stretch, side / stretch], 1)
    length = (sides * torch.tensor(size, device=images.device)).round().clamp(min=1)
    room = torch.tensor(size, device=images.device) - length
    start = (draws[3:].T * (room + 1)).floor()
    hidden = rectangle(images, start, start + length) & per_image(draws[2] < p, images)
    return torch.where(hidden, _filling(images, noise, generator), images)


def cutout(images: Tensor, generator: torch.Generator | None = None, side: float = 0.25) -> Tensor:
    """Cutout: a square of one fixed size is set to zero, wherever its centre falls.

    The centre is uniform over all pixels, so the square may reach over the border: some images
    then lose less, which the paper found to matter. Zero is the mean of a subject's images here.

    Args:
        images: ``(B, C, *S)``; not changed. No label is an argument: none is touched.
        generator: on the device of ``images``; by default the global random state.
        side: of the square, as a fraction of each axis. The paper's half of a CIFAR image would
            hide the whole heart; a quarter hides a ventricle.

    Raises:
        ValueError: a side that is negative or longer than the image.

    Reference: DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", arXiv 2017.
    """
    if not 0 <= side <= 1:
        raise ValueError(f"The side is a fraction of the image: give 0 to 1, not {side}.")
    size = torch.tensor(images.shape[2:], device=images.device)
    draws = torch.rand(len(images), len(size), generator=generator, device=images.device)
    length = (side * size).round()
    start = (draws * size).floor() - (length / 2).floor()
    return images.masked_fill(rectangle(images, start, start + length), 0.0)


def rectangle(images: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Booleans ``(B, 1, *S)``: true from ``start`` up to before ``end``, pixels, ``(B, D)``."""
    inside = torch.ones_like(images[:, :1], dtype=torch.bool)
    for axis, length in enumerate(images.shape[2:]):
        at = torch.arange(length, device=images.device)
        line = (at >= start[:, axis, None]) & (at < end[:, axis, None])
        shape = [len(images)] + [1] * (images.ndim - 1)
        shape[2 + axis] = length
        inside = inside & line.view(shape)
    return inside


def _filling(images, noise, generator):
    std, mean = torch.std_mean(images, tuple(range(2, images.ndim)), keepdim=True)
    if not noise:
        return mean.expand_as(images)
    grain = torch.randn(images.shape, generator=generator, device=images.device)
    return mean + std * grain
