"""Four ways to spoil an image so that mending it takes knowledge of anatomy.

All take ``(B, C, *S)``, slices or volumes, draw anew for each image, and keep its range of values.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from lsseg_edu.semi.self_supervision.inpainting import holes


def bezier(images: Tensor, points: Tensor | None = None, flip: Tensor | None = None) -> Tensor:
    r"""Non-linear intensity: each image through a cubic Bezier curve of its own.

    .. math:: B(t) = (1-t)^3 P_0 + 3 (1-t)^2 t\, P_1 + 3 (1-t)\, t^2 P_2 + t^3 P_3

    with :math:`P_0 = (0, 0)`, :math:`P_3 = (1, 1)` and random :math:`P_1, P_2` in the unit square,
    on intensities scaled to [0, 1]. The curve is monotone: unlike a scrambled one it can be
    undone, by who knows what tissue is where. Half of the curves fall (the negative).

    Args:
        images: ``(B, C, *S)``; all channels of an image get the same curve.
        points: ``(B, 2, 2)`` for :math:`P_1, P_2` as (x, y); by default random.
        flip: ``(B,)`` bool, which curves fall; by default half of them.
    """
    n, device = len(images), images.device
    points = torch.rand((n, 2, 2), device=device) if points is None else points
    flip = torch.rand(n, device=device) < 0.5 if flip is None else flip
    t = torch.linspace(0, 1, 257, device=device)
    curve = (
        3 * (1 - t) ** 2 * t * points[:, 0, :, None] + 3 * (1 - t) * t**2 * points[:, 1, :, None]
    )
    x, y = (curve + t**3).unbind(1)  # (B, 257) each
    x = x.cummax(1).values  # rounding must not make it fall
    low, high, unit = _unit(images)
    at = torch.searchsorted(x.contiguous(), unit.flatten(1).contiguous()).clamp(1, 256)
    x0, x1, y0, y1 = x.gather(1, at - 1), x.gather(1, at), y.gather(1, at - 1), y.gather(1, at)
    part = (unit.flatten(1) - x0) / (x1 - x0).clamp(min=1e-7)
    value = (y0 + (y1 - y0) * part.clamp(0, 1)).view_as(images)
    value = torch.where(_each(flip, images), 1 - value, value)
    return low + (high - low) * value


def local_shuffle(images: Tensor, window: int = 4, rate: float = 0.5) -> Tensor:
    """Shuffle the pixels within small windows: texture is lost, borders and shapes are not.

    A randomly placed grid of windows, each shuffled with probability ``rate``; all channels of a
    pixel move together. One sort for the whole batch, in 2D and 3D alike.

    Args:
        images: ``(B, C, *S)``.
        window: side in pixels; the paper draws less than a tenth of the image's side.
        rate: the share of windows that are shuffled.

    Simplified: windows of one size that do not overlap; the paper draws many of any size.
    """
    size, device, n = images.shape[2:], images.device, len(images)
    number = torch.zeros((n, *size), dtype=torch.long, device=device)
    for axis, length in enumerate(size):
        shape = [n, *(length if a == axis else 1 for a in range(len(size)))]
        start = torch.randint(window, (n, 1), device=device)
        cell = (torch.arange(length, device=device) + start) // window
        number = number * (length // window + 2) + cell.view(shape)
    number = number.flatten(1)
    place = torch.linspace(0, 0.9, number.shape[1], dtype=torch.double, device=device)
    chosen = torch.rand((n, prod(n_ // window + 2 for n_ in size)), device=device) < rate
    noise = 0.9 * torch.rand(number.shape, dtype=torch.double, device=device)
    noise = torch.where(chosen.gather(1, number), noise, place)
    old, new = (number + place).argsort(1), (number + noise).argsort(1)
    source = torch.empty_like(old).scatter_(1, old, new)
    pixels = images.flatten(2)
    return pixels.gather(2, source[:, None].expand_as(pixels)).view_as(images)


def paint(images: Tensor, outside: bool = False) -> Tensor:
    """Replace by noise what lies inside some boxes (in-painting), or outside (out-painting).

    Inside, local detail has to be drawn from its surroundings; outside, the surroundings from a
    few windows, which takes knowledge of how the whole body lies.

    Args:
        images: ``(B, C, *S)``.
        outside: spoil all but the union of the boxes.
    """
    low, high, _ = _unit(images)
    # sides as in the paper's code: up to 5 holes of 1/6 to 1/3, windows of about half the side
    start, end = (3 / 7, 4 / 7) if outside else (1 / 6, 1 / 3)
    side = start + (end - start) * float(torch.rand(()))
    mask = holes(images, 4 if outside else 5, side)
    noise = low + (high - low) * torch.rand(images.shape, device=images.device)
    return torch.where(mask ^ outside, noise, images)


def corrupt(images: Tensor, nonlinear=0.9, shuffle=0.5, painted=0.9, outpaint=0.8) -> Tensor:
    """All of it, composed; each image is spoilt by each transform with its own probability.

    Args:
        images: ``(B, C, *S)``.
        nonlinear: probability of :func:`bezier`.
        shuffle: probability of :func:`local_shuffle`.
        painted: probability of :func:`paint`.
        outpaint: share of out-painting among the painted; the others are in-painted.

    Reference: Zhou et al., "Models Genesis", MICCAI 2019, with the probabilities of its code.
    """

    def some(changed: Tensor, spoilt: Tensor, rate: float) -> Tensor:
        coin = torch.rand(len(images), device=images.device) < rate
        return torch.where(_each(coin, images), spoilt, changed)

    x = some(images, local_shuffle(images), shuffle)
    x = some(x, bezier(x), nonlinear)
    return some(x, some(paint(x), paint(x, outside=True), outpaint), painted)


def _unit(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lowest and highest value of each image, and the image scaled to [0, 1]."""
    axes = tuple(range(1, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return low, high, (images - low) / (high - low).clamp(min=1e-8)


def _each(flags: Tensor, images: Tensor) -> Tensor:
    return flags.view(-1, *(1,) * (images.ndim - 1))
