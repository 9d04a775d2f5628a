"""Learning to align a labelled image with any other: the floor under every atlas method."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import LocalNormalizedCrossCorrelationLoss
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.augment import Augment, displaced, integrate, warp
from lsseg_edu.train import Method

WINDOW = 9
"""Pixels along a side of the windows in which two images are correlated."""


class Atlas(nn.Module):
    """Labelled images to start from, and which of them suits an image.

    Slices of a stack look different from base to apex: an atlas of one subject is several
    images, and each target is served by the one that resembles it most (on both, coarsened to
    16 pixels a side: pose and outline count, detail does not). No label and no slice number of
    the target is looked at.

    Args:
        images: ``(M, C, *S)`` float.
        labels: ``(M, *S)`` integers.
        classes: ``K``.

    Raises:
        ValueError: nothing labelled, images and labels of different sizes, a label that is none
            of the ``K`` classes.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: int):
        super().__init__()
        if len(images) == 0:
            raise ValueError("An atlas needs at least one labelled image.")
        if images.shape[2:] != labels.shape[1:] or len(images) != len(labels):
            raise ValueError(
                f"Atlas images {tuple(images.shape)} and labels {tuple(labels.shape)} must agree "
                f"in number and size."
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"Atlas labels must be 0 to {classes - 1} at every pixel, and there are "
                f"{int(labels.min())} to {int(labels.max())}: label the atlas completely."
            )
        self.classes = classes
        self.register_buffer("images", images)
        self.register_buffer("labels", labels)

    @classmethod
    def of(cls, task) -> Atlas:
        """All labelled training images of a task."""
        chosen = task.labelled
        return cls(task.train.images[chosen], task.train.labels[chosen], task.train.classes)

    def match(self, images: Tensor) -> Tensor:
        """Index ``(B,)`` of the atlas image that correlates best with each image.

        Raises:
            ValueError: images of another size than the atlas.
        """
        if images.shape[1:] != self.images.shape[1:]:
            raise ValueError(
                f"The atlas has images of {tuple(self.images.shape[1:])}, the target "
                f"{tuple(images.shape[1:])}: resample one to the other."
            )
        return (_signature(images) @ _signature(self.images).T).argmax(1)

    def one_hot(self, index: Tensor) -> Tensor:
        """Masks ``(B, K, *S)`` of the atlas images ``index``, as float: they can be warped."""
        return F.one_hot(self.labels[index], self.classes).movedim(-1, 1).float()


def _signature(images):
    space = images.shape[2:]
    pool = F.adaptive_avg_pool2d if len(space) == 2 else F.adaptive_avg_pool3d
    coarse = pool(images.float(), [min(16, n) for n in space]).flatten(1)
    return F.normalize(coarse - coarse.mean(1, keepdim=True), dim=1)


def alignment(moved: Tensor, fixed: Tensor, velocity: Tensor, bending: float) -> dict[str, Tensor]:
    r"""What a registration minimises: unlikeness and roughness.

    :math:`1 - \mathrm{LNCC}(m \circ \phi, f) + \lambda \int \lVert\nabla^2 v\rVert^2`: the local
    correlation in windows of 9 pixels does not mind that scanners differ in contrast, and the
    bending energy (of :math:`v` in pixels) lets affine motion pass free of charge.

    Args:
        moved, fixed: ``(B, C, *S)``.
        velocity: ``(B, *S, D)`` in units of the grid.
        bending: :math:`\lambda`.
    """
    lncc = LocalNormalizedCrossCorrelationLoss(moved.ndim - 2, WINDOW, smooth_dr=1e-3)
    channels = zip(moved.float().split(1, 1), fixed.float().split(1, 1), strict=True)
    unlike = torch.stack([1 + lncc(m, f) for m, f in channels]).mean()
    return {"unlikeness": unlike, "bending": bending * bending_energy(velocity)}


def bending_energy(velocity: Tensor) -> Tensor:
    r"""Mean over pixels of :math:`\sum_{ij} \lVert\partial_i\partial_j v\rVert^2`, in pixels.

    Zero for any affine motion.

    Args:
        velocity: ``(B, *S, D)`` in units of the grid.
    """
    size = velocity.shape[1:-1]
    pixels = velocity * torch.tensor(size[::-1], device=velocity.device) / 2
    axes = range(1, len(size) + 1)
    second = (pixels.diff(dim=i).diff(dim=j) for i in axes for j in axes)
    return sum(d.square().sum(-1).mean() for d in second)


class Registration(Method):
    r"""Unsupervised registration: an atlas is moved onto every training image.

    The network :math:`g` answers with a stationary velocity :math:`v = g(a, x)`; the atlas
    :math:`a` is read at :math:`\phi = \exp(v)` and must look like :math:`x`. No label takes part
    in training. To predict, the labels of the best matching atlas image take the same way.

    Args:
        net: a :class:`~lsseg_edu.networks.RegistrationNet`.
        atlas: the images that move.
        bending: weight of the bending energy; 0.01, of 1, 0.1 and 0.01 on
            validation subjects of the brain phantom: aligned best, and 0.3 % of places fold.

    Reference: Balakrishnan, Zhao, Sabuncu, Guttag, Dalca, "VoxelMorph: A Learning Framework for
    Deformable Medical Image Registration", TMI 2019.
    """

    labelled = False
    unlabelled = True
    weak = Augment.weak()

    def __init__(self, net: nn.Module, atlas: Atlas, bending: float = 0.01):
        super().__init__(net)
        self.atlas, self.bending = atlas, bending

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """A registration network and the atlas of all labelled images of the task."""
        return cls(networks.registration(task, seed=seed), Atlas.of(task), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """Terms ``unlikeness`` and ``bending``."""
        fixed = batch.unlabelled.images
        moving = self.atlas.images[self.atlas.match(fixed)]
        velocity = self.net(moving, fixed)
        return alignment(self.move(moving, velocity), fixed, velocity, self.bending)

    def move(self, images: Tensor, velocity: Tensor) -> Tensor:
        """Images or soft masks ``(B, *, *S)`` read at ``exp(velocity)``."""
        return warp(images, displaced(integrate(velocity)))

    def predict(self, images: Tensor) -> Tensor:
        """Warped atlas masks ``(B, K, *S)``: linear interpolation leaves them soft."""
        index = self.atlas.match(images)
        return self.move(self.atlas.one_hot(index), self.net(self.atlas.images[index], images))
