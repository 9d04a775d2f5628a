"""Few-shot methods: what the support set does to the answer, and what training may look at."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks import ChannelSELayer, ResidualSELayer
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.networks import Shape
from lsseg_edu.semi.few_shot import (
    OSLSM,
    SCSE,
    ALPNet,
    ChannelGate,
    FewShotTask,
    SCSEUNet,
    SEFewShot,
    SpatialGate,
    SupportFinetune,
    WeightHashing,
    average,
    combine,
    finetune,
    fss_finetune,
    local_prototypes,
    nearness,
    pair_slices,
    scse_supervised,
    scse_unet,
    ssl_alpnet,
    superpixel_maps,
    support_only,
)
from lsseg_edu.semi.few_shot.alpnet import draw_superpixel
from lsseg_edu.semi.few_shot.finetune import hold_out, with_new_head
from lsseg_edu.semi.few_shot.se_few_shot import walk
from lsseg_edu.train import Batch, Budget, Part, Supervised

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)
CONDITIONED = [OSLSM, SEFewShot, ALPNet]


def few(cohort, shots=1):
    return FewShotTask.of(Task.split(cohort, valid=2, test=2), ["square"], shots)


@pytest.fixture
def problem(cohort):
    return few(cohort)


def part(images, labels, **extras):
    index = torch.arange(len(images))
    return Part(images, labels, index, index, extras)


def episode_batch(task):
    torch.manual_seed(5)
    images, labels = task.train.images[:6], task.train.labels[:6]
    extras = {"superpixels": superpixel_maps(task.train.select(slice(6)))}
    nobody = torch.full_like(labels, IGNORE)
    return Batch(part(images, labels), part(images, nobody, **extras), 0.5)


def pair(dims=2):
    """A query, a support image and its mask, no smaller than a U-Net takes."""
    size, generator = (32, 32) if dims == 2 else (32, 16, 16), torch.Generator().manual_seed(0)
    query, support = torch.randn(2, 1, 1, *size, generator=generator)
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[:, 4:12, 4:12] = True
    return query, support, mask


def given(dims):
    """All that ``for_task`` needs of a task: its support set."""
    _, support, mask = pair(dims)
    one = torch.zeros(1, dtype=torch.long)
    cohort = Cohort(support, mask.long(), one, ("air", "thing"), (1.0,) * dims)
    return SimpleNamespace(support=cohort)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# All of them


@pytest.mark.parametrize("method", CONDITIONED)
@pytest.mark.parametrize("shots", [1, 5])
def test_probabilities_of_one_and_five_shots(cohort, method, shots):
    task = few(cohort, shots)
    probs = method.for_task(task).eval().predict(task.valid.images)
    assert probs.shape == (len(task.valid), 2, 32, 32)
    assert torch.allclose(probs.sum(1), torch.ones(len(task.valid), 32, 32), atol=1e-5)


@pytest.mark.parametrize("method", CONDITIONED)
def test_gradients_are_finite_and_reach_all_that_is_trained(problem, method):
    torch.manual_seed(0)
    model = method.for_task(problem)
    sum(model.loss(episode_batch(problem)).values()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), name
    assert all(
        any((p.grad != 0).any() for p in branch.parameters())
        for branch in model.children()
        if list(branch.parameters())
    )


@pytest.mark.parametrize("method", CONDITIONED)
def test_another_support_set_gives_another_answer(problem, method):
    model = method.for_task(problem).eval()
    before = model.predict(problem.valid.images)
    labels = problem.support.labels.roll((9, 9), (1, 2))
    after = model.condition(replace(problem.support, labels=labels)).predict(problem.valid.images)
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("method", [OSLSM, SEFewShot])
def test_volumes(method):
    model = method.for_task(given(3)).eval()
    assert model.predict(pair(3)[0]).shape == (1, 2, 32, 16, 16)


# OSLSM


def test_classifier_weights_come_from_the_support(problem):
    model = OSLSM.for_task(problem)
    query, support, mask = pair()
    features = model.features(query).detach()
    ours, theirs = model.logits(query, support, mask), model.logits(query, support + mask, mask)
    assert not torch.allclose(ours, theirs)  # one query, two supports, two classifiers
    w = model.classifier(support, mask)[0].detach()
    for i, j in ((0, 0), (7, 20), (31, 31)):
        by_hand = sum(float(w[f]) * float(features[0, f, i, j]) for f in range(64)) + float(w[64])
        assert ours[0, i, j].item() == pytest.approx(by_hand, abs=1e-4)


def test_only_what_is_under_the_mask_writes_the_weights(problem):
    model = OSLSM.for_task(problem)
    _, support, mask = pair()
    elsewhere = support + 3 * ~mask
    assert torch.equal(model.classifier(support, mask), model.classifier(elsewhere, mask))
    nothing = torch.zeros_like(mask)
    silent = model.classifier(support, nothing)
    assert torch.equal(silent, model.classifier(support + 1, nothing))
    assert not torch.allclose(silent, model.classifier(support, mask))
    average_organ = support * ~mask  # brightness 0: only the mask tells that it is there
    assert not torch.allclose(silent, model.classifier(average_organ, mask))


def test_hashing_is_its_formula_and_fixed():
    hashing, vector = WeightHashing(5, 12, seed=1), torch.randn(3, 5)
    made = hashing(vector)
    for b in range(3):
        for j in range(12):
            assert made[b, j] == hashing.sign[j] * vector[b, hashing.entry[j]]
    assert not list(hashing.parameters()) and set(hashing.sign.tolist()) == {-1.0, 1.0}
    assert torch.equal(WeightHashing(5, 12, seed=1)(vector), made)
    assert not torch.equal(WeightHashing(5, 12, seed=2)(vector), made)
    assert set(hashing.state_dict()) == {"entry", "sign"}  # a restart finds the same table


def test_shots_are_united(problem):
    model = OSLSM.for_task(problem).eval()
    query, support, mask = pair()
    shots, masks = torch.cat([support, support * 2]), torch.cat([mask, mask.roll(9, 1)])
    alone = [model.logits(query, shots[i : i + 1], masks[i : i + 1]) for i in range(2)]
    expected = torch.maximum(*alone).sigmoid()
    assert torch.allclose(model.score(query, shots, masks), expected, atol=1e-6)


# Fine-tuning


@pytest.fixture
def spy(monkeypatch):
    """The (task, steps, method) of every training that ``finetune`` starts."""
    seen, fit = [], finetune.fit

    def watch(method, task, budget, seed, **kwargs):
        seen.append((task, budget.steps, method))
        return fit(method, task, budget, seed, **kwargs)

    monkeypatch.setattr(finetune, "fit", watch)
    return seen


def test_gradient_steps_on_the_support_set_only(cohort, spy):
    task = few(cohort, 5)
    fitted = fss_finetune(task, replace(FEW, steps=4), **QUIET)
    (base, steps, _), (tuned, fewer, method) = spy
    assert base is task and (steps, fewer) == (4, 2)
    assert torch.equal(tuned.train.images, task.support.images[:4])  # the fifth is watched
    assert torch.equal(method.watched_images, task.support.images[4:])
    assert set(fitted.history) == {"support", "watched"}
    assert fitted.method is method and fitted.seconds > 0


def test_watched_loss_moves_nothing(problem):
    method = SupportFinetune(networks.unet(problem.support, width=4), problem.support)
    terms = method.loss(Batch(part(problem.support.images, problem.support.labels), None, 0.0))
    assert terms["support"].requires_grad and not terms["watched"].requires_grad
    expected = losses.dice_ce(method.net(problem.support.images), problem.support.labels)
    assert terms["support"].item() == pytest.approx(expected.item())
    assert {id(p) for p in method.players()[0].parameters} == {
        id(p) for p in method.net.parameters()
    }
    assert method.players()[0].rate == 0.25


def test_early_stopping_keeps_the_lowest_watched_loss(problem, monkeypatch):
    net = nn.Conv2d(1, 2, 1)
    method = SupportFinetune(net, problem.support, patience=2)
    method.lowest.fill_(9.0)
    losses_to_come = iter([5.0, 4.0, 4.5, 3.0, 6.0, 7.0, 8.0, 1.0, 8.0])
    monkeypatch.setattr(method, "watch", lambda: torch.tensor(next(losses_to_come)))
    for t in range(1, 10):
        with torch.no_grad():
            net.weight.fill_(float(t))
        method.after_step(t / 9)
        assert method.stopped == (t > 6)
    assert method.kept_at == 4 and method.lowest == 3.0  # 1.0 came after patience was over
    assert (method.best.weight == 4.0).all() and (method.net.weight == 9.0).all()
    assert method.overfit() == 5.0
    images = problem.valid.images
    assert torch.equal(method.predict(images), method.best(images).softmax(1))


def test_new_head_on_the_base_networks_body(problem):
    base = networks.unet(problem, seed=1)
    net = with_new_head(base, problem.support, seed=2)
    old, new = base.state_dict(), net.state_dict()
    for key in new:
        assert key.startswith("final_conv.") != torch.equal(old[key], new[key])
    head = networks.unet(problem.support, seed=2).state_dict()
    assert all(torch.equal(new[k], head[k]) for k in new if k.startswith("final_conv."))


def test_hold_out_by_hand(cohort):
    task = few(cohort, 3)
    support = task.support
    assert hold_out(support) == ([0, 1], [2])
    assert hold_out(support.select([0])) == ([0], [0])
    labels = support.labels.clone()
    labels[:2] = 0  # the last one is the only one with the class: it cannot be spared
    assert hold_out(replace(support, labels=labels)) == ([0, 1, 2], [0, 1, 2])


def test_support_only_sees_the_support_set_only(problem, spy):
    fitted = support_only(problem, FEW, **QUIET)
    ((task, steps, method),) = spy
    assert steps == FEW.steps and isinstance(method, Supervised)
    assert torch.equal(task.train.images, problem.support.images)
    assert fitted.predict(problem.valid.images).shape[1] == 2


# SE few-shot


def by_hand(net, x, maps):
    """The U-Net with a map after each of its nine blocks, written out."""
    a = net.conv_0(x) * maps[0]
    b = net.down_1(a) * maps[1]
    c = net.down_2(b) * maps[2]
    d = net.down_3(c) * maps[3]
    e = net.down_4(d) * maps[4]
    up4 = net.upcat_4(e, d) * maps[5]
    up3 = net.upcat_3(up4, c) * maps[6]
    up2 = net.upcat_2(up3, b) * maps[7]
    up1 = net.upcat_1(up2, a) * maps[8]
    return [a, b, c, d, e, up4, up3, up2, up1]


def test_logits_are_the_segmenters_under_the_conditioners_maps(problem):
    model = SEFewShot.for_task(problem)
    query, support, mask = pair()
    maps = model.conditioner.maps(support, mask)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (1, n, n) for n in (32, 16, 8, 4, 2, 4, 8, 16, 32)
    ]
    assert all(((m > 0) & (m < 1)).all() for m in maps)
    expected = model.net.final_conv(by_hand(model.net, query, maps)[-1])[:, 0]
    assert torch.allclose(model.logits(query, support, mask), expected, atol=1e-6)


@pytest.mark.parametrize("block", range(9))
def test_a_map_of_zeros_silences_its_block(problem, monkeypatch, block):
    model = SEFewShot.for_task(problem)
    query, support, mask = pair()
    maps = model.conditioner.maps(support, mask)
    before = model.logits(query, support, mask)
    assert (walk(model.net, query, maps)[block] != 0).any()
    maps[block] = torch.zeros_like(maps[block])
    assert (walk(model.net, query, maps)[block] == 0).all()
    monkeypatch.setattr(model.conditioner, "maps", lambda support, mask: maps)
    assert not torch.allclose(model.logits(query, support, mask), before)


def test_maps_of_ones_leave_the_network_alone(problem):
    net, query = networks.unet(Shape(1, 1, 2)), pair()[0]
    assert torch.equal(net.final_conv(walk(net, query)[-1]), net(query))


def test_conditioner_reads_image_and_mask(problem):
    model = SEFewShot.for_task(problem)
    query, support, mask = pair()
    first = model.logits(query, support, mask)
    assert not torch.allclose(first, model.logits(query, support + 1 * mask, mask))
    assert not torch.allclose(first, model.logits(query, support, mask.roll(9, 2)))


def test_shots_are_averaged(cohort):
    task = few(cohort, 3)
    model = SEFewShot.for_task(task).eval()
    ((support, masks),) = model.shots()
    query = task.valid.images[:2]
    alone = [
        model.logits(query, support[i : i + 1], masks[i : i + 1]).sigmoid()
        for i in range(len(support))
    ]
    expected = sum(alone) / len(alone)
    assert torch.allclose(model.score(query, support, masks), expected, atol=1e-6)


def test_slices_are_paired_by_position():
    query, support = torch.tensor([0.0, 0.28, 0.52, 0.9, 1.0]), torch.tensor([0.9, 0.1, 0.5])
    assert pair_slices(query, support).tolist() == [1, 1, 2, 0, 0]
    assert pair_slices(query, support[:1]).tolist() == [0] * 5


def test_a_volume_takes_for_each_slice_its_nearest_support_slice(cohort):
    task = few(cohort, 3)
    position = torch.tensor([0.1, 0.5, 0.9])
    support = replace(task.support, extras={"position": position})
    model = SEFewShot.for_task(task).condition(support).eval()
    slices = task.valid.images[:3]
    partner, scores = [2, 0, 1], []
    for x, s in zip(slices, partner, strict=True):
        mask = support.labels[s : s + 1] == 1
        scores.append(model.logits(x[None], support.images[s : s + 1], mask).sigmoid())
    expected = combine(torch.stack(scores, 1)[0][:, None])
    got = model.predict_volume(slices, torch.tensor([0.8, 0.0, 0.4]))
    assert torch.allclose(got, expected, atol=1e-5)
    even = model.predict_volume(slices)
    assert torch.allclose(even, model.predict_volume(slices, torch.tensor([0, 0.5, 1.0])))


def test_slices_without_positions(problem):
    support = replace(problem.support, extras={})
    model = SEFewShot.for_task(problem).condition(support)
    with pytest.raises(ValueError, match=r'give the support set extras\["position"\]'):
        model.predict_volume(problem.valid.images[:2])


# scSE


@pytest.mark.parametrize("dims", [2, 3])
def test_scse_is_its_formula(dims):
    torch.manual_seed(0)
    block, u = SCSE(dims, 6), torch.randn(2, 6, *(5, 4, 3)[:dims])
    (first, _, second, _), squeeze = block.channel.excite, block.spatial.squeeze
    out = block(u)
    for b in range(2):
        mean = torch.stack([u[b, c].mean() for c in range(6)])
        hidden = (first.weight @ mean + first.bias).clamp(min=0)
        channel = 1 / (1 + torch.exp(-(second.weight @ hidden + second.bias)))
        w = squeeze.weight.flatten()
        place = torch.sigmoid(sum(w[c] * u[b, c] for c in range(6)) + squeeze.bias)
        for c in range(6):
            assert torch.allclose(out[b, c], u[b, c] * channel[c] + u[b, c] * place, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_channel_gate_is_monais(dims):
    torch.manual_seed(0)
    u, theirs, gate = torch.randn(2, 6, *[4] * dims), ChannelSELayer(dims, 6), ChannelGate(6)
    gate.excite.load_state_dict(theirs.fc.state_dict())
    assert torch.allclose(gate(u), theirs(u), atol=1e-6)
    residual = ResidualSELayer(dims, 6, acti_type_1="relu", acti_type_2="sigmoid")
    residual.fc.load_state_dict(theirs.fc.state_dict())
    assert torch.allclose(u + gate(u), residual(u), atol=1e-6)
    narrow = ChannelGate(2, ratio=16)  # never narrower than one
    assert narrow(u[:, :2]).shape == u[:, :2].shape


def test_open_channel_gates_alone_are_the_plain_unet():
    net, x = scse_unet(Shape(1, 3, 2)), pair()[0]
    blocks = [m for m in net.modules() if isinstance(m, SCSE)]
    assert len(blocks) == 9
    plain = networks.unet(Shape(1, 3, 2))
    own = net.state_dict()
    own = {k.replace("conv_0.0.", "conv_0."): v for k, v in own.items()}
    for i in range(1, 5):
        own = {k.replace(f"down_{i}.0.", f"down_{i}."): v for k, v in own.items()}
    plain.load_state_dict({k: own[k] for k in plain.state_dict()})
    assert not torch.allclose(net(x), plain(x), atol=1e-3)
    with torch.no_grad():
        for block in blocks:
            block.channel.excite[2].weight.zero_()
            block.channel.excite[2].bias.fill_(100.0)
            block.spatial.squeeze.weight.zero_()
            block.spatial.squeeze.bias.fill_(-100.0)
    assert torch.allclose(net(x), plain(x), atol=1e-5)
    with torch.no_grad():
        blocks[-1].channel.excite[2].bias.fill_(-100.0)  # both gates of the last block shut
    assert torch.allclose(net(x), plain.final_conv.bias.view(1, -1, 1, 1).expand(1, 3, 32, 32))


def test_scse_takes_the_place_of_the_baselines_network(task):
    fitted = scse_supervised(task, FEW, **QUIET)
    assert isinstance(fitted.method, Supervised) and isinstance(fitted.method.net, SCSEUNet)
    assert scse_unet(Shape(1, 3, 3))(torch.randn(1, 1, 32, 16, 16)).shape == (1, 3, 32, 16, 16)
    gate = SpatialGate(2, 3)
    assert gate.gate(torch.randn(2, 3, 4, 4)).shape == (2, 1, 4, 4)


# ALPNet


def test_local_prototypes_are_means_of_windows_that_the_mask_fills():
    torch.manual_seed(0)
    features, masks = torch.randn(2, 3, 5, 8, 8), torch.zeros(2, 3, 8, 8)
    masks[0, 0, :5, :6], masks[1, 2] = 1.0, 1.0
    masks[0, 0, 0, 0] = 0.9  # (3 + 0.9) / 4 is more than 0.95 of the window
    masks[0, 0, 3, 3] = 0.5  # (3 + 0.5) / 4 is not
    prototypes, valid = local_prototypes(features, masks, 2, 0.95)
    assert prototypes.shape == (2, 3 * 16, 5)
    for e in range(2):
        for n in range(3):
            for cell in range(16):
                i, j = 2 * (cell // 4), 2 * (cell % 4)
                window = (slice(i, i + 2), slice(j, j + 2))
                mean = features[e, n][(slice(None), *window)].mean((1, 2))
                assert torch.allclose(prototypes[e, 16 * n + cell], mean, atol=1e-6)
                assert valid[e, 16 * n + cell] == (masks[e, n][window].mean() > 0.95)
    assert valid[0, :16].nonzero()[:, 0].tolist() == [0, 1, 2, 4, 6]


def test_global_prototype_is_the_mean_under_the_masks():
    features, masks = torch.randn(2, 3, 4, 6, 6), torch.rand(2, 3, 6, 6)
    masks[1] = 0
    got = average(features, masks)
    pixels, w = features[0].movedim(1, -1).reshape(-1, 4), masks[0].reshape(-1, 1)
    assert torch.allclose(got[0], (pixels * w).sum(0) / w.sum(), atol=1e-5)
    assert (got[1] == 0).all()


def test_nearness_is_cosine_similarity_pooled_by_its_softmax():
    torch.manual_seed(0)
    query, prototypes = torch.randn(1, 4, 3, 2), torch.randn(1, 5, 4)
    valid = torch.tensor([[True, False, True, True, False]])
    got = nearness(query, prototypes, valid, temperature=20.0)
    for i in range(3):
        for j in range(2):
            z = query[0, :, i, j]
            s = [
                20 * float(z @ prototypes[0, p] / (z.norm() * prototypes[0, p].norm()))
                for p in (0, 2, 3)
            ]
            share = np.exp(s) / np.exp(s).sum()
            assert got[0, i, j].item() == pytest.approx(float(share @ s), abs=1e-3)
    assert torch.allclose(got, nearness(3 * query, prototypes, valid, 20.0), atol=1e-4)
    assert not torch.allclose(got, 20 * nearness(query, prototypes, valid, 1.0), atol=1e-2)


def test_answer_is_the_softmax_over_the_two_sides(problem):
    model = ALPNet.for_task(problem, test_window=2).eval()
    query, support, mask = pair()
    model.condition(given(2).support)
    z_q, z_s = model.embed(query), model.embed(support)
    assert z_q.shape == (1, 32, 16, 16)
    small = F.avg_pool2d(mask.float(), 2)
    sides = []
    for side in (1 - small, small):
        cells, valid = local_prototypes(z_s[None], side[None], 2, 0.95)
        everything = torch.cat([cells[valid], average(z_s[None], side[None])])
        sides.append(nearness(z_q, everything[None], torch.ones(1, len(everything)) > 0))
    logits = F.interpolate(torch.stack(sides, 1), (32, 32), mode="bilinear", align_corners=False)
    got = model.compare(z_q, z_s[None], mask[None], 2)
    assert torch.allclose(got, logits, atol=1e-4)
    expected = logits.softmax(1)[:, 1]
    assert torch.allclose(model.predict(query)[:, 1], expected, atol=1e-4)


def test_local_prototypes_keep_apart_what_one_mean_blurs():
    """Foreground of two opposite kinds: their mean is like neither, each alone is like itself."""
    a, b, c = torch.eye(3)
    mixed = torch.zeros(1, 1, 3, 8, 8)
    mixed[..., :, :] = b.view(3, 1, 1)
    mixed[0, 0, :, :4, :4], mixed[0, 0, :, 4:, :4] = a.view(3, 1, 1), -a.view(3, 1, 1) + 0.01
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    cells, valid = local_prototypes(mixed, mask, 2, 0.95)
    whole = average(mixed, mask)[:, None]
    local = nearness(mixed[0], cells, valid)
    alone = nearness(mixed[0], whole, torch.ones(1, 1, dtype=torch.bool))
    assert local[0, :, :4].min() > 19.9
    assert alone[0, :, :4].min() < 0


def test_all_shots_lend_their_prototypes(problem):
    model = ALPNet.for_task(problem).eval()
    query, support, mask = pair()
    shots = torch.cat([support, query])
    masks = torch.cat([mask, mask.roll(13, 2)])
    both = model.score(query, shots, masks)
    assert torch.allclose(both, model.score(query, shots.flip(0), masks.flip(0)), atol=1e-5)
    z, small, sides = model.embed(shots), F.avg_pool2d(masks.float(), 2), []
    for side in (1 - small, small):
        each = [
            local_prototypes(z[None, i : i + 1], side[None, i : i + 1], 1, 0.95) for i in (0, 1)
        ]
        cells = torch.cat([p[0][valid[0]] for p, valid in each] + [average(z[None], side[None])])
        everyone = torch.ones(1, len(cells), dtype=torch.bool)
        sides.append(nearness(model.embed(query), cells[None], everyone))
    expected = networks.blocks.resize(torch.stack(sides, 1), (32, 32)).softmax(1)[:, 1]
    assert torch.allclose(both, expected, atol=1e-4)


def test_alignment_asks_the_way_back(problem):
    """The support, asked with the query's own decision as the mask."""
    model, batch = ALPNet.for_task(problem, weight=0.5), episode_batch(problem)
    seen = []
    compare = model.compare

    def watch(query, support, masks, window):
        assert window == model.window
        seen.append((query, support, masks, compare(query, support, masks, window)))
        return seen[-1][-1]

    model.compare = watch
    torch.manual_seed(7)
    terms = model.loss(batch)
    (z_q, z_s, mask, answer), (back_q, back_s, decided, back) = seen
    assert back_q is not z_q and torch.equal(back_q, z_s[:, 0]) and torch.equal(back_s[:, 0], z_q)
    assert torch.equal(decided[:, 0], answer.argmax(1) == 1)
    expected = 0.5 * losses.dice_ce(back, mask[:, 0].long())
    assert terms["alignment"].item() == pytest.approx(expected.item())
    torch.manual_seed(7)
    assert ALPNet.for_task(problem, weight=0.0).loss(batch)["alignment"] == 0


