"""Lab 2: right answers pass, and each typical wrong one is told which property it lacks."""

import math

import pytest
import torch

from lsseg_edu import networks
from lsseg_edu.learn.checks import CheckFailed, lab02
from lsseg_edu.semi.consistency import UAMT, MeanTeacher, masked_mse, sigmoid_rampup
from lsseg_edu.train import fit


@torch.no_grad()
def right_answers(teacher, images, passes, noise):
    teacher.train()
    copies = images.repeat(passes, 1, 1, 1)
    answers = teacher(copies + noise * torch.randn_like(copies)).softmax(1)
    return answers.unflatten(0, (passes, -1))


def right_uncertainty(answers):
    mean = answers.mean(0)
    return torch.special.entr(mean).sum(1, keepdim=True) / math.log(mean.shape[1])


def right_threshold(progress):
    return 0.75 + 0.25 * sigmoid_rampup(progress, 1.0)


def right_loss(student, teacher, sure):
    return masked_mse(student, teacher.detach(), sure)


class Right(MeanTeacher):
    def ask(self, images):
        return right_answers(self.teacher, images, 4, self.noise)

    def target(self, images):
        with torch.no_grad():
            return self.teacher.eval()(self.perturb(images)).softmax(1)

    def consistency(self, batch):
        images = batch.unlabelled.images
        student = self.net(self.perturb(images)).softmax(1)
        sure = right_uncertainty(self.ask(images)) < right_threshold(batch.progress)
        return masked_mse(student, self.target(images), sure)


def test_right_answers_pass(capsys):
    lab02.noisy_answers(right_answers)
    lab02.uncertainty(right_uncertainty)
    lab02.threshold(right_threshold)
    lab02.masked_consistency(right_loss)
    lab02.ua_mt(Right)
    lab02.ua_mt(UAMT)
    assert capsys.readouterr().out.count("all checks passed") == 6


def test_the_labs_method_is_the_librarys(task, budget):
    histories = []
    for kind in (Right, UAMT):
        net = networks.unet(task, dropout=0.1)
        histories.append(fit(kind(net), task, budget, progress=False).history)
    assert histories[0].keys() == histories[1].keys()
    assert histories[0]["supervised"][0] == histories[1]["supervised"][0]
    assert histories[0]["consistency"][-1] > 0 and histories[1]["consistency"][-1] > 0


def passes(one, noise=True):
    """``one(teacher, images)`` for each pass, stacked."""

    def ask(teacher, images, passes, noise):
        teacher.train()
        return torch.stack(
            [one(teacher, images + noise * torch.randn_like(images)) for _ in range(passes)]
        )

    return torch.no_grad()(ask)


def dropout_off(teacher, images, passes, noise):
    answers = right_answers(teacher, images, passes, noise)
    teacher.eval()
    noisy = [images + noise * torch.randn_like(images) for _ in range(passes)]
    return torch.stack([teacher(x).softmax(1) for x in noisy]).detach() + 0 * answers


@torch.no_grad()
def same_noise(teacher, images, passes, noise):
    teacher.train()
    images = images + noise * torch.randn_like(images)
    return torch.stack([teacher(images).softmax(1) for _ in range(passes)])


WRONG_ANSWERS = {
    "Dropout must be on": dropout_off,
    "noise of its own": same_noise,
    "the deviation": lambda t, x, n, s: right_answers(t, x, n, s**2),
    "along a new first axis": lambda t, x, n, s: right_answers(t, x, n, s).mean(0),
    "each of 5 passes": lambda t, x, n, s: right_answers(t, x, 1, s).expand(n, -1, -1, -1, -1),
    "add up to 1": passes(lambda teacher, images: teacher(images)),
    "No gradient": right_answers.__wrapped__,
}


@pytest.mark.parametrize("message", WRONG_ANSWERS)
def test_wrong_passes(message):
    with pytest.raises(CheckFailed, match=message):
        lab02.noisy_answers(WRONG_ANSWERS[message])


def logs(probs):
    return -(probs * probs.log()).sum(-3, keepdim=True) / math.log(probs.shape[-3])


WRONG_UNCERTAINTIES = {
    "not by ln 2": lambda a: torch.special.entr(a.mean(0)).sum(1, keepdim=True) / math.log(2),
    "not by nothing": lambda a: torch.special.entr(a.mean(0)).sum(1, keepdim=True),
    "not the mean of the entropies": lambda a: logs(a.clamp(min=1e-12)).mean(0),
    "nan": lambda a: logs(a.mean(0)),
    "one number a pixel": lambda a: right_uncertainty(a)[:, 0],
    "no uncertainty": lambda a: right_uncertainty(a.softmax(2)),
    "Torn between two": lambda a: right_uncertainty(a).square(),
}


@pytest.mark.parametrize("message", WRONG_UNCERTAINTIES)
def test_wrong_uncertainty(message):
    with pytest.raises(CheckFailed, match=message):
        lab02.uncertainty(WRONG_UNCERTAINTIES[message])


WRONG_THRESHOLDS = {
    "No logarithm is left": lambda t: right_threshold(t) * math.log(2),
    "never fall": lambda t: right_threshold(1 - t),
    "three quarters": lambda t: sigmoid_rampup(t, 1.0),
    "over the whole training": lambda t: 0.75 + 0.25 * sigmoid_rampup(t, 0.4),
    "with the ramp": lambda t: 0.75 + 0.25 * t,
    "finite": lambda t: right_threshold(t) if t else math.nan,
}


@pytest.mark.parametrize("message", WRONG_THRESHOLDS)
def test_wrong_threshold(message):
    with pytest.raises(CheckFailed, match=message):
        lab02.threshold(WRONG_THRESHOLDS[message])


def squares(p, q, sure):
    return (p - q.detach()).square() * sure


WRONG_LOSSES = {
    "the number of all pixels": lambda p, q, sure: squares(p, q, sure).mean(),
    "the divisor is K times": lambda p, q, sure: squares(p, q, sure).sum() / sure.sum(),
    "gradient flowed": lambda p, q, sure: masked_mse(p, q, sure),
    "must not count": lambda p, q, sure: (p - q.detach()).square().mean(),
    "no gradient reached": lambda p, q, sure: right_loss(p.detach(), q, sure) + 0 * p.sum(),
    "no pixel is sure": lambda p, q, sure: squares(p, q, sure).sum() / (p.shape[1] * sure.sum()),
    "scalar": lambda p, q, sure: squares(p, q, sure).sum((2, 3)),
}


@pytest.mark.parametrize("message", WRONG_LOSSES)
def test_wrong_loss(message):
    with pytest.raises(CheckFailed, match=message):
        lab02.masked_consistency(WRONG_LOSSES[message])


def noisy_target(self, images):
    with torch.no_grad():
        return self.teacher.train()(self.perturb(images)).softmax(1)


def learning_target(self, images):
    return self.teacher.eval()(self.perturb(images)).softmax(1)


def unasked(self, images):
    return torch.full((4, len(images), 3, *images.shape[2:]), 0.01)


WRONG_METHODS = {
    "off for the target": {"target": noisy_target},
    "on for the uncertainty": {"ask": unasked},
    "flow into the teacher": {"target": learning_target},
}


@pytest.mark.parametrize("message", WRONG_METHODS)
def test_wrong_method(message):
    with pytest.raises(CheckFailed, match=message):
        lab02.ua_mt(type("Wrong", (Right,), WRONG_METHODS[message]))
