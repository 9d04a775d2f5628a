"""What a learner is given: images, masks, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

IGNORE = 255
"""Label of a pixel that nobody annotated. Every supervised loss and every metric skips it."""


@dataclass(frozen=True)
class Cohort:
    """Labelled images of several subjects, in memory, ready for any device.

    Shapes: ``N`` items (slices, or whole volumes), ``C`` channels, ``*S`` = ``H W`` or ``D H W``.

    Attributes:
        images: ``(N, C, *S)`` float32, normalised per subject to mean 0, standard deviation 1.
        labels: ``(N, *S)`` int64 in ``0..K-1``, or :data:`IGNORE`.
        subjects: ``(N,)`` int64, the subject each item belongs to. Splits never cut a subject.
        names: the ``K`` class names; ``names[0]`` is the background.
        spacing: size of a pixel along each axis of ``*S``, in ``unit``.
        name: how results call this cohort.
        unit: ``"mm"``, or ``"px"`` where the true size is unknown.
        extras: further per-item tensors ``(N, ...)``: position, scanner, instances, scribbles.
    """

    images: Tensor
    labels: Tensor
    subjects: Tensor
    names: tuple[str, ...]
    spacing: tuple[float, ...]
    name: str = "cohort"
    unit: str = "mm"
    extras: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls, images, labels, subjects=None, names=None, spacing=None, name="yours", **kwargs
    ) -> Cohort:
        """Make a cohort of anybody's arrays, or say in one sentence why that cannot be.

        Args:
            images: ``(N, *S)`` or ``(N, C, *S)``, any real dtype; normalised here per subject.
            labels: ``(N, *S)`` integers in ``0..K-1``, :data:`IGNORE` where not annotated.
            subjects: ``(N,)`` integers; by default every item is a subject of its own.
            names: class names, background first; by default ``class 1``, ``class 2``, ...
            spacing: pixel size per axis; by default 1 each, counted in pixels.
            name: how results call this cohort.
            **kwargs: ``unit`` and ``extras`` of :class:`Cohort`.

        Raises:
            ValueError: wrong shape, not numbers, NaN, a constant image, a label outside the
                classes, a class that no item shows.

        Example:
            >>> import numpy as np
            >>> images = np.random.default_rng(0).normal(size=(4, 32, 32))
            >>> cohort = Cohort.from_arrays(images, images > 1, names=["air", "tissue"])
            >>> cohort
            Cohort 'yours': 4 items of 4 subjects, 1x32x32, classes air, tissue
        """
        images, labels = np.asarray(images), np.asarray(labels)
        _check_dtypes(images, labels)
        if images.ndim == labels.ndim and labels.ndim in (3, 4):
            images = images[:, None]
        _check_shapes(images, labels)
        subjects = np.arange(len(images)) if subjects is None else np.asarray(subjects)
        if subjects.shape != (len(images),) or not np.issubdtype(subjects.dtype, np.integer):
            raise ValueError(
                f"subjects must be {len(images)} integers, one per image, not {subjects.dtype} "
                f"of shape {subjects.shape}."
            )
        labels = labels.astype(np.int64)
        names = _check_classes(labels, names)
        if spacing is None:
            spacing = (1.0,) * (labels.ndim - 1)
            kwargs.setdefault("unit", "px")
        if len(spacing) != labels.ndim - 1 or min(spacing) <= 0:
            raise ValueError(
                f"spacing must be {labels.ndim - 1} positive numbers, one per axis, not {spacing}."
            )
        images = normalise(torch.from_numpy(images.astype(np.float32)), subjects)
        subjects = torch.from_numpy(subjects.astype(np.int64))
        kwargs["extras"] = _check_extras(kwargs.get("extras", {}), len(images))
        labels, spacing = torch.from_numpy(labels), tuple(spacing)
        return cls(images, labels, subjects, names, spacing, name, **kwargs)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        return (
            f"Cohort {self.name!r}: {len(self)} items of {len(self.subjects.unique())} subjects, "
            f"{size}, classes {', '.join(self.names)}"
        )

    @property
    def dims(self) -> int:
        """2 for slices, 3 for volumes."""
        return self.labels.ndim - 1

    @property
    def channels(self) -> int:
        """Number of image channels ``C``."""
        return self.images.shape[1]

    @property
    def classes(self) -> int:
        """Number of classes ``K``, background included."""
        return len(self.names)

    def select(self, index) -> Cohort:
        """The items of ``index`` (integers or a mask of length ``N``), in that order."""
        return self._each(lambda values: values[index])

    def of(self, subjects) -> Cohort:
        """All items of these subjects."""
        return self.select(torch.isin(self.subjects, torch.as_tensor(subjects).to(self.subjects)))

    def to(self, device) -> Cohort:
        """The same cohort on another device: call it once, not once a batch."""
        return self._each(lambda values: values.to(device))

    def _each(self, change) -> Cohort:
        parts = {key: change(getattr(self, key)) for key in ("images", "labels", "subjects")}
        extras = {key: change(value) for key, value in self.extras.items()}
        return replace(self, **parts, extras=extras)


def normalise(images: Tensor, subjects) -> Tensor:
    """Scale each subject's images ``(N, C, *S)`` to mean 0 and standard deviation 1 per channel.

    The statistics are taken over all items of a subject, so slices of one volume stay comparable,
    and over no other subject, so nothing of the test set enters the training images.
    """
    images = images.clone()
    for subject in np.unique(subjects):
        items = torch.from_numpy(np.flatnonzero(subjects == subject))
        axes = [0, *range(2, images.ndim)]
        mean = images[items].mean(axes, keepdim=True)
        std = images[items].std(axes, keepdim=True)
        if not (std > 1e-8).all():
            raise ValueError(
                f"The images of subject {subject} are constant; remove it or check how it was read."
            )
        images[items] = (images[items] - mean) / std
    return images


def _check_dtypes(images, labels):
    if not (np.issubdtype(images.dtype, np.number) or images.dtype == bool):
        raise ValueError(f"images must be one array of numbers, not of dtype {images.dtype}.")
    if np.iscomplexobj(images):
        raise ValueError("images must be real; take the magnitude of complex images first.")
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise ValueError(f"labels must be integers (class numbers), not {labels.dtype}.")
    if not np.isfinite(images).all():
        bad = np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(1))
        raise ValueError(f"Image {bad[0]} holds NaN or infinity ({len(bad)} such images).")


def _check_shapes(images, labels):
    if len(images) == 0:
        raise ValueError("The cohort is empty: give at least one image.")
    if images.ndim not in (4, 5) or images.shape[:1] + images.shape[2:] != labels.shape:
        raise ValueError(
            f"images (N, [C,] *S) and labels (N, *S) must agree, with two or three spatial axes; "
            f"got images {images.shape} and labels {labels.shape}."
        )


def _check_classes(labels, names):
    known = np.unique(labels[labels != IGNORE])
    if len(known) == 0:
        raise ValueError(f"Nothing is annotated: every label is {IGNORE} (ignore).")
    if names is None:
        names = ["background", *(f"class {k}" for k in range(1, max(known.max(), 1) + 1))]
    if known.min() < 0 or known.max() >= len(names):
        raise ValueError(
            f"Labels run from {known.min()} to {known.max()}, but there are {len(names)} classes "
            f"(0 to {len(names) - 1}, and {IGNORE} for pixels nobody annotated)."
        )
    empty = [names[k] for k in range(len(names)) if k not in known]
    if empty:
        raise ValueError(f"No image shows the class {empty[0]!r}: drop it from names.")
    return tuple(names)


def _check_extras(extras, n) -> dict[str, Tensor]:
    extras = {key: torch.as_tensor(value) for key, value in extras.items()}
    for key, value in extras.items():
        if value.shape[:1] != (n,):
            raise ValueError(f"The extra {key!r} must have {n} entries, one per image.")
    return extras
