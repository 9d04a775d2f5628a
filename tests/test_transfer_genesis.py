"""Models Genesis and the universal model: what is spoilt, what is handed over, what is hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.self_supervision.finetune import PARTS, pretrain
from lsseg_edu.semi.transfer import (
    Genesis,
    Universal,
    bezier,
    corrupt,
    finetune_genesis_2d,
    finetune_genesis_3d,
    finetune_universal,
    joint_sources,
    local_shuffle,
    paint,
)
from lsseg_edu.train import Batch, Budget, Part

ONE = Budget("smoke", steps=1, batch=2)
NONE = Budget("smoke", steps=0, batch=2)
QUIET = {"progress": False}


def images(n=3, dims=2, size=32, seed=0):
    shape = (n, 1, *(size,) * dims)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch(x, **extras):
    index = torch.arange(len(x))
    return Batch(None, Part(x, None, index, index, extras), 0.5)


def weights(net, names):
    return torch.cat([p.detach().flatten() for n in names for p in getattr(net, n).parameters()])


# Corruptions


@pytest.mark.parametrize("spoil", [bezier, local_shuffle, paint, corrupt])
@pytest.mark.parametrize("dims", [2, 3])
def test_corruptions_keep_shape_range_and_the_original(spoil, dims):
    torch.manual_seed(0)
    x = images(2, dims, 16 if dims == 3 else 32)
    before = x.clone()
    spoilt = spoil(x)
    assert spoilt.shape == x.shape and spoilt.isfinite().all()
    assert torch.equal(x, before) and not torch.equal(spoilt, x)
    low, high = x.amin(tuple(range(1, x.ndim))), x.amax(tuple(range(1, x.ndim)))
    assert (spoilt.flatten(1).amin(1) >= low - 1e-4).all()
    assert (spoilt.flatten(1).amax(1) <= high + 1e-4).all()


def test_the_curve_is_the_bezier_curve():
    """Against the parametric form: at the intensity x(t) the curve must give y(t)."""
    p1, p2 = torch.tensor([0.2, 0.9]), torch.tensor([0.7, 0.1])
    t = torch.linspace(0, 1, 33)[:, None]
    curve = 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3
    x = curve[:, 0].view(1, 1, 3, 11)
    points, up = torch.stack([p1, p2])[None], torch.tensor([False])
    assert torch.allclose(bezier(x, points, up).flatten(), curve[:, 1], atol=1e-3)
    assert torch.allclose(bezier(x, points, ~up).flatten(), 1 - curve[:, 1], atol=1e-3)


def test_curves_are_monotone_and_half_of_them_fall():
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 3, 100).view(1, 1, 10, 10).expand(200, -1, -1, -1)
    steps = bezier(ramp).flatten(1).diff(dim=1)
    rises, falls = (steps >= -1e-5).all(1), (steps <= 1e-5).all(1)
    assert (rises | falls).all() and 70 < int(falls.sum()) < 130


def test_shuffling_moves_pixels_within_small_windows_only():
    torch.manual_seed(0)
    axes = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    places = torch.stack(axes)[None].expand(5, -1, -1, -1)
    moved = local_shuffle(places, window=4, rate=1.0)
    assert (moved - places).abs().max() <= 3
    assert (moved != places).any(1).float().mean() > 0.7
    for one in moved:  # every pixel once
        assert len({tuple(p) for p in one.flatten(1).T.tolist()}) == 256
    assert torch.equal(local_shuffle(places, rate=0.0), places)
    half = (local_shuffle(places, rate=0.5) != places).any(1).float().mean()
    assert 0.25 < half < 0.7


def test_in_painting_keeps_most_and_out_painting_spoils_most():
    torch.manual_seed(0)
    x = images(50)
    inside = (paint(x) != x).float().mean()
    outside = (paint(x, outside=True) != x).float().mean()
    assert 0.05 < inside < 0.4 and 0.2 < outside < 0.8 and outside > inside


def test_each_transform_can_be_left_out():
    x = images()
    assert torch.equal(corrupt(x, 0, 0, 0), x)
    assert not torch.equal(corrupt(x, 0, 0, 1), x)
    torch.manual_seed(0)
    many = images(300)
    share = (corrupt(many, 0.9, 0, 0) != many).flatten(1).any(1).float().mean()
    assert 0.83 < share < 0.97


# Genesis


@pytest.mark.parametrize("dims", [2, 3])
def test_restoration_trains_encoder_and_decoder(dims):
    torch.manual_seed(0)
    pretext = Genesis(unet(Shape(1, 3, dims), width=4))
    loss = pretext.loss(batch(images(2, dims)))["restoration"]
    loss.backward()
    for name in PARTS["all"]:
        assert all(p.grad.isfinite().all() for p in getattr(pretext.net, name).parameters())
        assert any(p.grad.abs().max() > 0 for p in getattr(pretext.net, name).parameters())
    assert pretext.net.final_conv.weight.grad is None


def test_the_target_is_the_image_before(monkeypatch):
    x = images()
    pretext = Genesis(unet(Shape(1, 3, 2), width=4))
    pretext.restore = lambda spoilt: x + 2.0
    assert float(pretext.loss(batch(x))["restoration"]) == pytest.approx(4.0)
    seen = []
    pretext.restore = lambda spoilt: seen.append(spoilt) or spoilt
    torch.manual_seed(0)
    assert float(pretext.loss(batch(x))["restoration"]) > 0 and not torch.equal(seen[0], x)


def test_what_is_handed_over_is_what_restoration_has_learnt(task, monkeypatch):
    """Fine-tuning without a step shows the weights that it starts from."""
    from lsseg_edu.semi.transfer import genesis

    first = pretrain(Genesis, task, ONE, **QUIET)
    monkeypatch.setattr(genesis, "pretrain", lambda *a, **k: first)
    fresh, parts = unet(task), PARTS["all"][5:]
    for part in ("encoder", "all"):
        start = finetune_genesis_2d(task, NONE, part=part, **QUIET).method.net
        mine = weights(start, PARTS["encoder"])
        assert torch.equal(mine, weights(first.method.net, PARTS["encoder"]))
        giver = first.method.net if part == "all" else fresh
        assert torch.equal(weights(start, parts), weights(giver, parts))


def test_genesis_of_another_source_and_in_volumes(task, cohort):
    other = Task.split(replace(cohort, name="other"), valid=2, test=2)
    fitted = finetune_genesis_2d(task, ONE, source=other, **QUIET)
    assert {"restoration", "supervised"} <= set(fitted.history)
    rng = np.random.default_rng(0)
    labels = np.zeros((4, 32, 32, 32), np.int64)
    labels[:, 8:20, 8:24, 8:20] = 1
    bricks = Cohort.from_arrays(rng.normal(size=labels.shape) + labels, labels)
    volumes = Task.split(bricks, labelled=1, valid=1, test=1)
    assert finetune_genesis_3d(volumes, ONE, **QUIET).history["restoration"]
    with pytest.raises(ValueError, match="for volumes"):
        finetune_genesis_3d(task, ONE)
    with pytest.raises(ValueError, match="for slices"):
        finetune_genesis_2d(volumes, ONE)
    colour = replace(other, train=replace(other.train, images=torch.randn(10, 3, 32, 32)))
    with pytest.raises(ValueError, match="The source has 3 channels, the target 1"):
        finetune_genesis_2d(task, ONE, source=colour)


# Universal


def test_hiding_reverses_the_encoders_gradient_and_not_the_classifiers():
    grads = {}
    for hide in (True, False):
        torch.manual_seed(0)
        method = Universal(unet(Shape(1, 3, 2), width=4), 2, weight=1.0, hide=hide)
        torch.manual_seed(1)
        terms = method.loss(batch(images(4), source=torch.tensor([0, 1, 0, 1])))
        terms["source"].backward()
        first = method.net.conv_0.conv_0.conv.weight.grad
        grads[hide] = (float(terms["source"].detach()), first, method.asks.weight.grad)
        assert all(p.grad is None for p in method.net.upcat_1.parameters())
    assert grads[True][0] == pytest.approx(grads[False][0])
    assert torch.allclose(grads[True][1], -grads[False][1]) and grads[True][1].abs().max() > 0
    assert torch.allclose(grads[True][2], grads[False][2])


def test_sources_are_joined_in_equal_numbers_without_labels(task, cohort):
    few = Task.split(replace(cohort, name="other"), valid=4, test=5)
    few = replace(few, train=replace(few.train, images=few.train.images + 100))
    joint = joint_sources([task, few])
    number = len(few.train)
    source = joint.train.extras["source"]
    assert source.bincount().tolist() == [number, number] and len(joint.unlabelled) == 2 * number
    assert (joint.train.labels == IGNORE).all()
    assert torch.equal((joint.train.images.mean((1, 2, 3)) > 50).long(), source)
    small = replace(few, train=replace(few.train, images=few.train.images[..., :16]))
    assert joint_sources([task, small]).train.images.shape[1:] == (1, 32, 32)
    colour = replace(few, train=replace(few.train, images=few.train.images.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match=r"channels and dimensions, not have \[\(1, 2\), \(3, 2\)"):
        joint_sources([task, colour])


def test_the_source_can_be_learnt_if_the_encoder_helps(monkeypatch):
    """Noise and its blur: told apart within twenty steps, and less surely by a hidden source."""
    from lsseg_edu.semi.transfer import universal

    monkeypatch.setattr(universal, "corrupt", lambda x: x)
    x, source = images(4, size=64), torch.arange(4) % 2
    x[source == 1] = 5 * F.avg_pool2d(x[source == 1], 7, 1, 3)
    last = {}
    for hide in (False, True):
        torch.manual_seed(0)
        method = Universal(unet(Shape(1, 3, 2), width=4), 2, weight=1.0, hide=hide)
        optimiser = torch.optim.AdamW(method.parameters(), lr=4e-3)
        for _ in range(20):
            terms = method.loss(batch(x, source=source))
            optimiser.zero_grad()
            sum(terms.values()).backward()
            optimiser.step()
        last[hide] = float(terms["source"].detach())
    assert last[False] < 0.1 < last[True]
    assert torch.allclose(method.origin(x).sum(1), torch.ones(4))


def test_universal_features_are_fine_tuned(task, cohort):
    other = Task.split(replace(cohort, name="other"), valid=2, test=2)
    fitted = finetune_universal(task, ONE, sources=(other,), **QUIET)
    assert {"restoration", "source", "supervised"} <= set(fitted.history)
    assert fitted.predict(task.valid.images).shape == (4, 3, 32, 32)
    with pytest.raises(ValueError, match="at least 2 sources, not 1"):
        finetune_universal(task, ONE, sources=())
    with pytest.raises(ValueError, match="own cohort"):
        finetune_universal(task, ONE, sources=(task,))
