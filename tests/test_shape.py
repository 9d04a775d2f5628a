"""Shape models: correspondence, Procrustes, modes; the autoencoder and what it is spoilt with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from sklearn.decomposition import PCA

from lsseg_edu.data import IGNORE
from lsseg_edu.evaluate import Rules
from lsseg_edu.semi.priors.shape import (
    ShapeAutoencoder,
    ShapeModel,
    ShapeNet,
    ShapeProjection,
    ShapeRestorer,
    corrupt,
    fill,
    landmarks,
    one_hot,
    pose,
    shape_set,
    shape_task,
    shape_training,
)
from lsseg_edu.train import Budget

ORGANS = (1, 2)


def rings(stretches, size=48, turn=0.3):
    """Elliptic rings (1) with a core (2), as long as told, turned and moved at random."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(size) - size / 2] * 2, indexing="ij"))
    masks = []
    for stretch in stretches:
        (y, x), angle = grid - rng.uniform(-3, 3, (2, 1, 1)), rng.uniform(-turn, turn)
        y, x = y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)
        q = np.hypot(y / stretch, x * stretch)
        masks.append((q < 14).astype(int) + (q < 8))
    return np.stack(masks)


MASKS = rings(np.linspace(0.8, 1.25, 14))
MODEL = ShapeModel.of(MASKS, ORGANS)


def test_procrustes_is_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 20)) + 1j * rng.normal(size=(2, 20))
    factor, move = pose(a, b)
    left = np.abs(factor * a + move - b) ** 2
    points = [np.stack([z.real, z.imag], 1) for z in (b, a)]
    # SciPy may mirror: of the two hands, take the better, as it does
    other, shift = pose(a.conj(), b)
    mirrored = np.abs(other * a.conj() + shift - b) ** 2
    *_, disparity = procrustes(*points)
    spread = (np.abs(b - b.mean()) ** 2).sum()
    assert min(left.sum(), mirrored.sum()) / spread == pytest.approx(disparity)


def test_pose_is_undone_exactly():
    shape = landmarks(MASKS[0], ORGANS)
    factor, move = pose(shape, 1.7 * np.exp(0.4j) * shape + 5 - 2j)
    assert factor == pytest.approx(1.7 * np.exp(0.4j))
    assert move == pytest.approx(5 - 2j)


def test_outlines_filled_are_the_mask():
    for mask in MASKS[::4]:
        again = fill(landmarks(mask, ORGANS), ORGANS, mask.shape)
        assert (again == mask).mean() > 0.985


def test_modes_are_the_principal_components():
    shapes = [landmarks(mask, ORGANS) for mask in MASKS]
    b = np.stack([coefficients(z) for z in shapes])
    assert np.allclose(b.std(0, ddof=1), MODEL.deviations, rtol=0.1, atol=1e-3)
    flat = np.stack([MODEL.shape(row).ravel() for row in b])
    reference = PCA().fit(np.hstack([flat.real, flat.imag])).singular_values_
    assert np.allclose(reference[:2] / np.sqrt(13), MODEL.deviations[:2], rtol=0.05)
    gram = np.einsum("iop,jop->ij", MODEL.modes.conj(), MODEL.modes).real
    assert np.allclose(gram, np.eye(len(gram)), atol=1e-8)


def coefficients(shape):
    from lsseg_edu.semi.priors.shape import align

    shape = align(shape, MODEL.mean)
    a, t = pose(shape, MODEL.mean)
    return MODEL.coefficients(a * shape + t)


def test_the_first_mode_is_what_varies():
    share = MODEL.deviations**2 / (MODEL.deviations**2).sum()
    assert share[0] > 0.7  # masks differ in stretch alone; pose is no mode
    low, high = (MODEL.draw([s * MODEL.deviations[0]], (48, 48)) > 0 for s in (-2, 2))

    def longer(mask):
        y, x = mask.nonzero()
        return np.ptp(y) / np.ptp(x)

    ratios = sorted((longer(low), longer(high)))
    assert ratios[0] < 0.8 and ratios[1] > 1.25


def test_coefficients_are_clipped():
    far = MODEL.shape([9 * MODEL.deviations[0]])
    for clip in (1.0, 3.0):
        b = coefficients(MODEL.project(far, clip))
        assert abs(b[0]) == pytest.approx(clip * MODEL.deviations[0], rel=0.15)
    inside = MODEL.shape([1.5 * MODEL.deviations[0]])
    assert np.abs(MODEL.project(inside) - inside).max() < 0.05 * np.abs(inside).max()


def test_projection_repairs_a_spoilt_mask():
    projection = ShapeProjection(torch.from_numpy(MASKS), 3)
    truth = torch.from_numpy(rings([1.1], turn=0.1))
    spoilt = truth.clone()
    spoilt[0, :4, :4] = 1  # an island
    spoilt[0, 22:26, 5:18] = 0  # and a notch down to the core
    fixed = projection.adjust(spoilt)
    rules = Rules.of(torch.from_numpy(MASKS), ("air", "ring", "core"))
    assert rules.broken(spoilt).any() and not rules.broken(fixed).any()
    assert (fixed == truth).float().mean() > 0.97
    assert torch.equal(projection(spoilt).argmax(1), fixed)


