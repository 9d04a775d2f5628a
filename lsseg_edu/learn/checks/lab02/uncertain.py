"""Is the teacher sure? Several passes, and the entropy of their mean."""

from __future__ import annotations

import math

import torch
from torch import nn

from lsseg_edu.learn.checks.demand import demand, passed


def noisy_answers(ask) -> None:
    """Step 1: ``ask(teacher, images, passes, noise)`` gives ``(T, B, K, H, W)``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher, images = Witness(), torch.zeros(2, 1, 8, 8)
        answers = ask(teacher.eval(), images, 5, 0.3)
    demand(
        isinstance(answers, torch.Tensor) and answers.shape == (5, 2, 3, 8, 8),
        "Five passes over two images of three classes must give a tensor (5, 2, 3, 8, 8): stack "
        f"the answers along a new first axis. Yours is {tuple(getattr(answers, 'shape', ()))}.",
    )
    demand(
        all(teacher.modes),
        "Dropout must be on while the teacher is asked: call teacher.train() first. With dropout "
        "off the passes differ by the grain alone.",
    )
    seen = torch.cat(teacher.seen)
    demand(
        len(seen) == 10,
        f"Both images must be asked about in each of 5 passes: the teacher saw {len(seen)}.",
    )
    distinct = {tuple(x.flatten().tolist()) for x in seen}
    demand(
        len(distinct) == 10,
        "Every pass must see noise of its own: the teacher saw the same picture more than once. "
        "Draw torch.randn_like(images) anew for each pass.",
    )
    demand(
        0.2 < seen.std() < 0.4 and seen.mean().abs() < 0.1,
        f"The noise must have the deviation `noise`, here 0.3: yours has {float(seen.std()):.2f}.",
    )
    demand(
        torch.allclose(answers.sum(2), torch.ones(()), atol=1e-4) and answers.min() >= 0,
        "The answers must be probabilities, which add up to 1 over the classes: softmax(1) of "
        "what the teacher says.",
    )
    demand(
        not answers.requires_grad,
        "No gradient may flow into the teacher: keep the decorator @torch.no_grad().",
    )
    passed("noisy answers")


def uncertainty(measure) -> None:
    """Step 2: ``measure(answers)`` of ``(T, B, K, H, W)`` gives ``(B, 1, H, W)`` in [0, 1]."""
    for classes in (2, 4):
        flat = torch.full((3, 2, classes, 4, 5), 1 / classes)
        value = measure(flat)
        demand(
            value.shape == (2, 1, 4, 5),
            "The uncertainty must be one number a pixel, (B, 1, H, W): sum over the classes with "
            f"keepdim=True. Yours is {tuple(value.shape)} for answers {tuple(flat.shape)}.",
        )
        demand(
            torch.allclose(value, torch.ones(()), atol=1e-4),
            f"Of {classes} equal probabilities the uncertainty must be 1, the largest there is; "
            f"yours is {float(value.mean()):.3g}. The largest entropy of K classes is ln K: divide "
            "by math.log(K), not by ln 2 and not by nothing.",
        )
    certain = torch.zeros(2, 1, 4, 3, 3)
    certain[:, :, 2] = 1
    demand(
        measure(certain).isfinite().all(),
        "A certain answer must have a finite uncertainty: 0 ln 0 is 0, but 0 * log(0) is nan. Use "
        "torch.special.entr, or clamp before the logarithm.",
    )
    demand(
        measure(certain).abs().max() < 1e-4,
        "A teacher that gives the same certain answer each time has no uncertainty: 0.",
    )
    _contradiction(measure)
    passed("uncertainty")


def _contradiction(measure):
    """Sure of class 0 in one pass, of class 1 in the next."""
    torn = torch.zeros(2, 1, 4, 3, 3)
    torn[0, :, 0] = torn[1, :, 1] = 1
    value = float(measure(torn).mean())
    demand(
        value > 1e-3,
        "A teacher that is sure of one thing in one pass and of another in the next is not sure: "
        "take the entropy of the mean answer, not the mean of the entropies.",
    )
    expected = math.log(2) / math.log(4)
    demand(
        abs(value - expected) < 1e-3,
        "Torn between two of four classes the uncertainty must be ln 2 / ln 4 = 0.5: average the "
        f"passes, then -sum p ln p over the classes, divided by ln K. Yours is {value:.3g}.",
    )


class Witness(nn.Module):
    """A teacher of three classes that notes what it sees, and whether its dropout was on."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(1, 3, 1))
        self.seen, self.modes = [], []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        self.modes.append(self.body[0].training)
        return self.body(images)
