"""The three pieces of Mean Teacher: a loss, a ramp, an average."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from lsseg_edu.learn.checks.demand import demand, passed


def consistency(loss) -> None:
    """Step 1: ``loss(student_logits, teacher_logits)`` of ``(B, K, H, W)`` gives a scalar."""
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 4, 5, generator=draw, requires_grad=True) for _ in "ab")
    value = loss(a, b)
    demand(
        isinstance(value, torch.Tensor) and value.ndim == 0,
        "The loss must be a scalar tensor: average over everything.",
    )
    demand(
        loss(a, a.detach().clone()).abs() < 1e-6,
        "The loss must be 0 where student and teacher agree. Cross-entropy is not: it also pays "
        "for uncertainty. Take squared differences.",
    )
    shift = torch.randn(2, 1, 4, 5, generator=draw)
    demand(
        torch.isclose(loss(a + shift, b), value, atol=1e-5),
        "The loss must compare probabilities, and a number added to all logits of a pixel does "
        "not change those. Take the softmax over the class axis (dim=1) first.",
    )
    demand(
        torch.isclose(loss(a.repeat(2, 1, 1, 1), b.repeat(2, 1, 1, 1)), value, atol=1e-5),
        "The loss must not grow with the batch: take the mean over pixels, not the sum.",
    )
    sure = torch.tensor([30.0, -30.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    demand(
        torch.isclose(loss(sure, -sure), torch.tensor(1.0), atol=1e-4),
        "Two sure and opposite answers (1, 0) and (0, 1) must cost exactly 1: the mean over "
        f"pixels and classes of the squared difference. Yours says {float(loss(sure, -sure)):.3g}.",
    )
    value.backward()
    demand(
        b.grad is None or b.grad.abs().max() == 0,
        "The teacher's answer must be a target: a gradient flowed into it. Detach it.",
    )
    demand(
        a.grad is not None and a.grad.abs().max() > 0,
        "The student must learn: no gradient reached its logits. Detach the teacher only.",
    )
    passed("consistency loss")


def ramp_up(ramp) -> None:
    """Step 2: ``ramp(progress, length, largest)`` gives the weight of the consistency term."""
    path = [float(ramp(t / 20, 0.4, 2.0)) for t in range(21)]
    demand(all(map(math.isfinite, path)), "The weight must be finite for all progress in [0, 1].")
    demand(
        path[0] < 0.02 * 2,
        "The weight must be nearly 0 at the start, when the teacher knows nothing: "
        f"yours is {path[0]:.3g} of at most 2.",
    )
    demand(
        all(now <= after + 1e-9 for now, after in zip(path, path[1:], strict=False)),
        "The weight must never fall. Past progress = length it stays: t = min(progress/length, 1).",
    )
    demand(
        abs(path[8] - 2) < 1e-6,
        f"The weight must reach its largest, 2, at progress = length: yours is {path[8]:.3g}.",
    )
    demand(
        abs(path[4] - 2 * math.exp(-1.25)) < 1e-6,
        "The weight must follow largest * exp(-5 (1 - t)^2), t = progress / length: "
        f"at half the ramp that is {2 * math.exp(-1.25):.3f}, yours is {path[4]:.3f}.",
    )
    passed("ramp-up")


def ema(update) -> None:
    """Step 3: ``update(teacher, student, step, decay)`` moves the teacher, in place."""
    teacher, student = _pair()
    before = copy.deepcopy(teacher), copy.deepcopy(student)
    own = [id(p) for p in teacher.parameters()]
    update(teacher, student, 1000, 0.9)
    demand(
        _same(student, before[1]),
        "The student must not change: it is the teacher that moves. Are the two swapped?",
    )
    demand(
        not _same(teacher, before[0]) and own == [id(p) for p in teacher.parameters()],
        "The teacher's own parameters must change in place (mul_, add_, lerp_ or copy_ under "
        "torch.no_grad()); a new tensor bound to a name changes nothing.",
    )
    late = _weight(teacher), 0.9 * _weight(before[0]) + 0.1 * _weight(before[1])
    demand(
        torch.allclose(*late, atol=1e-5),
        "Late in training the teacher must keep `decay` of itself and take 1 - `decay` of the "
        "student. Look at which of the two gets which, and at min, not max.",
    )
    for step, alpha in ((1, 1 / 2), (2, 2 / 3)):
        teacher, student = _pair()
        expected = alpha * _weight(teacher) + (1 - alpha) * _weight(student)
        update(teacher, student, step, 0.9)
        demand(
            torch.allclose(_weight(teacher), expected.detach(), atol=1e-5),
            f"Warm-up: at step {step} alpha must be 1 - 1/(step + 1) = {alpha:.3g}, not `decay`; "
            "else the teacher drags its random start along.",
        )
    demand(
        all(torch.equal(a, b) for a, b in zip(teacher.buffers(), student.buffers(), strict=True)),
        "Buffers (batch-norm statistics) must be copied from the student: they are averages "
        "already, and the parameters alone do not make the network.",
    )
    demand(
        not any(p.requires_grad or p.grad_fn for p in teacher.parameters()),
        "The teacher must stay outside the graph: update it under torch.no_grad().",
    )
    passed("EMA update")


def _pair():
    """A teacher and a student that differ in parameters and in batch-norm buffers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3)) for _ in range(2)]
        nets[1](torch.randn(4, 1, 4, 4))
    return nets[0].requires_grad_(False), nets[1]


def _weight(net):
    return net.get_parameter("0.weight").detach().clone()


def _same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
