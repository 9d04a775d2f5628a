"""Siamese transformation consistency: deform the image, or deform the answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment.geometry import affine_grid, elastic_displacement, warp
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.consistency.ua_mt import masked_mse
from lsseg_edu.train import Method


class Siamese(Method):
    r"""Two branches that are one network: one deforms before it, the other one after it.

    .. math::
        L = L_{sup} + w(t)\, \frac{1}{|M|K} \sum_{i \in M,\,k}
            \big( f_\theta(T x)_{ik} - (T f_\theta(x))_{ik} \big)^2

    for **all** images ``x``, labelled or not. ``T`` is an elastic deformation, drawn for each
    image; :math:`T f_\theta(x)` is a layer like any other, and the gradient flows through **both**
    branches. ``M`` are the pixels that ``T`` took from within the image.

    Without a teacher, a constant answer is a perfect solution of the second term. The labelled
    images are in it too, and there the first term holds the answer in place.

    Reference: Bortsova, Dubost, Hogeweg, Katramados, de Bruijne, "Semi-supervised Medical Image
    Segmentation via Learning Consistency under Transformations", MICCAI 2019.
    Simplified: a ramped weight; the supervised term looks at the branch without ``T``, whose
    images the augmentation has deformed already.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: largest weight of the consistency term.
        strength: deviation of the control points of ``T``, as a fraction of the image's extent.
            At 0.03 it hardly ever folds.
        ramp: fraction of training over which the weight rises.
    """

    unlabelled = True

    def __init__(self, net: nn.Module, weight=1.0, strength: float = 0.03, ramp: float = 0.4):
        super().__init__(net)
        self.weight, self.strength, self.ramp = weight, strength, ramp

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, and ``consistency`` of all images (already weighted)."""
        images = torch.cat([batch.labelled.images, batch.unlabelled.images])
        logits = self.net(images)
        supervised = losses.dice_ce(logits[: len(batch.labelled.images)], batch.labelled.labels)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"supervised": supervised, "consistency": weight * self.consistency(images, logits)}

    def consistency(self, images: Tensor, logits: Tensor) -> Tensor:
        """Squared difference of the two orders; ``logits`` are the answers to ``images``."""
        view = Elastic.draw(images, strength=self.strength)
        before, after = self.net(view(images)).softmax(1), view(logits.float().softmax(1))
        return masked_mse(before, after, view.inside(images))


@dataclass(frozen=True)
class Elastic:
    """A smooth deformation of each image of a batch, as a layer: differentiable in its input.

    Attributes:
        grid: ``(B, *S, D)``, where each pixel comes from (see :mod:`lsseg_edu.augment.geometry`).
    """

    grid: Tensor

    @classmethod
    def draw(cls, images: Tensor, generator=None, strength: float = 0.03, cells: int = 4):
        """One deformation for each of ``images (B, C, *S)``.

        Args:
            images: for their size and device.
            generator: on the device of ``images``; by default the global random state.
            strength: as for :func:`.elastic_displacement`, like ``cells``.
            cells: control-point cells along each axis.
        """
        still = torch.eye(images.ndim - 2, images.ndim - 1, device=images.device)
        grid = affine_grid(still.repeat(len(images), 1, 1), images.shape[2:])
        return cls(grid + elastic_displacement(images, generator, strength, cells))

    def __call__(self, values: Tensor) -> Tensor:
        """Move ``values (B, C, *S)``, linearly; probabilities still sum to 1."""
        return warp(values, self.grid)

    def inside(self, images: Tensor) -> Tensor:
        """``(B, 1, *S)``: true where a pixel came from between pixels of the image."""
        centres = 1 - 1 / torch.tensor(images.shape[:1:-1], device=images.device)
        return (self.grid.abs() <= centres + 1e-5).all(-1).unsqueeze(1)
