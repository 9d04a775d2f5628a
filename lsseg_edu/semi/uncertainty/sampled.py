"""What the estimators of uncertainty share: many random answers to one image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.train import Method


class Sampled(Method):
    r"""A supervised network that answers ``T`` times at random; its prediction is the mean.

    .. math:: \bar p = \frac1T \sum_{t=1}^T p^{(t)}, \qquad p^{(t)} \sim p(\cdot \mid x)

    Where the randomness comes from is the subclass's own: it writes :meth:`sample`, or names in
    ``random`` the kinds of layer that draw. It is trained like the baseline unless it says more.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        passes: ``T``. 16 suffice for the mean; its error falls as :math:`1/\sqrt T`.

    Raises:
        ValueError: fewer than one pass.
    """

    random: tuple[type[nn.Module], ...] = ()

    def __init__(self, net: nn.Module, passes: int = 16):
        super().__init__(net)
        self.passes = at_least_one(passes)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``: that of the baseline."""
        logits = self.net(batch.labelled.images)
        return {"supervised": losses.dice_ce(logits, batch.labelled.labels)}

    def sample(self, images: Tensor) -> Tensor:
        """One random answer, probabilities ``(B, K, *S)``."""
        return self.net(images).float().softmax(1)

    def samples(self, images: Tensor, passes: int | None = None, seed: int = 0) -> Tensor:
        """``T`` random answers ``(T, B, K, *S)``, the same ones whenever ``seed`` is the same.

        Args:
            images: ``(B, C, *S)``.
            passes: ``T``; by default the method's own.
            seed: of the draws; the global random state stays as it was.
        """
        return self.asked(self.sample, images, passes, seed)

    @torch.no_grad()
    def asked(self, question: Callable, images: Tensor, passes: int | None, seed: int) -> Tensor:
        """``question(images)``, ``T`` times, with only the layers ``random`` drawing."""
        passes = at_least_one(self.passes if passes is None else passes)
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices), only(self, self.random):
            torch.manual_seed(seed)
            return torch.stack([question(images) for _ in range(passes)])

    def predict(self, images: Tensor) -> Tensor:
        """The mean ``(B, K, *S)`` of the answers."""
        return self.samples(images).mean(0)


def at_least_one(passes: int) -> int:
    """``passes``, if it is a number of passes."""
    if passes < 1:
        raise ValueError(f"{passes} passes give no answer: ask for at least 1, better 10 to 20.")
    return passes


@contextmanager
def only(module: nn.Module, kinds: tuple[type[nn.Module], ...]):
    """Inside, layers of these kinds are in training mode and all others in evaluation mode.

    Afterwards each layer is in the mode it had.
    """
    modes = {layer: layer.training for layer in module.modules()}
    for layer in modes:
        layer.training = isinstance(layer, kinds)
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode
