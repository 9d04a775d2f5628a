"""PaNN: over many patients, organs have the sizes that are known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.data import IGNORE
from lsseg_edu.partial.classes.partly import annotated_classes, annotated_items, marginal_loss
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class PaNN(Method):
    r"""The mean of all answers must have the class distribution that anatomy has.

    Let :math:`\bar p_k` be the share of class k in all answers to all training images, and
    :math:`\pi_k` the share it is known to have. Beside the loss of the partial labels,

    .. math::
        C = \sum_k KL\big((\pi_k, 1 - \pi_k) \,\Vert\, (\bar p_k, 1 - \bar p_k)\big) .

    :math:`\bar p` is a mean over the whole data and stands inside a logarithm, so the mean of C
    over batches is not C. Since :math:`-\ln a = \max_u (1 + u - e^u a)`, C is the largest value of
    a bound that is *linear* in :math:`\bar p`, see :func:`prior_bound`. The network descends on it,
    the dual variables ascend, one step each for every batch: stochastic primal-dual gradient.

    Reference: Zhou Y. et al., "Prior-aware Neural Network for Partially-Supervised Multi-Organ
    Segmentation", ICCV 2019.
    Simplified: there is no fully labelled set; the prior of an organ is its mean share in the data
    set that annotates it. The partial labels have the marginal loss. The dual variables are
    kept as :math:`u = \ln(-\beta)` of the paper's :math:`\beta < 0`, which makes steps of one size
    fit organs of any size.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        prior: :math:`\pi`, ``(K,)``, positive, of sum 1; see :func:`size_prior`.
        weight: largest weight of C. A tenth: a hint beside the labels.
        rate: step of the dual ascent; it then remembers about ``1 / rate`` batches.
        ramp: fraction of training over which the weight rises: first answers have no sizes yet.

    Raises:
        ValueError: a prior that is no distribution.
    """

    def __init__(self, net: nn.Module, prior: Tensor, weight=0.1, rate=0.1, ramp: float = 0.4):
        super().__init__(net)
        prior = torch.as_tensor(prior, dtype=torch.float32)
        if prior.ndim != 1 or (prior <= 0).any() or abs(float(prior.sum()) - 1) > 1e-3:
            raise ValueError(f"The prior must be (K,) positive shares of sum 1, not {prior}.")
        self.weight, self.rate, self.ramp = weight, rate, ramp
        self.register_buffer("prior", prior)
        self.register_buffer("dual", -torch.stack([prior, 1 - prior]).log())
        self.seen = None

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> PaNN:
        """With the mean size of each organ in the data set that annotates it."""
        labels, annotated = task.train.labels[task.labelled], annotated_items(task)
        return super().for_task(task, seed, prior=size_prior(labels, annotated), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``marginal``, and ``prior``: the bound for this batch (already weighted)."""
        part = batch.labelled
        annotated, logits = annotated_classes(part), self.net(part.images)
        mean = logits.float().softmax(1).transpose(0, 1).flatten(1).mean(1)
        self.seen = mean.detach()
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {
            "marginal": marginal_loss(logits, part.labels, annotated),
            "prior": weight * prior_bound(mean, self.prior, self.dual),
        }

    def after_step(self, progress: float):
        """One ascent step of the dual variables, with the answers the network was just moved by."""
        self.dual.copy_(dual_ascent(self.dual, self.seen, self.rate))


def prior_bound(mean: Tensor, prior: Tensor, dual: Tensor) -> Tensor:
    r"""A lower bound of the divergence that is linear in the answers.

    .. math::
        \sum_k \pi_k (1 + u_k - e^{u_k} \bar p_k) + (1 - \pi_k)(1 + v_k - e^{v_k}(1 - \bar p_k))
        - H(\pi_k)

    With :math:`u = -\ln \bar p`, :math:`v = -\ln(1 - \bar p)` it *is* the divergence, and has its
    gradient.

    Args:
        mean: :math:`\bar p`, ``(K,)``.
        prior: :math:`\pi`, ``(K,)`` in (0, 1).
        dual: ``u`` and ``v``, ``(2, K)``.
    """
    share, known = torch.stack([mean, 1 - mean]), torch.stack([prior, 1 - prior])
    return (known * (1 + dual - dual.exp() * share + known.log())).sum()


def dual_ascent(dual: Tensor, mean: Tensor, rate: float) -> Tensor:
    r"""The dual variables one step further up :func:`prior_bound`.

    .. math:: e^{-u} \leftarrow (1 - r)\, e^{-u} + r\, \bar p

    To first order in the rate r this is :math:`u \leftarrow u + r (1 - e^u \bar p)`, the gradient
    in units of its weight. It cannot overshoot: :math:`e^{-u}` is a running mean of the answers.
    """
    share = torch.stack([mean, 1 - mean])
    return -torch.lerp((-dual).exp(), share, rate).clamp(min=1e-8).log()


def size_prior(labels: Tensor, annotated: Tensor) -> Tensor:
    """Mean share of each class in the images that annotate it; the rest is background, ``(K,)``.

    Args:
        labels: ``(N, *S)``.
        annotated: ``(N, K)`` bool.

    Raises:
        ValueError: a class that no image annotates, or none shows.

    Example:
        >>> labels = torch.tensor([[[1, 0], [0, 0]], [[0, 2], [0, 2]]])
        >>> size_prior(labels, torch.tensor([[True, True, False], [True, False, True]]))
        tensor([0.2500, 0.2500, 0.5000])
    """
    known = (labels != IGNORE).flatten(1).sum(1).clamp(min=1)
    classes = torch.arange(annotated.shape[1], device=labels.device)
    share = torch.stack([(labels == k).flatten(1).sum(1) / known for k in classes], 1)
    prior = (share * annotated).sum(0) / annotated.sum(0).clamp(min=1)
    prior[0] = 1 - prior[1:].sum()
    if (prior <= 0).any():
        k = int((prior <= 0).nonzero()[0])
        raise ValueError(f"The size of class {k} is not known: no image annotates and shows it.")
    return prior
