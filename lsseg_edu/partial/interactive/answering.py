"""What the interactive methods share: a network that answers first, and clicks on its answer."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.partial.interactive.maps import check_clicks
from lsseg_edu.train import Method


class Interactive(Method):
    """The baseline, and something that reacts to what a user clicks on.

    Without clicks it *is* the baseline: the same loss, draws and weights. What a subclass adds
    is :meth:`react`.
    """

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"supervised": Dice + cross-entropy}`` of the labelled images."""
        logits = self.net(batch.labelled.images)
        return {"supervised": losses.dice_ce(logits, batch.labelled.labels)}

    @torch.no_grad()
    def interact(self, images: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """Probabilities ``(B, K, *S)`` after a user has clicked.

        Args:
            images: ``(B, C, *S)``.
            clicks: ``(B, M, 1 + dims)``, all so far: true class and coordinates in pixels, the
                newest last; rows of -1 are padding.
            previous: what the user corrected, ``(B, K, *S)``; by default :meth:`predict`.

        Raises:
            ValueError: a click outside the image, or of a class that does not exist.
        """
        previous = self.predict(images) if previous is None else previous.to(images.device)
        clicks = check_clicks(clicks, images, previous.shape[1])
        return self.react(images, clicks, previous)

    def react(self, images: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
        """As :meth:`interact`, with clicks that have been checked, on the images' device."""
        raise NotImplementedError(f"{type(self).__name__} must define react.")
