"""Augmentation: images and labels move together, exactly as the grid says."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from lsseg_edu.augment import (
    Augment,
    affine_grid,
    bias_field,
    blur,
    contrast,
    crop,
    elastic_displacement,
    flip,
    gamma,
    noise,
    random_affine,
    smooth_field,
    warp,
    warp_labels,
)
from lsseg_edu.augment.smooth import bspline_matrix
from lsseg_edu.data import IGNORE

INTENSITY = (gamma, contrast, bias_field, noise, blur)
MOVES_ONLY = Augment(bias=0, gamma=0, contrast=0, blur=0, noise=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(size=(40, 56), count=6, seed=0):
    images = torch.randn(count, 1, *size, generator=seeded(seed))
    labels = torch.randint(0, 4, (count, *size), generator=seeded(seed + 1))
    return images, labels


def disc(size):
    axes = torch.meshgrid(*(torch.linspace(-1, 1, s) for s in size), indexing="ij")
    return (sum((a - 0.2) ** 2 for a in axes) < 0.25).long()[None].repeat(4, *[1] * len(size))


def places(grid):
    """Pixel coordinates of a grid, axis by axis, as SciPy wants them."""
    size = grid.shape[1:-1]
    return [((grid[0, ..., -1 - i] + 1) * s / 2 - 0.5).numpy() for i, s in enumerate(size)]


@pytest.mark.parametrize("size", [(40, 56), (12, 20, 16)])
def test_warp_reads_where_the_grid_says(size):
    images, labels = batch(size, count=1)
    grid = MOVES_ONLY.grid(images, seeded())
    image = map_coordinates(images[0, 0].numpy(), places(grid), order=1, mode="nearest")
    label = map_coordinates(labels[0].numpy(), places(grid), order=0, mode="nearest")
    assert np.allclose(warp(images, grid)[0, 0], image, atol=1e-4)
    assert (warp_labels(labels, grid)[0].numpy() == label).mean() > 0.999


@pytest.mark.parametrize("size", [(48, 64), (16, 24, 20)])
def test_labels_follow_images(size):
    labels = disc(size)
    images, moved = MOVES_ONLY(labels[:, None].float(), labels, seeded())
    assert (moved != labels).float().mean() > 0.02
    assert ((images[:, 0] > 0.5) == (moved == 1)).float().mean() > 0.97
    assert (images[:, 0] == moved)[(images[:, 0] == 0) | (images[:, 0] == 1)].all()


def test_quarter_turn_is_exact():
    images, labels = batch((32, 32))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0]]).repeat(len(images), 1, 1)
    grid = affine_grid(turn, (32, 32))
    assert torch.allclose(warp(images, grid), images.rot90(1, (2, 3)), atol=1e-4)
    assert torch.equal(warp_labels(labels, grid), labels.rot90(1, (1, 2)))


def test_rotation_keeps_lengths_in_oblong_images():
    images = torch.zeros(1, 1, 20, 60)
    maps = random_affine(images, seeded(3), rotation=80)[0, :, :2]
    half = torch.tensor([30.0, 10.0])
    pixels = maps * half[:, None] / half
    assert not torch.allclose(pixels, torch.eye(2), atol=0.1)
    assert torch.allclose(pixels @ pixels.T, torch.eye(2), atol=1e-5)


def test_affine_parameters_stay_in_their_bounds():
    images = torch.zeros(500, 1, 8, 8)
    maps = random_affine(images, seeded(), rotation=30, scale=0.25, shift=0.1)
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    factor = maps[:, :, :2].det().sqrt().log()
    for values, bound in ((angle, 30), (factor, 0.25), (maps[:, :, 2], 2 * 0.1)):
        assert 0.9 * bound < values.abs().max() <= bound * 1.001


def test_nothing_changes_at_zero_strength():
    images, labels = batch()
    same, kept = Augment.none()(images, labels, seeded())
    assert torch.equal(same, images) and torch.equal(kept, labels)
    grid = Augment.none().grid(images, seeded())
    assert torch.allclose(warp(images, grid), images, atol=1e-4)
    assert torch.equal(warp_labels(labels, grid), labels)


@pytest.mark.parametrize("preset", [Augment.strong(), Augment.weak()])
def test_the_generator_decides_everything(preset):
    images, labels = batch()
    state = torch.get_rng_state()
    first, again, other = (preset(images, labels, seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(images, batch()[0]) and torch.equal(labels, batch()[1])


@pytest.mark.parametrize("change", [MOVES_ONLY, *INTENSITY])
def test_each_image_draws_its_own_parameters(change):
    images = batch(count=1)[0].repeat(2, 1, 1, 1)
    labels = torch.zeros(2, *images.shape[2:]).long()
    out = change(images, labels, seeded())[0] if change is MOVES_ONLY else change(images, seeded())
    assert not torch.allclose(out[0], out[1], atol=1e-3)


def test_any_integer_survives_and_maps_move_together():
    images, labels = batch()
    labels = labels * (2**40 + 1)
    labels[:, :10] = IGNORE
    maps = torch.stack([labels, labels + 1, -labels], dim=1)
    out = MOVES_ONLY(images, maps, seeded())[1]
    assert set(out[:, 0].unique().tolist()) <= set(labels.unique().tolist())
    assert (out == IGNORE).any() and out.dtype == labels.dtype
    assert torch.equal(out[:, 1], out[:, 0] + 1) and torch.equal(out[:, 2], -out[:, 0])
    assert torch.equal(out[:, 0], MOVES_ONLY(images, labels, seeded())[1])


def test_the_recipe_interpolates_once():
    images, labels = batch()
    grid = MOVES_ONLY.grid(images, seeded())
    assert torch.equal(MOVES_ONLY(images, labels, seeded())[0], warp(images, grid))


@pytest.mark.parametrize("size", [(40, 56), (10, 14, 12)])
def test_gradients_pass_to_images_and_grid(size):
    images = batch(size, count=2)[0].requires_grad_()
    grid = MOVES_ONLY.grid(images, seeded()).requires_grad_()
    Augment.strong().repaint(warp(images, grid), seeded()).square().sum().backward()
    for tensor in (images, grid):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


def test_elastic_motion_is_smooth_and_rarely_folds():
    images = torch.zeros(50, 1, 64, 64)
    move = elastic_displacement(images, seeded(), strength=0.03, cells=4) * 32
    assert 0.5 < move.std() < 0.03 * 64
    down, right = move.diff(dim=1)[:, :, 1:], move.diff(dim=2)[:, 1:]
    folds = (1 + right[..., 0]) * (1 + down[..., 1]) - right[..., 1] * down[..., 0] <= 0
    assert folds.float().mean() < 1e-3


def test_bspline_reproduces_straight_lines():
    basis = bspline_matrix(30, 5)
    assert torch.allclose(basis.sum(1), torch.ones(30), atol=1e-6)
    line = basis @ torch.arange(-1.0, 7)
    assert torch.allclose(line, (torch.arange(30) + 0.5) * 5 / 30, atol=1e-5)


def test_bias_field_is_smooth_positive_and_keeps_the_background():
    images = torch.ones(8, 2, 64, 64)
    images[..., 0, 0] = -3
    out = bias_field(images, seeded(), 0.5)
    field = (out[..., 1:, 1:] + 3) / 4
    assert (field > 0).all() and field.std() > 0.05
    assert field.diff(dim=-1).abs().max() < 0.1 and field.diff(dim=-2).abs().max() < 0.1
    assert (out[..., 0, 0] == -3).all()
    assert torch.equal(out[:, 0], out[:, 1])


def test_gamma_keeps_order_and_range():
    images = batch()[0]
    out = gamma(images, seeded(), 0.8)
    order = images.flatten(1).argsort(1)
    assert (out.flatten(1).gather(1, order).diff(dim=1) >= -1e-4).all()
    assert torch.allclose(out.amax((1, 2, 3)), images.amax((1, 2, 3)), atol=1e-4)
    assert torch.allclose(out.amin((1, 2, 3)), images.amin((1, 2, 3)), atol=1e-2)
    assert (out - images).abs().max() > 0.1


def test_contrast_is_a_straight_line():
    images = batch()[0]
    out = contrast(images, seeded(), 0.3)
    for x, y in zip(images.flatten(1), out.flatten(1), strict=True):
        assert torch.corrcoef(torch.stack([x, y]))[0, 1] > 0.9999
        assert 0.74 <= y.std() / x.std() <= 1.35


def test_noise_has_the_level_it_says():
    images = torch.zeros(2000, 1, 16, 16)
    levels = noise(images, seeded(), 0.2).flatten(1).std(1)
    assert levels.max() < 0.25 and abs(levels.mean() - 0.1) < 0.01


def test_blur_is_gaussian(monkeypatch):
    images = batch((32, 40))[0]
    monkeypatch.setattr("lsseg_edu.augment.intensity.uniform", lambda x, s, g: torch.full((6,), s))
    out = blur(images, seeded(), 1.5)
    expected = gaussian_filter(images[0, 0].double().numpy(), 1.5, truncate=8)
    assert np.allclose(out[0, 0, 10:-10, 10:-10], expected[10:-10, 10:-10], atol=1e-3)
    flat = torch.full((6, 1, 8, 8, 8), 2.0)
    assert torch.allclose(blur(flat, seeded(), 1.5), flat)


def test_flip_mirrors_images_and_labels_alike():
    images, labels = batch(count=40)
    out, moved = flip(images, labels, seeded(), axis=-1)
    mirrored = (out != images).flatten(1).any(1)
    assert 5 < mirrored.sum() < 35
    assert torch.equal(out[mirrored], images[mirrored].flip(-1))
    assert torch.equal(moved[mirrored], labels[mirrored].flip(-1))
    assert torch.equal(moved[~mirrored], labels[~mirrored])


@pytest.mark.parametrize(("size", "window"), [((20, 30), (7, 30)), ((8, 9, 10), (8, 4, 5))])
def test_crop_takes_one_window_of_both(size, window):
    images = torch.arange(50.0 * np.prod(size)).view(50, 1, *size)
    labels = images[:, 0].long()
    out, moved = crop(images, torch.stack([labels, labels + 1], 1), window, seeded())
    assert out.shape[2:] == window
    assert torch.equal(out[:, 0].long(), moved[:, 0]) and torch.equal(moved[:, 0] + 1, moved[:, 1])
    for axis in range(1, len(size) + 1):
        step = moved[:, 0].diff(dim=axis)
        assert (step == step.flatten()[0]).all()
    assert len((moved[:, 0].flatten(1)[:, 0] - labels.flatten(1)[:, 0]).unique()) > 2


def test_strong_augmentation_survives_bfloat16_autocast():
    images, labels = batch()
    out, moved = Augment.strong()(images, labels, seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, same = Augment.strong()(images, labels, seeded())
    assert torch.allclose(mixed, out, atol=1e-4) and torch.equal(same, moved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_everything_stays_on_the_gpu():
    images, labels = (t.cuda() for t in batch())
    generator = torch.Generator("cuda").manual_seed(0)
    out, moved = Augment.strong()(images, labels, generator)
    assert out.is_cuda and moved.is_cuda and out.isfinite().all()
    out, moved = crop(*flip(out, moved, generator), (16, 16), generator)
    assert out.is_cuda and moved.is_cuda


def test_bad_input_is_refused_in_a_sentence():
    images, labels = batch()
    with pytest.raises(ValueError, match="must agree"):
        Augment.strong()(images, labels[:, 1:], seeded())
    with pytest.raises(ValueError, match="does not fit"):
        crop(images, labels, (100, 10), seeded())
    with pytest.raises(ValueError, match="The generator is on"):
        Augment.strong()(images.to("meta"), labels.to("meta"), seeded())


def test_smooth_field_follows_its_generator():
    images = torch.zeros(2, 1, 12, 16, 20)
    field = smooth_field(images, 3, 2, seeded())
    assert field.shape == (2, 3, 12, 16, 20)
    assert not torch.equal(field, smooth_field(images, 3, 2, seeded(1)))
