"""Statistical shape model: the mean outline and the few ways in which it varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsseg_edu.semi.priors.shape.outlines import align, fill, landmarks, pose


@dataclass(frozen=True)
class ShapeModel:
    r"""A linear model of outlines, :math:`z \approx \bar z + \sum_j b_j \phi_j` up to pose.

    Training outlines get corresponding points, are moved, turned and scaled onto their mean
    (generalised Procrustes), and the principal components of what is left are the modes.

    Attributes:
        organs: the classes it has outlines of.
        mean: complex ``(organs, points)``, centred, of norm 1.
        modes: complex ``(m, organs, points)``, orthonormal; :math:`\phi_j`.
        deviations: ``(m,)`` standard deviations of :math:`b_j`, largest first.
        scale: mean norm of the training outlines, in pixels.

    Reference: Cootes, Taylor, Cooper, Graham, "Active Shape Models: Their Training and
    Application", Computer Vision and Image Understanding 1995.
    Simplified: points at equal arc length correspond; plane shapes only.
    """

    organs: tuple[int, ...]
    mean: np.ndarray
    modes: np.ndarray
    deviations: np.ndarray
    scale: float

    @classmethod
    def of(cls, masks, organs, points: int = 32, modes: int | float = 0.98) -> ShapeModel:
        """Learn the model.

        Args:
            masks: ``(M, H, W)``, each showing all of ``organs``.
            organs: class numbers.
            points: landmarks on each outline.
            modes: how many, or which share of the variance they must explain.

        Raises:
            ValueError: fewer than two masks, or more modes than they can span.
        """
        if len(masks) < 2:
            raise ValueError(f"A shape model needs two masks at least, and gets {len(masks)}.")
        if modes >= 1 and modes > len(masks) - 1:
            raise ValueError(
                f"{len(masks)} shapes vary in {len(masks) - 1} ways at most; {modes} modes are "
                f"too many: ask for fewer, or give more shapes."
            )
        shapes = [landmarks(np.asarray(mask), organs, points) for mask in masks]
        mean = shapes[0]
        for _ in range(4):
            mean = (mean - mean.mean()) / np.linalg.norm(mean - mean.mean())
            shapes = [align(z, mean) for z in shapes]
            placed = np.stack([_place(z, mean) for z in shapes])
            mean = placed.mean(0)
        scale = np.mean([np.linalg.norm(z - z.mean()) for z in shapes])
        flat = (placed - mean).reshape(len(placed), -1)
        _, values, axes = np.linalg.svd(np.hstack([flat.real, flat.imag]), full_matrices=False)
        if modes < 1:
            share = np.cumsum(values**2) / (values**2).sum()
            modes = 1 + int(np.searchsorted(share, modes))
        axes = axes[: int(modes)]
        half = axes.shape[1] // 2
        phi = (axes[:, :half] + 1j * axes[:, half:]).reshape(-1, *mean.shape)
        return cls(tuple(organs), mean, phi, values[: len(phi)] / np.sqrt(len(masks) - 1), scale)

    def shape(self, b) -> np.ndarray:
        """The outlines of coefficients ``b`` (``m`` or fewer), in the model's own pose."""
        return self.mean + np.tensordot(np.asarray(b), self.modes[: len(b)], 1)

    def coefficients(self, shape: np.ndarray) -> np.ndarray:
        """``b`` of outlines that correspond to the mean and lie in its pose."""
        return np.tensordot(self.modes.conj(), shape - self.mean, 2).real

    def project(self, outlines: np.ndarray, clip: float = 3.0, rounds: int = 10) -> np.ndarray:
        r"""The nearest outlines that the model allows, :math:`|b_j| \le c \sigma_j`, in place.

        Points correspond at first by arc length, which a notch would upset. From then on each
        point of the model is drawn to the nearest point of its outline; pose, coefficients and
        nearest points are found in turn, as an active shape model does.

        Args:
            outlines: complex ``(organs, n)``, ``n`` a multiple of the model's points.
            clip: :math:`c`.
            rounds: turns.

        Returns:
            Complex ``(organs, points)``.
        """
        model, most = self.mean, clip * self.deviations
        near = align(outlines[:, :: outlines.shape[1] // model.shape[1]], model)
        for _ in range(rounds):
            a, t = pose(near, model)
            model = self.shape(self.coefficients(a * near + t).clip(-most, most))
            found = (model - t) / a
            steps = np.abs(outlines[:, :, None] - found[:, None]).argmin(1)
            near = np.take_along_axis(outlines, steps, 1)
        return found

    def draw(self, b, size) -> np.ndarray:
        """The mask ``size`` of coefficients ``b``, in the middle, of the mean scale."""
        middle = (size[0] - 1) / 2 + 1j * (size[1] - 1) / 2
        return fill(self.scale * self.shape(b) + middle, self.organs, size)


def _place(shape, target):
    a, t = pose(shape, target)
    return a * shape + t
