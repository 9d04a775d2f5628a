"""Interaction: what a click says, who hears it, and what the answer becomes."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from probes import batch, inputs, weights
from scipy import sparse
from torch import nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Cohort, Task, annotate
from lsseg_edu.losses import dice_ce
from lsseg_edu.networks import Shape
from lsseg_edu.partial.interactive import (
    UGIR,
    BIFSeg,
    GrabCut,
    HalfAndHalf,
    InteractiveEdit,
    IterMRL,
    PointGuided,
    apply_actions,
    check_clicks,
    click_maps,
    geodesic,
    grabcut,
    grouped_unet,
    image_specific,
    iter_mrl,
    level_set,
    marked,
    visited,
    with_user,
)
from lsseg_edu.partial.interactive.bifseg import answered
from lsseg_edu.partial.interactive.grab_cut import replaced
from lsseg_edu.partial.interactive.iter_mrl import MOVES, log_likelihood, returns
from lsseg_edu.train import Batch, Budget, Method, Part, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
ALL = (BIFSeg, GrabCut, InteractiveEdit, IterMRL, PointGuided, UGIR)


def cohort(size=(32, 32), items=6):
    """A bright disc (1) with a dark core (2) on noise; two items a subject."""
    draw = torch.Generator().manual_seed(0)
    axes = [torch.arange(n) - n / 2 + 0.5 for n in size]
    far = sum(axis.square() for axis in torch.meshgrid(*axes, indexing="ij")).sqrt()
    labels = (far < 7).long() + (far < 3).long()
    image = torch.tensor([0.0, 2.0, -1.0])[labels]
    images = image + 0.2 * torch.randn(items, *size, generator=draw)
    labels = labels.expand(items, *size)
    return Cohort.from_arrays(images.numpy(), labels.numpy(), np.arange(items) // 2)


def problem(size=(32, 32)):
    return Task.split(cohort(size), valid=1, test=1)


# Clicks as maps


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([3, 1, 1], "click of class 3"),
        ([1, 9, 2], r"\(9, 2\) is outside"),
        ([-2, 1, 1], "class -2"),
    ],
)
def test_impossible_clicks_are_refused_in_a_sentence(row, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_clicks(torch.tensor([[row]]), torch.zeros(1, 1, 8, 9), 3)
    with pytest.raises(ValueError, match="clicks must be"):
        check_clicks(torch.tensor([[row]]), torch.zeros(2, 1, 8, 9), 3)


@pytest.mark.parametrize("method", ALL)
def test_every_method_refuses_a_click_outside_and_of_no_class(method):
    task = problem()
    answer = method.for_task(task).eval()
    for row, sentence in (([9, 1, 1], "class 9"), ([1, 50, 1], "outside the image")):
        with pytest.raises(ValueError, match=sentence):
            answer.interact(task.test.images[:1], torch.tensor([[row]]))


@pytest.mark.parametrize("size", [(6, 7), (3, 4, 5)])
def test_click_maps_are_the_formula(size):
    clicks = torch.tensor([[[1, *[1] * len(size)], [1, *[2] * len(size)], [-1] * (1 + len(size))]])
    maps = click_maps(clicks, 3, size, sigma=2.0)
    assert maps.shape == (1, 3, *size)
    assert (maps[0, [0, 2]] == 0).all()
    for place in product(*map(range, size)):
        nearest = min(sum((p - c) ** 2 for p in place) for c in (1, 2))
        assert maps[(0, 1, *place)] == pytest.approx(np.exp(-nearest / 8), abs=1e-6)
    assert (click_maps(clicks[:, :0], 3, size) == 0).all()


def test_marks_are_discs_and_the_nearest_click_decides():
    seeds = marked(torch.tensor([[[1, 4, 2], [0, 4, 5], [-1, -1, -1]]]), (9, 9), radius=2)[0]
    assert seeds[4].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, IGNORE]
    assert seeds[2, 2] == 1 and seeds[1, 2] == IGNORE
    again = marked(torch.tensor([[[1, 4, 2], [0, 4, 2]]]), (9, 9))[0]
    assert again[4, 2] == 0 and (again != IGNORE).sum() == 1


@pytest.mark.parametrize("size", [(5, 6), (3, 3, 4)])
def test_geodesic_distance_is_dijkstras(size):
    image = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    start = torch.zeros(1, *size, dtype=torch.bool)
    start.view(-1)[[0, 7]] = True
    places = list(product(*map(range, size)))
    graph = np.zeros((len(places),) * 2)
    for (i, a), (j, b) in product(enumerate(places), repeat=2):
        step = np.abs(np.subtract(a, b))
        if step.max() == 1:
            change = (image[(0, slice(None), *a)] - image[(0, slice(None), *b)]).square().sum()
            graph[i, j] = np.sqrt(step.sum() / 9.0 + float(change) / 4)
    exact = sparse.csgraph.dijkstra(graph, indices=[0, 7], min_only=True)
    mine = geodesic(image, start, pixels=3.0, contrast=2.0)[0]
    assert mine.flatten().numpy() == pytest.approx(exact, abs=1e-5)


# The user


class Obedient(Method):
    """Believes each click, for the whole image, and writes down what it was asked."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 3, 1))
        self.heard = []

    def predict(self, images):
        return F.one_hot(torch.zeros(len(images), *images.shape[2:]).long(), 3).movedim(-1, 1) * 1.0

    def interact(self, images, clicks, previous):
        self.heard.append((images, clicks, previous))
        classes = clicks[:, -1, :1, None].expand(-1, *images.shape[2:])
        return F.one_hot(classes, 3).movedim(-1, 1) * 1.0


