"""Superpixels: an image cut into even regions, without a label."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import Cohort


def superpixel_maps(cohort: Cohort, scale=50.0, sigma=0.5, smallest=25, largest=0.25) -> Tensor:
    """Felzenszwalb's superpixels of every slice, of the first channel: ``(N, H, W)`` int64.

    Args:
        cohort: 2D images; their labels are not looked at.
        scale: larger values give larger superpixels.
        sigma: Gaussian smoothing before, in pixels.
        smallest: pixels; smaller regions are merged. ALPNet's 400 pixels of 256 x 256 are 25 of
            64 x 64.
        largest: fraction of the image; larger regions (an empty background) become 0, none.

    Returns:
        Numbers from 1 in each slice; 0 where there is no superpixel.

    Raises:
        ValueError: volumes instead of slices.

    Reference: Felzenszwalb, Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004.
    """
    from skimage.segmentation import felzenszwalb

    if cohort.dims != 2:
        raise ValueError("Superpixels are made of slices: give a 2D cohort.")
    images = cohort.images[:, 0].cpu()
    low, high = images.flatten(1).quantile(torch.tensor([0.01, 0.99]), 1)[..., None, None]
    images = ((images - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).numpy()
    found = [felzenszwalb(x, scale, sigma, smallest) + 1 for x in images]
    found = torch.stack([torch.from_numpy(x) for x in found]).long()
    sizes = torch.zeros(len(found), int(found.max()) + 1, dtype=torch.long)
    flat = found.flatten(1)
    sizes.scatter_add_(1, flat, torch.ones_like(flat))
    return found.where(sizes.gather(1, flat).view(found.shape) <= largest * flat.shape[1], 0)
