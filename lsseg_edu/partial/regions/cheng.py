"""Self-similarity student: near places look alike, and those that look alike vote together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.semi.consistency.fixmatch import confident
from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher
from lsseg_edu.semi.self_training.dense_crf import offsets, shifted


class SelfSimilarityStudent(MeanTeacher):
    r"""A teacher cleans and completes partial labels, and features know near from far.

    **Self-similarity** needs no label. Of two places in an image, the one next to you should have
    features more like yours than one far away. With features ``z`` of patches, :math:`n(i)` a
    neighbour and :math:`f(i)` a distant patch,

    .. math:: L_{sim} = \frac1N \sum_i \big(m - \cos(z_i, z_{n(i)}) + \cos(z_i, z_{f(i)})\big)_+ .

    **Similar prediction ensemble.** The average teacher's answer at a pixel is replaced by the
    mean over its window, weighted by how alike the features are:

    .. math:: \tilde p_i = \frac{\sum_{j \in W_i} a_{ij}\, p'_j}{\sum_{j \in W_i} a_{ij}}, \qquad
              a_{ij} = \exp\big(\kappa \cos(z'_i, z'_j)\big) .

    Where :math:`\tilde p` is sure (:math:`\tau`), it is a label of the pixels that have none, and
    it strikes out a given label that says otherwise:

    .. math::
        L = L_{pCE}(\text{labels not struck out}) + w(t)\,\big(L_{pCE}(\hat y) + \mu L_{sim}\big).

    Reference: Cheng et al., "Self-similarity Student for Partial Label Histopathology Image
    Segmentation", ECCV 2020.
    Simplified: pixels and patches of one image instead of patches of a slide; a margin loss;
    labels are struck out from ``trust`` on only, and come back if the teacher changes its mind.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`, or any network with ``encode``, ``decode`` and
            ``final_conv``.
        tau: :math:`\tau`, from which the ensemble is believed.
        margin: ``m``.
        similarity: :math:`\mu`; 0 leaves the features alone.
        sharp: :math:`\kappa`; 0 weights the window evenly: the control.
        radius: of the window, in pixels.
        patch: side of a patch, in pixels.
        trust: progress at which the ensemble may strike out labels.
        **options: ``weight``, ``decay`` and ``ramp`` of :class:`.MeanTeacher`.
    """

    unlabelled = False

    def __init__(
        self,
        net: nn.Module,
        tau: float = 0.8,
        margin: float = 0.5,
        similarity: float = 0.1,
        sharp: float = 5.0,
        radius: int = 2,
        patch: int = 4,
        trust: float = 0.4,
        **options,
    ):
        super().__init__(net, noise=0.0, **options)
        self.tau, self.margin, self.similarity, self.sharp = tau, margin, similarity, sharp
        self.radius, self.patch, self.trust = radius, patch, trust

    def loss(self, batch) -> dict[str, Tensor]:
        """``labels``; ``pseudo`` and ``similarity`` (already weighted)."""
        images, labels = batch.labelled.images, batch.labelled.labels
        features = self.net.decode(self.net.encode(images))
        logits = self.net.final_conv(features)
        said = self.ensemble(images)
        if batch.progress >= self.trust:
            labels = cleaned(labels, said)
        pseudo = said.masked_fill(batch.labelled.labels != IGNORE, IGNORE)
        weight = self.weight_at(batch.progress)
        near = weight * self.similarity * similarity_loss(features, self.patch, self.margin)
        return {
            "labels": losses.cross_entropy(logits, labels),
            "pseudo": weight * losses.cross_entropy(logits, pseudo),
            "similarity": near,
        }

    @torch.no_grad()
    def ensemble(self, images: Tensor) -> Tensor:
        """Classes ``(B, *S)`` of which the teacher's ensemble is sure, else IGNORE."""
        features = self.teacher.decode(self.teacher.encode(images))
        probs = self.teacher.final_conv(features).softmax(1)
        return confident(similar_ensemble(probs, features, self.sharp, self.radius), self.tau)


def similar_ensemble(probs: Tensor, features: Tensor, sharp: float, radius: int) -> Tensor:
    """Mean answer of a pixel's window, weighted by likeness of features.

    Args:
        probs: ``(B, K, *S)``.
        features: ``(B, F, *S)``.
        sharp: factor of the cosine in the exponent.
        radius: of the window, which holds the pixel itself.
    """
    unit = F.normalize(features, dim=1)
    total = weights = torch.full_like(probs[:, :1], sharp).exp()
    total = total * probs
    there = shifted(torch.cat([probs, unit, torch.ones_like(probs[:, :1])], 1), radius)
    for other in there:
        answer, look, exists = other.split([probs.shape[1], unit.shape[1], 1], 1)
        weight = exists * (sharp * (unit * look).sum(1, keepdim=True)).exp()
        total, weights = total + weight * answer, weights + weight
    return total / weights


def similarity_loss(features: Tensor, patch: int, margin: float) -> Tensor:
    """A patch must be ``margin`` more like its neighbour than like one half an image away.

    The neighbour is drawn among those that touch; the distant patch is the one half the image
    further along every axis, which wraps around.

    Args:
        features: ``(B, F, *S)``.
        patch: side of a patch, over which features are averaged.
        margin: of the cosines.
    """
    dims = features.ndim - 2
    pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
    z = F.normalize(pool(features, patch), dim=1)
    steps, axes = offsets(1, dims), tuple(range(2, z.ndim))
    step = steps[int(torch.randint(len(steps), ()))]
    far = z.roll([n // 2 for n in z.shape[2:]], axes)
    inside = torch.ones_like(z[:, :1])
    near, exists = z.roll(step, axes), inside
    for axis, s in zip(axes, step, strict=True):
        if s:
            exists = exists.clone()
            exists.select(axis, 0 if s > 0 else -1).zero_()  # it came in from the other side
    gap = (z * far).sum(1, keepdim=True) - (z * near).sum(1, keepdim=True)
    return (exists * (margin + gap).relu()).sum() / exists.sum()


def cleaned(labels: Tensor, said: Tensor) -> Tensor:
    """``labels`` without those that ``said`` contradicts (both ``(B, *S)``, IGNORE: no opinion)."""
    return labels.masked_fill((said != IGNORE) & (said != labels), IGNORE)
