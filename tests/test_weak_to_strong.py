"""Weak to strong: who labels whom, with which pixels, and where no gradient goes."""

import math

import pytest
import torch
from probes import batch, inputs, outputs
from scipy import stats
from torch import nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Cohort, Task
from lsseg_edu.semi.consistency.bortsova import Siamese
from lsseg_edu.semi.consistency.cps import CrossPseudoSupervision, decided
from lsseg_edu.semi.consistency.cutmix import boxes, paste
from lsseg_edu.semi.consistency.dmnet import DMNet, FusionDecoder, difference, sharpen
from lsseg_edu.semi.consistency.entropy_min import EntropyMinimisation, entropy_of_logits
from lsseg_edu.semi.consistency.fixmatch import FixMatch, confident, pseudo_loss
from lsseg_edu.semi.consistency.mi_cluster import MIClustering
from lsseg_edu.semi.consistency.unimatch import UniMatch
from lsseg_edu.train import Budget, fit


def conv(dims=2, kernel=3, seed=0):
    torch.manual_seed(seed)
    layer = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(layer(1, 4, kernel, padding="same"), nn.ReLU(), layer(4, 3, 1))


def unet(dims=2, dropout=0.0):
    return networks.unet(networks.Shape(1, 3, dims), width=4, dropout=dropout)


# Entropy minimisation


def test_entropy_is_that_of_scipy_and_its_gradient_is_finite_when_certain():
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 4, 5, 6)
    expected = stats.entropy(logits.softmax(1).numpy(), axis=1)
    assert torch.allclose(entropy_of_logits(logits), torch.tensor(expected), atol=1e-5)
    flat = entropy_of_logits(torch.zeros(1, 4, 2, 2))
    assert torch.allclose(flat, torch.full_like(flat, math.log(4)))
    certain = torch.tensor([500.0, 0.0, -500.0]).view(1, 3, 1, 1).requires_grad_()
    entropy_of_logits(certain).sum().backward()
    assert certain.grad.isfinite().all()


def test_entropy_term_is_the_mean_over_unlabelled_pixels_weighted_and_ramped():
    method, b = EntropyMinimisation(conv(), weight=2.0), batch(8, 8)
    probs = method.net(b.unlabelled.images).softmax(1)
    expected = -2 * (probs * probs.log()).sum(1).mean().item()
    assert method.loss(b)["entropy"].item() == pytest.approx(expected, rel=1e-4)
    start = method.loss(batch(8, 8, progress=0.0))["entropy"].item()
    assert start == pytest.approx(math.exp(-5) * expected, rel=1e-3)


def test_entropy_pushes_each_pixel_to_where_it_leans():
    logits = torch.tensor([[0.4, 0.0], [-0.2, 0.0]]).view(2, 2, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(entropy_of_logits(logits).sum(), logits)
    assert gradient[0, 0] < 0 < gradient[0, 1] and gradient[1, 1] < 0 < gradient[1, 0]


# CutMix


@pytest.mark.parametrize("size", [(64, 48), (32, 24, 40)])
def test_boxes_are_boxes_of_the_shares_asked_for(size):
    torch.manual_seed(0)
    images = torch.empty(2000, 1, *size) if len(size) == 2 else torch.empty(200, 1, *size)
    box = boxes(images, share=(0.1, 0.5))
    assert box.shape == (len(images), 1, *size) and box.dtype == torch.bool
    sides = []
    for axis in range(2, 2 + len(size)):
        others = [i for i in range(1, box.ndim) if i != axis]
        line = box.amax(others).int()
        assert (line.diff(dim=1).clamp(min=0).sum(1) + line[:, 0] == 1).all()  # one run each
        sides.append(line.sum(1))
    assert (box.flatten(1).sum(1) == torch.stack(sides).prod(0)).all()
    share = box.flatten(1).float().mean(1)
    assert share.mean().item() == pytest.approx(0.3, abs=0.03)
    assert share.min() > 0.07 and share.max() < 0.56
    long = sides[0] / size[0] > sides[1] / size[1]
    assert long.float().mean().item() == pytest.approx(0.5, abs=0.1)  # no axis is preferred
    if len(size) == 2:
        covered = box.float().mean(0)[0]
        assert covered.min() > 0 and (covered - covered.flip(0, 1)).abs().max() < 0.1
        counts = torch.histc(share, 4, 0.1, 0.5)
        assert (counts / counts.sum() - 0.25).abs().max() < 0.06  # the share is uniform


def test_boxes_follow_the_generator_and_leave_the_global_state_alone():
    images = torch.empty(3, 1, 16, 16)
    before = torch.get_rng_state()
    first, second = (boxes(images, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), before)


def test_images_labels_and_masks_are_pasted_alike():
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (5, 12, 10))
    images = torch.stack([labels, labels + 10], 1).float()
    box = boxes(images)
    mixed, pasted = paste(images, box), paste(labels, box)
    assert torch.equal(mixed[:, 0].long(), pasted) and torch.equal(mixed[:, 1].long(), pasted + 10)
    for i, inside in enumerate(box[:, 0]):
        assert torch.equal(pasted[i][inside], labels[(i + 1) % 5][inside])
        assert torch.equal(pasted[i][~inside], labels[i][~inside])