def test_the_user_clicks_the_worst_mistake_of_the_last_answer():
    data, method = cohort(), Obedient()
    answers = with_user(method, data, clicks=2)
    assert len(answers) == 3
    for n, (images, clicks, previous) in enumerate(method.heard):
        assert torch.equal(previous, answers[n]) and torch.equal(images, data.images)
        assert clicks.shape == (len(data), n + 1, 3)
        assert torch.equal(clicks[:, n], annotate.clicks(answers[n].argmax(1), data.labels))


def test_nobody_clicks_where_nothing_is_wrong():
    data, method = cohort(), Obedient()
    data.labels[1] = 0
    answers = with_user(method, data, clicks=1)
    assert len(method.heard[0][0]) == len(data) - 1
    assert torch.equal(answers[1][1], answers[0][1])


def test_who_does_not_listen_answers_the_same():
    data, method = cohort(), Supervised(networks.unet(cohort()))
    answers = with_user(method, data, clicks=3)
    assert len(answers) == 4 and all(torch.equal(a, answers[0]) for a in answers)
    with pytest.raises(ValueError, match="cannot click -1 times"):
        with_user(method, data, clicks=-1)


def test_a_focused_user_spends_as_many_clicks_on_the_doubtful_half():
    data, method = cohort(), Obedient()
    method.focus, method.doubt = 2, lambda images: torch.arange(len(images)).float()
    index, times = visited(method, data)
    assert index.tolist() == [1, 3, 5] and times == 2
    with_user(method, data, clicks=2)
    assert [len(images) for images, _, _ in method.heard] == [3] * 4
    assert all(torch.equal(images, data.images[1::2]) for images, _, _ in method.heard)
    assert method.heard[-1][1].shape[1] == 4


# What all share


@pytest.mark.parametrize("method", [BIFSeg, GrabCut, InteractiveEdit, IterMRL])
def test_without_clicks_it_is_the_baseline(method):
    task, few = problem(), Budget("smoke", steps=2, batch=4)
    mine = fit(method.for_task(task), task, few, **QUIET)
    baseline = fit(Supervised.for_task(task), task, few, **QUIET)
    assert torch.equal(weights(mine.method.net), weights(baseline.method.net))
    assert torch.equal(mine.predict(task.test.images), baseline.predict(task.test.images))


@pytest.mark.parametrize("method", ALL)
def test_volumes_are_corrected_too(method):
    task = problem((32, 16, 16))
    one = fit(method.for_task(task), task, Budget("smoke", steps=1, batch=1), **QUIET)
    _, before, after = with_user(one, task.test.select([0]), clicks=2)
    assert after.shape == (1, 3, 32, 16, 16)
    torch.testing.assert_close(after.sum(1), torch.ones(1, 32, 16, 16))
    assert not torch.equal(before, after)


# GrabCut


