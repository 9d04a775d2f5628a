"""Quizzes answer; checks pass right answers and name what wrong ones lack."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lsseg_edu import losses
from lsseg_edu.learn import quiz
from lsseg_edu.learn.checks import CheckFailed, lab01
from lsseg_edu.semi.consistency import MeanTeacher, ema_update, sigmoid_rampup
from lsseg_edu.train import Method


def right_loss(student, teacher):
    return (student.softmax(1) - teacher.softmax(1).detach()).square().mean()


def right_ramp(progress, length, largest):
    return largest * sigmoid_rampup(progress, length)


def right_ema(teacher, student, step, decay):
    ema_update(teacher, student, min(1 - 1 / (step + 1), decay))


class Right(Method):
    """The lab's answer, each part of which a wrong answer replaces."""

    unlabelled = True

    def __init__(self, net):
        super().__init__(net)
        self.teacher, self.steps = copy.deepcopy(net).requires_grad_(False), 0

    def noisy(self, images):
        return images + 0.1 * torch.randn_like(images)

    def supervised(self, part):
        return losses.dice_ce(self.net(part.images), part.labels)

    def weight(self, progress):
        return right_ramp(progress, 0.4, 5.0)

    def agree(self, images):
        return right_loss(self.net(self.noisy(images)), self.teacher(self.noisy(images)))

    def loss(self, batch):
        consistency = self.weight(batch.progress) * self.agree(batch.unlabelled.images)
        return {"supervised": self.supervised(batch.labelled), "consistency": consistency}

    def after_step(self, progress):
        self.steps += 1
        right_ema(self.teacher, self.net, self.steps, 0.99)

    def predict(self, images):
        return self.teacher(images).softmax(1)


def wrong(**parts):
    return type("Wrong", (Right,), parts)


def same_noise(self, images):
    images = self.noisy(images)
    return right_loss(self.net(images), self.teacher(images))


def shared(self, net):
    Right.__init__(self, net)
    self.teacher = self.net


def trained_teacher(self, net):
    Right.__init__(self, net)
    self.teacher.requires_grad_(True)


def never_counts(self, progress):
    right_ema(self.teacher, self.net, 1, 0.99)


def test_right_answers_pass(capsys):
    lab01.consistency(right_loss)
    lab01.ramp_up(right_ramp)
    lab01.ema(right_ema)
    lab01.mean_teacher(Right)
    lab01.mean_teacher(MeanTeacher)
    assert capsys.readouterr().out.count("all checks passed") == 5


WRONG_LOSSES = {
    "gradient flowed": lambda s, t: (s.softmax(1) - t.softmax(1)).square().mean(),
    "no gradient reached": lambda s, t: right_loss(s.detach(), t) + 0 * s.sum(),
    "Cross-entropy": lambda s, t: F.cross_entropy(s, t.softmax(1).detach()),
    "not the sum": lambda s, t: right_loss(s, t) * s.numel(),
    "over the class axis": lambda s, t: (s - t.detach()).square().mean(),
    "softmax over the class": lambda s, t: (s.softmax(-1) - t.softmax(-1).detach()).square().mean(),
    "exactly 1": lambda s, t: right_loss(s, t) / 2,
    "scalar": lambda s, t: (s.softmax(1) - t.softmax(1).detach()).square().mean((1, 2, 3)),
}


@pytest.mark.parametrize("message", WRONG_LOSSES)
def test_wrong_consistency_loss(message):
    with pytest.raises(CheckFailed, match=message):
        lab01.consistency(WRONG_LOSSES[message])


WRONG_RAMPS = {
    "nearly 0 at the start": lambda t, length, w: w * math.exp(-5 * min(t / length, 1) ** 2),
    "never fall": lambda t, length, w: w * math.exp(-5 * (1 - t / length) ** 2),
    "reach its largest": lambda t, length, w: w * math.exp(-5 * (1 - t) ** 2),
    "must follow": lambda t, length, w: w * min(t / length, 1),
    "finite": lambda t, length, w: w * t / t if t else math.nan,
}


@pytest.mark.parametrize("message", WRONG_RAMPS)
def test_wrong_ramp(message):
    with pytest.raises(CheckFailed, match=message):
        lab01.ramp_up(WRONG_RAMPS[message])


