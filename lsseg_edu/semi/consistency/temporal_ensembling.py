"""Temporal ensembling: agree with the average of what you said before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.augment import Augment
from lsseg_edu.semi.consistency.pi_model import PiModel


class TemporalEnsembling(PiModel):
    r"""The target of an image is the running average of all past answers to it.

    Each training item ``i`` has a memory :math:`Z_i`, empty at first. After its ``t``-th answer
    :math:`z_i` (perturbed and moved back as in :class:`.PiModel`),

    .. math::
        Z_i \leftarrow \alpha Z_i + (1 - \alpha)\, z_i, \qquad
        \tilde z_i = Z_i \,/\, (1 - \alpha^t) .

    The division corrects the start: without it, early targets are pulled towards the zero that
    the memory began with and do not sum to 1. The next answer is compared with
    :math:`\tilde z_i`; an item met for the first time has no target and counts for nothing.
    One pass a step instead of the Pi model's two, paid for in memory.

    The memory lives in the coordinates of the item as it is stored. So the unlabelled images
    come **un-augmented** (``weak``), and all perturbation is the method's own and undone exactly.

    Reference: Laine, Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017.
    Simplified: as the Pi model; ``t`` counts the answers to each item, not epochs.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``, with dropout.
        shape: of the memory, ``(N, K, *S)`` with ``N`` the number of training items; it is held
            in float16.
        momentum: :math:`\alpha`, the paper's 0.6 (an average over about 2.5 answers).
        **options: those of :class:`.PiModel`.
    """

    weak = Augment.none()

    def __init__(self, net: nn.Module, shape: tuple, momentum: float = 0.6, **options):
        super().__init__(net, **options)
        self.momentum = momentum
        self.register_buffer("memory", torch.zeros(shape, dtype=torch.float16))
        self.register_buffer("answers", torch.zeros(shape[0], dtype=torch.long))

    @classmethod
    def for_task(cls, task, seed: int = 0, dropout: float = 0.1, **options) -> TemporalEnsembling:
        """On the book's U-Net with ``dropout``, and with a memory of the task's training items."""
        train = task.train
        shape = (len(train), train.classes, *train.labels.shape[1:])
        return super().for_task(task, seed, dropout, shape=shape, **options)

    def consistency(self, batch) -> Tensor:
        """Mean squared difference to the targets; then the answers enter the memory."""
        index = batch.unlabelled.index
        target, known = self.targets(index)
        answer = self.answer(batch.unlabelled.images)
        self.remember(index, answer.detach())
        each = (answer - target).square().flatten(1).mean(1)
        return (each * known).sum() / known.sum().clamp(min=1)

    def targets(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Bias-corrected averages ``(B, K, *S)`` of these items, and whether there are any yet."""
        memory, times = self.memory[index].float(), self.answers[index]
        correction = (1 - self.momentum**times).clamp(min=1 - self.momentum)
        return memory / correction.view(-1, *(1,) * (memory.ndim - 1)), times > 0

    def remember(self, index: Tensor, answer: Tensor):
        """Average one more answer into the memory of each item."""
        mixed = torch.lerp(answer.float(), self.memory[index].float(), self.momentum)
        self.memory[index] = mixed.to(self.memory.dtype)
        self.answers[index] += 1
