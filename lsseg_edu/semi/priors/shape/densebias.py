"""Features of an autoencoder: what the unlabelled images look like, told to the segmenter."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.augment import Augment
from lsseg_edu.data import Task
from lsseg_edu.networks import UNet, build, unet
from lsseg_edu.networks.blocks import conv, project, resize
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit


class ImageAutoencoder(nn.Module):
    """Images to features at strides 2, 4, 8, 16, and back to the image from the last one.

    Args:
        channels: of the image.
        dims: 2 or 3.
        width: channels at stride 2; doubled at each stride.
    """

    def __init__(self, channels: int, dims: int, width: int = 8):
        super().__init__()
        self.widths = [width * 2**i for i in range(4)]
        steps = pairwise([channels, *self.widths])
        self.down = nn.ModuleList(conv(dims, a, b, stride=2) for a, b in steps)
        back = pairwise([*self.widths[::-1], width])
        self.up = nn.ModuleList(conv(dims, a, b) for a, b in back)
        self.head = project(dims, width, channels)

    def encode(self, images: Tensor) -> list[Tensor]:
        """``(B, C, *S)`` to four feature maps, the finest first."""
        features = []
        for step in self.down:
            images = step(images)
            features.append(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images to images, through the coarsest features alone."""
        *finer, x = self.encode(images)
        for step, target in zip(self.up, [*finer[::-1], images], strict=True):
            x = step(resize(x, target.shape[2:]))
        return self.head(x)


class ImageReconstruction(Method):
    """Mean squared error of images and their reconstruction; no label is looked at."""

    labelled, unlabelled, weak = False, True, Augment.strong()

    def loss(self, batch) -> dict[str, Tensor]:
        """Term ``reconstruction``."""
        images = batch.unlabelled.images
        return {"reconstruction": F.mse_loss(self.net(images).float(), images.float())}

    def predict(self, images: Tensor) -> Tensor:
        """Reconstructed images ``(B, C, *S)``."""
        return self.net(images).float()


class PriorUNet(nn.Module):
    """A U-Net that gets a frozen autoencoder's features at each of its strides.

    At strides 2 to 16 the encoder's features and the autoencoder's stand side by side, and a 1x1
    convolution mixes them before the decoder sees them. It starts as the identity on the U-Net's
    own, so the network starts as the baseline.

    Args:
        net: the U-Net.
        prior: a trained :class:`ImageAutoencoder`; it is frozen.
    """

    def __init__(self, net: UNet, prior: ImageAutoencoder):
        super().__init__()
        self.net, self.prior = net, prior.requires_grad_(False)
        dims = net.final_conv.weight.ndim - 2
        pairs = list(zip(net.widths[1:], prior.widths, strict=True))
        self.mix = nn.ModuleList(project(dims, own + given, own) for own, given in pairs)
        for mix, (own, _) in zip(self.mix, pairs, strict=True):
            nn.init.zeros_(mix.bias)
            nn.init.zeros_(mix.weight)
            mix.weight.data[:, :own].flatten(1).fill_diagonal_(1.0)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        first, *own = self.net.encode(images)
        given = self.prior.encode(images)
        pairs = zip(self.mix, own, given, strict=True)
        mixed = [mix(torch.cat([mine, theirs], 1)) for mix, mine, theirs in pairs]
        return self.net.final_conv(self.net.decode([first, *mixed]))


def prior_features_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    pretrained: bool = True,
    **kwargs,
) -> Fitted:
    r"""Train an autoencoder on the unlabelled images, then the baseline with its features.

    .. math::
        \min_{E, D} \lVert D(E_4(x_u)) - x_u \rVert^2, \qquad
        \min_\theta\ L_{sup}\big(f_\theta(x_l, E_1(x_l), \dots, E_4(x_l)), y\big)

    :math:`E_1, \dots, E_4` are features at strides 2 to 16. They are frozen: fine-tuned on the few
    labels they would forget the many images.

    Reference: He et al., "DPA-DenseBiasNet: Semi-supervised 3D Fine Renal Artery Segmentation with
    Dense Biased Network and Deep Priori Anatomy", MICCAI 2019.
    Simplified: the deep prior only, on the book's U-Net instead of a dense biased network.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws; the U-Net is the baseline's.
        pretrained: False leaves the autoencoder's weights as drawn, the control.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no unlabelled image.
    """

    def make(channels, classes, dims):
        return ImageAutoencoder(channels, dims)

    prior = ImageReconstruction(build(make, task, seed))
    first = Fitted(prior)
    if pretrained:
        first = fit(prior, task, budget, seed, **kwargs)
    method = Supervised(PriorUNet(unet(task, seed=seed), prior.net))
    second = fit(method, task, budget, seed, **kwargs)
    history = {**first.history, **second.history}
    stopped = first.interrupted or second.interrupted
    return Fitted(method, history, first.seconds + second.seconds, stopped)
