"""Image formation shared by all phantoms: lattice, shapes, deformation, tissue, coil, noise.

A phantom samples one subject on a lattice given by one 1D array of coordinates per axis, each
running from -1 to 1 across the field of view. Slices and volumes are the same thing: for slices
the first axis holds their few positions, for a volume it is as dense as the others.
All random numbers come from the ``numpy.random.Generator`` that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage


def axis(size: int) -> np.ndarray:
    """Centres of ``size`` pixels that fill [-1, 1], float32."""
    return ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)


def lattice(*axes) -> np.ndarray:
    """Coordinates ``(dims, *S)`` of the points on these axes, slowest axis first."""
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def smooth_field(axes, knots, rng) -> np.ndarray:
    """Random cubic B-spline field on the axes, mean 0, standard deviation near 1.

    Args:
        axes: coordinates in [-1, 1] per axis; the field is the same function for any sampling.
        knots: bumps across [-1, 1], one number or one per axis; ``None`` makes an axis
            independent (e.g. unrelated images stacked along it).
        rng: source of randomness.

    Returns:
        float32 of shape ``(len(axis) for axis in axes)``.
    """
    knots = knots if isinstance(knots, tuple) else (knots,) * len(axes)
    bases = [np.eye(len(a), dtype=np.float32) if k is None else _basis(a, k)
             for a, k in zip(axes, knots, strict=True)]  # fmt: skip
    values = rng.standard_normal([b.shape[1] for b in bases], dtype=np.float32)
    smooth = sum(k is not None for k in knots)
    return _separable(values, bases) / np.float32(0.69**smooth)


def _basis(coordinates, knots: int) -> np.ndarray:
    """Cubic B-spline weights ``(len(coordinates), knots + 3)`` of the control points."""
    u = (np.asarray(coordinates)[:, None] + 1) / 2 * knots - np.arange(-1, knots + 2)[None]
    u = np.abs(u)
    near, far = 2 / 3 - u**2 + u**3 / 2, np.maximum(2 - u, 0) ** 3 / 6
    return np.where(u < 1, near, far).astype(np.float32)


def _separable(values, bases) -> np.ndarray:
    for basis in bases:
        values = np.moveaxis(np.tensordot(basis, values, (1, 0)), 0, -1)
    return values


def bias_field(axes, strength: float, rng, knots=2) -> np.ndarray:
    """Multiplicative receive-coil shading, smooth, between ``exp(-strength), exp(strength)``."""
    shading = smooth_field(axes, knots, rng)
    return np.exp(strength * shading / np.abs(shading).max())


def diffeomorphism(axes, strength: float, knots: int, rng, steps=5, grid=20) -> np.ndarray:
    """Displacement ``(dims, *S)`` of a random smooth invertible map (scaling and squaring).

    The flow of a stationary velocity field v: start with v / 2^steps, compose with itself
    ``steps`` times (Arsigny et al., MICCAI 2006), on a coarse full lattice; then read off at
    ``axes``, which may be as sparse as a few slices.

    Args:
        axes: coordinates in [-1, 1] per axis.
        strength: standard deviation of the velocity, in units of half the field of view.
        knots: bumps of the velocity across the field of view.
        rng: source of randomness.
        steps: number of squarings.
        grid: points per axis of the coarse lattice.
    """
    coarse = [axis(grid)] * len(axes)
    flow = np.stack([smooth_field(coarse, knots, rng) for _ in axes]) * (strength / 2**steps)
    here = lattice(*coarse)
    for _ in range(steps):
        flow = flow + np.stack([warp(part, here + flow) for part in flow])
    read = [_basis(np.clip(a * grid / (grid - 1), -1, 1), grid - 1)[:, 1:-1] for a in axes]
    read = [r / r.sum(1, keepdims=True) for r in read]
    return np.stack([_separable(part, read) for part in flow])


def warp(image, points, order=1) -> np.ndarray:
    """Read ``image (*S)`` at ``points (dims, *T)`` in [-1, 1]; order 1 linear, 0 nearest.

    Points outside take the value of the nearest edge.
    """
    size = np.asarray(image.shape, np.float32).reshape(-1, *[1] * (points.ndim - 1))
    return ndimage.map_coordinates(
        image, ((points + 1) * size - 1) / 2, order=order, mode="nearest"
    )


def rotate(y, x, angle: float):
    """Coordinates ``(y, x)`` seen from axes turned by ``angle`` radians."""
    return np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x


def ellipsoid(points, centre, radii, power=2.0, angle=0.0) -> np.ndarray:
    """Signed distance, measured along rays from the centre, negative inside a superellipsoid.

    sum_i |p_i / r_i|^power = 1 is the surface. Works in 1 to 3 dimensions.

    Args:
        points: ``(dims, *S)`` array or sequence of broadcastable arrays.
        centre: one number (or broadcastable array) per axis.
        radii: likewise.
        power: 2 an ellipsoid, larger more box-like.
        angle: turn in the plane of the last two axes, radians.
    """
    p = [x - c for x, c in zip(points, centre, strict=True)]
    if angle:
        p[-2], p[-1] = rotate(p[-2], p[-1], angle)
    length = np.sqrt(sum(x * x for x in p) + 1e-8)
    if power == 2:
        gauge = np.sqrt(sum((x / r) ** 2 for x, r in zip(p, radii, strict=True)) + 1e-8)
    else:
        total = sum(np.abs(x / r) ** power for x, r in zip(p, radii, strict=True))
        gauge = (total + 1e-8) ** (1 / power)
    return length - length / gauge


def capsule(points, start, end, radius) -> np.ndarray:
    """Signed distance to a rod from ``start`` to ``end``; ``radius`` may be an array."""
    along = [e - s for s, e in zip(start, end, strict=True)]
    p = [x - s for x, s in zip(points, start, strict=True)]
    t = sum(a * x for a, x in zip(along, p, strict=True)) / (sum(a * a for a in along) + 1e-8)
    t = np.clip(t, 0, 1)
    return np.sqrt(sum((x - t * a) ** 2 for x, a in zip(p, along, strict=True)) + 1e-8) - radius


def smooth_union(a, b, radius: float) -> np.ndarray:
    """Union of two signed distances with a fillet of ``radius`` where they meet."""
    h = np.maximum(radius - np.abs(a - b), 0) / radius
    return np.minimum(a, b) - h * h * radius / 4


def coverage(distance, pixel: float) -> np.ndarray:
    """Fraction of a pixel of width ``pixel`` inside a shape: partial volume at its border."""
    return np.clip(0.5 - distance / pixel, 0, 1)


@dataclass
class Canvas:
    """Painter's algorithm for image and labels together; later shapes cover earlier ones.

    Attributes:
        image: float32 ``(*S)``, tissue values before coil, blur and noise.
        pixel: width of a pixel in the lattice's units (2 / size).
        labels: int64 ``(*S)``, exact: a pixel belongs to the shape that holds its centre.
    """

    image: np.ndarray
    pixel: float
    labels: np.ndarray = field(init=False)

    def __post_init__(self):
        self.labels = np.zeros(self.image.shape, np.int64)

    def paint(self, distance, value, label: int | None = None, opacity=1.0) -> None:
        """Fill the shape with ``value`` (a number or an image); ``label=None`` keeps labels."""
        self.image = self.image + opacity * coverage(distance, self.pixel) * (value - self.image)
        if label is not None:
            self.labels[np.broadcast_to(distance < 0, self.labels.shape)] = label


def texture(shape, grain, rng) -> np.ndarray:
    """Correlated noise, mean 0, standard deviation 1; ``grain`` in pixels, per axis or one."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), grain)
    return noise / noise.std()


def blur(image, sigma) -> np.ndarray:
    """Point spread of the scanner: Gaussian, ``sigma`` in pixels, one number or per axis."""
    return ndimage.gaussian_filter(image, sigma)


def rician(image, sigma: float, rng) -> np.ndarray:
    """Magnitude of an MR signal with Gaussian noise ``sigma`` in both receiver channels."""
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * sigma
    return np.hypot(image + real, imaginary)


def poisson(image, photons: float, rng) -> np.ndarray:
    """Photon-counting noise: ``image >= 0`` in units where 1 is ``photons`` expected counts."""
    return (rng.poisson(np.maximum(image, 0) * photons) / photons).astype(np.float32)
