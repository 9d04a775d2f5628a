"""Checks of lab 6, *Scribbles to segmentations*. Each takes a student's answer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from lsseg_edu.data import IGNORE
from lsseg_edu.learn.checks.demand import demand, passed
from lsseg_edu.partial.regions import partial_cross_entropy
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.train import Batch, Part


def partial(loss) -> None:
    """Step 1: ``loss(logits, labels)``, cross-entropy of the scribbled pixels."""
    logits, labels = _normal(2, 3, 4, 4), torch.full((2, 4, 4), IGNORE)
    labels[0, 1], labels[1, 2, :2] = 1, 2
    answer = _number(loss(logits, labels))
    logp = logits.log_softmax(1)
    known = [logp[0, 1, 1, c] for c in range(4)] + [logp[1, 2, 2, c] for c in range(2)]
    expected, share = -torch.stack(known).mean().item(), len(known) / labels.numel()
    demand(
        not _near(answer, expected * share),
        "Divide by the number of *scribbled* pixels, not of all: else the scale of the loss "
        "depends on the pen.",
    )
    demand(not _near(answer, expected * len(known)), "Take the mean, not the sum.")
    elsewhere = logits.clone()
    elsewhere[1, :, 3] += _normal(3, 4, seed=1)
    demand(
        _near(_number(loss(elsewhere, labels)), answer),
        "A pixel without a scribble must not count: its label is IGNORE, which is neither "
        "background nor a class.",
    )
    demand(
        _near(answer, expected),
        f"Expected the mean of -log p of the scribbled classes, {expected:.4f}; yours is "
        f"{answer:.4f}. Are these log-probabilities, and over the class axis?",
    )
    passed("partial cross-entropy")


def affinity(kernel) -> None:
    """Step 2: ``kernel(images, near, alike)``, images ``(B, 1, H, W)`` to ``(B, P, P)``."""
    images = torch.tensor([[[[0.0, 0.3, 2.0], [0.1, -0.4, 1.0]]], [[[1.0] * 3, [1.0] * 3]]])
    w = kernel(images, 1.5, 0.5)
    demand(
        isinstance(w, torch.Tensor) and w.shape == (2, 6, 6),
        "Return one number for each *pair* of pixels, (B, P, P) with P = H * W.",
    )
    demand(
        (w.diagonal(dim1=1, dim2=2) == 0).all(),
        "A pixel makes no pair with itself: put zeros on the diagonal.",
    )
    demand(torch.allclose(w, w.mT, atol=1e-6), "Kinship is mutual: W must be symmetric.")
    same = w[1]
    demand(
        same[0, 1] > same[0, 2],
        "Of two pixels of the same brightness the nearer one must be closer kin.",
    )
    demand(
        w[0, 0, 1] > w[0, 1, 2],
        "Of two pixels at the same distance the more similar one must be closer kin.",
    )
    far, other = 1.0, 0.3**2
    expected = torch.tensor(-far / (2 * 1.5**2) - other / (2 * 0.5**2)).exp().item()
    demand(
        _near(w[0, 0, 1].item(), expected) and _near(same[0, 4].item(), _place(2.0)),
        "Each exponent is -distance² / (2 width²), place in pixels with width near, intensity "
        f"with width alike, and the two are added: expected {expected:.4f} for the first pair, "
        f"yours is {w[0, 0, 1].item():.4f}.",
    )
    passed("affinity")


def energy(cut) -> None:
    """Step 3: ``cut(probs, w)``, probabilities ``(B, K, P)`` to the share of affinity cut."""
    w = torch.tensor([[0, 3.0, 1], [3, 0, 2], [1, 2, 0]]).expand(2, 3, 3)
    split, whole = torch.tensor([[1.0, 1, 0], [0, 0, 1]]), torch.tensor([[1.0] * 3, [0.0] * 3])
    demand(
        _near(_number(cut(whole[None], w[:1])), 0),
        "One class everywhere cuts nothing, and must cost 0.",
    )
    answer = _number(cut(split[None], w[:1]))
    demand(
        not _near(answer, 6.0),
        "Divide by the sum of all affinities: a *share* of them is cut, whatever the image.",
    )
    demand(
        not _near(answer, 0.25),
        "Sum over *all* classes k: a cut pair is seen from both its sides.",
    )
    demand(_near(answer, 0.5), f"Expected the share that is cut, 0.5 here; yours is {answer:.4f}.")
    uneven = torch.stack([w[0], 10 * w[0]])
    both = _number(cut(torch.stack([split, whole]), uneven))
    demand(
        _near(both, 0.25),
        "Take the share of each image, and then the mean: an image with more affinity must not "
        "count more.",
    )
    probs = _normal(1, 2, 3).softmax(1).requires_grad_()
    value = cut(probs, w[:1])
    demand(value.requires_grad, "The energy has no gradient: use the probabilities, not argmax.")
    (slope,) = torch.autograd.grad(value, probs)
    expected = (w.sum(2)[:1, None] - 2 * (probs @ w[:1])) / w[0].sum()
    demand(
        torch.allclose(slope, expected.detach(), atol=1e-5),
        "Both ends of a pair must be moved: do not detach S or 1 - S.",
    )
    passed("dense CRF energy")


def terms(scribble_terms) -> None:
    """Step 4: ``scribble_terms(net, batch, energy, weight)`` gives the named terms of the loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Conv2d(1, 3, 1)
    batch, seen = _batch(), []

    def measured(probs, images):
        seen.append((probs, images))
        return probs[:, 1].mean()

    answer = scribble_terms(net, batch, measured, 2.0)
    demand(
        isinstance(answer, dict) and set(answer) == {"scribbles", "regulariser"},
        "Return a dict with the terms 'scribbles' and 'regulariser'.",
    )
    part = batch.labelled
    logits = net(part.images)
    demand(
        torch.isclose(answer["scribbles"], partial_cross_entropy(logits, part.labels), rtol=1e-4),
        "'scribbles' must be the partial cross-entropy of *logits* and scribbles.",
    )
    demand(len(seen) > 0, "The energy was not asked: call energy(probs, images).")
    demand(
        torch.allclose(seen[0][0].sum(1), torch.ones(()), atol=1e-4),
        "The energy must be given probabilities: softmax over the class axis, dim=1.",
    )
    demand(torch.equal(seen[0][1], part.images), "The energy must see the images of this batch.")
    expected = 2.0 * sigmoid_rampup(batch.progress) * logits.softmax(1)[:, 1].mean()
    demand(
        not _near(answer["regulariser"].item(), expected.item() / sigmoid_rampup(0.2)),
        "At the beginning 'one class everywhere' is the cheapest answer to the energy: multiply "
        "by sigmoid_rampup(batch.progress).",
    )
    demand(
        torch.isclose(answer["regulariser"], expected, rtol=1e-3),
        "'regulariser' must be weight * sigmoid_rampup(batch.progress) * energy: expected "
        f"{expected.item():.4f}, yours is {answer['regulariser'].item():.4f}.",
    )
    late = scribble_terms(net, replace(batch, progress=1.0), measured, 2.0)["regulariser"]
    demand(late.requires_grad, "The regulariser must teach: no no_grad() and no detach().")
    passed("terms of the loss")


def _batch() -> Batch:
    images, labels = _normal(2, 1, 8, 8, seed=2), torch.full((2, 8, 8), IGNORE)
    labels[:, 2], labels[:, 5] = 0, 1
    index = torch.arange(2)
    return Batch(Part(images, labels, index, index, {}), None, 0.2)


def _normal(*size, seed=0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def _place(square: float) -> float:
    return torch.tensor(-square / (2 * 1.5**2)).exp().item()


def _number(answer) -> float:
    demand(
        isinstance(answer, torch.Tensor) and answer.ndim == 0,
        "A loss must be one number, a tensor without axes.",
    )
    return answer.item()


def _near(a: float, b: float) -> bool:
    return abs(a - b) < 1e-4
