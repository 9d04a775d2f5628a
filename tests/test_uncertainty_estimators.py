"""Estimators of uncertainty: what is random in a pass, what is not, and what it learns."""

import math

import pytest
import torch
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.semi.consistency import Dihedral
from lsseg_edu.semi.uncertainty import (
    BayesByBackprop,
    Ensemble,
    Gaussian,
    KendallGal,
    MCBatchNorm,
    MCDropout,
    TestTimeAugmentation,
    calibrated_ensemble,
    deep_ensemble,
    ensemble,
    mean_entropy,
    mutual_information,
    predicted_variance,
    statistics_of,
    with_batchnorm,
)
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

FEW = Budget("smoke", steps=2, batch=4)
QUIET = {"progress": False, "device": "cpu"}


def net(dropout=0.3, outputs=3, dims=2, norm=False):
    torch.manual_seed(0)
    conv, drop = (nn.Conv2d, nn.Dropout) if dims == 2 else (nn.Conv3d, nn.Dropout3d)
    middle = nn.BatchNorm2d(8) if norm else nn.Identity()
    layers = [conv(1, 8, 3, padding=1), middle, nn.ReLU(), drop(dropout), conv(8, outputs, 1)]
    return nn.Sequential(*layers)


def batch(dims=2):
    torch.manual_seed(1)
    images, labels = torch.randn(2, 1, *[8] * dims), torch.randint(0, 3, (2, *[8] * dims))
    return Batch(Part(images, labels, torch.arange(2), torch.arange(2), {}), None, 0.5)


def pictures(n=3, size=8):
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(2))


ESTIMATORS = {
    "dropout": lambda: MCDropout(net()),
    "batch norm": lambda: MCBatchNorm(net(norm=True), pictures(10), batch=4),
    "augmentation": lambda: TestTimeAugmentation(net()),
    "bayes": lambda: BayesByBackprop(net(), pixels=100, sigma=0.1),
    "kendall-gal": lambda: KendallGal(net(outputs=6)),
}


@pytest.fixture(params=ESTIMATORS)
def method(request):
    return ESTIMATORS[request.param]()


# What all share


def test_passes_differ_repeat_and_average_to_the_prediction(method):
    x = pictures()
    state, modes = torch.get_rng_state(), [m.training for m in method.modules()]
    samples = method.samples(x)
    assert samples.shape == (method.passes, 3, 3, 8, 8)
    assert torch.allclose(samples.sum(2), torch.ones(method.passes, 3, 8, 8), atol=1e-5)
    assert (samples[0] - samples[1]).abs().max() > 1e-3
    assert torch.equal(samples, method.samples(x))
    assert not torch.equal(samples, method.samples(x, seed=1))
    assert torch.allclose(method.predict(x), samples.mean(0))
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in method.modules()]
    assert len(method.samples(x, passes=3)) == 3


def test_gradients_are_finite(method):
    terms = method.loss(batch())
    sum(terms.values()).backward()
    grads = [p.grad for p in method.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)
    assert any(g.abs().sum() > 0 for g in grads)


def test_no_passes(method):
    with pytest.raises(ValueError, match="0 passes give no answer: ask for at least 1"):
        method.samples(pictures(), passes=0)
    with pytest.raises(ValueError, match="-2 passes"):
        MCDropout(net(), passes=-2)


@pytest.mark.parametrize(
    "kind", [MCDropout, MCBatchNorm, TestTimeAugmentation, BayesByBackprop, KendallGal]
)
def test_trained_as_the_scoreboard_does(kind, task):
    fitted = fit(kind.for_task(task, seed=3, passes=2), task, FEW, **QUIET)
    assert fitted.predict(task.test.images).shape == (4, 3, 32, 32)


@pytest.mark.parametrize("kind", ["dropout", "bayes", "kendall-gal"])
def test_volumes(kind):
    make = {
        "dropout": lambda: MCDropout(net(dims=3)),
        "bayes": lambda: BayesByBackprop(net(dims=3), 100, sigma=0.1),
        "kendall-gal": lambda: KendallGal(net(outputs=6, dims=3)),
    }[kind]
    x = torch.randn(2, 1, 4, 6, 8)
    samples = make().samples(x, passes=2)
    assert samples.shape == (2, 2, 3, 4, 6, 8)
    assert not torch.equal(*samples)
    assert sum(make().loss(batch(dims=3)).values()).isfinite()


