"""Partial cross-entropy: only the scribbles speak."""

import pytest
import torch
from torch import nn

from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE
from lsseg_edu.evaluate import score
from lsseg_edu.partial.regions import PartialCrossEntropy, partial_cross_entropy
from lsseg_edu.train import Budget, fit


@pytest.fixture
def pair():
    torch.manual_seed(0)
    labels = torch.full((2, 9, 9), IGNORE)
    labels[:, 4, 2:7] = 1
    labels[:, 0, :] = 0
    labels[:, 8, 8] = 2
    return torch.randn(2, 3, 9, 9, requires_grad=True), labels


def test_equals_the_sum_over_scribbled_pixels(pair):
    logits, labels = pair
    terms = [
        -logits[b, :, i, j].log_softmax(0)[labels[b, i, j]]
        for b, i, j in (labels != IGNORE).nonzero().tolist()
    ]
    assert torch.allclose(partial_cross_entropy(logits, labels), torch.stack(terms).mean())


def test_pixels_off_the_scribbles_have_no_gradient(pair):
    logits, labels = pair
    (grad,) = torch.autograd.grad(partial_cross_entropy(logits, labels), logits)
    touched = grad.abs().sum(1) > 0
    assert torch.equal(touched, labels != IGNORE)


def test_does_not_depend_on_the_size_of_the_image(pair):
    logits, labels = pair
    wide = torch.nn.functional.pad(labels, (0, 40), value=IGNORE)
    wide_logits = torch.nn.functional.pad(logits, (0, 40))
    assert torch.allclose(
        partial_cross_entropy(logits, labels), partial_cross_entropy(wide_logits, wide)
    )


def test_no_scribble_in_the_batch_is_one_sentence(pair):
    logits, labels = pair
    with pytest.raises(ValueError, match="No pixel of this batch is annotated"):
        partial_cross_entropy(logits, torch.full_like(labels, IGNORE))


def test_background_scribble_is_required(task):
    with pytest.raises(ValueError, match="'air'"):
        labels = task.train.labels
        task.supervise(labels.where(labels > 0, IGNORE), "scribbles")


def test_learns_the_objects_from_their_scribbles(task):
    labels = task.train.labels
    torch.manual_seed(0)
    sparse = task.supervise(labels.where(torch.rand(labels.shape) < 0.05, IGNORE), "dots")
    net = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 3, 5, padding=2))
    method, budget = PartialCrossEntropy(net), Budget("smoke", 100, rate=0.02)
    fitted = fit(method, sparse, budget, augment=Augment.none(), progress=False)
    assert score(fitted.predict(sparse.test.images).argmax(1), sparse.test).mean_dice > 0.7
