"""Self-ensembling: each method shakes what it says, and compares what belongs together."""

import math

import pytest
import torch
from probes import batch, inputs, outputs
from torch import nn

from lsseg_edu import networks
from lsseg_edu.augment import Augment
from lsseg_edu.data import Cohort, Task
from lsseg_edu.semi.consistency.cui import CuiMeanTeacher
from lsseg_edu.semi.consistency.extreme_consistency import ExtremeConsistency, Mixing
from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher
from lsseg_edu.semi.consistency.mmt_psm import MMTPSM, look, most
from lsseg_edu.semi.consistency.pi_model import PiModel
from lsseg_edu.semi.consistency.src_mt import SRCMT, relations
from lsseg_edu.semi.consistency.tcsm import TCSM
from lsseg_edu.semi.consistency.temporal_ensembling import TemporalEnsembling
from lsseg_edu.semi.consistency.transforms import AffineView, Chain, Dihedral
from lsseg_edu.train import Budget, fit

EMA = [CuiMeanTeacher, TCSM, ExtremeConsistency, MMTPSM, SRCMT]


def conv(dims=2, kernel=3):
    torch.manual_seed(0)
    layer = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(layer(1, 4, kernel, padding="same"), nn.ReLU(), layer(4, 3, 1))


def unet(dims=2):
    return networks.unet(networks.Shape(1, 3, dims), width=4)


def disturb(net, amount=0.5):
    torch.manual_seed(2)
    with torch.no_grad():
        for p in net.parameters():
            p += amount * torch.randn_like(p)


# Pi model


def test_pi_is_silent_only_when_nothing_is_shaken():
    quiet = {"noise": 0.0, "shift": 0}
    assert PiModel(conv(), **quiet).consistency(batch(16, 16)) == 0
    assert PiModel(conv(), noise=0.3, shift=0).consistency(batch(16, 16)) > 0
    dropout = nn.Sequential(conv(), nn.Dropout(0.3))
    assert PiModel(dropout, **quiet).consistency(batch(16, 16)) > 0
    with torch.no_grad():
        directed = conv()
        directed[0].weight[:, :, 0] += 1  # zero padding at the border then breaks the symmetry
    assert PiModel(directed, noise=0.0, shift=3).consistency(batch(16, 16)) > 0


def test_pi_compares_the_same_places():
    """A pixelwise network has nothing to disagree on, if the shift is undone."""
    method = PiModel(conv(kernel=1), noise=0.0, shift=4)
    images = batch(16, 16).unlabelled.images
    assert torch.allclose(method.answer(images), method.net(images).softmax(1), atol=1e-5)
    assert method.consistency(batch(16, 16)) < 1e-10


def test_pi_gradient_flows_through_both_answers():
    method = PiModel(conv(), noise=0.3)
    seen = outputs(method.net)
    loss = method.consistency(batch(16, 16))
    first, second = torch.autograd.grad(loss, seen)
    assert first.abs().sum() > 0 and second.abs().sum() > 0


def test_pi_weight_is_ramped():
    method = PiModel(conv(kernel=1), weight=3.0, noise=0.0, shift=0)
    method.consistency = lambda batch: torch.tensor(2.0)
    terms = [method.loss(batch(8, 8, progress=t))["consistency"].item() for t in (0.0, 1.0)]
    assert terms == pytest.approx([6 * math.exp(-5), 6.0])


# Temporal ensembling


def remembering(net=None, momentum=0.6, **options):
    options = {"noise": 0.0, "shift": 0} | options
    return TemporalEnsembling(net or conv(kernel=1), (10, 3, 8, 8), momentum, **options)


def test_memory_follows_the_paper_with_a_count_for_each_item():
    method, z, t = remembering(), torch.zeros(10, 3, 8, 8), [0] * 10
    torch.manual_seed(0)
    for _ in range(12):
        index = torch.randperm(10)[:4]
        answers = torch.rand(4, 3, 8, 8).softmax(1)
        method.remember(index, answers)
        for i, answer in zip(index.tolist(), answers, strict=True):
            z[i] = 0.6 * z[i] + 0.4 * answer
            t[i] += 1
    assert method.answers.tolist() == t and len(set(t)) > 2
    expected = torch.stack([z[i] / (1 - 0.6 ** t[i]) for i in range(10)])
    targets, known = method.targets(torch.arange(10))
    assert known.all() and torch.allclose(targets, expected, atol=2e-3)
    assert torch.allclose(targets.sum(1), torch.ones(()), atol=5e-3)


