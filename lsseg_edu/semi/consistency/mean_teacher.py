"""Mean Teacher: agree with the average of your own past weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class MeanTeacher(Method):
    r"""A student learns from the labels, and from a teacher that is its own running average.

    Student :math:`f_\theta` and teacher :math:`f_{\theta'}` see the same unlabelled image ``x``
    through different noise :math:`\eta, \eta'`; the student must say what the teacher says:

    .. math::
        L = L_{sup} + w(t)\, \frac{1}{|\Omega|K} \sum_{i,k}
            \big(f_\theta(x+\eta)_{ik} - f_{\theta'}(x+\eta')_{ik}\big)^2,
        \qquad \theta' \leftarrow \alpha\theta' + (1-\alpha)\theta .

    The average of many noisy students is a better segmenter than any one of them, so its
    predictions are targets worth learning. It is the teacher that :meth:`predict` uses.

    Reference: Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS 2017.
    Simplified: plain weight decay and one learning-rate cycle instead of the paper's schedules.

    Args:
        net: the student, images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: largest weight of the consistency term. The paper's image classifiers take 100
            times the class count; on pixels a few units is where the two terms have gradients
            of like size.
        decay: largest :math:`\alpha`. The paper's 0.999 averages over thousands of steps; 0.99
            fits trainings of one thousand.
        noise: standard deviation of the Gaussian input noise, images having deviation 1.
        ramp: fraction of training over which the weight rises.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> from lsseg_edu.train import Budget, fit
        >>> task = Task.split(load("cardiac"), labelled=3)
        >>> fitted = fit(MeanTeacher.for_task(task), task, Budget.named("smoke"), progress=False)
        >>> sorted(fitted.history)
        ['consistency', 'supervised']
    """

    unlabelled = True

    def __init__(
        self, net: nn.Module, weight=1.0, decay: float = 0.99, noise: float = 0.1, ramp=0.4
    ):
        super().__init__(net)
        self.teacher = copy.deepcopy(net).requires_grad_(False)
        self.weight, self.decay, self.noise, self.ramp = weight, decay, noise, ramp
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on labelled images, ``consistency`` (already weighted) on the others."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        consistency = self.weight_at(batch.progress) * self.consistency(batch)
        return {"supervised": supervised, "consistency": consistency}

    def consistency(self, batch) -> Tensor:
        """Mean squared difference of the two answers; what later methods put something else for."""
        student = self.net(self.perturb(batch.unlabelled.images)).softmax(1)
        with torch.no_grad():
            teacher = self.teacher(self.perturb(batch.unlabelled.images)).softmax(1)
        return (student - teacher).square().mean()

    def weight_at(self, progress: float) -> float:
        """The weight of the consistency term, ramped up."""
        return self.weight * sigmoid_rampup(progress, self.ramp)

    def perturb(self, images: Tensor) -> Tensor:
        """A noisy copy; every call draws noise of its own."""
        return images + self.noise * torch.randn_like(images)

    def after_step(self, progress: float):
        """Move the teacher towards the student that this step made."""
        self.steps += 1
        ema_update(self.teacher, self.net, min(1 - 1 / (int(self.steps) + 1), self.decay))

    def predict(self, images: Tensor) -> Tensor:
        """The teacher's probabilities ``(B, K, *S)``."""
        return self.teacher(images).float().softmax(1)


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, decay: float):
    r"""One step of :math:`\theta' \leftarrow \alpha\theta' + (1-\alpha)\theta`, in place.

    With :math:`\alpha = \min(1 - 1/(t+1), decay)` the teacher is at first the plain mean of all
    students so far, and forgets its random start at once. Buffers (batch-norm statistics, if the
    network has any) are copied, not averaged: they are averages already.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - decay)
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(theirs)
