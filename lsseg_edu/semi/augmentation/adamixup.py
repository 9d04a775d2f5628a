"""AdaMixUp: learn how far two images may be mixed before the mixture says something else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import mixup
from lsseg_edu.networks.blocks import conv
from lsseg_edu.semi.adversarial.discriminator import critic, verdict_loss
from lsseg_edu.semi.augmentation.mixup import mixup_loss
from lsseg_edu.train import Method


class AdaMixUp(Method):
    r"""Mixup whose range is learnt for each pair, by two small helpers.

    A blend of two hearts may look like a third heart, whose true label is not the blend of
    labels: *manifold intrusion*. The **policy generator** :math:`\pi` looks at the pair and
    answers with a range :math:`[\alpha, \alpha + \Delta] \subset [0, 1]`; the **intrusion
    discriminator** :math:`\varphi` tells mixtures from real images. All three networks minimise
    one sum,

    .. math::
        L = L_{sup}(x, y) + L_{sup}(\tilde x, \tilde y) + w\, \tfrac12 \big[
            -\ln \varphi(x) - \ln(1 - \varphi(\tilde x)) \big], \qquad
        \lambda = \alpha + \Delta\, u, \; u \sim U(0, 1).

    The policy does not play against the discriminator, as a generator would: a mixture that can
    be *recognised* as one collides with no real image. What keeps mixtures from becoming grotesque
    is the second term. Through :math:`\lambda` both teach :math:`\pi`.

    Reference: Guo, Mao, Zhang, "MixUp as Locally Linear Out-Of-Manifold Regularization", AAAI
    2019 (classification).
    Simplified: pairs only; a discriminator of its own instead of a head on the classifier.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        policy: pairs ``(B, 2C, *S)`` to logits ``(B, 3)``, as :func:`policy` makes it.
        intrusion: a :class:`~lsseg_edu.semi.adversarial.Critic` of images.
        weight: :math:`w` (paper 1). At 0 nobody minds an intrusion.
    """

    def __init__(self, net: nn.Module, policy: nn.Module, intrusion: nn.Module, weight=1.0):
        super().__init__(net)
        self.policy, self.intrusion, self.weight = policy, intrusion, weight

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> AdaMixUp:
        """On the book's U-Net; all weights drawn by ``seed``."""
        helpers = networks.build(policy, task, seed), critic(task, "images", seed)
        return cls(networks.unet(task, seed=seed), *helpers, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, ``mixup`` and ``intrusion`` (already weighted)."""
        images, labels = batch.labelled.images, batch.labelled.labels
        share = self.share(images)
        real = verdict_loss(self.intrusion.whole(images), 1.0)
        mixed = verdict_loss(self.intrusion.whole(mixup(images, share)), 0.0)
        return {
            "supervised": losses.dice_ce(self.net(images), labels),
            "mixup": mixup_loss(self.net, images, labels, share),
            "intrusion": self.weight * (real + mixed) / 2,
        }

    def share(self, images: Tensor) -> Tensor:
        """A share ``(B,)`` for each pair, drawn from the range that the policy allows it."""
        low, span = self.ranges(images)
        return low + span * torch.rand_like(low)

    def ranges(self, images: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`\alpha` and :math:`\Delta`, ``(B,)`` each, of every image and the next one."""
        pairs = torch.cat([images, images.roll(-1, 0)], 1)
        low, span, _ = self.policy(pairs).float().softmax(1).unbind(1)
        return low, span


def policy(channels: int, classes: int, dims: int, width: int = 8) -> nn.Module:
    """A policy generator: three halving convolutions, their mean, three logits.

    Their softmax cuts [0, 1] into what is below the range, the range, and what is above it. The
    last layer starts at zero: three equal parts.

    Args:
        channels: ``C`` of one image; it sees two.
        classes: not needed; :func:`lsseg_edu.networks.build` passes it.
        dims: 2 or 3.
        width: channels after the first convolution, doubled by the next two.
    """
    sizes = [2 * channels, width, 2 * width, 4 * width]
    steps = [conv(dims, a, b, stride=2) for a, b in zip(sizes, sizes[1:], strict=False)]
    pool = nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1)
    last = nn.Linear(sizes[-1], 3)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*steps, pool, nn.Flatten(), last)
