"""The two penalties: how large, and what shape."""

from __future__ import annotations

import torch

from lsseg_edu.learn.checks.demand import demand, passed


def size(penalty) -> None:
    """Step 1: ``penalty(probs, low, high)``, probabilities ``(B, K, H, W)``, bounds ``(K,)``."""
    low, high = torch.tensor([0.25, 0.125]), torch.tensor([0.75, 0.5])
    demand(
        _scalar(penalty(_of([[0.5, 0.25]]), low, high)) == 0,
        "Sizes between the bounds must cost nothing. A size is the *mean* of the probabilities "
        "over the pixels, a share of the image.",
    )
    large = _scalar(penalty(_of([[1.0, 0.25]]), low, high))
    demand(large > 0, "A class that is too large must cost something: (size - high) above 0.")
    small = _scalar(penalty(_of([[0.5, 0.0]]), low, high))
    demand(small > 0, "A class that is too small must cost something: (low - size) above 0.")
    demand(
        not _near(large, 0.125),
        "The excess must be squared, so that its slope fades as the bound is reached.",
    )
    demand(
        _near(large, 0.25**2 / 2) and _near(small, 0.125**2 / 2),
        "Expected the mean over images and classes of the squared excess: here "
        f"{0.25**2 / 2:.4f} and {0.125**2 / 2:.4f}, yours are {large:.4f} and {small:.4f}.",
    )
    demand(
        penalty(_of([[1.0, 0.25], [0.0, 0.25]]), low, high) > 0,
        "Each image must obey: one that is too large and one that is too small must not make up "
        "for one another. Take the mean over pixels, not over the batch.",
    )
    _slopes(penalty, low, high)
    passed("size penalty")


def _slopes(penalty, low, high):
    probs = torch.full((1, 2, 4, 4), 0.9).requires_grad_()
    answer = penalty(probs, low, high)
    demand(
        answer.requires_grad,
        "The penalty has no gradient: a size counted with argmax or > 0.5 cannot be moved. Add "
        "up the probabilities.",
    )
    (slope,) = torch.autograd.grad(answer, probs)
    demand(
        (slope > 0).all(),
        "A class that is too large must be pushed down at every pixel: the gradient must be "
        "positive everywhere.",
    )


def star(penalty) -> None:
    """Step 2: ``penalty(u, parent)`` of soft masks ``(B, H, W)`` and parents ``(B, H * W)``."""
    row = torch.tensor([[0, 0, 1, 2], [1, 2, 3, 3]])  # towards the left, towards the right
    falling = torch.tensor([[0.9, 0.6, 0.6, 0.1], [0.2, 0.3, 0.5, 0.8]]).view(2, 1, 4)
    demand(
        _scalar(penalty(falling, row)) == 0,
        "A probability that falls, or stays, on the way out must cost nothing: charge only what "
        "rises, each image along its own rays. `torch.gather(u.flatten(1), 1, parent)` gives the "
        "value of each pixel's parent.",
    )
    rising = torch.tensor([[0.9, 0.1, 0.6, 0.1], [0.2, 0.3, 0.5, 0.8]]).view(2, 1, 4)
    answer = _scalar(penalty(rising, row))
    demand(
        answer > 0,
        "A probability that rises on the way out must cost something: u of a pixel minus u of its "
        "parent, where that is above 0.",
    )
    demand(
        not _near(answer, 0.5),
        "Take the mean over all pixels of the batch, not the sum: else the weight of the term "
        "depends on the size of the images.",
    )
    demand(
        not _near(answer, 0.5**2 / 8),
        "Do not square: a small rise over many pixels is as wrong as a large one.",
    )
    demand(
        _near(answer, 0.5 / 8),
        f"Expected the mean rise, {0.5 / 8:.4f} here; yours is {answer:.4f}.",
    )
    u = rising.clone().requires_grad_()
    answer = penalty(u, row)
    demand(
        answer.requires_grad, "The penalty has no gradient: work with u itself, not with u > 0.5."
    )
    (slope,) = torch.autograd.grad(answer, u)
    demand(
        slope[0, 0, 2] > 0 > slope[0, 0, 1],
        "Both ends must be moved: the far pixel down, the gap before it up. Do not detach one.",
    )
    passed("star penalty")


def _of(shares) -> torch.Tensor:
    """Probabilities ``(B, K, 4, 4)`` whose classes have these shares, in whole pixels."""
    probs = torch.zeros(len(shares), len(shares[0]), 16)
    for image, row in zip(probs, shares, strict=True):
        for k, share in enumerate(row):
            image[k, : round(16 * share)] = 1
    return probs.view(*probs.shape[:2], 4, 4)


def _scalar(answer) -> float:
    demand(
        isinstance(answer, torch.Tensor) and answer.ndim == 0,
        "A penalty must be one number, a tensor without axes: end with .mean().",
    )
    return answer.item()


def _near(a: float, b: float) -> bool:
    return abs(a - b) < 1e-5
