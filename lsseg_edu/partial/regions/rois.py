"""Boxes as targets, crops of boxes, and what was said about a crop put back into its image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate.box import boxes_to_masks, draw_boxes
from lsseg_edu.data.annotate.cost import SECONDS, mask_seconds
from lsseg_edu.data.annotate.given import dense, give


def gaussian_targets(boxes: Tensor, kinds: int, size) -> tuple[Tensor, Tensor, Tensor]:
    """What a detector should say of boxes ``(B, M, 1 + 2 D)``; rows of -1 are padding.

    Returns:
        Heat maps ``(B, kinds, *S)`` with a Gaussian at each centre, its deviation a sixth of the
        side, 1 at the pixel of the centre; sides ``(B, D, *S)`` and a mask ``(B, *S)`` of the
        pixels of the centres.
    """
    dims, boxes = len(size), boxes.float()
    start, end = boxes[..., 1 : 1 + dims], boxes[..., 1 + dims :]
    real, side = boxes[..., 0] > 0, (end - start).clamp(min=1)
    centre = ((start + end) / 2).floor()
    grid = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij")).to(boxes)
    spread = (slice(None), slice(None), slice(None), *(None,) * dims)
    far = ((grid - centre[spread]) / (side[spread] / 6)).square().sum(2)
    bell = torch.exp(-far / 2) * real.view(*real.shape, *(1,) * dims)
    of = [bell * (boxes[..., 0] == k + 1).view(*real.shape, *(1,) * dims) for k in range(kinds)]
    heat = torch.stack([one.amax(1) for one in of], 1)
    sides = torch.zeros(len(boxes), dims, *size, device=boxes.device)
    where = torch.zeros(len(boxes), *size, device=boxes.device)
    item, row = real.nonzero(as_tuple=True)
    place = centre[item, row].long().unbind(1)
    sides[(item, slice(None), *place)] = side[item, row]
    where[(item, *place)] = 1
    return heat, sides, where


def mirror(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror a batch and its boxes, each axis or not, by chance."""
    dims = images.ndim - 2
    for axis in range(dims):
        if torch.rand(()) < 0.5:
            n, images, boxes = images.shape[2 + axis], images.flip(2 + axis), boxes.clone()
            start, end = boxes[..., 1 + axis].clone(), boxes[..., 1 + dims + axis].clone()
            real = boxes[..., 0] >= 0
            boxes[..., 1 + axis] = torch.where(real, n - end, start)
            boxes[..., 1 + dims + axis] = torch.where(real, n - start, end)
    return images, boxes


def boxes_of_instances(instances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Item and number ``(R,)`` of each object of ``instances (B, *S)``, and its box ``(R, 2 D)``.

    Starts and ends in pixels, ends exclusive, as floats.
    """
    place = (instances > 0).nonzero()
    key = place[:, 0] * (int(instances.max()) + 1) + instances[instances > 0]
    found, owner = key.unique(return_inverse=True)
    owner = owner[:, None].expand(-1, place.shape[1] - 1)
    start = place.new_zeros(len(found), place.shape[1] - 1)
    end = start.scatter_reduce(0, owner, place[:, 1:], "amax", include_self=False) + 1
    start = start.scatter_reduce(0, owner, place[:, 1:], "amin", include_self=False)
    size = int(instances.max()) + 1
    return found // size, found % size, torch.cat([start, end], 1).float()


def crop_rois(images: Tensor, sides: Tensor, n: int, margin: float = 0.2) -> Tensor:
    """Resample box r of ``images[r]`` to ``n`` pixels a side: ``(R, C, *S)`` to ``(R, C, n, ...)``.

    Args:
        images: one for each box.
        sides: ``(R, 2 D)``, start and end per axis, in pixels.
        n: pixels of the crop.
        margin: how much more than the box is seen.
    """
    dims, size = images.ndim - 2, torch.tensor(images.shape[2:], device=images.device)
    middle, half = _frame(sides, margin)
    at = (2 * torch.arange(n, device=images.device) + 1) / n - 1
    u = torch.stack(torch.meshgrid(*[at] * dims, indexing="ij"), -1)
    wide = (slice(None), *(None,) * dims)
    grid = 2 * (middle[wide] + half[wide] * u) / size - 1
    return F.grid_sample(images, grid.flip(-1), "bilinear", "border", align_corners=False)


def paste_rois(masks: Tensor, sides: Tensor, size, margin: float = 0.2) -> Tensor:
    """The way back: soft masks ``(R, 1, n, ...)`` of crops to ``(R, *S)``, 0 outside the crop."""
    axes = [torch.arange(n, device=masks.device) + 0.5 for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    middle, half = _frame(sides, margin)
    wide = (slice(None), *(None,) * len(size))
    u = (grid - middle[wide]) / half[wide]
    return F.grid_sample(masks, u.flip(-1), "bilinear", "zeros", align_corners=False)[:, 0]


def _frame(sides: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    start, end = sides.chunk(2, 1)
    return (start + end) / 2, (end - start).clamp(min=1) / 2 * (1 + margin)


def boxes_and_few_masks(task: Task, masks: int = 2, seed: int = 0) -> Task:
    """Leave boxes of all labelled images, and the masks of a few subjects.

    The labels are those masks; in the other images background outside of all boxes, IGNORE
    inside. ``extras["boxes"]`` as in :func:`lsseg_edu.data.annotate.boxes`; ``extras["instances"]``
    numbers the objects of the masks, and is 0 in the other images.
    Cost: 7 s a box, 79 s a mask.

    Args:
        task: with dense masks, and instances.
        masks: subjects whose masks stay.
        seed: which.

    Raises:
        ValueError: fewer than one subject, or more than there are; no instances; no dense masks.
    """
    index, labels, instances = dense(task)
    owner = task.train.subjects[index]
    subjects = owner.unique()
    if instances is None or not 1 <= masks <= len(subjects):
        raise ValueError(
            f"Instances, and masks of 1 to {len(subjects)} subjects are needed, not {masks}."
        )
    order = torch.randperm(len(subjects), generator=torch.Generator().manual_seed(seed))
    lucky = torch.isin(owner, subjects[order[:masks]])
    boxes = draw_boxes(labels, instances=instances)
    covered = boxes_to_masks(boxes, task.train.classes, labels.shape[1:]).any(1)
    left = labels.clone()
    left[~lucky] = torch.where(covered, IGNORE, 0)[~lucky]
    seconds = SECONDS["box"] * int((boxes[..., 0] >= 0).sum())
    seconds += mask_seconds(labels[lucky], instances[lucky])
    drawn = instances.clone()
    drawn[~lucky] = 0
    kind = "boxes and few masks"
    return give(task, index, left, kind, seconds, boxes=boxes, instances=drawn)
