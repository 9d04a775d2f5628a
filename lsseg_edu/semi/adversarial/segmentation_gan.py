"""A critic for masks: cross-entropy judges pixels one by one, a discriminator judges shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.semi.adversarial.discriminator import Adversarial, one_hot, verdict_loss


class SegmentationGAN(Adversarial):
    r"""Supervised training with a second opinion on the whole mask.

    The critic ``d`` sees an image with a mask and tells the expert's from the network's; the
    segmenter ``f`` learns the labels, and to be taken for an expert:

    .. math::
        L_f = L_{sup}(f(x), y) + \lambda\, \ell\big(d(x, f(x)), 1\big), \qquad
        L_d = \ell\big(d(x, \tilde y), 1\big) + \ell\big(d(x, f(x)), 0\big),

    with :math:`\ell` the cross-entropy of a verdict on the whole image. No unlabelled image is
    used: the critic is a loss of higher order, for holes, islands and neighbourhoods.

    :math:`\tilde y` is the softened mask of :func:`soften`. A hard mask is all 0 and 1, a
    softmax never is, and a critic that finds out looks at nothing else.

    Reference: Luc, Couprie, Chintala, Verbeek, "Semantic Segmentation using Adversarial
    Networks", NIPS Workshop on Adversarial Training 2016.
    Simplified: mask and image are concatenated at the input of one small critic.

    Args:
        net: the segmenter, images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        critic: sees ``K + C`` channels; its verdict is that of ``whole``.
        weight: :math:`\lambda`.
        soft: least probability that a softened mask gives the true class (paper: 0.9); 1 leaves
            the masks hard.
        **options: ``rate`` and ``smooth`` of :class:`.Adversarial`.

    Raises:
        ValueError: a softened mask that need not have the true class on top.
    """

    sees, sizes = "both", {"levels": 4}

    def __init__(self, net: nn.Module, critic: nn.Module, weight=0.1, soft: float = 0.9, **options):
        if not 0.5 < soft <= 1:
            raise ValueError(
                f"soft keeps the true class on top only within (0.5, 1], not at {soft}."
            )
        super().__init__(net, critic, weight, **options)
        self.soft = soft

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, and ``adversarial``: the network's masks should pass for real ones."""
        images, labels = batch.labelled.images, batch.labelled.labels
        logits = self.net(images)
        fooled = verdict_loss(self.judge(logits.softmax(1), images), 1.0)
        return {
            "supervised": losses.dice_ce(logits, labels),
            "adversarial": self.weight * fooled,
        }

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """``real`` masks to be believed, ``fake`` ones not."""
        images, labels = batch.labelled.images, batch.labelled.labels
        with torch.no_grad():
            probs = self.net(images).softmax(1)
        real = self.judge(soften(one_hot(labels, probs.shape[1]), probs, self.soft), images)
        return {
            "real": verdict_loss(real, 1 - self.smooth),
            "fake": verdict_loss(self.judge(probs, images), 0.0),
        }

    def judge(self, masks: Tensor, images: Tensor) -> Tensor:
        """One logit ``(B,)`` for each mask ``(B, K, *S)`` beside its image."""
        return self.critic.whole(torch.cat([masks, images], 1))


def soften(truth: Tensor, probs: Tensor, least: float) -> Tensor:
    r"""A one-hot mask that looks like a softmax.

    The true class ``k`` gets :math:`\tilde y_k = \max(\tau, p_k)`; the others share the rest in
    the network's own proportions, :math:`\tilde y_j = p_j (1 - \tilde y_k) / (1 - p_k)`.

    Where nobody annotated, the network's answer stands: a critic that finds the same on both
    sides learns nothing there. A hole would give the expert away.

    Args:
        truth: one-hot ``(B, K, *S)``, all 0 where nobody annotated.
        probs: the network's probabilities ``(B, K, *S)``.
        least: :math:`\tau`; at 1 the mask stays as it is.
    """
    true = (truth * probs).sum(1, keepdim=True)
    top = true.clamp(min=least)
    others = (1 - truth) * probs * ((1 - top) / (1 - true).clamp(min=1e-6))
    return (truth * top + others).where(truth.any(1, keepdim=True), probs)
