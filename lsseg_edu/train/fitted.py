"""What a training leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lsseg_edu.train.method import Method


@dataclass
class Fitted:
    """The end of a training: the method, each loss term at each step, and the time it took.

    Attributes:
        method: what was trained.
        history: each loss term at each step.
        seconds: of the computer.
        interrupted: whether Ctrl-C ended it.
        stages: of procedures that ask an annotator on the way: seconds of *the annotator* spent
            so far and the method trained then, first to last. Else empty.
    """

    method: Method
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    stages: list[tuple[float, Method]] = field(default_factory=list, kw_only=True)

    def predict(self, images: Tensor, batch: int = 64) -> Tensor:
        """Probabilities ``(N, K, *S)`` on the CPU, computed a batch at a time without dropout."""
        where = next(self.method.parameters()).device
        self.method.eval()
        with torch.inference_mode():
            parts = [self.method.predict(x.to(where)).cpu() for x in images.split(batch)]
        return torch.cat(parts)
