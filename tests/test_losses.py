"""Shared losses, against MONAI and against sums written out."""

import pytest
import torch
from monai.losses import DiceLoss

from lsseg_edu import losses
from lsseg_edu.data import IGNORE


@pytest.fixture(params=[(6, 7), (4, 5, 6)], ids=["2D", "3D"])
def pair(request):
    torch.manual_seed(0)
    size = request.param
    return torch.randn(3, 4, *size, requires_grad=True), torch.randint(0, 4, (3, *size))


def some_ignored(labels):
    return labels.where(torch.arange(labels.numel()).view_as(labels) % 3 > 0, IGNORE)


def test_dice_equals_monai(pair):
    logits, labels = pair
    monai = DiceLoss(
        softmax=True, to_onehot_y=True, batch=True, squared_pred=True, smooth_nr=1, smooth_dr=1
    )
    assert torch.allclose(losses.dice(logits, labels), monai(logits, labels.unsqueeze(1)))


def test_ignored_pixels_count_for_nothing(pair):
    logits, labels = pair
    labels = some_ignored(labels)
    for loss in (losses.dice, losses.cross_entropy, losses.dice_ce):
        here = loss(logits, labels)
        known = (labels != IGNORE).unsqueeze(1)
        elsewhere = loss(torch.where(known, logits, torch.randn_like(logits) * 9), labels)
        assert torch.allclose(here, elsewhere), loss.__name__
        (grad,) = torch.autograd.grad(here, logits)
        assert grad.isfinite().all() and (grad[~known.expand_as(grad)] == 0).all()
        assert (grad[known.expand_as(grad)] != 0).any()


def test_ignoring_equals_cutting_out(pair):
    logits, labels = pair
    labels = some_ignored(labels)
    known = labels != IGNORE
    cut = logits.movedim(1, -1)[known].T[None]
    assert torch.allclose(losses.dice(logits, labels), losses.dice(cut, labels[known][None]))
    assert torch.allclose(
        losses.cross_entropy(logits, labels), losses.cross_entropy(cut, labels[known][None])
    )


def test_nothing_annotated_is_zero_and_finite(pair):
    logits, labels = pair
    loss = losses.cross_entropy(logits, torch.full_like(labels, IGNORE))
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss == 0 and (grad == 0).all()


def test_perfect_prediction_costs_nothing(pair):
    _, labels = pair
    perfect = 50.0 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    assert losses.dice_ce(perfect, labels) < 1e-4
    assert losses.dice(perfect.roll(1, dims=1), labels) > 0.9


def test_dice_weighs_classes_alike():
    labels = torch.zeros(1, 20, 20, dtype=torch.long)
    labels[0, 0, 0] = 1  # one pixel of class 1
    background = torch.stack([torch.ones(20, 20), -torch.ones(20, 20)])[None] * 50
    assert losses.dice(background, labels, eps=1e-6) > 0.49  # half of the classes are missed
    assert losses.cross_entropy(background / 50, labels) < 0.2  # cross-entropy hardly sees it
