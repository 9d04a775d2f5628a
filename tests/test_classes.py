"""Missing classes: what a partial label says, against brute force; sizes; the protocol."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from probes import batch, net, weights

from lsseg_edu import losses
from lsseg_edu.augment.mix import beta
from lsseg_edu.data import IGNORE, Task, annotate
from lsseg_edu.partial.classes import (
    FewOrganCoTraining,
    MarginalLoss,
    PaNN,
    VicinalLabels,
    annotated_classes,
    dual_ascent,
    exclusion_loss,
    marginal_logits,
    marginal_loss,
    neighbours,
    open_labels,
    prior_bound,
    size_prior,
    vicinal_labels,
    vicinal_loss,
)
from lsseg_edu.study.protocols import PROTOCOLS, Protocol
from lsseg_edu.train import Budget, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)
DEALT = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 1, 0]]).bool()


def partial(progress=1.0, size=(8, 9), classes=3):
    """A batch whose items annotate other classes each."""
    whole, annotated = batch(*size, classes=classes, progress=progress), DEALT[:, :classes].clone()
    labels = annotate.drop_classes(whole.labelled.labels, annotated)
    part = replace(whole.labelled, labels=labels, extras={"annotated": annotated})
    return replace(whole, labelled=part)


def organs(cohort, subjects=4):
    return annotate.missing_classes(Task.split(cohort, labelled=subjects, valid=1, test=1))


def random(classes=4, size=(5, 6), items=4):
    torch.manual_seed(0)
    logits = torch.randn(items, classes, *size, dtype=torch.double)
    labels = torch.randint(0, classes, (items, *size))
    labels[:, 0, 0] = IGNORE
    annotated = DEALT[:items, :classes]
    return logits, annotate.drop_classes(labels, annotated), annotated


# The protocol


def one_organ(task, seed):
    return annotate.missing_classes(task, given=1, seed=seed)


def test_protocol_has_several_single_organ_cohorts_and_no_complete_image():
    own = Protocol("abdomen-organs", "abdomen", 12, "one organ a data set", one_organ)
    protocol = PROTOCOLS.get("abdomen-organs", own)
    for seed in (0, 1):
        task, full = protocol.task(seed), protocol.upper(seed)
        items, subjects = task.labelled, task.train.subjects
        labels, masks = task.train.labels[items], full.train.labels[items]
        annotated = task.train.extras["annotated"][items]
        assert len(subjects[items].unique()) == 12
        assert torch.equal(items, full.labelled)  # the upper arm: the same images, all organs
        assert (annotated[:, 1:].sum(1) == 1).all()
        shown = torch.stack([(labels == k).flatten(1).any(1) for k in range(7)], 1)
        assert (shown[:, 1:].sum(1) <= 1).all() and not (shown & ~annotated).any()
        for k in range(1, 7):
            own = annotated[:, k]
            assert len(subjects[items][own].unique()) == 2
            assert torch.equal(labels[own] == k, masks[own] == k)
            assert (masks[~own] == k).any() and not (labels[~own] == k).any()
        assert (labels[(masks > 0) & (masks != labels)] == 0).all()


# Marginal loss


def test_marginal_loss_is_the_brute_force_sum_over_all_consistent_labellings():
    logits, labels, annotated = random(size=(1, 3))
    labels[:, 0, 0] = 0
    merged = F.cross_entropy(marginal_logits(logits, annotated), labels, reduction="none").sum(
        (1, 2)
    )
    probs = logits.softmax(1)[:, :, 0]
    for b, y in enumerate(labels[:, 0]):
        total = 0.0
        for guess in itertools.product(range(4), repeat=3):
            told = [
                k if annotated[b, k] else 0 for k in guess
            ]  # what the data set would write down
            if told == y.tolist():
                total += math.prod(probs[b, k, i].item() for i, k in enumerate(guess))
        assert merged[b].item() == pytest.approx(-math.log(total))


def test_background_is_the_sum_of_all_that_is_not_annotated():
    logits, _, annotated = random()
    merged, probs = marginal_logits(logits, annotated).softmax(1), logits.softmax(1)
    for b in range(4):
        kept = [k for k in range(1, 4) if annotated[b, k]]
        rest = [k for k in range(4) if k not in kept]
        assert torch.allclose(merged[b, 0], probs[b, rest].sum(0))
        assert torch.allclose(merged[b, kept], probs[b, kept])
        assert (merged[b, [k for k in rest if k]] == 0).all()


def test_marginal_dice_by_hand():
    logits, labels, annotated = random()
    known, probs = (labels != IGNORE).double(), logits.softmax(1)
    terms = []
    for k in range(4):
        both = own = 0.0
        for b in range(4):
            if k and not annotated[b, k]:
                continue
            merged = [j for j in range(4) if j == 0 or not annotated[b, j]] if k == 0 else [k]
            q, y = probs[b, merged].sum(0) * known[b], (labels[b] == k).double()
            both, own = both + (q * y).sum(), own + (q * q).sum() + y.sum()
        terms.append((2 * both + 1) / (own + 1))
    expected = 1 - sum(terms) / 4
    measured = losses.dice(marginal_logits(logits, annotated), labels)
    assert measured.item() == pytest.approx(expected.item(), rel=1e-5)


def test_with_all_classes_annotated_it_is_the_plain_loss():
    logits, labels, _ = random()
    every = torch.ones(4, 4, dtype=torch.bool)
    assert torch.equal(marginal_logits(logits, every), logits)
    assert marginal_loss(logits, labels, every) == losses.dice_ce(logits, labels)


def test_marginal_gradient_is_that_of_finite_differences():
    logits, labels, annotated = random()
    logits.requires_grad_()

    def loss(z):
        return F.cross_entropy(marginal_logits(z, annotated), labels, ignore_index=IGNORE)

    assert torch.autograd.gradcheck(loss, logits)
    (slope,) = torch.autograd.grad(marginal_loss(logits, labels, annotated), logits)
    for where in ((0, 2, 3, 3), (1, 0, 2, 1), (3, 3, 4, 5)):
        step = torch.zeros_like(logits)
        step[where] = 0.05
        ends = [marginal_loss(logits + s * step, labels, annotated).item() for s in (1, -1)]
        assert slope[where].item() == pytest.approx((ends[0] - ends[1]) / 0.1, abs=2e-4)
    assert (slope[:, :, 0, 0] == 0).all()  # IGNORE


def test_an_organ_that_nobody_annotated_is_not_pushed_away():
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    labels, annotated = torch.zeros(1, 1, 1, dtype=torch.long), DEALT[:1, :3]
    (naive,) = torch.autograd.grad(losses.cross_entropy(logits, labels), logits)
    (merged,) = torch.autograd.grad(
        losses.cross_entropy(marginal_logits(logits, annotated), labels), logits
    )
    assert naive[0, 2] > 0  # descent lowers the organ
    assert merged[0, 2] < 0 < merged[0, 1]
    assert merged[0, 2] == merged[0, 0]  # no preference between it and the background


def test_exclusion_by_loop():
    logits, labels, annotated = random()
    probs, terms = logits.softmax(1), []
    for b, k in itertools.product(range(4), range(4)):
        if not annotated[b, k]:
            both = area = entropy = 0.0
            for y, x in itertools.product(range(5), range(6)):
                inside = labels[b, y, x] not in (0, IGNORE)
                both += probs[b, k, y, x].item() * inside
                entropy += math.log(1 + probs[b, k, y, x].item()) * inside
                area += inside
            terms.append(2 * both / (probs[b, k].sum().item() + area + 1) + entropy / max(area, 1))
    measured = exclusion_loss(logits, labels, annotated)
    assert measured.item() == pytest.approx(sum(terms) / len(terms))


def test_exclusion_is_zero_without_overlap_and_has_a_true_gradient():
    logits, labels, annotated = random()
    every = torch.ones_like(annotated)
    assert exclusion_loss(logits, labels, every) == 0
    nothing = torch.zeros_like(labels)
    assert exclusion_loss(logits, nothing, annotated) == 0
    right = 60 * F.one_hot(labels.where(labels != IGNORE, 0), 4).movedim(-1, 1).double()
    assert exclusion_loss(right, labels, annotated) < 1e-12
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: exclusion_loss(z, labels, annotated), logits)


def test_method_adds_the_two():
    method, one = MarginalLoss(net(), exclusion=0.5), partial()
    logits, part = method.net(one.labelled.images), one.labelled
    terms, annotated = method.loss(one), part.extras["annotated"]
    assert terms["marginal"] == marginal_loss(logits, part.labels, annotated)
    assert terms["exclusion"] == 0.5 * exclusion_loss(logits, part.labels, annotated)
    assert list(MarginalLoss(net(), exclusion=0).loss(one)) == ["marginal"]


def test_on_complete_labels_the_method_is_the_baseline_to_the_last_bit(cohort):
    full = Task.split(cohort, labelled=3, valid=2, test=2)
    every = torch.ones(len(full.train), 3, dtype=torch.bool)
    told = full.supervise(full.train.labels, annotated=every)
    mine = fit(MarginalLoss(net(), exclusion=0), told, FEW, seed=3, **QUIET)
    baseline = fit(Supervised(net()), full, FEW, seed=3, **QUIET)
    assert torch.equal(weights(mine.method), weights(baseline.method))


def test_who_annotated_what_must_be_said():
    one = partial()
    with pytest.raises(ValueError, match="which classes its labels speak of"):
        MarginalLoss(net()).loss(batch(8, 9))
    wrong = replace(one.labelled, extras={"annotated": DEALT[:, :2]})
    with pytest.raises(ValueError, match="a column for each class"):
        annotated_classes(wrong)
    wrong = replace(one.labelled, labels=torch.full((4, 8, 9), 2))
    with pytest.raises(ValueError, match="is said not to annotate"):
        annotated_classes(wrong)


def test_prior_needs_to_know_as_well(task):
    with pytest.raises(ValueError, match="which classes its labels speak of"):
        PaNN.for_task(task)


# PaNN


def divergence(prior, mean):
    pairs = zip(prior.tolist(), mean.tolist(), strict=True)
    return sum(q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)) for q, p in pairs)


def best(mean):
    return -torch.stack([mean, 1 - mean]).log()


PRIOR = torch.tensor([0.8, 0.15, 0.05], dtype=torch.double)
MEAN = torch.tensor([0.6, 0.1, 0.3], dtype=torch.double)


def test_bound_touches_the_divergence_at_the_best_dual_and_nowhere_else():
    top = prior_bound(MEAN, PRIOR, best(MEAN))
    assert top.item() == pytest.approx(divergence(PRIOR, MEAN))
    torch.manual_seed(0)
    for _ in range(20):
        elsewhere = best(MEAN) + 0.3 * torch.randn(2, 3, dtype=torch.double)
        assert prior_bound(MEAN, PRIOR, elsewhere) < top


def test_primal_gradient_is_that_of_the_divergence():
    mean = MEAN.clone().requires_grad_()
    (slope,) = torch.autograd.grad(prior_bound(mean, PRIOR, best(MEAN)), mean)
    assert torch.allclose(slope, -PRIOR / MEAN + (1 - PRIOR) / (1 - MEAN))


def test_dual_ascends_along_the_gradient_and_arrives():
    dual = best(PRIOR).requires_grad_()
    (slope,) = torch.autograd.grad(prior_bound(MEAN, PRIOR, dual), dual)
    dual = dual.detach()
    small = dual_ascent(dual, MEAN, 1e-4) - dual
    known = torch.stack([PRIOR, 1 - PRIOR])
    assert torch.allclose(small, 1e-4 * slope / known, rtol=1e-2)
    bounds = []
    for _ in range(80):
        dual = dual_ascent(dual, MEAN, 0.1)
        bounds.append(prior_bound(MEAN, PRIOR, dual).item())
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(divergence(PRIOR, MEAN), rel=1e-3)


def test_min_max_over_single_images_finds_the_prior_of_their_mean():
    """Images differ wildly; only their mean is to have the prior's sizes."""
    torch.manual_seed(0)
    offsets, bias = torch.randn(16, 3, dtype=torch.double), torch.zeros(3, dtype=torch.double)
    bias.requires_grad_()
    dual = best(PRIOR)
    for step in range(1200):
        one = (offsets[step % 16] + bias).softmax(0)
        (slope,) = torch.autograd.grad(prior_bound(one, PRIOR, dual), bias)
        dual = dual_ascent(dual, one.detach(), 0.03)
        bias = (bias - 0.02 * slope).detach().requires_grad_()
    mean = (offsets + bias).softmax(1).mean(0)
    assert torch.allclose(mean, PRIOR, atol=0.02)


