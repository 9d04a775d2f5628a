r"""Moves of a batch that can be undone, the same for an image and for its probability map.

A segmentation network should be *equivariant*: :math:`f(Tx) = T f(x)`. To ask for that, ``T``
must do to a prediction exactly what it did to the image. A *view* here is one such draw: call it
on any ``(B, C, *S)``, undo it with ``inverse``, and compare only where ``inside`` is true.

Example:
    >>> import torch
    >>> images = torch.randn(4, 1, 32, 32)
    >>> view = Dihedral.draw(images)
    >>> torch.equal(view.inverse(view(images)), images)
    True
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsseg_edu.augment.geometry import affine_grid, random_affine, warp

ROTATIONS = (0, 3, 5, 6)
"""The elements of :class:`Dihedral` that turn without mirroring."""


@dataclass(frozen=True)
class Dihedral:
    """Quarter-turns and mirrors in the last two axes: pixels change places, no value changes.

    Each of the eight is a transposition (or none), then a mirror of the rows (or none), then of
    the columns (or none): the bits 4, 2 and 1 of its number.

    Attributes:
        elements: ``(B,)`` integers 0..7, one for each image; 0 changes nothing. 4 and more
            transpose: a ValueError for images that are not square.
    """

    elements: Tensor

    @classmethod
    def draw(
        cls, images: Tensor, generator=None, mirrors: bool = True, together: bool = False
    ) -> Dihedral:
        """One element for each image, or one for the whole batch, each equally likely.

        Args:
            images: ``(B, C, *S)``; if the last two axes differ, nothing is transposed.
            generator: on the device of ``images``; by default the global random state.
            mirrors: if not, rotations alone (organs have sides).
            together: the same element for all images.
        """
        allowed = torch.tensor(range(8) if mirrors else ROTATIONS, device=images.device)
        if images.shape[-1] != images.shape[-2]:
            allowed = allowed[allowed < 4]
        size = (1 if together else len(images),)
        drawn = torch.randint(len(allowed), size, generator=generator, device=images.device)
        return cls(allowed[drawn].expand(len(images)))

    def __call__(self, values: Tensor) -> Tensor:
        """Move ``values (B, C, *S)``."""
        return self._mirror(1, self._mirror(2, self._transpose(values)))

    def inverse(self, values: Tensor) -> Tensor:
        """Undo the move: the same three steps backwards."""
        return self._transpose(self._mirror(2, self._mirror(1, values)))

    def inside(self, images: Tensor) -> Tensor:
        """``(B, 1, *S)``: everywhere true, since every pixel came from a pixel."""
        return torch.ones_like(images[:, :1], dtype=torch.bool)

    def _transpose(self, values):
        if not (self.elements & 4).any():
            return values
        if values.shape[-1] != values.shape[-2]:
            size = "x".join(map(str, values.shape[-2:]))
            raise ValueError(f"Slices of {size} have no quarter-turn: crop them to squares.")
        return self._where(4, values.transpose(-1, -2), values)

    def _mirror(self, bit, values):
        return self._where(bit, values.flip(-bit), values)

    def _where(self, bit, moved, values):
        chosen = (self.elements & bit).bool().view(-1, *(1,) * (values.ndim - 1))
        return torch.where(chosen, moved, values)


@dataclass(frozen=True)
class Shift:
    """Whole pixels to the side, the border coming back in on the other: exact, like a mirror.

    Attributes:
        offsets: ``(B, D)`` integers, how far along each axis of ``*S``.
    """

    offsets: Tensor

    @classmethod
    def draw(cls, images: Tensor, generator=None, most: int = 2) -> Shift:
        """Offsets of at most ``most`` pixels on each axis, drawn for each image."""
        size, device = (len(images), images.ndim - 2), images.device
        return cls(torch.randint(-most, most + 1, size, generator=generator, device=device))

    def __call__(self, values: Tensor) -> Tensor:
        """Move ``values (B, C, *S)``."""
        for axis, came in self._sources(values):
            values = values.take_along_dim(came % values.shape[axis], axis)
        return values

    def inverse(self, values: Tensor) -> Tensor:
        """Move ``values`` back."""
        return Shift(-self.offsets)(values)

    def inside(self, images: Tensor) -> Tensor:
        """``(B, 1, *S)``: false on the border that came in from the other side."""
        known = torch.ones_like(images[:, :1], dtype=torch.bool)
        for axis, came in self._sources(images):
            known = known & (came >= 0) & (came < images.shape[axis])
        return known

    def _sources(self, values):
        for axis, offset in enumerate(self.offsets.T, start=2):
            came = torch.arange(values.shape[axis], device=values.device) - offset[:, None]
            shape = [1] * values.ndim
            shape[0], shape[axis] = came.shape
            yield axis, came.view(shape)


@dataclass(frozen=True)
class AffineView:
    """Rotation, scaling and shift by any amount: values are interpolated, so nearly invertible.

    Linear interpolation keeps sums of 1. Each pass blurs by up to a pixel.

    Attributes:
        maps: ``(B, D, D + 1)``, from output to input, as :func:`.random_affine` draws them.
    """

    maps: Tensor

    @classmethod
    def draw(
        cls, images: Tensor, generator=None, rotation: float = 0.0, scale=0.0, shift=0.0
    ) -> AffineView:
        """One map for each image of ``(B, C, *S)``, by default from the global random state.

        Args:
            images: for their size and device.
            generator: on the device of ``images``.
            rotation: largest angle in the plane of the last two axes, degrees.
            scale: largest ``|ln factor|`` of the size.
            shift: largest translation on each axis, as a fraction of the extent.
        """
        return cls(random_affine(images, generator, rotation, scale, shift=shift))

    def __call__(self, values: Tensor) -> Tensor:
        """Move ``values (B, C, *S)``; the border is repeated outside."""
        return warp(values, affine_grid(self.maps, values.shape[2:]))

    def inverse(self, values: Tensor) -> Tensor:
        """Move ``values`` back, by the inverse maps."""
        linear = torch.linalg.inv(self.maps[:, :, :-1])
        return AffineView(torch.cat([linear, -linear @ self.maps[:, :, -1:]], 2))(values)

    def inside(self, images: Tensor) -> Tensor:
        """``(B, 1, *S)``: true where a moved pixel lies between pixels of the image."""
        size = images.shape[2:]
        centres = 1 - 1 / torch.tensor(size[::-1], device=images.device)  # of the border pixels
        return (affine_grid(self.maps, size).abs() <= centres + 1e-5).all(-1).unsqueeze(1)


@dataclass(frozen=True)
class Chain:
    """Several views, one after the other.

    Attributes:
        views: applied from first to last.
    """

    views: tuple

    def __call__(self, values: Tensor) -> Tensor:
        """Move ``values (B, C, *S)``."""
        for view in self.views:
            values = view(values)
        return values

    def inverse(self, values: Tensor) -> Tensor:
        """Undo the views, the last one first."""
        for view in reversed(self.views):
            values = view.inverse(values)
        return values

    def inside(self, images: Tensor) -> Tensor:
        """``(B, 1, *S)``: true where no view had to invent the pixel."""
        known = torch.ones_like(images[:, :1])
        for view in self.views:
            known = view(known) * view.inside(known)
        return known > 0.999
