"""Squeeze and excite: a feature map that turns its own channels and places up and down."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.networks.blocks import project
from lsseg_edu.networks.build import build
from lsseg_edu.networks.unet import UNet
from lsseg_edu.train import Budget, Fitted, Supervised, fit


class ChannelGate(nn.Module):
    r"""Spatial squeeze, channel excitation (cSE): *which* features matter in this image.

    .. math:: \hat u_c = u_c\, \sigma\big(W_2\, \mathrm{ReLU}(W_1 \bar u)\big)_c, \qquad
              \bar u_c = \frac{1}{|\Omega|} \sum_i u_{ci}

    Args:
        channels: of the feature map.
        ratio: how much narrower the hidden layer is (Roy et al. take 2, Hu et al. 16).

    Reference: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018.
    """

    def __init__(self, channels: int, ratio: int = 2):
        super().__init__()
        hidden = max(channels // ratio, 1)
        self.excite = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def gate(self, features: Tensor) -> Tensor:
        """One weight in (0, 1) a channel: ``(B, C, 1, ...)``."""
        weights = self.excite(features.flatten(2).mean(2))
        return weights.view(*weights.shape, *[1] * (features.ndim - 2))

    def forward(self, features: Tensor) -> Tensor:
        """The features ``(B, C, *S)``, each channel times its weight."""
        return features * self.gate(features)


class SpatialGate(nn.Module):
    r"""Channel squeeze, spatial excitation (sSE): *where* the features matter.

    .. math:: \hat u_i = u_i\, \sigma(w^\top u_i + b)

    Reference: Roy, Navab, Wachinger, "Concurrent Spatial and Channel 'Squeeze & Excitation' in
    Fully Convolutional Networks", MICCAI 2018.
    """

    def __init__(self, dims: int, channels: int):
        super().__init__()
        self.squeeze = project(dims, channels, 1)

    def gate(self, features: Tensor) -> Tensor:
        """One weight in (0, 1) a pixel: ``(B, 1, *S)``."""
        return self.squeeze(features).sigmoid()

    def forward(self, features: Tensor) -> Tensor:
        """The features ``(B, C, *S)``, each pixel times its weight."""
        return features * self.gate(features)


class SCSE(nn.Module):
    r"""Both gates at once, added: :math:`\hat u = \hat u_{cSE} + \hat u_{sSE}`.

    A feature stays strong if its channel *or* its place matters.

    Args:
        dims: 2 or 3.
        channels: of the feature map.
        ratio: see :class:`ChannelGate`.

    Reference: Roy, Navab, Wachinger, MICCAI 2018.
    """

    def __init__(self, dims: int, channels: int, ratio: int = 2):
        super().__init__()
        self.channel, self.spatial = ChannelGate(channels, ratio), SpatialGate(dims, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The features ``(B, C, *S)``, recalibrated."""
        return self.channel(features) + self.spatial(features)


class SCSEUNet(UNet):
    """A :class:`~lsseg_edu.networks.UNet` with an :class:`SCSE` after each of its nine blocks."""

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16, dropout=0.0):
        super().__init__(channels, classes, dims, width, dropout)
        for name, size in zip(("conv_0", *DOWN), self.widths, strict=True):
            setattr(self, name, nn.Sequential(getattr(self, name), SCSE(dims, size)))
        sizes = (*self.widths[3:0:-1], width)
        self.recalibrate = nn.ModuleList(SCSE(dims, size) for size in sizes)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of :meth:`encode` to the last feature map ``(B, width, *S)``."""
        *skips, x = features
        for name, scse in zip(UP, self.recalibrate, strict=True):
            x = scse(getattr(self, name)(x, skips.pop()))
        return x


DOWN = ("down_1", "down_2", "down_3", "down_4")
UP = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")


def scse_unet(problem, width: int = 8, dropout: float = 0.0, seed: int = 0) -> SCSEUNet:
    """An :class:`SCSEUNet` for a task or cohort, ``width`` channels at full resolution.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> scse_unet(Shape(1, 4, 2))(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 4, 64, 64])
    """
    return build(SCSEUNet, problem, seed, width=width, dropout=dropout)


def scse_supervised(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """The supervised baseline with the scSE block in its network, and nothing else changed.

    Args:
        task: any problem with labels; the block is no few-shot method by itself.
        budget: by default :meth:`Budget.auto`.
        seed: of weights and draws.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.
    """
    return fit(Supervised(scse_unet(task, seed=seed)), task, budget, seed, **kwargs)
