"""Nuclei: fields of a tissue section, H&E-stained (scanner A) or in fluorescence (scanner B).

Three classes, not two: nuclei are easy to find and hard to tell apart. Whether a small dark
nucleus is a lymphocyte or epithelial depends on the patient's grade and on where it lies, so this
is what few labels miss (and what pathologists count). ``labels > 0`` is the usual binary task,
``extras["instances"]`` the instance one.

Stains mix after Beer-Lambert, I = I_0 exp(-(h H + e E)), with the absorption colours of Ruifrok
and Johnston (Anal. Quant. Cytol. Histol. 2001). Overlapping nuclei add their absorption; the
labels give a pixel to the one on top. Distractors: fibres, red cells, debris, nuclei out of focus.
Simplified: no fibroblasts, no vessels, no mitoses.
"""

from __future__ import annotations

import numpy as np
from skimage import measure

from lsseg_edu.data.phantoms.physics import axis, blur, smooth_field, texture
from lsseg_edu.data.phantoms.shapes import blob, true_colour
from lsseg_edu.data.phantoms.stains import brightfield, fluorescence, ground

VERSION = 1
NAMES = ("background", "epithelial", "lymphocyte")
UNIT = "um"
SIZES = {2: (64, 128)}
FIELD = 64.0  # micrometres across
FIELDS = 4
EPITHELIAL, LYMPHOCYTE = 1, 2


def spacing(size: int, dims: int) -> tuple[float, ...]:
    """Micrometres a pixel."""
    return (FIELD / size,) * dims


def subject(size: int, dims: int, scanner: str, rng):
    """Four fields of one patient: images ``(4, 3, H, W)``, classes, instances from 1 in each."""
    patient = _patient(rng)
    fields = [_field(patient, size, rng) for _ in range(FIELDS)]
    image = brightfield if scanner == "A" else fluorescence
    images = image(*(np.stack([f[key] for f in fields]) for key in ("dna", "haze", "eosin")), rng)
    labels, instances = (np.stack([f[key] for f in fields]) for key in ("labels", "instances"))
    return images, labels, {"instances": instances, "colour": true_colour(images)}


def _patient(rng) -> dict:
    """Architecture, grade and inflammation; low-grade nuclei are small and dark."""
    grade = rng.random()
    return {
        "glands": rng.random() < 0.6,
        "epithelium": rng.uniform(-0.5, 0.2),
        "inflamed": rng.uniform(0.15, 0.9),
        "radius": {EPITHELIAL: 3.3 + 2.6 * grade, LYMPHOCYTE: rng.uniform(2.7, 3.3)},
        "spread": {EPITHELIAL: 0.06 + 0.18 * grade, LYMPHOCYTE: 0.06},
        "stretch": {EPITHELIAL: rng.uniform(1.1, 1.7), LYMPHOCYTE: 1.08},
        "rough": {EPITHELIAL: 0.03 + 0.06 * grade, LYMPHOCYTE: 0.03},
        "density": {
            EPITHELIAL: rng.uniform(0.9, 1.4) - 0.6 * grade,
            LYMPHOCYTE: rng.uniform(0.9, 1.5),
        },
        "membrane": {EPITHELIAL: grade * rng.uniform(0, 1), LYMPHOCYTE: 0.0},
        "clumps": rng.uniform(0.1, 0.45),
        "basophilia": rng.uniform(0.02, 0.25),
        "collagen": rng.uniform(0.2, 0.8),
        "crowding": rng.uniform(0.75, 0.95),
    }


def _field(patient, size, rng) -> dict:
    """One field: where each nucleus lies, what it absorbs, and what lies between them."""
    axes = (axis(size), axis(size))
    region = smooth_field(axes, 3, rng) - patient["epithelium"]
    nuclei = _place(region, patient, rng)
    owner, dna = _draw(nuclei, size)
    dna = dna * np.exp(patient["clumps"] * texture((size, size), size / 64, rng))
    instances = _pieces(owner)
    labels = np.append(0, nuclei["kind"])[owner] * (instances > 0)
    haze, eosin = ground(region, patient, axes, rng)
    inside = np.clip(blur((owner > 0).astype(np.float32), 0.5), 0, 1)
    return {"dna": dna, "haze": haze, "eosin": eosin * (1 - 0.6 * inside),
            "labels": labels, "instances": instances}  # fmt: skip