def stripes(noise=0.15):
    """A disc striped -1 and 1 on a ground striped 0 and 2: a mixture tells them, no Gaussian."""
    axis = torch.arange(24) - 11.5
    disc = (axis[:, None].square() + axis.square()).sqrt() < 7
    pattern = torch.where(torch.arange(24) // 2 % 2 == 0, 1.0, -1.0).expand(24, 24)
    image = torch.where(disc, pattern, pattern + 1)[None]
    box = torch.zeros(24, 24, dtype=torch.bool)
    box[2:22, 2:22] = True
    draw = torch.Generator().manual_seed(0)
    return image + noise * torch.randn(1, 24, 24, generator=draw), disc, box


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_grabcut_needs_mixtures_a_cut_and_rounds():
    image, disc, box = stripes()
    assert dice(grabcut(image, box, weight=0.5), disc) > 0.97
    assert dice(grabcut(image, box, weight=0.5, components=1), disc) < 0.9
    noisy, disc, box = stripes(noise=0.35)
    whole = dice(grabcut(noisy, box, weight=1.0), disc)
    assert whole > dice(grabcut(noisy, box, weight=0.0), disc) + 0.02
    assert whole > dice(grabcut(noisy, box, weight=1.0, rounds=1), disc)


def test_grabcut_stays_in_its_box_and_keeps_the_corrections():
    image, disc, box = stripes()
    half = box.clone()
    half[12:] = False
    assert not grabcut(image, half)[12:].any()
    seeds = torch.full((24, 24), IGNORE)
    seeds[11, 11], seeds[3, 3] = 0, 1
    found = grabcut(image, box, seeds)
    assert not found[11, 11] and found[3, 3]
    for wrong in (~box & box, box | ~box):
        with pytest.raises(ValueError, match="GrabCut needs a box"):
            grabcut(image, wrong)


def test_a_click_cuts_its_object_again_and_no_other():
    image, disc, _ = stripes()
    probs = torch.full((1, 3, 24, 24), 0.1)
    probs[:, 0] = 0.8
    probs[0, :, 8:14, 8:14] = torch.tensor([0.1, 0.7, 0.2])[:, None, None]
    probs[0, :, :, 22:] = torch.tensor([0.1, 0.2, 0.7])[:, None, None]
    method = GrabCut(nn.Conv2d(1, 3, 1), weight=0.5)
    grown = method.interact(image[None], torch.tensor([[[1, 6, 11]]]), probs).argmax(1)[0]
    assert dice(grown == 1, disc) > dice(probs[0].argmax(0) == 1, disc) + 0.2
    assert ((grown == 2) == (probs[0].argmax(0) == 2)).all()
    less = method.interact(image[None], torch.tensor([[[0, 12, 12]]]), probs).argmax(1)[0]
    assert less[12, 12] != 1
    same = method.interact(image[None], torch.tensor([[[0, 1, 1]]]), probs)
    assert torch.equal(same, probs)
    lost = replaced(probs[0], torch.zeros(24, 24, dtype=torch.bool), 1)
    assert (lost.argmax(0)[8:14, 8:14] == 2).all()


# Points


def test_only_the_clicked_centre_tells_twins_apart():
    torch.manual_seed(0)
    axis = torch.arange(32)
    left, right = (((axis[:, None] - 16) ** 2 + (axis - c) ** 2) < 25 for c in (8, 24))
    labels = torch.stack([left, right] * 4).long()
    images = (left | right).float().expand(8, 1, 32, 32)
    mlp = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 2, 1))
    method, part = PointGuided(mlp, 2), Part(images, labels, None, None, {})
    centres = torch.tensor([[[1, 16, 8]], [[1, 16, 24]]])
    method.simulate = lambda labels: centres.repeat(4, 1, 1)
    optimiser = torch.optim.Adam(method.parameters(), 0.03)
    for _ in range(60):
        optimiser.zero_grad()
        method.loss(Batch(part, None, 0.0))["guided"].backward()
        optimiser.step()
    guided = method.interact(images[:2], centres).argmax(1)
    assert dice(guided == 1, labels[:2] == 1) > 0.9
    alone = method.predict(images[:2]).argmax(1)
    assert torch.equal(alone[0], alone[1])


