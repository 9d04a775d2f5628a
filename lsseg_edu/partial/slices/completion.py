"""Which planes are labelled, and labels with weights for all the others."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.priors.atlas.soft import as_bytes

Labelling = tuple[Tensor, Tensor]
"""Labels ``(M, D, H, W)`` and the weights of their voxels, likewise, in [0, 1]."""


def known_planes(labels: Tensor) -> Tensor:
    """``(B, D)``: which planes of ``labels (B, D, H, W)`` are labelled from rim to rim."""
    return (labels != IGNORE).flatten(2).all(2)


def need_planes(task: Task) -> None:
    """Refuse slices, and volumes without a single labelled plane.

    Raises:
        ValueError: in one sentence.
    """
    if task.train.dims != 3:
        raise ValueError(
            f"{task.train.name!r} is a cohort of slices, and this method completes volumes: load "
            f"it with dims=3."
        )
    if not known_planes(task.train.labels[task.labelled]).any():
        raise ValueError(
            "No plane of any volume is labelled from rim to rim: start from annotate.slices()."
        )


def with_trust(task: Task, index: Tensor, labels: Tensor, weights: Tensor) -> Task:
    """The task with these labels and weights at the volumes ``index``, and no label elsewhere.

    The weights become the extra ``"trust"``, in steps of 1/255: as integers they move with the
    volume under augmentation, as labels do.

    Args:
        task: the problem.
        index: ``(M,)`` items of ``task.train``.
        labels: ``(M, D, H, W)``.
        weights: likewise, in [0, 1].
    """
    everything = torch.full_like(task.train.labels, IGNORE)
    everything[index] = labels
    trust = torch.zeros_like(everything, dtype=torch.uint8)
    trust[index] = as_bytes(weights)
    return task.supervise(everything, seconds=task.seconds, trust=trust)


def completed(given: Tensor, probs: Tensor, weights: Tensor | None = None) -> Labelling:
    r"""What was given stays, with weight 1; the rest gets the likeliest class.

    Without ``weights`` a pseudo-label counts by what its probabilities know:

    .. math:: w_i = e^{-H_i}, \qquad H_i = -\sum_k p_{ik} \ln p_{ik} .

    :math:`e^{H}` is the number of classes between which :math:`p` hesitates.

    Args:
        given: ``(M, *S)``, IGNORE where nobody labelled.
        probs: ``(M, K, *S)``.
        weights: ``(M, *S)`` in [0, 1].
    """
    known = given != IGNORE
    if weights is None:
        weights = torch.exp(-torch.special.entr(probs).sum(1))
    return given.where(known, probs.argmax(1)), weights.masked_fill(known, 1.0)
