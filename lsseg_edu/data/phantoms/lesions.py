"""Lung lesions: CT slices of one lung, with nodules and ground glass of very unequal size.

Radii are log-normal: most lesions are a few pixels, a few fill a lobe, some slices have none.
Whatever else is bright in a lung is a distractor: vessels along and across the slice, airway
walls, fissures, dependent density, pleural effusion, the liver's dome. Scanner A is a standard
scan in a lung window, B a low-dose one: noisier, sharper, in a wider window.

Lengths are in half fields of view (95 mm); x runs from the spine outwards, y from front to back.
Simplified: each slice is drawn on its own, the two levels of a patient share no lesion.
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import physics as ph
from lsseg_edu.data.phantoms.shapes import blob
from lsseg_edu.data.phantoms.thorax import chest, outline, parenchyma, tubes

VERSION = 1
NAMES = ("background", "lesion")
SIZES = {2: (64, 128)}
FIELD = 190.0
SCANNERS = {  # noise in HU, kernel's blur in pixels of 3 mm, window in HU
    "A": {"noise": (15, 40), "blur": (0.35, 0.6), "window": (-1150, 200)},
    "B": {"noise": (50, 110), "blur": (0.2, 0.4), "window": (-1100, 350)},
}


def spacing(size: int, dims: int) -> tuple[float, ...]:
    """mm a pixel."""
    return (FIELD / size,) * dims


def subject(size: int, dims: int, scanner: str, rng):
    """Right and left lung of a patient at two levels: images ``(4, 1, H, W)`` in HU, lesions."""
    patient = _patient(rng)
    levels = np.repeat([rng.uniform(0.15, 0.45), rng.uniform(0.55, 0.9)], 2)
    rank = rng.permutation(4)  # slice 0 has no lesion, slice 3 has one at least, of fair size
    drawn = [
        _slice(patient, level, side, rank[i], size, rng)
        for i, (level, side) in enumerate(zip(levels, (0, 1, 0, 1), strict=True))
    ]
    images, kinds = (np.stack(part) for part in zip(*drawn, strict=True))
    images = _scan(images, SCANNERS[scanner], rng)[:, None]
    images[1::2], kinds[1::2] = images[1::2, ..., ::-1], kinds[1::2, ..., ::-1]
    return images, kinds > 0, {"kind": kinds, "position": levels}


def _patient(rng) -> dict:
    """Build, lung density, disease: what the slices of one patient share."""
    return {
        "wall": rng.uniform(0.10, 0.22),
        "depth": rng.uniform(0.82, 0.95),
        "width": rng.uniform(1.35, 1.6),
        "lung": rng.uniform(-900, -780),
        "gravity": rng.uniform(20, 140),
        "emphysema": max(rng.normal(0, 0.8), 0),
        "vessels": rng.uniform(0.4, 0.9),
        "effusion": rng.uniform(0.1, 0.4) if rng.random() < 0.25 else 0.0,
        "burden": rng.lognormal(0.7, 0.5),
        "size": np.exp(rng.normal(np.log(0.075), 0.25)),
        "glass": rng.beta(0.7, 0.7),
        "contrast": rng.uniform(20, 90),
    }


def _slice(patient, level, left, rank, size, rng):
    """One lung in HU, and the kind of lesion at each pixel: 0 none, 1 solid, 2 ground glass."""
    axes = (ph.axis(size), ph.axis(size))
    moved = ph.lattice(*axes) + ph.diffeomorphism(axes, 0.035, 3, rng)
    lung, pleura = outline(moved, patient, level, left)
    canvas = ph.Canvas(np.full((size, size), -1000.0, np.float32), 2 / size)
    chest(canvas, moved, pleura, patient, level, left, rng)
    tissue = parenchyma(axes, moved, lung, patient, rng)
    tissue = tubes(tissue, patient, size, rng)
    tissue, kind = _disease(tissue, axes, lung, patient, rank, rng)
    canvas.paint(lung, tissue)
    return canvas.image, np.where(lung < 0, kind, 0)


def _disease(tissue, axes, lung, patient, rank, rng):
    """Lesions over (ground glass) or in place of (solid) the lung; later ones lie on top."""
    kind = np.zeros(tissue.shape, np.int64)
    n = 0 if rank == 0 else rng.poisson(patient["burden"]) + (rank == 3)
    radius = np.clip(patient["size"] * rng.lognormal(0, 0.9, n), 0.045, 0.6)
    if rank == 3:
        radius[0] = max(radius[0], rng.uniform(0.22, 0.42))
    glass = rng.random(n) < patient["glass"]
    for depth, ground in zip(_lesions(radius, glass, lung, axes, rng), glass, strict=True):
        if ground:
            value = tissue + rng.uniform(220, 450) * (1 + 0.25 * ph.smooth_field(axes, 14, rng))
        else:
            value = rng.uniform(-200, -20) + 15 * ph.smooth_field(axes, 14, rng)
        softness = (3 if ground else 1) * 2 / len(tissue)
        tissue = tissue + ph.coverage(-depth, softness) * (np.maximum(value, tissue) - tissue)
        kind[depth > 0] = 2 if ground else 1
    return tissue, kind


def _lesions(radius, glass, lung, axes, rng):
    """Signed depths ``(n, H, W)`` of lesions anywhere in the lung; large ones are less round."""
    n = len(radius)
    places = np.argwhere(lung < -0.08)
    site = axes[0][places[rng.integers(len(places), size=n)]]
    rough = np.clip(radius / 0.1, 0.3, 1) * np.where(glass, 0.13, 0.1)
    waves, phase = rough[:, None] * rng.standard_normal((n, 3)), rng.uniform(0, 6.3, (n, 3))
    y, x = (p - s[:, None, None] for p, s in zip(ph.lattice(*axes), site.T, strict=True))
    return blob(y, x, radius, rng.uniform(0, 6.3, n), rng.uniform(1, 1.7, n), waves, phase)


def _scan(image, machine, rng):
    """Reconstruction kernel, noise grain, window; HU to a display between 0 and 1."""
    pixels = image.shape[-1] / 64
    sigma = rng.uniform(*machine["blur"]) * pixels
    image = ph.blur(image, (0, sigma, sigma))
    grain = np.stack([ph.texture(i.shape, 0.5 * pixels, rng) for i in image])
    low, high = machine["window"]
    image = image + rng.uniform(*machine["noise"]) * grain
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
