"""MC dropout: leave the dropout on at test time, and ask more than once."""

from __future__ import annotations

from torch import nn

from lsseg_edu import networks
from lsseg_edu.networks.blocks import DROPOUT, drops
from lsseg_edu.semi.uncertainty.sampled import Sampled


class MCDropout(Sampled):
    r"""Each pass drops other units, and so asks another thinned network :math:`\theta_t`.

    .. math::
        p^{(t)} = \mathrm{softmax}\, f_{\theta_t}(x), \quad \theta_t = \theta \odot z_t, \quad
        z_t \sim \mathrm{Bernoulli}(1 - p); \qquad \bar p = \frac1T \sum_t p^{(t)} .

    Training with dropout and weight decay fits a Bernoulli approximation :math:`q` to the posterior
    of the weights; the passes are draws from :math:`q`. Their spread is *epistemic*: it says how
    far the networks differ that the training would have allowed. Nothing but the dropout is
    random: batch norms keep their running statistics.

    Reference: Gal, Ghahramani, "Dropout as a Bayesian Approximation: Representing Model
    Uncertainty in Deep Learning", ICML 2016; for segmentation Kendall, Badrinarayanan, Cipolla,
    "Bayesian SegNet", BMVC 2017.

    Args:
        net: a network with dropout layers.
        passes: ``T``.

    Raises:
        ValueError: a network without dropout, whose passes would all be the same.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape, unet
        >>> method = MCDropout(unet(Shape(1, 4, 2), dropout=0.1), passes=3)
        >>> method.samples(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([3, 2, 4, 32, 32])
    """

    random = DROPOUT

    def __init__(self, net: nn.Module, passes: int = 16):
        super().__init__(net, passes)
        has_dropout(net)

    @classmethod
    def for_task(cls, task, seed: int = 0, dropout: float = 0.1, **options) -> MCDropout:
        """On the book's U-Net with ``dropout`` everywhere; 0.5 is too much for 8 channels."""
        return cls(networks.unet(task, dropout=dropout, seed=seed), **options)


def has_dropout(net: nn.Module) -> None:
    """Refuse a network whose passes would not differ."""
    if not drops(net):
        raise ValueError(
            "MC passes differ by their dropout, and this network has none: build it with some, "
            "e.g. networks.unet(task, dropout=0.1)."
        )
