"""Graph cuts: the minimum is the one that trying every labelling finds."""

from itertools import product

import numpy as np
import pytest
import torch

from lsseg_edu.data import IGNORE, Task, annotate
from lsseg_edu.partial.regions import graph_cut as module
from lsseg_edu.partial.regions.graph_cut import appearance, contrast, graph_cut, grow
from lsseg_edu.partial.regions.potts import (
    alpha_expansion,
    energy,
    expand,
    min_cut,
    neighbours,
)
from lsseg_edu.train import Budget


def problem(size, classes, seed):
    """Random costs, images and border weights of a small grid."""
    draw = torch.Generator().manual_seed(seed)
    unary = 2 * torch.rand(classes, *size, generator=draw)
    image = torch.randn(1, *size, generator=draw)
    return unary, image


def every(pixels, classes):
    """All labellings ``(classes ** pixels, pixels)``."""
    return np.array(list(product(range(classes), repeat=pixels)))


def energies(labellings, unary, image, weight, sigma=None):
    """The formula of the docstring, pair by pair, for many labellings at once."""
    size = image.shape[1:]
    places = list(product(*map(range, size)))
    pairs = [
        (i, j)
        for i, p in enumerate(places)
        for j, q in enumerate(places)
        if i < j and max(abs(a - b) for a, b in zip(p, q, strict=True)) == 1
    ]
    x = image.flatten(1).double().numpy()
    change = {(i, j): ((x[:, i] - x[:, j]) ** 2).sum() for i, j in pairs}
    spread = np.mean(list(change.values())) if sigma is None else sigma**2
    total = np.zeros(len(labellings))
    for i, row in enumerate(unary.flatten(1).double().numpy().T):
        total += row[labellings[:, i]]
    for (i, j), d in change.items():
        far = np.hypot.reduce(np.subtract(places[i], places[j]))
        w = weight / far * np.exp(-d / (2 * spread))
        total += w * (labellings[:, i] != labellings[:, j])
    return total


@pytest.mark.parametrize("size", [(3, 4), (2, 3, 2)], ids=["2D", "3D"])
@pytest.mark.parametrize("seed", range(4))
def test_two_classes_are_the_global_minimum(size, seed):
    unary, image = problem(size, 2, seed)
    seeds = torch.full(size, IGNORE)
    seeds.view(-1)[0], seeds.view(-1)[-1] = seed % 2, 1 - seed % 2
    found = graph_cut(unary, image, seeds, weight=0.7).flatten().numpy()
    labellings = every(found.size, 2)
    held = (labellings[:, 0] == seed % 2) & (labellings[:, -1] == 1 - seed % 2)
    free = unary.clone().view(2, -1)
    free[:, [0, -1]] = 0
    scores = energies(labellings[held], free.view_as(unary), image, 0.7)
    mine = energies(found[None], free.view_as(unary), image, 0.7)[0]
    assert mine == pytest.approx(scores.min(), abs=1e-5)
    assert (found == labellings[held][scores.argmin()]).all()


@pytest.mark.parametrize("seed", range(6))
def test_more_classes_end_where_no_expansion_gains(seed):
    unary, image = problem((2, 4), 3, seed)
    found = graph_cut(unary, image, weight=0.8, sigma=1.0).flatten().numpy()
    scores = energies(every(8, 3), unary, image, 0.8, sigma=1.0)
    mine = energies(found[None], unary, image, 0.8, sigma=1.0)[0]
    assert mine <= 2 * scores.min() + 1e-6
    for alpha in range(3):
        moves = np.where(every(8, 2) == 1, alpha, found)
        assert mine <= energies(moves, unary, image, 0.8, sigma=1.0).min() + 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_an_expansion_is_the_best_one(seed):
    rng = np.random.default_rng(seed)
    costs, y = rng.random((8, 3)), rng.integers(0, 3, 8)
    pairs, distance = neighbours((2, 4))
    weights = rng.random(len(distance))
    for alpha in range(3):
        moves = np.where(every(8, 2) == 1, alpha, y)
        least = min(energy(move, costs, pairs, weights) for move in moves)
        mine = energy(expand(y, alpha, costs, pairs, weights), costs, pairs, weights)
        assert mine == pytest.approx(least, abs=1e-6)


def test_min_cut_with_one_way_edges():
    rng = np.random.default_rng(0)
    costs, i, j = rng.random((7, 2)), rng.integers(0, 7, 12), rng.integers(0, 7, 12)
    i, j = i[i != j], j[i != j]
    capacity = rng.random(len(i))
    x = min_cut(costs, i, j, capacity).astype(int)

    def total(x):
        return costs[np.arange(7), x].sum() + (capacity * (1 - x[i]) * x[j]).sum()

    assert total(x) == pytest.approx(min(map(total, every(7, 2))), abs=1e-6)


