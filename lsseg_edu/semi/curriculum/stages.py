"""Task curriculum: first where, then what."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.networks import Shape
from lsseg_edu.train import Budget, Fitted, Method, fit


class Localiser(Method):
    """The easy task: is there any organ in this coarse cell?

    Args:
        net: images at ``1 / factor`` of the size to two logits.
        factor: pixels of a cell along a side.
    """

    def __init__(self, net: nn.Module, factor: int = 2):
        super().__init__(net)
        self.factor = factor

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"coarse": ...}``: a cell is organ if most of its known pixels are."""
        images, labels = batch.labelled.images, batch.labelled.labels
        known = (labels != IGNORE).float().unsqueeze(1)
        organ = _pool((labels.unsqueeze(1) > 0) * known, self.factor) / _pool(known, self.factor)
        cells = torch.where(organ.isnan(), IGNORE, (organ >= 0.5).long())[:, 0]
        return {"coarse": losses.dice_ce(self.net(_pool(images, self.factor)), cells)}

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, 2, *S)`` at full size."""
        probs = self.net(_pool(images, self.factor)).float().softmax(1)
        mode = "bilinear" if images.ndim == 4 else "trilinear"
        return F.interpolate(probs, images.shape[2:], mode=mode, align_corners=False)


class CoarseToFine(Method):
    r"""The hard task, with the answer to the easy one before its eyes.

    .. math:: f(x) = f_2\big([x,\ m]\big), \qquad m = f_1(x) \text{, frozen}

    Args:
        net: images with one more channel, ``(B, C + 1, *S)``, to logits ``(B, K, *S)``.
        localiser: stage 1, trained; frozen here.
        informed: ``False`` shows an empty map instead: the control of the same size and steps.
    """

    def __init__(self, net: nn.Module, localiser: Localiser, informed: bool = True):
        super().__init__(net)
        self.localiser, self.informed = localiser.requires_grad_(False), informed

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"supervised": ...}`` on the labelled images."""
        logits = self.net(self.prompted(batch.labelled.images))
        return {"supervised": losses.dice_ce(logits, batch.labelled.labels)}

    @torch.no_grad()
    def prompted(self, images: Tensor) -> Tensor:
        """Images with stage 1's map as a last channel, centred on 0."""
        organ = self.localiser.predict(images)[:, 1:] - 0.5
        return torch.cat([images, organ * self.informed], 1)

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, K, *S)``, through both stages."""
        return self.net(self.prompted(images)).float().softmax(1)


def coarse_to_fine(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    share: float = 0.3,
    factor: int = 2,
    informed: bool = True,
    **kwargs,
) -> Fitted:
    """Train a localiser on small images, then a segmenter that sees its map.

    *Where is anything?* is easier than *what is where?*: two classes instead of K, a quarter of
    the pixels, large shapes. Its answer takes the place of the position in the body that the
    segmenter would have to find out by itself.

    Reference: Roth et al., "Spatial Aggregation of Holistically-Nested Convolutional Neural
    Networks for Automated Pancreas Localization and Segmentation", Medical Image Analysis 2018;
    as a curriculum of tasks: Weinshall, Cohen, Amir, "Curriculum Learning by Transfer Learning",
    ICML 2018.
    Simplified: the map is a soft channel; nothing is cropped, so nothing is lost for good where
    stage 1 is wrong.

    Args:
        task: the problem.
        budget: of both stages together: as many steps as the baseline.
        seed: of weights and draws.
        share: fraction of the steps that stage 1 takes; they are cheaper.
        factor: how much smaller its images are.
        informed: see :class:`CoarseToFine`.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: a stage without steps.
    """
    budget = budget or Budget.auto()
    first = round(share * budget.steps)
    if not 0 < first < budget.steps:
        raise ValueError(
            f"A share of {share} leaves a stage without steps: give a number between 0 and 1."
        )
    cohort = task.train
    small = networks.unet(Shape(cohort.channels, 2, cohort.dims), seed=seed + 1000)
    large = networks.unet(Shape(cohort.channels + 1, cohort.classes, cohort.dims), seed=seed)
    early, late = (replace(budget, steps=n) for n in (first, budget.steps - first))
    coarse = fit(Localiser(small, factor), task, early, seed + 1000, **kwargs)
    fine = fit(CoarseToFine(large, coarse.method, informed), task, late, seed, **kwargs)
    fine.seconds += coarse.seconds
    fine.history = {**coarse.history, **fine.history}
    return fine


def _pool(values: Tensor, factor: int) -> Tensor:
    pool = F.avg_pool2d if values.ndim == 4 else F.avg_pool3d
    return pool(values, factor)
