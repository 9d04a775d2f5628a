"""Annotated or not: answers on new images should look like answers on labelled ones."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.semi.adversarial.discriminator import Adversarial, verdict_loss
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup


class DAN(Adversarial):
    r"""An evaluation network guesses from ``(image, answer)`` whether the image had a mask.

    On images it has masks for, a segmenter is good; on others it is worse, and it shows: frayed
    borders, holes, islands. The evaluation network ``e`` learns to see the difference, with 1
    for annotated and 0 for not, and the segmenter to leave none:

    .. math::
        L_e = \ell\big(e(x_L, f(x_L)), 1\big) + \ell\big(e(x_U, f(x_U)), 0\big), \qquad
        L_f = L_{sup} + w(t)\, \ell\big(e(x_U, f(x_U)), 1\big).

    Both sides are answers of the network. No mask enters ``e``, so that it cannot tell the sides
    apart by how soft they are.

    Reference: Zhang, Yang, Chen, Fredericksen, Hughes, Chen, "Deep Adversarial Networks for
    Biomedical Image Segmentation Utilizing Unannotated Images", MICCAI 2017.
    Simplified: image and probabilities are concatenated at the input; the evaluation network is
    the small critic of this room.

    Args:
        net: the segmenter.
        critic: the evaluation network; sees ``K + C`` channels.
        weight: largest weight of the term on unlabelled images.
        ramp: fraction of training over which it rises: at first all answers are equally bad.
        **options: ``rate`` and ``smooth`` of :class:`.Adversarial`.
    """

    unlabelled = True
    sees, sizes = "both", {"levels": 4}

    def __init__(self, net, critic, weight=0.1, ramp: float = 0.4, **options):
        super().__init__(net, critic, weight, **options)
        self.ramp = ramp

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``; ``adversarial``: unlabelled images should pass for annotated ones."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        images = batch.unlabelled.images
        fooled = verdict_loss(self.evaluate(images, self.net(images).softmax(1)), 1.0)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"supervised": supervised, "adversarial": weight * fooled}

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """``annotated`` answers should get 1, ``unannotated`` ones 0."""
        sides = [batch.labelled.images, batch.unlabelled.images]
        with torch.no_grad():
            answers = [self.net(images).softmax(1) for images in sides]
        annotated, other = map(self.evaluate, sides, answers)
        return {
            "annotated": verdict_loss(annotated, 1 - self.smooth),
            "unannotated": verdict_loss(other, 0.0),
        }

    def evaluate(self, images: Tensor, probs: Tensor) -> Tensor:
        """One logit ``(B,)`` for each answer ``(B, K, *S)`` beside its image."""
        return self.critic.whole(torch.cat([probs, images], 1))
