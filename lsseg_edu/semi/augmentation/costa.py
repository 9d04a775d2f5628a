"""Retinal synthesis (Costa): draw a vessel tree out of noise, then paint the fundus around it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.networks import UNet
from lsseg_edu.semi.adversarial import Critic, one_hot, verdict_loss
from lsseg_edu.semi.augmentation.gan import Generative
from lsseg_edu.semi.augmentation.noise import Decoder, Encoder
from lsseg_edu.semi.augmentation.synthetic import MOTION, train_on_both
from lsseg_edu.train import Budget, Fitted, fit


class RetinaGAN(Generative):
    r"""An adversarial autoencoder of vessel trees, and a conditional GAN from tree to photograph.

    Encoder :math:`e` and decoder :math:`D` must reproduce a mask :math:`y`; a critic :math:`d_z`
    of codes, who knows :math:`z \sim N(0, I)`, makes the codes of real trees look like noise, so
    that noise decodes to trees. The painter :math:`G` gets the decoded tree
    :math:`\hat y = D(e(y))`:

    .. math::
        \min_{e, D, G}\; L_{sup}(\hat y, y) + \ell\big(d_z(e(y)), 1\big)
            + \ell\big(d_x(\hat y, G(\hat y)), 1\big) + \lambda \lVert G(\hat y) - x \rVert_1 ,

    with both critics playing against it. All is trained end to end: the painter learns from the
    decoder's trees, blurred as they are, and those are what it will be given when sampling.

    Reference: Costa, Galdran, Meyer, Niemeijer, Abramoff, Mendonca, Campilho, "End-to-End
    Adversarial Retinal Image Synthesis", TMI 2018.
    Simplified: patches of 64 pixels, and small networks without batch normalisation.

    Args:
        net: the painter, tree probabilities and one channel of noise to an image.
        critic: of images beside their trees.
        encoder: :math:`e`.
        decoder: :math:`D`, a :class:`.Decoder` of ``K`` channels.
        code_critic: :math:`d_z`, codes ``(B, latent)`` to logits.
        reconstruction: :math:`\lambda`, as in :class:`.ConditionalGAN`.
        **game: see :class:`.Generative`.
    """

    def __init__(
        self, net, critic, encoder, decoder, code_critic, reconstruction: float = 10.0, **game
    ):
        super().__init__(net, nn.ModuleDict({"image": critic, "code": code_critic}), **game)
        self.encoder, self.decoder = encoder, decoder
        self.classes, self.reconstruction = decoder.tail.out_channels, reconstruction

    @classmethod
    def for_task(cls, task, seed: int = 0, latent: int = 32, **options) -> RetinaGAN:
        """All five networks; codes of ``latent`` numbers (32 at most for so few trees)."""
        data, size = task.train, task.train.labels.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            judge = nn.Sequential(nn.Linear(latent, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
            return cls(
                UNet(data.classes + 1, data.channels, data.dims, width=8),
                Critic(data.classes + data.channels, data.dims),
                Encoder(latent, data.classes, size),
                Decoder(latent, data.classes, size),
                judge,
                **options,
            )

    def judge(self, seen: Tensor) -> Tensor:
        """Codes go to the critic of codes, maps to the critic of images."""
        if seen.ndim == 2:
            return self.critic["code"](seen)
        return self.critic["image"](seen + self.veil * torch.randn_like(seen))

    def paint(self, trees: Tensor) -> Tensor:
        """An image for tree probabilities ``(B, K, *S)``."""
        return self.net(torch.cat([trees, torch.randn_like(trees[:, :1])], 1)).float()

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """Noise against codes; true images against painted ones beside the same decoded tree."""
        with torch.no_grad():
            code = self.encoder(one_hot(batch.labelled.labels, self.classes))
            tree = self.decoder(code).softmax(1)
            fake = self.paint(tree)
        codes = self.game(torch.randn_like(code), code)
        real, fake = (torch.cat([tree, x], 1) for x in (batch.labelled.images, fake))
        return {**self.game(real, fake), "code real": codes["real"], "code fake": codes["fake"]}

    def loss(self, batch) -> dict[str, Tensor]:
        """``tree``, ``code`` of the autoencoder, ``fool``, ``reconstruction`` of the painter."""
        images, labels = batch.labelled.images, batch.labelled.labels
        code = self.encoder(one_hot(labels, self.classes))
        logits = self.decoder(code)
        tree = logits.softmax(1)
        fake = self.paint(tree)
        return {
            "tree": losses.dice_ce(logits, labels),
            "code": verdict_loss(self.judge(code), 1.0),
            "fool": verdict_loss(self.judge(torch.cat([tree, fake], 1)), 1.0),
            "reconstruction": self.reconstruction * (fake - images).abs().mean(),
        }

    @torch.no_grad()
    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Noise to trees to photographs: images and labels, no annotation needed any more."""
        where = next(self.parameters()).device
        trees = self.decoder(
            torch.randn(count, self.decoder.start.in_features, device=where)
        ).softmax(1)
        return self.paint(trees), trees.argmax(1)


def retina_augmentation(
    task: Task, budget: Budget | None = None, seed: int = 0, fraction: float = 0.5, **kwargs
) -> Fitted:
    """Train :class:`RetinaGAN` on the annotated images, then the segmenter on real and synthetic.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`. The segmenter's
            is the baseline's; the generator's comes on top and is counted in the seconds.
        seed: of weights and draws.
        fraction: of synthetic pairs in a batch.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: a fraction outside [0, 1], an image side that 16 does not divide.
    """
    budget = budget or Budget.auto()
    model = RetinaGAN.for_task(task, seed)
    retina = fit(model, task, budget, seed, **{**kwargs, "augment": MOTION})
    return train_on_both(task, retina.method, [retina], budget, seed, fraction, **kwargs)
