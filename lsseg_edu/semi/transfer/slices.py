"""A task of volumes as a task of slices."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lsseg_edu.data import Cohort, Task


def slices(task: Task, neighbours: int = 0) -> Task:
    """Every slice along the first axis of the volumes, with what is annotated of it.

    Args:
        task: of volumes ``(N, C, D, H, W)``.
        neighbours: slices on each side that are shown as further channels; the first and the
            last slice are repeated at the ends.

    Returns:
        A task of ``N D`` slices with ``C (2 neighbours + 1)`` channels; extras are left out.

    Raises:
        ValueError: a task of slices.

    Example:
        >>> from lsseg_edu.data import load
        >>> volumes = Task.split(load("brain", size=32, dims=3, subjects=40), labelled=2)
        >>> slices(volumes, neighbours=1).train.images.shape
        torch.Size([320, 3, 32, 32])
    """
    if task.train.dims != 3:
        raise ValueError("Slices are cut from volumes: load the cohort with dims=3.")
    parts = {key: _flat(getattr(task, key), neighbours) for key in ("train", "valid", "test")}
    return replace(task, **parts)


def stacked(images: Tensor, neighbours: int) -> Tensor:
    """Volumes ``(N, C, D, H, W)`` to slices ``(N D, C (2 n + 1), H, W)``, nearest first to last."""
    depth = images.shape[2]
    place = torch.arange(depth)[:, None] + torch.arange(-neighbours, neighbours + 1)
    near = images[:, :, place.clamp(0, depth - 1)]  # (N, C, D, 2n+1, H, W)
    return near.movedim(1, 2).flatten(2, 3).flatten(0, 1)


def _flat(cohort: Cohort, neighbours: int) -> Cohort:
    depth = cohort.images.shape[2]
    return replace(
        cohort,
        images=stacked(cohort.images, neighbours),
        labels=cohort.labels.flatten(0, 1),
        subjects=cohort.subjects.repeat_interleave(depth),
        spacing=cohort.spacing[1:],
        extras={},
    )