def test_prior_is_the_mean_size_where_it_is_annotated():
    labels = torch.zeros(4, 10, 10, dtype=torch.long)
    labels[0, :2], labels[1, :4], labels[2, :3] = 1, 1, 2
    labels[3] = 0
    annotated = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]]).bool()
    assert torch.allclose(size_prior(labels, annotated), torch.tensor([0.55, 0.3, 0.15]))
    labels[2, 5:] = IGNORE
    assert size_prior(labels, annotated)[2].item() == pytest.approx((0.6 + 0) / 2)
    with pytest.raises(ValueError, match="size of class 2 is not known"):
        size_prior(labels[:2], annotated[:2])


def test_method_adds_the_bound_and_moves_the_dual(cohort):
    method, one = PaNN(net(), PRIOR, weight=0.5, ramp=0.0), partial()
    assert method.loss(one)["prior"].item() == pytest.approx(0, abs=1e-6)  # no pressure at first
    method.dual.copy_(best(MEAN))
    mean = method.net(one.labelled.images).softmax(1).mean((0, 2, 3))
    terms = method.loss(one)
    expected = 0.5 * prior_bound(mean, method.prior, method.dual)
    assert terms["prior"].item() == pytest.approx(expected.item(), rel=1e-4)
    before = method.dual.clone()
    method.after_step(1.0)
    assert torch.allclose(method.dual, dual_ascent(before, mean.detach(), 0.1))
    assert "dual" in method.state_dict()
    trained = fit(PaNN.for_task(organs(cohort)), organs(cohort), FEW, **QUIET)
    assert all(math.isfinite(v) for v in trained.history["prior"])


