"""Motion: exponentials, folds, the registration network and its atlas."""

import pytest
import torch

from lsseg_edu import networks
from lsseg_edu.augment import compose, displaced, folded, integrate, jacobian, warp
from lsseg_edu.augment.smooth import smooth_field
from lsseg_edu.networks import Shape
from lsseg_edu.semi.priors import Atlas, Registration, alignment
from lsseg_edu.semi.priors.registration import bending_energy
from lsseg_edu.train import Budget, fit


def velocity(dims, strength=0.08, batch=2):
    images = torch.zeros(batch, 1, *[32] * dims)
    field = smooth_field(images, dims, 2, torch.Generator().manual_seed(0))
    return strength * field.movedim(1, -1)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_exponential_of_minus_v_undoes_that_of_v(dims):
    v = velocity(dims)
    there, back = integrate(v), integrate(-v)
    inner = (slice(None), *[slice(8, -8)] * dims)
    left = compose(there, back)[inner].abs().max()
    assert left < 0.02 * there[inner].abs().max()
    assert folded(there) == 0


def test_composing_is_warping_twice():
    images = smooth_field(torch.zeros(1, 1, 64, 64), 1, 3, torch.Generator().manual_seed(1))
    u, v = (0.5 * velocity(2, batch=1)[:, :, :].roll(k, 1) for k in (0, 5))
    u, v = (torch.nn.functional.interpolate(f.movedim(-1, 1), 64, mode="bilinear").movedim(1, -1)
            for f in (u, v))  # fmt: skip
    twice = warp(warp(images, displaced(u)), displaced(v))
    once = warp(images, displaced(compose(u, v)))
    assert (twice - once)[..., 8:-8, 8:-8].abs().max() < 0.01 * images.std()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_jacobian_of_a_scaling_is_its_volume(dims):
    still = displaced(torch.zeros(1, *[16] * dims, dims))
    assert torch.allclose(jacobian(0.2 * still), torch.tensor(1.2**dims), atol=1e-4)
    mirrored = still * torch.tensor([-2.0] + [0.0] * (dims - 1))
    assert folded(mirrored) == 1


def test_the_jacobian_sees_which_axis_is_which():
    x_by_y = torch.zeros(1, 8, 16, 2)
    x_by_y[..., 0] = displaced(torch.zeros(1, 8, 16, 2))[..., 1]  # a shear keeps the area
    assert torch.allclose(jacobian(x_by_y), torch.tensor(1.0), atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_affine_motion_does_not_bend(dims):
    still = displaced(torch.zeros(1, *[16] * dims, dims))
    assert bending_energy(still @ torch.randn(dims, dims) + 0.1) < 1e-6
    assert bending_energy(velocity(dims)) > 1e-4


def test_the_exact_motion_costs_least():
    fixed = smooth_field(torch.zeros(1, 1, 32, 32), 1, 6, torch.Generator().manual_seed(1))
    v = velocity(2, batch=1)
    moving = warp(fixed, displaced(integrate(-v)))
    costs = [
        alignment(warp(moving, displaced(integrate(s * v))), fixed, s * v, 0.0)["unlikeness"]
        for s in (0.0, 1.0, 2.0)
    ]
    assert costs[1] < 0.5 * min(costs[0], costs[2])


def test_contrast_does_not_matter_to_alignment():
    fixed = smooth_field(torch.zeros(1, 1, 32, 32), 1, 6, torch.Generator().manual_seed(1))
    v = torch.zeros(1, 32, 32, 2)
    plain, stronger = (alignment(f, fixed, v, 1.0)["unlikeness"] for f in (fixed, 3 * fixed))
    assert torch.allclose(plain, stronger, atol=1e-2)


def test_training_aligns():
    from lsseg_edu.data import Task, load

    task = Task.split(load("brain", subjects=34, size=64), labelled=1)
    method = Registration.for_task(task)
    before = method.atlas.match(task.valid.images)
    fitted = fit(method, task, Budget("t", steps=12, batch=4), progress=False)
    first, last = fitted.history["unlikeness"][0], fitted.history["unlikeness"][-1]
    assert last < first
    probs = fitted.predict(task.valid.images)
    assert torch.allclose(probs.sum(1), torch.ones(probs[:, 0].shape), atol=1e-4)
    assert torch.equal(before, method.atlas.match(task.valid.images))


def test_the_atlas_image_that_resembles_is_chosen():
    images = torch.randn(3, 1, 32, 32)
    atlas = Atlas(images, torch.zeros(3, 32, 32).long(), 2)
    assert atlas.match(images.flip(0) * 2 + 1).tolist() == [2, 1, 0]


def test_a_network_starts_nearly_still_and_depends_on_its_seed():
    net = networks.registration(Shape(1, 4, 3), seed=1)
    a, b = torch.randn(2, 1, 1, 32, 32, 32)
    assert net(a, b).shape == (1, 32, 32, 32, 3)
    assert net(a, b).abs().max() < 0.1
    again = networks.registration(Shape(1, 4, 3), seed=1)
    assert torch.equal(net(a, b), again(a, b))


def test_bad_atlases_are_refused():
    images, labels = torch.zeros(2, 1, 32, 32), torch.zeros(2, 32, 32).long()
    with pytest.raises(ValueError, match="at least one"):
        Atlas(images[:0], labels[:0], 2)
    with pytest.raises(ValueError, match="agree"):
        Atlas(images, labels[:, :16], 2)
    with pytest.raises(ValueError, match="resample"):
        Atlas(images, labels, 2).match(torch.zeros(1, 1, 64, 64))
