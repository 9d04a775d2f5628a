"""Hybrid loss: classes from labels and pseudo-labels, rims from labels alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.data.annotate.components import signed_distance
from lsseg_edu.networks.blocks import project
from lsseg_edu.networks.build import build
from lsseg_edu.networks.unet import UNet
from lsseg_edu.partial.rounds import alternate
from lsseg_edu.partial.slices.completion import completed, known_planes, need_planes, with_trust
from lsseg_edu.partial.slices.sparse import SparseSlices, voxel_loss, voxel_weights
from lsseg_edu.semi.priors.atlas.soft import as_bytes
from lsseg_edu.semi.self_training import SelfTrained
from lsseg_edu.train import Budget, Fitted


class ClassesAndRims(nn.Module):
    """A U-Net with two heads: one for the classes, one for the rim of each of them.

    Args:
        channels, classes, dims: as for :class:`~lsseg_edu.networks.UNet`.
        width: channels at full resolution.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 8):
        super().__init__()
        self.trunk = UNet(channels, classes, dims, width)
        self.rim = project(dims, width, classes - 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images to the logits ``(B, K, *S)`` of the classes."""
        return self.both(images)[0]

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K, *S)`` and rims ``(B, K - 1, *S)``."""
        features = self.trunk.decode(self.trunk.encode(images))
        return self.trunk.final_conv(features), self.rim(features)


def rims(labels: Tensor, classes: int, width: float = 1.0) -> Tensor:
    r"""How near is the rim of class ``k``, within the plane?

    .. math:: r_k(i) = \exp\Big(-\frac{d_k(i)^2}{2 \sigma^2}\Big)

    with :math:`d_k(i)` the distance from the centre of pixel :math:`i` to the nearest pixel edge
    between class :math:`k` and anything else. 0 in planes that do not show the class, and in those
    that are not labelled.

    Args:
        labels: ``(N, D, H, W)``.
        classes: ``K``.
        width: :math:`\sigma` in pixels: 1, since the grey matter of a small volume has no more.

    Returns:
        ``(N, K - 1, D, H, W)`` in [0, 1].
    """
    known = known_planes(labels)
    drawn = labels[known].numpy()  # (P, H, W)
    distance = np.stack([signed_distance(drawn == k) for k in range(1, classes)], 1)
    answer = torch.zeros(*labels.shape[:2], classes - 1, *labels.shape[2:])
    answer[known] = torch.from_numpy(np.exp(-(distance**2) / (2 * width**2)))
    return answer.transpose(1, 2)


class HybridLoss(SparseSlices):
    r"""Classes where there is a label or a pseudo-label, rims where somebody drew one.

    .. math::
        L = L_w\big(f_\theta(x), \hat y\big)
          + \lambda\, \frac{1}{(K - 1) |\Omega_l|} \sum_{i \in \Omega_l} \sum_{k \ge 1}
            \big(g_\theta(x)_{ki} - r_k(i)\big)^2

    A pseudo-label knows roughly where an organ is. Of its rim, which is where pseudo-labels are
    wrong, nothing is learnt from it: the second sum runs over the labelled planes
    :math:`\Omega_l` alone. Both heads read the same features, so that what finds a rim serves
    the classes as well.

    Args:
        net: :class:`ClassesAndRims`.
        regression: :math:`\lambda`; rims are thin, so that their mean squared error is small
            beside a cross-entropy: 10. At 0 it is self-training without rims, the control.

    Raises:
        ValueError: a task without rims.
    """

    def __init__(self, net: nn.Module, regression: float = 10.0):
        super().__init__(net)
        self.regression = regression

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """On a U-Net of the book's width with a head for the rims."""
        need_planes(task)
        return cls(build(ClassesAndRims, task, seed), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``voxels`` on labels and pseudo-labels, ``rims`` (weighted) on labels alone."""
        part = batch.labelled
        if "rims" not in part.extras:
            raise ValueError("The task has no rims to regress: train it by hybrid_training().")
        logits, found = self.net.both(part.images)
        terms = {"voxels": voxel_loss(logits, part.labels, voxel_weights(part))}
        if self.regression:
            given = part.extras["given"].unsqueeze(1).float()
            error = (given * (found - part.extras["rims"].float() / 255).square()).sum()
            count = (given.sum() * found.shape[1]).clamp(min=1)
            terms["rims"] = self.regression * error / count
        return terms


def hybrid_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 3,
    regression: float = 10.0,
    **kwargs,
) -> SelfTrained:
    r"""Complete the labels, train with :class:`HybridLoss`, complete them again.

    The first training has the labels alone. Pseudo-labels of the other voxels count by their
    certainty, :func:`.completed`; the labels themselves, and their rims, never change.

    Reference: Wang S., Nie, Qu, Shao, Lian, Wang, Shen, "CT Male Pelvic Organ Segmentation via
    Hybrid Loss Network With Incomplete Annotation", IEEE Transactions on Medical Imaging 2020.
    Simplified: no localisation of the pelvis first; the rim as a Gaussian of the distance.

    Args:
        task: volumes labelled wholly, or in some planes, see :func:`mixed_annotation`.
        budget: of all rounds together; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        rounds: trainings.
        regression: see :class:`HybridLoss`.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: slices instead of volumes, no labelled plane, no round.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> from lsseg_edu.partial.slices import mixed_annotation
        >>> task = mixed_annotation(Task.split(load("brain", 32, dims=3), labelled=6))
        >>> fitted = hybrid_training(task)  # doctest: +SKIP
    """
    need_planes(task)
    task, index = with_rims(task), task.labelled
    images, given = task.train.images[index], task.train.labels[index]

    def teach(last: Fitted | None) -> Task:
        if last is None:
            return task
        return with_trust(task, index, *completed(given, last.predict(images)))

    def make(net) -> HybridLoss:
        if net:
            return HybridLoss(net, regression)
        return HybridLoss.for_task(task, seed, regression=regression)

    return alternate(teach, make, budget, seed, rounds, **kwargs)


def with_rims(task: Task) -> Task:
    """The task with its rims and with where they may be learnt, as extras in steps of 1/255."""
    labels = task.train.labels
    whole = known_planes(labels)[..., None, None].expand_as(labels)
    extras = {
        **task.train.extras,
        "rims": as_bytes(rims(labels, task.train.classes)),
        "given": whole.to(torch.uint8),
    }
    return replace(task, train=replace(task.train, extras=extras))
