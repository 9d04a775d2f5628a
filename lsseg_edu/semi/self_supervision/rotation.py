"""Rotation: by which quarter turns was the image turned?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.semi.self_supervision.finetune import Pretext, pretrain_finetune
from lsseg_edu.train import Budget, Fitted


def rotations(images: Tensor) -> Tensor:
    """All quarter turns ``(R, B, C, *S)`` of square images: 4 in 2D, 10 in 3D.

    In 3D: none, and 90, 180 and 270 degrees about each of the three axes. Pixels are moved,
    never interpolated: nothing but the content tells one turn from another.

    Args:
        images: ``(B, C, *S)``; if the sides differ, the middle square (cube) is turned.
    """
    side = min(images.shape[2:])
    for axis, length in enumerate(images.shape[2:], start=2):
        images = images.narrow(axis, (length - side) // 2, side)
    planes = [(-2, -1)] if images.ndim == 4 else [(-2, -1), (-3, -1), (-3, -2)]
    turned = [images.rot90(k, plane) for plane in planes for k in (1, 2, 3)]
    return torch.stack([images, *turned])


class Rotation(Pretext):
    r"""Turn the image by a multiple of 90 degrees; the network names the turn.

    .. math:: L = -\frac1R \sum_{r=1}^{R} \log p_r\big(h(f_{enc}(T_r x))\big)

    Who knows which way up a heart is has found the heart. All :math:`R` turns of an image are in
    one batch, so that no turn is more likely than another; a step costs as much as :math:`R`.

    Reference: Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting
    Image Rotations", ICLR 2018; in 3D: Taleb et al., "3D Self-Supervised Methods for Medical
    Imaging", NeurIPS 2020.
    Simplified: a linear head on the bottleneck.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
    """

    def __init__(self, net):
        super().__init__(net)
        self.head = nn.Linear(net.widths[-1] * 2**self.dims, 4 if self.dims == 2 else 10)

    def loss(self, batch) -> dict[str, Tensor]:
        """Cross-entropy over the turns, each image in all of them."""
        turned = rotations(batch.unlabelled.images)
        answers = torch.arange(len(turned), device=turned.device)
        answers = answers.repeat_interleave(turned.shape[1])
        logits = self.head(self.embed(turned.flatten(0, 1)))
        return {"rotation": F.cross_entropy(logits, answers)}


def finetune_rotation(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the encoder that rotations have trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=Rotation, **kwargs)
