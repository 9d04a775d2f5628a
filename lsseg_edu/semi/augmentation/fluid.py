"""Fluid augmentation: on the way from one body to another there are other bodies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment import Augment, displaced, integrate, warp, warp_labels
from lsseg_edu.data import Task
from lsseg_edu.semi.augmentation.deformations import Motions, register_unlabelled
from lsseg_edu.train import Budget, Fitted, Method, fit


class Fluid(Method):
    r"""Train on points of the geodesics from each labelled image to the unlabelled ones.

    Let :math:`v_1, \dots, v_K` register the labelled image :math:`x` with ``K`` unlabelled images
    that resemble it. Any

    .. math::
        v = t \sum_k \lambda_k v_k, \qquad \sum_k \lambda_k = 1, \quad t \in [0, T], \qquad
        (x, y) \mapsto (x \circ \exp v,\ y \circ \exp v)

    is a body between them, or a little beyond where :math:`T > 1`. Image and label take the
    same way. Then the pair is augmented like any other, and its loss is a second term.

    Reference: Shen, Xu, Olut, Niethammer, "Anatomical Data Augmentation via Fluid-Based Image
    Registration", MICCAI 2020.
    Simplified: stationary velocities are interpolated, where the paper shoots momenta of a fluid
    model; partners are those whose best match the labelled image is.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        images: ``(M, C, *S)``, all labelled images.
        labels: ``(M, *S)`` theirs.
        motions: of :func:`.register_unlabelled`.
        targets: ``K`` (paper 2).
        reach: ``T``.
        weight: of the second term. At 0 this is the supervised baseline.
        augment: of the new pairs; by default ``Augment.strong()``, as of the others.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor,
        motions: Motions,
        targets: int = 2,
        reach: float = 1.0,
        weight: float = 1.0,
        augment=None,
    ):
        super().__init__(net)
        count = motions.source.bincount(minlength=len(images))
        for name, value in {
            "images": images,
            "labels": labels,
            "velocities": motions.velocities,
            "count": count,
            "first": count.cumsum(0) - count,
        }.items():
            self.register_buffer(name, value)
        self.targets, self.reach, self.weight = targets, reach, weight
        self.augment = augment or Augment.strong()

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the batch, ``fluid`` (already weighted) on as many new pairs."""
        part = batch.labelled
        images, labels = self.sample(torch.randint(len(self.images), (len(part.images),)))
        images, labels = self.augment(images, labels, _generator(images))
        return {
            "supervised": losses.dice_ce(self.net(part.images), part.labels),
            "fluid": self.weight * losses.dice_ce(self.net(images), labels),
        }

    def sample(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """New pairs from the labelled images ``index (B,)``: ``(B, C, *S)`` and ``(B, *S)``."""
        index = index.to(self.count.device)
        grid = displaced(integrate(self.velocity(index)))
        return warp(self.images[index], grid), warp_labels(self.labels[index], grid)

    def velocity(self, index: Tensor) -> Tensor:
        """A random :math:`v` for each labelled image, ``(B, *S, D)``; 0 where it has no partner."""
        draw = torch.rand(len(index), self.targets, device=index.device)
        chosen = self.first[index, None] + (draw * self.count[index, None]).long()
        found = (self.count[index] > 0).float()
        chosen = chosen.clamp(max=len(self.velocities) - 1)
        share = torch.rand(draw.shape, device=index.device).clamp(min=1e-6).log()
        share = share / share.sum(1, keepdim=True)  # uniform on the simplex
        share = share * (self.reach * torch.rand(len(index), 1, device=index.device))
        share = (share * found[:, None]).view(*share.shape, *[1] * (self.velocities.ndim - 1))
        return (share * self.velocities[chosen]).sum(1)


def _generator(images):
    """A generator on the device of ``images``, seeded by the global random state."""
    return torch.Generator(images.device).manual_seed(int(torch.randint(2**31, ())))


def fluid_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    targets: int = 2,
    reach: float = 1.0,
    weight: float = 1.0,
    **kwargs,
) -> Fitted:
    """Register the unlabelled images with the labelled ones, then train with :class:`Fluid`.

    Args:
        task: the problem.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        targets: as in :class:`Fluid`, like ``reach`` and ``weight``.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no unlabelled image.
    """
    motions = register_unlabelled(task, budget, seed, **kwargs)
    given = task.train.images[task.labelled], task.train.labels[task.labelled]
    method = Fluid.for_task(
        task,
        seed,
        images=given[0],
        labels=given[1],
        motions=motions,
        targets=targets,
        reach=reach,
        weight=weight,
    )
    fitted = fit(method, task, budget, seed, **kwargs)
    fitted.seconds += motions.seconds
    return fitted
