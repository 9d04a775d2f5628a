"""Points and rough masks: the mask says how far a cell goes, the points say how many there are."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate.components import components, signed_distance
from lsseg_edu.data.annotate.cost import SECONDS, count_objects, point_seconds
from lsseg_edu.data.annotate.given import dense, give
from lsseg_edu.data.annotate.point import draw_points
from lsseg_edu.data.annotate.rater import Style, rate
from lsseg_edu.networks.blocks import project
from lsseg_edu.train import Method


class PointsAndRoughMasks(Method):
    r"""One encoder and decoder, two answers: what is a cell, and where are the middles.

    .. math::
        L = L_{sup}(p, \hat y \text{ away from rough borders})
            + \lambda_p\, L_{pCE}(p, \text{points})
            + \lambda_h\, \frac{\sum_i (1 + \beta h_i)(q_i - h_i)^2}{\sum_i (1 + \beta h_i)},
        \qquad h_i = \max_n e^{-|r_i - r_n|^2 / 2\sigma^2} .

    Within ``doubt`` pixels of a border of the rough mask nothing is asked. The points are certain,
    also where the rough mask says otherwise. The heat map ``h`` of the points trains the second
    answer ``q``, whose peaks separate cells that touch: :func:`separate`.

    Reference: Dong M. et al., "Towards Neuron Segmentation from Macaque Brain Images: A Weakly
    Supervised Approach", MICCAI 2020.
    Simplified: this book's U-Net; rough masks of a hasty annotator, the paper's are computed; one
    training instead of several stages.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        features: channels of its last feature map.
        dims: 2 or 3.
        points: :math:`\lambda_p`.
        heat: :math:`\lambda_h`; 0 leaves the rough mask and the points.
        sigma: :math:`\sigma` in pixels, about half a cell's radius.
        doubt: in pixels; 0 believes the rough mask to its edge: the control.
        balance: :math:`\beta`, since middles are rare.
    """

    def __init__(
        self,
        net: nn.Module,
        features: int,
        dims: int,
        points: float = 0.5,
        heat: float = 1.0,
        sigma: float = 1.5,
        doubt: float = 1.0,
        balance: float = 10.0,
    ):
        super().__init__(net)
        self.centres = project(dims, features, 1)
        self.points, self.heat, self.sigma = points, heat, sigma
        self.doubt, self.balance = doubt, balance

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> PointsAndRoughMasks:
        """On the book's U-Net."""
        net, dims = networks.unet(task, seed=seed), task.train.dims
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(net, net.widths[0], dims, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``mask``; ``points`` and ``centres``, already weighted."""
        part = batch.labelled
        if "clicks" not in part.extras:
            raise ValueError("The task has no points: make it with points_and_rough_masks().")
        clicks = part.extras["clicks"]
        features = self.net.decode(self.net.encode(part.images))
        logits, found = self.net.final_conv(features), self.centres(features)[:, 0].sigmoid()
        target = heat_map(clicks > 0, clicks != IGNORE, self.sigma)
        weight = 1 + self.balance * target
        return {
            "mask": losses.dice_ce(logits, without_border(part.labels, self.doubt)),
            "points": self.points * losses.cross_entropy(logits, clicks),
            "centres": self.heat * (weight * (found - target).square()).sum() / weight.sum(),
        }

    def middles(self, images: Tensor) -> Tensor:
        """How likely each pixel is the middle of a cell, ``(B, *S)``."""
        return self.centres(self.net.decode(self.net.encode(images)))[:, 0].sigmoid()


def without_border(labels: Tensor, doubt: float) -> Tensor:
    """``labels (B, *S)`` with IGNORE within ``doubt`` pixels of a change of class."""
    flat = labels.cpu().numpy()
    near = np.zeros(flat.shape, bool)
    for k in np.unique(flat):
        near |= np.abs(signed_distance(flat == k)) < doubt
    return labels.masked_fill(torch.from_numpy(near).to(labels.device), IGNORE)


def heat_map(foreground: Tensor, clicked: Tensor, sigma: float) -> Tensor:
    """A Gaussian of height 1 around every clicked foreground pixel, ``(B, *S)``.

    Args:
        foreground: ``(B, *S)`` booleans: not background.
        clicked: ``(B, *S)`` booleans.
        sigma: in pixels.
    """
    points = (foreground & clicked).cpu().numpy()
    far = np.where(points, 0, 0.5 - signed_distance(points)).astype(np.float32)
    return torch.exp(-torch.from_numpy(far).square() / (2 * sigma**2)).to(foreground.device)


def separate(classes: Tensor, middles: Tensor, height: float = 0.3) -> Tensor:
    """Cut touching cells apart: watersheds that rise from the peaks of the second answer.

    Args:
        classes: ``(B, *S)``, from the first answer.
        middles: ``(B, *S)`` in [0, 1], from the second.
        height: smallest peak that is a cell.

    Returns:
        ``(B, *S)`` numbers, all different, 0 on the background. A piece without a peak is a cell.
    """
    from skimage.segmentation import watershed

    mask, level = (classes > 0).cpu().numpy(), middles.detach().cpu().numpy()
    footprint = np.ones((1, *(3,) * (mask.ndim - 1)))
    top = (level == ndimage.maximum_filter(level, footprint=footprint)) & (level >= height) & mask
    peaks, pieces = components(top), components(mask)
    empty = np.bincount(pieces.ravel(), top.ravel()) == 0
    peaks = np.where(empty[pieces] & mask, peaks.max() + pieces, peaks)
    flooded = [watershed(-a, p, mask=m) for a, p, m in zip(level, peaks, mask, strict=True)]
    return torch.from_numpy(np.stack(flooded)).long()


def points_and_rough_masks(task: Task, style: str | Style = "hasty", seed: int = 0) -> Task:
    """Leave a point in each object, and a mask that was drawn in a hurry.

    The labels are the rough masks. ``extras["clicks"] (N, *S)`` holds the true class within a
    pixel of a point, IGNORE elsewhere.
    Cost: the points, and a rough contour an object.

    Args:
        task: with dense masks.
        style: of the annotator, see :func:`lsseg_edu.data.annotate.rate`.
        seed: of the annotator's hand.

    Raises:
        ValueError: no dense masks to start from.
    """
    index, labels, instances = dense(task)
    clicked, coordinates = draw_points(labels, 1, "centre", 1, seed, instances)
    seconds = point_seconds(coordinates) + SECONDS["contour"] * count_objects(labels, instances)
    rough = rate(labels, style, seed)
    return give(task, index, rough, "points and rough masks", seconds, clicks=clicked)
