"""Axial CT of the upper abdomen: six organs among spine, ribs, muscle, fat, bowel and vessels.

Lengths in mm, values in Hounsfield units (HU) shown in the window -160 to 260. Coordinates
``z`` up, ``y`` back, ``x`` to the patient's left, which radiologists see on the right.
Simplified: organs are bent superellipsoids, and noise is grain, not reconstructed projections.
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import physics as ph
from lsseg_edu.data.phantoms import torso

VERSION = 4
NAMES = ("background", "liver", "spleen", "left kidney", "right kidney", "aorta", "stomach")
LIVER, SPLEEN, LEFT, RIGHT, AORTA, STOMACH = range(1, 7)
SIZES = {2: (64, 128), 3: (32, 48, 64)}
FIELD, LOW, HIGH, SLICES = 310.0, -85.0, 85.0, 10
WINDOW = (-160.0, 260.0)

SCANNERS = {  # A: modern, standard dose; B: old, low dose, 140 kV (less iodine contrast), thick
    "A": {"noise": 14.0, "grain": 1.2, "psf": 1.2, "iodine": 1.0, "cupping": 4.0},
    "B": {"noise": 26.0, "grain": 2.6, "psf": 3.0, "iodine": 0.65, "cupping": 14.0},
}
PHASES = {  # HU of liver, spleen, renal cortex, renal medulla, aorta, cava: native, enhanced
    "native": (58, 48, 34, 32, 42, 40),
    "arterial": (72, 115, 170, 70, 290, 60),
    "portal": (108, 122, 180, 160, 150, 140),
    "late": (88, 95, 150, 165, 110, 108),
}


def spacing(size: int, dims: int) -> tuple[float, ...]:
    """mm per pixel; a volume covers 170 mm from top to bottom."""
    return ((HIGH - LOW) / size,) * (dims - 2) + (FIELD / size,) * 2


def subject(size: int, dims: int, scanner: str, rng):
    """One abdomen: slices ``(10, 1, H, W)`` from below, or a volume ``(1, 1, D, H, W)``."""
    z = ph.axis(size)
    if dims == 2:
        z = (np.linspace(-0.93, 0.93, SLICES) + rng.uniform(-0.07, 0.07)).astype(np.float32)
    axes = (z, ph.axis(size), ph.axis(size))
    body = _body(rng)
    points = _place(axes, body, rng)
    fields = [ph.smooth_field(axes, k, rng) for k in ((6, 12, 12), (4, 5, 5), (10, 22, 22))]
    tissue = _tissue(SCANNERS[scanner], rng)
    canvas = ph.Canvas(np.full(points.shape[1:], -1000, np.float32), FIELD / size)
    torso.trunk(canvas, points, body, fields)
    torso.bowel(canvas, points, body, fields)
    _paint_organs(canvas, points, body, tissue, fields, rng)
    torso.spine(canvas, points, body)
    image = _acquire(canvas.image, axes, SCANNERS[scanner], FIELD / size, dims, rng)
    if dims == 3:
        return image[None, None], canvas.labels[None], {"position": np.full(1, 0.5)}
    return image[:, None], canvas.labels, {"position": (z + 1) / 2}


def _body(rng) -> dict:
    """Build and pose; organ offsets and sizes; contents of stomach and bowel; disease.

    Between the organs lies fat, or, in thin and in ill patients, oedema or ascites.
    """
    u, n = rng.uniform, rng.normal
    organs = ("liver", "lobe", "spleen", "left", "right", "stomach", "aorta", "gall", "pancreas")
    return {
        "wide": u(112, 134), "deep": u(80, 100), "fat": u(6, 30), "muscle": u(7, 14),
        "scale": u(0.86, 1.08), "turn": u(-0.2, 0.2), "shift": u(-14, 14, 3),
        "move": {k: n(0, (12, 7, 7)) for k in organs},
        "size": {k: u(0.72, 1.25) * u(0.88, 1.12, 3) for k in organs},
        "big": u(1.2, 1.6) if u() < 0.25 else 1.0, "bore": u(8, 12),
        "bulge": u(4, 13) if u() < 0.3 else 0.0, "content": rng.choice([15, 40, 70, 260]),
        "level": u(-70, 0), "gas": u(0.6, 2.0), "visceral": u(-0.5, 0.3),
        "tumours": rng.poisson(2.0), "cysts": rng.poisson(0.8), "oral": u(0, 250) * (u() < 0.4),
        "filling": u(-30, 18) if u() < 0.3 else u(-110, -80), "pelvis": u(0, 7) * (u() < 0.3),
    }  # fmt: skip


def _place(axes, body, rng) -> np.ndarray:
    """Anatomical coordinates ``(3, *S)`` in mm of the subject's lattice."""
    half = np.array([(HIGH - LOW) / 2, FIELD / 2, FIELD / 2], np.float32).reshape(3, 1, 1, 1)
    bend = ph.diffeomorphism(axes, 0.045, 4, rng)
    z, y, x = half * (ph.lattice(*axes) + bend) - body["shift"].reshape(3, 1, 1, 1)
    y, x = ph.rotate(y, x, body["turn"])
    return np.stack([z, y, x]).astype(np.float32) / np.float32(body["scale"])


