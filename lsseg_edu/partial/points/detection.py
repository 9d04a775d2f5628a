"""Detection from some of the points: what is far from any click is unknown, until it is learnt."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.data.annotate.components import padded
from lsseg_edu.partial.points.clicked import clicked, nearest, taught
from lsseg_edu.train import Budget, Method, fit


def heat_maps(
    points: Tensor, size, classes: int, near: float = 4.0, far: float = 8.0
) -> tuple[Tensor, Tensor]:
    r"""Qu's extended Gaussian masks: a hill about each click, and background about the hill.

    .. math:: M_i = \begin{cases} e^{-d_i^2 / 2\sigma^2} & d_i < r_1 \\ 0 & r_1 \le d_i < r_2 \\
                    \text{unknown} & d_i \ge r_2 \end{cases}, \qquad \sigma = r_1 / 3

    Args:
        points: ``(B, M, 1 + dims)``; clicks of class 0 are known to be background, too.
        size: ``*S``.
        classes: ``K``; each object class has hills of its own.
        near: :math:`r_1` in pixels, about the radius of a nucleus.
        far: :math:`r_2`, about the distance to its neighbours.

    Returns:
        Heat ``(B, K - 1, *S)`` in [0, 1], and what is known, ``(B, *S)`` bool.
    """
    klass, heat = points[..., :1], []
    for k in range(1, classes):
        distance, _ = nearest(points.where(klass == k, -1), size)
        hill = torch.exp(-distance.square() / (2 * (near / 3) ** 2))
        heat.append(hill.where(distance < near, 0))
    known = nearest(points, size)[0] < far
    item, row = (points[..., 0] == 0).nonzero(as_tuple=True)
    known[(item, *points[item, row, 1:].T)] = True
    return torch.stack(heat, 1), known


class HeatMaps(Method):
    """Regress heat maps where they are known, with squares; hills weigh ten times the plain.

    ``extras["heat"] (N, K - 1, *S)`` is in steps of 1/255, ``extras["known"] (N, *S)`` is 0 or 1:
    as integers they move with the image under augmentation.
    """

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"heat": weighted mean square}`` over what is known."""
        part = batch.labelled
        target = part.extras["heat"].float() / 255
        weight = part.extras["known"].float().unsqueeze(1) * (1 + 9 * (target > 0))
        error = weight * (self.heat(part.images) - target).square()
        return {"heat": error.sum() / weight.sum().clamp(min=1)}

    def heat(self, images: Tensor) -> Tensor:
        """``(B, K - 1, *S)`` in (0, 1)."""
        return self.net(images).float()[:, 1:].sigmoid()

    def predict(self, images: Tensor) -> Tensor:
        """Heat and, in front of it, what is left of 1: ``(B, K, *S)``."""
        heat = self.heat(images)
        return torch.cat([1 - heat.amax(1, keepdim=True), heat], 1)


def background_grown(known: Tensor, heat: Tensor, low: float = 0.1) -> Tensor:
    """What is known, and what the detector is sure to be background: heat below ``low``.

    Undiscovered nuclei are neither: they stay unknown, so that no one teaches that they are not
    there.

    Args:
        known: ``(B, *S)`` bool.
        heat: ``(B, K - 1, *S)``.
        low: the largest heat of background.
    """
    return known | (heat.amax(1) < low)


def peaks(heat: Tensor, given: Tensor, high: float = 0.5, apart: int = 3) -> Tensor:
    """Clicks that are given, and local maxima of the heat that are none of them.

    Args:
        heat: ``(B, K - 1, *S)``.
        given: ``(B, M, 1 + dims)``, kept as they are.
        high: the least heat of a peak, half the height of a hill.
        apart: pixels; of closer peaks the highest counts (all, if they are equal), and none that
            is this close to a click.

    Returns:
        ``(B, M', 1 + dims)``, padded with -1; the class is that of the hottest map.
    """
    top, klass = heat.max(1)
    pool = F.max_pool2d if top.ndim == 3 else F.max_pool3d
    summit = top == pool(top.unsqueeze(1), 2 * apart + 1, 1, apart)[:, 0]
    fresh = nearest(given, top.shape[1:])[0] > apart
    at = (summit & (top >= high) & fresh).nonzero()
    found = torch.cat([at[:, :1], 1 + klass[tuple(at.T)][:, None], at[:, 1:]], 1)
    item, row = (given[..., 0] >= 0).nonzero(as_tuple=True)
    mine = torch.cat([item[:, None], given[item, row]], 1)
    return padded(torch.cat([mine, found]).numpy(), len(heat))


def detect(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 3,
    grow: bool = True,
    low: float = 0.1,
    high: float = 0.5,
    **kwargs,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Self-training of a detector: train, let the background grow, train on.

    Args:
        task: with points on some of its objects.
        budget: of all rounds together.
        seed: of weights and draws.
        rounds: of training; the background grows between them.
        grow: False leaves the background as it is: the control.
        low, high: see :func:`background_grown` and :func:`peaks`.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Returns:
        All points of the labelled images ``(B, M, 1 + dims)``, and for each round the heat
        ``(B, K - 1, *S)`` and what was known to it ``(B, *S)``.

    Raises:
        ValueError: no round; those of :func:`.clicked`.
    """
    if rounds < 1:
        raise ValueError(f"A detector is trained at least once, not {rounds} times.")
    points, labels = clicked(task), task.train.labels[task.labelled]
    target, known = heat_maps(points, labels.shape[1:], task.train.classes)
    target, images = (255 * target).round().byte(), task.train.images[task.labelled]
    budget, stages = budget or Budget.auto(), []
    part = replace(budget, steps=max(1, budget.steps // rounds))
    method = HeatMaps.for_task(task, seed)
    for turn in range(rounds):
        now = taught(task, labels, heat=target, known=known.byte())
        heat = fit(method, now, part, seed + turn, **kwargs).predict(images)[:, 1:]
        stages.append((heat, known))
        known = background_grown(known, heat, low) if grow else known
    return peaks(heat, points, high), stages
