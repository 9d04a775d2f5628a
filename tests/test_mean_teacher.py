"""Mean Teacher: the teacher follows the student by its law, and only it is trusted."""

import math

import pytest
import torch
from torch import nn

from lsseg_edu.semi.consistency import MeanTeacher, ema_update, sigmoid_rampup
from lsseg_edu.train import Batch, Budget, Part, fit


def net(norm=False):
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), middle, nn.Conv2d(4, 3, 1))


def batch(progress=1.0):
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, 16, 16), torch.randint(0, 3, (2, 16, 16))
    part = Part(images, labels, torch.arange(2), torch.arange(2), {})
    return Batch(part, Part(images + 1, labels, part.index, part.subject, {}), progress)


def move(method, value):
    with torch.no_grad():
        for p in method.net.parameters():
            p.fill_(value)


def test_decay_zero_makes_teacher_equal_student(task):
    method = fit(MeanTeacher(net(), decay=0.0), task, Budget("smoke", 1), progress=False).method
    pairs = zip(method.teacher.parameters(), method.net.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_teacher_follows_the_law():
    method, expected = MeanTeacher(net(), decay=0.9), None
    move(method, 0.0)
    method.teacher.load_state_dict(method.net.state_dict())
    expected = 0.0
    for t in range(1, 31):
        move(method, float(t))
        method.after_step(t / 30)
        alpha = min(1 - 1 / (t + 1), 0.9)
        expected = alpha * expected + (1 - alpha) * t
    assert all(torch.allclose(p, torch.tensor(expected)) for p in method.teacher.parameters())


def test_warm_up_is_the_plain_mean_of_the_students_so_far():
    method = MeanTeacher(net(), decay=0.999)
    move(method, 0.0)
    method.teacher.load_state_dict(method.net.state_dict())
    for t in range(1, 11):
        move(method, float(t))
        method.after_step(t / 10)
    assert all(torch.allclose(p, torch.tensor(5.0)) for p in method.teacher.parameters())


def test_buffers_are_copied():
    teacher, student = net(norm=True), net(norm=True)
    student(torch.randn(4, 1, 8, 8) * 3 + 2)
    ema_update(teacher, student, 0.99)
    assert torch.equal(teacher[1].running_mean, student[1].running_mean)
    assert int(teacher[1].num_batches_tracked) == 1


def test_gradient_reaches_the_student_and_not_the_teacher():
    method = MeanTeacher(net())
    move(method, 0.1)
    method.loss(batch())["consistency"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.net.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


def test_consistency_pulls_the_student_to_the_teacher():
    method = MeanTeacher(net(), noise=0.0)
    assert method.loss(batch())["consistency"] == 0
    with torch.no_grad():
        method.net[2].bias += torch.tensor([1.0, 0.0, -1.0])
    before = method.loss(batch())["consistency"]
    grad = torch.autograd.grad(before, list(method.net.parameters()))
    with torch.no_grad():
        for p, g in zip(method.net.parameters(), grad, strict=True):
            p -= 0.1 * g
    assert method.loss(batch())["consistency"] < before


def test_consistency_is_the_mean_squared_difference_of_probabilities():
    method = MeanTeacher(net(), weight=7.0, noise=0.0)
    move(method, 0.2)
    b = batch()
    p, q = (n(b.unlabelled.images).softmax(1).detach() for n in (method.net, method.teacher))
    by_hand = 7.0 * sum(float(d) ** 2 for d in (p - q).flatten()) / p.numel()
    assert method.loss(b)["consistency"].item() == pytest.approx(by_hand, rel=1e-4)


def test_student_and_teacher_get_noise_of_their_own():
    method = MeanTeacher(net(), noise=0.5)
    assert method.loss(batch())["consistency"] > 0  # equal weights: only the noise differs
    seen = []
    for n in (method.net, method.teacher):
        n.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    method.loss(batch())
    assert not torch.equal(seen[1], seen[2])
    assert float((seen[1] - seen[2]).std()) == pytest.approx(0.5 * math.sqrt(2), rel=0.2)


def test_prediction_is_the_teachers():
    method = MeanTeacher(net())
    move(method, 0.3)
    images = batch().labelled.images
    assert torch.allclose(method.predict(images), method.teacher(images).softmax(1))
    assert not torch.allclose(method.predict(images), method.net(images).softmax(1))


def test_rampup_follows_the_paper():
    assert sigmoid_rampup(0.0) == pytest.approx(math.exp(-5))
    assert sigmoid_rampup(0.2, length=0.4) == pytest.approx(math.exp(-5 * 0.25))
    assert sigmoid_rampup(0.4, length=0.4) == sigmoid_rampup(1.0) == 1.0
    assert sigmoid_rampup(0.0, length=0.0) == 1.0


def test_weight_is_ramped():
    method = MeanTeacher(net(), noise=0.0)
    move(method, 0.2)
    start, end = (method.loss(batch(p))["consistency"].item() for p in (0.0, 1.0))
    assert start == pytest.approx(math.exp(-5) * end, rel=1e-3)
