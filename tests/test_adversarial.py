"""Two players: who moves what, who is told what, and which of the answers are believed."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.adversarial import (
    DAN,
    ASDNet,
    HungSemi,
    SegmentationGAN,
    SpineGAN,
    SpineNet,
    Sweep,
    critic,
    one_hot,
    region_dice,
    soften,
    spine_net,
    verdict_loss,
)
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit, one_cycle
from lsseg_edu.train.fit import Run

QUIET = {"progress": False, "device": "cpu"}
METHODS = [SegmentationGAN, SpineGAN, HungSemi, DAN, ASDNet]
GATES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)


def shape(dims=2):
    return networks.Shape(channels=1, classes=3, dims=dims)


def net(dims=2, seed=0):
    torch.manual_seed(seed)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 4, 3, padding=1), nn.Tanh(), conv(4, 3, 1))


def make(method, dims=2, **options):
    return method(net(dims), critic(shape(dims), method.sees, **method.sizes), **options)


def batch(dims=2, progress=1.0, size=16):
    torch.manual_seed(1)
    images = torch.randn(2, 1, *[size] * dims)
    labels = torch.randint(0, 3, (2, *[size] * dims))
    index = torch.arange(2)
    nobody = torch.full_like(labels, IGNORE)
    other = Part(images.flip(0) + 1, nobody, index, index, {})
    return Batch(Part(images, labels, index, index, {}), other, progress)


def relabelled(b, labels):
    return replace(b, labelled=replace(b.labelled, labels=labels))


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def gradient(loss, module):
    grads = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return [g for g in grads if g is not None]


class Judge(nn.Module):
    """A critic that says ``verdict`` of everything, keeps what it saw, and depends on it."""

    def __init__(self, verdict):
        super().__init__()
        self.verdict, self.seen = verdict, []

    def forward(self, seen):
        self.seen.append(seen)
        return torch.as_tensor(self.verdict).expand_as(seen[:, :1]) + 0 * seen[:, :1]

    def whole(self, seen):
        return self(seen).flatten(1).mean(1)


# Two players


@every
def test_every_weight_belongs_to_one_player(method, task):
    m = method.for_task(task)
    segmenter, judge = m.players()
    mine, theirs = ({id(p) for p in player.parameters} for player in (segmenter, judge))
    assert mine == {id(p) for p in m.net.parameters()}
    assert theirs == {id(p) for p in m.critic.parameters()}
    assert (segmenter.rate, judge.rate) == (1.0, m.rate)


@every
def test_a_step_moves_the_weights_of_its_player_only(method):
    m, b = make(method), batch()
    for player, moves, stays in zip(m.players(), (m.net, m.critic), (m.critic, m.net), strict=True):
        before, others = weights(moves), weights(stays)
        optimiser = torch.optim.SGD(player.parameters, lr=0.1)
        sum(player.loss(b).values()).backward()
        optimiser.step()
        assert not torch.equal(before, weights(moves))
        assert torch.equal(others, weights(stays))


@every
def test_the_critics_loss_stops_at_the_answers_and_the_segmenters_passes_through(method):
    m, b = make(method), batch()
    assert not gradient(sum(m.critic_loss(b).values()), m.net)
    pull = gradient(m.loss(b)["adversarial"], m.net)
    assert pull and all(g.isfinite().all() for g in pull)
    assert sum(g.abs().sum() for g in pull) > 0


@pytest.mark.parametrize("method", [SegmentationGAN, DAN], ids=lambda m: m.__name__)
def test_fit_is_the_two_steps_by_hand(method, task):
    """What the segmenter's backward pass leaves in the critic must not reach its step."""
    budget, m = Budget("smoke", steps=4, batch=4), method.for_task(task)
    by_hand = copy.deepcopy(m).train()
    twin = Run(copy.deepcopy(m), task, budget, 0, None, torch.device("cpu"))
    b = Batch(twin.draw("labelled"), twin.draw("unlabelled"), 0.0)
    for player in by_hand.players():
        rate = budget.rate * player.rate * one_cycle(0.0)
        optimiser = torch.optim.AdamW(player.parameters, lr=rate, weight_decay=1e-4)
        by_hand.zero_grad()
        sum(player.loss(b).values()).backward()
        optimiser.step()
    run = Run(m, task, budget, 0, None, torch.device("cpu"))
    run.one_step()
    assert torch.equal(weights(m), weights(by_hand))


