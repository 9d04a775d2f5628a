"""Self-training: who labels, who learns, what is left out, and what starts afresh."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.self_training import (
    PseudoLabelled,
    TeacherStudent,
    UncertaintyWeighted,
    bai,
    crf_self_training,
    growing_self_training,
    hard_labels,
    inf_net,
    mean_field,
    pseudo_label,
    pseudo_label_quality,
    sedai,
    self_training,
    teacher_student,
    teacher_student_training,
    uncertainty_self_training,
    with_pseudo,
)
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)


def net(dropout=0.0, dims=2):
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    layers = [conv(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(dropout), conv(4, 3, 1)]
    return nn.Sequential(*layers)


def batch(**extras):
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, 16, 16), torch.randint(0, 3, (2, 16, 16))
    nobody, index = torch.full_like(labels, IGNORE), torch.arange(2)
    others = Part(images + 1, nobody, index, index, extras)
    return Batch(Part(images, labels, index, index, {}), others, 0.5)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture
def spy(monkeypatch):
    """Call it with a module: the list of (first weights, task, seed, steps) of its trainings."""

    def watch(module):
        seen = []

        def fit(method, task, budget, seed, **kwargs):
            seen.append((weights(method.net).clone(), task, seed, budget.steps))
            return pseudo_label_fit(method, task, budget, seed, **kwargs)

        pseudo_label_fit = module.fit
        monkeypatch.setattr(module, "fit", fit)
        return seen

    return watch


# Pseudo-labels


def test_hard_labels_are_the_confident_ones():
    probs = torch.tensor([[0.95, 0.6, 0.05], [0.03, 0.3, 0.9], [0.02, 0.1, 0.05]]).T[
        None, ..., None
    ]
    probs = probs.permute(0, 2, 1, 3)  # one image of three pixels
    assert hard_labels(probs, 0.9).flatten().tolist() == [0, IGNORE, 1]
    assert hard_labels(probs).flatten().tolist() == [0, 0, 1]
    assert hard_labels(probs).dtype == torch.int64
    with pytest.raises(ValueError, match=r"choose one in \[0, 1\], not 90"):
        hard_labels(probs, 90)


def test_pseudo_labels_ride_with_their_images_and_leave_the_labels_alone(task):
    index = task.unlabelled[[3, 1]]
    pseudo = torch.stack([torch.full((32, 32), k) for k in (2, 1)])
    both = with_pseudo(task, index, pseudo)
    assert torch.equal(both.train.labels[both.labelled], task.train.labels[task.labelled])
    assert torch.equal(both.train.images[both.unlabelled], task.train.images[index])
    assert torch.equal(both.train.extras["pseudo"][both.unlabelled], pseudo)
    assert (both.train.extras["pseudo"][both.labelled] == IGNORE).all()
    assert "pseudo" not in task.train.extras
    assert both.test is task.test


def test_loss_is_the_weighted_sum_over_labels_and_pseudo_labels():
    pseudo = torch.randint(0, 3, (2, 16, 16))
    pseudo[:, :8] = IGNORE
    method, b = PseudoLabelled(net(), weight=0.3), batch(pseudo=pseudo)
    terms = method.loss(b)
    expected = losses.dice_ce(method.net(b.unlabelled.images), pseudo)
    assert terms["pseudo"].item() == pytest.approx(0.3 * expected.item())
    expected = losses.dice_ce(method.net(b.labelled.images), b.labelled.labels)
    assert terms["supervised"].item() == pytest.approx(expected.item())
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_pixels_without_a_pseudo_label_teach_nothing():
    method = PseudoLabelled(net())
    method.loss(batch(pseudo=torch.full((2, 16, 16), IGNORE)))["pseudo"].backward()
    assert all((p.grad == 0).all() for p in method.parameters())


def test_a_task_without_pseudo_labels():
    with pytest.raises(ValueError, match="with_pseudo"):
        PseudoLabelled(net()).loss(batch())


def test_every_round_learns_the_confident_labels_of_the_one_before(task, spy):
    seen = spy(pseudo_label)
    result = self_training(task, FEW, seed=3, rounds=2, threshold=0.4, **QUIET)
    assert len(result.rounds) == 3 and result.method is result.rounds[-1].method
    assert "pseudo" not in seen[0][1].train.extras
    images = task.train.images[task.unlabelled]
    for before, (_, used, *_) in zip(result.rounds, seen[1:], strict=False):
        expected = hard_labels(before.predict(images), 0.4)
        assert (expected == IGNORE).any() and (expected != IGNORE).any()
        assert torch.equal(used.train.extras["pseudo"][used.unlabelled], expected)
    assert result.seconds == sum(one.seconds for one in result.rounds)
    assert set(result.history) == {"supervised", "pseudo"}


def test_every_round_starts_afresh_and_the_last_as_the_baseline(task, spy):
    seen = spy(pseudo_label)
    self_training(task, FEW, seed=3, rounds=2, **QUIET)
    starts = [start for start, *_ in seen]
    assert not any(torch.equal(a, b) for a, b in [starts[:2], starts[1:], starts[::2]])
    assert torch.equal(starts[-1], weights(networks.unet(task, seed=3)))
    assert len({seed for *_, seed, _ in seen}) == 3 and seen[-1][2] == 3


def test_without_weight_it_is_the_baseline_to_the_last_bit(task):
    baseline = fit(Supervised.for_task(task, 3), task, FEW, seed=3, **QUIET)
    result = self_training(task, FEW, seed=3, rounds=1, weight=0.0, **QUIET)
    assert torch.equal(weights(result.method.net), weights(baseline.method.net))
    changed = self_training(task, FEW, seed=3, rounds=1, threshold=0.0, **QUIET)
    assert not torch.equal(weights(changed.method.net), weights(baseline.method.net))


@pytest.mark.parametrize("procedure", [self_training, crf_self_training])
def test_no_round(task, procedure):
    with pytest.raises(ValueError, match="at least 1 round, not 0"):
        procedure(task, FEW, rounds=0)


@pytest.mark.parametrize(
    "procedure",
    [
        self_training,
        crf_self_training,
        growing_self_training,
        teacher_student_training,
        uncertainty_self_training,
    ],
)
def test_nothing_to_label_is_said_before_anything_is_trained(cohort, procedure, monkeypatch):
    everyone = Task.split(cohort, valid=2, test=2)
    for module in (pseudo_label, bai, inf_net, teacher_student, sedai):
        monkeypatch.setattr(module, "fit", None)
    with pytest.raises(ValueError, match="needs unlabelled|0 unlabelled images"):
        procedure(everyone, FEW)


def test_quality_by_hand():
    truth = torch.tensor([[[0, 0, 0, 1, 1, 2, 2, 2]]])
    pseudo = torch.tensor([[[0, 0, 1, 1, IGNORE, 2, 0, IGNORE]]])
    quality = pseudo_label_quality(pseudo, truth)
    assert quality.precision.tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    assert quality.foreground == pytest.approx(2 / 3)
    assert quality.coverage == pytest.approx(6 / 8)
    assert quality.coverage_foreground == pytest.approx(3 / 5)


def test_quality_of_labels_that_nobody_got():
    truth = torch.tensor([[[0, 1]]])
    quality = pseudo_label_quality(torch.full_like(truth, IGNORE), truth)
    assert quality.precision.isnan().all() and math.isnan(quality.foreground)
    assert quality.coverage == 0


# Teacher and student


def test_student_learns_the_divergence_from_the_teachers_answer():
    method = TeacherStudent(net(), Supervised(net()), weight=5.0)
    method.repaint = lambda images: images
    assert method.loss(batch())["teacher"].item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        method.net[3].bias += torch.tensor([1.0, 0.0, -1.0])
    images = batch().unlabelled.images
    p, q = method.net(images).softmax(1), method.teacher.net(images).softmax(1)
    by_hand = 5.0 * (q * (q / p).log()).sum(1).mean().item()
    assert method.loss(batch())["teacher"].item() == pytest.approx(by_hand, rel=1e-4)


def test_teacher_is_a_frozen_copy(task):
    teacher = Supervised(net())
    before = weights(teacher)
    method = TeacherStudent(net(), teacher)
    method.loss(batch())["teacher"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    fit(method, task, FEW, **QUIET)
    assert torch.equal(weights(method.teacher), before)
    assert method.teacher is not teacher
    with torch.no_grad():
        teacher.net[0].weight.zero_()
    assert torch.equal(weights(method.teacher), before)


def test_teacher_answers_without_dropout_and_student_sees_a_repainted_image():
    method = TeacherStudent(net(), Supervised(net(dropout=0.5))).train()
    images, seen = batch().unlabelled.images, []
    assert torch.equal(method.target(images), method.target(images))
    for network in (method.net, method.teacher.net):
        network.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    method.imitation(images)
    assert torch.equal(seen[1], images) and not torch.equal(seen[0], images)


def test_teacher_and_student_are_two_networks(task):
    result = teacher_student_training(task, FEW, seed=3, **QUIET)
    teacher, student = (one.method for one in result.rounds)
    assert torch.equal(weights(student.teacher.net), weights(teacher.net))
    assert not torch.equal(weights(student.net), weights(teacher.net))
    baseline = fit(Supervised.for_task(task, 3), task, FEW, seed=3, **QUIET)
    control = teacher_student_training(task, FEW, seed=3, weight=0.0, **QUIET)
    assert torch.equal(weights(control.method.net), weights(baseline.method.net))


# Labels mended by a CRF


def test_labels_are_mended_before_they_are_learnt(task, spy):
    seen = spy(bai)
    result = crf_self_training(task, FEW, rounds=2, crf={"radius": 2, "steps": 2}, **QUIET)
    images = task.train.images[task.unlabelled]
    for before, (_, used, *_) in zip(result.rounds, seen[1:], strict=False):
        probs = before.predict(images)
        mended = mean_field(probs, images, radius=2, steps=2).argmax(1)
        assert torch.equal(used.train.extras["pseudo"][used.unlabelled], mended)
        assert not torch.equal(mended, probs.argmax(1))


def test_bai_goes_on_from_the_weights_there_are(task, spy):
    seen = spy(bai)
    result = crf_self_training(task, FEW, rounds=2, crf={"steps": 0, "radius": 1}, **QUIET)
    for before, (start, *_) in zip(result.rounds, seen[1:], strict=False):
        assert torch.equal(start, weights(before.method.net))
    assert not torch.equal(weights(result.method.net), seen[-1][0])
    assert len({seed for *_, seed, _ in seen}) == 3


# A growing set


def test_the_set_grows_by_one_group_and_keeps_what_it_has(task, spy):
    seen = spy(inf_net)
    result = growing_self_training(task, Budget("smoke", 6, batch=4), groups=3, **QUIET)
    sizes = [len(used.unlabelled) for _, used, *_ in seen[1:]]
    assert sizes == sorted(set(sizes)) and sizes[-1] == len(task.unlabelled)
    assert sizes[0] == math.ceil(len(task.unlabelled) / 3)
    before, kept = 0, None
    for fitted, (_, used, *_), size in zip(result.rounds, seen[1:], sizes, strict=False):
        pseudo, images = used.train.extras["pseudo"][used.unlabelled], used.train.images
        new = images[used.unlabelled][before:]
        assert torch.equal(pseudo[before:], fitted.predict(new).argmax(1))
        if before:
            assert torch.equal(pseudo[:before], kept)
        before, kept = size, pseudo
    everything = used.train.images[used.unlabelled].flatten(1)
    originals = task.train.images[task.unlabelled].flatten(1)
    assert (torch.cdist(everything, originals) < 1e-3).sum(1).eq(1).all()


def test_groups_share_a_budget_and_go_on_from_the_weights_there_are(task, spy):
    seen = spy(inf_net)
    result = growing_self_training(task, Budget("smoke", 6, batch=4), groups=3, **QUIET)
    assert [steps for *_, steps in seen] == [6, 2, 2, 2]
    for before, (start, *_) in zip(result.rounds, seen[1:], strict=False):
        assert torch.equal(start, weights(before.method.net))


def test_groups_are_drawn_at_random(task, spy):
    first = []
    for seed in (0, 1):
        seen = spy(inf_net)
        growing_self_training(task, FEW, seed=seed, groups=2, **QUIET)
        first.append(seen[1][1].train.images[seen[1][1].unlabelled])
    assert not torch.equal(*first)


def test_groups_that_cannot_be_made(task):
    for groups in (0, len(task.unlabelled) + 1):
        with pytest.raises(ValueError, match="cannot be made: ask for 1 to"):
            growing_self_training(task, FEW, groups=groups)


# Weighted by uncertainty


class Moody(Supervised):
    """A teacher that says in turn what it was told to, whatever it is asked."""

    def __init__(self, answers):
        super().__init__(net(dropout=0.5))
        self.register_buffer("answers", answers)

    def predict(self, images):
        return self.answers[: len(images)]


def test_soft_label_is_the_mean_and_doubt_its_entropy():
    first, second = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    answers = torch.stack([first, first, second, first])  # 2 passes of 2 images
    teacher = Moody(answers[:, :, None, None].expand(4, 3, 16, 16).clone())
    method = UncertaintyWeighted(net(), teacher, passes=2)
    mean, doubt = method.doubt(batch().unlabelled.images)
    assert torch.allclose(mean[0, :, 0, 0], torch.tensor([0.5, 0.5, 0]))
    assert torch.allclose(doubt[0], torch.full((16, 16), math.log(2)))
    assert torch.equal(mean[1, :, 0, 0], first) and torch.equal(doubt[1], torch.zeros(16, 16))


def test_loss_is_weighted_by_confidence_and_divided_by_its_sum():
    torch.manual_seed(2)
    teacher = Moody(torch.randn(8, 3, 16, 16).mul(3).softmax(1))
    method = UncertaintyWeighted(net(), teacher, passes=4, weight=5.0)
    method.repaint = lambda images: images
    target = teacher.answers.unflatten(0, (4, 2)).mean(0)
    c = (target * target.log()).sum(1).exp()
    assert c.min() >= 1 / 3 - 1e-4 and c.max() <= 1 and c.std() > 0.05
    images = batch().unlabelled.images
    kl = (target * (target.log() - method.net(images).log_softmax(1))).sum(1)
    assert method.loss(batch())["teacher"].item() == pytest.approx(
        5.0 * ((c * kl).sum() / c.sum()).item(), rel=1e-4
    )


def test_passes_have_dropout_on_and_nothing_else_in_training_mode():
    network = nn.Sequential(nn.BatchNorm2d(1), *net(dropout=0.5))
    method = UncertaintyWeighted(net(), Supervised(network), passes=8).train()
    images, seen = batch().unlabelled.images, []
    method.teacher.net.register_forward_hook(lambda _, __, answer: seen.append(answer))
    method.doubt(images)
    (answers,) = seen
    assert (answers.unflatten(0, (8, 2)).std(0) > 0).float().mean() > 0.9
    assert int(method.teacher.net[0].num_batches_tracked) == 0


def test_no_gradient_reaches_the_bayesian_teacher():
    method = UncertaintyWeighted(net(), Supervised(net(dropout=0.2)))
    method.loss(batch())["teacher"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(torch.isfinite(p.grad).all() for p in method.net.parameters())
    assert any(p.grad.abs().sum() > 0 for p in method.net.parameters())


def test_a_teacher_without_dropout():
    for dropout in (0.0, None):
        teacher = net(0.0) if dropout == 0.0 else nn.Conv2d(1, 3, 1)
        with pytest.raises(ValueError, match=r"dropout=0\.1"):
            UncertaintyWeighted(net(), Supervised(teacher))


def test_uncertainty_self_training_teaches_the_baselines_network(task):
    result = uncertainty_self_training(task, FEW, seed=3, passes=2, **QUIET)
    teacher, student = (one.method for one in result.rounds)
    assert any(isinstance(m, nn.Dropout) and m.p == 0.1 for m in teacher.modules())
    assert student.passes == 2
    assert torch.equal(weights(student.teacher.net), weights(teacher.net))
    baseline = fit(Supervised.for_task(task, 3), task, FEW, seed=3, **QUIET)
    control = uncertainty_self_training(task, FEW, seed=3, passes=1, weight=0.0, **QUIET)
    assert torch.equal(weights(control.method.net), weights(baseline.method.net))


# Volumes


def test_volumes(volumes):
    task = Task.split(volumes, labelled=2, valid=1, test=1)
    images = task.train.images[task.unlabelled]
    pseudo = hard_labels(F.one_hot(images[:, 0].gt(0).long(), 3).movedim(-1, 1).float())
    both = with_pseudo(task, task.unlabelled, pseudo)
    small = replace(FEW, batch=1)
    methods = [
        PseudoLabelled(net(dims=3)),
        TeacherStudent(net(dims=3), Supervised(net(dims=3))),
        UncertaintyWeighted(net(dims=3), Supervised(net(dropout=0.1, dims=3)), passes=2),
    ]
    for method in methods:
        history = fit(method, both, small, **QUIET).history
        assert all(math.isfinite(v) and v > 0 for term in history.values() for v in term)
