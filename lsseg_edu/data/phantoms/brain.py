"""T1-weighted MR of the brain, after the real MNI152 template and tissue maps.

The nilearn wheel carries the template and the grey and white matter maps (ICBM 152 2009a,
Fonov et al., NeuroImage, 2011). One subject is one random diffeomorphism of them, with its own
ventricles, sulci and cortex, white-matter lesions (labelled white matter), skull and scalp.
Simplified: folding is the template's, skull and scalp are shells around the brain, and
cerebrospinal fluid is what grey and white matter leave of the brain, plus the rim around it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from lsseg_edu.data.phantoms import physics as ph

VERSION = 4
NAMES = ("background", "CSF", "grey matter", "white matter")
SIZES = {2: (64, 128), 3: (32, 48, 64)}
FIELD, CENTRE, SLICES = 208.0, (10.0, -17.0, 0.0), 8  # mm; centre z, y, x in MNI space
REACH, FINE = 260.0, 144  # mm and points along a side of the resampled template

# Values of CSF and white matter, grey anywhere between (inversion times differ).
SCANNERS = {  # A: gradient echo, crisp; B: older spin echo, flat, noisy, shaded, blurred
    "A": {"values": (0.2, 0.88), "fat": 1.1, "noise": 0.025, "bias": 0.7, "psf": 0.9},
    "B": {"values": (0.3, 0.7), "fat": 0.9, "noise": 0.04, "bias": 0.9, "psf": 1.8},
}


def spacing(size: int, dims: int) -> tuple[float, ...]:
    """mm per pixel, the same along every axis."""
    return (FIELD / size,) * dims


def subject(size: int, dims: int, scanner: str, rng):
    """One head: axial slices ``(8, 1, H, W)``, caudal first, or a volume ``(1, 1, D, H, W)``."""
    z = ph.axis(size)
    if dims == 2:
        mm = np.linspace(-22, 58, SLICES) + rng.uniform(-4, 4)
        z = (2 * (mm - CENTRE[0]) / FIELD).astype(np.float32)
    axes = (z, ph.axis(size), ph.axis(size))
    head = _head(rng)
    shares, rest, brain, skull = _anatomy(_place(axes, head, rng), head, size)
    labels = _labels(shares, brain, head)
    patchy = ph.smooth_field(axes, 16, rng)
    image = _paint(shares, rest, brain, skull, patchy, axes, head, SCANNERS[scanner], rng)
    image = _acquire(image, axes, SCANNERS[scanner], FIELD / size, dims, rng)
    if dims == 3:
        return image[None, None], labels[None], {"position": np.full(1, 0.5)}
    return image[:, None], labels, {"position": np.linspace(0, 1, SLICES)}


@lru_cache(1)
def _template() -> np.ndarray:
    """Grey, white, T1 residual, distances (mm) to brain and head: ``(5, FINE, FINE, FINE)``."""
    from nilearn import datasets

    images = [load(resolution=1) for load in (
        datasets.load_mni152_gm_template, datasets.load_mni152_wm_template,
        datasets.load_mni152_template)]  # fmt: skip
    z, y, x = ph.lattice(*[ph.axis(FINE) * REACH / 2 * sign for sign in (1, -1, -1)])
    world = np.stack([x + CENTRE[2], y + CENTRE[1], z + CENTRE[0]])
    offset = images[0].affine[:3, 3].reshape(3, 1, 1, 1)
    grey, white, t1 = (
        ndimage.map_coordinates(np.asarray(i.dataobj, np.float32), world - offset, order=1)
        for i in images
    )
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(t1 > 0.1, iterations=3))
    head = ndimage.gaussian_filter(brain.astype(np.float32), 9) > 0.45
    fluid = np.clip(brain - grey - white, 0, 1)
    tissues = np.stack([fluid, grey, white])[:, brain]
    means = np.linalg.lstsq(tissues.T, t1[brain], rcond=None)[0]
    rest = np.zeros_like(t1)
    rest[brain] = t1[brain] - means @ tissues
    return np.stack([grey, white, rest, _distance(brain), _distance(head | brain)])


def _distance(mask) -> np.ndarray:
    """Signed distance in mm, negative inside."""
    outside, inside = (ndimage.distance_transform_edt(m) for m in (~mask, mask))
    return ((outside - inside) * REACH / FINE).astype(np.float32)


def _head(rng) -> dict:
    """Pose, size, atrophy, cortex and lesion load of one subject; much of it grows with age."""
    u = rng.uniform
    age = u(0, 1)
    return {
        "turn": u(-0.22, 0.22), "nod": u(-0.15, 0.15), "shift": u(-0.05, 0.05, 3),
        "scale": u(0.86, 1.06) * u(0.95, 1.05, 3), "ventricles": age * u(0.1, 0.75),
        "sulci": u(-0.3, 0.3) + 0.8 * age, "cortex": u(-0.5, 0.5), "rim": 1.5 + 4 * age * u(),
        "bone": u(3, 7), "scalp": u(3, 9), "lesions": age * u(-1.0, 1.5),
    }  # fmt: skip


def _place(axes, head, rng) -> np.ndarray:
    """Template coordinates of the subject's lattice: pose, ventricles, diffeomorphism."""
    p = ph.lattice(*axes) - head["shift"].reshape(3, 1, 1, 1).astype(np.float32)
    z, y, x = p / head["scale"].reshape(3, 1, 1, 1).astype(np.float32)
    y, x = ph.rotate(y, x, head["turn"])
    z, y = ph.rotate(z, y, head["nod"])
    p = np.stack([z, y, x]) + ph.diffeomorphism(axes, 0.035, 4, rng)
    middle = p - np.array([0.08, 0.02, 0.0], np.float32).reshape(3, 1, 1, 1)
    reach = np.array([0.26, 0.42, 0.26], np.float32).reshape(3, 1, 1, 1)
    near = np.exp(-((middle / reach) ** 2).sum(0))
    return p - head["ventricles"] * near * middle