def test_query_is_the_support_transformed_with_its_superpixel(problem, monkeypatch):
    model, batch = ALPNet.for_task(problem), episode_batch(problem)
    seen = []
    monkeypatch.setattr(
        "lsseg_edu.semi.few_shot.alpnet.losses.dice_ce",
        lambda logits, target: seen.append(target) or logits.sum() * 0,
    )
    inputs = []
    model.net.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    model.loss(batch)
    target, mask = seen
    assert torch.equal(inputs[0], batch.unlabelled.images)
    assert not torch.allclose(inputs[1], inputs[0])
    assert not torch.equal(target, mask)
    overlap = 2 * (target & mask).sum() / (target.sum() + mask.sum())
    assert overlap > 0.3  # moved, not replaced
    regions = batch.unlabelled.extras["superpixels"]
    for m, r in zip(mask.bool(), regions, strict=True):
        (number,) = r[m].unique().tolist()
        assert number > 0 and torch.equal(m, r == number)


def test_superpixels_are_drawn_alike_whatever_their_size():
    regions = torch.zeros(1, 6, 6, dtype=torch.long)
    regions[0, 0, 0], regions[0, 1:5], regions[0, 5] = 1, 2, 3
    torch.manual_seed(0)
    sizes = [int(draw_superpixel(regions).sum()) for _ in range(600)]
    assert set(sizes) == {1, 24, 6}
    assert all(abs(sizes.count(n) / 600 - 1 / 3) < 0.07 for n in (1, 24, 6))
    assert not draw_superpixel(torch.zeros_like(regions)).any()


