"""Topology: how many pieces, how many holes, and how far from the truth."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort


def betti_numbers(mask) -> tuple[int, ...]:
    r"""Components, holes (and, of a volume, cavities) of one mask.

    Pixels that touch at a corner are connected. The Euler characteristic
    :math:`\chi = \beta_0 - \beta_1 + \beta_2` gives what cannot be counted as a component, the
    tunnels :math:`\beta_1` of a volume.

    Args:
        mask: ``(H, W)`` or ``(D, H, W)`` boolean.

    Returns:
        :math:`(\beta_0, \beta_1)` of a slice, :math:`(\beta_0, \beta_1, \beta_2)` of a volume.

    Example:
        >>> import torch
        >>> ring = torch.ones(5, 5, dtype=bool)
        >>> ring[2, 2] = False
        >>> betti_numbers(ring)
        (1, 1)
    """
    from skimage.measure import euler_number, label

    mask = np.pad(np.asarray(mask, bool), 1)
    pieces = int(label(mask, connectivity=mask.ndim, return_num=True)[1])
    euler = int(euler_number(mask, connectivity=mask.ndim))
    if mask.ndim == 2:
        return pieces, pieces - euler
    cavities = int(label(~mask, connectivity=1, return_num=True)[1]) - 1
    return pieces, pieces + cavities - euler, cavities


def betti_error(predicted: Tensor, cohort: Cohort) -> np.ndarray:
    r"""Absolute error of the Betti numbers, averaged over the items of each subject.

    .. math:: E = \sum_q |\beta_q(\hat y) - \beta_q(y)|

    A single stray pixel costs 1, as a broken vessel does; Dice sees neither.

    Args:
        predicted: classes ``(N, *S)``.
        cohort: masks to compare with; pixels of IGNORE are taken for background.

    Returns:
        ``(n, K-1)``: subjects, foreground classes.

    Raises:
        ValueError: the prediction's shape is not that of the masks.
    """
    labels = cohort.labels.cpu()
    if predicted.shape != labels.shape:
        raise ValueError(
            f"The prediction has shape {tuple(predicted.shape)}, the masks {tuple(labels.shape)}."
        )
    predicted = predicted.cpu().where(labels != IGNORE, 0)
    each = np.array([_errors(p, y, cohort.classes) for p, y in zip(predicted, labels, strict=True)])
    subjects = cohort.subjects.cpu().numpy()
    return np.stack([each[subjects == s].mean(0) for s in np.unique(subjects)])


def _errors(predicted: Tensor, labels: Tensor, classes: int) -> list[int]:
    pairs = [(betti_numbers(predicted == k), betti_numbers(labels == k)) for k in range(1, classes)]
    return [sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs]
