"""Atlas and EM: the registered labels are a prior, and the network's answer is the evidence."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.semi.priors.atlas.propagation import last_of, registered
from lsseg_edu.semi.priors.atlas.soft import SoftLabelled, with_soft
from lsseg_edu.train import Budget, Fitted, Supervised, fit


def posterior(probs: Tensor, prior: Tensor, doubt: float = 0.5) -> Tensor:
    r"""What the network and the registered atlas say together.

    .. math:: q_{ik} \propto f_\theta(x)_{ik} \,
              \big((1 - d)\, \pi_{ik} + \tfrac{d}{K}\big)

    A warped label is nearly 0 or 1. Taken at its word it would overrule any network; with
    probability :math:`d` it is held for an error that says nothing.

    Args:
        probs: the network's ``(B, K, *S)``.
        prior: :math:`\pi`, the warped atlas masks ``(B, K, *S)``.
        doubt: :math:`d` in [0, 1]; at 1 the atlas is not asked.

    Raises:
        ValueError: a doubt that is not a probability, maps of different shapes.

    Example:
        >>> import torch
        >>> network, atlas = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.0, 1.0]])
        >>> posterior(network, atlas).round(decimals=2)
        tensor([[0.3300, 0.6700]])
    """
    if not 0 <= doubt <= 1:
        raise ValueError(f"The doubt is a probability; choose one in [0, 1], not {doubt}.")
    if probs.shape != prior.shape:
        raise ValueError(
            f"Answer {tuple(probs.shape)} and prior {tuple(prior.shape)} must have the same "
            f"shape: register an atlas with the target's size and classes."
        )
    joint = probs * ((1 - doubt) * prior + doubt / prior.shape[1])
    return joint / joint.sum(1, keepdim=True).clamp(min=1e-12)


def atlas_em(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 2,
    doubt: float = 0.5,
    weight: float = 1.0,
    **kwargs,
) -> Fitted:
    r"""Expectation-maximisation over the labels of unlabelled images.

    The hidden variables are the true labels; the atlas, registered to each image, is their
    prior. After a registration and a first network, in turn:

    .. math::
        \text{E:}\quad q \propto f_\theta(x_u)\, \pi(x_u), \qquad
        \text{M:}\quad \theta \leftarrow \arg\min_\theta L_{sup}
            - w \sum_i \sum_k q_{ik} \log f_\theta(x_u)_{ik} .

    The M-step goes on from the weights there are. The prior never changes: it is what keeps the
    network from talking itself into anything.

    Args:
        task: the problem, with its few labels.
        budget: of the registration, of the first network, and of all M-steps together.
        seed: of weights and draws.
        rounds: E-steps.
        doubt: see :func:`posterior`; 1 is the control, self-training with soft labels.
        weight: ``w``.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no round.

    Reference: Ito, Nakae, Hata, Okano, Ishii, "Semi-supervised deep learning of brain tissue
    segmentation", Neural Networks 2019.
    Simplified: registration with a network; each M-step is a share of a training, not its end.
    """
    if rounds < 1:
        raise ValueError(f"EM needs at least 1 round, not {rounds}.")
    budget, images = budget or Budget.auto(), task.train.images[task.unlabelled]
    stages = [registered(task, budget, seed, **kwargs)]
    prior = stages[0].predict(images)
    stages.append(fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs))
    share = replace(budget, steps=max(1, budget.steps // rounds))
    for number in range(1, rounds + 1):
        believed = with_soft(task, posterior(stages[-1].predict(images), prior, doubt))
        method = SoftLabelled(copy.deepcopy(stages[-1].method.net), weight)
        stages.append(fit(method, believed, share, seed + 1000 * number, **kwargs))
    return last_of(stages)
