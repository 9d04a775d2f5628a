"""The judge: a small network that tells masks from answers, and the game it plays."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lsseg_edu.data import IGNORE
from lsseg_edu.networks import build, unet
from lsseg_edu.networks.blocks import project, resize
from lsseg_edu.train import Method, Player


class Critic(nn.Module):
    r"""A fully convolutional discriminator: is this real, and where?

    Convolutions of 4 pixels and stride 2 halve the map ``levels`` times; a 1x1 convolution makes
    one logit of each place. The sigmoid of a logit is the critic's belief that it looks at the
    real thing.

    All convolutions but the last are divided by their largest singular value. So divided, the
    critic cannot become arbitrarily steep, and the segmenter's gradient neither explodes nor
    dies at once. There is no normalisation of features: it would mix the places that are judged.

    Args:
        channels: of what is judged: ``K`` for masks, ``K + C`` for masks beside their image.
        dims: 2 or 3.
        width: channels after the first convolution, doubled at each level. The papers' 64 are
            for images of 300 pixels and thousands of steps.
        levels: 3 judge patches of 22 pixels, 4 of 46.

    Raises:
        ValueError: images so small that nothing is left after the last halving.

    Reference: Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial
    Networks", CVPR 2017 (patches); Miyato, Kataoka, Koyama, Yoshida, "Spectral Normalization for
    Generative Adversarial Networks", ICLR 2018.
    """

    def __init__(self, channels: int, dims: int, width: int = 16, levels: int = 3):
        super().__init__()
        self.smallest = 2**levels
        layers = []
        for inputs, outputs in pairwise([channels, *(width * 2**i for i in range(levels))]):
            step = Conv["conv", dims](inputs, outputs, kernel_size=4, stride=2, padding=1)
            layers += [spectral_norm(step), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers)
        self.head = project(dims, outputs, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """Logits ``(B, 1, *S)`` of ``seen (B, channels, *S)``: a verdict on every pixel."""
        return resize(self.verdicts(seen), seen.shape[2:])

    def whole(self, seen: Tensor) -> Tensor:
        """Logits ``(B,)``: one verdict an item, the mean over its places."""
        return self.verdicts(seen).flatten(1).mean(1)

    def verdicts(self, seen: Tensor) -> Tensor:
        """A logit of each patch, on the map that ``levels`` halvings have left."""
        if min(seen.shape[2:]) < self.smallest:
            size = "x".join(map(str, seen.shape[2:]))
            raise ValueError(
                f"The critic needs {self.smallest} pixels along each axis, and gets {size}: "
                f"take larger images, or a critic of fewer levels."
            )
        return self.head(self.body(seen))


def critic(problem, sees: str = "masks", seed: int = 0, **sizes) -> Critic:
    """A :class:`Critic` for a task or cohort, weights drawn by ``seed``.

    Args:
        problem: a Task, a Cohort or a Shape.
        sees: ``"masks"``, ``"images"``, or ``"both"``, concatenated.
        seed: of the weights.
        **sizes: ``width`` and ``levels``.

    Raises:
        ValueError: another word for what it sees.
    """
    if sees not in ("masks", "images", "both"):
        raise ValueError(f"A critic sees 'masks', 'images' or 'both', not {sees!r}.")

    def make(channels, classes, dims, **sizes):
        seen = {"masks": classes, "images": channels, "both": classes + channels}
        return Critic(seen[sees], dims, **sizes)

    return build(make, problem, seed, **sizes)


class Adversarial(Method):
    r"""Two players: the segmenter minimises :meth:`loss`, the critic :meth:`critic_loss`.

    They are stepped in turn, each by an optimiser that holds its own weights only. The critic's
    loss looks at answers that are detached; the segmenter's gradient passes *through* the
    critic and leaves it as it is.

    Args:
        net: the segmenter.
        critic: the judge.
        weight: of the adversarial term. Small: the masks teach, the critic corrects.
        rate: learning rate of the critic as a multiple of the segmenter's. A judge that learns
            as fast as the segmenter is soon certain, and a certain judge has no gradient.
        smooth: the critic is asked to believe real masks with ``1 - smooth`` only, for the same
            reason (one-sided label smoothing).

    Reference: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; Salimans et al.,
    "Improved Techniques for Training GANs", NeurIPS 2016 (smoothing).
    """

    sees, sizes = "masks", {}

    def __init__(self, net: nn.Module, critic: nn.Module, weight=0.01, rate=0.1, smooth=0.1):
        super().__init__(net)
        self.critic, self.weight, self.rate, self.smooth = critic, weight, rate, smooth

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> Adversarial:
        """On the book's U-Net, with the critic that this method needs."""
        return cls(cls.segmenter(task, seed), critic(task, cls.sees, seed, **cls.sizes), **options)

    @staticmethod
    def segmenter(task, seed: int) -> nn.Module:
        """The network that plays against the critic."""
        return unet(task, seed=seed)

    def players(self) -> list[Player]:
        """The segmenter first, then the critic, who judges what that step has made of it."""
        return [
            Player("segmenter", list(self.net.parameters()), self.loss),
            Player("critic", list(self.critic.parameters()), self.critic_loss, self.rate),
        ]

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """Named scalar terms whose sum the critic minimises."""
        raise NotImplementedError(f"{type(self).__name__} must define critic_loss(batch).")


def verdict_loss(logits: Tensor, real: float, where: Tensor | None = None) -> Tensor:
    r"""Cross-entropy of the critic's verdicts with one answer for all of them.

    .. math:: -r \log\sigma(z) - (1 - r) \log(1 - \sigma(z)), \qquad \text{averaged.}

    With ``real=1`` on its own answers it is what a segmenter minimises to fool the critic: the
    non-saturating form, whose gradient is largest where the critic is most certain of a fake.

    Args:
        logits: of the critic, any shape.
        real: :math:`r`: 1 for real, 0 for fake, something between for a smoothed target.
        where: boolean, broadcast to ``logits``; verdicts elsewhere do not count.
    """
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), torch.full_like(logits, real, dtype=torch.float32), reduction="none"
    )
    if where is None:
        return loss.mean()
    return (loss * where).sum() / where.expand_as(loss).sum().clamp(min=1)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Labels ``(B, *S)`` as probabilities ``(B, K, *S)``: 1 at the class, 0 at IGNORE."""
    known = labels != IGNORE
    return (F.one_hot(labels.where(known, 0), classes).movedim(-1, 1) * known.unsqueeze(1)).float()
