"""Checkpoints that are never half written and never run code when read."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch


def save_checkpoint(state: dict, path) -> None:
    """Write ``state`` beside ``path`` and rename it: a crash leaves the old one whole."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path) -> dict:
    """Read a checkpoint (tensors and plain values only).

    Raises:
        ValueError: the file is truncated, damaged, or not a checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise ValueError(
            f"The checkpoint {path} cannot be read (truncated, or not a checkpoint): "
            f"delete it to train from the start."
        ) from error
