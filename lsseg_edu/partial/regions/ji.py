"""Hierarchical scribbles: strokes find the whole organ, tags and activations its parts."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate.cost import SECONDS, count_classes
from lsseg_edu.data.annotate.given import dense
from lsseg_edu.data.annotate.scribble import draw_scribbles
from lsseg_edu.data.task import maps
from lsseg_edu.networks import Shape
from lsseg_edu.partial.regions import DenseCRFLoss
from lsseg_edu.train import Budget, Fitted, Method, fit


class StrokesAndEdges(DenseCRFLoss):
    """:class:`.DenseCRFLoss`, with the strokes in an extra.

    Args:
        net: images to logits.
        strokes: name of the extra that holds them, ``(N, *S)``.
        weight: of the CRF loss.
    """

    def __init__(self, net: nn.Module, strokes: str, weight: float):
        super().__init__(net, weight)
        self.strokes = strokes

    def loss(self, batch) -> dict[str, Tensor]:
        """Terms of :class:`.DenseCRFLoss`."""
        part = batch.labelled
        part = replace(part, labels=part.extras[self.strokes])
        return super().loss(replace(batch, labelled=part))


class TagClassifier(Method):
    r"""Which parts does an image show? Asked of the whole organ's pixels, answered by their mean.

    .. math:: \hat t_k = \sigma\Big(\frac{\sum_i m_i\, a_k(i)}{\sum_i m_i}\Big)

    ``m`` is stage 1's organ, ``a`` the **class activation map**: the tag is an average of it, so
    pixels that speak for the part have large values.

    Args:
        net: images to ``K - 1`` maps ``a``.
        whole: stage 1, trained; frozen here.
    """

    def __init__(self, net: nn.Module, whole: Method):
        super().__init__(net)
        self.whole = whole.requires_grad_(False)

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"tags": binary cross-entropy}``."""
        maps, organ = self.activations(batch.labelled.images)
        mean = (maps * organ).flatten(2).sum(2) / organ.flatten(2).sum(2).clamp(min=1e-6)
        tags = batch.labelled.extras["tags"][:, 1:].float()
        return {"tags": F.binary_cross_entropy_with_logits(mean, tags)}

    def activations(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(B, K - 1, *S)`` and the soft organ ``(B, 1, *S)``."""
        with torch.no_grad():
            organ = self.whole.predict(images)[:, 1:]
        return self.net(images).float(), organ

    def predict(self, images: Tensor) -> Tensor:
        """Background by stage 1, the organ shared out by the activations."""
        maps, organ = self.activations(images)
        return torch.cat([1 - organ, organ * maps.softmax(1)], 1)


def scribble_hierarchy(
    task: Task, budget: Budget | None = None, seed: int = 0, crf: float = 1.0, **kwargs
) -> Fitted:
    """From strokes on the whole organ and tags of its parts to a segmentation of the parts.

    1. Two classes: strokes and CRF loss find the whole organ.
    2. A classifier of the tags; its activation maps share the organ out among the parts that the
       tags allow. Parts that always occur together cannot be told apart by tags.
    3. These labels, and the CRF loss, train the final network.

    A third of the steps each.

    Reference: Ji, Shen, Ma, Gao, "Scribble-Based Hierarchical Weakly Supervised Learning for Brain
    Tumor Segmentation", MICCAI 2019.
    Simplified: activations at full resolution from a U-Net; one round of refinement.

    Args:
        task: see :func:`whole_scribbles`.
        budget: of all stages together.
        seed: of weights and draws.
        crf: weight of the CRF loss, that of :class:`.DenseCRFLoss`; 0 is the control.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: a task without strokes or tags.
    """
    missing = {"whole", "tags"} - set(task.train.extras)
    if missing:
        raise ValueError(f"The task has no {missing.pop()}: make it with whole_scribbles().")
    budget, train = budget or Budget.auto(), task.train
    third = replace(budget, steps=max(budget.steps // 3, 1))

    def net(outputs: int, number: int) -> nn.Module:
        return networks.unet(Shape(train.channels, outputs, train.dims), seed=seed + number)

    whole = StrokesAndEdges(net(2, 0), "whole", crf)
    stages = [fit(whole, task, third, seed, **kwargs)]
    parts = TagClassifier(net(train.classes - 1, 1000), whole)
    stages.append(fit(parts, task, third, seed + 1000, **kwargs))
    labels = shared_out(stages[-1], task)
    final = StrokesAndEdges(net(train.classes, 0), "parts", crf)
    taught = replace(task, train=replace(train, extras={**train.extras, "parts": labels}))
    stages.append(fit(final, taught, third, seed + 2000, **kwargs))
    history = {f"{name} {n}": v for n, s in enumerate(stages, 1) for name, v in s.history.items()}
    seconds, last = sum(s.seconds for s in stages), stages[-1]
    return Fitted(last.method, history, seconds, last.interrupted)


def shared_out(stage: Fitted, task: Task) -> Tensor:
    """Labels of the parts ``(N, *S)`` by stage 2, within the tags and the strokes."""
    train, mine = task.train, task.labelled
    strokes = train.extras["whole"][mine]
    probs = stage.predict(train.images[mine])
    tags = train.extras["tags"][mine].clone()
    tags[:, 0] = True
    allowed = probs * tags.view(*tags.shape, *(1,) * train.dims)
    allowed[:, 0].masked_fill_(strokes == 1, -1)
    labels = torch.full_like(train.labels, IGNORE)
    labels[mine] = allowed.argmax(1).masked_fill(strokes == 0, 0)
    return labels


def whole_scribbles(task: Task, seed: int = 0) -> Task:
    """Leave strokes on the organ as a whole and on the background, and tags of its parts.

    ``extras["whole"] (N, *S)``: 1 on strokes of the organ (all foreground classes), 0 on those of
    the background, IGNORE elsewhere. ``extras["tags"] (N, K)``: the classes an image shows. The
    labels hold the background's strokes alone: nobody drew a part.
    Cost: 10.9 s a stroke, and 1 s a tag (Bearman et al., ECCV 2016).

    Args:
        task: with dense masks.
        seed: of the hand.

    Raises:
        ValueError: no dense masks to start from.
    """
    index, labels, _ = dense(task)
    organ = (labels > 0).long()
    drawn = draw_scribbles(organ, seed=seed)
    train, classes = task.train, range(task.train.classes)
    hidden = maps(train)
    extras = {key: value for key, value in train.extras.items() if key not in hidden}
    whole = torch.full_like(train.labels, IGNORE)
    whole[index] = drawn
    tags = torch.zeros(len(train), len(classes), dtype=torch.bool)
    tags[index] = torch.stack([(labels == k).flatten(1).any(1) for k in classes], 1)
    left = whole.masked_fill(whole != 0, IGNORE)
    extras = {**extras, "whole": whole, "tags": tags}
    seconds = SECONDS["scribble"] * count_classes(organ) + 1.0 * len(index) * (len(classes) - 1)
    kind = "strokes on the whole + tags"
    return replace(
        task, train=replace(train, labels=left, extras=extras), supervision=kind, seconds=seconds
    )
