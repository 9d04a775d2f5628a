"""Task-driven augmentation (Chaitanya): generators that are paid for helping the segmenter."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment import displaced, integrate, warp, warp_labels
from lsseg_edu.networks import unet
from lsseg_edu.networks.blocks import conv, resize
from lsseg_edu.semi.adversarial import critic, one_hot, verdict_loss
from lsseg_edu.semi.augmentation.soft import soft_dice_ce
from lsseg_edu.train import Method, Player


class FieldNet(nn.Module):
    """An image and noise in, a smooth field out: ``largest * tanh(...)``, from a coarse grid.

    Args:
        channels: of the image.
        outputs: components of the field.
        dims: 2 or 3.
        largest: bound of each component.
        levels: halvings before the field is made; the more, the smoother it is.
        latent: length of the noise.
    """

    def __init__(self, channels, outputs, dims, largest: float, levels: int, latent: int = 32):
        super().__init__()
        widths = [channels, *(16 for _ in range(levels))]
        pairs = zip(widths, widths[1:], strict=False)
        self.downs = nn.Sequential(*(conv(dims, a, b, stride=2) for a, b in pairs))
        self.noise = nn.Linear(latent, 16)
        self.mix = conv(dims, 32, 16)
        self.tail = Conv["conv", dims](16, outputs, kernel_size=3, padding=1)
        self.largest, self.latent = largest, latent

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, outputs, *S)``; every call draws its noise."""
        seen = self.downs(images)
        z = self.noise(torch.randn(len(images), self.latent, device=images.device))
        z = z.view(*z.shape, *(1,) * (images.ndim - 2)).expand_as(seen)
        field = self.tail(self.mix(torch.cat([seen, z], 1))).float()
        return self.largest * resize(field.tanh(), images.shape[2:])


class TaskDriven(Method):
    r"""Two generators, two critics and a segmenter that learns from what the generators make.

    From a labelled image :math:`x` and noise :math:`z` come a velocity :math:`v = G_V(x, z)` and an
    additive change of intensity :math:`\Delta = G_I(x, z)`. The mask follows the motion alone:

    .. math::
        \tilde x = (x + \Delta) \circ \exp(v), \qquad \tilde y = y \circ \exp(v) .

    The generators minimise

    .. math::
        L_G = L_{sup}\big(f(\tilde x), \tilde y\big)
            + \lambda_{adv} \big[\ell(d_V(x \circ \exp v), 1) + \ell(d_I(x + \Delta), 1)\big]
            - \lambda_{big} \big[\lVert v \rVert_1 + \lVert \Delta \rVert_1\big] :

    what they make must help the segmenter (hence *task-driven*; the mask is warped linearly here,
    so that a gradient reaches the motion through it as well), must look to the critics like an
    unlabelled image, and must be *large*, since the other two terms are content with no change.

    Reference: Chaitanya, Karani, Baumgartner, Becker, Donati, Konukoglu, "Semi-supervised and
    Task-Driven Data Augmentation", IPMI 2019.
    Simplified: generators and segmenter are trained together, once; the paper then trains a new
    segmenter with the generators frozen. Motion is a stationary velocity, so it cannot fold.

    Args:
        net: the segmenter.
        generators: of velocities ``(B, D, *S)`` and of intensity changes ``(B, C, *S)``.
        critics: of deformed and of repainted images.
        adversarial: :math:`\lambda_{adv}` (paper 1). At 0 the unlabelled images are not used.
        large: :math:`\lambda_{big}`. The paper's 1e-3 multiplies sums over pixels; this
            multiplies means, as fractions of the largest field allowed.
        fraction: of generated pairs in the segmenter's batch.
        rate: learning rate of generators and critics as a multiple of the segmenter's.

    Raises:
        ValueError: a fraction outside [0, 1].
    """

    unlabelled = True

    def __init__(
        self, net, generators, critics, adversarial=1.0, large=0.1, fraction=0.5, rate=0.25
    ):
        if not 0 <= fraction <= 1:
            raise ValueError(f"The share of generated pairs is in [0, 1], not {fraction}.")
        super().__init__(net)
        self.deform, self.paint = generators
        self.critics = nn.ModuleList(critics)
        self.adversarial, self.large = adversarial, large
        self.fraction, self.rate = fraction, rate

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> TaskDriven:
        """The book's U-Net; motion of up to 8 % of the image, changes of up to one deviation."""
        channels, dims = task.train.channels, task.train.dims
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generators = (
                FieldNet(channels, dims, dims, largest=0.16, levels=3),
                FieldNet(channels, channels, dims, largest=1.0, levels=1),
            )
        critics = [critic(task, "images", 2 * seed + i) for i in range(2)]
        return cls(unet(task, seed=seed), generators, critics, **options)

    def players(self) -> list[Player]:
        """Critics, generators, segmenter."""
        makers = [*self.deform.parameters(), *self.paint.parameters()]
        return [
            Player("critics", list(self.critics.parameters()), self.critic_loss, self.rate),
            Player("generators", makers, self.generator_loss, self.rate),
            Player("segmenter", list(self.net.parameters()), self.loss),
        ]

    def fields(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity ``(B, *S, D)`` and change of intensity ``(B, C, *S)``."""
        return self.deform(images).movedim(1, -1), self.paint(images)

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """Unlabelled images are ``real``; deformed and repainted labelled ones ``fake``."""
        images, others = batch.labelled.images, batch.unlabelled.images
        with torch.no_grad():
            velocity, change = self.fields(images)
            made = (warp(images, displaced(integrate(velocity))), images + change)
        pairs = list(zip(self.critics, made, strict=True))
        return {
            "real": sum(verdict_loss(judge(others), 0.9) for judge, _ in pairs),
            "fake": sum(verdict_loss(judge(fake), 0.0) for judge, fake in pairs),
        }

    def generator_loss(self, batch) -> dict[str, Tensor]:
        """``task``, ``fool`` and ``large``, weighted."""
        images = batch.labelled.images
        velocity, change = self.fields(images)
        grid = displaced(integrate(velocity))
        logits = self.net(warp(images + change, grid))
        target = warp(one_hot(batch.labelled.labels, logits.shape[1]), grid)
        deformed = verdict_loss(self.critics[0](warp(images, grid)), 1.0)
        painted = verdict_loss(self.critics[1](images + change), 1.0)
        size = (
            velocity.abs().mean() / self.deform.largest + change.abs().mean() / self.paint.largest
        )
        return {
            "task": soft_dice_ce(logits, target),
            "fool": self.adversarial * (deformed + painted),
            "large": -self.large * size,
        }

    def loss(self, batch) -> dict[str, Tensor]:
        """Of the segmenter: ``supervised``, on a batch of which a part has been changed."""
        images, labels = batch.labelled.images, batch.labelled.labels
        count = round(self.fraction * len(images))
        if count:
            made, masks = self.generate(images[:count], labels[:count])
            images = torch.cat([made, images[count:]])
            labels = torch.cat([masks, labels[count:]])
        return {"supervised": losses.dice_ce(self.net(images), labels)}

    @torch.no_grad()
    def generate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Synthetic pairs of labelled images."""
        velocity, change = self.fields(images)
        grid = displaced(integrate(velocity))
        return warp(images + change, grid), warp_labels(labels, grid)
