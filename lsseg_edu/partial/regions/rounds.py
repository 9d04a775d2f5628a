"""Masks and network in turn: what the techniques that make masks of strokes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import Task
from lsseg_edu.partial.rounds import alternate
from lsseg_edu.semi.self_training import SelfTrained
from lsseg_edu.train import Budget, Fitted, Supervised


@dataclass
class Propagated(SelfTrained):
    """The trainings of all rounds, and what each of them was taught.

    Attributes:
        labels: for each round ``(M, *S)``, of the annotated images in the order of
            ``task.labelled``.
    """

    labels: list[Tensor] = field(default_factory=list)


def relabelled(
    task: Task,
    relabel: Callable[[Fitted | None], Tensor],
    budget: Budget | None,
    seed: int,
    rounds: int,
    loss=losses.dice_ce,
    **kwargs,
) -> Propagated:
    """:func:`~lsseg_edu.partial.rounds.alternate`, with new labels of the annotated images.

    Args:
        task: with sparse labels; the images nobody annotated stay out.
        relabel: the training so far (None in the first round) to labels ``(M, *S)`` of
            ``task.labelled``.
        budget: of **all rounds together**.
        seed: of the weights; draws differ from round to round.
        rounds: how often.
        loss: see :class:`~lsseg_edu.train.Supervised`.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: no round, or more of them than steps.
    """
    taught = []

    def teach(last: Fitted | None) -> Task:
        taught.append(relabel(last))
        labels = task.train.labels.clone()
        labels[task.labelled] = taught[-1]
        return task.supervise(labels, seconds=task.seconds)

    def make(net: nn.Module | None) -> Supervised:
        return Supervised(net or networks.unet(task, seed=seed), loss)

    trained = alternate(teach, make, budget, seed, rounds, **kwargs)
    result = Propagated.of(trained.rounds)
    result.labels = taught
    return result
