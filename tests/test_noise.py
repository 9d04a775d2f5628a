"""Noise models do what they say; co-teaching swaps what the peer trusts."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.inaccurate.noise import CoTeaching, keep_rate, models, small_loss
from lsseg_edu.train import Batch, Budget, Part, fit


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def labels():
    y = torch.zeros(40, 32, 32, dtype=torch.long)
    y[:, 4:16, 6:20] = 1
    y[:, 20:29, 8:24] = 2
    y[:, 0, :5] = IGNORE
    return y


def test_pixel_flips_have_the_rate_and_no_preference(labels):
    noisy = models.flip_pixels(labels, 3, 0.4, generator())
    known = labels != IGNORE
    for k in range(3):
        shares = [((noisy == j) & (labels == k)).sum() / (labels == k).sum() for j in range(3)]
        expected = [0.6 if j == k else 0.2 for j in range(3)]
        assert np.allclose(shares, expected, atol=0.02)
    assert torch.equal(noisy == IGNORE, ~known)


def test_class_flips_follow_the_transition_matrix(labels):
    transition = torch.tensor([[1.0, 0, 0], [0.3, 0.7, 0], [0, 0.25, 0.75]])
    noisy = models.flip_classes(labels, transition, generator())
    found = torch.stack(
        [torch.stack([((noisy == j) & (labels == k)).sum() for j in range(3)]) for k in range(3)]
    ).float()
    assert torch.allclose(found / found.sum(1, keepdim=True), transition, atol=0.02)


def test_transition_that_is_not_stochastic_is_one_sentence(labels):
    with pytest.raises(ValueError, match="not stochastic"):
        models.flip_classes(labels, torch.eye(3) * 0.9, generator())


@pytest.mark.parametrize("dims", [2, 3])
def test_grow_equals_scipy(dims):
    masks = torch.zeros(5, *[17] * dims, dtype=torch.bool)
    masks[(slice(None), *[slice(5, 12)] * dims)] = True
    shift = torch.tensor([-3, -1, 0, 1, 4])
    cube = np.ones((3,) * dims)
    for mask, n, out in zip(masks, shift.tolist(), models.grow(masks, shift), strict=True):
        change = ndimage.binary_dilation if n > 0 else ndimage.binary_erosion
        expected = change(mask.numpy(), cube, iterations=abs(n)) if n else mask.numpy()
        assert np.array_equal(out.numpy(), expected)


def test_boundary_noise_is_wrong_only_near_boundaries(labels):
    noisy = models.move_boundaries(labels, 3, 2, generator())
    wrong = (noisy != labels) & (labels != IGNORE)
    inner = torch.from_numpy(
        np.stack([ndimage.distance_transform_cdt(y == 1) > 2 for y in labels.numpy()])
    )
    assert wrong.any() and not (wrong & inner).any()
    sizes = (noisy == 1).flatten(1).sum(1)
    true = (labels == 1).flatten(1).sum(1)
    assert (sizes < true).any() and (sizes > true).any()  # some annotators draw wide, some tight


def test_item_noise_leaves_the_other_items_clean(labels):
    noisy = models.corrupt_items(labels, 3, 0.3, 3, generator())
    bad = (noisy != labels).flatten(1).any(1)
    assert 0.1 < bad.float().mean() < 0.5
    assert models.severity(noisy[bad], labels[bad], 3) > 0.1


def test_severity_is_one_minus_dice(labels):
    assert models.severity(labels, labels, 3) == 0
    half = labels.clone()
    half[:, 10:16, 6:20] = 0  # class 1 loses half of its rows: Dice 2*6/(6+12) = 2/3
    assert models.severity(half, labels, 3) == pytest.approx((1 - 2 / 3) / 2)


def test_corrupt_touches_training_labels_only(task):
    noisy = models.corrupt(task, "boundary", 2, seed=3)
    assert torch.equal(noisy.test.labels, task.test.labels)
    assert torch.equal(noisy.train.labels == IGNORE, task.train.labels == IGNORE)
    again = models.corrupt(task, "boundary", 2, seed=3)
    assert torch.equal(again.train.labels, noisy.train.labels)
    assert not torch.equal(noisy.train.labels, task.train.labels)


@pytest.mark.parametrize(("kind", "level"), [("sloppy", 0.1), ("pixel", 1.2), ("boundary", -1)])
def test_bad_noise_is_one_sentence(task, kind, level):
    with pytest.raises(ValueError, match=r"Unknown noise|cannot be"):
        models.corrupt(task, kind, level)


# Co-teaching


def net(seed):
    torch.manual_seed(seed)
    return nn.Conv2d(1, 3, 3, padding=1)


def batch(progress=1.0):
    torch.manual_seed(5)
    images, y = torch.randn(4, 1, 8, 8), torch.randint(0, 3, (4, 8, 8))
    y[0, 0] = IGNORE
    return Batch(Part(images, y, torch.arange(4), torch.arange(4), {}), None, progress)


def test_keep_rate_falls_to_one_minus_the_noise_rate():
    assert keep_rate(0.0, 0.4, 0.5) == 1
    assert keep_rate(0.25, 0.4, 0.5) == pytest.approx(0.8)
    assert keep_rate(0.5, 0.4, 0.5) == keep_rate(1.0, 0.4, 0.5) == pytest.approx(0.6)


def test_small_loss_keeps_the_smallest():
    b = batch().labelled
    logits = net(0)(b.images)
    kept, known = small_loss(logits, b.labels, 0.7), b.labels != IGNORE
    loss = nn.functional.cross_entropy(logits, b.labels, ignore_index=IGNORE, reduction="none")
    assert kept[known].float().mean() == pytest.approx(0.7, abs=0.01)
    assert loss[kept].max() <= loss[known & ~kept].min()
    assert not kept[~known].any()


def test_small_loss_of_images_keeps_whole_images():
    b = batch().labelled
    logits = net(0)(b.images)
    kept = small_loss(logits, b.labels, 0.5, "image")
    known = b.labels != IGNORE
    assert [bool(k.any()) for k in kept].count(True) == 2
    assert all(torch.equal(k, n) or not k.any() for k, n in zip(kept, known, strict=True))


def test_each_network_learns_from_what_its_peer_trusts():
    method, b = CoTeaching(net(0), net(1), noise_rate=0.5), batch()
    images, y = b.labelled.images, b.labelled.labels
    a, p = method.net(images), method.peer(images)
    terms = method.loss(b)
    trusted_by_peer = small_loss(p, y, 0.5)
    assert not torch.equal(trusted_by_peer, small_loss(a, y, 0.5))
    expected = losses.dice_ce(a, y.where(trusted_by_peer, IGNORE))
    assert torch.allclose(terms["a"], expected)
    own = losses.dice_ce(a, y.where(small_loss(a, y, 0.5), IGNORE))
    assert not torch.allclose(terms["a"], own)


def test_the_two_gradients_do_not_mix():
    method = CoTeaching(net(0), net(1), noise_rate=0.5)
    method.loss(batch())["a"].backward()
    assert method.net.weight.grad.abs().sum() > 0 and method.peer.weight.grad is None


def test_equal_networks_are_refused():
    with pytest.raises(ValueError, match="another seed"):
        CoTeaching(net(0), net(0))


@pytest.mark.parametrize("kwargs", [{"noise_rate": 1.0}, {"level": "voxel"}])
def test_bad_arguments_are_one_sentence(kwargs):
    with pytest.raises(ValueError, match="must be"):
        CoTeaching(net(0), net(1), **kwargs)


def test_evaluates_one_network_alone(task):
    method = fit(CoTeaching(net(0), net(1)), task, Budget("smoke", 3), progress=False).method
    images = task.test.images
    assert torch.allclose(method.predict(images), method.net(images).softmax(1))
