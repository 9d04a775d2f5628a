"""Label propagation: a carried label counts less, the further it has come."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.partial.slices.completion import completed, need_planes, with_trust
from lsseg_edu.partial.slices.motion import plane_motion, propagate
from lsseg_edu.partial.slices.sparse import SparseSlices
from lsseg_edu.train import Budget, Fitted, fit


def decay(distance: Tensor, rate: float) -> Tensor:
    r"""The weight :math:`e^{-r d}` of a label that was carried over ``d`` planes."""
    return torch.exp(-rate * distance)


def propagated(task: Task, rate: float) -> Task:
    """The labelled volumes, completed by registration; weights fall off with the distance."""
    index = task.labelled
    given = task.train.labels[index]
    motion = plane_motion(task.train.images[index])
    soft, distance = propagate(given, task.train.classes, motion)
    weights = decay(distance, rate)[..., None, None].expand_as(given)
    return with_trust(task, index, *completed(given, soft, weights))


def propagated_training(
    task: Task, budget: Budget | None = None, seed: int = 0, rate: float = 0.1, **kwargs
) -> Fitted:
    r"""Registration labels the planes in between, and the loss trusts them by their distance.

    .. math::
        L = \frac{\sum_z \sum_{i \in z} w_z\, \ell\big(f_\theta(x)_i, \hat y_i\big)}
                 {\sum_z \sum_{i \in z} w_z}, \qquad
        w_z = e^{-r\, d(z)}, \qquad d(z) = \min_{s \text{ labelled}} |z - s| .

    Neighbouring planes are registered, :func:`.plane_motion`, and labels handed on from plane to
    plane, :func:`.propagate`. Errors of the registrations add up on the way: hence the weights.
    A labelled plane has weight 1. With :math:`r \to \infty` nothing is left but
    :class:`.SparseSlices`.

    Reference: Bai, Suzuki, Qin, Tarroni, Oktay, Matthews, Rueckert, "Recurrent Neural Networks
    for Aortic Image Sequence Segmentation with Sparse Annotations", MICCAI 2018.
    Simplified: planes of a volume instead of frames of a beating aorta, so a 3D U-Net instead of
    a 2D one with a recurrent layer; both neighbours speak, not the nearest alone.

    Args:
        task: volumes with some labelled planes.
        budget: by default :meth:`Budget.auto`.
        seed: of weights and draws, those of the baseline.
        rate: :math:`r` for each plane. At 0.1 a label that has come over ten planes still counts
            a third; 0 trusts all alike, the control.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: a negative rate, slices instead of volumes, a labelled volume without a whole
            labelled plane.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.slices(Task.split(load("brain", 32, dims=3), labelled=8), every=8)
        >>> fitted = propagated_training(task)  # doctest: +SKIP
    """
    if rate < 0:
        raise ValueError(
            f"Labels cannot become surer with the distance: rate is {rate}, give >= 0."
        )
    need_planes(task)
    return fit(SparseSlices.for_task(task, seed), propagated(task, rate), budget, seed, **kwargs)
