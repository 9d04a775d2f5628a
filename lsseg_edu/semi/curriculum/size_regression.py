"""Curriculum semi-supervised segmentation: learn how large, then learn where."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.priors.constraints import Constrained, size_penalty
from lsseg_edu.train import Budget, Fitted, Method, fit


class SizeRegressor(Method):
    r"""The easy task: the share of the image that each organ takes, one number a class.

    .. math:: L = \frac{1}{K-1} \sum_{k \ge 1} \Big(\frac{R(x)_k - V_k}{s_k}\Big)^2

    The encoder of the U-Net, averaged over space, and a linear layer. :math:`s_k`, the largest
    size in the labelled masks, makes the classes alike.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`; its decoder is not used.
        scale: ``(K-1,)`` shares of the image.
    """

    def __init__(self, net: nn.Module, scale: Tensor):
        super().__init__(net)
        self.register_buffer("scale", scale)
        self.head = nn.Linear(net.widths[-1], len(scale))
        nn.init.zeros_(self.head.weight)

    def guess(self, images: Tensor) -> Tensor:
        """Sizes ``(B, K-1)`` in units of the scale, which may be negative."""
        deepest = self.net.encode(images)[-1]
        return self.head(deepest.flatten(2).mean(2))

    def sizes(self, images: Tensor) -> Tensor:
        """Shares ``(B, K-1)``, not negative, of images ``(B, C, *S)``."""
        return self.guess(images).relu() * self.scale

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"size": squared error}`` on the labelled images."""
        truth = shares(batch.labelled.labels, len(self.scale) + 1) / self.scale
        return {"size": (self.guess(batch.labelled.images) - truth).square().mean()}


class SizeGuided(Constrained):
    r"""The hard task, with the easy one's answer as a constraint on the unlabelled images.

    .. math:: (1 - \gamma) R(x)_k \le V_k(f_\theta(x)) \le (1 + \gamma) R(x)_k

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        regressor: trained; frozen here.
        gamma: :math:`\gamma`, the tolerance (paper 0.1).
        weight: largest weight of the penalty.
        ramp: fraction of training over which it rises.

    Raises:
        ValueError: a tolerance outside [0, 1).
    """

    def __init__(self, net, regressor: SizeRegressor, gamma=0.1, weight: float = 0.3, ramp=0.4):
        if not 0 <= gamma < 1:
            raise ValueError(
                f"The size bounds are crossed or idle: give gamma in [0, 1), not {gamma}."
            )
        super().__init__(net, weight, ramp)
        self.regressor, self.gamma = regressor.requires_grad_(False), gamma

    def penalty(self, probs: Tensor, batch) -> Tensor:
        """Squared violation of the inequalities, on the unlabelled images only."""
        with torch.no_grad():
            guess = self.regressor.sizes(batch.unlabelled.images)
        low, high = (1 - self.gamma) * guess, (1 + self.gamma) * guess
        return size_penalty(probs[-len(guess) :, 1:], low, high, self.regressor.scale)


def size_curriculum(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    gamma: float = 0.1,
    weight: float = 0.3,
    **kwargs,
) -> Fitted:
    """Train the regressor, then the segmenter within its bounds.

    How large an organ is can be read off a few masks more reliably than where it ends: one number
    instead of thousands. The regressor sees each unlabelled image as augmented as the segmenter
    does, so a scaled image has a scaled bound.

    Reference: Kervadec, Dolz, Granger, Ben Ayed, "Curriculum Semi-Supervised Segmentation",
    MICCAI 2019.
    Simplified: the regressor is the U-Net's encoder instead of a ResNeXt 101; sizes relative to the
    class's largest one, instead of pixels.

    Args:
        task: the problem.
        budget: of each stage; by default ``Budget.auto()``. The first costs about a third.
        seed: of weights and draws; the second stage is the baseline's.
        gamma: tolerance.
        weight: of the penalty; 0 is the baseline.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: gamma outside [0, 1).
    """
    budget = budget or Budget.auto()
    labels = task.train.labels[task.labelled]
    scale = shares(labels, task.train.classes).amax(0)
    regressor = SizeRegressor(networks.unet(task, seed=seed + 1000), scale)
    first = fit(regressor, task, budget, seed + 1000, **kwargs)
    guided = SizeGuided.for_task(task, seed, regressor=regressor, gamma=gamma, weight=weight)
    second = fit(guided, task, budget, seed, **kwargs)
    second.seconds += first.seconds
    second.history = {**first.history, **second.history}
    return second


def shares(labels: Tensor, classes: int) -> Tensor:
    """Share ``(B, K-1)`` of the known pixels that each foreground class takes."""
    known = (labels != IGNORE).flatten(1).float().sum(1).clamp(min=1)
    counts = [(labels == k).flatten(1).float().sum(1) / known for k in range(1, classes)]
    return torch.stack(counts, 1)
