"""VGG: a plain encoder of 3x3 convolutions, and the classifier it was made for."""

from __future__ import annotations

from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv
from lsseg_edu.networks.build import build


class VGGEncoder(nn.Module):
    """Stacks of 3x3 convolutions with max-pooling between them, and nothing else.

    Two 3x3 convolutions see as far as one 5x5 and cost less.
    """

    def __init__(self, channels: int, dims: int, width: int = 16, depths=(2, 2, 3, 3, 3)):
        super().__init__()
        self.widths = tuple(width * factor for factor in (1, 2, 4, 8, 8))
        inputs = (channels, *self.widths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                conv(dims, inputs[i], inputs[i + 1]),
                *(conv(dims, inputs[i + 1], inputs[i + 1]) for _ in range(depths[i] - 1)),
            )
            for i in range(5)
        )
        self.pool = Pool["max", dims](2, ceil_mode=True)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images ``(B, C, *S)`` to features at strides 1, 2, 4, 8, 16 (``self.widths`` channels).

        Odd sizes are rounded up, so no border pixel is lost.
        """
        features = [self.stages[0](images)]
        for stage in self.stages[1:]:
            features.append(stage(self.pool(features[-1])))
        return features


class VGG(VGGEncoder):
    """VGG-16, for whole images: how such encoders are pre-trained before they segment.

    Simplified: narrow (the paper's 64 to 512 channels become ``width`` to ``8 width``), group
    normalisation added, the three dense layers replaced by average pooling and one linear map.

    Reference: Simonyan, Zisserman, ICLR 2015.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 16):
        super().__init__(channels, dims, width)
        self.head = nn.Linear(self.widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to one row of logits for each image: ``(B, K)``."""
        return self.head(self.encode(images)[-1].flatten(2).mean(2))


def vgg(problem, width: int = 8, seed: int = 0) -> VGG:
    """The 13 convolutions of VGG-16 for a task or cohort, ``width`` channels in the first.

    Example:
        >>> import torch
        >>> from lsseg_edu.networks import Shape
        >>> net = vgg(Shape(channels=1, classes=4, dims=2), width=8)
        >>> [f.shape[-1] for f in net.encode(torch.zeros(1, 1, 64, 64))]
        [64, 32, 16, 8, 4]
    """
    return build(VGG, problem, seed, width=width)
