"""Kendall and Gal: a network that predicts its own noise, asked with dropout on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.networks import Shape
from lsseg_edu.networks.blocks import DROPOUT
from lsseg_edu.semi.uncertainty.mc_dropout import has_dropout
from lsseg_edu.semi.uncertainty.sampled import Sampled


class KendallGal(Sampled):
    r"""Predict logits :math:`f` and their variance :math:`\sigma^2`; learn through noisy logits.

    .. math::
        z^{(s)} = f + \sigma \odot \epsilon_s, \quad \epsilon_s \sim N(0, I), \qquad
        L = -\frac{1}{|\Omega|} \sum_i \ln \frac1S \sum_s
            \mathrm{softmax}\big(z_i^{(s)}\big)_{y_i} .

    A pixel whose label cannot be guessed costs less if the network calls it noisy (*loss
    attenuation*): a large :math:`\sigma` lets some of the draws be right. So :math:`\sigma` is
    learnt without a label of its own, and is **aleatoric**. Dropout passes at test time give the
    **epistemic** part; each pass is a softmax averaged over the logit noise, so that

    .. math::
        \underbrace{H\big[\bar p\big]}_{\text{total}} =
        \underbrace{\tfrac1T \sum_t H\big[p^{(t)}\big]}_{\text{aleatoric}} +
        \underbrace{MI}_{\text{epistemic}} .

    Reference: Kendall, Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for Computer
    Vision?", NeurIPS 2017.
    Simplified: Dice of the mean answer is added, as in the baseline; 10 logit draws, not 100.

    Args:
        net: with dropout, images to ``(B, 2K, *S)``: ``K`` logits, then ``K`` log variances.
        passes: ``T`` with dropout (paper: 50).
        draws: ``S`` of the logit noise, in training and in each pass.

    Raises:
        ValueError: no dropout, an odd number of outputs, fewer than one pass or draw.
    """

    random = DROPOUT

    def __init__(self, net: nn.Module, passes: int = 16, draws: int = 10):
        super().__init__(net, passes)
        has_dropout(net)
        if draws < 1:
            raise ValueError(f"{draws} draws of the logits are none: ask for at least 1.")
        self.draws = draws

    @classmethod
    def for_task(cls, task, seed: int = 0, dropout: float = 0.1, **options) -> KendallGal:
        """On the book's U-Net with dropout and twice the outputs."""
        cohort = task.train
        shape = Shape(cohort.channels, 2 * cohort.classes, cohort.dims)
        return cls(networks.unet(shape, dropout=dropout, seed=seed), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``: Dice + cross-entropy of the mean over the noisy logits."""
        log_mean = self.log_mean(*self.heads(batch.labelled.images))
        return {"supervised": losses.dice_ce(log_mean, batch.labelled.labels)}

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and their log variance, each ``(B, K, *S)``."""
        outputs = self.net(images).float()
        if outputs.shape[1] % 2:
            raise ValueError(
                f"The network has {outputs.shape[1]} outputs; K logits and K log variances are 2K."
            )
        return outputs.chunk(2, 1)

    def log_mean(self, logits: Tensor, log_variance: Tensor) -> Tensor:
        r""":math:`\ln \frac1S \sum_s \mathrm{softmax}(z^{(s)})`, stable, ``(B, K, *S)``."""
        deviation = (0.5 * log_variance).exp()
        noise = torch.randn(self.draws, *logits.shape, device=logits.device)
        return (logits + deviation * noise).log_softmax(2).logsumexp(0) - math.log(self.draws)

    def sample(self, images: Tensor) -> Tensor:
        """One dropout pass: the softmax averaged over the noise of the logits."""
        return self.log_mean(*self.heads(images)).exp()

    def variances(self, images: Tensor, passes: int | None = None, seed: int = 0) -> Tensor:
        r"""The predicted :math:`\sigma^2` of ``T`` dropout passes, ``(T, B, K, *S)``."""
        return self.asked(lambda x: self.heads(x)[1].exp(), images, passes, seed)
