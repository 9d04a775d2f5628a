"""What the atlas methods share: whose atlas, how alike after the motion, how much overlap."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.semi.priors.registration import WINDOW, Atlas, Registration
from lsseg_edu.train import Budget, Fitted, fit


def by_subject(task: Task) -> list[Atlas]:
    """One atlas for each labelled training subject, in the order of the subjects."""
    chosen = task.labelled
    owners = task.train.subjects[chosen]
    items = (chosen[owners == subject] for subject in owners.unique())
    return [Atlas(task.train.images[i], task.train.labels[i], task.train.classes) for i in items]


def registered(task: Task, budget: Budget, seed: int = 0, **kwargs) -> Fitted:
    """A registration of all labelled images, trained without any label: the first stage."""
    return fit(Registration.for_task(task, seed), task, budget, seed, **kwargs)


def last_of(stages: list[Fitted]) -> Fitted:
    """The end of several trainings: the last one's method and history, the seconds of all."""
    last, seconds = stages[-1], sum(one.seconds for one in stages)
    return Fitted(last.method, last.history, seconds, any(one.interrupted for one in stages))


def local_correlation(first: Tensor, second: Tensor, window: int = WINDOW) -> Tensor:
    r"""How alike are two images, place by place: ``(B, *S)`` in [-1, 1].

    The correlation coefficient of the two within the window around each pixel, averaged over
    channels; about 0 where one of the two is flat. Windows are cut off at the border.

    Args:
        first, second: ``(B, C, *S)``.
        window: pixels along its side, odd.
    """
    pool = F.avg_pool2d if first.ndim == 4 else F.avg_pool3d

    def mean(x):
        return pool(x, window, 1, window // 2, count_include_pad=False)

    a, b = first.float(), second.float()
    a, b = (x - x.mean([*range(2, x.ndim)], keepdim=True) for x in (a, b))  # for the rounding
    covariance = mean(a * b) - mean(a) * mean(b)
    variances = [(mean(x * x) - mean(x).square()).clamp(min=0) for x in (a, b)]
    return (covariance / (variances[0] * variances[1] + 1e-6).sqrt()).mean(1)


def overlap_loss(first: Tensor, second: Tensor, eps: float = 1.0) -> Tensor:
    r"""Soft Dice loss of two segmentations, of which neither needs to be hard.

    .. math:: 1 - \frac1K \sum_k \frac{2\sum_i p_k(i)\, q_k(i) + \epsilon}
                                      {\sum_i p_k(i)^2 + \sum_i q_k(i)^2 + \epsilon}

    Args:
        first, second: probabilities ``(B, K, *S)``; the sums run over the batch.
        eps: smoothing, counted in pixels.
    """
    axes = [0, *range(2, first.ndim)]
    both = (first * second).sum(axes)
    size = first.square().sum(axes) + second.square().sum(axes)
    return 1 - ((2 * both + eps) / (size + eps)).mean()


def scaled(images: Tensor, factor: Tensor) -> Tensor:
    """``images (B, ...)``, each times its own ``factor (B,)``."""
    return images * factor.view(-1, *[1] * (images.ndim - 1))


def uniform(like: Tensor, low: float, high: float) -> Tensor:
    """One number an item of ``like (B, ...)``, drawn between ``low`` and ``high``."""
    return torch.empty(len(like), device=like.device).uniform_(low, high)
