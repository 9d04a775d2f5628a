"""What a training leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lsseg_edu.train.method import Method


@dataclass
class Fitted:
    """The end of a training: the method, each loss term at each step, and the time it took."""

    method: Method
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def predict(self, images: Tensor, batch: int = 64) -> Tensor:
        """Probabilities ``(N, K, *S)`` on the CPU, computed a batch at a time without dropout."""
        where = next(self.method.parameters()).device
        self.method.eval()
        with torch.inference_mode():
            parts = [self.method.predict(x.to(where)).cpu() for x in images.split(batch)]
        return torch.cat(parts)
