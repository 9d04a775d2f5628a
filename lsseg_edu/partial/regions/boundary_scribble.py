"""Boundary scribbles: a rough line says that the border is near, and how near it is not known."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from lsseg_edu.data import IGNORE
from lsseg_edu.data.annotate.components import signed_distance
from lsseg_edu.losses import dice_ce
from lsseg_edu.semi.priors.constraints.size import size_penalty
from lsseg_edu.train import Method


class BoundaryScribble(Method):
    r"""Certain inside and outside, weighted in the band, and an outline that stays in the band.

    The filled line is a pseudo-mask :math:`\hat y`. The further a pixel is from the line (``d``),
    the more its pseudo-label is worth; within the **uncertain band** :math:`B` (the pixels that the
    annotator left open)

    .. math:: L_{band} = \frac{\sum_{i \in B} c_i\, (-\ln p_{\hat y_i}(i))}{\sum_{i \in B} c_i},
              \qquad c_i = 1 - e^{-d_i^2 / 2\sigma^2} .

    On the line itself ``c`` is 0: nothing is taught. What is known there is that the *outline*
    passes close by. Its soft version, the contrast :math:`g_i = \max_{N(i)} p - \min_{N(i)} p` of
    the answer, must stay within a boundary map that is as wide as the doubt:

    .. math:: L_{edge} = \frac{1}{|\Omega|} \sum_i g_i\, \big(1 - e^{-d_i^2 / 2\sigma^2}\big) .

    The **size** of each class must lie between the certain core and core plus band. Its weight
    adapts: it rises by what the constraint is violated by, and so stops rising when it is met.

    .. math:: L = L_{sup}(\text{certain}) + w_1 L_{band} + w_2 L_{edge} + \mu_t\, C_{size}, \qquad
              \mu_{t+1} = \min(\mu_t + \eta\, C_{size},\ \mu_{max}) .

    Reference: Zheng H., Zhuang, Qin, Gu, Yang J., Yang G.-Z., "Weakly Supervised Deep Learning for
    Breast Cancer Segmentation with Coarse Annotations", MICCAI 2020.
    Simplified: the width of the boundary map is fixed, the paper's is estimated from the network's
    uncertainty; the rule by which the weight adapts is ours.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        band: :math:`w_1`; 0 ignores the band.
        edge: :math:`w_2`.
        sigma: :math:`\sigma` in pixels: how rough a line is.
        rate: :math:`\eta`; 0 never asks for a size.
        most: :math:`\mu_{max}`.

    Raises:
        ValueError: a task without lines; a sigma that is not positive.
    """

    def __init__(
        self,
        net: nn.Module,
        band: float = 0.5,
        edge: float = 0.5,
        sigma: float = 1.0,
        rate: float = 0.1,
        most: float = 1.0,
    ):
        if sigma <= 0:
            raise ValueError(f"The roughness of a line is a length: give sigma > 0, not {sigma}.")
        super().__init__(net)
        self.band, self.edge, self.sigma, self.rate, self.most = band, edge, sigma, rate, most
        self.register_buffer("multiplier", torch.zeros(()))

    def loss(self, batch) -> dict[str, Tensor]:
        """``certain``; ``band``, ``edge`` and ``size``, already weighted."""
        part = batch.labelled
        if "contours" not in part.extras:
            raise ValueError("There are no lines: make the task with annotate.boundary_scribbles.")
        logits = self.net(part.images)
        probs = logits.float().softmax(1)
        pseudo, distance = read_lines(part.labels, part.extras["contours"], probs.shape[1])
        near = torch.exp(-distance.square() / (2 * self.sigma**2))
        size = self.size(probs, part.labels)
        self.violation = size.detach()
        return {
            "certain": dice_ce(logits, part.labels),
            "band": self.band * weighted_ce(logits, pseudo, (1 - near) * (part.labels == IGNORE)),
            "edge": self.edge * (local_contrast(probs) * (1 - near)).mean(),
            "size": self.multiplier.clone() * size,
        }

    def after_step(self, progress: float):
        """The multiplier rises by what this step's sizes were off."""
        self.multiplier.add_(self.rate * self.violation).clamp_(max=self.most)

    def size(self, probs: Tensor, labels: Tensor) -> Tensor:
        """Square of what sizes are off core to core + band, in units of a quarter of the image."""
        classes = torch.arange(1, probs.shape[1], device=labels.device)
        core = (labels.flatten(1).unsqueeze(2) == classes).float().mean(1)
        band = (labels == IGNORE).flatten(1).float().mean(1, keepdim=True)
        return size_penalty(probs[:, 1:], core, core + band, 0.25)


def read_lines(labels: Tensor, lines: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pseudo-masks of filled lines, and how far every pixel is from the nearest line.

    A line is one pixel wide and lies just inside what it surrounds. Gaps of two pixels, which a
    warped line may have, are closed first.

    Args:
        labels: ``(B, *S)``, IGNORE in the uncertain bands.
        lines: ``(B, *S)``, the class on its line, IGNORE elsewhere.
        classes: ``K``.

    Returns:
        Classes ``(B, *S)`` int64, and distances in pixels ``(B, *S)``; an image without a line is
        far from any.
    """
    known, drawn = labels.cpu().numpy(), lines.cpu().numpy()
    pseudo = np.zeros_like(known)
    for k in range(1, classes):
        ring = (drawn == k) | (known == k)
        for mask, out in zip(ring, pseudo, strict=True):
            closed = mask | ndimage.binary_closing(mask, np.ones((3,) * mask.ndim))
            out[ndimage.binary_fill_holes(closed)] = k
    on = drawn != IGNORE
    distance = np.where(on, 0, 0.5 - signed_distance(on)).astype(np.float32)
    return torch.from_numpy(pseudo).to(labels), torch.from_numpy(distance).to(labels.device)


def weighted_ce(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy, averaged with ``weights (B, *S)``; 0 if they are all 0."""
    each = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    return (weights * each).sum() / weights.sum().clamp(min=1e-6)


def local_contrast(probs: Tensor) -> Tensor:
    """Largest minus smallest probability in the 3-neighbourhood, the mean over classes ``(B, *S)``.

    A gradient of the answer that does not depend on its direction; 1 across a sharp border.
    """
    pool = F.max_pool2d if probs.ndim == 4 else F.max_pool3d
    return (pool(probs, 3, 1, 1) + pool(-probs, 3, 1, 1)).mean(1)
