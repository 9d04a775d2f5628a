"""The pieces put together, and the comparison with the baseline."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.learn.checks.demand import demand, passed
from lsseg_edu.train import Batch, Part


def mean_teacher(make) -> None:
    """Step 4: ``make(net)`` gives a :class:`~lsseg_edu.train.Method` with a ``teacher``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = make(nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)))
        _teacher(method)
        _loss(method)
        _average(method)
        _predict(method)
    passed("Mean Teacher")


def fair(baseline, method) -> None:
    """Step 5: both ``Fitted`` came from the same weights, images and number of steps."""
    a, b = (fitted.history["supervised"] for fitted in (baseline, method))
    demand(
        len(a) == len(b),
        f"Both arms must train for as many steps: the baseline had {len(a)}, yours {len(b)}. "
        "Give both the same budget.",
    )
    demand(
        abs(a[0] - b[0]) < 1e-3,
        "Both arms must start alike, but their first supervised losses differ: build both networks "
        "with the same seed, and give fit the same task and seed.",
    )
    demand(
        len(method.history["consistency"]) == len(a) and max(method.history["consistency"]) > 0,
        "Your method must have used the unlabelled images: its consistency loss is 0 throughout.",
    )
    passed("fair comparison")


def _teacher(method):
    demand(method.unlabelled, "The method must ask for unlabelled images: unlabelled = True.")
    teacher = getattr(method, "teacher", None)
    demand(isinstance(teacher, nn.Module), "The method must have a network self.teacher.")
    shared = {id(p) for p in method.net.parameters()} & {id(p) for p in teacher.parameters()}
    demand(
        teacher is not method.net and not shared,
        "The teacher must be a copy of the student, not the student: use copy.deepcopy(net).",
    )
    demand(
        not any(p.requires_grad for p in teacher.parameters()),
        "The optimiser must not train the teacher: switch off its requires_grad.",
    )


def _loss(method):
    early, late = _terms(method, 0.0), _terms(method, 1.0)
    demand(
        set(late) == {"supervised", "consistency"},
        f"loss must return the terms 'supervised' and 'consistency', not {sorted(late)}.",
    )
    labelled = _batch(1.0).labelled
    expected = losses.dice_ce(method.net(labelled.images), labelled.labels)
    demand(
        torch.isclose(late["supervised"], expected, atol=1e-4),
        "The supervised term must be losses.dice_ce of the student on the labelled images.",
    )
    demand(
        late["consistency"] > 0,
        "The consistency term is 0 although student and teacher should see the image through "
        "different noise: draw noise anew for each of the two.",
    )
    demand(
        early["consistency"] < 0.05 * late["consistency"],
        "The consistency term must be ramped up: at the start of training it must be nearly 0. "
        "Multiply by ramp_up(batch.progress, ...).",
    )
    method.zero_grad()
    late["consistency"].backward()
    demand(
        any(p.grad is not None and p.grad.abs().max() > 0 for p in method.net.parameters()),
        "The consistency term must teach the student: no gradient reached it.",
    )


def _average(method):
    for p in method.net.parameters():
        p.data.add_(torch.randn_like(p))
    before, student = copy.deepcopy(method.teacher), copy.deepcopy(method.net)
    method.after_step(0.1)
    demand(
        torch.equal(_flat(method.net), _flat(student)),
        "after_step must not change the student: it is the teacher that moves.",
    )
    middle = (_flat(before) + _flat(student)) / 2
    demand(
        torch.allclose(_flat(method.teacher), middle, atol=1e-5),
        "After the first step the teacher must be half itself, half the student (step = 1): "
        "count the step, then call ema_update in after_step.",
    )
    for _ in range(2):
        method.after_step(0.2)
    kept = 1 / 2 * 2 / 3 * 3 / 4
    expected = kept * _flat(before) + (1 - kept) * _flat(student)
    demand(
        torch.allclose(_flat(method.teacher), expected, atol=1e-5),
        "The warm-up must go on: count every step, so that step is 2, 3, ... in later calls.",
    )


def _predict(method):
    images = _batch(1.0).labelled.images
    answer = method.predict(images)
    demand(
        torch.allclose(answer.sum(1), torch.ones(()), atol=1e-4),
        "predict must return probabilities, which add up to 1 over the classes: use softmax(1).",
    )
    demand(
        torch.allclose(answer, method.teacher(images).softmax(1), atol=1e-4),
        "predict must ask the teacher: the average is what Mean Teacher is judged by.",
    )


def _batch(progress) -> Batch:
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (4, 8, 8), generator=draw)
    index = torch.arange(4)
    parts = [
        Part(torch.randn(4, 1, 8, 8, generator=draw), y, index, index, {})
        for y in (labels, torch.full_like(labels, IGNORE))
    ]
    return Batch(*parts, progress)


def _terms(method, progress) -> dict:
    torch.manual_seed(2)
    return method.loss(_batch(progress))


def _flat(net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])
