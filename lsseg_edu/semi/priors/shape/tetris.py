"""Template transformer: the answer is a template, deformed to fit the image."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.augment import displaced, integrate, warp
from lsseg_edu.data import Task
from lsseg_edu.networks import RegistrationNet, UNet, build
from lsseg_edu.semi.priors.registration import bending_energy
from lsseg_edu.semi.priors.shape.shapes import one_hot, shape_task
from lsseg_edu.train import Method


class TemplateNet(RegistrationNet):
    """A :class:`~lsseg_edu.networks.RegistrationNet` of a template ``(B, K, *S)`` and an image."""

    def __init__(self, channels: int, classes: int, dims: int, width: int = 8):
        super().__init__(channels, dims, width)
        last = self.unet.final_conv
        self.unet = UNet(channels + classes, dims, dims, width)
        self.unet.final_conv = last  # starts near zero: the first motion is none


class Tetris(Method):
    r"""Segment by moving: :math:`\hat y = t \circ \exp(v)`, with :math:`v = g_\theta(t, x)`.

    .. math:: L = L_{sup}(t \circ \exp(v), y) + \lambda \int \lVert \nabla^2 v \rVert^2

    The network does not say what a pixel is, only where in the template it lies. The motion is
    smooth and can be undone, so the answer keeps the topology of the template: one ventricle in
    one ring of muscle, in every image. In an image *without* a ventricle too: what the template
    shows cannot vanish, only shrink.

    Reference: Lee, Petersen, Pawlowski, Glocker, Schaap, "TeTrIS: Template Transformer Networks
    for Image Segmentation With Shape Priors", IEEE Transactions on Medical Imaging 2019.
    Simplified: a velocity is integrated; cross-entropy beside Dice.

    Args:
        net: a :class:`TemplateNet`.
        template: ``(*S,)`` class numbers, or soft masks ``(K, *S)``.
        classes: ``K``.
        bending: :math:`\lambda`, of the velocity in pixels.

    Raises:
        ValueError: a template of another size or class number.
    """

    def __init__(self, net: TemplateNet, template: Tensor, classes: int, bending: float = 0.01):
        super().__init__(net)
        if not template.is_floating_point():
            template = one_hot(template[None], classes)[0]
        if len(template) != classes:
            raise ValueError(f"The template has {len(template)} classes, the task {classes}.")
        self.register_buffer("template", template)
        self.bending = bending

    @classmethod
    def for_task(cls, task: Task, seed: int = 0, **options) -> Tetris:
        """The template is the labelled mask that resembles the others most, see :func:`medoid`."""
        template = medoid(shape_task(task).train.labels, task.train.classes)
        return cls(build(TemplateNet, task, seed), template, task.train.classes, **options)

    def velocity(self, images: Tensor) -> Tensor:
        """Motion ``(B, *S, D)`` of the template for each image.

        Raises:
            ValueError: images of another size than the template.
        """
        if images.shape[2:] != self.template.shape[1:]:
            raise ValueError(
                f"The template is {tuple(self.template.shape[1:])}, the image "
                f"{tuple(images.shape[2:])}: resample one to the other."
            )
        return self.net(self.template.expand(len(images), *self.template.shape), images)

    def move(self, velocity: Tensor) -> Tensor:
        """The template read at ``exp(velocity)``: probabilities ``(B, K, *S)``."""
        many = self.template.expand(len(velocity), *self.template.shape)
        return warp(many, displaced(integrate(velocity)))

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the moved template, and ``bending`` (already weighted)."""
        velocity = self.velocity(batch.labelled.images)
        logits = self.move(velocity).clamp(min=1e-3).log()
        return {
            "supervised": losses.dice_ce(logits, batch.labelled.labels),
            "bending": self.bending * bending_energy(velocity),
        }

    def predict(self, images: Tensor) -> Tensor:
        """The moved template ``(B, K, *S)``."""
        return self.move(self.velocity(images))


def medoid(labels: Tensor, classes: int) -> Tensor:
    """The mask ``(*S,)`` of ``(M, *S)`` with the highest mean Dice to all of them.

    Only masks that show as many classes as any mask does are candidates: a template must have
    all that it will ever show.
    """
    flat = one_hot(labels, classes)[:, 1:].flatten(2)
    overlap = torch.einsum("ikp,jkp->ijk", flat, flat)
    size = flat.sum(2)
    dice = (2 * overlap / (size[:, None] + size).clamp(min=1)).mean((1, 2))
    shown = (size > 0).sum(1)
    return labels[dice.where(shown == shown.max(), -1.0).argmax()]