def _tissue(scanner, rng) -> dict:
    """HU of this examination: phase, amount of contrast agent, fatty liver."""
    native, late = np.array(PHASES["native"]), np.array(PHASES[rng.choice(list(PHASES))])
    values = native + (late - native) * scanner["iodine"] * rng.uniform(0.7, 1.3)
    values = values + rng.normal(0, 8, 6)
    names = ("liver", "spleen", "cortex", "medulla", "aorta", "cava")
    tissue = dict(zip(names, values, strict=True))
    tissue["liver"] -= rng.uniform(15, 60) if rng.uniform() < 0.25 else 0
    return tissue


def _organ(points, body, name, centre, radii, power=2.0, angle=0.0):
    centre = np.array(centre) + body["move"][name]
    return ph.ellipsoid(points, centre, np.array(radii) * body["size"][name], power, angle)


def _paint_organs(canvas, points, body, tissue, fields, rng) -> None:
    z, y, x = points
    room = ph.ellipsoid((y, x), (-4, 0), (body["deep"] - 4, body["wide"] - 4), 2.3)
    mottle = 4 * fields[2]
    _paint_liver(canvas, points, body, tissue, room, mottle, rng)
    gall = _organ(points, body, "gall", (-12, -42, -42), (28, 14, 14))
    canvas.paint(gall, 12, 0)
    _paint_stomach(canvas, points, body, room, fields)
    spleen = _organ(points, body, "spleen", (38, 40, 88), (48, 42, 24), 2.4, 0.5)
    spleen = np.maximum(spleen - 12 * (body["big"] - 1), room)
    canvas.paint(spleen, tissue["spleen"] + mottle, SPLEEN)
    move = body["move"]["pancreas"]
    head, tail = (-8 + move[0], -18, -22), (20, 22 + move[1], 62)
    pancreas = ph.capsule(points, head, tail, 9 + 2 * fields[0])
    canvas.paint(pancreas, 0.5 * (tissue["liver"] + tissue["spleen"]) - 12, 0)
    for name, label, side in (("left", LEFT, 1), ("right", RIGHT, -1)):
        _paint_kidney(canvas, points, body, tissue, name, label, side, rng)
    _paint_vessels(canvas, points, body, tissue)


