"""Dice, HD95 and ASSD per subject and class."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort
from lsseg_edu.evaluate.calibration import expected_calibration_error


@dataclass(frozen=True)
class Report:
    """Scores of ``n`` subjects on ``K - 1`` classes (the background is not a class to score).

    Attributes:
        dice: ``(n, K-1)`` in [0, 1], pooled over all slices of a subject; NaN where neither the
            mask nor the prediction has the class.
        hd95: ``(n, K-1)`` 95th percentile of the surface distances, in the cohort's unit; NaN
            where the mask or the prediction is empty, never 0.
        assd: ``(n, K-1)`` average symmetric surface distance, likewise.
        empty: ``(n, K-1)`` items (slices or volumes) where just one of mask and prediction is
            empty: distances cannot see these, so they are counted apart.
        subjects: the ``n`` subjects.
        names: the ``K - 1`` class names.
        unit: of the distances.
        ece: expected calibration error over all pixels; NaN where only classes were given.
    """

    dice: np.ndarray
    hd95: np.ndarray
    assd: np.ndarray
    empty: np.ndarray
    subjects: np.ndarray
    names: tuple[str, ...]
    unit: str
    ece: float = float("nan")

    @property
    def mean_dice(self) -> float:
        """Mean over classes, then over subjects: one number to compare methods by."""
        return float(self.per_subject.mean())

    @property
    def per_subject(self) -> np.ndarray:
        """``(n,)`` mean foreground Dice of each subject that has or was given any foreground."""
        seen = ~np.isnan(self.dice).all(1)
        return np.nanmean(self.dice[seen], axis=1)

    @property
    def mean_hd95(self) -> float:
        """Mean HD95 over the classes and subjects where it exists."""
        return float(np.nanmean(self.hd95)) if np.isfinite(self.hd95).any() else float("nan")

    def __repr__(self) -> str:
        lines = [f"{'class':<20} {'Dice':>6} {'HD95':>7} {'ASSD':>7} ({self.unit})  one empty"]
        for k, name in enumerate(self.names):
            dice, hd95, assd = (_nanmean(m[:, k]) for m in (self.dice, self.hd95, self.assd))
            empty = self.empty[:, k].sum()
            lines.append(f"{name:<20} {dice:6.3f} {hd95:7.2f} {assd:7.2f} {empty:>13}")
        lines.append(f"{'mean of ' + str(len(self.dice)) + ' subjects':<20} {self.mean_dice:6.3f}")
        return "\n".join(lines)


def evaluate(fitted, cohort: Cohort, surfaces: bool = True) -> Report:
    """Predict a cohort and score it: ``evaluate(fitted, task.test)``.

    Args:
        fitted: anything whose ``predict(images)`` gives probabilities ``(N, K, *S)``.
        cohort: images with full masks.
        surfaces: also measure the distances (the slower half).
    """
    probs = fitted.predict(cohort.images)
    report = score(probs.argmax(1), cohort, surfaces)
    return replace(report, ece=expected_calibration_error(probs.cpu(), cohort.labels.cpu()))


def score(predicted: Tensor, cohort: Cohort, surfaces: bool = True) -> Report:
    """Score predicted classes ``(N, *S)`` against a cohort's masks.

    Dice is pooled over the items of a subject (the "3D Dice" of a stack of slices), so a subject
    counts once however many slices it has. Surface distances are taken item by item, in the
    plane for slices and in space for volumes, and averaged over a subject's items.

    Raises:
        ValueError: the prediction's shape is not that of the masks.
    """
    labels = cohort.labels.cpu()
    if predicted.shape != labels.shape:
        raise ValueError(
            f"The prediction has shape {tuple(predicted.shape)}, the masks {tuple(labels.shape)}."
        )
    classes = torch.arange(1, cohort.classes).view(1, -1, *[1] * cohort.dims)
    known = (labels != IGNORE).unsqueeze(1)
    p = (predicted.cpu().unsqueeze(1) == classes) & known
    y = labels.unsqueeze(1) == classes
    subjects, owner = cohort.subjects.cpu().unique(return_inverse=True)

    def per_subject(values: Tensor) -> Tensor:
        total = torch.zeros(len(subjects), values.shape[1], dtype=torch.double)
        return total.index_add_(0, owner, values.double())

    inter, size_p, size_y = (per_subject(m.flatten(2).sum(2)) for m in (p & y, p, y))
    dice = 2 * inter / (size_p + size_y)  # 0/0 is NaN: nothing to find, nothing found
    has_p, has_y = p.flatten(2).any(2), y.flatten(2).any(2)
    distances = surface_distances(p, y, has_p & has_y, cohort.spacing) if surfaces else None
    hd95, assd = (
        [per_subject(d.nan_to_num()) / per_subject(~d.isnan()) for d in distances]
        if surfaces
        else [torch.full_like(dice, torch.nan)] * 2
    )
    return Report(
        dice.numpy(),
        hd95.numpy(),
        assd.numpy(),
        per_subject(has_p ^ has_y).long().numpy(),
        subjects.numpy(),
        cohort.names[1:],
        cohort.unit,
    )


def surface_distances(p: Tensor, y: Tensor, both: Tensor, spacing) -> tuple[Tensor, Tensor]:
    """HD95 and ASSD ``(N, K-1)`` of boolean masks ``(N, K-1, *S)``; NaN where not ``both``.

    The larger of the two directed 95th percentiles, and the mean over both directions, from
    MONAI's surface distances.
    """
    from monai.metrics.utils import get_edge_surface_distance

    hd95 = torch.full(both.shape, torch.nan)
    assd = torch.full(both.shape, torch.nan)
    with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that it passes itself
        warnings.simplefilter("ignore", FutureWarning)
        for n, k in both.nonzero().tolist():
            _, (there, back), _ = get_edge_surface_distance(
                p[n, k], y[n, k], spacing=list(spacing), symmetric=True
            )
            hd95[n, k] = max(there.quantile(0.95), back.quantile(0.95))
            assd[n, k] = torch.cat([there, back]).mean()
    return hd95, assd


def _nanmean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
