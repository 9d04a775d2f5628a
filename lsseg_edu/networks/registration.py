"""The network that moves one image onto another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.networks.build import build
from lsseg_edu.networks.unet import UNet


class RegistrationNet(nn.Module):
    r"""Two images in, the velocity of a smooth motion out.

    A U-Net sees the moving and the fixed image as channels of one image. Its answer is averaged
    over ``2 ** coarse`` pixels before it is used: neighbours have to move together. Integrated
    with :func:`lsseg_edu.augment.integrate` the motion is smooth and can be undone.

    The last layer starts near zero, so the first motion is none at all.

    Reference: Dalca, Balakrishnan, Guttag, Sabuncu, "Unsupervised Learning for Fast Probabilistic
    Diffeomorphic Registration", MICCAI 2018. Simplified: the velocity itself, not its posterior.
    """

    def __init__(self, channels: int, dims: int, width: int = 8, coarse: int = 1):
        super().__init__()
        self.unet = UNet(2 * channels, dims, dims, width)
        self.coarse = coarse
        self.unet.final_conv.weight.data.mul_(0.05)
        self.unet.final_conv.bias.data.zero_()

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """``(B, C, *S)`` each, to a velocity ``(B, *S, D)`` in units of the grid."""
        velocity = 0.2 * self.unet(torch.cat([moving, fixed], 1)).float()
        size = velocity.shape[2:]
        velocity = F.interpolate(velocity, scale_factor=0.5**self.coarse, mode="area")
        mode = "bilinear" if len(size) == 2 else "trilinear"
        return F.interpolate(velocity, size, mode=mode).movedim(1, -1)


def registration(problem, width: int = 8, seed: int = 0) -> nn.Module:
    """A :class:`RegistrationNet` for the images of a task or cohort.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> net = registration(Shape(channels=1, classes=4, dims=2))
        >>> image = torch.zeros(2, 1, 64, 64)
        >>> net(image, image).shape
        torch.Size([2, 64, 64, 2])
    """
    return build(
        lambda channels, classes, dims, width: RegistrationNet(channels, dims, width),
        problem,
        seed,
        width=width,
    )
