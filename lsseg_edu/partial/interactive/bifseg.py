"""BIFSeg: the last layer is trained once more, on the one image that the user looks at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE
from lsseg_edu.networks import UNet
from lsseg_edu.partial.interactive.answering import Interactive
from lsseg_edu.partial.interactive.maps import around, geodesic, imposed, marked
from lsseg_edu.partial.regions.graph_cut import graph_cut


class BIFSeg(Interactive):
    r"""Image-specific fine-tuning: labels from a graph cut, weights from the labels, in turn.

    .. math::
        \hat y = \arg\min_y \sum_i -\ln p_{y_i}(i) + \lambda \sum_{i \sim j}
        [y_i \ne y_j]\, e^{-|x_i - x_j|^2 / 2\sigma^2}, \quad y = \text{clicks at the clicks,}

        \theta \leftarrow \arg\min_\theta
        \frac{-\sum_i w_i \ln p_{\hat y_i}(i)}{\sum_i w_i}, \qquad w_i = \begin{cases}
            \omega & \text{marked by the user} \\
            0 & \max_k p_k(i) < \tau \text{, or near a click of another class} \\
            1 & \text{otherwise.} \end{cases}

    What the network doubts, or the user contradicts, teaches nothing; what he marked teaches most.
    Only the last layer moves, from the trained weights each time, and the features below are
    computed once. It is linear, so a batch is tuned at once, with weights for each image.

    Reference: Wang G. et al., "Interactive Medical Image Segmentation Using Deep Learning With
    Image-Specific Fine Tuning", IEEE TMI 2018.
    Simplified: several classes; the whole image instead of a user's box around an unseen object;
    a U-Net's 1x1 layer instead of P-Net's last block; clicks grow to discs instead of scribbles.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`, whose ``final_conv`` is tuned.
        rounds: of cut and training; half the paper's four, for half the time.
        steps: of Adam in each round; the paper's 20.
        rate: its learning rate; the paper's 0.01.
        scribble: :math:`\omega`, the paper's 5.
        sure: :math:`\tau`, the paper's 0.7 for the foreground, here for every class.
        near: geodesic distance to a click that counts as near, see :func:`.geodesic`.
        weight: :math:`\lambda`, in nats, see :func:`.graph_cut`.
        radius: of the disc that a click makes certain, in pixels.

    Raises:
        ValueError: a network without features and a last layer to tune.
    """

    def __init__(
        self,
        net: UNet,
        rounds: int = 2,
        steps: int = 20,
        rate: float = 0.01,
        scribble: float = 5.0,
        sure: float = 0.7,
        near: float = 1.0,
        weight: float = 2.0,
        radius: float = 2,
    ):
        super().__init__(net)
        if not isinstance(net, UNet):
            raise ValueError("BIFSeg tunes the final_conv of a UNet: make one by networks.unet.")
        self.rounds, self.steps, self.rate = rounds, steps, rate
        self.scribble, self.sure, self.near = scribble, sure, near
        self.weight, self.radius = weight, radius

    def react(self, images: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
        """The tuned network's answer, with the clicks in it; the previous one is not needed."""
        seeds = marked(clicks, images.shape[2:], self.radius)
        features = self.net.decode(self.net.encode(images))
        last = self.net.final_conv
        head = [p.expand(len(images), *p.shape) for p in (last.weight.flatten(1), last.bias)]
        probs = answered(features, *head).softmax(1)
        ways = [geodesic(images, seeds == k) for k in range(probs.shape[1])]
        for _ in range(self.rounds):
            labels = self.relabelled(probs, images, seeds)
            trust = self.trust(probs, labels, seeds, torch.stack(ways, 1))
            head = image_specific(features, labels, trust, head, self.steps, self.rate)
            probs = answered(features, *head).softmax(1)
        return imposed(probs, seeds)

    def relabelled(self, probs: Tensor, images: Tensor, seeds: Tensor) -> Tensor:
        """The graph cut's classes ``(B, *S)``.

        To answer quickly, it cuts where there is something to cut (an object, a click, a pixel
        below 0.95), between classes that were clicked or reach 0.1 somewhere.
        """
        labels = probs.argmax(1)
        open_ = (labels > 0) | (seeds != IGNORE) | (probs.amax(1) < 0.95)
        for n in open_.flatten(1).any(1).nonzero()[:, 0].tolist():
            view = around(open_[n], 2)
            unary = -probs[(n, slice(None), *view)].clamp(min=1e-4).log()
            absent = probs[n].flatten(1).amax(1) < 0.1
            absent[seeds[n][seeds[n] != IGNORE]] = False
            unary[absent] = torch.inf
            image = images[(n, slice(None), *view)]
            cut = graph_cut(unary, image, seeds[n][view], self.weight)
            labels[n][view] = cut.to(labels.device)
        return labels

    def trust(self, probs: Tensor, labels: Tensor, seeds: Tensor, ways: Tensor) -> Tensor:
        """The weights ``(B, *S)``; ``ways (B, K, *S)`` are distances to the clicks of a class."""
        own = F.one_hot(labels, probs.shape[1]).movedim(-1, 1).bool()
        contradicted = (ways.masked_fill(own, torch.inf) < self.near).any(1)
        doubted = (probs.amax(1) < self.sure) | contradicted
        return torch.where(seeds != IGNORE, self.scribble, 1.0 - doubted.float())


def answered(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits ``(B, K, *S)`` of a last layer for each image: ``(B, K, F)`` and ``(B, K)``."""
    logits = torch.einsum("bkf,bf...->bk...", weight, features.float())
    return logits + bias.view(*bias.shape, *[1] * (features.ndim - 2))


def image_specific(
    features: Tensor, labels: Tensor, trust: Tensor, head: list[Tensor], steps=20, rate=0.01
) -> list[Tensor]:
    """Fit the last layer of each image to its own labels; images do not see each other.

    Args:
        features: ``(B, F, *S)``.
        labels: ``(B, *S)`` classes.
        trust: ``(B, *S)`` weight of each pixel.
        head: weights ``(B, K, F)`` and biases ``(B, K)`` to start from.
        steps: of Adam, which moves each number by its own gradients alone.
        rate: its learning rate.
    """
    with torch.inference_mode(False), torch.enable_grad():
        features, labels, trust = features.clone(), labels.clone(), trust.clone()
        total = trust.flatten(1).sum(1).clamp(min=1)
        head = [p.detach().clone().requires_grad_() for p in head]
        optimiser = torch.optim.Adam(head, lr=rate)
        for _ in range(steps):
            costs = F.cross_entropy(answered(features, *head), labels, reduction="none")
            optimiser.zero_grad()
            ((costs * trust).flatten(1).sum(1) / total).sum().backward()
            optimiser.step()
    return [p.detach() for p in head]
