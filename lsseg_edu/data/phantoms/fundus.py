"""The vessels of one eye: two trees that grow out of the optic disc.

A branching persistent random walk along the arcades around the macula, with calibres after
Murray's law r_parent^3 = r_1^3 + r_2^3 (Murray, PNAS 1926). Unit: the radius of the field of view.
"""

from __future__ import annotations

import numpy as np

STEP = 0.011  # 0.7 px of the 128 px eye: drawn no thinner than shapes.THIN, no step leaves a gap
VIEW = 0.98
EDGE = VIEW - 0.012  # a vessel ends 0.75 px inside the view, whose rim then never cuts it in two


def grow(disc, fovea, rng):
    """Arteries and veins of one eye in the unit disc; the macula lies to the right of the disc.

    All tips advance together, one ``STEP`` at a time; a tip ends when it is too thin, leaves
    the field of view or reaches the avascular zone of the fovea.

    Returns:
        points ``(P, 2)`` as (y, x), radii ``(P,)``, kinds ``(P,)``: 0 artery, 1 vein.
    """
    tips = _roots(disc, rng)
    wiggle, rate, thinnest = rng.uniform(0.03, 0.12), rng.uniform(5, 8), rng.uniform(0.008, 0.011)
    path, taken = [], np.full((2, 40, 40), 999)
    for step in range(250):
        path.append(tips[:, [0, 1, 4, 5]])
        tips = _advance(tips, wiggle, disc, fovea, rng)
        tips = _branch(tips, rate * STEP, thinnest, disc, rng)
        y, x, radius, kind = tips[:, [0, 1, 4, 5]].T
        avascular = np.hypot(y - fovea[0], x - fovea[1]) < 0.1
        tips = tips[(radius > thinnest) & (np.hypot(y, x) < EDGE) & ~avascular]
        tips = tips[~_crowded(tips, taken, step)]
        if len(tips) == 0:
            break
    path = np.concatenate(path)
    return path[:, :2], path[:, 2], path[:, 3].astype(int)


def _roots(disc, rng):
    """An artery and a vein to each quarter, and a few small vessels: y, x, angle, bend, r, kind."""
    angle = np.radians([-75, 75, -140, 140])
    kind = np.repeat([0.0, 1.0], 4)
    angle = np.tile(angle, 2) + rng.normal(0, 0.15, 8) + np.where(kind == 0, 0.1, -0.1)
    size = np.tile([1, 1, 0.75, 0.75], 2) * np.where(kind == 0, 0.024, 0.031)
    small = rng.integers(2, 5)
    angle = np.append(angle, rng.uniform(-np.pi, np.pi, small))
    kind = np.append(kind, rng.integers(0, 2, small))
    size = np.append(size, np.full(small, 0.015)) * rng.uniform(0.8, 1.15)
    centre = np.broadcast_to(disc, (len(angle), 2))
    return np.column_stack([centre, angle, 0 * angle, size, kind])


def _advance(tips, wiggle, disc, fovea, rng):
    """One step of every tip: persistent random bending, and steering by where it is."""
    y, x, angle, bend, radius, kind = tips.T
    noise = rng.standard_normal(len(tips)) * np.minimum(0.012 / radius, 1)
    bend = 0.93 * bend + 0.15 * wiggle * noise
    angle = angle + bend + STEP * _steer(y, x, angle, disc, fovea)
    y, x = y + STEP * np.sin(angle), x + STEP * np.cos(angle)
    return np.stack([y, x, angle, bend, radius * (1 - 0.25 * STEP), kind], 1)


def _steer(y, x, angle, disc, fovea):
    """Turn per unit length: temporal vessels arch around the macula, nasal ones fan out."""
    temporal = x > disc[1] - 0.02
    out = np.arctan2(y - disc[0], x - disc[1] + 1e-6)
    arch = np.sign(y - fovea[0]) * np.where(x > fovea[1], -0.2, 0.45)
    return np.where(temporal, 2.2, 1.0) * np.sin(np.where(temporal, arch, out) - angle)


def _branch(tips, chance, thinnest, disc, rng):
    """Some tips split: the children's calibres follow Murray's law, the thinner one turns more."""
    away = np.hypot(tips[:, 0] - disc[0], tips[:, 1] - disc[1]) > 0.17
    split = (rng.random(len(tips)) < chance) & (tips[:, 4] > 1.15 * thinnest) & away
    most = np.where(tips[:, 4] > 0.018, 0.65, 0.9)
    share = np.maximum(rng.uniform(0.3, most), 1.05 * thinnest / tips[:, 4])
    side = rng.choice([-1, 1], len(tips))
    child = tips[split].copy()
    child[:, 2] += (side * rng.uniform(0.6, 1.2, len(tips)))[split]
    child[:, 3] = 0
    child[:, 4] *= share[split]
    tips[split, 2] -= 0.3 * (side * share**2)[split]
    tips[split, 4] *= (1 - share[split] ** 3) ** (1 / 3)
    return np.concatenate([tips, child])


def _crowded(tips, taken, step):
    """Thin tips that come near an older vessel of their own kind; ``taken`` is kept up to date."""
    y, x = np.clip((tips[:, :2].T * 20 + 20).astype(int), 0, 39)
    kind = tips[:, 5].astype(int)
    crowded = (taken[kind, y, x] < step - 14) & (tips[:, 4] < 0.02)
    taken[kind, y, x] = np.minimum(taken[kind, y, x], step)
    return crowded
