"""Sparse slices: weights of voxels, motion between planes, what is carried, chosen, regressed."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from probes import batch, net, rooms, wave
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment, compose, displaced, integrate, smooth_field, warp
from lsseg_edu.data import IGNORE, annotate
from lsseg_edu.networks import Shape
from lsseg_edu.partial import max_cover
from lsseg_edu.partial.slices import (
    Heads,
    HybridLoss,
    KHeads,
    Motion,
    SparseSlices,
    completed,
    handed_on,
    known_planes,
    plane_motion,
    propagate,
    rims,
    voxel_loss,
    with_trust,
)
from lsseg_edu.partial.slices.motion import sweep
from lsseg_edu.partial.slices.wang import ClassesAndRims
from lsseg_edu.partial.slices.wang import with_rims as rims_added
from lsseg_edu.partial.slices.zheng_select import SliceAutoencoder, plane_task


@pytest.fixture(scope="module")
def volumes_task():
    return rooms()


def still(volumes, depth, size=8):
    return Motion(*(torch.zeros(volumes, depth - 1, size, size, 2) for _ in range(2)))


def planes_of(*classes, size=8):
    """One volume, each plane wholly of one class; None is not labelled."""
    rows = [torch.full((size, size), IGNORE if k is None else k) for k in classes]
    return torch.stack(rows)[None]


def leaning(depth=8, size=32, step=1.0):
    """A textured rod that moves ``step`` pixels along x from plane to plane, and its mask."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images, masks = [], []
    for z in range(depth):
        away = ((y - 16) ** 2 + (x - 10 - step * z) ** 2).sqrt()
        images.append(torch.exp(-((away / 6) ** 2)) + 0.3 * torch.cos(away))
        masks.append(away < 6)
    return torch.stack(images)[None, None], torch.stack(masks)[None].long()


# Weights


@pytest.mark.parametrize("size", [(6, 7), (4, 6, 7)])
def test_unlabelled_voxels_weigh_nothing(size):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, *size, requires_grad=True)
    labels = torch.randint(0, 3, (2, *size))
    labels[:, ::2] = IGNORE
    ones = torch.ones(labels.shape)
    loss = voxel_loss(logits, labels, ones)
    assert loss.item() == pytest.approx(losses.dice_ce(logits, labels).item(), abs=1e-6)
    (slope,) = torch.autograd.grad(loss, logits)
    assert (slope[:, :, ::2] == 0).all() and (slope[:, :, 1::2] != 0).any()
    filled = labels.where(labels != IGNORE, 1)
    assert voxel_loss(logits, filled, (labels != IGNORE).float()).item() == loss.item()


def test_a_voxel_of_weight_two_is_two_voxels():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 4, 5), torch.randint(0, 3, (1, 4, 5))
    weights = torch.ones(1, 4, 5)
    weights[:, 0] = 2
    twice = [torch.cat([x, x.narrow(-2, 0, 1)], -2) for x in (logits, labels)]
    expected = losses.dice_ce(*twice).item()
    assert voxel_loss(logits, labels, weights).item() == pytest.approx(expected, abs=1e-6)


def test_nothing_labelled_is_no_gradient_and_no_nan():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    nobody = torch.full((1, 4, 4), IGNORE)
    (slope,) = torch.autograd.grad(voxel_loss(logits, nobody, torch.ones(1, 4, 4)), logits)
    assert (slope == 0).all()


def test_trust_of_the_task_is_the_weight_of_the_loss():
    both = batch(4, 6, 6)
    trust = torch.randint(0, 256, both.labelled.labels.shape, dtype=torch.uint8)
    method = SparseSlices(net(3))
    trusted = replace(both, labelled=replace(both.labelled, extras={"trust": trust}))
    logits, labels = method.net(both.labelled.images), both.labelled.labels
    expected = voxel_loss(logits, labels, trust.float() / 255)
    assert method.loss(trusted)["voxels"].item() == pytest.approx(expected.item())
    assert method.loss(both)["voxels"].item() == pytest.approx(
        losses.dice_ce(logits, labels).item(), abs=1e-6
    )


def test_batch_norm_of_one_volume_with_its_own_statistics_is_instance_norm():
    ours = networks.unet(Shape(1, 3, 3)).eval()
    theirs = networks.unet(Shape(1, 3, 3)).eval()
    for module in list(theirs.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.InstanceNorm3d):
                norm = nn.BatchNorm3d(layer.num_features, track_running_stats=False)
                norm.load_state_dict(layer.state_dict())
                setattr(module, name, norm)
    assert sum(isinstance(m, nn.BatchNorm3d) for m in theirs.modules()) > 10
    volume = torch.randn(1, 1, 16, 32, 16)
    torch.testing.assert_close(ours(volume), theirs(volume), atol=1e-4, rtol=1e-4)


