"""Synthetic nodules (Qin): a mask drawn into a lung, and the CT patch that belongs to it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu.augment import Augment
from lsseg_edu.data import Task
from lsseg_edu.networks import UNet
from lsseg_edu.semi.adversarial import Critic, verdict_loss
from lsseg_edu.semi.augmentation.conditional_gan import ConditionalGAN
from lsseg_edu.semi.augmentation.patches import PATCH, foreground, grown, lung, windows
from lsseg_edu.semi.augmentation.synthetic import MOTION, moved, train_on_both
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Budget, Fitted, fit

SHAPES = replace(Augment.none(), rotation=180, scale=0.5, elastic=0.015)
"""How a mask is changed before it is drawn elsewhere: turned, 0.6 to 1.6 times as large."""


class NoduleGAN(ConditionalGAN):
    r"""A conditional GAN from nodule mask and surroundings to a CT patch.

    Around an annotated nodule a patch :math:`x` is cut out and emptied where the mask :math:`m`,
    grown by two pixels, lies. The generator fills the hole :math:`h`:

    .. math::
        c = \big(m,\; x\,(1 - h)\big), \qquad \tilde x = x\,(1 - h) + G(c, z)\, h .

    Losses are those of :class:`.ConditionalGAN`; the :math:`L_1` is averaged over the hole. Since
    the rest of the patch is the original, ribs and vessels need not be invented.

    Reference: Qin, Zheng, Huang, Yang, Zhu, "Pulmonary Nodule Segmentation with CT Sample Synthesis
    Using Adversarial Networks", Medical Physics 2019.
    Simplified: slices instead of volumes; the surroundings are given rather than generated from a
    label map of the chest.

    Args:
        net: mask, emptied patch and noise ``(B, C + 2, *S)`` to a patch ``(B, C, *S)``.
        critic: of mask, emptied patch and patch.
        classes: ``K``; everything that is not background counts as nodule.
        reconstruction: weight of the :math:`L_1`.
        **game: see :class:`.Generative`.
    """

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> NoduleGAN:
        """A U-Net for patches.

        Raises:
            ValueError: volumes, or images smaller than a patch.
        """
        size = task.train.labels.shape[1:]
        if len(size) != 2 or min(size) < PATCH:
            raise ValueError(
                f"Nodules are drawn into slices of {PATCH} pixels or more, not {size}."
            )
        channels = task.train.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = UNet(channels + 2, channels, 2, width=8)
            return cls(net, Critic(2 * channels + 1, 2), task.train.classes, **options)

    def patches(self, part) -> tuple[Tensor, Tensor]:
        """Patches ``(B, C, P, P)`` at random nodule pixels, and their nodules ``(B, 1, P, P)``."""
        nodule = foreground(part.labels)
        centre = (nodule.flatten(1).float() + 1e-9).multinomial(1)[:, 0]
        masks = nodule.unsqueeze(1).float()
        return part.images[windows(part.images, centre)], masks[windows(masks, centre)]

    def fill(self, patches: Tensor, nodule: Tensor) -> tuple[Tensor, Tensor]:
        """The condition, and the patches with their hole filled."""
        hole = grown(nodule)
        condition = torch.cat([nodule, patches * (1 - hole)], 1)
        return condition, patches * (1 - hole) + self.make(condition) * hole

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """True patches against filled ones, each beside its condition."""
        patches, nodule = self.patches(batch.labelled)
        with torch.no_grad():
            condition, fake = self.fill(patches, nodule)
        return self.game(self.beside(condition, patches), self.beside(condition, fake))

    def loss(self, batch) -> dict[str, Tensor]:
        """``fool`` the critic, and the weighted ``reconstruction`` of what the hole held."""
        patches, nodule = self.patches(batch.labelled)
        condition, fake = self.fill(patches, nodule)
        distance = (fake - patches).abs().sum() / grown(nodule).sum().clamp(min=1)
        fool = verdict_loss(self.judge(self.beside(condition, fake)), 1.0)
        return {"fool": fool, "reconstruction": self.reconstruction * distance}

    def insert(self, images: Tensor, labels: Tensor, nodule: Tensor, centre: Tensor):
        """Draw a nodule into each image.

        Args:
            images: ``(B, 1, H, W)``.
            labels: ``(B, H, W)``.
            nodule: boolean ``(B, P, P)``, in the window of :func:`windows` around the centre.
            centre: ``(B,)`` flat index of a pixel.

        Returns:
            The images and labels with the nodules in them.
        """
        images, labels = images.clone(), labels.clone().unsqueeze(1)
        nodule, there = nodule.unsqueeze(1), windows(images, centre)
        images[there] = self.fill(images[there], nodule.float())[1].to(images.dtype)
        there = windows(labels, centre)
        labels[there] = labels[there].masked_fill(nodule, 1)
        return images, labels[:, 0]


class NoduleSampler(nn.Module):
    """A sampler: an annotated slice with the nodules of another one drawn into its lung.

    Where lung is, is read off the image: not thick tissue, and enclosed by it.

    Args:
        gan: trained.
        bank: the annotated slices.
    """

    def __init__(self, gan: NoduleGAN, bank: Atlas):
        super().__init__()
        self.gan, self.bank = gan, bank
        self.register_buffer("room", lung(bank.images), persistent=False)
        holders = foreground(bank.labels).flatten(1).any(1).nonzero()[:, 0]
        self.register_buffer("holders", holders, persistent=False)

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` images and labels; their old nodules stay."""
        images, labels = self.bank.images, self.bank.labels
        base = torch.randint(len(images), (count,), device=images.device)
        maps = torch.stack([labels[base], self.room[base].long()], 1)
        images, maps = moved(images[base], maps)
        labels, room = maps[:, 0], (maps[:, 1] == 1) & (maps[:, 0] == 0)
        centre = (room.flatten(1).float() + 1e-9).multinomial(1)[:, 0]
        room = room.unsqueeze(1)
        nodule = self.shapes(count) & room[windows(room, centre)][:, 0]
        return self.gan.insert(images, labels, nodule, centre)

    def shapes(self, count: int) -> Tensor:
        """Annotated nodules ``(count, P, P)``, turned and scaled, a nodule pixel in the middle."""
        donor = self.holders[torch.randint(len(self.holders), (count,), device=self.room.device)]
        nodule = foreground(self.bank.labels[donor])
        centre = nodule.flatten(1).float().multinomial(1)[:, 0]
        masks = nodule.unsqueeze(1).long()
        masks = masks[windows(masks, centre)]
        return moved(masks.float(), masks[:, 0], SHAPES)[1] == 1


def nodule_augmentation(
    task: Task, budget: Budget | None = None, seed: int = 0, fraction: float = 0.5, **kwargs
) -> Fitted:
    """Learn to paint nodules, draw annotated shapes into other places, train on both.

    Args:
        task: slices with few annotated nodules.
        budget: of each of the two trainings; by default :meth:`Budget.auto`. The segmenter's
            is the baseline's; the generator's comes on top and is counted in the seconds.
        seed: of weights and draws.
        fraction: of synthetic pairs in a batch.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: volumes, slices smaller than a patch, a fraction outside [0, 1].
    """
    budget = budget or Budget.auto()
    holders = foreground(task.train.labels).flatten(1).any(1)
    model, few = NoduleGAN.for_task(task, seed), replace(task, train=task.train.select(holders))
    painter = fit(model, few, budget, seed, **{**kwargs, "augment": MOTION})
    sampler = NoduleSampler(painter.method, Atlas.of(task))
    return train_on_both(task, sampler, [painter], budget, seed, fraction, **kwargs)
