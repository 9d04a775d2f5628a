"""Fewer subjects, fewer slices: whole masks, but not for everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lsseg_edu.data.annotate.cost import mask_seconds
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.cohort import IGNORE
from lsseg_edu.data.task import Task


def subjects(task: Task, n: int, seed: int = 0) -> Task:
    """Leave the masks of ``n`` training subjects, as :meth:`Task.keep` draws them.

    Cost: 79 s for each object of each plane (Lin et al., ECCV 2014).

    Raises:
        ValueError: more subjects than there are, a class none of them shows.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> few = annotate.subjects(Task.split(load("cardiac")), 3, seed=0)
    """
    task = task.keep(n, seed)
    _, labels, instances = dense(task)
    return replace(task, seconds=mask_seconds(labels, instances))


def slices(task: Task, every: int | None = None, count: int | None = None, seed: int = 0) -> Task:
    """Leave the masks of some slices of each labelled volume: see :func:`keep_slices`.

    In a 3D cohort the other planes of a volume become :data:`IGNORE`. In a 2D cohort a volume is
    the items of one subject (and one ``extras["frame"]``, where there is one), in the order of
    ``extras["position"]``, else in their own; the other slices lose their masks.
    Cost: 79 s for each object of each slice that is kept (Lin et al., ECCV 2014).

    Raises:
        ValueError: not just one of ``every`` and ``count`` given, or one below 1.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> sparse = annotate.slices(Task.split(load("cardiac", dims=3, size=32), 5), every=4)
    """
    index, labels, instances = dense(task)
    if task.train.dims == 3:
        kept = keep_slices(labels, every, count, seed)
    else:
        kept, rng = torch.full_like(labels, IGNORE), np.random.default_rng(seed)
        for stack in _stacks(task, index):
            kept[stack] = keep_slices(labels[stack][None], every, count, rng)[0]
    return give(task, index, kept, "slices", mask_seconds(kept, instances))


def keep_slices(
    labels: Tensor, every: int | None = None, count: int | None = None, seed=0
) -> Tensor:
    """Leave some planes across the first axis of volumes ``(B, D, H, W)``.

    Args:
        labels: dense masks.
        every: keep each plane of this interval, from a random first one.
        count: or keep this many, evenly spread between the first and the last plane that shows a
            foreground class: an annotator sees where an organ begins and ends.
        seed: of the first plane; or a numpy generator.

    Returns:
        ``(B, D, H, W)`` with :data:`IGNORE` in the planes left out.
    """
    if (every is None) == (count is None) or (every or count) < 1:
        raise ValueError(f"Give either every >= 1 or count >= 1, not {every} and {count}.")
    rng, kept = np.random.default_rng(seed), torch.full_like(labels, IGNORE)
    for volume, left in zip(labels, kept, strict=True):
        if every is not None:
            planes = torch.arange(rng.integers(min(every, len(volume))), len(volume), every)
        else:
            shown = ((volume > 0) & (volume != IGNORE)).flatten(1).any(1).nonzero()[:, 0]
            shown = shown if len(shown) else torch.arange(len(volume))
            spread = (torch.arange(count) + 0.5) / count * (shown[-1] - shown[0] + 1)
            planes = (shown[0] + spread.long()).unique()
        left[planes] = volume[planes]
    return kept


def _stacks(task: Task, index: Tensor):
    """For each volume of a 2D cohort, its slices in order, as positions in ``index``."""
    extras = task.train.extras
    frame = extras.get("frame", torch.zeros_like(task.train.subjects))
    volume = torch.stack([task.train.subjects, frame], 1)[index]
    position = extras.get("position", torch.arange(len(task.train)))[index]
    for one in volume.unique(dim=0):
        items = (volume == one).all(1).nonzero()[:, 0]
        yield items[position[items].argsort(stable=True)]
