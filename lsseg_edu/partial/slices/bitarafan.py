"""One slice a volume: registration starts, then network and registration label in turn."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu import networks
from lsseg_edu.augment import displaced, warp
from lsseg_edu.data import Task
from lsseg_edu.partial.rounds import alternate
from lsseg_edu.partial.slices.completion import completed, need_planes, with_trust
from lsseg_edu.partial.slices.motion import Motion, plane_motion, planes, propagate
from lsseg_edu.partial.slices.sparse import SparseSlices
from lsseg_edu.semi.self_training import SelfTrained
from lsseg_edu.train import Budget, Fitted


def handed_on(probs: Tensor, motion: Motion) -> Tensor:
    r"""Every plane's answer, averaged with those that its neighbours hand on.

    .. math:: q_i = \tfrac13 \big(p_i + p_{i-1} \circ \phi_{i-1 \to i}
                                  + p_{i+1} \circ \phi_{i+1 \to i}\big)

    (Two thirds at the ends.) What a plane says alone, and both neighbours deny, is outvoted.

    Args:
        probs: ``(B, K, D, H, W)``.
        motion: of :func:`.plane_motion`.
    """
    total, votes = probs.clone(), torch.ones_like(probs[:, :1])
    from_below = carried(probs[:, :, :-1], motion.up)
    from_above = carried(probs[:, :, 1:], motion.down)
    for part, there in ((from_below, slice(1, None)), (from_above, slice(None, -1))):
        total[:, :, there] += part
        votes[:, :, there] += 1
    return total / votes


def carried(probs: Tensor, displacement: Tensor) -> Tensor:
    """Each plane of ``(B, K, D, H, W)``, moved by its ``(B, D, H, W, 2)``."""
    moved = warp(planes(probs), displaced(displacement.flatten(0, 1)))
    return moved.unflatten(0, (len(probs), -1)).movedim(1, 2)


def one_slice_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 3,
    register: bool = True,
    **kwargs,
) -> SelfTrained:
    r"""Grow one labelled plane to a volume, and let two teachers mend each other's work.

    1. Neighbouring planes are registered, and the label of the one plane travels to both ends,
       :func:`.propagate`. A 3D network is trained on the result.
    2. The network answers for the same volumes. Its answer in every plane is averaged with what
       the registrations hand on from the two neighbours, :func:`handed_on`; the labelled plane
       stays as it was. The network goes on with these labels. And again.

    The network has seen many subjects and knows what a class looks like far away from its
    labelled plane, where registration has drifted. Registration knows that neighbours belong
    together, which the network has to guess.

    Reference: Bitarafan, Nikdan, Baghshah, "3D Image Segmentation With Sparse Annotation by
    Self-Training and Internal Registration", IEEE Journal of Biomedical and Health Informatics
    2021.
    Simplified: planes are registered once, by free-form deformations; every plane hears from its
    two neighbours alone, with equal votes.

    Args:
        task: volumes with one labelled plane (more do no harm).
        budget: of all rounds together; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        rounds: trainings, each on labels made anew.
        register: False leaves registration out after the first round, and has the network
            alone as its teacher: the control.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: slices instead of volumes, a labelled volume without a whole labelled plane;
            no round.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> task = annotate.slices(Task.split(load("cardiac", 32, dims=3), labelled=8), count=1)
        >>> fitted = one_slice_training(task)  # doctest: +SKIP
    """
    need_planes(task)
    index = task.labelled
    images, given = task.train.images[index], task.train.labels[index]
    motion = plane_motion(images)

    def teach(last: Fitted | None) -> Task:
        if last is None:
            soft, _ = propagate(given, task.train.classes, motion)
        else:
            soft = last.predict(images)
            soft = handed_on(soft, motion) if register else soft
        return with_trust(task, index, *completed(given, soft, torch.ones(given.shape)))

    def make(net) -> SparseSlices:
        return SparseSlices(net or networks.unet(task, seed=seed))

    return alternate(teach, make, budget, seed, rounds, **kwargs)
