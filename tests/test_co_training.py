"""Co-training: labels cross from view to view, networks agree, and resist each other's attacks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon
from scipy.stats import mode
from torch import nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.co_training import (
    Band,
    DeepCoTraining,
    EnsembleCoTraining,
    blum,
    co_training,
    different,
    fgsm,
    jensen_shannon,
    leave_some_out,
    product,
    top_per_class,
    virtual_adversarial,
    vote,
)
from lsseg_edu.semi.self_training import self_training
from lsseg_edu.train import Batch, Budget, Part, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)


def net(seed=0, dims=2):
    torch.manual_seed(seed)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 6, 3, padding=1), nn.Tanh(), conv(6, 3, 1))


def batch(progress=1.0, size=(12, 12)):
    torch.manual_seed(1)
    images, labels = torch.randn(3, 1, *size), torch.randint(0, 3, (3, *size))
    index = torch.arange(3)
    others = Part(images + torch.randn_like(images), labels, index, index, {})
    return Batch(Part(images, labels, index, index, {}), others, progress)


def gradients(loss, network):
    parts = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return None if parts[0] is None else torch.cat([g.flatten() for g in parts])


# Agreement


def test_jensen_shannon_is_that_of_scipy():
    p = torch.randn(2, 3, 4, 5, 5).softmax(2).double()
    expected = jensenshannon(p[0].numpy(), p[1].numpy(), axis=1) ** 2
    assert np.allclose(jensen_shannon(p), expected, atol=1e-9)


def test_jensen_shannon_by_brute_force_and_its_bounds():
    p = (3 * torch.randn(4, 2, 5, 3, 3)).softmax(2).double()
    got = jensen_shannon(p)
    for b, i, j in np.ndindex(2, 3, 3):
        mean = p[:, b, :, i, j].mean(0)
        kl = sum(float((q * (q / mean).log()).sum()) for q in p[:, b, :, i, j]) / 4
        assert got[b, i, j].item() == pytest.approx(kl)
    assert got.min() >= 0
    assert got.max() <= math.log(4)
    assert jensen_shannon(p[:1].repeat(3, 1, 1, 1, 1)).abs().max() < 1e-12
    apart = torch.eye(3).view(3, 1, 3, 1, 1)  # each is certain of a class of its own
    assert jensen_shannon(apart).item() == pytest.approx(math.log(3))


def test_jensen_shannon_has_finite_gradients_at_certainty():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]]).view(2, 1, 2, 1, 1).requires_grad_()
    jensen_shannon(logits.softmax(2)).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_vote_by_hand_and_a_tie_goes_to_the_mean_probability():
    p = torch.tensor(
        [
            [[0.4, 0.3, 0.3], [0.9, 0.1, 0.0]],  # three voters for two pixels
            [[0.4, 0.3, 0.3], [0.1, 0.5, 0.4]],
            [[0.0, 1.0, 0.0], [0.2, 0.2, 0.6]],
        ]
    )
    p = p.permute(0, 2, 1)[:, None, :, :, None]
    fused = vote(p)
    # pixel 0: two votes to one, though the mean prefers class 1; pixel 1: a tie of three
    assert fused.argmax(1).flatten().tolist() == [0, 0]
    assert p.mean(0).argmax(1).flatten().tolist() == [1, 0]
    assert torch.allclose(fused.sum(1), torch.ones(1, 2, 1))


def test_vote_is_the_mode_of_scipy_wherever_there_is_a_majority():
    p = (4 * torch.randn(3, 2, 4, 8, 8)).softmax(2)
    votes = p.argmax(2).numpy()
    most, count = mode(votes, axis=0)
    assert (vote(p).argmax(1).numpy() == most)[count >= 2].all()
    three = count == 1
    chosen, mean = vote(p).argmax(1), p.mean(0)
    for b, i, j in zip(*np.nonzero(three), strict=True):
        among = votes[:, b, i, j]
        assert chosen[b, i, j] == among[mean[b, among, i, j].argmax()]
    with pytest.raises(ValueError, match="at most 8 answers, not 9"):
        vote(torch.rand(9, 1, 2, 2, 2))


def test_product_is_normalised_and_certain_of_what_both_believe():
    p = torch.tensor([[0.6, 0.4], [0.7, 0.3]]).view(2, 1, 2, 1, 1)
    assert product(p).flatten().tolist() == pytest.approx([0.42 / 0.54, 0.12 / 0.54])


def test_equal_networks_are_refused():
    with pytest.raises(ValueError, match="nothing to tell each other"):
        DeepCoTraining([net(0), net(1), net(0)])
    with pytest.raises(ValueError, match="at least 2 networks, not 1"):
        different([net()])


# Adversarial examples


def test_fgsm_moves_every_pixel_by_epsilon_and_raises_the_loss():
    b, victim = batch().labelled, net()
    example = fgsm(victim, b.images, b.labels, 0.1)
    change = (example - b.images).abs()
    assert torch.allclose(change, torch.full_like(change, 0.1), atol=1e-6)
    before, after = (losses.cross_entropy(victim(x), b.labels) for x in (b.images, example))
    other = b.images + 0.1 * torch.randn_like(b.images).sign()
    assert after > before
    assert after > losses.cross_entropy(victim(other), b.labels)
    assert all(p.grad is None for p in victim.parameters())
    assert not example.requires_grad


def test_fgsm_leaves_alone_what_nobody_labelled():
    b, victim = batch().labelled, net()
    blank = b.labels.clone()
    blank[0] = IGNORE
    example = fgsm(victim, b.images, blank, 0.1)
    assert torch.equal(example[0], b.images[0])
    assert not torch.equal(example[1], b.images[1])


def test_fgsm_is_the_sign_of_the_numerical_gradient():
    b, victim, seen = batch(size=(3, 3)).labelled, net(), 0
    change = fgsm(victim, b.images, b.labels, 0.1) - b.images
    for place in np.ndindex(*b.images.shape):
        step = torch.zeros_like(b.images)
        step[place] = 0.02
        up, down = (losses.cross_entropy(victim(b.images + s), b.labels) for s in (step, -step))
        if (up - down).abs() > 1e-5:  # else single precision cannot tell
            seen += 1
            assert change[place].sign() == (up - down).sign()
    assert seen > 20


@pytest.mark.parametrize("dims", [2, 3])
def test_virtual_example_has_its_size_and_changes_the_answer_more_than_noise(dims):
    victim, images = net(dims=dims), batch(size=(8,) * dims).unlabelled.images
    target = victim(images).softmax(1).detach()

    def drift(x):
        return F.kl_div(victim(x).log_softmax(1), target, reduction="batchmean").item()

    example = virtual_adversarial(victim, images, target, 0.2)
    size = (example - images).flatten(1).square().mean(1).sqrt()
    assert torch.allclose(size, torch.full_like(size, 0.2), rtol=1e-4)
    noise = torch.randn_like(images)
    noise = 0.2 * noise / noise.flatten(1).square().mean(1).sqrt().view(-1, *(1,) * (dims + 1))
    assert drift(example) > 1.5 * drift(images + noise) > 0
    assert all(p.grad is None for p in victim.parameters())
    assert not example.requires_grad


def test_an_example_of_size_zero_is_the_image_and_a_negative_one_is_refused():
    b, victim = batch().labelled, net()
    assert torch.equal(fgsm(victim, b.images, b.labels, 0.0), b.images)
    with pytest.raises(ValueError, match="cannot be negative"):
        virtual_adversarial(victim, b.images, victim(b.images).softmax(1), -1.0)


# Deep co-training


def test_agreement_is_the_weighted_divergence_and_teaches_every_network():
    method, b = DeepCoTraining([net(0), net(1)], agree=3.0, resist=0.0), batch()
    terms = method.loss(b)
    p = torch.stack([n(b.unlabelled.images).softmax(1) for n in method.nets])
    assert terms["agreement"].item() == pytest.approx(3 * jensen_shannon(p).mean().item())
    assert "resistance" not in terms
    for n in method.nets:
        assert gradients(method.loss(b)["agreement"], n).abs().sum() > 0


def test_examples_of_one_network_teach_the_other_and_not_itself():
    first, second = net(0), net(1)
    method, b = DeepCoTraining([first, second], resist=1.0), batch()
    images = torch.cat([b.labelled.images, b.unlabelled.images])
    probs = torch.stack([n(images).softmax(1) for n in method.nets]).detach()
    seen = {}

    def attack(victim, batch, images, target):
        example = virtual_adversarial(victim, images, target, 0.1)
        seen["first" if victim is first else "second"] = example
        return example

    method.attack = attack
    asked = {}
    hooks = [
        n.register_forward_pre_hook(lambda _, x, name=name: asked.setdefault(name, []).append(x[0]))
        for name, n in (("first", first), ("second", second))
    ]
    loss = method.resistance(b, images, probs)
    for hook in hooks:
        hook.remove()
    for name, other in (("first", "second"), ("second", "first")):
        assert any(torch.equal(x, seen[other]) for x in asked[name])
        assert not any(torch.equal(x, seen[name]) for x in asked[name])
    by_hand = F.cross_entropy(second(seen["first"]), probs[0])
    by_hand = by_hand + F.cross_entropy(first(seen["second"]), probs[1])
    assert loss.item() == pytest.approx(by_hand.item())
    only = F.cross_entropy(second(seen["first"]), probs[0])  # the first network's examples
    assert gradients(only, first) is None
    assert torch.allclose(
        gradients(loss, second), gradients(only, second), atol=1e-6
    )  # and nothing else teaches the second


def test_resistance_makes_a_network_harder_to_fool_by_the_others_examples():
    method, b = DeepCoTraining([net(0), net(1)]), batch()
    images = torch.cat([b.labelled.images, b.unlabelled.images])
    probs = torch.stack([n(images).softmax(1) for n in method.nets]).detach()
    example = method.attack(method.nets[0], b, images, probs[0])

    def fooled():
        return F.cross_entropy(method.nets[1](example), probs[0])

    before = fooled().item()
    optimiser = torch.optim.SGD(method.nets[1].parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        method.resistance(b, images, probs).backward()
        optimiser.step()
    assert fooled() < before


def test_ring_attacks_everybody_once_and_never_oneself():
    method, b = DeepCoTraining([net(i) for i in range(4)]), batch()
    images, pairs = b.labelled.images, set()
    method.attack = lambda victim, batch, images, target: victims.append(victim) or images
    for _ in range(30):
        victims = []
        method.resistance(b, images, torch.rand(4, 3, 3, 12, 12).softmax(2))
        order = [list(method.nets).index(v) for v in victims]
        assert sorted(order) == [0, 1, 2, 3]
        pairs |= set(enumerate(order))
    assert pairs == {(a, b) for a in range(4) for b in range(4) if a != b}


def test_both_terms_are_ramped():
    method = DeepCoTraining([net(0), net(1)])
    start, end = ({k: v.item() for k, v in method.loss(batch(p)).items()} for p in (0.0, 1.0))
    assert start["agreement"] == pytest.approx(math.exp(-5) * end["agreement"], rel=1e-3)
    assert start["resistance"] < 0.02 * end["resistance"]


def test_prediction_is_the_mean_of_all():
    method, images = DeepCoTraining([net(0), net(1)]), batch().labelled.images
    mean = sum(n(images).softmax(1) for n in method.nets) / 2
    assert torch.allclose(method.predict(images), mean, atol=1e-6)


def test_deep_co_training_trains_with_finite_gradients(task):
    method = DeepCoTraining.for_task(task)
    history = fit(method, task, FEW, **QUIET).history
    assert set(history) == {"supervised", "agreement", "resistance"}
    sum(method.loss(batch(size=(32, 32))).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_deep_co_training_of_volumes(volumes):
    task = Task.split(volumes, labelled=2, valid=1, test=1)
    method = DeepCoTraining([net(0, dims=3), net(1, dims=3)])
    fitted = fit(method, task, Budget("smoke", 1, batch=2), **QUIET)
    assert fitted.predict(task.test.images).shape == (1, 3, 16, 16, 16)


# Ensemble on subsets


def test_every_network_lacks_other_subjects_and_all_together_lack_none():
    subsets = leave_some_out(torch.tensor([4, 7, 9, 12]), 3)
    assert [s.tolist() for s in subsets] == [[7, 9], [4, 9, 12], [4, 7, 12]]
    for many, subjects in ((2, torch.tensor([5])), (3, torch.tensor([5, 6]))):
        with pytest.raises(ValueError, match=f"{len(subjects)} labelled subject.s. cannot make"):
            leave_some_out(subjects, many)


def test_single_labelled_subject_is_refused_in_a_sentence(cohort):
    task = Task.split(cohort, labelled=1, valid=2, test=2)
    with pytest.raises(ValueError, match="label at least 3, or use DeepCoTraining"):
        EnsembleCoTraining.for_task(task)
    with pytest.raises(ValueError, match="2 networks need as many subsets, not 1"):
        EnsembleCoTraining([net(0), net(1)], [torch.tensor([0])])


def test_a_network_learns_nothing_from_labels_outside_its_subset():
    subsets = [torch.tensor([1, 2]), torch.tensor([0, 2])]
    method, b = EnsembleCoTraining([net(0), net(1)], subsets), batch()
    assert (method.labels_of(0, b.labelled)[0] == IGNORE).all()
    assert torch.equal(method.labels_of(0, b.labelled)[1:], b.labelled.labels[1:])
    mine = losses.dice_ce(method.nets[0](b.labelled.images[1:]), b.labelled.labels[1:])
    grad = gradients(method.loss(b)["supervised"], method.nets[0])
    assert torch.allclose(grad, gradients(mine, method.nets[0]), atol=1e-6)


def test_labelled_images_are_attacked_by_label_and_the_others_without():
    method = EnsembleCoTraining([net(0), net(1)], [torch.arange(2), torch.arange(1, 3)])
    b, victim = batch(), method.nets[0]
    images = torch.cat([b.labelled.images, b.unlabelled.images])
    change = method.attack(victim, b, images, victim(images).softmax(1).detach()) - images
    assert torch.allclose(change[:3].abs(), torch.full((3, 1, 12, 12), 0.1), atol=1e-6)
    assert change[3:].abs().std() > 0.01
    size = change[3:].flatten(1).square().mean(1).sqrt()
    assert torch.allclose(size, torch.full((3,), 0.1), rtol=1e-4)
    flipped = Batch(b.labelled, Part(b.unlabelled.images, None, None, None, {}), 1.0)
    method.attack(victim, flipped, images, victim(images).softmax(1).detach())  # reads no label


def test_ensemble_trains(task):
    method = EnsembleCoTraining.for_task(task)
    assert len(method.nets) == 3
    fitted = fit(method, task, FEW, **QUIET)
    assert set(fitted.history) == {"supervised", "agreement", "resistance"}
    assert fitted.predict(task.test.images).shape == (4, 3, 32, 32)


# Two views


def test_bands_are_complementary():
    images = torch.randn(2, 1, 24, 24)
    low, high = Band(net(), "low", 2), Band(net(), "high", 2)
    assert torch.allclose(low.view(images) + high.view(images), images, atol=1e-6)
    smooth = torch.full((1, 1, 24, 24), 3.0)
    assert high.view(smooth)[..., 8:-8, 8:-8].abs().max() < 1e-3
    assert low.view(images).std() < 0.5 * high.view(images).std()  # noise is high
    assert Band(net(dims=3), "low", 3)(torch.randn(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    with pytest.raises(ValueError, match="no band 'middle'"):
        Band(net(), "middle", 2)


def test_top_share_is_taken_of_each_class():
    first = torch.tensor([0.99, 0.9, 0.8, 0.7, 0.4, 0.2])  # four of class 0, two of class 1
    probs = torch.stack([first, 1 - first])[None, ..., None]
    kept = top_per_class(probs, 0.5).flatten().tolist()
    assert kept == [0, 0, IGNORE, IGNORE, IGNORE, 1]
    assert top_per_class(probs, 1.0).flatten().tolist() == [0, 0, 0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"lies in \(0, 1\]"):
        top_per_class(probs, 0.0)


def test_what_one_is_sure_of_goes_to_the_other_and_not_to_itself(task, monkeypatch):
    trained = []

    def watch(method, task, *args, **kwargs):
        fitted = fit(method, task, *args, **kwargs)
        trained.append((method.net.band, task, fitted))
        return fitted

    monkeypatch.setattr(blum, "fit", watch)
    co_training(task, FEW, rounds=2, share=0.6, **QUIET)
    assert [band for band, *_ in trained] == ["low", "high"] * 3
    images = task.train.images[task.unlabelled]
    for number in (1, 2):
        before = {band: fitted for band, _, fitted in trained[2 * number - 2 : 2 * number]}
        for band, given, _ in trained[2 * number : 2 * number + 2]:
            other = {"low": "high", "high": "low"}[band]
            pseudo = given.train.extras["pseudo"][given.unlabelled]
            theirs = top_per_class(before[other].predict(images), 0.3 * number)
            own = top_per_class(before[band].predict(images), 0.3 * number)
            assert torch.equal(pseudo, theirs)
            assert not torch.equal(pseudo, own)


def test_two_views_differ_and_two_equal_views_have_no_diversity(task):
    images = task.test.images
    for views, same in ((("low", "high"), False), (("low", "low"), True)):
        members = co_training(task, FEW, rounds=1, views=views, **QUIET).method.members
        p = torch.stack([m.eval().predict(images) for m in members]).detach()
        assert (jensen_shannon(p).max().item() < 1e-6) == same


def test_equal_views_are_self_training_and_two_views_are_not(task, monkeypatch):
    options = {"rounds": 1, "share": 1.0, **QUIET}
    monkeypatch.setattr(blum.Band, "view", lambda self, images: images)
    equal = co_training(task, FEW, views=("low", "low"), **options).method.members[0].net.net
    alone = self_training(task, FEW, rounds=1, threshold=0.0, **QUIET).method.net
    pairs = list(zip(equal.parameters(), alone.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)


def test_committee_multiplies_the_two_and_rounds_are_kept(task):
    result = co_training(task, FEW, rounds=1, **QUIET)
    assert len(result.rounds) == 2
    images = task.test.images
    answers = [m.predict(images) for m in result.method.eval().members]
    assert torch.allclose(result.predict(images), product(torch.stack(answers)), atol=1e-5)
    assert result.seconds == pytest.approx(sum(r.seconds for r in result.rounds))
    assert {"0 supervised", "0 pseudo", "1 pseudo"} <= set(result.history)


def test_co_training_needs_a_round_two_views_and_somebody_to_label(task, cohort):
    with pytest.raises(ValueError, match="two views and at least 1 round, not 2 and 0"):
        co_training(task, FEW, rounds=0)
    with pytest.raises(ValueError, match="not 1 and 2"):
        co_training(task, FEW, views=("low",))
    with pytest.raises(ValueError, match=r"Task.keep\(labelled=n\)"):
        co_training(Task.split(cohort, valid=2, test=2), FEW)
