"""Adversarial data augmentation: train on the worst that a small change can do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.semi.augmentation.ascent import ascend, somewhere
from lsseg_edu.semi.co_training.adversarial import virtual_adversarial
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.self_training.teacher_student import divergence
from lsseg_edu.train import Method


class WorstCase(Method):
    r"""Descend on the weights where an ascent on the image has made it hardest.

    .. math::
        L = L_{sup}(x, y) + w \max_{\lVert r \rVert_\infty \le \epsilon} L_{sup}(x + r, y)
          + v(t) \max_{\lVert r \rVert \le \epsilon} KL\big(p(x_u) \,\Vert\, p(x_u + r)\big)

    The second term is worst-case training with labels: projected gradient steps uphill, then one
    step of the optimiser downhill. The third is **virtual** adversarial training. It asks for no
    label: what must not change is the network's own answer, so it takes unlabelled images, too.
    :math:`p(x_u)` and both perturbations are detached; the outer step does not move them.

    References: Goodfellow, Shlens, Szegedy, ICLR 2015, and Madry et al., ICLR 2018 (labels);
    Miyato, Maeda, Koyama, Ishii, "Virtual Adversarial Training", IEEE TPAMI 2019 (no labels).

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        epsilon: largest change of a pixel with labels, and its root mean square without, in image
            deviations. 0.1 is about the noise that a radiologist would not remark upon.
        weight: of the worst case with labels; as much as of the clean images.
        virtual: largest weight :math:`v` of the one without. At 0 no unlabelled image is drawn.
        steps: of the ascent with labels. Madry et al. take 7 or more; one step from a random
            start is nearly as good and far cheaper (Wong, Rice, Kolter 2020).
        ramp: fraction of training over which the third term rises.

    Raises:
        ValueError: a negative ``epsilon``.
    """

    def __init__(
        self,
        net: nn.Module,
        epsilon: float = 0.1,
        weight: float = 1.0,
        virtual: float = 1.0,
        steps: int = 1,
        ramp: float = 0.4,
    ):
        if epsilon < 0:
            raise ValueError(f"The size of a change cannot be negative: epsilon is {epsilon}.")
        super().__init__(net)
        self.epsilon, self.weight, self.virtual = epsilon, weight, virtual
        self.steps, self.ramp, self.unlabelled = steps, ramp, virtual > 0

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, and where their weights are not 0 ``worst`` and ``virtual``, weighted."""
        images, labels = batch.labelled.images, batch.labelled.labels
        terms = {"supervised": losses.dice_ce(self.net(images), labels)}
        if self.weight:
            worst = self.attack(images, labels)
            terms["worst"] = self.weight * losses.dice_ce(self.net(worst), labels)
        if self.virtual:
            weight = self.virtual * sigmoid_rampup(batch.progress, self.ramp)
            terms["virtual"] = weight * self.unsteady(batch.unlabelled.images)
        return terms

    def attack(self, images: Tensor, labels: Tensor) -> Tensor:
        """``images``, each pixel changed by at most ``epsilon``, with a higher loss."""
        start = somewhere(images, self.epsilon)
        rate = 1.25 if self.steps == 1 else 2.5 / self.steps  # enough to cross the box

        def harm(change):
            return losses.dice_ce(self.net(images + change), labels)

        return images + ascend(harm, start, self.epsilon, self.steps, rate)

    def unsteady(self, images: Tensor) -> Tensor:
        """How far the answer moves, in nats a pixel, where it moves most; no label is needed."""
        with torch.no_grad():
            answer = self.net(images).float().softmax(1)
        attacked = virtual_adversarial(self.net, images, answer, self.epsilon)
        return divergence(self.net(attacked), answer).mean()
