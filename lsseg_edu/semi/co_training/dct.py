"""Deep co-training: agree on the images, and do not err where the other one errs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.semi.co_training.adversarial import virtual_adversarial
from lsseg_edu.semi.co_training.agreement import different, jensen_shannon
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.train import Method


class DeepCoTraining(Method):
    r"""Networks that must agree, and that may not be fooled by each other's adversarial examples.

    .. math::
        L = \sum_m L_{sup}(f_m) + w(t) \Big[
            \lambda_{cot}\, \overline{JSD\big(p_1(x_u), \dots, p_M(x_u)\big)}
            + \lambda_{dif} \sum_{m} H\big(p_o(x),\ p_m(g_o(x))\big) \Big], \qquad o \ne m .

    Agreement alone would make the networks equal, and equal networks teach each other nothing.
    :math:`g_o(x)` is the example that network ``o`` gets wrong; network ``m`` must keep to what
    ``o`` said of the image before. If both had the same weak spots, it could not: so their weak
    spots must differ. No gradient flows into :math:`g_o` or into the target :math:`p_o(x)`: the
    term teaches ``m`` only. With two networks each has the other one for ``o``; with more, a
    ring is drawn anew at each step.

    Reference: Qiao, Shen, Zhang, Wang, Yuille, "Deep Co-Training for Semi-Supervised Image
    Recognition", ECCV 2018 (classification).
    Simplified: virtual adversarial examples on all images, where the paper uses the gradient's
    sign; both networks see one labelled batch; targets of the second term are detached.

    Args:
        nets: two or more, images ``(B, C, *S)`` to logits ``(B, K, *S)``, of different weights.
        agree: :math:`\lambda_{cot}` (paper: 10).
        resist: :math:`\lambda_{dif}` (paper: 0.5). At 0 no example is made.
        epsilon: size of the change, in image deviations. The paper's 0.02 is of images in
            [0, 1], whose deviation is about a quarter.
        ramp: fraction of training over which both weights rise.

    Raises:
        ValueError: one network, or equal ones.
    """

    unlabelled = True

    def __init__(
        self,
        nets: Sequence[nn.Module],
        agree: float = 10.0,
        resist: float = 0.5,
        epsilon: float = 0.1,
        ramp: float = 0.4,
    ):
        different(nets)
        super().__init__(nets[0])
        self.nets = nn.ModuleList(nets)
        self.agree, self.resist, self.epsilon, self.ramp = agree, resist, epsilon, ramp

    @classmethod
    def for_task(cls, task, seed: int = 0, many: int = 2, **options) -> DeepCoTraining:
        """``many`` of the book's U-Nets; the first has the baseline's weights."""
        from lsseg_edu import networks

        nets = [networks.unet(task, seed=seed + 10_000 * i) for i in range(many)]
        return cls(nets, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, and ``agreement`` and ``resistance`` (already weighted)."""
        many = len(batch.labelled.images)
        images = torch.cat([batch.labelled.images, batch.unlabelled.images])
        answers = [net(images) for net in self.nets]
        supervised = sum(
            losses.dice_ce(answer[:many], self.labels_of(m, batch.labelled))
            for m, answer in enumerate(answers)
        )
        probs = torch.stack([answer.float().softmax(1) for answer in answers])
        weight = sigmoid_rampup(batch.progress, self.ramp)
        terms = {"supervised": supervised}
        terms["agreement"] = weight * self.agree * jensen_shannon(probs[:, many:]).mean()
        if self.resist:
            resistance = self.resistance(batch, images, probs.detach())
            terms["resistance"] = weight * self.resist * resistance
        return terms

    def labels_of(self, m: int, part) -> Tensor:
        """The labels network ``m`` may learn from; here all."""
        return part.labels

    def resistance(self, batch, images: Tensor, probs: Tensor) -> Tensor:
        """Each network on the examples of another one, against that one's first answer."""
        many = len(self.nets)
        shift = int(torch.randint(1, many, ()))
        total = 0.0
        for m, net in enumerate(self.nets):
            other = (m + shift) % many
            example = self.attack(self.nets[other], batch, images, probs[other])
            total = total + F.cross_entropy(net(example).float(), probs[other])
        return total

    def attack(self, net: nn.Module, batch, images: Tensor, probs: Tensor) -> Tensor:
        """Adversarial examples of ``net``, made of all ``images`` of the batch."""
        return virtual_adversarial(net, images, probs, self.epsilon)

    def predict(self, images: Tensor) -> Tensor:
        """The mean of all networks' probabilities ``(B, K, *S)``."""
        return torch.stack([net(images).float().softmax(1) for net in self.nets]).mean(0)
