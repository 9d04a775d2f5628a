"""Concentric loss: sure inside a small circle, sure outside a large one, silent in the ring."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.partial.points.clicked import class_of, clicked, nearest, taught
from lsseg_edu.partial.regions import PartialCrossEntropy
from lsseg_edu.train import Budget, Fitted, fit


def concentric_labels(points: Tensor, size, inner: float = 2.0, outer: float = 6.0) -> Tensor:
    r"""Two circles about each click make three kinds of pixels.

    .. math::
        y_i = \begin{cases} c(i) & d_i \le r \\ \text{ignored} & r < d_i \le R \\
              0 & d_i > R \end{cases}

    ``d`` is the distance to the nearest click on an object, and ``c`` its class. So a pixel in
    the ring of one object and in the inner circle of another is labelled.

    Args:
        points: ``(B, M, 1 + dims)``, of **all** objects: what nobody clicked on is background here.
        size: ``*S``.
        inner: ``r`` in pixels: less than the radius of the smallest object.
        outer: ``R`` in pixels: more than that of the largest.

    Returns:
        ``(B, *S)``; all 0 in an image without an object.

    Raises:
        ValueError: circles that are not one in the other.
    """
    if not 0 <= inner < outer:
        raise ValueError(f"The ring lies between 0 <= inner < outer, not {inner} and {outer}.")
    distance, owner = nearest(points, size)
    labels = torch.full_like(owner, IGNORE)
    labels[distance > outer] = 0
    return class_of(points, owner).where(distance <= inner, labels)


def concentric_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    inner: float = 2.0,
    outer: float = 6.0,
    **kwargs,
) -> Fitted:
    r"""Cross-entropy inside the inner circles and outside the outer ones.

    .. math:: L = -\frac{1}{|\Omega_{in} \cup \Omega_{out}|}
                  \sum_{i \in \Omega_{in} \cup \Omega_{out}} \ln p_{y_i}(i)

    Reference: Li C., Wang, Liu, Latecki, Wang B., Huang, "Weakly Supervised Mitosis Detection in
    Breast Histopathology Images Using Concentric Loss", Medical Image Analysis 2019 (SegMitos).
    Simplified: the book's U-Net; several classes; a pixel belongs to the nearest click.

    Args:
        task: made by ``annotate.points``, all objects clicked. Clicks on the background are not
            used: the outside of the circles is more of it.
        budget, seed, kwargs: as for :func:`~lsseg_edu.train.fit`.
        inner, outer: see :func:`concentric_labels`. The paper's circles fit mitoses; these, in
            pixels of 1 micrometre, nuclei of 5 to 12 micrometres. ``inner=5, outer=5.01`` has no
            ring: the control.

    Raises:
        ValueError: those of :func:`.clicked` and :func:`concentric_labels`.
    """
    labels = concentric_labels(clicked(task), task.train.labels.shape[1:], inner, outer)
    method = PartialCrossEntropy.for_task(task, seed)
    return fit(method, taught(task, labels), budget, seed, **kwargs)
