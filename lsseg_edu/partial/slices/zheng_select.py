"""Annotation sparsification: which planes to outline, before anybody has outlined one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Cohort, Task, annotate
from lsseg_edu.networks.build import build
from lsseg_edu.partial.cover import max_cover
from lsseg_edu.partial.rounds import alternate
from lsseg_edu.partial.slices.completion import completed, with_trust
from lsseg_edu.partial.slices.motion import planes
from lsseg_edu.partial.slices.sparse import SparseSlices
from lsseg_edu.semi.priors.shape.autoencoder import ShapeAutoencoder
from lsseg_edu.semi.self_training import SelfTrained
from lsseg_edu.train import Budget, Fitted, Method, fit

CHOICES = ("cover", "even", "random")


@dataclass
class Chosen(SelfTrained):
    """The trainings, and what the annotator was asked.

    Attributes:
        planes: ``(n, 2)``: volume and plane, in the order in which they were chosen.
        annotation_seconds: estimate of the time that took.
    """

    planes: Tensor | None = None
    annotation_seconds: float = 0.0


class SliceAutoencoder(Method):
    r"""A plane in, a short code, the plane out: what planes have in common, without a label.

    .. math:: L = \frac{1}{|\Omega|} \lVert \Psi(\Phi(x)) - x \rVert^2
    """

    labelled, unlabelled = False, True

    @classmethod
    def for_task(cls, task, seed: int = 0, code: int = 32):
        """For a task of planes, see :func:`plane_task`."""
        size = task.train.labels.shape[1:]
        return cls(build(lambda c, k, d: ShapeAutoencoder(c, size, code), task, seed))

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"reconstruction": mean squared error}``."""
        images = batch.unlabelled.images
        return {"reconstruction": F.mse_loss(self.net(images).float(), images)}

    def predict(self, images: Tensor) -> Tensor:
        """Codes ``(B, code)``, each of length 1: their products are cosines."""
        return F.normalize(self.net.encode(images).float(), dim=1)


def plane_task(task: Task) -> Task:
    """All planes of all training volumes, as a task without a label."""
    volumes = task.train
    images = planes(volumes.images)
    labels = torch.full((len(images), *images.shape[2:]), IGNORE)
    owners = volumes.subjects.repeat_interleave(volumes.labels.shape[1])
    stack = Cohort(images, labels, owners, volumes.names, volumes.spacing[1:], volumes.name)
    return replace(task, train=stack)


def choose_planes(task: Task, count: int, choose: str, budget: Budget, seed: int, **kwargs):
    """``count`` pairs of a volume and a plane, ``(count, 2)``; no label is looked at."""
    volumes, depth = task.train.labels.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    if choose == "random":
        chosen = torch.randperm(volumes * depth, generator=generator)[:count]
    elif choose == "even":
        each = torch.full((volumes,), count // volumes)
        each[torch.randperm(volumes, generator=generator)[: count % volumes]] += 1
        spread = [((torch.arange(n) + 0.5) / n * depth).long() for n in each.tolist()]
        chosen = torch.cat([v * depth + p for v, p in enumerate(spread)])
    else:
        stack, budget = plane_task(task), replace(budget, batch=32)
        coder = fit(SliceAutoencoder.for_task(stack, seed), stack, budget, seed, **kwargs)
        codes = coder.predict(stack.train.images)
        chosen = max_cover((codes @ codes.T).clamp(min=0), count)
    return torch.stack([chosen // depth, chosen % depth], 1)


def representative_slices(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    count: int = 32,
    choose: str = "cover",
    rounds: int = 2,
    **kwargs,
) -> Chosen:
    r"""Ask for the planes that represent all others; train on them; label the rest.

    1. An autoencoder learns to redraw planes. Its codes say which of them look alike.
    2. :func:`.max_cover` chooses ``count`` planes, influential and diverse, from all volumes
       together. The annotator outlines these, and no others.
    3. A 3D network is trained on the labelled planes, labels the rest of *all* volumes, each voxel
       weighted by its certainty, :func:`.completed`, and goes on with these labels.

    Reference: Zheng H., Zhang, Yang, Wang, Chen, "An Annotation Sparsification Strategy for 3D
    Medical Image Segmentation via Representative Selection and Self-Training", AAAI 2020.
    Simplified: planes across one axis; pseudo-labels by the 3D network itself instead of an
    ensemble of networks for three views; one greedy choice from all planes.

    Args:
        task: volumes without labels and their annotator, see :func:`unannotated`.
        budget: of all trainings of the 3D network together; the autoencoder has as many steps.
        seed: of weights and draws.
        count: planes to be outlined.
        choose: ``"cover"``; the controls are ``"even"``, equally spaced and as many in every
            volume, and ``"random"``.
        rounds: trainings; 1 is without pseudo-labels.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: nobody to ask, labels that are there already, an unknown choice, more planes
            than there are; a class that no chosen plane shows; no round.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> from lsseg_edu.partial.slices import unannotated
        >>> task = unannotated(Task.split(load("brain", 32, dims=3)), volumes=8)
        >>> fitted = representative_slices(task, choose="even")  # doctest: +SKIP
    """
    check(task, count, choose)
    budget = budget or Budget.auto()
    chosen = choose_planes(task, count, choose, budget, seed, **kwargs)
    task = annotate.unaided(annotate.ask(task, chosen.unbind(1)))
    images, given, everybody = task.train.images, task.train.labels, torch.arange(len(task.train))

    def teach(last: Fitted | None) -> Task:
        if last is None:
            return task
        return with_trust(task, everybody, *completed(given, last.predict(images)))

    def make(net) -> SparseSlices:
        return SparseSlices(net or networks.unet(task, seed=seed))

    result = Chosen(**vars(alternate(teach, make, budget, seed, rounds, **kwargs)))
    result.planes, result.annotation_seconds = chosen, task.seconds
    return result


def check(task: Task, count: int, choose: str) -> None:
    """Raise unless there are volumes without labels, enough planes, and somebody to ask."""
    if task.train.dims != 3:
        raise ValueError(f"Planes are chosen from volumes, and {task.train.name!r} has slices.")
    if "annotator" not in task.train.extras:
        raise ValueError("Nobody can be asked: make the task with unannotated().")
    if len(task.labelled):
        raise ValueError("Planes are chosen before there is a label, and this task has some.")
    if choose not in CHOICES:
        raise ValueError(f"Unknown choice {choose!r}: it is one of {', '.join(CHOICES)}.")
    volumes, depth = task.train.labels.shape[:2]
    if not 1 <= count <= volumes * depth:
        raise ValueError(
            f"{count} planes cannot be chosen from the {volumes * depth} of {volumes} volumes."
        )
