"""Curriculum domain adaptation: learn how much of each class the new images hold, then where."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.few_shot.superpixels import superpixel_maps
from lsseg_edu.train import Budget, Fitted, Method, fit


class LabelDistribution(Method):
    r"""On the unlabelled domain the answer must have the right amounts, in all and in landmarks.

    .. math::
        L = L_{sup} + w(t) \Big( \mathrm{KL}\big(q \,\|\, \bar p(\Omega)\big)
            + \frac{1}{|S|} \sum_{s \in S} \mathrm{KL}\big(q_s \,\|\, \bar p(s)\big) \Big),
        \qquad \bar p(A) = \frac{1}{|A|} \sum_{i \in A} p(i) .

    ``q`` is the label distribution that an image should have, :math:`q_s` that of a *landmark*
    superpixel: one whose class is plain, hence a single class. Both are estimated beforehand, see
    :func:`distribution_targets`; the KL is up to the entropy of ``q``, a constant.

    Reference: Zhang Y., David, Gong, "Curriculum Domain Adaptation for Semantic Segmentation of
    Urban Scenes", ICCV 2017.
    Simplified: ridge regression and a random forest on plain features, instead of on a network's.

    Args:
        net: images ``(B, C, H, W)`` to logits.
        weight: largest weight of the two terms together.
        ramp: fraction of training over which it rises.
        local: whether there are landmarks.
    """

    unlabelled = True
    weak = replace(Augment.strong(), rotation=0, tilt=0, scale=0, shear=0, shift=0, elastic=0)

    def __init__(self, net: nn.Module, weight: float = 0.1, ramp=0.4, local: bool = True):
        super().__init__(net)
        self.weight, self.ramp, self.local = weight, ramp, local

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``; ``global`` and ``landmarks`` (already weighted) on the others."""
        others, weight = batch.unlabelled, self.weight * sigmoid_rampup(batch.progress, self.ramp)
        terms = {
            "supervised": losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        }
        probs = self.net(others.images).float().softmax(1)
        terms["global"] = weight * divergence(others.extras["distribution"], probs)
        if self.local:
            parts = others.extras["superpixels"], others.extras["landmarks"]
            terms["landmarks"] = weight * landmark_loss(probs, *parts)
        return terms


def divergence(target: Tensor, probs: Tensor) -> Tensor:
    """Mean over images of ``KL(target || mean answer)``; ``(B, K)`` and ``(B, K, *S)``."""
    mean = probs.flatten(2).mean(2).clamp(min=1e-8)
    return (torch.special.xlogy(target, target) - target * mean.log()).sum(1).mean()


def landmark_loss(probs: Tensor, superpixels: Tensor, landmarks: Tensor) -> Tensor:
    """Mean over landmark superpixels of minus the log of their mean answer to their class.

    Args:
        probs: ``(B, K, H, W)``.
        superpixels: ``(B, H, W)`` numbers, unique in an image.
        landmarks: ``(B, H, W)`` class of the superpixel, IGNORE where it is no landmark.
    """
    known = landmarks != IGNORE
    if not known.any():
        return probs.sum() * 0
    image = torch.arange(len(probs), device=probs.device).view(-1, 1, 1).expand_as(landmarks)
    number = image[known] * (int(superpixels.max()) + 1) + superpixels[known]
    _, group, size = number.unique(return_inverse=True, return_counts=True)
    right = probs.gather(1, landmarks.where(known, 0).unsqueeze(1))[:, 0][known]
    mean = torch.zeros_like(size, dtype=right.dtype).index_add(0, group, right) / size
    return -mean.clamp(min=1e-8).log().mean()


def label_distribution_adaptation(
    task: Task, budget: Budget | None = None, seed: int = 0, sure: float = 0.8, **kwargs
) -> Fitted:
    """Estimate the amounts on the unlabelled images, then train :class:`LabelDistribution`.

    Args:
        task: labelled images of one domain, unlabelled ones of another.
        budget: of the training.
        seed: of weights and draws.
        sure: see :func:`distribution_targets`.
        **kwargs: ``weight``, ``ramp`` and ``local`` of the method, the rest of ``fit``.
    """
    options = {key: kwargs.pop(key) for key in ("weight", "ramp", "local") if key in kwargs}
    informed = distribution_targets(task, sure)
    return fit(LabelDistribution.for_task(task, seed, **options), informed, budget, seed, **kwargs)


