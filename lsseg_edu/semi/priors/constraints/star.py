"""Star shape: whoever stands in the middle sees every point of the organ."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.semi.priors.constraints.constrained import RegionConstraint


class StarShape(RegionConstraint):
    r"""On the way out from the centre a probability may fall, never rise.

    A mask is star-shaped about ``c`` if with a pixel it has the whole ray from ``c`` to it. The
    rays are discretised: the *parent* :math:`\pi(i)` of a pixel is its neighbour on the way to c.

    .. math:: C = \frac{1}{|\Omega|} \sum_i \big(u_i - u_{\pi(i)}\big)_+

    If every pixel has its parent, it has its parent's parent, and so the ray. Holes, islands and
    bays seen from ``c`` cost something; the outline may be as wild as it likes elsewhere.

    Reference: Mirikharaji, Hamarneh, "Star Shape Prior in Fully Convolutional Networks for Skin
    Lesion Segmentation", MICCAI 2018; the parents are those of Veksler, "Star Shape Prior for
    Graph-Cut Image Segmentation", ECCV 2008.
    Simplified: neighbours on a ray instead of all pairs on it, and no factor with the true mask,
    so that unlabelled images are constrained too; ``c`` is the centroid of the answer.

    Args:
        net, regions, weight, ramp: as in :class:`RegionConstraint`.

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> StarShape.for_task(Task.split(load("cardiac"), labelled=3)).regions
        ((3,), (2, 3))
    """

    @staticmethod
    def violation(u: Tensor) -> Tensor:
        """See :func:`star_violation`, with the centroid of the answer as the centre."""
        return star_violation(u)


def star_violation(u: Tensor, centre: Tensor | None = None) -> Tensor:
    """Mean over pixels of the rise of ``u`` along the rays from the centre.

    Args:
        u: soft masks ``(B, *S)`` in [0, 1].
        centre: ``(B, D)`` pixel coordinates; by default the centroid, through which no gradient
            flows, rounded to a pixel. (A centroid outside its region, as a crescent's is, makes
            the region no star.)

    Returns:
        ``(B,)``; 0 for a star-shaped mask, such as every disc and every upright ellipse.
    """
    grid = torch.stack(torch.meshgrid(*map(torch.arange, u.shape[1:]), indexing="ij"))
    grid = grid.flatten(1).to(u.device)  # (D, P)
    centre = centroid(u, grid) if centre is None else centre
    parent = parents(grid, centre.round().long(), u.shape[1:])
    flat = u.flatten(1)
    return (flat - flat.gather(1, parent)).relu().mean(1)


def centroid(u: Tensor, grid: Tensor) -> Tensor:
    """Centre of mass ``(B, D)`` of soft masks ``(B, *S)``, detached."""
    mass = u.detach().flatten(1).double()
    return mass @ grid.double().T / mass.sum(1, keepdim=True).clamp(min=1e-12)


def parents(grid: Tensor, centre: Tensor, size) -> Tensor:
    """Flat index ``(B, P)`` of each pixel's neighbour towards the centre; the centre's is itself.

    One step along the longest axis, and as much along the others as the ray demands.
    """
    way = grid - centre[:, :, None]  # (B, D, P)
    steps = way.abs().amax(1, keepdim=True).clamp(min=1)
    back = centre[:, :, None] + _round(way - way / steps)
    stride = torch.tensor([*torch.Size(size)[1:], 1], device=grid.device).flip(0).cumprod(0).flip(0)
    return (back * stride[:, None]).sum(1)


def _round(x: Tensor) -> Tensor:
    """To the nearest integer, halves towards zero, so that a mirrored ray is the mirror image."""
    return (x.sign() * (x.abs() - 0.5).ceil()).long()