def test_simulated_clicks_are_rough_centres_and_some_are_missing():
    torch.manual_seed(0)
    labels = cohort(items=6).labels.repeat(8, 1, 1)
    method = PointGuided(nn.Identity(), 3)
    clicks = method.simulate(labels)
    item, row = (clicks[..., 0] >= 0).nonzero().T
    k, place = clicks[item, row, 0], clicks[item, row, 1:]
    assert set(k.tolist()) == {0, 1, 2}
    assert 0.2 < (clicks[..., 0] < 0).float().mean() < 0.8
    near = F.max_pool2d(F.one_hot(labels, 3).movedim(-1, 1).float(), 3, 1, 1)
    assert (near[item, k, place[:, 0], place[:, 1]] == 1).all()
    middle = (place - 15.5).abs().amax(1)[k == 2] <= 2.5
    assert middle.float().mean() > 0.4


# Learning to correct


def test_first_answers_in_training_come_from_who_does_not_know_the_subject():
    nets = [nn.Conv2d(1, 3, 1) for _ in range(2)]
    others, subject = HalfAndHalf(nets, torch.tensor([3, 5, 5, 9])), torch.tensor([3, 5, 9, 5])
    images, labels = torch.randn(4, 1, 6, 6), torch.randint(0, 3, (4, 6, 6))
    part = Part(images, labels, torch.arange(4), subject, {})
    method = InteractiveEdit(nn.Conv2d(1, 3, 1), nn.Conv2d(7, 3, 1), others)
    answers = method.first_answers(part)
    for i, asked in enumerate((1, 0, 1, 0)):  # the first network learns from subjects 3 and 9
        torch.testing.assert_close(answers[i], nets[asked](images[i]).softmax(0).detach())
    own = [dice_ce(nets[0](images[::2]), labels[::2]), dice_ce(nets[1](images[1::2]), labels[1::2])]
    torch.testing.assert_close(others.loss(part), sum(own))
    alone = replace(part, subject=torch.tensor([3, 3, 9, 9]))
    torch.testing.assert_close(others.loss(alone), dice_ce(nets[0](images), labels))
    with pytest.raises(ValueError, match="two labelled subjects"):
        HalfAndHalf(nets, torch.tensor([4, 4]))


@pytest.mark.parametrize("method", [InteractiveEdit, IterMRL])
def test_the_others_are_trained_where_there_are_several_subjects(method):
    task, few = Task.split(cohort(items=8), valid=1, test=1), Budget("smoke", steps=1, batch=4)
    mine = fit(method.for_task(task), task, few, **QUIET)
    assert "others" in mine.history and len(mine.method.others.second) == 1
    assert method.for_task(task, held_out=False).others is None
    assert method.for_task(problem()).others is None


# Interactive editing


def test_the_editor_learns_from_errors_of_its_own():
    data = batch(8, 8)
    net, editor = nn.Conv2d(1, 3, 1), nn.Conv2d(7, 3, 1)
    method, seen = InteractiveEdit(net, editor, rounds=2), inputs(editor)
    images, labels = data.labelled.images, data.labelled.labels
    loss = method.edit_loss(data)["edit"]
    first = annotate.clicks(method.predict(images).argmax(1), labels)[:, None]
    torch.testing.assert_close(seen[0][:, 1:4], method.predict(images))
    torch.testing.assert_close(seen[0][:, 4:], click_maps(first, 3, (8, 8)))
    answer = editor(seen[0]).softmax(1)
    both = torch.cat([first, annotate.clicks(answer.argmax(1), labels)[:, None]], 1)
    torch.testing.assert_close(seen[1][:, 1:4], answer)
    torch.testing.assert_close(seen[1][:, 4:], click_maps(both, 3, (8, 8)))
    loss.backward()
    assert editor.weight.grad.isfinite().all() and net.weight.grad is None
    assert not seen[1].requires_grad


def test_editing_is_the_editor_with_the_newest_answer():
    method = InteractiveEdit(nn.Conv2d(1, 3, 1), nn.Conv2d(7, 3, 1))
    images, clicks = torch.randn(2, 1, 8, 8), torch.tensor([[[1, 2, 3]], [[0, 4, 4]]])
    previous = torch.rand(2, 3, 8, 8)
    stack = torch.cat([images, previous, click_maps(clicks, 3, (8, 8))], 1)
    with torch.no_grad():
        expected = method.editor(stack).softmax(1)
    torch.testing.assert_close(method.interact(images, clicks, previous), expected)
    torch.testing.assert_close(
        method.interact(images, clicks), method.interact(images, clicks, method.predict(images))
    )