def test_no_superpixel_at_all_is_still_finite(problem):
    model, batch = ALPNet.for_task(problem), episode_batch(problem)
    nothing = torch.zeros_like(batch.unlabelled.labels)
    empty = replace(batch.unlabelled, extras={"superpixels": nothing})
    terms = model.loss(Batch(None, empty, 0.5))
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_alpnet_reads_no_manual_label(problem):
    """Poisoned training masks: the trained weights are the same, bit by bit."""
    torch.manual_seed(3)
    poison = torch.randint(0, 2, problem.train.labels.shape)
    other = replace(problem, train=replace(problem.train, labels=poison))
    clean, dirty = (ssl_alpnet(p, FEW, **QUIET).method for p in (problem, other))
    assert torch.equal(weights(clean), weights(dirty))
    assert not torch.equal(weights(clean), weights(ALPNet.for_task(problem)))
    assert not ALPNet.labelled and ALPNet.unlabelled
    assert torch.equal(clean.support_labels, problem.support.labels)


def test_superpixels_are_felzenszwalbs_without_the_large_ones(problem):
    from skimage.segmentation import felzenszwalb

    cohort = problem.train.select(slice(4))
    found = superpixel_maps(cohort, scale=30.0, smallest=20, largest=0.25)
    for image, mine in zip(cohort.images[:, 0].numpy(), found, strict=True):
        low, high = np.quantile(image, (0.01, 0.99))
        reference = felzenszwalb(np.clip((image - low) / (high - low), 0, 1), 30, 0.5, 20)
        sizes = np.bincount(reference.flat)
        assert (sizes >= 20).all()
        large = sizes[reference] > 0.25 * reference.size
        assert np.array_equal(mine.numpy() == 0, large)
        assert np.array_equal(mine.numpy()[~large], reference[~large] + 1)
    assert (found == 0).any() and (found > 0).any()
    poisoned = replace(cohort, labels=1 - cohort.labels)
    assert torch.equal(superpixel_maps(poisoned, 30.0, smallest=20), found)


def test_superpixels_of_volumes(volumes):
    with pytest.raises(ValueError, match="made of slices: give a 2D cohort"):
        superpixel_maps(volumes)
