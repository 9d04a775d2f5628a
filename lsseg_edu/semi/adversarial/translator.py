"""A network that repaints an image as another scanner would show it."""

from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, resize


class Translator(nn.Module):
    """A small residual network that repaints an image: ``x + g(x)``, with ``g = 0`` at first.

    It starts as the identity, because two scanners show the same body: there is little to change
    and all of the anatomy to keep.

    Args:
        channels: of the images.
        dims: 2 or 3.
        width: channels at full resolution, twice as many at half.
        blocks: residual blocks at half resolution.
    """

    def __init__(self, channels: int, dims: int, width: int = 8, blocks: int = 3):
        super().__init__()
        self.head = conv(dims, channels, width)
        self.down = conv(dims, width, 2 * width, stride=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(dims, 2 * width, 2 * width), conv(dims, 2 * width, 2 * width))
            for _ in range(blocks)
        )
        self.up = conv(dims, 2 * width, width)
        self.tail = Conv["conv", dims](width, channels, kernel_size=3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` as the other scanner would show them."""
        fine = self.head(images)
        coarse = self.down(fine)
        for block in self.blocks:
            coarse = coarse + block(coarse)
        return images + self.tail(fine + resize(self.up(coarse), images.shape[2:]))
