"""The baseline: learn from the labelled images, ignore the others."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.train.method import Method


class Supervised(Method):
    """Cross-entropy + Dice on the annotated pixels: the arm that every technique must beat.

    With all training masks it is the upper reference; with a few, the lower one.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        loss: logits and labels to a scalar; Dice + cross-entropy unless a loss is the subject.
    """

    def __init__(self, net: nn.Module, loss=losses.dice_ce):
        super().__init__(net)
        self.criterion = loss

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"supervised": criterion}`` on the labelled half of the batch."""
        return {
            "supervised": self.criterion(self.net(batch.labelled.images), batch.labelled.labels)
        }
