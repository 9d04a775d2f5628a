"""The cover that chooses planes and images to annotate: who represents all?"""

from __future__ import annotations

import torch
from torch import Tensor


def max_cover(similarity: Tensor, count: int) -> Tensor:
    r"""Choose those who represent all, one after the other.

    .. math:: S^* = \arg\max_{|S| = n} F(S), \qquad F(S) = \sum_i \max_{j \in S} s_{ij}

    Every item is represented by the chosen candidate that is most like it. The first choice is
    the candidate that is most like all items (**influential**); a second one like it would
    represent nobody better, so the next comes from elsewhere (**diverse**). :math:`F` is
    submodular, so this greedy choice reaches at least :math:`1 - 1/e` of the best.

    Reference: Nemhauser, Wolsey, Fisher, "An analysis of approximations for maximizing submodular
    set functions - I", Mathematical Programming 1978.

    Args:
        similarity: ``(N, M)``, at least 0; entry ``i, j`` says how well candidate ``j`` stands
            for item ``i``. Where all items are candidates, ``M = N``.
        count: ``n``, candidates to choose.

    Returns:
        ``(n,)`` indices of candidates in the order of choice.

    Raises:
        ValueError: fewer than one, or more than there are candidates; a negative similarity.

    Example:
        >>> like = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.1, 1.0]])
        >>> max_cover(like, 2)
        tensor([1, 2])
    """
    items, candidates = similarity.shape
    if not 1 <= count <= candidates:
        raise ValueError(
            f"{count} of {candidates} candidates cannot be chosen: ask for 1 to {candidates}."
        )
    if similarity.min() < 0:
        raise ValueError("Similarities must not be negative: cut them off at 0.")
    covered, chosen = similarity.new_zeros(items), []
    for _ in range(count):
        gain = (similarity - covered[:, None]).clamp(min=0).sum(0)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        covered = torch.maximum(covered, similarity[:, chosen[-1]])
    return torch.tensor(chosen)
