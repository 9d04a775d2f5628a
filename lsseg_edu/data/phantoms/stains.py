"""From what a tissue section holds to what a microscope shows of it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lsseg_edu.data.phantoms.physics import blur, lattice, poisson, smooth_field


def ground(region, patient, axes, rng):
    """Haematoxylin and eosin between the nuclei: cytoplasm, lumen, fibres, red cells, debris."""
    shape = region.shape
    inside = np.clip(0.5 + 4 * region, 0, 1)
    lumen = np.clip(4 * (region - 1.0), 0, 1) if patient["glands"] else 0 * region
    y, x = lattice(*axes)
    turn = rng.uniform(0, np.pi)
    phase = 14 * (x * np.cos(turn) + y * np.sin(turn)) + 5 * smooth_field(axes, 3, rng)
    fibre = np.clip(0.5 + 0.5 * np.sin(phase) + 0.5 * smooth_field(axes, 9, rng), 0, 1.4)
    stroma = patient["collagen"] * (0.25 + fibre)
    cytoplasm = 0.45 + 0.08 * smooth_field(axes, 16, rng)
    eosin = (stroma * (1 - inside) + cytoplasm * inside) * (1 - lumen)
    haze = patient["basophilia"] * inside * (1 - lumen) * (1 + 0.3 * smooth_field(axes, 12, rng))
    reds, specks = np.zeros(shape), np.zeros(shape)
    site = rng.integers(0, shape[0], (2, rng.poisson(5), 2))
    reds[tuple(site[0].T)], specks[tuple(site[1].T)] = 1, 1
    scale = shape[0] / 64
    reds = ndimage.maximum_filter(reds, footprint=_disc(2.6 * scale)) * (region < 0)
    specks = ndimage.maximum_filter(specks, footprint=_disc(0.9 * scale))
    unfocused = blur((smooth_field(axes, 10, rng) > 2).astype(np.float32), 1.5 * scale)
    return haze + 0.9 * specks + 0.5 * unfocused, eosin + 0.9 * blur(reds, 0.4 * scale)


def _disc(radius):
    r = np.arange(-int(radius), int(radius) + 1)
    return np.hypot(r[:, None], r) <= radius


def brightfield(dna, haze, eosin, rng):
    """Transmitted light through two stains whose strength, hue and thickness vary by laboratory."""
    h = np.array([0.65, 0.70, 0.29]) + rng.normal(0, 0.06, 3)
    e = np.array([0.07, 0.99, 0.11]) * 0.6 + rng.normal(0, 0.04, 3).clip(-0.04)
    h, e = (v[:, None, None] * rng.lognormal(0, 0.3) for v in (h, e))
    absorbed = h * (dna + haze)[:, None] + e * eosin[:, None]
    light = rng.uniform(0.85, 1) * np.exp(-absorbed)
    return _sensor(light, rng.uniform(0.3, 1.0), 400, rng)


def fluorescence(dna, haze, eosin, rng):
    """Emitted light of a DNA dye: bright on black, with glow from above and below the focus."""
    scale = dna.shape[-1] / 64
    light = dna * rng.lognormal(0, 0.3) + 0.7 * haze + rng.uniform(0, 0.15) * eosin
    glow = blur(light, (0, 4 * scale, 4 * scale)) * rng.uniform(0.2, 0.7)
    light = rng.uniform(0.02, 0.1) + 0.35 * (light + glow)
    return np.repeat(_sensor(light[:, None], rng.uniform(0.4, 1.2), 60, rng), 3, axis=1)


def _sensor(light, sigma, photons, rng):
    sigma = sigma * light.shape[-1] / 64
    light = blur(light, (0, 0, sigma, sigma))
    return np.clip(poisson(light, photons * rng.uniform(0.5, 2), rng), 0, 1)
