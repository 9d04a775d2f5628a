"""What surrounds the organs of the abdominal phantom: trunk, bowel, spine. All background.

``points`` are millimetres ``z`` up, ``y`` back, ``x`` to the patient's left; values in HU.
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import physics as ph


def trunk(canvas, points, body, fields) -> None:
    """Skin, subcutaneous fat, muscle wall, ribs, abdominal fat, lung bases, table."""
    z, y, x = points
    cavity = ph.ellipsoid((y, x), (-4, 0), (body["deep"], body["wide"]), 2.3)
    wall = cavity - body["muscle"] - 3 * fields[1]
    skin = wall - body["fat"]
    canvas.paint(np.abs(y - body["deep"] - body["fat"] - 32 + 0.0015 * x**2) - 3, 20)
    canvas.paint(skin, 30)
    canvas.paint(skin + 3, -105 + 8 * fields[0])
    canvas.paint(wall, 52 + 5 * fields[2])
    angle = np.arctan2(x, y)
    rib = np.cos((z + 45 * np.abs(angle)) / 32 * 2 * np.pi) * 9 - 4.5
    ribs = np.maximum(np.abs(cavity - 5) - 4.5, -rib) + 12 * (y < -0.75 * body["deep"])
    canvas.paint(ribs, 260 + 200 * (ribs > -2))
    canvas.paint(cavity, body["filling"] + 10 * fields[0])
    dome = ph.ellipsoid((z, y, x), (-60, -14, 0), (150, 0.95 * body["deep"], body["wide"]))
    lung = np.maximum(np.maximum(cavity + 2, -dome), 10 - z)
    canvas.paint(lung, -800)
    heart = ph.ellipsoid(points, (105, -38, 22), (42, 42, 58), angle=0.5)
    canvas.paint(np.maximum(heart, cavity + 4), 60 + body["content"] / 4)


def bowel(canvas, points, body, fields) -> None:
    """Loops of small bowel, colon with gas and faeces: many roundish things of muscle's HU."""
    z, y, x = points
    region = ph.ellipsoid((z, y, x), (-85, -28, 12), (85, 0.6 * body["deep"], 75))
    loops = np.maximum(region, 6 * (0.4 - body["visceral"] - np.abs(fields[2])))
    canvas.paint(loops, 35 + body["oral"] + 25 * fields[1])
    canvas.paint(np.maximum(loops + 3, 9 * (body["gas"] - fields[0])), -700)
    for side in (-1, 1):
        colon = ph.ellipsoid((y, x), (8 + 6 * side, side * (body["wide"] - 24)), (17, 16))
        colon = np.maximum(colon, z + 10 - 35 * side)
        canvas.paint(colon, 45)
        canvas.paint(colon + 3, 10 + 90 * fields[2])
        canvas.paint(np.maximum(colon + 3, 12 * (0.3 - fields[2])), -600)


def spine(canvas, points, body) -> None:
    z, y, x = points
    for side in (-1, 1):
        back = ph.ellipsoid((y, x), (84, side * 34), (20, 28))
        psoas = ph.ellipsoid((y, x), (60, side * 36), (17, 14)) + np.maximum(z + 10, 0) / 3
        canvas.paint(np.minimum(back, psoas), 55, 0)
    disc = np.abs(np.mod(z + body["shift"][0], 34) - 17) - 12
    vertebra = ph.ellipsoid((y, x), (58, 0), (17, 22), 2.4)
    process = ph.capsule((y, x), (82, 0), (108, 0), 4)
    canvas.paint(np.minimum(vertebra, process), np.where(disc > 0, 90, 380), 0)
    canvas.paint(vertebra + 4, np.where(disc > 0, 90, 190))
    arch = ph.ellipsoid((y, x), (82, 0), (12, 15))
    canvas.paint(arch, 350, 0)
    canvas.paint(arch + 5, 30)
