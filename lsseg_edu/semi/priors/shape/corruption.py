"""Spoil masks the way segmenters spoil them: ragged rims, holes, islands, swapped organs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsseg_edu.augment import displaced, elastic_displacement, smooth_field, warp_labels

PATCHES = ((4, 0.15), (7, 0.08), (12, 0.04))
"""Cells across the image (few: large patches), and largest share of the pixels hit."""


def corrupt(
    labels: Tensor, classes: int, strength: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    r"""A spoilt copy of masks, each spoilt in its own way and by its own amount.

    First the rims: a fine elastic motion of at most a few pixels. Then three times the pixels
    where a smooth random field is highest are given one class for all. Background makes holes and
    missing parts, an organ makes islands and swaps. Shares are :math:`u^2` of their largest, with
    :math:`u` uniform, so that most masks are spoilt a little and some beyond recognition.

    Args:
        labels: ``(B, *S)`` complete masks.
        classes: ``K``.
        strength: 0 leaves all as it is, 1 is the default.
        generator: on the device of ``labels``; by default the global one.

    Raises:
        ValueError: a negative strength.

    Reference: Larrazabal et al., "Post-DAE", IEEE Transactions on Medical Imaging 2020, degrade
    with random morphology and swapped pixels at the boundary; the patches here are of the kinds
    that the few-label baseline makes.
    """
    if strength < 0:
        raise ValueError(f"A mask cannot be spoilt by {strength}: choose 0 or more.")
    space = torch.zeros(len(labels), 1, *labels.shape[1:], device=labels.device)
    motion = elastic_displacement(space, generator, 0.02 * strength, cells=10)
    labels = warp_labels(labels, displaced(motion))
    for cells, most in PATCHES:
        hit = patches(space, cells, min(1.0, most * strength), generator)
        given = torch.randint(classes, (len(labels),), generator=generator, device=labels.device)
        labels = torch.where(hit, given.view(-1, *[1] * (labels.ndim - 1)), labels)
    return labels


def patches(space: Tensor, cells: int, most: float, generator=None) -> Tensor:
    """Where a smooth random field is highest: boolean ``(B, *S)``.

    Args:
        space: ``(B, C, *S)``, for its size and device only.
        cells: control-point cells along each axis.
        most: largest share of the pixels, nearly; that of an image is ``most`` times a squared
            uniform number.
        generator: on the device of ``space``.
    """
    field = smooth_field(space, 1, cells, generator)[:, 0]
    share = most * torch.rand(len(space), generator=generator, device=space.device).square()
    level = math.sqrt(2) * torch.erfinv(1 - 2 * share)  # the quantile of a Gaussian
    std, mean = torch.std_mean(field, tuple(range(1, field.ndim)), keepdim=True)
    return (field - mean) / std > level.view(-1, *[1] * (field.ndim - 1))
