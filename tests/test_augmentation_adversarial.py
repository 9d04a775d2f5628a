"""Adversarial augmentation: the ascent climbs, the bounds hold, image and label move as one."""

import numpy as np
import pytest
import torch
from probes import net, weights
from sklearn.decomposition import PCA

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment, displaced, folded, integrate, warp, warp_labels
from lsseg_edu.augment.smooth import smooth_field
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.adversarial.discriminator import one_hot
from lsseg_edu.semi.augmentation import (
    AdvBias,
    DeformationAttack,
    Fluid,
    Modes,
    Motions,
    WorstCase,
    ascend,
    biased,
    deformation_training,
    deformations,
    fluid,
    fluid_training,
    olut,
    register_unlabelled,
    soft_dice_ce,
    somewhere,
    spline,
)
from lsseg_edu.semi.priors import Registration
from lsseg_edu.semi.self_training.teacher_student import divergence
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)


def batch(size=(16, 16), count=4, progress=1.0):
    torch.manual_seed(1)
    images, labels = torch.randn(count, 1, *size), torch.randint(0, 3, (count, *size))
    index = torch.arange(count)
    others = Part(images + 1, torch.full_like(labels, IGNORE), index, index, {})
    return Batch(Part(images, labels, index, index, {}), others, progress)


def velocities(count=12, size=(32, 32), strength=0.05):
    images = torch.zeros(count, 1, *size)
    field = smooth_field(images, len(size), 2, torch.Generator().manual_seed(0))
    return strength * field.movedim(1, -1)


def finite(method, terms):
    sum(terms.values()).backward()
    return all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


# The ascent


def test_ascent_climbs_step_by_step_and_stays_in_the_box():
    torch.manual_seed(0)
    hill, start = torch.randn(4, 6), torch.zeros(4, 6)
    heights = [
        -(ascend(lambda z: -(z - hill).square().sum(), start, 0.7, n, 0.1) - hill).square().sum()
        for n in range(12)
    ]
    assert all(b > a for a, b in zip(heights[:10], heights[1:11], strict=True))
    top = ascend(lambda z: -(z - hill).square().sum(), start, 0.7, 100, 0.02)
    assert torch.allclose(top, hill.clamp(-0.7, 0.7), atol=0.02)
    assert torch.equal(ascend(lambda z: z.sum(), start, 0.5, 3), torch.full_like(start, 0.5))
    assert torch.equal(ascend(lambda z: z.sum(), start, 0.5, 0), start)


def test_bound_may_differ_from_place_to_place():
    bound = torch.tensor([0.1, 2.0])
    assert torch.equal(ascend(lambda z: z.sum(), torch.zeros(3, 2), bound), bound.expand(3, 2))
    inside = somewhere(torch.zeros(500, 2), bound)
    assert (inside.abs() <= bound).all() and inside[:, 1].abs().max() > 1.5


def test_ascent_gives_no_gradient_to_weights_even_where_gradients_are_off():
    network, images = net(), batch().labelled.images
    with torch.no_grad():
        change = ascend(
            lambda r: network(images + r).square().mean(), torch.zeros_like(images), 0.1
        )
    assert change.abs().max() == pytest.approx(0.1) and not change.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_ascent_with_bad_numbers():
    for bound, steps in ((-0.1, 1), (0.1, -1)):
        with pytest.raises(ValueError, match="bound >= 0 and steps >= 0"):
            ascend(lambda z: z.sum(), torch.zeros(1), bound, steps)


# Worst case


@pytest.mark.parametrize(("dims", "steps"), [(2, 1), (2, 5), (3, 1)])
def test_attack_raises_the_loss_within_epsilon(dims, steps):
    method, part = WorstCase(net(dims), epsilon=0.2, steps=steps), batch((8,) * dims).labelled
    attacked = method.attack(part.images, part.labels)
    change = (attacked - part.images).abs()
    assert change.mean() > 0.15 and change.max() <= 0.2 + 1e-6
    noise = part.images + somewhere(part.images, 0.2)
    harm = [losses.dice_ce(method.net(x), part.labels) for x in (part.images, noise, attacked)]
    assert harm[2] > harm[0] and harm[2] > harm[1]


def test_terms_are_the_clean_the_worst_and_the_virtual_one():
    method, b = WorstCase(net(), epsilon=0.1, weight=2.0, virtual=3.0), batch()
    torch.manual_seed(3)
    terms = method.loss(b)
    torch.manual_seed(3)
    attacked = method.attack(b.labelled.images, b.labelled.labels)
    worst = losses.dice_ce(method.net(attacked), b.labelled.labels)
    clean = losses.dice_ce(method.net(b.labelled.images), b.labelled.labels)
    assert terms["supervised"].item() == pytest.approx(clean.item())
    assert terms["worst"].item() == pytest.approx(2 * worst.item()) and worst > clean
    assert terms["virtual"].item() == pytest.approx(3 * method.unsteady(b.unlabelled.images).item())
    assert finite(method, terms)


