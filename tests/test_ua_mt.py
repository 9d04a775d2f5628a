"""UA-MT: uncertain pixels count for nothing, and certain ones for all."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.consistency.ua_mt import UAMT, entropy, masked_mse
from lsseg_edu.train import Batch, Part, fit


def net(dims=2, classes=4, p=0.3):
    torch.manual_seed(0)
    conv, drop = (nn.Conv2d, nn.Dropout2d) if dims == 2 else (nn.Conv3d, nn.Dropout3d)
    return nn.Sequential(conv(1, 6, 3, padding=1), drop(p), conv(6, classes, 1))


def batch(*size, progress=1.0):
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, *size), torch.randint(0, 4, (2, *size))
    index = torch.arange(2)
    labelled = Part(images, labels, index, index, {})
    return Batch(labelled, Part(images + 1, None, index, index, {}), progress)


class Coin(nn.Module):
    """Sure of class 0 or of class 1, at random."""

    def forward(self, images):
        first = 200 * (torch.rand_like(images) < 0.5).float() - 100
        return torch.cat([first, -first, torch.full_like(first, -100)], 1)


def test_entropy_is_that_of_scipy_and_ends_at_ln_k():
    probs = torch.randn(2, 4, 5, 5).softmax(1)
    expected = stats.entropy(probs.double().numpy(), axis=1)
    assert np.allclose(entropy(probs)[:, 0], expected, atol=1e-5)
    assert entropy(torch.full((1, 4, 1, 1), 0.25)).item() == pytest.approx(math.log(4))
    assert entropy(torch.eye(4).view(4, 4, 1, 1)).abs().max() == 0


def test_threshold_climbs_from_three_quarters_of_ln_k_to_all_of_it():
    method = UAMT(net())
    start = 0.75 + 0.25 * math.exp(-5)
    assert method.threshold(0.0, 4) == pytest.approx(start * math.log(4))
    assert method.threshold(0.5, 4) == pytest.approx(
        (0.75 + 0.25 * sigmoid_rampup(0.5, 1.0)) * math.log(4)
    )
    assert method.threshold(1.0, 4) == pytest.approx(math.log(4))
    assert method.threshold(0.0, 4) > math.log(2)  # two equally likely classes of four: still in
    assert method.threshold(1.0, 2) == pytest.approx(math.log(2))


def test_masked_mean_divides_by_the_masks_own_sum():
    p, q = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    mask = torch.rand(2, 1, 4, 4) < 0.4
    pixels = [(b, i, j) for b in range(2) for i in range(4) for j in range(4) if mask[b, 0, i, j]]
    by_hand = sum(
        float((p[b, k, i, j] - q[b, k, i, j]) ** 2) for b, i, j in pixels for k in range(3)
    )
    assert masked_mse(p, q, mask).item() == pytest.approx(by_hand / (3 * len(pixels)), rel=1e-5)
    assert torch.allclose(masked_mse(p, q, mask | True), (p - q).square().mean())


def test_an_empty_mask_gives_zero_and_a_zero_gradient():
    p = torch.rand(1, 3, 4, 4, requires_grad=True)
    loss = masked_mse(p, torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and p.grad.abs().max() == 0


def test_uncertainty_is_the_entropy_of_the_mean_not_the_mean_of_entropies():
    method = UAMT(net(), passes=8)
    method.teacher = Coin()
    found = method.uncertainty(torch.zeros(1, 1, 40, 40))
    assert found.shape == (1, 1, 40, 40)
    heads = torch.arange(9) / 8  # how many of eight sure answers say class 0
    possible = entropy(torch.stack([heads, 1 - heads], 1)[:, :, None])[:, 0, 0]
    assert (found.flatten()[:, None] - possible).abs().min(1).values.max() < 1e-4
    assert found.mean() > 0.5


def test_only_pixels_below_the_threshold_are_learnt_from():
    method, b = UAMT(net()), batch(8, 8, progress=0.0)
    unsure = torch.zeros(2, 1, 8, 8)
    unsure[..., :3] = math.log(4) * 0.9
    unsure[..., 3:5] = math.log(4) * 0.7
    method.uncertainty = lambda images: unsure
    seen = []
    method.net.register_forward_hook(lambda m, x, out: seen.append(out))
    loss = method.consistency(b)
    used = torch.autograd.grad(loss, seen[0])[0].abs().sum(1) > 0
    assert not used[..., :3].any() and used[..., 3:].all()


def test_consistency_is_the_masked_mean_of_the_paper():
    method, b = UAMT(net(p=1e-9), noise=0.0), batch(8, 8, progress=0.3)
    with torch.no_grad():
        method.net[2].weight += 0.7 * torch.randn_like(method.net[2].weight)
    unsure = torch.rand(2, 1, 8, 8) * math.log(4)
    method.uncertainty = lambda images: unsure
    p, q = (n(b.unlabelled.images).softmax(1).detach() for n in (method.net, method.teacher))
    sure = (unsure < method.threshold(0.3, 4)).squeeze(1)
    by_hand = (p - q).square().sum(1)[sure].sum() / (4 * sure.sum())
    assert 0 < sure.float().mean() < 1
    assert torch.allclose(method.consistency(b), by_hand, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_on_for_uncertainty_off_for_the_target(training):
    method, calls = UAMT(net(), passes=3, noise=0.5).train(training), []
    method.teacher.register_forward_pre_hook(lambda m, x: calls.append((m.training, x[0])))
    method.consistency(batch(8, 8))
    (first, target), (second, copies) = calls
    assert (first, second) == (False, True)
    assert len(target) == 2 and len(copies) == 3 * 2
    assert (copies[:2] - copies[2:4]).std() == pytest.approx(0.5 * math.sqrt(2), rel=0.3)
    assert all(m.training == training for m in method.teacher.modules())


@pytest.mark.parametrize("size", [(12, 12), (6, 8, 8)])
def test_the_gradient_is_the_students_and_finite(size):
    method = UAMT(net(len(size)))
    sum(method.loss(batch(*size)).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.net.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())


def test_a_network_without_dropout_is_refused():
    with pytest.raises(ValueError, match="build it with dropout"):
        UAMT(nn.Conv2d(1, 3, 1))
    with pytest.raises(ValueError, match="has none"):
        UAMT(net(p=0.0))


def test_trains_on_a_task(task, budget):
    fitted = fit(UAMT.for_task(task), task, budget, progress=False)
    assert set(fitted.history) == {"supervised", "consistency"}
    probs = fitted.predict(task.test.images)
    assert torch.allclose(probs.sum(1), torch.ones(()), atol=1e-4)
    assert torch.equal(probs, fitted.predict(task.test.images))  # no dropout in the answer
