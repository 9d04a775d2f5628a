"""Shared by all tests: small problems, made once."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from lsseg_edu.data import Cohort, Task
from lsseg_edu.train import Budget

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cohort() -> Cohort:
    """Twelve subjects with two 32x32 slices each: a bright disc and a dark square in noise."""
    return discs(dims=2)


@pytest.fixture(scope="session")
def volumes() -> Cohort:
    """The same in 3D: six subjects, one 16x16x16 volume each."""
    return discs(dims=3)


@pytest.fixture(scope="session")
def task(cohort) -> Task:
    """Three labelled, five unlabelled, two validation, two test subjects."""
    return Task.split(cohort, labelled=3, valid=2, test=2)


@pytest.fixture
def budget() -> Budget:
    """Three steps of four images."""
    return Budget("smoke", steps=3, batch=4)


def discs(dims: int) -> Cohort:
    """Images of a bright disc (class 1) and a dark square (class 2) at random places."""
    rng = np.random.default_rng(0)
    n, size = (24, 32) if dims == 2 else (6, 16)
    axes = np.meshgrid(*[np.arange(size)] * dims, indexing="ij")
    labels = np.zeros((n, *[size] * dims), np.int64)
    for mask in labels:
        a, b = rng.integers(size // 4, 3 * size // 4, (2, dims))
        mask[np.max([abs(x - c) for x, c in zip(axes, a, strict=True)], 0) < size // 6] = 2
        mask[sum((x - c) ** 2 for x, c in zip(axes, b, strict=True)) < (size // 5) ** 2] = 1
    images = np.array([0.0, 2.0, -2.0])[labels] + rng.normal(size=labels.shape)
    subjects = np.arange(n) // 2 if dims == 2 else np.arange(n)
    return Cohort.from_arrays(images, labels, subjects, ["air", "disc", "square"], name="discs")
