"""Curricula: who is drawn, when, and what the easier task tells the harder one."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.data.annotate import ask, with_annotator
from lsseg_edu.networks import Shape
from lsseg_edu.semi.curriculum import (
    CoarseToFine,
    HeatmapClassifier,
    LabelDistribution,
    SizeGuided,
    SizeRegressor,
    active_self_paced,
    agreement,
    annealed,
    attention_curriculum,
    cased,
    cased_chances,
    coarse_to_fine,
    dasl,
    data_curriculum,
    difficulty_by_size,
    distribution_targets,
    easy_first,
    growing_pool,
    item_losses,
    jesson,
    label_distribution_adaptation,
    misclassified,
    ordered,
    patches,
    rater_curriculum,
    self_paced,
    self_paced_weights,
    severity_stages,
    size_curriculum,
    spl,
)
from lsseg_edu.semi.curriculum.attention import presence
from lsseg_edu.semi.curriculum.label_distribution import divergence, landmark_loss
from lsseg_edu.semi.curriculum.size_regression import shares
from lsseg_edu.semi.curriculum.spl import pace
from lsseg_edu.semi.curriculum.stages import Localiser
from lsseg_edu.semi.self_training import hard_labels
from lsseg_edu.train import Batch, Budget, Part, Run, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))


def batch(progress=1.0, **extras):
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, 32, 32), torch.randint(0, 3, (2, 32, 32))
    index = torch.arange(2)
    others = Part(images + 1, torch.full_like(labels, IGNORE), index, index, extras)
    return Batch(Part(images, labels, index, index, {}), others, progress)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture
def drawn(monkeypatch):
    """The index of every labelled batch, and the progress at which it was drawn."""
    seen, draw = [], Run.draw

    def spy(run, name):
        part = draw(run, name)
        if name == "labelled":
            seen.append((run.step / run.budget.steps, part.index.tolist()))
        return part

    monkeypatch.setattr(Run, "draw", spy)
    return seen


@pytest.fixture(scope="module")
def large() -> Task:
    """Six subjects of 64 x 64 pixels; two are labelled."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    labels = np.zeros((12, 64, 64), np.int64)
    for i, mask in enumerate(labels):
        a, b = rng.integers(16, 48, (2, 2))
        mask[sum((x - c) ** 2 for x, c in zip(axes, a, strict=True)) < (4 + i) ** 2] = 1
        mask[np.max([abs(x - c) for x, c in zip(axes, b, strict=True)], 0) < 4] = 2
    images = np.array([0.0, 2.0, -2.0])[labels] + rng.normal(size=labels.shape)
    cohort = Cohort.from_arrays(images, labels, np.arange(12) // 2, name="large discs")
    return Task.split(cohort, labelled=2, valid=1, test=1)


# Drawing


def test_items_are_drawn_with_their_chances(task, drawn):
    chances = torch.tensor([0.0, 3.0, 1.0, 0.0, 1.0, 0.0])
    budget = Budget("smoke", steps=60, batch=2)
    pixel = Supervised(nn.Conv2d(1, 3, 1))
    fit(pixel, task, budget, chances=lambda progress: chances, **QUIET)
    items = task.labelled.tolist()
    counts = torch.tensor([sum(i in index for _, index in drawn) for i in items])
    assert (counts[chances == 0] == 0).all()
    assert counts[1] > 1.2 * counts[2] and counts[1] > 1.2 * counts[4]
    assert all(len(set(index)) == 2 for _, index in drawn)  # without replacement


def test_a_small_pool_is_drawn_again_and_again(task, drawn):
    alone = torch.tensor([0.0, 1.0, 0, 0, 0, 0])
    fit(Supervised(net()), task, FEW, chances=lambda progress: alone, **QUIET)
    assert all(set(index) == {int(task.labelled[1])} and len(index) == 4 for _, index in drawn)


def test_an_empty_pool(task):
    with pytest.raises(ValueError, match="The pool is empty"):
        fit(Supervised(net()), task, FEW, chances=lambda progress: torch.zeros(6), **QUIET)


def test_draws_depend_on_the_seed_alone(task):
    def run(seed):
        method = Supervised.for_task(task, 0)
        fit(method, task, FEW, seed, chances=lambda progress: torch.ones(6), **QUIET)
        return weights(method)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_a_curriculum_goes_on_where_it_was_stopped(task, tmp_path):
    def weigh(progress):
        return torch.linspace(1, 2, 6) ** (1 - progress)

    def run(steps, **kwargs):
        method = Supervised.for_task(task, 0)
        budget = Budget("smoke", steps=4, batch=4)
        training = Run(method, task, budget, 0, None, torch.device("cpu"), weigh)
        for file in kwargs.values():
            training.load(file)
        for _ in range(steps):
            training.one_step()
        return training, weights(method)

    half, _ = run(2)
    half.save(tmp_path / "half.pt")
    assert torch.equal(run(4)[1], run(2, file=tmp_path / "half.pt")[1])


def test_item_losses_by_hand(task):
    method = Supervised(net())
    mine = task.train.select(task.labelled[:3])
    mine = replace(mine, labels=mine.labels.clone())
    mine.labels[1, :5] = IGNORE
    expected = [
        losses.cross_entropy(method.net(x[None]), y[None])
        for x, y in zip(mine.images, mine.labels, strict=True)
    ]
    assert torch.allclose(item_losses(method, mine), torch.stack(expected))
    assert method.training


# Data curriculum


def test_the_pool_grows_from_the_easy_end():
    rank = ordered(torch.tensor([0.3, 0.1, 0.4, 0.2]), "easy")
    assert rank.tolist() == [2, 0, 3, 1]
    sizes = [int(growing_pool(rank, t, 0.25, 0.6).sum()) for t in (0, 0.1, 0.3, 0.6, 1)]
    assert sizes == [1, 2, 3, 4, 4]
    assert growing_pool(rank, 0, 0.5, 0.6).tolist() == [False, True, False, True]
    assert growing_pool(rank, 0, 0.25, 0).all()
    assert ordered(torch.tensor([0.3, 0.1, 0.4, 0.2]), "anti").tolist() == [1, 3, 0, 2]
    random = ordered(torch.arange(50.0), "random", seed=1)
    assert sorted(random.tolist()) == list(range(50))
    assert not torch.equal(random, ordered(torch.arange(50.0), "random", seed=2))


@pytest.mark.parametrize("order", ["easy", "anti", "random"])
def test_data_curriculum_draws_from_the_pool_of_the_moment(task, drawn, order):
    budget = Budget("smoke", steps=4, batch=2)
    arm = {"order": order, "ranking": "size", "start": 0.34, "full": 0.75}
    data_curriculum(task, budget, seed=3, **arm, **QUIET)
    rank = ordered(difficulty_by_size(task), order, 3)
    for progress, index in drawn:
        pool = task.labelled[growing_pool(rank, progress, 0.34, 0.75)].tolist()
        assert set(index) <= set(pool)
    assert len({i for _, index in drawn for i in index}) > 2


def test_ranking_by_a_taught_network(task, monkeypatch):
    asked = []

    def spy(method, cohort):
        asked.append(len(cohort))
        return torch.arange(6.0)

    monkeypatch.setattr(easy_first, "item_losses", spy)
    data_curriculum(task, FEW, seed=3, **QUIET)
    assert asked == [6]


def test_little_foreground_is_hard(task):
    order = difficulty_by_size(task).argsort()
    shown = (task.train.labels[task.labelled] > 0).flatten(1).sum(1)
    assert shown[order].tolist() == sorted(shown.tolist(), reverse=True)


def test_curricula_that_cannot_be(task):
    for arm in ({"order": "hard"}, {"ranking": "name"}):
        with pytest.raises(ValueError, match="Unknown arm"):
            data_curriculum(task, FEW, **arm)
    for start in (0, -1, 1.5):
        with pytest.raises(ValueError, match="first pool would be empty"):
            data_curriculum(task, FEW, start=start)
        with pytest.raises(ValueError, match="first pool would be empty"):
            self_paced(task, FEW, start=start)
    with pytest.raises(ValueError, match="by the end"):
        data_curriculum(task, FEW, full=2)
    with pytest.raises(ValueError, match="Unknown arm 'hard'"):
        rater_curriculum(task, FEW, order="hard")


# Self-paced


def test_weights_are_the_minimum():
    torch.manual_seed(0)
    loss = torch.rand(8, dtype=torch.double)
    v = self_paced_weights(loss, 0.5)
    assert torch.equal(v, (loss < 0.5).double())
    prior = 0.1 + torch.rand(8, dtype=torch.double)
    for capacity in (0.2, 1.0, 2.0, 20.0):
        v = self_paced_weights(loss, 0.7, prior, capacity)
        cost, region = (loss - 0.7).numpy(), prior[None].numpy()
        best = linprog(cost, A_ub=region, b_ub=[capacity], bounds=(0, 1))
        assert float(((loss - 0.7) * v).sum()) == pytest.approx(best.fun)
        assert (v >= 0).all() and (v <= 1).all() and float(prior @ v) <= capacity + 1e-9


def test_threshold_has_the_share_below_it():
    loss = torch.tensor([0.4, 0.1, 0.3, 0.2])
    assert [int((loss < pace(loss, s)).sum()) for s in (0.01, 0.25, 0.5, 0.6, 1)] == [1, 1, 2, 3, 4]
    assert self_paced_weights(loss, pace(loss, 1.0), torch.ones(4), 2.5).sum() == 2.5


@pytest.mark.parametrize("region", [False, True])
def test_self_paced_draws_what_is_easy_now(task, drawn, monkeypatch, region):
    answers = iter([torch.arange(6.0), -torch.arange(6.0)])
    monkeypatch.setattr(spl, "item_losses", lambda method, cohort: next(answers))
    budget = Budget("smoke", steps=4, batch=2)
    self_paced(task, budget, start=0.5, full=1.0, every=2, region=region, **QUIET)
    easy, later = (set(task.labelled[part].tolist()) for part in (slice(0, 3), slice(1, 6)))
    assert all(set(index) <= easy for _, index in drawn[:2])
    assert all(set(index) <= later for _, index in drawn[2:])


# CASED


def test_chances_move_from_lesions_to_the_background_that_is_mistaken():
    lesion = torch.tensor([True, True, False, False, False, False, False, False])
    errors = torch.tensor([0.9, 0.1, 0.8, 0.2, 0.0, 0.0, 0.0, 0.0])
    start = cased_chances(lesion, errors, 0.0)
    assert start.tolist() == pytest.approx([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    end = cased_chances(lesion, errors, 1.0)
    assert end.sum() == pytest.approx(1) and end[2:].sum() == pytest.approx(6 / 8)
    assert end[2] / end[3] == pytest.approx(4) and end[4] < 1e-5
    half = cased_chances(lesion, errors, 0.4, full=0.8)
    assert half[2:].sum() == pytest.approx(3 / 8)


def test_patches_cover_the_labelled_images_only(task):
    cut = patches(task, 16)
    assert cut.train.images.shape == (6 * 9, 1, 16, 16)
    image = task.train.images[task.labelled[1]]
    assert torch.equal(cut.train.images[9 + 4], image[:, 8:24, 8:24])
    assert torch.equal(cut.train.labels[9 + 5], task.train.labels[task.labelled[1]][8:24, 16:])
    assert cut.train.subjects[9] == task.train.subjects[task.labelled[1]]
    with pytest.raises(ValueError, match="do not fit"):
        patches(task, 64)


def test_patches_of_volumes(volumes):
    cut = patches(Task.split(volumes, labelled=2, valid=1, test=1), 8)
    assert cut.train.images.shape == (2 * 27, 1, 8, 8, 8)


def test_misclassified_is_the_worst_known_pixel(task):
    method = Supervised(net())
    cohort = task.train.select(task.labelled[:2])
    cohort = replace(cohort, labels=cohort.labels.clone())
    cohort.labels[0, 4:] = IGNORE
    probs = method.net(cohort.images).softmax(1).detach()
    for i, rows in ((0, 4), (1, 32)):
        right = probs[i].gather(0, cohort.labels[i, :rows][None].clamp(max=2))
        assert misclassified(method, cohort)[i].item() == pytest.approx(1 - right.min().item())


def test_cased_begins_with_lesions_and_goes_on_to_errors(large, drawn, monkeypatch):
    cut = patches(large, 32)
    lesion = (cut.train.labels > 0).flatten(1).any(1)
    wrong = int((~lesion).nonzero()[0])
    errors = torch.zeros(len(lesion)).index_fill(0, torch.tensor([wrong]), 1.0)
    monkeypatch.setattr(jesson, "misclassified", lambda method, cohort: errors)
    cased(large, Budget("smoke", steps=4, batch=2), full=0.5, **QUIET)
    assert all(len(index) == 8 for _, index in drawn)  # as many pixels
    assert lesion[drawn[0][1]].all()
    late = [i for _, index in drawn[2:] for i in index if not lesion[i]]
    assert late and set(late) == {wrong}


def test_cased_controls(large, drawn):
    for arm in ("uniform", "balanced"):
        cased(large, FEW, sampling=arm, **QUIET)
    lesion = (patches(large, 32).train.labels > 0).flatten(1).any(1)
    shares = [lesion[index].float().mean() for _, index in drawn]
    assert not all(share == 1 for share in shares)
    with pytest.raises(ValueError, match="Unknown sampling 'often'"):
        cased(large, FEW, sampling="often")
    with pytest.raises(ValueError, match="choose another size"):
        cased(large, FEW, size=64)


# Deep active self-paced learning


@pytest.fixture
def asked(task, cohort):
    everyone = Task.split(cohort, valid=2, test=2)
    return with_annotator(task, everyone.train.labels)


def test_asking_gives_the_mask_and_costs_time(asked):
    index = asked.unlabelled[[1, 3]]
    after = ask(asked, index)
    assert torch.equal(after.train.labels[index], asked.train.extras["annotator"][index])
    assert len(after.unlabelled) == len(asked.unlabelled) - 2
    assert after.seconds - asked.seconds >= 2 * 2 * 79


@pytest.mark.parametrize("choose", ["uncertain", "random"])
def test_easy_images_label_themselves_and_hard_ones_are_asked_about(asked, monkeypatch, choose):
    trainings, real = [], dasl.fit

    def spy(method, task, *args, **kwargs):
        fitted = real(method, task, *args, **kwargs)
        trainings.append((fitted, task))
        return fitted

    monkeypatch.setattr(dasl, "fit", spy)
    options = {"rounds": 2, "queries": 2, "start": 0.5, "choose": choose}
    result = active_self_paced(asked, FEW, seed=3, **options, **QUIET)
    assert result.queries == 4 and result.annotation_seconds >= 4 * 2 * 79
    assert [len(t.labelled) for _, t in trainings] == [6, 8, 10]
    assert [len(t.unlabelled) for _, t in trainings[1:]] == list(result.easy) == [4, 6]
    first, used = trainings[0][0], trainings[1][1]
    loss = dasl.doubt(first, asked)
    hardest = asked.train.images[asked.unlabelled[loss.argsort(descending=True)[:2]]]
    known = used.train.images[used.labelled].flatten(1)
    found = [(torch.cdist(x.flatten()[None], known) < 1e-3).any() for x in hardest]
    assert all(found) == (choose == "uncertain")
    images, pseudo = used.train.images, used.train.extras["pseudo"]
    easiest = asked.train.images[asked.unlabelled[loss.argsort()[:1]]]
    if choose == "uncertain":
        assert (torch.cdist(easiest.flatten(1), images[used.unlabelled].flatten(1)) < 1e-3).any()
    answers = hard_labels(first.predict(images[used.unlabelled]))
    assert torch.equal(pseudo[used.unlabelled], answers)


def test_nobody_to_ask_or_nothing_to_ask(task, asked):
    with pytest.raises(ValueError, match="with_annotator"):
        active_self_paced(task, FEW)
    with pytest.raises(ValueError, match="at least one must be left"):
        active_self_paced(asked, FEW, rounds=5, queries=2)
    with pytest.raises(ValueError, match="Unknown arm 'best'"):
        active_self_paced(asked, FEW, choose="best", queries=1)
    with pytest.raises(ValueError, match="first pool would be empty"):
        active_self_paced(asked, FEW, queries=1, start=0)
    with pytest.raises(ValueError, match="must be complete"):
        active_self_paced(with_annotator(task, task.train.labels), FEW, queries=1)


# Raters


def test_agreement_is_the_mean_dice_of_the_pairs():
    a, b, c = torch.zeros(3, 1, 2, 2, dtype=torch.long)
    a[0, 0], b[0, :, 0], c[0, 0] = 1, 1, 2
    raters = torch.stack([a, b, c], 1)
    assert agreement(raters).item() == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert agreement(torch.zeros(1, 3, 2, 2)).item() == 1


def test_chances_are_annealed_to_uniform():
    score = torch.tensor([1.0, 0.5])
    assert annealed(score, 0.0).tolist() == pytest.approx([0.8, 0.2])
    early, late = annealed(score, 0.2)[0], annealed(score, 0.4)[0]
    assert 0.8 > early > late > 0.5
    assert annealed(score, 0.6).tolist() == annealed(score, 1.0).tolist() == [0.5, 0.5]
    assert annealed(score, 0.5, full=0).tolist() == [0.5, 0.5]


def test_images_that_raters_agree_on_are_drawn_more_often(task, drawn):
    raters = task.train.labels.clamp(max=2).unsqueeze(1).repeat(1, 2, 1, 1)
    raters[task.labelled[3:], 1] = 0  # the second rater overlooks everything
    rated = task.supervise(task.train.labels, raters=raters)
    budget = Budget("smoke", steps=12, batch=2)
    for order, few in (("easy", True), ("anti", False)):
        drawn.clear()
        rater_curriculum(rated, budget, order=order, full=1.0, **QUIET)
        hard = set(task.labelled[3:].tolist())
        share = sum(i in hard for _, index in drawn[:6] for i in index) / 12
        assert (share < 0.5) == few
    rater_curriculum(task, FEW, order="random", **QUIET)


# Attention


def test_severe_cases_come_first():
    labels = torch.zeros(5, 8, 8, dtype=torch.long)
    for i, rows in enumerate((0, 1, 4, 2, 6)):
        labels[i, :rows] = 1
    assert severity_stages(labels, 2).tolist() == [0, 1, 0, 1, 0]
    assert severity_stages(labels, 2, "mild").tolist() == [0, 0, 1, 0, 1]
    assert severity_stages(labels, 2, "all").tolist() == [0] * 5
    with pytest.raises(ValueError, match="first pool would be empty"):
        severity_stages(labels[:1], 2)


def test_stages_open_one_after_another(task, drawn):
    budget = Budget("smoke", steps=6, batch=2)
    attention_curriculum(task, budget, stages=3, refine=0, **QUIET)
    stage = severity_stages(task.train.labels[task.labelled], 3)
    place = {int(i): int(s) for i, s in zip(task.labelled, stage, strict=True)}
    assert all(place[i] <= progress * 3 for progress, index in drawn for i in index)
    with pytest.raises(ValueError, match="Unknown arm 'early'"):
        attention_curriculum(task, budget, order="early")


def classifier(guide=None):
    method = HeatmapClassifier(networks.unet(Shape(1, 3, 2)), 3, guide)
    torch.manual_seed(0)
    nn.init.normal_(method.head.weight)
    return method


def test_classifier_is_taught_presence_and_pools_its_heatmap():
    method, seen = classifier(), batch()
    seen.labelled.labels[0][seen.labelled.labels[0] == 2] = 0
    assert presence(seen.labelled.labels, 2).tolist() == [[1, 0], [1, 1]]
    heat = method.heatmaps(seen.labelled.images)
    assert heat.shape == (2, 2, 8, 8)
    pooled = (5 * heat).exp().flatten(2).mean(2).log() / 5
    assert torch.allclose(method.classify(seen.labelled.images), pooled, atol=1e-4)
    loss = method.loss(seen)["classification"]
    shown = torch.tensor([[1.0, 0], [1, 1]])
    expected = nn.functional.binary_cross_entropy_with_logits(pooled, shown)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    probs = method.predict(seen.labelled.images)
    assert probs.shape == (2, 3, 32, 32) and torch.allclose(probs.sum(1), torch.ones(2, 32, 32))


def test_refinement_looks_where_the_guide_was_hot():
    guide = classifier()
    heat = torch.full((2, 2, 32, 32), 0.1)
    heat[0, 0, 4:8, 4:8], heat[0, 1, 20:, 20:] = 0.8, 0.9
    guide.places = lambda images: heat
    method, images = classifier(guide), batch().labelled.images
    only_first = method.attention(images, torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    assert only_first[0, 0, 5, 5] == 1 and only_first[0, 0, 25, 25] == pytest.approx(0.125)
    assert (only_first[1] == 1).all()  # a guide that is not sure
    terms = method.loss(batch())
    assert set(terms) == {"classification", "attended"}
    sum(terms.values()).backward()
    assert all(p.grad is None for p in guide.parameters())


def test_attention_curriculum_refines_what_it_has_learnt(task):
    fitted = attention_curriculum(task, Budget("smoke", steps=4, batch=2), refine=0.5, **QUIET)
    assert set(fitted.history) == {"classification", "attended"}
    assert fitted.method.guide.guide is None


# Coarse to fine


def test_cells_are_organs_if_most_of_their_known_pixels_are():
    method = Localiser(nn.Conv2d(1, 2, 1), factor=2)
    labels = torch.tensor([[[1, 2, 0, 0], [0, 0, 0, IGNORE], [IGNORE] * 4, [IGNORE] * 4]])
    images, index = torch.randn(1, 1, 4, 4), torch.arange(1)
    cells = torch.tensor([[[1, 0], [IGNORE, IGNORE]]])
    logits = method.net(nn.functional.avg_pool2d(images, 2))
    loss = method.loss(Batch(Part(images, labels, index, index, {}), None, 0.5))["coarse"]
    assert loss.item() == pytest.approx(losses.dice_ce(logits, cells).item())


def test_stage_two_sees_the_map_of_stage_one_and_does_not_change_it():
    localiser = Localiser(nn.Conv2d(1, 2, 1))
    method = CoarseToFine(nn.Conv2d(2, 3, 1), localiser)
    images = batch().labelled.images
    organ = localiser.predict(images)[:, 1:]
    assert torch.allclose(method.prompted(images)[:, 1:], organ - 0.5)
    method.loss(batch())["supervised"].backward()
    assert all(p.grad is None for p in localiser.parameters())
    assert method.net.weight.grad[:, 1].abs().sum() > 0
    blind = CoarseToFine(nn.Conv2d(2, 3, 1), localiser, informed=False)
    assert (blind.prompted(images)[:, 1:] == 0).all()
    assert torch.equal(blind.predict(images), blind.net(blind.prompted(images)).softmax(1))


def test_both_stages_share_the_steps(large):
    fitted = coarse_to_fine(large, Budget("smoke", steps=4, batch=2), share=0.25, **QUIET)
    assert {name: len(values) for name, values in fitted.history.items()} == {
        "coarse": 1,
        "supervised": 3,
    }
    assert fitted.predict(large.test.images).shape == (len(large.test), 3, 64, 64)
    for share in (0, 1, 2):
        with pytest.raises(ValueError, match="leaves a stage without steps"):
            coarse_to_fine(large, FEW, share=share)


# Size regression


def test_regressor_is_taught_shares():
    scale = torch.tensor([0.5, 0.25])
    method = SizeRegressor(networks.unet(Shape(1, 3, 2)), scale)
    labels = torch.zeros(1, 10, 10, dtype=torch.long)
    labels[:, :3], labels[:, 3:4], labels[:, 5:] = 1, 2, IGNORE
    assert torch.allclose(shares(labels, 3), torch.tensor([[0.6, 0.2]]))
    loss = method.loss(batch())["size"]
    guess = method.guess(batch().labelled.images)
    expected = (guess - shares(batch().labelled.labels, 3) / scale).square().mean()
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    assert (method.sizes(batch().labelled.images) >= 0).all()


def test_unlabelled_sizes_must_lie_about_the_predicted_ones():
    scale = torch.tensor([0.5, 0.5])
    regressor = SizeRegressor(networks.unet(Shape(1, 3, 2)), scale)
    regressor.sizes = lambda images: torch.tensor([[0.2, 0.4], [0.2, 0.4]])
    method = SizeGuided(net(), regressor, gamma=0.1)
    probs = torch.zeros(4, 3, 10, 10)
    probs[:2, 0] = 1  # labelled images: not looked at
    probs[2:, 1, :2], probs[2:, 2, 2:6], probs[2:, 0, 6:] = 1, 1, 1  # 0.2 and 0.4
    assert method.penalty(probs, batch()) == 0
    probs[3, 1, :2], probs[3, 0, :2] = 0, 1
    by_hand = (0.18 / 0.5) ** 2 / 4
    assert method.penalty(probs, batch()).item() == pytest.approx(by_hand)


def test_size_curriculum_trains_the_regressor_first_and_then_leaves_it(task):
    fitted = size_curriculum(task, FEW, seed=3, **QUIET)
    assert set(fitted.history) == {"size", "supervised", "constraint"}
    assert not any(p.requires_grad for p in fitted.method.regressor.parameters())
    assert fitted.method.regressor.head.weight.abs().sum() > 0
    control = size_curriculum(task, FEW, seed=3, weight=0.0, **QUIET)
    baseline = fit(Supervised.for_task(task, 3), task, FEW, seed=3, **QUIET)
    assert torch.equal(weights(control.method.net), weights(baseline.method.net))
    with pytest.raises(ValueError, match="crossed"):
        size_curriculum(task, FEW, gamma=1.5, **QUIET)


# Label distributions


def test_divergence_is_the_kl_to_the_mean_answer():
    torch.manual_seed(0)
    probs, target = (
        torch.randn(2, 3, 4, 4).softmax(1),
        torch.tensor([[0.5, 0.5, 0], [0.2, 0.3, 0.5]]),
    )
    mean = probs.mean((2, 3))
    by_hand = torch.special.xlogy(target, target / mean).sum(1)
    assert divergence(target, probs).item() == pytest.approx(by_hand.mean().item(), rel=1e-4)
    assert divergence(mean, probs).item() == pytest.approx(0, abs=1e-6)


def test_landmarks_must_have_their_class_on_the_whole():
    probs = torch.zeros(2, 2, 2, 2)
    probs[:, 1] = torch.tensor([[[0.9, 0.3], [0.5, 0.5]], [[0.2, 0.2], [0.4, 0.8]]])
    probs[:, 0] = 1 - probs[:, 1]
    parts = torch.tensor([[[1, 1], [2, 2]], [[1, 1], [3, 3]]])
    classes = torch.tensor([[[1, 1], [IGNORE, IGNORE]], [[0, 0], [1, 1]]])
    by_hand = -(math.log(0.6) + math.log(0.8) + math.log(0.6)) / 3
    assert landmark_loss(probs, parts, classes).item() == pytest.approx(by_hand)
    assert landmark_loss(probs, parts, torch.full_like(parts, IGNORE)) == 0


def test_targets_are_learnt_from_the_labelled_images_alone(large):
    informed = distribution_targets(large, sure=0.6)
    extras, labels = informed.train.extras, large.train.labels
    assert torch.allclose(extras["distribution"].sum(1), torch.ones(len(labels)))
    assert torch.equal(informed.train.labels, labels)
    landmarks = extras["landmarks"]
    for image, parts in zip(landmarks, extras["superpixels"], strict=True):
        for s in parts.unique():
            assert len(image[parts == s].unique()) == 1
    truth = large.train.labels[large.labelled]
    mine = landmarks[large.labelled]
    assert (mine == truth)[mine != IGNORE].float().mean() > 0.8


def test_terms_act_on_the_unlabelled_images(large):
    method = LabelDistribution(net(), weight=2.0)
    parts = torch.ones(2, 32, 32, dtype=torch.long)
    extras = {"distribution": torch.full((2, 3), 1 / 3), "superpixels": parts, "landmarks": parts}
    seen = batch(**extras)
    probs = method.net(seen.unlabelled.images).softmax(1)
    terms = method.loss(seen)
    expected = 2 * divergence(extras["distribution"], probs)
    assert terms["global"].item() == pytest.approx(expected.item())
    assert terms["landmarks"].item() == pytest.approx(2 * landmark_loss(probs, parts, parts).item())
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
    assert "landmarks" not in LabelDistribution(net(), local=False).loss(seen)
    assert not method.weak.moves  # amounts must not change
    fitted = label_distribution_adaptation(large, FEW, weight=0.5, **QUIET)
    assert set(fitted.history) == {"supervised", "global", "landmarks"}
