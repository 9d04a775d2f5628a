"""Attention U-Net: the decoder tells each skip where to look."""

from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from lsseg_edu.networks.blocks import project, resize
from lsseg_edu.networks.build import build
from lsseg_edu.networks.unet import UNet


class AttentionGate(nn.Module):
    r"""Additive attention: one weight in (0, 1) for each pixel of a skip.

    .. math:: \alpha = \sigma(\psi^\top \mathrm{ReLU}(W_x x + W_g g + b)), \qquad
              \hat x = \alpha\, x

    with the skip :math:`x` and the coarser decoder signal :math:`g`, which knows what is there.
    :math:`W_x` halves the resolution of the skip; :math:`\alpha` is interpolated back to it.
    """

    def __init__(self, dims: int, skip: int, signal: int):
        super().__init__()
        self.from_skip = Conv["conv", dims](skip, skip, 2, stride=2, bias=False)
        self.from_signal = project(dims, signal, skip)
        self.psi = project(dims, skip, 1)

    def attention(self, skip: Tensor, signal: Tensor) -> Tensor:
        """The weights ``(B, 1, *S)`` of ``skip (B, C, *S)`` given ``signal (B, G, *S/2)``."""
        agreement = (self.from_skip(skip) + self.from_signal(signal)).relu()
        return resize(self.psi(agreement).sigmoid(), skip.shape[2:])

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        """The skip, each pixel multiplied by its weight."""
        return self.attention(skip, signal) * skip


class AttentionUNet(UNet):
    """A :class:`~lsseg_edu.networks.UNet` that gates every skip before it is concatenated.

    Written here rather than taken from MONAI, whose gate normalises by batch statistics (see
    :class:`~lsseg_edu.networks.UNet` for why that hurts in this book).

    Simplified: the paper leaves the finest skip ungated and supervises its decoder deeply; here
    all four are gated and only the last output is supervised.

    Reference: Oktay, Schlemper, Le Folgoc et al., MIDL 2018.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16, dropout=0.0):
        super().__init__(channels, classes, dims, width, dropout)
        signals = (self.widths[4], *self.widths[3:0:-1])
        self.gates = nn.ModuleList(
            AttentionGate(dims, skip, signal)
            for skip, signal in zip(self.widths[3::-1], signals, strict=True)
        )

    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of :meth:`encode` to the last feature map ``(B, width, *S)``."""
        *skips, x = features
        ups = (self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1)
        for up, gate in zip(ups, self.gates, strict=True):
            x = up(x, gate(skips.pop(), x))
        return x


def attention_unet(problem, width: int = 8, dropout: float = 0.0, seed: int = 0) -> AttentionUNet:
    """An :class:`AttentionUNet` for a task or cohort, ``width`` channels at full resolution.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> attention_unet(Shape(1, 4, 2), width=8)(torch.zeros(2, 1, 65, 47)).shape
        torch.Size([2, 4, 65, 47])
    """
    return build(AttentionUNet, problem, seed, width=width, dropout=dropout)