@every
def test_fit_trains_both_and_logs_both(method, task, budget):
    m = method.for_task(task)
    before = weights(m.net), weights(m.critic)
    fitted = fit(m, task, budget, **QUIET)
    assert not torch.equal(before[0], weights(m.net))
    assert not torch.equal(before[1], weights(m.critic))
    sides = ("annotated", "unannotated") if method is DAN else ("real", "fake")
    assert {"supervised", "adversarial", *sides} <= set(fitted.history)
    assert all(len(values) == budget.steps for values in fitted.history.values())
    probs = fitted.predict(task.test.images)
    assert torch.allclose(probs.sum(1), torch.ones(probs[:, 0].shape), atol=1e-5)


@pytest.mark.parametrize(
    "method, off",
    [
        (SegmentationGAN, {"weight": 0.0}),
        (DAN, {"weight": 0.0}),
        (HungSemi, {"weight": 0.0, "unlabelled_weight": 0.0, "self_taught": 0.0}),
    ],
    ids=["SegmentationGAN", "DAN", "HungSemi"],
)
def test_without_its_terms_it_is_the_baseline(method, off, task, budget):
    baseline = fit(Supervised.for_task(task), task, budget, **QUIET)
    played = fit(method.for_task(task, **off), task, budget, **QUIET)
    assert torch.equal(weights(baseline.method.net), weights(played.method.net))


def test_killed_two_player_training_resumes_to_bitwise_the_same_weights(task, tmp_path):
    budget, path = Budget("smoke", steps=4, batch=4), tmp_path / "run.pt"
    whole = fit(HungSemi.for_task(task, start=0.0), task, budget, **QUIET)

    class Killed(HungSemi):
        def after_step(self, progress):
            if progress == 0.5:
                raise SystemExit

    options = {**QUIET, "checkpoint": path, "every": 1}
    with pytest.raises(SystemExit):
        fit(Killed.for_task(task, start=0.0), task, budget, **options)
    torch.manual_seed(99)
    resumed = fit(HungSemi.for_task(task, start=0.0), task, budget, **options)
    first, second = whole.method.state_dict(), resumed.method.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert whole.history == resumed.history


@every
def test_the_segmenter_learns_to_pass_and_the_critic_to_tell(method):
    m, b = make(method), batch()
    for loss, module in (
        (lambda: sum(m.critic_loss(b).values()), m.critic),
        (lambda: m.loss(b)["adversarial"], m.net),
    ):
        optimiser, path = torch.optim.Adam(module.parameters(), lr=0.01), []
        for _ in range(8):
            m.zero_grad()
            path.append(loss())
            path[-1].backward()
            optimiser.step()
        assert path[-1] < path[0]


@every
def test_volumes(method):
    m, b = make(method, dims=3), batch(dims=3)
    for player, module in zip(m.players(), (m.net, m.critic), strict=True):
        grads = gradient(sum(player.loss(b).values()), module)
        assert grads and all(g.isfinite().all() for g in grads)


# The critic


def test_verdict_loss_by_hand():
    torch.manual_seed(0)
    z, where = torch.randn(2, 1, 3, 4), torch.rand(2, 1, 3, 4) > 0.5
    p = z.sigmoid()
    each = -(0.9 * p.log() + 0.1 * (1 - p).log())
    assert verdict_loss(z, 0.9).item() == pytest.approx(each.mean().item(), rel=1e-5)
    assert verdict_loss(z, 0.9, where).item() == pytest.approx(each[where].mean().item(), rel=1e-5)
    assert verdict_loss(z, 1.0, where & False) == 0


def test_fooling_has_its_largest_gradient_where_the_critic_is_certain():
    z = torch.tensor([-6.0, 0.0, 6.0], requires_grad=True)
    (slope,) = torch.autograd.grad(3 * verdict_loss(z, 1.0), z)
    assert torch.allclose(slope, z.sigmoid() - 1)


@every
@pytest.mark.parametrize("side", [0, 1], ids=["expert", "network"])
def test_targets_are_the_right_way_round(method, side):
    """A critic that believes everything is right about one side, and wrong about the other."""
    for verdict in (20.0, -20.0):
        m = make(method, smooth=0.0)
        m.critic = Judge(verdict)
        loss = list(m.critic_loss(batch()).values())[side]
        wanted = 20.0 if (verdict > 0) == (side == 1) else 0.0
        assert loss.item() == pytest.approx(wanted, abs=1e-4)


