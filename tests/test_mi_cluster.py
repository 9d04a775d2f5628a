"""Mutual-information clustering: the number is right, and it is about the same pixels."""

import math
from itertools import product

import pytest
import torch

from lsseg_edu import networks
from lsseg_edu.augment import Augment
from lsseg_edu.semi.consistency.mi_cluster import (
    MIClustering,
    joint,
    local_information,
    mutual_information,
)
from lsseg_edu.train import Batch, Part, fit


def assignment(*size, clusters=4, seed=0, sharp=3.0):
    torch.manual_seed(seed)
    return (sharp * torch.randn(2, clusters, *size)).softmax(1)


def one_hot(classes, clusters):
    return torch.nn.functional.one_hot(classes, clusters).movedim(-1, 1).float()


def by_hand(first, second, offset):
    """Count every pair of pixels that lie ``offset`` apart, one by one."""
    batch, clusters, *size = first.shape
    table, pairs = torch.zeros(clusters, clusters, dtype=torch.double), 0
    for b, *i in product(range(batch), *map(range, size)):
        j = [x + u for x, u in zip(i, offset, strict=True)]
        if all(0 <= x < n for x, n in zip(j, size, strict=True)):
            table += torch.outer(first[(b, slice(None), *i)], second[(b, slice(None), *j)])
            pairs += 1
    table = (table + table.T) / 2 / pairs
    total = 0.0
    for c, d in product(range(clusters), repeat=2):
        p, q, both = table[c].sum(), table[:, d].sum(), table[c, d]
        total += float(both * math.log(both / (p * q))) if both > 0 else 0.0
    return total


@pytest.mark.parametrize("size", [(5, 7), (3, 4, 5)])
@pytest.mark.parametrize("radius", [0, 1])
def test_information_is_the_brute_force_one_over_all_pairs(size, radius):
    first, second = assignment(*size), assignment(*size, seed=1)
    second = 0.5 * second + 0.5 * first.roll(1, -1)
    offsets = list(product(range(-radius, radius + 1), repeat=len(size)))
    expected = sum(by_hand(first, second, u) for u in offsets) / len(offsets)
    assert local_information(first, second, radius).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("clusters", [2, 4, 8])
def test_balanced_agreement_is_ln_c_even_if_names_are_exchanged(clusters):
    classes = torch.arange(64).remainder(clusters).view(1, 8, 8)
    swap = torch.arange(clusters).view(-1, 2).flip(1).flatten()
    for other in (classes, swap[classes]):
        table = joint(one_hot(classes, clusters), one_hot(other, clusters))
        assert mutual_information(table).item() == pytest.approx(math.log(clusters), abs=1e-4)


def test_independent_and_constant_assignments_say_nothing():
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    a, b = one_hot(rows[None] % 4, 4), one_hot(columns[None] % 4, 4)
    assert mutual_information(joint(a, b)).abs() < 1e-5
    background = one_hot(torch.zeros(1, 8, 8, dtype=torch.long), 4)
    assert mutual_information(joint(background, background)).abs() < 1e-5


def test_gradient_is_finite_at_certain_answers():
    first = (100 * torch.randn(1, 4, 4, 4)).softmax(1).requires_grad_()
    local_information(first, first).backward()
    assert first.grad.isfinite().all()


def batch(progress=1.0):
    torch.manual_seed(1)
    images, labels = torch.randn(4, 1, 32, 32), torch.randint(0, 3, (4, 32, 32))
    part = Part(images, labels, torch.arange(4), torch.arange(4), {})
    return Batch(part, Part(images.flip(0) + 1, None, part.index, part.subject, {}), progress)


class Pixelwise(torch.nn.Module):
    """A network of 1x1 convolutions, cut like the U-Net: it cannot help being equivariant."""

    widths = (6,)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.final_conv = torch.nn.Conv2d(1, 6, 1), torch.nn.Conv2d(6, 3, 1)

    def encode(self, images):
        return [self.first(images).relu()]

    def decode(self, features):
        return features[0]

    def forward(self, images):
        return self.final_conv(self.decode(self.encode(images)))


@pytest.mark.parametrize("radius", [0, 2])
def test_transformation_is_undone_before_pixels_are_paired(radius):
    method = MIClustering(Pixelwise(), 2, clusters=5, radius=radius, weight=2.0)
    method.paint = Augment.none()
    b = batch()
    terms = method.loss(b)
    clusters, _ = method.answers(b.unlabelled.images)
    expected = -2 * local_information(clusters, clusters, radius).item()
    assert terms["alignment"] < 1e-10
    assert terms["information"].item() == pytest.approx(expected, abs=1e-6)
    method.paint = Augment.strong()
    assert method.loss(b)["alignment"] > 1e-6


def test_the_images_are_turned():
    method, seen = MIClustering(Pixelwise(), 2), []
    method.net.first.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    method.paint, b = Augment.none(), batch()
    method.loss(b)
    still, moved = seen[1:]
    assert torch.equal(still, b.unlabelled.images) and not torch.equal(moved, still)
    assert torch.equal(moved.flatten(1).sort(1).values, still.flatten(1).sort(1).values)


def test_terms_are_weighted_and_ramped():
    def terms(progress, **options):
        torch.manual_seed(3)
        method = MIClustering(Pixelwise(), 2, **options)
        torch.manual_seed(4)
        return method.loss(batch(progress))

    end, start, none = terms(1.0), terms(0.0), terms(1.0, weight=0.0, align=0.0)
    double = terms(1.0, weight=0.2, align=2.0)
    assert none["information"] == none["alignment"] == 0
    for name in ("information", "alignment"):
        assert double[name].item() == pytest.approx(2 * end[name].item(), rel=1e-4)
        assert start[name].item() == pytest.approx(math.exp(-5) * end[name].item(), rel=1e-3)


def test_a_step_on_the_information_makes_it_larger():
    torch.manual_seed(0)
    method, values = MIClustering(networks.unet(networks.Shape(1, 3, 2), width=4), 2), []
    optimiser = torch.optim.Adam(method.parameters(), 0.01)
    for _ in range(15):
        torch.manual_seed(0)
        loss = method.loss(batch())["information"]
        values.append(-loss.item())
        optimiser.zero_grad()
        loss.backward()
        grads = [p.grad for p in method.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in grads)
        optimiser.step()
    assert values[-1] > values[0]
    assert method.head.weight.grad.abs().sum() > 0
    assert next(method.net.parameters()).grad.abs().sum() > 0


def test_trains_on_a_task(task, budget):
    fitted = fit(MIClustering.for_task(task, clusters=8), task, budget, progress=False)
    assert set(fitted.history) == {"supervised", "information", "alignment"}
    heads = []
    for state in (0, 1):
        torch.manual_seed(state)
        heads.append(MIClustering.for_task(task, seed=3).head.weight)
    assert torch.equal(*heads)


def test_volumes():
    b = batch()
    images = torch.randn(2, 1, 16, 16, 32)
    part = Part(images, torch.randint(0, 3, (2, 16, 16, 32)), b.labelled.index, None, {})
    torch.manual_seed(0)
    method = MIClustering(networks.unet(networks.Shape(1, 3, 3), width=4), 3, clusters=4)
    sum(method.loss(Batch(part, part, 1.0)).values()).backward()
