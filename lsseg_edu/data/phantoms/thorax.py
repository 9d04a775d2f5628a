"""A slice of the chest without its disease: lung, chest wall, mediastinum, vessels, airways.

Unit: half a field of view (95 mm); x runs from the spine outwards, y from front to back; HU.
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import physics as ph
from lsseg_edu.data.phantoms.shapes import strokes


def outline(points, patient, level, left):
    """Signed distances to the lung and to the inside of the rib cage; the spine is at x = -0.8.

    The lung lies between mediastinum, pleural fluid and, low on the right, the liver.
    """
    taper = 1 - 0.35 * max(0.4 - level, 0) / 0.4
    reach = patient["width"] - patient["wall"]
    pleura = ph.ellipsoid(points, (0, -0.8), (patient["depth"] * taper, reach * taper), power=2.3)
    middle = ph.ellipsoid(points, (0, -0.8), (0.85, 0.33), power=2.5)
    wide = (0.75 if left else 0.45) * level + 0.15
    heart = ph.ellipsoid(points, (-0.25, -0.7), (0.42, wide), angle=0.4)
    fluid = patient["effusion"] * np.clip(points[0] + 0.1, 0, 1)
    lung = np.maximum(pleura + fluid, -ph.smooth_union(middle, heart, 0.15))
    if level > 0.7 and not left:
        dome = (1.1 * (level - 0.6), 1.3 * (level - 0.6))
        lung = np.maximum(lung, -ph.ellipsoid(points, (0.05, -0.1), dome))
    return lung, pleura


def chest(canvas, points, pleura, patient, level, left, rng):
    """Skin, fat, muscle, ribs, spine, mediastinum with heart and great vessels."""
    wall = patient["wall"]
    canvas.paint(pleura - wall, -100)
    canvas.paint(pleura - 0.55 * wall, 50)
    canvas.paint(pleura, 20)
    around = np.arctan2(points[0], points[1] + 0.8)
    rib = np.sin(around * rng.uniform(4, 6) + rng.uniform(0, 6)) - 0.25
    ring = np.abs(pleura - 0.35 * wall) - 0.035
    canvas.paint(np.maximum(ring, -0.25 * rib), 500)
    canvas.paint(np.maximum(ring + 0.02, -0.25 * rib + 0.02), 200)
    heart = ph.ellipsoid(points, (-0.25, -0.72), (0.35, 0.6 * level + 0.1), angle=0.4)
    canvas.paint(ph.ellipsoid(points, (0, -0.8), (0.8, 0.28)), -80)
    canvas.paint(heart, 40 + patient["contrast"])
    canvas.paint(ph.ellipsoid(points, (0.68, -0.82), (0.18, 0.2)), 350)
    canvas.paint(ph.ellipsoid(points, (0.68, -0.82), (0.14, 0.16)), 180)
    aorta = ph.ellipsoid(points, (0.38, -0.7 if left else -0.95), (0.11, 0.11))
    canvas.paint(aorta, 60 + patient["contrast"])


def parenchyma(axes, points, lung, patient, rng):
    """Air and septa: denser at the back and at the pleura, with holes where it is destroyed."""
    septa = 25 * ph.smooth_field(axes, 5, rng) + 18 * ph.smooth_field(axes, 20, rng)
    tissue = patient["lung"] + septa + patient["gravity"] * np.clip(points[0] + 0.1, 0, 1) ** 2
    behind = np.clip(points[0] - 0.3, 0, 0.5)
    tissue = tissue + 3 * patient["gravity"] * behind * np.exp(np.minimum(lung, 0) / 0.05)
    holes = np.clip(ph.smooth_field(axes, 12, rng) - 1.8 + 0.6 * patient["emphysema"], 0, 1)
    tissue = tissue - 150 * holes * min(patient["emphysema"], 1)
    bend = 0.9 * points[0] - rng.uniform(0.2, 0.8) * points[1]
    bend = bend + 0.25 * ph.smooth_field(axes, 2, rng)
    fissure = np.exp(-(((bend - rng.uniform(-0.2, 0.4)) / 0.016) ** 2))
    return tissue + rng.uniform(60, 200) * fissure


def tubes(tissue, patient, size, rng):
    """Vessels that branch out of the hilum and leave the slice, or cross it; airways beside."""
    start, end, radius = _tree(patient, rng)
    along = np.linspace(0, 1, 16)[:, None]
    points = start[:, None] + (end - start)[:, None] * along
    radii = np.repeat(radius, 16)
    vessels = strokes(points.reshape(-1, 2), radii, size, 0)
    tissue = tissue + (30 + patient["contrast"] - tissue) * np.clip(vessels + 0.5, 0, 1)
    pick = np.argsort(-radius * rng.uniform(0.6, 1, len(end)))[:9]
    away = rng.normal(0, 1, (len(pick), 2)) * 0.02
    centre = end[pick] + away + 1.6 * radius[pick, None] * np.sign(away)
    bore = np.clip(1.1 * radius[pick], 0.025, 0.06)
    wall = strokes(centre, bore + 0.022, size)
    tissue = tissue + (-150 - tissue) * np.clip(wall + 0.5, 0, 1) * 0.8
    return tissue + (-980 - tissue) * np.clip(strokes(centre, bore, size) + 0.5, 0, 1)


def _tree(patient, rng):
    """Segments (start, end, radius) of a bifurcating tree; some branches leave the slice."""
    n = 6
    start = np.array([0.05, -0.42]) + rng.normal(0, 0.08, (n, 2))
    angle = np.linspace(-1.4, 1.5, n) + rng.normal(0, 0.15, n)
    length, radius = rng.uniform(0.18, 0.35, n), rng.uniform(0.035, 0.055, n)
    parts = []
    for _ in range(5):
        end = start + length[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1)
        seen = rng.random(len(start)) < 0.65 * patient["vessels"]
        parts.append((start[seen], end[seen], radius[seen]))
        start = np.repeat(end, 2, 0) + rng.normal(0, 0.012, (2 * len(end), 2))
        turn = np.tile([0.45, -0.4], len(end)) * rng.uniform(0.5, 1.5, 2 * len(end))
        angle = np.repeat(angle, 2) + turn
        length = np.repeat(length, 2) * rng.uniform(0.5, 0.95, len(angle))
        radius = np.repeat(radius, 2) * rng.uniform(0.6, 0.85, len(angle))
        stays = rng.random(len(angle)) < 0.8
        start, angle, length, radius = start[stays], angle[stays], length[stays], radius[stays]
    n = rng.poisson(25 * patient["vessels"])
    site = rng.uniform([-0.9, -0.5], [0.9, 0.8], (n, 2))
    size = 0.045 * np.exp(-1.1 * np.hypot(site[:, 0], site[:, 1] + 0.42)) * rng.uniform(0.4, 1.1, n)
    parts.append((site, site + rng.normal(0, 0.02, (n, 2)), size))
    return (np.concatenate(part) for part in zip(*parts, strict=True))
