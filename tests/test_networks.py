"""Architectures: the same size out as in, and the mechanism each is named for."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu import networks
from lsseg_edu.networks import Shape
from lsseg_edu.networks.blocks import conv
from lsseg_edu.networks.deeplab import ASPP
from lsseg_edu.networks.dense_unet import DenseBlock
from lsseg_edu.networks.fcn import linear_upsampling
from lsseg_edu.networks.resnet import DILATED, ResidualBlock, ResNetEncoder

SEGMENTERS = ("unet", "fcn", "segnet", "pspnet", "deeplab", "attention_unet", "dense_unet")
CLASSIFIERS = ("vgg", "resnet")


def make(name, channels=1, classes=3, dims=2, width=8, seed=0):
    return getattr(networks, name)(Shape(channels, classes, dims), width=width, seed=seed)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def span(layer, channels=1, size=65):
    """Width of the window of the input on which the central output pixel depends."""
    images = noise(1, channels, size, size).requires_grad_()
    out = layer(images)
    out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    columns = images.grad.abs().sum((0, 1, 2)).nonzero()
    return int(columns.max() - columns.min() + 1)


def without_norms(net):
    """Normalisation reaches over the whole image; take it out to see what convolutions reach."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return net


def weights(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("size", [(65, 47), (64, 64)])
def test_logits_have_the_size_of_the_image(name, size):
    assert make(name, channels=2)(noise(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_volumes_too(name):
    assert make(name, dims=3, width=4)(noise(1, 1, 18, 33, 32)).shape == (1, 3, 18, 33, 32)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_encoders_give_a_pyramid_and_one_row_of_logits(name):
    for dims, size in ((2, (65, 47)), (3, (18, 33, 32))):
        net = make(name, dims=dims)
        features = net.encode(noise(2, 1, *size))
        assert tuple(f.shape[1] for f in features) == net.widths
        for level, feature in enumerate(features):
            assert tuple(feature.shape[2:]) == tuple(-(-s // 2**level) for s in size)
        assert net(noise(2, 1, *size)).shape == (2, 3)


@pytest.mark.parametrize("name", SEGMENTERS + CLASSIFIERS)
def test_every_weight_is_trained_and_every_gradient_finite(name):
    net = make(name)
    net(noise(2, 1, 64, 64)).square().mean().backward()
    for key, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), key
    assert not list(net.buffers()), "a running buffer would escape weight averaging"


@pytest.mark.parametrize("name", SEGMENTERS + CLASSIFIERS)
def test_the_seed_decides_the_weights_and_nothing_else_changes(name):
    state = torch.get_rng_state()
    first, again, other = (make(name, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["unet", "attention_unet", "dense_unet"])
def test_decode_takes_what_encode_gives(name):
    net = make(name)
    features = net.encode(noise(1, 1, 65, 47))
    assert net.decode(features).shape[2:] == (65, 47)
    assert len(features) == 5


def test_unet_skips_carry_detail():
    net, images = make("unet"), noise(1, 1, 64, 64)
    features = net.encode(images)
    assert [64 // f.shape[2] for f in features] == [1, 2, 4, 8, 16]
    for level in range(4):  # concatenated, so each skip reaches the output on its own
        cut = [f * (i != level) for i, f in enumerate(features)]
        assert not torch.allclose(net.decode(cut), net.decode(features))
    first = net.upcat_1.convs.conv_0.conv
    assert first.in_channels == net.widths[0] + net.upcat_1.upsample.deconv.out_channels


def test_images_too_small_for_unet_are_one_sentence():
    with pytest.raises(ValueError, match="31x17 are too small: pad to 32"):
        make("unet")(noise(1, 1, 31, 17))


def test_fcn_sums_three_strides():
    net, images = make("fcn"), noise(1, 1, 64, 64)
    features = net.encode(images)
    assert [f.shape[-1] for f in features] == [8, 4, 2]
    full = net.decode(features, (64, 64))
    for i in range(3):
        without = [f * (k != i) for k, f in enumerate(features)]
        assert not torch.allclose(net.decode(without, (64, 64)), full, atol=1e-4)
    assert not any(isinstance(m, nn.Linear) for m in net.modules())


@pytest.mark.parametrize(("dims", "mode"), [(2, "bilinear"), (3, "trilinear")])
def test_fcn_upsampling_starts_linear_and_is_learned(dims, mode):
    up = linear_upsampling(dims, 3, 4)
    coarse = noise(1, 3, *[5] * dims)
    inner = (..., *[slice(4, -4)] * dims)
    expected = F.interpolate(coarse, scale_factor=4, mode=mode, align_corners=False)
    assert torch.allclose(up(coarse)[inner], expected[inner], atol=1e-5)
    up(coarse).square().sum().backward()
    assert up.weight.grad.abs().sum() > 0


def test_segnet_puts_maxima_back_where_they_were():
    net = make("segnet")
    code, memory = net.encode(noise(1, 1, 64, 64))
    indices, size = memory[-1]
    unpooled = net.unpool(code, indices, output_size=size)
    assert torch.equal(unpooled.flatten(2).gather(2, indices.flatten(2)), code.flatten(2))
    assert (unpooled != 0).sum() <= code.numel()
    shuffled = [(i.flip(-1), s) for i, s in memory]
    assert not torch.allclose(net.decode(code, memory), net.decode(code, shuffled), atol=1e-3)


def test_segnet_passes_nothing_but_places_across(monkeypatch):
    monkeypatch.setattr(torch, "cat", lambda *a, **k: pytest.fail("SegNet concatenates nothing"))
    net = make("segnet")
    code, memory = net.encode(noise(1, 1, 64, 64))
    assert all(not indices.is_floating_point() for indices, _ in memory)
    assert net.decode(code, memory).shape == (1, 8, 64, 64)


def test_pspnet_pools_to_the_stated_bins():
    pyramid = make("pspnet").pyramid
    x = noise(2, 64, 16, 12)
    assert [branch[0](x).shape[2:] for branch in pyramid.branches] == [(n, n) for n in (1, 2, 3, 6)]
    out = pyramid(x)
    assert out.shape == (2, pyramid.outputs, 16, 12)
    assert torch.equal(out[:, :64], x)
    whole = out[:, 64:80]
    assert torch.allclose(whole, whole[..., :1, :1].expand_as(whole), atol=1e-5)


def test_pspnet_sees_the_far_corner():
    net = without_norms(make("pspnet"))
    x = noise(1, 64, 16, 16).requires_grad_()
    net.mix(net.pyramid(x))[0, :, 0, 0].sum().backward()
    assert x.grad[0, :, -1, -1].abs().sum() > 0
    assert span(net.mix, channels=net.pyramid.outputs, size=17) == 3


def test_deeplab_branches_see_at_their_rates():
    for rate in (1, 2, 5):
        assert span(without_norms(ASPP(2, 8, 3, [rate])), channels=8, size=33) == 2 * rate + 1
    both = ASPP(2, 8, 3, [2, 5])
    x = noise(1, 8, 16, 16)
    assert torch.allclose(both(x), both.branches[0](x) + both.branches[1](x))


def test_dilation_widens_the_view_at_no_weight_and_no_resolution():
    dilated = without_norms(ResNetEncoder(1, 2, 4, **DILATED))
    plain = without_norms(ResNetEncoder(1, 2, 4, strides=DILATED["strides"]))
    assert dilated.encode(noise(1, 1, 64, 64))[-1].shape[2:] == (16, 16)
    assert weights(dilated) == weights(plain)
    last = [lambda x, net=net: net.encode(x)[-1] for net in (dilated, plain)]
    assert span(last[0], size=301) > 1.5 * span(last[1], size=301)


def test_attention_weighs_each_skip_between_zero_and_one():
    net = make("attention_unet")
    features = net.encode(noise(1, 1, 65, 47))
    seen = []
    for gate in net.gates:
        gate.register_forward_hook(lambda gate, given, out: seen.append((gate, *given, out)))
    net.decode(features)
    assert [given.shape for _, given, *_ in seen] == [f.shape for f in features[-2::-1]]
    for gate, skip, signal, out in seen:
        weight = gate.attention(skip, signal)
        assert weight.shape[1] == 1 and 0 < weight.min() < weight.max() < 1
        assert torch.allclose(out, weight * skip)
        assert not torch.allclose(weight, gate.attention(skip, -signal), atol=1e-4)


def test_a_closed_gate_hides_the_skip():
    net = make("attention_unet")
    features = net.encode(noise(1, 1, 64, 64))
    other = [noise(*f.shape, seed=1) for f in features[:-1]] + features[-1:]
    assert not torch.allclose(net.decode(features), net.decode(other), atol=1e-3)
    for gate in net.gates:
        nn.init.zeros_(gate.psi.weight)
        nn.init.constant_(gate.psi.bias, -100)
    assert torch.allclose(net.decode(features), net.decode(other), atol=1e-6)


def test_dense_layers_read_all_layers_before_them():
    block = DenseBlock(2, inputs=8, growth=4, layers=3)
    assert [layer[-1].in_channels for layer in block.layers] == [8, 12, 16]
    x = noise(1, 8, 9, 9)
    out = block(x)
    assert out.shape[1] == block.outputs == 20
    assert torch.equal(out[:, :8], x)
    for i, layer in enumerate(block.layers):
        new = slice(8 + 4 * i, 12 + 4 * i)
        assert torch.allclose(out[:, new], layer(out[:, : new.start]))


def test_dense_transitions_halve_the_channels():
    net = make("dense_unet")
    for block, transition in zip(net.downs, net.to_coarse, strict=True):
        assert transition[-1].in_channels == block.outputs
        assert transition[-1].out_channels == block.outputs // 2


def test_residual_blocks_correct_their_input():
    block = ResidualBlock(2, 8, 8)
    x = noise(1, 8, 9, 9)
    assert (block.second(x) < 0).any(), "a rectified correction could only add"
    for weight in block.second.parameters():
        nn.init.zeros_(weight)
    assert torch.equal(block(x), x.relu())
    assert ResidualBlock(2, 8, 16, stride=2)(x).shape == (1, 16, 5, 5)


def test_vgg_16_has_thirteen_small_convolutions():
    kernels = [m.kernel_size for m in make("vgg").modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(3, 3)] * 13


@pytest.mark.parametrize("channels", [4, 6, 8, 24])
def test_a_single_pixel_survives_normalisation(channels):
    layer = conv(2, 3, channels, kernel=1)
    assert not torch.allclose(layer(noise(1, 3, 1, 1)), layer(noise(1, 3, 1, 1, seed=1)))
