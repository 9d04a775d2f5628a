"""What surrounds the heart in the cardiac phantom: all background, much of it alike.

Lengths in mm about the centre of the image, ``y`` back, ``x`` to the patient's left.
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import physics as ph


def draw(rng) -> dict:
    """Where the neighbours of the heart are in this patient."""
    u = rng.uniform
    return {
        "chest": u(-70, -50), "slope": u(-0.5, -0.1), "fat": u(6, 22), "lung": u(30, 52),
        "liver": u(18, 42), "aorta": (u(48, 66), u(18, 42)), "bore": u(9, 13),
        "stomach": (u(62, 80), u(58, 80)), "gas": u(0, 1), "effusion": u() < 0.15,
    }  # fmt: skip


def paint(canvas, h, y, x, organs, look, fields) -> None:
    """Lungs, chest wall, liver, stomach, descending aorta: what a network may confuse."""
    mottle = 1 + 0.1 * fields[0]
    lung = look["muscle"] * (0.16 + 0.08 * np.abs(fields[1]))
    if organs["effusion"]:
        lung = np.where(y - 0.2 * x + 10 * fields[2] > 15, look["fluid"], lung)
    canvas.paint(organs["lung"] - x + 0.25 * y + 8 * fields[2], lung)
    canvas.paint(ph.ellipsoid((y, x), (-18, -82), (48, 30)), lung)
    dome = organs["liver"] + 40 * (0.6 - h)
    canvas.paint(dome - y + 0.25 * x + 0.006 * x * x, look["liver"] * mottle)
    vessels = ph.coverage(np.abs(fields[3]) - 0.12, 0.2)
    canvas.paint(dome + 8 - y + 0.25 * x + 0.006 * x * x, look["blood"], opacity=0.6 * vessels)
    stomach = ph.ellipsoid((y, x), organs["stomach"], (20, 26))
    canvas.paint(stomach, look["muscle"])
    canvas.paint(stomach + 4, 0.05 if organs["gas"] > 0.5 else look["fat"])
    aorta = ph.ellipsoid((y, x), organs["aorta"], (organs["bore"],) * 2)
    canvas.paint(aorta - 2, look["muscle"])
    canvas.paint(aorta, look["blood"] * (1 + 0.1 * fields[1]))
    chest = y - organs["chest"] - organs["slope"] * x - 0.004 * x * x
    canvas.paint(chest - 12, look["muscle"] * (0.8 + 0.15 * fields[1]))
    canvas.paint(chest, look["fat"] * mottle)
    canvas.paint(chest + organs["fat"], 0.02)
