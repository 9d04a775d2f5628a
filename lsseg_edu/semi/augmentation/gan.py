"""GAN: a generator makes samples of noise, a critic tells them from real ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.semi.adversarial import one_hot, verdict_loss
from lsseg_edu.semi.augmentation.noise import Decoder, WholeCritic
from lsseg_edu.semi.augmentation.synthetic import MOTION, train_on_both
from lsseg_edu.train import Budget, Fitted, Method, Player, fit


class Generative(Method):
    r"""The minimax game of a generator and a critic; they are stepped in turn, critic first.

    .. math::
        \min_d\; \ell\big(d(x), 1\big) + \ell\big(d(G(z)), 0\big), \qquad
        \min_G\; \ell\big(d(G(z)), 1\big),
        \qquad \ell(s, r) = -r\ln\sigma(s) - (1-r)\ln\sigma(-s) .

    The generator's half is *non-saturating*: it does not minimise :math:`\ln(1 - \sigma(d))`, the
    opposite of the critic's loss, whose gradient dies where the critic is certain.

    A small blur of noise is laid over everything the critic sees: sharp one-hot masks would
    otherwise give the real ones away long before a shape does.

    Args:
        net: the generator.
        critic: the judge.
        rates: learning rates of critic and generator as multiples of the budget's. Generators
            take small steps, 1e-3 at the peak (DCGAN: 2e-4, for far longer). At equal rates the
            critic is certain of everything within fifty steps, and the samples stand still.
        smooth: real ones are to be believed to ``1 - smooth``.
        veil: deviation of the noise over what the critic sees.

    Reference: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; Sonderby et al.,
    "Amortised MAP Inference for Image Super-resolution", ICLR 2017 (noise for the critic).
    """

    def __init__(self, net: nn.Module, critic: nn.Module, rates=(0.05, 0.25), smooth=0.1, veil=0.1):
        super().__init__(net)
        self.critic, self.rates, self.smooth, self.veil = critic, rates, smooth, veil

    def players(self) -> list[Player]:
        """The critic, then the generator with all that is not the critic's."""
        judge = list(self.critic.parameters())
        known = set(judge)
        mine = [p for p in self.parameters() if p.requires_grad and p not in known]
        return [
            Player("critic", judge, self.critic_loss, self.rates[0]),
            Player("generator", mine, self.loss, self.rates[1]),
        ]

    def game(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The critic's terms ``real`` and ``fake``; the fake is detached."""
        return {
            "real": verdict_loss(self.judge(real), 1 - self.smooth),
            "fake": verdict_loss(self.judge(fake.detach()), 0.0),
        }

    def judge(self, seen: Tensor) -> Tensor:
        """The critic's logits of what it sees through the veil."""
        return self.critic(seen + self.veil * torch.randn_like(seen))

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """What the critic minimises: :meth:`game` on a real and a fake batch."""
        raise NotImplementedError(f"{type(self).__name__} must define critic_loss(batch).")

    def predict(self, images: Tensor) -> Tensor:
        """A generator makes pairs to train on; it segments nothing.

        Raises:
            NotImplementedError: always.
        """
        name = type(self).__name__
        raise NotImplementedError(f"{name} makes training pairs: train a segmenter on them.")


class GAN(Generative):
    r"""Masks, or masks with their images, out of noise :math:`z \sim N(0, I)`.

    The generator's first ``K`` channels are the logits of a mask, the rest an image that belongs
    to it. What the critic sees as real are annotated training images, one-hot masks on top.

    Args:
        net: a :class:`Decoder` of ``K`` or ``K + C`` channels.
        critic: of as many channels; of the whole map, see :class:`.WholeCritic`.
        classes: ``K``.
        latent: length of ``z``.
        **game: see :class:`Generative`.

    Example:
        >>> from lsseg_edu.data import load
        >>> gan = GAN.for_task(Task.split(load("cardiac"), labelled=3))
        >>> images, labels = gan.sample(2)
        >>> images.shape, labels.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 64, 64]))
    """

    def __init__(self, net: nn.Module, critic: nn.Module, classes: int, latent: int = 32, **game):
        super().__init__(net, critic, **game)
        self.classes, self.latent = classes, latent

    @classmethod
    def for_task(cls, task, seed: int = 0, images: bool = True, latent=32, **options) -> GAN:
        """A generator of pairs; of masks alone with ``images=False``."""
        channels = task.train.classes + images * task.train.channels
        size = task.train.labels.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net, judge = Decoder(latent, channels, size), WholeCritic(channels, size)
        return cls(net, judge, task.train.classes, latent, **options)

    def make(self, count: int) -> Tensor:
        """Fresh samples: probabilities of the classes, then the image's channels."""
        noise = torch.randn(count, self.latent, device=next(self.parameters()).device)
        logits = self.net(noise)
        return torch.cat([logits[:, : self.classes].softmax(1), logits[:, self.classes :]], 1)

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """Annotated masks (and images) against fresh samples."""
        part = batch.labelled
        real = torch.cat([one_hot(part.labels, self.classes), part.images], 1)
        with torch.no_grad():
            fake = self.make(len(real))
        return self.game(real[:, : fake.shape[1]], fake)

    def loss(self, batch) -> dict[str, Tensor]:
        """``fool``: the critic should take fresh samples for real."""
        return {"fool": verdict_loss(self.judge(self.make(len(batch.labelled.images))), 1.0)}

    @torch.no_grad()
    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` images ``(count, C, *S)`` (``C`` = 0 for masks alone) and their labels."""
        masks, images = self.make(count).tensor_split([self.classes], 1)
        return images, masks.argmax(1)


def gan_augmentation(
    task: Task, budget: Budget | None = None, seed: int = 0, fraction: float = 0.5, **kwargs
) -> Fitted:
    """Train a GAN on the annotated pairs, then the segmenter on real and generated ones.

    The plainest generator there is: image and mask come out of noise together. It can know no
    more than the few annotated images it was shown, which is what this row is there to test.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`. The segmenter's
            is the baseline's; the GAN's comes on top and is counted in the seconds.
        seed: of weights and draws.
        fraction: of synthetic pairs in a batch.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: a fraction outside [0, 1], an image side that 16 does not divide.

    Reference: Goodfellow et al., NeurIPS 2014; pairs as in Bowles et al., "GAN Augmentation",
    arXiv:1810.10863, 2018. Simplified: a DCGAN of 64 pixels instead of progressive growing.
    """
    budget = budget or Budget.auto()
    gan = fit(GAN.for_task(task, seed), task, budget, seed, **{**kwargs, "augment": MOTION})
    return train_on_both(task, gan.method, [gan], budget, seed, fraction, **kwargs)
