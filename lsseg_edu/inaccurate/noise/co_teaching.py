"""Co-teaching: two networks pick each other's clean labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE
from lsseg_edu.train import Method


class CoTeaching(Method):
    r"""Each network learns from the labels that its *peer* finds easy.

    Networks fit clean labels before they memorise wrong ones, so a small loss is a sign of a
    clean label. A network that chose for itself would keep its own mistakes; so network A ranks
    the labels of a batch by its loss and hands the fraction :math:`R(t)` of smallest loss to B,
    and B does the same for A:

    .. math::
        \theta_A \leftarrow \theta_A - \nabla L(\theta_A; \{i : \ell_i(\theta_B) \text{ small}\}),
        \qquad R(t) = 1 - \tau \min(t / T_k, 1).

    The two differ in their starting weights; that difference is the method. Evaluation is with
    network A alone: averaging both would add the gain of an ensemble.

    Reference: Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely
    Noisy Labels", NeurIPS 2018. Simplified: the paper ranks the images of a classification
    batch; here the unit is a pixel, or an image.

    Args:
        net: network A, images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        peer: network B, of the same shape, with other starting weights.
        noise_rate: :math:`\tau`, the fraction of labels given up in the end. The paper sets it
            to the noise rate, known or estimated; above it, hard pixels and small organs go too.
        gradual: :math:`T_k` as a fraction of training.
        level: ``"pixel"`` or ``"image"``.

    Raises:
        ValueError: two equal networks, a rate outside [0, 1), an unknown level.
    """

    def __init__(
        self, net: nn.Module, peer: nn.Module, noise_rate=0.05, gradual=0.3, level="pixel"
    ):
        super().__init__(net)
        if not 0 <= noise_rate < 1:
            raise ValueError(f"noise_rate must be in [0, 1), not {noise_rate}.")
        if level not in ("pixel", "image"):
            raise ValueError(f"level must be 'pixel' or 'image', not {level!r}.")
        if all(torch.equal(a, b) for a, b in zip(net.parameters(), peer.parameters(), strict=True)):
            raise ValueError("The two networks are equal: give the peer another seed.")
        self.peer = peer
        self.noise_rate, self.gradual, self.level = noise_rate, gradual, level

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> CoTeaching:
        """Two U-Nets of different seeds; network A is the one the baseline would have."""
        nets = (networks.unet(task, seed=s) for s in (seed, seed + 1000))
        return cls(*nets, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``a`` and ``b``: each network's loss on the labels its peer trusts."""
        labels = batch.labelled.labels
        logits_a, logits_b = self.net(batch.labelled.images), self.peer(batch.labelled.images)
        rate = keep_rate(batch.progress, self.noise_rate, self.gradual)
        trusted_by_a = small_loss(logits_a.detach(), labels, rate, self.level)
        trusted_by_b = small_loss(logits_b.detach(), labels, rate, self.level)
        return {
            "a": losses.dice_ce(logits_a, labels.where(trusted_by_b, IGNORE)),
            "b": losses.dice_ce(logits_b, labels.where(trusted_by_a, IGNORE)),
        }


def keep_rate(progress: float, noise_rate: float, gradual: float) -> float:
    r"""Fraction of labels kept, :math:`R(t) = 1 - \tau\min(t/T_k, 1)`: all, then ever fewer.

    At the start nothing has been memorised yet and every label is of use; by ``gradual`` the
    networks would begin to learn the noise, and the fraction ``noise_rate`` has been dropped.
    """
    return 1 - noise_rate * (min(progress / gradual, 1.0) if gradual > 0 else 1.0)


def small_loss(logits: Tensor, labels: Tensor, rate: float, level: str = "pixel") -> Tensor:
    """The labels of smallest loss: a mask ``(B, *S)`` of those to trust.

    Args:
        logits: ``(B, K, *S)`` of the network that judges.
        labels: ``(B, *S)`` int64; IGNORE is never trusted.
        rate: fraction to keep.
        level: ``"pixel"`` ranks the annotated pixels of the whole batch; ``"image"`` ranks whole
            images by their mean loss and keeps at least one.
    """
    known = labels != IGNORE
    loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    if level == "pixel":
        ranked = loss[known]
        return known & (loss <= ranked.kthvalue(max(1, round(rate * len(ranked)))).values)
    mean = loss.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
    kept = mean.argsort()[: max(1, round(rate * len(mean)))]
    chosen = torch.zeros_like(mean, dtype=torch.bool).index_fill_(0, kept, True)
    return known & chosen.view(-1, *[1] * (labels.ndim - 1))
