"""From slices to volumes: an inflated network starts out as the 2D network it came from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu.data import Cohort, Task
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.transfer import (
    Propagation,
    ah_net,
    efficient_unet,
    finetune_ah_net,
    finetune_copied,
    finetune_padded,
    inflate,
    slices,
    spread,
)
from lsseg_edu.semi.transfer.inflate import DepthConv, SliceNorm, finetune_inflated
from lsseg_edu.train import Budget

ONE = Budget("smoke", steps=1, batch=2)
NONE = Budget("smoke", steps=0, batch=2)
QUIET = {"progress": False}
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def flat_net(channels=1, seed=0):
    """A small 2D U-Net whose biases and normalisation have moved, as after a training.

    In double precision, so that only a wrong identity can miss 1e-5.
    """
    net = unet(Shape(channels, 3, 2), width=2, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return net.double()


def volume(depth=16, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 1, depth, size, size, generator=generator).double()


def slice_by_slice(net, x):
    """The 2D network on each slice of ``(1, C, D, H, W)``."""
    return net(x[0].movedim(1, 0)).movedim(0, 1)[None]


@pytest.fixture(scope="module")
def stacks():
    """Five subjects, one 16x32x32 volume each, two of them labelled."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5, 16, 32, 32))
    labels = np.zeros((5, 16, 32, 32), np.int64)
    labels[:, 4:12, 8:20, 8:24], labels[:, 2:6, 22:30, 4:12] = 1, 2
    cohort = Cohort.from_arrays(images + 2 * labels, labels, name="bricks")
    return Task.split(cohort, labelled=2, valid=1, test=1)


@pytest.fixture(scope="module")
def origin(cohort):
    return Task.split(replace(cohort, name="other"), valid=2, test=2)


# Kernels


def test_a_spread_kernel_sums_to_the_flat_one():
    kernel = torch.randn(4, 2, 3, 3)
    for how in ("copy", "centre"):
        for depth in (1, 3, 5):
            assert torch.allclose(spread(kernel, how, depth).sum(2), kernel, **TOLERANCE)
    copied, centred = spread(kernel, "copy"), spread(kernel, "centre")
    assert torch.allclose(copied[:, :, 0], kernel / 3)
    assert torch.equal(copied[:, :, 0], copied[:, :, 2])
    assert torch.equal(centred[:, :, 1], kernel) and centred[:, :, ::2].abs().max() == 0
    for how, depth in (("copy", 2), ("repeat", 3)):
        with pytest.raises(ValueError, match="'copy' or 'centre' over an odd depth"):
            spread(kernel, how, depth)


def test_one_convolution_against_brute_force():
    flat = nn.Conv2d(2, 3, 3, padding=1)
    x = torch.randn(1, 2, 5, 6, 6)
    near = F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")
    means = torch.stack([near[:, :, d : d + 3].mean(2) for d in range(5)], 2)
    copied = inflate(nn.Sequential(flat), "copy")(x)
    assert torch.allclose(copied, slice_by_slice(flat, means), **TOLERANCE)
    centred = inflate(nn.Sequential(flat), "centre")(x)
    assert torch.allclose(centred, slice_by_slice(flat, x), **TOLERANCE)


# The identities


def test_copy_every_activation_on_equal_slices_is_the_flat_networks():
    flat = flat_net()
    deep = inflate(flat, "copy")
    image = volume(1)[:, :, 0]
    x = image.unsqueeze(2).expand(-1, -1, 16, -1, -1)
    with torch.no_grad():
        for mine, reference in zip(deep.encode(x), flat.encode(image), strict=True):
            expected = reference.unsqueeze(2).expand_as(mine)
            assert torch.allclose(mine, expected, **TOLERANCE)
        expected = flat(image).unsqueeze(2).expand(-1, -1, 16, -1, -1)
        assert torch.allclose(deep(x), expected, **TOLERANCE)


def test_centre_the_answer_is_the_flat_networks_slice_by_slice():
    flat, x = flat_net(), volume()
    with torch.no_grad():
        deep = inflate(flat, "centre")(x)
        assert torch.allclose(deep, slice_by_slice(flat, x), **TOLERANCE)
        copied = inflate(flat, "copy")(x)
        assert not torch.allclose(copied, slice_by_slice(flat, x), atol=0.01)


def test_training_can_use_what_lies_across_slices():
    """The zeros of the centred kernel get a gradient; a slice then sees its neighbours."""
    deep = inflate(flat_net(), "centre")
    deep(volume()).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in deep.parameters())
    grad = deep.conv_0.conv_0.conv.weight.grad
    assert grad[:, :, 0].abs().max() > 0 and grad[:, :, 2].abs().max() > 0


def test_the_flat_network_stays_and_the_random_control_forgets_it():
    flat = flat_net()
    before = [p.clone() for p in flat.parameters()]
    torch.manual_seed(0)
    control = inflate(flat, "random")
    assert all(torch.equal(a, b) for a, b in zip(before, flat.parameters(), strict=True))
    known = inflate(flat, "copy")
    shapes = [p.shape for p in control.parameters()]
    assert shapes == [p.shape for p in known.parameters()]
    weight = control.down_2.convs.conv_0.conv.weight
    assert not torch.allclose(weight.double(), known.down_2.convs.conv_0.conv.weight, atol=1e-3)


