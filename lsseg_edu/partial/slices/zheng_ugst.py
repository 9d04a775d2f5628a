"""Uncertainty-guided self-training: several heads label the rest, by how far they agree."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.networks.blocks import conv, project
from lsseg_edu.networks.build import build
from lsseg_edu.networks.unet import UNet
from lsseg_edu.partial.rounds import alternate
from lsseg_edu.partial.slices.completion import completed, need_planes, with_trust
from lsseg_edu.partial.slices.sparse import SparseSlices, voxel_loss, voxel_weights
from lsseg_edu.semi.self_training import SelfTrained
from lsseg_edu.train import Budget, Fitted


class Heads(nn.Module):
    """A U-Net whose last features are read by several heads, each with a drop-out of its own.

    Args:
        channels, classes, dims: as for :class:`~lsseg_edu.networks.UNet`.
        heads: how many.
        width: channels at full resolution.
        dropout: of whole feature maps, before each head: no two learn from the same ones.

    Raises:
        ValueError: one head, which cannot disagree.
    """

    def __init__(self, channels, classes, dims, heads: int = 3, width: int = 8, dropout=0.25):
        super().__init__()
        if heads < 2:
            raise ValueError(f"{heads} head cannot disagree: take at least 2.")
        self.trunk = UNet(channels, classes, dims, width)
        self.trunk.final_conv = nn.Identity()
        self.heads = nn.ModuleList(
            nn.Sequential(conv(dims, width, width), project(dims, width, classes))
            for _ in range(heads)
        )
        self.drop = (F.dropout2d, F.dropout3d)[dims - 2]
        self.dropout = dropout

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to the logits of every head, ``(T, B, K, *S)``."""
        features = self.trunk(images)
        views = (self.drop(features, self.dropout, self.training) for _ in self.heads)
        return torch.stack([head(x) for head, x in zip(self.heads, views, strict=True)])


class KHeads(SparseSlices):
    r"""Every head learns from the same labels and weights, and the answer is their mean.

    .. math:: L = \frac1T \sum_{t=1}^T L_w\big(f_\theta^{(t)}(x), y\big), \qquad
              \bar p = \frac1T \sum_t p^{(t)}

    Args:
        net: :class:`Heads`.

    Raises:
        ValueError: ``for_task`` on a task of slices, without a labelled plane, or for one head.
    """

    @classmethod
    def for_task(cls, task, seed: int = 0, heads: int = 3, **options):
        """On a U-Net of the book's width with ``heads`` heads."""
        need_planes(task)
        return cls(build(Heads, task, seed, heads=heads), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"voxels": mean over heads of the weighted cross-entropy + Dice}``."""
        part = batch.labelled
        weights = voxel_weights(part)
        each = [voxel_loss(logits, part.labels, weights) for logits in self.net(part.images)]
        return {"voxels": torch.stack(each).mean()}

    def predict(self, images: Tensor) -> Tensor:
        """The heads' mean probability."""
        return self.net(images).float().softmax(2).mean(0)


def uncertainty_guided(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 3,
    heads: int = 3,
    weighted: bool = True,
    **kwargs,
) -> SelfTrained:
    r"""Sparse planes teach a network of several heads; its surest voxels teach it the rest.

    First the labelled planes alone. Then, again and again, the mean answer of the heads labels
    the other voxels of the same volumes, and each of these counts by what it is worth:

    .. math:: \hat y_i = \arg\max_k \bar p_{ik}, \qquad
              w_i = e^{-H(\bar p_i)}, \qquad w_i = 1 \text{ in the labelled planes.}

    :math:`H(\bar p)` is large where every head is unsure, and where sure heads contradict each
    other. Labels and weights are made anew in every round, so an early mistake can be taken back.

    Reference: Zheng H., Motch Perrine, Pitirri, Kawasaki, Wang, Richtsmeier, Chen, "Cartilage
    Segmentation in High-Resolution 3D Micro-CT Images via Uncertainty-Guided Self-training with
    Very Sparse Annotation", MICCAI 2020.
    Simplified: heads of two layers that differ by their first weights and their drop-out, not by
    bootstrap samples (a batch has two volumes); entropy of the mean answer as the uncertainty.

    Args:
        task: volumes with some labelled planes.
        budget: of all rounds together; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        rounds: trainings; the first one on the labelled planes alone.
        heads: ``T``.
        weighted: False has every pseudo-label count 1: the control, plain self-training.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: slices instead of volumes, no labelled plane; one head; no round.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.slices(Task.split(load("brain", 32, dims=3), labelled=8), every=8)
        >>> fitted = uncertainty_guided(task)  # doctest: +SKIP
    """
    need_planes(task)
    index = task.labelled
    images, given = task.train.images[index], task.train.labels[index]

    def teach(last: Fitted | None) -> Task:
        if last is None:
            return task
        weights = None if weighted else torch.ones(given.shape)
        return with_trust(task, index, *completed(given, last.predict(images), weights))

    def make(net) -> KHeads:
        return KHeads(net) if net else KHeads.for_task(task, seed, heads=heads)

    return alternate(teach, make, budget, seed, rounds, **kwargs)
