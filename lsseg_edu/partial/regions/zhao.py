"""Boxes for all, masks for a few: detect with the one, segment within boxes with the other."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.data import Task
from lsseg_edu.networks import Shape
from lsseg_edu.networks.blocks import conv, project
from lsseg_edu.partial.regions import rois
from lsseg_edu.train import Budget, Fitted, Method, fit


class Detector(Method):
    r"""Stage 1, from boxes: a heat map of their centres for each class, and their sizes there.

    .. math::
        L = \frac{\sum_i (1 + \beta h_i)(q_i - h_i)^2}{\sum_i (1 + \beta h_i)}
            + \frac{1}{|P|} \sum_{i \in P} |\ln s_i - \hat l_i|_1

    :math:`h` has a Gaussian of a sixth of the box's side at each centre, ``P`` are the pixels of
    the centres, ``s`` sides of boxes.

    Args:
        net: images ``(B, C, *S)`` to ``(B, K - 1 + D, *S)``.
        dims: ``D``.
        balance: :math:`\beta`, since centres are rare.
    """

    def __init__(self, net: nn.Module, dims: int, balance: float = 20.0):
        super().__init__(net)
        self.dims, self.balance = dims, balance

    def loss(self, batch) -> dict[str, Tensor]:
        """``heat`` and ``sides``."""
        images, boxes = rois.mirror(batch.labelled.images, batch.labelled.extras["boxes"])
        heat, logs = self.both(images)
        target, sides, where = rois.gaussian_targets(boxes, heat.shape[1], images.shape[2:])
        weight = 1 + self.balance * target
        off = (logs - sides.clamp(min=1).log()).abs().sum(1) * where
        return {
            "heat": (weight * (heat - target).square()).sum() / weight.sum(),
            "sides": off.sum() / where.sum().clamp(min=1),
        }

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Heat maps ``(B, K - 1, *S)`` in [0, 1], and logarithms of sides ``(B, D, *S)``."""
        answer = self.net(images).float()
        return answer[:, : -self.dims].sigmoid(), answer[:, -self.dims :]

    def detect(self, images: Tensor, height: float = 0.3, most: int = 64):
        """The peaks of the heat maps: highest within two pixels, in any class.

        Returns:
            Item, class ``(R,)``, and start and end per axis ``(R, 2 D)``, in pixels; at most
            ``most`` an item, the highest first.
        """
        heat, logs = self.both(images)
        (best, kinds), pool = heat.max(1), F.max_pool2d if self.dims == 2 else F.max_pool3d
        highest = pool(best.unsqueeze(1), 5, 1, 2).squeeze(1)
        peak = torch.where((best == highest) & (best >= height), best, 0)
        score, at = peak.flatten(1).topk(min(most, peak[0].numel()), 1)
        item, rank = (score > 0).nonzero(as_tuple=True)
        place = torch.unravel_index(at[item, rank], peak.shape[1:])
        centre = torch.stack(place, 1) + 0.5
        half = logs[(item, slice(None), *place)].clamp(max=6).exp() / 2
        return item, kinds[(item, *place)] + 1, torch.cat([centre - half, centre + half], 1)


