"""CutMix: a box of one image is pasted into another, and its labels go with it."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes(images: Tensor, generator=None, share: tuple[float, float] = (0.1, 0.5)) -> Tensor:
    r"""A random box for each image, as a mask ``(B, 1, *S)`` that is true inside.

    The box covers a share ``r`` of the image, uniform between the two given. Its sides are
    :math:`r^{e_1}, \ldots, r^{e_D}` of the image's, with exponents drawn uniformly among those
    that are positive and sum to 1: from strips to squares, always of volume ``r`` (up to rounding
    to pixels). Its place is uniform among those at which it fits.

    Args:
        images: ``(B, C, *S)``, for their size and device only.
        generator: on the device of ``images``; by default the global random state.
        share: least and largest ``r``. French et al. take one half; up to one half, so that no
            image is mostly another one.

    Returns:
        Booleans.

    Reference: Yun et al., "CutMix", ICCV 2019; for segmentation French, Laine, Aila, Mackiewicz,
    Finlayson, "Semi-supervised semantic segmentation needs strong, varied perturbations",
    BMVC 2020.

    Example:
        >>> box = boxes(torch.zeros(8, 1, 64, 64))
        >>> box.shape
        torch.Size([8, 1, 64, 64])
    """
    size, batch, device = images.shape[2:], len(images), images.device
    shares, *draws = torch.rand(1 + 2 * len(size), batch, generator=generator, device=device)
    lengths, places = draws[: len(size)], draws[len(size) :]
    shares = share[0] + (share[1] - share[0]) * shares
    exponents = torch.stack(lengths).clamp(min=1e-6).log()  # exponential variables over their sum:
    exponents = exponents / exponents.sum(0)  # uniform on the simplex
    box = torch.ones_like(images[:, :1], dtype=torch.bool)
    for axis, (n, e, place) in enumerate(zip(size, exponents, places, strict=True), start=2):
        length = (n * shares**e).round().clamp(1, n)
        start = (place * (n - length + 1)).floor()[:, None]
        at = torch.arange(n, device=device)
        line = (at >= start) & (at < start + length[:, None])
        box = box & line.view(batch, *(n if i == axis else 1 for i in range(1, box.ndim)))
    return box


def paste(values: Tensor, box: Tensor) -> Tensor:
    """Inside its box, each item is the next one of the batch (the last one: the first).

    Args:
        values: images or predictions ``(B, C, *S)``, or labels ``(B, *S)``. Call it with the same
            ``box`` on all that belongs together.
        box: ``(B, 1, *S)`` booleans of :func:`boxes`.

    Raises:
        ValueError: a batch of one, whose only image would be pasted into itself.
    """
    if len(values) < 2:
        raise ValueError("CutMix pastes from another image: use a batch of at least two.")
    box = box if values.ndim == box.ndim else box[:, 0]
    return torch.where(box, values.roll(-1, 0), values)