def test_three_dimensional_deformation_takes_labels_out_of_their_plane():
    labels = torch.full((1, 32, 32, 32), IGNORE)
    labels[:, 16] = 1
    generator = torch.Generator().manual_seed(0)
    assert Augment.strong().elastic > 0
    _, moved = Augment.strong()(torch.zeros(1, 1, 32, 32, 32), labels, generator)
    reached = (moved != IGNORE).flatten(2).any(2)[0]
    assert reached.sum() > 1 and set(moved.unique().tolist()) == {1, IGNORE}


# Motion between planes


def test_registration_follows_a_rod_that_leans():
    images, masks = leaning()
    kept = masks.clone()
    kept[:, 1:] = IGNORE
    motion = plane_motion(images)

    def dice(motion):
        carried = propagate(kept, 2, motion)[0].argmax(1)[:, -1]
        return float(2 * (carried * masks[:, -1]).sum() / (carried.sum() + masks[:, -1].sum()))

    assert dice(motion) > 0.85 > 0.55 > dice(still(1, 8, 32))


def test_each_pair_is_registered_for_itself():
    images, _ = leaning(depth=3)
    other = images.flip(-1) * 2
    both = plane_motion(torch.cat([images, other]), steps=3)
    alone = plane_motion(other, steps=3)
    torch.testing.assert_close(both.up[1:], alone.up, atol=1e-5, rtol=1e-4)


def test_the_way_back_undoes_the_way_up():
    images, _ = leaning(depth=3, step=2.0)
    up, down = (m.flatten(0, 1) for m in plane_motion(images, steps=15))
    assert up.abs().max() > 0.05
    assert compose(up, down)[:, 6:-6, 6:-6].abs().max() < 0.2 * up.abs().max()


def test_planes_in_between_hear_from_both_sides_the_nearer_one_louder():
    labels = planes_of(0, None, None, None, 1, None)
    soft, distance = propagate(labels, 2, still(1, 6))
    assert distance.tolist() == [[0, 1, 2, 1, 0, 1]]
    expected = torch.tensor([0, 0.25, 0.5, 0.75, 1, 1])
    torch.testing.assert_close(soft[0, 1, :, 4, 4], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(soft.sum(1), torch.ones(1, 6, 8, 8))


def test_motions_are_composed_and_the_mask_is_read_once():
    size, depth = 16, 5
    labels = torch.full((1, depth, size, size), IGNORE)
    labels[:, 0] = 0
    labels[:, 0, 6:10, 2:5] = 1
    up = torch.zeros(1, depth - 1, size, size, 2)
    up[..., 0] = -2 / size * 1.5  # every plane lies 1.5 pixels further along x
    soft, _ = propagate(labels, 2, Motion(up, -up))
    for z in range(depth):
        row, shift = soft[0, 1, z, 8], 1.5 * z
        first = 2 + math.floor(shift)
        part = shift - math.floor(shift)
        expected = torch.zeros(size)
        expected[first : first + 3] += 1 - part
        expected[first + 1 : first + 4] += part
        torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)


def test_half_way_a_draw_does_not_always_go_to_the_lower_class():
    for ends in ((0, 1), (1, 0)):
        labels = planes_of(ends[0], None, ends[1])
        soft, _ = propagate(labels, 2, still(1, 3))
        assert (soft.argmax(1)[0, 1] == ends[0]).all()


def test_what_is_carried_far_takes_one_step_after_the_other():
    first, second = (integrate(wave(0.6, seed=seed)) for seed in (1, 2))  # they do not commute
    smooth = smooth_field(torch.zeros(1, 1, 32, 32), 1, 3, torch.Generator().manual_seed(0))
    masks = torch.stack([smooth, smooth * 0, smooth * 0])
    known = torch.tensor([[True], [False], [False]])
    carried, distance = sweep(masks, known, torch.stack([first, second]))
    by_steps = warp(warp(smooth, displaced(first)), displaced(second))
    swapped = warp(warp(smooth, displaced(second)), displaced(first))
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    error, wrong = ((carried[2] - x)[inner].abs().mean() for x in (by_steps, swapped))
    assert error < 0.2 * wrong and distance[:, 0].tolist() == [0, 1, 2]


def test_only_whole_planes_are_known():
    labels = planes_of(0, 1, None)
    labels[0, 1, 0, 0] = IGNORE
    assert known_planes(labels).tolist() == [[True, False, False]]


