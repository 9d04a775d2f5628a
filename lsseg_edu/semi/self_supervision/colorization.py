"""Colourisation: what colour was it?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.semi.self_supervision.finetune import Pretext, pretrain_finetune
from lsseg_edu.train import Budget, Fitted


def remap(images: Tensor, knots: int = 5) -> Tensor:
    """Each image through a random curve: the same anatomy under another contrast.

    The curve is piecewise linear between ``knots`` random heights, and in general not monotone:
    two tissues may become equally bright, as two colours may have the same grey.

    Args:
        images: ``(B, C, *S)``; the curve is drawn for each image, the same for its channels.
        knots: places of the curve that are drawn.

    Returns:
        ``(B, C, *S)`` with mean 0 and, unless the curve is flat, a deviation near 1.
    """
    axes = tuple(range(1, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    place = ((images - low) / (high - low + 1e-6) * (knots - 1)).flatten(1)
    heights = torch.rand((len(images), knots), device=images.device)
    left = place.long().clamp(max=knots - 2)
    start, end = heights.gather(1, left), heights.gather(1, left + 1)
    values = (start + (end - start) * (place - left)).view_as(images)
    std, mean = torch.std_mean(values, axes, keepdim=True)
    return (values - mean) / (std + 1e-2)


class Colorization(Pretext):
    r"""Take the colour away; the network puts it back.

    .. math:: L = \frac{1}{|\Omega|} \sum_i \big\| f(\ell(x))_i - (x_i - \ell(x)_i) \big\|^2

    :math:`\ell` is the luminance, the mean of the channels, and what remains is the colour. A
    stained nucleus is blue and a red cell is red; to colour them, one has to tell them apart.

    **Grey images** have no colour to take away. The substitute takes their *contrast* away: the
    network sees the image through a random curve (:func:`remap`) and gives back the original
    grey values, which it can know only by recognising the tissue.

    Reference: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016; Larsson, Maire,
    Shakhnarovich, "Colorization as a Proxy Task for Visual Understanding", CVPR 2017.
    Simplified: squared error instead of a histogram of colours; opponent colours are what is
    left of the channels without their mean.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`; it sees the luminance in all its channels.
    """

    decodes = True

    def __init__(self, net):
        super().__init__(net)
        conv = nn.Conv2d if self.dims == 2 else nn.Conv3d
        self.head = conv(net.widths[0], self.channels, 1)

    def loss(self, batch) -> dict[str, Tensor]:
        """Mean squared error of the colour, or of the original grey values."""
        question, answer = self.pose(batch.unlabelled.images)
        return {"colour": (self.paint(question) - answer).square().mean()}

    def pose(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sees and what it is asked for, both ``(B, C, *S)``."""
        if self.channels == 1:
            return remap(images), images
        luminance = images.mean(1, keepdim=True).expand_as(images)
        return luminance, images - luminance

    def paint(self, question: Tensor) -> Tensor:
        """The network's answer ``(B, C, *S)``."""
        return self.head(self.net.decode(self.net.encode(question)))


def finetune_colorization(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the U-Net that colourisation has trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=Colorization, **kwargs)