def distribution_targets(task: Task, sure: float = 0.8) -> Task:
    """The task with estimates for its unlabelled images, learnt from the labelled ones.

    Args:
        task: the problem, of slices.
        sure: smallest probability that makes a superpixel a landmark; 0.8 on validation subjects
            of the other scanner: above it, hardly anything but background is left.

    Returns:
        The task with the extras ``distribution (N, K)``, ``superpixels (N, H, W)`` and
        ``landmarks (N, H, W)`` (IGNORE where there is none).
    """
    cohort, mine = task.train, task.labelled
    labels, parts = cohort.labels[mine], superpixel_maps(cohort, scale=20, smallest=10)
    classes = range(cohort.classes)
    shown = torch.stack([(labels == k).flatten(1).float().mean(1) for k in classes], 1)
    amounts = estimate_amounts(_image_features(cohort), mine, shown)
    landmarks = find_landmarks(cohort, parts, mine, sure)
    extras = {"distribution": amounts, "superpixels": parts, "landmarks": landmarks}
    return task.supervise(cohort.labels, task.supervision, task.seconds, **extras)


def estimate_amounts(features: Tensor, mine: Tensor, shown: Tensor) -> Tensor:
    """Ridge regression from features ``(N, F)`` to distributions ``(N, K)``, learnt on ``mine``."""
    from sklearn.linear_model import RidgeCV

    ridge = RidgeCV(alphas=(1, 10, 100, 1000)).fit(features[mine].numpy(), shown.numpy())
    guess = torch.from_numpy(ridge.predict(features.numpy())).float().clamp(min=1e-4)
    return guess / guess.sum(1, keepdim=True)


def find_landmarks(cohort, parts: Tensor, mine: Tensor, sure: float) -> Tensor:
    """Class of each superpixel whose class is plain to a forest learnt on ``mine``, else IGNORE."""
    from sklearn.ensemble import RandomForestClassifier

    group, features = _superpixel_features(cohort, parts)
    truth = torch.full_like(parts, IGNORE)
    truth[mine] = cohort.labels[mine]
    pure = _dominant(truth[parts > 0], group, len(features))
    known, balance = pure != IGNORE, "balanced_subsample"
    forest = RandomForestClassifier(
        60, min_samples_leaf=3, max_features=0.5, class_weight=balance, random_state=0
    ).fit(features[known].numpy(), pure[known].numpy())
    probs = torch.from_numpy(forest.predict_proba(features.numpy()))
    found = torch.from_numpy(forest.classes_)[probs.argmax(1)].where(probs.amax(1) >= sure, IGNORE)
    landmarks = torch.full_like(parts, IGNORE)
    landmarks[parts > 0] = found[group]
    return landmarks


def _superpixel_features(cohort, parts: Tensor) -> tuple[Tensor, Tensor]:
    """Superpixel of each pixel; grey level, spread, place, surroundings, size, slice of each."""
    ranks, inside = _rank(cohort.images[:, 0]), parts > 0
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in parts.shape[1:]), indexing="ij")
    near = [F.avg_pool2d(ranks, n, 1, n // 2, count_include_pad=False) for n in (9, 17, 33)]
    maps = [ranks, ranks.square(), *(axis.expand_as(ranks) for axis in axes), *near]
    if "position" in cohort.extras:
        maps.append(cohort.extras["position"].float().view(-1, 1, 1).expand_as(ranks))
    image = torch.arange(len(parts)).view(-1, 1, 1).expand_as(parts)[inside]
    number = image * (int(parts.max()) + 1) + parts[inside]
    _, group, size = number.unique(return_inverse=True, return_counts=True)
    sums = [torch.zeros(len(size)).index_add(0, group, m[inside].float()) / size for m in maps]
    sums[1] = (sums[1] - sums[0].square()).clamp(min=0).sqrt()
    return group, torch.stack([*sums, size.log()], 1)


def _dominant(labels: Tensor, group: Tensor, n: int, pure: float = 0.8) -> Tensor:
    """The class that makes up at least ``pure`` of a superpixel, IGNORE if none does."""
    counts = torch.zeros(n, 256).index_put((group, labels), torch.ones(1), accumulate=True)
    share, best = (counts / counts.sum(1, keepdim=True)).max(1)
    return best.where(share >= pure, IGNORE)


def _rank(images: Tensor) -> Tensor:
    """Grey levels as ranks in [0, 1]: two scanners with the same order of tissues look alike."""
    flat = images.flatten(1)
    return (flat.argsort(1).argsort(1) / flat.shape[1]).view(images.shape)


def _image_features(cohort) -> Tensor:
    """Ranks on an 8 x 8 grid; and, where it is known, the slice's position and its powers."""
    coarse = F.adaptive_avg_pool2d(_rank(cohort.images[:, 0]), 8).flatten(1)
    if "position" not in cohort.extras:
        return coarse
    position = cohort.extras["position"].float().view(-1, 1)
    return torch.cat([coarse, *(3 * position**n for n in (1, 2, 3, 4))], 1)
