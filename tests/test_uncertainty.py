"""Measures of uncertainty: two kinds of doubt told apart, and doubt held against the errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss, log_loss

from lsseg_edu.data import IGNORE
from lsseg_edu.evaluate import expected_calibration_error, score
from lsseg_edu.semi.uncertainty import (
    area,
    best_threshold,
    brier,
    entropy,
    error_overlap,
    fit_temperature,
    mean_entropy,
    mutual_information,
    nll,
    predicted_variance,
    proper_scores,
    reliability,
    reliability_bins,
    retention,
    segment_entropy,
    subject_doubt,
    tempered,
    uncertainty_maps,
    variance,
)


def random_samples(passes=6, classes=4):
    torch.manual_seed(0)
    return torch.randn(passes, 2, classes, 5, 5).mul(2).softmax(2)


# The two kinds of doubt


def test_same_wide_answers_are_all_aleatoric():
    samples = torch.full((5, 1, 4, 2, 2), 0.25)
    assert torch.allclose(entropy(samples), torch.tensor(math.log(4)))
    assert torch.allclose(mean_entropy(samples), torch.tensor(math.log(4)))
    assert mutual_information(samples).abs().max() < 1e-6
    assert variance(samples).abs().max() == 0


def test_sure_answers_that_contradict_are_all_epistemic():
    samples = torch.eye(4).view(4, 1, 4, 1, 1)  # pass t is sure of class t
    assert mutual_information(samples).item() == pytest.approx(math.log(4))
    assert mean_entropy(samples).item() == 0
    assert variance(samples).item() == pytest.approx(0.25 * 0.75)


def test_decomposition_and_bounds():
    samples = random_samples()
    total = mean_entropy(samples) + mutual_information(samples)
    assert torch.allclose(entropy(samples), total, atol=1e-6)
    assert (mutual_information(samples) >= 0).all()
    assert (entropy(samples) <= math.log(4) + 1e-6).all()
    assert (mutual_information(samples[:1].repeat(3, 1, 1, 1, 1)) < 1e-6).all()


def test_measures_by_hand():
    samples = random_samples()
    p = samples[:, 1, :, 2, 3].double().numpy()  # one pixel
    mean = p.mean(0)
    by_hand = {
        "entropy": -(mean * np.log(mean)).sum(),
        "mutual information": -(mean * np.log(mean)).sum() + (p * np.log(p)).sum(1).mean(),
        "variance": p.var(0).mean(),
        "predicted variance": p.mean(),
    }
    maps = uncertainty_maps(samples, variances=samples)
    assert list(maps) == list(by_hand)
    for name, value in by_hand.items():
        assert maps[name].shape == (2, 5, 5)
        assert maps[name][1, 2, 3].item() == pytest.approx(value, rel=1e-4)
    assert "predicted variance" not in uncertainty_maps(samples)
    assert torch.equal(predicted_variance(samples), maps["predicted variance"])


def test_zero_probability_is_no_nan():
    samples = torch.zeros(2, 1, 3, 4, 4)
    samples[:, :, 0] = 1
    assert all((m == 0).all() for m in uncertainty_maps(samples).values())


def test_samples_that_are_not_several():
    for bad in (torch.rand(2, 4, 8), torch.rand(0, 1, 4, 8, 8)):
        with pytest.raises(ValueError, match=r"Samples are \(T, B, K, \*S\)"):
            entropy(bad)


def test_volumes():
    assert entropy(torch.rand(2, 1, 3, 4, 5, 6).softmax(2)).shape == (1, 4, 5, 6)


# Error against retained


def test_retention_by_brute_force():
    rng = np.random.default_rng(0)
    doubt, wrong = rng.random((4, 5)), rng.random((4, 5)) < 0.4
    kept, error = retention(torch.from_numpy(doubt), torch.from_numpy(wrong))
    for n in range(1, 21):
        surest = np.argsort(doubt.ravel())[:n]
        assert kept[n - 1] == pytest.approx(n / 20)
        assert error[n - 1] == pytest.approx(wrong.ravel()[surest].mean())
    assert area(torch.from_numpy(doubt), torch.from_numpy(wrong)) == pytest.approx(error.mean())


def test_perfect_useless_and_perverse_doubt():
    wrong = torch.arange(100) >= 90
    perfect, none, perverse = (
        retention(d, wrong)[1] for d in (torch.arange(100), torch.zeros(100), -torch.arange(100))
    )
    assert perfect[:90].abs().max() == 0 and perfect[-1] == pytest.approx(0.1)
    assert torch.allclose(none, torch.full_like(none, 0.1))  # ties: the order tells nothing
    assert perverse[0] == 1
    assert area(torch.arange(100), wrong) < area(torch.zeros(100), wrong)


def test_ties_do_not_depend_on_the_order():
    doubt = torch.tensor([0.0, 0, 1, 1, 1])
    one = retention(doubt, torch.tensor([0, 1, 1, 0, 0]).bool())[1]
    two = retention(doubt, torch.tensor([1, 0, 0, 0, 1]).bool())[1]
    assert torch.allclose(one, two)
    assert one[0] == pytest.approx(0.5) and one[2] == pytest.approx((1 + 1 / 3) / 3)


def test_retention_of_nothing():
    with pytest.raises(ValueError, match="at least one"):
        retention(torch.zeros(0), torch.zeros(0).bool())
    with pytest.raises(ValueError, match="of the same pixels"):
        retention(torch.zeros(3), torch.zeros(4).bool())


# Calibration


def overconfident(n=4000, scale=3.0):
    """Labels drawn from softmax(logits), probabilities from logits too large by ``scale``."""
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(size=(n, 3, 1, 1))).float()
    draws = logits.softmax(1)[:, :, 0, 0].multinomial(1, generator=torch.Generator().manual_seed(0))
    return (scale * logits).softmax(1), draws[:, :, None]


def test_scores_are_those_of_scikit_learn():
    probs, labels = overconfident(500)
    p, y = probs[..., 0, 0].double().numpy(), labels.flatten().numpy()
    p /= p.sum(1, keepdims=True)
    assert nll(probs, labels) == pytest.approx(log_loss(y, p), rel=1e-4)
    per_class = sum(brier_score_loss(y == k, p[:, k]) for k in range(3))
    assert brier(probs, labels) == pytest.approx(per_class, rel=1e-4)
    scores = proper_scores(probs, labels)
    assert scores == (nll(probs, labels), brier(probs, labels), scores.ece)
    assert scores.ece == expected_calibration_error(probs, labels)


def test_ignored_pixels_count_for_nothing():
    probs, labels = overconfident(500)
    some = labels.clone()
    some[::2] = IGNORE
    for measure in (nll, brier, fit_temperature):
        assert measure(probs, some) == pytest.approx(measure(probs[1::2], labels[1::2]), rel=1e-5)
    assert np.allclose(reliability_bins(probs, some), reliability_bins(probs[1::2], labels[1::2]))


def test_temperature_is_found_and_mends():
    probs, labels = overconfident(scale=3.0)
    t = fit_temperature(probs, labels)
    assert t == pytest.approx(3.0, rel=0.15)
    before, after = proper_scores(probs, labels), proper_scores(tempered(probs, t), labels)
    assert all(b > a for b, a in zip(before, after, strict=True))
    assert torch.equal(tempered(probs, t).argmax(1), probs.argmax(1))
    assert torch.allclose(tempered(probs, 1.0), probs, atol=1e-6)
    grid = [nll(tempered(probs, g), labels) for g in np.geomspace(0.1, 10, 60)]
    assert nll(tempered(probs, t), labels) <= min(grid)


def test_temperature_is_positive():
    with pytest.raises(ValueError, match="A temperature is positive, not 0"):
        tempered(torch.rand(1, 3, 2, 2).softmax(1), 0)


def test_bins_are_those_of_the_ece():
    probs, labels = overconfident(800)
    claimed, found, share = reliability_bins(probs, labels, bins=15)
    assert share.sum() == pytest.approx(1)
    by_bins = (share * abs(claimed - found)).sum()
    assert by_bins == pytest.approx(expected_calibration_error(probs, labels), abs=1e-5)


# Errors, segments, subjects


def test_overlap_of_doubt_and_error():
    doubt = torch.tensor([0.1, 0.9, 0.8, 0.2])
    wrong = torch.tensor([False, True, False, True])
    assert error_overlap(doubt, wrong, 0.5) == 0.5
    assert error_overlap(doubt, wrong, 2.0) == 0
    assert error_overlap(doubt, torch.zeros(4).bool(), 2.0) == 1
    assert error_overlap(doubt, doubt > 0.5, best_threshold(doubt, doubt > 0.5)) == 1
    assert best_threshold(doubt, torch.zeros(4).bool()) == math.inf


def test_best_threshold_by_brute_force():
    rng = np.random.default_rng(0)
    wrong = torch.from_numpy(rng.random(300) < 0.2)
    doubt = torch.from_numpy(rng.random(300)) + wrong
    best = max(error_overlap(doubt, wrong, t) for t in doubt.tolist())
    found = error_overlap(doubt, wrong, best_threshold(doubt, wrong, candidates=300))
    assert found == pytest.approx(best, abs=0.02)


def test_segment_entropy_by_hand():
    probs = random_samples(passes=1)[0]
    subjects = torch.tensor([7, 7])
    answer = segment_entropy(probs, subjects)
    assert answer.shape == (1, 3)
    for k in range(1, 4):
        p = probs[:, k][probs.argmax(1) == k].double()
        expected = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
        assert answer[0, k - 1].item() == pytest.approx(expected.item(), rel=1e-4)
    apart = segment_entropy(probs, torch.tensor([9, 4]))
    assert torch.allclose(apart[0], segment_entropy(probs[1:], subjects[:1])[0], equal_nan=True)


def test_a_segment_that_is_not_there():
    probs = torch.zeros(1, 3, 4, 4)
    probs[:, 0] = 1
    assert segment_entropy(probs, torch.zeros(1).long()).isnan().all()


def test_subject_doubt_pools_and_divides_by_the_organ():
    doubt = torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]], [[5.0, 5.0]]])
    predicted = torch.tensor([[[0, 1]], [[2, 0]], [[0, 0]]])
    assert subject_doubt(doubt, predicted, torch.tensor([4, 4, 2])).tolist() == [10.0, 3.0]


def answers(cohort):
    """Predictions that get worse from subject to subject, and doubt that knows it."""
    generator = torch.Generator().manual_seed(0)
    level = cohort.subjects.float() / 14
    flipped = torch.rand(cohort.labels.shape, generator=generator) < level.view(-1, 1, 1)
    given = torch.where(flipped, (cohort.labels + 1) % 3, cohort.labels)
    probs = 0.1 + 0.7 * torch.nn.functional.one_hot(given, 3).movedim(-1, 1)
    return probs, flipped


def test_reliability_of_doubt_that_knows_and_of_doubt_that_does_not(cohort):
    probs, wrong = answers(cohort)
    knows = reliability(probs, wrong.float(), cohort, 0.5)
    assert knows.overlap == 1 and knows.correlation > 0.8
    assert knows.ece == expected_calibration_error(probs, cohort.labels)
    perverse = reliability(probs, (~wrong).float(), cohort, 0.5)
    assert perverse.overlap == 0
    dice = score(probs.argmax(1), cohort, surfaces=False).per_subject
    doubt = subject_doubt(wrong.float(), probs.argmax(1), cohort.subjects)
    assert knows.correlation == pytest.approx(spearmanr(doubt, 1 - dice).statistic)


def test_reliability_leaves_out_ignored_pixels_and_refuses_strangers(cohort):
    probs, wrong = answers(cohort)
    labels = cohort.labels.clone()
    labels[:, :16] = IGNORE
    doubt = wrong.float()
    doubt[:, :16] = 1 - doubt[:, :16]  # nonsense where nobody annotated
    half = replace(cohort, labels=labels)
    assert reliability(probs, doubt, half, 0.5).overlap == 1
    with pytest.raises(ValueError, match="must be of the cohort's"):
        reliability(probs, doubt[:, :8], cohort, 0.5)
    with pytest.raises(ValueError, match="at least two"):
        reliability(probs[:2], doubt[:2], cohort.select(slice(0, 2)), 0.5)
