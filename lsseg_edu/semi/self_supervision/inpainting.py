"""Inpainting: what was in the hole?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.semi.self_supervision.finetune import Pretext, pretrain_finetune
from lsseg_edu.train import Budget, Fitted


def holes(images: Tensor, number: int = 4, side: float = 0.25) -> Tensor:
    """Random boxes to be cut out of each image: ``(B, 1, *S)``, True in a hole.

    Args:
        images: ``(B, C, *S)``, for their size and device only.
        number: boxes in an image; they may overlap.
        side: of a box, as a fraction of the image's.
    """
    size, device = images.shape[2:], images.device
    mask = torch.ones((len(images), number, *size), dtype=torch.bool, device=device)
    for axis, length in enumerate(size):
        box = round(side * length)
        start = (torch.rand((len(images), number, 1), device=device) * (length - box + 1)).long()
        place = torch.arange(length, device=device)
        inside = (place >= start) & (place < start + box)
        shape = [len(images), number, *[1] * len(size)]
        shape[2 + axis] = length
        mask = mask & inside.view(shape)
    return mask.any(1, keepdim=True)


class Inpainting(Pretext):
    r"""Cut holes into the image; the network fills them, and is judged in the holes only.

    .. math:: L = \frac{1}{|M|} \sum_{i \in M} \big(f((1 - M) \odot x)_i - x_i\big)^2

    The encoder has to understand what surrounds a hole and the decoder has to draw what belongs
    there: the whole U-Net is trained, and all but its last layer can be handed over.

    Reference: Pathak et al., "Context Encoders: Feature Learning by Inpainting", CVPR 2016.
    Simplified: no adversarial loss; boxes, filled with the images' mean; a U-Net, whose skips
    the paper's bottleneck does not have.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        number: holes in an image; the paper removes up to a quarter of it.
        side: of a hole, as a fraction of the image's.
    """

    decodes = True

    def __init__(self, net, number: int = 4, side: float = 0.25):
        super().__init__(net)
        self.number, self.side = number, side
        conv = nn.Conv2d if self.dims == 2 else nn.Conv3d
        self.head = conv(net.widths[0], self.channels, 1)

    def loss(self, batch) -> dict[str, Tensor]:
        """Mean squared error in the holes."""
        images = batch.unlabelled.images
        mask = holes(images, self.number, self.side)
        error = (self.restore(images, mask) - images).square() * mask
        return {"inpainting": error.sum() / (self.channels * mask.sum())}

    def restore(self, images: Tensor, mask: Tensor) -> Tensor:
        """The network's images ``(B, C, *S)``, made without a look into the holes."""
        seen = images.masked_fill(mask, 0.0)
        return self.head(self.net.decode(self.net.encode(seen)))


def finetune_inpainting(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the U-Net that inpainting has trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=Inpainting, **kwargs)
