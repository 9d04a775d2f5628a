"""Labels that are moved, and motions that fold."""

from __future__ import annotations

import torch

from lsseg_edu.augment import displaced
from lsseg_edu.learn.checks.demand import demand, passed


def shift(x: float, y: float, size=(8, 16)) -> torch.Tensor:
    """The displacement ``(1, H, W, 2)`` that reads ``x`` pixels to the right, ``y`` below."""
    height, width = size
    return torch.tensor([2 * x / width, 2 * y / height]).expand(1, height, width, 2).clone()


def move_labels(move) -> None:
    """Step 1: ``move(labels, classes, grid)`` of ``(B, H, W)`` gives probabilities."""
    labels = torch.zeros(1, 8, 16, dtype=torch.long)
    labels[:, 2:6, 4:10] = 2
    still = displaced(torch.zeros(1, 8, 16, 2))
    moved = move(labels, 3, still)
    demand(
        isinstance(moved, torch.Tensor) and moved.shape == (1, 3, 8, 16),
        "The moved labels of one image with three classes must be (1, 3, 8, 16), a mask a class: "
        f"yours is {tuple(getattr(moved, 'shape', ()))}. one_hot puts the classes last, an image "
        "has them second: movedim(-1, 1).",
    )
    demand(
        moved.is_floating_point(),
        "Masks that are warped linearly must be floating point: call float() on them first.",
    )
    demand(
        torch.equal(moved.argmax(1), labels),
        "A grid that moves nothing must leave the labels as they are.",
    )
    right = move(labels, 3, displaced(shift(3, 1))).argmax(1)
    demand(
        torch.equal(right[:, :5, :10], labels[:, 1:6, 3:13]),
        "Labels must be read where the grid says: with a grid that reads three pixels to the right "
        "and one below, the square must appear three to the left and one above.",
    )
    half = move(labels, 3, displaced(shift(0.5, 0)))
    demand(
        half[:, 1].abs().max() < 1e-5,
        "Between background 0 and class 2 there is no class 1: at a border half-way between pixels "
        "your labels show it. Warp one mask a class, never the class numbers.",
    )
    demand(
        torch.allclose(half.sum(1), torch.ones(()), atol=1e-4)
        and torch.isclose(half[0, 2, 3, 3], torch.tensor(0.5), atol=1e-4),
        "Half-way between two pixels the masks must be half and half: warp them linearly, and keep "
        "them soft. Rounding comes at the very end.",
    )
    passed("moved labels")


def folded(count) -> None:
    """Step 3: ``count(displacement)`` of ``(B, H, W, 2)`` gives the fraction that folds."""
    still = displaced(torch.zeros(2, 8, 16, 2))  # its own coordinates
    demand(
        float(count(0 * still)) == 0,
        "No motion must have no folds: the determinant of x + u is that of u's derivatives *plus "
        "the identity*.",
    )
    demand(
        float(count(-0.5 * still)) == 0,
        "Squeezing an image to half its size is not a fold: the determinant is 1/4, which is "
        "positive. Only 0 and below counts.",
    )
    demand(
        float(count(1.5 * still)) == 0,
        "Stretching is not a fold: count determinants that are not positive, not those that "
        "differ from 1.",
    )
    _mirrors(count, still)
    _units(count)
    passed("folded")


def _mirrors(count, still):
    for axis, name in ((0, "left and right"), (1, "above and below")):
        mirror = torch.zeros_like(still)
        mirror[..., axis] = -2 * still[..., axis]
        demand(
            float(count(mirror)) == 1,
            f"A mirror that swaps {name} folds everywhere: the fraction must be 1, yours is "
            f"{float(count(mirror)):.3g}. Use both axes, and the 2 x 2 determinant.",
        )
    turned = -2 * still
    demand(
        float(count(turned)) == 0,
        "A turn by half a circle swaps left and right *and* above and below, and folds nothing: "
        "its determinant is 1. Look at the determinant, not at single derivatives.",
    )


def _units(count):
    """A shear that is legal in pixels, in an image that is not square."""
    wide = torch.zeros(1, 8, 16, 2)
    where = displaced(torch.zeros(1, 8, 16, 2))
    wide[..., 0] = 0.9 * where[..., 1]
    wide[..., 1] = 0.9 * where[..., 0]
    demand(
        float(count(wide)) == 0,
        "This motion has the determinant 1 - 0.9 * 0.9 > 0, and no fold: a minus belongs between "
        "the two products, and each derivative is taken in pixels: W/2 times u_x, H/2 times u_y.",
    )
    ramp = torch.zeros(1, 8, 16, 2)
    ramp[:, :, 8:, 0] = -2 * (where[:, :, 8:, 0] - where[:, :, 8:9, 0])
    demand(
        0.35 < float(count(ramp)) < 0.65,
        "Half of this image is turned over: the answer must be a fraction near one half, yours is "
        f"{float(count(ramp)):.3g}. Take the mean over all places.",
    )
