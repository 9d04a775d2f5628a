"""Masks to learn shapes from, and what follows a segmenter to repair its answers."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit

WARPS = replace(
    Augment.none(), rotation=30.0, scale=0.2, shear=0.15, shift=0.08, elastic=0.025, cells=4
)
"""Strong motions that make many shapes of a few masks; nothing is repainted.

Three labelled subjects are a few dozen masks. They are turned, stretched and bent about twice as
much as the images of the baseline are: what a shape model may believe of anatomy beyond these
subjects is what this line says."""


def shape_task(task: Task) -> Task:
    """The task with only those training items whose mask is complete.

    Raises:
        ValueError: there is none.
    """
    whole = (task.train.labels != IGNORE).flatten(1).all(1).nonzero()[:, 0]
    if len(whole) == 0:
        raise ValueError(
            "There is no complete training mask to learn shapes from: keep the full masks of at "
            "least one subject."
        )
    return replace(task, train=task.train.select(whole))


def shape_set(task: Task, copies: int = 8, seed: int = 0) -> Tensor:
    """All complete training masks, each followed by ``copies`` warped ones: ``(M, *S)``."""
    labels = shape_task(task).train.labels
    many = labels.repeat(copies, *[1] * (labels.ndim - 1))
    generator = torch.Generator().manual_seed(seed)
    _, warped = WARPS(torch.zeros(len(many), 1, *many.shape[1:]), many, generator)
    return torch.cat([labels, warped])


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Complete masks ``(B, *S)`` as probabilities ``(B, K, *S)``.

    Raises:
        ValueError: a label that is none of the classes.
    """
    if labels.numel() and int(labels.max()) >= classes:
        raise ValueError(
            f"The mask has a label {int(labels.max())}, but the shapes have {classes} classes, 0 "
            f"to {classes - 1}: give complete masks of the same classes."
        )
    return F.one_hot(labels, classes).movedim(-1, 1).float()


class Repaired(Method):
    """A trained segmenter, and a module that looks at its masks but not at the image.

    Args:
        segmenter: any trained method.
        repair: hard masks ``(B, *S)`` to probabilities ``(B, K, *S)``.
    """

    def __init__(self, segmenter: Method, repair: nn.Module):
        super().__init__(segmenter)
        self.repair = repair

    def predict(self, images: Tensor) -> Tensor:
        """The repaired answer ``(B, K, *S)``."""
        return self.repair(self.net.predict(images).argmax(1))


def repaired(
    task: Task, repair: nn.Module, budget: Budget | None, seed: int, start: float = 0.0, **kwargs
) -> Fitted:
    """Train the baseline and put ``repair`` behind it; ``start`` seconds went before.

    With the same seed the segmenter *is* the baseline: all that differs is the repair.
    """
    segmenter = fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs)
    where = next(segmenter.method.parameters()).device
    method = Repaired(segmenter.method, repair).to(where)
    return Fitted(method, segmenter.history, start + segmenter.seconds, segmenter.interrupted)