def rebinds(teacher, student, step, decay):
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine = decay * mine + (1 - decay) * theirs


@torch.no_grad()
def forgets_buffers(teacher, student, step, decay):
    buffers = copy.deepcopy(list(teacher.buffers()))
    right_ema(teacher, student, step, decay)
    for mine, old in zip(teacher.buffers(), buffers, strict=True):
        mine.copy_(old)


WRONG_EMAS = {
    "student must not change": lambda t, s, n, d: right_ema(s, t, n, d),
    "Warm-up": lambda t, s, n, d: ema_update(t, s, d),
    "which of the two": lambda t, s, n, d: ema_update(t, s, 1 - min(1 - 1 / (n + 1), d)),
    "not max": lambda t, s, n, d: ema_update(t, s, max(1 - 1 / (n + 1), d)),
    "in place": rebinds,
    "Buffers": forgets_buffers,
}


@pytest.mark.parametrize("message", WRONG_EMAS)
def test_wrong_ema(message):
    with pytest.raises(CheckFailed, match=message):
        lab01.ema(WRONG_EMAS[message])


WRONG_METHODS = {
    "ask for unlabelled": wrong(unlabelled=False),
    "a copy of the student": wrong(__init__=shared),
    "must not train the teacher": wrong(__init__=trained_teacher),
    "dice_ce of the student": wrong(
        supervised=lambda self, p: losses.dice(self.net(p.images), p.labels)
    ),
    "draw noise anew": wrong(agree=same_noise),
    "ramped up": wrong(weight=lambda self, progress: 5.0),
    "half itself": wrong(after_step=lambda self, progress: None),
    "student: it is the teacher": wrong(
        after_step=lambda self, progress: right_ema(self.net, self.teacher, 1, 0.99)
    ),
    "count every step": wrong(after_step=never_counts),
    "add up to 1": wrong(predict=lambda self, images: self.teacher(images)),
    "ask the teacher": wrong(predict=lambda self, images: self.net(images).softmax(1)),
    "teach the student": wrong(
        agree=lambda self, x: (
            right_loss(self.teacher(self.noisy(x)), self.net(self.noisy(x))) + 0 * self.net(x).sum()
        )
    ),
}


@pytest.mark.parametrize("message", WRONG_METHODS)
def test_wrong_method(message):
    with pytest.raises(CheckFailed, match=message):
        lab01.mean_teacher(WRONG_METHODS[message])


def fitted(*supervised, consistency=0.1):
    terms = {"supervised": supervised, "consistency": [consistency] * len(supervised)}
    return SimpleNamespace(history=terms)


def test_fair_comparison():
    lab01.fair(fitted(2.0, 1.0), fitted(2.0, 0.9))
    for unfair, message in (
        (fitted(2.0, 1.5, 1.0), "as many steps"),
        (fitted(2.1, 1.0), "start alike"),
        (fitted(2.0, 1.0, consistency=0.0), "used the unlabelled"),
    ):
        with pytest.raises(CheckFailed, match=message):
            lab01.fair(fitted(2.0, 1.0), unfair)


def test_quiz_is_html_that_explains_every_answer():
    answers = {"`a < b`": "Because.", "c": "Not so."}
    html = quiz("Which?", answers, correct="`a < b`")._repr_html_()
    assert html == quiz("Which?", answers, correct="`a < b`")._repr_html_()
    assert html.count("<details") == 2 and "a &lt; b</code>" in html and "<script" not in html
    right, other = html.split("<details")[1:]
    assert "Right." in right and "Because." in right
    assert "Not quite." in other and "Not so." in other


@pytest.mark.parametrize(
    "answers, correct, message",
    [
        ({"a": "x"}, "a", "at least two"),
        ({"a": "x", "b": "y"}, "c", "must name some"),
        ({"a": "x", "b": "y"}, ["a", "b"], "not all"),
        ({"a": "x", "b": " "}, "a", "Explain the answer 'b'"),
    ],
)
def test_quiz_refuses(answers, correct, message):
    with pytest.raises(ValueError, match=message):
        quiz("Which?", answers, correct)
