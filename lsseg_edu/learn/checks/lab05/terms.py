"""The terms of the loss: who is charged for what, and how much."""

from __future__ import annotations

import torch
from torch import nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.learn.checks.demand import demand, passed
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.train import Batch, Part


def terms(anatomy_terms) -> None:
    """Step 5: ``anatomy_terms(net, batch, penalty, weight)`` gives the named terms of the loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, batch = nn.Conv2d(1, 3, 1), _batch()
    seen = []

    def penalty(probs):
        seen.append(probs)
        return probs[:, 1].mean()

    answer = anatomy_terms(net, batch, penalty, 2.0)
    demand(
        isinstance(answer, dict) and set(answer) == {"supervised", "constraint"},
        "Return a dict with the terms 'supervised' and 'constraint'.",
    )
    _supervised(net, batch, answer)
    _constraint(net, batch, answer, seen)
    early = anatomy_terms(net, _at(batch, 0.0), penalty, 2.0)["constraint"]
    demand(
        early.item() < 0.1 * answer["constraint"].item(),
        "At the beginning the answers have no shape yet: multiply by "
        "sigmoid_rampup(batch.progress).",
    )
    _slope(net, answer)
    passed("terms of the loss")


def _supervised(net, batch, answer):
    expected = losses.dice_ce(net(batch.labelled.images), batch.labelled.labels)
    demand(
        torch.isclose(answer["supervised"], expected, rtol=1e-4),
        "'supervised' must be losses.dice_ce of the labelled images' *logits* and their labels: "
        f"expected {expected.item():.4f}, yours is {answer['supervised'].item():.4f}.",
    )


def _constraint(net, batch, answer, seen):
    demand(len(seen) > 0, "The penalty was not asked: call penalty(probs).")
    n = sum(len(probs) for probs in seen)
    both = len(batch.labelled.images) + len(batch.unlabelled.images)
    demand(
        all(((p.sum(1) - 1).abs() < 1e-4).all() for p in seen),
        "The penalty must be given probabilities: softmax over the class axis, dim=1.",
    )
    demand(
        n == both,
        f"The constraint needs no mask, so it holds on *all* {both} images of the batch, labelled "
        f"and unlabelled: concatenate them. Yours saw {n}.",
    )
    images = torch.cat([batch.labelled.images, batch.unlabelled.images])
    expected = 2.0 * sigmoid_rampup(batch.progress) * net(images).softmax(1)[:, 1].mean()
    demand(
        torch.isclose(answer["constraint"], expected, rtol=1e-3),
        "'constraint' must be weight * sigmoid_rampup(batch.progress) * penalty(probs): expected "
        f"{expected.item():.4f}, yours is {answer['constraint'].item():.4f}.",
    )


def _slope(net, answer):
    demand(
        answer["constraint"].requires_grad,
        "The constraint must teach: no no_grad() and no detach() around the network's answer.",
    )
    (slope,) = torch.autograd.grad(answer["constraint"], net.weight)
    demand(slope.abs().sum() > 0, "The constraint must reach the weights of the network.")


def _batch() -> Batch:
    images, labels = torch.randn(2, 1, 8, 8), torch.randint(0, 3, (2, 8, 8))
    index = torch.arange(2)
    labelled = Part(images, labels, index, index, {})
    others = Part(torch.randn(3, 1, 8, 8), torch.full((3, 8, 8), IGNORE), index, index, {})
    return Batch(labelled, others, 0.3)


def _at(batch: Batch, progress: float) -> Batch:
    return Batch(batch.labelled, batch.unlabelled, progress)
