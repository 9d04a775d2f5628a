"""Learning to correct: from mistakes like those on new patients, not from those on known ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.partial.interactive.answering import Interactive
from lsseg_edu.train import Part, Player


class Corrected(Interactive):
    """An interactive method with a part that learns to mend first answers.

    Who learns to mend must see mistakes. On images that a network has learnt from it makes few, and
    other ones than on a new patient; what is trained on these learns to leave everything as it is.
    So in training the first answers are those of ``others``: networks that do not know the subject.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``: the first answer, after training.
        others: who answers first in training; by default ``net``.
    """

    def __init__(self, net: nn.Module, others: HalfAndHalf | None = None):
        super().__init__(net)
        self.others = others

    @classmethod
    def for_task(cls, task, seed: int = 0, held_out: bool = True, **options):
        """On the baseline's U-Net.

        Args:
            task: the problem.
            seed: of all weights.
            held_out: whether others give the first answers in training. A single labelled subject
                has no halves, so there ``net`` answers.
            **options: of the class.
        """
        several = len(task.train.subjects[task.labelled].unique()) > 1
        others = HalfAndHalf.for_task(task, seed) if held_out and several else None
        return super().for_task(task, seed, others=others, **options)

    def players(self) -> list[Player]:
        """The network and the others, by the supervised loss."""
        made = [Player("net", list(self.net.parameters()), self.loss)]
        if self.others:
            made.append(Player("others", list(self.others.parameters()), self.others_loss))
        return made

    def others_loss(self, batch) -> dict[str, Tensor]:
        """``{"others": Dice + cross-entropy}``."""
        return {"others": self.others.loss(batch.labelled)}

    @torch.no_grad()
    def first_answers(self, part: Part) -> Tensor:
        """Probabilities ``(B, K, *S)`` to be corrected in training."""
        return self.others.answers(part) if self.others else self.predict(part.images)


class HalfAndHalf(nn.Module):
    """Two networks: each learns from one half of the labelled subjects and answers for the other.

    Reference: Wolpert, "Stacked Generalization", Neural Networks 1992.

    Args:
        nets: two, images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        subjects: the labelled ones; every other one is of the second half.

    Raises:
        ValueError: fewer than two subjects.
    """

    def __init__(self, nets, subjects: Tensor):
        super().__init__()
        if len(subjects.unique()) < 2:
            raise ValueError("Two halves need two labelled subjects: give more, or held_out=False.")
        self.nets = nn.ModuleList(nets)
        self.register_buffer("second", subjects.unique()[1::2])

    @classmethod
    def for_task(cls, task, seed: int = 0) -> HalfAndHalf:
        """Two of the baseline's U-Nets, with first weights of their own."""
        nets = [networks.unet(task, seed=seed + n) for n in (1, 2)]
        return cls(nets, task.train.subjects[task.labelled].cpu())

    def loss(self, part: Part) -> Tensor:
        """Dice + cross-entropy of each network on its own half of the batch, added up."""
        second = torch.isin(part.subject, self.second)
        halves = zip(self.nets, (~second, second), strict=True)
        own = [(net(part.images[m]), part.labels[m]) for net, m in halves if m.any()]
        return sum(losses.dice_ce(logits, labels) for logits, labels in own)

    def answers(self, part: Part) -> Tensor:
        """Probabilities ``(B, K, *S)`` by the network that has not learnt from the subject."""
        first, second = (net(part.images).float().softmax(1) for net in self.nets)
        met = torch.isin(part.subject, self.second)  # by the second network
        return torch.where(met.view(-1, *[1] * (first.ndim - 1)), first, second)
