"""Vicinal labels: patients are alike, so one lends the other the labels it lacks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.augment.mix import beta
from lsseg_edu.augment.smooth import per_image
from lsseg_edu.data import IGNORE
from lsseg_edu.partial.classes.partly import annotated_classes, marginal_loss, precise
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class VicinalLabels(Method):
    r"""Blend two patients from different data sets; the blend has the labels of both.

    Image b and its partner b', which annotates something else and looks most alike, are blended
    by a share :math:`\lambda`, :math:`\tilde x = \lambda x_b + (1 - \lambda) x_{b'}`. With
    :math:`\lambda_m` the shares of the two and :math:`A_m` what they annotate,

    .. math::
        \kappa_k = \sum_{m:\, k \in A_m} \lambda_m, \qquad
        \tilde y_k = \frac{1}{\kappa_k} \sum_{m:\, k \in A_m} \lambda_m [y_m = k] .

    Where only one of them annotates class k, its mask stands for both: organs lie alike in people
    who lie alike. That is a guess, and the less of the blend comes from the image whose mask it
    is, the worse. So :math:`\kappa_k`, the share that is known, weighs class k in the loss:
    vicinal labels under uncertainty.

    Reference: Dong N. et al., "Towards Robust Partially Supervised Multi-Structure Medical Image
    Segmentation on Small-Scale Data" (VLUU), Applied Soft Computing 2022.
    Simplified: pairs instead of one image of every data set; the uncertainty is the unknown share;
    the images as they are keep the marginal loss.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: largest weight of the vicinal term; 0 is the marginal loss alone.
        alpha: of the Beta distribution of the shares; 1 is uniform.
        ramp: fraction of training over which the weight rises.
        similar: the partner is the most similar image of another data set in the batch; if not,
            a random one (the control).
    """

    def __init__(
        self, net: nn.Module, weight=1.0, alpha: float = 1.0, ramp: float = 0.4, similar=True
    ):
        super().__init__(net)
        self.weight, self.alpha, self.ramp, self.similar = weight, alpha, ramp, similar

    def loss(self, batch) -> dict[str, Tensor]:
        """``marginal`` of the images, ``vicinal`` of their blends (already weighted)."""
        part = batch.labelled
        annotated = annotated_classes(part)
        terms = {"marginal": marginal_loss(self.net(part.images), part.labels, annotated)}
        if self.weight:
            partner = neighbours(part.images, annotated, self.similar)
            share = beta(part.images, self.alpha)
            wide = per_image(share, part.images)
            blend = wide * part.images + (1 - wide) * part.images[partner]
            target, known = vicinal_labels(part.labels, annotated, partner, share)
            weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
            terms["vicinal"] = weight * vicinal_loss(self.net(blend), target, known)
        return terms


def neighbours(images: Tensor, annotated: Tensor, similar: bool = True) -> Tensor:
    """For each image of the batch the partner it is blended with, ``(B,)``.

    Args:
        images: ``(B, C, *S)``. Alike are two that differ little on a grid of 8 cells an axis.
        annotated: ``(B, K)`` bool; a partner annotates other classes.
        similar: the nearest one, or a random one.

    Returns:
        Index of the partner; the image itself if all annotate the same.
    """
    pool = F.adaptive_avg_pool2d if images.ndim == 4 else F.adaptive_avg_pool3d
    coarse = pool(images.float(), 8).flatten(1)
    distance = torch.cdist(coarse, coarse) if similar else torch.rand_like(coarse @ coarse.T)
    same = (annotated.unsqueeze(1) == annotated).all(2)
    distance = distance.masked_fill(same, torch.inf)
    itself = torch.arange(len(images), device=images.device)
    return distance.argmin(1).where(distance.isfinite().any(1), itself)


def vicinal_labels(
    labels: Tensor, annotated: Tensor, partner: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Labels of blends and how much of each is known.

    Args:
        labels: ``(B, *S)``.
        annotated: ``(B, K)`` bool.
        partner: ``(B,)``, see :func:`neighbours`.
        share: :math:`\lambda`, ``(B,)``, of the image itself.

    Returns:
        :math:`\tilde y`, ``(B, K, *S)`` in [0, 1] (background: 0), and :math:`\kappa`,
        ``(B, K, *S)``: 0 for the background, and where one of the two is IGNORE.
    """
    organs = torch.arange(1, annotated.shape[1], device=labels.device)
    wide = (-1, len(organs), *[1] * (labels.ndim - 1))
    masks = labels.unsqueeze(1) == organs.view(wide)
    target = known = 0.0
    for whose, part in ((slice(None), share), (partner, 1 - share)):
        weight = (annotated[whose, 1:] * part.unsqueeze(1)).view(wide)
        target, known = target + weight * masks[whose], known + weight
    seen = ((labels != IGNORE) & (labels[partner] != IGNORE)).unsqueeze(1)
    front = [0, 0] * (labels.ndim - 1) + [1, 0]  # a channel for the background
    return F.pad(target / known.clamp(min=1e-6), front), F.pad(known * seen, front)


def vicinal_loss(logits: Tensor, target: Tensor, known: Tensor, eps: float = 1.0) -> Tensor:
    r"""Binary cross-entropy and Dice of each class against the rest, weighted by what is known.

    .. math::
        -\frac{\sum \kappa_k \big(\tilde y_k \ln p_k + (1 - \tilde y_k) \ln(1 - p_k)\big)}
              {\sum \kappa_k}
        \;+\; 1 - \operatorname{mean}_k \frac{2\sum \kappa_k p_k \tilde y_k + \epsilon}
              {\sum \kappa_k (p_k^2 + \tilde y_k^2) + \epsilon}

    Args:
        logits: ``(B, K, *S)``.
        target: :math:`\tilde y`, ``(B, K, *S)``.
        known: :math:`\kappa`, ``(B, K, *S)``; classes that are 0 throughout count for nothing.
        eps: as in :func:`lsseg_edu.losses.dice`.
    """
    probs = precise(logits).softmax(1)
    agree = target * probs.clamp(min=1e-6).log() + (1 - target) * (1 - probs).clamp(min=1e-6).log()
    axes = (0, *range(2, logits.ndim))
    overlap = (known * probs * target).sum(axes)
    size = (known * (probs.square() + target.square())).sum(axes)
    dice = ((2 * overlap + eps) / (size + eps))[1:].mean()
    return 1 - dice - (known * agree).sum() / known.sum().clamp(min=1)
