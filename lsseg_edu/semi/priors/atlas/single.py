"""Single-atlas segmentation: one labelled subject is moved onto the target, labels and all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.augment import displaced, integrate, warp
from lsseg_edu.semi.priors.atlas.propagation import by_subject
from lsseg_edu.semi.priors.registration import (
    Atlas,
    Registration,
    alignment,
    bending_energy,
)


class SingleAtlas(Registration):
    r"""Segmentation as registration: no network ever learns what an organ looks like.

    The atlas :math:`(a, y)` of **one** subject is moved onto the target :math:`x`, and its labels
    take the same way:

    .. math::
        \hat v = \arg\min_v\ 1 - \mathrm{LNCC}(a \circ e^v, x) + \lambda \int |\nabla^2 v|^2,
        \qquad \hat y = y \circ e^{\hat v} .

    A network that has been trained on many pairs answers with :math:`\hat v` at once. ``steps``
    more steps of gradient descent on the velocity of *this* pair, which is how registration was
    done before networks, can follow; they look at no label either.

    Reference: Rohlfing, Brandt, Menzel, Russakoff, Maurer, "Quo Vadis, Atlas-Based
    Segmentation?", Handbook of Biomedical Image Analysis III, 2005; the network as in
    :class:`.Registration`.
    Simplified: an atlas of slices serves each target with the slice that resembles it.

    Args:
        net: a :class:`~lsseg_edu.networks.RegistrationNet`.
        atlas: the labelled images of one subject.
        bending: :math:`\lambda`, of :class:`.Registration`.
        steps: of gradient descent for each target, after the network's answer.
        rate: length of such a step of Adam, in units of the grid: at 0.005 a sixth of a pixel
            of an image of 64.

    Raises:
        ValueError: a target of another size than the atlas.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> from lsseg_edu.train import Budget, fit
        >>> task = Task.split(load("brain", subjects=34), labelled=1)
        >>> fitted = fit(SingleAtlas.for_task(task), task, Budget.named("smoke"), progress=False)
        >>> fitted.predict(task.valid.images[:2]).shape
        torch.Size([2, 4, 64, 64])
    """

    def __init__(
        self, net: nn.Module, atlas: Atlas, bending: float = 0.01, steps: int = 0, rate=0.005
    ):
        super().__init__(net, atlas, bending)
        self.steps, self.rate = steps, rate

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """The first labelled subject is the atlas."""
        return cls(networks.registration(task, seed=seed), by_subject(task)[0], **options)

    def predict(self, images: Tensor) -> Tensor:
        """Warped atlas masks ``(B, K, *S)``."""
        index = self.atlas.match(images)
        moving = self.atlas.images[index]
        velocity = self.refine(moving, images, self.net(moving, images))
        return self.move(self.atlas.one_hot(index), velocity)

    def refine(self, moving: Tensor, fixed: Tensor, velocity: Tensor) -> Tensor:
        """``steps`` of gradient descent on the velocity ``(B, *S, D)`` of these pairs.

        What is added has half the resolution: neighbours move together, as the network's do. The
        likeness is the mean over the pair and coarser copies of it, where the same window sees
        more: what the network has left far apart can find each other.
        """
        if not self.steps:
            return velocity
        with torch.inference_mode(False), torch.enable_grad():
            moving, fixed, start = (x.detach().clone() for x in (moving, fixed, velocity))
            more = F.interpolate(0 * start.movedim(-1, 1), scale_factor=0.5).requires_grad_()
            optimiser = torch.optim.Adam([more], lr=self.rate)
            for _ in range(self.steps):
                velocity = start + finer(more, start.shape[1:-1])
                moved = warp(moving, displaced(integrate(velocity)))
                unlike = [alignment(m, f, velocity, 0.0) for m, f in pyramid(moved, fixed)]
                loss = torch.stack([one["unlikeness"] for one in unlike]).mean()
                loss = loss + self.bending * bending_energy(velocity)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            return start + finer(more, start.shape[1:-1]).detach()


def pyramid(moved: Tensor, fixed: Tensor):
    """The pair, and its halvings as long as 16 pixels are left along every axis."""
    yield moved, fixed
    halve = F.avg_pool2d if moved.ndim == 4 else F.avg_pool3d
    while min(moved.shape[2:]) >= 32:
        moved, fixed = halve(moved, 2), halve(fixed, 2)
        yield moved, fixed


def finer(field: Tensor, size) -> Tensor:
    """A coarse field ``(B, D, *s)``, linearly interpolated to ``(B, *S, D)``."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(field, tuple(size), mode=mode).movedim(1, -1)
