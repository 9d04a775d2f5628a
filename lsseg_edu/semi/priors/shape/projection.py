"""Answers projected onto statistical shape models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.semi.priors.shape.outlines import fill, landmarks, present
from lsseg_edu.semi.priors.shape.shapes import one_hot, repaired, shape_set
from lsseg_edu.semi.priors.shape.ssm import ShapeModel
from lsseg_edu.train import Budget, Fitted


class ShapeProjection(nn.Module):
    """Project masks onto shape models, one for each set of organs that a slice can show.

    Near the apex there is no right ventricle, and no outline of one. A mask whose organs were
    never seen together is left with those of them, as many pixels as possible, that were.

    Args:
        labels: ``(M, H, W)`` training shapes.
        classes: ``K``.
        clip: largest coefficient in standard deviations. Cootes takes 3; of 1, 2 and 3, 2 broke
            fewer rules than 3 at the same Dice on validation subjects of the cardiac phantom.
        least: fewest training shapes of a model.
        points, modes: see :meth:`ShapeModel.of`.

    Raises:
        ValueError: no shapes, volumes, or no set of organs that is shown ``least`` times.
    """

    def __init__(
        self, labels: Tensor, classes: int, clip=2.0, least: int = 10, points=32, modes=0.98
    ):
        super().__init__()
        if labels.ndim != 3 or len(labels) == 0:
            raise ValueError(
                f"A shape model learns from slices (M, H, W), at least one, and gets "
                f"{tuple(labels.shape)}."
            )
        masks, self.size = labels.numpy(), tuple(labels.shape[1:])
        self.classes, self.clip = classes, clip
        shown = [present(mask, classes) for mask in masks]
        self.models = {
            organs: ShapeModel.of(group, organs, points, modes)
            for organs in sorted(set(shown) - {()})
            if len(group := [m for m, s in zip(masks, shown, strict=True) if s == organs]) >= least
        }
        if not self.models:
            raise ValueError(f"No set of organs is shown by {least} masks: give more of them.")

    def adjust(self, labels: Tensor) -> Tensor:
        """Masks ``(N, H, W)`` to the nearest masks that the models allow.

        Raises:
            ValueError: masks of another size than the shapes.
        """
        if tuple(labels.shape[1:]) != self.size:
            raise ValueError(
                f"The shapes are {self.size} pixels, the masks {tuple(labels.shape[1:])}: "
                f"resample one to the other."
            )
        masks = [self._one(mask) for mask in labels.cpu().numpy()]
        return torch.from_numpy(np.stack(masks)).to(labels.device)

    def _one(self, mask: np.ndarray) -> np.ndarray:
        shown = set(present(mask, self.classes))
        fitting = [organs for organs in self.models if shown.issuperset(organs)]
        if not fitting:
            return np.zeros_like(mask)
        organs = max(fitting, key=lambda some: np.isin(mask, some).sum())
        model = self.models[organs]
        outlines = landmarks(mask, organs, 4 * model.mean.shape[1])
        return fill(model.project(outlines, self.clip), organs, self.size)

    def forward(self, labels: Tensor) -> Tensor:
        """Hard masks ``(B, H, W)`` to adjusted ones, as probabilities ``(B, K, H, W)``."""
        return one_hot(self.adjust(labels), self.classes)


def ssm_segmentation(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    clip: float = 2.0,
    modes: float = 0.98,
    **kwargs,
) -> Fitted:
    """The baseline, its answers projected onto a statistical shape model of the few masks.

    Args:
        task: the problem, with its few labels; slices.
        budget: of the baseline; by default :meth:`Budget.auto`.
        seed: of the baseline and of the warps that make more shapes.
        clip: see :class:`ShapeProjection`.
        modes: share of the variance that the modes explain.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no complete mask, volumes.
    """
    shapes = shape_set(task, seed=seed)
    return repaired(
        task, ShapeProjection(shapes, task.train.classes, clip, modes=modes), budget, seed, **kwargs
    )