class RoiSegmenter(Method):
    """Stage 2, from few masks: which pixels of a box are its object's? Class does not matter.

    Boxes are those of the masks, moved and stretched a little, as a detector's are.

    Args:
        net: crops ``(R, C, n, ...)`` to two logits.
        size: ``n``, pixels along a side of a crop.
        jitter: largest move of a side, as a share of the box.
    """

    def __init__(self, net: nn.Module, size: int = 16, jitter: float = 0.15):
        super().__init__(net)
        self.size, self.jitter = size, jitter

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"roi": cross-entropy + Dice}`` over all objects of the batch."""
        images, objects = batch.labelled.images, batch.labelled.extras["instances"]
        item, number, sides = rois.boxes_of_instances(objects)
        if len(item) == 0:
            return {"roi": self.net(images).sum() * 0}
        length = (sides[:, images.ndim - 2 :] - sides[:, : images.ndim - 2]).repeat(1, 2)
        sides = sides + self.jitter * length * (2 * torch.rand_like(sides) - 1)
        mask = (objects[item] == number.view(-1, *(1,) * (objects.ndim - 1))).float().unsqueeze(1)
        crops = rois.crop_rois(torch.cat([images[item], mask], 1), sides, self.size)
        return {"roi": losses.dice_ce(self.net(crops[:, :-1]), (crops[:, -1] > 0.5).long())}


class BoxThenMask(Method):
    """The cascade: detect, segment within each detection, put together.

    Args:
        detector: stage 1, trained.
        segmenter: stage 2, trained.
        classes: ``K``.
    """

    def __init__(self, detector: Detector, segmenter: RoiSegmenter, classes: int):
        super().__init__(detector)
        self.segmenter, self.classes = segmenter, classes

    def found(self, images: Tensor):
        """Item and class of each detection ``(R,)``, and its soft mask ``(R, *S)``."""
        item, kind, sides = self.net.detect(images)
        if len(item) == 0:
            return item, kind, images.new_zeros(0, *images.shape[2:])
        crops = rois.crop_rois(images[item], sides, self.segmenter.size)
        inside = self.segmenter.net(crops).float().softmax(1)[:, 1:]
        return item, kind, rois.paste_rois(inside, sides, images.shape[2:])

    def predict(self, images: Tensor) -> Tensor:
        """A pixel is of the class of its surest detection; background where there is none."""
        item, kind, masks = self.found(images)
        probs = images.new_zeros(len(images) * self.classes, *images.shape[2:])
        where = (item * self.classes + kind).view(-1, *(1,) * (masks.ndim - 1)).expand_as(masks)
        probs = probs.scatter_reduce(0, where, masks, "amax").unflatten(0, (-1, self.classes))
        probs[:, 0] = 1 - probs.amax(1)
        return probs / probs.sum(1, keepdim=True)

    def instances(self, images: Tensor) -> Tensor:
        """Objects ``(B, *S)``, numbered from 1 in the batch: the surest detection of a pixel."""
        item, _, masks = self.found(images)
        numbers = images.new_zeros((len(images), *images.shape[2:]), dtype=torch.long)
        best = torch.full_like(images[:, 0], 0.5)
        for r, n in enumerate(item.tolist()):
            mine = masks[r] > best[n]
            numbers[n][mine], best[n][mine] = r + 1, masks[r][mine]
        return numbers


def boxes_and_masks(
    task: Task, budget: Budget | None = None, seed: int = 0, share=0.75, augment=None, **kwargs
) -> Fitted:
    """Train the detector on all boxes and the segmenter on the few masks, with fewer steps.

    A box takes seconds and says that there is one object, and how large. Outlines within boxes all
    look alike, so a few of them are enough.

    Reference: Zhao Z., Yang L., Zheng H., Guldner, Zhang S., Chen, "Deep Learning Based Instance
    Segmentation in 3D Biomedical Images Using Weak Annotation", MICCAI 2018.
    Simplified: a heat map of centres instead of a region-proposal network; crops of the image, not
    of its features; no geometric augmentation of boxes but mirrors.

    Args:
        task: with boxes of all labelled images and masks of some: :func:`boxes_and_few_masks`.
        budget: of both stages together.
        seed: of weights and draws.
        share: of the steps that are stage 1's, which is the harder one.
        augment: of stage 2; stage 1 has its intensities alone, since boxes do not turn.
        **kwargs: ``progress`` and ``device``.

    Raises:
        ValueError: a task without boxes, or without a mask.
    """
    check(task)
    budget, train, augment = budget or Budget.auto(), task.train, augment or Augment.strong()
    first = min(max(int(share * budget.steps), 1), budget.steps - 1)
    early, late = (replace(budget, steps=n) for n in (first, budget.steps - first))
    still = replace(augment, rotation=0, tilt=0, scale=0, shear=0, shift=0, elastic=0)
    outputs = Shape(train.channels, train.classes - 1 + train.dims, train.dims)
    detector = Detector(networks.unet(outputs, seed=seed), train.dims)
    found = fit(detector, task, early, seed, still, **kwargs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        segmenter = RoiSegmenter(roi_net(train.channels, train.dims))
    masked = (train.extras["instances"][task.labelled] > 0).flatten(1).any(1).double()
    filled = fit(segmenter, task, late, seed, augment, chances=lambda _: masked, **kwargs)
    method = BoxThenMask(detector, segmenter, train.classes)
    seconds = found.seconds + filled.seconds
    return Fitted(method, {**found.history, **filled.history}, seconds, filled.interrupted)


def roi_net(channels: int, dims: int, width: int = 16) -> nn.Module:
    """Four convolutions that see a whole crop, and two logits."""
    steps = zip((channels, width, width, width), (1, 2, 4, 1), strict=True)
    layers = [conv(dims, inputs, width, dilation=d) for inputs, d in steps]
    return nn.Sequential(*layers, project(dims, width, 2))


def check(task: Task) -> None:
    """Raise unless there are boxes, and an outline."""
    if "boxes" not in task.train.extras or "instances" not in task.train.extras:
        raise ValueError("The task lacks boxes or masks: make it with boxes_and_few_masks().")
    if not (task.train.extras["instances"] > 0).any():
        raise ValueError("No object has a mask: ask boxes_and_few_masks for at least one subject.")