def test_the_first_target_is_the_first_answer():
    method = remembering(momentum=0.9)
    answer = torch.rand(1, 3, 8, 8).softmax(1)
    method.remember(torch.tensor([3]), answer)
    assert torch.allclose(method.targets(torch.tensor([3]))[0], answer, atol=2e-3)


def test_items_met_for_the_first_time_count_for_nothing():
    method, b = remembering(), batch(8, 8)
    assert method.consistency(b) == 0
    assert method.answers.tolist() == [1] * 4 + [0] * 6
    method.answers[:2] = 0
    disturb(method.net)
    answer = method.net(b.unlabelled.images).softmax(1)
    target = method.targets(b.unlabelled.index)[0]
    by_hand = (answer - target)[2:].square().mean()  # over the two that have a target
    assert torch.allclose(method.consistency(b), by_hand, rtol=1e-4) and by_hand > 0


def test_memory_lives_where_the_image_is():
    method, b = remembering(shift=3), batch(8, 8)
    method.consistency(b)
    stored = method.targets(b.unlabelled.index)[0]
    assert torch.allclose(stored, method.net(b.unlabelled.images).softmax(1), atol=2e-3)


def test_memory_gets_no_gradient_and_the_network_does():
    method = remembering(conv(), noise=0.3)
    method.consistency(batch(8, 8))
    method.consistency(batch(8, 8)).backward()
    assert not method.memory.requires_grad
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in method.net.parameters())


def test_unlabelled_images_come_as_they_are_stored(task):
    method, seen = TemporalEnsembling.for_task(task), []
    consistency = method.consistency
    method.consistency = lambda b: (seen.append(b.unlabelled), consistency(b))[1]
    fit(method, task, Budget("smoke", 4, 4), progress=False)
    assert all(torch.equal(part.images, task.train.images[part.index]) for part in seen)
    assert method.memory.shape == (len(task.train), 3, 32, 32)
    assert method.answers[task.labelled].sum() == 0 and method.answers[task.unlabelled].sum() == 16
    assert {"memory", "answers"} <= method.state_dict().keys()


# Mean Teacher for lesions


def test_cui_asks_consistency_of_labelled_images_too():
    method, b = CuiMeanTeacher(conv(), noise=0.0), batch(16, 16)
    disturb(method.net)
    each = [
        (method.net(x).softmax(1) - method.teacher(x).softmax(1)).square().mean()
        for x in (b.labelled.images, b.unlabelled.images)
    ]
    assert torch.allclose(method.consistency(b), sum(each) / 2, rtol=1e-4)
    assert not torch.allclose(each[0], each[1], rtol=1e-2)


# Transformation consistency


def test_tcsm_asks_nothing_of_an_equivariant_network():
    """Turning the image instead of the answer, or by another turn, would not give 0."""
    method = TCSM(conv(kernel=1), scale=0.0, noise=0.0)
    assert method.consistency(batch(16, 16)) < 1e-10
    assert TCSM(conv(), scale=0.0, noise=0.0).consistency(batch(16, 16)) > 1e-5


def test_tcsm_shows_the_teacher_the_image_and_the_student_the_moved_one():
    method, b = TCSM(conv(), noise=0.0), batch(16, 16)
    view = Chain(
        (
            Dihedral(torch.tensor([5, 1, 3, 6])),
            AffineView.draw(torch.zeros(4, 1, 16, 16), scale=0.5),
        )
    )
    method.view = lambda images: view
    students, teachers, x = inputs(method.net), inputs(method.teacher), b.unlabelled.images
    loss = method.consistency(b)
    assert torch.equal(students[0], view(x)) and torch.equal(teachers[0], x)
    known = view.inside(x).squeeze(1)
    square = (method.net(view(x)).softmax(1) - view(method.teacher(x).softmax(1))).square().sum(1)
    assert not known.all()
    assert torch.allclose(loss, square[known].mean() / 3, rtol=1e-4)


