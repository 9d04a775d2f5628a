"""CutMix: a box of another image, and the labels that lie in it."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment import beta
from lsseg_edu.semi.consistency.cutmix import boxes, paste
from lsseg_edu.train import Method


class CutMix(Method):
    r"""Train on labelled images into which a box of another one was pasted.

    .. math::
        \tilde x = M \odot x_a + (1 - M) \odot x_b, \qquad
        \tilde y = M \odot y_a + (1 - M) \odot y_b, \qquad
        \frac{|\{M = 1\}|}{|\Omega|} = \lambda \sim \mathrm{Beta}(\alpha, \alpha).

    The paper mixes two image labels in the proportion of the areas. In segmentation no label is
    mixed: each pixel brings its own, through the same :math:`M`, and IGNORE is pasted like any
    other. The cut destroys context, which a network with few patients leans on too much.

    Reference: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy to Train Strong
    Classifiers with Localizable Features", ICCV 2019 (classification).
    Simplified: boxes of any proportion that lie inside the image (see
    :func:`lsseg_edu.semi.consistency.boxes`) instead of the image's proportion cut at its border.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        alpha: :math:`\alpha` (paper 1: the box may have any size with equal chance).

    Raises:
        ValueError: ``alpha`` not positive, or a batch of one.
    """

    def __init__(self, net: nn.Module, alpha: float = 1.0):
        super().__init__(net)
        self.alpha = alpha

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"cutmix": Dice + cross-entropy}`` of the labelled half, cut and pasted."""
        images, labels = batch.labelled.images, batch.labelled.labels
        box = self.box(images)
        return {"cutmix": losses.dice_ce(self.net(paste(images, box)), paste(labels, box))}

    def box(self, images: Tensor) -> Tensor:
        """What comes from the next image, ``(B, 1, *S)``: a share 1 - lambda of its area."""
        taken = 1 - beta(images, self.alpha)
        return boxes(images, share=(taken, taken))
