"""Contrastive learning: who is positive, who is negative, and what is handed over."""

import math
from collections import deque
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE
from lsseg_edu.frontier.contrastive import (
    Distillation,
    GlobalLocal,
    MoCo,
    SimCLR,
    SimCLRv2,
    contrast,
    finetune_chaitanya,
    finetune_moco,
    finetune_simclr,
    nt_xent,
    partition,
    regions,
    simclrv2,
    simclrv2_distill,
    soften,
)
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.self_supervision import finetune_from, info_nce, pretrain
from lsseg_edu.semi.self_supervision.finetune import PARTS
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

SIZE = (32, 32)
NONE = Budget("smoke", steps=0, batch=2)
DECODER = [name for name in PARTS["all"] if name not in PARTS["encoder"]]


def net(dims=2):
    return unet(Shape(1, 3, dims), width=4)


def batch(n=4, progress=1.0, size=SIZE):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 1, *size, generator=generator)
    index = torch.arange(n)
    part = Part(images, torch.full((n, *size), IGNORE), index, index, {})
    return Batch(None, part, progress)


def unit(*shape, seed=0):
    z = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(z, dim=-1)


def by_hand(similarity, positive, negative, temperature):
    """The mean over positive pairs, one pair at a time."""
    terms = []
    for i, row in enumerate(similarity.tolist()):
        for p, s in enumerate(row):
            if positive(i, p):
                others = [math.exp(t / temperature) for n, t in enumerate(row) if negative(i, n)]
                own = math.exp(s / temperature)
                terms.append(-math.log(own / (own + sum(others))))
    return sum(terms) / len(terms)


def has_gradient(module):
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture
def stacked(task):
    """The task, with a height for each of the two slices of a subject."""
    height = torch.tensor([0.2, 0.8]).repeat(len(task.train) // 2)
    return replace(task, train=replace(task.train, extras={"position": height}))


# The loss


def test_contrast_is_the_double_loop():
    similarity = unit(5, 8) @ unit(7, 8, seed=1).T
    masks = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(2))
    positives, negatives = masks[0] > 0.7, masks[1] > 0.5
    expected = by_hand(similarity, lambda i, p: positives[i, p], lambda i, n: negatives[i, n], 0.2)
    assert contrast(similarity, positives, negatives, 0.2).item() == pytest.approx(expected)


def test_contrast_of_one_positive_is_info_nce():
    a, b, own = unit(6, 8), unit(6, 8, seed=1), torch.eye(6, dtype=torch.bool)
    assert torch.allclose(contrast(a @ b.T, own, ~own, 0.3), info_nce(a, b, 0.3))


def test_an_anchor_without_negatives_costs_nothing_and_breaks_nothing():
    similarity = torch.zeros(2, 2, requires_grad=True)
    own = torch.eye(2, dtype=torch.bool)
    loss = contrast(similarity, own, torch.zeros_like(own))
    loss.backward()
    assert loss == 0 and (similarity.grad == 0).all()


def test_nt_xent_is_the_double_loop():
    a, b = 3 * unit(5, 8), 2 * unit(5, 8, seed=1)
    z = F.normalize(torch.cat([a, b]), dim=1)
    partner = {i: (i + 5) % 10 for i in range(10)}
    expected = by_hand(
        z @ z.T, lambda i, p: p == partner[i], lambda i, n: n not in (i, partner[i]), 0.5
    )
    assert nt_xent(a, b, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_is_symmetric_and_knows_chance():
    a, b = unit(6, 8), unit(6, 8, seed=1)
    assert nt_xent(a, b).item() == pytest.approx(nt_xent(b, a).item(), rel=1e-5)
    ones = torch.ones(6, 8)
    assert nt_xent(ones, ones).item() == pytest.approx(math.log(11), rel=1e-5)
    assert nt_xent(a, a, 0.05) < nt_xent(a, b, 0.05)


def test_nt_xent_averages_over_leading_axes():
    a, b = unit(3, 6, 8), unit(3, 6, 8, seed=1)
    each = torch.stack([nt_xent(x, y) for x, y in zip(a, b, strict=True)])
    assert torch.allclose(nt_xent(a, b), each.mean())


def test_a_small_temperature_looks_at_the_nearest_negative():
    similarity = torch.tensor([[0.6, 0.5, -0.5]], requires_grad=True)
    first = torch.tensor([[True, False, False]])
    ratios = []
    for temperature in (1.0, 0.1):
        loss = contrast(similarity, first, ~first, temperature)
        (pull,) = torch.autograd.grad(loss, similarity)
        ratios.append((pull[0, 1] / pull[0, 2]).item())
        assert ratios[-1] == pytest.approx(math.exp(1 / temperature), rel=1e-3)
    assert ratios[1] > ratios[0]


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="smaller than the contrastive minimum"):
        SimCLR(net()).loss(batch(1))


