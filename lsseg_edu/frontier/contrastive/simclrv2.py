"""SimCLRv2: a big network learns from images, then labels, and teaches a small one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import Task
from lsseg_edu.frontier.contrastive.simclr import SimCLR
from lsseg_edu.semi.self_supervision import pretrain, transfer
from lsseg_edu.semi.self_training import TeacherStudent
from lsseg_edu.semi.self_training.pseudo_label import SelfTrained
from lsseg_edu.semi.self_training.teacher_student import divergence
from lsseg_edu.train import Budget, Method, Supervised, fit

WIDTH = 12
"""Channels of the big U-Net at full resolution. The book's has 8 and less than half the weights."""


class SimCLRv2(SimCLR):
    """SimCLR on a bigger network, with a deeper head: the first of the three rounds.

    Reference: see :func:`simclrv2_distill`.
    """

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> SimCLRv2:
        """The pretext on a U-Net of width :data:`WIDTH` and three layers of head."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(networks.unet(task, width=WIDTH, seed=seed), layers=3, **options)


def soften(probs: Tensor, temperature: float) -> Tensor:
    r"""Probabilities ``(B, K, *S)`` at another temperature: :math:`p_k^{1/T} / \sum_j p_j^{1/T}`.

    That is the softmax of the logits over ``T``, whatever the logits were.
    """
    return (probs.float().clamp(min=1e-12).log() / temperature).softmax(1)


class Distillation(TeacherStudent):
    r"""A student repeats a frozen teacher's softened answers, and sees no label at all.

    .. math::
        L = T^2\, \frac{1}{|\Omega|} \sum_i KL\big(\bar p_i^{(T)} \,\Vert\, p_i^{(T)}\big),
        \qquad p^{(T)} = \mathrm{softmax}(\text{logits} / T)

    on unlabelled images. ``T`` > 1 raises the small probabilities, and with them what the teacher
    thinks of the classes it did not choose. The factor :math:`T^2` keeps the size of the gradient,
    which falls with :math:`1/T^2`. It is the convention of Hinton et al.; SimCLRv2 writes none,
    where it changes nothing but the learning rate.

    Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS Deep
    Learning Workshop 2014.

    Args:
        net: the student.
        teacher: a trained method; it is copied and frozen.
        temperature: ``T``. 2 tells the pixels of a boundary apart and leaves the others sure.

    Raises:
        ValueError: a temperature that is not positive.
    """

    labelled = False

    def __init__(self, net: nn.Module, teacher: Method, temperature: float = 2.0):
        if not temperature > 0:
            raise ValueError(f"The temperature divides logits: give T > 0, not {temperature}.")
        super().__init__(net, teacher)
        self.temperature = temperature

    def loss(self, batch) -> dict[str, Tensor]:
        """``distillation``, on the unlabelled images."""
        return {"distillation": self.imitation(batch.unlabelled.images)}

    def imitation(self, images: Tensor) -> Tensor:
        """The divergence at temperature ``T``, times ``T^2``."""
        logits, target = (
            self.net(self.repaint(images)),
            soften(self.target(images), self.temperature),
        )
        return self.temperature**2 * divergence(logits / self.temperature, target).mean()


def simclrv2_distill(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    temperature: float = 2.0,
    **kwargs,
) -> SelfTrained:
    """Pre-train big, fine-tune big, distil into small: unlabelled images are used twice.

    1. :class:`SimCLRv2` trains the encoder of a big U-Net, without any label;
    2. the big U-Net is fine-tuned on the few labels;
    3. the book's U-Net, with the baseline's first weights, learns from the big one's answers to
       the unlabelled images (:class:`Distillation`).

    Args:
        task: the problem, with its few labels.
        budget: of each of the three trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        temperature: of the distillation.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Returns:
        The small student; ``rounds`` has all three trainings.

    Reference: Chen, Kornblith, Swersky, Norouzi, Hinton, "Big Self-Supervised Models are Strong
    Semi-Supervised Learners", NeurIPS 2020.
    Simplified: about twice the weights, not thirty times; no memory; fine-tuning drops the whole
    head, where the paper keeps its first layer, since a segmenter has no use for a summary; the
    teacher is not first distilled into its own size.
    """
    big = pretrain(SimCLRv2, task, budget, seed, **kwargs)
    teacher = Supervised(networks.unet(task, width=WIDTH, seed=seed))
    transfer(big.method.net, teacher.net)
    tuned = fit(teacher, task, budget, seed, **kwargs)
    student = Distillation.for_task(task, seed, teacher=tuned.method, temperature=temperature)
    return SelfTrained.of([big, tuned, fit(student, task, budget, seed, **kwargs)])
