"""Metrics against sums written out, empties counted, intervals that cover."""

import numpy as np
import pytest
import torch

from lsseg_edu.data import Cohort
from lsseg_edu.evaluate import (
    expected_calibration_error,
    interval_over_seeds,
    paired_bootstrap,
    score,
)


def cohort(labels, subjects=None, spacing=None, names=("bg", "a", "b")):
    labels = np.asarray(labels)
    images = np.random.default_rng(0).normal(size=labels.shape)
    return Cohort.from_arrays(images, labels, subjects, list(names), spacing=spacing)


@pytest.fixture
def two():
    y = np.zeros((3, 20, 20), int)
    y[0, 2:10, 2:10], y[1, 4:8, 4:8], y[1, 12:18, 10:14], y[2, 1:5, 1:5] = 1, 1, 2, 2
    return cohort(y, subjects=np.array([7, 7, 9]), spacing=(2.0, 1.0))


def test_dice_is_pooled_over_a_subjects_slices(two):
    predicted = two.labels.roll(1, dims=1)
    report = score(predicted, two)
    for row, subject in enumerate((7, 9)):
        mine = two.subjects == subject
        for k in (1, 2):
            p, y = predicted[mine] == k, two.labels[mine] == k
            total = int(p.sum() + y.sum())
            expected = 2 * int((p & y).sum()) / total if total else np.nan
            assert report.dice[row, k - 1] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(report.dice[1, 0])  # subject 9 has no class 1 and was given none
    assert report.per_subject[1] == report.dice[1, 1]


def test_perfect_and_shifted_distances_have_units(two):
    assert score(two.labels, two).mean_hd95 == 0
    shifted = score(two.labels.roll(1, dims=1), two)  # one pixel along the axis of 2 units
    assert shifted.hd95[0, 1] == pytest.approx(2.0)
    assert 0 < shifted.assd[0, 1] < 2.0


def test_hd95_against_brute_force():
    y = np.zeros((1, 16, 16), int)
    y[0, 3:9, 4:11] = 1
    p = np.zeros_like(y)
    p[0, 5:13, 2:9] = 1
    both = [m & ~_eroded(m) for m in (p[0] > 0, y[0] > 0)]
    a, b = (np.argwhere(m) for m in both)
    d = np.linalg.norm(a[:, None] - b[None], axis=2)
    there, back = d.min(1), d.min(0)
    report = score(torch.from_numpy(p), cohort(y, names=("bg", "a")))
    assert report.hd95[0, 0] == pytest.approx(
        max(np.quantile(there, 0.95), np.quantile(back, 0.95))
    )
    assert report.assd[0, 0] == pytest.approx(np.r_[there, back].mean())


def _eroded(mask):
    from scipy.ndimage import binary_erosion

    return binary_erosion(mask)


def test_empty_prediction_is_counted_and_never_scores_zero_distance(two):
    report = score(torch.zeros_like(two.labels), two)
    assert (report.dice[0] == 0).all() and np.isnan(report.hd95).all()
    assert report.empty.sum() == 4  # four (slice, class) masks, all missed
    assert np.isnan(report.mean_hd95)


def test_volumes_are_scored_in_space():
    y = np.zeros((1, 8, 8, 8), int)
    y[0, 2:6, 2:6, 2:6] = 1
    c = cohort(y, spacing=(3.0, 1.0, 1.0), names=("bg", "a"))
    assert score(c.labels.roll(1, dims=1), c).hd95[0, 0] == pytest.approx(3.0)


def test_wrong_shape_is_one_sentence(two):
    with pytest.raises(ValueError, match="prediction has shape"):
        score(two.labels[:, :-1], two)


def test_calibration_of_a_coin_and_of_a_liar():
    labels = torch.arange(1000).view(1, 1000) % 2
    coin = torch.full((1, 2, 1000), 0.5)
    assert expected_calibration_error(coin, labels) == pytest.approx(0, abs=1e-6)
    liar = torch.stack([torch.full((1, 1000), 0.95), torch.full((1, 1000), 0.05)], 1)
    assert expected_calibration_error(liar, labels) == pytest.approx(0.45, abs=1e-5)


def test_interval_over_seeds_is_students():
    interval = interval_over_seeds([0.70, 0.72, 0.74])
    assert interval.mean == pytest.approx(0.72)
    assert interval.high - interval.mean == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-3)
    assert interval_over_seeds([0.7]).high == np.inf
    with pytest.raises(ValueError, match="No run"):
        interval_over_seeds([])


def test_paired_bootstrap_sees_what_the_unpaired_misses():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.3, 0.9, 20)  # subjects differ a lot
    gain = paired_bootstrap(hard + 0.02 + rng.normal(0, 0.01, 20), hard)
    assert gain.low > 0 and gain.high < 0.04
    none = paired_bootstrap(hard + rng.normal(0, 0.01, 20), hard)
    assert none.low < 0 < none.high
    with pytest.raises(ValueError, match="same subjects"):
        paired_bootstrap(hard, hard[:-1])


def test_paired_bootstrap_covers():
    rng = np.random.default_rng(1)
    hits = [
        (i := paired_bootstrap(rng.normal(0.1, 1, 30), np.zeros(30), draws=400, seed=s)).low
        <= 0.1
        <= i.high
        for s in range(200)
    ]
    assert np.mean(hits) > 0.88
