"""Squeeze-and-excite guided few-shot segmentation: a conditioner beside a segmenter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import Cohort
from lsseg_edu.networks import Shape
from lsseg_edu.networks.build import build
from lsseg_edu.networks.unet import UNet
from lsseg_edu.semi.few_shot.conditioned import Conditioned, combine, support_of
from lsseg_edu.semi.few_shot.scse import DOWN, UP, SpatialGate


class SEFewShot(Conditioned):
    r"""Two U-Nets side by side; the support's tells the query's where to look, block by block.

    The conditioner reads support image and mask. After each of its nine blocks a 1x1 convolution
    squeezes the features :math:`v^{(l)}` to one map, which multiplies the features
    :math:`u^{(l)}` of the segmenter at the same depth:

    .. math:: \hat u^{(l)}_i = u^{(l)}_i\, \sigma\big(w_l^\top v^{(l)}_i + b_l\big),
              \qquad l = 1, \dots, 9 .

    So the two branches meet early and often, not at the last layer alone as in OSLSM. The maps
    say *where*: support and query should show the body in about the same pose, and for a volume
    each query slice takes the support slice nearest in position (:meth:`predict_volume`). Where
    positions are not given, :meth:`predict` averages the answers over the shots.

    Reference: Roy, Siddiqui, Poelsterl, Navab, Wachinger, "'Squeeze & Excite' Guided Few-Shot
    Segmentation of Volumetric Images", Medical Image Analysis 2020.
    Simplified: both branches are the book's U-Net, with its skips; cross-entropy beside the
    paper's Dice.

    Args:
        net: the segmenter, a :class:`~lsseg_edu.networks.UNet` with one output.
        conditioner: a :class:`SEConditioner`, narrower than the segmenter.
    """

    def __init__(self, net: UNet, conditioner: SEConditioner):
        super().__init__(net)
        self.conditioner = conditioner
        self.register_buffer("support_position", None)

    @classmethod
    def for_task(cls, task, seed: int = 0, width: int = 4) -> SEFewShot:
        """With a conditioner half as wide as the segmenter (the paper's: 16 and 64 channels)."""
        support = support_of(task)
        net = networks.unet(Shape(support.channels, 1, support.dims), seed=seed)
        shape = Shape(support.channels + 1, 1, support.dims)
        return cls(net, build(SEConditioner, shape, seed, width=width)).condition(support)

    def condition(self, support: Cohort) -> SEFewShot:
        """Take this support set, and the positions of its slices where they are known."""
        super().condition(support)
        if "position" in support.extras:
            self.support_position = support.extras["position"].to(self.support_images)
        return self

    def logits(self, query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
        """Logits ``(Q, *S)``, pair by pair; a single support serves all queries."""
        maps = self.conditioner.maps(support, mask)
        return self.net.final_conv(walk(self.net, query, maps)[-1])[:, 0]

    def score(self, query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
        """The mean probability over the shots."""
        shots = zip(support.split(1), masks.split(1), strict=True)
        return torch.stack([self.logits(query, *shot).sigmoid() for shot in shots]).mean(0)

    def predict_volume(self, slices: Tensor, position: Tensor | None = None) -> Tensor:
        """Probabilities ``(D, 1 + novel, H, W)`` of one volume's slices ``(D, C, H, W)``.

        Args:
            slices: in order.
            position: ``(D,)`` relative positions in [0, 1]; by default evenly spread.

        Raises:
            ValueError: the support set has no ``extras["position"]``.
        """
        if self.support_position is None:
            raise ValueError(
                'Slices are paired by position: give the support set extras["position"].'
            )
        if position is None:
            position = torch.linspace(0, 1, len(slices))
        position, scores = position.to(self.support_position), []
        for k, (support, masks) in enumerate(self.shots(), 1):
            shows = (self.support_labels == k).flatten(1).any(1)
            partner = pair_slices(position, self.support_position[shows])
            scores.append(self.logits(slices, support[partner], masks[partner]).sigmoid())
        return combine(torch.stack(scores, 1).float())


class SEConditioner(UNet):
    """A U-Net of the support image and its mask that answers with one map a block."""

    def __init__(self, channels: int, classes: int, dims: int, width: int = 4):
        super().__init__(channels, classes, dims, width)
        del self.final_conv  # its answer is the maps
        sizes = (*self.widths, *self.widths[3:0:-1], width)
        self.gates = nn.ModuleList(SpatialGate(dims, size) for size in sizes)

    def maps(self, support: Tensor, mask: Tensor) -> list[Tensor]:
        """Nine maps ``(B, 1, *S / stride)`` in (0, 1) of ``support (B, C, *S)``, ``mask``."""
        features = walk(self, torch.cat([support, mask.unsqueeze(1).to(support.dtype)], 1))
        return [gate.gate(x) for gate, x in zip(self.gates, features, strict=True)]


def walk(net: UNet, images: Tensor, maps=(1.0,) * 9) -> list[Tensor]:
    """The features of the nine blocks, each multiplied by its map before the next block."""
    features = []
    for name, gate in zip(("conv_0", *DOWN), maps, strict=False):
        features.append(gate * getattr(net, name)(features[-1] if features else images))
    for i, (name, gate) in enumerate(zip(UP, maps[5:], strict=True)):
        features.append(gate * getattr(net, name)(features[-1], features[3 - i]))
    return features


def pair_slices(query: Tensor, support: Tensor) -> Tensor:
    """For each query position ``(D,)`` the index of the nearest support position ``(n,)``.

    Positions run from 0 to 1 along the body, so that long and short volumes compare. The paper's
    budget of ``n`` annotated slices then serves ``n`` groups of query slices.

    Example:
        >>> pair_slices(torch.linspace(0, 1, 5), torch.tensor([0.2, 0.9]))
        tensor([0, 0, 0, 1, 1])
    """
    return (query[:, None] - support).abs().argmin(1)
