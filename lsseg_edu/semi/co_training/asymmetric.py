"""A small 3D U-Net that looks far within its slices and little across them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsseg_edu.networks.blocks import conv, project, resize
from lsseg_edu.networks.build import build

IN_PLANE, ACROSS = (1, 3, 3), (3, 1, 1)


class AsymmetricUNet(nn.Module):
    """3D U-Net of flat kernels: 1x3x3 within the slice and, below full resolution, 3x1x1 across.

    Its first spatial axis is unlike the others. Turn the volume and it answers something else,
    even with the same weights: that makes views of one volume. It costs less than a U-Net with
    cubic kernels.

    Args:
        channels: image channels ``C``.
        classes: ``K``.
        dims: 3.
        width: channels at full resolution, doubled at each of three coarser levels. Of 8 and 12, on
            validation subjects of the brain phantom with one view alone, 8 lost a class.
        dropout: of whole channels, at the coarser levels.

    Raises:
        ValueError: another ``dims``.

    Reference: the idea is of Liu et al., "3D Anisotropic Hybrid Network", MICCAI 2018.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 12, dropout=0.1):
        super().__init__()
        if dims != 3:
            raise ValueError(f"An asymmetric kernel needs three axes, not {dims}.")
        widths = [width * 2**level for level in range(4)]
        self.stem = nn.Sequential(
            conv(3, channels, width, IN_PLANE), conv(3, width, width, IN_PLANE)
        )
        pairs = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(_block(a, b, dropout) for a, b in pairs)
        self.narrow = nn.ModuleList(project(3, b, a) for a, b in reversed(pairs))
        self.up = nn.ModuleList(_block(2 * a, a, dropout) for a, _ in reversed(pairs[1:]))
        self.up.append(conv(3, 2 * width, width, IN_PLANE))
        self.head = project(3, width, classes)

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes ``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)``."""
        skips = [self.stem(volumes)]
        for down in self.down:
            skips.append(down(F.max_pool3d(skips[-1], 2, ceil_mode=True)))
        x = skips.pop()
        for narrow, up in zip(self.narrow, self.up, strict=True):
            skip = skips.pop()
            x = up(torch.cat([skip, resize(narrow(x), skip.shape[2:])], 1))
        return self.head(x)


def _block(inputs: int, outputs: int, dropout: float) -> nn.Module:
    """One convolution within the slice, one across, and dropout."""
    within, across = conv(3, inputs, outputs, IN_PLANE), conv(3, outputs, outputs, ACROSS)
    return nn.Sequential(within, across, nn.Dropout3d(dropout))


def asymmetric_unet(problem, width: int = 12, dropout: float = 0.1, seed: int = 0) -> nn.Module:
    """An :class:`AsymmetricUNet` for a task or cohort of volumes."""
    return build(AsymmetricUNet, problem, seed, width=width, dropout=dropout)
