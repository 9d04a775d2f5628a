"""Feature-similarity propagation: what resembles an annotated area, in features, gets its label."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate.components import best, classes, whole
from lsseg_edu.data.annotate.cost import SECONDS
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.partial.regions import partial_cross_entropy
from lsseg_edu.partial.regions.rounds import Propagated, relabelled
from lsseg_edu.train import Budget, Fitted


def feature_propagation(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 4,
    share: float = 0.6,
    **kwargs,
) -> Propagated:
    r"""Train on the annotated areas, then let deep features say which other areas are like them.

    Each annotated area ``a`` (the known pixels of one class in one image) has a mean feature
    :math:`\mu_a`. A pixel is as similar to a class as to the most similar of its areas:

    .. math::
        s_k(i) = \max_{a:\, y_a = k} \cos(z_i, \mu_a), \qquad
        k_1 = \arg\max_k s_k(i), \qquad
        c_i = s_{k_1}(i) - \max_{k \ne k_1} s_k(i) .

    In each round the unlabelled pixels of largest confidence ``c`` are added, a growing share of
    each class, if the network's own answer is :math:`k_1` too. Labels of earlier rounds are made
    anew; annotated pixels stay.

    Reference: Peng L. et al., "Semi-Supervised Learning for Semantic Segmentation of Emphysema with
    Partial Annotations", IEEE Journal of Biomedical and Health Informatics 2020.
    Simplified: features of the segmenting network itself; pixels instead of patches.

    Args:
        task: with partly annotated images, e.g. :func:`annotated_areas`.
        budget: of all rounds together; the first one sees the annotation only.
        seed: of weights and draws.
        rounds: trainings (the labels grow ``rounds - 1`` times). 1 is the baseline.
        share: of the unlabelled pixels of a class that have a label in the last round.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: a share outside (0, 1]; no round.
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share of pixels that get a label is in (0, 1], not {share}.")
    mine, grown = task.train.select(task.labelled), []

    def relabel(fitted: Fitted | None) -> Tensor:
        grown.append(share * len(grown) / max(rounds - 1, 1))
        if fitted is None:
            return mine.labels
        features = deep_features(fitted, mine.images)
        own = fitted.predict(mine.images).argmax(1)
        return propagated(features, mine.labels, own, mine.classes, grown[-1])

    return relabelled(task, relabel, budget, seed, rounds, partial_cross_entropy, **kwargs)


@torch.no_grad()
def deep_features(fitted: Fitted, images: Tensor) -> Tensor:
    """The network's last features ``(N, F, *S)``, of length 1 at each pixel, on the CPU."""
    net = fitted.method.net.eval()
    where = next(net.parameters()).device
    parts = [net.decode(net.encode(x.to(where))).float().cpu() for x in images.split(64)]
    return F.normalize(torch.cat(parts), dim=1)


def propagated(features: Tensor, labels: Tensor, own: Tensor, classes: int, share: float) -> Tensor:
    """``labels`` plus the most confident pixels.

    Args:
        features: ``(N, F, *S)`` unit vectors.
        labels: ``(N, *S)``, IGNORE where nobody annotated.
        own: ``(N, *S)`` the network's classes.
        classes: ``K``.
        share: of the unlabelled pixels most similar to a class that it may have.
    """
    similar = similarity(features, labels, classes)
    (first, second), (winner, _) = (part.unbind(1) for part in similar.topk(2, 1))
    confidence = (first - second).masked_fill((labels != IGNORE) | (winner != own), -1)
    new = labels.clone()
    for k in range(classes):
        candidates = (winner == k) & (labels == IGNORE)
        wanted = int(share * candidates.sum())
        if wanted:
            bound = confidence[candidates].topk(wanted).values[-1].clamp(min=0)
            new[candidates & (confidence >= bound)] = k
    return new


def similarity(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Cosine to the most similar annotated area of each class, ``(N, K, *S)``."""
    flat, known = features.flatten(2), labels.flatten(1)
    found = []
    for k in range(classes):
        mask = (known == k).to(flat)
        areas = torch.einsum("nfp,np->nf", flat, mask)[mask.any(1)]
        areas = F.normalize(areas, dim=1)
        found.append(torch.stack([(areas @ one).amax(0) for one in flat]))
    return torch.stack(found, 1).view(len(features), classes, *features.shape[2:])


def annotated_areas(task: Task, radius: float = 5.0, seed: int = 0) -> Task:
    """Leave an area of each class an image shows: all pixels of a disc (or ball) around one of it.

    Within the area every pixel has its true class; nobody looked at the rest.
    Cost: 20 s an area, as a rough contour (our estimate).

    Args:
        task: with dense masks.
        radius: of an area, in pixels.
        seed: of the places.

    Raises:
        ValueError: a radius below 1; no dense masks.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> task = annotated_areas(Task.split(load("lesions"), labelled=20))
        >>> task.supervision
        'annotated areas'
    """
    if radius < 1:
        raise ValueError(f"An area needs a radius of at least 1 pixel, not {radius}.")
    index, labels, _ = dense(task)
    flat, rng = labels.numpy(), np.random.default_rng(seed)
    number = np.concatenate([best(rng.random(flat.shape), whole(flat == k)) for k in classes(flat)])
    axes = np.meshgrid(*map(np.arange, flat.shape[1:]), indexing="ij")
    seen = np.zeros(flat.shape, bool)
    for item, *centre in number:
        far = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
        seen[item] |= far <= radius**2
    left = labels.where(torch.from_numpy(seen), IGNORE)
    return give(task, index, left, "annotated areas", SECONDS["contour"] * len(number))
