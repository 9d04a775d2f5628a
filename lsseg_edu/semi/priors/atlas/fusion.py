"""Several atlases, several opinions, one segmentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def majority(votes: Tensor) -> Tensor:
    r"""Every atlas has one vote: :math:`p_{ik} = \frac1N \sum_n y^n_{ik}`.

    Args:
        votes: propagated masks ``(N, B, K, *S)`` of ``N`` atlases; soft ones count in part.

    Returns:
        ``(B, K, *S)``.
    """
    return votes.mean(0)


def locally_weighted(votes: Tensor, likeness: Tensor, gain: float = 4.0) -> Tensor:
    r"""An atlas counts where it resembles the target, after it was moved.

    .. math:: p_{ik} = \frac{\sum_n w_{ni}\, y^n_{ik}}{\sum_n w_{ni}}, \qquad
              w_{ni} = \max(\rho_{ni}, \epsilon)^g

    Args:
        votes: ``(N, B, K, *S)``.
        likeness: :math:`\rho`, ``(N, B, *S)``, e.g.
            :func:`.local_correlation` of each moved atlas image with the target.
        gain: :math:`g`. At 0 it is the majority, at infinity the best atlas decides alone.

    Reference: Artaechevarria, Munoz-Barrutia, Ortiz-de-Solorzano, "Combination Strategies in
    Multi-Atlas Image Segmentation: Application to Brain MR Data", TMI 2009.
    """
    weight = likeness.clamp(min=1e-2).pow(gain).unsqueeze(2)
    return (weight * votes).sum(0) / weight.sum(0)


def staple(votes: Tensor, steps: int = 10) -> tuple[Tensor, Tensor]:
    r"""Who is right, and who can be trusted: two unknowns, estimated from one another.

    Each atlas is a rater with a confusion matrix :math:`\theta^n_{kl}`, the probability that it
    says :math:`l` where the truth is :math:`k`. The truth being hidden, expectation-maximisation:

    .. math::
        \text{E:}\quad p_{ik} \propto \pi_k \prod_n \theta^n_{k\, y^n_i}, \qquad
        \text{M:}\quad \theta^n_{kl} = \frac{\sum_{i: y^n_i = l} p_{ik}}{\sum_i p_{ik}} ,

    from the majority on, for each image by itself; :math:`\pi_k` is the share of class ``k``
    among all votes.

    Args:
        votes: ``(N, B, K, *S)``; each atlas says its likeliest class.
        steps: EM steps.

    Returns:
        The truth ``(B, K, *S)`` and the raters ``(N, B, K, K)``, rows adding up to 1.

    Reference: Warfield, Zou, Wells, "Simultaneous Truth and Performance Level Estimation
    (STAPLE)", TMI 2004. Simplified: no spatial (Markov) prior.
    """
    classes, size = votes.shape[2], votes.shape[3:]
    said = F.one_hot(votes.flatten(3).argmax(2), classes).float()  # (N, B, P, K)
    prior = said.mean((0, 2)) + 1e-6
    truth = said.mean(0)
    for _ in range(steps):
        raters = torch.einsum("bpk,nbpl->nbkl", truth, said) + 1e-6
        raters = raters / raters.sum(3, keepdim=True)
        evidence = torch.einsum("nbkl,nbpl->bpk", raters.log(), said)
        truth = (evidence + prior.log()[:, None]).softmax(2)
    return truth.movedim(2, 1).unflatten(2, size), raters