def test_virtual_term_moves_the_answer_more_than_noise_and_asks_for_no_label():
    method, images = WorstCase(net(), epsilon=0.3), batch().unlabelled.images
    answer = method.net(images).softmax(1).detach()
    moved = method.unsteady(images)
    noise = [
        divergence(method.net(images + 0.3 * torch.randn_like(images)), answer).mean()
        for _ in range(5)
    ]
    assert moved > max(noise) and method.loss(batch())["virtual"].requires_grad


def test_arms_of_the_worst_case():
    assert set(WorstCase(net(), virtual=0).loss(batch())) == {"supervised", "worst"}
    assert set(WorstCase(net(), weight=0).loss(batch())) == {"supervised", "virtual"}
    assert not WorstCase(net(), virtual=0).unlabelled and WorstCase(net()).unlabelled
    first, last = (WorstCase(net()).loss(batch(progress=p))["virtual"] for p in (0.0, 1.0))
    assert first < 0.05 * last
    with pytest.raises(ValueError, match="cannot be negative"):
        WorstCase(net(), epsilon=-1)


# Bias field


@pytest.mark.parametrize("size", [(24, 40), (16, 16, 24)])
def test_field_stays_within_the_bound_of_its_control_points(size):
    torch.manual_seed(0)
    points = somewhere(torch.zeros(50, 1, *[5] * len(size)), 0.3)
    field = spline(points, size)
    assert field.shape == (50, 1, *size) and field.abs().max() <= 0.3
    assert torch.allclose(spline(torch.full_like(points, 0.3), size), torch.tensor(0.3))
    rough = field.diff(dim=-1).abs().max()
    assert rough < 0.3 * 2 / size[-1] * 3, "a coil is smooth"


def test_field_multiplies_what_is_above_the_background():
    images = batch().labelled.images
    points = somewhere(torch.zeros(4, 1, 5, 5), 0.3)
    low = images.amin((2, 3), keepdim=True)
    ratio = (biased(images, points) - low) / (images - low)
    known = images > low
    field = 1 + spline(points, (16, 16))
    assert torch.allclose(ratio[known], field[known], rtol=1e-3)
    assert torch.equal(biased(images, points)[~known], images[~known])


@pytest.mark.parametrize("dims", [2, 3])
def test_ascent_over_control_points_moves_the_answer_further(dims):
    method, images = AdvBias(net(dims), bound=0.3, steps=3), batch((12,) * dims).unlabelled.images
    answer = method.net(images).softmax(1).detach()

    def moved(points):
        return divergence(method.net(biased(images, points)), answer).mean()

    points = method.attack(images, answer)
    assert points.shape == (4, 1, *[5] * dims) and points.abs().max() <= 0.3
    random = [moved(somewhere(points, 0.3)) for _ in range(10)]
    assert moved(points) > max(random)


def test_advbias_asks_consistency_of_both_halves_and_the_target_is_detached():
    method, b, seen = AdvBias(net(), weight=2.0, steps=0), batch(), []
    method.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    torch.manual_seed(2)
    terms = method.loss(b)
    both = torch.cat([b.labelled.images, b.unlabelled.images])
    assert torch.equal(seen[1], both) and seen[2].shape == both.shape
    assert not torch.equal(seen[2], both)
    answer = method.net(both).softmax(1).detach()
    by_hand = 2 * divergence(method.net(seen[2]), answer).mean()
    assert terms["divergence"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    slopes = [
        torch.autograd.grad(term, list(method.net.parameters()))
        for term in (terms["divergence"], by_hand)
    ]
    assert all(torch.allclose(a, c, atol=1e-6) for a, c in zip(*slopes, strict=True))
    first, last = (AdvBias(net()).loss(batch(progress=p))["divergence"] for p in (0.0, 1.0))
    assert first < 0.05 * last
    assert finite(method, method.loss(b))
    with pytest.raises(ValueError, match=r"bound in \[0, 1\)"):
        AdvBias(net(), bound=1.0)


# Statistics of deformations


@pytest.mark.parametrize("size", [(32, 32), (8, 12, 16)])
def test_modes_are_the_principal_components(size):
    v = velocities(size=size)
    modes = Modes.of(v, 4)
    pca = PCA(4).fit(v.flatten(1).double().numpy())
    assert torch.allclose(modes.deviations.double() ** 2, torch.tensor(pca.explained_variance_))
    assert modes.explained == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-3)
    along = np.abs(modes.directions.flatten(1).double().numpy() @ pca.components_.T)
    assert np.allclose(along, np.eye(4), atol=1e-3)


