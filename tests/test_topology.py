"""Betti numbers, and how far a prediction's are from the truth's."""

import numpy as np
import pytest
import torch

from lsseg_edu.data import IGNORE, Cohort
from lsseg_edu.evaluate import betti_error, betti_numbers


def mask(*rows):
    return torch.tensor([[c == "#" for c in row] for row in rows])


def test_betti_numbers_of_slices():
    assert betti_numbers(torch.zeros(4, 4, dtype=bool)) == (0, 0)
    assert betti_numbers(torch.ones(4, 4, dtype=bool)) == (1, 0)  # up to the border, no hole
    assert betti_numbers(mask("##.#", "##.#")) == (2, 0)
    assert betti_numbers(mask("####", "#.##", "####", "###.")) == (1, 1)
    assert betti_numbers(mask("#.", ".#")) == (1, 0)  # corners connect
    assert betti_numbers(mask(".#.", "#.#", ".#.")) == (1, 1)  # so they enclose


def test_betti_numbers_of_volumes():
    block = torch.ones(5, 5, 5, dtype=bool)
    assert betti_numbers(block) == (1, 0, 0)
    hollow = block.clone()
    hollow[2, 2, 2] = False
    assert betti_numbers(hollow) == (1, 0, 1)
    hollow[:, 2, 2] = False
    assert betti_numbers(hollow) == (1, 1, 0)


def test_against_scipy_on_noise():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7):
        noise = rng.random((24, 24)) < share
        pieces = ndimage.label(noise, np.ones((3, 3)))[1]
        holes = ndimage.label(~np.pad(noise, 1))[1] - 1
        assert betti_numbers(noise) == (pieces, holes)


def cohort(labels, subjects):
    images = np.random.default_rng(0).normal(size=labels.shape)
    return Cohort.from_arrays(images, labels, subjects)


def test_error_is_the_mean_over_the_items_of_a_subject():
    labels = np.zeros((3, 8, 8), int)
    labels[:, 1:4, 1:4], labels[:, 5:7, 5:7] = 1, 2
    predicted = torch.from_numpy(labels).clone()
    predicted[0, 2, 2] = 0  # a hole in class 1
    predicted[0, 1, 7] = 2  # a stray piece of class 2
    predicted[2, 5:7, 5:7] = 0  # class 2 is missing
    error = betti_error(predicted, cohort(labels, np.array([7, 7, 3])))
    assert error.tolist() == [[0, 1], [0.5, 0.5]]  # subjects 3 and 7


def test_pixels_that_nobody_annotated_do_not_count():
    labels = np.zeros((1, 8, 8), int)
    labels[0, 1:4, 1:4] = 1
    labels[0, 6] = IGNORE
    predicted = torch.from_numpy(labels).clone()
    predicted[0, 6] = 0
    predicted[0, 6, 3] = 1
    assert betti_error(predicted, cohort(labels, np.array([0]))).tolist() == [[0]]


def test_other_shapes():
    labels = np.ones((1, 8, 8), int)
    labels[0, 0] = 0
    with pytest.raises(ValueError, match=r"has shape \(1, 4, 4\), the masks \(1, 8, 8\)"):
        betti_error(torch.zeros(1, 4, 4), cohort(labels, np.array([0])))
