"""DMNet: one encoder, two different decoders, and as little difference as possible."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.networks.blocks import conv, project, resize
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method


class DMNet(Method):
    r"""Two decoders read the same features and must draw the same sharp masks.

    .. math::
        S(p)_k = \frac{p_k^{1/T}}{\sum_j p_j^{1/T}}, \qquad
        L = L_{sup}(p^1) + L_{sup}(p^2)
            + w(t)\, \Big( 1 - \frac1K \sum_k \frac{2 \sum_i S(p^1)_{ik} S(p^2)_{ik}}
                {\sum_i S(p^1)_{ik}^2 + S(p^2)_{ik}^2} \Big)

    Two copies of one decoder, trained on the same labels, would soon be one decoder. So the
    **architectures** differ: the U-Net's climbs level by level with learnt upsampling, the other
    one (:class:`FusionDecoder`) adds all levels at once, upsampled by interpolation. Sharpening
    asks for decided masks; the gradient flows through both. :meth:`predict` is the mean of the two.

    Reference: Fang, Li, "DMNet: Difference Minimization Network for Semi-supervised Segmentation in
    Medical Images", MICCAI 2020.
    Simplified: without its adversarial term; the second decoder is this book's.

    Args:
        net: with ``encode``, ``decode``, ``final_conv`` and ``widths``, as the book's U-Net.
        classes: ``K``.
        dims: 2 or 3.
        weight: largest weight of the difference.
        temperature: ``T`` in (0, 1]; 1 sharpens nothing.
        ramp: fraction of training over which the weight rises.

    Raises:
        ValueError: a temperature outside (0, 1].
    """

    unlabelled = True

    def __init__(
        self, net, classes: int, dims: int, weight=0.5, temperature: float = 0.5, ramp=0.4
    ):
        if not 0 < temperature <= 1:
            raise ValueError(
                f"A temperature of {temperature} does not sharpen: give one in (0, 1]."
            )
        super().__init__(net)
        self.second = FusionDecoder(dims, net.widths, classes)
        self.weight, self.temperature, self.ramp = weight, temperature, ramp

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> DMNet:
        """On the book's U-Net; the second decoder's weights are drawn by ``seed`` too."""
        from lsseg_edu import networks

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = networks.unet(task, seed=seed)
            return cls(net, task.train.classes, task.train.dims, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` of both decoders, ``difference`` (already weighted) on the others."""
        answers, labels = self.both(batch.labelled.images), batch.labelled.labels
        supervised = sum(losses.dice_ce(logits, labels) for logits in answers)
        sharp = [sharpen(logits, self.temperature) for logits in self.both(batch.unlabelled.images)]
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"supervised": supervised, "difference": weight * difference(*sharp)}

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K, *S)`` of the two decoders; the encoder runs once."""
        features = self.net.encode(images)
        return self.net.final_conv(self.net.decode(features)), self.second(features)

    def predict(self, images: Tensor) -> Tensor:
        """Mean of the two decoders' probabilities."""
        first, second = self.both(images)
        return (first.float().softmax(1) + second.float().softmax(1)) / 2


class FusionDecoder(nn.Module):
    """All encoder levels brought to one width and one size, added, and convolved once.

    Args:
        dims: 2 or 3.
        widths: channels of the levels, the finest first.
        classes: channels of the output.
    """

    def __init__(self, dims: int, widths, classes: int):
        super().__init__()
        self.lateral = nn.ModuleList(project(dims, width, widths[0]) for width in widths)
        self.smooth = conv(dims, widths[0], widths[0])
        self.classify = project(dims, widths[0], classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features of the encoder to logits ``(B, K, *S)`` at the size of the finest."""
        size = features[0].shape[2:]
        levels = zip(self.lateral, features, strict=True)
        return self.classify(self.smooth(sum(resize(f(x), size) for f, x in levels)))


def sharpen(logits: Tensor, temperature: float) -> Tensor:
    r""":math:`p_k^{1/T}`, normalised: a softmax of logits divided by the temperature."""
    return (logits.float() / temperature).softmax(1)


def difference(first: Tensor, second: Tensor, eps: float = 1.0) -> Tensor:
    """Dice loss between two soft masks ``(B, K, *S)``: 0 if they are equal, at most 1."""
    axes = [0, *range(2, first.ndim)]
    size = first.square().sum(axes) + second.square().sum(axes)
    return 1 - ((2 * (first * second).sum(axes) + eps) / (size + eps)).mean()
