"""Persistent homology: count components and holes at every threshold at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.evaluate.topology import betti_numbers
from lsseg_edu.semi.priors.constraints.constrained import Constrained

AXES = ((-1, 0), (0, -1), (0, 1), (1, 0))
ALL = (*AXES, (-1, -1), (-1, 1), (1, -1), (1, 1))


class Bars(NamedTuple):
    """Features of a map: each is there between the value of one pixel and that of another.

    Attributes:
        birth: ``(M,)`` flat index of the pixel whose value is the threshold of birth.
        death: ``(M,)`` likewise of death; -1 for what never dies (its value counts as 0).
    """

    birth: Tensor
    death: Tensor

    def lengths(self, values: Tensor) -> Tensor:
        """Persistence ``(M,)`` in the map ``values (H, W)``: birth minus death, with gradient."""
        flat = torch.cat([values.flatten(), values.new_zeros(1)])
        return flat[self.birth] - flat[self.death]


class Homology(Constrained):
    r"""The number of components and holes of an organ is known: make the answer have it.

    Lower a threshold from 1 to 0 over the map ``p`` of a class. Components and holes appear (birth
    ``b``) and vanish (death ``d``). Of the bars of each dimension, sorted by length, as many as
    anatomy demands should have length 1, the others length 0:

    .. math::
        C = \sum_{q \in \{0, 1\}} \Big( \sum_{j \le \beta_q} (1 - (b_j - d_j)^2)
            + \sum_{j > \beta_q} (b_j - d_j)^2 \Big)

    Births and deaths are values of single pixels, and there the gradient goes: to the weakest
    link of a broken ring. It acts on unlabelled images in which the network sees the class at all.

    Reference: Clough et al., "A Topological Loss Function for Deep-Learning Based Image
    Segmentation Using Persistent Homology", IEEE TPAMI 2022.
    Simplified: on maps averaged to a small grid, during the training instead of after it; a class
    that the network does not see is left alone. 2D.

    Args:
        net: images ``(B, C, H, W)`` to logits.
        betti: ``{class: (components, holes)}``, see :func:`betti_prior`.
        weight: largest weight.
        ramp: fraction of training over which it rises.
        grid: pixels along a side of the map; the time grows with its square.
        seen: share of the image that the class must have in the answer to be constrained.

    Raises:
        ValueError: no class with a known topology.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> Homology.for_task(Task.split(load("cardiac"), labelled=3)).betti[2]  # a ring
        (1, 1)
    """

    def __init__(
        self, net: nn.Module, betti, weight: float = 0.05, ramp=0.4, grid: int = 32, seen=0.01
    ):
        super().__init__(net, weight, ramp)
        if not betti:
            raise ValueError(
                "No class has a known topology: give betti={class: (components, holes)}."
            )
        self.betti, self.grid, self.seen = dict(betti), grid, seen

    @classmethod
    def for_task(cls, task, seed: int = 0, betti=None, **options):
        """With the Betti numbers on which the labelled masks agree, unless others are given."""
        betti = betti or betti_prior(task.train.labels[task.labelled], task.train.classes)
        return super().for_task(task, seed, betti=betti, **options)

    def penalty(self, probs: Tensor, batch) -> Tensor:
        """Mean over the unlabelled images and classes that are seen."""
        probs = probs[-len(batch.unlabelled.images) :]
        small = F.adaptive_avg_pool2d(probs, min(self.grid, *probs.shape[2:]))
        terms = [
            topology_loss(small[n, k], beta)
            for k, beta in self.betti.items()
            for n in (probs[:, k].mean((1, 2)) > self.seen).nonzero()[:, 0].tolist()
        ]
        return torch.stack(terms).mean() if terms else probs.sum() * 0


def topology_loss(values: Tensor, betti) -> Tensor:
    """How far the bars of a map ``(H, W)`` are from ``betti = (components, holes)``."""
    terms = []
    for bars, beta in zip(barcode(values), betti, strict=True):
        lengths = bars.lengths(values).sort(descending=True).values.square()
        terms.append(beta - lengths[:beta].sum() + lengths[beta:].sum())
    return sum(terms)


def barcode(values: Tensor) -> tuple[Bars, Bars]:
    """Components and holes of the sets where ``values (H, W)`` exceeds a falling threshold.

    A hole is a component of the complement that the outside does not reach. So both come of one
    procedure: the second time upside down, in a frame that is there from the start. Pixels of the
    set that touch at a corner are connected; pixels of the complement are not.
    """
    height, width = values.shape
    down = values.detach().double().cpu()
    birth, death = _merge(down, ALL)
    components = Bars(torch.cat([birth, down.argmax()[None]]), torch.cat([death, -_one()]))
    framed = F.pad(-down, (1, 1, 1, 1), value=float("inf"))
    bottom, saddle = (_unframe(index, width) for index in _merge(framed, AXES))
    return components, Bars(saddle, bottom)


def _merge(values: Tensor, neighbours) -> tuple[Tensor, Tensor]:
    """Where each component but the oldest is born, and where it joins an older one."""
    height, width = values.shape
    order = values.flatten().argsort(descending=True, stable=True).tolist()
    age, root, pairs = {i: n for n, i in enumerate(order)}, {}, []
    for i in order:
        root[i] = i
        y, x = divmod(i, width)
        for dy, dx in neighbours:
            inside = 0 <= y + dy < height and 0 <= x + dx < width
            if not inside or (j := i + dy * width + dx) not in root:
                continue
            old, young = sorted((_find(root, i), _find(root, j)), key=age.get)
            if old != young:  # the elder lives on
                root[young] = old
                pairs += [(young, i)] if young != i else []
    return tuple(torch.tensor(pairs, dtype=torch.long).view(-1, 2).T)


def _find(root: dict, i: int) -> int:
    """The eldest of the component of pixel ``i``; the way there is shortened."""
    while root[i] != i:
        root[i] = i = root[root[i]]
    return i


def _unframe(index: Tensor, width: int) -> Tensor:
    """Flat index in the image of a pixel of the framed image."""
    return (index // (width + 2) - 1) * width + index % (width + 2) - 1


def _one() -> Tensor:
    return torch.ones(1, dtype=torch.long)


def betti_prior(labels: Tensor, classes: int, agree: float = 0.8) -> dict[int, tuple[int, int]]:
    """``{class: (components, holes)}`` on which a share ``agree`` of the masks that show it agree.

    Args:
        labels: ``(N, H, W)`` of labelled images.
        classes: ``K``.
        agree: smallest share; below it, the class has no topology to speak of.
    """
    prior = {}
    for k in range(1, classes):
        masks = [mask for mask in labels == k if mask.any()]
        counts = [tuple(betti_numbers(mask)) for mask in masks]
        usual = max(set(counts), key=counts.count, default=None)
        if usual and counts.count(usual) >= agree * len(counts):
            prior[k] = usual
    return prior
