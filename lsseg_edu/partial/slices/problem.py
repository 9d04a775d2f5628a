"""Where two of the methods begin: with planes of three habits, or with none and an annotator."""

from __future__ import annotations

from dataclasses import replace

import torch

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate.annotator import with_annotator
from lsseg_edu.data.annotate.cost import mask_seconds
from lsseg_edu.data.annotate.fewer import keep_slices
from lsseg_edu.data.annotate.given import dense, give


def unannotated(task: Task, volumes: int | None = None, seed: int = 0) -> Task:
    """Training volumes without any label, and an annotator who has their masks in a drawer.

    Args:
        task: with all its masks.
        volumes: subjects that may be asked about, drawn as :meth:`Task.keep` draws them; by
            default all that have masks.
        seed: of the draw.

    Raises:
        ValueError: more volumes than there are; masks that are not whole any more.
    """
    if volumes is not None:
        task = task.keep(volumes, seed)
    index, masks, _ = dense(task)
    if (masks == IGNORE).any():
        raise ValueError("An annotator answers from whole masks: begin again from Task.split.")
    task = with_annotator(replace(task, train=task.train.select(index)), masks)
    blank = replace(task.train, labels=torch.full_like(masks, IGNORE))
    return replace(task, train=blank, supervision="slices on request", seconds=0.0)


def mixed_annotation(task: Task, every: int = 8, run: int = 4, seed: int = 0) -> Task:
    """Three annotators: one outlines whole volumes, one a few planes, one a block of neighbours.

    The labelled volumes take turns: all planes; each ``every``-th; ``run`` consecutive ones
    in the middle of what the volume shows. Cost: 79 s for each object of each plane.

    Args:
        task: volumes with dense masks.
        every: as in :func:`lsseg_edu.data.annotate.slices`.
        run: planes of a block.
        seed: of the first plane of a sparse volume.

    Raises:
        ValueError: slices instead of volumes, a block below one plane; masks that are gone.
    """
    index, labels, instances = dense(task)
    if task.train.dims != 3 or run < 1:
        raise ValueError(
            "Mixed annotation needs volumes (dims=3) and blocks of at least one plane."
        )
    kept = labels.clone()
    kept[1::3] = keep_slices(labels[1::3], every=every, seed=seed)
    for volume in kept[2::3]:
        shown = (volume > 0).flatten(1).any(1).nonzero()[:, 0]
        first = max(int(shown.float().mean()) - run // 2, 0) if len(shown) else 0
        volume[:first], volume[first + run :] = IGNORE, IGNORE
    return give(task, index, kept, "mixed slices", mask_seconds(kept, instances))
