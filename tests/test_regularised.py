"""Regularised losses: each is its double loop over pixels, with the gradient of that loop."""

import math
from dataclasses import replace

import pytest
import torch
from skimage.segmentation import chan_vese

from lsseg_edu.data import IGNORE
from lsseg_edu.networks import Shape, unet
from lsseg_edu.partial.regions import (
    CRFInference,
    DenseCRFLoss,
    GatedCRF,
    KernelCut,
    LevelSet,
    MumfordShah,
    NormalisedCut,
    PartialCrossEntropy,
    TotalVariation,
    affinities,
    crf_loss,
    curvature,
    gated_crf,
    level_set,
    mumford_shah,
    narrow_band,
    normalised_cut,
    on_grid,
    partial_cross_entropy,
    total_variation,
)
from lsseg_edu.semi.self_training import affinity, mean_field
from lsseg_edu.semi.self_training.dense_crf import offsets
from lsseg_edu.train import Budget, fit
from tests.probes import batch, net

LOSSES = [DenseCRFLoss, NormalisedCut, KernelCut, GatedCRF, TotalVariation, MumfordShah]
SIZES = pytest.mark.parametrize("size", [(4, 5), (3, 2, 4)], ids=["2D", "3D"])
EACH = pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)


def problem(*size, classes=3, channels=2, items=2):
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(items, channels, *size, generator=draw).double()
    logits = torch.randn(items, classes, *size, generator=draw).double()
    return logits, images


def pixels(size):
    return list(torch.cartesian_prod(*map(torch.arange, size)))


def bilateral(a, b, x, y, near, alike):
    far, other = float((a - b).square().sum()), float((x - y).square().sum())
    return math.exp(-far / (2 * near**2) - other / (2 * alike**2))


def pairs_by_hand(image, near, alike):
    places, colours = pixels(image.shape[1:]), image.flatten(1).T
    n = len(places)
    w = torch.zeros(n, n).double()
    for i in range(n):
        for j in range(n):
            if i != j:
                w[i, j] = bilateral(places[i], places[j], colours[i], colours[j], near, alike)
    return w


def agrees(loss, logits):
    """Autograd against finite differences, in double precision, through the softmax."""
    return torch.autograd.gradcheck(lambda x: loss(x.softmax(1)), logits.clone().requires_grad_())


# Affinities


@SIZES
def test_affinities_are_the_double_loop_over_all_pairs(size):
    _, images = problem(*size)
    w = affinities(images, near=2.0, alike=0.8, points=10**6)
    for found, image in zip(w, images, strict=True):
        assert torch.allclose(found, pairs_by_hand(image, 2.0, 0.8), atol=1e-12)


def test_a_coarse_grid_measures_in_pixels_of_the_image():
    coarse = affinities(torch.zeros(1, 1, 8, 8), near=3.0, alike=1.0, points=16)
    assert coarse.shape == (1, 16, 16)
    assert coarse[0, 0, 1].item() == pytest.approx(math.exp(-(2**2) / (2 * 3**2)), rel=1e-5)


def test_the_grid_holds_means_and_never_more_points_than_pixels():
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    assert on_grid(ramp, 4)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert torch.equal(on_grid(ramp, 1024), ramp)
    assert on_grid(torch.zeros(1, 1, 32, 32, 32), 1024).shape == (1, 1, 10, 10, 10)


def test_single_precision_is_enough_far_from_the_origin():
    images = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    single, double = (affinities(x, 1.0, 0.2) for x in (images, images.double()))
    assert (single - double).abs().max() < 1e-3


@pytest.mark.parametrize("items", [1, 4, 5, 8])
def test_the_mean_over_images_does_not_depend_on_how_they_are_parcelled(items):
    logits, images = problem(4, 5, items=items)
    s, w = logits.softmax(1), affinities(images, 6.0, 0.5)
    assert torch.isclose(
        DenseCRFLoss(net()).penalty(s, images, None), crf_loss(s.flatten(2), w).mean()
    )


