"""Entropy minimisation: make up your mind about every pixel."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class EntropyMinimisation(Method):
    r"""Unlabelled pixels must be decided, whatever the decision.

    .. math::
        L = L_{sup} + w(t)\, \frac{1}{|\Omega|} \sum_i H(p_i), \qquad
        H(p) = -\sum_k p_k \ln p_k .

    If classes lie in clusters, the decision boundary belongs where few images are, and there few
    pixels are undecided. The term has no opinion of its own: a pixel is pushed to the class it
    leans to already, right or wrong, and a pixel that is decided is not pushed at all.

    Reference: Grandvalet, Bengio, "Semi-supervised Learning by Entropy Minimization",
    NeurIPS 2004.
    Simplified: the weight is ramped up; the paper raises it by deterministic annealing.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: largest weight of the entropy, which is in nats. Above about 1 it is cheaper to
            call everything background than to learn the labels.
        ramp: fraction of training over which the weight rises.
    """

    unlabelled = True

    def __init__(self, net: nn.Module, weight: float = 0.1, ramp: float = 0.4):
        super().__init__(net)
        self.weight, self.ramp = weight, ramp

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on labelled images, ``entropy`` (already weighted) on the others."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        undecided = entropy_of_logits(self.net(batch.unlabelled.images)).mean()
        return {"supervised": supervised, "entropy": weight * undecided}


def entropy_of_logits(logits: Tensor) -> Tensor:
    r"""Entropy in nats of ``softmax(logits)``: ``(B, K, *S)`` to ``(B, *S)``.

    From the logarithms that softmax makes anyway. Taken of probabilities, :math:`p \ln p` has no
    finite slope where a probability has been rounded to 0.
    """
    log_probs = logits.float().log_softmax(1)
    return -(log_probs.exp() * log_probs).sum(1)
