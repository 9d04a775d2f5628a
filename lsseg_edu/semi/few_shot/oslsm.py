"""OSLSM: one network writes the last layer of another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.networks import Shape
from lsseg_edu.networks.blocks import conv
from lsseg_edu.networks.build import build
from lsseg_edu.semi.few_shot.conditioned import Conditioned, support_of


class OSLSM(Conditioned):
    r"""The support is turned into the weights of a logistic classifier of the query's pixels.

    A *conditioning branch* sees the support image under its mask and answers with a vector; the
    vector is hashed to weights :math:`w` and a bias :math:`b`. A *query branch* turns the query
    into features :math:`F_i`; pixel :math:`i` is foreground with probability

    .. math:: p_i = \sigma(w^\top F_i + b), \qquad (w, b) = h\big(g(x_s \odot y_s)\big) .

    A new class is a new :math:`(w, b)`: one forward pass, no gradient step. Both branches are
    trained together by episodes on base classes. With several shots the masks are united; the
    paper's logical *or* is here the maximum of the probabilities.

    Reference: Shaban, Bansal, Liu, Essa, Boots, "One-Shot Learning for Semantic Segmentation",
    BMVC 2017.
    Simplified: U-Net features at full resolution instead of FCN-32s on a pre-trained VGG, one
    learning rate for both branches. The mask is a further input of the conditioning branch:
    images here have mean 0, and an organ of average brightness would vanish in the product.

    Args:
        net: the query branch, images ``(B, C, *S)`` to features ``(B, F, *S)``.
        conditioner: ``(B, C + 1, *S)`` to vectors ``(B, V)``.
        hashing: vectors ``(B, V)`` to ``(B, F + 1)``.
    """

    def __init__(self, net: nn.Module, conditioner: nn.Module, hashing: nn.Module):
        super().__init__(net)
        self.conditioner, self.hashing = conditioner, hashing

    @classmethod
    def for_task(cls, task, seed: int = 0, features: int = 64, vector: int = 32) -> OSLSM:
        """With 65 weights from 32 numbers; the paper hashes 1000 numbers to 4097 weights."""
        support = support_of(task)
        channels, dims = support.channels, support.dims
        net = networks.unet(Shape(channels, features, dims), seed=seed)
        conditioner = build(Conditioner, Shape(channels + 1, vector, dims), seed)
        return cls(net, conditioner, WeightHashing(vector, features + 1)).condition(support)

    def classifier(self, support: Tensor, mask: Tensor) -> Tensor:
        """Weights and bias ``(B, F + 1)`` that the support images under their masks ask for."""
        mask = mask.unsqueeze(1).to(support.dtype)
        return self.hashing(self.conditioner(torch.cat([support * mask, mask], 1)))

    def features(self, query: Tensor) -> Tensor:
        """What the classifier sees at each pixel, ``(B, F, *S)``."""
        return self.net(query).relu()

    def logits(self, query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
        """Logits ``(Q, *S)`` of the query pixels, pair by pair."""
        weights = self.classifier(support, mask)
        scores = torch.einsum("qf...,qf->q...", self.features(query), weights[:, :-1])
        return scores + weights[:, -1].view(-1, *[1] * (scores.ndim - 1))

    def score(self, query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
        """The union over the shots: the highest of their probabilities at each pixel."""
        weights = self.classifier(support, masks)
        scores = torch.einsum("bf...,nf->nb...", self.features(query), weights[:, :-1])
        scores = scores + weights[:, -1].view(-1, *[1] * (scores.ndim - 1))
        return scores.amax(0).sigmoid()


class WeightHashing(nn.Module):
    r"""A few numbers shared among many weights: :math:`\theta_j = \zeta_j\, v_{\kappa(j)}`.

    :math:`\kappa` sends each weight to a random entry of the vector, :math:`\zeta` is a random
    sign; both are drawn once and fixed. A full layer instead would have ``inputs * outputs``
    weights to learn from the few base classes there are, and overfit.

    Reference: Chen, Wilson, Tyree, Weinberger, Chen, "Compressing Neural Networks with the
    Hashing Trick", ICML 2015.

    Args:
        inputs: length ``V`` of the vector.
        outputs: number of weights to make.
        seed: of the table.
    """

    def __init__(self, inputs: int, outputs: int, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("entry", torch.randint(inputs, (outputs,), generator=generator))
        signs = torch.randint(2, (outputs,), generator=generator)
        self.register_buffer("sign", 2.0 * signs - 1)

    def forward(self, vector: Tensor) -> Tensor:
        """``(B, V)`` to ``(B, outputs)``."""
        return vector[:, self.entry] * self.sign


class Conditioner(nn.Module):
    """Four strided convolutions, the mean over space, and a linear layer to the vector."""

    def __init__(self, channels: int, classes: int, dims: int):
        super().__init__()
        widths = (channels, 16, 32, 32, 64)
        blocks = [conv(dims, a, b, stride=2) for a, b in zip(widths, widths[1:], strict=False)]
        self.body, self.head = nn.Sequential(*blocks), nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C + 1, *S)`` to ``(B, V)``."""
        return self.head(self.body(images).flatten(2).mean(2))
