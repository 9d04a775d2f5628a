"""What an annotation costs, in seconds of an annotator."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from lsseg_edu.data.annotate.components import classes, objects, planes

SECONDS = {
    "mask": 79.0,
    "scribble": 10.9,
    "point": 2.4,
    "further point": 0.9,
    "box": 7.0,
    "contour": 20.0,
}
"""Seconds for one piece of annotation. Measured with crowd workers on photographs: an expert on
medical images is slower at all of them, so trust the ratios, not the hours.

=================  ======  =====================================================================
piece              time    source
=================  ======  =====================================================================
``mask``           79      outline of one object; COCO (Lin et al., ECCV 2014: 22 worker hours
                           for 1,000 objects), the figure Bearman et al. use as well
``scribble``       10.9    one squiggle for each class of an image (Bearman et al., ECCV 2016)
``point``          2.4     first point of a class in an image (Bearman et al., ECCV 2016)
``further point``  0.9     every further point of that class (Bearman et al., ECCV 2016)
``box``            7       four extreme points (Papadopoulos et al., ICCV 2017); a box drawn by
                           its corners took 35 (Su et al., 2012, as quoted there)
``contour``        20      a rough line around one object: our estimate, a quarter of a mask
=================  ======  =====================================================================
"""


def count_objects(labels: Tensor, instances: Tensor | None = None, smallest: float = 0.1) -> int:
    """Foreground objects to outline in masks ``(B, *S)``, counted plane by plane."""
    flat = planes(labels)
    single = None if instances is None else planes(instances)
    return sum(int(objects(flat, k, smallest, single).max()) for k in classes(flat) if k > 0)


def count_classes(labels: Tensor) -> int:
    """Pairs of a plane and a class (background included) that it shows, over ``(B, *S)``."""
    flat = planes(labels)
    return int(sum((flat == k).any((1, 2)).sum() for k in classes(flat)))


def mask_seconds(labels: Tensor, instances: Tensor | None = None) -> float:
    """Time to outline every object of every plane of masks ``(B, *S)``."""
    return SECONDS["mask"] * count_objects(labels, instances)


def point_seconds(points: Tensor) -> float:
    """Time for ``points (B, M, 1 + dims)``: class first, rows of -1 are padding."""
    number = points[..., 0].cpu().numpy()
    pairs = [(number == k).sum(1) for k in np.unique(number[number >= 0])]
    firsts = sum(int((count > 0).sum()) for count in pairs)
    return SECONDS["point"] * firsts + SECONDS["further point"] * ((number >= 0).sum() - firsts)
