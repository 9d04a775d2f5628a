"""Semi-Inf-Net: the training set grows by a few pseudo-labelled images at a time."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from lsseg_edu.data import Task
from lsseg_edu.semi.self_training.pseudo_label import (
    PseudoLabelled,
    SelfTrained,
    hard_labels,
    with_pseudo,
)
from lsseg_edu.train import Budget, Supervised, fit


def growing_self_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    groups: int = 4,
    weight: float = 1.0,
    **kwargs,
) -> SelfTrained:
    r"""Label ``K`` images, add them to the training set, train on, and take the next ``K``.

    .. math::
        D \leftarrow D \cup \big\{\big(x, \arg\max_k f_\theta(x)_k\big) : x \in U_r\big\}, \qquad
        \theta \leftarrow \arg\min_\theta L_{sup}(\theta; D) \text{ from } \theta,
        \qquad r = 1, \dots, R .

    The first teacher labels one group only. The next group waits for a network that has seen more
    images; what has been added keeps its label. Groups are drawn at random, and every pixel of an
    image gets a label.

    Training goes on from the weights there are, with a new learning-rate cycle for each group.
    The groups *share* one budget, so the whole costs as much as two trainings.

    Args:
        task: the problem, with its few labels.
        budget: of the first training, and of all groups together; by default
            :meth:`Budget.auto`.
        seed: of weights, draws and groups; the first training is the baseline's.
        groups: ``R``; a group has ``K = |U| / R`` images. The paper takes 5 images of 1600 at
            a time, which are 320 rounds.
        weight: of the pseudo-labels.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no group, or more groups than unlabelled images.

    Reference: Fan et al., "Inf-Net: Automatic COVID-19 Lung Infection Segmentation from CT
    Images", IEEE Transactions on Medical Imaging 2020.
    Simplified: the growing set only; the network is the book's U-Net, without the paper's reverse
    and edge attention.
    """
    if not 1 <= groups <= len(task.unlabelled):
        raise ValueError(
            f"{groups} groups of {len(task.unlabelled)} unlabelled images cannot be made: "
            f"ask for 1 to {len(task.unlabelled)}."
        )
    budget, generator = budget or Budget.auto(), torch.Generator().manual_seed(seed)
    share = replace(budget, steps=-(-budget.steps // groups))
    order = task.unlabelled[torch.randperm(len(task.unlabelled), generator=generator)]
    trained = [fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs)]
    added, labels = order[:0], task.train.labels[:0]
    for number, group in enumerate(order.tensor_split(groups), 1):
        answers = hard_labels(trained[-1].predict(task.train.images[group]))
        added, labels = torch.cat([added, group]), torch.cat([labels, answers])
        network = PseudoLabelled(copy.deepcopy(trained[-1].method.net), weight)
        grown = with_pseudo(task, added, labels)
        trained.append(fit(network, grown, share, seed + 1000 * number, **kwargs))
    return SelfTrained.of(trained)