def test_without_weight_pann_is_the_marginal_loss_to_the_last_bit(cohort):
    task = organs(cohort)
    mine = fit(PaNN(net(), PRIOR, weight=0), task, FEW, seed=1, **QUIET)
    other = fit(MarginalLoss(net(), exclusion=0), task, FEW, seed=1, **QUIET)
    assert torch.equal(weights(mine.method.net), weights(other.method.net))


def test_prior_must_be_a_distribution():
    for prior in ([0.5, 0.2], [1.0, 0.0], [[1.0]]):
        with pytest.raises(ValueError, match="positive shares of sum 1"):
            PaNN(net(), torch.tensor(prior))


# Co-training of few-organ data sets


def two(**options):
    first, second = net(), net()
    with torch.no_grad():
        second[2].bias += torch.tensor([0.5, -1.0, 1.0])
    return FewOrganCoTraining(first, second, **{"ramp": 0.0, **options})


def test_open_labels_speak_of_what_the_annotator_left_open():
    logits, labels, annotated = random()
    target, probs = open_labels(logits, labels, annotated), logits.softmax(1)
    for b in range(4):
        open_ = [k for k in range(4) if k == 0 or not annotated[b, k]]
        closed = [k for k in range(4) if k not in open_]
        here = labels[b] == 0
        expected = probs[b, open_] / probs[b, open_].sum(0)
        assert torch.allclose(target[b, open_][:, here], expected[:, here].float())
        assert (target[b, closed] == 0).all() and (target[b, :, ~here] == 0).all()


