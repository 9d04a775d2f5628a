"""What a step of training sees: a batch drawn by index and augmented as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsseg_edu.data import Cohort, Task
from lsseg_edu.data.task import maps


@dataclass(frozen=True)
class Part:
    """One half of a batch: images ``(B, C, *S)``, labels ``(B, *S)``, and where they come from."""

    images: Tensor
    labels: Tensor
    index: Tensor
    subject: Tensor
    extras: dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """What a loss sees. A half that the method does not ask for is None."""

    labelled: Part | None
    unlabelled: Part | None
    progress: float


def augmented(cohort: Cohort, index: Tensor, augment, generator) -> Part:
    """The items of ``index``, augmented; pixel-wise extras are warped along with the labels."""
    images, labels = cohort.images[index], cohort.labels[index]
    extras = {key: value[index] for key, value in cohort.extras.items()}
    layers = [extras[key].reshape(len(index), -1, *labels.shape[1:]) for key in maps(cohort)]
    images, stack = augment(images, torch.cat([labels.unsqueeze(1), *layers], 1), generator)
    labels, *layers = stack.split([1, *(layer.shape[1] for layer in layers)], 1)
    for key, layer in zip(maps(cohort), layers, strict=True):
        extras[key] = layer.reshape(extras[key].shape)
    return Part(images, labels[:, 0], index, cohort.subjects[index], extras)


def pool(task: Task, name: str, device) -> Tensor:
    """Index of the ``"labelled"`` or ``"unlabelled"`` training items; there must be some."""
    items = getattr(task, name)
    if len(items) == 0:
        cure = "keep some subjects' labels" if name == "labelled" else "use Task.keep(labelled=n)"
        raise ValueError(f"The task has no {name} training image, which this method needs: {cure}.")
    return items.to(device)
