"""SimCLR: two views of an image find each other in a crowd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.augment import Augment
from lsseg_edu.frontier.contrastive.loss import nt_xent
from lsseg_edu.semi.self_supervision import Pretext, pretrain_finetune
from lsseg_edu.train import Budget, Fitted, Player

VIEWS = Augment(
    rotation=30, scale=0.25, shift=0.1, elastic=0.03, bias=0.4, gamma=0.6, contrast=0.5, noise=0.3
)
"""What makes a view: geometry about twice, intensities about three times as strong as in the
supervised training. The paper finds that contrast needs the stronger augmentation."""
RATE = 0.25
"""Learning rate, as a multiple of the budget's. At the full rate the global stage of
:class:`.GlobalLocal` stayed at the loss of chance (training images of the cardiac phantom)."""


class SimCLR(Pretext):
    r"""Of the ``2B`` views of a batch, each must pick out the other view of its image.

    .. math:: z = g(f_{enc}(\tilde x)), \qquad L = \mathrm{NT\text{-}Xent}(z, z')

    with :func:`.nt_xent` and two random views :math:`\tilde x, \tilde x'` of each image. The
    projection head ``g`` may forget whatever tells the views apart; :math:`f_{enc}`, which is what
    we keep, need not. ``g`` is thrown away.

    Reference: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of
    Visual Representations", ICML 2020.
    Simplified: batches of 8 where the paper has 4096; no LARS, no batch normalisation, so that
    nothing leaks between the images of a batch; other augmentations, those of medical images.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        features: of ``z``; the paper's 128 for a far larger network.
        temperature: the paper's 0.1.
        layers: of the head; the paper's 2.
        views: what makes a view, by default :data:`VIEWS`.

    Example:
        >>> from lsseg_edu import networks
        >>> net = networks.unet(networks.Shape(channels=1, classes=4, dims=2))
        >>> SimCLR(net).represent(torch.randn(2, 1, 64, 64)).shape
        torch.Size([2, 64])
    """

    weak = Augment.none()

    def __init__(self, net, features=64, temperature=0.1, layers=2, views: Augment = VIEWS):
        super().__init__(net)
        self.temperature, self.views = temperature, views
        self.head = projection(net.widths[-1] * 2**self.dims, features, layers)

    def loss(self, batch) -> dict[str, Tensor]:
        """NT-Xent of two views of the batch.

        Raises:
            ValueError: a batch of one image, which has no negatives.
        """
        first, second = (self.represent(self.view(batch.unlabelled.images)) for _ in range(2))
        return {"simclr": nt_xent(first, second, self.temperature)}

    def players(self) -> list[Player]:
        """One player, at :data:`RATE`."""
        return [player._replace(rate=RATE) for player in super().players()]

    def view(self, images: Tensor) -> Tensor:
        """A fresh view of each image ``(B, C, *S)``."""
        seed = int(torch.randint(2**31, ()))
        generator = torch.Generator(images.device).manual_seed(seed)
        return self.views(images, images[:, 0].long(), generator)[0]

    def represent(self, images: Tensor) -> Tensor:
        """What is compared, ``z``: ``(B, features)``."""
        return self.head(self.embed(images))


def projection(inputs: int, outputs: int, layers: int = 2) -> nn.Module:
    """A perceptron of ``layers`` linear maps with ReLUs between them."""
    hidden = [128] * (layers - 1)
    maps = [nn.Linear(a, b) for a, b in zip([inputs, *hidden], [*hidden, outputs], strict=True)]
    return nn.Sequential(maps[0], *[part for m in maps[1:] for part in (nn.ReLU(), m)])


def finetune_simclr(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the encoder that SimCLR has trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=SimCLR, **kwargs)