# IteR-MRL


def test_an_action_moves_a_probability_and_two_classes_are_the_papers():
    p = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0)) * 0.98
    probs = torch.cat([1 - p, p], 1)
    for a, size in enumerate(MOVES):
        down, up = (torch.full((1, 5, 5), 3 * k + a) for k in (0, 1))
        torch.testing.assert_close(apply_actions(probs, up)[:, 1:], (p + size).clamp(max=0.99))
        torch.testing.assert_close(apply_actions(probs, down)[:, 1:], (p - size).clamp(min=0.01))
    sure = F.one_hot(torch.ones(1, 5, 5).long(), 3).movedim(-1, 1).float()
    for action in range(9):
        moved = apply_actions(sure, torch.full((1, 5, 5), action))
        torch.testing.assert_close(moved.sum(1), torch.ones(1, 5, 5))
        assert (moved >= 0).all()


def test_rewards_are_gains_of_cross_entropy_and_returns_discount_them():
    probs = torch.tensor([0.2, 0.3, 0.5]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    labels = torch.tensor([[[1, IGNORE]]])
    gain = log_likelihood(apply_actions(probs, torch.full((1, 1, 2), 4)), labels) - log_likelihood(
        probs, labels
    )
    assert gain.flatten().tolist() == pytest.approx([np.log(0.5 / 0.3), 0])
    discounted = returns(torch.tensor([1.0, 2.0, 4.0]), 0.5)
    assert discounted.tolist() == [3.0, 4.0, 4.0]


def test_agents_see_image_answer_and_clicks_and_are_paid_the_gain(monkeypatch):
    data, policy = batch(8, 8), nn.Conv2d(7, 10, 1)
    method, seen = IterMRL(nn.Conv2d(1, 3, 1), policy, rounds=2, discount=1.0), inputs(policy)
    actions, paid, apply = [], [], iter_mrl.apply_actions

    def spy(probs, action):
        after = apply(probs, action)
        if len(action.unique()) > 1:  # what was drawn, not one of all
            actions.append(after)
        return after

    monkeypatch.setattr(iter_mrl, "apply_actions", spy)
    monkeypatch.setattr(method, "terms", lambda *args: paid.extend(args) or {})
    method.game(data)
    images, labels = data.labelled.images, data.labelled.labels
    answers, clicks = [method.predict(images).detach(), *actions], []
    for n in range(2):
        clicks.append(annotate.clicks(answers[n].argmax(1), labels))
        told = click_maps(torch.stack(clicks, 1), 3, (8, 8))
        torch.testing.assert_close(seen[n], torch.cat([images, answers[n], told], 1))
    scores = torch.stack([log_likelihood(answer, labels) for answer in answers])
    torch.testing.assert_close(paid[4], scores[-1] - scores[1:])
    chances, _ = method.decide(images, answers[0], clicks[0][:, None])
    each = [apply(answers[0], torch.full_like(labels, a)) for a in range(9)]
    each = torch.stack([log_likelihood(p, labels) - scores[0] for p in each], -1)
    torch.testing.assert_close(paid[0][0], (chances.probs * each).sum(-1))


def test_the_actors_gradient_is_the_policy_gradient():
    logits = torch.randn(1, 1, 4, 6, requires_grad=True)
    chances, reward = torch.distributions.Categorical(logits=logits), torch.randn(1, 1, 4, 6)
    known = torch.tensor([[[True] * 3 + [False]]])
    value = torch.full((1, 1, 4), 0.3, requires_grad=True)
    later = torch.randn(1, 1, 4, 6)  # may depend on the action as well
    method = IterMRL(nn.Identity(), nn.Identity())
    expected, slopes, plain = (chances.probs * reward).sum(-1), 0, 0
    for a in range(6):  # every action, as often as it is drawn
        action, share = torch.full((1, 1, 4), a), chances.probs[..., a].detach()
        terms = method.terms(
            expected, chances.log_prob(action), value, chances.entropy(), later[..., a], known
        )
        (slope,) = torch.autograd.grad(terms["actor"], logits, retain_graph=True)
        slopes = slopes + share[..., None] * slope
        drawn = F.one_hot(action, 6) - chances.probs.detach()
        gained = (reward + later)[..., a]
        plain = plain - share[..., None] * drawn * gained[..., None] * known[..., None] / 3
        (slope,) = torch.autograd.grad(terms["critic"], value)
        torch.testing.assert_close(slope, (0.3 - later[..., a]) * known / 3)
        chances = torch.distributions.Categorical(logits=logits)
        expected = (chances.probs * reward).sum(-1)
    torch.testing.assert_close(slopes, plain)


def test_untrained_agents_stand_by_the_answer_and_believe_a_click_nearby():
    task = problem()
    method, images = IterMRL.for_task(task, rounds=0, held_out=False), task.test.images[:1]
    assert [player.name for player in method.players()] == ["net"]
    probs = (3 * torch.randn(1, 3, 32, 32)).softmax(1)
    nobody = torch.full((1, 1, 3), -1)
    after = method.interact(images, nobody, probs)
    assert torch.equal(after.argmax(1), probs.argmax(1))
    assert (after.amax(1) >= probs.amax(1)).all() and not torch.equal(after, probs)
    probs = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    after = method.interact(images, torch.tensor([[[2, 9, 9]]]), probs)[0]
    assert after[2, 9, 9] > probs[0, 2, 9, 9] and after[2, 9, 20] < probs[0, 2, 9, 20]


def test_agents_learn_to_raise_the_right_class():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (4, 10, 10))
    images = labels.unsqueeze(1) - 1.0
    data = batch(10, 10)
    object.__setattr__(data.labelled, "images", images)
    object.__setattr__(data.labelled, "labels", labels)
    policy = nn.Sequential(nn.Conv2d(7, 16, 1), nn.ReLU(), nn.Conv2d(16, 10, 1))
    method = IterMRL(nn.Conv2d(1, 3, 1), policy, rounds=2)
    optimiser = torch.optim.Adam(policy.parameters(), 0.02)
    first = (method.predict(images).argmax(1) == labels).float().mean()
    for _ in range(50):
        optimiser.zero_grad()
        sum(method.game(data).values()).backward()
        optimiser.step()
    probs = method.predict(images)
    for _ in range(3):
        probs = method.interact(images, torch.full((4, 1, 3), -1), probs)
    assert (probs.argmax(1) == labels).float().mean() > max(0.9, first)