# FixMatch


def test_confident_pixels_keep_their_class_and_the_others_are_ignored():
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.9, 0.05, 0.05], [0.1, 0.0, 0.9]]).view(3, 3, 1, 1)
    assert confident(probs, 0.9).flatten().tolist() == [IGNORE, 0, 2]
    assert confident(probs, 0.0).flatten().tolist() == [0, 0, 2]


def test_pseudo_loss_is_averaged_over_all_pixels():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    labels[:, 1:] = IGNORE
    known = labels != IGNORE
    picked = -logits.log_softmax(1).gather(1, labels.where(known, 0).unsqueeze(1))[:, 0][known]
    assert pseudo_loss(logits, labels).item() == pytest.approx(picked.sum().item() / 32, rel=1e-5)
    assert pseudo_loss(logits, torch.full_like(labels, IGNORE)) == 0


def test_weak_view_labels_the_strong_view():
    """Only the teacher sees the weak image; what it says is what the student is asked."""
    method, b = FixMatch(conv(), tau=0.4, cutmix=False), batch(16, 16)
    students, teachers, asked = inputs(method.net), inputs(method.teacher), outputs(method.net)
    loss = method.consistency(b)
    assert torch.equal(teachers[0], b.unlabelled.images) and len(teachers) == len(students) == 1
    assert not torch.allclose(students[0], teachers[0])
    labels = confident(method.teacher(teachers[0]).softmax(1), 0.4)
    assert 0 < (labels == IGNORE).float().mean() < 1
    assert loss.item() == pytest.approx(pseudo_loss(asked[0], labels).item(), rel=1e-5)
    assert method.weak == Augment.weak()


def test_strong_view_and_labels_are_cut_by_the_same_boxes():
    """A pixelwise network sure of everything agrees with itself, box or no box."""
    method = FixMatch(conv(kernel=1), tau=0.0, strong=Augment.none())
    b = batch(16, 16)
    images = b.unlabelled.images
    labels = method.labels_of(images)
    for _ in range(5):
        strong, target = method.harden(images, labels)
        assert torch.equal(method.labels_of(strong), target)
        assert not torch.equal(strong, images) and not torch.equal(target, labels)
    beliefs = labels.masked_fill(torch.rand(labels.shape) < 0.5, IGNORE)
    torch.manual_seed(3)
    _, target = method.harden(images, labels)
    torch.manual_seed(3)
    _, believed = method.harden(images, beliefs)
    known = believed != IGNORE
    assert torch.equal(believed[known], target[known]) and 0.4 < known.float().mean() < 0.6


@pytest.mark.parametrize("kind", [FixMatch, UniMatch])
def test_no_gradient_flows_through_the_weak_view(kind):
    method, b = kind(unet(), tau=0.3), batch(32, 32)
    method.consistency(b).backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    grads = [p.grad for p in method.net.parameters()]
    assert all(g.isfinite().all() for g in grads) and sum(g.abs().sum() for g in grads) > 0


