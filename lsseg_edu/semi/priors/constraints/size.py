"""Size constraint: an organ is neither as large as the image nor three pixels small."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.priors.constraints.constrained import Constrained


class SizeConstraint(Constrained):
    r"""The predicted size of each class must lie between bounds; what is outside costs its square.

    The size of a soft answer is a sum, and a sum has a gradient at every pixel:

    .. math::
        V_k = \frac{1}{|\Omega|}\sum_i p_k(i), \qquad
        C = \frac{1}{K-1} \sum_{k \ge 1} \Big(\frac{(a_k - V_k)_+ + (V_k - b_k)_+}{s_k}\Big)^2 .

    Bounds :math:`a \le b` come from a prior: the smallest and largest size in the labelled masks.
    **Image tags** (which classes does this image show?) sharpen them, where there are some: a class
    that is absent has the bounds 0 and 0, and one that is present may not vanish.

    Reference: Pathak, Krahenbuhl, Darrell, "Constrained Convolutional Neural Networks for Weakly
    Supervised Segmentation", ICCV 2015; Kervadec et al., "Constrained-CNN Losses for Weakly
    Supervised Segmentation", Medical Image Analysis 2019, whose penalty this is.
    Simplified: sizes are counted in units of :math:`s_k`, the largest size of the class, so that
    one weight serves small organs and large ones; the paper counts pixels.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        bounds: ``(K, 2)``: smallest and largest share of the image, see :func:`size_bounds`.
        weight: largest weight. The paper's 0.01 is for squared pixels.
        ramp: fraction of training over which it rises.

    Raises:
        ValueError: bounds that are crossed, negative, or not ``(K, 2)``.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> from lsseg_edu.train import Budget, fit
        >>> task = Task.split(load("cardiac"), labelled=3)
        >>> fitted = fit(SizeConstraint.for_task(task), task, Budget.named("smoke"), progress=False)
        >>> sorted(fitted.history)
        ['constraint', 'supervised']
    """

    def __init__(self, net: nn.Module, bounds: Tensor, weight: float = 0.3, ramp: float = 0.4):
        super().__init__(net, weight, ramp)
        bounds = torch.as_tensor(bounds, dtype=torch.float32)
        check_bounds(bounds)
        self.register_buffer("bounds", bounds)

    @classmethod
    def for_task(cls, task, seed: int = 0, slack: float = 0.25, **options) -> SizeConstraint:
        """With the bounds of the labelled masks, widened by ``slack``.

        The slack covers what augmentation does to a size: 0.12 in the logarithm of a length is
        0.24 in that of an area.
        """
        labels = task.train.labels[task.labelled]
        shown = "tags" in task.train.extras
        bounds = size_bounds(labels, task.train.classes, slack, shown)
        return super().for_task(task, seed, bounds=bounds, **options)

    def penalty(self, probs: Tensor, batch) -> Tensor:
        """Squared violation, relative to the class's largest size."""
        low, high = self.bounds.T
        scale = high[1:]
        if "tags" in batch.unlabelled.extras:
            halves = (batch.labelled, batch.unlabelled)
            tags = torch.cat([half.extras["tags"] for half in halves]).to(probs)
            low, high = low * tags, high * tags
        return size_penalty(probs[:, 1:], low[..., 1:], high[..., 1:], scale)


def size_penalty(probs: Tensor, low: Tensor, high: Tensor, scale: Tensor) -> Tensor:
    """Mean over images and classes of the squared violation of ``low <= size <= high``.

    Args:
        probs: ``(B, K', *S)`` of the classes that are constrained.
        low: ``(K',)`` or ``(B, K')``, shares of the image.
        high: likewise.
        scale: ``(K',)`` or ``(B, K')``: the violation that costs 1.
    """
    size = probs.flatten(2).mean(2)
    outside = (low - size).relu() + (size - high).relu()
    return (outside / scale).square().mean()


def size_bounds(labels: Tensor, classes: int, slack: float = 0.0, shown: bool = False) -> Tensor:
    """Smallest and largest share of the image of each class, ``(K, 2)``, in whole masks.

    Args:
        labels: ``(N, *S)`` without IGNORE.
        classes: ``K``.
        slack: the lower bounds are multiplied by ``1 - slack``, the upper by ``1 + slack``.
        shown: take the smallest size over images that show the class; else an image without it
            makes the bound 0.

    Raises:
        ValueError: no complete mask; a class that no image shows.
    """
    whole = labels[(labels != IGNORE).flatten(1).all(1)]
    if len(whole) == 0:
        raise ValueError("Sizes can only be read off complete masks, and there are none.")
    share = torch.stack([(whole == k).flatten(1).double().mean(1) for k in range(classes)], 1)
    if not (share > 0).any(0).all():
        raise ValueError("A class that no labelled image shows has no size: give its bounds.")
    smallest = share.where(share > 0, 1.0).amin(0) if shown else share.amin(0)
    bounds = torch.stack([smallest * (1 - slack), share.amax(0) * (1 + slack)], 1)
    return bounds.clamp(max=1).float()


def check_bounds(bounds: Tensor) -> None:
    """Raise unless these are ``(K, 2)`` bounds, lower before upper, with room for each class."""
    if bounds.ndim != 2 or bounds.shape[1] != 2:
        raise ValueError(f"Bounds are (K, 2): low and high of each class, not {bounds.shape}.")
    low, high = bounds.T
    if bool((low > high).any() or (low < 0).any() or (high <= 0).any()):
        k = int(((low > high) | (low < 0) | (high <= 0)).nonzero()[0])
        raise ValueError(
            f"The size bounds of class {k} are crossed or negative, {low[k]:.3g} and "
            f"{high[k]:.3g}: give 0 <= low <= high, and high > 0."
        )


def tagged(task: Task, masks: Tensor) -> Task:
    """The task with **image tags**: ``extras["tags"] (N, K)``, which classes each image shows.

    Tags are an annotation: somebody must look at every training image, and say what is there.

    Args:
        task: the problem.
        masks: ``(N, *S)`` complete masks of ``task.train``, which the annotator of the tags sees.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> full = Task.split(load("cardiac"))
        >>> task = tagged(full.keep(labelled=3), full.train.labels)
        >>> task.train.extras["tags"].shape
        torch.Size([840, 4])
    """
    classes = range(task.train.classes)
    tags = torch.stack([(masks == k).flatten(1).any(1) for k in classes], 1)
    return task.supervise(task.train.labels, task.supervision + " + tags", tags=tags)
