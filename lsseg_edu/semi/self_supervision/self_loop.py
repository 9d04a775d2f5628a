"""Self-loop uncertainty: a few steps of jigsaw make an ensemble, its mean a pseudo-label."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lsseg_edu import losses, networks
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.semi.self_supervision.jigsaw import Jigsaw
from lsseg_edu.train import Method


class SelfLoop(Method):
    r"""Solve jigsaws of an unlabelled image, segment it after each step, believe the average.

    One encoder feeds a segmentation decoder and a jigsaw head. For a batch ``x`` without labels
    the jigsaw is optimised ``K`` times, and every iteration leaves a slightly other encoder:

    .. math::
        \theta_k = \theta_{k-1} - \rho\, \nabla L_{jig}(x; \theta_{k-1}), \qquad
        \bar p = \frac1K \sum_{k=1}^{K} f_{\theta_k}(x), \qquad
        L = L_{sup} + L_{jig} + w(t)\, \frac{1}{|\Omega|C} \| f_{\theta_0}(x) - \bar p \|^2 .

    The mean of the ``K`` predictions is soft where they disagree: it carries the uncertainty that
    an ensemble of networks would have, without one. It is a target; no gradient enters it.

    Reference: Li, Chen, Xie, Ma, Zheng, "Self-loop Uncertainty: A Novel Pseudo-Label for
    Semi-supervised Medical Image Segmentation", MICCAI 2020.
    Simplified: the ``K`` iterations move a copy by plain gradient descent; the network itself
    learns the jigsaw by the term :math:`L_{jig}`.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        size: of the images, ``*S``.
        weight: largest weight of the pseudo-label term; 1, as in Mean Teacher here.
        puzzle_weight: weight of the jigsaw. Smaller than the supervised term's, since both
            move the same encoder and only one of them is what we want.
        loops: ``K``; each costs a jigsaw and a prediction.
        rate: :math:`\rho`, large enough that the predictions differ.
        ramp: fraction of training over which the weight rises.
    """

    unlabelled = True

    def __init__(
        self, net, size, weight=1.0, puzzle_weight=0.1, loops: int = 3, rate=0.1, ramp=0.4
    ):
        super().__init__(net)
        self.puzzle = Jigsaw(net, size)
        self.weight, self.puzzle_weight = weight, puzzle_weight
        self.loops, self.rate, self.ramp = loops, rate, ramp

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> SelfLoop:
        """The method on the book's U-Net; ``seed`` draws the jigsaw head's weights as well."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(networks.unet(task, seed=seed), task.train.images.shape[2:], **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, ``jigsaw``, and ``pseudo``, the last two already weighted."""
        target = self.pseudo_label(batch)
        answer = self.net(batch.unlabelled.images).softmax(1)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {
            "supervised": losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels),
            "jigsaw": self.puzzle_weight * self.puzzle.loss(batch)["jigsaw"],
            "pseudo": weight * (answer - target).square().mean(),
        }

    def pseudo_label(self, batch) -> Tensor:
        """Mean probabilities ``(B, K, *S)`` over the iterations; the network stays as it is."""
        images, twin, mean = batch.unlabelled.images, copy.deepcopy(self.puzzle), 0.0
        weights = list(twin.parameters())
        with torch.autocast(images.device.type, enabled=False):
            for _ in range(self.loops):
                loss = twin.loss(batch)["jigsaw"]
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
                with torch.no_grad():
                    for weight, gradient in zip(weights, gradients, strict=True):
                        if gradient is not None:
                            weight -= self.rate * gradient
                    mean = mean + twin.net(images).softmax(1) / self.loops
        return mean
