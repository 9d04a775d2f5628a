"""Plausibility: pieces, holes and contacts, counted as scikit-image counts them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.measure import label

from lsseg_edu.data import IGNORE, load
from lsseg_edu.evaluate import Rules, implausible
from lsseg_edu.evaluate.plausibility import measure


def heart(size=24):
    """A ring of muscle (2) around a cavity (3), another chamber (1) beside it."""
    y, x = torch.meshgrid(*[torch.arange(size) - size // 2] * 2, indexing="ij")
    q = (y**2 + x**2).sqrt()
    mask = torch.zeros(size, size, dtype=torch.long)
    mask[(x < -4) & (x > -10) & (y.abs() < 4)] = 1
    mask[q < 7] = 2
    mask[q < 4] = 3
    return mask


NAMES = ("air", "right", "muscle", "cavity")
RULES = Rules.of(heart()[None], NAMES)


@pytest.mark.parametrize("dims", [2, 3])
def test_counts_are_those_of_scikit_image(dims):
    labels = torch.randint(0, 3, (3, *[9] * dims), generator=torch.Generator().manual_seed(0))
    pieces, holes, touch = measure(labels, 3)
    for n, mask in enumerate(labels.numpy()):
        for k in range(3):
            assert pieces[n, k] == label(mask == k, connectivity=dims).max()
            rest = np.pad(mask != k, 1, constant_values=True)
            assert holes[n, k] == label(rest, connectivity=1).max() - 1
        pairs = set()
        for axis in range(dims):
            a, b = np.delete(mask, -1, axis), np.delete(mask, 0, axis)
            pairs |= set(zip(a.flat, b.flat, strict=True))
        for a in range(3):
            for b in range(3):
                assert touch[n, a, b] == ((a, b) in pairs or (b, a) in pairs)


def test_items_of_a_batch_are_not_connected():
    stack = torch.stack([heart(), heart().T, torch.zeros(24, 24, dtype=torch.long)])
    together = measure(stack, 4)
    for n in range(3):
        for whole, alone in zip(together, measure(stack[n : n + 1], 4), strict=True):
            assert np.array_equal(whole[n], alone[0])


def test_rules_are_read_off_the_masks():
    assert RULES.pieces == (1, 1, 1, 1)
    assert RULES.holes == (1, 0, 1, 0)
    assert RULES.apart == ((0, 3), (1, 3))
    assert not RULES.broken(heart()[None]).any()


def spoil(what):
    mask = heart()
    if what == "an island":
        mask[1:3, 1:3] = 1
    if what == "a hole":
        mask[12, 4] = 0
    if what == "an open ring":
        mask[11:14, 15:20] = 3
    if what == "two cavities":
        mask[12, 8:17] = 2
    return mask


@pytest.mark.parametrize(
    ("what", "rule"),
    [
        ("an island", "right: at most 1 piece(s)"),
        ("a hole", "right: at most 0 hole(s)"),
        ("an open ring", "air does not touch cavity"),
        ("two cavities", "cavity: at most 1 piece(s)"),
    ],
)
def test_what_is_spoilt_breaks_its_rule(what, rule):
    broken = RULES.broken(spoil(what)[None])[0]
    assert rule in [s for s, b in zip(RULES.sentences, broken, strict=True) if b]


def test_a_rule_that_true_masks_break_is_no_rule():
    masks = torch.stack([heart()] * 9 + [spoil("an open ring")])
    assert (0, 3) not in Rules.of(masks, NAMES, tolerance=0.0).apart
    assert (0, 3) in Rules.of(masks, NAMES, tolerance=0.1).apart
    masks[-1] = spoil("an island")
    assert Rules.of(masks, NAMES, tolerance=0.0).pieces[1] == 2
    assert Rules.of(masks, NAMES, tolerance=0.1).pieces[1] == 1


def test_hearts_obey_the_rules_of_hearts():
    cohort = load("cardiac")
    some = cohort.select(torch.arange(0, 240))
    rules = Rules.of(some.labels, some.names)
    assert (0, 3) in rules.apart  # the cavity lies within its wall
    assert implausible(some.labels, some) < 0.05
    shifted = torch.where(some.labels.roll(2, 2) == 3, 3, some.labels.where(some.labels != 3, 2))
    assert implausible(shifted, some) > 0.3
    assert implausible(shifted, some, replace(rules, apart=(), pieces=(99,) * 4)) < 0.1


def test_bad_input_is_refused():
    cohort = load("cardiac").select(torch.arange(4))
    with pytest.raises(ValueError, match="at least one"):
        Rules.of(cohort.labels[:0], cohort.names)
    with pytest.raises(ValueError, match="complete masks"):
        Rules.of(torch.full((1, 8, 8), IGNORE), NAMES)
    with pytest.raises(ValueError, match="shape"):
        implausible(cohort.labels[:, :32], cohort)
    with pytest.raises(ValueError, match="classes 0 to 3"):
        implausible(cohort.labels + 2, cohort)
