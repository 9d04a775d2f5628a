"""FixMatch: what the easy view is sure of, the hard view must say."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE
from lsseg_edu.semi.consistency.cutmix import boxes, paste
from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher


class FixMatch(MeanTeacher):
    r"""Confident answers to weakly augmented images are labels of strongly augmented ones.

    From the weak view ``x`` come a hard label :math:`\hat y_i = \arg\max_k q_{ik}` and whether to
    believe it, :math:`m_i = [\max_k q_{ik} \ge \tau]`. The strong view ``A x`` is the same image in
    other intensities, with a box of another image pasted in (CutMix); labels and beliefs are
    pasted with the same box.

    .. math::
        L_u = \frac{1}{|\Omega|} \sum_i m_i\, \big(-\ln f_\theta(A x)_{i \hat y_i}\big),
        \qquad L = L_{sup} + w(t)\, L_u .

    The sum is divided by **all** pixels: while few are believed, the term is weak by itself.
    Nothing flows into the weak view. There is no Dice term: a class that the labels of a batch
    miss, because nobody was sure of it, would be punished wherever it is thought of, and vanish.

    Reference: Sohn, Berthelot, Li et al., "FixMatch: Simplifying Semi-Supervised Learning with
    Consistency and Confidence", NeurIPS 2020 (classification).
    Simplified: pixels for images, and what segmenters added since: CutMix, and an average teacher
    for :math:`q` and for :meth:`predict`; a ramp.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        tau: :math:`\tau` in [0, 1] (paper 0.95, after far longer training).
        weight: largest weight of the term (paper 1).
        decay: of the averaging teacher. **0 is plain FixMatch**: the teacher then equals the
            network after every step.
        ramp: fraction of training over which the weight rises. The paper has none; in a short
            training the first confident answers are wrong, and would be learnt by heart.
        strong: its intensity part makes the strong view; by default about three times
            ``Augment.strong()`` (chosen on validation subjects of the cardiac phantom).
        cutmix: whether to paste boxes.

    Raises:
        ValueError: a threshold outside [0, 1].
    """

    weak = Augment.weak()

    def __init__(
        self,
        net: nn.Module,
        tau: float = 0.9,
        weight: float = 1.0,
        decay: float = 0.99,
        ramp: float = 0.4,
        strong: Augment | None = None,
        cutmix: bool = True,
    ):
        if not 0 <= tau <= 1:
            raise ValueError(f"The threshold is a probability: give tau in [0, 1], not {tau}.")
        super().__init__(net, weight, decay, noise=0.0, ramp=ramp)
        self.tau, self.cutmix = tau, cutmix
        self.strong = strong or Augment(bias=0.4, gamma=0.6, contrast=0.5, blur=1.0, noise=0.3)

    def consistency(self, batch) -> Tensor:
        """The strong view against the labels of the weak one."""
        images = batch.unlabelled.images
        strong, labels = self.harden(images, self.labels_of(images))
        return pseudo_loss(self.net(strong), labels)

    @torch.no_grad()
    def labels_of(self, images: Tensor) -> Tensor:
        """The teacher's classes ``(B, *S)``, IGNORE where it is less sure than ``tau``."""
        self.teacher.eval()  # labels are given without dropout, if the network has any
        return confident(self.teacher(images).softmax(1), self.tau)

    def harden(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A strong view of ``images (B, C, *S)``, and its labels ``(B, *S)``."""
        images = self.strong.repaint(images, None)
        if not self.cutmix:
            return images, labels
        box = boxes(images)
        return paste(images, box), paste(labels, box)


def confident(probs: Tensor, tau: float) -> Tensor:
    """Most probable class ``(B, *S)`` of ``probs (B, K, *S)``; IGNORE where below ``tau``."""
    best, classes = probs.max(1)
    return classes.masked_fill(best < tau, IGNORE)


def pseudo_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy averaged over *all* pixels; those of IGNORE count 0.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)`` with IGNORE where nothing is believed.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / labels.numel()