# One slice: what neighbours hand on


def test_neighbours_hand_on_and_outvote():
    probs = torch.rand(1, 3, 5, 8, 8).softmax(1)
    mean = handed_on(probs, still(1, 5))
    torch.testing.assert_close(mean[:, :, 2], probs[:, :, 1:4].mean(2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mean[:, :, 0], probs[:, :, :2].mean(2), atol=1e-5, rtol=1e-4)
    flipped = F.one_hot(planes_of(1, 1, 0, 1, 1), 2).movedim(-1, 1).float()
    assert (handed_on(flipped, still(1, 5)).argmax(1) == 1).all()


def test_what_is_handed_on_moves_with_the_motion():
    images, masks = leaning(step=2.0)
    motion = plane_motion(images)
    right = F.one_hot(masks, 2).movedim(-1, 1).float()
    wrong = right.clone()
    wrong[:, :, 4] = right[:, :, 0]  # one plane's answer is out of place
    mended = handed_on(wrong, motion).argmax(1)[:, 4]
    stiff = handed_on(wrong, still(1, 8, 32)).argmax(1)[:, 4]
    assert (mended != masks[:, 4]).sum() < 0.7 * (stiff != masks[:, 4]).sum()


# Several heads


def test_answer_is_the_mean_of_heads_that_differ():
    heads = Heads(1, 3, 3, heads=3).eval()
    volumes = torch.randn(2, 1, 16, 32, 16)
    each = heads(volumes)
    assert each.shape == (3, 2, 3, 16, 32, 16) and not torch.allclose(each[0], each[1])
    torch.testing.assert_close(KHeads(heads).predict(volumes), each.softmax(2).mean(0))


def test_every_head_learns_with_a_dropout_of_its_own():
    heads = Heads(1, 3, 2, heads=2).train()
    seen = []
    for head in heads.heads:
        head.register_forward_pre_hook(lambda m, x: seen.append((x[0] == 0).flatten(2).all(2)))
    torch.manual_seed(0)
    method, both = KHeads(heads), batch(32, 32)
    method.loss(both)["voxels"].backward()
    assert (seen[0] != seen[1]).any()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in heads.heads.parameters())


def test_doubtful_pseudo_labels_weigh_less():
    probs = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]]).T.reshape(1, 2, 1, 1, 3)
    given = torch.tensor([IGNORE, IGNORE, 1]).reshape(1, 1, 1, 3)
    labels, weights = completed(given, probs)
    assert labels.flatten().tolist() == [0, 0, 1]  # what was given stays
    assert weights.flatten().tolist() == pytest.approx([0.5, 1.0, 1.0])


# Choosing planes


def test_cover_is_greedy_and_near_the_best():
    torch.manual_seed(0)
    points = torch.rand(12, 3)
    similarity = torch.exp(-torch.cdist(points, points))

    def covered(chosen):
        return float(similarity[:, list(chosen)].amax(1).sum())

    chosen = max_cover(similarity, 3).tolist()
    best = max(covered(c) for c in itertools.combinations(range(12), 3))
    assert covered(chosen) >= (1 - 1 / math.e) * best
    assert chosen[0] == int(similarity.sum(0).argmax())
    second = max(set(range(12)) - {chosen[0]}, key=lambda j: covered([chosen[0], j]))
    assert covered(chosen[:2]) == pytest.approx(covered([chosen[0], second]))


def test_influential_first_and_then_diverse():
    group = torch.tensor([0] * 5 + [1] * 3 + [2])
    similarity = (group[:, None] == group).float()
    assert group[max_cover(similarity, 3)].tolist() == [0, 1, 2]


def test_candidates_may_be_fewer_than_those_they_stand_for():
    similarity = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.2, 0.9]])
    assert max_cover(similarity, 1).tolist() == [1]
    assert max_cover(similarity, 2).tolist() == [1, 0]


def test_everybody_can_be_chosen_and_nobody_twice():
    assert sorted(max_cover(torch.ones(4, 4), 4).tolist()) == [0, 1, 2, 3]


def test_codes_have_length_one_and_a_gradient(volumes_task):
    stack = plane_task(volumes_task)
    assert stack.train.images.shape == (len(volumes_task.train) * 16, 1, 32, 16)
    assert (stack.train.labels == IGNORE).all()
    torch.testing.assert_close(stack.train.images[17, 0], volumes_task.train.images[1, 0, 1])
    coder = SliceAutoencoder.for_task(stack)
    codes = coder.predict(stack.train.images[:5])
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(5))
    coder.loss(batch(32, 16))["reconstruction"].backward()
    assert all(p.grad.isfinite().all() for p in coder.parameters())


