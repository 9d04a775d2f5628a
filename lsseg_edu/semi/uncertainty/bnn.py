"""Bayes by backprop: a weight is not a number but a Gaussian."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from lsseg_edu import networks
from lsseg_edu.semi.uncertainty.sampled import Sampled


class Gaussian(nn.Module):
    """A parametrisation of a weight: in training mode a draw, in evaluation mode the mean."""

    def __init__(self, weight: Tensor, sigma: float):
        super().__init__()
        self.rho = nn.Parameter(torch.full_like(weight, math.log(math.expm1(sigma))))

    @property
    def sigma(self) -> Tensor:
        """The deviation of each weight, positive."""
        return F.softplus(self.rho)

    def forward(self, mean: Tensor) -> Tensor:
        """``mean`` plus noise of deviation ``sigma``, drawn at every call."""
        return mean + self.sigma * torch.randn_like(mean) if self.training else mean


class BayesByBackprop(Sampled):
    r"""Learn mean and deviation of each convolution weight by maximising the evidence bound.

    .. math::
        L = L_{sup}(\theta; y) + \frac{\beta}{N}\, KL\big(q(\theta) \,\Vert\, p(\theta)\big),
        \qquad \theta = \mu + \sigma \odot \epsilon, \quad \epsilon \sim N(0, I), \quad
        \sigma = \ln(1 + e^\rho) .

    The posterior :math:`q` is a Gaussian for each weight, the prior :math:`p` is
    :math:`N(0, s^2)`. Since :math:`\theta` is written as a function of :math:`\mu, \rho` and noise,
    the gradient passes through the draw. Weights that the data pin down get a small
    :math:`\sigma`; the others drift to the prior. The bound sums the log-likelihood over the
    ``N`` annotated pixels, and our losses are means over pixels: hence the 1/N.

    Reference: Blundell, Cornebise, Kavukcuoglu, Wierstra, "Weight Uncertainty in Neural Networks",
    ICML 2015.
    Simplified: one Gaussian as the prior instead of a mixture of two; biases and norms are plain
    numbers; the likelihood term has the baseline's Dice in it.

    Args:
        net: its convolutions are made Gaussian in place.
        pixels: ``N``, annotated pixels of the training set.
        passes: ``T`` at test time; training draws once a step.
        sigma: :math:`\sigma` at the start, small beside the weights, so that training can begin.
        prior: ``s``. The weights of a fresh U-Net have deviations of about 0.1.
        beta: 1 is the bound; less trusts the data more ("cold posterior").

    Raises:
        ValueError: no convolution, a deviation that is not positive, no annotated pixel.
    """

    random = (Gaussian,)

    def __init__(self, net: nn.Module, pixels: int, passes=16, sigma=0.01, prior=0.1, beta=1.0):
        super().__init__(net, passes)
        if min(sigma, prior) <= 0 or pixels < 1:
            raise ValueError(
                f"sigma, prior and pixels must be positive, not {sigma}, {prior} and {pixels}."
            )
        convolutions = [m for m in net.modules() if isinstance(m, _ConvNd)]
        if not convolutions:
            raise ValueError("The network has no convolution whose weights could be Gaussian.")
        for layer in convolutions:
            gaussian = Gaussian(layer.weight, sigma)
            parametrize.register_parametrization(layer, "weight", gaussian)
        self.convolutions = convolutions
        self.pixels, self.prior, self.beta = pixels, prior, beta

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> BayesByBackprop:
        """On the book's U-Net, with the pixels of the task's labelled images."""
        pixels = task.train.labels[task.labelled].numel()
        return cls(networks.unet(task, seed=seed), pixels, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` of one draw of the weights, and ``kl`` a pixel."""
        return {**super().loss(batch), "kl": self.beta * self.kl() / self.pixels}

    def kl(self) -> Tensor:
        r""":math:`\sum \ln\frac{s}{\sigma} + \frac{\sigma^2 + \mu^2}{2 s^2} - \frac12`, nats."""
        total = 0.0
        for layer in self.convolutions:
            mean, sigma = layer.parametrizations.weight.original, gaussian_of(layer).sigma
            spread = (sigma.square() + mean.square()) / (2 * self.prior**2)
            total = total + (math.log(self.prior) - sigma.log() + spread - 0.5).sum()
        return total


def gaussian_of(layer: nn.Module) -> Gaussian:
    """The :class:`Gaussian` of a layer's weight."""
    return layer.parametrizations.weight[0]