# MC dropout


def test_only_the_dropout_is_random():
    method, x = MCDropout(net(norm=True)), pictures()
    before = method.net[1].running_mean.clone()
    method.net[3].p = 0.0  # built with dropout, which is then taken out
    method.net[1].train()
    first, second = method.samples(x, passes=2)
    assert torch.equal(first, second)
    assert torch.equal(method.net[1].running_mean, before)  # batch norm stayed in eval mode
    method.eval()
    assert torch.equal(method.net(x).softmax(1), method.net(x).softmax(1))
    assert torch.allclose(first, method.net(x).softmax(1))


def test_without_dropout():
    for kind, n in ((MCDropout, net(0.0)), (KendallGal, net(0.0, 6))):
        with pytest.raises(ValueError, match="this network has none: build it with some"):
            kind(n)


# MC batch norm


def test_statistics_are_those_of_the_training_batch():
    n, x, mini = net(norm=True).eval(), pictures(), 3 + 2 * pictures(4)
    before = {k: v.clone() for k, v in n.state_dict().items()}
    with torch.no_grad(), statistics_of(n, mini):
        hidden = n[0](mini)
        mean, var = hidden.mean((0, 2, 3)), hidden.transpose(0, 1).flatten(1).var(1)
        assert torch.allclose(n[1].running_mean, mean, atol=1e-5)
        assert torch.allclose(n[1].running_var, var, atol=1e-5)
        by_hand = (n[0](x) - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()
        assert torch.allclose(n(x), n[4](by_hand.relu()), atol=1e-4)
        assert not torch.allclose(n[1].running_mean, before["1.running_mean"])
    assert all(torch.equal(v, before[k]) for k, v in n.state_dict().items())
    assert n[1].momentum == 0.1 and not n[1].training


def test_passes_leave_the_running_statistics_alone_and_see_training_images_only():
    method = MCBatchNorm(net(norm=True), torch.full((5, 1, 8, 8), 7.0), batch=3, passes=2)
    before, seen = method.net[1].running_mean.clone(), []
    method.net[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    method.samples(pictures())
    assert torch.equal(method.net[1].running_mean, before)
    assert method.net[1].num_batches_tracked == 0
    assert [len(x) for x in seen] == [3, 3, 3, 3]  # mini-batch, test images, and again
    assert float(seen[0].mean()) == pytest.approx(7.0, abs=1.0)  # augmented constants
    assert torch.equal(seen[1], pictures()) and torch.equal(seen[3], pictures())
    assert not torch.equal(seen[0], seen[2])


def test_batchnorm_replaces_instance_norm_and_nothing_else(task):
    plain = networks.unet(task, seed=4)
    normed = with_batchnorm(networks.unet(task, seed=4))
    kinds = [type(m) for m in normed.modules()]
    assert kinds.count(nn.BatchNorm2d) == [type(m) for m in plain.modules()].count(
        nn.InstanceNorm2d
    )
    assert nn.InstanceNorm2d not in kinds
    assert torch.equal(plain.final_conv.weight, normed.final_conv.weight)
    volume = with_batchnorm(nn.Sequential(nn.InstanceNorm3d(2)))
    assert isinstance(volume[0], nn.BatchNorm3d)


def test_without_batchnorm():
    with pytest.raises(ValueError, match="no batch norm: give it some"):
        MCBatchNorm(net(), pictures())


# Test-time augmentation


def test_inverse_is_exact_for_an_equivariant_network():
    pixelwise = nn.Conv2d(1, 3, 1)  # answers each pixel by its own value
    method = TestTimeAugmentation(pixelwise, noise=0.0, draw=Dihedral.draw)
    x = pictures()
    samples = method.samples(x, passes=6)
    assert torch.allclose(samples, pixelwise(x).softmax(1).expand_as(samples), atol=1e-6)
    assert mutual_information(samples).max() < 1e-5


def test_the_network_sees_moved_and_noisy_images():
    seen = []
    for noise in (0.0, 0.5):
        method = TestTimeAugmentation(net(), noise=noise, draw=Dihedral.draw)
        method.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        method.samples(pictures(), passes=1)
    assert not torch.equal(seen[0], pictures())
    assert torch.equal(seen[0].flatten(1).sort().values, pictures().flatten(1).sort().values)
    assert float((seen[1] - seen[0]).std()) == pytest.approx(0.5, rel=0.15)


def test_default_motions_are_those_of_the_training():
    strong, poses = Augment.strong(), TestTimeAugmentation(net()).draw.keywords
    assert poses == {k: getattr(strong, k) for k in ("rotation", "scale", "shift")}


# Deep ensembles


def test_members_differ_in_weights_and_batches(task, monkeypatch):
    starts, drawn = [], []

    def spied(method, *args, **kwargs):
        starts.append(method.net.final_conv.weight.detach().clone())
        monkeypatch.setattr(method, "loss", watch(method.loss))
        return fit(method, *args, **kwargs)

    def watch(loss):
        def seen(b):
            drawn.append(b.labelled.images.clone())
            return loss(b)

        return seen

    monkeypatch.setattr(ensemble, "fit", spied)
    fitted = deep_ensemble(task, Budget("smoke", 1, batch=4), seed=5, members=2, **QUIET)
    assert not torch.equal(*starts) and not torch.equal(*drawn)
    assert torch.equal(starts[0], networks.unet(task, seed=5).final_conv.weight)  # the baseline
    assert set(fitted.history) == {"supervised 0", "supervised 1"}
    samples = fitted.method.samples(task.test.images)
    assert not torch.allclose(*samples, atol=1e-4)
    assert torch.allclose(fitted.predict(task.test.images), samples.mean(0), atol=1e-6)
    assert torch.equal(fitted.method.samples(task.test.images, passes=1)[0], samples[0])


def test_first_member_is_the_baseline(task):
    both = deep_ensemble(task, FEW, seed=1, members=2, **QUIET)
    alone = fit(Supervised.for_task(task, 1), task, FEW, 1, **QUIET)
    mine, its = both.method.net[0].parameters(), alone.method.parameters()
    assert all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))