def test_where_nobody_is_sure_nothing_is_learnt():
    method = FixMatch(conv(), tau=1.0)
    assert method.consistency(batch(16, 16)) == 0
    method = FixMatch(conv(), weight=3.0, tau=0.0, cutmix=False, strong=Augment.none())
    end = method.loss(batch(16, 16))["consistency"].item()
    start = method.loss(batch(16, 16, progress=0.0))["consistency"].item()
    assert start == pytest.approx(math.exp(-5) * end, rel=1e-3) and end > 0


def test_without_decay_the_networks_own_answers_are_the_labels(task):
    method = fit(FixMatch(conv(), decay=0.0), task, Budget("smoke", 2), progress=False).method
    pairs = zip(method.teacher.parameters(), method.net.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    slow = fit(FixMatch(conv()), task, Budget("smoke", 2), progress=False).method
    pairs = zip(slow.teacher.parameters(), slow.net.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    images = torch.randn(1, 1, 32, 32)
    assert torch.equal(slow.predict(images), slow.teacher(images).softmax(1))


@pytest.mark.parametrize("tau", [-0.1, 1.5])
def test_a_threshold_is_a_probability(tau):
    with pytest.raises(ValueError, match="give tau in"):
        FixMatch(conv(), tau=tau)


# UniMatch


def test_three_streams_are_labelled_by_one_weak_view(monkeypatch):
    method, b = UniMatch(unet(), tau=0.0, cutmix=False), batch(32, 32)
    seen, features, weak = [], torch.zeros(4, 3, 32, 32), []
    method.disturbed = lambda images: weak.append(images) or features

    def record(logits, labels):
        seen.append(labels)
        return torch.tensor(1000.0 if logits is features else 10.0 ** len(seen))

    monkeypatch.setattr("lsseg_edu.semi.consistency.unimatch.pseudo_loss", record)
    total, labels = method.consistency(b), method.labels_of(b.unlabelled.images)
    assert len(seen) == 3 and all(torch.equal(labels, other) for other in seen)
    assert total.item() == pytest.approx(1000 / 2 + (10 + 100) / 4)
    assert torch.equal(weak[0], b.unlabelled.images)


def test_the_two_strong_views_differ_and_carry_their_own_boxes():
    method, b = UniMatch(unet(), tau=0.0), batch(32, 32)
    method.strong = Augment.none()
    seen = inputs(method.net.conv_0)
    method.consistency(b)
    first, second = next(x for x in seen if len(x) == 8).chunk(2)
    assert not torch.equal(first, second)
    boxed = [(x != b.unlabelled.images).any() for x in (first, second)]
    assert all(boxed)


def test_feature_stream_sees_the_weak_image_and_drops_whole_channels():
    method, b = UniMatch(unet()), batch(32, 32)
    images, features = b.unlabelled.images, []
    decode, method.net.decode = method.net.decode, lambda f: features.extend(f) or decode(f)
    dropped = method.disturbed(images)
    assert not torch.allclose(dropped, method.net(images))
    whole = method.net.encode(images)
    gone = 0
    for now, then in zip(features, whole, strict=False):
        silent = (now == 0).flatten(2).all(2)
        assert torch.allclose(now[~silent], 2 * then[~silent], atol=1e-5)
        gone += silent.float().mean().item() / len(whole)
        assert not torch.equal(silent[0], silent[1]) or len(silent[0]) < 5
    assert 0.3 < gone < 0.7
    method.drop = 0.0
    assert torch.allclose(method.disturbed(images), method.net(images), atol=1e-5)


def test_unimatch_needs_features():
    with pytest.raises(ValueError, match="with encode and decode"):
        UniMatch(conv())


# Cross pseudo supervision


def pair(**options):
    return CrossPseudoSupervision(conv(), conv(seed=1), **options)


def test_each_network_learns_the_decisions_of_the_other():
    method, b = pair(weight=3.0), batch(16, 16)
    images = torch.cat([b.labelled.images, b.unlabelled.images])
    one, two = method.net(images), method.other(images)
    assert not torch.equal(one.argmax(1), two.argmax(1))
    cross = losses.cross_entropy(one, two.argmax(1)) + losses.cross_entropy(two, one.argmax(1))
    terms = method.loss(b)
    assert terms["cross"].item() == pytest.approx(3 * cross.item(), rel=1e-5)
    own = [losses.dice_ce(a[:4], b.labelled.labels).item() for a in (one, two)]
    assert terms["supervised"].item() == pytest.approx(sum(own), rel=1e-5)
    start = method.loss(batch(16, 16, progress=0.0))["cross"]
    assert start.item() == pytest.approx(3 * math.exp(-5) * cross.item(), rel=1e-3)


def test_no_gradient_reaches_who_gave_the_label():
    """Without the gradient of its own answer, a network has none at all."""
    method, b = pair(), batch(16, 16)
    method.other.register_forward_hook(lambda m, x, out: out.detach())
    sum(method.loss(b).values()).backward()
    assert all(p.grad is None for p in method.other.parameters())
    assert all(p.grad.abs().sum() > 0 for p in method.net.parameters())
    assert not decided(torch.randn(1, 3, 2, 2, requires_grad=True)).requires_grad


def test_cross_labels_with_cutmix_are_those_of_the_whole_images():
    method, b = pair(cutmix=True), batch(16, 16)
    torch.manual_seed(4)
    box = boxes(b.unlabelled.images)
    images = torch.cat([b.labelled.images, paste(b.unlabelled.images, box)])
    expected = 0
    for me, them in ((method.net, method.other), (method.other, method.net)):
        theirs = them(b.labelled.images), paste(them(b.unlabelled.images), box)
        expected += losses.cross_entropy(me(images), torch.cat(theirs).argmax(1))
    torch.manual_seed(4)
    assert method.loss(b)["cross"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_second_network_is_another_one_and_the_first_answers(task):
    method = CrossPseudoSupervision.for_task(task, seed=2)
    baseline = networks.unet(task, seed=2)
    weights = [next(net.parameters()) for net in (method.net, baseline, method.other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    images = torch.randn(1, 1, 32, 32)
    assert torch.equal(method.predict(images), method.net(images).softmax(1))
    assert {id(p) for p in method.players()[0].parameters} == {id(p) for p in method.parameters()}
    with pytest.raises(ValueError, match="another seed"):
        CrossPseudoSupervision(conv(), conv())


# DMNet


def test_sharpening_is_the_power_of_the_paper():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4)
    power = logits.softmax(1) ** (1 / 0.25)
    assert torch.allclose(sharpen(logits, 0.25), power / power.sum(1, keepdim=True), atol=1e-6)
    assert torch.allclose(sharpen(logits, 1.0), logits.softmax(1))


def test_difference_is_a_dice_loss_of_soft_masks():
    torch.manual_seed(0)
    p, q = (torch.randn(2, 3, 4, 4).softmax(1) for _ in range(2))
    dice = [
        (2 * (p[:, k] * q[:, k]).sum() + 1) / (p[:, k].square().sum() + q[:, k].square().sum() + 1)
        for k in range(3)
    ]
    assert difference(p, q).item() == pytest.approx(1 - sum(d.item() for d in dice) / 3, rel=1e-5)
    assert difference(p, p).abs() < 1e-6 and difference(p, q) == difference(q, p) > 0


def test_decoders_differ_share_one_encoder_and_both_learn():
    method = DMNet(unet(), 3, 2, weight=2.0, temperature=0.5)
    encoded, b = [], batch(32, 32)
    encode, method.net.encode = method.net.encode, lambda x: encoded.append(x) or encode(x)
    terms = method.loss(b)
    assert [len(x) for x in encoded] == [4, 4]
    first, second = method.both(b.unlabelled.images)
    expected = 2 * difference(sharpen(first, 0.5), sharpen(second, 0.5))
    assert terms["difference"].item() == pytest.approx(expected.item(), rel=1e-4)
    answers = method.both(b.labelled.images)
    expected = sum(losses.dice_ce(logits, b.labelled.labels) for logits in answers)
    assert terms["supervised"].item() == pytest.approx(expected.item(), rel=1e-4)
    start = method.loss(batch(32, 32, progress=0.0))["difference"].item()
    assert start == pytest.approx(math.exp(-5) * terms["difference"].item(), rel=1e-3)
    for logits in method.both(b.unlabelled.images):
        (gradient,) = torch.autograd.grad(
            logits.square().sum(), method.net.conv_0.conv_0.conv.weight, retain_graph=True
        )
        assert gradient.abs().sum() > 0
    method.loss(b)["difference"].backward()
    for part in (method.net.conv_0, method.net.upcat_1, method.second):
        assert all(p.grad.isfinite().all() for p in part.parameters())
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0
    kinds = [{type(m) for m in d.modules()} for d in (method.net.upcat_1, method.second)]
    assert nn.ConvTranspose2d in kinds[0] and nn.ConvTranspose2d not in kinds[1]


def test_every_level_of_the_encoder_reaches_the_second_decoder():
    decoder = FusionDecoder(2, (4, 4, 8), 3)
    features = [torch.randn(1, c, n, n, requires_grad=True) for c, n in ((4, 16), (4, 8), (8, 4))]
    out = decoder(features)
    assert out.shape == (1, 3, 16, 16)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(out.square().sum(), features))


def test_prediction_is_the_mean_of_the_decoders():
    method, images = DMNet(unet(), 3, 2), torch.randn(2, 1, 32, 32)
    first, second = (logits.softmax(1) for logits in method.both(images))
    assert torch.allclose(method.predict(images), (first + second) / 2)
    assert not torch.allclose(first, second)


def test_the_second_decoder_has_the_seed_of_the_first(task):
    weights = []
    for state in (0, 1):
        torch.manual_seed(state)
        weights.append(DMNet.for_task(task, seed=3).second.classify.weight)
    assert torch.equal(*weights)


def test_a_temperature_sharpens():
    with pytest.raises(ValueError, match="does not sharpen"):
        DMNet(unet(), 3, 2, temperature=2.0)


# All of them


EVERY = [EntropyMinimisation, FixMatch, UniMatch, CrossPseudoSupervision, DMNet]


@pytest.mark.parametrize("kind", EVERY)
def test_trains_on_a_task(kind, task, budget):
    fitted = fit(kind.for_task(task), task, budget, progress=False)
    assert "supervised" in fitted.history and len(fitted.history) == 2
    probs = fitted.predict(torch.randn(2, 1, 32, 32))
    assert probs.shape == (2, 3, 32, 32) and torch.allclose(probs.sum(1), torch.ones(2, 32, 32))
    same = fit(kind.for_task(task), task, budget, progress=False)
    assert same.history == fitted.history


@pytest.mark.parametrize("kind", [EntropyMinimisation, FixMatch])
def test_volumes(kind):
    sum(kind(conv(dims=3)).loss(batch(6, 8, 8)).values()).backward()


def test_one_image_cannot_be_mixed():
    with pytest.raises(ValueError, match="from another image: use a batch of at least two"):
        FixMatch(unet()).consistency(batch(32, 32, items=1))
    assert FixMatch(unet(), cutmix=False).consistency(batch(32, 32, items=1)) >= 0


def test_labels_are_given_without_dropout():
    method = FixMatch(unet(dropout=0.5), tau=0.0)
    images = batch(32, 32).unlabelled.images
    assert torch.equal(method.labels_of(images), method.labels_of(images))


@pytest.mark.parametrize("kind", [*EVERY, Siamese, MIClustering])
def test_images_of_any_size_and_a_sentence_without_unlabelled_ones(kind, budget):
    cohort = Cohort.from_arrays(
        torch.randn(8, 1, 35, 49), torch.arange(49).expand(8, 35, 49) // 17, torch.arange(8)
    )
    few = Task.split(cohort, labelled=2, valid=1, test=1)
    assert len(fit(kind.for_task(few), few, budget, progress=False).history) >= 2
    everyone = Task.split(cohort, valid=1, test=1)
    with pytest.raises(ValueError, match="no unlabelled training image"):
        fit(kind.for_task(everyone), everyone, budget, progress=False)


def test_volumes_with_two_networks():
    method = CrossPseudoSupervision(conv(3), conv(3, seed=1), cutmix=True)
    sum(method.loss(batch(6, 8, 8)).values()).backward()


def test_volumes_with_features():
    b = batch(16, 16, 32, items=2)
    assert DMNet(unet(3), 3, 3).loss(b)["difference"] > 0
    assert UniMatch(unet(3), tau=0.0).consistency(b) > 0
