"""Several trained methods that answer as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lsseg_edu.train import Fitted, Method


class Committee(Method):
    """Members that were trained apart and are asked together.

    Args:
        members: trained methods of one task.
        combine: their probabilities ``(M, B, K, *S)`` to one answer ``(B, K, *S)``, e.g.
            :func:`.vote` or :func:`.product`.
    """

    def __init__(self, members: Sequence[Method], combine: Callable[[Tensor], Tensor]):
        super().__init__(members[0].net)
        self.members, self.combine = nn.ModuleList(members), combine

    def predict(self, images: Tensor) -> Tensor:
        """What all say together, ``(B, K, *S)``."""
        return self.combine(torch.stack([member.predict(images) for member in self.members]))


def together(fitted: Sequence[Fitted], combine: Callable[[Tensor], Tensor]) -> Fitted:
    """Trainings of several members as one :class:`~lsseg_edu.train.Fitted`.

    The history keeps every term of every member, ``"0 supervised"``; the seconds are those of
    all.
    """
    history = {f"{i} {k}": v for i, one in enumerate(fitted) for k, v in one.history.items()}
    return Fitted(
        Committee([one.method for one in fitted], combine),
        history,
        sum(one.seconds for one in fitted),
        any(one.interrupted for one in fitted),
    )
