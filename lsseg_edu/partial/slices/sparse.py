"""A volume from a few of its planes: voxels that nobody labelled weigh nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE
from lsseg_edu.partial.slices.completion import need_planes
from lsseg_edu.train import Method, Part


def voxel_loss(logits: Tensor, labels: Tensor, weights: Tensor, eps: float = 1.0) -> Tensor:
    r"""Cross-entropy plus Dice in which every voxel has a weight.

    .. math::
        -\frac{\sum_i w_i \log p_{y_i}(i)}{\sum_i w_i} + 1 - \frac1K \sum_k
        \frac{2 \sum_i w_i\, p_k(i)\, y_k(i) + \epsilon}
             {\sum_i w_i\, p_k(i)^2 + \sum_i w_i\, y_k(i)^2 + \epsilon}

    Weights of 0 and 1 give :func:`lsseg_edu.losses.dice_ce`, the baseline of the whole book.
    A weight of 0 is exact: the voxel has no gradient, whatever its label.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)`` int64; where they are IGNORE the weight counts as 0.
        weights: ``(B, *S)``, not negative.
        eps: smoothing of Dice, in voxels.

    Returns:
        A scalar; 0 gradient, not NaN, where no voxel has a weight.
    """
    known = labels != IGNORE
    weights, target = weights.float() * known, labels.where(known, 0)
    entropy = F.cross_entropy(logits.float(), target, reduction="none")
    entropy = (weights * entropy).sum() / weights.sum().clamp(min=1e-6)
    probs, weights = logits.float().softmax(1), weights.unsqueeze(1)
    one_hot = torch.zeros_like(probs).scatter_(1, target.unsqueeze(1), 1.0)
    axes = [0, *range(2, logits.ndim)]
    overlap = (weights * probs * one_hot).sum(axes)
    size = (weights * (probs.square() + one_hot)).sum(axes)
    return entropy + 1 - ((2 * overlap + eps) / (size + eps)).mean()


class SparseSlices(Method):
    r"""Train a 3D network on volumes of which only some planes are labelled.

    .. math:: w_i = \begin{cases} 1 & i \text{ in a labelled plane} \\ 0 & \text{elsewhere}
              \end{cases}

    The images are whole volumes, so every kernel sees the unlabelled planes on both sides of a
    labelled one, and random 3D deformations turn the few planes into many oblique ones. Methods
    that give labels to the other voxels as well put weights between 0 and 1 into
    ``task.train.extras["trust"]``, see :func:`.with_trust`.

    The paper normalises over a batch of one volume, with the statistics of the present batch at
    test time too. This *is* instance normalisation, the one of :class:`lsseg_edu.networks.UNet`,
    and does not change when a batch has two volumes.

    Reference: Cicek, Abdulkadir, Lienkamp, Brox, Ronneberger, "3D U-Net: Learning Dense
    Volumetric Segmentation from Sparse Annotation", MICCAI 2016.
    Simplified: planes across one axis instead of three; Dice beside the paper's cross-entropy,
    and no class weights, as for every baseline here.

    Args:
        net: volumes ``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)``.

    Raises:
        ValueError: ``for_task`` on a task of slices, or without a labelled plane.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.slices(Task.split(load("brain", 32, dims=3), labelled=8), every=8)
        >>> method = SparseSlices.for_task(task)
    """

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """On the book's 3D U-Net."""
        need_planes(task)
        return super().for_task(task, seed, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"voxels": weighted cross-entropy + Dice}`` of the labelled volumes."""
        part = batch.labelled
        return {"voxels": voxel_loss(self.net(part.images), part.labels, voxel_weights(part))}


def voxel_weights(part: Part) -> Tensor:
    """``(B, *S)``: the trust of the task where it has one, 1 elsewhere, 0 where nobody labelled."""
    known = (part.labels != IGNORE).float()
    return known * part.extras["trust"].float() / 255 if "trust" in part.extras else known
