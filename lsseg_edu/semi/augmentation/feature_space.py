"""Feature-space augmentation: new examples made between and beyond the codes of old ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.semi.adversarial.discriminator import one_hot
from lsseg_edu.train import Method


class FeatureSpace(Method):
    r"""The decoder also learns from bottleneck vectors that no image had.

    A vector :math:`c_j` of the bottleneck (one place of the coarsest map) is pushed away from,
    or drawn to, another vector :math:`c_k` **of the same class**, from anywhere in the batch:

    .. math::
        c'_j = c_j + \lambda\,(c_j - c_k) \;\text{(extrapolation)}, \qquad
        c'_j = c_j + \lambda\,(c_k - c_j) \;\text{(interpolation)}.

    The label map stays. In pixels the mean of two hearts is a ghost with two outlines; in a space
    where classes are unfolded it may be a heart. The new vectors are detached: they teach the
    decoder, and the encoder goes on learning from images.

    Reference: DeVries, Taylor, "Dataset Augmentation in Feature Space", ICLR Workshops 2017.
    Simplified: the encoder is trained by the segmentation at the same time, not as an autoencoder
    before; the class of a place is the one most of its pixels have; the skips are unchanged.

    Args:
        net: with ``encode`` and ``decode``, as the book's U-Net.
        degree: :math:`\lambda` (paper 0.5).
        extrapolate: away from the partner (what the paper found to help), or towards it.
        weight: of the second term. At 0 this is the supervised baseline.

    Raises:
        ValueError: a network that cannot be cut into encoder and decoder.
    """

    def __init__(self, net: nn.Module, degree: float = 0.5, extrapolate=True, weight=1.0):
        if not (hasattr(net, "encode") and hasattr(net, "decode")):
            raise ValueError(
                "Features are mixed between encoder and decoder: give it a network with encode "
                "and decode, such as networks.unet(task)."
            )
        super().__init__(net)
        self.degree, self.extrapolate, self.weight = degree, extrapolate, weight

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the images, ``features`` (already weighted) on the new vectors."""
        images, labels = batch.labelled.images, batch.labelled.labels
        features = self.net.encode(images)
        supervised = losses.dice_ce(self.answer(features), labels)
        *skips, codes = [level.detach() for level in features]
        logits = self.answer([*skips, self.moved(codes, labels)])
        return {"supervised": supervised, "features": self.weight * losses.dice_ce(logits, labels)}

    def answer(self, features: list[Tensor]) -> Tensor:
        """Logits ``(B, K, *S)`` of the features of ``encode``."""
        return self.net.final_conv(self.net.decode(features))

    def moved(self, codes: Tensor, labels: Tensor) -> Tensor:
        """The bottleneck ``(B, F, *s)``, each vector moved along the line to its partner."""
        vectors = codes.movedim(1, -1).flatten(0, -2)
        other = vectors[partners(majority(labels, codes.shape[2:]).flatten())]
        sign = -1 if self.extrapolate else 1
        new = vectors + sign * self.degree * (other - vectors)
        return new.view(codes.movedim(1, -1).shape).movedim(-1, 1)


def majority(labels: Tensor, size) -> Tensor:
    """The class ``(B, *s)`` that most annotated pixels of each coarse place have, -1 where none."""
    classes = int(labels.masked_fill(labels == IGNORE, 0).max()) + 1
    pool = F.adaptive_avg_pool2d if labels.ndim == 3 else F.adaptive_avg_pool3d
    shares = pool(one_hot(labels, classes), tuple(size))
    return shares.argmax(1).masked_fill(shares.sum(1) == 0, -1)


def partners(classes: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """For each item of ``classes (N,)`` another one of its class, all of them once.

    The items of a class are put in random order, and each gets the one that follows; the last,
    the first. An item alone in its class is its own partner, and so is one without a class (-1).

    Args:
        classes: integers from -1.
        generator: on the device of ``classes``; by default the global random state.
    """
    draws = torch.rand(
        len(classes), generator=generator, device=classes.device, dtype=torch.float64
    )
    order = (classes + draws).argsort()
    group = classes[order] + 1
    count = group.bincount()
    first = count.cumsum(0) - count
    place = torch.arange(len(order), device=order.device) - first[group]
    following = order[first[group] + (place + 1) % count[group]]
    partner = torch.empty_like(order)
    partner[order] = torch.where(group == 0, order, following)
    return partner
