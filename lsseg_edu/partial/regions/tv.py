"""Total variation: short borders, wherever they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.partial.regions.regularised import Regularised


def total_variation(maps: Tensor, eps: float = 0.1) -> Tensor:
    r"""Length of the borders of soft regions, per pixel of the image and summed over classes.

    .. math::
        TV(S) = \frac{1}{|\Omega|} \sum_k \sum_i
            \Big(\sqrt{|\nabla S_k(i)|^2 + \epsilon^2} - \epsilon\Big)

    Args:
        maps: ``(B, K, *S)``.
        eps: rounds off the kink at 0, where the root has no slope. A clear border changes by 1.

    Returns:
        A scalar; ``|∇|`` are forward differences, and none leads out of the image.
    """
    square = sum(d.square() for d in differences(maps))
    return ((square + eps**2).sqrt() - eps).sum(1).mean()


def differences(maps: Tensor) -> list[Tensor]:
    """Forward differences of ``(B, K, *S)`` along each axis of space, 0 at the far border."""
    axes = range(2, maps.ndim)
    return [_padded(maps.diff(dim=axis), maps.ndim - 1 - axis) for axis in axes]


def curvature(maps: Tensor, eps: float = 0.1) -> Tensor:
    r""":math:`\mathrm{div}(\nabla S_k / |\nabla S_k|)`, downhill of the sum in total variation.

    Args:
        maps: ``(B, K, *S)``.
        eps: as in :func:`total_variation`.
    """
    steps = differences(maps)
    norm = (sum(d.square() for d in steps) + eps**2).sqrt()
    flow = [d / norm for d in steps]
    return sum(f - torch.roll(f, 1, axis) for axis, f in enumerate(flow, 2))  # ends are 0


def _padded(maps: Tensor, axis_from_last: int) -> Tensor:
    return F.pad(maps, (0, 0) * axis_from_last + (0, 1))


class TotalVariation(Regularised):
    """Partial cross-entropy and :func:`total_variation`: a regulariser that never looks.

    It is the control of all others: the image has no word in it, so whatever it gains is gained
    by smoothness alone.

    Reference: Rudin, Osher, Fatemi, "Nonlinear Total Variation Based Noise Removal Algorithms",
    Physica D 1992.

    Args:
        net: images to logits.
        weight: the borders of a heart pass through about a tenth of the pixels, and each is
            counted in two classes: with 1 the term is of the size of the other energies.
        ramp: as in :class:`.Regularised`.
    """

    def penalty(self, probs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """:func:`total_variation`."""
        return total_variation(probs)
