"""Interactive graph cut: the cheapest border that keeps all strokes on their own sides."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.partial.regions.potts import alpha_expansion, neighbours
from lsseg_edu.train import Budget, Fitted, Supervised, fit


def graph_cut(
    unary: Tensor,
    image: Tensor,
    seeds: Tensor | None = None,
    weight: float = 2.0,
    sigma: float | None = None,
) -> Tensor:
    r"""Minimise costs of the pixels plus the price of the border, the seeds being fixed.

    .. math::
        E(y) = \sum_i u_{y_i}(i) + \sum_{i \sim j} [y_i \ne y_j]\, w_{ij}, \qquad
        w_{ij} = \frac{\lambda}{|r_i - r_j|}
                 \exp\Big(-\frac{|x_i - x_j|^2}{2\sigma^2}\Big), \qquad
        y_i = s_i \text{ at seeds.}

    Neighbours touch, at least at a corner. A border is cheap where the image has an edge. Two
    classes: the global minimum. More: by :func:`.alpha_expansion`.

    Args:
        unary: ``(K, *S)`` costs in nats; infinite where a class cannot be.
        image: ``(C, *S)``.
        seeds: ``(*S)`` classes, IGNORE where nobody marked.
        weight: :math:`\lambda`, in nats. 0: every pixel for itself.
        sigma: :math:`\sigma` in image deviations; by default the root mean squared difference of
            neighbours, so that the contrast of an image does not matter.

    Returns:
        ``(*S)`` int64 classes.

    Raises:
        ValueError: shapes that do not agree; a seed of a class that does not exist; a negative
            weight.

    Reference: Boykov, Jolly, "Interactive Graph Cuts for Optimal Boundary & Region Segmentation of
    Objects in N-D Images", ICCV 2001. The default of sigma: Rother, Kolmogorov, Blake, "GrabCut",
    SIGGRAPH 2004.

    Example:
        >>> image = torch.tensor([[[0.0, 0.1, 0.9, 1.0]]])  # one row
        >>> seeds = torch.tensor([[0, 255, 255, 1]])
        >>> graph_cut(torch.zeros(2, 1, 4), image, seeds)
        tensor([[0, 0, 1, 1]])
    """
    check(unary, image, seeds, weight)
    costs = unary.detach().cpu().double().flatten(1).T.numpy().copy()
    if seeds is not None:
        marked = seeds.cpu().flatten().numpy()
        known = np.flatnonzero(marked != IGNORE)
        costs[known] = np.inf
        costs[known, marked[known]] = 0
    pairs, weights = contrast(image, weight, sigma)
    return torch.from_numpy(alpha_expansion(costs, pairs, weights)).view(unary.shape[1:])


def contrast(image: Tensor, weight: float = 2.0, sigma: float | None = None):
    """Neighbouring pixels ``(2, E)`` of ``image (C, *S)``, and their weights ``(E,)``."""
    pixels = image.detach().cpu().double().flatten(1).numpy()
    pairs, distance = neighbours(image.shape[1:])
    change = np.square(pixels[:, pairs[0]] - pixels[:, pairs[1]]).sum(0)
    spread = change.mean() if sigma is None else sigma**2
    return pairs, weight / distance * np.exp(-change / max(2 * spread, 1e-12))


def appearance(image: Tensor, seeds: Tensor, classes: int, bins: int = 32) -> Tensor:
    r"""The regional term: minus the log of how often the seeds of a class look like this pixel.

    .. math:: u_k(i) = -\ln P(x_i \mid \text{seeds of } k)

    Args:
        image: ``(C, *S)``; channels are taken as independent.
        seeds: ``(*S)`` classes, IGNORE elsewhere.
        classes: ``K``.
        bins: of the histogram of each channel; it is smoothed with a deviation of two of 32 bins.

    Returns:
        ``(K, *S)`` in nats; infinite for a class without seeds.
    """
    flat = image.detach().cpu().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    level = (bins * (flat - low) / (high - low).clamp(min=1e-8)).long().clamp(max=bins - 1)
    unary, seeds = torch.full((classes, flat.shape[1]), torch.inf), seeds.cpu().flatten()
    for k in range(classes):
        if (seeds == k).any():
            counts = [row[seeds == k].bincount(minlength=bins).double() for row in level]
            counts = ndimage.gaussian_filter1d(np.stack(counts), bins / 16, axis=1) + 0.01
            share = torch.from_numpy(counts / counts.sum(1, keepdims=True))
            unary[k] = -share.gather(1, level).log().sum(0)
    return unary.view(classes, *image.shape[1:])


def grow(image: Tensor, seeds: Tensor, classes: int, region: float = 0.5, **options) -> Tensor:
    """The whole mask ``(*S)`` that the strokes ``seeds (*S)`` imply for one image ``(C, *S)``.

    Args:
        image: ``(C, *S)``.
        seeds: classes, IGNORE off the strokes. A class without a stroke is not in the image.
        classes: ``K``.
        region: factor of :func:`appearance`.
        **options: ``weight`` and ``sigma`` of :func:`graph_cut`.

    Raises:
        ValueError: no stroke at all.
    """
    if (seeds == IGNORE).all():
        raise ValueError("A graph cut needs seeds: mark at least one pixel of each class.")
    unary = appearance(image, seeds, classes)
    unary = torch.where(unary.isinf(), unary, region * unary)
    return graph_cut(unary, image, seeds, **options)


def graph_cut_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    region: float = 0.0,
    sigma: float | None = 0.3,
    **kwargs,
) -> Fitted:
    """Let :func:`grow` turn the scribbles of each image into a mask, and train the baseline on it.

    Args:
        task: with sparse labels.
        budget: of the training.
        seed: of weights and draws.
        region: see :func:`grow`. 0 leaves the seeds and the edges: better on validation subjects
            of the cardiac phantom, whose ventricles, vessels and fat have one grey level.
        sigma: see :func:`graph_cut`; chosen there too.
        **kwargs: ``progress``, ``device`` and ``augment``.
    """
    labels, cohort = task.train.labels.clone(), task.train
    for n in task.labelled.tolist():
        labels[n] = grow(cohort.images[n], labels[n], cohort.classes, region, sigma=sigma)
    grown = task.supervise(labels, "graph cuts", task.seconds)
    return fit(Supervised.for_task(task, seed), grown, budget, seed, **kwargs)


def check(unary: Tensor, image: Tensor, seeds: Tensor | None, weight: float) -> None:
    """Raise unless costs, image and seeds belong together."""
    sizes = {unary.shape[1:], image.shape[1:], *([] if seeds is None else [seeds.shape])}
    if len(sizes) > 1:
        raise ValueError("unary (K, *S), image (C, *S) and seeds (*S) must have the same *S.")
    if weight < 0:
        raise ValueError(f"The weight of the border cannot be {weight}: give 0 or more.")
    marked = [] if seeds is None else seeds[seeds != IGNORE].unique().tolist()
    strange = [k for k in marked if not 0 <= k < len(unary)]
    if strange:
        raise ValueError(
            f"There is a seed of class {strange[0]}, but the classes are 0 to {len(unary) - 1}."
        )
