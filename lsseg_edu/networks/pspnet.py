"""PSPNet: every pixel is judged beside averages of the whole image."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, project, resize
from lsseg_edu.networks.build import build
from lsseg_edu.networks.resnet import DILATED, ResNetEncoder


class PyramidPooling(nn.Module):
    """Average the map over 1, 2, 3 and 6 bins a side; put all back beside the map itself."""

    def __init__(self, dims: int, inputs: int, bins=(1, 2, 3, 6)):
        super().__init__()
        each = inputs // len(bins)
        self.branches = nn.ModuleList(
            nn.Sequential(Pool["adaptiveavg", dims](n), conv(dims, inputs, each, 1)) for n in bins
        )
        self.outputs = inputs + each * len(bins)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *S)`` to ``(B, outputs, *S)``: the input first, then the pyramid."""
        pyramid = [resize(branch(x), x.shape[2:]) for branch in self.branches]
        return torch.cat([x, *pyramid], dim=1)


class PSPNet(nn.Module):
    """A dilated ResNet at stride 4, pyramid pooling, one convolution, linear upsampling.

    The bin of size 1 is the average of the whole image: what an organ is depends on the scan it
    is in, and convolutions alone would need many layers to see that far.

    Simplified: narrow ResNet-18 at stride 4 (the paper's ResNet-101 at stride 8, on images
    several times larger), no auxiliary loss in the middle.

    Reference: Zhao, Shi, Qi, Wang, Jia, CVPR 2017.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16):
        super().__init__()
        self.encoder = ResNetEncoder(channels, dims, width, **DILATED)
        deep = self.encoder.widths[-1]
        self.pyramid = PyramidPooling(dims, deep)
        self.mix = conv(dims, self.pyramid.outputs, deep // 2)
        self.last = project(dims, deep // 2, classes)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, *S)`` to the features of the dilated ResNet, strides 1, 2, 4, 4, 4."""
        return self.encoder.encode(images)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        context = self.pyramid(self.encode(images)[-1])
        return resize(self.last(self.mix(context)), images.shape[2:])


def pspnet(problem, width: int = 8, seed: int = 0) -> PSPNet:
    """A :class:`PSPNet` for a task or cohort, ``width`` channels at full resolution.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> pspnet(Shape(1, 4, 2), width=8)(torch.zeros(2, 1, 65, 47)).shape
        torch.Size([2, 4, 65, 47])
    """
    return build(PSPNet, problem, seed, width=width)