def test_velocity_is_the_sum_of_modes_in_deviations():
    modes = Modes.of(velocities(), 3)
    a = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    by_hand = sum(a[0, m] * modes.deviations[m] * modes.directions[m] for m in range(3))
    assert torch.allclose(modes.velocity(a)[0], by_hand, atol=1e-6)
    assert (modes.velocity(a)[1] == 0).all()
    for count in (0, 12):
        with pytest.raises(ValueError, match="ask for 1 to 11"):
            Modes.of(velocities(), count)


def attack(steps=1, bound=2.0, **options):
    return DeformationAttack(net(), Modes.of(velocities(), 5), bound, steps=steps, **options)


def blobs(count=4, size=32):
    """Discs of different radius, as smooth images and as labels."""
    torch.manual_seed(2)
    axis = torch.linspace(-1, 1, size)
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    labels = torch.stack([(radius < 0.4).long() + (radius < 0.2 + 0.05 * i) for i in range(count)])
    return labels[:, None].float() + 0.1 * torch.randn(count, 1, size, size), labels


def test_coefficients_climb_and_stay_within_the_deviations():
    method, (images, labels) = attack(steps=4), blobs()
    torch.manual_seed(4)
    start = somewhere(torch.zeros(4, 5), 2.0)
    torch.manual_seed(4)
    worst = method.attack(images, labels)
    assert worst.abs().max() <= 2.0 and not torch.equal(worst, start)
    assert method.harm(images, labels, worst) > method.harm(images, labels, start)
    assert method.harm(images, labels, worst) > method.harm(images, labels, torch.zeros(4, 5))
    control = attack(steps=0)
    torch.manual_seed(4)
    assert torch.equal(control.attack(images, labels), start)


