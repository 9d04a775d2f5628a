"""Clicks as maps: what a network, a graph cut or a level set can read."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE


def check_clicks(clicks: Tensor, images: Tensor, classes: int) -> Tensor:
    """The clicks ``(B, M, 1 + dims)`` on the device of ``images (B, C, *S)``, if they make sense.

    Raises:
        ValueError: a shape that does not fit, a class that does not exist, a place outside.
    """
    size = images.shape[2:]
    if clicks.ndim != 3 or clicks.shape[::2] != (len(images), 1 + len(size)):
        raise ValueError(
            f"clicks must be (B, M, {1 + len(size)}) with B = {len(images)}: class and "
            f"coordinates; got {tuple(clicks.shape)}."
        )
    given = clicks[clicks[..., 0] != -1].cpu()
    strange = given[(given[:, 0] < 0) | (given[:, 0] >= classes)]
    if len(strange):
        raise ValueError(
            f"There is a click of class {int(strange[0, 0])}, but the classes are 0 to "
            f"{classes - 1}: say which of these is there."
        )
    outside = given[((given[:, 1:] < 0) | (given[:, 1:] >= torch.tensor(size))).any(1)]
    if len(outside):
        place = ", ".join(map(str, outside[0, 1:].tolist()))
        raise ValueError(
            f"The click at ({place}) is outside the image of {'x'.join(map(str, size))} pixels: "
            f"coordinates count from 0, rows first."
        )
    return clicks.to(images.device)


def click_distances(clicks: Tensor, size) -> Tensor:
    """Distance in pixels ``(B, M, *S)`` to each of ``clicks (B, M, 1 + dims)``; padding: inf."""
    axes = [torch.arange(n, device=clicks.device) for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    place = clicks[..., 1:].view(*clicks.shape[:2], *[1] * len(size), len(size))
    far = (grid - place).float().square().sum(-1).sqrt()
    real = (clicks[..., 0] >= 0).view(*clicks.shape[:2], *[1] * len(size))
    return torch.where(real, far, torch.inf)


def click_maps(clicks: Tensor, classes: int, size, sigma: float = 3.0) -> Tensor:
    r"""A channel a class: 1 at its clicks, less around them.

    .. math:: m_k(i) = \max_{\text{clicks } c \text{ of class } k}
              \exp\Big(-\frac{|r_i - r_c|^2}{2\sigma^2}\Big)

    A maximum, not a sum: two clicks side by side say no more than one.

    Args:
        clicks: ``(B, M, 1 + dims)``; rows of -1 are padding.
        classes: ``K``.
        size: ``*S``.
        sigma: in pixels.

    Returns:
        ``(B, K, *S)`` in [0, 1]; zeros without a click.
    """
    near = torch.exp(-click_distances(clicks, size).square() / (2 * sigma**2))
    own = F.one_hot(clicks[..., 0].clamp(min=0), classes).float()
    if clicks.shape[1] == 0:
        return near.new_zeros(len(clicks), classes, *size)
    return (near.unsqueeze(2) * own.view(*own.shape, *[1] * len(size))).amax(1)


def marked(clicks: Tensor, size, radius: float = 0) -> Tensor:
    """What the user has said for sure, ``(B, *S)``: a disc of each click's class, else IGNORE.

    Where discs overlap, the nearest click decides, and the newer of two that are equally near.
    """
    if clicks.shape[1] == 0:
        return torch.full((len(clicks), *size), IGNORE, device=clicks.device)
    distance, nearest = click_distances(clicks, size).flip(1).min(1)
    classes = clicks[..., 0].flip(1).gather(1, nearest.flatten(1)).view_as(nearest)
    return torch.where(distance <= radius, classes, IGNORE)


def geodesic(
    images: Tensor, start: Tensor, pixels: float = 8.0, contrast: float = 1.0, reach: int = 20
) -> Tensor:
    r"""Distance from ``start`` along paths that avoid the edges of the image.

    .. math:: D(i) = \min_{\text{paths to } i} \sum_{\text{steps}}
              \sqrt{|\Delta r|^2 / \sigma^2 + |\Delta x|^2 / \tau^2}

    Found by relaxation: ``reach`` times, every pixel asks all its neighbours for a shorter way.

    Args:
        images: ``(B, C, *S)``.
        start: ``(B, *S)`` booleans.
        pixels: :math:`\sigma`, how many pixels are a distance of 1 where nothing changes.
        contrast: :math:`\tau`, how large a change of the image is one.
        reach: rounds; every shortest path of at most so many steps is found.

    Returns:
        ``(B, *S)``; infinite where no path was found.
    """
    steps = [s for s in product((-1, 0, 1), repeat=start.ndim - 1) if any(s)]
    costs = []
    for step in steps:
        change = (images - _neighbour(images, step, 0.0)).square().sum(1)
        costs.append((sum(map(abs, step)) / pixels**2 + change / contrast**2).sqrt())
    distance = torch.where(start, 0.0, torch.inf)
    for _ in range(reach):
        for step, cost in zip(steps, costs, strict=True):
            distance = torch.minimum(distance, _neighbour(distance, step, torch.inf) + cost)
    return distance


def around(mask: Tensor, margin: int) -> tuple[slice, ...]:
    """The box of ``mask (*S)`` with ``margin`` pixels on each side; it must not be empty."""
    box = []
    for axis, n in enumerate(mask.shape):
        others = [a for a in range(mask.ndim) if a != axis]
        hit = mask.any(others).nonzero() if others else mask.nonzero()
        box.append(slice(max(int(hit.min()) - margin, 0), min(int(hit.max()) + margin + 1, n)))
    return tuple(box)


def imposed(probs: Tensor, seeds: Tensor) -> Tensor:
    """The probabilities ``(B, K, *S)``, certain where the user has marked: ``seeds (B, *S)``."""
    known = (seeds != IGNORE).unsqueeze(1)
    sure = torch.zeros_like(probs).scatter(1, seeds.unsqueeze(1).where(known, 0), 1.0)
    return torch.where(known, sure, probs)


def _neighbour(values: Tensor, step, fill: float) -> Tensor:
    """The value ``step`` pixels further on, ``fill`` beyond the border."""
    padded = F.pad(values, [1] * 2 * len(step), value=fill)
    where = [slice(1 + s, 1 + s + n) for s, n in zip(step, values.shape[-len(step) :], strict=True)]
    return padded[(..., *where)]
