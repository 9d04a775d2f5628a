"""Conditional GAN: paint the image that belongs to a given mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.networks import UNet
from lsseg_edu.semi.adversarial import Critic, one_hot, verdict_loss
from lsseg_edu.semi.augmentation.gan import Generative
from lsseg_edu.semi.augmentation.synthetic import MOTION, Repainted, train_on_both
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Budget, Fitted, fit


class ConditionalGAN(Generative):
    r"""A generator that is told what to paint, and a critic that is told the same.

    From a condition :math:`c` (here a mask) and noise :math:`z`, the generator makes an image:

    .. math::
        \min_G\; \ell\big(d(c, G(c, z)), 1\big) + \lambda \lVert G(c, z) - x \rVert_1, \qquad
        \min_d\; \ell\big(d(c, x), 1\big) + \ell\big(d(c, G(c, z)), 0\big) .

    The critic sees the condition *beside* the image: an image that looks real but belongs to
    another mask is a fake. The reconstruction :math:`L_1` holds what the mask determines, the
    critic asks for what it does not, grain and contrast: an :math:`L_1` alone paints averages.

    Reference: Mirza, Osindero, "Conditional Generative Adversarial Nets", arXiv:1411.1784, 2014;
    Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
    CVPR 2017 (pix2pix). Simplified: noise enters as one more input channel, which a generator may
    turn into grain; pix2pix has dropout in its place.

    Args:
        net: condition and one channel of noise ``(B, cond + 1, *S)`` to images ``(B, C, *S)``.
        critic: of condition and image, ``cond + C`` channels.
        classes: ``K``.
        reconstruction: :math:`\lambda`. pix2pix takes 100 for grey values in [-1, 1]; ours have
            deviation 1, and 10 keeps the critic audible.
        **game: see :class:`.Generative`.
    """

    def __init__(self, net, critic: nn.Module, classes: int, reconstruction=10.0, **game):
        super().__init__(net, critic, **game)
        self.classes, self.reconstruction = classes, reconstruction

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> ConditionalGAN:
        """A U-Net as generator and a patch critic, both of the size that the condition asks for."""
        shown, channels, dims = cls.shown(task), task.train.channels, task.train.dims
        judged = shown + channels + cls.extra(channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net, judge = UNet(shown + 1, channels, dims, width=8), Critic(judged, dims)
        return cls(net, judge, task.train.classes, **options)

    @staticmethod
    def shown(task) -> int:
        """Channels of the condition."""
        return task.train.classes

    @staticmethod
    def extra(channels: int) -> int:
        """Channels that the critic sees beyond condition and image."""
        return 0

    def condition(self, part) -> Tensor:
        """What the generator is told about a part of the batch: its masks, one-hot."""
        return one_hot(part.labels, self.classes)

    def target(self, part) -> Tensor:
        """The true image that belongs to the condition."""
        return part.images

    def part(self, batch):
        """The half of the batch that has condition and target."""
        return batch.labelled

    def make(self, condition: Tensor) -> Tensor:
        """An image ``(B, C, *S)`` for each condition; every call draws its noise."""
        return self.net(torch.cat([condition, torch.randn_like(condition[:, :1])], 1)).float()

    def beside(self, condition: Tensor, images: Tensor) -> Tensor:
        """What the critic sees: the image with its condition."""
        return torch.cat([condition, images], 1)

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """True images against painted ones, each beside the condition."""
        part = self.part(batch)
        condition = self.condition(part)
        with torch.no_grad():
            fake = self.make(condition)
        real = self.beside(condition, self.target(part))
        return self.game(real, self.beside(condition, fake))

    def loss(self, batch) -> dict[str, Tensor]:
        """``fool`` the critic, and the weighted ``reconstruction``."""
        part = self.part(batch)
        condition = self.condition(part)
        fake = self.make(condition)
        distance = (fake - self.target(part)).abs().mean()
        fool = verdict_loss(self.judge(self.beside(condition, fake)), 1.0)
        return {"fool": fool, "reconstruction": self.reconstruction * distance}

    def paint(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images for ``labels (B, *S)``; the old ``images`` are not looked at."""
        return self.make(one_hot(labels, self.classes))


def cgan_augmentation(
    task: Task, budget: Budget | None = None, seed: int = 0, fraction: float = 0.5, **kwargs
) -> Fitted:
    """Learn to paint masks, then train on annotated masks that were moved and painted anew.

    The masks are the annotated ones under the usual motion; only their images are new.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`. The segmenter's
            is the baseline's; the generator's comes on top and is counted in the seconds.
        seed: of weights and draws.
        fraction: of synthetic pairs in a batch.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: a fraction outside [0, 1].
    """
    budget = budget or Budget.auto()
    model = ConditionalGAN.for_task(task, seed)
    painter = fit(model, task, budget, seed, **{**kwargs, "augment": MOTION})
    sampler = Repainted(Atlas.of(task), painter.method)
    return train_on_both(task, sampler, [painter], budget, seed, fraction, **kwargs)
