"""From clicks to rough labels: where one cell ends at the latest, and which colours are nuclei."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lsseg_edu.data import IGNORE
from lsseg_edu.partial.points.clicked import class_of, nearest


def voronoi_labels(points: Tensor, size, radius: float = 1.0) -> Tensor:
    """Clicks on objects, and the borders of their Voronoi cells as background between them.

    A border is as far from one click as from the other. Two nuclei may touch there, but seldom
    run across; so it keeps neighbours apart, which pixel by pixel no other label does.

    Args:
        points: ``(B, M, 1 + dims)``.
        size: ``*S``.
        radius: in pixels; clicks become small discs, which survive the augmentation.

    Returns:
        ``(B, *S)``: the class on the discs, 0 on borders and on clicks of the background, IGNORE
        elsewhere. No path of neighbouring pixels leads from cell to cell without crossing a 0.
    """
    distance, owner = nearest(points, size)
    klass = class_of(points, owner)
    labels = klass.where(distance <= radius, IGNORE)
    for axis in range(1, owner.ndim):
        n = owner.shape[axis] - 1
        differs = owner.narrow(axis, 0, n) != owner.narrow(axis, 1, n)
        labels.narrow(axis, 0, n)[differs] = 0
    labels = klass.where(distance == 0, labels)
    item, row = (points[..., 0] == 0).nonzero(as_tuple=True)
    labels[(item, *points[item, row, 1:].T)] = 0
    return labels


def cluster_labels(
    images: Tensor, points: Tensor, radius: float = 2.0, far: float = 8.0, seed: int = 0
) -> Tensor:
    """k-means of each image's pixels into nuclei, background, and those that are neither surely.

    A pixel's features are its channels, and its distance to the nearest click, cut off at
    ``far``. Of three clusters, the one that most pixels about the clicks belong to is *nuclei*,
    the one with the fewest *background* (of equals, the one farther away), and the third is
    ignored. Which class of nuclei: the nearest click's.

    Args:
        images: ``(B, C, *S)``.
        points: ``(B, M, 1 + dims)``.
        radius: pixels; of the discs about the clicks that name the clusters.
        far: pixels; beyond it distance says nothing. Qu et al. take 20 at 40x magnification.
        seed: of k-means.

    Returns:
        ``(B, *S)``; all IGNORE in an image without an object.
    """
    distance, owner = nearest(points, images.shape[2:])
    klass = class_of(points, owner)
    labels = torch.full_like(owner, IGNORE)
    for item in (owner >= 0).flatten(1).any(1).nonzero()[:, 0].tolist():
        away = distance[item].clamp(max=far) / far
        part = torch.from_numpy(_three(images[item], away, seed)).view(away.shape)
        about = part[distance[item] <= radius].bincount(minlength=3)
        reach = torch.stack([away[part == k].mean() for k in range(3)]).nan_to_num()
        labels[item][part == (about - reach).argmin()] = 0
        nuclei = part == about.argmax()
        labels[item][nuclei] = klass[item][nuclei]
    return labels


def _three(image: Tensor, away: Tensor, seed: int) -> np.ndarray:
    """k-means with three means on channels ``(C, *S)`` and distances ``(*S)``, each of range 1."""
    from sklearn.cluster import KMeans

    colour = image.detach().cpu().float().flatten(1)
    low, high = colour.quantile(torch.tensor([0.01, 0.99]), 1)[..., None]
    colour = ((colour - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    features = torch.cat([colour, away.flatten()[None]]).T.numpy()
    return KMeans(3, n_init=1, random_state=seed).fit_predict(features).astype(np.int64)