def test_what_cannot_be_inflated_is_refused():
    with pytest.raises(ValueError, match="Conv2dStaticSamePadding|BatchNorm2d|ZeroPad2d"):
        inflate(efficient_unet(Shape(1, 3, 2)))


# Slices


def test_slices_are_those_of_the_volumes_with_their_neighbours(stacks):
    flat = slices(stacks, neighbours=1)
    assert flat.train.images.shape == (3 * 16, 3, 32, 32)
    x = stacks.train.images
    assert torch.equal(flat.train.images[16 + 5], x[1, 0, 4:7])
    assert torch.equal(flat.train.images[0], x[0, 0, [0, 0, 1]])
    assert torch.equal(flat.train.images[15], x[0, 0, [14, 15, 15]])
    assert torch.equal(flat.train.labels[16 + 5], stacks.train.labels[1, 5])
    assert len(flat.labelled) == 2 * 16
    with pytest.raises(ValueError, match="dims=3"):
        slices(flat)


# Procedures


@pytest.mark.parametrize("procedure", [finetune_copied, finetune_padded], ids=["copy", "centre"])
def test_an_inflated_network_is_fine_tuned_on_volumes(stacks, origin, procedure):
    fitted = procedure(stacks, ONE, 0, source=origin, **QUIET)
    assert fitted.predict(stacks.valid.images).shape == (1, 3, 16, 32, 32)
    weight = fitted.method.net.conv_0.conv_0.conv.weight
    assert weight.shape == (8, 1, 3, 3, 3)


def test_the_source_is_what_is_inflated_and_random_is_not(stacks, origin):
    starts = {
        source if isinstance(source, str) else "origin": finetune_inflated(
            stacks, NONE, 0, "centre", source, **QUIET
        ).method.net
        for source in (origin, "slices", "random")
    }
    middle = starts["origin"].conv_0.conv_0.conv.weight
    assert middle[:, :, ::2].abs().max() == 0 and middle[:, :, 1].abs().max() > 0
    assert starts["random"].conv_0.conv_0.conv.weight[:, :, ::2].abs().max() > 0
    with pytest.raises(ValueError, match="dims=3"):
        finetune_copied(origin, ONE)
    with pytest.raises(ValueError, match="own cohort"):
        finetune_copied(stacks, ONE, source=replace(stacks))


# AH-Net


def test_ah_net_starts_as_the_flat_network_on_neighbouring_slices():
    flat, x = flat_net(channels=3), volume()
    padded = F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")
    near = torch.stack([padded[0, 0, d : d + 3] for d in range(16)])  # (16, 3, H, W)
    with torch.no_grad():
        expected = flat(near).movedim(0, 1)[None]
        assert torch.allclose(ah_net(flat)(x), expected, **TOLERANCE)


def test_ah_net_has_flat_kernels_and_propagation_across():
    net = ah_net(flat_net(channels=3))
    first = net.conv_0.conv_0.conv
    assert first.kernel_size == (3, 3, 3) and first.in_channels == 1
    across = {id(m.across[-1]) for m in net.modules() if isinstance(m, Propagation)}
    assert len(across) == 4
    for module in net.modules():
        if isinstance(module, DepthConv) and module is not first:
            flat = module.kernel_size[0] == 1
            assert flat != (id(module) in across)
            assert flat or module.kernel_size == (3, 1, 1)
    with pytest.raises(ValueError, match="odd number, not 2"):
        ah_net(flat_net(channels=2))


def test_propagation_carries_features_to_the_next_slice():
    block = Propagation(nn.Identity(), 2)
    x = torch.zeros(1, 2, 5, 4, 4)
    x[:, :, 2, :2] = 1.0
    assert torch.equal(block(x), x)
    block(x).sum().backward()
    assert block.across[-1].weight.grad.abs().max() > 0
    with torch.no_grad():
        block.across[-1].weight.fill_(1.0)
    assert (block(x) - x)[:, :, 1].abs().max() > 0 and (block(x) - x)[:, :, 0].abs().max() == 0


def test_ah_net_is_trained_twice_and_its_control_once(stacks):
    fitted = finetune_ah_net(stacks, ONE, **QUIET)
    assert fitted.predict(stacks.valid.images).shape == (1, 3, 16, 32, 32)
    control = finetune_ah_net(stacks, NONE, transferred=False, **QUIET).method.net
    first = unet(slices(stacks, 1)).conv_0.conv_0.conv.weight
    assert torch.equal(control.conv_0.conv_0.conv.weight[:, 0], first)
    assert not torch.equal(fitted.method.net.conv_0.conv_0.conv.weight[:, 0], first)
    with pytest.raises(ValueError, match="volumes of one channel"):
        finetune_ah_net(slices(stacks, 1), ONE)


def test_slice_norm_is_the_flat_norm_of_each_slice():
    x = volume(3, 8)
    flat, deep = (norm(1, affine=True).double() for norm in (nn.InstanceNorm2d, SliceNorm))
    assert torch.allclose(deep(x), slice_by_slice(flat, x), **TOLERANCE)