# Every pretext


def make(kind, dims=2, **options):
    if kind is GlobalLocal:
        return GlobalLocal(net(dims), torch.tensor([0, 1, 0, 1]), **options)
    return kind(net(dims), **options)


@pytest.mark.parametrize(("kind", "progress"), [(SimCLR, 0), (GlobalLocal, 0), (GlobalLocal, 1)])
def test_every_pretext_can_be_learnt(kind, progress):
    """Fresh views of one small batch cost less after thirty steps."""
    torch.manual_seed(0)
    pretext, b = make(kind, views=Augment.weak()), batch(4, progress)
    b.unlabelled.images.copy_(4 * F.avg_pool2d(b.unlabelled.images, 5, 1, 2))
    optimiser = torch.optim.AdamW(pretext.parameters(), lr=4e-3)
    seen = []
    for _ in range(30):
        loss = sum(pretext.loss(b).values())
        seen.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(seen[-5:]) < 0.8 * sum(seen[:5])


@pytest.mark.parametrize("kind", [SimCLR, MoCo, GlobalLocal])
@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_every_pretext_takes_volumes(kind, progress):
    options = {"blocks": 2, "count": 4} if kind is GlobalLocal else {}
    pretext = make(kind, dims=3, **options)
    terms = pretext.loss(batch(2, progress, (32, 32, 16)))
    sum(terms.values()).backward()
    trained = [p for p in pretext.parameters() if p.grad is not None]
    assert trained and all(p.grad.isfinite().all() for p in trained)


# SimCLR


def test_the_views_are_two_in_geometry_and_intensity():
    pretext, seen = SimCLR(net()), []
    pretext.net.conv_0.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    b = batch()
    pretext.loss(b)
    first, second = seen
    assert not torch.allclose(first, second) and not torch.allclose(first, b.unlabelled.images)
    assert pretext.views.moves
    still = replace(pretext.views, rotation=0, tilt=0, scale=0, shear=0, shift=0, elastic=0)
    assert not torch.allclose(SimCLR(net(), views=still).view(b.unlabelled.images), first)


def test_simclr_compares_one_view_with_the_other():
    pretext, b = SimCLR(net()), batch()
    first, second = b.unlabelled.images, b.unlabelled.images.flip(-1)
    drawn = iter([first, second])
    pretext.view = lambda _: next(drawn)
    expected = nt_xent(pretext.represent(first), pretext.represent(second), 0.1)
    assert torch.allclose(pretext.loss(b)["simclr"], expected)
    assert not torch.allclose(expected, nt_xent(pretext.represent(first), pretext.represent(first)))


def test_the_projection_head_is_trained_and_thrown_away(task):
    pretext = SimCLR(net())
    pretext.loss(batch())["simclr"].backward()
    assert has_gradient(pretext.head) and has_gradient(pretext.net.conv_0)
    assert not has_gradient(pretext.net.upcat_1) and not has_gradient(pretext.net.final_conv)
    trained = pretrain(SimCLR, task, Budget("smoke", 1, batch=2), progress=False).method
    start = finetune_from(trained, task, NONE, progress=False).method
    assert not any("head" in name for name, _ in start.named_parameters())
    for name in PARTS["encoder"]:
        assert same_weights(getattr(start.net, name), getattr(trained.net, name))
    for name in DECODER:
        assert same_weights(getattr(start.net, name), getattr(unet(task), name))


def test_contrast_learns_at_a_fraction_of_the_rate():
    (player,) = SimCLR(net()).players()
    assert player.rate == 0.25


# MoCo


