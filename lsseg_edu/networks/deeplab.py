"""DeepLab: convolutions with holes see far without losing resolution."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, project, resize
from lsseg_edu.networks.build import build
from lsseg_edu.networks.resnet import DILATED, ResNetEncoder


class ASPP(nn.Module):
    r"""Atrous spatial pyramid pooling: one map seen at several dilation rates in parallel.

    A 3x3 convolution of rate :math:`r` spans :math:`2r + 1` pixels with nine weights. Each
    branch scores the classes by itself, the scores are summed: :math:`y = \sum_r f_r(x)`.
    """

    def __init__(self, dims: int, inputs: int, classes: int, rates=(2, 5, 7, 9)):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                conv(dims, inputs, inputs, dilation=rate),
                conv(dims, inputs, inputs, kernel=1),
                project(dims, inputs, classes),
            )
            for rate in rates
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, *S)`` to scores ``(B, K, *S)``."""
        return sum(branch(x) for branch in self.branches)


class DeepLab(nn.Module):
    """The second DeepLab: a dilated ResNet, ASPP, linear upsampling.

    The paper's rates 6, 12, 18, 24 belong to a 41-pixel map (crops of 321, stride 8). Ours are
    the same fractions of the 16-pixel map of a 64-pixel image at stride 4: 2, 5, 7, 9.

    Simplified: narrow ResNet-18 in place of ResNet-101, one input scale instead of three. The
    paper's dense conditional random field is a step after the network, and not in this class.

    Reference: Chen, Papandreou, Kokkinos, Murphy, Yuille, IEEE TPAMI 2018.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16, rates=(2, 5, 7, 9)):
        super().__init__()
        self.encoder = ResNetEncoder(channels, dims, width, **DILATED)
        self.aspp = ASPP(dims, self.encoder.widths[-1], classes, rates)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, *S)`` to the features of the dilated ResNet, strides 1, 2, 4, 4, 4."""
        return self.encoder.encode(images)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        return resize(self.aspp(self.encode(images)[-1]), images.shape[2:])


def deeplab(problem, width: int = 8, seed: int = 0) -> DeepLab:
    """A :class:`DeepLab` for a task or cohort, ``width`` channels at full resolution.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> deeplab(Shape(1, 4, 2), width=8)(torch.zeros(2, 1, 65, 47)).shape
        torch.Size([2, 4, 65, 47])
    """
    return build(DeepLab, problem, seed, width=width)