@pytest.mark.parametrize("widths", [(0, 1), (1, 0), (-1, 1)])
def test_a_width_that_is_not_positive_is_one_sentence(widths):
    with pytest.raises(ValueError, match="Widths are positive"):
        affinities(torch.zeros(1, 1, 4, 4), *widths)


# Dense CRF loss, normalised cut, kernel cut


def cuts_by_hand(probs, w):
    """For each class, what it cuts and its degree: sums over ordered pairs."""
    n = len(w)
    cut = [sum(w[i, j] * s[i] * (1 - s[j]) for i in range(n) for j in range(n)) for s in probs]
    volume = [sum(w[i, j] * s[i] for i in range(n) for j in range(n)) for s in probs]
    return torch.stack(cut), torch.stack(volume)


@SIZES
def test_crf_loss_is_the_sum_over_all_pairs(size):
    logits, images = problem(*size)
    s, w = logits.softmax(1).flatten(2), affinities(images, 2.0, 1.0)
    expected = [cuts_by_hand(s[b], w[b])[0].sum() / w[b].sum() for b in range(2)]
    assert torch.allclose(crf_loss(s, w), torch.stack(expected))
    assert agrees(lambda p: crf_loss(p.flatten(2), w), logits)


def test_crf_loss_of_a_labelling_is_the_cut_share():
    w = torch.tensor([[0, 3.0, 1], [3, 0, 2], [1, 2, 0]])[None]
    labels = torch.tensor([[[1.0, 1, 0], [0, 0, 1]]])
    assert crf_loss(labels, w).item() == pytest.approx((1 + 2) / 6)
    assert crf_loss(torch.tensor([[[1.0, 1, 1], [0, 0, 0]]]), w) == 0


@SIZES
def test_normalised_cut_is_the_sum_over_all_pairs(size):
    logits, images = problem(*size)
    s, w = logits.softmax(1).flatten(2), affinities(images, 2.0, 1.0)
    for found, p, pairs in zip(normalised_cut(s, w), s, w, strict=True):
        cut, volume = cuts_by_hand(p, pairs)
        expected = (cut / (volume + pairs.sum() / len(pairs))).sum()
        assert torch.isclose(found, expected)
    assert agrees(lambda p: normalised_cut(p.flatten(2), w), logits)


def two_blocks():
    """Twelve points: eight belong together, four belong together, hardly anything between."""
    block = torch.arange(12) < 8
    w = torch.where(block[:, None] == block, 1.0, 0.05)
    w.fill_diagonal_(0)
    return w[None], block.float()


def test_the_normalised_cut_prefers_clusters_where_the_plain_cut_prefers_crumbs():
    w, block = two_blocks()
    w[0, 11], w[0, :, 11] = w[0, 11] * 0.3, w[0, :, 11] * 0.3  # a pixel with few friends
    crumb = (torch.arange(12) != 11).float()
    clusters, crumbs = (torch.stack([s, 1 - s])[None] for s in (block, crumb))
    assert crf_loss(crumbs, w) < crf_loss(clusters, w)
    assert normalised_cut(clusters, w) < normalised_cut(crumbs, w)


def test_a_class_that_the_image_does_not_show_costs_nothing():
    w, block = two_blocks()
    two = torch.stack([block, 1 - block])[None]
    three = torch.cat([two, torch.zeros(1, 1, 12)], 1)
    assert torch.isclose(normalised_cut(three, w), normalised_cut(two, w))


def test_kernel_cut_is_the_normalised_cut_and_the_crf():
    logits, images = problem(4, 5)
    s, w = logits.softmax(1).flatten(2), affinities(images, 2.0, 1.0)
    method = KernelCut(net(), crf=2.5)
    assert torch.allclose(method.energy(s, w), normalised_cut(s, w) + 2.5 * crf_loss(s, w))
    assert (method.energy(s, w) > NormalisedCut(net()).energy(s, w)).all()
    assert agrees(lambda p: method.energy(p.flatten(2), w), logits)


# Gated CRF