def test_each_network_is_taught_by_the_other_ones_average():
    for exchange in (True, False):
        method, one = two(exchange=exchange), partial()
        with torch.no_grad():
            method.teachers[1][2].bias += torch.tensor([5.0, 0.0, -5.0])
        part, expected = one.labelled, 0.0
        teachers = reversed(method.teachers) if exchange else method.teachers
        for student, teacher in zip((method.net, method.other), teachers, strict=True):
            q, z = teacher(part.images).softmax(1), student(part.images).log_softmax(1)
            total = count = 0.0
            for b, y, x in itertools.product(range(4), range(8), range(9)):
                if part.labels[b, y, x] == 0:
                    open_ = [k for k in range(3) if k == 0 or not part.extras["annotated"][b, k]]
                    mass = sum(q[b, k, y, x].item() for k in open_)
                    total -= sum((q[b, k, y, x] / mass * z[b, k, y, x]).item() for k in open_)
                    count += 1
            expected += total / count
        assert method.loss(one)["taught"].item() == pytest.approx(expected, rel=1e-4)


def test_averages_follow_and_are_not_trained(cohort):
    method = two(decay=0.9)
    start = [weights(t) for t in method.teachers]
    with torch.no_grad():
        for p in method.parameters():
            p += 0.0 if not p.requires_grad else 1.0
    method.after_step(0.5)
    for before, teacher in zip(start, method.teachers, strict=True):
        assert torch.allclose(weights(teacher), before + 0.5)  # 1 - 1 / (1 + 1)
    sum(method.loss(partial()).values()).backward()
    assert all(p.grad is None for p in method.teachers.parameters())
    assert all(p.grad.abs().sum() > 0 for p in (*method.net.parameters(), method.other[2].bias))
    images = partial().labelled.images
    assert torch.equal(method.predict(images), method.teachers[0](images).softmax(1))
    with pytest.raises(ValueError, match="equal and have nothing to tell"):
        FewOrganCoTraining(net(), net())
    task = organs(cohort)
    fit(FewOrganCoTraining.for_task(task), task, FEW, **QUIET)


# Vicinal labels


