"""Deep atlas network: a light registration that must agree at every level of features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lsseg_edu import networks
from lsseg_edu.networks import UNet
from lsseg_edu.semi.priors.registration import Atlas, Registration, alignment


class DeepAtlasNet(Registration):
    r"""A small network moves the atlas; image and target must tell the same, fine and coarse.

    Likeness of intensities says little where images are speckled. Here the moved atlas
    :math:`a \circ \phi` and the target :math:`x` pass through one encoder :math:`e`, and at each of
    its levels the features must point in the same direction:

    .. math::
        L = L_{align} + \frac{\lambda}{J} \sum_{j=1}^{J} \frac{1}{|\Omega_j|} \sum_{i}
            \Big(1 - \cos\big(e_j(a \circ \phi)_i,\ e_j(x)_i\big)\Big)

    The encoder is the registration network's own: what it needs to see in order to align two
    images is what they should agree in. It is held fixed in this term, so that
    agreement can only be reached by moving, not by features that say nothing.

    Reference: Dong, Luo, Tam, et al., "Deep Atlas Network for Efficient 3D Left Ventricle
    Segmentation on Echocardiography", Medical Image Analysis 2020.
    Simplified: no separate coarse volume prediction and no discriminator; the information that
    must be consistent is that of features, at the encoder's levels, and of the image.

    Args:
        net: a :class:`~lsseg_edu.networks.RegistrationNet` whose U-Net has ``encode``.
        atlas: the labelled images.
        bending: of :class:`.Registration`.
        weight: :math:`\lambda`; 0 leaves a plain light registration.
        levels: ``J``, counted from the finest.

    Raises:
        ValueError: more levels than the encoder has.
    """

    def __init__(
        self,
        net: nn.Module,
        atlas: Atlas,
        bending: float = 0.01,
        weight: float = 0.3,
        levels: int = 4,
    ):
        super().__init__(net, atlas, bending)
        deepest = len(net.unet.widths)
        if not 1 <= levels <= deepest:
            raise ValueError(f"The encoder has levels 1 to {deepest}; {levels} were asked for.")
        self.weight, self.levels = weight, levels

    @classmethod
    def for_task(cls, task, seed: int = 0, width: int = 4, **options):
        """Half the channels of the book's registration network: a quarter of its weights."""
        return cls(networks.registration(task, width, seed), Atlas.of(task), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``unlikeness``, ``bending``, and ``features``."""
        fixed = batch.unlabelled.images
        moving = self.atlas.images[self.atlas.match(fixed)]
        velocity = self.net(moving, fixed)
        moved = self.move(moving, velocity)
        terms = alignment(moved, fixed, velocity, self.bending)
        return {**terms, "features": self.weight * self.disagreement(moved, fixed)}

    def disagreement(self, moved: Tensor, fixed: Tensor) -> Tensor:
        """Mean of one minus the cosine of the features, over places and levels."""
        pairs = zip(self.features(moved, fixed), self.features(fixed, fixed), strict=True)
        unlike = [1 - F.cosine_similarity(a, b.detach(), dim=1).mean() for a, b in pairs]
        return torch.stack(unlike).mean()

    def features(self, images: Tensor, beside: Tensor) -> list[Tensor]:
        """The frozen encoder's maps at ``levels`` levels, of ``images`` as the moving ones."""
        frozen = {name: p.detach() for name, p in self.net.unet.named_parameters()}
        pair = torch.cat([images, beside], 1)
        return functional_call(Encoder(self.net.unet), _under("unet", frozen), pair)[: self.levels]


class Encoder(nn.Module):
    """The contracting half of a U-Net, as a module."""

    def __init__(self, unet: UNet):
        super().__init__()
        self.unet = unet

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at strides 1, 2, 4, ..."""
        return self.unet.encode(images)


def _under(name: str, weights: dict) -> dict:
    return {f"{name}.{key}": value for key, value in weights.items()}