def gated_by_hand(s, images, sends, receives, near, alike, appearance, radius):
    cut, total, places = 0, 0, pixels(images.shape[2:])
    flat = [x.flatten(2) for x in (s, images, sends, receives)]
    for p, x, out, into in zip(*flat, strict=True):
        for i, a in enumerate(places):
            for j, b in enumerate(places):
                if i == j or (a - b).abs().max() > radius:
                    continue
                place = math.exp(-float((a - b).square().sum()) / (2 * near**2))
                look = bilateral(a, b, x[:, i], x[:, j], near, alike)
                k = into[0, i] * out[0, j] * (appearance * look + (1 - appearance) * place)
                total = total + k
                cut = cut + k * (1 - p[:, i] @ p[:, j])
    return cut / total


GATE = {"near": 1.5, "alike": 0.9, "appearance": 0.7, "radius": 2}


@SIZES
def test_gated_crf_is_the_sum_over_all_pairs_of_the_window(size):
    logits, images = problem(*size)
    sends, receives = torch.rand(2, 2, 1, *size, generator=torch.Generator().manual_seed(1))
    gates = sends.double(), receives.double()
    expected = gated_by_hand(logits.softmax(1), images, *gates, **GATE)
    assert torch.isclose(gated_crf(logits.softmax(1), images, *gates, **GATE), expected)
    first = [x[:1] for x in (images, *gates)]
    assert agrees(lambda p: gated_crf(p, *first, **GATE | {"radius": 1}), logits[:1])


def test_with_open_gates_and_a_wide_window_it_is_the_crf_loss():
    logits, images = problem(4, 5, items=1)
    gate, s = torch.ones(1, 1, 4, 5).double(), logits.softmax(1)
    wide = gated_crf(s, images, gate, gate, near=2.0, alike=0.8, appearance=1.0, radius=4)
    assert torch.isclose(wide, crf_loss(s.flatten(2), affinities(images, 2.0, 0.8)))


def test_scribbled_pixels_send_and_do_not_receive():
    logits, images = problem(4, 5, classes=2)
    labels = torch.full((2, 4, 5), IGNORE)
    labels[:, 1] = 1
    s, all_open = logits.softmax(1), torch.ones(2, 1, 4, 5).double()
    unknown = (labels == IGNORE)[:, None].double()
    closed, control = GatedCRF(net(), **GATE), GatedCRF(net(), gated=False, **GATE)
    found = closed.penalty(s, images, labels)
    assert torch.isclose(found, gated_crf(s, images, all_open, unknown, **GATE))
    other = control.penalty(s, images, labels)
    assert torch.isclose(other, gated_crf(s, images, all_open, all_open, **GATE))
    assert not torch.isclose(found, other)


def test_everything_scribbled_costs_nothing():
    logits, images = problem(4, 5)
    method = GatedCRF(net(), **GATE)
    labels = torch.zeros(2, 4, 5, dtype=torch.long)
    answer = logits.requires_grad_().softmax(1)
    cost = method.penalty(answer, images, labels)
    (slope,) = torch.autograd.grad(cost, logits)
    assert cost == 0 and torch.isfinite(slope).all() and slope.abs().max() < 1e-6


# Total variation, Mumford-Shah, level sets


def variation_by_hand(s, eps):
    total, size = 0, s.shape[2:]
    for p in s.flatten(0, 1):
        for place in pixels(size):
            square = 0
            for axis in range(len(size)):
                after = place.clone()
                after[axis] += 1
                if after[axis] < size[axis]:
                    square = square + (p[tuple(after)] - p[tuple(place)]) ** 2
            total = total + (square + eps**2) ** 0.5 - eps
    return total / (len(s) * math.prod(size))


@SIZES
def test_total_variation_is_the_sum_over_neighbours(size):
    s = problem(*size)[0].softmax(1)
    assert torch.isclose(total_variation(s, 0.1), variation_by_hand(s, 0.1))
    assert agrees(total_variation, problem(*size)[0])


def test_total_variation_is_the_length_of_the_border_and_does_not_look():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    assert total_variation(mask, 1e-6).item() * 256 == pytest.approx(32, abs=1)
    b = batch(8, 8)
    method, s = TotalVariation(net()), torch.rand(4, 3, 8, 8).softmax(1)
    seen = [method.penalty(s, x, b.labelled.labels) for x in (b.labelled.images, 0 * s[:, :1])]
    assert torch.equal(*seen)


