"""The inner step of adversarial training: uphill, but never out of bounds."""

from __future__ import annotations

import torch
from torch import Tensor


def ascend(objective, start: Tensor, bound, steps: int = 1, rate: float = 1.0) -> Tensor:
    r"""Projected gradient ascent of ``objective(z)`` over the box :math:`|z| \le b`.

    .. math:: z \leftarrow \mathrm{clip}\big(z + r b\, \mathrm{sign}\, \nabla_z J(z),\ -b,\ b\big)

    The sign is the steepest direction of a box, and it makes parameters of any unit move alike:
    pixels, control points, mode coefficients. No weight of a network gets a gradient.

    Args:
        objective: ``z`` to a scalar.
        start: ``(B, ...)``, inside the box. Not a place where the gradient vanishes: a
            divergence from the unchanged answer is least, hence flat, at no change at all.
        bound: :math:`b`, a number or a tensor that broadcasts.
        steps: gradient steps, each of which costs a forward and a backward pass.
        rate: :math:`r`, the length of a step as a share of the bound.

    Returns:
        ``z`` of the shape of ``start``, detached.

    Raises:
        ValueError: a negative bound, or a negative number of steps.

    Reference: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to
    Adversarial Attacks", ICLR 2018.

    Example:
        >>> peak = torch.tensor([0.3, 5.0])
        >>> ascend(lambda z: -(z - peak).square().sum(), torch.zeros(2), 1.0, steps=40, rate=0.05)
        tensor([0.3000, 1.0000])
    """
    bound = torch.as_tensor(bound, device=start.device)
    if (bound < 0).any() or steps < 0:
        raise ValueError(f"An ascent needs bound >= 0 and steps >= 0, not {bound} and {steps}.")
    here = start.detach()
    for _ in range(steps):
        here.requires_grad_()
        with torch.enable_grad(), torch.autocast(start.device.type, enabled=False):
            slope = torch.autograd.grad(objective(here), here)[0]
        here = (here.detach() + rate * bound * slope.sign()).clamp(-bound, bound)
    return here.detach()


def somewhere(like: Tensor, bound) -> Tensor:
    """A random place in the box ``|z| <= bound``, of the shape of ``like``: where to start."""
    return (2 * torch.rand_like(like) - 1) * bound