@every
def test_the_segmenter_is_charged_for_what_the_critic_does_not_believe(method):
    b = batch(progress=1.0)
    believed, doubted = make(method), make(method)
    believed.critic, doubted.critic = Judge(20.0), Judge(-20.0)
    whole = doubted.weight + getattr(doubted, "unlabelled_weight", 0.0)
    assert believed.loss(b)["adversarial"].item() == pytest.approx(0.0, abs=1e-6)
    assert doubted.loss(b)["adversarial"].item() == pytest.approx(20 * whole, rel=1e-4)


def test_smoothing_is_one_sided():
    m = make(SegmentationGAN, smooth=0.2)
    m.critic = Judge(-20.0)
    assert m.critic_loss(batch())["real"].item() == pytest.approx(0.8 * 20, rel=1e-4)
    assert m.critic_loss(batch())["fake"].item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("levels, reach", [(3, 22), (4, 46)])
def test_a_verdict_is_about_a_patch(levels, reach):
    """The gradient of one place reaches as many pixels as the docstring says."""
    judge = critic(shape(), levels=levels)
    seen = torch.randn(1, 3, 96, 96, requires_grad=True)
    middle = judge.verdicts(seen)[0, 0, 96 // 2**levels // 2, 96 // 2**levels // 2]
    (grad,) = torch.autograd.grad(middle, seen)
    assert (grad[0].abs().sum((0, 1)) > 0).sum() == reach


def test_the_critic_cannot_become_steep():
    judge = critic(shape()).train()
    with torch.no_grad():
        for layer in judge.body[::2]:
            layer.parametrizations.weight.original *= 100
        for _ in range(30):
            judge(torch.randn(1, 3, 16, 16))
    norms = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in judge.body[::2]]
    assert all(norm < 1.1 for norm in norms)


def test_critic_has_a_verdict_for_every_pixel_of_any_size():
    judge = critic(shape(), "both")
    assert judge(torch.randn(2, 4, 33, 45)).shape == (2, 1, 33, 45)
    assert judge.whole(torch.randn(2, 4, 33, 45)).shape == (2,)
    assert not torch.equal(weights(judge), weights(critic(shape(), "both", seed=1)))


# Adversarial segmentation


def test_soften_sums_to_one_and_keeps_the_true_class_on_top():
    torch.manual_seed(0)
    probs = (3 * torch.randn(2, 4, 6, 6)).softmax(1)
    labels = torch.randint(0, 4, (2, 6, 6))
    soft = soften(one_hot(labels, 4), probs, 0.9)
    assert torch.allclose(soft.sum(1), torch.ones(2, 6, 6), atol=1e-6)
    assert torch.equal(soft.argmax(1), labels)
    assert (soft.max(1).values >= 0.9 - 1e-6).all() and (soft < 1).all()


def test_soften_by_hand():
    probs = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1)
    soft = soften(one_hot(torch.tensor([[[1]]]), 3), probs, 0.9).flatten()
    assert torch.allclose(soft, torch.tensor([0.5 * 0.1 / 0.7, 0.9, 0.2 * 0.1 / 0.7]))
    sure = torch.tensor([0.02, 0.95, 0.03]).view(1, 3, 1, 1)
    soft = soften(one_hot(torch.tensor([[[1]]]), 3), sure, 0.9).flatten()
    assert torch.allclose(soft, sure.flatten())
    hard = soften(one_hot(torch.tensor([[[1]]]), 3), probs, 1.0).flatten()
    assert hard.tolist() == [0, 1, 0]


def test_the_critic_sees_softened_masks_beside_their_images():
    m, b = make(SegmentationGAN), batch()
    m.critic = Judge(0.0)
    m.critic_loss(b)
    real, fake = m.critic.seen
    probs = m.net(b.labelled.images).softmax(1)
    assert torch.equal(real[:, 3:], b.labelled.images) and torch.equal(fake[:, 3:], real[:, 3:])
    assert torch.equal(real[:, :3], soften(one_hot(b.labelled.labels, 3), probs, 0.9))
    assert torch.allclose(fake[:, :3], probs)


@pytest.mark.parametrize("method", [SegmentationGAN, SpineGAN, HungSemi], ids=lambda m: m.__name__)
def test_what_nobody_annotated_gives_the_expert_away_to_no_critic(method):
    m, b = make(method), batch()
    labels = b.labelled.labels.clone()
    labels[:, :5] = IGNORE
    m.critic = Judge(0.0)
    m.critic_loss(relabelled(b, labels))
    real, fake = m.critic.seen
    assert torch.equal(real[:, :, :5], fake[:, :, :5])
    assert not torch.equal(real[:, :, 5:], fake[:, :, 5:])


