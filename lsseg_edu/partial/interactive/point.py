"""Point-based interaction: the rough centre of an object, as one more channel of its image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import annotate
from lsseg_edu.networks import Shape
from lsseg_edu.partial.interactive.maps import check_clicks, click_maps
from lsseg_edu.train import Method


class PointGuided(Method):
    r"""Segment :math:`[x, m]`, the image and a map of the clicked centres, in one pass.

    .. math:: p = f_\theta\big([x, m]\big), \qquad
        m_k(i) = \max_{c} \exp\Big(-\frac{|r_i - r_c|^2}{2\sigma^2}\Big)

    In training the clicks are simulated on the labelled images: the middle of each object, off
    by a pixel or so, and a second point anywhere in it. A random share of them is left out, so
    that the network can do with none, some, or all.

    Reference: Zhang J. et al., "Interactive medical image segmentation via a point-based
    interaction", Artificial Intelligence in Medicine 2021. The map: Xu, Price, Cohen, Yang, Huang,
    "Deep Interactive Object Selection", CVPR 2016.
    Simplified: the centre becomes Gaussian channels of a U-Net; the paper cuts patches along
    rays from the centre and reads them with a recurrent network.

    Args:
        net: ``(B, C + K, *S)`` to logits ``(B, K, *S)``.
        classes: ``K``.
        sigma: of the map in pixels: about the radius of a small object here.
        rough: largest error of a click in training, in pixels along each axis.
    """

    def __init__(self, net: nn.Module, classes: int, sigma: float = 3.0, rough: int = 1):
        super().__init__(net)
        self.classes, self.sigma, self.rough = classes, sigma, rough

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """On the book's U-Net with K more input channels."""
        source = task.train
        shape = Shape(source.channels + source.classes, source.classes, source.dims)
        return cls(networks.unet(shape, seed=seed), source.classes, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"guided": Dice + cross-entropy}`` with simulated clicks."""
        images, labels = batch.labelled.images, batch.labelled.labels
        logits = self.guided(images, self.simulate(labels).to(images.device))
        return {"guided": losses.dice_ce(logits, labels)}

    def guided(self, images: Tensor, clicks: Tensor) -> Tensor:
        """Logits of ``images (B, C, *S)`` with ``clicks (B, M, 1 + dims)``."""
        maps = click_maps(clicks, self.classes, images.shape[2:], self.sigma)
        return self.net(torch.cat([images, maps], 1))

    def simulate(self, labels: Tensor) -> Tensor:
        """Rough clicks on the objects of ``labels (B, *S)``, a random share left out (-1)."""
        seed = int(torch.randint(2**31, ()))
        _, clicks = annotate.draw_points(labels, 2, "centre", seed=seed)
        off = torch.randint(-self.rough, self.rough + 1, clicks[..., 1:].shape)
        last = torch.tensor(labels.shape[1:]) - 1
        clicks[..., 1:] = torch.minimum((clicks[..., 1:] + off).clamp(min=0), last)
        gone = torch.rand(clicks.shape[:2]) < torch.rand(len(clicks), 1)
        clicks[gone | (clicks[..., 0] < 0)] = -1
        return clicks

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities without any click."""
        nobody = torch.full((len(images), 1, images.ndim - 1), -1, device=images.device)
        return self.guided(images, nobody).float().softmax(1)

    def interact(self, images: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """Probabilities with all ``clicks (B, M, 1 + dims)``; the previous answer is not needed."""
        clicks = check_clicks(clicks, images, self.classes)
        return self.guided(images, clicks).float().softmax(1)
