"""The augmentation everybody trains with: one call for images and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lsseg_edu.augment import geometry, intensity


@dataclass(frozen=True)
class Augment:
    """Change a batch at random: move it (images and labels alike), then repaint the images.

    Affine and elastic motion are added in **one** grid, so an image is interpolated once
    (linearly) and its labels once (nearest), at the same places. Parameters are drawn anew for
    each image. A field at 0 switches its operation off. There are no flips: organs have sides.

    Attributes:
        rotation: largest angle in the plane of the last two axes, degrees.
        tilt: 3D only: largest angle out of that plane, degrees; small, since slices are thick.
        scale: largest ``|ln factor|`` of the size; bodies differ, and so do fields of view.
        shear: largest off-diagonal entry of the affine map.
        shift: largest translation on each axis, as a fraction of the image's extent.
        elastic: deviation of the elastic control points, as a fraction of the extent; at
            0.03 the map hardly ever folds (see :func:`.elastic_displacement`).
        cells: elastic control-point cells on each axis: 4 bends an organ, not its outline.
        bias: deviation of the log of the bias field at its control points (MR coils).
        gamma: largest ``|ln exponent|`` of the grey scale (sequence and windowing).
        contrast: largest ``|ln factor|`` of contrast, and shift in image deviations.
        blur: largest deviation of the Gaussian blur, pixels (resolution).
        noise: largest deviation of the added noise, image deviations.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> images, labels = torch.randn(4, 1, 64, 64), torch.zeros(4, 64, 64).long()
        >>> images, labels = Augment.strong()(images, labels, generator)
        >>> images.shape, labels.shape
        (torch.Size([4, 1, 64, 64]), torch.Size([4, 64, 64]))
    """

    rotation: float = 15.0
    tilt: float = 3.0
    scale: float = 0.12
    shear: float = 0.07
    shift: float = 0.05
    elastic: float = 0.015
    cells: int = 4
    bias: float = 0.15
    gamma: float = 0.2
    contrast: float = 0.15
    blur: float = 0.5
    noise: float = 0.1

    @classmethod
    def strong(cls) -> Augment:
        """The default of every experiment here: few labels need many poses and scanners.

        Chosen on validation subjects (cardiac phantom, laptop budget): twice as strong, the
        baseline with few labels stayed the same and the one with all labels had not converged.
        """
        return cls()

    @classmethod
    def weak(cls) -> Augment:
        """Small motions and slight changes of brightness: the easy view of weak-to-strong."""
        slight = {"rotation": 10, "scale": 0.1, "shift": 0.05, "gamma": 0.1, "contrast": 0.1}
        return replace(cls.none(), **slight)

    @classmethod
    def none(cls) -> Augment:
        """Nothing changes."""
        return cls(0, 0, 0, 0, 0, elastic=0, bias=0, gamma=0, contrast=0, blur=0, noise=0)

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment one batch; the inputs stay as they were.

        Args:
            images: ``(B, C, *S)`` float.
            labels: ``(B, *S)`` or several maps ``(B, M, *S)``, integers.
            generator: on the device of ``images``; the global random state is not touched.

        Raises:
            ValueError: shapes or devices that do not belong together.
        """
        _check(images, labels, generator)
        if self.moves:
            grid = self.grid(images, generator)
            images = geometry.warp(images, grid)
            labels = geometry.warp_labels(labels, grid)
        return self.repaint(images, generator), labels

    @property
    def moves(self) -> bool:
        """Whether anything moves at all."""
        return any((self.rotation, self.tilt, self.scale, self.shear, self.shift, self.elastic))

    def grid(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A random grid ``(B, *S, D)`` for these images: affine plus elastic."""
        maps = geometry.random_affine(
            images, generator, self.rotation, self.scale, self.shear, self.shift, self.tilt
        )
        grid = geometry.affine_grid(maps, images.shape[2:])
        if not self.elastic:
            return grid
        return grid + geometry.elastic_displacement(images, generator, self.elastic, self.cells)

    def repaint(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The intensity part alone, in the order of physics: coil, tissue, optics, noise."""
        for change, strength in (
            (intensity.bias_field, self.bias),
            (intensity.gamma, self.gamma),
            (intensity.contrast, self.contrast),
            (intensity.blur, self.blur),
            (intensity.noise, self.noise),
        ):
            if strength:
                images = change(images, generator, strength)
        return images


def _check(images, labels, generator):
    space = images.shape[2:]
    if (
        len(space) not in (2, 3)
        or labels.shape[0] != len(images)
        or (labels.shape[1:] != space and labels.shape[2:] != space)
    ):
        raise ValueError(
            f"images (B, C, *S) and labels (B, *S) or (B, M, *S) must agree in B and *S; "
            f"got {tuple(images.shape)} and {tuple(labels.shape)}."
        )
    if generator.device.type != images.device.type:
        raise ValueError(
            f"The generator is on {generator.device}, the images are on {images.device}: "
            f"make it with torch.Generator({images.device.type!r})."
        )
