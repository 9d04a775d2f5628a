"""Learning from labels that are probabilities, each pixel with a trust of its own."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.train import Method


class SoftLabelled(Method):
    r"""The baseline, and weighted cross-entropy with soft labels on the other images.

    .. math::
        L = L_{sup} + w\, \frac{\sum_i c_i \sum_k -q_{ik} \log f_\theta(x)_{ik}}{\sum_i c_i}

    Soft labels :math:`q` and trust :math:`c` ride along as extras, see :func:`with_soft`, and are
    warped with their images like any label.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: ``w``; at 0 it is the baseline.

    Raises:
        ValueError: a task without soft labels.
    """

    unlabelled = True

    def __init__(self, net: nn.Module, weight: float = 1.0):
        super().__init__(net)
        self.weight = weight

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the labelled images, ``soft`` (already weighted) on the others."""
        others = batch.unlabelled
        if "soft" not in others.extras:
            raise ValueError("The task has no soft labels: make it with with_soft().")
        soft, trust = (others.extras[key].float() / 255 for key in ("soft", "trust"))
        entropy = -(soft * self.net(others.images).float().log_softmax(1)).sum(1)
        value = (trust * entropy).sum() / trust.sum().clamp(min=1)
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        return {"supervised": supervised, "soft": self.weight * value}


def with_soft(task: Task, soft: Tensor, trust: Tensor | None = None) -> Task:
    """The task with soft labels for the images that nobody labelled.

    They are kept as extras ``"soft"`` and ``"trust"`` in steps of 1/255: as integers they move
    with the image under augmentation, as labels do.

    Args:
        task: the problem.
        soft: probabilities ``(M, K, *S)`` of ``task.unlabelled``.
        trust: ``(M, *S)`` in [0, 1]; by default 1.

    Raises:
        ValueError: another number of items, or of another size, than the unlabelled images.
    """
    index, size = task.unlabelled, task.train.labels.shape[1:]
    if soft.shape != (len(index), task.train.classes, *size):
        raise ValueError(
            f"Soft labels must be {(len(index), task.train.classes, *size)}, one map a class for "
            f"each unlabelled image, not {tuple(soft.shape)}."
        )
    trust = torch.ones_like(soft[:, 0]) if trust is None else trust
    extras = {**task.train.extras}
    for key, values in (("soft", soft), ("trust", trust)):
        shape = (len(task.train), *values.shape[1:])
        extras[key] = torch.zeros(shape, dtype=torch.uint8)
        extras[key][index] = as_bytes(values)
    return replace(task, train=replace(task.train, extras=extras))


def as_bytes(values: Tensor) -> Tensor:
    """Numbers in [0, 1] in steps of 1/255, as ``uint8``."""
    return (255 * values.clamp(0, 1)).round().to(torch.uint8)
