"""The contrastive loss: nearer to what belongs to it than to what does not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FAR = -1e4  # score of what is no negative: its exponential is 0, its gradient too


def contrast(
    similarity: Tensor, positives: Tensor, negatives: Tensor, temperature: float = 0.1
) -> Tensor:
    r"""InfoNCE for any choice of positives and negatives, averaged over the positive pairs.

    .. math::
        L = \frac{1}{|P|} \sum_{(i, p) \in P} -\log
            \frac{\exp(s_{ip} / \tau)}
                 {\exp(s_{ip} / \tau) + \sum_{n \in N(i)} \exp(s_{in} / \tau)}

    A pair that is neither positive nor negative plays no part. The methods of this room differ in
    ``P`` and ``N`` alone. With :math:`o_i = \log \sum_n \exp(s_{in} / \tau)`, a term is
    :math:`\mathrm{softplus}(o_i - s_{ip} / \tau)`.

    Args:
        similarity: ``(..., A, M)`` cosines of ``A`` anchors and ``M`` others.
        positives: ``(A, M)`` bool, at least one of them true.
        negatives: ``(A, M)`` bool. An anchor without any costs nothing.
        temperature: :math:`\tau` > 0. The smaller, the more only the nearest negatives count.

    Returns:
        A scalar in nats.

    Reference: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive
    Coding", arXiv 2018, where every anchor has one positive and all others are negatives.
    """
    scores = similarity.float() / temperature
    others = scores.masked_fill(~negatives, FAR).logsumexp(-1, keepdim=True)
    return F.softplus(others - scores)[..., positives].mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    r"""Normalised-temperature cross-entropy: of ``2N`` views, which one is the other view of mine?

    .. math::
        L = -\frac{1}{2N} \sum_{i=1}^{2N} \log
            \frac{\exp(\cos(z_i, z_{p(i)}) / \tau)}{\sum_{j \ne i} \exp(\cos(z_i, z_j) / \tau)}

    Both views of all others are negatives, and every view is the anchor once, so the loss does
    not change when ``first`` and ``second`` change places.

    Args:
        first: ``(..., N, F)``, of any length: it is normalised here.
        second: ``(..., N, F)``; row n is the other view of row n of ``first``.
        temperature: :math:`\tau`.

    Returns:
        A scalar in nats, the mean over leading axes; :math:`\ln(2N - 1)` is chance.

    Raises:
        ValueError: a single pair, which has no negatives.
    """
    n = first.shape[-2]
    if n < 2:
        raise ValueError(
            f"A batch of {n} is smaller than the contrastive minimum: without a second image "
            f"there is no negative. Use a batch of at least 2."
        )
    z = F.normalize(torch.cat([first, second], -2).float(), dim=-1)
    own = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    partner = own.roll(n, 0)
    return contrast(z @ z.mT, partner, ~(own | partner), temperature)
