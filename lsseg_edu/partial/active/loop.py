"""The loop of active learning: train, choose what to ask, have it outlined, train on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate import answer_seconds, ask, unaided
from lsseg_edu.data.annotate.cost import SECONDS
from lsseg_edu.semi.uncertainty.sampled import only
from lsseg_edu.train import Budget, Fitted, Supervised, fit


@dataclass(frozen=True)
class Pool:
    """What an acquisition function may look at: all but the annotator's masks.

    Attributes:
        task: the labels there are so far; the pool is its unlabelled images.
        fitted: the training on them.
        count: images that the time of this round will probably buy.
        budget: of a training, for those who train something of their own.
        seed: of this round.
    """

    task: Task
    fitted: Fitted
    count: int
    budget: Budget
    seed: int

    @property
    def images(self) -> Tensor:
        """``(M, C, *S)``."""
        return self.task.train.images[self.task.unlabelled]

    def each(self, function: Callable[[Tensor], Tensor], images: Tensor | None = None) -> Tensor:
        """``function`` of all images of the pool (or of others), 32 at a time, on the CPU."""
        images = self.images if images is None else images
        where = next(self.fitted.method.parameters()).device
        with torch.no_grad(), only(self.fitted.method, ()):
            return torch.cat([function(x.to(where)).cpu() for x in images.split(32)])

    def features(self, images: Tensor | None = None) -> Tensor:
        """Mean of each channel of the deepest layer, of length 1: products are cosines. (M, F)."""
        net = self.fitted.method.net
        deep = self.each(lambda x: net.encode(x)[-1].float().flatten(2).mean(2), images)
        return torch.nn.functional.normalize(deep, dim=1)


Acquire = Callable[[Pool], Tensor]
"""A pool to positions in it, in the order in which they are to be asked about."""


@dataclass
class Asked(Fitted):
    """A training with questions.

    Attributes:
        asked: for each round the items of ``task.train`` that the annotator outlined.
    """

    asked: list[Tensor] = field(default_factory=list)


def active_learning(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    *,
    acquire: Acquire,
    rounds: int = 4,
    seconds: float = 3600.0,
    share: float = 0.5,
    dropout: float = 0.1,
    **kwargs,
) -> Asked:
    r"""Spend an annotator's time on the images that an acquisition function names.

    .. math::
        \theta_r = \mathrm{train}(\theta_{r-1}, \mathcal L_r), \qquad
        \mathcal L_{r+1} = \mathcal L_r \cup \mathrm{ask}\big(a(\theta_r, \mathcal U_r)\big), \qquad
        \mathrm{cost}(\mathcal L_r) - \mathrm{cost}(\mathcal L_0) \le \tfrac{r}{R}\, S

    The currency is time. In each round the annotator outlines the images in the order named, until
    the next one would take longer than what is left; the rest is carried over. Since nobody knows
    beforehand how many objects an image shows, an order is all that a function can give.

    All arms share network, seeds, draws, steps and seconds. They differ in ``acquire`` alone.

    Simplified: the network goes on from round to round instead of starting afresh, so that a run of
    four rounds takes three trainings' steps. That favours late points of every curve alike.

    Args:
        task: the problem with few labels and somebody to ask, see
            :func:`lsseg_edu.data.annotate.with_annotator`.
        budget: of the first training; by default :meth:`Budget.auto`.
        seed: of weights, draws and questions.
        acquire: a :class:`Pool` to the order of asking.
        rounds: ``R``.
        seconds: ``S``, of the annotator, for all rounds together; an hour buys some 18 slices of
            the cardiac phantom.
        share: steps of every later training, as a share of the first one's.
        dropout: of the network; some functions ask with it on, and all arms have the same network.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Returns:
        The last training; ``stages`` has the seconds (those of the first labels included) and the
        network of every round, ``asked`` the images.

    Raises:
        ValueError: nobody to ask, nothing to ask about, no label to begin with, masks that are not
            complete, no round, too little time for one outline a round.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> everything = Task.split(load("lesions"))
        >>> few = annotate.with_annotator(everything.keep(5), everything.train.labels)
        >>> fitted = active_learning(few, acquire=at_random)  # doctest: +SKIP
    """
    check(task, rounds, seconds)
    budget, kwargs = budget or Budget.auto(), {"progress": False, **kwargs}
    later = replace(budget, steps=max(1, round(share * budget.steps)))
    paid = task.seconds or answer_seconds(task.train.labels[task.labelled])
    task, asked = replace(task, seconds=paid), []
    method = Supervised(networks.unet(task, seed=seed, dropout=dropout))
    trained = [fit(method, unaided(task), budget, seed, **kwargs)]
    stages = [(task.seconds, copy.deepcopy(method).cpu())]
    for number in range(1, rounds + 1):
        if trained[-1].interrupted or not len(task.unlabelled):
            break
        left = paid + number * seconds / rounds - task.seconds
        pool = Pool(unaided(task), trained[-1], likely(task, left), later, seed + 1000 * number)
        asked.append(affordable(task, task.unlabelled[acquire(pool)], left))
        task = ask(task, asked[-1])
        trained.append(fit(method, unaided(task), later, seed + 1000 * number, **kwargs))
        stages.append((task.seconds, copy.deepcopy(method).cpu()))
    history = {"supervised": sum((one.history["supervised"] for one in trained), [])}
    time, stopped = sum(one.seconds for one in trained), trained[-1].interrupted
    return Asked(method, history, time, stopped, asked, stages=stages)


def likely(task: Task, seconds: float) -> int:
    """How many images ``seconds`` will buy, if they are as laborious as the labelled ones."""
    each = answer_seconds(task.train.labels[task.labelled]) / len(task.labelled)
    return max(1, min(round(seconds / each), len(task.unlabelled)))


def affordable(task: Task, order: Tensor, seconds: float) -> Tensor:
    """The first items of ``order`` whose outlines together take at most ``seconds``."""
    masks, n = task.train.extras["annotator"], 0
    for index in order:
        seconds -= answer_seconds(masks[index][None])
        if seconds < 0:
            break
        n += 1
    return order[:n]


def check(task: Task, rounds: int, seconds: float) -> None:
    """Raise unless there is somebody to ask, something to ask about, and time."""
    if "annotator" not in task.train.extras:
        raise ValueError("Nobody can be asked: give the task an annotator with with_annotator().")
    if not len(task.unlabelled):
        raise ValueError("The query pool is empty: every training image is labelled already.")
    if not len(task.labelled):
        raise ValueError("Without a label there is no network to choose by: begin with a few.")
    if (task.train.extras["annotator"] == IGNORE).any():
        raise ValueError("The annotator's masks must be complete: they hold IGNORE.")
    if rounds < 1 or seconds < rounds * SECONDS["mask"]:
        raise ValueError(
            f"{seconds:g} s in {rounds} rounds do not pay for one outline ({SECONDS['mask']:g} s) "
            f"a round: give more time, or ask in fewer rounds (at least 1)."
        )
