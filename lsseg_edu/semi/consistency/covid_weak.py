"""Weakly supervised consistency: a few points, and the symmetries of the square."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.consistency.transforms import Dihedral
from lsseg_edu.train import Method


class PointConsistency(Method):
    r"""Learn from the annotated points; elsewhere, turning the image must turn the answer.

    With :math:`P` the annotated pixels and ``T`` a quarter-turn or mirror drawn for each image:

    .. math::
        L = -\frac{1}{|P|} \sum_{i \in P} \Big( \ln f_\theta(x)_{i y_i}
              + \ln f_\theta(T x)_{T(i) y_i} \Big)
            + w(t)\, \frac{1}{|\Omega|K} \sum_{i,k}
              \big| f_\theta(T x)_{ik} - (T f_\theta(x))_{ik} \big| .

    A point says what is there and nothing about how far it reaches. The last term is asked of
    every pixel of every image. ``T`` moves pixels onto pixels, so the two sides are comparable to
    the last digit, and the points move along. The gradient flows through both.

    Reference: Laradji, Rodriguez, Manas et al., "A Weakly Supervised Consistency-based Learning
    Method for COVID-19 Segmentation in CT Images", WACV 2021.
    Simplified: several classes; a ramped weight; the difference is taken of probabilities, that
    of the authors' code of logits.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: largest weight of the consistency term.
        ramp: fraction of training over which the weight rises.
        mirrors: whether ``T`` may mirror (as in the paper), or only turn.
        unlabelled: whether there are images without any point. :meth:`for_task` looks.

    Example:
        Labels may be points or whole masks; what nobody annotated is IGNORE.

        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.points(Task.split(load("lesions"), labelled=20))
        >>> method = PointConsistency.for_task(task)
    """

    def __init__(self, net: nn.Module, weight=1.0, ramp=0.4, mirrors=True, unlabelled=True):
        super().__init__(net)
        self.weight, self.ramp, self.mirrors = weight, ramp, mirrors
        self.unlabelled = unlabelled

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> PointConsistency:
        """On the book's U-Net, with unlabelled images if the task has any."""
        return super().for_task(task, seed, unlabelled=len(task.unlabelled) > 0, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``points`` of annotated pixels, ``consistency`` (already weighted) of all images."""
        images = batch.labelled.images
        if self.unlabelled:
            images = torch.cat([images, batch.unlabelled.images])
        view = Dihedral.draw(images, mirrors=self.mirrors)
        still, moved = self.net(images), self.net(view(images))
        known = torch.full_like(still[:, 0], IGNORE, dtype=torch.long)
        known[: len(batch.labelled.labels)] = batch.labelled.labels
        turned = view(known.unsqueeze(1))[:, 0]
        points = losses.cross_entropy(still, known) + losses.cross_entropy(moved, turned)
        difference = (moved.softmax(1) - view(still.softmax(1))).abs().mean()
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"points": points, "consistency": weight * difference}