def test_lonely_members(task):
    for make in (deep_ensemble, calibrated_ensemble):
        with pytest.raises(ValueError, match="An ensemble of 1 cannot disagree"):
            make(task, FEW, members=1, **QUIET)
    two = Ensemble([Supervised(net()), Supervised(net())])
    with pytest.raises(ValueError, match="3 passes asked of 2 members"):
        two.samples(pictures(), passes=3)
    with pytest.raises(NotImplementedError, match="one by one"):
        two.loss(batch())


def test_dice_alone_trains_batch_normed_members(task):
    fitted = calibrated_ensemble(task, FEW, members=2, **QUIET)
    for member in fitted.method.net:
        assert member.criterion is losses.dice
        assert any(isinstance(m, nn.BatchNorm2d) for m in member.modules())
    assert fitted.predict(task.test.images).shape == (4, 3, 32, 32)


# Bayes by backprop


def test_kl_is_that_of_torch():
    method = BayesByBackprop(net(), pixels=100, sigma=0.05, prior=0.2)
    expected = 0.0
    for layer in (method.net[0], method.net[4]):
        gaussian = layer.parametrizations.weight[0]
        with torch.no_grad():
            gaussian.rho += torch.randn_like(gaussian.rho)
        mean = layer.parametrizations.weight.original
        q = torch.distributions.Normal(mean, gaussian.sigma)
        p = torch.distributions.Normal(0.0, 0.2)
        expected += torch.distributions.kl_divergence(q, p).sum()
    assert method.kl().item() == pytest.approx(expected.item(), rel=1e-5)
    terms = method.loss(batch())
    assert terms["kl"].item() == pytest.approx(expected.item() / 100, rel=1e-5)


def test_a_draw_has_the_mean_and_deviation_it_says():
    layer = BayesByBackprop(net(), 100, sigma=0.3).net[4]
    layer.eval()
    mean = layer.weight.clone()
    layer.train()
    draws = torch.stack([layer.weight.detach() for _ in range(3000)])
    assert torch.allclose(draws.mean(0), mean, atol=0.03)
    assert torch.allclose(draws.std(0), torch.full_like(mean, 0.3), atol=0.02)


