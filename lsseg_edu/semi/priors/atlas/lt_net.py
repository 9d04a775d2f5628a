"""LT-Net: a correspondence that can be travelled back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.augment import compose, displaced, integrate, warp
from lsseg_edu.semi.priors.atlas.propagation import overlap_loss
from lsseg_edu.semi.priors.registration import Atlas, Registration, alignment


class LTNet(Registration):
    r"""Atlas to target with one network, target to atlas with another: the round trip is home.

    The forward network gives :math:`\phi` with :math:`a \circ \phi \approx x`, the backward
    network :math:`\psi` with :math:`x \circ \psi \approx a`. Each is an ordinary registration. What
    is new are three statements about the way there and back, and of all three the truth is known
    without a label of the target:

    .. math::
        L = L_{reg}(\phi) + L_{reg}(\psi)
          + \lambda_i\, |a \circ \phi \circ \psi - a|
          + \lambda_t\, \big(|\phi \circ \psi - id|^2 + |\psi \circ \phi - id|^2\big)
          + \lambda_a\, \mathrm{Dice}(y \circ \phi \circ \psi, y) .

    The first is about the image, the second about the transform, the third about the anatomy: the
    atlas' labels make the round trip as well. A registration that tears an organ apart to please
    the similarity cannot be undone.

    Reference: Wang, Cao, Wei, et al., "LT-Net: Label Transfer by Learning Reversible Voxel-Wise
    Correspondence for One-Shot Medical Image Segmentation", CVPR 2020.
    Simplified: no discriminator of warped images; no term for the warped label's differences to
    the identity; transforms are exponentials of a velocity, as everywhere here, and the atlas of
    a stack is the slice that resembles the target.

    Args:
        net: the forward :class:`~lsseg_edu.networks.RegistrationNet`.
        back: the backward one.
        atlas: the labelled images.
        bending: of :class:`.Registration`.
        image, transform, anatomy: :math:`\lambda_i, \lambda_t, \lambda_a`. The transform's
            distance is in pixels; a tenth is as large as the others. Of 1, 0.3, 0.1, 0.03 (and a
            tenth) on validation subjects of the brain phantom: 0.3 and more hold the atlas still,
            for a trip that is interpolated twice costs likeness even where it leads home. All 0:
            two registrations that know nothing of one another.
    """

    def __init__(
        self,
        net: nn.Module,
        back: nn.Module,
        atlas: Atlas,
        bending: float = 0.01,
        image: float = 0.03,
        transform: float = 0.003,
        anatomy: float = 0.03,
    ):
        super().__init__(net, atlas, bending)
        self.back = back
        self.image, self.transform, self.anatomy = image, transform, anatomy

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """Two registration networks with weights of their own."""
        nets = (networks.registration(task, seed=s) for s in (seed, seed + 1))
        return cls(*nets, Atlas.of(task), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``unlikeness`` and ``bending`` of both ways, and the three terms of the round trip."""
        fixed = batch.unlabelled.images
        index = self.atlas.match(fixed)
        moving, masks = self.atlas.images[index], self.atlas.one_hot(index)
        v, w = self.net(moving, fixed), self.back(fixed, moving)
        there, back = integrate(v), integrate(w)
        moved, moved_masks = (warp(m, displaced(there)) for m in (moving, masks))
        forward = alignment(moved, fixed, v, self.bending)
        backward = alignment(warp(fixed, displaced(back)), moving, w, self.bending)
        home, masks_home = (warp(m, displaced(back)) for m in (moved, moved_masks))
        return {
            **{name: forward[name] + backward[name] for name in forward},
            "cycle_image": self.image * (home - moving).abs().mean(),
            "cycle_transform": self.transform * round_trip(there, back),
            "cycle_anatomy": self.anatomy * overlap_loss(masks_home, masks),
        }


def round_trip(there: Tensor, back: Tensor) -> Tensor:
    """Mean squared distance from home after both ways, in pixels, averaged over the orders.

    Args:
        there, back: displacements ``(B, *S, D)`` in units of the grid.
    """
    size = there.shape[1:-1]
    pixels = torch.tensor(size[::-1], device=there.device) / 2
    trips = (compose(there, back), compose(back, there))
    return sum((pixels * trip).square().sum(-1).mean() for trip in trips) / 2
