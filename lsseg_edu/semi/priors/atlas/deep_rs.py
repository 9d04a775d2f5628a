"""DeepRS: registration as an endless source of labelled images, and a critic that checks it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.networks import Shape
from lsseg_edu.semi.adversarial.discriminator import Critic, critic, verdict_loss
from lsseg_edu.semi.priors.atlas.propagation import scaled, uniform
from lsseg_edu.semi.priors.registration import Registration, alignment
from lsseg_edu.train import Method, Player


class DeepRS(Method):
    r"""Registration warps labels for the segmenter, in two ways, and a critic weights one of them.

    With the velocity :math:`v` that moves the atlas :math:`(a, y)` onto an unlabelled :math:`x`:

    **Perturbation factor.** Atlas image and label, moved by :math:`\alpha v` with a random
    :math:`\alpha`, are a labelled image that nobody has ever drawn, and *exactly* labelled:
    both went the same way. Its shape lies on the path from the atlas to a real patient.

    **Alignment confidence.** The full way leads to a label for :math:`x` itself, which is only
    as good as the registration. A critic :math:`d` sees two images and says, place by place,
    whether they are aligned; it knows an aligned pair as :math:`x` beside its mixture with the
    moved atlas (mostly :math:`x`), and a doubtful one as :math:`x` beside the moved atlas. Its
    belief :math:`m = \sigma(d)` is the weight:

    .. math::
        L_{seg} = L_{sup}\big(f(a \circ e^{\alpha v}),\, y \circ e^{\alpha v}\big) + L_{sup}
          + \lambda \frac{\sum_i m_i\, CE\big(f(x)_i, (y \circ e^v)_i\big)}{\sum_i m_i}, \qquad
        L_{reg} = L_{align} + \beta\, \ell(d, 1) .

    Reference: He, Li, Yang, et al., "Deep Complementary Joint Model for Complex
    Scene Registration and Few-Shot Segmentation on Medical Images", ECCV 2020.
    Simplified: the segmenter's feedback to the registration is left to
    :class:`.DeepAtlas`, whose mechanism it is.

    Args:
        net: the segmenter.
        registration: the atlas and its network.
        critic: sees two images one on the other, ``2 C`` channels.
        weight: :math:`\lambda`, reached with a linear ramp.
        reach: largest :math:`\alpha`; beyond 1 the motion overshoots.
        adversarial: :math:`\beta`.
        mixture: largest share of the moved atlas in an aligned pair.
        confident: whether the critic's belief weights the labels; if not, all count alike.
        rate: learning rate of the critic as a multiple of the segmenter's.
    """

    unlabelled = True
    weak = Augment.weak()

    def __init__(
        self,
        net: nn.Module,
        registration: Registration,
        critic: Critic,
        weight: float = 0.3,
        reach: float = 1.2,
        adversarial: float = 0.01,
        mixture: float = 0.3,
        confident: bool = True,
        rate: float = 0.1,
    ):
        super().__init__(net)
        self.registration, self.critic, self.rate = registration, critic, rate
        self.weight, self.reach, self.adversarial = weight, reach, adversarial
        self.mixture, self.confident = mixture, confident

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """The book's U-Net and registration network, and a critic of pairs of images."""
        pair = Shape(2 * task.train.channels, task.train.classes, task.train.dims)
        judge = critic(pair, "images", seed)
        registration = Registration.for_task(task, seed)
        return cls(networks.unet(task, seed=seed), registration, judge, **options)

    def players(self) -> list[Player]:
        """Registration, segmenter, critic."""
        return [
            Player("registration", list(self.registration.parameters()), self.registration_loss),
            Player("segmenter", list(self.net.parameters()), self.loss),
            Player("critic", list(self.critic.parameters()), self.critic_loss, self.rate),
        ]

    def registration_loss(self, batch) -> dict[str, Tensor]:
        """``unlikeness``, ``bending``, and ``fooled``: the critic shall see an aligned pair."""
        images = batch.unlabelled.images
        moving, _, velocity = self.register(images)
        moved = self.registration.move(moving, velocity)
        fooled = self.adversarial * verdict_loss(self.judge(moved, images), 1.0)
        terms = alignment(moved, images, velocity, self.registration.bending)
        return {**terms, "fooled": fooled}

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, ``perturbed`` (on the way to a patient), ``warped`` (arrived)."""
        images = batch.unlabelled.images
        with torch.no_grad():
            moving, masks, velocity = self.register(images)
            moved, arrived = (self.registration.move(m, velocity) for m in (moving, masks))
            partial = self.perturbed(velocity)
            between, labels = (self.registration.move(m, partial) for m in (moving, masks))
            trust = self.confidence(moved, images)
        entropy = -(arrived * self.net(images).float().log_softmax(1)).sum(1, keepdim=True)
        warped = (trust * entropy).sum() / trust.sum().clamp(min=1)
        return {
            "supervised": losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels),
            "perturbed": losses.dice_ce(self.net(between), labels.argmax(1)),
            "warped": self.weight * min(1.0, batch.progress / 0.4) * warped,
        }

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """``aligned`` pairs to be believed, the ``moved`` atlas beside its target not."""
        images = batch.unlabelled.images
        with torch.no_grad():
            moving, _, velocity = self.register(images)
            moved = self.registration.move(moving, velocity)
            mixed = images + scaled(moved - images, uniform(images, 0.0, self.mixture))
        return {
            "aligned": verdict_loss(self.judge(mixed, images), 0.9),
            "moved": verdict_loss(self.judge(moved, images), 0.0),
        }

    def register(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Atlas images, their masks ``(B, K, *S)``, and the velocities that move both."""
        atlas = self.registration.atlas
        index = atlas.match(images)
        moving = atlas.images[index]
        return moving, atlas.one_hot(index), self.registration.net(moving, images)

    def perturbed(self, velocity: Tensor) -> Tensor:
        """Each velocity times a random factor between 0 and ``reach``."""
        return scaled(velocity, uniform(velocity, 0.0, self.reach))

    def judge(self, moved: Tensor, images: Tensor) -> Tensor:
        """The critic's logits ``(B, 1, *S)`` for a pair."""
        return self.critic(torch.cat([moved, images], 1))

    def confidence(self, moved: Tensor, images: Tensor) -> Tensor:
        """Its belief ``(B, 1, *S)`` that the pair is aligned; 1 where it is not asked."""
        belief = self.judge(moved, images).sigmoid()
        return belief if self.confident else torch.ones_like(belief)
