"""Retinal vessels: colour photographs of the fundus, one eye a subject.

The mask of an eye is one connected tree, so that breaks and false loops can be counted. Vessels
are drawn about twice as wide as in life: the thinnest is 1.5 px across, and resolvable. At 64 px
a subject is the four quarters of its 128 px eye, at 128 px the whole eye.

Distractors: choroidal streaks, exudates, haemorrhages, cotton wool, the vessels' light reflex.
Scanner A is a table-top camera, B a hand-held one: darker, bluer, blurred, noisy, with its flash
off centre.
"""

from __future__ import annotations

import numpy as np

from lsseg_edu.data.phantoms import physics as ph
from lsseg_edu.data.phantoms.fundus import VIEW, grow
from lsseg_edu.data.phantoms.shapes import strokes, true_colour

VERSION = 1
NAMES = ("background", "vessel")
SIZES = {2: (64, 128)}
EYE = 128
CAMERAS = {  # where the flash stands, vignetting, colour balance, blur in pixels, light
    "A": {"flash": 0.15, "falloff": (0.2, 0.5), "balance": (1, 1, 1)}
    | {"blur": (0.3, 0.7), "photons": 1200},
    "B": {"flash": 0.35, "falloff": (0.4, 0.8), "balance": (0.7, 0.85, 1.1)}
    | {"blur": (0.6, 1.1), "photons": 300},
}


def spacing(size: int, dims: int) -> tuple[float, ...]:
    """About 12 mm of retina across the 128 px of an eye."""
    return (12 / EYE,) * dims


def subject(size: int, dims: int, scanner: str, rng):
    """One eye: images ``(N, 3, size, size)``, vessel masks, and which tree each vessel is of."""
    left = rng.random() < 0.5
    disc = rng.normal([0, -0.58], [0.04, 0.03])
    fovea = disc + rng.normal([0.06, 0.62], 0.02)
    points, radii, kinds = grow(disc, fovea, rng)
    depth = [strokes(points[kinds == k], radii[kinds == k], EYE) for k in (0, 1)]
    view = ph.ellipsoid(ph.lattice(ph.axis(EYE), ph.axis(EYE)), (0, 0), (VIEW, VIEW))
    tree = np.where(depth[0] > depth[1], 1, 2) * (np.maximum(*depth) >= 0) * (view < 0)
    image = photograph(tissue(depth, disc, fovea, rng), view, scanner, rng)
    if left:
        image, tree = image[..., ::-1], tree[..., ::-1]
    tree = _patches(tree[None], size)[:, 0]
    images = _patches(image, size)
    return images, tree > 0, {"tree": tree, "colour": true_colour(images)}


def _patches(image, size):
    """``(C, EYE, EYE)`` cut into ``(N, C, size, size)``."""
    n = EYE // size
    tiles = image.reshape(-1, n, size, n, size).transpose(1, 3, 0, 2, 4)
    return tiles.reshape(n * n, -1, size, size)


def tissue(depth, disc, fovea, rng):
    """Reflectance ``(3, H, W)`` of an eye with these vessels; later layers lie on top."""
    return _blood(_optic_disc(_disease(_retina(fovea, rng), rng), disc, rng), depth, rng)


def _retina(fovea, rng):
    """Pigment, fair to dark; choroidal streaks that shine through it; the dark macula."""
    axes = (ph.axis(EYE), ph.axis(EYE))
    colour = _mix((0.85, 0.47, 0.26), (0.60, 0.24, 0.08), rng.random())
    colour = colour * rng.normal(1, 0.05, (3, 1, 1))
    shade = 0.10 * ph.smooth_field(axes, 4, rng) + 0.04 * ph.texture((EYE, EYE), 1.2, rng)
    streaks = rng.uniform(0, 0.25) * np.exp(-8 * ph.smooth_field(axes, 13, rng) ** 2)
    off = ((ph.lattice(*axes) - fovea[:, None, None]) ** 2).sum(0)
    macula = rng.uniform(0.3, 0.7) * np.exp(-off / 0.05)
    return colour * np.exp(shade + streaks - macula)


