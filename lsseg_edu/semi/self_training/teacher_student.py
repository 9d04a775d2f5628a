"""Teacher and student: one network learns what another, already trained, would answer."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment import Augment
from lsseg_edu.data import Task
from lsseg_edu.semi.self_training.pseudo_label import SelfTrained, unlabelled_images
from lsseg_edu.train import Budget, Method, Supervised, fit


class TeacherStudent(Method):
    r"""A student learns from the labels and from the soft answers of a frozen teacher.

    .. math::
        L = L_{sup} + w\, \frac{1}{|\Omega|} \sum_i
            KL\big(\bar p_i \,\Vert\, f_\theta(A x)_i\big),
        \qquad \bar p = f_{\theta_T}(x) .

    The teacher sees the weakly augmented image ``x``, the student the same image repainted
    (``A``: bias field, contrast, blur, noise; nothing moves). The target is the whole
    distribution: it passes on where the teacher hesitates, which a hard label hides.

    Here the teacher's weights stand still. Where they follow the student as a moving average,
    it is :class:`~lsseg_edu.semi.consistency.MeanTeacher`.

    Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS Deep
    Learning Workshop 2014.
    Simplified: temperature 1; soft targets on the unlabelled images only.

    Args:
        net: the student.
        teacher: a trained method, whose :meth:`predict` gives the targets. It is copied.
        weight: ``w``.
    """

    unlabelled = True
    weak = Augment.weak()

    def __init__(self, net: nn.Module, teacher: Method, weight: float = 1.0):
        super().__init__(net)
        self.teacher = copy.deepcopy(teacher).requires_grad_(False)
        self.weight = weight

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the labelled images, ``teacher`` (already weighted) on the others."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        return {
            "supervised": supervised,
            "teacher": self.weight * self.imitation(batch.unlabelled.images),
        }

    def imitation(self, images: Tensor) -> Tensor:
        """Mean divergence of the student's answers from the teacher's."""
        return divergence(self.net(self.repaint(images)), self.target(images)).mean()

    def repaint(self, images: Tensor) -> Tensor:
        """What the student sees: other intensities, the same places."""
        return Augment.strong().repaint(images, None)

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """The teacher's probabilities ``(B, K, *S)``, without dropout."""
        return self.teacher.eval().predict(images)


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    r"""Pixel by pixel :math:`\sum_k \bar p_k \ln (\bar p_k / p_k)`, in nats: ``(B, *S)``.

    Args:
        logits: ``(B, K, *S)`` of :math:`p`.
        target: ``(B, K, *S)`` the probabilities :math:`\bar p`.
    """
    return F.kl_div(logits.float().log_softmax(1), target, reduction="none").sum(1)


def teacher_student_training(
    task: Task, budget: Budget | None = None, seed: int = 0, weight: float = 1.0, **kwargs
) -> SelfTrained:
    """Train a teacher on the labels, freeze it, and train a student beside it.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of the student; the teacher has weights and batches of its own.
        weight: of the teacher's term.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no unlabelled image.
    """
    unlabelled_images(task)  # say so before the teacher is trained, not after
    other = seed + 1000
    teacher = fit(Supervised.for_task(task, other), task, budget, other, **kwargs)
    student = TeacherStudent.for_task(task, seed, teacher=teacher.method, weight=weight)
    return SelfTrained.of([teacher, fit(student, task, budget, seed, **kwargs)])
