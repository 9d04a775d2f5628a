"""Points: circles, cells, clusters, edges and detection."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from lsseg_edu import study
from lsseg_edu.data import IGNORE, annotate
from lsseg_edu.partial import points as room
from lsseg_edu.partial.regions import partial_cross_entropy
from lsseg_edu.train import Batch, Budget, Part, fit


@pytest.fixture(scope="module")
def clicks(task):
    return annotate.points(task, where="centre")


POINTS = torch.tensor([[[1, 4, 4], [2, 4, 15], [0, 18, 2], [-1, -1, -1]], [[-1, -1, -1]] * 4])


def test_concentric_ring_is_ignored_by_a_loop_over_pixels():
    labels = room.concentric_labels(POINTS, (20, 20), inner=2, outer=5)
    for i in range(20):
        for j in range(20):
            far = [np.hypot(i - a, j - b) for a, b in ((4, 4), (4, 15))]
            want = 1 + int(np.argmin(far)) if min(far) <= 2 else 0 if min(far) > 5 else IGNORE
            assert labels[0, i, j] == want
    assert (labels[1] == 0).all()


def test_concentric_loss_has_no_gradient_in_the_ring():
    labels = room.concentric_labels(POINTS, (20, 20), inner=2, outer=5)
    logits = torch.randn(2, 3, 20, 20, requires_grad=True)
    (grad,) = torch.autograd.grad(partial_cross_entropy(logits, labels), logits)
    assert torch.equal(grad.abs().sum(1) > 0, labels != IGNORE)


def test_voronoi_borders_part_the_cells():
    labels = room.voronoi_labels(POINTS, (20, 20))[0]
    assert labels[4, 4] == 1 and labels[4, 15] == 2 and labels[18, 2] == 0
    part, n = ndimage.label(labels != 0)
    cells = part[4, 4], part[4, 15]
    assert cells[0] != cells[1]
    distance = [torch.cdist(torch.tensor([[*c.tolist()]]).float(), POINTS[0, :2, 1:].float())[0]
                for c in (labels == 0).nonzero() if c.tolist() != [18, 2]]  # fmt: skip
    assert all(abs(float(d[0] - d[1])) <= 1.5 for d in distance)


def test_clusters_find_the_disc_and_its_surroundings():
    axes = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    disc = (axes[0] - 11) ** 2 + (axes[1] - 11) ** 2 < 36
    images = disc.float()[None, None] + 0.05 * torch.randn(
        1, 3, 24, 24, generator=torch.Generator().manual_seed(0)
    )
    labels = room.cluster_labels(images, torch.tensor([[[2, 11, 11]]]))[0]
    assert (labels[disc] == 2).float().mean() > 0.95 and not (labels[~disc] == 2).any()
    assert (labels[~disc] == 0).float().mean() > 0.5
    nobody = room.cluster_labels(images, torch.tensor([[[0, 1, 1]]]))
    assert (nobody == IGNORE).all()


@pytest.fixture
def stage(monkeypatch):
    """What a procedure would have trained: the last method and task of :func:`fit`."""
    seen = {}
    for module in ("concentric", "pseudo_edge", "qu"):
        monkeypatch.setattr(
            f"lsseg_edu.partial.points.{module}.fit",
            lambda method, task, *args, **kwargs: seen.update(method=method, task=task),
        )
    return seen


def test_circles_and_cells_reach_the_loss(clicks, stage):
    points, mine, size = room.clicked(clicks), clicks.labelled, clicks.train.labels.shape[1:]
    room.concentric_training(clicks, inner=1, outer=3)
    want = room.concentric_labels(points, size, 1, 3)
    assert torch.equal(stage["task"].train.labels[mine], want)
    room.pseudo_edge_net(clicks, weight=0.5)
    assert torch.equal(stage["task"].train.labels[mine], room.voronoi_labels(points, size))
    assert stage["method"].weight == 0.5


def test_points_that_were_found_become_both_labels_of_stage_two(clicks, stage, monkeypatch):
    few, every, mine = room.partial_points(clicks, 0.5), room.clicked(clicks), clicks.labelled
    monkeypatch.setattr("lsseg_edu.partial.points.qu.detect", lambda *args, **kwargs: (every, []))
    room.qu_points(few, weight=0.3)
    train, images = stage["task"].train, few.train.images[mine]
    assert torch.equal(train.labels[mine], room.voronoi_labels(every, images.shape[2:]))
    assert torch.equal(train.extras["clusters"][mine], room.cluster_labels(images, every))
    assert (train.labels[few.unlabelled] == IGNORE).all() and stage["method"].weight == 0.3


def part_of(images, labels, **extras):
    index = torch.arange(len(images))
    return Batch(Part(images, labels, index, index, extras), None, 1.0)


def test_two_labels_is_the_mean_of_both_and_the_crf_comes_late():
    torch.manual_seed(0)
    net = torch.nn.Conv2d(1, 3, 3, padding=1)
    images, labels = torch.randn(2, 1, 16, 16), torch.randint(0, 3, (2, 16, 16))
    batch = part_of(images, labels, clusters=labels.flip(0))
    method = room.TwoLabels(net)
    terms = method.loss(batch)
    assert torch.allclose(
        terms["voronoi"], torch.nn.functional.cross_entropy(net(images), labels) / 2
    )
    assert terms["crf"] > 0 and terms["clusters"] != terms["voronoi"]
    assert method.loss(replace(batch, progress=0.5))["crf"] == 0
    assert room.TwoLabels(net, weight=0.0).loss(batch)["crf"] == 0
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_image_level_by_hand():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    top = logits.softmax(1).flatten(2).amax(2)[0]
    want = -(top[0].log() + top[2].log()) / 2 - (1 - top[1]).log()
    present = torch.tensor([[True, False, True]])
    assert torch.allclose(room.image_level(logits, present), want)
    everything = room.image_level(logits, torch.ones(1, 3, dtype=torch.bool))
    assert torch.allclose(everything, -top.log().mean())


def test_objectness_gives_clicks_an_extent(clicks):
    """The prior knows objects by their colour, and teaches where no one clicked."""
    prior = room.Objectness.of(clicks)(clicks.test.images)
    method = room.WhatsThePoint.for_task(clicks)
    nobody = torch.full((2, 32, 32), IGNORE)
    points = torch.tensor([[[0, 1, 1]]] * 2)
    terms = method.loss(part_of(clicks.test.images[:2], nobody, points=points))
    assert terms["point"] == 0 and terms["objectness"] > 0
    assert prior.shape == clicks.test.labels.shape
    terms["objectness"].backward()
    assert any(p.grad.abs().sum() > 0 for p in method.net.parameters())


def test_objectness_knows_the_colour_of_any_object(clicks, task):
    inside = task.train.labels[task.labelled] > 0
    images = clicks.train.images.clone()
    images[clicks.labelled] = inside.unsqueeze(1) + 0.1 * images[clicks.labelled]
    bright = replace(clicks, train=replace(clicks.train, images=images))
    prior = room.Objectness.of(bright)(images[clicks.labelled])
    assert prior[inside].mean() > 0.7 > 0.3 > prior[~inside].mean()


def test_whats_the_point_is_three_weighted_terms(clicks):
    mine = clicks.labelled[:2]
    images, labels = clicks.train.images[mine], clicks.train.labels[mine]
    points = clicks.train.extras["points"][mine]
    method = room.WhatsThePoint.for_task(clicks, image=0.5, prior=0.25)
    terms, logits = method.loss(part_of(images, labels, points=points)), method.net(images)
    present = torch.stack([(points[..., 0] == k).any(1) for k in range(3)], 1)
    assert torch.allclose(terms["point"], partial_cross_entropy(logits, labels))
    assert torch.allclose(terms["image"], 0.5 * room.image_level(logits, present))
    assert torch.allclose(terms["objectness"], 0.25 * method.extent(logits, images))
    with pytest.raises(ValueError, match="no points"):
        method.loss(part_of(images, labels))


def test_objectness_term_is_bearmans_sum():
    logits = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    prior = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1))
    method = room.WhatsThePoint(torch.nn.Identity(), lambda images: prior)
    p = logits.softmax(1)
    want = -(prior * p[:, 1:].sum(1).log() + (1 - prior) * p[:, 0].log()).mean()
    assert torch.allclose(method.extent(logits, logits), want, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_sobel_is_scipys(dims):
    maps = torch.randn(1, 1, *[7] * dims, generator=torch.Generator().manual_seed(0))
    for axis in range(dims):
        want = ndimage.sobel(maps[0, 0].numpy(), axis, mode="nearest") / 2 / 4 ** (dims - 1)
        np.testing.assert_allclose(room.sobel(maps)[0, axis].numpy(), want, atol=1e-6)


def test_edge_network_and_attention_meet_the_sobel_of_the_segmentation(clicks):
    method = room.PseudoEdgeNet.for_task(clicks)
    images = clicks.train.images[:2]
    nobody = torch.full((2, 32, 32), IGNORE)
    terms = method.loss(part_of(images, nobody))
    objects = method.net(images).softmax(1)[:, 1:].sum(1, keepdim=True)
    edges = method.edges(images) * torch.sigmoid(method.attention(images))
    assert torch.allclose(terms["edge"], (room.sobel(objects) - edges).abs().mean(), atol=1e-6)
    assert terms["point"] == 0
    terms["edge"].backward()
    for network in (method.net, method.edges, method.attention):
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert any(g.abs().sum() > 0 for g in grads) and all(g.isfinite().all() for g in grads)


def test_edge_network_is_shallow(clicks):
    edges = room.PseudoEdgeNet.for_task(clicks).edges
    image = torch.zeros(1, 1, 21, 21, requires_grad=True)
    edges(image)[0, 0, 10, 10].backward()
    assert not image.grad[0, 0, :6].any() and not image.grad[0, 0, :, 15:].any()


def test_heat_is_unknown_far_from_every_click():
    heat, known = room.heat_maps(POINTS, (20, 20), 3, near=3, far=6)
    assert heat[0, 0, 4, 4] == 1 and heat[0, 1, 4, 15] == 1 and heat[0, 1, 4, 4] == 0
    assert heat[0, 0, 4, 7] == 0 and known[0, 4, 9] and not known[0, 12, 12]
    assert known[0, 18, 2] and known[1].sum() == 0


def test_unknown_pixels_do_not_teach_the_detector():
    torch.manual_seed(0)
    method = room.HeatMaps(torch.nn.Conv2d(1, 3, 1))
    images, known = torch.randn(1, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    known[:, :4] = 1
    target = torch.full((1, 2, 8, 8), 255, dtype=torch.uint8)
    other = target.clone()
    other[:, :, 4:] = 0
    losses = [method.loss(part_of(images, None, heat=t, known=known)) for t in (target, other)]
    assert losses[0]["heat"] == losses[1]["heat"] > 0
    target[:, 1] = 0
    squares = (method.heat(images) - target / 255).square()[:, :, :4]
    want = (10 * squares[:, 0] + squares[:, 1]).sum() / (11 * 32)
    assert torch.allclose(
        method.loss(part_of(images, None, heat=target, known=known))["heat"], want
    )


def test_background_grows_where_it_is_cold_and_never_over_a_find():
    heat = torch.tensor([0.05, 0.3, 0.9, 0.0]).view(1, 1, 2, 2)
    known = torch.tensor([False, False, False, True]).view(1, 2, 2)
    grown = room.background_grown(known, heat)
    assert grown.flatten().tolist() == [True, False, False, True]


def test_peaks_are_new_points_with_the_class_of_the_hottest_map():
    heat = torch.zeros(1, 2, 20, 20)
    heat[0, 0, 4, 5], heat[0, 1, 12, 12], heat[0, 0, 18, 18] = 0.9, 0.8, 0.2
    found = room.peaks(heat, torch.tensor([[[2, 4, 4]]]))
    assert sorted(found[0].tolist()) == [[2, 4, 4], [2, 12, 12]]


def test_known_area_grows_from_round_to_round_only_if_told(clicks, budget):
    """``low=1.1``: everything is cold, so one round is enough to know all."""
    few = room.partial_points(clicks, 0.5)
    for grow in (True, False):
        _, stages = room.detect(few, budget, 0, 2, grow, low=1.1, progress=False)
        first, second = (known.sum() for _, known in stages)
        assert bool(second > first) is grow


def test_the_detector_adds_what_it_finds_to_the_clicks(clicks, budget):
    """``high=0``: every local maximum of the heat is a find; ``high=2``: none is."""
    few = room.partial_points(clicks, 0.5)
    given = (room.clicked(few)[..., 0] >= 0).sum()
    for high, more in ((0.0, True), (2.0, False)):
        found, _ = room.detect(few, budget, 0, 1, high=high, progress=False)
        assert bool((found[..., 0] >= 0).sum() > given) is more


def test_partial_points_keep_a_share_and_all_background(clicks):
    before = room.clicked(clicks)
    few = room.partial_points(clicks, 0.5)
    after = room.clicked(few)
    assert ((before[..., 0] == 0).sum(1) == (after[..., 0] == 0).sum(1)).all()
    objects = (after[..., 0] > 0).sum(1)
    assert torch.equal(objects, ((before[..., 0] > 0).sum(1) / 2).ceil().long())
    assert (few.train.labels != IGNORE).sum() == (after[..., 0] >= 0).sum()
    assert 0 < few.seconds < clicks.seconds
    with pytest.raises(ValueError, match="share"):
        room.partial_points(clicks, 0)


@pytest.mark.parametrize(
    "train", ["concentric_training", "pseudo_edge_net", "qu_points"], ids=lambda n: n
)
def test_procedures_train_from_clicks_alone(clicks, budget, train):
    fitted = getattr(room, train)(clicks, budget=budget, seed=0, progress=False)
    probs = fitted.predict(clicks.test.images)
    assert torch.allclose(probs.sum(1), torch.ones(()), atol=1e-5)
    assert all(np.isfinite(values).all() for values in fitted.history.values())


def test_whats_the_point_trains_from_clicks_alone(clicks, budget):
    fitted = fit(room.WhatsThePoint.for_task(clicks), clicks, budget, progress=False)
    assert sorted(fitted.history) == ["image", "objectness", "point"]


def test_qu_budget_covers_both_stages(clicks, monkeypatch):
    steps = []

    def counted(method, task, budget, *args, **kwargs):
        steps.append(budget.steps)
        return fit(method, task, budget, *args, **kwargs)

    for module in ("qu", "detection"):
        monkeypatch.setattr(f"lsseg_edu.partial.points.{module}.fit", counted)
    room.qu_points(clicks, Budget("smoke", steps=4, batch=2), rounds=2, progress=False)
    assert steps == [1, 1, 2]
    room.qu_points(clicks, Budget("smoke", steps=2, batch=2), rounds=0, progress=False)
    assert steps[3:] == [2]


def test_volumes(volumes):
    points = torch.tensor([[[1, 4, 4, 4], [2, 10, 10, 10], [0, 1, 1, 15]]])
    assert room.concentric_labels(points, (16, 16, 16)).shape == (1, 16, 16, 16)
    labels = room.voronoi_labels(points, (16, 16, 16))
    part, _ = ndimage.label(labels[0] != 0)
    assert part[4, 4, 4] != part[10, 10, 10]
    heat, known = room.heat_maps(points, (16, 16, 16), 3)
    found = room.peaks(heat, torch.full((1, 1, 4), -1))
    assert sorted(found[0].tolist()) == points[0, :2].tolist()
    net = torch.nn.Conv3d(1, 3, 1)
    batch = part_of(volumes.images[:1], labels, clusters=labels)
    assert all(t.isfinite() for t in room.TwoLabels(net).loss(batch).values())


def broken(task, change):
    points = task.train.extras["points"].clone()
    change(points)
    train = replace(task.train, extras={**task.train.extras, "points": points})
    return replace(task, train=train)


def test_bad_points_are_one_sentence(clicks, task):
    first = clicks.labelled[0]

    def outside(points):
        points[first, 0, 1:] = 32

    def stranger(points):
        points[first, 0, 0] = 7

    def no_disc(points):
        points[points[..., 0] == 1] = -1

    for change, words in (
        (outside, r"\[32, 32\] lies outside its image of \[32, 32\]"),
        (stranger, "class 7, but there are 3"),
        (no_disc, "'disc' has no point"),
    ):
        with pytest.raises(ValueError, match=words):
            room.concentric_training(broken(clicks, change))
    with pytest.raises(ValueError, match="no points"):
        room.qu_points(task)
    with pytest.raises(ValueError, match="inner < outer"):
        room.concentric_labels(POINTS, (20, 20), inner=6, outer=2)
    with pytest.raises(ValueError, match="at least once"):
        room.detect(clicks, rounds=0)


def test_protocols_leave_points_and_compare_with_masks_of_the_same_subjects():
    name = "nuclei-points"
    if name not in study.PROTOCOLS:
        pytest.skip("not on the board yet")
    task, upper = study.protocol(name).task(0), study.protocol(name).upper(0)
    assert torch.equal(task.labelled, upper.labelled) and "points" in task.train.extras
    assert (task.train.labels[task.labelled] != IGNORE).float().mean() < 0.05
