"""The supervised loss when a pixel is a little of each class."""

from __future__ import annotations

from torch import Tensor


def soft_dice_ce(logits: Tensor, target: Tensor, eps: float = 1.0) -> Tensor:
    r"""Cross-entropy plus Dice of soft targets; :func:`lsseg_edu.losses.dice_ce` of hard ones.

    .. math::
        -\frac{1}{|\Omega|} \sum_{i \in \Omega} \sum_k t_k(i) \ln p_k(i)
        \;+\; 1 - \frac1K \sum_k \frac{2\sum_i p_k t_k + \epsilon}
                                      {\sum_i p_k^2 + \sum_i t_k^2 + \epsilon}

    With squares of *both* in the denominator the Dice term, too, is least at :math:`p = t`. With
    the plain :math:`\sum t_k`, which is the same for hard labels, a half would best be answered
    by more than a half.

    Args:
        logits: ``(B, K, *S)``.
        target: ``(B, K, *S)``. Pixels :math:`\Omega` count whose values sum to 1. Of the others
            a part was never annotated, and they count for nothing.
        eps: as in :func:`lsseg_edu.losses.dice`.

    Returns:
        A scalar; 0 gradient where nothing is annotated.
    """
    log_probs = logits.float().log_softmax(1)
    known = (target.sum(1, keepdim=True) > 1 - 1e-3).float()
    target, probs = target * known, log_probs.exp() * known
    entropy = -(target * log_probs).sum() / known.sum().clamp(min=1)
    axes = [0, *range(2, logits.ndim)]
    overlap = (probs * target).sum(axes)
    size = (probs.square() + target.square()).sum(axes)
    return entropy + 1 - ((2 * overlap + eps) / (size + eps)).mean()