# Spine-GAN


@pytest.mark.parametrize("size", [(7, 3), (5, 2, 3)])
def test_sweep_is_an_lstm_down_and_up_each_column(size):
    torch.manual_seed(0)
    sweep, features = Sweep(4), torch.randn(2, 4, *size)

    def gates(x, h, c, end):
        w, r, b, d = (getattr(sweep.lstm, f"{k}_l0{end}") for k in GATES)
        i, f, g, o = (w @ x + b + r @ h + d).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    expected = torch.zeros_like(features)
    columns = features.flatten(3) if len(size) == 3 else features
    for item, column in torch.cartesian_prod(torch.arange(2), torch.arange(columns.shape[3])):
        for half, end, rows in ((0, "", range(size[0])), (2, "_reverse", range(size[0])[::-1])):
            h = c = torch.zeros(2)
            for row in rows:
                h, c = gates(columns[item, :, row, column], h, c, end)
                expected.flatten(3)[item, half : half + 2, row, column] = h
    assert torch.allclose(sweep(features), expected.view_as(features), atol=1e-6)


def test_sweep_carries_news_along_the_whole_column_and_to_no_other():
    torch.manual_seed(0)
    sweep, features = Sweep(4), torch.randn(1, 4, 40, 3)
    changed = features.clone()
    changed[0, :, 0, 1] += 5
    difference = (sweep(changed) - sweep(features)).abs().sum(1)[0]
    assert (difference[:, 1] > 0).sum() >= 20  # rows; a 3x3 convolution reaches 2
    assert difference[:, [0, 2]].sum() == 0
    seen = features.requires_grad_()
    (grad,) = torch.autograd.grad(sweep(seen)[0, :2, 39, 1].sum(), seen)
    assert grad[0, :, 0, 1].abs().sum() > 0 and grad[0, :, 0, [0, 2]].abs().sum() == 0


def test_spine_net_answers_with_what_the_sweep_remembers():
    model = spine_net(shape(), width=4).eval()
    images = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        before = model(images)
        model.sweep.lstm.weight_ih_l0.zero_()
        model.sweep.lstm.weight_ih_l0_reverse.zero_()
    assert not torch.allclose(before, model(images))
    rates = [c.conv.dilation[0] for c in model.encode]
    assert rates == [1, 1, 1, 2, 4, 8]


def test_spine_gan_plays_the_recurrent_network_and_shows_its_critic_masks_only(task):
    m = SpineGAN.for_task(task)
    assert isinstance(m.net, SpineNet) and isinstance(m.net.sweep.lstm, nn.LSTM)
    m.critic = Judge(0.0)
    m.critic_loss(batch(size=16))
    assert all(seen.shape[1] == 3 for seen in m.critic.seen)
    assert spine_net(shape())(torch.randn(1, 1, 33, 21)).shape == (1, 3, 33, 21)


# Hung


def belief(*size):
    torch.manual_seed(3)
    return torch.rand(2, 1, *size)


def test_self_taught_is_the_cross_entropy_of_believed_pixels_only():
    m = make(HungSemi, threshold=0.4, self_taught=0.5)
    b = batch()
    m.critic = Judge(belief(16, 16).logit())
    loss = m.loss(b)["self_taught"]
    logits = m.net(b.unlabelled.images)
    trusted = belief(16, 16)[:, 0] > 0.4
    own = -logits.log_softmax(1).max(1).values
    assert loss.item() == pytest.approx(0.5 * own[trusted].mean().item(), rel=1e-4)
    m.critic = Judge(-20.0)
    nothing = m.loss(b)["self_taught"]
    assert nothing == 0 and all(g.abs().sum() == 0 for g in gradient(nothing, m.net))


def test_self_taught_starts_at_its_time():
    for progress, on in ((0.0, False), (0.24, False), (0.25, True), (1.0, True)):
        loss = make(HungSemi, threshold=0.0).loss(batch(progress=progress))["self_taught"]
        assert (loss > 0) == on