@SIZES
def test_curvature_is_downhill_of_the_total_variation(size):
    s = problem(*size)[0].softmax(1).requires_grad_()
    (slope,) = torch.autograd.grad(total_variation(s) * s[:, 0].numel(), s)
    assert torch.allclose(-slope, curvature(s))


@SIZES
def test_mumford_shah_is_the_sum_over_pixels(size):
    logits, images = problem(*size)
    s, fit_term = logits.softmax(1), 0
    for p, x in zip(s.flatten(2), images.flatten(2), strict=True):
        for region in p:
            mean = sum(u * v for u, v in zip(region, x.T, strict=True)) / region.sum()
            squares = [((v - mean) ** 2).sum() for v in x.T]
            fit_term += sum(u * v for u, v in zip(region, squares, strict=True))
    expected = fit_term / s[:, 0].numel() + 0.3 * variation_by_hand(s, 0.1)
    assert torch.isclose(mumford_shah(s, images, 0.3), expected)
    assert agrees(lambda p: mumford_shah(p, images, 0.3), logits)


def discs(size=32, noise=0.3):
    axis = torch.arange(float(size))
    truth = ((axis[:, None] - 15) ** 2 + (axis - 17) ** 2 < 70).long()
    draw = torch.Generator().manual_seed(0)
    image = truth + noise * torch.randn(size, size, generator=draw)
    off = ((axis[:, None] - 12) ** 2 + (axis - 13) ** 2 < 60).float()
    start = 0.2 + 0.6 * off
    return truth, (image / image.std())[None, None], torch.stack([1 - start, start])[None]


def test_a_step_of_the_level_set_goes_down_the_gradient_of_the_energy():
    logits, images = problem(5, 6)
    phi = logits.softmax(1).log().requires_grad_()
    energy = mumford_shah(phi.softmax(1), images, 0.2) * phi[:, 0].numel()
    (slope,) = torch.autograd.grad(energy, phi)
    start = phi.softmax(1).detach().float()
    moved = level_set(start, images.float(), steps=1, length=0.2, rate=0.1).log()
    step = moved - phi.detach().float()
    step = step - step.mean(1, keepdim=True)  # a softmax does not see what all have in common
    expected = -0.1 * (slope - slope.mean(1, keepdim=True)).float()
    assert torch.allclose(step, expected, atol=1e-4)


def test_the_energy_falls_and_the_contour_finds_the_disc():
    truth, image, start = discs()
    stages = [level_set(start, image, n) for n in (0, 5, 20, 60)]
    energies = [mumford_shah(u, image).item() for u in stages]
    assert energies == sorted(energies, reverse=True)
    wrong = [(u.argmax(1)[0] != truth).sum().item() for u in stages]
    assert wrong[-1] < 0.2 * wrong[0]
    kept = chan_vese(image[0, 0].numpy(), mu=0.1, max_num_iter=500)
    same = (torch.from_numpy(kept) == stages[-1].argmax(1)[0]).float().mean()
    assert max(same, 1 - same) > 0.97


def test_length_removes_specks_that_the_fit_would_keep():
    truth, image, start = discs(noise=0.6)
    rough, smooth = (level_set(start, image, 80, length=x).argmax(1) for x in (0.0, 0.4))
    assert total_variation(smooth[:, None].float()) < 0.7 * total_variation(rough[:, None].float())


def test_outside_of_the_band_nothing_moves():
    _, image, start = discs()
    band = narrow_band(start.argmax(1), 2)
    moved = level_set(start, image, 10, band=band)
    still = (band == 0).expand_as(start)
    assert torch.allclose(moved[still], start[still]) and 0 < band.mean() < 0.5
    assert (moved - start)[~still].abs().max() > 0.05
    cube = torch.zeros(1, 8, 8, 8, dtype=torch.long)
    cube[:, 2:6, 2:6, 2:6] = 1
    assert narrow_band(cube, 1)[0, 0].sum() == 6**3 - 2**3


# Inference after training


