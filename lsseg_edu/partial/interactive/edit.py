"""Interactive editing: a second network that has learnt to mend the answers of the first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import annotate
from lsseg_edu.networks import Shape
from lsseg_edu.partial.interactive.held_out import Corrected, HalfAndHalf
from lsseg_edu.partial.interactive.maps import click_maps
from lsseg_edu.train import Player


class InteractiveEdit(Corrected):
    r"""The editor :math:`g_\phi` sees the image, the last answer and the clicks upon it.

    .. math:: p^{(n)} = g_\phi\big([x,\ p^{(n-1)},\ m(c_1, \dots, c_n)]\big), \qquad
        L = \frac1R \sum_{n=1}^R \ell\big(p^{(n)}, y\big), \qquad p^{(0)} = f_\theta(x)

    A robot user trains it: the click :math:`c_n` is in the middle of the largest error of
    :math:`p^{(n-1)}`, first on the answers of networks that do not know the subject
    (:class:`.Corrected`), then on the editor's own. Gradients stay within a round.
    :math:`f_\theta` learns beside it, by the supervised loss alone.

    Reference: Zhou B., Chen L., Wang Z., "Interactive Deep Editing Framework for Medical Image
    Segmentation", MICCAI 2019.
    Simplified: all networks train at once, not one after the other; U-Nets of equal size; few
    rounds of the robot user; first answers of held-out subjects, as there are so few of them.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        editor: ``(B, C + 2 K, *S)`` to logits ``(B, K, *S)``.
        others: who answers first in training, see :class:`.Corrected`.
        rounds: :math:`R`; each costs a pass of the editor, and three of them two minutes in all.
        sigma: of the click maps, in pixels.
    """

    def __init__(
        self,
        net: nn.Module,
        editor: nn.Module,
        others: HalfAndHalf | None = None,
        rounds: int = 3,
        sigma: float = 3.0,
    ):
        super().__init__(net, others)
        self.editor, self.rounds, self.sigma = editor, rounds, sigma

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """The baseline's U-Net, and another one with 2 K more input channels."""
        source = task.train
        shape = Shape(source.channels + 2 * source.classes, source.classes, source.dims)
        return super().for_task(task, seed, editor=networks.unet(shape, seed=seed), **options)

    def players(self) -> list[Player]:
        """The networks, by the supervised loss; the editor, by what it makes of the clicks."""
        return [
            *super().players(),
            Player("editor", list(self.editor.parameters()), self.edit_loss),
        ]

    def edit_loss(self, batch) -> dict[str, Tensor]:
        """``{"edit": mean over rounds of Dice + cross-entropy}``."""
        images, labels = batch.labelled.images, batch.labelled.labels
        probs = self.first_answers(batch.labelled)
        clicks, total = torch.empty(len(images), 0, images.ndim - 1, dtype=torch.long), 0
        for _ in range(self.rounds):
            new = annotate.clicks(probs.argmax(1), labels)
            clicks = torch.cat([clicks, new[:, None]], 1)
            logits = self.edit(images, probs, clicks.to(images.device))
            total = total + losses.dice_ce(logits, labels)
            probs = logits.detach().float().softmax(1)
        return {"edit": total / self.rounds}

    def edit(self, images: Tensor, probs: Tensor, clicks: Tensor) -> Tensor:
        """Logits of the editor."""
        maps = click_maps(clicks, probs.shape[1], images.shape[2:], self.sigma)
        return self.editor(torch.cat([images, probs, maps], 1))

    def react(self, images: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
        """One round of the editor."""
        return self.edit(images, previous, clicks).float().softmax(1)
