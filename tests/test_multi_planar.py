"""Planes and views of a volume: nothing is lost by turning, the majority labels, doubt weighs."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu import losses
from lsseg_edu.data import Cohort, Task
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.co_training import (
    UMCT,
    AsymmetricUNet,
    InPlane,
    InView,
    asymmetric_unet,
    dmpct,
    multi_planar_co_training,
    plane_net,
    vote,
    weighted_fusion,
)
from lsseg_edu.semi.self_training import hard_labels
from lsseg_edu.train import Batch, Budget, Part, fit

QUIET = {"progress": False, "device": "cpu"}
ONE = Budget("smoke", steps=1, batch=1)


@pytest.fixture(scope="module")
def brain(volumes) -> Task:
    """Five volumes of 32 voxels a side, one labelled, two not."""
    images = volumes.images[:5].repeat_interleave(2, 2).repeat_interleave(2, 3)
    images = images.repeat_interleave(2, 4).numpy()
    labels = volumes.labels[:5].repeat_interleave(2, 1).repeat_interleave(2, 2)
    labels = labels.repeat_interleave(2, 3).numpy()
    cohort = Cohort.from_arrays(images, labels, names=volumes.names, name="large discs")
    return Task.split(cohort, labelled=1, valid=1, test=1)


def tiny(seed=0, p=0.3, kernel=3):
    torch.manual_seed(seed)
    inside = nn.Conv3d(1, 6, kernel, padding="same")
    return nn.Sequential(inside, nn.Tanh(), nn.Dropout3d(p), nn.Conv3d(6, 3, 1))


def batch(progress=1.0):
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    index = torch.arange(2)
    others = Part(images + torch.randn_like(images), labels, index, index, {})
    return Batch(Part(images, labels, index, index, {}), others, progress)


# Planes and views


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_turning_there_and_back_is_the_identity(axis):
    volumes = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(InPlane(nn.Identity(), axis)(volumes), volumes)
    assert torch.equal(InView(nn.Identity(), axis)(volumes), volumes)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_plane_network_is_the_2d_network_on_every_slice(axis):
    torch.manual_seed(0)
    flat, volumes = nn.Conv2d(1, 3, 3, padding=1), torch.randn(2, 1, 4, 5, 6)
    got = InPlane(flat, axis)(volumes)
    assert got.shape == (2, 3, 4, 5, 6)
    for i in range(volumes.shape[2 + axis]):
        expected = flat(volumes.select(2 + axis, i))
        assert torch.allclose(got.select(2 + axis, i), expected, atol=1e-6)


def test_plane_network_sees_its_plane_and_nothing_across():
    volumes = torch.zeros(1, 1, 5, 5, 5)
    volumes[0, 0, 2, 2, 2] = 1
    for axis in range(3):
        flat = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.ones_(flat.weight)
        reach = InPlane(flat, axis)(volumes)[0, 0].nonzero()
        assert [len(reach[:, a].unique()) for a in range(3)] == [
            1 if a == axis else 3 for a in (0, 1, 2)
        ]


def test_equivariant_network_answers_alike_in_all_views_and_an_asymmetric_one_does_not():
    volumes = torch.randn(1, 1, 6, 6, 6)
    cubic = nn.Conv3d(1, 2, 3, padding=1)
    with torch.no_grad():
        cubic.weight[:] = (
            sum(
                cubic.weight.permute(0, 1, *p)
                for p in [(2, 3, 4), (2, 4, 3), (3, 2, 4), (3, 4, 2), (4, 2, 3), (4, 3, 2)]
            )
            / 6
        )
    answers = [InView(cubic, axis)(volumes) for axis in range(3)]
    assert all(torch.allclose(a, answers[0], atol=1e-5) for a in answers)
    flat = asymmetric_unet(Shape(1, 2, 3), width=4).eval()
    volumes = torch.randn(1, 1, 16, 16, 16)
    answers = [InView(flat, axis)(volumes) for axis in range(3)]
    assert all((a - answers[0]).abs().max() > 0.01 for a in answers[1:])


def test_kernels_are_flat_and_the_network_fits_odd_sizes():
    flat = asymmetric_unet(Shape(2, 5, 3), width=4)
    kernels = {m.kernel_size for m in flat.modules() if isinstance(m, nn.Conv3d)}
    assert kernels == {(1, 3, 3), (3, 1, 1), (1, 1, 1)}
    assert flat(torch.randn(1, 2, 9, 17, 20)).shape == (1, 5, 9, 17, 20)
    ours, cubic = (sum(p.numel() for p in n.parameters()) for n in (flat, unet(Shape(2, 5, 3), 4)))
    assert ours < cubic
    with pytest.raises(ValueError, match="three axes, not 2"):
        AsymmetricUNet(1, 2, 2)


# DMPCT


def test_students_learn_the_majority_of_the_three_teachers(brain, monkeypatch):
    seen = []

    def watch(method, task, *args, **kwargs):
        fitted = fit(method, task, *args, **kwargs)
        seen.append((method.net.axis, task, fitted))
        return fitted

    monkeypatch.setattr(dmpct, "fit", watch)
    result = multi_planar_co_training(brain, ONE, **QUIET)
    assert [axis for axis, *_ in seen] == [0, 1, 2, 0, 1, 2]
    images = brain.train.images[brain.unlabelled]
    teachers = torch.stack([fitted.predict(images) for *_, fitted in seen[:3]])
    majority = hard_labels(vote(teachers))
    for _, task, _ in seen[3:]:
        assert torch.equal(task.train.extras["pseudo"][task.unlabelled], majority)
    singles = teachers.argmax(2)
    assert all(not torch.equal(majority, single) for single in singles)
    fused = result.predict(brain.test.images)
    assert fused.shape == (1, 3, 32, 32, 32)
    students = [fitted.predict(brain.test.images) for *_, fitted in seen[3:]]
    assert torch.allclose(fused, vote(torch.stack(students)), atol=1e-5)
    assert len(result.rounds) == 2


def test_students_start_afresh_and_learn_from_the_pseudo_labels(brain):
    with_labels, without = (
        multi_planar_co_training(brain, ONE, weight=w, **QUIET) for w in (1.0, 0.0)
    )
    teacher, student, control = (
        m.members[0].net.net.final_conv.weight
        for m in (with_labels.rounds[0].method, with_labels.method, without.method)
    )
    assert not torch.equal(teacher, student)
    assert not torch.equal(student, control)
    assert without.history["0 pseudo"] == [0.0]
    assert with_labels.history["0 pseudo"][0] > 0


def test_plane_networks_start_differently(brain):
    a, b = (plane_net(brain, axis, seed).net.final_conv.weight for axis, seed in ((0, 0), (1, 9)))
    assert not torch.equal(a, b)
    assert isinstance(plane_net(brain, 0).net.final_conv, nn.Conv2d)


def test_slices_are_refused_in_a_sentence(task, brain, volumes):
    with pytest.raises(ValueError, match="'discs' is a cohort of slices: load it with dims=3"):
        multi_planar_co_training(task, ONE)
    with pytest.raises(ValueError, match="UMCT looks along the three axes"):
        UMCT.for_task(task)
    with pytest.raises(ValueError, match="at least 1 round, not 0"):
        multi_planar_co_training(brain, ONE, rounds=0)
    with pytest.raises(ValueError, match=r"No volume is left .* use Task.keep\(labelled=n\)"):
        multi_planar_co_training(Task.split(volumes, valid=1, test=1), ONE)


# UMCT


def test_fusion_by_brute_force_leaves_oneself_out():
    p, u = torch.rand(3, 2, 4, 3, 3, 3).softmax(2), torch.rand(3, 2, 1, 3, 3, 3)
    fused = weighted_fusion(p, u, floor=0.05)
    for a in range(3):
        total, weight = 0.0, 0.0
        for b in range(3):
            if b != a:
                c = 1 / (u[b] + 0.05)
                total, weight = total + c * p[b], weight + c
        assert torch.allclose(fused[a], total / weight, atol=1e-5)
    assert torch.allclose(fused.sum(2), torch.ones(3, 2, 3, 3, 3))
    changed = p.clone()
    changed[0] = 1 - changed[0]
    assert torch.allclose(weighted_fusion(changed, u, 0.05)[0], fused[0], atol=1e-4)


def test_a_certain_view_outweighs_a_doubtful_one():
    p = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]).view(3, 1, 2, 1, 1, 1)
    even, uneven = torch.zeros(3, 1, 1, 1, 1, 1), torch.zeros(3, 1, 1, 1, 1, 1)
    uneven[2] = 0.2
    assert weighted_fusion(p, even)[0].flatten().tolist() == pytest.approx([0.5, 0.5])
    expected = 100 / (100 + 1 / 0.21)
    assert weighted_fusion(p, uneven)[0, 0, 0].item() == pytest.approx(expected, rel=1e-4)
    two = weighted_fusion(p[:2], uneven[:2])  # of two views, each hears the other
    assert torch.allclose(two, p[:2].flip(0))


def test_opinions_are_mean_and_variance_of_passes_with_dropout_even_in_evaluation():
    method, images = UMCT([tiny(0), tiny(1)], passes=400).eval(), batch().labelled.images[:1]
    mean, variance = method.opinions(images)
    assert mean.shape == (2, 1, 3, 4, 5, 6)
    assert variance.shape == (2, 1, 1, 4, 5, 6)
    assert variance.min() > 0
    assert not method.nets[0].training
    method.train()
    with torch.no_grad():
        single = torch.stack([method.nets[0](images).softmax(1) for _ in range(400)])
    assert torch.allclose(mean[0], single.mean(0), atol=0.03)
    expected = single.var(0, correction=0).sum(1, keepdim=True)
    assert torch.allclose(variance[0], expected, atol=0.02)


def test_loss_by_hand_and_labels_are_detached():
    method, b = UMCT([tiny(0), tiny(1), tiny(2)], weight=0.7), batch()
    probs = torch.rand(3, 2, 3, 4, 5, 6).softmax(2).requires_grad_()
    doubt = torch.rand(3, 2, 1, 4, 5, 6)
    method.opinions = lambda images: (probs.detach(), doubt)
    method.eval()  # no dropout, so that the answers can be repeated
    terms = method.loss(b)
    answers = [n(b.unlabelled.images) for n in method.nets]
    labels = weighted_fusion(probs.detach(), doubt)
    by_hand = 0.7 * sum(F.cross_entropy(a, y) for a, y in zip(answers, labels, strict=True))
    assert terms["cotraining"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    known = sum(losses.dice_ce(n(b.labelled.images), b.labelled.labels) for n in method.nets)
    assert terms["supervised"].item() == pytest.approx(known.item(), rel=1e-5)


def test_no_gradient_reaches_the_teachers_of_a_view():
    method, b = UMCT([tiny(0), tiny(1)]), batch()
    assert not any(t.requires_grad for t in method.opinions(b.unlabelled.images))
    torch.manual_seed(0)
    grad = torch.autograd.grad(method.loss(b)["cotraining"], list(method.nets[0].parameters()))
    torch.manual_seed(0)
    both = torch.cat([b.labelled.images, b.unlabelled.images])
    answers = [n(both)[2:] for n in method.nets]
    labels = weighted_fusion(*method.opinions(b.unlabelled.images))
    own = 0.5 * F.cross_entropy(answers[0], labels[0])
    for got, expected in zip(
        grad, torch.autograd.grad(own, list(method.nets[0].parameters())), strict=True
    ):
        assert torch.allclose(got, expected, atol=1e-6)


def test_term_is_ramped_and_absent_at_weight_zero():
    method = UMCT([tiny(0), tiny(1)]).eval()
    method.opinions = lambda images: (torch.full((2, 2, 3, 4, 5, 6), 1 / 3), torch.ones(1))
    start, end = (method.loss(batch(p))["cotraining"].item() for p in (0.0, 1.0))
    assert start == pytest.approx(math.exp(-5) * end, rel=1e-3)
    assert set(UMCT([tiny(0), tiny(1)], weight=0).loss(batch())) == {"supervised"}


def test_umct_says_what_it_needs():
    with pytest.raises(ValueError, match="at least 2 views in at least 2 passes, not 1 in 3"):
        UMCT([tiny()])
    with pytest.raises(ValueError, match="not 2 in 1"):
        UMCT([tiny(0), tiny(1)], passes=1)
    with pytest.raises(ValueError, match="build it with dropout"):
        UMCT([tiny(0), tiny(1, p=0.0)])


def test_umct_trains_along_three_axes_and_answers_in_volumes(brain):
    method = UMCT.for_task(brain)
    assert [net.axis for net in method.nets] == [0, 1, 2]
    fitted = fit(method, brain, ONE, **QUIET)
    assert set(fitted.history) == {"supervised", "cotraining"}
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
    probs = fitted.predict(brain.test.images)
    assert probs.shape == (1, 3, 32, 32, 32)
    assert torch.allclose(probs.sum(1), torch.ones(1, 32, 32, 32), atol=1e-5)
    views = [net(brain.test.images).softmax(1) for net in method.eval().nets]
    assert torch.allclose(probs, torch.stack(views).mean(0), atol=1e-5)
