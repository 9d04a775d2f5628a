"""How long to train: the same code in seconds for a test, in minutes for a reader."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """Size of one training, shared by a method and its baseline.

    Attributes:
        name: ``"smoke"``, ``"laptop"`` or ``"gpu"``.
        steps: optimiser steps.
        batch: labelled images a step; as many unlabelled ones for methods that use them.
        seeds: how many seeds a chapter runs where it shows a spread.
        rate: peak learning rate of the one-cycle schedule (AdamW).
    """

    name: str
    steps: int
    batch: int = 8
    seeds: int = 1
    rate: float = 4e-3

    @classmethod
    def named(cls, name: str) -> Budget:
        """``smoke`` (tests, seconds), ``laptop`` (2 cores, minutes) or ``gpu`` (the book)."""
        budgets = {
            "smoke": cls("smoke", steps=6, batch=4),
            "laptop": cls("laptop", steps=400),
            "gpu": cls("gpu", steps=2000, seeds=3),
        }
        if name not in budgets:
            raise ValueError(f"Unknown budget {name!r}: choose one of {', '.join(budgets)}.")
        return budgets[name]

    @classmethod
    def auto(cls) -> Budget:
        """The one ``LSSEG_EDU_BUDGET`` names, else ``gpu`` if CUDA is there, else ``laptop``."""
        default = "gpu" if torch.cuda.is_available() else "laptop"
        return cls.named(os.environ.get("LSSEG_EDU_BUDGET", default))

    def pick(self, smoke: T, laptop: T, gpu: T) -> T:
        """The value that belongs to this budget: ``budget.pick(2, 10, 50)``."""
        return {"smoke": smoke, "laptop": laptop, "gpu": gpu}[self.name]


def one_cycle(progress: float) -> float:
    """Learning rate as a fraction of its peak: up for the first 15 %, then half a cosine down."""
    if progress < 0.15:
        return max(progress / 0.15, 0.04)
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.15) / 0.85))


def device(name: str | None = None) -> torch.device:
    """The device to train on: the one asked for, else CUDA if it is there, else the CPU."""
    chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("CUDA was asked for but is not available: leave device out, or use 'cpu'.")
    return chosen
