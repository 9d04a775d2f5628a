"""Instances: how many objects were found, and how well each of them was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort


@dataclass(frozen=True)
class InstanceReport:
    """Scores of ``n`` subjects, each the mean over the subject's images that have a score.

    Attributes:
        f1: ``(n,)`` of finding objects: two are the same if their IoU is above 0.5.
        pq: ``(n,)`` panoptic quality: the same, each find weighted by its IoU.
        aji: ``(n,)`` aggregated Jaccard index: of pixels, each in its object.
        subjects: the ``n`` subjects.
    """

    f1: np.ndarray
    pq: np.ndarray
    aji: np.ndarray
    subjects: np.ndarray

    @property
    def means(self) -> dict[str, float]:
        """Means over subjects, without those that have no score; NaN if none has."""
        return {key: float(_means(getattr(self, key)[:, None])[0]) for key in ("f1", "pq", "aji")}

    def __repr__(self) -> str:
        line = ", ".join(f"{key.upper()} {value:.3f}" for key, value in self.means.items())
        return f"{line} (mean of {len(self.subjects)} subjects)"


def score_instances(predicted: Tensor, cohort: Cohort, numbered: bool = False) -> InstanceReport:
    """Score predictions against ``cohort.extras["instances"]``, whatever the objects' class.

    Args:
        predicted: classes ``(N, *S)``: a connected component of foreground (neighbours share a
            face, of whichever class) is an object. Or, with ``numbered``, objects numbered
            from 1 in each image, 0 elsewhere.
        cohort: with instances ``(N, *S)``. Pixels of IGNORE in its labels count for nothing.
        numbered: see ``predicted``.

    Raises:
        ValueError: no instances; a prediction of another shape.
    """
    if "instances" not in cohort.extras:
        raise ValueError(
            f"{cohort.name!r} has no instances: numbers of objects (N, *S) in "
            f'extras["instances"] are needed.'
        )
    truth = cohort.extras["instances"].cpu()
    if predicted.shape != truth.shape:
        raise ValueError(
            f"The prediction has shape {tuple(predicted.shape)}, the instances "
            f"{tuple(truth.shape)}."
        )
    known = (cohort.labels.cpu() != IGNORE).numpy()
    found, truth = predicted.cpu().numpy() * known, truth.numpy() * known
    found = found if numbered else np.stack([ndimage.label(mask > 0)[0] for mask in found])
    each = np.array([instance_scores(p, t) for p, t in zip(found, truth, strict=True)])
    subjects = cohort.subjects.cpu().numpy()
    rows = np.array([_means(each[subjects == s]) for s in np.unique(subjects)])
    return InstanceReport(*rows.T, np.unique(subjects))


def split_objects(predicted: Tensor, apart: int = 3) -> Tensor:
    """Number objects of which some touch: a watershed from the innermost pixels of each.

    Components cannot part what touches. But two discs that do have two pixels which are far from
    the background, and from these water rises to a ridge between them.

    Args:
        predicted: classes ``(N, *S)``; objects are foreground, of whichever class.
        apart: pixels between two innermost pixels; fewer break objects, more merge them. 3 is
            best for the true masks of the nuclei phantom's validation subjects.

    Returns:
        ``(N, *S)``, numbered from 1 in each image, 0 elsewhere; scored with ``numbered=True``.

    Raises:
        ValueError: ``apart`` below 1.

    Reference: Vincent, Soille, "Watersheds in Digital Spaces", IEEE TPAMI 1991.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    if apart < 1:
        raise ValueError(f"Peaks must be apart by 1 pixel or more, not {apart}.")
    numbered = []
    for mask in (predicted > 0).cpu().numpy():
        depth, start = ndimage.distance_transform_edt(mask), np.zeros(mask.shape, int)
        at = peak_local_max(depth, min_distance=apart, exclude_border=False)
        start[tuple(at.T)] = np.arange(1, len(at) + 1)
        numbered.append(watershed(-depth, start, mask=mask))
    return torch.from_numpy(np.stack(numbered))


def instance_scores(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    r"""F1, PQ and AJI of one image's objects, numbered in any way, 0 for none.

    All come from one table, the pixels :math:`n_{tp}` that object ``t`` and find ``p`` share. Pairs
    with :math:`IoU > 0.5` are true positives (one object has at most one such partner), and

    .. math::
        F_1 = \frac{2\,TP}{2\,TP + FP + FN}, \qquad PQ = \frac{\sum_{TP} IoU}{TP + (FP + FN) / 2},
        \qquad AJI = \frac{\sum_t |t \cap p^*_t|}{\sum_t |t \cup p^*_t| + \sum_{p\,unused} |p|}

    with :math:`p^*_t` the find of the largest IoU (nothing, if none overlaps).

    Returns:
        Three numbers in [0, 1]; 0 if just one side is empty, NaN if both are: there was nothing
        to find, and nothing was found.

    Reference: Kirillov et al., "Panoptic Segmentation", CVPR 2019 (PQ); Kumar et al., "A Dataset
    and a Technique for Generalized Nuclear Segmentation for Computational Pathology", IEEE TMI
    2017 (AJI).
    """
    shared, rest_p, rest_t = contingency(predicted, truth)
    t, p = shared.shape
    if t == 0 or p == 0:
        value = np.nan if t == p else 0.0
        return value, value, value
    union = rest_t[:, None] + rest_p - shared
    iou = shared / union
    hits = iou[iou > 0.5]
    partner, rows = iou.argmax(1), np.arange(t)
    overlaps = shared[rows, partner] > 0
    unused = np.setdiff1d(np.arange(p), partner[overlaps])
    area = np.where(overlaps, union[rows, partner], rest_t).sum() + rest_p[unused].sum()
    aji = shared[rows, partner].sum() / area
    return 2 * len(hits) / (t + p), 2 * hits.sum() / (t + p), aji


def contingency(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, ...]:
    """Pixels that objects share: ``(T, P)``, and the sizes ``(P,)`` and ``(T,)``."""
    p_names, p = np.unique(np.append(0, predicted), return_inverse=True)
    t_names, t = np.unique(np.append(0, truth), return_inverse=True)
    table = np.bincount(t[1:] * len(p_names) + p[1:], minlength=len(p_names) * len(t_names))
    table = table.reshape(len(t_names), len(p_names))
    return table[1:, 1:], table.sum(0)[1:], table.sum(1)[1:]


def _means(values: np.ndarray) -> np.ndarray:
    """Means over the first axis of what is a number; NaN where nothing is."""
    real = ~np.isnan(values)
    total = np.where(real, values, 0).sum(0)
    return np.where(real.any(0), total / real.sum(0).clip(min=1), np.nan)
