"""What every network constructor needs to know, and how its weights get their seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from lsseg_edu.data import Cohort, Task


class Shape(NamedTuple):
    """What a network must fit: image channels ``C``, classes ``K``, spatial dims (2 or 3)."""

    channels: int
    classes: int
    dims: int


def build(network: Callable[..., nn.Module], problem: Task | Cohort | Shape, seed: int, **sizes):
    """Make ``network(channels, classes, dims, **sizes)`` for a problem, weights drawn by ``seed``.

    The global random state is left as it was, so making one more network changes nothing else.
    """
    source = problem.train if isinstance(problem, Task) else problem
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(source.channels, source.classes, source.dims, **sizes)
