"""What bodies differ by: the motions that register labelled images with unlabelled ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.semi.priors import Registration
from lsseg_edu.train import Budget, fit


@dataclass(frozen=True)
class Motions:
    """The velocities that take labelled images to unlabelled ones, sorted by labelled image.

    Attributes:
        velocities: ``(N, *S, D)``, in units of the grid; read the labelled image at their
            exponential and it looks like the unlabelled one.
        source: ``(N,)`` which labelled image moves, counted among the labelled; ascending.
        target: ``(N,)`` which unlabelled image it then resembles, counted among the unlabelled.
        seconds: that the registration took.
    """

    velocities: Tensor
    source: Tensor
    target: Tensor
    seconds: float = 0.0


def register_unlabelled(
    task: Task, budget: Budget | None = None, seed: int = 0, bending: float = 0.1, **kwargs
) -> Motions:
    """Train a registration on the task's images and apply it to every unlabelled one.

    Each unlabelled image is met by the labelled image that resembles it most
    (:meth:`.Atlas.match`); no label takes part.

    Args:
        task: with labelled and unlabelled training images.
        budget: of the registration; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        bending: of :class:`.Registration`. Ten times its default: a new body has to be smooth
            more than it has to match to the last pixel.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no unlabelled image.
    """
    if len(task.unlabelled) == 0:
        raise ValueError(
            "The task has no unlabelled training image to register: use Task.keep(labelled=n)."
        )
    fitted = fit(Registration.for_task(task, seed, bending=bending), task, budget, seed, **kwargs)
    method, parts = fitted.method.cpu().eval(), []
    images = task.train.images[task.unlabelled]
    source = method.atlas.match(images)
    with torch.no_grad():
        for some, target in zip(source.split(64), images.split(64), strict=True):
            parts.append(method.net(method.atlas.images[some], target))
    order = source.argsort(stable=True)
    return Motions(torch.cat(parts)[order], source[order], order, fitted.seconds)


@dataclass(frozen=True)
class Modes:
    r"""A statistical deformation model: velocities are :math:`\sum_m a_m \sigma_m d_m`.

    Attributes:
        directions: :math:`d_m`, ``(M, *S, D)``, orthonormal.
        deviations: :math:`\sigma_m`, ``(M,)``, the largest first.
        explained: fraction of the variance that the ``M`` modes hold.
    """

    directions: Tensor
    deviations: Tensor
    explained: float

    @classmethod
    def of(cls, velocities: Tensor, count: int = 8) -> Modes:
        """Principal components of velocities ``(N, *S, D)``, their mean taken off.

        Args:
            velocities: more than one.
            count: ``M``; at most as many as there are velocities, less one.

        Raises:
            ValueError: fewer than two velocities, or a count that they do not have.
        """
        if not 1 <= count < len(velocities):
            raise ValueError(
                f"{count} modes of {len(velocities)} deformations cannot be: ask for 1 to "
                f"{len(velocities) - 1}, or register more images."
            )
        flat = velocities.flatten(1)
        flat = flat - flat.mean(0)
        variance, inner = torch.linalg.eigh(flat @ flat.T)  # N x N, not pixels x pixels
        variance, inner = variance.flip(0).clamp(min=1e-12), inner.flip(1)
        across = (inner.T[:count] @ flat) / variance[:count, None].sqrt()
        explained = float(variance[:count].sum() / variance.sum())
        deviations = (variance[:count] / (len(flat) - 1)).sqrt()
        return cls(across.view(count, *velocities.shape[1:]), deviations, explained)

    def velocity(self, coefficients: Tensor) -> Tensor:
        """``(B, *S, D)`` of coefficients ``(B, M)``, counted in deviations; 0 moves nothing."""
        share = coefficients * self.deviations
        share = share.view(*share.shape, *[1] * (self.directions.ndim - 1))
        return (share * self.directions).sum(1)  # no matrix product: autocast would halve it
