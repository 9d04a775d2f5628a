"""Labels by deformable registration, trusted where the images agree."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.semi.priors.atlas.propagation import last_of, local_correlation, registered
from lsseg_edu.semi.priors.atlas.soft import SoftLabelled, with_soft
from lsseg_edu.semi.priors.registration import Registration
from lsseg_edu.train import Budget, Fitted, fit


@torch.no_grad()
def trust(registration: Registration, images: Tensor) -> tuple[Tensor, Tensor]:
    r"""Propagated masks and where to believe them.

    .. math:: c_i = \max(\rho_i, 0)\, \max_k q_{ik}

    with the local correlation :math:`\rho` of the moved atlas and the image: where the two still
    differ after registration, the labels have no reason to fit.

    Args:
        registration: trained.
        images: ``(B, C, *S)``, on its device.

    Returns:
        Soft masks ``(B, K, *S)`` and trust ``(B, *S)`` in [0, 1].
    """
    index = registration.atlas.match(images)
    moving = registration.atlas.images[index]
    velocity = registration.net(moving, images)
    masks = registration.move(registration.atlas.one_hot(index), velocity)
    alike = local_correlation(registration.move(moving, velocity), images).clamp(min=0)
    return masks, alike * masks.amax(1)


def deformable_pseudo_labels(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    weight: float = 1.0,
    weighted: bool = True,
    **kwargs,
) -> Fitted:
    r"""Register the atlas to every unlabelled image, then train a segmenter on what it says.

    .. math::
        L = L_{sup}(f_\theta(x_l), y_l)
          + w\, \frac{\sum_i c_i \big(-\sum_k q_{ik} \log f_\theta(x_u)_{ik}\big)}{\sum_i c_i}

    The segmenter can become better than the registration that taught it: it sees many images,
    and the errors of registration, unlike the organs, look different in each.

    Args:
        task: the problem, with its few labels.
        budget: of the registration, and of the segmenter.
        seed: of weights and draws; the segmenter has those of the baseline.
        weight: ``w``; at 0 the segmenter is the baseline.
        weighted: whether pixels count by :func:`trust`; if not, all alike, which is the control.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Reference: Chi, Ma, Wu, Chen, Lu, Gu, "Deep learning-based medical image segmentation with
    limited labels", Physics in Medicine & Biology 2020.
    Simplified: registration with a network; trust from local correlation.
    """
    budget, images = budget or Budget.auto(), task.train.images[task.unlabelled]
    first = registered(task, budget, seed, **kwargs)
    method = first.method.eval()
    where = method.atlas.images.device
    pairs = [[x.cpu() for x in trust(method, part.to(where))] for part in images.split(64)]
    masks, belief = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    taught = with_soft(task, masks, belief if weighted else None)
    second = fit(SoftLabelled.for_task(task, seed, weight=weight), taught, budget, seed, **kwargs)
    return last_of([first, second])