def test_without_deviation_it_is_the_mean_network():
    plain, x = net(0.0), pictures()
    method = BayesByBackprop(net(0.0), 100, sigma=1e-6)
    samples = method.samples(x, passes=3)
    assert torch.allclose(samples, plain(x).softmax(1).expand_as(samples), atol=1e-4)
    method.eval()
    assert torch.allclose(method.net(x), plain(x))


def test_the_kl_alone_leads_to_the_prior():
    method = BayesByBackprop(net(), 1, sigma=0.02, prior=0.1)
    optimiser = torch.optim.Adam(method.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        method.kl().backward()
        optimiser.step()
    sigmas = [m.sigma for m in method.modules() if isinstance(m, Gaussian)]
    assert all(torch.allclose(s, torch.full_like(s, 0.1), atol=0.01) for s in sigmas)
    assert method.kl() < 1.0


def test_gaussians_need_room():
    with pytest.raises(ValueError, match="must be positive, not 0, 0.1 and 5"):
        BayesByBackprop(net(), 5, sigma=0)
    with pytest.raises(ValueError, match="no convolution"):
        BayesByBackprop(nn.Sequential(nn.ReLU()), 5)


# Kendall and Gal


def test_loss_is_the_mean_of_noisy_softmaxes_by_hand():
    method = KendallGal(net(outputs=6), draws=4)
    f, s = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    torch.manual_seed(3)
    ours = method.log_mean(f, s)
    torch.manual_seed(3)
    noise = torch.randn(4, *f.shape)
    by_hand = sum((f + (s / 2).exp() * e).softmax(1) for e in noise) / 4
    assert torch.allclose(ours.exp(), by_hand, atol=1e-6)
    assert torch.allclose(ours.exp().sum(1), torch.ones(2, 5, 5), atol=1e-5)


def test_attenuation_variance_rises_where_labels_are_noise_and_falls_where_not():
    """Logits fixed and sure of class 0; at the first pixel half of the labels contradict."""
    method = KendallGal(net(outputs=4), draws=50)
    logits = torch.tensor([2.0, -2.0]).view(1, 2, 1).repeat(200, 1, 2)
    labels = torch.zeros(200, 2, dtype=torch.long)
    labels[::2, 0] = 1
    log_variance = torch.zeros(1, 2, 2, requires_grad=True)
    optimiser = torch.optim.Adam([log_variance], lr=0.1)
    torch.manual_seed(0)
    for _ in range(60):
        log_mean = method.log_mean(logits, log_variance.expand(200, -1, -1))
        optimiser.zero_grad()
        losses.cross_entropy(log_mean, labels).backward()
        optimiser.step()
    noisy, clean = log_variance.exp().mean(1)[0].tolist()
    assert noisy > 4 > 1 > clean


def test_known_label_noise_is_found_as_aleatoric():
    """One pixel; where x = 1 three labels in ten are flipped, where x = -1 none."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 1), nn.ReLU(), nn.Dropout(0.05), nn.Conv2d(16, 4, 1)]
    method = KendallGal(nn.Sequential(*layers), draws=10)
    x = torch.tensor([1.0, -1.0]).repeat(100).view(-1, 1, 1, 1)
    y = torch.zeros(200, 1, 1, dtype=torch.long)
    y[0:60:2] = 1
    optimiser = torch.optim.Adam(method.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        losses.cross_entropy(method.log_mean(*method.heads(x)), y).backward()
        optimiser.step()
    samples = method.samples(x[:2], passes=50)
    noisy, clean = mean_entropy(samples).flatten().tolist()
    known = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert noisy == pytest.approx(known, abs=0.06)
    assert clean < 0.1
    assert mutual_information(samples).max() < 0.05
    variances = predicted_variance(method.variances(x[:2], passes=5))
    assert variances.shape == (2, 1, 1) and (variances > 0).all()


def test_both_heads_learn():
    method = KendallGal(net(outputs=6))
    method.loss(batch())["supervised"].backward()
    grad = method.net[4].weight.grad
    assert (grad[:3].abs().sum() > 0) and (grad[3:].abs().sum() > 0)


def test_heads_that_do_not_pair():
    with pytest.raises(ValueError, match="5 outputs; K logits and K log variances are 2K"):
        KendallGal(net(outputs=5)).predict(pictures())
    with pytest.raises(ValueError, match="0 draws"):
        KendallGal(net(outputs=6), draws=0)
