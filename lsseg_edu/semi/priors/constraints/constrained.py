"""What the constraints share: a penalty on the answer itself, with no mask to compare it with."""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class Constrained(Method):
    r"""The baseline, and a penalty for answers that cannot be true, on every image.

    .. math:: L = L_{sup} + w(t)\, \frac{1}{|X_l \cup X_u|} \sum_{x \in X_l \cup X_u} C(f_\theta(x))

    Subclasses define :meth:`penalty`.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: largest weight of the penalty.
        ramp: fraction of training over which it rises: the first answers have no shape yet.
    """

    unlabelled = True

    def __init__(self, net: nn.Module, weight: float = 1.0, ramp: float = 0.4):
        super().__init__(net)
        self.weight, self.ramp = weight, ramp

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on labelled images, ``constraint`` (already weighted) on all."""
        mine, others = self.net(batch.labelled.images), self.net(batch.unlabelled.images)
        supervised = losses.dice_ce(mine, batch.labelled.labels)
        probs = torch.cat([mine, others]).float().softmax(1)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"supervised": supervised, "constraint": weight * self.penalty(probs, batch)}

    def penalty(self, probs: Tensor, batch) -> Tensor:
        """Probabilities ``(B, K, *S)`` of the labelled and then the unlabelled images: a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define penalty(probs, batch).")


class RegionConstraint(Constrained):
    """A constraint on regions, each a class or a union of classes.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        regions: tuples of classes, e.g. ``((3,), (2, 3))`` for the left ventricle and for what
            the epicardium encloses. :meth:`for_task` takes those that the labelled masks obey.
        weight: as in :class:`Constrained`.
        ramp: likewise.

    Raises:
        ValueError: no region, or one that names the background.
    """

    tolerance = 0.01

    def __init__(self, net: nn.Module, regions, weight: float = 1.0, ramp: float = 0.4):
        super().__init__(net, weight, ramp)
        if not regions or any(not region or min(region) < 1 for region in regions):
            raise ValueError(
                f"Regions are tuples of foreground classes, at least one of them, not {regions}: "
                f"no constraint can be learnt from masks that disobey it."
            )
        self.regions = tuple(map(tuple, regions))

    @classmethod
    def for_task(cls, task, seed: int = 0, regions=None, **options):
        """On the regions that the labelled masks obey, unless others are given."""
        labels = task.train.labels[task.labelled]
        if regions is None:
            regions = obeyed(cls.violation, labels, task.train.classes, cls.tolerance)
        return super().for_task(task, seed, regions=regions, **options)

    def penalty(self, probs: Tensor, batch) -> Tensor:
        """Mean violation over regions and images."""
        inside = [probs[:, list(region)].sum(1) for region in self.regions]
        return torch.stack([self.violation(u).mean() for u in inside]).mean()

    @staticmethod
    def violation(u: Tensor) -> Tensor:
        """Soft masks ``(B, *S)`` to the violation of each, ``(B,)``, a mean over pixels."""
        raise NotImplementedError


def obeyed(violation, labels: Tensor, classes: int, tolerance: float) -> list[tuple]:
    """The foreground classes and pairs of them that obey a shape constraint in known masks.

    Whether an organ is star-shaped is a question to anatomy; the few masks there are answer it.

    Args:
        violation: soft masks ``(B, *S)`` to ``(B,)``, a mean over pixels.
        labels: ``(N, *S)`` of labelled images.
        classes: ``K``.
        tolerance: largest mean violation, in violations per pixel of the region, over the
            images that show it. Masks drawn pixel by pixel are not perfect.

    Returns:
        Tuples of classes; a pair only if its classes touch (each alone says no less, else).
    """
    single = [(k,) for k in range(1, classes)]
    candidates = single + [p for p in combinations(range(1, classes), 2) if _touch(labels, *p)]
    return [region for region in candidates if _measure(violation, labels, region) <= tolerance]


def _measure(violation, labels, region) -> float:
    masks = torch.isin(labels, torch.tensor(region, device=labels.device)).double()
    masks = masks[masks.flatten(1).any(1) & (labels != IGNORE).flatten(1).all(1)]
    if len(masks) == 0:
        return float("inf")
    return float((violation(masks) / masks.flatten(1).mean(1)).mean())


def _touch(labels, a: int, b: int) -> bool:
    """Whether classes ``a`` and ``b`` are neighbours in any mask."""
    pool = F.max_pool2d if labels.ndim == 3 else F.max_pool3d
    grown = pool((labels == a).float()[:, None], 3, 1, 1)[:, 0] > 0
    return bool((grown & (labels == b)).any())