def test_organs_never_seen_together_are_left_with_those_that_were():
    projection = ShapeProjection(torch.from_numpy(MASKS), 4)
    assert list(projection.models) == [(1, 2)]
    ring = torch.from_numpy(MASKS[:1])
    more = ring.clone()
    more[0, :4, :4] = 3
    assert torch.equal(projection.adjust(more), projection.adjust(ring))
    assert not projection.adjust(ring.clamp(max=1)).any()  # a ring alone was never seen


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", [ShapeAutoencoder, ShapeRestorer])
def test_autoencoder_sums_up_and_restores(dims, kind):
    torch.manual_seed(0)
    net = kind(3, [16] * dims, code=5)
    masks = one_hot(torch.randint(3, (4, *[16] * dims)), 3)
    places = [] if kind is ShapeAutoencoder else [2] * dims
    assert net.encode(masks).shape == (4, 5, *places)
    assert net(masks).shape == masks.shape
    net(masks).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_a_shape_net_looks_at_no_image_and_learns(task):
    blind = replace(task, train=replace(task.train, images=task.train.images * 0))
    budget = Budget("smoke", steps=8, batch=2)
    fits = [shape_training(t, budget, code=8, progress=False) for t in (task, blind)]
    first, second = (f.history["reconstruction"] for f in fits)
    assert first == second and first[-1] < 0.8 * first[0]


def test_a_denoiser_sees_the_spoilt_and_is_asked_for_the_true(task):
    seen = []

    def spoil(labels, classes):
        return torch.full_like(labels, 2)

    def criterion(logits, labels):
        seen.append(labels)
        return logits.square().mean()

    net = ShapeAutoencoder(3, (32, 32))
    net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    labels = task.train.labels[task.labelled]
    part = type("Part", (), {"labels": labels})
    ShapeNet(net, spoil, criterion).loss(type("Batch", (), {"labelled": part}))
    assert (seen[0].argmax(1) == 2).all() and torch.equal(seen[1], labels)


def test_corruption_grows_with_its_strength(task):
    labels = task.train.labels[task.labelled].repeat(4, 1, 1)
    wrong = []
    for strength in (0.0, 0.5, 1.0, 2.0):
        generator = torch.Generator().manual_seed(0)
        spoilt = corrupt(labels, 3, strength, generator)
        assert spoilt.shape == labels.shape and spoilt.max() < 3
        wrong.append(float((spoilt != labels).float().mean()))
    assert wrong[0] == 0 and wrong == sorted(wrong) and 0.02 < wrong[2] < 0.3


def test_corruption_makes_what_segmenters_make():
    labels = torch.from_numpy(MASKS).repeat(4, 1, 1)
    rules = Rules.of(labels, ("air", "ring", "core"))
    broken = rules.broken(corrupt(labels, 3, generator=torch.Generator().manual_seed(0)))
    often = dict(zip(rules.sentences, broken.float().mean(0).tolist(), strict=True))
    kinds = ("ring: at most 1 piece(s)", "core: at most 0 hole(s)", "air does not touch core")
    assert all(often[kind] > 0.1 for kind in kinds)


def test_corruption_works_on_volumes(volumes):
    spoilt = corrupt(volumes.labels, 3, generator=torch.Generator().manual_seed(0))
    assert spoilt.shape == volumes.labels.shape and (spoilt != volumes.labels).any()


def test_few_masks_become_many(task):
    shapes = shape_set(task, copies=3)
    assert len(shapes) == 4 * len(task.labelled)
    assert torch.equal(shapes[: len(task.labelled)], task.train.labels[task.labelled])
    assert not torch.equal(shapes[: len(task.labelled)], shapes[len(task.labelled) :][:6])
    assert torch.equal(shapes, shape_set(task, copies=3))
    assert shapes.max() < 3  # no IGNORE


def test_bad_shapes_are_refused(task):
    holes = task.train.labels.clone()
    holes[:, 0, 0] = IGNORE
    partial = replace(task, train=replace(task.train, labels=holes))
    for refused in (shape_task, shape_set, lambda t: shape_training(t, progress=False)):
        with pytest.raises(ValueError, match="no complete training mask"):
            refused(partial)
    with pytest.raises(ValueError, match="no summary"):
        shape_training(task, code=5000, progress=False)
    with pytest.raises(ValueError, match="halved"):
        ShapeAutoencoder(3, (30, 30))
    net = ShapeAutoencoder(3, (32, 32))
    for other in (torch.zeros(1, 3, 64, 64), torch.zeros(1, 4, 32, 32)):
        with pytest.raises(ValueError, match="knows 3 classes"):
            net(other)
    with pytest.raises(ValueError, match="has a label 5"):
        one_hot(torch.full((1, 8, 8), 5), 3)
    with pytest.raises(ValueError, match="choose 0 or more"):
        corrupt(holes, 3, strength=-1.0)


def test_bad_shape_models_are_refused():
    masks = torch.from_numpy(MASKS)
    with pytest.raises(ValueError, match="two masks"):
        ShapeModel.of(MASKS[:1], ORGANS)
    with pytest.raises(ValueError, match="too many"):
        ShapeModel.of(MASKS, ORGANS, modes=14)
    with pytest.raises(ValueError, match="at least one"):
        ShapeProjection(masks[:0], 3)
    with pytest.raises(ValueError, match="slices"):
        ShapeProjection(masks[None], 3)
    with pytest.raises(ValueError, match="shown by 99"):
        ShapeProjection(masks, 3, least=99)
    with pytest.raises(ValueError, match="resample"):
        ShapeProjection(masks, 3).adjust(masks[:, :32])
