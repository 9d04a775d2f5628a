"""A volume seen along one of its axes: as a stack of slices, or turned."""

from __future__ import annotations

from torch import Tensor, nn

PLANES = ("axial", "coronal", "sagittal")
"""Planes by the axis they are stacked along: ``D``, ``H`` and ``W`` of ``(B, C, D, H, W)``."""


class InPlane(nn.Module):
    """A 2D network as a network of volumes: it answers slice by slice, all in one batch.

    Args:
        net: slices ``(N, C, *)`` to logits ``(N, K, *)``.
        axis: 0, 1 or 2, the axis that is cut; see :data:`PLANES`.
    """

    def __init__(self, net: nn.Module, axis: int):
        super().__init__()
        self.net, self.axis = net, axis

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes ``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)``."""
        stack = volumes.movedim(2 + self.axis, 1)  # (B, slices, C, two axes)
        logits = self.net(stack.flatten(0, 1)).unflatten(0, stack.shape[:2])
        return logits.movedim(1, 2 + self.axis)


class InView(nn.Module):
    """A 3D network that sees the volume with one axis brought to the front.

    Permuting loses nothing: with a network whose kernels treat all axes alike, and the same
    weights, all views would be one.

    Args:
        net: volumes to logits, its first spatial axis unlike the others.
        axis: 0, 1 or 2: which axis of the volume becomes the first.
    """

    def __init__(self, net: nn.Module, axis: int):
        super().__init__()
        self.net, self.axis = net, axis

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes ``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)``, in the volume's own axes."""
        return self.net(volumes.movedim(2 + self.axis, 2)).movedim(2, 2 + self.axis)


def need_volumes(task, method: str) -> None:
    """Refuse slices where a method looks along three axes.

    Raises:
        ValueError: a 2D task.
    """
    if task.train.dims != 3:
        raise ValueError(
            f"{method} looks along the three axes of a volume, and {task.train.name!r} is a "
            f"cohort of slices: load it with dims=3."
        )
