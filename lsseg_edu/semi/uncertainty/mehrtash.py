"""Ensembles to calibrate Dice: nets that are too sure, but not all of the same mistakes."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu import losses, networks
from lsseg_edu.data import Task
from lsseg_edu.semi.uncertainty.ensemble import deep_ensemble
from lsseg_edu.semi.uncertainty.mc_batchnorm import with_batchnorm
from lsseg_edu.train import Budget, Fitted, Supervised


def calibrated_ensemble(
    task: Task, budget: Budget | None = None, seed: int = 0, members: int = 5, **kwargs
) -> Fitted:
    r"""An ensemble of networks with batch norm, each trained on the Dice loss **alone**.

    The Dice loss is no proper score. Let the rest of a class overlap with Dice ``D``, and let a
    further pixel belong to it with probability ``q``. Cross-entropy is lowest, in expectation, at
    ``p = q``; the Dice with squares in its denominator at ``p = min(1, q / D)``, without them at
    1 or 0. So the nets claim too much, but of *different* mistakes, and their mean is sure only
    where they agree. Measure it against one of its members with :func:`.proper_scores` (negative
    log-likelihood, Brier score, ECE).

    Args:
        task: the problem.
        budget: of each training; by default :meth:`Budget.auto`.
        seed: of the first member.
        members: ``M``. The paper trains 50 and finds little gain beyond 10; 5 as for
            :func:`.deep_ensemble`.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Reference: Mehrtash, Wells, Tempany, Abolmaesumi, Kapur, "Confidence Calibration and
    Predictive Uncertainty Estimation for Deep Medical Image Segmentation", IEEE Transactions on
    Medical Imaging 2020.
    Simplified: the book's U-Net and its Dice, with squares in the denominator.
    """
    return deep_ensemble(task, budget, seed, members, make=dice_trained, **kwargs)


def dice_trained(task: Task, seed: int) -> Supervised:
    """One member: the book's U-Net with batch norms and the Dice loss."""
    return Supervised(with_batchnorm(networks.unet(task, seed=seed)), loss=losses.dice)


def segment_entropy(probs: Tensor, subjects: Tensor) -> Tensor:
    r"""How unsure is the network of a *structure*, as a whole?

    .. math::
        \bar H_k = \frac{1}{|\hat S_k|} \sum_{i \in \hat S_k}
            \big[-p_{ik} \ln p_{ik} - (1 - p_{ik}) \ln (1 - p_{ik})\big], \qquad
        \hat S_k = \{i : \arg\max_j p_{ij} = k\} .

    The paper finds it to follow the Dice of the structure, which nobody knows for a new patient.

    Args:
        probs: ``(N, K, *S)``.
        subjects: ``(N,)``, whose item it is; a structure is pooled over a subject's items.

    Returns:
        ``(n, K-1)`` nats in [0, ln 2], subjects in the order of ``unique``, foreground classes;
        NaN where the class is predicted nowhere.

    Reference: as :func:`calibrated_ensemble`.
    """
    probs = probs.double()
    doubt = torch.special.entr(probs) + torch.special.entr(1 - probs)
    segment = torch.zeros_like(probs).scatter_(1, probs.argmax(1, keepdim=True), 1.0)
    people, owner = subjects.unique(return_inverse=True)
    total, size = (
        probs.new_zeros(len(people), probs.shape[1]).index_add_(0, owner, x.flatten(2).sum(2))
        for x in (doubt * segment, segment)
    )
    return (total / size)[:, 1:].float()