def _place(region, patient, rng) -> dict:
    """Throw darts; a nucleus stays if it overlaps its neighbours a little at most."""
    n, size = 420, len(region)
    sites = rng.uniform(-1.05, 1.05, (n, 2))
    pixel = tuple(np.clip(((sites + 1) / 2 * size).astype(int), 0, size - 1).T)
    kind = _kinds(region[pixel], patient, rng)
    spread = np.where(
        kind == EPITHELIAL, patient["spread"][EPITHELIAL], patient["spread"][LYMPHOCYTE]
    )
    mean = np.array([0, patient["radius"][EPITHELIAL], patient["radius"][LYMPHOCYTE]])[kind]
    radius = 2 / FIELD * mean * np.exp(spread * rng.standard_normal(n))
    apart = np.hypot(*(sites[:, None] - sites).T) > patient["crowding"] * (radius[:, None] + radius)
    keep = []
    for i in np.flatnonzero(kind):
        if apart[i, keep].all():
            keep.append(i)
    slope = np.gradient(region)
    angle = np.arctan2(slope[0][pixel], slope[1][pixel])
    return _shapes(kind[keep], sites[keep], radius[keep], angle[keep], patient, rng)


def _kinds(deep, patient, rng):
    """Kind of nucleus at points ``deep`` inside the epithelium (negative: in the stroma)."""
    epithelial = (deep > 0) & ((deep < 0.75) | (not patient["glands"]))
    share = np.where(deep < 0, patient["inflamed"], 0.06 * (deep < 0.4))
    share[: len(deep) // 2] = 0  # the epithelium is laid first
    immune = rng.random(len(deep)) < share
    return np.where(immune, LYMPHOCYTE, np.where(epithelial, EPITHELIAL, 0))


def _shapes(kind, site, radius, angle, patient, rng) -> dict:
    n = len(kind)
    of = {key: np.where(kind == EPITHELIAL, *(patient[key][k] for k in (EPITHELIAL, LYMPHOCYTE)))
          for key in ("stretch", "rough", "density", "membrane")}  # fmt: skip
    return {
        "kind": kind,
        "site": site,
        "radius": radius,
        "angle": angle + rng.normal(0, 0.4, n),
        "stretch": 1 + (of["stretch"] - 1) * rng.uniform(0.4, 1.4, n),
        "waves": of["rough"][:, None] * rng.standard_normal((n, 3)) / [1, 1.5, 2],
        "phase": rng.uniform(0, 2 * np.pi, (n, 3)),
        "density": of["density"] * rng.lognormal(0, 0.15, n),
        "membrane": of["membrane"],
    }


def _draw(nuclei, size):
    """Which nucleus is on top of each pixel (0: none), and the DNA in the light's path."""
    half = size / 2
    centre = (nuclei["site"] + 1) * half - 0.5
    reach = int(np.ceil(1.6 * half * nuclei["radius"].max(initial=0))) + 2
    window = np.arange(-reach, reach + 1)
    pixel = np.rint(centre).astype(int)[:, :, None] + window
    y, x = pixel[:, 0, :, None], pixel[:, 1, None, :]
    dy, dx = y - centre[:, 0, None, None], x - centre[:, 1, None, None]
    outline = [nuclei[key] for key in ("angle", "stretch", "waves", "phase")]
    depth = blob(dy, dx, half * nuclei["radius"], *outline)
    cover = np.clip(depth + 0.5, 0, 1)
    shell = np.exp(-((depth - 0.02 * half) ** 2) / (0.02 * half) ** 2)
    one = [nuclei[key][:, None, None] for key in ("density", "membrane")]
    amount = one[0] * cover * (1 + one[1] * (shell - 0.4))
    seen = (y >= 0) & (y < size) & (x >= 0) & (x < size)
    place = (y * size + x)[seen]
    dna, owner = np.zeros(size * size, np.float32), np.zeros(size * size, int)
    np.add.at(dna, place, amount[seen].astype(np.float32))
    index = np.broadcast_to(np.arange(1, len(depth) + 1)[:, None, None], depth.shape)
    np.maximum.at(owner, place, np.where(depth > 0, index, 0)[seen])
    return owner.reshape(size, size), dna.reshape(size, size)


def _pieces(owner):
    """Instances: every connected visible piece of at least 4 pixels, numbered from 1."""
    pieces = measure.label(owner, connectivity=1)
    big = np.bincount(pieces.ravel()) >= 4
    big[0] = False
    return np.where(big, np.cumsum(big), 0)[pieces]
