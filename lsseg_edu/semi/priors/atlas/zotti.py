"""A probabilistic map as input: the network finds the centre, the map says what lies around it."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment import displaced, warp
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.networks import UNet, build
from lsseg_edu.networks.blocks import project
from lsseg_edu.train import Method


class PriorUNet(UNet):
    r"""A U-Net that points at the centre of the organs, and reads a shape prior placed there.

    From its last feature map :math:`h` the centre is the mean place under a softmax over pixels,
    which is differentiable: :math:`c = \sum_i \mathrm{softmax}(u^\top h)_i\, r_i`. The prior is
    moved by :math:`c` and concatenated with :math:`h`; two convolutions decide.

    Args:
        channels, classes, dims, width: of :class:`~lsseg_edu.networks.UNet`.
        prior: class frequencies ``(K, *S)`` about the image's centre.
        informed: whether the prior is read; if not, its channels are uniform, which is the
            control: network and centre stay, the knowledge goes.
    """

    def __init__(self, channels, classes, dims, width=8, *, prior: Tensor, informed: bool = True):
        super().__init__(channels, classes, dims, width)
        flat = torch.full_like(prior, 1 / classes)
        self.register_buffer("prior", prior if informed else flat)
        self.pointer = project(dims, width, 1)
        self.final_conv = nn.Sequential(
            Conv["conv", dims](width + classes, width, 3, padding=1),
            nn.ReLU(),
            project(dims, width, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        return self.located(images)[0]

    def located(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the centre ``(B, D)`` in units of the grid.

        Raises:
            ValueError: images of another size than the prior.
        """
        if images.shape[2:] != self.prior.shape[1:]:
            raise ValueError(
                f"The shape prior has {tuple(self.prior.shape[1:])} pixels, the images "
                f"{tuple(images.shape[2:])}: resample one to the other."
            )
        features = self.decode(self.encode(images))
        heat = self.pointer(features).float().flatten(2).softmax(2)
        centre = (heat.movedim(1, 2) * places(images)).sum(1)
        return self.final_conv(torch.cat([features, self.placed(centre)], 1)), centre

    def placed(self, centre: Tensor) -> Tensor:
        """The prior ``(B, K, *S)`` moved so that its middle lies at ``centre (B, D)``."""
        size = self.prior.shape[1:]
        move = -centre.view(len(centre), *[1] * len(size), -1).expand(-1, *size, -1)
        return warp(self.prior.expand(len(centre), *self.prior.shape), displaced(move))


class ShapePrior(Method):
    r"""Supervised training of a :class:`PriorUNet`, which learns the centre as well.

    .. math:: L = L_{sup} + \lambda\, |c(x) - \bar r(y)|^2, \qquad
              \bar r(y) = \text{centre of the organs' pixels}

    where any organ is seen. Labels are all it takes; unlabelled images are not looked at.

    Reference: Zotti, Luo, Lalande, Jodoin, "Convolutional Neural Network with Shape Prior
    Applied to Cardiac MRI Segmentation", IEEE Journal of Biomedical and Health Informatics 2019.
    Simplified: the book's U-Net for GridNet; one prior for all slices of a stack, since the
    place of a test slice in it is not given; no contour term.

    Args:
        net: a :class:`PriorUNet`.
        weight: :math:`\lambda`, with distances in halves of the image.
    """

    def __init__(self, net: PriorUNet, weight: float = 1.0):
        super().__init__(net)
        self.weight = weight

    @classmethod
    def for_task(cls, task: Task, seed: int = 0, informed: bool = True, **options):
        """The prior of the task's own labels."""
        prior = centred_prior(task)
        return cls(build(PriorUNet, task, seed, prior=prior, informed=informed), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` and ``centre``."""
        logits, centre = self.net.located(batch.labelled.images)
        truth, seen = centres(batch.labelled.labels)
        distance = (centre - truth).square().sum(1) * seen
        return {
            "supervised": losses.dice_ce(logits, batch.labelled.labels),
            "centre": self.weight * distance.sum() / seen.sum().clamp(min=1),
        }


def places(images: Tensor) -> Tensor:
    """Coordinates ``(1, P, D)`` of the ``P`` pixels of ``images``, in units of the grid."""
    size = images.shape[2:]
    still = torch.zeros(1, *size, len(size), device=images.device)
    return displaced(still).flatten(1, -2)


def centres(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean place ``(B, D)`` of all organs' pixels of ``labels (B, *S)``, and if there is any.

    Where there is none the centre is the image's.
    """
    organ = ((labels != 0) & (labels != IGNORE)).flatten(1).unsqueeze(2).float()
    centre = (organ * places(labels.unsqueeze(1))).sum(1) / organ.sum(1).clamp(min=1)
    return centre, organ.amax((1, 2))


def centred_prior(task: Task) -> Tensor:
    r"""Class frequencies ``(K, *S)`` of the labelled masks, each moved to the image's centre.

    .. math:: A_{ik} = \frac1N \sum_n [y^n_{i + c_n} = k]

    Slices that show no organ do not count. Labels only move by whole pixels' neighbours: a
    linear interpolation makes their borders soft.
    """
    labels = task.train.labels[task.labelled]
    centre, seen = centres(labels)
    labels, centre = labels[seen > 0], centre[seen > 0]
    known = (labels != IGNORE).unsqueeze(1)
    classes = torch.arange(task.train.classes).view(1, -1, *[1] * (labels.ndim - 1))
    masks = ((labels.unsqueeze(1) == classes) & known).float()
    size = labels.shape[1:]
    move = centre.view(len(centre), *[1] * len(size), -1).expand(-1, *size, -1)
    total = warp(masks, displaced(move)).sum(0)
    return total / total.sum(0, keepdim=True).clamp(min=1e-6)
