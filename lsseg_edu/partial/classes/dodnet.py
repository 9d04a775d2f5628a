"""DoDNet: the last layers of the network are written anew for each task and image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.partial.classes.asked import Asked


class DoDNet(Asked):
    r"""Dynamic on-demand network: a controller makes the weights of a light head.

    Encoder and decoder are shared. What is asked for decides, together with the image, by which
    weights their features M are read:

    .. math::
        \omega = \varphi\big([\mathrm{GAP}(F),\ e_c]\big), \qquad
        \text{logit} = \big((M * \omega_1)_+ * \omega_2\big)_+ * \omega_3 ,

    F the encoder's last features, :math:`e_c` the one-hot code of the task, three 1x1
    convolutions. A data set trains its own task only.

    Reference: Zhang J., Xie, Xia, Shen, "DoDNet: Learning to Segment Multi-Organ and Tumors From
    Multiple Partially Labeled Datasets", CVPR 2021.
    Simplified: a task is one organ, so the head has one output instead of two (organ and tumour);
    the backbone is the book's U-Net.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        classes: ``K``, with the background.
        hidden: channels between the layers of the head (paper: 8).

    Example:
        >>> from lsseg_edu.networks import Shape, unet
        >>> method = DoDNet(unet(Shape(channels=1, classes=3, dims=2)), classes=3)
        >>> features = method.features(torch.zeros(2, 1, 32, 32))
        >>> method.answer(features, asked=torch.tensor([1, 2])).shape
        torch.Size([2, 32, 32])
    """

    def __init__(self, net, classes: int, hidden: int = 8):
        super().__init__(net, classes)
        self.sizes = ((net.widths[0], hidden), (hidden, hidden), (hidden, 1))
        weights = sum(inputs * outputs + outputs for inputs, outputs in self.sizes)
        self.controller = nn.Linear(net.widths[-1] + classes - 1, weights)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's maps ``(B, W, *S)``, and what the encoder saw, pooled."""
        seen = self.net.encode(images)
        return self.net.decode(seen), seen[-1].flatten(2).mean(2)

    def answer(self, features, asked: Tensor) -> Tensor:
        """Logits ``(B, *S)`` of the class ``asked (B,)``."""
        maps, pooled = features
        return dynamic_head(maps, self.weights(pooled, asked), self.sizes)[:, 0]

    def weights(self, pooled: Tensor, asked: Tensor) -> Tensor:
        """The weights of the head ``(B, P)``, a set for each item."""
        code = F.one_hot(asked - 1, self.classes - 1)
        return self.controller(torch.cat([pooled, code.to(pooled)], 1))


def dynamic_head(maps: Tensor, weights: Tensor, sizes) -> Tensor:
    """1x1 convolutions with ReLU between them, each item of the batch by weights of its own.

    Args:
        maps: ``(B, C, *S)``.
        weights: ``(B, P)``: for each layer its matrix, row by row, then its bias.
        sizes: channels in and out of each layer.

    Returns:
        ``(B, outputs of the last layer, *S)``.

    Raises:
        ValueError: a number of weights that the layers do not have.
    """
    lengths = [length for i, o in sizes for length in (i * o, o)]
    if sum(lengths) != weights.shape[1]:
        raise ValueError(f"The head has {sum(lengths)} weights, not {weights.shape[1]}.")
    pieces, x = weights.split(lengths, 1), maps.flatten(2)
    for layer, (inputs, outputs) in enumerate(sizes):
        matrix = pieces[2 * layer].view(-1, outputs, inputs)
        x = matrix @ (x.relu() if layer else x) + pieces[2 * layer + 1].unsqueeze(2)
    return x.view(len(x), -1, *maps.shape[2:])
