"""Constraints: zero where anatomy is obeyed, above where it is not, and with a true gradient."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.priors.constraints import (
    ClDice,
    Constrained,
    ConvexShape,
    Homology,
    SizeConstraint,
    StarShape,
    barcode,
    betti_prior,
    cldice,
    convex_violation,
    obeyed,
    size_bounds,
    size_penalty,
    soft_skeleton,
    star_violation,
    tagged,
    topology_loss,
)
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=2)


def net(dims=2):
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 3, 1))


def batch(progress=0.5, **extras):
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, 16, 16), torch.randint(0, 3, (2, 16, 16))
    index = torch.arange(2)
    parts = [Part(images, labels, index, index, extras)]
    parts += [Part(images + 1, torch.full_like(labels, IGNORE), index, index, extras)]
    return Batch(*parts, progress)


def weights(method):
    return torch.cat([p.detach().flatten() for p in method.net.parameters()])


def disc(size=21, centre=(10, 10), radii=(6, 6), dims=2):
    axes = torch.meshgrid(*[torch.arange(size)] * dims, indexing="ij")
    away = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True))
    return (away <= 1).double()[None]


SHAPES = [StarShape, ConvexShape]
ALL = [
    lambda net: SizeConstraint(net, torch.tensor([[0, 1], [0.1, 0.2], [0.0, 0.1]])),
    lambda net: StarShape(net, [(1,), (1, 2)]),
    lambda net: ConvexShape(net, [(1,), (1, 2)]),
    lambda net: Homology(net, {1: (1, 1), 2: (1, 0)}),
]


# What all of them share


@pytest.mark.parametrize("make", ALL)
def test_constraint_is_weighted_ramped_and_beside_the_supervised_loss(make):
    method = make(net())
    terms = method.loss(batch(1.0))
    expected = losses.dice_ce(method.net(batch().labelled.images), batch().labelled.labels)
    assert terms["supervised"].item() == pytest.approx(expected.item())
    assert terms["constraint"] > 0
    early = method.loss(batch(0.0))["constraint"]
    assert early.item() == pytest.approx(terms["constraint"].item() * math.exp(-5), rel=1e-4)
    method.weight *= 2
    twice = method.loss(batch(1.0))["constraint"]
    assert twice.item() == pytest.approx(2 * terms["constraint"].item(), rel=1e-4)
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
    assert any(p.grad.abs().sum() > 0 for p in method.parameters())


@pytest.mark.parametrize("make", ALL)
def test_no_label_of_an_unlabelled_image_is_looked_at(make):
    method, seen = make(net()), batch(1.0)
    labels = torch.randint(0, 3, seen.unlabelled.labels.shape)
    other = replace(seen, unlabelled=replace(seen.unlabelled, labels=labels))
    assert torch.equal(method.loss(seen)["constraint"], method.loss(other)["constraint"])


def test_without_weight_it_is_the_baseline_to_the_last_bit(task):
    for kind in (SizeConstraint, StarShape, ConvexShape, Homology):
        options = {"betti": {1: (1, 0)}} if kind is Homology else {}
        options |= {"regions": [(1,)]} if kind in SHAPES else {}
        trained = fit(kind.for_task(task, 3, weight=0.0, **options), task, FEW, seed=3, **QUIET)
        baseline = fit(Supervised.for_task(task, 3), task, FEW, seed=3, **QUIET)
        assert torch.equal(weights(trained.method), weights(baseline.method))


def test_a_subclass_must_define_its_penalty():
    with pytest.raises(NotImplementedError, match="penalty"):
        Constrained(net()).loss(batch())


# Size


def test_size_penalty_by_hand():
    probs = torch.zeros(1, 3, 10, 10)
    probs[:, 0, :5], probs[:, 1, 5:7], probs[:, 2, 7:] = 1, 1, 1  # shares 0.5, 0.2, 0.3
    low, high = torch.tensor([0.6, 0.1, 0.0]), torch.tensor([1.0, 0.3, 0.1])
    scale = torch.tensor([0.5, 0.5, 0.5])
    by_hand = ((0.1 / 0.5) ** 2 + 0 + (0.2 / 0.5) ** 2) / 3
    assert size_penalty(probs, low, high, scale).item() == pytest.approx(by_hand)
    inside = size_penalty(probs, torch.zeros(3), torch.ones(3), scale)
    assert inside == 0


def test_size_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    low, high = torch.tensor([0.4, 0.1, 0.2]), torch.tensor([0.5, 0.2, 0.3])

    def penalty(z):
        return size_penalty(z.softmax(1), low, high, high)

    assert penalty(logits) > 0
    assert torch.autograd.gradcheck(penalty, logits)


def test_gradient_moves_the_size_towards_the_bounds():
    for start, sign in ((2.0, 1), (-4.0, -1)):
        logits = torch.zeros(1, 2, 8, 8)
        logits[:, 1] = start
        logits.requires_grad_()
        bounds = torch.tensor([0.2]), torch.tensor([0.4])
        size_penalty(logits.softmax(1)[:, 1:], *bounds, torch.ones(1)).backward()
        assert (sign * logits.grad[:, 1] > 0).all()


def test_bounds_come_from_the_complete_masks():
    labels = torch.zeros(3, 10, 10, dtype=torch.long)
    labels[0, :2], labels[1, :4], labels[:2, 9] = 1, 1, 2
    labels[2] = IGNORE
    bounds = size_bounds(labels, 3, slack=0.5)
    assert torch.allclose(bounds[1], torch.tensor([0.1, 0.6]))
    absent = torch.cat([labels, torch.zeros_like(labels[:1])])
    assert size_bounds(absent, 3)[1, 0] == 0
    assert size_bounds(absent, 3, shown=True)[1, 0] == pytest.approx(0.2)


def test_image_tags_forbid_what_is_absent_and_demand_what_is_there():
    bounds = torch.tensor([[0, 1], [0.2, 0.5], [0.2, 0.5]])
    method = SizeConstraint(net(), bounds)
    probs = torch.zeros(4, 3, 10, 10)
    probs[:, 1, :3], probs[:, 2, 3:6], probs[:, 0, 6:] = 1, 1, 1  # both classes 0.3
    assert method.penalty(probs, batch()) == 0
    absent = torch.tensor([[True, True, False]] * 2)
    cost = (0.3 / 0.5) ** 2 / 2
    assert method.penalty(probs, batch(tags=absent)).item() == pytest.approx(cost)
    probs[:, 2, 3:6], probs[:, 0, 3:6] = 0, 1
    assert method.penalty(probs, batch(tags=absent)) == 0
    present = torch.ones(2, 3, dtype=bool)
    cost = (0.2 / 0.5) ** 2 / 2
    assert method.penalty(probs, batch(tags=present)).item() == pytest.approx(cost)


def test_tags_are_what_the_masks_show(task, cohort):
    full = Task.split(cohort, valid=2, test=2)
    masks = full.train.labels.clone()
    masks[0][masks[0] == 2] = 0
    with_tags = tagged(task, masks)
    assert with_tags.train.extras["tags"][0].tolist() == [True, True, False]
    assert torch.equal(with_tags.train.labels, task.train.labels)
    assert SizeConstraint.for_task(with_tags).bounds[2, 0] > 0
    fit(SizeConstraint.for_task(with_tags), with_tags, FEW, **QUIET)


@pytest.mark.parametrize("bounds", [[[0, 1], [0.3, 0.2]], [[0, 1], [-0.1, 0.2]], [[0, 1], [0, 0]]])
def test_crossed_bounds(bounds):
    with pytest.raises(ValueError, match="bounds of class 1 are crossed or negative"):
        SizeConstraint(net(), torch.tensor(bounds))


def test_bounds_that_are_none():
    with pytest.raises(ValueError, match=r"\(K, 2\)"):
        SizeConstraint(net(), torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match="complete masks"):
        size_bounds(torch.full((2, 4, 4), IGNORE), 3)
    with pytest.raises(ValueError, match="no labelled image shows"):
        size_bounds(torch.zeros(2, 4, 4, dtype=torch.long), 3)


# Star shape


def test_star_shaped_masks_cost_nothing():
    assert star_violation(disc()).item() == 0
    assert star_violation(disc(radii=(8, 3))).item() == 0
    assert star_violation(disc(13, (6, 6, 6), (5, 3, 4), dims=3)).item() == 0
    plus = torch.zeros(1, 21, 21).double()
    plus[:, 10, 2:19], plus[:, 2:19, 10] = 1, 1
    assert star_violation(plus).item() == 0  # a star, though not convex
    assert convex_violation(plus).item() > 0
    assert star_violation(torch.zeros(1, 5, 5)).item() == 0


def test_holes_islands_and_bays_cost_their_outer_rim():
    hole = disc()
    hole[:, 10, 12] = 0
    assert star_violation(hole).item() == pytest.approx(1 / 21**2)  # the pixel behind it
    island = disc()
    island[:, 10, 19] = 1
    assert star_violation(island, torch.tensor([[10.0, 10.0]])).item() == pytest.approx(1 / 21**2)
    centre = torch.tensor([[10.0, 10.0]])
    ring = disc() - disc(radii=(3, 3))
    assert star_violation(ring, centre) > 0.02


def test_probability_may_fall_but_not_rise():
    away = torch.stack(torch.meshgrid(torch.arange(15), torch.arange(15), indexing="ij"))
    falling = 1 - (away - 7).abs().amax(0)[None] / 10
    centre = torch.tensor([[7.0, 7.0]])
    assert star_violation(falling, centre) == 0
    rising = star_violation(1 - falling, centre)
    assert rising.item() == pytest.approx(0.1 * (15**2 - 1) / 15**2, rel=1e-5)


def test_each_image_has_its_own_centre():
    two = torch.cat([disc(centre=(7, 8), radii=(4, 4)), disc(centre=(12, 13), radii=(5, 5))])
    assert (star_violation(two) == 0).all()
    assert (star_violation(two, torch.tensor([[12.0, 13.0], [7.0, 8.0]])) > 0).all()


def test_star_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    u = torch.rand(2, 6, 7, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: star_violation(u).sum(), u)


# Convexity


def test_convex_masks_cost_nothing():
    half = torch.zeros(1, 20, 20).double()
    half[0] = (torch.arange(20)[:, None] + 2 * torch.arange(20) < 30).double()
    box = torch.zeros(1, 20, 20).double()
    box[:, 3:9, 5:17] = 1
    for mask in (half, box, disc(), disc(radii=(8, 3)), disc(13, (6, 6, 6), (5, 3, 4), 3)):
        assert convex_violation(mask).item() == 0


def test_convexity_by_brute_force():
    torch.manual_seed(0)
    u, total = torch.rand(1, 9, 8, dtype=torch.double), 0.0
    steps = [(0, 1), (1, 0), (1, 1), (1, -1)]
    for y in range(9):
        for x in range(8):
            for dy, dx in ((n * a, n * b) for a, b in steps for n in (1, 2)):
                ends = ((y - dy, x - dx), (y + dy, x + dx))
                if all(0 <= a < 9 and 0 <= b < 8 for a, b in ends):
                    total += u[0][ends[0]] * u[0][ends[1]] * (1 - u[0, y, x])
    expected = total / (8 * 72)
    assert convex_violation(u, lengths=(1, 2)).item() == pytest.approx(expected.item())


def test_what_is_not_convex_costs_something():
    two = torch.zeros(1, 20, 20).double()
    two[:, 8:12, 3:7], two[:, 8:12, 12:16] = 1, 1
    bay = disc()
    bay[:, :10, 10] = 0
    hole = disc()
    hole[:, 10, 10] = 0
    for mask in (two, bay, hole, disc() - disc(radii=(3, 3))):
        assert convex_violation(mask) > 0


def test_convex_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    u = torch.rand(1, 7, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: convex_violation(u).sum(), u)


# Which regions


def test_regions_are_those_that_the_masks_obey():
    labels = torch.zeros(2, 21, 21, dtype=torch.long)
    labels[disc(radii=(8, 8)).bool().expand(2, -1, -1)] = 1  # a ring of 1 about a disc of 2
    labels[disc(radii=(4, 4)).bool().expand(2, -1, -1)] = 2
    labels[:, 0, 0] = 3
    labels[1, 0, 4] = 3  # two pieces
    for violation in (star_violation, convex_violation):
        assert obeyed(violation, labels, 4, 1e-3) == [(2,), (1, 2)]
    half = labels.clone()
    half[:, 5:9] = IGNORE
    assert obeyed(star_violation, half, 4, 1e-3) == []


@pytest.mark.parametrize("kind", SHAPES)
def test_regions_must_be_foreground(kind):
    for regions in ([], [(0, 1)], [()]):
        with pytest.raises(ValueError, match="tuples of foreground classes"):
            kind(net(), regions)


# clDice


def test_soft_skeleton_is_monais():
    from monai.losses.cldice import soft_skel

    torch.manual_seed(0)
    for shape in ((2, 1, 20, 24), (1, 2, 10, 12, 9)):
        x = torch.rand(shape, dtype=torch.double)
        assert torch.allclose(soft_skeleton(x, 4), soft_skel(x, 4))


def test_cldice_is_monais():
    from monai.losses import SoftclDiceLoss

    torch.manual_seed(0)
    probs, labels = torch.randn(1, 3, 20, 20).softmax(1), torch.randint(0, 3, (1, 20, 20))
    masks = F.one_hot(labels, 3).movedim(-1, 1).float()
    theirs = SoftclDiceLoss(iter_=5, include_background=False)(probs, masks)
    assert 1 - cldice(probs, labels).item() == pytest.approx(theirs.item(), rel=1e-3)


def vessels():
    labels = torch.zeros(1, 24, 24, dtype=torch.long)
    labels[:, 3:9], labels[:, 16] = 1, 1  # a wide vessel and a thin one
    return labels


def as_probs(labels):
    return F.one_hot(labels, 2).movedim(-1, 1).double()


def test_a_break_costs_more_than_its_pixels():
    labels = vessels()
    thinner, broken = labels.clone(), labels.clone()
    thinner[:, 8, :6] = 0
    broken[:, 16, 9:15] = 0  # as many pixels
    dice = [losses.dice(20 * as_probs(x), labels).item() for x in (thinner, broken)]
    line = [1 - cldice(as_probs(x), labels).item() for x in (thinner, broken)]
    assert dice[0] == pytest.approx(dice[1])
    assert line[1] > 3 * max(line[0], 1e-3)
    assert cldice(as_probs(labels), labels).item() == pytest.approx(1)


def test_cldice_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 7, 8, dtype=torch.double, requires_grad=True)
    labels = vessels()[:, :7, :8].clone()
    labels[:, 0] = IGNORE
    assert torch.autograd.gradcheck(lambda z: cldice(z.softmax(1), labels, 2), logits)


def test_cldice_takes_the_place_of_a_part_of_dice():
    method = ClDice(net(), alpha=0.3, iterations=3)
    logits, labels = method.net(batch().labelled.images), batch().labelled.labels
    terms = method.loss(replace(batch(), unlabelled=None))
    expected = losses.cross_entropy(logits, labels) + 0.7 * losses.dice(logits, labels)
    assert terms["supervised"].item() == pytest.approx(expected.item())
    expected = 0.3 * (1 - cldice(logits.softmax(1), labels, 3))
    assert terms["cldice"].item() == pytest.approx(expected.item())
    nobody = replace(batch().labelled, labels=batch().unlabelled.labels)
    ClDice(net()).loss(Batch(nobody, None, 0.5))["cldice"].backward()


def test_cldice_without_alpha_is_the_baseline_to_the_last_bit(task):
    trained = fit(ClDice.for_task(task, 3, alpha=0), task, FEW, seed=3, **QUIET)
    baseline = fit(Supervised.for_task(task, 3), task, FEW, seed=3, **QUIET)
    assert torch.equal(weights(trained.method), weights(baseline.method))


def test_alpha_is_a_share():
    with pytest.raises(ValueError, match="give 0 to 1, not 1.5"):
        ClDice(net(), alpha=1.5)


# Persistent homology


def gudhis(values):
    gudhi = pytest.importorskip("gudhi")
    cubes = gudhi.CubicalComplex(top_dimensional_cells=-values.numpy())
    pairs = [(q, birth, min(death, 0)) for q, (birth, death) in cubes.persistence()]
    return [sorted(round(d - b, 9) for q, b, d in pairs if q == dim and d > b) for dim in (0, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_bars_are_gudhis(seed):
    torch.manual_seed(seed)
    values = torch.rand(12, 15, dtype=torch.double)
    values = F.avg_pool2d(values[None], 1 + 2 * (seed % 2), 1, seed % 2)[0]
    mine = [sorted(round(n, 9) for n in bars.lengths(values).tolist()) for bars in barcode(values)]
    assert mine == gudhis(values)


def test_bars_of_masks_with_ties_are_gudhis():
    torch.manual_seed(0)
    for share in (0.4, 0.6):
        values = (torch.rand(12, 12) < share).double()
        mine = [[n for n in bars.lengths(values).tolist() if n > 0] for bars in barcode(values)]
        assert mine == gudhis(values)


def ring(level=1.0, gap=1.0):
    values = torch.zeros(9, 9, dtype=torch.double)
    values[2:7, 2:7], values[3:6, 3:6] = level, 0.1
    values[4, 6] = gap
    return values


def test_bars_of_a_ring_by_hand():
    pieces, holes = barcode(ring(0.9, gap=0.6))
    assert pieces.lengths(ring(0.9, 0.6)).max().item() == pytest.approx(0.9)
    (hole,) = holes.lengths(ring(0.9, 0.6)).tolist()
    assert hole == pytest.approx(0.6 - 0.1)  # closed by its weakest link, filled at its floor
    assert holes.birth.tolist() == [4 * 9 + 6]


def test_topology_loss_by_hand_and_its_gradient():
    values = ring(0.9, gap=0.6).requires_grad_()
    loss = topology_loss(values, (1, 1))
    assert loss.item() == pytest.approx((1 - 0.9**2) + (1 - 0.5**2))
    loss.backward()
    assert values.grad[4, 6] < 0  # mend the weakest link
    assert topology_loss(values, (1, 0)).item() == pytest.approx((1 - 0.9**2) + 0.5**2)
    two = torch.zeros(9, 9, dtype=torch.double)
    two[1, 1], two[7, 7] = 0.8, 0.3
    assert topology_loss(two, (1, 0)).item() == pytest.approx(1 - 0.8**2 + 0.3**2)
    assert topology_loss(two, (2, 0)).item() == pytest.approx(2 - 0.8**2 - 0.3**2)
    assert topology_loss(two, (3, 0)).item() == pytest.approx(3 - 0.8**2 - 0.3**2)


def test_topology_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    values = torch.rand(6, 7, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: topology_loss(v, (1, 1)), values)


def test_homology_descent_closes_a_broken_ring():
    logits = ((ring(0.9, gap=0.3) - 0.5) * 6).requires_grad_()
    for _ in range(60):
        (grad,) = torch.autograd.grad(topology_loss(logits.sigmoid(), (1, 1)), logits)
        logits = (logits - 2 * grad).detach().requires_grad_()
    assert logits[4, 6].sigmoid() > 0.8


def test_homology_acts_on_unlabelled_images_that_show_the_class():
    method = Homology(net(), {1: (1, 0)}, grid=16)
    probs = torch.zeros(4, 3, 16, 16)
    probs[:2, 1] = torch.rand(2, 16, 16)  # labelled: not looked at
    probs[2, 1, 2:5, 2:5] = 0.8
    probs[2, 1, 9:12, 9:12] = 0.6
    expected = 1 - 0.8**2 + 0.6**2
    assert method.penalty(probs, batch()).item() == pytest.approx(expected, rel=1e-4)
    probs[2] = 0
    assert method.penalty(probs, batch()) == 0


def test_betti_prior_is_what_the_masks_agree_on(task):
    labels = torch.zeros(5, 9, 9, dtype=torch.long)
    labels[:, 1:8, 1:8], labels[:, 3:6, 3:6] = 1, 2
    labels[0, 2, 2] = 0
    labels[:, 8, 0] = 3
    labels[:2, 0, 8] = 3
    assert betti_prior(labels, 4) == {1: (1, 1), 2: (1, 0)}
    with pytest.raises(ValueError, match="known topology"):
        Homology(net(), {})
    assert Homology.for_task(task, betti={1: (1, 0)}).betti == {1: (1, 0)}


# Volumes


def test_volumes(volumes):
    task = Task.split(volumes, labelled=2, valid=1, test=1)
    small = replace(FEW, batch=1)
    bounds = torch.tensor([[0, 1], [0.1, 0.2], [0, 0.1]])
    for method in (
        SizeConstraint(net(3), bounds),
        StarShape(net(3), [(1,)]),
        ConvexShape(net(3), [(1,)]),
        ClDice(net(3)),
    ):
        history = fit(method, task, small, **QUIET).history
        assert all(math.isfinite(v) for term in history.values() for v in term)
