"""Uncertainty-guided self-training: a doubtful pixel of the teacher's answer teaches less."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import Task
from lsseg_edu.networks.blocks import DROPOUT, drops
from lsseg_edu.semi.self_training.pseudo_label import SelfTrained, unlabelled_images
from lsseg_edu.semi.self_training.teacher_student import TeacherStudent, divergence
from lsseg_edu.train import Budget, Method, Supervised, fit


class UncertaintyWeighted(TeacherStudent):
    r"""A student of a Bayesian teacher, whose doubts are weights of the loss.

    The teacher answers ``T`` times with its dropout *on*. The mean answer is the soft label, its
    entropy the uncertainty, and the confidence :math:`c` weights the pixel:

    .. math::
        \bar p_i = \frac1T \sum_t p_i^{(t)}, \qquad
        U_i = -\sum_k \bar p_{ik} \ln \bar p_{ik}, \qquad c_i = e^{-U_i}, \qquad
        L_u = \frac{\sum_i c_i\, KL(\bar p_i \Vert p_i)}{\sum_i c_i} .

    :math:`e^{U}` is the number of classes between which the teacher hesitates, so the weight of a
    pixel is one over that number: 1 where it is sure, 1/K where it has no idea. No pixel is left
    out. The divisor is the sum of the weights, so a doubtful teacher is not a weak loss.

    Reference: Sedai et al., "Uncertainty Guided Semi-supervised Segmentation of Retinal Layers in
    OCT Images", MICCAI 2019.
    Simplified: entropy as the uncertainty, estimated on the augmented image at every step.

    Args:
        net: the student.
        teacher: a trained method whose network has dropout. It is copied.
        passes: ``T``; each costs a forward pass a step.
        weight: of the term, as in :class:`.TeacherStudent`.

    Raises:
        ValueError: a teacher without dropout, whose passes would all be the same.
    """

    def __init__(self, net: nn.Module, teacher: Method, passes: int = 4, weight: float = 1.0):
        if not drops(teacher):
            raise ValueError(
                "The teacher's doubt is measured with dropout, and its network has none: train "
                "one that has, e.g. networks.unet(task, dropout=0.1)."
            )
        super().__init__(net, teacher, weight)
        self.passes = passes

    def imitation(self, images: Tensor) -> Tensor:
        """Divergence from the teacher's mean answer, averaged with the confidence as weights."""
        target, uncertainty = self.doubt(images)
        confidence = torch.exp(-uncertainty)
        loss = divergence(self.net(self.repaint(images)), target)
        return (confidence * loss).sum() / confidence.sum()

    @torch.no_grad()
    def doubt(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(B, K, *S)`` of the teacher's passes with dropout, and its entropy in nats."""
        self.teacher.eval()
        for layer in self.teacher.modules():
            if isinstance(layer, DROPOUT):
                layer.train()
        copies = images.repeat(self.passes, *(1,) * (images.ndim - 1))
        mean = self.teacher.predict(copies).unflatten(0, (self.passes, -1)).mean(0)
        return mean, torch.special.entr(mean).sum(1)


def uncertainty_self_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    passes: int = 4,
    dropout: float = 0.1,
    weight: float = 1.0,
    **kwargs,
) -> SelfTrained:
    """Train a teacher with dropout on the labels, then a student on labels and weighted answers.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of the student, which is the baseline's network; the teacher has another.
        passes: of the teacher at every step.
        dropout: of the teacher, at every layer. More would be too much for 8 channels.
        weight: of the teacher's term.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no unlabelled image.
    """
    unlabelled_images(task)  # say so before the teacher is trained, not after
    other = seed + 1000
    bayesian = Supervised(networks.unet(task, dropout=dropout, seed=other))
    teacher = fit(bayesian, task, budget, other, **kwargs)
    student = UncertaintyWeighted.for_task(
        task, seed, teacher=teacher.method, passes=passes, weight=weight
    )
    return SelfTrained.of([teacher, fit(student, task, budget, seed, **kwargs)])
