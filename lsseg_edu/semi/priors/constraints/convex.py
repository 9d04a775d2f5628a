"""Convexity: what lies between two points of the organ belongs to it."""

from __future__ import annotations

from itertools import product

from torch import Tensor

from lsseg_edu.semi.priors.constraints.constrained import RegionConstraint

LENGTHS = (1, 2, 4, 8)
"""Half distances, in pixels, over which a midpoint is looked at."""


class ConvexShape(RegionConstraint):
    r"""The middle of two inside points must be inside: the line condition, made soft.

    .. math::
        C = \frac{1}{|D||\Omega|} \sum_{d \in D} \sum_i u_{i-d}\, u_{i+d}\, (1 - u_i)

    Each term asks for a pattern *in, out, in* on a straight line. A convex mask has none, whatever
    the displacement ``d``. A bay, a hole or a second piece has many. The gradient offers both
    cures: fill the middle, or give up an end.

    Reference: Gorelick, Veksler, Boykov, Nieuwenhuis, "Convexity Shape Prior for Binary
    Segmentation", IEEE TPAMI 2017 (the patterns); Liu, Tai, Luo, "Convex Shape Prior for Deep
    Neural Convolution Network based Eye Fundus Images Segmentation", 2020 (in a network).
    Simplified: midpoints only, along the axes and diagonals, at the distances of
    :data:`LENGTHS`; a dent in another direction alone is not seen.

    Args:
        net, regions, weight, ramp: as in :class:`RegionConstraint`. The product of three
            probabilities is small where the star's difference is not: hence the weight.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> ConvexShape.for_task(Task.split(load("cardiac"), labelled=3)).regions
        ((3,), (2, 3))
    """

    tolerance = 0.001  # a mean over displacements too, most of which see nothing

    def __init__(self, net, regions, weight: float = 3.0, ramp: float = 0.4):
        super().__init__(net, regions, weight, ramp)

    @staticmethod
    def violation(u: Tensor) -> Tensor:
        """See :func:`convex_violation`."""
        return convex_violation(u)


def convex_violation(u: Tensor, lengths=LENGTHS) -> Tensor:
    """Share of the patterns in-out-in, softly counted.

    Args:
        u: soft masks ``(B, *S)`` in [0, 1].
        lengths: half distances in pixels; longer than the image, they see nothing.

    Returns:
        ``(B,)``, a mean over displacements and pixels; 0 for a convex mask.
    """
    found = [_pattern(u, step, n) for step in directions(u.ndim - 1) for n in lengths]
    return sum(found) / (len(found) * u[0].numel())


def directions(dims: int) -> list[tuple[int, ...]]:
    """Axes and diagonals, each once: 4 in the plane, 13 in space."""
    steps = product((-1, 0, 1), repeat=dims)
    return [step for step in steps if step > (0,) * dims]


def _pattern(u: Tensor, step, n: int) -> Tensor:
    """Sum over pixels of ``u[i-d] u[i+d] (1 - u[i])`` with ``d = n * step``."""
    first, middle, last = u, u, u
    for axis, s in enumerate(step, 1):
        size, far = u.shape[axis], 2 * n * abs(s)
        if far >= size:
            return u.new_zeros(len(u))
        start, end = (far, 0) if s < 0 else (0, far)
        first = first.narrow(axis, start, size - far)
        middle = middle.narrow(axis, far // 2, size - far)
        last = last.narrow(axis, end, size - far)
    return (first * last * (1 - middle)).flatten(1).sum(1)