def _paint_liver(canvas, points, body, tissue, room, mottle, rng) -> None:
    big = _organ(points, body, "liver", (22, 0, -66), (82, 78, 62), 2.5)
    lobe = _organ(points, body, "lobe", (38, -48, 0), (42, 30, 62))
    liver = np.maximum(ph.smooth_union(big, lobe, 25), room)
    canvas.paint(liver, tissue["liver"] + mottle, LIVER)
    portal = 0.6 * (tissue["cava"] - tissue["liver"])
    for _ in range(5):
        tip = np.array((22, 0, -66)) + rng.uniform(-60, 60, 3)
        vessel = ph.capsule(points, (15, 0, -28), tip, 4.0)
        canvas.paint(np.maximum(vessel, liver + 4), tissue["liver"] + portal)
    for _ in range(body["tumours"]):
        centre = np.array((22, 0, -66)) + rng.uniform(-55, 55, 3)
        radius = rng.uniform(5, 24)
        lump = np.maximum(ph.ellipsoid(points, centre, radius * rng.uniform(0.8, 1.2, 3)), liver)
        value = tissue["liver"] + rng.choice([-1, -1, 1]) * rng.uniform(18, 55)
        canvas.paint(lump, value)
        canvas.paint(lump + 0.6 * radius, value - 20)


def _paint_stomach(canvas, points, body, room, fields) -> None:
    z, y, x = points
    fundus = _organ(points, body, "stomach", (48, 2, 58), (40, 36, 34))
    move, size = body["move"]["stomach"], body["size"]["stomach"][0]
    start, end = np.array((45, -15, 56)) + move, np.array((-22, -58, 4)) + move
    stomach = ph.smooth_union(fundus, ph.capsule(points, start, end, 21 * size), 20)
    stomach = np.maximum(stomach + 3 * fields[0], room)
    canvas.paint(stomach, 55, STOMACH)
    canvas.paint(stomach + 5, body["content"] + 15 * fields[2])
    canvas.paint(np.maximum(stomach + 5, y - body["level"]), -900)


def _paint_kidney(canvas, points, body, tissue, name, label, side, rng) -> None:
    centre = np.array((-18 - 7 * (side < 0), 46, side * 60.0))
    kidney = _organ(points, body, name, centre, (54, 28, 24), 2.2, side * 0.5)
    hilum = centre + body["move"][name] + (0, -6, -side * 20)
    sinus = ph.ellipsoid(points, hilum, (22, 11, 17)) - body["pelvis"]
    canvas.paint(kidney - 5, -95, 0)
    if body["pelvis"]:
        canvas.paint(np.maximum(kidney, sinus), 5)
    canvas.paint(np.maximum(kidney, -sinus), tissue["cortex"], label)
    canvas.paint(np.maximum(kidney + 7, -sinus), tissue["medulla"])
    for _ in range(body["cysts"]):
        middle = centre + body["move"][name] + rng.uniform(-1, 1, 3) * (40, 22, 20)
        cyst = ph.ellipsoid(points, middle, (rng.uniform(5, 14),) * 3)
        canvas.paint(np.maximum(cyst, kidney), 6)


def _paint_vessels(canvas, points, body, tissue) -> None:
    z, y, x = points
    move = 0.7 * body["move"]["aorta"]
    centre = (26 + move[1], 9 + move[2] + 3 * np.sin(z / 40 + move[0]))
    bore = body["bore"] + body["bulge"] * np.exp(-(((z + 45) / 30) ** 2))
    cava = ph.ellipsoid((y, x), (18 + move[1] - z / 8, centre[1] - 33), (8, 12))
    canvas.paint(cava, tissue["cava"], 0)
    aorta = np.hypot(y - centre[0], x - centre[1]) - bore
    canvas.paint(aorta - 3, -90, 0)
    canvas.paint(aorta, 50, AORTA)
    canvas.paint(aorta + 1.5, tissue["aorta"])


def _acquire(image, axes, scanner, pixel, dims, rng) -> np.ndarray:
    """Point spread, cupping, correlated noise (streakier sideways, as in thick bodies)."""
    sigma = scanner["psf"] / pixel
    image = ph.blur(image, (sigma * (dims - 2), sigma, sigma))
    image = image + scanner["cupping"] * ph.smooth_field(axes, 2, rng)
    grain = scanner["grain"] / pixel
    noise = ph.texture(image.shape, (0.3 * (dims - 2), grain, 1.6 * grain), rng)
    image = image + scanner["noise"] * rng.uniform(0.7, 1.6) * noise
    return np.clip(image, *WINDOW)
