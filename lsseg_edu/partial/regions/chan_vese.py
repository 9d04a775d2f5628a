"""Level sets: the network draws the first contour, and an energy moves it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.partial.regions import PartialCrossEntropy
from lsseg_edu.partial.regions.piecewise import residuals
from lsseg_edu.partial.regions.tv import curvature


@torch.no_grad()
def level_set(
    start: Tensor,
    images: Tensor,
    steps: int = 60,
    length: float = 0.2,
    rate: float = 0.5,
    band: Tensor | None = None,
) -> Tensor:
    r"""Minimise the Chan-Vese energy, :func:`.mumford_shah`, over level functions.

    Region ``k`` is where its level function :math:`\phi_k` is the largest; softly,
    :math:`u = \mathrm{softmax}(\phi)`. (With two regions :math:`u` is a smooth Heaviside function
    of :math:`\phi_1 - \phi_0`, whose zero level is the contour.) Each step goes downhill in
    :math:`\phi`, with the means ``c`` fixed, and then takes the means anew:

    .. math::
        \dot\phi_k = -u_k \Big(F_k - \sum_l u_l F_l\Big), \qquad
        F_k = |x - c_k|^2 - \mu\, \mathrm{div} \frac{\nabla u_k}{|\nabla u_k|}

    The factor ``u`` is small far from a contour: only what is near one moves. Contours may split
    and merge.

    Args:
        start: ``(B, K, *S)`` probabilities, the first contours.
        images: ``(B, C, *S)``.
        steps: of the descent.
        length: :math:`\mu`, in pixels times squared intensity.
        rate: of the descent; larger ones are unstable where the length is large.
        band: ``(B, 1, *S)``, 1 where contours may go and whose pixels make the means; all if None.

    Returns:
        ``u (B, K, *S)``, summing to one over ``K``.

    Reference: Chan, Vese, "Active Contours Without Edges", IEEE TIP 2001.
    Simplified: a softmax joins the regions in place of products of Heaviside functions.
    """
    band = torch.ones_like(images[:, :1]) if band is None else band
    phi = start.float().clamp(min=1e-3).log()
    for _ in range(steps):
        u = phi.softmax(1)
        force = residuals(u * band, images) - length * curvature(u)
        phi = phi - rate * band * u * (force - (u * force).sum(1, keepdim=True))
    return phi.softmax(1)


def narrow_band(classes: Tensor, width: int = 3) -> Tensor:
    """1 on pixels within ``width`` of a border between classes ``(B, *S)``; ``(B, 1, *S)``."""
    pool = F.max_pool2d if classes.ndim == 3 else F.max_pool3d
    value = classes[:, None].float()
    size, pad = 2 * width + 1, width
    return (pool(value, size, 1, pad) != -pool(-value, size, 1, pad)).float()


class LevelSet(PartialCrossEntropy):
    """Train on scribbles; at prediction, move the network's contours by :func:`level_set`.

    The energy knows grey values and nothing of hearts. Left alone it would find every bright
    region of the image, so it works in a narrow band about the contours it is given.

    Reference: Chan, Vese, IEEE TIP 2001; the band: Adalsteinsson, Sethian, "A Fast Level Set
    Method for Propagating Interfaces", J. Comput. Phys. 1995.

    Args:
        net: images to logits.
        steps: of the descent; 0 is the network alone.
        length: weight of the contours' length.
        width: of the band to either side, in pixels: about what partial cross-entropy errs by.

    Raises:
        ValueError: a band without width.
    """

    def __init__(self, net, steps: int = 60, length: float = 0.2, width: int = 3):
        super().__init__(net)
        if width < 1:
            raise ValueError(f"A band is at least 1 pixel wide to either side, not {width}.")
        self.steps, self.length, self.width = steps, length, width

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, K, *S)``: the network's, moved."""
        probs = super().predict(images)
        if self.steps == 0:
            return probs
        band = narrow_band(probs.argmax(1), self.width)
        return level_set(probs, images.float(), self.steps, self.length, band=band)
