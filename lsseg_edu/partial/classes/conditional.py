"""Conditional network: one number tells the decoder which class is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.networks.blocks import project
from lsseg_edu.partial.classes.asked import Asked


class Told(nn.Module):
    """A nonlinearity that is told a number: ``act(x + number)``, alike for all pixels and channels.

    A shift decides which pixels pass a rectifier, and so which features live on. The place
    matters: before an instance normalisation the same shift would be subtracted again.

    Args:
        act: the nonlinearity.
    """

    def __init__(self, act: nn.Module):
        super().__init__()
        self.act, self.number = act, None

    def forward(self, x: Tensor) -> Tensor:
        """``x (B, C, *S)``; one number for each item, ``(B,)``."""
        return self.act(x + self.number.view(-1, *[1] * (x.ndim - 1)).to(x))


class ConditionalNet(Asked):
    r"""A network for one class at a time, whichever is asked for.

    Between convolution and nonlinearity of every decoder layer stands a number for the class,

    .. math:: x^{l+1} = \sigma\big(N(w^l * x^l) + H(c)\, \mathbf 1\big), \qquad
              H(c) \text{ from a fixed table,}

    and one output channel says where class c is. The weights are those of all classes together;
    no label needs to be complete, since only one class is ever asked for.

    Reference: Dmitriev, Kaufman, "Learning Multi-Class Segmentations From Single-Class Datasets",
    CVPR 2019.
    Simplified: a 2D or 3D U-Net; the number is added, behind the normalisation; the table is
    evenly spaced.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`; its decoder's nonlinearities are replaced.
        classes: ``K``, with the background.
        spread: the numbers of the table run from ``-spread`` to ``spread``. Normalised features
            have deviation 1. At 0 all classes get the same answer.

    Raises:
        ValueError: fewer than two classes to ask for.
    """

    def __init__(self, net, classes: int, spread: float = 1.0):
        super().__init__(net, classes)
        if classes < 3:
            raise ValueError("With one foreground class there is nothing to ask: use Supervised.")
        self.told = []
        for up in (net.upcat_4, net.upcat_3, net.upcat_2, net.upcat_1):
            for layer in (up.convs.conv_0, up.convs.conv_1):
                layer.adn.A = Told(layer.adn.A)
                self.told.append(layer.adn.A)
        self.register_buffer("table", torch.linspace(-spread, spread, classes - 1))
        self.head = project(net.final_conv.weight.ndim - 2, net.widths[0], 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """The encoder does not know what will be asked."""
        return self.net.encode(images)

    def answer(self, features, asked: Tensor) -> Tensor:
        """Logits ``(B, *S)`` of the class ``asked (B,)``."""
        for layer in self.told:
            layer.number = self.table[asked - 1]
        return self.head(self.net.decode(features))[:, 0]