def test_belief_and_pseudo_labels_are_constants():
    m, b = make(HungSemi, threshold=0.4), batch()
    assert not any(g.abs().sum() for g in gradient(m.loss(b)["self_taught"], m.critic))
    m.critic = Judge(belief(16, 16).logit())
    grads = gradient(m.loss(b)["self_taught"], m.net)
    logits = m.net(b.unlabelled.images)
    frozen = m.pseudo_labels(logits, belief(16, 16)).detach()
    expected = gradient(m.self_taught * losses.cross_entropy(logits, frozen), m.net)
    assert all(torch.allclose(g, e, atol=1e-6) for g, e in zip(grads, expected, strict=True))


def test_the_critic_learns_from_labelled_images_only_and_judges_no_unannotated_pixel():
    m, b = make(HungSemi), batch()
    labels = b.labelled.labels.clone()
    labels[:, :5] = IGNORE
    b = relabelled(b, labels)
    z = torch.zeros(1, 1, 16, 16)
    z[:, :, :5] = 30.0
    m.critic = Judge(z)
    terms = m.critic_loss(b)
    assert terms["fake"].item() == pytest.approx(verdict_loss(z[:, :, 5:], 0.0).item(), rel=1e-4)
    assert terms["real"].item() == pytest.approx(verdict_loss(z[:, :, 5:], 0.9).item(), rel=1e-4)
    m.critic = Judge(-z)
    adversarial = m.loss(b)["adversarial"].item()
    old, new = verdict_loss(z[:, :, 5:], 1.0).item(), verdict_loss(-z, 1.0).item()
    assert adversarial == pytest.approx(0.01 * old + 0.001 * new, rel=1e-4)
    assert len(m.critic.seen) == 2 and all(len(seen) == 2 for seen in m.critic.seen)


def test_confidence_is_the_critics_belief_in_the_answer():
    m, b = make(HungSemi).eval(), batch()
    expected = m.critic(m.net(b.unlabelled.images).softmax(1)).sigmoid()
    assert torch.allclose(m.confidence(b.unlabelled.images), expected)
    assert not m.confidence(b.unlabelled.images).requires_grad


# DAN


def test_dan_judges_answers_beside_images_and_no_mask_enters():
    m, b = make(DAN), batch()
    m.critic = Judge(0.0)
    m.critic_loss(b)
    for seen, part in zip(m.critic.seen, (b.labelled, b.unlabelled), strict=True):
        assert torch.equal(seen[:, 3:], part.images)
        assert torch.allclose(seen[:, :3], m.net(part.images).softmax(1))
    other = relabelled(b, (b.labelled.labels + 1) % 3)
    m = make(DAN)
    with torch.no_grad():
        m.eval()
        assert m.critic_loss(b) == m.critic_loss(other)


def test_dan_fools_on_unlabelled_images_with_a_ramp():
    m = make(DAN, ramp=0.4)
    m.critic = Judge(-20.0)
    start, end = (m.loss(batch(progress=p))["adversarial"].item() for p in (0.0, 0.4))
    assert end == pytest.approx(20 * m.weight, rel=1e-4)
    assert start == pytest.approx(2.718281828**-5 * end, rel=1e-3)
    seen = m.critic.seen[-1]
    assert torch.equal(seen[:, 3:], batch().unlabelled.images)


# ASDNet


def dice_by_hand(probs, labels, where, k):
    p, y = probs[k][where], (labels == k)[where].float()
    return 1 - (2 * (p * y).sum() + 1) / ((p * p).sum() + y.sum() + 1)


def test_region_dice_by_hand_and_blind_outside_the_region():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 6, 5), torch.randint(0, 3, (2, 6, 5))
    where = torch.rand(2, 6, 5) > 0.5
    where[1] = False
    loss = region_dice(logits, labels, where)
    by_hand = [dice_by_hand(logits.softmax(1)[0], labels[0], where[0], k) for k in range(3)]
    assert loss[0].item() == pytest.approx(sum(by_hand).item() / 3, rel=1e-5)
    assert loss[1] == 0
    logits.requires_grad_()
    (grad,) = torch.autograd.grad(region_dice(logits, labels, where).sum(), logits)
    assert grad.isfinite().all()
    assert (grad.abs().sum(1)[~where] == 0).all() and (grad.abs().sum(1)[where] > 0).all()


