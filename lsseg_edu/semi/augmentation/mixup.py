"""Mixup: a blend of two images deserves a blend of their labels."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.augment import beta, mixup
from lsseg_edu.semi.adversarial.discriminator import one_hot
from lsseg_edu.semi.augmentation.soft import soft_dice_ce
from lsseg_edu.train import Method


class Mixup(Method):
    r"""Train on convex combinations of labelled images, and on nothing else.

    .. math::
        \tilde x = \lambda x_a + (1 - \lambda) x_b, \qquad
        \tilde y = \lambda y_a + (1 - \lambda) y_b, \qquad
        \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    with the same :math:`\lambda` in both lines and one-hot :math:`y`. Between two training images
    the network has to change its answer linearly, instead of staying certain up to a cliff. A
    pixel that is not annotated in both images counts for nothing.

    Reference: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
    ICLR 2018 (classification).
    Simplified: pixel by pixel; partners are neighbours in the batch, which is in random order.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        alpha: :math:`\alpha` (paper: 0.1 to 0.4 for large images). At 0.4 a quarter of the images
            is mixed more evenly than 80 to 20.

    Raises:
        ValueError: ``alpha`` not positive, or a batch of one.
    """

    def __init__(self, net: nn.Module, alpha: float = 0.4):
        super().__init__(net)
        self.alpha = alpha

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"mixup": soft Dice + cross-entropy}`` of the blended labelled half."""
        images, labels = batch.labelled.images, batch.labelled.labels
        return {"mixup": mixup_loss(self.net, images, labels, beta(images, self.alpha))}


def mixup_loss(net: nn.Module, images: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """The loss of ``net`` on each image blended with the next one, ``share`` of its own.

    Args:
        net: images to logits.
        images: ``(B, C, *S)``.
        labels: ``(B, *S)`` with IGNORE.
        share: ``(B,)``; the gradient reaches it, so that it can be learnt.
    """
    logits = net(mixup(images, share))
    return soft_dice_ce(logits, mixup(one_hot(labels, logits.shape[1]), share))
