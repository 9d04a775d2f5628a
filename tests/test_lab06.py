"""Lab 6: the right answers pass, and each wrong one is told which property it lacks."""

import pytest
import torch
import torch.nn.functional as F

from lsseg_edu.data import IGNORE
from lsseg_edu.learn.checks import CheckFailed, lab06
from lsseg_edu.partial.regions import partial_cross_entropy
from lsseg_edu.semi.consistency import sigmoid_rampup


def right_partial(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=IGNORE)


def right_affinity(images, near, alike, place=True, look=True, halves=2, own=False, power=2):
    rows, columns = torch.meshgrid(*map(torch.arange, images.shape[2:]), indexing="ij")
    at = torch.stack([rows, columns], -1).flatten(0, 1).float()
    far = (at[:, None] - at[None]).norm(dim=-1) ** power
    x = images.flatten(1)
    other = (x[:, :, None] - x[:, None]).abs() ** power
    w = (-place * far / (halves * near**2) - look * other / (halves * alike**2)).exp()
    return w if own else w * (1 - torch.eye(len(at)))


def right_energy(probs, w):
    cut = torch.einsum("bkp,bpq,bkq->b", probs, w, 1 - probs)
    return (cut / w.sum((1, 2))).mean()


def right_terms(net, batch, energy, weight):
    part = batch.labelled
    logits = net(part.images)
    ramp = sigmoid_rampup(batch.progress)
    return {
        "scribbles": partial_cross_entropy(logits, part.labels),
        "regulariser": weight * ramp * energy(logits.softmax(1), part.images),
    }


def test_right_answers_pass(capsys):
    lab06.partial(right_partial)
    lab06.affinity(right_affinity)
    lab06.energy(right_energy)
    lab06.terms(right_terms)
    assert capsys.readouterr().out.count("all checks passed") == 4


def summed(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")


WRONG_PARTIALS = {
    "not of all": lambda x, y: summed(x, y) / y.numel(),
    "not the sum": summed,
    "must not count": lambda x, y: F.cross_entropy(x, y.where(y != IGNORE, 0)),
    "over the class axis": lambda x, y: right_partial(x.softmax(1), y),
    "must be one number": lambda x, y: F.cross_entropy(x, y, ignore_index=IGNORE, reduction="none"),
}


@pytest.mark.parametrize("message", WRONG_PARTIALS)
def test_wrong_partial(message):
    with pytest.raises(CheckFailed, match=message):
        lab06.partial(WRONG_PARTIALS[message])


WRONG_AFFINITIES = {
    r"\(B, P, P\)": lambda x, n, a: right_affinity(x, n, a)[0],
    "no pair with itself": lambda x, n, a: right_affinity(x, n, a, own=True),
    "must be symmetric": lambda x, n, a: right_affinity(x, n, a).triu(),
    "the nearer one": lambda x, n, a: right_affinity(x, n, a, place=False),
    "the more similar one": lambda x, n, a: right_affinity(x, n, a, look=False),
    r"2 width²": lambda x, n, a: right_affinity(x, n, a, halves=1),
    "distance²": lambda x, n, a: right_affinity(x, n, a, power=1),
}


@pytest.mark.parametrize("message", WRONG_AFFINITIES)
def test_wrong_affinity(message):
    with pytest.raises(CheckFailed, match=message):
        lab06.affinity(WRONG_AFFINITIES[message])


def cuts(probs, w):
    return torch.einsum("bkp,bpq,bkq->b", probs, w, 1 - probs)


WRONG_ENERGIES = {
    "cuts nothing": lambda s, w: 1 - right_energy(s, w),
    "a \\*share\\*": lambda s, w: cuts(s, w).mean(),
    "from both its sides": lambda s, w: right_energy(s, w) / 2,
    "share that is cut": lambda s, w: 0.3 * right_energy(s, w),
    "share of each image": lambda s, w: cuts(s, w).sum() / w.sum(),
    "not argmax": lambda s, w: right_energy((s > 0.5).float(), w),
    "Both ends": lambda s, w: (
        torch.einsum("bkp,bpq,bkq->b", s, w, 1 - s.detach()) / w.sum((1, 2))
    ).mean(),
    "must be one number": lambda s, w: cuts(s, w),
}


@pytest.mark.parametrize("message", WRONG_ENERGIES)
def test_wrong_energy(message):
    with pytest.raises(CheckFailed, match=message):
        lab06.energy(WRONG_ENERGIES[message])


def changed(**parts):
    """The right terms with one of them replaced."""
    return lambda net, batch, energy, weight: {
        **right_terms(net, batch, energy if "regulariser" not in parts else _none, weight),
        **{key: part(net, batch, energy, weight) for key, part in parts.items()},
    }


def _none(probs, images):
    return probs.sum() * 0


def regulariser(activation=lambda x: x.softmax(1), ramp=sigmoid_rampup, see=None, power=1):
    def term(net, batch, energy, weight):
        images = batch.labelled.images
        seen = images if see is None else see(images)
        return weight**power * ramp(batch.progress) * energy(activation(net(images)), seen)

    return term


WRONG_TERMS = {
    "Return a dict": lambda *a: sum(right_terms(*a).values()),
    r"of \*logits\*": changed(
        scribbles=lambda net, b, e, w: partial_cross_entropy(
            net(b.labelled.images).softmax(1), b.labelled.labels
        )
    ),
    "was not asked": changed(regulariser=lambda net, b, e, w: net(b.labelled.images).mean()),
    "softmax over the class axis": changed(regulariser=regulariser(torch.sigmoid)),
    "must see the images": changed(regulariser=regulariser(see=torch.zeros_like)),
    "cheapest answer to the energy": changed(regulariser=regulariser(ramp=lambda t: 1.0)),
    r"must be weight \*": changed(regulariser=regulariser(power=3)),
    "must teach": changed(regulariser=regulariser(lambda x: x.softmax(1).detach())),
}


@pytest.mark.parametrize("message", WRONG_TERMS)
def test_wrong_terms(message):
    with pytest.raises(CheckFailed, match=message):
        lab06.terms(WRONG_TERMS[message])
