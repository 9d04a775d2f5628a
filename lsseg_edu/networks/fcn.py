"""FCN: a classifier without dense layers, whose coarse scores are learned back to full size."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, project
from lsseg_edu.networks.build import build
from lsseg_edu.networks.vgg import VGGEncoder


class FCN(nn.Module):
    r"""FCN-8s: every layer a convolution, so each place of the last map scores its own patch.

    Scores at stride 32 are upsampled and summed with those of two finer maps (``up`` is a
    transposed convolution that starts as linear interpolation and is learned):

    .. math:: y = \mathrm{up}_8(s_8 + \mathrm{up}_2(s_{16} + \mathrm{up}_2(s_{32})))

    Simplified: narrow VGG-16; the dense layers become a 3x3 and a 1x1 convolution (7x7 in the
    paper, wider than the whole map of a small image), without dropout; one training, not the
    paper's three from stride 32 to 8; and the last upsampling is learned like the others.

    Reference: Long, Shelhamer, Darrell, CVPR 2015.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16):
        super().__init__()
        self.encoder = VGGEncoder(channels, dims, width)
        deep = self.encoder.widths[-1]
        self.dense = nn.Sequential(conv(dims, deep, 2 * deep), conv(dims, 2 * deep, 2 * deep, 1))
        self.pool = Pool["max", dims](2, ceil_mode=True)
        *_, stride8, stride16, _ = self.encoder.widths
        self.scores = nn.ModuleList(
            project(dims, inputs, classes) for inputs in (stride8, stride16, 2 * deep)
        )
        self.ups = nn.ModuleList(linear_upsampling(dims, classes, f) for f in (8, 2, 2))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, *S)`` to features at strides 8, 16 and 32, each just after pooling."""
        stride8, stride16, stride32 = map(self.pool, self.encoder.encode(images)[2:])
        return [stride8, stride16, self.dense(stride32)]

    def decode(self, features: list[Tensor], size) -> Tensor:
        """Features of :meth:`encode` to logits ``(B, K, *size)``."""
        stride8, stride16, stride32 = (s(f) for s, f in zip(self.scores, features, strict=True))
        total = stride16 + crop_to(self.ups[2](stride32), stride16.shape[2:])
        total = stride8 + crop_to(self.ups[1](total), stride8.shape[2:])
        return crop_to(self.ups[0](total), size)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        return self.decode(self.encode(images), images.shape[2:])


def linear_upsampling(dims: int, classes: int, factor: int) -> nn.Module:
    """A learnable transposed convolution, ``factor`` times larger, born as interpolation."""
    up = Conv["convtrans", dims](
        classes, classes, 2 * factor, stride=factor, padding=factor // 2, bias=False
    )
    tent = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    kernel = tent
    for _ in range(dims - 1):
        kernel = kernel[..., None] * tent
    with torch.no_grad():
        up.weight.zero_()
        up.weight[range(classes), range(classes)] = kernel
    return up


def crop_to(features: Tensor, size) -> Tensor:
    """Drop what pooling added when it rounded odd sizes up."""
    for axis, length in enumerate(size, start=2):
        features = features.narrow(axis, 0, length)
    return features


def fcn(problem, width: int = 8, seed: int = 0) -> FCN:
    """An :class:`FCN` for a task or cohort, ``width`` channels in the first convolution.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> fcn(Shape(1, 4, 2), width=8)(torch.zeros(2, 1, 65, 47)).shape
        torch.Size([2, 4, 65, 47])
    """
    return build(FCN, problem, seed, width=width)
