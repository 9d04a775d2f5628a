"""Deep ensembles: train the same thing several times, and let the results vote."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.semi.uncertainty.sampled import Sampled, only
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit


class Ensemble(Sampled):
    r"""The mean of ``M`` trained methods; the passes are its members.

    .. math:: \bar p(x) = \frac1M \sum_{m=1}^M p_{\theta_m}(x)

    Reference: Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles", NeurIPS 2017.

    Args:
        members: at least two methods, whose ``predict`` is asked.

    Raises:
        ValueError: one member, who cannot disagree; more passes than members.
    """

    def __init__(self, members: list[Method]):
        enough(len(members))
        super().__init__(nn.ModuleList(members), len(members))

    def loss(self, batch):
        """There is none: the members are trained one by one, see :func:`deep_ensemble`."""
        raise NotImplementedError("Train the members of an ensemble one by one: deep_ensemble().")

    @torch.no_grad()
    def samples(self, images: Tensor, passes: int | None = None, seed: int = 0) -> Tensor:
        """The answers ``(T, B, K, *S)`` of the first ``T`` members. No draw, so no seed."""
        passes = self.passes if passes is None else passes
        if not 1 <= passes <= len(self.net):
            raise ValueError(
                f"{passes} passes asked of {len(self.net)} members: each answers once, "
                f"so ask for 1 to {len(self.net)}."
            )
        with only(self, ()):
            return torch.stack([member.predict(images) for member in self.net[:passes]])


def deep_ensemble(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    members: int = 5,
    make: Callable[[Task, int], Method] = Supervised.for_task,
    **kwargs,
) -> Fitted:
    """Train ``members`` networks that share nothing but the task, and average their answers.

    Each has its own seed, and with it first weights, order of the images and augmentation. All
    see *all* labelled images: with so few, a bootstrap would cost more than its diversity is
    worth (the paper's finding too). The first member is the baseline itself.

    Args:
        task: the problem.
        budget: of *each* training; by default :meth:`Budget.auto`.
        seed: of the first member; the others have seed + 1000, seed + 2000, ...
        members: ``M``. The paper's 5.
        make: task and seed to an untrained method.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Returns:
        The fitted :class:`Ensemble`; the history has the terms of each member by its number.

    Raises:
        ValueError: fewer than two members.

    Reference: as :class:`Ensemble`.
    Simplified: without the paper's adversarial training; Dice + cross-entropy instead of a proper
    score alone.
    """
    enough(members)
    seeds = [seed + 1000 * m for m in range(members)]
    trained = [fit(make(task, s), task, budget, s, **kwargs) for s in seeds]
    history = {f"{k} {m}": v for m, one in enumerate(trained) for k, v in one.history.items()}
    seconds = sum(one.seconds for one in trained)
    interrupted = any(one.interrupted for one in trained)
    return Fitted(Ensemble([one.method for one in trained]), history, seconds, interrupted)


def enough(members: int) -> None:
    """Refuse an ensemble that cannot disagree."""
    if members < 2:
        raise ValueError(
            f"An ensemble of {members} cannot disagree: train at least 2 members, better 5."
        )
