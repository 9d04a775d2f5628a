"""U-Net: the backbone of every method in this book."""

from __future__ import annotations

import math

from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from lsseg_edu.networks.build import build


class UNet(BasicUNet):
    """Contracting path, expanding path, and skips that concatenate one to the other.

    MONAI's ``BasicUNet``: two 3x3 convolutions a level, max-pooling down, transposed
    convolution up, five levels. It adds the two halves by name, because half of this book's
    methods want the features in between.

    Every convolution is followed by instance normalisation: with the small batches of this field
    batch statistics are noise, and a network without running buffers can be averaged (Mean
    Teacher) or copied (MAML) weight by weight with nothing left over.

    Reference: Ronneberger, Fischer, Brox, MICCAI 2015; 3D: Cicek et al., MICCAI 2016.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16, dropout=0.0):
        features = (width, width, 2 * width, 4 * width, 8 * width, width)
        norm = ("instance", {"affine": True})
        super().__init__(dims, channels, classes, features, norm=norm, dropout=dropout)
        self.widths = features[:5]

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, *S)`` to features at strides 1, 2, ..., 16 (``self.widths`` channels).

        Raises:
            ValueError: images so small that one pixel is left at stride 16: nothing to normalise.
        """
        if math.prod(n // 16 for n in images.shape[2:]) <= 1:
            size = "x".join(map(str, images.shape[2:]))
            raise ValueError(f"Images of {size} are too small: pad to 32 pixels along an axis.")
        features = [self.conv_0(images)]
        for down in (self.down_1, self.down_2, self.down_3, self.down_4):
            features.append(down(features[-1]))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of :meth:`encode` to the last feature map ``(B, width, *S)``."""
        *skips, x = features
        for up in (self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1):
            x = up(x, skips.pop())
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        return self.final_conv(self.decode(self.encode(images)))


def unet(problem, width: int = 8, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """A :class:`UNet` for a task or cohort; ``width`` channels at full resolution.

    The default is small on purpose (0.12 M weights in 2D): the whole book trains on a laptop.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> net = unet(Shape(channels=1, classes=4, dims=2), width=8)
        >>> net(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 4, 64, 64])
    """
    return build(UNet, problem, seed, width=width, dropout=dropout)
