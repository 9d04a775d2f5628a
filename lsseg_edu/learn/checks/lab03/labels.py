"""Pseudo-labels and how good they are."""

from __future__ import annotations

import math

import torch

from lsseg_edu.data import IGNORE
from lsseg_edu.learn.checks.demand import demand, passed


def labels(make) -> None:
    """Step 1: ``make(probs, threshold)`` takes ``(N, K, H, W)`` to labels ``(N, H, W)``."""
    pixels = [[0.75, 0.125, 0.125], [0.125, 0.5, 0.375], [0.0625, 0.0625, 0.875], [0.5, 0.25, 0.25]]
    probs = torch.tensor(pixels).T.reshape(1, 3, 2, 2)  # one image of four pixels, three classes
    before = probs.clone()
    answer = make(probs, 0.625)
    demand(
        isinstance(answer, torch.Tensor) and answer.shape == (1, 2, 2),
        "Pseudo-labels must have the shape (N, H, W): one class number a pixel. Take the largest "
        f"probability over the class axis, dim=1. Yours: {tuple(getattr(answer, 'shape', ()))}.",
    )
    demand(
        answer.dtype == torch.int64,
        f"Labels must be class numbers of type int64, not {answer.dtype}: argmax gives them.",
    )
    sure, given = answer.flatten()[[0, 2]].tolist(), answer.flatten().tolist()
    demand(
        sure == [0, 2],
        "Where the largest probability reaches the threshold, the label must be its class: "
        f"expected 0 and 2 at the two sure pixels, yours are {sure}.",
    )
    demand(
        given[1] != 0,
        "A pixel that nobody is sure of is not background: 0 would teach the student that there is "
        "no heart. Write IGNORE.",
    )
    demand(
        given[1] == given[3] == IGNORE,
        f"Below the threshold the label must be IGNORE ({IGNORE}), for every class, the background "
        f"included: yours are {given[1]} and {given[3]}.",
    )
    demand(
        make(probs, 0.75).flatten()[0] == 0,
        "A pixel whose probability equals the threshold reaches it: compare with >=, not >.",
    )
    demand(
        (make(probs, 0.0) == probs.argmax(1)).all(),
        "With threshold 0 every pixel must have a label.",
    )
    demand(torch.equal(probs, before), "The probabilities you are given must not change.")
    passed("pseudo-labels")


def quality(measure) -> None:
    """Step 2: ``measure(pseudo, truth)`` gives precision and coverage of the organs."""
    truth = torch.tensor([[[0, 0, 0, 0, 0, 1, 1, 2, 2, 2]]])
    pseudo = torch.tensor([[[0, 0, 0, 1, IGNORE, 1, IGNORE, 2, 0, IGNORE]]])
    before = pseudo.clone()
    precision, coverage = _two(measure(pseudo, truth))
    given, correct = pseudo != IGNORE, pseudo == truth
    demand(
        not _near(precision, (correct & given).sum() / given.sum()),
        "Precision must leave the background out: most of an image is background, and it is easy. "
        "Take the pixels whose pseudo-label is an organ (above 0, and not IGNORE).",
    )
    demand(
        not _near(precision, 1 / 3),
        "Precision must not count a pixel without a pseudo-label as an organ: IGNORE is 255, "
        "which is above 0.",
    )
    demand(
        _near(precision, 2 / 3),
        "Precision: of the pixels whose pseudo-label is an organ, the share whose truth is the "
        f"same class. Here that is 2 of 3; yours is {precision:.3f}.",
    )
    demand(
        not _near(coverage, 7 / 10),
        "Coverage must be that of the organs: of all pixels most have a label, since the "
        "background is easy. Take the pixels whose truth is an organ.",
    )
    demand(
        _near(coverage, 3 / 5),
        "Coverage: of the pixels whose truth is an organ, the share that has any pseudo-label, "
        f"right or wrong. Here that is 3 of 5; yours is {coverage:.3f}.",
    )
    demand(torch.equal(pseudo, before), "The pseudo-labels you are given must not change.")
    nothing = _two(measure(torch.full_like(truth, IGNORE), truth))
    demand(
        math.isnan(nothing[0]) and nothing[1] == 0,
        "Where no organ was labelled nothing is known of the precision: it must be NaN, not "
        f"{nothing[0]:.3g}, and the coverage 0.",
    )
    passed("precision and coverage")


def _two(answer) -> tuple[float, float]:
    demand(
        isinstance(answer, tuple | list) and len(answer) == 2,
        "Return two numbers: precision, coverage.",
    )
    return float(answer[0]), float(answer[1])


def _near(a, b) -> bool:
    return abs(float(a) - float(b)) < 1e-4
