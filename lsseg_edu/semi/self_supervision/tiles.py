"""Tiles: cut an image into cells, leave gaps, shake each tile in its cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lsseg_edu.semi.self_supervision.finetune import Pretext, pooled


@dataclass(frozen=True)
class Grid:
    """``count`` cells along each axis of an image, with one smaller tile in each.

    Two neighbouring tiles that touch can be matched by the line that runs across their border,
    without a look at what they show. So a tile leaves a **gap** of at least a tenth of a cell to
    the next one, and **jitter** moves it in its cell by a draw of its own.

    Tiles have a multiple of 4 pixels along each axis, so that they can be halved.

    Attributes:
        size: of the image, ``*S``; two or three axes.
        count: cells along each axis.

    Raises:
        ValueError: cells too small to hold a tile of 4 pixels and its gap.

    Example:
        >>> grid = Grid((64, 64), 3)
        >>> grid.cell, grid.tile, grid.gap, grid.slack
        ((21, 21), (16, 16), (2, 2), (3, 3))
    """

    size: tuple[int, ...]
    count: int = 3

    def __post_init__(self):
        if min(self.tile) < 4:
            raise ValueError(
                f"Images of {'x'.join(map(str, self.size))} are too small for {self.count} tiles "
                f"along each axis: use at least {6 * self.count} pixels, or fewer tiles."
            )

    @property
    def cell(self) -> tuple[int, ...]:
        """Pixels of a cell along each axis."""
        return tuple(n // self.count for n in self.size)

    @property
    def gap(self) -> tuple[int, ...]:
        """Pixels that are left between two tiles at least."""
        return tuple(max(1, c // 10) for c in self.cell)

    @property
    def tile(self) -> tuple[int, ...]:
        """Pixels of a tile along each axis."""
        return tuple((c - g - 1) // 4 * 4 for c, g in zip(self.cell, self.gap, strict=True))

    @property
    def slack(self) -> tuple[int, ...]:
        """How far the jitter may move a tile."""
        parts = zip(self.cell, self.gap, self.tile, strict=True)
        return tuple(c - g - t for c, g, t in parts)

    @property
    def cells(self) -> Tensor:
        """All cells ``(T, D)``, row by row."""
        return torch.cartesian_prod(*[torch.arange(self.count)] * len(self.size))

    def corners(self, images: Tensor, cells: Tensor) -> Tensor:
        """First pixel ``(B, T, D)`` of each tile, its jitter drawn anew."""
        cell, slack = (torch.tensor(v, device=images.device) for v in (self.cell, self.slack))
        cells = cells.to(images.device).expand(len(images), *cells.shape[-2:])
        jitter = torch.rand(cells.shape, device=images.device) * (slack + 1)
        return cells * cell + jitter.long()

    def cut(self, images: Tensor, cells: Tensor | None = None) -> Tensor:
        """Tiles ``(B, T, C, *t)`` of images ``(B, C, *S)``.

        Args:
            images: of this grid's size.
            cells: which, ``(T, D)`` or ``(B, T, D)``; by default all, row by row.
        """
        corners = self.corners(images, self.cells if cells is None else cells)
        windows = images
        for axis, length in enumerate(self.tile, start=2):
            windows = windows.unfold(axis, length, 1)
        item = torch.arange(len(images), device=images.device)[:, None]
        return windows[(item, slice(None), *corners.unbind(-1))]


def standardised(tiles: Tensor) -> Tensor:
    """Each tile ``(B, T, C, *t)`` with a mean of 0 and, unless it is empty, a deviation near 1.

    Otherwise brightness alone, which the coil shades from side to side, tells where a tile was.
    """
    axes = tuple(range(3, tiles.ndim))
    std, mean = torch.std_mean(tiles, axes, keepdim=True)
    return (tiles - mean) / (std + 0.1)


def take(tiles: Tensor, order: Tensor) -> Tensor:
    """Tiles ``(B, T, ...)`` in the order ``(B, T)``: place ``t`` gets tile ``order[t]``."""
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], order]


class TilePretext(Pretext):
    """A pretext whose encoder sees one tile at a time, all tiles with the same weights.

    A tile is smaller than the 32 pixels that all five levels of the U-Net need. We do not
    enlarge it, which would teach filters for magnified tissue, but stop at the deepest level
    where two pixels are left: level 3 of 4 for the tiles of 16 pixels of a 64-pixel image. Deeper
    levels keep their first weights.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        size: of the images, ``*S``.
        count: cells along each axis.
    """

    def __init__(self, net, size, count: int = 3):
        super().__init__(net)
        self.grid = Grid(tuple(size), count)
        self.depth = min(4, int(math.log2(min(self.grid.tile) / 2)))
        self.features = net.widths[self.depth] * 2**self.dims

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> TilePretext:
        """The pretext for images of the task's size."""
        return super().for_task(task, seed, size=task.train.images.shape[2:], **options)

    def cut(self, images: Tensor, cells: Tensor | None = None) -> Tensor:
        """Standardised tiles ``(B, T, C, *t)``."""
        return standardised(self.grid.cut(images, cells))

    def embed(self, tiles: Tensor) -> Tensor:
        """Tiles ``(B, T, C, *t)`` to features ``(B, T, F)``, each tile on its own."""
        net = self.net
        x = net.conv_0(tiles.flatten(0, 1))
        for down in (net.down_1, net.down_2, net.down_3, net.down_4)[: self.depth]:
            x = down(x)
        return pooled(x).unflatten(0, tiles.shape[:2])
