"""Mutual-information clustering: groups of pixels that survive a transformation."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.augment import Augment
from lsseg_edu.networks.blocks import project
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.consistency.transforms import Dihedral
from lsseg_edu.train import Method


class MIClustering(Method):
    r"""A second head sorts pixels into clusters that a change of the image must not change.

    The head gives every pixel a distribution :math:`\phi` over ``C`` clusters, more than there are
    classes. With ``T`` a turn or mirror with other intensities, the assignments before and after
    it, at pixels ``u`` apart, have the joint distribution

    .. math::
        P^u_{cc'} = \frac{1}{|\Omega|} \sum_i \phi(x)_{ic}\;
            \big(T^{-1}\phi(Tx)\big)_{i+u,\,c'} , \qquad
        I(P) = \sum_{cc'} P_{cc'} \ln \frac{P_{cc'}}{P_c\, P_{c'}} ,

    .. math::
        L = L_{sup} - w(t)\, \lambda\, \frac{1}{|U|} \sum_{u \in U} I(P^u)
            + w(t)\, \mu\, \overline{\big(f(x) - T^{-1} f(Tx)\big)^2} .

    ``U`` holds 0 and the neighbours. As either image might have come first, :math:`P` is replaced
    by :math:`(P + P^\top)/2`, as by Ji et al. :math:`I` is large if one assignment predicts the
    other **and** all clusters are used: at most :math:`\ln C`, at constant answers 0. So this
    consistency cannot be bought with "background everywhere". Cluster numbers have no meaning;
    the last term aligns the classes, which have.

    Reference: Peng, Pedersoli, Desrosiers, "Mutual information deep regularization for
    semi-supervised segmentation", MIDL 2020; the loss is that of Ji, Henriques, Vedaldi,
    "Invariant Information Clustering", ICCV 2019.
    Simplified: one head on the last decoder features; a ramped weight.

    Args:
        net: with ``encode``, ``decode`` and ``widths``, as the book's U-Net.
        dims: 2 or 3.
        clusters: ``C``. Most pixels are background; equally used clusters must split it.
        weight: :math:`\lambda`.
        align: :math:`\mu`.
        radius: neighbours are at most so many pixels away on each axis.
        ramp: fraction of training over which ``w`` rises.
    """

    unlabelled = True

    def __init__(
        self, net, dims: int, clusters=20, weight=0.1, align=1.0, radius: int = 1, ramp=0.4
    ):
        super().__init__(net)
        self.head = project(dims, net.widths[0], clusters)
        self.weight, self.align, self.radius, self.ramp = weight, align, radius, ramp
        self.paint = Augment.strong()

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> MIClustering:
        """On the book's U-Net; the head's weights are drawn by ``seed`` too."""
        from lsseg_edu import networks

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(networks.unet(task, seed=seed), task.train.dims, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``; ``information`` (negative) and ``alignment``, already weighted."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        images = batch.unlabelled.images
        view = Dihedral.draw(images)
        clusters, classes = self.answers(images)
        moved = self.answers(view(self.paint.repaint(images, None)))
        again, same = map(view.inverse, moved)
        ramp = sigmoid_rampup(batch.progress, self.ramp)
        return {
            "supervised": supervised,
            "information": -ramp * self.weight * local_information(clusters, again, self.radius),
            "alignment": ramp * self.align * (classes - same).square().mean(),
        }

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Cluster and class probabilities ``(B, C, *S)`` and ``(B, K, *S)`` of one pass."""
        features = self.net.decode(self.net.encode(images))
        logits = self.head(features), self.net.final_conv(features)
        return logits[0].float().softmax(1), logits[1].float().softmax(1)


def local_information(first: Tensor, second: Tensor, radius: int = 1) -> Tensor:
    """Mean over all offsets of at most ``radius`` of the mutual information of two assignments.

    Args:
        first: ``(B, C, *S)`` probabilities.
        second: likewise; its pixel ``i + u`` is paired with pixel ``i`` of ``first``. Pairs that
            reach out of the image do not count.
        radius: 0 compares each pixel with itself only.
    """
    values = []
    for offset in product(range(-radius, radius + 1), repeat=first.ndim - 2):
        here = (..., *(slice(max(0, -u), min(0, -u) or None) for u in offset))
        there = (..., *(slice(max(0, u), min(0, u) or None) for u in offset))
        values.append(mutual_information(joint(first[here], second[there])))
    return torch.stack(values).mean()


def joint(first: Tensor, second: Tensor) -> Tensor:
    """Joint distribution ``(C, C)`` of two assignments ``(B, C, *S)``, made symmetric."""
    rows, columns = (values.transpose(0, 1).flatten(1) for values in (first, second))
    table = rows @ columns.T / rows.shape[1]
    return (table + table.T) / 2


def mutual_information(table: Tensor, eps: float = 1e-12) -> Tensor:
    """Mutual information in nats of a joint distribution ``(C, C)``."""
    table = table.clamp(min=eps)
    independent = table.sum(1, keepdim=True) * table.sum(0, keepdim=True)
    return (table * (table.log() - independent.log())).sum()
