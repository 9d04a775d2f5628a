"""Dense CRF: the fast sums are those of the double loop, and edges pull boundaries."""

import math

import pytest
import torch

from lsseg_edu.semi.self_training import affinity, mean_field
from lsseg_edu.semi.self_training.dense_crf import offsets, shifted

WEIGHTS = {"appearance": 2.0, "smoothness": 0.7, "near": 2.5, "alike": 0.6, "close": 1.3}


def problem(*size, classes=3, channels=2, batch=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, channels, *size, generator=generator)
    logits = torch.randn(batch, classes, *size, generator=generator)
    return logits.softmax(1), images


def by_hand(probs, image, steps, radius=math.inf):
    """One image, pixel by pixel, pair by pair, as the paper writes it (Potts model)."""
    w = WEIGHTS
    places = list(torch.cartesian_prod(*[torch.arange(n) for n in image.shape[1:]]))
    colours, p = image.flatten(1).T, probs.flatten(1).T.double()
    n, classes = p.shape
    look, place = torch.zeros(n, n).double(), torch.zeros(n, n).double()
    for i in range(n):
        for j in range(n):
            if i == j or (places[i] - places[j]).abs().max() > radius:
                continue
            far = float((places[i] - places[j]).square().sum())
            other = float((colours[i] - colours[j]).square().sum())
            look[i, j] = math.exp(-far / (2 * w["near"] ** 2) - other / (2 * w["alike"] ** 2))
            place[i, j] = math.exp(-far / (2 * w["close"] ** 2))
    kappa = torch.zeros(n, n).double()
    for weight, k in ((w["appearance"], look), (w["smoothness"], place)):
        for i in range(n):
            for j in range(n):
                kappa[i, j] += weight * k[i, j] / math.sqrt(k[i].sum() * k[j].sum())
    q = p.clone()
    for _ in range(steps):
        new = torch.zeros_like(q)
        for i in range(n):
            for label in range(classes):
                cost = -math.log(p[i, label])
                for other in range(classes):
                    if other != label:
                        cost += float(kappa[i] @ q[:, other])
                new[i, label] = math.exp(-cost)
        q = new / new.sum(1, keepdim=True)
    return q.T.reshape(probs.shape).float()


@pytest.mark.parametrize("size", [(5, 6), (3, 2, 4)], ids=["2D", "3D"])
def test_mean_field_is_the_double_loop_over_all_pairs(size):
    probs, images = problem(*size)
    answer = mean_field(probs, images, steps=3, radius=max(size) - 1, **WEIGHTS)
    for i in range(2):
        assert torch.allclose(answer[i], by_hand(probs[i], images[i], steps=3), atol=1e-5)


def exact_marginals(probs, image, weights):
    """Of a row of n pixels and two classes: all 2^n labellings, each with exp(-energy)."""
    n = image.shape[-1]
    kernel = affinity(image, radius=n - 1, **weights)[..., 0, :]
    kappa = torch.zeros(n, n)
    for (down, right), weight in zip(offsets(n - 1, 2), kernel[:, 0, 0], strict=True):
        for i in range(n):
            if down == 0 and 0 <= i + right < n:
                kappa[i, i + right] = weight[i]
    total, marginal, evidence = 0.0, torch.zeros(n), probs[0, :, 0].log()
    for y in torch.cartesian_prod(*[torch.arange(2)] * n):
        split = (y[:, None] != y) * kappa
        mass = (evidence.gather(0, y[None]).sum() - split.sum() / 2).exp()
        total, marginal = total + mass, marginal + mass * y
    return marginal / total


def test_mean_field_approaches_the_exact_marginals_of_the_energy():
    image = torch.tensor([0.0, 0.1, -0.1, 2.0, 2.1, 1.9]).view(1, 1, 1, 6)
    heart = torch.tensor([0.1, 0.2, 0.6, 0.7, 0.55, 0.9])
    probs = torch.stack([1 - heart, heart]).view(1, 2, 1, 6)
    options = {"near": 3.0, "alike": 0.5, "close": 1.0}
    for strength in (0.2, 1.0):
        weights = {"appearance": strength, "smoothness": strength / 2, **options}
        exact = exact_marginals(probs, image, weights)
        answer = mean_field(probs, image, steps=50, radius=5, **weights)[0, 1, 0]
        assert torch.allclose(answer, exact, atol=0.02 if strength == 0.2 else 0.1)
        assert torch.equal(answer > 0.5, exact > 0.5)
    assert (answer > 0.5).tolist() == [False, False, False, True, True, True]


def test_a_window_leaves_out_the_pairs_beyond_it_and_nothing_else():
    probs, images = problem(5, 6)
    answer = mean_field(probs, images, steps=2, radius=2, **WEIGHTS)
    assert torch.allclose(answer[0], by_hand(probs[0], images[0], 2, radius=2), atol=1e-5)
    assert not torch.allclose(answer[0], by_hand(probs[0], images[0], 2), atol=1e-3)


