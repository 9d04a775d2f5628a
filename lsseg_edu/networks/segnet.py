"""SegNet: upsampling that remembers where each maximum came from."""

from __future__ import annotations

from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, project
from lsseg_edu.networks.build import build

UNPOOL = {2: nn.MaxUnpool2d, 3: nn.MaxUnpool3d}


class SegNet(nn.Module):
    """An encoder that stores the indices of its max-pooling, a decoder that unpools with them.

    A value returns to the very pixel that won the pooling, all others are 0, and convolutions
    fill the gaps. Only places cross from encoder to decoder: no features are concatenated.

    Simplified: narrow, group normalisation, four levels of two convolutions in place of the
    thirteen convolutions of VGG-16.

    Reference: Badrinarayanan, Kendall, Cipolla, IEEE TPAMI 2017.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16):
        super().__init__()
        self.widths = tuple(width * factor for factor in (1, 2, 4, 8))
        finer = (width, *self.widths[:-1])
        self.downs = nn.ModuleList(
            _two(dims, inputs, level, level)
            for inputs, level in zip((channels, *finer[1:]), self.widths, strict=True)
        )
        self.ups = nn.ModuleList(
            _two(dims, level, level, outputs)
            for level, outputs in zip(self.widths[::-1], finer[::-1], strict=True)
        )
        self.pool = Pool["max", dims](2, return_indices=True, ceil_mode=True)
        self.unpool = UNPOOL[dims](2)
        self.last = project(dims, width, classes)

    def encode(self, images: Tensor) -> tuple[Tensor, list[tuple]]:
        """Images ``(B, C, *S)`` to the code at stride 16 and, per level, (indices, size before)."""
        x, memory = images, []
        for down in self.downs:
            x = down(x)
            size = x.shape[2:]
            x, indices = self.pool(x)
            memory.append((indices, size))
        return x, memory

    def decode(self, code: Tensor, memory: list[tuple]) -> Tensor:
        """Code and memory of :meth:`encode` to the last feature map ``(B, width, *S)``."""
        x = code
        for up, (indices, size) in zip(self.ups, reversed(memory), strict=True):
            x = up(self.unpool(x, indices, output_size=size))
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        return self.last(self.decode(*self.encode(images)))


def _two(dims, inputs, middle, outputs):
    return nn.Sequential(conv(dims, inputs, middle), conv(dims, middle, outputs))


def segnet(problem, width: int = 8, seed: int = 0) -> SegNet:
    """A :class:`SegNet` for a task or cohort, ``width`` channels at full resolution.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> segnet(Shape(1, 4, 2), width=8)(torch.zeros(2, 1, 65, 47)).shape
        torch.Size([2, 4, 65, 47])
    """
    return build(SegNet, problem, seed, width=width)