def test_mean_field_with_prices_is_the_double_loop_over_all_pairs():
    logits, images = problem(3, 4, items=1)
    probs, images = logits.softmax(1).float(), images.float()
    price = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.2, 3.0], [0.5, 3.0, 0.0]])
    kernel = affinity(images, 2.0, 1.0, 3.0, 0.5, 1.0, radius=3)[:, 0, 0]
    q, places = probs[0].clone(), pixels((3, 4))
    for _ in range(2):
        cost = -probs[0].log()
        for step, weight in zip(offsets(3, 2), kernel, strict=True):
            for place in places:
                i, j = place.tolist(), (place + torch.tensor(step)).tolist()
                if 0 <= j[0] < 3 and 0 <= j[1] < 4:
                    cost[:, i[0], i[1]] += weight[i[0], i[1]] * price @ q[:, j[0], j[1]]
        q = (-cost).softmax(0)
    found = mean_field(probs, images, steps=2, radius=3, compatibility=price)
    assert torch.allclose(found[0], q, atol=1e-5)


def test_with_potts_prices_it_is_the_mean_field_of_the_book():
    logits, images = problem(6, 7)
    probs, images = logits.softmax(1).float(), images.float()
    found = mean_field(probs, images, radius=4, compatibility=1 - torch.eye(3))
    assert torch.allclose(found, mean_field(probs, images, radius=4), atol=1e-5)


def test_a_dearer_pair_of_labels_meets_less_often():
    logits, images = problem(12, 12)
    probs, images = logits.softmax(1).float(), images.float()
    price = 1 - torch.eye(3)
    dear = price.clone()
    dear[1, 2] = dear[2, 1] = 4.0

    def touching(matrix):
        y = mean_field(probs, images, radius=3, compatibility=matrix).argmax(1)
        a = torch.cat([y[:, 1:].flatten(), y[:, :, 1:].flatten()])
        b = torch.cat([y[:, :-1].flatten(), y[:, :, :-1].flatten()])
        return ((a * b) == 2).sum()

    assert touching(dear) < touching(price)


def test_prices_that_are_no_symmetric_matrix_are_one_sentence():
    probs, images = torch.rand(1, 3, 4, 4).softmax(1), torch.zeros(1, 1, 4, 4)
    for bad in (torch.zeros(2, 2), torch.arange(9.0).view(3, 3)):
        with pytest.raises(ValueError, match="compatibility is a symmetric"):
            mean_field(probs, images, compatibility=bad)


@pytest.mark.parametrize("kind", [CRFInference, LevelSet])
@pytest.mark.parametrize("dims", [2, 3])
def test_inference_changes_the_answer_and_nothing_of_the_training(kind, dims):
    size = (12,) * dims
    options = {"radius": 2} if kind is CRFInference else {}
    images = batch(*size).labelled.images
    alone, after = PartialCrossEntropy(net(dims)), kind(net(dims), **options)
    probs = after.predict(images)
    assert torch.allclose(probs.sum(1), torch.ones(4, *size), atol=1e-5)
    assert not torch.allclose(probs, alone.predict(images), atol=1e-3)
    off = kind(net(dims), steps=0, **options)
    assert torch.allclose(off.predict(images), alone.predict(images), atol=1e-5)
    assert torch.equal(after.loss(batch(*size))["scribbles"], alone.loss(batch(*size))["scribbles"])


def test_inference_takes_prices_too():
    images = batch(8, 8).labelled.images
    potts, same = CRFInference(net(), radius=2), CRFInference(net(), 1 - torch.eye(3), radius=2)
    assert torch.allclose(potts.predict(images), same.predict(images), atol=1e-5)
    dear = CRFInference(net(), 5 * (1 - torch.eye(3)), radius=2)
    assert not torch.allclose(potts.predict(images), dear.predict(images), atol=1e-3)


def test_a_band_without_width_is_one_sentence():
    with pytest.raises(ValueError, match="at least 1 pixel"):
        LevelSet(net(), width=0)


# As methods


def scribbled(*size, items=4):
    b = batch(*size, items=items)
    b.labelled.labels[torch.rand(b.labelled.labels.shape) > 0.1] = IGNORE
    return b


