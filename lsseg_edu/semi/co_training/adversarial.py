"""Adversarial examples: the small change of an image that harms one network most."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses


def fgsm(net: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    r"""Fast gradient sign method: one step uphill on the loss of the labels.

    .. math:: x + \epsilon\, \mathrm{sign}\, \nabla_x L_{CE}\big(f(x), y\big)

    Every pixel changes by :math:`\epsilon` (or not at all, where its gradient is zero).

    Args:
        net: the network under attack. Its weights get no gradient.
        images: ``(B, C, *S)``, deviation 1.
        labels: ``(B, *S)``, IGNORE where not annotated.
        epsilon: in image deviations, not negative.

    Returns:
        ``(B, C, *S)``, detached.

    Reference: Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples",
    ICLR 2015.
    """
    _check(epsilon)
    gradient = _uphill(lambda x: losses.cross_entropy(net(x), labels), images)
    return images + epsilon * gradient.sign()


def virtual_adversarial(
    net: nn.Module, images: Tensor, target: Tensor, epsilon: float, probe: float = 0.01
) -> Tensor:
    r"""The direction in which the network changes its own mind fastest; no label is needed.

    One step of power iteration: from a tiny random change :math:`\xi d`,

    .. math::
        g = \nabla_r\, KL\big(p(x) \,\Vert\, p(x + r)\big)\Big|_{r = \xi d}, \qquad
        x + \epsilon\, \frac{g}{\mathrm{rms}(g)} .

    At :math:`r = 0` the divergence is least and has no slope; hence the probe.

    Args:
        net: the network under attack. Its weights get no gradient.
        images: ``(B, C, *S)``, deviation 1.
        target: ``(B, K, *S)`` its probabilities :math:`p(x)`, detached.
        epsilon: root mean square of the change, in image deviations, not negative. A mean, not
            a norm, so that it means the same for images of any size.
        probe: :math:`\xi`, root mean square of the first change.

    Returns:
        ``(B, C, *S)``, detached.

    Reference: Miyato, Maeda, Koyama, Ishii, "Virtual Adversarial Training", IEEE TPAMI 2019.
    """
    _check(epsilon)
    start = images + probe * unit(torch.randn_like(images))
    return images + epsilon * unit(
        _uphill(lambda x: F.cross_entropy(net(x).float(), target.float()), start)
    )


def unit(change: Tensor) -> Tensor:
    """Scaled to root mean square 1 in each item; a change of zero stays zero."""
    size = change.flatten(1).square().mean(1).sqrt()
    return change / size.clamp(min=1e-20).view(-1, *(1,) * (change.ndim - 1))


def _uphill(loss, images: Tensor) -> Tensor:
    """Gradient of ``loss(images)`` to the images, in full precision; weights are left alone."""
    where = images.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        return torch.autograd.grad(loss(where), where)[0]


def _check(epsilon: float):
    if epsilon < 0:
        raise ValueError(f"The size of a change cannot be negative: epsilon is {epsilon}.")