# Rims


def test_rims_against_brute_force():
    labels = torch.zeros(1, 2, 9, 9, dtype=torch.long)
    labels[0, 0, 3:6, 2:7] = 1
    labels[0, 1] = IGNORE
    found = rims(labels, 3, width=1.5)
    assert found.shape == (1, 2, 2, 9, 9)
    assert (found[0, 1] < 1e-9).all() and (found[0, :, 1] == 0).all()
    mask = labels[0, 0] == 1
    place = torch.stack(torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij"), -1)
    for y, x in itertools.product(range(9), range(9)):
        others = place[mask != mask[y, x]].float()
        distance = (others - place[y, x]).norm(dim=1).min() - 0.5
        expected = torch.exp(-(distance**2) / (2 * 1.5**2))
        assert found[0, 0, 0, y, x].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_plane_that_is_not_whole_has_no_rim_to_learn(volumes_task):
    labels = volumes_task.train.labels.clone()
    labels[:, 3, 0, 0] = IGNORE
    extras = rims_added(replace(volumes_task, train=replace(volumes_task.train, labels=labels)))
    extras = extras.train.extras
    assert not extras["given"][:, 3].any() and not extras["rims"][:, :, 3].any()
    assert extras["given"][volumes_task.labelled][:, 4].all()


def with_rims(both, given):
    labels = both.labelled.labels
    extras = {
        "rims": torch.randint(0, 256, (len(labels), 2, *labels.shape[1:]), dtype=torch.uint8),
        "given": given.to(torch.uint8),
        "trust": torch.full_like(labels, 128, dtype=torch.uint8),
    }
    return replace(both, labelled=replace(both.labelled, extras=extras))


def test_rims_are_learnt_from_labels_alone_and_classes_from_both():
    torch.manual_seed(0)
    method = HybridLoss(ClassesAndRims(1, 3, 3))
    given = torch.zeros(2, 16, 32, 16, dtype=torch.bool)
    given[:, 4] = True
    both = with_rims(batch(16, 32, 16, items=2), given)
    logits, found = method.net.both(both.labelled.images)
    logits.retain_grad(), found.retain_grad()
    method.net.both = lambda images: (logits, found)
    terms = method.loss(both)
    target = both.labelled.extras["rims"].float() / 255
    expected = 10 * (found - target)[:, :, 4].square().mean()
    assert terms["rims"].item() == pytest.approx(expected.item(), rel=1e-4)
    sum(terms.values()).backward()
    assert (found.grad[:, :, 5:] == 0).all() and (found.grad[:, :, 4] != 0).any()
    assert (logits.grad[:, :, 5:] != 0).any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


def test_without_regression_there_is_no_rim():
    method = HybridLoss(ClassesAndRims(1, 3, 2), regression=0.0)
    both = with_rims(batch(32, 32), torch.ones(4, 32, 32))
    assert set(method.loss(both)) == {"voxels"}


# Bad input


def test_refusals(task, volumes_task):
    labels = planes_of(None, None)
    with pytest.raises(ValueError, match="Volume 0 has no labelled plane"):
        propagate(labels, 2, still(1, 2))
    with pytest.raises(ValueError, match="at least two planes"):
        plane_motion(torch.zeros(1, 1, 1, 8, 8))
    with pytest.raises(ValueError, match="load it with dims=3"):
        SparseSlices.for_task(task)
    scribbled = annotate.scribbles(volumes_task)
    with pytest.raises(ValueError, match="from rim to rim"):
        SparseSlices.for_task(scribbled)
    with pytest.raises(ValueError, match="cannot disagree"):
        Heads(1, 3, 3, heads=1)
    for count in (0, 5):
        with pytest.raises(ValueError, match="cannot be chosen"):
            max_cover(torch.ones(4, 4), count)
    with pytest.raises(ValueError, match="not be negative"):
        max_cover(-torch.ones(4, 4), 1)
    with pytest.raises(ValueError, match="hybrid_training"):
        HybridLoss(ClassesAndRims(1, 3, 2)).loss(batch(32, 32))


def test_trust_is_kept_in_steps_and_only_where_asked(volumes_task):
    index = volumes_task.labelled[:2]
    labels = volumes_task.train.labels[index]
    weights = torch.linspace(0, 1, labels.numel()).reshape(labels.shape)
    taught = with_trust(volumes_task, index, labels, weights)
    assert taught.labelled.tolist() == index.tolist()
    assert (taught.train.extras["trust"][index].float() / 255 - weights).abs().max() < 0.003
