"""What each annotation leaves of a mask, and that it leaves nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from lsseg_edu.data import IGNORE, Cohort, Task, annotate
from lsseg_edu.data.annotate import SECONDS

EVERY = {
    "subjects": lambda task, seed: annotate.subjects(task, 2, seed=seed),
    "slices": lambda task, seed: annotate.slices(task, every=2, seed=seed),
    "scribbles": lambda task, seed: annotate.scribbles(task, seed=seed),
    "points": lambda task, seed: annotate.points(task, seed=seed),
    "boxes": lambda task, seed: annotate.boxes(task, 0.2, 0.2, seed=seed),
    "boundary scribbles": lambda task, seed: annotate.boundary_scribbles(task, seed=seed),
    "missing classes": lambda task, seed: annotate.missing_classes(task, seed=seed),
    "raters": lambda task, seed: annotate.raters(task, seed=seed),
}


@pytest.fixture(scope="module", params=["2D", "3D"])
def full(request, cohort, volumes):
    """Three labelled subjects, whose masks an annotator may take away from."""
    if request.param == "2D":
        return Task.split(cohort, labelled=3, valid=2, test=2)
    return Task.split(volumes, labelled=3, valid=1, test=1)


@pytest.fixture(scope="module")
def masks(cohort):
    return cohort.labels


def ball(radius, size=33, dims=2):
    axes = np.meshgrid(*[np.arange(size) - size // 2] * dims, indexing="ij")
    return torch.from_numpy(sum(a**2 for a in axes) <= radius**2).long()[None]


@pytest.mark.parametrize("kind", EVERY)
def test_only_labelled_training_items_change(kind, full):
    task = EVERY[kind](full, 0)
    assert torch.equal(task.valid.labels, full.valid.labels)
    assert torch.equal(task.test.labels, full.test.labels)
    assert torch.equal(task.train.images, full.train.images)
    assert (task.train.labels[full.unlabelled] == IGNORE).all()
    assert not torch.equal(task.train.labels[full.labelled], full.train.labels[full.labelled])
    assert task.train.labels.dtype == torch.int64 and task.seconds > 0


@pytest.mark.parametrize("kind", EVERY)
def test_the_seed_decides(kind, full):
    one, same, other = (EVERY[kind](full, seed) for seed in (0, 0, 3))
    assert torch.equal(one.train.labels, same.train.labels)
    for key, value in one.train.extras.items():
        assert torch.equal(value, same.train.extras[key])
    assert not torch.equal(one.train.labels, other.train.labels)


@pytest.mark.parametrize("kind", ["scribbles", "points", "slices", "subjects"])
def test_what_is_left_is_true_and_cheaper(kind, full):
    task, truth = EVERY[kind](full, 0), full.train.labels
    left = task.train.labels
    assert ((left == IGNORE) | (left == truth)).all()
    everything = annotate.subjects(full, 3)
    assert 0 < task.seconds < everything.seconds


def test_dense_extras_do_not_outlive_the_masks(full):
    spied = replace(full.train, extras={"kind": full.train.labels, "frame": full.train.subjects})
    task = annotate.points(replace(full, train=spied))
    assert "kind" not in task.train.extras and "frame" in task.train.extras


def test_sparse_labels_are_refused(full):
    with pytest.raises(ValueError, match="has only scribbles left"):
        annotate.points(annotate.scribbles(full))


# -- scribbles


def test_every_class_of_every_plane_gets_a_scribble(full):
    truth = full.train.labels[full.labelled].flatten(0, -3)
    drawn = annotate.draw_scribbles(truth)
    for k in range(3):
        assert torch.equal((drawn == k).any(-1).any(-1), (truth == k).any(-1).any(-1))
    assert (drawn != IGNORE).float().mean() < 0.15


def test_a_scribble_is_one_thin_line_in_each_object(masks):
    drawn = annotate.draw_scribbles(masks, length=1.0).numpy()
    for k in (1, 2):
        for truth, line in zip(masks.numpy() == k, drawn == k, strict=True):
            objects = ndimage.label(truth, np.ones((3, 3)))[0]
            lines = ndimage.label(line, np.ones((3, 3)))[0]
            touched = {objects[lines == i].max() for i in range(1, lines.max() + 1)}
            assert len(touched) == lines.max() <= objects.max()
    blocks = ndimage.uniform_filter((drawn != IGNORE).astype(float), (0, 3, 3))
    assert blocks.max() < 0.9, "a line has no solid 3x3 block"


def test_scribbles_grow_with_length_and_width(masks):
    def share(**kwargs):
        return (annotate.draw_scribbles(masks, **kwargs) != IGNORE).float().mean()

    assert share(length=0.2) < 0.6 * share(length=1.0)
    assert share(width=3) > 1.8 * share(width=1)
    wide = annotate.draw_scribbles(masks, width=5)
    assert ((wide == IGNORE) | (wide == masks)).all()


def test_the_longest_path_of_a_bar_is_its_length():
    bars = torch.zeros(8, 9, 40, dtype=torch.long)
    bars[:, 3:6, 5:35] = 1
    lines = annotate.draw_scribbles(bars, length=1.0, wobble=0) == 1
    assert ((lines.sum((1, 2)) >= 24) & (lines.sum((1, 2)) <= 30)).all()
    assert torch.equal(lines.any(1).sum(1), lines.sum((1, 2)))
    half = annotate.draw_scribbles(bars, length=0.5, wobble=0) == 1
    assert ((half.sum((1, 2)) - lines.sum((1, 2)) / 2).abs() <= 1.5).all()
    assert len(half.unique(dim=0)) > 3, "each a piece of its own"


def test_touching_instances_get_a_scribble_each():
    labels = torch.zeros(2, 16, 24, dtype=torch.long)
    labels[:, 4:12, 4:20] = 1
    instances = labels.clone()
    instances[:, :, 12:] *= 2
    drawn = annotate.draw_scribbles(labels, instances=instances)
    for i in (1, 2):
        assert ((drawn == 1) & (instances == i)).flatten(1).any(1).all()


def test_expert_scribbles_are_taken_as_they_are(full):
    expert = annotate.scribbles(full, seed=5).train.labels.to(torch.uint8)
    spied = replace(full, train=replace(full.train, extras={"scribbles": expert}))
    task = annotate.expert_scribbles(spied)
    assert torch.equal(task.train.labels, expert.long())
    assert task.train.labels.dtype == torch.int64
    with pytest.raises(ValueError, match="has no expert scribbles"):
        annotate.expert_scribbles(full)


# -- points


def test_points_per_object(masks):
    clicked, rows = annotate.draw_points(masks, n=2)
    for item, truth in enumerate(masks.numpy()):
        for k in (1, 2):
            objects = ndimage.label(truth == k, np.ones((3, 3)))[0]
            inside = objects[(clicked[item] == k).numpy()]
            assert np.array_equal(np.bincount(inside)[1:], [2] * objects.max())
        assert (clicked[item] == 0).sum() == 2
    for item, row in (rows[..., 0] >= 0).nonzero().tolist():
        k, y, x = rows[item, row]
        assert clicked[item, y, x] == k
    assert (rows[..., 0] >= 0).sum() == (clicked != IGNORE).sum()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_centre_is_the_deepest_pixel(dims):
    disc = ball(8, dims=dims, size=25)
    clicked, rows = annotate.draw_points(disc, where="centre")
    assert rows[0, rows[0, :, 0] == 1].tolist() == [[1] + [12] * dims]
    assert clicked[(0, *[12] * dims)] == 1
    ring = disc - ball(4, dims=dims, size=25)
    _, rows = annotate.draw_points(ring, where="centre")
    where = rows[0, rows[0, :, 0] == 1][0, 1:]
    assert 5 <= (where - 12).float().norm() <= 7, "in the ring, where the centroid is not"


def test_a_point_may_have_a_radius(masks):
    fat, _ = annotate.draw_points(masks, radius=2, seed=1)
    thin, _ = annotate.draw_points(masks, radius=0, seed=1)
    assert ((fat == IGNORE) | (fat == masks)).all()
    assert torch.equal(fat[thin != IGNORE], thin[thin != IGNORE])
    assert (fat != IGNORE).sum() > 5 * (thin != IGNORE).sum()


def test_touching_instances_get_a_point_each():
    labels = torch.zeros(2, 16, 24, dtype=torch.long)
    labels[:, 4:12, 4:20] = 1
    instances = labels.clone()
    instances[:, :, 12:] *= 2
    clicked, rows = annotate.draw_points(labels, where="centre", instances=instances)
    assert (clicked == 1).sum() == 4
    assert all((rows[i, :, 0] == 1).sum() == 2 for i in (0, 1))
    assert (clicked[:, 7:9, 7:9] == 1).sum() == (clicked[:, 7:9, 15:17] == 1).sum() == 2


def test_the_next_click_is_in_the_middle_of_the_largest_error():
    truth = ball(10)
    predicted = truth.clone()
    predicted[0, 14:19, 14:19] = 0  # 25 pixels missed
    predicted[0, 0:3, 0:3] = 1  # 9 pixels too much
    assert annotate.clicks(predicted, truth).tolist() == [[1, 16, 16]]
    predicted[0, 14:19, 14:19] = 1
    assert annotate.clicks(predicted, truth).tolist() == [[0, 1, 1]]
    assert annotate.clicks(truth, truth).tolist() == [[-1, -1, -1]]
    unknown = truth.clone()
    unknown[0, :4, :4] = IGNORE
    assert annotate.clicks(predicted, unknown).tolist() == [[-1, -1, -1]]


def test_errors_of_two_classes_do_not_add_up():
    truth = torch.zeros(1, 30, 30, dtype=torch.long)
    truth[0, 1:5, 1:4] = truth[0, 20:25, 20:25] = 1  # 12 and 25 pixels missed
    predicted = torch.zeros_like(truth)
    predicted[0, 10:14, 10:14] = 1  # 16 pixels too much
    assert annotate.clicks(predicted, truth).tolist() == [[1, 22, 22]]


def test_clicks_take_each_image_by_itself(volumes):
    nothing = torch.zeros_like(volumes.labels)
    clicks = annotate.clicks(nothing, volumes.labels)
    for truth, (k, *where) in zip(volumes.labels, clicks.tolist(), strict=True):
        assert truth[tuple(where)] == k > 0
    alone = annotate.clicks(nothing[2:3], volumes.labels[2:3])
    assert torch.equal(alone[0], clicks[2])


# -- boxes


def brute_boxes(labels):
    """Smallest box of each component, the slow way."""
    found = []
    for item, truth in enumerate(labels.numpy()):
        for k in (1, 2):
            objects, n = ndimage.label(truth == k, np.ones((3,) * truth.ndim))
            for i in range(1, n + 1):
                where = np.argwhere(objects == i)
                found.append((item, k, *where.min(0), *(where.max(0) + 1)))
    return sorted(found)


@pytest.mark.parametrize("which", ["cohort", "volumes"])
def test_tight_boxes_against_brute_force(which, request):
    labels = request.getfixturevalue(which).labels
    boxes = annotate.draw_boxes(labels)
    rows = [(i, *boxes[i, j].tolist()) for i, j in (boxes[..., 0] >= 0).nonzero().tolist()]
    assert sorted(rows) == brute_boxes(labels)


def test_loose_boxes_hold_the_tight_ones(masks):
    tight, loose = annotate.draw_boxes(masks), annotate.draw_boxes(masks, 0.3, 0.2)
    real = tight[..., 0] >= 0
    tight, loose = tight[real], loose[real]
    assert (loose[:, 1:3] <= tight[:, 1:3]).all() and (loose[:, 3:] >= tight[:, 3:]).all()
    assert (loose[:, 1:3] < tight[:, 1:3]).float().mean() > 0.5
    assert loose.min() >= 0 and loose[:, 3:].max() <= 32
    shrunk = annotate.draw_boxes(masks, 0, 0.4)[real]
    assert (shrunk[:, 3:] > shrunk[:, 1:3]).all()


def test_box_labels_are_certain_outside_only(full):
    task = annotate.boxes(full)
    labels, truth = task.train.labels[full.labelled], full.train.labels[full.labelled]
    extras = {key: task.train.extras[key][full.labelled] for key in ("boxes", "inside")}
    masks = annotate.boxes_to_masks(extras["boxes"], 3, labels.shape[1:])
    for k in (1, 2):
        assert torch.equal((extras["inside"] >> k & 1).bool(), masks[:, k])
        assert masks[:, k][truth == k].all()
    assert torch.equal(labels == IGNORE, masks.any(1))
    assert (labels[labels != IGNORE] == 0).all()
    assert (task.train.extras["boxes"][full.unlabelled] == -1).all()


def test_one_box_per_class():
    labels = torch.zeros(1, 20, 20, dtype=torch.long)
    labels[0, 2:4, 2:4] = labels[0, 10:15, 12:18] = 1
    assert annotate.draw_boxes(labels, per="class").tolist() == [[[1, 2, 2, 15, 18]]]
    assert annotate.draw_boxes(labels).shape == (1, 2, 5)


# -- boundary scribbles


def test_contours_leave_doubt_around_the_boundary_only(masks):
    known, lines = annotate.draw_contours(masks, rough=0.0, band=1.5)
    assert ((known == IGNORE) | (known == masks)).all()
    assert torch.equal(lines[lines != IGNORE], masks[lines != IGNORE])
    for k in range(3):
        assert torch.equal((known == k).any(-1).any(-1), (masks == k).any(-1).any(-1))
    disc, line = (part[0] for part in annotate.draw_contours(ball(8), rough=0.0, band=1.5))
    assert (disc[line == 1] == IGNORE).all(), "the line itself is uncertain"
    assert (disc[16] == IGNORE).nonzero()[:, 0].tolist() == [6, 7, 8, 9, 23, 24, 25, 26]
    narrow, _ = annotate.draw_contours(masks, rough=0.0, band=0.5)
    assert (narrow == IGNORE).sum() < (known == IGNORE).sum()


def test_contours_err_as_much_as_they_are_rough(masks):
    def wrong(rough):
        known, _ = annotate.draw_contours(masks, rough, band=0.5)
        return ((known != IGNORE) & (known != masks)).float().mean()

    assert wrong(0.0) == 0 < wrong(1.0) < wrong(3.0)


# -- missing classes


def test_missing_classes_look_like_background(full):
    task = annotate.missing_classes(full, given=1)
    truth, left = full.train.labels[full.labelled], task.train.labels[full.labelled]
    annotated = task.train.extras["annotated"]
    assert annotated.shape == (len(task.train), 3) and annotated.dtype == torch.bool
    assert not annotated[full.unlabelled].any()
    annotated = annotated[full.labelled]
    assert (annotated.sum(1) == 2).all() and annotated.any(0).all()
    for mask, given, was in zip(left, annotated, truth, strict=True):
        assert torch.equal(mask, torch.where(given[was], was, 0))
    subjects = full.train.subjects[full.labelled]
    for subject in subjects.unique():
        assert len(annotated[subjects == subject].unique(dim=0)) == 1


def test_missing_classes_may_be_unknown_instead(full):
    task = annotate.missing_classes(full, given=1, others="ignore")
    truth, left = full.train.labels[full.labelled], task.train.labels[full.labelled]
    assert ((left == IGNORE) | (left == truth)).all()
    assert torch.equal(left == 0, truth == 0) and (left == IGNORE).any()


def test_missing_classes_need_enough_subjects_and_classes(full):
    with pytest.raises(ValueError, match="can be given 1 to 1"):
        annotate.missing_classes(full, given=2)
    with pytest.raises(ValueError, match="cannot cover 2 classes"):
        annotate.missing_classes(annotate.subjects(full, 1), given=1)
    one = replace(full.train, labels=full.train.labels.clamp(max=1).where(
        full.train.labels != IGNORE, IGNORE), names=("air", "thing"))  # fmt: skip
    with pytest.raises(ValueError, match="at least two foreground classes"):
        annotate.missing_classes(replace(full, train=one))


# -- raters


def test_raters_styles():
    disc = ball(9, size=41)
    area = {name: int(annotate.rate(disc, name).sum()) for name in annotate.STYLES}
    assert area["tight"] < 0.88 * disc.sum() < 1.12 * disc.sum() < area["generous"]
    radius = [(annotate.rate(disc, annotate.Style(bias=b, ragged=0)).sum() / np.pi) ** 0.5
              for b in (-2, 0, 2)]  # fmt: skip
    assert np.allclose(np.diff(radius), 2, atol=0.25), "the bias is in pixels"
    shifted = annotate.rate(disc, annotate.Style(shift=4, ragged=0))[0]
    moved = (shifted.nonzero().float().mean(0) - 20).norm()
    assert abs(moved - 4) < 0.6
    ragged = annotate.rate(disc, "hasty")
    assert 0.9 < ragged.sum() / disc.sum() < 1.1 and (ragged != disc).sum() > 20


def test_small_components_are_overlooked():
    labels = torch.zeros(60, 24, 24, dtype=torch.long)
    labels[:, 2:4, 2:4] = labels[:, 8:20, 8:20] = 1
    seen = annotate.rate(labels, "overlooking")
    small, big = ((seen[:, a:b, a:b] == 1).flatten(1).any(1) for a, b in ((2, 4), (8, 20)))
    assert big.all() and 0.6 < 1 - small.float().mean() < 0.95


def test_organ_boundaries_move_by_noise_not_by_bias():
    labels = torch.zeros(1, 20, 40, dtype=torch.long)
    labels[:, 5:15, 5:20], labels[:, 5:15, 20:35] = 1, 2
    seen = annotate.rate(labels, annotate.Style(bias=2, ragged=0))
    assert (seen[0, 10] == torch.where(labels[0, 10] > 0, labels[0, 10], seen[0, 10])).all()
    assert (seen[0, 10] > 0).sum() == 34


def test_raters_vote(full):
    task = annotate.raters(full, ("careful", "generous", "tight"))
    drawn = task.train.extras["raters"]
    assert drawn.shape == (len(task.train), 3, *full.train.labels.shape[1:])
    assert (drawn[full.unlabelled] == IGNORE).all()
    drawn, vote = drawn[full.labelled], task.train.labels[full.labelled]
    two = (drawn[:, 0] == drawn[:, 1]) | (drawn[:, 0] == drawn[:, 2])
    assert torch.equal(vote[two], drawn[:, 0][two])
    truth = full.train.labels[full.labelled]
    assert (vote != truth).sum() < (drawn[:, 1] != truth).sum()


# -- fewer


def test_subjects_are_those_the_task_keeps(cohort):
    everyone = Task.split(cohort, valid=2, test=2)
    few = annotate.subjects(everyone, 2, seed=1)
    assert torch.equal(few.train.labels, everyone.keep(2, seed=1).train.labels)
    assert few.seconds == annotate.cost.mask_seconds(few.train.labels[few.labelled])


def test_slices_of_volumes():
    labels = torch.zeros(2, 20, 4, 4, dtype=torch.long)
    labels[:, 6:15, 1:3, 1:3] = 1
    for kwargs, n in (({"count": 3}, 3), ({"every": 5}, 4)):
        kept = annotate.keep_slices(labels, **kwargs)
        planes = (kept != IGNORE).all(-1).all(-1)
        assert (planes.sum(1) == n).all()
        assert torch.equal(kept[planes], labels[planes]) and (kept[~planes] == IGNORE).all()
    counted = (annotate.keep_slices(labels, count=3)[0] != IGNORE).flatten(1).any(1)
    assert counted.nonzero()[:, 0].tolist() == [7, 10, 13]
    gaps = (annotate.keep_slices(labels, every=5)[0] != IGNORE).flatten(1).any(1).nonzero()[:, 0]
    assert (gaps.diff() == 5).all()
    with pytest.raises(ValueError, match="either every"):
        annotate.keep_slices(labels, every=2, count=2)


def test_slices_of_a_2d_cohort_follow_position_and_frame():
    rng = np.random.default_rng(0)
    order = rng.permutation(12)
    labels = np.ones((24, 8, 8), np.int64)
    labels[:, :2] = 0
    extras = {"position": np.r_[order, order] / 11.0, "frame": np.repeat([0, 1], 12)}
    extras = {key: np.r_[value, value] for key, value in extras.items()}
    cohort = Cohort.from_arrays(
        rng.normal(size=(48, 8, 8)), np.r_[labels, labels], np.repeat([0, 1], 24), extras=extras
    )
    task = annotate.slices(Task.split(cohort, valid=0, test=1), every=4)
    assert len(task.labelled) == 6
    for frame in (0, 1):
        mine = task.labelled[task.train.extras["frame"][task.labelled] == frame]
        position = (task.train.extras["position"][mine] * 11).round().sort().values
        assert (position.diff() == 4).all()


# -- cost


def test_what_it_costs():
    labels = torch.zeros(1, 2, 24, 24, dtype=torch.long)
    labels[0, :, 2:8, 2:8] = labels[0, 0, 12:20, 12:20] = 1
    labels[0, 1, 12:20, 12:20] = 2
    labels[0, 0, 22, 22] = 1  # a speck is not outlined
    assert annotate.cost.mask_seconds(labels) == 4 * SECONDS["mask"]
    assert annotate.cost.count_classes(labels) == 5
    _, rows = annotate.draw_points(labels[0], n=1)
    firsts, further = 5, 2
    assert annotate.cost.point_seconds(rows) == pytest.approx(
        firsts * SECONDS["point"] + further * SECONDS["further point"]
    )


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda y: annotate.draw_scribbles(y, length=0), "length must be"),
        (lambda y: annotate.draw_points(y, n=0), "n >= 1"),
        (lambda y: annotate.draw_points(y, where="left"), "'left'"),
        (lambda y: annotate.draw_boxes(y, margin=-1), "must not be negative"),
        (lambda y: annotate.draw_boxes(y, per="pixel"), "'object' or 'class'"),
        (lambda y: annotate.draw_contours(y, band=-1), "must not be negative"),
        (lambda y: annotate.rate(y, "drunk"), "no style 'drunk'"),
        (lambda y: annotate.drop_classes(y, y, "nothing"), "'nothing'"),
    ],
)
def test_bad_wishes_get_a_sentence(call, sentence, masks):
    with pytest.raises(ValueError, match=sentence):
        call(masks)
