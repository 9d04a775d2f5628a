"""Many small shapes at once: strokes for vessels, blobs for nuclei and lesions."""

from __future__ import annotations

import numpy as np

THIN = 0.75  # px; a connected curve drawn this wide on pixel centres stays connected


def strokes(points, radii, size: int, thinnest=THIN):
    """Signed depth in pixels ``(size, size)``: the greatest r - distance over all points.

    Args:
        points: ``(P, 2)`` as (y, x) in [-1, 1].
        radii: ``(P,)`` in the same unit.
        size: pixels along a side.
        thinnest: no radius is smaller than this, in pixels.
    """
    centre = (points + 1) * (size / 2) - 0.5
    radius = np.maximum(radii * size / 2, thinnest)
    reach = int(np.ceil(radius.max(initial=0))) + 1
    window = np.arange(-reach, reach + 1)
    pixel = np.rint(centre).astype(int)
    y = np.clip(pixel[:, 0, None] + window, -1, size)
    x = np.clip(pixel[:, 1, None] + window, -1, size)
    dy, dx = y - centre[:, :1], x - centre[:, 1:]
    depth = radius[:, None, None] - np.sqrt(dy[:, :, None] ** 2 + dx[:, None] ** 2)
    canvas = np.full((size + 2) ** 2, -2.0, np.float32)
    place = (y[:, :, None] + 1) * (size + 2) + x[:, None] + 1
    np.maximum.at(canvas, place.ravel(), depth.ravel().astype(np.float32))
    return canvas.reshape(size + 2, size + 2)[1:-1, 1:-1]


def blob(dy, dx, radius, angle, stretch, waves, phase) -> np.ndarray:
    """Signed depth ``(n, *S)`` inside ``n`` ellipses with a wavy outline, positive inside.

    The outline is radius (1 + sum_k waves_k cos(k t + phase_k)), k = 2, 3, 5.

    Args:
        dy: ``(n, *S)`` offsets from each centre; ``dx`` likewise.
        radius: ``(n,)``, geometric mean of both half axes; ``angle``, ``stretch`` (ratio) likewise.
        waves: ``(n, 3)`` amplitudes; ``phase`` likewise.
    """
    one = (slice(None), *[None] * (np.broadcast(dy, dx).ndim - 1))
    turn, root = (np.cos(angle)[one], np.sin(angle)[one]), np.sqrt(stretch)[one]
    u, v = (dx * turn[0] + dy * turn[1]) / root, (dy * turn[0] - dx * turn[1]) * root
    t = np.arctan2(v, u)
    edge = sum(waves[:, i][one] * np.cos(k * t + phase[:, i][one]) for i, k in enumerate((2, 3, 5)))
    return radius[one] * (1 + edge) - np.hypot(u, v)


def true_colour(images) -> np.ndarray:
    """Mean and deviation of each channel ``(N, 2, C)``: what normalisation takes from a picture."""
    axes = (0, 2, 3)
    return np.repeat(np.stack([images.mean(axes), images.std(axes)])[None], len(images), 0)
