"""What a technique adds to the loop: a loss, sometimes a second player, sometimes a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


class Player(NamedTuple):
    """Parameters with a loss of their own; the loop steps its players in turn.

    Attributes:
        name: how the history calls it.
        parameters: what its optimiser moves.
        loss: batch to named scalar terms; their sum is minimised.
        rate: its learning rate as a multiple of the budget's.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[..., dict[str, Tensor]]
    rate: float = 1.0


class Method(nn.Module):
    """A network and an objective. Subclass it, write :meth:`loss`, and ``fit`` does the rest.

    All state that must survive a restart is a parameter or a buffer of the method, so that
    ``state_dict`` is the whole of it.

    Attributes:
        net: the network that is trained, images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        labelled: whether :meth:`loss` looks at ``batch.labelled``; if not, none is drawn.
        unlabelled: whether it looks at ``batch.unlabelled``; if not, none is drawn.
        weak: an :class:`~lsseg_edu.augment.Augment` for the unlabelled images, where theirs is not
            that of the labelled ones (pretexts and weak-to-strong methods add their own).
    """

    labelled = True
    unlabelled = False
    weak = None

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> Method:
        """The method on the book's U-Net, weights drawn by ``seed``, as the scoreboard has it."""
        from lsseg_edu import networks

        return cls(networks.unet(task, seed=seed), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """Named scalar terms; the loop minimises their sum and logs each one."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(batch).")

    def players(self) -> list[Player]:
        """Who is optimised; by default one player, every parameter that wants a gradient."""
        mine = [p for p in self.parameters() if p.requires_grad]
        return [Player("net", mine, self.loss)]

    def after_step(self, progress: float):
        """Called after each step with the fraction of training done, in (0, 1]."""

    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities ``(B, K, *S)`` of images ``(B, C, *S)``."""
        return self.net(images).float().softmax(1)
