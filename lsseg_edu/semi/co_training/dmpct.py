"""DMPCT: three planes of a volume label it by vote, and learn again from what they agreed."""

from __future__ import annotations

from lsseg_edu import networks
from lsseg_edu.data import Task
from lsseg_edu.networks import Shape
from lsseg_edu.semi.co_training.agreement import vote
from lsseg_edu.semi.co_training.committee import together
from lsseg_edu.semi.co_training.planes import InPlane, need_volumes
from lsseg_edu.semi.self_training import PseudoLabelled, SelfTrained, hard_labels, with_pseudo
from lsseg_edu.train import Budget, Supervised, fit


def plane_net(task: Task, axis: int, seed: int = 0) -> InPlane:
    """The book's 2D U-Net on the slices of one plane of a 3D task."""
    shape = Shape(task.train.channels, task.train.classes, 2)
    return InPlane(networks.unet(shape, seed=seed), axis)


def multi_planar_co_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 1,
    weight: float = 1.0,
    **kwargs,
) -> SelfTrained:
    r"""A 2D network for each plane; their majority labels the volumes nobody labelled.

    Teachers :math:`f_a`, one for the slices along each axis :math:`a`, learn from the labelled
    volumes. Voxel by voxel the majority of the three makes the pseudo-label, and three students
    start afresh on labels and pseudo-labels together:

    .. math::
        \hat y_i = \mathrm{maj}_a\, \arg\max_k f_a(x_u)_{ik}, \qquad
        \theta'_a = \arg\min_{\theta} L_{sup}\big(f_a(x_l), y\big)
            + w\, L_{sup}\big(f_a(x_u), \hat y\big) .

    The same voxel lies in three slices with other neighbours in each. Where one plane misses the
    context, the two others outvote it; each student learns what its own plane did not show.

    Args:
        task: of volumes, with few labels.
        budget: of each training: three teachers, and three students a round; by default
            :meth:`Budget.auto`. A batch of ``b`` volumes is one of ``b D`` slices.
        seed: of the last students; teachers have others, the three planes too.
        rounds: how often students are trained and become teachers (paper: once).
        weight: ``w``. At 0 the students are three plane networks without unlabelled volumes,
            which is the control.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Returns:
        The last students as a :class:`.Committee` that votes on volumes; ``rounds[0]`` has the
        teachers.

    Raises:
        ValueError: a task of slices, no round, no unlabelled volume.

    Reference: Zhou et al., "Semi-Supervised 3D Abdominal Multi-Organ Segmentation via Deep
    Multi-Planar Co-Training", WACV 2019.
    Simplified: small U-Nets from scratch, where the paper's are pre-trained; all slices of a
    volume in one batch; a tie of the three goes to the largest mean probability.
    """
    need_volumes(task, "Multi-planar co-training")
    if rounds < 1:
        raise ValueError(f"Multi-planar co-training needs at least 1 round, not {rounds}.")
    if len(task.unlabelled) == 0:
        raise ValueError("No volume is left for the vote to label: use Task.keep(labelled=n).")
    budget, images = budget or Budget.auto(), task.train.images[task.unlabelled]

    def train(task, make, number):
        fresh = seed + 1000 * (rounds - number)
        nets = [plane_net(task, axis, fresh + 10_000 * axis) for axis in range(3)]
        fitted = [fit(make(net), task, budget, fresh, **kwargs) for net in nets]
        return together(fitted, vote)

    trained = [train(task, Supervised, 0)]
    for number in range(1, rounds + 1):
        labels = hard_labels(trained[-1].predict(images, batch=8))
        both = with_pseudo(task, task.unlabelled, labels)
        trained.append(train(both, lambda net: PseudoLabelled(net, weight), number))
    return SelfTrained.of(trained)