# BIFSeg


def test_each_image_tunes_a_last_layer_of_its_own():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 6, 6, generator=draw)
    labels = torch.randint(0, 3, (2, 6, 6), generator=draw)
    trust = torch.rand(2, 6, 6, generator=draw)
    head = [torch.zeros(2, 3, 4), torch.zeros(2, 3)]
    together = image_specific(features, labels, trust, head)
    for n in range(2):
        one = [p[n : n + 1] for p in (features, labels, trust)]
        alone = image_specific(*one, [p[n : n + 1] for p in head])
        for mine, theirs in zip(alone, together, strict=True):
            torch.testing.assert_close(mine[0], theirs[n])

    def cost(head):
        each = F.cross_entropy(answered(features, *head), labels, reduction="none")
        return float((each * trust).sum())

    assert cost(together) < cost(head)


def test_doubt_and_contradiction_teach_nothing_and_marks_teach_most():
    method = BIFSeg(networks.unet(Shape(1, 2, 2)))
    probs = torch.tensor([[0.9, 0.65, 0.1, 0.9], [0.1, 0.35, 0.9, 0.1]]).view(1, 2, 1, 4)
    labels = probs.argmax(1)
    seeds = torch.tensor([[[IGNORE, IGNORE, 1, IGNORE]]])
    ways = torch.tensor([[torch.inf] * 4, [3.0, 2.0, 0.0, 0.5]]).view(1, 2, 1, 4)
    assert method.trust(probs, labels, seeds, ways).flatten().tolist() == [1, 0, 5, 0]


