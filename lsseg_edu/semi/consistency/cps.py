"""Cross pseudo supervision: two networks, each the other's teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.semi.consistency.cutmix import boxes, paste
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class CrossPseudoSupervision(Method):
    r"""Two networks of different first weights learn from each other's decisions.

    .. math::
        L = \sum_{a=1,2} L_{sup}\big(f_a(x^l), y\big)
            + w(t) \sum_{a \ne b} L_{CE}\big(f_a(x), \arg\max f_b(x)\big)

    on labelled and unlabelled images ``x``. The labels are one-hot and detached: no gradient
    reaches the network that gave them. Two starts make different mistakes, so each can be told
    something new. That lasts only while they differ; once they agree on a mistake, neither can
    see it.

    Reference: Chen, Yuan, Zeng, Wang, "Semi-Supervised Semantic Segmentation with Cross Pseudo
    Supervision", CVPR 2021.
    Simplified: :math:`L_{sup}` is this book's Dice + cross-entropy, the paper's is cross-entropy;
    the weight is ramped up.

    Args:
        net: the first network. As in the paper, it alone answers in :meth:`predict`.
        other: the second one, same task, other weights.
        weight: largest weight of the cross term. The paper's 1.5 belongs to thousands of steps
            from pre-trained weights.
        ramp: fraction of training over which the weight rises (paper: none).
        cutmix: the paper's variant: both answer unlabelled images with a box of another one
            pasted in, and the labels are pasted together from answers to the whole images.

    Raises:
        ValueError: both networks have the same weights.
    """

    unlabelled = True

    def __init__(
        self,
        net: nn.Module,
        other: nn.Module,
        weight: float = 1.0,
        ramp: float = 0.4,
        cutmix: bool = False,
    ):
        super().__init__(net)
        pairs = zip(net.parameters(), other.parameters(), strict=False)
        if all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs):
            raise ValueError(
                "Two equal networks have nothing to tell each other: build the second one with "
                "another seed."
            )
        self.other, self.weight, self.ramp, self.cutmix = other, weight, ramp, cutmix

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> CrossPseudoSupervision:
        """Two of the book's U-Nets; the first has the baseline's weights."""
        from lsseg_edu import networks

        other = networks.unet(task, seed=seed + 10_000)
        return cls(networks.unet(task, seed=seed), other, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` of both networks, and ``cross`` (already weighted)."""
        labelled, unlabelled = batch.labelled.images, batch.unlabelled.images
        nets, many = (self.net, self.other), len(labelled)
        if self.cutmix:
            box = boxes(unlabelled)
            with torch.no_grad():
                pasted = [paste(decided(net(unlabelled)), box) for net in nets]
            unlabelled = paste(unlabelled, box)
        answers = [net(torch.cat([labelled, unlabelled])) for net in nets]
        labels = [decided(answer) for answer in answers]
        if self.cutmix:
            labels = [torch.cat([a[:many], b]) for a, b in zip(labels, pasted, strict=True)]
        supervised = sum(losses.dice_ce(a[:many], batch.labelled.labels) for a in answers)
        pairs = zip(answers, reversed(labels), strict=True)
        cross = sum(losses.cross_entropy(answer, theirs) for answer, theirs in pairs)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"supervised": supervised, "cross": weight * cross}


def decided(logits: Tensor) -> Tensor:
    """The class of every pixel, ``(B, *S)``; no gradient passes an argmax."""
    return logits.detach().argmax(1)
