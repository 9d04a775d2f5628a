"""Instance scores: the table, the two references, and what is empty."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality

from lsseg_edu.data import IGNORE, Cohort
from lsseg_edu.evaluate import instance_scores, score_instances, split_objects


def numbered(seed, shift=0):
    """About ten overlapping squares, numbered with gaps."""
    rng = np.random.default_rng(seed)
    image = np.zeros((40, 40), int)
    for number in range(2, 24, 2):
        a, b = rng.integers(0, 34, 2) + shift
        image[a : a + 6, b : b + 6] = number
    return image


def aji_by_loop(predicted, truth):
    """Kumar et al., as it is written down."""
    inter = union = 0
    used = set()
    finds = [int(p) for p in np.unique(predicted) if p]
    for t in (int(t) for t in np.unique(truth) if t):
        best, partner = 0.0, None
        for p in finds:
            a, b = predicted == p, truth == t
            iou = (a & b).sum() / (a | b).sum()
            if iou > best:
                best, partner = iou, p
        if partner is None:
            union += (truth == t).sum()
        else:
            inter += ((predicted == partner) & (truth == t)).sum()
            union += ((predicted == partner) | (truth == t)).sum()
            used.add(partner)
    return inter / (union + sum((predicted == p).sum() for p in finds if p not in used))


@pytest.mark.parametrize("seed", range(4))
def test_pq_is_monais_and_aji_the_written_out_loop(seed):
    truth = numbered(seed)
    predicted = numbered(seed, shift=seed % 3)
    predicted[truth == 4] = 0  # one is missed, one is invented
    predicted[:3, :3] = 99
    f1, pq, aji = instance_scores(predicted, truth)
    pair = torch.from_numpy(predicted), torch.from_numpy(truth)
    assert pq == pytest.approx(float(compute_panoptic_quality(*pair, "pq")), abs=1e-5)
    assert f1 == pytest.approx(float(compute_panoptic_quality(*pair, "rq")), abs=1e-5)
    assert aji == pytest.approx(aji_by_loop(predicted, truth))


def test_perfect_is_one_and_merging_two_costs_all_three_scores():
    truth = np.zeros((8, 12), int)
    truth[2:6, 1:5], truth[2:6, 5:9] = 1, 2
    assert instance_scores(truth * 7, truth) == (1, 1, 1)
    merged = instance_scores((truth > 0).astype(int), truth)
    assert merged[0] == merged[1] == 0 and merged[2] == pytest.approx(1 / 4 * 2)


def test_one_side_empty_is_zero_and_both_are_no_score():
    nothing, one = np.zeros((4, 4), int), np.eye(4, dtype=int)
    assert instance_scores(nothing, one) == instance_scores(one, nothing) == (0, 0, 0)
    assert np.isnan(instance_scores(nothing, nothing)).all()


@pytest.fixture
def fields():
    labels = np.zeros((4, 16, 16), int)
    labels[:3, 2:6, 2:6], labels[:3, 9:13, 9:13] = 1, 2
    images = np.random.default_rng(0).normal(size=labels.shape)
    extras = {"instances": torch.from_numpy(labels)}
    return Cohort.from_arrays(images, labels, np.array([0, 0, 1, 2]), extras=extras)


def test_a_subject_is_the_mean_of_its_images_and_without_objects_has_no_score(fields):
    predicted = fields.labels.clone()
    predicted[0] = 0
    report = score_instances(predicted, fields)
    np.testing.assert_array_equal(report.f1, [0.5, 1, np.nan])
    assert report.means["aji"] == 0.75 and "F1 0.750" in repr(report)


def test_components_share_a_face_and_classes_do_not_part_them(fields):
    predicted = fields.labels.clone()
    predicted[2, 2:4, 2:6] = 2  # half a nucleus of the other class: still the one object
    assert score_instances(predicted, fields).f1[1] == 1
    predicted[2, 2, 6], predicted[2, 1, 7] = 1, 1  # corner to corner: a find of its own
    assert score_instances(predicted, fields).f1[1] == pytest.approx(4 / 5)


def test_numbered_maps_are_taken_as_they_are_and_ignored_pixels_count_for_nothing(fields):
    apart = fields.labels.clone()
    apart[:, 4:6][apart[:, 4:6] > 0] += 5
    assert score_instances(apart, fields, numbered=True).means["f1"] < 1
    unknown = fields.labels.clone()
    unknown[:, 4:6] = IGNORE
    blind = replace(fields, labels=unknown)
    assert score_instances(apart, blind, numbered=True).means["f1"] == 1


@pytest.mark.parametrize("dims", [2, 3])
def test_touching_balls_are_one_component_and_two_watersheds(dims):
    axes = np.meshgrid(*[np.arange(n) for n in (12, 20, 12)[:dims]], indexing="ij")
    squared = [sum((a - c) ** 2 for a, c in zip(axes, (5, m, 5), strict=False)) for m in (5, 13)]
    truth = np.where(squared[0] < 20, 1, np.where(squared[1] < 20, 2, 0))
    labels = torch.from_numpy(np.stack([truth, 0 * truth]))
    cohort = Cohort.from_arrays(
        np.random.default_rng(0).normal(size=labels.shape),
        (labels > 0).long(),
        np.arange(2),
        extras={"instances": labels},
    )
    assert score_instances(cohort.labels, cohort).means["f1"] < 1
    found = split_objects(cohort.labels)
    assert score_instances(found, cohort, numbered=True).f1[0] == 1
    assert torch.equal(found > 0, labels > 0) and not found[1].any()
    assert split_objects(cohort.labels, apart=9)[0].max() == 1  # too far apart: one again


def test_bad_input_is_one_sentence(fields):
    with pytest.raises(ValueError, match="apart by 1 pixel or more"):
        split_objects(fields.labels, apart=0)
    with pytest.raises(ValueError, match="has no instances"):
        score_instances(fields.labels, replace(fields, extras={}))
    with pytest.raises(ValueError, match="has shape"):
        score_instances(fields.labels[:2], fields)


def test_volumes():
    truth = np.zeros((6, 6, 6), int)
    truth[:3, :3, :3], truth[4:, 4:, 4:] = 1, 2
    assert instance_scores(truth, truth) == (1, 1, 1)
