"""From strokes to masks: what is propagated, what is believed, and what is never looked at."""

import math
import re
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from probes import weights
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Cohort, Task, annotate
from lsseg_edu.networks import Shape
from lsseg_edu.partial import rounds
from lsseg_edu.partial.regions import (
    DMPLS,
    BoundaryScribble,
    BoxThenMask,
    DenseCRFLoss,
    PointsAndRoughMasks,
    Scribble2Label,
    SelfSimilarityStudent,
    annotated_areas,
    boxes_and_few_masks,
    boxes_and_masks,
    dong,
    feature_propagation,
    ji,
    lee,
    lin,
    partial_cross_entropy,
    peng,
    points_and_rough_masks,
    propagate,
    propagated,
    rois,
    scribble2label,
    scribble_hierarchy,
    scribblesup,
    separate,
    similar_ensemble,
    similarity_loss,
    whole_scribbles,
    zhao,
)
from lsseg_edu.partial.regions.boundary_scribble import local_contrast, read_lines
from lsseg_edu.train import Batch, Budget, Fitted, Part, Player, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=2)
UNET = Shape(channels=1, classes=3, dims=2)


def unet(outputs=3, dims=2, seed=0):
    return networks.unet(Shape(1, outputs, dims), width=4, seed=seed)


def scribbled(*size, items=2, progress=1.0, **extras):
    """Random images with a stroke of each of three classes."""
    torch.manual_seed(1)
    images, labels = torch.randn(items, 1, *size), torch.full((items, *size), IGNORE)
    for k in range(3):
        labels[:, 3 + 5 * k, 2:9] = k
    index = torch.arange(items)
    return Batch(Part(images, labels, index, index, extras), None, progress)


def finite(method, batch):
    """All terms and gradients of the trained parameters are finite; the terms."""
    terms = method.train().loss(batch)
    (player,) = method.players()
    assert isinstance(player, Player)
    sum(terms.values()).backward()
    grads = [p.grad for p in player.parameters if p.grad is not None]
    assert len(grads) > 0 and all(torch.isfinite(g).all() for g in grads)
    assert all(torch.isfinite(t) for t in terms.values())
    return terms


@pytest.fixture(scope="module")
def sparse(task):
    return annotate.scribbles(task)


@pytest.fixture
def caught(monkeypatch):
    """Replace ``fit`` of a module by one that notes (method, task, budget) and trains nothing."""

    def watch(module):
        seen = []

        def fit(method, task, budget, seed=0, *args, **kwargs):
            seen.append((method, task, budget))
            return Fitted(method, {}, 1.0)

        monkeypatch.setattr(module, "fit", fit)
        return seen

    return watch


# ScribbleSup