def _anatomy(points, head, size):
    """Shares ``(3, *S)`` of CSF, grey, white; T1 residual; distances to brain and head."""
    grey, white, rest, brain, skull = (
        ph.warp(m, points * (FIELD / REACH)) for m in _smoothed(size)
    )
    fluid = np.clip(1 - grey - white, 0, 1) * (brain < 0) + (brain >= 0)
    weight = np.exp([head["sulci"], 0.0, head["cortex"]]).reshape(3, 1, 1, 1)
    shares = (weight * np.stack([fluid, grey, white])).astype(np.float32) ** 1.5 + 1e-6
    return shares / shares.sum(0), rest, brain, skull


@lru_cache(1)
def _smoothed(size: int) -> np.ndarray:
    """The template without the detail that pixels of this size cannot hold."""
    sigma = 0.35 * (FIELD / size) / (REACH / FINE)
    return np.stack([ndimage.gaussian_filter(m, sigma) for m in _template()])


def _labels(shares, brain, head) -> np.ndarray:
    return np.where(brain < head["rim"], 1 + shares.argmax(0), 0)


def _paint(shares, rest, brain, skull, patchy, axes, head, look, rng) -> np.ndarray:
    """Signal before the coil: tissues with lesions, then fluid rim, bone, soft tissue, scalp."""
    fluid, white = np.array(look["values"]) + rng.uniform(-0.08, 0.08, 2)
    values = np.array([fluid, fluid + rng.uniform(0.3, 0.8) * (white - fluid), white])
    fat = look["fat"] * (0.25 if rng.uniform() < 0.3 else 1.0)
    large = 2.3 * ph.smooth_field(axes, 5, rng) - 2.6
    lesion = shares[2] * ph.coverage(1.8 - head["lesions"] - np.maximum(patchy, large), 0.6)
    image = np.einsum("k,k...->...", values.astype(np.float32), shares)
    image = image + (values[2] - values[1]) * 2.0 * rest - 0.9 * (values[2] - values[1]) * lesion
    image = image * (1 + 0.04 * ph.smooth_field(axes, 8, rng))
    soft = 0.45 * (1 + 0.35 * ph.smooth_field(axes, 10, rng))
    edge = 2.5
    inner = head["rim"] + head["bone"]
    marrow = 0.35 * fat * np.exp(-(((brain - head["rim"] - head["bone"] / 2) / 1.2) ** 2))
    shells = [
        (brain - head["rim"], 0.06 + marrow),
        (brain - inner, soft),
        (skull - inner, fat * (1 + 0.2 * patchy)),
        (skull - inner - head["scalp"], 0.01),
    ]
    for outside, value in shells:
        image = image + ph.coverage(-outside, edge) * (value - image)
    return image


def _acquire(image, axes, look, pixel, dims, rng) -> np.ndarray:
    """Point spread, coil shading, a ghost of motion, Rician noise."""
    sigma = look["psf"] / pixel
    image = ph.blur(image, (sigma * (dims - 2), sigma, sigma))
    image = image * ph.bias_field(axes, look["bias"], rng)
    ghost = rng.integers(2, 6) * image.shape[1] // 16
    image = image + rng.choice([0, 0.03, 0.08]) * np.roll(image, ghost, axis=1)
    return ph.rician(image, look["noise"] * rng.uniform(0.6, 2.2), rng)
