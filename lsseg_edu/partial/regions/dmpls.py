"""DMPLS: two decoders, mixed anew at every step, teach each other between the scribbles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.partial.regions import partial_cross_entropy
from lsseg_edu.train import Method


class DMPLS(Method):
    r"""Dynamically mixed pseudo-labels, from a dual-branch network.

    One encoder, two decoders. The second one's features pass through dropout, so that the two do
    not become one. Both learn the scribbles; between these both learn the *hard* labels of a
    mixture, whose proportion :math:`\alpha` is drawn at every step:

    .. math::
        \hat y = \arg\max_k \big(\alpha\, p^1_k + (1 - \alpha)\, p^2_k\big), \quad
        \alpha \sim U(0, 1), \qquad
        L = \tfrac12 \sum_b L_{pCE}(p^b, s)
            + \tfrac{\lambda}{2} \sum_b \big(1 - \mathrm{Dice}(p^b, \hat y)\big) .

    Where both agree the label is the same for every :math:`\alpha`, and its hardness sharpens
    both. Where they disagree it goes back and forth between them, and neither settles on its own
    mistake. Nothing flows into :math:`\hat y`. :meth:`predict` is the first decoder.

    Reference: Luo, Hu, Liao, Zhai, Song, Wang G., Zhang, "Scribble-Supervised Medical Image
    Segmentation via Dual-Branch Network and Dynamically Mixed Pseudo Labels Supervision", MICCAI
    2022.
    Simplified: this book's U-Net.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        second: another one; its decoder becomes the second branch, its encoder is not kept.
        weight: :math:`\lambda` (paper 0.5).
        dropout: of whole feature channels before the second decoder (paper 0.5).
        mixing: ``"random"`` (the paper's), or a fixed :math:`\alpha` in [0, 1]: the control.

    Raises:
        ValueError: a mixing that is neither.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> from lsseg_edu.train import Budget, fit
        >>> task = annotate.scribbles(Task.split(load("cardiac"), labelled=5))
        >>> fitted = fit(DMPLS.for_task(task), task, Budget.named("smoke"), progress=False)
        >>> sorted(fitted.history)
        ['pseudo', 'scribbles']
    """

    def __init__(self, net: nn.Module, second: nn.Module, weight=0.5, dropout=0.5, mixing="random"):
        if mixing != "random" and not (isinstance(mixing, int | float) and 0 <= mixing <= 1):
            raise ValueError(f"mixing is 'random' or a share in [0, 1], not {mixing!r}.")
        super().__init__(net)
        for part in ("conv_0", "down_1", "down_2", "down_3", "down_4"):
            delattr(second, part)
        self.second, self.weight, self.dropout, self.mixing = second, weight, dropout, mixing

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> DMPLS:
        """On the book's U-Net; the second decoder has weights of its own."""
        nets = (networks.unet(task, seed=s) for s in (seed, seed + 1000))
        return cls(*nets, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``scribbles`` and ``pseudo`` (already weighted), each the mean of the branches."""
        answers = self.both(batch.labelled.images)
        with torch.no_grad():
            target = self.mixed(*answers)
        scribbles = sum(partial_cross_entropy(a, batch.labelled.labels) for a in answers) / 2
        pseudo = sum(losses.dice(a, target) for a in answers) / 2
        return {"scribbles": scribbles, "pseudo": self.weight * pseudo}

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K, *S)`` of the two decoders; the encoder runs once."""
        features = self.net.encode(images)
        drop = F.dropout2d if images.ndim == 4 else F.dropout3d
        shaken = [drop(f, self.dropout, self.training) for f in features]
        first = self.net.final_conv(self.net.decode(features))
        return first, self.second.final_conv(self.second.decode(shaken))

    def mixed(self, first: Tensor, second: Tensor) -> Tensor:
        """The mixture's likeliest classes ``(B, *S)``, of logits ``(B, K, *S)``."""
        alpha = float(torch.rand(())) if self.mixing == "random" else self.mixing
        return torch.lerp(second.softmax(1), first.softmax(1), alpha).argmax(1)