@EACH
def test_scribbles_teach_as_before_and_the_energy_is_ramped_up(kind):
    b, method = scribbled(12, 12), kind(net(), weight=2.0)
    terms = method.loss(b)
    logits = method.net(b.labelled.images)
    expected = partial_cross_entropy(logits, b.labelled.labels)
    assert torch.equal(terms["scribbles"], expected)
    penalty = method.penalty(logits.softmax(1), b.labelled.images, b.labelled.labels)
    assert torch.isclose(terms["regulariser"], 2.0 * penalty)
    early = method.loss(replace(b, progress=0.0))["regulariser"]
    assert torch.isclose(early, math.exp(-5) * terms["regulariser"])
    with pytest.raises(ValueError, match="negative weight would reward cuts"):
        kind(net(), weight=-1.0)


@EACH
def test_pixels_off_the_scribbles_have_a_gradient_now(kind):
    b = scribbled(12, 12)
    method = kind(net())
    logits = method.net(b.labelled.images).detach().requires_grad_()
    penalty = method.penalty(logits.softmax(1), b.labelled.images, b.labelled.labels)
    (slope,) = torch.autograd.grad(penalty, logits)
    unknown = b.labelled.labels == IGNORE
    assert torch.isfinite(slope).all()
    assert (slope.abs().sum(1)[unknown] > 0).float().mean() > 0.95


@EACH
@pytest.mark.parametrize("size", [(32, 32), (32, 16, 16)], ids=["2D", "3D"])
def test_trains_in_planes_and_volumes(kind, size):
    method, b = kind(unet(Shape(1, 3, len(size)))), scribbled(*size, items=2)
    sum(method.loss(b).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.net.parameters())


@EACH
def test_the_loop_trains_it(kind, task):
    labels = task.train.labels
    draw = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0))
    sparse = task.supervise(labels.where(draw < 0.1, IGNORE), "scribbles")
    fitted = fit(kind.for_task(sparse), sparse, Budget("smoke", 2, batch=2), progress=False)
    assert set(fitted.history) == {"scribbles", "regulariser"}
    assert all(math.isfinite(v) for terms in fitted.history.values() for v in terms)


def test_volumes_get_smaller_windows(volumes):
    from lsseg_edu.data import Task

    task = Task.split(volumes, labelled=2, valid=1, test=1)
    assert GatedCRF.for_task(task).window == {"radius": 2}
    assert CRFInference.for_task(task).crf == {"radius": 3}


def test_a_class_without_a_scribble_is_one_sentence(task):
    labels = task.train.labels
    with pytest.raises(ValueError, match="shows the class 'square'"):
        sparse = task.supervise(labels.where(labels != 2, IGNORE), "scribbles")
        fit(DenseCRFLoss.for_task(sparse), sparse, progress=False)


@EACH
def test_a_batch_without_scribbles_is_one_sentence(kind):
    b = scribbled(8, 8)
    b.labelled.labels.fill_(IGNORE)
    with pytest.raises(ValueError, match="No pixel of this batch is annotated"):
        kind(net()).loss(b)


def test_the_image_moves_a_border_where_smoothness_cannot():
    """An edge, scribbles left and right of it: the CRF loss puts the border on the edge."""
    image = torch.zeros(1, 1, 12, 16)
    image[..., 11:] = 2.0
    labels = torch.full((1, 12, 16), IGNORE)
    labels[..., 1], labels[..., 14] = 0, 1

    def border(energy):
        logits = torch.zeros(1, 2, 12, 16).requires_grad_()
        descent = torch.optim.Adam([logits], 0.2)
        for _ in range(40):
            loss = partial_cross_entropy(logits, labels)
            loss = loss + energy.penalty(logits.softmax(1), image, labels)
            descent.zero_grad()
            loss.backward()
            descent.step()
        return (logits.argmax(1) == 1).float()

    truth = (image[:, 0] > 1).float()
    for kind in (DenseCRFLoss, NormalisedCut, KernelCut, GatedCRF):
        assert torch.equal(border(kind(net())), truth), kind.__name__
    assert not torch.equal(border(TotalVariation(net())), truth)
