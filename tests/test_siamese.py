"""Siamese consistency: image and answer are moved alike, and both branches learn."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.augment.geometry import warp
from lsseg_edu.data import IGNORE, Task, annotate
from lsseg_edu.semi.consistency.bortsova import Elastic, Siamese
from lsseg_edu.semi.consistency.covid_weak import PointConsistency
from lsseg_edu.semi.consistency.transforms import ROTATIONS, Dihedral
from lsseg_edu.train import Batch, Part, fit


def conv(dims=2, kernel=3):
    torch.manual_seed(0)
    layer = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(layer(1, 4, kernel, padding="same"), nn.ReLU(), layer(4, 3, 1))


def batch(*size, progress=1.0, points=False):
    torch.manual_seed(1)
    images, labels = torch.randn(4, 1, *size), torch.randint(0, 3, (4, *size))
    if points:
        labels = labels.masked_fill(torch.rand(labels.shape) > 0.05, IGNORE)
    index = torch.arange(4)
    none = torch.full_like(labels, IGNORE)
    labelled = Part(images, labels, index, index, {})
    return Batch(labelled, Part(images.flip(0) + 1, none, index, index, {}), progress)


def outputs(module):
    seen = []
    module.register_forward_hook(lambda m, x, out: seen.append(out))
    return seen


class Log(nn.Module):
    """The network whose probabilities are the image: it commutes with every linear ``T``."""

    def forward(self, images):
        return images.log()


def distributions():
    torch.manual_seed(0)
    return (2 * torch.randn(4, 3, 24, 24)).softmax(1)


# Bortsova: elastic deformation, two branches


def test_elastic_asks_nothing_of_a_network_that_moves_along(monkeypatch):
    method, images = Siamese(Log(), strength=0.05), distributions()
    assert method.consistency(images, images.log()) < 1e-10
    monkeypatch.setattr(Elastic, "__call__", lambda self, x: x)  # T in no branch: nothing to ask
    assert method.consistency(images, images.log()) < 1e-10
    once = iter((True, False, True, False))
    monkeypatch.setattr(Elastic, "__call__", lambda v, x: warp(x, v.grid) if next(once) else x)
    assert method.consistency(images, images.log()) > 1e-3  # T in one branch alone


def test_elastic_moves_and_is_smooth():
    images = torch.randn(3, 1, 32, 32)
    still, moved = Elastic.draw(images, strength=0.0), Elastic.draw(images, strength=0.03)
    assert torch.allclose(still(images), images, atol=1e-4) and still.inside(images).all()
    pixels = (moved.grid - still.grid) * 16
    assert 0.3 < pixels.std() < 1.5
    assert pixels.diff(dim=1).abs().max() < 1 and pixels.diff(dim=2).abs().max() < 1
    assert not torch.equal(moved.grid[0], moved.grid[1])
    probs = distributions()
    assert torch.allclose(Elastic.draw(probs)(probs).sum(1), torch.ones(4, 24, 24), atol=1e-5)


@pytest.mark.parametrize("size", [(12, 20), (6, 8, 10)])
def test_inside_is_where_nothing_had_to_be_repeated(size):
    """Away from the border, pixels of a ramp come from between pixels: no value is clipped."""
    images = torch.zeros(4, 1, *size)
    view = Elastic.draw(images, strength=0.1)
    inside = view.inside(images)[:, 0]
    assert inside.any() and not inside.all()
    for axis, n in enumerate(size):
        place = ((view.grid[..., -1 - axis] + 1) * n - 1) / 2
        assert (place[inside] >= -1e-3).all() and (place[inside] <= n - 1 + 1e-3).all()
        outside = (place < -1e-3) | (place > n - 1 + 1e-3)
        assert not inside[outside].any()


def test_siamese_is_the_mean_square_over_the_pixels_inside(monkeypatch):
    images = batch(16, 16).labelled.images
    view = Elastic.draw(images, strength=0.05)
    monkeypatch.setattr(Elastic, "draw", lambda *a, **k: view)
    method = Siamese(conv())
    logits = method.net(images)
    square = (method.net(view(images)).softmax(1) - view(logits.softmax(1))).square().mean(1)
    expected = square[view.inside(images)[:, 0]].mean()
    assert torch.allclose(method.consistency(images, logits), expected, rtol=1e-4)


def test_siamese_gradient_flows_through_both_branches():
    method = Siamese(conv(), strength=0.05)
    seen = outputs(method.net)
    loss = method.loss(batch(16, 16))["consistency"]
    after, before = torch.autograd.grad(loss, seen)
    assert after.abs().sum() > 0 and before.abs().sum() > 0
    assert after.isfinite().all() and before.isfinite().all()


def test_siamese_asks_labelled_and_unlabelled_images():
    method, b = Siamese(conv(), strength=0.05), batch(16, 16)
    seen = outputs(method.net)
    terms = method.loss(b)
    (gradient,) = torch.autograd.grad(terms["consistency"], seen[:1], retain_graph=True)
    assert (gradient.flatten(1).abs().sum(1) > 0).all() and len(gradient) == 8
    (gradient,) = torch.autograd.grad(terms["supervised"], seen[:1])
    assert (gradient.flatten(1).abs().sum(1) > 0).tolist() == [True] * 4 + [False] * 4
    assert terms["supervised"].item() == pytest.approx(
        losses.dice_ce(method.net(b.labelled.images), b.labelled.labels).item(), rel=1e-5
    )


def test_siamese_weight_is_ramped(monkeypatch):
    monkeypatch.setattr(Siamese, "consistency", lambda *a: torch.tensor(2.0))
    method = Siamese(conv(), weight=3.0)
    terms = [method.loss(batch(8, 8, progress=t))["consistency"].item() for t in (0.0, 1.0)]
    assert terms == pytest.approx([6 * math.exp(-5), 6.0])


# Laradji: points, turns and mirrors


def test_points_are_learnt_in_both_branches_where_they_are():
    """A pixelwise network answers the moved image with the moved answer: no term may differ."""
    method, b = PointConsistency(conv(kernel=1), weight=5.0), batch(16, 16, points=True)
    terms = method.loss(b)
    assert terms["consistency"] < 1e-5
    logits, labels = method.net(b.labelled.images).detach(), b.labelled.labels
    picked = [
        -float(logits[n].log_softmax(0)[labels[n, i, j], i, j])
        for n, i, j in (labels != IGNORE).nonzero().tolist()
    ]
    assert terms["points"].item() == pytest.approx(2 * sum(picked) / len(picked), rel=1e-4)


def test_consistency_is_the_mean_absolute_difference_and_ramped():
    method, b = PointConsistency(conv(), weight=2.0), batch(16, 16, points=True)
    seen = outputs(method.net)
    torch.manual_seed(5)
    value = method.loss(b)["consistency"].item()
    torch.manual_seed(5)
    view = Dihedral.draw(seen[0])
    by_hand = (view.inverse(seen[1].softmax(1)) - seen[0].softmax(1)).abs().mean()
    assert value == pytest.approx(2 * by_hand.item(), rel=1e-4) and value > 0
    b = replace(b, progress=0.0)
    torch.manual_seed(5)
    start = method.loss(b)["consistency"].item()
    assert start == pytest.approx(math.exp(-5) * value, rel=1e-3)


def test_point_consistency_gradient_flows_through_both_branches():
    method = PointConsistency(conv())
    seen = outputs(method.net)
    loss = method.loss(batch(16, 16, points=True))["consistency"]
    still, moved = torch.autograd.grad(loss, seen)
    assert (still.flatten(1).abs().sum(1) > 0).all() and len(still) == 8
    assert (moved.flatten(1).abs().sum(1) > 0).all()


def test_works_with_points_alone(cohort, budget):
    task = annotate.points(Task.split(cohort, valid=2, test=2))
    assert len(task.unlabelled) == 0
    fitted = fit(PointConsistency.for_task(task), task, budget, progress=False)
    assert set(fitted.history) == {"points", "consistency"}
    few = annotate.points(Task.split(cohort, labelled=3, valid=2, test=2))
    assert PointConsistency.for_task(few).unlabelled
    assert fit(PointConsistency.for_task(few), few, budget, progress=False).history["points"]


def test_without_mirrors_only_rotations(monkeypatch):
    seen, b, draw = [], batch(8, 8), Dihedral.draw
    monkeypatch.setattr(Dihedral, "draw", lambda *a, **k: seen.append(draw(*a, **k)) or seen[-1])
    for mirrors in (True, False):
        method = PointConsistency(conv(), mirrors=mirrors)
        for _ in range(8):
            method.loss(b)
    elements = torch.stack([view.elements for view in seen]).view(2, -1)
    assert set(elements[0].tolist()) == set(range(8))
    assert set(elements[1].tolist()) == set(ROTATIONS)


@pytest.mark.parametrize("kind", [Siamese, PointConsistency])
def test_volumes(kind):
    method = kind(conv(dims=3))
    sum(method.loss(batch(6, 8, 8)).values()).backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("kind", [Siamese, PointConsistency])
def test_trains_on_a_task(kind, task, budget):
    method = kind.for_task(task)
    assert method.unlabelled
    history = fit(method, task, budget, progress=False).history
    assert all(math.isfinite(v) for values in history.values() for v in values)
    assert method.predict(torch.randn(2, 1, 32, 32)).shape == (2, 3, 32, 32)


def test_the_siamese_network_is_the_books():
    net = networks.unet(networks.Shape(1, 3, 2))
    assert [n for n, _ in Siamese(net).named_parameters() if not n.startswith("net.")] == []
