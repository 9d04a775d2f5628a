"""Co-training on few-organ data sets: each network's average teaches the other what is missing."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lsseg_edu.partial.classes.partly import annotated_classes, marginal_loss
from lsseg_edu.semi.co_training.agreement import different
from lsseg_edu.semi.consistency.mean_teacher import ema_update
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class FewOrganCoTraining(Method):
    r"""Two networks learn the labels there are, and the missing ones from each other's average.

    A pixel labelled *background* is open: it may be any class that is not annotated there. The
    average :math:`f_{\bar b}` of the other network's past weights says which, among those:

    .. math::
        t(i) = f_{\bar b}(x)_i \text{ restricted to the open classes}, \qquad
        L = \sum_{a \ne b} L_{marg}(f_a) - w(t) \frac{1}{|\Omega_0|}
            \sum_{i \in \Omega_0} \sum_k t_k(i) \ln f_a(x)_{ik} .

    Soft labels keep the teacher's doubt. Averages are steadier than networks, and the *other* one's
    average makes other mistakes.

    Reference: Huang et al., "Multi-organ Segmentation via Co-training Weight-averaged Models from
    Few-organ Datasets", MICCAI 2020.
    Simplified: the networks start with the marginal loss and a ramp, not with pseudo-labels of
    single-organ networks; all open pixels are taught, where the paper takes a region about the
    organs; both networks see the same augmentation.

    Args:
        net: the first network; its average answers in :meth:`predict`.
        other: the second one, of other first weights.
        weight: largest weight of the taught term.
        decay: of the averages, as in :class:`.MeanTeacher`.
        ramp: fraction of training over which the weight rises.
        exchange: if not, each network is taught by its own average (the control).

    Raises:
        ValueError: two equal networks.
    """

    def __init__(
        self, net: nn.Module, other: nn.Module, weight=1.0, decay=0.99, ramp=0.4, exchange=True
    ):
        different([net, other])
        super().__init__(net)
        self.other, self.weight, self.decay, self.ramp = other, weight, decay, ramp
        teachers = [copy.deepcopy(one).requires_grad_(False) for one in (net, other)]
        self.teachers, self.exchange = nn.ModuleList(teachers), exchange
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> FewOrganCoTraining:
        """Two of the book's U-Nets; the first has the baseline's weights."""
        from lsseg_edu import networks

        other = networks.unet(task, seed=seed + 10_000)
        return cls(networks.unet(task, seed=seed), other, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``marginal`` of both networks, and ``taught`` (already weighted)."""
        part, marginal, taught = batch.labelled, 0.0, 0.0
        annotated = annotated_classes(part)
        for net, teacher in zip((self.net, self.other), self.taught_by(), strict=True):
            logits = net(part.images)
            with torch.no_grad():
                target = open_labels(teacher(part.images), part.labels, annotated)
            marginal = marginal + marginal_loss(logits, part.labels, annotated)
            taught = taught + open_cross_entropy(logits, target)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"marginal": marginal, "taught": weight * taught}

    def taught_by(self) -> list[nn.Module]:
        """The teacher of each network: the average of the other one."""
        first, second = self.teachers
        return [second, first] if self.exchange else [first, second]

    def after_step(self, progress: float):
        """Move both averages."""
        self.steps += 1
        decay = min(1 - 1 / (int(self.steps) + 1), self.decay)
        for teacher, net in zip(self.teachers, (self.net, self.other), strict=True):
            ema_update(teacher, net, decay)

    def predict(self, images: Tensor) -> Tensor:
        """The first average's probabilities ``(B, K, *S)``."""
        return self.teachers[0](images).float().softmax(1)


def open_labels(logits: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
    """Soft labels ``(B, K, *S)`` of the open pixels; 0 for all classes elsewhere.

    Args:
        logits: the teacher's, ``(B, K, *S)``.
        labels: ``(B, *S)``; those that are 0 are open to the background and to what is missing.
        annotated: ``(B, K)`` bool.
    """
    closed = annotated.clone()
    closed[:, 0] = False
    closed = closed.view(*closed.shape, *[1] * (logits.ndim - 2))
    target = logits.detach().float().masked_fill(closed, -torch.inf).softmax(1)
    return target * (labels == 0).unsqueeze(1)


def open_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of soft labels over the pixels that have one; 0 if there is none."""
    entropy = -(target * logits.float().log_softmax(1)).sum()
    return entropy / target.sum().clamp(min=1)
