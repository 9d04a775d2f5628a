"""Partial points: find the nuclei nobody clicked, then segment from Voronoi cells and clusters."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.losses import cross_entropy
from lsseg_edu.partial.points.clicked import clicked, taught
from lsseg_edu.partial.points.detection import detect
from lsseg_edu.partial.points.voronoi import cluster_labels, voronoi_labels
from lsseg_edu.partial.regions import affinities, crf_loss, on_grid
from lsseg_edu.train import Budget, Fitted, Method, fit


class TwoLabels(Method):
    r"""Two rough labels that err in different places, and a CRF that follows the image.

    .. math:: L = \tfrac12 L_{CE}(p, y^{vor}) + \tfrac12 L_{CE}(p, y^{cluster})
              + \lambda\, [t \ge t_0]\, L_{CRF}(p, x)

    Voronoi borders keep neighbours apart and know nothing of shape; clusters know the shape and
    run neighbours together. ``batch.labelled.labels`` are the first,
    ``extras["clusters"] (N, *S)`` the second.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: :math:`\lambda`, of the *share* of affinity that is cut, see
            :func:`~lsseg_edu.partial.regions.crf_loss`; 0 is the control.
        start: :math:`t_0`: the paper fine-tunes with the CRF after training without it.
        near: of the CRF's kernel, in pixels: about a nucleus's radius.
        alike: in image deviations.
    """

    def __init__(self, net: nn.Module, weight=0.1, start=0.7, near=4.0, alike=0.5):
        super().__init__(net)
        self.weight, self.start, self.near, self.alike = weight, start, near, alike

    def loss(self, batch) -> dict[str, Tensor]:
        """``voronoi``, ``clusters`` and ``crf``, all weighted."""
        part = batch.labelled
        logits = self.net(part.images).float()
        terms = {
            "voronoi": cross_entropy(logits, part.labels) / 2,
            "clusters": cross_entropy(logits, part.extras["clusters"]) / 2,
            "crf": logits.new_zeros(()),
        }
        if batch.progress >= self.start and self.weight:
            terms["crf"] = self.weight * self.crf(logits, part.images.float())
        return terms

    def crf(self, logits: Tensor, images: Tensor) -> Tensor:
        """Share of affinity cut on a coarse grid, in full precision."""
        with torch.autocast(logits.device.type, enabled=False):
            affinity = affinities(images, self.near, self.alike, 1024)
            return crf_loss(on_grid(logits.softmax(1), 1024).flatten(2), affinity).mean()


def qu_points(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 3,
    grow: bool = True,
    weight: float = 0.1,
    **kwargs,
) -> Fitted:
    """Stage 1, :func:`.detect`, finds the points; stage 2, :class:`TwoLabels`, the masks.

    Reference: Qu, Wu, Huang, Yi, Yan, Li, Riedlinger, De, Zhang, Metaxas, "Weakly Supervised Deep
    Nuclei Segmentation Using Partial Points Annotation in Histopathology Images", IEEE TMI 2020;
    stage 2: Qu et al., "Weakly Supervised Deep Nuclei Segmentation Using Points Annotation in
    Histopathology Images", MIDL 2019.
    Simplified: the book's U-Net; one heat map a class; the detector goes on from its weights from
    round to round; no morphology on the clusters; the CRF on a 32 x 32 grid.

    Args:
        task: made by ``annotate.points``, thinned by :func:`.partial_points` or not.
        budget: of both stages together, half for each.
        seed: of weights, draws and k-means.
        rounds: of stage 1; 0 leaves it out: for tasks where every object is clicked on.
        grow: whether the background grows between the rounds of stage 1.
        weight: of the CRF.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: those of :func:`.clicked`.
    """
    budget, points = budget or Budget.auto(), clicked(task)
    if rounds:
        budget = replace(budget, steps=max(1, budget.steps // 2))
        points, _ = detect(task, budget, seed, rounds, grow, **kwargs)
    images = task.train.images[task.labelled]
    clusters = cluster_labels(images, points, seed=seed)
    labelled = taught(task, voronoi_labels(points, images.shape[2:]), clusters=clusters)
    return fit(TwoLabels.for_task(task, seed, weight=weight), labelled, budget, seed, **kwargs)
