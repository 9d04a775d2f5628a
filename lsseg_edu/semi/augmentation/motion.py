"""Registration of slices whose height in the body is known."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.semi.priors import Registration, alignment


class Motion(Registration):
    """Registration whose pairs come from the same height of the body.

    In volumes every slice finds its counterpart by itself. A stack of slices loses that, but not
    the slice's position, which the scanner writes down: where a cohort has
    ``extras["position"]``, each training image is met by the atlas image nearest in position, and
    else by the one that resembles it most. Labels have no part in it, and test images need
    no position: they are the segmenter's.

    Args:
        net, atlas: of :class:`.Registration`.
        bending: ten times the weight there: what is learnt here is applied to other images, and
            a motion that has followed grain to the last pixel tears them.
        heights: positions ``(M,)`` of the atlas images, or None.
    """

    def __init__(self, net: nn.Module, atlas, bending: float = 0.1, heights=None):
        super().__init__(net, atlas, bending)
        self.register_buffer("heights", heights)

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> Motion:
        """As for :class:`.Registration`, with the positions that the cohort has."""
        heights = task.train.extras.get("position")
        heights = heights if heights is None else heights[task.labelled]
        return super().for_task(task, seed, heights=heights, **options)

    def source(self, part) -> Tensor:
        """Index ``(B,)`` of the atlas image that belongs to each image of a batch or cohort."""
        if self.heights is None:
            return self.atlas.match(part.images)
        return (part.extras["position"][:, None] - self.heights).abs().argmin(1)

    def loss(self, batch) -> dict[str, Tensor]:
        """Terms ``unlikeness`` and ``bending``."""
        fixed = batch.unlabelled.images
        moving = self.atlas.images[self.source(batch.unlabelled)]
        velocity = self.net(moving, fixed)
        return alignment(self.move(moving, velocity), fixed, velocity, self.bending)
