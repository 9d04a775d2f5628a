"""The few pieces that several architectures share."""

from __future__ import annotations

import torch.nn.functional as F
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

DROPOUT = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)
"""The layers that drop units or channels at random."""


def drops(net: nn.Module) -> bool:
    """Whether ``net`` has a dropout layer that drops anything."""
    return any(isinstance(layer, DROPOUT) and layer.p > 0 for layer in net.modules())


def conv(
    dims: int, inputs: int, outputs: int, kernel=3, stride=1, dilation=1, act="relu"
) -> nn.Module:
    """Convolution, group normalisation, ReLU; the size is kept at stride 1."""
    norm = ("group", {"num_groups": groups(outputs)})
    return Convolution(dims, inputs, outputs, stride, kernel, act=act, norm=norm, dilation=dilation)


def groups(channels: int) -> int:
    """Groups to normalise ``channels`` in: four channels each, where four divides them.

    Groups rather than batch statistics: batches are small here, and without running buffers an
    average of weights is a whole network (Mean Teacher). Groups rather than instances: pyramid
    pooling normalises maps of a single pixel, and one value less its own mean is always 0.
    """
    return channels // 4 if channels % 4 == 0 else 1


def project(dims: int, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """A 1x1 convolution and nothing else: one linear map at every pixel."""
    return Conv["conv", dims](inputs, outputs, kernel_size=1, stride=stride)


def resize(features: Tensor, size) -> Tensor:
    """Linear interpolation of ``(B, C, *S)`` to spatial ``size`` (``align_corners=False``)."""
    mode = "bilinear" if features.ndim == 4 else "trilinear"
    return F.interpolate(features, tuple(size), mode=mode, align_corners=False)
