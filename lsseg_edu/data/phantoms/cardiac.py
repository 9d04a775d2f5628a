"""Short-axis cine MR of the heart at end-diastole and end-systole, with its neighbourhood.

Lengths in mm. ``h`` runs along the long axis from the mitral valve (0) to the apex (1).
Simplified: analytic ventricles (``heart.py``) among analytic neighbours (``chest.py``), bent
by a smooth diffeomorphism; no through-plane blurring, no breathing between slices.
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import chest, heart
from lsseg_edu.data.phantoms import physics as ph

VERSION = 4
NAMES = ("background", "right ventricle", "myocardium", "left ventricle")
SIZES = {2: (64, 128), 3: (32, 48, 64)}
FIELD, DEPTH, SLICES = 160.0, 16, 6

SCANNERS = {  # A: bSSFP; B: spoiled gradient echo, flatter, noisier, blurred
    "A": {"blood": 1.0, "muscle": 0.36, "fat": 0.95, "liver": 0.45, "fluid": 1.1}
    | {"noise": 0.04, "bias": 0.45, "psf": 1.0, "suppressed": 0.3},
    "B": {"blood": 0.78, "muscle": 0.42, "fat": 0.8, "liver": 0.6, "fluid": 0.5}
    | {"noise": 0.06, "bias": 0.7, "psf": 1.7, "suppressed": 0.8},
}


def spacing(size: int, dims: int) -> tuple[float, ...]:
    """mm per pixel; a stack has 16 slices, 7 mm apart."""
    return (7.0,) * (dims - 2) + (FIELD / size,) * 2


def subject(size: int, dims: int, scanner: str, rng):
    """Both frames of one heart: slices ``(12, 1, H, W)`` or stacks ``(2, 1, 16, H, W)``."""
    patient, neighbours = heart.draw(rng), chest.draw(rng)
    h = np.linspace(0.03, 0.92, SLICES) + rng.uniform(-0.04, 0.04)
    if dims == 3:
        h = np.linspace(-0.15, 1.1, DEPTH)
    axes = (2 * h.astype(np.float32) - 1, ph.axis(size), ph.axis(size))
    frames = _frames(axes, rng)
    fields = [ph.smooth_field(axes, (2, 6, 6), rng) for _ in range(4)]
    look = _look(scanner, rng)
    painted = []
    for frame, (y, x) in enumerate(frames):
        canvas = ph.Canvas(np.full(y.shape, 0.45 * look["muscle"], np.float32), FIELD / size)
        chest.paint(canvas, h[:, None, None], y, x, neighbours, look, fields)
        heart.paint(canvas, patient, frame, h[:, None, None], y, x, look, fields)
        painted.append(canvas)
    images = _acquire(np.stack([c.image for c in painted]), axes, look, FIELD / size, rng)
    labels = np.stack([c.labels for c in painted])
    if dims == 3:
        return images[:, None], labels, {"frame": np.arange(2), "position": np.full(2, 0.5)}
    extras = {"frame": np.repeat(np.arange(2), SLICES), "position": np.tile(h, 2).clip(0, 1)}
    return images.reshape(-1, 1, size, size), labels.reshape(-1, size, size), extras


def _frames(axes, rng):
    """In-plane coordinates ``(y, x)`` in mm at both frames: one body, two stages of its beat."""
    rest = ph.lattice(*axes)[1:] + ph.diffeomorphism(axes, 0.07, 3, rng)[1:]
    beat = [ph.smooth_field((*axes, (0, 1)), 4, rng) for _ in range(2)]
    return [FIELD / 2 * (rest + 0.015 * np.stack(beat)[..., frame]) for frame in range(2)]


def _look(scanner, rng) -> dict:
    """Tissue values of one examination: the scanner's, scattered between patients."""
    look = dict(SCANNERS[scanner])
    for tissue in ("blood", "muscle", "fat", "liver", "fluid"):
        look[tissue] *= rng.uniform(0.72, 1.28)
    look["blood"] = max(look["blood"], look["muscle"] + 0.22)
    look["fat"] *= 0.3 if rng.uniform() < look["suppressed"] else 1.0
    look["noise"] *= rng.uniform(0.7, 2.2)
    return look


def _acquire(images, axes, look, pixel, rng):
    """Point spread, coil shading, artefacts, grain, Rician noise; ``(2, Z, H, W)``."""
    images = ph.blur(images, (0, 0, look["psf"] / pixel, look["psf"] / pixel))
    images = images * ph.bias_field(axes, look["bias"], rng) * _artefacts(axes, rng)
    ghost = rng.integers(len(axes[1]) // 6, len(axes[1]) // 2)
    images = images + rng.choice([0, 0.04, 0.14]) * np.roll(images, ghost, axis=2)
    images = images * (1 + 0.04 * ph.texture(images.shape, (0, 0, 3 / pixel, 3 / pixel), rng))
    return ph.rician(images, look["noise"], rng)


def _artefacts(axes, rng):
    """Off-resonance bands and the void around a sternal wire or a lead, in some patients."""
    band, wire = (rng.uniform() < chance for chance in (0.2, 0.2))
    phase = ph.smooth_field(axes, 2, rng)
    place, radius = rng.uniform((-0.7, -0.5), (0.1, 0.3)), rng.uniform(0.06, 0.14)
    _, y, x = ph.lattice(*axes)
    void = np.exp(-((((y - place[0]) ** 2 + (x - place[1]) ** 2) / radius**2) ** 2))
    return (1 - 0.6 * band * np.exp(-((phase / 0.14) ** 2))) * (1 - wire * void)
