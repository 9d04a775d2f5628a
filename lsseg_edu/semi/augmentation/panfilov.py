"""Mixup against a change of scanner, beside the method made for it."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.augment import beta
from lsseg_edu.semi.adversarial.dan import DAN
from lsseg_edu.semi.adversarial.discriminator import verdict_loss
from lsseg_edu.semi.augmentation.mixup import mixup_loss
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Player


class ShiftMixup(DAN):
    r"""Mixup, domain adaptation, or both, for a network that will meet another scanner.

    .. math::
        L = L_{sup}(\tilde x_A, \tilde y_A) + w(t)\, \ell\big(e(f(x_B)), 1\big)

    The masks are scanner A's. The first term is :class:`.Mixup` on them and needs nothing of
    scanner B. The second adapts: a critic ``e`` tells answers on B from answers on A, and the
    network learns to leave it no hint; it needs images of B, unlabelled. The paper's question is
    which of the two helps *on B*: run it under a protocol whose test images are B's
    (:func:`lsseg_edu.semi.adversarial.scanner_shift`).

    Reference: Panfilov, Tiulpin, Klein, Nieminen, Saarakkala, "Improving Robustness of Deep
    Learning Based Knee MRI Segmentation: Mixup and Adversarial Domain Adaptation", ICCV
    Workshops 2019.
    Simplified: hearts instead of knees; Dice + cross-entropy of the mixed label.

    Args:
        net: the segmenter.
        critic: sees answers only, ``K`` channels.
        alpha: of the Beta distribution, as for :class:`.Mixup`. 0: no mixup.
        weight: largest weight of the adversarial term. 0: no adaptation, and no image of B is
            drawn. With both at 0 it is the supervised baseline.
        **options: ``ramp``, ``rate`` and ``smooth`` of :class:`~lsseg_edu.semi.adversarial.DAN`.
    """

    sees = "masks"

    def __init__(self, net, critic, alpha: float = 0.4, weight: float = 0.0, **options):
        super().__init__(net, critic, weight, **options)
        self.alpha, self.unlabelled = alpha, weight > 0

    def players(self) -> list[Player]:
        """The segmenter, and the critic where there is something to adapt to."""
        return super().players()[: 2 if self.unlabelled else 1]

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, blended or not; ``adversarial`` (already weighted) if asked for."""
        terms = {"supervised": self.supervised(batch.labelled)}
        if self.unlabelled:
            answer = self.net(batch.unlabelled.images).softmax(1)
            fooled = verdict_loss(self.evaluate(batch.unlabelled.images, answer), 1.0)
            terms["adversarial"] = self.weight * sigmoid_rampup(batch.progress, self.ramp) * fooled
        return terms

    def supervised(self, part) -> Tensor:
        """The loss of scanner A's images, blended if ``alpha`` says so."""
        if not self.alpha:
            return losses.dice_ce(self.net(part.images), part.labels)
        return mixup_loss(self.net, part.images, part.labels, beta(part.images, self.alpha))

    def evaluate(self, images: Tensor, answer: Tensor) -> Tensor:
        """The critic's verdict on answers alone: scanner B's images would give themselves away."""
        return self.critic.whole(answer)
