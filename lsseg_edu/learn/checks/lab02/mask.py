"""What counts, how much it counts, and the method that is made of it."""

from __future__ import annotations

import math

import torch
from torch import nn

from lsseg_edu.learn.checks.demand import demand, passed
from lsseg_edu.learn.checks.lab02.uncertain import Witness
from lsseg_edu.train import Batch, Part


def threshold(rule) -> None:
    """Step 3: ``rule(progress)`` gives the largest uncertainty that counts, in [0, 1]."""
    path = [float(rule(t / 20)) for t in range(21)]
    demand(all(map(math.isfinite, path)), "The threshold must be finite for progress in [0, 1].")
    demand(
        all(now <= after + 1e-9 for now, after in zip(path, path[1:], strict=False)),
        "The threshold must never fall: strict at first, generous in the end.",
    )
    demand(
        abs(path[-1] - 1) < 1e-6,
        "In the end every pixel must count: the threshold must reach 1, the largest uncertainty. "
        f"Yours ends at {path[-1]:.3g}. No logarithm is left here: step 2 has divided by it.",
    )
    demand(
        0.75 <= path[0] < 0.76,
        "At the start the threshold must be about three quarters of the largest uncertainty: yours "
        f"is {path[0]:.3g}.",
    )
    expected = 0.75 + 0.25 * math.exp(-1.25)
    demand(
        abs(path[10] - expected) < 1e-6,
        "The threshold must rise with the ramp, over the whole training: half-way it is "
        f"3/4 + 1/4 exp(-5/4) = {expected:.3f}, yours {path[10]:.3f}.",
    )
    passed("threshold")


def masked_consistency(loss) -> None:
    """Step 4: ``loss(student, teacher, sure)`` of probabilities and a mask gives a scalar."""
    draw = torch.Generator().manual_seed(0)
    p, q = (torch.rand(2, 3, 4, 6, generator=draw).softmax(1).requires_grad_() for _ in "pq")
    everywhere = torch.ones(2, 1, 4, 6, dtype=torch.bool)
    half = everywhere.clone()
    half[..., 3:] = False
    value = loss(p, q, half)
    demand(
        isinstance(value, torch.Tensor) and value.ndim == 0,
        "The loss must be a scalar tensor: sum over everything, then divide.",
    )
    other = torch.where(half, p, 1 - p)
    demand(
        torch.isclose(loss(other, q, half), value, atol=1e-6),
        "A pixel that is not sure must not count: the loss changed although the answers changed "
        "only outside the mask.",
    )
    _divisor(loss, p, q, everywhere, half)
    _gradients(loss, p, q, half)
    passed("masked consistency")


def _divisor(loss, p, q, everywhere, half):
    gap = torch.full_like(p, 0.2)
    p, q = p.detach(), q.detach()
    full, masked = (float(loss(p, p + gap, sure)) for sure in (everywhere, half))
    demand(
        abs(full - masked) < 1e-5,
        "With the same difference at every pixel the loss must not depend on how many are sure, "
        f"but it is {full:.3g} with all pixels and {masked:.3g} with half of them: divide by the "
        "mask's own sum, not by the number of all pixels.",
    )
    demand(
        torch.isclose(loss(p, q, everywhere), (p - q).square().mean(), atol=1e-6),
        "With every pixel sure the loss must be the mean squared difference of lab 1, over pixels "
        "and classes: the divisor is K times the sure pixels, since the mask has one channel only.",
    )


def _gradients(loss, p, q, half):
    p.grad = q.grad = None
    loss(p, q, half).backward()
    demand(
        q.grad is None or q.grad.abs().max() == 0,
        "The teacher's answer must be a target: a gradient flowed into it. Detach it.",
    )
    demand(
        p.grad is not None and (p.grad * half).abs().max() > 0,
        "The student must learn at the sure pixels: no gradient reached it. Detach the other.",
    )
    p.grad = None
    none = loss(p, q, torch.zeros_like(half))
    demand(
        none.isfinite() and none == 0,
        f"If no pixel is sure the loss must be 0, not {none.item():.3g}: keep the divisor from "
        "being 0, e.g. with clamp(min=1).",
    )


def ua_mt(make) -> None:
    """The whole: ``make(net)`` is a Mean Teacher whose consistency uses the four pieces."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Dropout2d(0.5), nn.Conv2d(8, 3, 1))
        method = make(net).train()
        method.teacher = teacher = Witness()
        images = torch.randn(4, 1, 8, 8)
        index = torch.arange(4)
        value = method.consistency(Batch(None, Part(images, None, index, index, {}), 0.5))
        value.backward()
    demand(
        any(teacher.modes) and not all(teacher.modes),
        "Dropout must be on for the uncertainty and off for the target: call teacher.eval() after "
        "the noisy passes, before the last question.",
    )
    demand(
        value.isfinite() and any(p.grad.abs().max() > 0 for p in net.parameters()),
        "The consistency must be finite and teach the student.",
    )
    demand(
        all(p.grad is None for p in teacher.parameters()),
        "No gradient may flow into the teacher: keep it under torch.no_grad().",
    )
    passed("UA-MT")