def test_region_attention_teaches_where_the_critic_trusts():
    m, b = make(ASDNet, threshold=0.4, self_taught=0.5), batch()
    m.critic = Judge(belief(16, 16).logit())
    logits = m.net(b.unlabelled.images)
    trusted = belief(16, 16)[:, 0] > 0.4
    probs, own = logits.softmax(1), logits.argmax(1)
    by_hand = [
        dice_by_hand(probs[i], own[i], trusted[i], k).item() for i in range(2) for k in range(3)
    ]
    assert m.loss(b)["self_taught"].item() == pytest.approx(0.5 * sum(by_hand) / 6, rel=1e-4)
    grads = gradient(m.loss(b)["self_taught"], m.net)
    frozen = region_dice(m.net(b.unlabelled.images), own, trusted).mean()
    expected = gradient(0.5 * frozen, m.net)
    assert all(torch.allclose(g, e, atol=1e-6) for g, e in zip(grads, expected, strict=True))


def images_of_two_kinds():
    """Logits of an easy image and a hard one, and their labels."""
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8))
    right = F.one_hot(labels, 3).movedim(-1, 1).float()
    return torch.stack([6 * right[0], 0.5 * right[1]]), labels


def test_sample_attention_by_hand():
    logits, labels = images_of_two_kinds()
    labels[:, 0] = IGNORE
    for beta in (0.0, 1.0, 2.0):
        loss, total, weight = make(ASDNet, beta=beta).supervised(logits, labels), 0.0, 0.0
        for z, y in zip(logits, labels, strict=True):
            hard = sum(dice_by_hand(z.softmax(0), y, y != IGNORE, k) for k in range(3)) / 3
            pixels = F.cross_entropy(z[None], y[None], ignore_index=IGNORE)
            total, weight = total + hard**beta * (hard + pixels), weight + hard**beta
        assert loss.item() == pytest.approx((total / weight).item(), rel=1e-4)


def test_attention_grows_with_hardness_and_is_a_constant_for_the_gradient():
    logits, labels = images_of_two_kinds()
    logits.requires_grad_()
    shares = []
    for beta in (0.0, 1.0, 3.0):
        (grad,) = torch.autograd.grad(make(ASDNet, beta=beta).supervised(logits, labels), logits)
        shares.append((grad[1].abs().sum() / grad.abs().sum()).item())
    assert shares[0] < shares[1] < shares[2]
    hard = region_dice(logits, labels, labels >= 0)
    attention = hard.detach() / hard.detach().sum()
    pixels = F.cross_entropy(logits, labels, reduction="none").flatten(1).mean(1)
    (expected,) = torch.autograd.grad((attention * (hard + pixels)).sum(), logits)
    (grad,) = torch.autograd.grad(make(ASDNet, beta=1.0).supervised(logits, labels), logits)
    assert torch.allclose(grad, expected, atol=1e-7)


def test_perfect_answers_are_no_division_by_zero():
    logits, labels = images_of_two_kinds()
    logits = (1000 * logits).requires_grad_()
    loss = make(ASDNet, beta=2.0).supervised(logits, labels)
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite() and grad.isfinite().all()


# Bad input


@pytest.mark.parametrize("method", [HungSemi, DAN, ASDNet], ids=lambda m: m.__name__)
def test_no_unlabelled_image_is_one_sentence(method, cohort, budget):
    full = Task.split(cohort, valid=2, test=2)
    with pytest.raises(ValueError, match="no unlabelled"):
        fit(method.for_task(full), full, budget, **QUIET)


def test_bad_options_are_one_sentence():
    with pytest.raises(ValueError, match="true class on top"):
        make(SegmentationGAN, soft=0.5)
    with pytest.raises(ValueError, match="threshold is a probability"):
        make(HungSemi, threshold=1.5)
    with pytest.raises(ValueError, match="'masks', 'images' or 'both'"):
        critic(shape(), "mask")
    with pytest.raises(ValueError, match="even number"):
        Sweep(5)
    with pytest.raises(ValueError, match="needs 8 pixels along each axis, and gets 32x7"):
        critic(shape())(torch.randn(1, 3, 32, 7))


@pytest.mark.parametrize("method", [HungSemi, DAN, SegmentationGAN], ids=lambda m: m.__name__)
def test_odd_sizes(method):
    torch.manual_seed(0)
    part = Part(torch.randn(2, 1, 33, 47), torch.randint(0, 3, (2, 33, 47)), *[None] * 3)
    m = make(method)
    terms = {**m.loss(Batch(part, part, 1.0)), **m.critic_loss(Batch(part, part, 1.0))}
    assert all(value.isfinite() for value in terms.values())
