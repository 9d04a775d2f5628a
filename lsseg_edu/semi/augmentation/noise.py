"""Between noise and maps: a decoder, its encoder, and a critic of the whole."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv
from lsseg_edu.semi.adversarial import Critic


class Decoder(nn.Module):
    """Noise ``(B, latent)`` to maps ``(B, channels, *S)``: four times up from a small grid.

    Args:
        latent: numbers that describe a sample.
        channels: of the output.
        size: ``*S``; each side a multiple of 16.
        width: channels at full resolution.

    Raises:
        ValueError: a side that 16 does not divide.
    """

    def __init__(self, latent: int, channels: int, size, width: int = 8):
        if any(n % 16 for n in size):
            raise ValueError(f"The decoder doubles four times: sides of {tuple(size)} need 16.")
        super().__init__()
        dims, self.base = len(size), [n // 16 for n in size]
        widths = [width * factor for factor in (8, 8, 4, 2, 1)]
        self.start = nn.Linear(latent, widths[0] * prod(self.base))
        self.ups = nn.ModuleList(conv(dims, a, b) for a, b in pairwise(widths))
        self.tail = Conv["conv", dims](width, channels, kernel_size=3, padding=1)

    def forward(self, noise: Tensor) -> Tensor:
        """One map for each row of ``noise``."""
        features = self.start(noise).unflatten(1, (-1, *self.base))
        for up in self.ups:
            features = up(F.interpolate(features, scale_factor=2))
        return self.tail(features)


class Encoder(nn.Module):
    """Maps ``(B, channels, *S)`` to codes ``(B, latent)``: a :class:`.Decoder` turned round."""

    def __init__(self, latent: int, channels: int, size, width: int = 8):
        super().__init__()
        dims, widths = len(size), [width * factor for factor in (1, 2, 4, 8)]
        pairs = pairwise([channels, *widths])
        self.downs = nn.Sequential(*(conv(dims, a, b, stride=2) for a, b in pairs))
        self.end = nn.Linear(widths[-1] * prod(n // 16 for n in size), latent)

    def forward(self, maps: Tensor) -> Tensor:
        """The code of each map."""
        return self.end(self.downs(maps).flatten(1))


class WholeCritic(nn.Module):
    """One verdict on a whole map: the convolutions of a Critic, then a weight for each place.

    A critic of patches knows what may lie side by side; where in the image it belongs it cannot
    say, and a generator that starts from noise has nobody else to ask.

    Args:
        channels: of what is judged.
        size: ``*S``; each side a multiple of 16.
        width: channels after the first convolution.
    """

    def __init__(self, channels: int, size, width: int = 16):
        super().__init__()
        self.body = Critic(channels, len(size), width, levels=4).body
        self.head = nn.Linear(8 * width * prod(n // 16 for n in size), 1)

    def forward(self, seen: Tensor) -> Tensor:
        """Logits ``(B,)`` of ``seen (B, channels, *S)``."""
        return self.head(self.body(seen).flatten(1))[:, 0]
