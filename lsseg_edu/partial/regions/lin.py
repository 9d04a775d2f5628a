"""ScribbleSup: cut a graph of superpixels, train on the result, ask the network, cut again."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.partial.regions.potts import alpha_expansion, neighbours
from lsseg_edu.partial.regions.rounds import Propagated, relabelled
from lsseg_edu.semi.few_shot.superpixels import superpixel_maps
from lsseg_edu.train import Budget, Fitted

BINS = 16
"""Grey levels of a histogram; ScribbleSup takes 25 for superpixels of hundreds of pixels."""


def scribblesup(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 3,
    trust: float = 1.0,
    weight: float = 2.0,
    **kwargs,
) -> Propagated:
    r"""Propagate scribbles over superpixels and train a network, in turn.

    Both minimise one energy over the labels ``y`` of all superpixels and the network's weights:

    .. math::
        E(y, \theta) = \sum_i \psi^{scr}_i(y_i)
            - \sum_i \sum_{p \in i} \ln P(y_i \mid p, \theta)
            + \sum_{i \sim j} [y_i \ne y_j]\, w_{ij} .

    :math:`\psi^{scr}` is 0 for the class of the strokes that cross a superpixel and infinite for
    others; without a stroke it is the same for all classes scribbled in this image, and infinite
    for the rest. :math:`w_{ij}` is large where the *appearance* of two superpixels is alike, see
    :func:`likeness`. With the network fixed, the labels are a graph cut; with the labels fixed,
    training lowers the middle term. The first round has no network to ask.

    Reference: Lin, Dai, Jia, He, Sun, "ScribbleSup: Scribble-Supervised Convolutional Networks for
    Semantic Segmentation", CVPR 2016.
    Simplified: Dice beside the cross-entropy; widths of the kernels taken from each image.

    Args:
        task: slices with scribbles.
        budget: of all rounds together.
        seed: of weights and draws.
        rounds: how often labels are propagated (paper 3). 1 never asks the network: the control.
        trust: factor of the network's term.
        weight: largest :math:`w_{ij}`, in nats.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: volumes; no round.
    """
    mine = task.train.select(task.labelled)
    parts = superpixel_maps(mine, scale=10, sigma=0.5, smallest=4, largest=1.0)

    def relabel(fitted: Fitted | None) -> Tensor:
        said = (
            [None] * len(mine)
            if fitted is None
            else trust * -fitted.predict(mine.images).clamp(min=1e-6).log()
        )
        items = zip(mine.images, mine.labels, parts, said, strict=True)
        return torch.stack([propagate(*item, mine.classes, weight) for item in items])

    return relabelled(task, relabel, budget, seed, rounds, **kwargs)


def propagate(
    image: Tensor,
    strokes: Tensor,
    parts: Tensor,
    unary: Tensor | None,
    classes: int,
    weight: float = 2.0,
) -> Tensor:
    """One image's labels, with the network fixed.

    Args:
        image: ``(C, H, W)``.
        strokes: ``(H, W)`` classes, IGNORE off the scribbles.
        parts: ``(H, W)`` superpixel numbers.
        unary: ``(K, H, W)``, the network's ``-ln p``; None if there is none yet.
        classes: ``K``.
        weight: of the border.

    Returns:
        ``(H, W)`` classes. Strokes keep theirs, where two meet in one superpixel as well.

    Raises:
        ValueError: no stroke.
    """
    _, group = parts.cpu().unique(return_inverse=True)
    number, n = group.flatten().numpy(), int(group.max()) + 1
    marked = strokes.cpu().flatten().numpy()
    votes = np.zeros((n, classes))
    np.add.at(votes, (number[marked != IGNORE], marked[marked != IGNORE]), 1)
    if not votes.any():
        raise ValueError("This image has no stroke to propagate: take task.labelled only.")
    costs = np.where(votes.any(0), 0.0, np.inf) + np.zeros((n, 1))
    if unary is not None:
        told = unary.detach().cpu().double().flatten(1).numpy()
        costs += np.stack([np.bincount(number, row, n) for row in told], 1)
    crossed = votes.any(1)
    costs[crossed] = np.inf
    costs[crossed, votes[crossed].argmax(1)] = 0
    pairs = touching(number, parts.shape)
    y = alpha_expansion(costs, pairs, weight * likeness(image, number, pairs))
    return torch.from_numpy(np.where(marked == IGNORE, y[number], marked)).view(parts.shape)


def touching(number: np.ndarray, size) -> np.ndarray:
    """Pairs ``(2, E)`` of superpixels that touch, each once; ``number`` is flat."""
    ends = np.sort(number[neighbours(size)[0]], axis=0)
    return np.unique(ends[:, ends[0] != ends[1]], axis=1)


def likeness(image: Tensor, number: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    r"""How alike neighbouring superpixels are, in grey levels and in texture, ``(E,)``.

    .. math::
        \exp\Big(-\frac{|h^c_i - h^c_j|^2}{\delta_c^2} - \frac{|h^t_i - h^t_j|^2}{\delta_t^2}\Big)

    :math:`h^c` are histograms of the channels, :math:`h^t` of the direction of the gradient, each
    pixel counting with its strength. :math:`\delta^2` is the mean of the numerator.

    Args:
        image: ``(C, H, W)``.
        number: ``(H W,)`` superpixels.
        pairs: ``(2, E)``.
    """
    exponent = np.zeros(pairs.shape[1])
    for histograms in (grey_levels(image, number), directions(image, number)):
        change = np.square(histograms[pairs[0]] - histograms[pairs[1]]).sum(1)
        exponent += change / max(change.sum() / max(len(change), 1), 1e-12)
    return np.exp(-exponent)


def grey_levels(image: Tensor, number: np.ndarray) -> np.ndarray:
    """Histogram of each channel in each superpixel ``(M, C * BINS)``, smoothed, of sum 1 each."""
    values = image.detach().cpu().flatten(1).numpy()
    low, high = np.quantile(values, [0.01, 0.99], axis=1, keepdims=True)
    level = np.clip(BINS * (values - low) / (high - low).clip(1e-8), 0, BINS - 1).astype(int)
    size = BINS * (number.max() + 1)
    counts = np.stack([np.bincount(number * BINS + row, minlength=size) for row in level])
    counts = counts.reshape(len(level), -1, BINS).astype(float)
    counts = ndimage.gaussian_filter1d(counts, 1.0, axis=2) / counts.sum(2, keepdims=True)
    return counts.transpose(1, 0, 2).reshape(len(counts[0]), -1)


def directions(image: Tensor, number: np.ndarray, bins: int = 8) -> np.ndarray:
    """Histogram of gradient directions, weighted by strength, over all channels ``(M, bins)``."""
    down, right = np.gradient(image.detach().cpu().numpy(), axis=(1, 2))
    turn, strength = np.arctan2(down, right) / (2 * np.pi) + 0.5, np.hypot(down, right)
    cell = number * bins + (turn * bins).astype(int).reshape(len(image), -1) % bins
    size = bins * (number.max() + 1)
    counts = np.bincount(cell.ravel(), strength.ravel(), size).reshape(-1, bins)
    return counts / np.bincount(number)[:, None] / strength.sum(0).mean().clip(1e-8)
