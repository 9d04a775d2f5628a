"""Noise models: how labels get corrupted, in seeded simulators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE, Task


def flip_pixels(labels: Tensor, classes: int, rate: float, generator: torch.Generator) -> Tensor:
    r"""Random noise: each pixel gets, with probability ``rate``, another class at random.

    .. math:: P(\tilde y = j \mid y = k) = r / (K - 1), \quad j \ne k

    The easiest noise: it has no structure, so averaging over pixels removes it.

    Args:
        labels: ``(B, *S)`` int64; IGNORE stays.
        classes: ``K``.
        rate: ``r`` in [0, 1].
        generator: source of the noise.
    """
    uniform = (1 - rate) * torch.eye(classes) + rate / (classes - 1) * (1 - torch.eye(classes))
    return flip_classes(labels, uniform, generator)


def flip_classes(labels: Tensor, transition: Tensor, generator: torch.Generator) -> Tensor:
    r"""Class-conditional noise: pixels of class ``k`` become ``j`` with probability :math:`T_{kj}`.

    Args:
        labels: ``(B, *S)`` int64; IGNORE stays.
        transition: ``(K, K)``, rows sum to 1.
        generator: source of the noise.

    Raises:
        ValueError: the transition matrix is not stochastic.

    Reference: Patrini, Rozza, Menon, Nock, Qu, "Making Deep Neural Networks Robust to Label
    Noise: a Loss Correction Approach", CVPR 2017.
    """
    rows = transition.sum(1)
    if (transition < 0).any() or not torch.allclose(rows, torch.ones_like(rows), atol=1e-5):
        raise ValueError(
            f"The transition matrix is not stochastic: its rows must be non-negative and sum "
            f"to 1, they sum to {[round(float(r), 3) for r in rows]}."
        )
    known = labels != IGNORE
    noisy = labels.clone()
    odds = transition[labels[known]]
    noisy[known] = torch.multinomial(odds, 1, generator=generator)[:, 0]
    return noisy


def move_boundaries(labels: Tensor, classes: int, radius: int, generator) -> Tensor:
    """Boundary noise: every object of an item is grown or shrunk by up to ``radius`` pixels.

    One draw for an item, not for a pixel: an annotator who draws too wide does so all along the
    contour. The wrong pixels lie together and next to the right ones, no average removes them,
    and a network learns the shifted contour as if it were the truth. It is the hardest kind.

    Args:
        labels: ``(B, *S)`` int64; IGNORE stays.
        classes: ``K``; classes are worked on in order, so a grown organ covers earlier ones.
        radius: largest shift, in pixels; each class of each item draws from ``-radius..radius``.
        generator: source of the noise.
    """
    noisy = torch.zeros_like(labels)
    for k in range(1, classes):
        shift = torch.randint(-radius, radius + 1, (len(labels),), generator=generator)
        noisy = torch.where(grow(labels == k, shift), k, noisy)
    return noisy.where(labels != IGNORE, IGNORE)


def corrupt_items(labels: Tensor, classes: int, rate: float, radius: int, generator) -> Tensor:
    """Instance-dependent noise: some items are badly drawn, the others are clean.

    A fraction ``rate`` of the items is shifted as a whole by ``radius`` pixels in a random
    direction and then redrawn with :func:`move_boundaries`; which ones depends on the item (a
    hard case, a tired hour), not on the class.

    Args:
        labels: ``(B, *S)`` int64; IGNORE stays.
        classes: ``K``.
        rate: fraction of items corrupted.
        radius: shift and boundary radius, in pixels.
        generator: source of the noise.
    """
    bad = torch.rand(len(labels), generator=generator) < rate
    noisy = move_boundaries(labels, classes, radius, generator)
    for n in bad.nonzero()[:, 0].tolist():
        shift = torch.randint(0, 2, (labels.ndim - 1,), generator=generator) * 2 - 1
        axes = list(range(labels.ndim - 1))
        noisy[n] = noisy[n].roll((shift * radius).tolist(), dims=axes)
    bad = bad.view(-1, *[1] * (labels.ndim - 1))
    return noisy.where(bad & (labels != IGNORE), labels)


def grow(masks: Tensor, shift: Tensor) -> Tensor:
    """Masks ``(B, *S)`` dilated (``shift > 0``) or eroded (``< 0``) by ``|shift|`` pixels."""
    pool = F.max_pool2d if masks.ndim == 3 else F.max_pool3d
    x = torch.where(_as(shift < 0, masks), ~masks, masks).float().unsqueeze(1)
    for step in range(int(shift.abs().max())):  # a 3-wide maximum moves the edge by one pixel
        x = torch.where(_as(shift.abs() > step, x), pool(x, 3, stride=1, padding=1), x)
    out = x.squeeze(1) > 0
    return torch.where(_as(shift < 0, masks), ~out, out)


def severity(noisy: Tensor, clean: Tensor, classes: int) -> float:
    """How bad the noise is: ``1 -`` the mean foreground Dice of noisy to clean labels, in [0, 1].

    Unlike a flip rate, it compares noise of different kinds on the scale the field measures by.
    """
    known = clean != IGNORE
    scores = []
    for k in range(1, classes):
        a, b = (noisy == k) & known, (clean == k) & known
        if a.any() or b.any():
            scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return 1 - float(torch.stack(scores).mean())


KINDS = {
    "pixel": lambda y, k, level, g: flip_pixels(y, k, level, g),
    "class": lambda y, k, level, g: flip_classes(y, neighbours(k, level), g),
    "boundary": lambda y, k, level, g: move_boundaries(y, k, round(level), g),
    "item": lambda y, k, level, g: corrupt_items(y, k, level, 4, g),
}


def neighbours(classes: int, rate: float) -> Tensor:
    """A transition ``(K, K)`` that takes a class, with probability ``rate``, for the next one."""
    return (1 - rate) * torch.eye(classes) + rate * torch.eye(classes).roll(1, dims=1)


def corrupt(task: Task, kind: str, level: float, seed: int = 0) -> Task:
    """The task with noisy training labels; validation and test stay clean.

    Args:
        task: its training labels are corrupted where they are annotated.
        kind: ``"pixel"``, ``"class"`` (level: rate), ``"boundary"`` (level: radius in pixels) or
            ``"item"`` (level: fraction of bad items).
        level: how much.
        seed: of the noise.

    Raises:
        ValueError: an unknown kind, a negative level or a rate above 1.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown noise {kind!r}: choose one of {', '.join(KINDS)}.")
    if level < 0 or (level > 1 and kind != "boundary"):
        raise ValueError(f"The level of {kind} noise cannot be {level}.")
    generator = torch.Generator().manual_seed(seed)
    noisy = KINDS[kind](task.train.labels, task.train.classes, level, generator)
    return task.supervise(noisy, f"noisy ({kind} {level:g})")


def _as(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