def test_bifseg_changes_the_answer_but_not_the_network():
    task = problem()
    method = BIFSeg.for_task(task).eval()
    before, images = weights(method), task.test.images[:2]
    clicks = torch.tensor([[[1, 10, 16]], [[2, 16, 16]]])
    with torch.inference_mode():
        after = method.interact(images, clicks)
    assert torch.equal(weights(method), before)
    assert after.argmax(1)[0, 10, 16] == 1 and after.argmax(1)[1, 16, 16] == 2
    seeds = marked(clicks, (32, 32), 2)
    tuned = after.movedim(1, -1)[seeds == IGNORE]
    untouched = method.predict(images).movedim(1, -1)[seeds == IGNORE]
    assert not torch.allclose(tuned, untouched, atol=1e-3)
    cut = method.relabelled(method.predict(images), images, seeds)
    assert (cut[seeds != IGNORE] == seeds[seeds != IGNORE]).all()
    with pytest.raises(ValueError, match="final_conv of a UNet"):
        BIFSeg(nn.Conv2d(1, 3, 1))


# UGIR


@pytest.mark.parametrize("dims", [2, 3])
def test_a_grouped_net_is_several_nets_side_by_side(dims):
    shape, size = Shape(1, 3, dims), (32, 32) if dims == 2 else (32, 16, 16)
    net = grouped_unet(shape, width=4, groups=2)
    images = torch.randn(1, 1, *size)
    answers = net.answers(images)
    for g in range(2):
        one = networks.unet(shape, width=4)
        for mine, theirs in zip(one.parameters(), net.parameters(), strict=True):
            mine.data = theirs.chunk(2)[g].data.clone().view_as(mine)
        torch.testing.assert_close(answers[g], one(images), atol=1e-4, rtol=1e-4)
    mean = answers.softmax(2).mean(0)
    torch.testing.assert_close(net(images).softmax(1), mean, atol=1e-5, rtol=1e-4)


def test_doubt_is_where_the_groups_disagree():
    net = grouped_unet(Shape(1, 3, 2), width=4, groups=2)
    method, images = UGIR(net), torch.randn(3, 1, 32, 32)
    spread = net.answers(images).softmax(2).var(0, unbiased=False)
    torch.testing.assert_close(method.doubt(images), spread.flatten(1).mean(1))
    for p in net.parameters():
        first = p.data.chunk(2)[0]
        p.data = torch.cat([first, first])
    assert method.doubt(images).max() < 1e-10


def disc(radius, size=32):
    axis = torch.arange(size) - size / 2 + 0.5
    return (axis[:, None].square() + axis.square()).sqrt() < radius


def test_a_level_set_follows_the_probability_and_shortens_its_contour():
    flat = torch.zeros(1, 1, 32, 32)
    target = torch.where(disc(8), 0.9, 0.1)[None]
    assert ((level_set(target, flat, length=0.1) > 0)[0] == disc(8)).float().mean() > 0.99
    speck = target.clone()
    speck[0, 3, 3] = 0.6
    assert not (level_set(speck, flat) > 0)[0, 3, 3]
    nothing = torch.where(disc(5), 0.5001, 0.4999)[None]
    sizes = [int((level_set(nothing, flat, s, length=2.0) > 0).sum()) for s in (0, 20, 60)]
    assert sizes[0] > sizes[1] > sizes[2]
    edges = 4.0 * disc(5)[None, None]
    held = int((level_set(nothing, edges, 60, length=2.0) > 0).sum())
    assert held > sizes[2]


def test_the_level_set_stays_a_distance_near_its_contour():
    flat, target = torch.zeros(1, 1, 32, 32), torch.where(disc(8), 0.9, 0.1)[None]

    def unevenness(regular):
        phi = level_set(target, flat, 60, regular=regular)[0]
        steep = sum(g.square() for g in torch.gradient(phi)).sqrt()
        return float((steep - 1)[disc(9) & ~disc(7)].abs().mean())

    assert unevenness(0.2) < 0.7 < 1.0 < unevenness(0.0)


def test_a_click_is_believed_nearby_and_not_across_an_edge():
    method = UGIR(grouped_unet(Shape(1, 2, 2), width=4, groups=2))
    images = torch.zeros(1, 1, 16, 16)
    images[..., 8:] = 5.0
    probs = torch.tensor([0.7, 0.3]).view(1, 2, 1, 1).expand(1, 2, 16, 16)
    told = method.told(images, torch.tensor([[[1, 8, 6]]]), probs)[0, 1]
    assert told[8, 6] == 1 and told[8, 4] > 0.6 > told[8, 8]
    assert told[8, 8] == pytest.approx(0.3, abs=0.01)
    far = told[8, :7].flip(0)
    assert (far[1:] < far[:-1]).all()
