"""Sampling by difficulty: what raters agree on is drawn more often, at first."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from lsseg_edu.data import Task, annotate
from lsseg_edu.train import Budget, Fitted, Supervised, fit

STYLES = ("generous", "tight", "hasty")


def rater_curriculum(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    full: float = 0.6,
    order: str = "easy",
    **kwargs,
) -> Fitted:
    r"""Draw image ``i`` with a probability that rises with its score, then forget the scores.

    .. math:: P_t(i) \propto s_i^{\,\gamma (1 - t/T)}, \qquad P_{t \ge T} \text{ uniform}

    Nobody is shut out, unlike in a growing pool. The scores :math:`s_i` are how well several
    raters agree, which is what medical experts call easy.

    Reference: Jimenez-Sanchez et al., "Medical-based Deep Curriculum Learning for Improved
    Fracture Classification", MICCAI 2019; "Curriculum Learning for Improved Femur Fracture
    Classification", Medical Image Analysis 2022.
    Simplified: segmentation instead of classification; agreement is the raters' Dice instead of
    Cohen's kappa; the power law anneals in closed form. Raters who are not there
    (``task.train.extras["raters"]``) are simulated on the labelled masks.

    Args:
        task: the problem.
        budget: of the training.
        seed: of weights, draws and simulated raters.
        full: ``T``, fraction of training after which all are alike.
        order: ``"easy"``; the controls are ``"anti"``, agreement turned around, and ``"random"``,
            the same scores dealt out at random.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: an unknown order.
    """
    if order not in ("easy", "anti", "random"):
        raise ValueError(f"Unknown arm {order!r}: choose 'easy', 'anti' or 'random'.")
    index, generator = task.labelled, torch.Generator().manual_seed(seed)
    raters = task.train.extras.get("raters")
    if raters is None:
        masks = task.train.labels[index]
        drawn = [annotate.rate(masks, s, seed + 1000 * i) for i, s in enumerate(STYLES)]
        raters, index = torch.stack(drawn, 1), torch.arange(len(masks))
    score = agreement(raters[index])
    if order == "random":
        score = score[torch.randperm(len(score), generator=generator)]
    score = 1 - score if order == "anti" else score

    def chances(progress: float) -> Tensor:
        return annealed(score, progress, full)

    return fit(Supervised.for_task(task, seed), task, budget, seed, chances=chances, **kwargs)


def annealed(score: Tensor, progress: float, full: float = 0.6, gamma: float = 2.0) -> Tensor:
    """Chances ``(n,)`` that go from ``score ** gamma`` to uniform as progress goes to ``full``."""
    left = max(1 - progress / full, 0) if full else 0
    chances = score.double().clamp(min=0.01) ** (gamma * left)
    return chances / chances.sum()


def agreement(raters: Tensor) -> Tensor:
    """Mean Dice ``(N,)`` between the foregrounds of any two raters, ``raters (N, R, *S)``.

    Raters who all see nothing agree.
    """
    masks = (raters > 0).flatten(2).double()
    pairs = list(combinations(range(masks.shape[1]), 2))
    both = torch.stack([(masks[:, a] * masks[:, b]).sum(1) for a, b in pairs])
    size = torch.stack([(masks[:, a] + masks[:, b]).sum(1) for a, b in pairs])
    return (2 * both / size).where(size > 0, 1.0).mean(0)
