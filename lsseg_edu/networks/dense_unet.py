"""Dense U-Net: every layer reads all layers before it, not the last one alone."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from lsseg_edu.networks.blocks import groups, project, resize
from lsseg_edu.networks.build import build


class DenseBlock(nn.Module):
    r"""Layers that concatenate: :math:`x_l = [x_{l-1},\; f_l(x_{l-1})]`.

    Each :math:`f_l` (normalise, ReLU, 3x3 convolution) adds ``growth`` channels, so layer ``l``
    reads ``inputs + (l - 1) growth`` of them: the input and everything found since.
    """

    def __init__(self, dims: int, inputs: int, growth: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(
            _activate_first(dims, inputs + i * growth, growth, kernel=3) for i in range(layers)
        )
        self.outputs = inputs + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *S)`` to ``(B, outputs, *S)``; the first ``inputs`` are the input."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class DenseUNet(nn.Module):
    """Dense blocks on the way down and up, transitions between them, U-Net skips across.

    A transition is a 1x1 convolution that halves the channels; going down, average pooling
    follows it; going up, linear interpolation to the size of the skip, which is concatenated.

    Simplified: DenseNet is a classifier; the way up is as in Jégou et al. (CVPRW 2017), with
    interpolation for their transposed convolution, and one block width at all levels.

    Reference: Huang, Liu, van der Maaten, Weinberger, CVPR 2017.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16, layers=3, levels=4):
        super().__init__()
        growth, now = width // 2, width
        self.stem = Conv["conv", dims](channels, width, 3, padding=1)
        self.downs, self.to_coarse = nn.ModuleList(), nn.ModuleList()
        for _ in range(levels):
            self.downs.append(DenseBlock(dims, now, growth, layers))
            self.to_coarse.append(_halve(dims, self.downs[-1].outputs))
            now = self.downs[-1].outputs // 2
        self.bottom = DenseBlock(dims, now, growth, layers)
        self.to_fine, self.ups = nn.ModuleList(), nn.ModuleList()
        now = self.bottom.outputs
        for down in reversed(self.downs):
            self.to_fine.append(_halve(dims, now))
            self.ups.append(DenseBlock(dims, now // 2 + down.outputs, growth, layers))
            now = self.ups[-1].outputs
        self.pool = Pool["avg", dims](2, ceil_mode=True)
        self.last = project(dims, now, classes)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, *S)`` to the outputs of the dense blocks, strides 1, 2, 4, 8, 16."""
        x, features = self.stem(images), []
        for down, transition in zip(self.downs, self.to_coarse, strict=True):
            features.append(down(x))
            x = self.pool(transition(features[-1]))
        return [*features, self.bottom(x)]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of :meth:`encode` to the last feature map at full size."""
        *skips, x = features
        for up, transition in zip(self.ups, self.to_fine, strict=True):
            skip = skips.pop()
            x = up(torch.cat([resize(transition(x), skip.shape[2:]), skip], dim=1))
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        return self.last(self.decode(self.encode(images)))


def _activate_first(dims, inputs, outputs, kernel):
    norm = nn.GroupNorm(groups(inputs), inputs)
    return nn.Sequential(
        norm, nn.ReLU(), Conv["conv", dims](inputs, outputs, kernel, padding=kernel // 2)
    )


def _halve(dims, inputs):
    return _activate_first(dims, inputs, inputs // 2, kernel=1)


def dense_unet(problem, width: int = 8, seed: int = 0) -> DenseUNet:
    """A :class:`DenseUNet` for a task or cohort: ``width`` channels, growing by ``width // 2``.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> dense_unet(Shape(1, 4, 2), width=8)(torch.zeros(2, 1, 65, 47)).shape
        torch.Size([2, 4, 65, 47])
    """
    return build(DenseUNet, problem, seed, width=width)