def test_the_queue_is_first_in_first_out():
    """Batches of 4 do not divide a queue of 10: the ring wraps within a batch."""
    method = MoCo(net(), queue=10)
    expected = deque(method.queue.tolist(), maxlen=10)
    for i in range(6):
        keys = unit(4, 64, seed=i)
        method.enqueue(keys)
        expected.extend(keys.tolist())
        ordered = method.queue.roll(-int(method.oldest), 0)
        assert ordered.tolist() == list(expected)


def test_moco_contrasts_the_own_key_with_the_queue():
    method, b = MoCo(net(), queue=6, temperature=0.3), batch(3)
    method.view = lambda images: images
    queries = F.normalize(method.represent(b.unlabelled.images), dim=1)
    similarity = torch.cat([queries @ queries.T, queries @ method.queue.T], 1)
    expected = by_hand(similarity, lambda i, p: p == i, lambda i, n: n >= 3, 0.3)
    assert method.loss(b)["moco"].item() == pytest.approx(expected, rel=1e-4)


def test_keys_have_no_gradient():
    method = MoCo(net())
    before = method.queue.clone()
    method.loss(batch())["moco"].backward()
    assert not method.keys.requires_grad and torch.equal(method.queue, before)
    for slow in (method.key_net, method.key_head):
        assert all(p.grad is None and not p.requires_grad for p in slow.parameters())
    assert has_gradient(method.net.conv_0) and has_gradient(method.head)


def test_the_key_encoder_follows_its_law_and_keys_are_enqueued_after_the_step():
    method = MoCo(net(), queue=8, decay=0.9)
    method.keys, expected = unit(4, 64), 1.0
    for p in [*method.key_net.parameters(), *method.key_head.parameters()]:
        p.fill_(1.0)
    for t in range(5):
        with torch.no_grad():
            for p in [*method.net.parameters(), *method.head.parameters()]:
                p.fill_(float(t))
        method.after_step(0.5)
        expected = 0.9 * expected + 0.1 * t
        for p in [*method.key_net.parameters(), *method.key_head.parameters()]:
            assert torch.allclose(p, torch.tensor(expected))
    assert torch.equal(method.queue, method.keys.repeat(2, 1))


def test_the_queue_survives_a_checkpoint(task, tmp_path):
    class Killed(MoCo):
        left = 2

        def after_step(self, progress):
            super().after_step(progress)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def run(kind, **kwargs):
        method = kind.for_task(task, queue=6)
        return fit(method, task, Budget("smoke", 4, batch=4), progress=False, **kwargs).method

    file = tmp_path / "moco.pt"
    run(Killed, checkpoint=file)
    whole, resumed = run(MoCo), run(MoCo, checkpoint=file)
    assert torch.equal(whole.queue, resumed.queue) and whole.oldest == resumed.oldest == 16 % 6
    assert same_weights(whole, resumed)


def test_a_queue_shorter_than_the_batch_is_refused():
    with pytest.raises(ValueError, match="queue of 3 keys cannot take a batch of 4"):
        MoCo(net(), queue=3).loss(batch(4))


# Global and local


