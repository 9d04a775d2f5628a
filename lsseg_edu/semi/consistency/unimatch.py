"""UniMatch: two strong views and one that forgets half of its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.semi.consistency.fixmatch import FixMatch, pseudo_loss


class UniMatch(FixMatch):
    r"""One weak view labels three streams instead of one.

    .. math::
        L_u = \tfrac12\, \ell\big(g(\delta(h(x))), \hat y\big)
            + \tfrac14 \sum_{s=1,2} \ell\big(f(A_s x), \hat y_s\big)

    :math:`f = g \circ h` is decoder after encoder, :math:`\ell` the loss of :class:`.FixMatch`,
    and :math:`\delta` zeroes half of the encoder's channels, other ones for each image. Repainting
    an image explores only the changes that we can think of; dropped channels are others. Two
    strong views of one image, each with boxes of its own, are pulled to the same labels and
    thereby towards each other.

    Reference: Yang, Qi, Feng, Zhang, Shi, "Revisiting Weak-to-Strong Consistency in
    Semi-Supervised Semantic Segmentation", CVPR 2023.
    Simplified: as :class:`.FixMatch`; ``weight`` is twice the paper's one half.

    Args:
        net: with ``encode`` and ``decode``, as the book's U-Net.
        drop: share of channels that are dropped (paper 0.5).
        **options: those of :class:`.FixMatch`.

    Raises:
        ValueError: a network that cannot be cut into encoder and decoder.
    """

    def __init__(self, net: nn.Module, drop: float = 0.5, **options):
        if not (hasattr(net, "encode") and hasattr(net, "decode")):
            raise ValueError(
                "UniMatch disturbs the features between encoder and decoder: give it a network "
                "with encode and decode, such as networks.unet(task)."
            )
        super().__init__(net, **options)
        self.drop = drop

    def consistency(self, batch) -> Tensor:
        """The feature stream and two strong views against the labels of the weak view."""
        images = batch.unlabelled.images
        labels = self.labels_of(images)
        views = [self.harden(images, labels) for _ in range(2)]
        strong, targets = (torch.cat(parts) for parts in zip(*views, strict=True))
        answers = self.net(strong).chunk(2)
        first, second = map(pseudo_loss, answers, targets.chunk(2))
        return 0.5 * pseudo_loss(self.disturbed(images), labels) + 0.25 * (first + second)

    def disturbed(self, images: Tensor) -> Tensor:
        """Logits of the network with channels dropped at every level of the encoder."""
        features = [torch.feature_dropout(f, self.drop, True) for f in self.net.encode(images)]
        return self.net.final_conv(self.net.decode(features))