def test_image_and_label_take_the_same_way_and_nothing_folds():
    method, (images, labels), seen = attack(), blobs(), []
    b = Batch(Part(images, labels, torch.arange(4), torch.arange(4), {}), None, 1.0)
    torch.manual_seed(5)
    grid = method.grid(method.attack(images, labels))
    method.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    torch.manual_seed(5)
    terms = method.loss(b)
    assert torch.allclose(seen[-1], warp(images, grid), atol=1e-5)
    expected = losses.dice_ce(method.net(seen[-1]), warp_labels(labels, grid))
    assert terms["deformed"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert (warp_labels(labels, grid) != labels).float().mean() > 0.005
    assert folded(grid - displaced(torch.zeros(4, 32, 32, 2))) == 0
    assert finite(method, terms)


def test_harm_without_motion_is_the_supervised_loss():
    method, (images, labels) = attack(), blobs()
    labels[0, :4] = IGNORE
    expected = losses.dice_ce(method.net(images), labels)
    assert method.harm(images, labels, torch.zeros(4, 5)).item() == pytest.approx(
        expected.item(), rel=1e-3
    )
    assert expected.item() == pytest.approx(
        soft_dice_ce(method.net(images), one_hot(labels, 3)).item(), rel=1e-4
    )


# Registered motions


def test_motions_register_every_unlabelled_image_and_look_at_no_label(task, monkeypatch):
    made = []

    def record(method, *args, **kwargs):
        fitted = fit(method, *args, **kwargs)
        made.append(fitted)
        return fitted

    monkeypatch.setattr(deformations, "fit", record)
    motions = register_unlabelled(task, FEW, **QUIET)
    assert isinstance(made[0].method, Registration) and motions.seconds == made[0].seconds
    assert motions.velocities.shape == (len(task.unlabelled), 32, 32, 2)
    assert torch.equal(motions.source, motions.source.sort().values)
    images, atlas = task.train.images[task.unlabelled], made[0].method.atlas
    match = atlas.match(images)
    order = match.argsort(stable=True)
    assert torch.equal(motions.target, order) and torch.equal(motions.source, match[order])
    with torch.no_grad():
        direct = made[0].method.net(atlas.images[match[order]], images[order])
    assert torch.allclose(direct, motions.velocities, atol=1e-5)


def test_nothing_to_register_is_said_before_training(cohort, monkeypatch):
    monkeypatch.setattr(deformations, "fit", None)
    everyone = Task.split(cohort, valid=2, test=2)
    for procedure in (deformation_training, fluid_training):
        with pytest.raises(ValueError, match="no unlabelled training image to register"):
            procedure(everyone, FEW)


def fluids(reach=1.0, source=(0, 0, 0, 2, 2, 2, 2, 2, 2, 3, 3, 3), targets=2, **options):
    images, labels = blobs()
    motions = Motions(velocities(), torch.tensor(source), torch.arange(12))
    return Fluid(net(), images, labels, motions, targets=targets, reach=reach, **options)


def test_velocity_lies_between_those_of_its_own_partners():
    torch.manual_seed(0)
    method, index = fluids(), torch.tensor([0, 1, 2, 3] * 20)
    v = method.velocity(index)
    assert (v[index == 1] == 0).all(), "nobody resembles the second image"
    for image, partners in ((0, range(3)), (2, range(3, 9)), (3, range(9, 12))):
        mine = method.velocities[list(partners)].flatten(1)
        share = torch.linalg.lstsq(mine.T, v[index == image].flatten(1).T).solution
        rest = (mine.T @ share - v[index == image].flatten(1).T).abs().max()
        assert rest < 1e-4, "a combination of its partners' velocities and of no other"
        assert share.min() > -1e-3 and share.sum(0).max() <= 1 + 1e-3
        assert (share > 1e-3).sum(0).max() == 2 and share.sum(0).std() > 0.1


def test_ends_of_the_geodesic():
    method = fluids(reach=0.0)
    images, labels = method.sample(torch.arange(4))
    assert torch.allclose(images, method.images, atol=1e-4)
    assert torch.equal(labels, method.labels)
    method = fluids(targets=1, source=(0,) * 12)
    torch.manual_seed(3)
    v = method.velocity(torch.zeros(6, dtype=torch.long)).flatten(1)
    known = method.velocities.flatten(1)
    alike = torch.nn.functional.cosine_similarity(v[:, None], known, dim=-1).max(1).values
    assert torch.allclose(alike, torch.ones(6), atol=1e-4), "one target: on the way to it"


def test_new_pairs_are_warped_alike_and_are_not_the_batch():
    method, seen = fluids(augment=Augment.none()), []
    torch.manual_seed(3)
    index = torch.tensor([0, 2, 3, 2])
    images, labels = method.sample(index)
    torch.manual_seed(3)
    grid = displaced(integrate(method.velocity(index)))
    assert torch.allclose(images, warp(method.images[index], grid), atol=1e-5)
    assert torch.equal(labels, warp_labels(method.labels[index], grid))
    assert (labels != method.labels[index]).any()
    b = batch((32, 32))
    method.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    terms = method.loss(b)
    assert torch.equal(seen[0], b.labelled.images) or torch.equal(seen[1], b.labelled.images)
    clean = losses.dice_ce(method.net(b.labelled.images), b.labelled.labels)
    assert terms["supervised"].item() == pytest.approx(clean.item())
    assert terms["fluid"] > 0 and finite(method, terms)


# Whole trainings


@pytest.mark.parametrize("kind", [WorstCase, AdvBias])
def test_the_scoreboard_can_train_it(task, kind):
    method = kind.for_task(task, 3)
    assert torch.equal(weights(method.net), weights(networks.unet(task, seed=3)))
    assert fit(method, task, FEW, 3, **QUIET).predict(task.test.images).isfinite().all()


@pytest.mark.parametrize(
    ("procedure", "room"), [(deformation_training, olut), (fluid_training, fluid)]
)
def test_procedures_end_as_the_baseline_where_their_term_has_no_weight(
    task, procedure, room, monkeypatch
):
    motions = Motions(velocities(), torch.zeros(12, dtype=torch.long), torch.arange(12), 100.0)
    monkeypatch.setattr(room, "register_unlabelled", lambda *a, **k: motions)
    control = procedure(task, FEW, 3, weight=0.0, **QUIET)
    baseline = fit(Supervised.for_task(task, 3), task, FEW, 3, **QUIET)
    assert torch.allclose(weights(control.method), weights(baseline.method), atol=1e-6)
    assert control.seconds > 100 and control.predict(task.test.images).isfinite().all()
    assert not torch.equal(
        weights(procedure(task, FEW, 3, **QUIET).method), weights(baseline.method)
    )


def test_volumes():
    images, labels = torch.randn(2, 1, 16, 16, 16), torch.randint(0, 3, (2, 16, 16, 16))
    v, target = velocities(6, (16, 16, 16)), torch.arange(6)
    part = Part(images, labels, torch.arange(2), torch.arange(2), {})
    b = Batch(part, part, 1.0)
    methods = [
        DeformationAttack(net(3), Modes.of(v, 3)),
        Fluid(net(3), images, labels, Motions(v, target // 3, target)),
        WorstCase(net(3)),
    ]
    for method in methods:
        assert finite(method, method.loss(b))