def test_without_weights_or_steps_the_network_has_the_last_word():
    probs, images = problem(8, 8)
    for off in ({"appearance": 0, "smoothness": 0}, {"steps": 0}):
        assert torch.allclose(mean_field(probs, images, **off), probs, atol=1e-5)


def test_certain_probabilities_stay_finite():
    _, images = problem(8, 8, classes=2)
    probs = torch.zeros(2, 2, 8, 8)
    probs[:, 0] = 1
    answer = mean_field(probs, images)
    assert torch.isfinite(answer).all()
    assert torch.allclose(answer.sum(1), torch.ones(2, 8, 8), atol=1e-5)


def test_the_border_does_not_wrap_around():
    ramp = torch.arange(1.0, 13.0).reshape(1, 1, 3, 4)
    moved = dict(zip(offsets(1, 2), shifted(ramp, 1), strict=True))
    assert torch.equal(moved[0, 1][0, 0, :, -1], torch.zeros(3))
    assert torch.equal(moved[0, 1][0, 0, :, :-1], ramp[0, 0, :, 1:])
    assert torch.equal(moved[-1, 0][0, 0, 1:], ramp[0, 0, :-1])
    assert len(moved) == 8


def test_weights_are_symmetric_and_an_outsider_gets_little_mail():
    _, images = problem(6, 6, channels=1, batch=1)
    images[0, 0, 3, 3] = 50.0
    options = {"near": 2.0, "alike": 1.0, "close": 1.0, "radius": 5}
    kernel = affinity(images, appearance=1.0, smoothness=0.0, **options)
    matrix = torch.zeros(36, 36)
    for (down, right), weight in zip(offsets(5, 2), kernel[:, 0, 0], strict=True):
        for i in range(36):
            row, column = i // 6 + down, i % 6 + right
            if 0 <= row < 6 and 0 <= column < 6:
                matrix[i, 6 * row + column] = weight[i // 6, i % 6]
            else:
                assert weight[i // 6, i % 6] == 0
    assert torch.allclose(matrix, matrix.T, atol=1e-6)
    sums = matrix.sum(1)
    assert sums[3 * 6 + 3] < 0.01
    others = torch.cat([sums[:21], sums[22:]])
    assert others.min() > 0.3 and others.max() < 1.5


def edge():
    """An image with an edge at column 16, and a ragged answer around it."""
    generator = torch.Generator().manual_seed(0)
    truth = (torch.arange(32) >= 16).long().expand(32, 32)
    image = 2.0 * truth + 0.1 * torch.randn(32, 32, generator=generator)
    border = 16 + torch.randint(-3, 4, (32, 1), generator=generator)
    ragged = (torch.arange(32) >= border).float()
    foreground = 0.3 + 0.4 * ragged
    return torch.stack([1 - foreground, foreground])[None], image[None, None], truth[None]


def wrong(probs, truth):
    return (probs.argmax(1) != truth).float().mean()


def test_a_noisy_boundary_snaps_to_the_edge_of_the_image():
    probs, image, truth = edge()
    assert wrong(probs, truth) > 0.03
    assert wrong(mean_field(probs, image), truth) < 0.1 * wrong(probs, truth)


def test_it_is_the_appearance_kernel_that_knows_the_edge():
    probs, image, truth = edge()
    smooth = mean_field(probs, image, appearance=0, smoothness=3.0)
    assert wrong(smooth, truth) > 0.25 * wrong(probs, truth)
    blank = mean_field(probs, torch.zeros_like(image))
    assert wrong(blank, truth) > 0.25 * wrong(probs, truth)


def test_smoothness_removes_a_lone_pixel_that_appearance_would_keep():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 9.0
    probs = torch.full((1, 2, 9, 9), 0.7)
    probs[:, 1] = 0.3
    probs[0, :, 4, 4] = torch.tensor([0.3, 0.7])
    assert mean_field(probs, image, smoothness=0.0).argmax(1)[0, 4, 4] == 1
    assert mean_field(probs, image, appearance=0.0, smoothness=2.0).argmax(1)[0, 4, 4] == 0


def test_a_fixed_point_is_reached():
    probs, images = problem(16, 16)
    early, late = (mean_field(probs, images, steps=n) for n in (80, 81))
    assert (early - late).abs().max() < 1e-4


def test_no_gradient_is_kept():
    probs, images = problem(6, 6)
    assert not mean_field(probs.requires_grad_(), images).requires_grad


def test_shapes_that_do_not_agree():
    probs, images = problem(8, 8)
    for bad in (images[:, :, :4], images[:1]):
        with pytest.raises(ValueError, match="must agree in B"):
            mean_field(probs, bad)