def test_partition_cuts_the_volume_into_equal_parts():
    height = torch.tensor([0.0, 0.24, 0.26, 0.5, 0.99, 1.0])
    assert partition(height, 4).tolist() == [0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize(("height", "count"), [([0.0, 0.5, 1.0], 1), ([0.5, 0.5], 4)])
def test_one_partition_is_refused(height, count):
    with pytest.raises(ValueError, match="all slices lie in one"):
        partition(torch.tensor(height), count)


def test_a_cohort_without_heights_is_refused(task):
    with pytest.raises(ValueError, match="does not say where its slices lie"):
        GlobalLocal.for_task(task)


def test_positives_share_a_partition_and_negatives_do_not(stacked):
    """Brute force over four slices of four volumes, two views each."""
    method = GlobalLocal.for_task(stacked, partitions=2)
    assert method.parts.tolist() == [0, 1] * (len(stacked.train) // 2)
    index = torch.tensor([0, 3, 4, 7])  # volumes 0 to 3, partitions 0, 1, 0, 1
    assert len(stacked.train.subjects[index].unique()) == 4
    images, parts = stacked.train.images[index], method.parts[index]
    method.view = lambda x: x
    z = F.normalize(method.represent(images.repeat(2, 1, 1, 1)), dim=1)
    where = parts.tolist() * 2
    expected = by_hand(
        z @ z.T,
        lambda i, p: where[i] == where[p] and i != p,
        lambda i, n: where[i] != where[n],
        method.temperature,
    )
    assert method.global_loss(images, parts).item() == pytest.approx(expected, rel=1e-4)
    strangers = method.global_loss(images, torch.arange(4))
    assert strangers.item() != pytest.approx(expected, rel=1e-2)


def test_the_loss_finds_the_partition_of_each_item(stacked, monkeypatch):
    seen = []
    monkeypatch.setattr(
        GlobalLocal,
        "global_loss",
        lambda self, images, parts: seen.append(parts) or 0 * images.sum(),
    )
    method, b = GlobalLocal.for_task(stacked), batch(4, progress=0.0)
    part = replace(b.unlabelled, index=torch.tensor([5, 2, 3, 0]))
    method.loss(replace(b, unlabelled=part))
    assert seen[0].tolist() == [3, 0, 3, 0]


@pytest.mark.parametrize("size", [(8, 12), (4, 8, 4)])
def test_regions_are_blocks_at_the_same_place(size):
    maps = torch.randn(2, 3, *size)
    blocks = regions(maps, 4)
    k = [n // 4 for n in size]
    assert blocks.shape == (2, 4 ** len(size), 3 * math.prod(k))
    for r in range(blocks.shape[1]):
        place = [r // 4**i % 4 for i in reversed(range(len(size)))]
        cut = maps[(..., *[slice(p * n, (p + 1) * n) for p, n in zip(place, k, strict=True)])]
        assert torch.equal(blocks[:, r], cut.flatten(1))


def test_regions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no 3 equal regions"):
        regions(torch.zeros(1, 2, 8, 8), 3)


def test_local_positives_are_corresponding_places():
    """Brute force over the regions of each slice: own place in the other view, all others not."""
    method, images = make(GlobalLocal, count=2), batch(3).unlabelled.images
    views = iter([images, images + 0.5 * torch.randn_like(images)] * 2)
    seen, places = [], method.places
    method.places = lambda _: seen.append(places(next(views))) or seen[-1]
    loss = method.local_loss(images)
    terms = []
    for z in F.normalize(torch.cat(seen, 1), dim=2):
        terms.append(
            by_hand(
                z @ z.T,
                lambda i, p: p != i and p % 4 == i % 4,
                lambda i, n: n % 4 != i % 4,
                method.temperature,
            )
        )
    assert loss.item() == pytest.approx(sum(terms) / 3, rel=1e-4)


def test_local_views_do_not_move():
    method, seen = make(GlobalLocal), []
    method.places = lambda images: seen.append(images) or unit(len(images), 4, 8)
    ramp = torch.arange(32.0).expand(4, 1, 32, 32).contiguous()
    method.views = replace(method.views, bias=0, noise=0, blur=0)  # monotone: order must stay
    method.local_loss(ramp)
    assert not torch.equal(*seen)
    assert all((x.diff(dim=-1) >= 0).all() and x.var(2).max() < 1e-8 for x in seen)


def test_first_the_encoder_then_the_decoder():
    for progress, learns, rests in [(0.0, PARTS["encoder"], DECODER)] + [
        (0.5, DECODER[:3], [*PARTS["encoder"], "upcat_1"])
    ]:
        method = make(GlobalLocal)
        (name,) = terms = method.loss(batch(4, progress))
        assert name == ("global" if progress == 0 else "local")
        terms[name].backward()
        assert all(has_gradient(getattr(method.net, part)) for part in learns)
        assert not any(has_gradient(getattr(method.net, part)) for part in rests)


def test_encoder_and_decoder_are_handed_over(stacked):
    trained = pretrain(GlobalLocal, stacked, Budget("smoke", 2, batch=4), progress=False)
    assert list(trained.history) == ["global", "local"]
    start = finetune_from(trained.method, stacked, NONE, progress=False).method.net
    for name in PARTS["all"]:
        assert same_weights(getattr(start, name), getattr(trained.method.net, name))
    assert same_weights(start.upcat_1, unet(stacked).upcat_1)  # untrained: still the baseline's
    assert not same_weights(start.upcat_4, unet(stacked).upcat_4)


# SimCLRv2


def test_softening_is_the_softmax_of_logits_over_temperature():
    logits = 3 * torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    probs = (logits + 7).softmax(1)
    entropy = []
    for temperature in (0.5, 1.0, 2.0, 8.0):
        soft = soften(probs, temperature)
        assert torch.allclose(soft, (logits / temperature).softmax(1), atol=1e-5)
        entropy.append(-(soft * soft.log()).sum(1).mean())
    assert entropy == sorted(entropy)
    assert soften(torch.tensor([[1.0, 0.0]]), 2.0).isfinite().all()


def distillation(temperature=2.0):
    teacher = unet(Shape(1, 3, 2), width=8, seed=1)
    method = Distillation(net(), Supervised(teacher), temperature)
    method.repaint = lambda images: images
    return method


def test_distillation_is_the_divergence_times_the_square_of_the_temperature():
    method, images = distillation(3.0), batch().unlabelled.images
    student, teacher = (n(images).detach() / 3 for n in (method.net, method.teacher.net))
    p, q = teacher.softmax(1), student.softmax(1)
    by_pixel = sum(p[:, k] * (p[:, k] / q[:, k]).log() for k in range(3))
    loss = method.loss(batch())["distillation"]
    assert loss.item() == pytest.approx(9 * by_pixel.mean().item(), rel=1e-4)


def test_the_square_keeps_the_size_of_the_gradient():
    sizes = []
    for temperature in (10.0, 40.0):
        method = distillation(temperature)
        method.loss(batch())["distillation"].backward()
        sizes.append(sum(p.grad.square().sum() for p in method.net.parameters()).sqrt())
    assert sizes[0].item() == pytest.approx(sizes[1].item(), rel=0.2)


def test_distillation_looks_at_no_label_and_leaves_the_teacher(task):
    method, b = distillation(), batch()
    assert not method.labelled and method.unlabelled and b.labelled is None
    losses = [method.loss(replace(b, unlabelled=replace(b.unlabelled, labels=x)))["distillation"]
              for x in (b.unlabelled.labels, torch.zeros_like(b.unlabelled.labels))]  # fmt: skip
    assert losses[0] == losses[1]
    losses[0].backward()
    assert has_gradient(method.net)
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    index = []
    method.imitation = lambda images: (
        index.append(images) or 0 * sum(p.sum() for p in method.net.parameters())
    )
    fit(method, task, Budget("smoke", 2, batch=4), progress=False)
    assert len(index) == 2


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="give T > 0"):
        distillation(0.0)


def test_big_pretrained_finetuned_distilled(task, monkeypatch):
    starts, real = [], simclrv2.fit

    def recorded(method, *args, **kwargs):
        starts.append({k: v.clone() for k, v in method.net.state_dict().items()})
        return real(method, *args, **kwargs)

    monkeypatch.setattr(simclrv2, "fit", recorded)
    fitted = simclrv2_distill(task, Budget("smoke", 2, batch=2), seed=3, progress=False)
    big, tuned, student = fitted.rounds
    assert isinstance(big.method, SimCLRv2) and isinstance(student.method, Distillation)
    for name, value in big.method.net.state_dict().items():
        if name.split(".")[0] in PARTS["encoder"]:
            assert torch.equal(starts[0][name], value)
    baseline = unet(task, seed=3).state_dict()
    assert all(torch.equal(starts[1][name], value) for name, value in baseline.items())
    assert same_weights(student.method.teacher.net, tuned.method.net)
    sizes = [sum(p.numel() for p in f.method.net.parameters()) for f in (tuned, student)]
    assert sizes[0] > 2 * sizes[1]
    assert fitted.seconds == pytest.approx(sum(f.seconds for f in fitted.rounds))
    probs = fitted.predict(task.test.images)
    assert torch.allclose(probs, student.method.net(task.test.images).softmax(1), atol=1e-5)


# Procedures


@pytest.mark.parametrize("procedure", [finetune_simclr, finetune_moco, finetune_chaitanya])
def test_pretraining_then_finetuning(procedure, stacked):
    fitted = procedure(stacked, Budget("smoke", 2, batch=4), seed=1, progress=False)
    assert isinstance(fitted.method, Supervised) and len(fitted.history["supervised"]) == 2
    assert all(math.isfinite(v) for values in fitted.history.values() for v in values)
    assert len(fitted.history) >= 2