def test_tcsm_draws_what_it_says():
    images = torch.zeros(300, 1, 4, 4)
    turn, scaling = TCSM(conv(), mirrors=False).view(images).views
    assert set(turn.elements.tolist()) == {0, 3, 5, 6}
    assert 1.15 < scaling.maps[:, 0, 0].max() <= 1.2001
    assert set(TCSM(conv()).view(images).views[0].elements.tolist()) == set(range(8))


# Mask-guided mean teacher


def test_only_the_most_sensitive_pixels_are_learnt_from():
    method, b = MMTPSM(unet(), share=0.1, features=0.0, noise=0.5), batch(32, 32)
    disturb(method.net, 0.1)
    student, teacher = outputs(method.net.final_conv), outputs(method.teacher.final_conv)
    loss = method.consistency(b)
    used = torch.autograd.grad(loss, student[0])[0].abs().sum(1) > 0
    answers = teacher[0].softmax(1).view(4, 4, 3, 32, 32)  # copies, images, classes
    spread = sum((a - answers.mean(0)).square().sum(1) for a in answers) / 4
    assert used.sum() == round(0.1 * 4 * 32 * 32)
    assert spread[used].min() >= spread[~used].max()
    square = (student[0].softmax(1) - answers.mean(0)).square().sum(1)
    assert torch.allclose(loss, square[used].mean() / 3, rtol=1e-4)


def test_most_takes_the_largest_share():
    values = torch.randperm(100).float().view(1, 1, 10, 10)
    assert torch.equal(most(values, 0.07), values >= 93)
    assert most(values, 1.0).all() and most(values, 1e-9).sum() == 1


def test_features_are_taught_inside_the_organs_only():
    method, b = MMTPSM(unet(), noise=0.0, share=0.01), batch(32, 32)
    disturb(method.net, 0.1)
    with torch.no_grad():
        method.teacher.final_conv.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
    parts = [method.consistency(b).item()]
    method.features = 0.0
    assert method.consistency(b).item() == pytest.approx(parts[0])  # no organ: no features
    with torch.no_grad():
        method.teacher.final_conv.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
    answers = method.consistency(b).item()
    method.features = 2.0
    (mine, _), (theirs, _) = (look(n, b.unlabelled.images) for n in (method.net, method.teacher))
    by_hand = sum((a - b).square().mean().item() for a, b in zip(mine, theirs, strict=True)) / 5
    assert method.consistency(b).item() - answers == pytest.approx(2 * by_hand, rel=1e-3)


def test_a_small_organ_is_seen_at_every_level(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "lsseg_edu.semi.consistency.mmt_psm.masked_mse",
        lambda p, q, where: (seen.append(where), (p - q).square().mean())[1],
    )
    method, b = MMTPSM(unet(), noise=0.0), batch(32, 32, items=1)
    logits = torch.zeros(1, 3, 32, 32)
    logits[:, 0] = 9.0
    logits[:, 1, 5, 20] = 99.0
    method.teacher.final_conv.register_forward_hook(lambda m, x, out: logits.repeat(4, 1, 1, 1))
    method.consistency(b)
    masks = [mask for mask in seen if mask.dtype.is_floating_point]
    assert [mask.sum().item() for mask in masks] == [1] * 5
    assert [m.nonzero()[0, 2:].tolist() for m in masks[:3]] == [[5, 20], [2, 10], [1, 5]]


# Extreme consistency


def test_target_is_moved_and_mixed_like_the_image():
    """Moves and mixtures are linear: what is done to x is done to 3 x."""
    method = ExtremeConsistency(conv(), extreme=Augment.none())
    images = torch.randn(16, 2, 12, 12)
    hard, target, known = method.harden(images, 3 * images)
    assert torch.allclose(target, 3 * hard, atol=1e-5)
    assert (hard - images).abs().mean() > 0.3 and 0.5 < known.float().mean() < 1


