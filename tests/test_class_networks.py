"""Missing classes: networks that are asked for one class, and heads that search for it."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from probes import weights

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Cohort, Task, annotate
from lsseg_edu.networks import Shape, unet
from lsseg_edu.partial.classes import (
    ConditionalNet,
    DoDNet,
    SharedHeads,
    Told,
    accepted,
    as_class,
    dynamic_head,
    head_labels,
    mined_annotations,
)
from lsseg_edu.partial.classes.asked import questions
from lsseg_edu.partial.classes.lesions import found
from lsseg_edu.train import Batch, Budget, Part, fit

QUIET = {"progress": False, "device": "cpu"}
FEW = Budget("smoke", steps=2, batch=4)
SHAPE = Shape(channels=1, classes=4, dims=2)
DEALT = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]).bool()


@pytest.fixture(scope="module")
def organs(cohort) -> Task:
    """Two subjects with discs annotated, two with squares."""
    return annotate.missing_classes(Task.split(cohort, labelled=4, valid=1, test=1))


def made(kind, **options):
    torch.manual_seed(0)
    return kind(unet(SHAPE), 4, **options)


def batch():
    torch.manual_seed(1)
    labels = annotate.drop_classes(torch.randint(0, 4, (3, 32, 32)), DEALT)
    index = torch.arange(3)
    images = torch.randn(3, 1, 32, 32)
    return Batch(Part(images, labels, index, index, {"annotated": DEALT}), None, 1.0)


BOTH = [ConditionalNet, DoDNet]


# Asked for one class


@pytest.mark.parametrize("kind", BOTH)
def test_another_class_gets_another_answer_from_the_same_features(kind):
    method, images = made(kind).eval(), batch().labelled.images
    features = method.features(images)
    answers = [method.answer(features, torch.full((3,), k)) for k in (1, 2, 3)]
    assert answers[0].shape == (3, 32, 32)
    for a, b in itertools.combinations(answers, 2):
        assert (a - b).abs().max() > 1e-3
    mixed = method.answer(features, torch.tensor([3, 1, 2]))
    expected = torch.stack([answers[2][0], answers[0][1], answers[1][2]])
    assert torch.allclose(mixed, expected, atol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_only_the_task_of_an_image_is_supervised(kind):
    method, one = made(kind), batch()
    part = one.labelled
    asked = torch.tensor([1, 2, 3])
    logits = method.answer(method.features(part.images), asked)
    binary = (part.labels == asked.view(-1, 1, 1)).float()
    entropy = F.binary_cross_entropy_with_logits(logits, binary)
    dice = losses.dice(as_class(logits, asked, 4), part.labels)
    assert method.loss(one)["asked"].item() == pytest.approx((entropy + dice).item(), rel=1e-5)
    both = DEALT.clone()
    both[0, 2] = True
    assert {int(questions(both)[0]) for _ in range(30)} == {1, 2}
    assert (questions(both)[1:] == torch.tensor([2, 3])).all()


@pytest.mark.parametrize("kind", BOTH)
def test_all_classes_are_asked_for_in_the_end(kind):
    method, images = made(kind).eval(), batch().labelled.images
    probs = method.predict(images)
    assert probs.shape == (3, 4, 32, 32)
    assert torch.allclose(probs.sum(1), torch.ones(3, 32, 32))
    every = [method.answer(method.features(images), torch.full((3,), k)) for k in (1, 2, 3)]
    scores = torch.stack(every, 1).sigmoid()
    expected = torch.where(scores.amax(1) > 0.5, scores.argmax(1) + 1, 0)
    assert torch.equal(probs.argmax(1), expected)


def test_dice_is_counted_class_by_class():
    torch.manual_seed(0)
    logits, asked = torch.randn(3, 5, 6), torch.tensor([1, 2, 1])
    labels = torch.where(torch.rand(3, 5, 6) > 0.5, asked.view(-1, 1, 1), 0)
    wide, p = as_class(logits, asked, 3), logits.sigmoid()
    assert torch.allclose(wide.softmax(1).sum(1), torch.ones(3, 5, 6))
    terms = []
    for items, k in (([0, 1, 2], 0), ([0, 2], 1), ([1], 2)):
        q, y = (1 - p if k == 0 else p)[items], (labels[items] == k).float()
        terms.append((2 * (q * y).sum() + 1) / ((q**2).sum() + y.sum() + 1))
    assert losses.dice(wide, labels).item() == pytest.approx(1 - sum(terms).item() / 3)


def test_nothing_can_be_asked_of_an_image_without_organs():
    with pytest.raises(ValueError, match="annotates no organ"):
        questions(torch.tensor([[True, False, False]]))


# The conditional network


def test_the_number_stands_between_normalisation_and_nonlinearity():
    method = made(ConditionalNet)
    assert len(method.told) == 8
    for up in (method.net.upcat_4, method.net.upcat_1):
        layers = [name for name, _ in up.convs.conv_0.adn.named_children()]
        assert layers.index("N") < layers.index("A") and isinstance(up.convs.conv_0.adn.A, Told)
    told, x = Told(torch.nn.ReLU()), torch.randn(2, 3, 4, 4)
    told.number = torch.tensor([0.5, -0.5])
    assert torch.equal(told(x)[0], (x[0] + 0.5).relu())
    assert torch.equal(told(x)[1], (x[1] - 0.5).relu())
    assert not any(isinstance(layer, Told) for layer in method.net.conv_0.modules())
    norm = torch.nn.InstanceNorm2d(3)  # why not before it
    assert torch.allclose(norm(x + 7.0), norm(x), atol=1e-4)


def test_without_numbers_all_classes_get_the_same_answer():
    method, images = made(ConditionalNet, spread=0.0).eval(), batch().labelled.images
    features = method.features(images)
    one, two = (method.answer(features, torch.full((3,), k)) for k in (1, 2))
    assert torch.equal(one, two)
    assert made(ConditionalNet).table.tolist() == [-1, 0, 1]


def test_one_class_needs_no_question():
    with pytest.raises(ValueError, match="nothing to ask"):
        ConditionalNet(unet(Shape(1, 2, 2)), 2)


# DoDNet


@pytest.mark.parametrize("dims", [2, 3])
def test_dynamic_head_is_a_convolution_for_each_item(dims):
    torch.manual_seed(0)
    sizes, conv = ((5, 4), (4, 3), (3, 2)), (F.conv2d, F.conv3d)[dims - 2]
    maps, weights = torch.randn(3, 5, *(4, 6, 3)[:dims]), torch.randn(3, 24 + 15 + 8)
    mine = dynamic_head(maps, weights, sizes)
    for b in range(3):
        x, at = maps[b : b + 1], 0
        for layer, (i, o) in enumerate(sizes):
            w, bias = weights[b, at : at + i * o], weights[b, at + i * o : at + i * o + o]
            x = conv(x.relu() if layer else x, w.view(o, i, *[1] * dims), bias)
            at += i * o + o
        assert torch.allclose(mine[b], x[0], atol=1e-5)
    with pytest.raises(ValueError, match="47 weights, not 46"):
        dynamic_head(maps, weights[:, 1:], sizes)


def test_controller_reads_the_task_and_the_image():
    method = made(DoDNet)
    assert method.controller.out_features == 153  # 8 * 8 + 8 + 8 * 8 + 8 + 8 + 1, with one output
    pooled = torch.randn(2, method.net.widths[-1])
    first = method.weights(pooled, torch.tensor([1, 1]))
    assert not torch.allclose(first[0], first[1])
    other = method.weights(pooled[:1].expand(2, -1), torch.tensor([1, 2]))
    code = method.controller.weight[:, -3:]
    assert torch.allclose(other[0] - other[1], code[:, 0] - code[:, 1], atol=1e-5)
    method.loss(batch())["asked"].backward()
    assert (method.controller.weight.grad.abs().sum(0) > 0).all()
    assert method.net.conv_0.conv_0.conv.weight.grad.abs().sum() > 0


# Shared heads and what they find


def test_a_head_learns_from_its_own_data_set_and_from_finds():
    labels = torch.tensor([[[0, 1], [IGNORE, 0]], [[2, 0], [0, 0]]])
    annotated = torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    alone = head_labels(labels, annotated)
    assert alone[0, 1].tolist() == [[0, 1], [IGNORE, 0]] and (alone[0, 2] == IGNORE).all()
    assert alone[1, 2].tolist() == [[1, 0], [0, 0]] and (alone[1, 1] == IGNORE).all()
    mined = torch.zeros(2, 3, 2, 2, dtype=torch.long)
    mined[1, 1, 1, 1], mined[1, 1, 0, 0] = 1, IGNORE
    mined[0, 1] = 1  # annotated: the annotator is right
    both = head_labels(labels, annotated, mined)
    assert torch.equal(both[0, 1], alone[0, 1])
    assert both[1, 1].tolist() == [[IGNORE, 0], [0, 1]]


def test_heads_share_features_and_nothing_else():
    torch.manual_seed(0)
    method, one = SharedHeads(unet(SHAPE)), batch()
    only = replace(one, labelled=Part(*(v[:1] for v in list(vars(one.labelled).values())[:4]), {}))
    only.labelled.extras["annotated"] = DEALT[:1]
    method.loss(only)["heads"].backward()
    slope = method.net.final_conv.weight.grad.flatten(1).abs().sum(1)
    assert slope[1] > 0 and (slope[[0, 2, 3]] == 0).all()
    assert method.net.conv_0.conv_0.conv.weight.grad.abs().sum() > 0
    z = method.heads(one.labelled.images)[0]
    expected = torch.where(z.amax(1) > 0, z.argmax(1) + 1, 0)
    assert torch.equal(method.predict(one.labelled.images).argmax(1), expected)


def finds():
    """Two slices of patient 0, one of patient 1: a sure find, and three of probability 0.6."""
    probs, features = torch.zeros(3, 8, 8), torch.zeros(3, 2, 8, 8)
    features[:, 1] = 1.0
    for item, rows, p, alike in (
        (0, slice(0, 2), 0.9, True),
        (1, slice(0, 2), 0.6, True),
        (1, slice(5, 7), 0.6, False),
        (2, slice(0, 2), 0.6, True),
    ):
        probs[item, rows, 1:4] = p
        features[item, :, rows, 1:4] = torch.tensor([1.0, 0.1 if alike else 8.0]).view(2, 1, 1)
    return probs, features, torch.tensor([0, 0, 1])


def test_finds_are_sure_or_vouched_for_in_the_same_patient():
    verdict = accepted(*finds(), sure=0.8, alike=0.9)
    assert (verdict[0, :2, 1:4] == 1).all()  # cross-dataset mining: sure
    assert (verdict[1, :2, 1:4] == 1).all()  # intra-patient matching: looks like the sure one
    assert (verdict[1, 5:7, 1:4] == IGNORE).all()  # same patient, looks unlike it
    assert (verdict[2, :2, 1:4] == IGNORE).all()  # looks like it, another patient
    assert (verdict == 0).sum() == 3 * 64 - 4 * 6
    alone = accepted(*finds(), sure=0.8, alike=1.1)
    assert (alone == 1).sum() == 6 and (alone == IGNORE).sum() == 18
    assert (accepted(*finds(), sure=0.95, alike=0.9) == 1).sum() == 0
    probs, features, subjects = finds()
    assert (accepted(0 * probs, features, subjects, 0.8, 0.9) == 0).all()


def test_mining_takes_half_of_the_budget_and_reaches_the_loss(organs):
    trained = mined_annotations(organs, FEW, seed=1, sure=0.5, **QUIET)
    assert [len(one.history["heads"]) for one in trained.rounds] == [1, 1]
    finds = found(trained, organs, 0.5, 0.9)
    assert finds.shape == (len(organs.train), 3, 32, 32)
    assert (finds[organs.unlabelled] == IGNORE).all()
    control = mined_annotations(organs, FEW, seed=1, mine=False, **QUIET)
    assert not torch.equal(weights(trained.method.net), weights(control.method.net))


def test_what_cannot_be_mined(organs, task):
    with pytest.raises(ValueError, match="sure cannot be 0.3"):
        mined_annotations(organs, FEW, sure=0.3)
    with pytest.raises(ValueError, match="which classes its labels speak of"):
        mined_annotations(task, FEW, **QUIET)


# All of them, in planes and in volumes


def tall(volumes) -> Cohort:
    """The volumes at twice their height: a U-Net needs more than one pixel at stride 16."""
    double = volumes.images.repeat_interleave(2, 2), volumes.labels.repeat_interleave(2, 1)
    return replace(volumes, images=double[0], labels=double[1])


def test_trained_on_planes_and_volumes(organs, volumes):
    whole = Task.split(tall(volumes), labelled=4, valid=1, test=1)
    for task in (organs, annotate.missing_classes(whole)):
        few = replace(FEW, batch=2)
        for kind in BOTH:
            fitted = fit(kind.for_task(task), task, few, **QUIET)
            assert all(math.isfinite(v) for v in fitted.history["asked"])
            assert fitted.predict(task.test.images[:1]).shape[1] == 3
        trained = mined_annotations(task, few, **QUIET)
        assert trained.predict(task.test.images[:1]).shape[1] == 3
