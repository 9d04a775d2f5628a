"""Suggestive annotation: what a committee quarrels about, and what stands for the rest."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.partial.active.informative import most, per_image
from lsseg_edu.partial.active.loop import Asked, Pool, active_learning
from lsseg_edu.partial.cover import max_cover
from lsseg_edu.semi.uncertainty import Ensemble, variance
from lsseg_edu.train import Budget, fit


def bootstrap_committee(pool: Pool, members: int, share: float) -> Ensemble:
    """Copies of the network, each taught further by images drawn *with replacement*.

    A member has never met about a third of the labelled images in its own draw (1/e for many), and
    some of them count twice. Where the labels leave the answer open, the members part.

    Args:
        pool: with the network and the labelled images.
        members: at least 2.
        share: of the round's steps that each member gets.
    """
    n, made = len(pool.task.labelled), []
    budget = replace(pool.budget, steps=max(1, round(share * pool.budget.steps)))
    where = next(pool.fitted.method.parameters()).device
    for seed in range(pool.seed + 1, pool.seed + 1 + members):
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randint(n, (n,), generator=generator).bincount(minlength=n).float()
        method = copy.deepcopy(pool.fitted.method)
        options = {"device": where.type, "progress": False, "chances": lambda _, draw=draw: draw}
        made.append(fit(method, pool.task, budget, seed, **options).method)
    return Ensemble(made)


def by_suggestion(pool: Pool, members: int = 3, candidates: int = 2, share: float = 0.25) -> Tensor:
    r"""First the doubt, then the cover.

    .. math::
        u_i = \frac{1}{|\Omega|} \sum_j \mathrm{Var}_m\big[p^{(m)}_{ij}\big], \qquad
        \mathcal K = \text{the } K \text{ images of largest } u, \qquad
        S^* = \arg\max_{S \subset \mathcal K} \sum_{i \in \mathcal U} \max_{j \in S} \cos(f_i, f_j)

    :math:`f` is the mean of the deepest features, over the *whole* pool :math:`\mathcal U`. The
    greedy choice is :func:`~lsseg_edu.partial.max_cover`, within 1 - 1/e of the best.

    Args:
        pool: what may be seen.
        members: of the committee. The paper has 4.
        candidates: ``K`` over the number of images that will be asked about: the paper's 16 : 8.
        share: see :func:`bootstrap_committee`.
    """
    committee = bootstrap_committee(pool, members, share)
    doubt = pool.each(lambda x: per_image(variance(committee.samples(x))))
    doubtful = most(doubt)[: candidates * pool.count]
    features = pool.features()
    likeness = (features @ features[doubtful].T).clamp(min=0)
    return doubtful[max_cover(likeness, len(doubtful))]


def suggestive_annotation(
    task: Task, budget: Budget | None = None, seed: int = 0, members: int = 3, **kwargs
) -> Asked:
    """Ask about images that are doubtful *and* unlike one another: :func:`by_suggestion`.

    Reference: Yang L., Zhang, Chen, Zhang, Chen, "Suggestive Annotation: A Deep Active Learning
    Framework for Biomedical Image Segmentation", MICCAI 2017.
    Simplified: members begin as copies of the present network and take a few steps; they choose,
    and the network answers alone, as in every arm; features are that network's.

    Args:
        task: the problem and its annotator.
        budget, seed, kwargs: as for :func:`.active_learning`.
        members: of the committee.

    Raises:
        ValueError: a committee of one, which cannot disagree.
    """
    acquire = partial(by_suggestion, members=members)
    return active_learning(task, budget, seed, acquire=acquire, **kwargs)