def test_paint_changes_the_image_and_not_the_target():
    images = torch.randn(4, 1, 16, 16)
    results = []
    for extreme in (Augment.none(), None):
        torch.manual_seed(3)
        results.append(ExtremeConsistency(conv(), extreme=extreme).harden(images, images))
    (plain, target, known), (painted, same, also) = results
    assert torch.equal(target, same) and torch.equal(known, also)
    assert (painted - plain).abs().mean() > 0.1


def test_nothing_counts_that_was_made_up_in_either_image_of_a_mixture(monkeypatch):
    images = torch.randn(4, 1, 12, 12)
    move = AffineView.draw(images, rotation=45, shift=0.2)
    keep = torch.ones_like(images)
    keep[1], keep[2, ..., :6] = 0.5, 0
    monkeypatch.setattr(Dihedral, "draw", lambda *_, **__: Dihedral(torch.zeros(4).long()))
    monkeypatch.setattr(AffineView, "draw", lambda *_, **__: move)
    monkeypatch.setattr(Mixing, "draw", lambda *_: Mixing(keep))
    known = ExtremeConsistency(conv()).harden(images, images)[2]
    inside = move.inside(images)
    assert torch.equal(known[0], inside[0]) and torch.equal(known[3], inside[3])
    assert torch.equal(known[1], inside[1] & inside[2]) and not inside[1].all()
    assert torch.equal(known[2, ..., :6], inside[3, ..., :6])
    assert torch.equal(known[2, ..., 6:], inside[2, ..., 6:])


def test_mixing_is_cutmix_or_mixup():
    torch.manual_seed(0)
    images = torch.randn(200, 1, 10, 12)
    keep = Mixing.draw(images).keep
    flat = keep.flatten(1)
    box = (flat == 0).any(1)
    assert ((flat == 0) | (flat == 1))[box].all()
    up = ~box & (flat.amin(1) < 1)
    assert (flat[up].amin(1) == flat[up].amax(1)).all() and flat[up].min() >= 0.5
    assert 0.3 < box.float().mean() < 0.6 and 0.3 < up.float().mean() < 0.6
    taken = (flat == 0).float().mean(1)[box]
    assert taken.max() <= 0.6 and taken.max() > 0.4
    for k in keep[box, 0][:20]:
        rows, columns = (k == 0).any(1).sum(), (k == 0).any(0).sum()
        assert (k == 0).sum() == rows * columns
    mixed = Mixing(keep)(images)
    by_hand = [k * images[i] + (1 - k) * images[(i + 1) % 200] for i, k in enumerate(keep)]
    assert torch.allclose(mixed, torch.stack(by_hand))


def test_the_teacher_sees_the_weak_image_as_it_is():
    method, b = ExtremeConsistency(conv()), batch(16, 16)
    students, teachers = inputs(method.net), inputs(method.teacher)
    method.consistency(b)
    assert torch.equal(teachers[0], b.unlabelled.images)
    assert not torch.equal(students[0], b.unlabelled.images)
    assert method.weak == Augment.weak()


def test_extreme_counts_the_known_pixels_only():
    method, b = ExtremeConsistency(conv()), batch(16, 16)
    target, known = torch.rand(4, 3, 16, 16), torch.rand(4, 1, 16, 16) < 0.3
    method.harden = lambda images, answer: (images, target, known)
    square = (method.net(b.unlabelled.images).softmax(1) - target).square().mean(1)
    assert torch.allclose(method.consistency(b), square[known[:, 0]].mean(), rtol=1e-4)


def test_extreme_asks_nothing_of_a_pixelwise_network_when_boxes_are_exchanged(monkeypatch):
    keep = torch.ones(4, 1, 16, 16)
    keep[..., 4:9, 2:12] = 0
    monkeypatch.setattr(Mixing, "draw", lambda images: Mixing(keep))
    method = ExtremeConsistency(conv(kernel=1), rotation=0, scale=0, extreme=Augment.none())
    assert method.consistency(batch(16, 16)) < 1e-10


# Relations between samples


