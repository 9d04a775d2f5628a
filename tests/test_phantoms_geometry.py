"""What the shapes of nuclei, vessels and lesions promise the chapters that measure them."""

import numpy as np
import pytest
import torch
from skimage import measure

from lsseg_edu.data.cohort import normalise
from lsseg_edu.data.phantoms import fundus, lesions, nuclei, vessels
from lsseg_edu.data.phantoms.shapes import THIN, blob, strokes


def draw(phantom, seed, size=64, scanner="A"):
    return phantom.subject(size, 2, scanner, np.random.default_rng((7, seed)))


@pytest.fixture(scope="module")
def patients():
    return [draw(lesions, seed)[1:] for seed in range(40)]


def test_strokes_are_the_union_of_discs():
    rng = np.random.default_rng(0)
    points, radii = rng.uniform(-1.2, 1.2, (30, 2)), rng.uniform(0, 0.2, 30)
    grid = (2 * np.arange(32) + 1) / 32 - 1
    apart = np.hypot(grid[:, None, None] - points[:, 0], grid[None, :, None] - points[:, 1])
    union = (apart < np.maximum(radii, THIN * 2 / 32)).any(-1)
    np.testing.assert_array_equal(strokes(points, radii, 32) > 0, union)


def test_stretching_and_waving_a_blob_keeps_its_area():
    y, x = np.mgrid[-40:41, -40:41][:, None].astype(float)
    for stretch, wave in ((1, 0), (1.8, 0), (1.3, 0.1)):
        waves = np.array([[0, wave, 0]])
        inside = blob(y, x, np.array([20.0]), np.array([0.4]), np.array([stretch]), waves, waves)
        area = np.pi * 20**2 * (1 + wave**2 / 2)
        assert (inside > 0).sum() == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("size", [64, 128])
def test_each_nucleus_is_one_connected_piece_of_one_class(size):
    touching = 0
    for seed in range(4):
        _, labels, extras = draw(nuclei, seed, size)
        np.testing.assert_array_equal(extras["instances"] > 0, labels > 0)
        for field, classes in zip(extras["instances"], labels, strict=True):
            numbers = np.unique(field)
            np.testing.assert_array_equal(numbers, np.arange(len(numbers)))
            pieces, count = measure.label(field, connectivity=1, return_num=True)
            assert count == len(numbers) - 1
            assert all(len(np.unique(classes[field == k])) == 1 for k in numbers)
            touching += count - measure.label(field > 0, connectivity=1).max()
    assert touching > 20, "nuclei should touch: else instances are just connected components"


def test_every_patient_has_both_kinds_of_nuclei():
    for seed in range(15):
        assert set(np.unique(draw(nuclei, seed)[1])) == {0, 1, 2}


def test_vessels_of_an_eye_are_one_connected_tree():
    for seed in range(30):
        _, labels, extras = draw(vessels, seed, 128)
        assert measure.label(labels[0], connectivity=2).max() == 1
        assert set(np.unique(extras["tree"])) == {0, 1, 2}
        np.testing.assert_array_equal(extras["tree"] > 0, labels)


def test_quarters_make_the_eye():
    images, labels, _ = draw(vessels, 3, 64)
    eye, mask, _ = draw(vessels, 3, 128)
    np.testing.assert_array_equal(np.block([[*labels[:2]], [*labels[2:]]]), mask[0])
    np.testing.assert_array_equal(images[1], eye[0, :, :64, 64:])


def test_calibres_follow_murray():
    rng = np.random.default_rng(0)
    tips = np.column_stack([rng.uniform(-1, 1, (500, 2)), np.zeros((500, 2)), np.full(500, 0.03)])
    tips = np.column_stack([tips, np.zeros(500)])
    after = fundus._branch(tips.copy(), 0.3, 0.01, np.zeros(2), rng)[:, 4]
    split, children = after[:500] < 0.03, after[500:]
    assert 50 < len(children) == split.sum()
    np.testing.assert_allclose(after[:500][split] ** 3 + children**3, 0.03**3)


def test_lesion_sizes_span_orders_of_magnitude(patients):
    regions = [measure.label(image) for labels, _ in patients for image in labels]
    areas = np.concatenate([np.bincount(r.ravel())[1:] for r in regions])
    assert np.quantile(areas, 0.99) > 50 * np.quantile(areas, 0.1)
    assert np.median(areas) < 0.4 * areas.mean(), "many small ones, few large ones"


def test_lesions_are_rare_but_no_patient_is_without(patients):
    share = np.mean([labels.mean() for labels, _ in patients])
    assert 0.003 < share < 0.05
    for labels, _ in patients:
        assert labels.any()
        assert not labels.any((1, 2)).all(), "one slice of each patient has no lesion"
    assert {1, 2} <= set(np.unique([extras["kind"] for _, extras in patients]))


@pytest.mark.parametrize("phantom", [nuclei, vessels])
def test_the_true_colours_come_back(phantom):
    images, _, extras = draw(phantom, 0)
    mean, std = np.moveaxis(extras["colour"], 1, 0)[..., None, None]
    shown = normalise(torch.tensor(images), np.zeros(len(images))).numpy() * std + mean
    np.testing.assert_allclose(shown, images, atol=1e-2)


def test_fluorescence_is_grey_and_bright_where_the_stain_is_dark():
    stained, labels, _ = draw(nuclei, 1, scanner="A")
    glowing, same, _ = draw(nuclei, 1, scanner="B")
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(glowing[:, 0], glowing[:, 2])
    inside = labels > 0
    assert stained[:, 0][inside].mean() < stained[:, 0][~inside].mean()
    assert glowing[:, 0][inside].mean() > glowing[:, 0][~inside].mean()
