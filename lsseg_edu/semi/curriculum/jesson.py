"""CASED: begin with the lesions, and add the background that is mistaken for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit

SAMPLINGS = ("cased", "balanced", "uniform")


def cased(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    sampling: str = "cased",
    size: int = 32,
    full: float = 0.8,
    every: int = 20,
    **kwargs,
) -> Fitted:
    r"""Patches with a lesion first; then background patches, those that are got wrong.

    With :math:`\epsilon_i`, the probability that patch ``i`` is misclassified somewhere,

    .. math::
        P_t(i) = (1 - g(t))\, \frac{[i \in A]}{|A|}
               + g(t)\, \frac{[i \notin A]\, \epsilon_i}{\sum_{j \notin A} \epsilon_j},
        \qquad g(t) = \min(t/T, 1)\, \frac{n - |A|}{n},

    where :math:`A` are the patches with a lesion.

    First the network learns what a lesion looks like beside its surroundings. Then it meets the
    rest of the lung in the proportion of the data, but the parts it knows already hardly ever.

    Reference: Jesson et al., "CASED: Curriculum Adaptive Sampling for Extreme Data Imbalance",
    MICCAI 2017.
    Simplified: patches of slices instead of volumes; all errors are looked up every so often.

    Args:
        task: the problem; its labelled images are cut into patches.
        budget: of the training; a batch has as many *pixels* as one of whole images.
        seed: of weights and draws.
        sampling: ``"cased"``; or, to compare, ``"uniform"`` over all patches, and ``"balanced"``,
            half of the draws from those with a lesion, from first to last.
        size: pixels along a side of a patch; neighbours overlap by half.
        full: ``T``, fraction of training after which background has its full share.
        every: steps between two looks at the errors.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: an unknown sampling; patches larger than the images; no lesion patch, or no
            background patch.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"Unknown sampling {sampling!r}: choose one of {', '.join(SAMPLINGS)}.")
    cut, budget = patches(task, size), budget or Budget.auto()
    lesion = ((cut.train.labels > 0) & (cut.train.labels != IGNORE)).flatten(1).any(1)
    if lesion.all() or not lesion.any():
        raise ValueError("Patches with and without a lesion are needed: choose another size.")
    per_image = task.train.labels[0].numel() // size**task.train.dims
    budget = replace(budget, batch=budget.batch * per_image)
    method = Supervised.for_task(task, seed)
    fixed = {
        "uniform": lambda progress: torch.ones(len(lesion)),
        "balanced": lambda progress: torch.where(lesion, 1 / lesion.sum(), 1 / (~lesion).sum()),
    }
    chances = fixed.get(sampling) or _adaptive(method, cut.train, lesion, full, every)
    return fit(method, cut, budget, seed, chances=chances, **kwargs)


def cased_chances(lesion: Tensor, errors: Tensor, progress: float, full: float = 0.8) -> Tensor:
    """The probability ``(n,)`` of each patch; see :func:`cased`.

    Args:
        lesion: ``(n,)`` whether a patch shows a lesion.
        errors: ``(n,)`` probability that it is misclassified.
        progress: fraction of training done.
        full: progress at which background has the share it has in the data.
    """
    background = ~lesion * errors.clamp(min=1e-6)
    share = (~lesion).float().mean() * min(progress / full if full else 1, 1)
    return (1 - share) * lesion / lesion.sum() + share * background / background.sum()


def misclassified(method: Method, cohort: Cohort) -> Tensor:
    """Probability ``(N,)`` that the worst pixel of each item is given a wrong class."""
    labels = cohort.labels
    probs = Fitted(method).predict(cohort.images).to(labels.device)
    method.train()
    right = probs.gather(1, labels.where(labels != IGNORE, 0).unsqueeze(1))[:, 0]
    return (1 - right).masked_fill(labels == IGNORE, 0).flatten(1).amax(1)


def _adaptive(method, cohort, lesion, full, every) -> Callable[[float], Tensor]:
    errors, step = [], iter(range(10**9))

    def chances(progress: float) -> Tensor:
        if next(step) % every == 0:
            errors[:] = [misclassified(method, cohort)]
        return cased_chances(lesion, errors[0], progress, full)

    return chances


def patches(task: Task, size: int = 32) -> Task:
    """The task whose training items are overlapping patches of its labelled images.

    Raises:
        ValueError: patches larger than the images.
    """
    mine = task.train.select(task.labelled)
    if size > min(mine.labels.shape[1:]):
        raise ValueError(
            f"Patches of {size} pixels do not fit into images of {tuple(mine.labels.shape[1:])}."
        )
    images = _cut(mine.images, size)
    labels = _cut(mine.labels.unsqueeze(1), size)[:, 0]
    subjects = mine.subjects.repeat_interleave(len(labels) // len(mine))
    train = replace(mine, images=images, labels=labels, subjects=subjects, extras={})
    return replace(task, train=train)


def _cut(values: Tensor, size: int) -> Tensor:
    """``(N, C, *S)`` to ``(N * patches, C, *[size])``, half a patch apart."""
    channels, dims = values.shape[1], values.ndim - 2
    for axis in range(2, 2 + dims):
        values = values.unfold(axis, size, max(size // 2, 1))
    return values.movedim(1, 1 + dims).reshape(-1, channels, *[size] * dims)
