"""Where the critic believes: learn from your own answer where it passes for an expert's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.semi.adversarial.discriminator import Adversarial, one_hot, verdict_loss


class HungSemi(Adversarial):
    r"""A fully convolutional critic chooses the pixels of the segmenter's own pseudo-labels.

    The critic gets a map of class probabilities, the expert's (one-hot) or the segmenter's, and
    says at every pixel which it is. On an unlabelled image ``u`` its belief
    :math:`m = \sigma(d(f(u)))` says where the answer looks like an expert's; there the answer
    becomes its own label :math:`\hat y = \arg\max_k f(u)_k`:

    .. math::
        L_f = L_{sup} + \lambda_L\, \ell(d(f(x)), 1) + \lambda_U\, \ell(d(f(u)), 1)
            + \lambda_{st} \frac{\sum_i [m_i > \tau]\, (-\log f(u)_{i \hat y_i})}
                                {\sum_i [m_i > \tau]}

    .. math:: L_d = \ell(d(y), 1) + \ell(d(f(x)), 0)

    The critic learns on labelled images only. The self-taught term starts later, when there is
    something to believe; mask and pseudo-labels are constants for the gradient.

    Reference: Hung, Tsai, Liou, Lin, Yang, "Adversarial Learning for Semi-Supervised Semantic
    Segmentation", BMVC 2018.
    Simplified: the supervised loss is the book's; a critic of three levels for small images.

    Args:
        net: the segmenter.
        critic: sees ``K`` channels, judges every pixel.
        weight: :math:`\lambda_L` (paper: 0.01).
        unlabelled_weight: :math:`\lambda_U` (paper: 0.001).
        self_taught: :math:`\lambda_{st}` (paper: 0.1).
        threshold: :math:`\tau` (paper: 0.2).
        start: progress at which the self-taught term starts (paper: 5000 of 20000 steps).
        **options: ``rate`` and ``smooth`` of :class:`.Adversarial`.

    Raises:
        ValueError: a threshold that is not a probability.
    """

    unlabelled = True

    def __init__(
        self,
        net: nn.Module,
        critic: nn.Module,
        weight=0.01,
        unlabelled_weight=0.001,
        self_taught=0.1,
        threshold: float = 0.2,
        start: float = 0.25,
        **options,
    ):
        if not 0 <= threshold < 1:
            raise ValueError(
                f"The threshold is a probability; choose one in [0, 1), not {threshold}."
            )
        super().__init__(net, critic, weight, **options)
        self.unlabelled_weight, self.self_taught = unlabelled_weight, self_taught
        self.threshold, self.start = threshold, start

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, ``adversarial`` (both halves), ``self_taught`` (unlabelled images)."""
        old, new = self.net(batch.labelled.images), self.net(batch.unlabelled.images)
        known = (batch.labelled.labels != IGNORE).unsqueeze(1)
        verdict = self.critic(new.softmax(1))
        fooled = self.weight * verdict_loss(self.critic(old.softmax(1)), 1.0, known)
        fooled = fooled + self.unlabelled_weight * verdict_loss(verdict, 1.0)
        weight = self.self_taught * (batch.progress >= self.start)
        return {
            "supervised": self.supervised(old, batch.labelled.labels),
            "adversarial": fooled,
            "self_taught": weight * self.teach(new, verdict.detach().sigmoid()),
        }

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """``real`` masks to be believed at every annotated pixel, ``fake`` ones nowhere."""
        labels = batch.labelled.labels
        with torch.no_grad():
            probs = self.net(batch.labelled.images).softmax(1)
        known = (labels != IGNORE).unsqueeze(1)
        masks = one_hot(labels, probs.shape[1]).where(known, probs)  # a hole would be a hint
        return {
            "real": verdict_loss(self.critic(masks), 1 - self.smooth, known),
            "fake": verdict_loss(self.critic(probs), 0.0, known),
        }

    def supervised(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss on labelled images."""
        return losses.dice_ce(logits, labels)

    def teach(self, logits: Tensor, belief: Tensor) -> Tensor:
        """Cross-entropy with the network's own labels where ``belief (B, 1, *S)`` is enough."""
        return losses.cross_entropy(logits, self.pseudo_labels(logits, belief))

    def pseudo_labels(self, logits: Tensor, belief: Tensor) -> Tensor:
        """The likeliest class ``(B, *S)`` where the critic believes it, IGNORE elsewhere."""
        return logits.argmax(1).where(belief[:, 0] > self.threshold, IGNORE)

    @torch.no_grad()
    def confidence(self, images: Tensor) -> Tensor:
        """The critic's belief ``(B, 1, *S)`` in the segmenter's answer."""
        return self.critic(self.net(images).softmax(1)).sigmoid()