def test_superpixel_labels_are_the_minimum_of_the_energy():
    torch.manual_seed(0)
    image = torch.randn(1, 8, 12)
    parts = (torch.arange(8)[:, None] // 4) * 4 + torch.arange(12) // 3  # 2 x 4 superpixels
    strokes = torch.full((8, 12), IGNORE)
    strokes[1, 1], strokes[6, 10], strokes[2, 7] = 0, 1, 1
    unary = torch.rand(3, 8, 12)
    found = propagate(image, strokes, parts, unary, 3, weight=1.5)
    number = parts.flatten().numpy()
    pairs = lin.touching(number, (8, 12))
    w = 1.5 * lin.likeness(image, number, pairs)
    costs = np.stack([np.bincount(number, u.flatten()) for u in unary], 1)
    labellings = np.array(list(product(range(2), repeat=8)))  # class 2 has no stroke
    fixed = (labellings[:, 0] == 0) & (labellings[:, 7] == 1) & (labellings[:, 2] == 1)
    labellings = labellings[fixed]
    energy = [
        sum(costs[i, y[i]] for i in (1, 3, 4, 5, 6))
        + sum(a * (y[i] != y[j]) for a, i, j in zip(w, *pairs, strict=True))
        for y in labellings
    ]
    assert torch.equal(found.flatten(), torch.from_numpy(labellings[np.argmin(energy)][number]))


def test_touching_superpixels_once_each():
    number = np.array([[0, 0, 1], [2, 2, 1]]).ravel()
    assert lin.touching(number, (2, 3)).T.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_likeness_falls_with_appearance():
    image = torch.cat([torch.zeros(1, 6, 6), torch.zeros(1, 6, 6), 5 + torch.zeros(1, 6, 6)], 2)
    image = image + 0.1 * torch.randn(1, 6, 18, generator=torch.Generator().manual_seed(0))
    number = (torch.arange(18) // 6).expand(6, 18).flatten().numpy()
    same, other = lin.likeness(image, number, np.array([[0, 1], [1, 2]]))
    assert same > 1.2 * other


def test_directions_of_two_channels_are_counted_side_by_side():
    ramp = torch.arange(8.0).expand(8, 8)
    number = np.zeros(64, int)
    one = [lin.directions(x[None], number) for x in (ramp, ramp.T)]
    both = lin.directions(torch.stack([ramp, ramp.T]), number)
    assert np.allclose(both, sum(one) / 2) and (both > 0).sum() == 2


def test_strokes_stay_where_two_meet_in_one_superpixel():
    strokes = torch.full((6, 6), IGNORE)
    strokes[0, :4], strokes[5, 0] = 1, 0
    labels = propagate(torch.zeros(1, 6, 6), strokes, torch.zeros(6, 6).long(), None, 3)
    assert labels[5, 0] == 0 and (labels == 1).sum() == 35
    with pytest.raises(ValueError, match="no stroke to propagate"):
        propagate(torch.zeros(1, 6, 6), strokes * 0 + IGNORE, strokes * 0, None, 3)


def test_the_network_has_a_say_from_the_second_round_on(sparse, caught, monkeypatch):
    seen = caught(rounds)
    said = torch.zeros(len(sparse.labelled), 3, 32, 32)
    said[:, 1] = 1  # all is class 1
    monkeypatch.setattr(Fitted, "predict", lambda self, images: said)
    result = scribblesup(sparse, Budget("smoke", 6), rounds=3)
    first, second, third = result.labels
    assert (second == 1).float().mean() > (first == 1).float().mean() + 0.1
    assert torch.equal(second, third)
    assert [budget.steps for _, _, budget in seen] == [2, 2, 2]
    strokes = sparse.train.labels[sparse.labelled]
    for labels in result.labels:
        assert torch.equal(labels[strokes != IGNORE], strokes[strokes != IGNORE])


def test_scribblesup_is_one_network_that_goes_on(sparse, monkeypatch):
    begun, train = [], rounds.fit

    def noted(method, *args, **kwargs):
        begun.append(weights(method.net))
        return train(method, *args, **kwargs)

    monkeypatch.setattr(rounds, "fit", noted)
    result = scribblesup(sparse, FEW, rounds=2, **QUIET)
    assert len(result.rounds) == len(result.labels) == 2
    assert result.predict(sparse.test.images[:2]).shape == (2, 3, 32, 32)
    first, last = (weights(r.method.net) for r in result.rounds)
    assert torch.equal(begun[0], weights(networks.unet(sparse, seed=0)))
    assert torch.equal(begun[1], first)
    assert not torch.equal(first, begun[0]) and not torch.equal(first, last)
    with pytest.raises(ValueError, match="cannot be shared by 3 rounds"):
        scribblesup(sparse, FEW, rounds=3, **QUIET)


# DMPLS


def test_the_mixture_is_hard_and_somewhere_between():
    method = DMPLS(unet(), unet(seed=1))
    first, second = torch.randn(2, 2, 3, 32, 32).unbind()
    a, b = first.softmax(1), second.softmax(1)
    for alpha in (0.0, 0.3, 1.0):
        method.mixing = alpha
        assert torch.equal(method.mixed(first, second), (alpha * a + (1 - alpha) * b).argmax(1))
    method.mixing = "random"
    torch.manual_seed(0)
    drawn = [method.mixed(first, second) for _ in range(4)]
    assert not torch.equal(drawn[0], drawn[1])
    agree = a.argmax(1) == b.argmax(1)
    assert all(torch.equal(d[agree], a.argmax(1)[agree]) for d in drawn)


def test_dmpls_loss_by_hand_and_where_the_gradient_goes():
    method, b = DMPLS(unet(), unet(seed=1), weight=0.5, dropout=0.0, mixing=0.4), scribbled(32, 32)
    first, second = method.both(b.labelled.images)
    target = method.mixed(first, second)
    assert not target.is_floating_point()
    terms = finite(method, b)
    expected = sum(losses.dice(x, target) for x in (first, second)) / 4
    assert terms["pseudo"].item() == pytest.approx(expected.item(), rel=1e-4)
    expected = sum(partial_cross_entropy(x, b.labelled.labels) for x in (first, second)) / 2
    assert terms["scribbles"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert all(p.grad is not None for p in method.parameters())  # no idle second encoder


def test_only_the_second_branch_is_shaken_and_only_in_training():
    method = DMPLS(unet(), unet(seed=1)).train()
    images = torch.randn(1, 1, 32, 32)
    (a, x), (b, y) = method.both(images), method.both(images)
    assert torch.equal(a, b) and not torch.equal(x, y)
    method.eval()
    assert torch.equal(method.both(images)[1], method.both(images)[1])
    assert torch.equal(method.predict(images), a.softmax(1))
    assert not torch.equal(*method.both(images))  # weights of its own
    with pytest.raises(ValueError, match="'random' or a share"):
        DMPLS(unet(), unet(), mixing=2)


# Scribble2Label


def memory(classes=3, size=(32, 32), n=2, **options):
    torch.manual_seed(0)
    return Scribble2Label(unet(classes), torch.randn(n, 1, *size), classes, **options)


def test_the_average_follows_its_law():
    method, says = memory(momentum=0.2), []
    for seed in range(3):
        method.net = unet(seed=seed)
        says.append(method.net.eval()(method.images).softmax(1))
        method.answer()
    expected = says[0]
    for p in says[1:]:
        expected = 0.2 * p + 0.8 * expected
    assert torch.allclose(method.average.float(), expected, atol=2e-3)
    assert method.answers == 3


def test_only_sure_pixels_off_the_strokes_are_pseudo_labels():
    b = scribbled(32, 32)
    place = torch.arange(1024).view(1, 32, 32).expand(2, 32, 32)
    b.labelled.extras["place"] = place
    method = memory(tau=0.8)
    assert method.loss(b)["pseudo"] == 0  # nobody answered yet
    method.average[:, 0], method.average[:, 1] = 0.3, 0.7
    method.average[:, :, 20:, 20:] = torch.tensor([0.05, 0.05, 0.9]).view(3, 1, 1)
    method.average[:, :, 3, 2:9] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1)  # a stroke of 0
    method.answers += 1
    target = torch.full((2, 32, 32), IGNORE)
    target[:, 20:, 20:] = 2
    logits = method.net(b.labelled.images)
    expected = 0.5 * partial_cross_entropy(logits, target)
    assert finite(method, b)["pseudo"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_labels_find_their_way_through_the_augmentation():
    method = memory(tau=0.5)
    truth = torch.randint(0, 3, (2, 32, 32))
    method.average[:] = F.one_hot(truth, 3).movedim(-1, 1)
    method.answers += 1
    place = torch.arange(1024).view(1, 32, 32).expand(2, 32, 32)
    draw = torch.Generator().manual_seed(0)
    stack = torch.stack([place, truth], 1)
    _, warped = Augment.strong()(torch.zeros(2, 1, 32, 32), stack, draw)
    pseudo = method.labels_of(torch.arange(2), warped[:, 0])
    assert not torch.equal(warped[:, 1], truth)
    assert torch.equal(pseudo, warped[:, 1])


def test_answers_come_after_the_warm_up_at_even_distances():
    method, times = memory(warmup=0.5, updates=3), []
    method.answer = lambda: (times.append(step), method.answers.add_(1))
    for step in range(1, 21):
        method.after_step(step / 20)
    assert times == [10, 14, 17]
    with pytest.raises(ValueError, match="at least one update"):
        memory(updates=0)


def test_scribble2label_trains_on_the_scribbled_images(sparse):
    fitted = scribble2label(sparse, Budget("smoke", 3, batch=2), updates=2, warmup=0.3, **QUIET)
    assert set(fitted.history) == {"scribbles", "pseudo"}
    assert len(fitted.method.images) == len(sparse.labelled)
    assert fitted.method.answers == 2
    assert fitted.predict(sparse.test.images[:2]).shape == (2, 3, 32, 32)
    placed = lee.placed(sparse)
    assert "place" not in sparse.train.extras and len(placed.unlabelled) == 0


# Self-similarity student


def test_similar_ensemble_is_the_double_loop():
    torch.manual_seed(0)
    probs, z = torch.rand(1, 3, 5, 6).softmax(1), torch.randn(1, 4, 5, 6)
    unit, expected = F.normalize(z, dim=1), torch.zeros(1, 3, 5, 6)
    for i, j in product(range(5), range(6)):
        total = 0
        for k, m in product(
            range(max(i - 2, 0), min(i + 3, 5)), range(max(j - 2, 0), min(j + 3, 6))
        ):
            a = math.exp(3 * float(unit[0, :, i, j] @ unit[0, :, k, m]))
            expected[0, :, i, j] += a * probs[0, :, k, m]
            total += a
        expected[0, :, i, j] /= total
    assert torch.allclose(similar_ensemble(probs, z, 3.0, 2), expected, atol=1e-5)
    assert not torch.allclose(similar_ensemble(probs, z, 0.0, 2), expected, atol=1e-3)


def test_near_patches_must_be_more_alike_than_far_ones():
    smooth = torch.zeros(1, 2, 32, 32)
    smooth[:, 0], smooth[:, 1, 16:] = 1, 10  # two halves
    noise = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    ours = np.mean([similarity_loss(smooth, 4, 0.5) for _ in range(8)])
    theirs = np.mean([similarity_loss(noise, 4, 0.5) for _ in range(8)])
    assert ours < 0.7 * theirs
    same = torch.ones(1, 2, 32, 32)
    assert similarity_loss(same, 4, 0.5).item() == pytest.approx(0.5)  # all alike: the margin
    volume = torch.randn(1, 2, 16, 16, 16, requires_grad=True)
    similarity_loss(volume, 4, 0.5).backward()
    assert torch.isfinite(volume.grad).all()


def student(said, **options):
    method = SelfSimilarityStudent(unet(), similarity=0.0, **options)
    method.ensemble = lambda images: said
    return method


def test_the_ensemble_strikes_out_and_completes_labels():
    b = scribbled(32, 32)
    labels = b.labelled.labels
    said = torch.full((2, 32, 32), IGNORE)
    said[:, 3, :], said[:, 20] = 1, 2  # contradicts the stroke of class 0; completes row 20
    method = student(said, trust=0.5)
    logits = method.net(b.labelled.images)
    struck = labels.clone()
    struck[:, 3] = IGNORE
    terms = finite(method, b)
    expected = partial_cross_entropy(logits, struck).item()
    assert terms["labels"].item() == pytest.approx(expected, rel=1e-4)
    pseudo = said.masked_fill(labels != IGNORE, IGNORE)
    expected = partial_cross_entropy(logits, pseudo).item()
    assert terms["pseudo"].item() == pytest.approx(expected, rel=1e-4)
    early = method.loss(Batch(b.labelled, None, 0.2))
    expected = partial_cross_entropy(logits, labels).item()
    assert early["labels"].item() == pytest.approx(expected, rel=1e-4)


def test_the_ensemble_is_the_teachers_and_the_teacher_follows():
    method, b = SelfSimilarityStudent(unet(), decay=0.5, tau=0.0), scribbled(32, 32)
    before = method.ensemble(b.labelled.images)
    assert len(before.unique()) == 3
    with torch.no_grad():
        for p in method.net.parameters():
            p.add_(torch.randn_like(p))
    assert torch.equal(method.ensemble(b.labelled.images), before)
    old, new = weights(method.teacher), weights(method.net)
    method.after_step(0.1)
    assert torch.allclose(weights(method.teacher), (old + new) / 2, atol=1e-6)
    terms = finite(method, b)
    assert set(terms) == {"labels", "pseudo", "similarity"} and terms["similarity"] > 0


def test_the_ensemble_is_of_those_with_like_features():
    method, images = SelfSimilarityStudent(unet(), tau=0.0, sharp=40.0), torch.randn(1, 1, 32, 32)
    z = method.teacher.decode(method.teacher.encode(images))
    probs = method.teacher.final_conv(z).softmax(1)
    expected = similar_ensemble(probs, z, 40.0, 2).argmax(1)
    assert torch.equal(method.ensemble(images), expected)
    method.sharp = 0.0
    assert not torch.equal(method.ensemble(images), expected)


# Feature-similarity propagation


def test_similarity_is_that_of_the_most_similar_area():
    torch.manual_seed(0)
    z = F.normalize(torch.randn(2, 4, 5, 5), dim=1)
    labels = torch.full((2, 5, 5), IGNORE)
    labels[0, 0], labels[0, 4], labels[1, 2, :2] = 0, 1, 1
    found = peng.similarity(z, labels, 2)
    areas = [F.normalize(z[n][:, labels[n] == 1].sum(1), dim=0) for n in (0, 1)]
    expected = max(float(a @ z[1, :, 3, 3]) for a in areas)
    assert found[1, 1, 3, 3].item() == pytest.approx(expected, rel=1e-4)


def test_the_most_confident_share_of_each_class_is_added_if_the_network_agrees():
    angle = torch.linspace(0, math.pi / 2, 100).view(1, 10, 10)
    z = torch.stack([angle.cos(), angle.sin()], 1)
    labels = torch.full((1, 10, 10), IGNORE)
    labels[0, 0, 0], labels[0, 9, 9] = 0, 1
    own = (angle > math.pi / 4).long()
    new = propagated(z, labels, own, 2, 0.5).flatten()
    assert (new[:25] == 0).all() and (new[76:] == 1).all()
    assert (new[26:74] == IGNORE).all()
    disagreeing = propagated(z, labels, 1 - own, 2, 0.5)
    assert torch.equal(disagreeing, labels)
    assert torch.equal(propagated(z, labels, own, 2, 0.0), labels)


def test_labels_grow_from_round_to_round(task):
    areas = annotated_areas(task, radius=3)
    result = feature_propagation(areas, Budget("smoke", 6, batch=2), rounds=3, **QUIET)
    given = areas.train.labels[areas.labelled]
    sizes = [int((labels != IGNORE).sum()) for labels in result.labels]
    assert torch.equal(result.labels[0], given)
    assert sizes[0] < sizes[1] < sizes[2]
    for labels in result.labels:
        assert torch.equal(labels[given != IGNORE], given[given != IGNORE])
    with pytest.raises(ValueError, match="in \\(0, 1\\]"):
        feature_propagation(areas, FEW, share=0)


def test_areas_are_discs_with_true_labels(task):
    areas = annotated_areas(task, radius=3)
    left, truth = areas.train.labels, task.train.labels
    seen = left != IGNORE
    assert torch.equal(left[seen], truth[seen])
    assert 0.02 < seen[areas.labelled].float().mean() < 0.1
    assert areas.seconds == 20.0 * sum(len(y.unique()) for y in truth[task.labelled])
    with pytest.raises(ValueError, match="at least 1 pixel"):
        annotated_areas(task, radius=0)


# Boundary scribbles


def ring():
    """A disc whose rough line runs at radius 8, with a band on both sides."""
    grid = torch.arange(32.0) - 15.5
    radius = (grid[:, None] ** 2 + grid**2).sqrt()
    labels = (radius < 8).long().masked_fill((radius > 6) & (radius < 10), IGNORE)
    lines = torch.where((radius > 7) & (radius < 8), 1, IGNORE)
    return radius, labels[None], lines[None]


def test_a_line_is_filled_also_if_it_has_a_gap():
    radius, labels, lines = ring()
    lines[0, 15:17] = IGNORE  # a cut on both sides
    pseudo, distance = read_lines(labels, lines, 2)
    wrong = (pseudo[0] != (radius < 8).long()).sum()
    assert wrong <= 8
    assert distance[lines != IGNORE].max() == 0
    expected = min(math.hypot(i - 3, j - 5) for _, i, j in (lines != IGNORE).nonzero().tolist())
    assert distance[0, 3, 5].item() == pytest.approx(expected, rel=1e-5)


def contour_batch():
    radius, labels, lines = ring()
    images = (radius < 8).float()[None, None] + 0.1 * torch.randn(1, 1, 32, 32)
    index = torch.arange(1)
    return Batch(Part(images, labels, index, index, {"contours": lines}), None, 1.0)


def test_the_band_teaches_with_its_distance_from_the_line():
    b = contour_batch()
    method = BoundaryScribble(unet(2), band=1.0, edge=0.0)
    logits = torch.zeros(1, 2, 32, 32, requires_grad=True)
    method.net = nn.Module()
    method.net.forward = lambda images: logits
    method.loss(b)["band"].backward()
    pull = logits.grad[0, 1]
    line, band = b.labelled.extras["contours"][0] == 1, b.labelled.labels[0] == IGNORE
    assert (pull[line] == 0).all() and (pull[~band] == 0).all()
    radius = ring()[0]
    inner, outer = band & (radius < 7) & ~line, band & (radius > 9)
    assert (pull[inner] < 0).all() and (pull[outer] > 0).all()
    near = band & (radius > 8) & (radius < 8.6)
    assert pull[near].abs().max() < pull[outer].abs().max()


def test_an_outline_outside_the_band_costs_and_one_on_the_line_hardly():
    radius, labels, lines = ring()
    _, distance = read_lines(labels, lines, 2)
    far = 1 - torch.exp(-distance.square() / 2)

    def cost(r):
        p = (radius < r).float()[None]
        return (local_contrast(torch.stack([1 - p, p], 1)) * far).mean().item()

    assert cost(8) < 0.35 * cost(12)
    assert local_contrast(torch.full((1, 2, 8, 8), 0.5)).abs().max() == 0
    sharp = torch.zeros(1, 2, 8, 8)
    sharp[:, 1, :, 4:], sharp[:, 0, :, :4] = 1, 1
    assert local_contrast(sharp)[0, :, 3:5].eq(1).all() and local_contrast(sharp).sum() == 16


def test_the_weight_of_the_size_rises_only_while_it_is_violated():
    b, method = contour_batch(), BoundaryScribble(unet(2), rate=0.5)
    core = (b.labelled.labels == 1).float()
    full = torch.stack([1 - core, core], 1)
    assert method.size(full, b.labelled.labels) == 0
    everything = torch.stack([torch.zeros_like(core), torch.ones_like(core)], 1)
    assert method.size(everything, b.labelled.labels) > 0.5
    method.violation = torch.tensor(0.4)
    method.after_step(0.1)
    assert method.multiplier.item() == pytest.approx(0.2)
    method.violation = torch.tensor(0.0)
    method.after_step(0.2)
    assert method.multiplier.item() == pytest.approx(0.2)
    terms, probs = finite(method, b), method.net(b.labelled.images).softmax(1)
    assert set(terms) == {"certain", "band", "edge", "size"}
    _, distance = read_lines(b.labelled.labels, b.labelled.extras["contours"], 2)
    outside = 1 - torch.exp(-distance.square() / 2)
    expected = 0.5 * (local_contrast(probs) * outside).mean().item()
    assert terms["edge"].item() == pytest.approx(expected, rel=1e-4)
    expected = 0.2 * method.size(probs, b.labelled.labels).item()
    assert terms["size"].item() == pytest.approx(expected, rel=1e-4)


def test_boundary_scribbles_train_and_need_lines(task):
    rough = annotate.boundary_scribbles(task)
    fitted = fit(BoundaryScribble.for_task(rough), rough, FEW, **QUIET)
    assert math.isfinite(fitted.history["band"][-1])
    with pytest.raises(ValueError, match="There are no lines"):
        fit(BoundaryScribble.for_task(task), task, FEW, **QUIET)
    with pytest.raises(ValueError, match="sigma > 0"):
        BoundaryScribble(unet(), sigma=0)


# Boxes for all, masks for a few


def cells(n=6):
    """Subjects with two touching squares each, of classes 1 and 2, numbered."""
    rng = np.random.default_rng(0)
    labels, instances = np.zeros((2, n, 32, 32), np.int64)
    for y, number in zip(labels, instances, strict=True):
        i, j = rng.integers(2, 12, 2)
        for k in (1, 2):
            y[i : i + 9, j : j + 7], number[i : i + 9, j : j + 7] = k, k
            j += 7
    images = np.array([0.0, 2.0, -2.0])[labels] + 0.3 * rng.normal(size=labels.shape)
    names, extras = ["ground", "light", "dark"], {"instances": instances}
    return Cohort.from_arrays(images, labels, names=names, extras=extras)


@pytest.fixture(scope="module")
def squares():
    return Task.split(cells(), valid=1, test=1)


def test_few_masks_are_left_and_all_boxes(squares):
    task = boxes_and_few_masks(squares, masks=1)
    whole = (task.train.labels != IGNORE).flatten(1).all(1)
    assert whole.sum() == 1
    numbers = task.train.extras["instances"]
    assert (numbers[~whole] == 0).all() and numbers[whole].max() == 2
    assert set(task.train.labels[~whole].unique().tolist()) == {0, IGNORE}
    boxes = task.train.extras["boxes"]
    assert (boxes[..., 0] > 0).sum() == 2 * len(task.train)
    for bad in (0, 9):
        with pytest.raises(ValueError, match="masks of 1 to 4 subjects"):
            boxes_and_few_masks(squares, masks=bad)


def test_boxes_of_instances_are_skimages():
    from skimage.measure import regionprops

    number = torch.zeros(2, 12, 14, dtype=torch.long)
    number[0, 2:5, 3:9], number[0, 7, 7], number[1, :3, :2] = 1, 4, 2
    item, ids, sides = rois.boxes_of_instances(number)
    expected = [
        (n, p.label, list(map(float, p.bbox)))
        for n in (0, 1)
        for p in regionprops(number[n].numpy())
    ]
    found = zip(item.tolist(), ids.tolist(), sides.tolist(), strict=True)
    assert list(found) == expected


def test_targets_of_a_detector():
    boxes = torch.tensor([[[2, 4, 6, 11, 12], [-1, -1, -1, -1, -1]]])
    heat, sides, where = rois.gaussian_targets(boxes, 2, (16, 20))
    assert (heat[0, 0] == 0).all()
    assert heat[0, 1].argmax() == 7 * 20 + 9 and heat[0, 1, 7, 9] == 1
    assert heat[0, 1, 7, 10].item() == pytest.approx(math.exp(-0.5), rel=1e-4)  # 6 wide
    assert where.sum() == 1 and sides[0, :, 7, 9].tolist() == [7, 6]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_crop_comes_back_to_its_place(dims):
    size, sides = (24,) * dims, torch.tensor([[6.0] * dims + [15.0] * dims])
    mask = torch.zeros(1, 1, *size)
    mask[(..., *[slice(6, 15)] * dims)] = 1
    crop = rois.crop_rois(mask, sides, 16)
    assert crop.shape == (1, 1, *[16] * dims)
    inner = crop[(..., *[slice(3, 13)] * dims)]
    assert (inner > 0.9).all() and crop.mean() < 0.9  # the margin is seen
    back = rois.paste_rois(crop, sides, size)
    assert torch.equal(back > 0.5, mask[0] > 0.5)


def test_mirrored_boxes_stay_on_their_objects():
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 16, 16)
    image[:, :, 3:8, 9:15] = 1
    boxes = torch.tensor([[[1, 3, 9, 8, 15], [-1] * 5]])
    for _ in range(6):
        image, boxes = rois.mirror(image, boxes)
        _, a, b, c, d = boxes[0, 0].tolist()
        assert image.sum() == 30 and image[0, 0, a:c, b:d].all()
    assert (boxes[0, 1] == -1).all()


class Says(nn.Module):
    """A network with one answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, images):
        return self.answer.expand(len(images), *self.answer.shape[1:])


def test_the_cascade_puts_masks_of_detections_together():
    answer = torch.full((1, 4, 32, 32), -9.0)
    answer[0, 0, 8, 8], answer[0, 1, 20, 20] = 9, 8
    answer[0, 2:] = math.log(8)
    detector = zhao.Detector(Says(answer), 2)
    item, kind, sides = detector.detect(torch.zeros(2, 1, 32, 32))
    assert item.tolist() == [0, 0, 1, 1] and kind.tolist() == [1, 2, 1, 2]
    assert torch.allclose(sides[0], torch.tensor([4.5, 4.5, 12.5, 12.5]))
    inside = torch.zeros(1, 2, 16, 16)
    inside[:, 1] = 9
    method = BoxThenMask(detector, zhao.RoiSegmenter(Says(inside)), 3)
    probs = method.predict(torch.zeros(2, 1, 32, 32))
    assert torch.allclose(probs.sum(1), torch.ones(2, 32, 32))
    classes = probs.argmax(1)[0]
    assert classes[8, 8] == 1 and classes[20, 20] == 2 and classes[30, 30] == 0
    assert 60 < (classes == 1).sum() < 110
    assert method.instances(torch.zeros(1, 1, 32, 32)).unique().tolist() == [0, 1, 2]
    detector.net.answer.data[:, :2] = -9
    assert (method.predict(torch.zeros(1, 1, 32, 32)).argmax(1) == 0).all()


def test_each_stage_sees_its_own_supervision(squares, caught):
    seen, task = caught(zhao), boxes_and_few_masks(squares, masks=1)
    boxes_and_masks(task, Budget("smoke", 5))
    (detector, _, early), (segmenter, _, late) = seen
    assert (early.steps, late.steps) == (3, 2)
    nothing = torch.zeros(2, 32, 32).long()
    part = Part(torch.randn(2, 1, 32, 32), nothing, None, None, {"instances": nothing})
    assert segmenter.loss(Batch(part, None, 0))["roi"] == 0
    part = Part(part.images, nothing, None, None, {"boxes": task.train.extras["boxes"][:2]})
    assert set(finite(detector, Batch(part, None, 0))) == {"heat", "sides"}  # no mask is read


def test_boxes_and_masks_train(squares):
    task = boxes_and_few_masks(squares, masks=2)
    fitted = boxes_and_masks(task, Budget("smoke", 4, batch=2), **QUIET)
    assert set(fitted.history) == {"heat", "sides", "roi"}
    assert fitted.predict(task.test.images).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="lacks boxes or masks"):
        boxes_and_masks(squares.supervise(squares.train.labels), FEW, **QUIET)


# Points and rough masks


def test_nothing_is_asked_near_the_rough_border():
    labels = torch.zeros(1, 12, 12, dtype=torch.long)
    labels[:, 4:9, 4:9] = 1
    asked = dong.without_border(labels, 1.0)
    assert (asked[0, 4, 4:9] == IGNORE).all() and (asked[0, 3, 4:9] == IGNORE).all()
    assert asked[0, 6, 6] == 1 and asked[0, 0, 0] == 0
    assert torch.equal(dong.without_border(labels, 0.0), labels)


def test_heat_has_height_one_at_the_points_of_cells():
    clicks = torch.full((1, 16, 16), IGNORE)
    clicks[0, 4, 4], clicks[0, 12, 12] = 1, 0
    heat = dong.heat_map(clicks > 0, clicks != IGNORE, 2.0)
    assert heat[0, 4, 4] == 1 and heat[0, 12, 12] < 1e-4
    assert heat[0, 4, 6].item() == pytest.approx(math.exp(-0.5), rel=1e-4)


def test_peaks_separate_cells_that_touch():
    grid = torch.arange(24.0)
    discs = [((grid[:, None] - 12) ** 2 + (grid - c) ** 2).sqrt() for c in (8, 15)]
    classes = ((discs[0] < 5) | (discs[1] < 5)).long()[None]
    middles = torch.stack([torch.exp(-(d**2) / 8) for d in discs]).amax(0)[None]
    numbers = separate(classes, middles)
    assert len(numbers.unique()) == 3 and ((numbers > 0) == (classes > 0)).all()
    assert numbers[0, 12, 8] != numbers[0, 12, 15]
    assert len(separate(classes, torch.zeros_like(middles)).unique()) == 2


def test_points_speak_where_the_rough_mask_errs(squares):
    task = points_and_rough_masks(squares)
    clicks, truth = task.train.extras["clicks"], squares.train.labels
    known = clicks != IGNORE
    assert torch.equal(clicks[known], truth[known]) and known.float().mean() < 0.03
    assert not torch.equal(task.train.labels, truth) and "instances" not in task.train.extras
    method = PointsAndRoughMasks.for_task(task)
    part = Part(task.train.images[:2], task.train.labels[:2], None, None, {"clicks": clicks[:2]})
    logits = method.net(part.images)
    terms = finite(method, Batch(part, None, 0))
    expected = losses.dice_ce(logits, dong.without_border(part.labels, 1.0))
    assert terms["mask"].item() == pytest.approx(expected.item(), rel=1e-4)
    expected = 0.5 * losses.cross_entropy(logits, part.extras["clicks"])
    assert terms["points"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert method.middles(part.images).shape == (2, 32, 32)
    with pytest.raises(ValueError, match="has no points"):
        fit(PointsAndRoughMasks.for_task(squares), squares, FEW, **QUIET)


# Hierarchical scribbles


def test_nobody_drew_a_part(task):
    whole = whole_scribbles(task)
    strokes, truth = whole.train.extras["whole"], task.train.labels
    known = strokes != IGNORE
    assert torch.equal(strokes[known], (truth[known] > 0).long())
    assert set(whole.train.labels.unique().tolist()) == {0, IGNORE}
    n = int(task.labelled[0])
    shown = [bool((truth[n] == k).any()) for k in range(3)]
    assert whole.train.extras["tags"][n].tolist() == shown
    assert torch.equal(whole.labelled, task.labelled)


def test_strokes_of_the_extra_teach_and_the_crf_loss_judges():
    b = scribbled(32, 32)
    strokes = b.labelled.labels.clone()
    b.labelled.extras["whole"] = strokes
    b.labelled.labels[:] = 0  # nobody looks here
    method = ji.StrokesAndEdges(unet(), "whole", 2.0)
    logits = method.net(b.labelled.images)
    terms = finite(method, b)
    expected = partial_cross_entropy(logits, strokes).item()
    assert terms["scribbles"].item() == pytest.approx(expected, rel=1e-4)
    expected = 2 * DenseCRFLoss(unet()).penalty(logits.softmax(1), b.labelled.images, None).item()
    assert terms["regulariser"].item() == pytest.approx(expected, rel=1e-4)


def test_tags_decide_which_parts_an_organ_is_shared_among():
    organ = torch.zeros(1, 2, 32, 32)
    organ[:, 0], organ[:, 1, 8:24, 8:24], organ[:, 0, 8:24, 8:24] = 9, 9, 0
    whole = Supervised(Says(organ))
    activation = torch.zeros(1, 2, 32, 32)
    activation[:, 0], activation[:, 1, :, 16:] = 1, 4
    stage = ji.TagClassifier(Says(activation), whole)
    images = torch.zeros(2, 1, 32, 32)
    train = Cohort.from_arrays(
        np.random.default_rng(0).normal(size=(4, 32, 32)),
        np.tile(np.arange(32) % 3, (4, 32, 1)),
    )
    task = Task.split(train, valid=1, test=1)
    strokes = torch.full((2, 32, 32), IGNORE)
    strokes[:, 9, 9] = 0  # somebody says: not the organ
    strokes[1, 2, 2] = 1  # and there it is
    tags = torch.tensor([[True, True, True], [True, True, False]])
    task = task.supervise(task.train.labels, whole=strokes, tags=tags)
    labels = ji.shared_out(Fitted(stage), task)
    assert labels[0, 20, 20] == 2 and labels[0, 20, 10] == 1 and labels[0, 0, 0] == 0
    assert set(labels[1].unique().tolist()) == {0, 1} and labels[1, 9, 9] == 0
    assert labels[1, 2, 2] == 1 and labels[0, 2, 2] == 0
    part = Part(images, strokes, None, None, {"tags": tags})
    mean = torch.tensor([1.0, 2.0])
    expected = F.binary_cross_entropy_with_logits(mean.expand(2, 2), tags[:, 1:].float())
    found = stage.loss(Batch(part, None, 0))["tags"].item()
    assert found == pytest.approx(expected.item(), rel=1e-2)


def test_the_hierarchy_trains_three_stages(task):
    whole = whole_scribbles(task)
    fitted = scribble_hierarchy(whole, Budget("smoke", 3, batch=2), **QUIET)
    terms = {"scribbles 1", "regulariser 1", "tags 2", "scribbles 3", "regulariser 3"}
    assert set(fitted.history) == terms
    assert fitted.predict(task.test.images[:1]).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="make it with whole_scribbles"):
        scribble_hierarchy(task, FEW, **QUIET)


def test_what_is_left_is_no_mask_to_annotate_from(task, squares):
    halves = [annotated_areas(task), whole_scribbles(task), points_and_rough_masks(squares)]
    for half in [*halves, boxes_and_few_masks(squares)]:
        with pytest.raises(ValueError, match=f"only {re.escape(half.supervision)} left"):
            annotate.scribbles(half)


def test_the_clicks_of_a_dropped_subject_are_dropped_too(squares):
    kept = points_and_rough_masks(squares).keep(1)
    gone = (kept.train.labels == IGNORE).flatten(1).all(1)
    clicks = kept.train.extras["clicks"]
    assert (clicks[gone] == IGNORE).all() and (clicks[~gone] != IGNORE).any()


# Volumes


def test_volumes():
    size = (32, 16, 16)
    b = scribbled(*size, items=1)
    place = torch.arange(math.prod(size)).view(1, *size)
    b.labelled.extras.update(place=place, contours=torch.full((1, *size), IGNORE))
    b.labelled.extras["contours"][:, 10:20, 4:12, 4:12] = 1
    b.labelled.extras["clicks"] = b.labelled.labels
    net = unet(dims=3)
    remembers = Scribble2Label(net, torch.randn(1, 1, *size), 3)
    remembers.answer()
    for method in (
        DMPLS(unet(dims=3), unet(dims=3, seed=1)),
        remembers,
        SelfSimilarityStudent(unet(dims=3), radius=1),
        BoundaryScribble(unet(dims=3)),
        PointsAndRoughMasks(unet(dims=3), 4, 3),
    ):
        finite(method, b)