def test_relations_are_the_row_normalised_gram_matrix():
    features = torch.randn(5, 3, 4, 4)
    rows = [x.flatten().tolist() for x in features]
    gram = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    by_hand = [[g / math.sqrt(sum(h * h for h in row)) for g in row] for row in gram]
    assert torch.allclose(relations(features), torch.tensor(by_hand), atol=1e-5)
    assert torch.allclose(relations(7 * features), relations(features), atol=1e-5)


def test_relation_loss_is_the_papers_beside_the_answers():
    b, losses = batch(32, 32), []
    for weight in (0.0, 2.0):
        method = SRCMT(unet(), relation=weight, noise=0.0)
        disturb(method.net, 0.1)
        losses.append(method.consistency(b).item())
    x = b.unlabelled.images
    student, teacher = (relations(n.encode(x)[-1]) for n in (method.net, method.teacher))
    by_hand = 2.0 * sum((s - t).norm() ** 2 for s, t in zip(student, teacher, strict=True)) / 4
    assert losses[1] - losses[0] == pytest.approx(by_hand.item(), rel=1e-3)
    answers = (method.net(x).softmax(1) - method.teacher(x).softmax(1)).square().mean()
    assert losses[0] == pytest.approx(answers.item(), rel=1e-3)


# All of them


@pytest.mark.parametrize("kind", EMA)
def test_gradient_is_the_students_and_finite(kind):
    method = kind(unet())
    assert isinstance(method, MeanTeacher)
    disturb(method.net, 0.05)
    method.consistency(batch(32, 32)).backward()
    assert all(p.grad.isfinite().all() for p in method.net.parameters())
    assert sum(p.grad.abs().sum() for p in method.net.parameters()) > 0
    assert all(p.grad is None for p in method.teacher.parameters())


@pytest.mark.parametrize("kind", [PiModel, CuiMeanTeacher, TCSM, ExtremeConsistency])
def test_volumes(kind):
    sum(kind(conv(dims=3)).loss(batch(6, 8, 8)).values()).backward()


def test_volumes_on_a_memory():
    method = TemporalEnsembling(conv(dims=3), (4, 3, 6, 8, 8))
    assert method.consistency(batch(6, 8, 8)) == 0 < method.consistency(batch(6, 8, 8))


@pytest.mark.parametrize("kind", [MMTPSM, SRCMT])
def test_volumes_with_features(kind):
    assert kind(unet(dims=3)).consistency(batch(16, 16, 32, items=2)) > 0


@pytest.mark.parametrize("kind", [PiModel, *EMA])
def test_trains_on_a_task(kind, task, budget):
    fitted = fit(kind.for_task(task), task, budget, progress=False)
    assert set(fitted.history) == {"supervised", "consistency"}
    probs = fitted.predict(task.test.images)
    assert torch.allclose(probs.sum(1), torch.ones(()), atol=1e-4)


def test_bad_input_gets_a_sentence():
    for kind in (MMTPSM, SRCMT):
        with pytest.raises(ValueError, match="does not show its features: take a network with enc"):
            kind(conv())
    with pytest.raises(ValueError, match="share is a fraction"):
        MMTPSM(unet(), share=25)


@pytest.mark.parametrize("kind, sentence", [(SRCMT, "between images"), (ExtremeConsistency, "mix")])
def test_one_image_has_nothing_to_be_compared_or_mixed_with(kind, sentence):
    with pytest.raises(ValueError, match=f"{sentence}.*use a batch of at least two"):
        kind(unet()).consistency(batch(32, 32, items=1))


@pytest.mark.parametrize("kind", [PiModel, TemporalEnsembling, *EMA])
def test_images_of_any_size_and_a_sentence_without_unlabelled_ones(kind, budget):
    cohort = Cohort.from_arrays(
        torch.randn(8, 1, 35, 49), torch.arange(49).expand(8, 35, 49) // 17, torch.arange(8)
    )
    few = Task.split(cohort, labelled=2, valid=1, test=1)
    assert fit(kind.for_task(few), few, budget, progress=False).history["consistency"]
    everyone = Task.split(cohort, valid=1, test=1)
    with pytest.raises(ValueError, match="no unlabelled training image"):
        fit(kind.for_task(everyone), everyone, budget, progress=False)
