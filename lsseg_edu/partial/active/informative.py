"""Ask about what the network doubts: three measures of doubt, one number an image."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.partial.active.loop import Asked, Pool, active_learning
from lsseg_edu.semi.uncertainty import MCDropout, entropy, mutual_information
from lsseg_edu.train import Budget


def by_entropy(pool: Pool) -> Tensor:
    r"""The largest mean entropy :math:`-\sum_k p_k \ln p_k` of the answer first."""
    return most(pool.each(lambda x: per_image(entropy(pool.fitted.method.predict(x)[None]))))


def by_margin(pool: Pool) -> Tensor:
    r"""The smallest mean lead of the likeliest class over the second, :math:`p_{(1)} - p_{(2)}`."""

    def lead(images):
        first, second = pool.fitted.method.predict(images).topk(2, dim=1).values.unbind(1)
        return per_image(first - second)

    return most(-pool.each(lead))


def by_bald(pool: Pool, passes: int = 8) -> Tensor:
    r"""The largest mean mutual information of answer and dropout mask first.

    .. math:: I = H\big[\tfrac1T \textstyle\sum_t p^{(t)}\big]
                  - \tfrac1T \textstyle\sum_t H\big[p^{(t)}\big]

    A pixel between two organs that look alike has high entropy in every pass, and no label will
    change that. ``I`` leaves it out and counts where passes *contradict* one another.

    Reference: Gal, Islam, Ghahramani, "Deep Bayesian Active Learning with Image Data", ICML 2017.
    """
    method = MCDropout(pool.fitted.method.net, passes)
    samples = partial(method.samples, seed=pool.seed)
    return most(pool.each(lambda x: per_image(mutual_information(samples(x)))))


MEASURES = {"entropy": by_entropy, "margin": by_margin, "bald": by_bald}


def uncertain_queries(
    task: Task, budget: Budget | None = None, seed: int = 0, measure: str = "entropy", **kwargs
) -> Asked:
    """Ask about the images of most doubt, averaged over their pixels.

    Each image is judged by itself, so neighbouring slices of one patient are asked about together,
    although the second one teaches little after the first.

    Args:
        task: the problem and its annotator.
        budget, seed, kwargs: as for :func:`.active_learning`.
        measure: ``"entropy"``, ``"margin"`` or ``"bald"``.

    Raises:
        ValueError: another measure.

    Reference: Settles, 2009, for the first two; Gal, Islam, Ghahramani, ICML 2017, for BALD.
    """
    if measure not in MEASURES:
        raise ValueError(f"Unknown measure {measure!r}: choose one of {', '.join(MEASURES)}.")
    return active_learning(task, budget, seed, acquire=MEASURES[measure], **kwargs)


def per_image(values: Tensor) -> Tensor:
    """Mean over the pixels: ``(B, *S)`` to ``(B,)``."""
    return values.flatten(1).mean(1)


def most(scores: Tensor) -> Tensor:
    """Positions by falling score; equal ones keep their order."""
    return torch.argsort(scores, descending=True, stable=True)