def test_seeds_are_never_overruled():
    unary, image = problem((9, 9), 3, 0)
    seeds = torch.full((9, 9), IGNORE)
    seeds[4, 4], seeds[0, 0], seeds[8, 8] = 2, 0, 1
    unary[:] = 0
    unary[1] = -1000.0  # everything speaks for class 1
    labels = graph_cut(unary, image, seeds, weight=100.0)
    assert labels[4, 4] == 2 and labels[0, 0] == 0 and labels[8, 8] == 1


def test_the_border_follows_the_edge_only_because_of_the_contrast():
    image = torch.zeros(1, 9, 12)
    image[..., 8:] = 3.0
    seeds = torch.full((9, 12), IGNORE)
    seeds[:, 1], seeds[:, 10] = 0, 1
    labels = graph_cut(torch.zeros(2, 9, 12), image, seeds)
    assert torch.equal(labels, (image[0] > 1).long())
    blind = graph_cut(torch.zeros(2, 9, 12), torch.zeros_like(image), seeds)
    assert not torch.equal(blind, labels)


def test_without_border_every_pixel_is_for_itself():
    unary, image = problem((6, 6), 4, 1)
    assert torch.equal(graph_cut(unary, image, weight=0), unary.argmin(0))


def test_contrast_of_the_image_does_not_matter_by_default():
    unary, image = problem((8, 8), 3, 2)
    assert torch.equal(graph_cut(unary, image), graph_cut(unary, 10 * image + 3))
    _, weights = contrast(image)
    assert weights.max() <= 2.0 and weights.min() > 0


def test_appearance_is_the_smoothed_histogram_of_the_seeds():
    image = torch.linspace(0, 1, 64).view(1, 8, 8)
    seeds = torch.full((8, 8), IGNORE)
    seeds[0], seeds[7] = 0, 1
    unary = appearance(image, seeds, 3)
    assert (unary[0, 0] < unary[1, 0]).all() and (unary[1, 7] < unary[0, 7]).all()
    assert unary[2].isinf().all()
    share = (-unary[0]).exp().view(32, 2)[:, 0]  # two pixels a bin: each bin once
    assert share.sum().item() == pytest.approx(1, abs=1e-5)


def test_a_class_without_a_stroke_is_not_in_the_image():
    torch.manual_seed(0)
    image, seeds = torch.randn(2, 10, 10), torch.full((10, 10), IGNORE)
    seeds[2, 2:8], seeds[7, 2:8] = 0, 3
    assert set(grow(image, seeds, 5).unique().tolist()) <= {0, 3}


def test_bad_input_is_one_sentence():
    unary, image = problem((4, 4), 3, 0)
    seeds = torch.full((4, 4), IGNORE)
    with pytest.raises(ValueError, match="same"):
        graph_cut(unary, image[:, :3], seeds)
    with pytest.raises(ValueError, match="cannot be -1"):
        graph_cut(unary, image, weight=-1)
    with pytest.raises(ValueError, match="needs seeds"):
        grow(image, seeds, 3)
    seeds[0, 0] = 7
    with pytest.raises(ValueError, match="seed of class 7"):
        graph_cut(unary, image, seeds)
    with pytest.raises(ValueError, match="no class at all"):
        alpha_expansion(np.full((2, 2), np.inf), np.array([[0], [1]]), np.ones(1))


def test_training_learns_the_cuts_and_nothing_hidden(task, monkeypatch):
    sparse, seen = annotate.scribbles(task), []
    before = sparse.train.labels.clone()

    def fit(method, task, *args, **kwargs):
        seen.append(task)

    monkeypatch.setattr(module, "fit", fit)
    module.graph_cut_training(sparse, Budget("smoke", 2, batch=2), progress=False)
    grown = seen[0].train.labels
    assert torch.equal(sparse.train.labels, before)
    assert torch.equal(seen[0].labelled, sparse.labelled)
    assert (grown[sparse.labelled] != IGNORE).all()
    strokes = before != IGNORE
    assert torch.equal(grown[strokes], before[strokes])
    right = grown[task.labelled] == task.train.labels[task.labelled]
    assert right.float().mean() > 0.8


def test_three_dimensions(volumes):
    full = Task.split(volumes, labelled=2, valid=1, test=1)
    sparse = annotate.scribbles(full)
    n = int(sparse.labelled[0])
    labels = grow(sparse.train.images[n], sparse.train.labels[n], 3, region=1.0)
    assert (labels == full.train.labels[n]).float().mean() > 0.8