def _optic_disc(image, disc, rng):
    """A bright disc with a brighter cup."""
    points, radius = ph.lattice(ph.axis(EYE), ph.axis(EYE)), rng.uniform(0.12, 0.16)
    rim = ph.coverage(ph.ellipsoid(points, disc, (1.1 * radius, radius)), 0.05)
    cup = ph.coverage(ph.ellipsoid(points, disc, (0.6 * radius, 0.5 * radius)), 0.08)
    return image + 0.9 * rim * (_mix((1.0, 0.72, 0.42), (1.0, 0.88, 0.66), cup) - image)


def _blood(image, depth, rng):
    """Light lost in arteries and, more and redder, in veins; the light reflex of arteries."""
    absorbed = np.array([[0.15, 0.65, 0.45], [0.35, 0.95, 0.6]]) * rng.uniform(0.45, 1.1)
    for k in (1, 0):
        thickness = np.clip(0.6 * depth[k] + 0.5, 0, 1.3)
        image = image * np.exp(-absorbed[k][:, None, None] * thickness)
    return image * (1 + rng.uniform(0, 0.5) * np.clip(depth[0] - 0.7, 0, 1))


def _disease(image, rng):
    """Blots, flame haemorrhages, hard exudates, cotton wool: absent in every third eye."""
    amount = rng.choice([0, 0.4, 1]) * rng.uniform(0.5, 1.5)
    blots = np.maximum(_spots(14 * amount, 0.012, 0.6, rng), _spots(3 * amount, 0.04, 1, rng))
    blood = np.maximum(blots, _flames(8 * amount, rng)) * rng.uniform(0.5, 1)
    image = image * np.exp(-np.array([0.3, 0.9, 0.6])[:, None, None] * blood)
    image = _over(image, (1.0, 0.85, 0.45), 0.8 * _spots(6 * amount, 0.012, 3, rng))
    return _over(image, (0.95, 0.8, 0.6), 0.5 * ph.blur(_spots(2 * amount, 0.03, 1, rng), 1))


def _spots(number, radius, spread, rng):
    """Coverage of clusters of nine discs, spread over so many radii."""
    n = rng.poisson(number)
    sites, sizes = rng.normal(0, 0.35, (n, 1, 2)), radius * rng.lognormal(0, 0.4, (n, 9))
    discs = sites + rng.normal(0, spread, (n, 9, 2)) * radius * [0.5, 1.5]
    return np.clip(strokes(discs.reshape(-1, 2), sizes.ravel(), EYE) + 0.5, 0, 1)


def _flames(number, rng):
    """Coverage of short streaks of blood along the nerve fibres, easily taken for a vessel."""
    n = rng.poisson(number)
    site, angle = rng.normal(0, 0.4, (n, 1, 2)), rng.uniform(0, np.pi, (n, 1))
    along = np.linspace(-1, 1, 15) * rng.uniform(0.03, 0.1, (n, 1))
    points = site + np.stack([along * np.sin(angle), along * np.cos(angle)], -1)
    radii = rng.uniform(0.01, 0.025, (n, 1)) * (1 - np.linspace(-0.9, 0.9, 15) ** 2)
    return np.clip(strokes(points.reshape(-1, 2), radii.ravel(), EYE) + 0.5, 0, 1)


def photograph(image, view, scanner: str, rng):
    """What the camera makes of it: flash, vignetting, haze, blur, colour balance, noise."""
    camera = CAMERAS[scanner]
    y, x = ph.lattice(ph.axis(EYE), ph.axis(EYE))
    flash = rng.normal(0, camera["flash"], 2)
    light = np.exp(-rng.uniform(*camera["falloff"]) * ((y - flash[0]) ** 2 + (x - flash[1]) ** 2))
    image = image * light * np.array(camera["balance"])[:, None, None]
    image = _over(image, (0.5, 0.4, 0.3), rng.uniform(0, 0.3) ** 1.5)
    sigma = rng.uniform(*camera["blur"])
    image = ph.blur(image * ph.coverage(view, 2 / EYE), (0, sigma, sigma))
    return np.clip(ph.poisson(image, camera["photons"] * rng.uniform(0.3, 1), rng), 0, 1)


def _mix(a, b, share):
    """Colour between ``a`` and ``b``, ``(3, 1, 1)`` or ``(3, H, W)``."""
    a, b = (np.asarray(c, float)[:, None, None] for c in (a, b))
    return a + (b - a) * share


def _over(image, colour, opacity):
    return image + (np.array(colour)[:, None, None] - image) * opacity
