"""The phantoms: what they promise about shapes, truth, repeatability, scanners and the cache."""

import os
import warnings

import numpy as np
import pytest
import torch

from lsseg_edu.data import load
from lsseg_edu.data.phantoms import FEW, physics

VOLUMES = ("cardiac", "brain", "abdomen")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("LSSEG_EDU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def same(a, b) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("name", FEW)
def test_slices(name):
    cohort = load(name, subjects=4)
    n = len(cohort)
    assert cohort.images.shape == (n, cohort.channels, 64, 64)
    assert cohort.labels.shape == (n, 64, 64) and n >= 2 * 4
    assert cohort.labels.unique().tolist() == list(range(cohort.classes))
    assert torch.isfinite(cohort.images).all() and len(cohort.spacing) == 2
    assert set(cohort.extras["scanner"].tolist()) == {0}
    assert all(len(value) == n for value in cohort.extras.values())


@pytest.mark.parametrize("name", FEW)
def test_size_128_shows_every_class(name):
    cohort = load(name, size=128, subjects=2)
    assert cohort.images.shape[-2:] == (128, 128)
    assert cohort.labels.unique().tolist() == list(range(cohort.classes))


@pytest.mark.parametrize("name", VOLUMES)
def test_sizes_show_the_same_field_of_view(name):
    small, large = load(name, subjects=2), load(name, size=128, subjects=2)
    assert large.spacing[-1] == pytest.approx(small.spacing[-1] / 2)
    agree = (large.labels[:, ::2, ::2] == small.labels)[small.labels > 0].float().mean()
    assert agree > 0.8
    position = small.extras["position"]
    assert position.min() >= 0 and position.max() <= 1 and len(position.unique()) >= 6


@pytest.mark.parametrize("name", FEW)
def test_same_arguments_same_bytes_and_a_longer_cohort_begins_alike(name, cache):
    first = load(name, subjects=2)
    for file in cache.iterdir():
        file.unlink()
    assert same(first, load(name, subjects=2))
    longer = load(name, subjects=3)
    assert same(first, longer.of([0, 1]))
    assert not torch.equal(longer.of([0]).labels, load(name, subjects=2, seed=1).of([0]).labels)


@pytest.mark.parametrize("name", FEW)
def test_scanners_see_the_same_bodies_differently(name):
    a, b = load(name, subjects=2), load(name, subjects=2, scanner="B")
    both = load(name, subjects=2, scanner="AB")
    assert torch.equal(a.labels, b.labels) and torch.equal(a.labels, both.labels)
    assert (a.images - b.images).abs().mean() > 0.05
    assert same(both.of([0]), a.of([0])) and same(both.of([1]), b.of([1]))
    assert torch.equal(both.extras["scanner"], both.subjects % 2)


@pytest.mark.parametrize("name", FEW)
def test_images_tell_the_classes_apart_but_not_by_intensity_alone(name):
    cohort = load(name, subjects=3)
    grey = cohort.images.mean(1)
    foreground = cohort.labels > 0
    inside, outside = grey[foreground], grey[~foreground]
    low, high = np.quantile(inside, [0.1, 0.9])
    confused = ((outside > low) & (outside < high)).sum() / len(outside)
    assert inside.mean() != pytest.approx(float(outside.mean()), abs=0.1)
    assert confused > 0.02, "a threshold would do"


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(name):
    cohort = load(name, size=32, dims=3, subjects=2)
    assert cohort.dims == 3 and len(cohort.spacing) == 3
    assert cohort.images.shape[-2:] == (32, 32)
    assert cohort.labels.unique().tolist() == list(range(cohort.classes))
    between = (cohort.labels[:, 1:] == cohort.labels[:, :-1]).float().mean()
    assert between > 0.8, "neighbouring slices of a volume belong together"


def test_cardiac_frames_contract_and_rings_close():
    cohort = load("cardiac", subjects=8)
    cavity = (cohort.labels == 3).flatten(1).sum(1)
    frame = cohort.extras["frame"]
    assert cavity[frame == 1].sum() < 0.85 * cavity[frame == 0].sum()
    left = cohort.labels == 3
    touching = left[:, 1:] & (cohort.labels[:, :-1] < 2) | left[:, :-1] & (cohort.labels[:, 1:] < 2)
    assert touching.sum() < 0.02 * left.sum(), "myocardium surrounds the left ventricle"


def test_abdomen_keeps_left_and_right():
    cohort = load("abdomen", subjects=6)
    columns = torch.arange(64.0)
    for subject in range(6):
        labels = cohort.of([subject]).labels
        middle = {
            name: ((labels == k).sum((0, 1)) * columns).sum() / (labels == k).sum()
            for k, name in enumerate(cohort.names)
        }
        assert middle["liver"] < middle["spleen"]
        assert middle["right kidney"] < middle["aorta"] < middle["left kidney"]


def test_brain_layers_are_nested_and_bright_in_order():
    cohort = load("brain", subjects=6)
    means = [cohort.images[:, 0][cohort.labels == k].mean() for k in (1, 2, 3)]
    assert means[0] < means[1] < means[2]
    share = [(cohort.labels == k).float().mean() for k in range(4)]
    assert 0.02 < share[1] < share[3] < share[2] * 1.5 < share[0] * 1.5


def test_cache_round_trip_keeps_everything(cache, monkeypatch):
    first = load("cardiac", subjects=2)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("lsseg_edu.data.phantoms._make", None)
    again = load("cardiac", subjects=2)
    assert same(first, again) and first.extras.keys() == again.extras.keys()


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "garbage"])
def test_corrupt_cache_is_remade(cache, damage):
    first = load("cardiac", subjects=1)
    (file,) = cache.iterdir()
    data = bytearray(file.read_bytes())
    if damage == "altered":
        data[len(data) // 2] ^= 0xFF
    cut = {"truncated": data[: len(data) // 2], "altered": data, "empty": b"", "garbage": b"?" * 99}
    file.write_bytes(cut[damage])
    assert same(first, load("cardiac", subjects=1))
    assert len(list(cache.iterdir())) == 1 and file.read_bytes() != cut[damage]


def test_unwritable_cache_warns_in_a_sentence_and_works(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LSSEG_EDU_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="not cached") as caught:
        cohort = load("cardiac", subjects=1)
    assert len(caught) == 1 and len(cohort) > 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_cache_is_left_alone(cache):
    cache.mkdir(mode=0o500)
    with pytest.warns(UserWarning, match="not cached"):
        load("cardiac", subjects=1)
    assert not list(cache.iterdir())


def test_cache_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.delenv("LSSEG_EDU_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("cardiac", subjects=1)
    assert len(list((tmp_path / "lsseg_edu").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "lung"}, "There is no phantom 'lung'; there are cardiac, brain"),
        ({"name": "cardiac", "size": 65}, "no size 65 in 2D; it has 2D at 64, 128"),
        ({"name": "cardiac", "size": 128, "dims": 3}, "no size 128 in 3D"),
        ({"name": "nuclei", "dims": 3}, "in 3D"),
        ({"name": "cardiac", "dims": 4}, "in 4D"),
        ({"name": "cardiac", "scanner": "C"}, "no scanner 'C'"),
        ({"name": "cardiac", "subjects": 0}, "at least 1"),
    ],
)
def test_bad_arguments_say_what_there_is(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(**arguments)


def test_diffeomorphism_does_not_fold_and_is_the_same_for_slices_and_volumes():
    axes = [physics.axis(40)] * 3
    move = physics.diffeomorphism(axes, 0.08, 4, np.random.default_rng(0))
    gradients = np.stack(np.gradient(physics.lattice(*axes) + move, 2 / 40, axis=(1, 2, 3)), -1)
    jacobian = np.linalg.det(np.moveaxis(gradients, 0, -2))
    assert jacobian.min() > 0 and jacobian.std() > 0.05
    some = physics.diffeomorphism([axes[0][::10], *axes[1:]], 0.08, 4, np.random.default_rng(0))
    np.testing.assert_allclose(some, move[:, ::10], atol=1e-5)


def test_rician_noise_has_its_floor_and_its_mean():
    rng = np.random.default_rng(0)
    floor = physics.rician(np.zeros((400, 400), np.float32), 0.1, rng)
    assert floor.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)
    bright = physics.rician(np.ones((400, 400), np.float32), 0.1, rng)
    assert bright.std() == pytest.approx(0.1, rel=0.02)


def test_poisson_noise_grows_with_the_signal():
    rng = np.random.default_rng(0)
    counts = physics.poisson(np.full((300, 300), 4.0), 25, rng)
    assert counts.mean() == pytest.approx(4, rel=0.01)
    assert counts.var() == pytest.approx(4 / 25, rel=0.03)


def test_partial_volume_keeps_the_area():
    points = physics.lattice(physics.axis(64), physics.axis(64))
    disc = physics.ellipsoid(points, (0.1, -0.2), (0.4, 0.3))
    area = physics.coverage(disc, 2 / 64).mean() * 4
    assert area == pytest.approx(np.pi * 0.4 * 0.3, rel=0.02)
