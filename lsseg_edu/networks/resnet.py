"""ResNet: an encoder of residual blocks, and the classifier it was made for."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, project
from lsseg_edu.networks.build import build

DILATED = {"strides": (2, 2, 1, 1), "dilations": (1, 1, 2, 4)}
"""The last stages keep their resolution and widen their view by dilation instead (Yu, Koltun,
ICLR 2016): the backbone of PSPNet and DeepLab."""


class ResidualBlock(nn.Module):
    r"""Two 3x3 convolutions that learn a correction to their input: :math:`x + f(x)`.

    The identity carries gradients past the convolutions, so that many can be stacked. Where
    stride or channels change, a strided 1x1 projection stands in for the identity.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.first = conv(dims, inputs, outputs, stride=stride, dilation=dilation)
        self.second = conv(dims, outputs, outputs, dilation=dilation, act=None)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = project(dims, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *S)`` to ``(B, outputs, *S / stride)``."""
        return (self.shortcut(x) + self.second(self.first(x))).relu()


class ResNetEncoder(nn.Module):
    """A stem, then four stages of two residual blocks each: the layout of ResNet-18."""

    def __init__(
        self,
        channels: int,
        dims: int,
        width: int = 16,
        strides=(2, 2, 2, 2),
        dilations=(1, 1, 1, 1),
    ):
        super().__init__()
        self.widths = tuple(width * factor for factor in (1, 1, 2, 4, 8))
        self.stem = conv(dims, channels, width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(dims, inputs, outputs, stride, dilation),
                ResidualBlock(dims, outputs, outputs, dilation=dilation),
            )
            for inputs, outputs, stride, dilation in zip(
                self.widths[:-1], self.widths[1:], strides, dilations, strict=True
            )
        )

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, *S)`` to the features of stem and stages (``self.widths`` channels).

        Their strides are the running product of ``strides``: 1, 2, 4, 8, 16 unless changed.
        """
        features = [self.stem(images)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class ResNet(ResNetEncoder):
    """ResNet-18, for whole images: how such encoders are pre-trained before they segment.

    Simplified for small images: narrow, group normalisation, and a 3x3 stem at full
    resolution in place of the 7x7 at stride 2 and the pooling after it.

    Reference: He, Zhang, Ren, Sun, CVPR 2016.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16):
        super().__init__(channels, dims, width)
        self.head = nn.Linear(self.widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to one row of logits for each image: ``(B, K)``."""
        return self.head(self.encode(images)[-1].flatten(2).mean(2))


def resnet(problem, width: int = 8, seed: int = 0) -> ResNet:
    """A :class:`ResNet` for a task or cohort, ``width`` channels at full resolution.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> net = resnet(Shape(channels=1, classes=4, dims=2), width=8)
        >>> [f.shape[-1] for f in net.encode(torch.zeros(1, 1, 64, 64))]
        [64, 32, 16, 8, 4]
    """
    return build(ResNet, problem, seed, width=width)