def test_partner_is_the_most_similar_image_of_another_data_set():
    torch.manual_seed(0)
    images = torch.randn(4, 1, 16, 16)
    images[1] = images[0] + 0.01  # alike, but from the same data set
    images[3] = images[0] + 0.3
    annotated = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]]).bool()
    assert neighbours(images, annotated)[[0, 1, 3]].tolist() == [3, 3, 1]
    for _ in range(5):
        assert set(neighbours(images, annotated, similar=False)[:2].tolist()) <= {2, 3}
    assert neighbours(images, annotated[:1].expand(4, -1)).tolist() == [0, 1, 2, 3]


def test_vicinal_labels_by_loop():
    _, labels, annotated = random()
    partner, share = torch.tensor([1, 3, 0, 2]), torch.tensor([0.2, 0.6, 0.9, 0.5])
    target, known = vicinal_labels(labels, annotated, partner, share)
    assert (target[:, 0] == 0).all() and (known[:, 0] == 0).all()
    for b, k in itertools.product(range(4), range(1, 4)):
        parts = [(b, share[b]), (int(partner[b]), 1 - share[b])]
        kappa = sum(float(s) for m, s in parts if annotated[m, k])
        ignored = sum((labels[m] == IGNORE).long() for m, _ in parts) > 0
        mask = sum(s * (labels[m] == k) for m, s in parts if annotated[m, k])
        assert torch.allclose(known[b, k], kappa * (~ignored).float())
        if kappa > 0:
            assert torch.allclose(target[b, k], mask / kappa)


def test_vicinal_loss_by_loop_and_its_gradient():
    logits, labels, annotated = random(size=(3, 4))
    partner, share = torch.tensor([1, 3, 0, 2]), torch.tensor([0.2, 0.6, 0.9, 0.5])
    target, known = vicinal_labels(labels, annotated, partner, share)
    probs, entropy = logits.softmax(1), 0.0
    for where in itertools.product(*map(range, logits.shape)):
        t, p = target[where].item(), probs[where].item()
        entropy -= known[where].item() * (t * math.log(p) + (1 - t) * math.log(1 - p))
    dice = 0.0
    for k in range(1, 4):
        t, p, w = target[:, k], probs[:, k], known[:, k]
        dice += (2 * (w * p * t).sum() + 1) / ((w * (p**2 + t**2)).sum() + 1) / 3
    expected = entropy / known.sum().item() + 1 - dice.item()
    assert vicinal_loss(logits, target, known).item() == pytest.approx(expected)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: vicinal_loss(z, target, known), logits)


def test_what_is_less_known_weighs_less_and_what_is_unknown_nothing():
    logits, labels, annotated = random()
    logits.requires_grad_()
    partner = torch.arange(4)  # itself: only its own classes are known
    target, known = vicinal_labels(labels, annotated, partner, torch.full((4,), 0.5))
    assert torch.equal(known[:, 1:, 2, 2] > 0, annotated[:, 1:])
    assert known.max() == 1
    target.requires_grad_()
    (slope,) = torch.autograd.grad(vicinal_loss(logits, target, known), target)
    assert (slope[known == 0] == 0).all() and (slope[known > 0] != 0).any()


def test_the_network_sees_the_blend_and_learns_the_labels_of_both():
    one, method = partial(size=(16, 16)), VicinalLabels(net(), weight=0.5, ramp=0.0)
    part, annotated = one.labelled, one.labelled.extras["annotated"]
    torch.manual_seed(3)
    term = method.loss(one)["vicinal"]
    torch.manual_seed(3)
    partner, share = neighbours(part.images, annotated), beta(part.images, 1.0)
    wide = share.view(-1, 1, 1, 1)
    logits = method.net(wide * part.images + (1 - wide) * part.images[partner])
    target, known = vicinal_labels(part.labels, annotated, partner, share)
    assert torch.allclose(term, 0.5 * vicinal_loss(logits, target, known))


def test_vicinal_method(cohort):
    one = partial(size=(16, 16))
    assert list(VicinalLabels(net()).loss(one)) == ["marginal", "vicinal"]
    task = organs(cohort)
    mine = fit(VicinalLabels(net(), weight=0), task, FEW, seed=2, **QUIET)
    other = fit(MarginalLoss(net(), exclusion=0), task, FEW, seed=2, **QUIET)
    assert torch.equal(weights(mine.method), weights(other.method))


# Volumes


def test_volumes(volumes):
    task, small = organs(volumes), replace(FEW, batch=2)
    second = net(3)
    with torch.no_grad():
        second[2].bias += 0.1
    for method in (
        MarginalLoss(net(3)),
        PaNN(net(3), PRIOR),
        FewOrganCoTraining(net(3), second),
        VicinalLabels(net(3)),
    ):
        history = fit(method, task, small, **QUIET).history
        assert all(math.isfinite(v) for term in history.values() for v in term)
