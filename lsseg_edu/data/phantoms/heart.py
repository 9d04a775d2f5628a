"""The heart of the cardiac phantom: ventricles with their labels, atria, pericardium, disease.

Lengths in mm about the left ventricle; ``h`` runs from the mitral valve (0) to the apex (1).
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import physics as ph

RV, MYO, LV = 1, 2, 3
WALL = 3.0  # of the right ventricle, not labelled


def draw(rng) -> dict:
    """Size, shape, pose, contraction; one in five each: normal, dilated, thick, infarct, RV.

    On top, now and then: pericardial effusion, enhanced scar, thrombus.
    """
    kind = rng.choice(["normal", "dilated", "hypertrophic", "infarct", "right"])
    u = rng.uniform
    heart = {
        "radius": u(21, 27), "wall": u(7, 10), "shrink": u(0.55, 0.72), "thicken": u(1.3, 1.6),
        "uneven": u(0.0, 0.15), "thin": 0.0, "side": u(-np.pi, np.pi), "rv": u(0.85, 1.15),
        "flat": u(0.88, 1.08), "tilt": u(-14, 14, 2), "turn": u(-0.65, 0.65),
        "centre": u(-15, 15, 2), "scale": u(0.78, 1.18), "papillary": u(4, 7, 2),
        "angles": u(-0.4, 0.4, 2), "descent": u(0.06, 0.16), "end": u(0.7, 0.95),
        "inflow": u(0, 0.45), "mix": u(0.75, 1.15), "rim": u(2, 9), "fluid": 0.0,
        "enhance": 0.0, "depth": u(0.4, 1.0), "clot": None,
    }  # fmt: skip
    if u() < 0.25:
        heart |= {"fluid": u(4, 12)}
    if u() < 0.15:
        heart |= {"clot": (u(0.5, 0.75), u(6, 12), u(-9, 9, 2))}
    if kind == "dilated":
        heart |= {"radius": u(29, 37), "wall": u(5, 7), "shrink": u(0.82, 0.95), "thicken": 1.1}
    if kind == "hypertrophic":
        septum = {"uneven": u(0.2, 0.55), "side": np.pi + u(-0.7, 0.7)}
        heart |= {"radius": u(16, 21), "wall": u(13, 18), "shrink": u(0.35, 0.55)} | septum
    if kind == "infarct":
        heart |= {"radius": u(25, 31), "thin": u(0.4, 0.75), "shrink": u(0.7, 0.9)}
        heart |= {"enhance": rng.choice([0.0, u(0.5, 1.0)])}
    if kind == "right":
        heart |= {"rv": u(1.3, 1.65)}
    return heart


def paint(canvas, heart, frame, h, y, x, look, fields) -> None:
    """Atria, pericardium and ventricles, with their labels."""
    y, x = ph.rotate(y - heart["centre"][0], x - 8 - heart["centre"][1], heart["turn"])
    y, x = y / heart["scale"], x / heart["scale"]
    descent = heart["descent"] * frame
    h = (h - descent) / (1 - descent)
    cavity, outer, right, q, angle = _ventricles(heart, frame, h, y, x)
    inflow = 1 - heart["inflow"] * np.clip(h, 0, 1)
    blood = look["blood"] * (1 + 0.1 * fields[0]) * (1 + 0.08 * fields[1]) * inflow
    muscle = look["muscle"] * (1 + 0.06 * fields[2])
    ring = np.minimum(outer, right - WALL) - heart["rim"] - 3 * fields[3]
    canvas.paint(ring - heart["fluid"] * (1 + 0.5 * fields[1]), look["fluid"])
    canvas.paint(ring, look["fat"] * (1 + 0.1 * fields[1]))
    atrium = ph.ellipsoid((h * 90, y, x), (-18, 12, 4), (24, 30, 34))
    atrium = np.minimum(atrium, ph.ellipsoid((h * 90, y, x), (-22, 0, -36), (27, 32, 26)))
    canvas.paint(atrium - 3, muscle)
    canvas.paint(atrium, blood)
    away = np.where((h > 0) & (h < 1.2), 0, 99)
    canvas.paint(np.minimum(right - WALL, outer) + away, muscle)
    canvas.paint(right + away, blood * heart["mix"] * (1 + 0.06 * fields[3]), RV)
    canvas.paint(outer + away, muscle, MYO)
    _paint_scar(canvas, heart, cavity, outer, angle, away, blood)
    canvas.paint(cavity + away, blood, LV)
    _paint_papillary(canvas, heart, cavity + away, h, q, angle, muscle)
    if heart["clot"]:
        place, radius, shift = heart["clot"]
        clot = ph.ellipsoid(
            (90 * (h - place), y - shift[0], x - shift[1]), (0, 0, 0), (radius,) * 3
        )
        canvas.paint(np.maximum(clot, cavity + away), 1.1 * muscle)


def _paint_scar(canvas, heart, cavity, outer, angle, away, blood) -> None:
    """Infarct that took up contrast agent: as bright as blood, from the inside out; still wall."""
    if heart["enhance"]:
        wide = 25 * (0.75 - np.cos(angle - heart["side"]))
        scar = np.maximum(np.maximum(cavity - heart["depth"] * heart["wall"], outer), wide)
        canvas.paint(scar + away, blood, opacity=heart["enhance"])


def _ventricles(heart, frame, h, y, x):
    """Distances to LV cavity, epicardium and RV, and polar coordinates about the LV."""
    radius, wall = heart["radius"], heart["wall"]
    if frame == 1:
        radius, wall = radius * heart["shrink"], wall * heart["thicken"]
    y, x = y - heart["tilt"][0] * (h - 0.4), x - heart["tilt"][1] * (h - 0.4)
    q, angle = np.hypot(y / heart["flat"], x * heart["flat"]), np.arctan2(y, x)
    taper = 1 - np.abs(h / 0.93) ** 2.4
    taper = np.sign(taper) * np.sqrt(np.abs(taper))
    side = np.cos(angle - heart["side"])
    scar = heart["thin"] * np.exp(4 * (side - 1))
    cavity = q - radius * taper * (1 + 0.25 * scar)
    outer = cavity - wall * (1 + heart["uneven"] * side) * (1 - scar) * (0.75 + 0.25 * taper)
    reach = np.sqrt(np.clip(1 - np.abs(h / heart["end"]) ** 2, 1e-4, 1)) * heart["rv"]
    reach = reach * (1 - 0.22 * frame * (2 - heart["rv"]))
    centre = -(heart["radius"] + heart["wall"]) * 0.66 - 11 * reach
    right = ph.ellipsoid((y + 6 * x / 40, x), (-4.0, centre), (31 * reach, 22 * reach), 2.4)
    right = right + np.where(reach < 0.2, 30, 0)
    return cavity, outer, np.maximum(right, -outer), q, angle


def _paint_papillary(canvas, heart, cavity, h, q, angle, muscle) -> None:
    """Two dark columns inside the cavity; like annotators, we count them as cavity."""
    for place, size, turn in zip((0.9, 2.6), heart["papillary"], heart["angles"], strict=True):
        depth = np.abs(h - 0.55) * 14
        across = q * (angle - place - turn)
        column = np.hypot(cavity + 0.9 * size, across) - size + depth
        canvas.paint(np.maximum(column, cavity), muscle, opacity=0.85)
