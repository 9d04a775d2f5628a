"""Windows around nodules, and where in a chest there is room for one."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data import IGNORE

PATCH = 32
"""Pixels along a side of a patch: 95 mm of the phantom, a large nodule and its surroundings."""


def foreground(labels: Tensor) -> Tensor:
    """Where a class other than the background is annotated."""
    return (labels > 0) & (labels != IGNORE)


def grown(nodule: Tensor) -> Tensor:
    """A mask ``(B, 1, H, W)`` of zeros and ones, two pixels larger on every side."""
    return F.max_pool2d(nodule, 5, stride=1, padding=2)


def windows(maps: Tensor, centre: Tensor):
    """Index into maps ``(B, C, H, W)``: a ``PATCH`` x ``PATCH`` window of each around a pixel.

    ``centre (B,)`` counts pixels row by row. At the border a window is moved inwards, so that
    it is always whole.
    """
    height, width = maps.shape[-2:]
    side = torch.arange(PATCH, device=maps.device)
    rows = (centre // width - PATCH // 2).clamp(0, height - PATCH)[:, None] + side
    columns = (centre % width - PATCH // 2).clamp(0, width - PATCH)[:, None] + side
    item = torch.arange(len(maps), device=maps.device)
    channel = torch.arange(maps.shape[1], device=maps.device)
    item, channel = item[:, None, None, None], channel[:, None, None]
    return item, channel, rows[:, None, :, None], columns[:, None, None]


def lung(images: Tensor) -> Tensor:
    """Where a slice ``(N, C, H, W)`` has room for a nodule: boolean ``(N, H, W)``.

    Tissue is what is brighter than the mean. Air outside the body is what is dark and reaches a
    corner of the image. What is left, 3 pixels or more from that air, is lung where it is not
    thick tissue: the mean over 5 x 5 pixels is below the image's, in spite of vessels.
    """
    bright = images.mean(1)
    level = bright.mean((1, 2), keepdim=True)
    body = torch.stack([_body(item) for item in (bright > level).cpu().numpy()])
    thin = F.avg_pool2d(bright.unsqueeze(1), 5, 1, 2, count_include_pad=False)[:, 0] < level
    return body.to(images.device) & thin


def _body(tissue) -> Tensor:
    parts, _ = ndimage.label(~tissue)
    outside = np.isin(parts, parts[[0, 0, -1, -1], [0, -1, 0, -1]]) & (parts > 0)
    return torch.from_numpy(~ndimage.binary_dilation(outside, iterations=3))
