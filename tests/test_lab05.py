"""Lab 5: the right answers pass, and each wrong one is told which property it lacks."""

import pytest
import torch

from lsseg_edu import losses
from lsseg_edu.learn.checks import CheckFailed, lab05
from lsseg_edu.semi.consistency import sigmoid_rampup


def right_size(probs, low, high):
    size = probs.flatten(2).mean(2)
    return ((low - size).relu() + (size - high).relu()).square().mean()


def right_star(u, parent):
    flat = u.flatten(1)
    return (flat - flat.gather(1, parent)).relu().mean()


def right_gradient(loss, u, eps=1e-4, sides=(1, -1), apart=2):
    slopes, moved = torch.zeros_like(u), u.clone()
    for i in range(u.numel()):
        values = []
        for side in sides:
            moved.flatten()[i] = u.flatten()[i] + side * eps
            values.append(loss(moved))
        moved.flatten()[i] = u.flatten()[i]
        slopes.flatten()[i] = (values[0] - values[1]) / (apart * eps)
    return slopes


def right_prior(violation, masks, tolerance):
    shown = masks[masks.flatten(1).any(1)].double()
    if len(shown) == 0:
        return False
    return bool((violation(shown) / shown.flatten(1).mean(1)).mean() <= tolerance)


def right_terms(net, batch, penalty, weight):
    logits, others = net(batch.labelled.images), net(batch.unlabelled.images)
    probs = torch.cat([logits, others]).softmax(1)
    ramp = sigmoid_rampup(batch.progress)
    supervised = losses.dice_ce(logits, batch.labelled.labels)
    return {"supervised": supervised, "constraint": weight * ramp * penalty(probs)}


def test_right_answers_pass(capsys):
    lab05.size(right_size)
    lab05.star(right_star)
    lab05.gradient(right_gradient)
    lab05.prior(right_prior)
    lab05.terms(right_terms)
    assert capsys.readouterr().out.count("all checks passed") == 5


def sized(share, low, high):
    return ((low - share).relu() + (share - high).relu()).square().mean()


WRONG_SIZES = {
    "between the bounds must cost nothing": lambda p, a, b: sized(p.flatten(2).sum(2), a, b),
    "too large must cost": lambda p, a, b: (a - p.mean((2, 3))).relu().square().mean(),
    "too small must cost": lambda p, a, b: (p.mean((2, 3)) - b).relu().square().mean(),
    "must be squared": lambda p, a, b: (
        (a - p.mean((2, 3))).relu() + (p.mean((2, 3)) - b).relu()
    ).mean(),
    "mean over images and classes": lambda p, a, b: 2 * right_size(p, a, b),
    "make up for one another": lambda p, a, b: sized(p.mean((0, 2, 3)), a, b),
    "has no gradient": lambda p, a, b: sized((p > 0.5).float().mean((2, 3)), a, b),
    "must be one number": lambda p, a, b: sized(p.mean((2, 3)), a, b).expand(3),
}


@pytest.mark.parametrize("message", WRONG_SIZES)
def test_wrong_size(message):
    with pytest.raises(CheckFailed, match=message):
        lab05.size(WRONG_SIZES[message])


def rise(u, parent):
    return u.flatten(1) - u.flatten(1).gather(1, parent)


WRONG_STARS = {
    "must cost nothing": lambda u, p: rise(u, p).abs().mean(),
    "along its own rays": lambda u, p: rise(u, p[:1].expand_as(p)).relu().mean(),
    "must cost something": lambda u, p: 0 * rise(u, p).relu().mean(),
    "not the sum": lambda u, p: rise(u, p).relu().sum(),
    "Do not square": lambda u, p: rise(u, p).relu().square().mean(),
    "Expected the mean rise": lambda u, p: rise(u, p).relu().sum(1).mean(),
    "not with u > 0.5": lambda u, p: right_star(u.detach(), p),
    "Both ends": lambda u, p: (u.flatten(1) - u.detach().flatten(1).gather(1, p)).relu().mean(),
    "must be one number": lambda u, p: rise(u, p).relu().mean(1),
}


@pytest.mark.parametrize("message", WRONG_STARS)
def test_wrong_star(message):
    with pytest.raises(CheckFailed, match=message):
        lab05.star(WRONG_STARS[message])


def in_place(loss, u):
    answer = right_gradient(loss, u)
    u += 1e-4
    return answer


def never_restored(loss, u, eps=1e-1):
    slopes, moved = torch.zeros_like(u), u.clone()
    for i in range(u.numel()):
        moved.flatten()[i] += eps
        up = loss(moved)
        moved.flatten()[i] -= 2 * eps
        slopes.flatten()[i] = (up - loss(moved)) / (2 * eps)
    return slopes


WRONG_GRADIENTS = {
    "must not change": in_place,
    "one slope for each entry": lambda loss, u: right_gradient(loss, u).flatten(),
    "double precision": lambda loss, u: right_gradient(loss, u.float()).double(),
    "Twice too large": lambda loss, u: right_gradient(loss, u, apart=1),
    "sign is wrong": lambda loss, u: right_gradient(loss, u, sides=(-1, 1)),
    "moved alone": never_restored,
    "central": lambda loss, u: right_gradient(loss, u, sides=(1, 0), apart=1),
}


@pytest.mark.parametrize("message", WRONG_GRADIENTS)
def test_wrong_gradient(message):
    with pytest.raises(CheckFailed, match=message):
        lab05.gradient(WRONG_GRADIENTS[message])


def judged(masks, measure, tolerance):
    shown = masks[masks.flatten(1).any(1)].double()
    return bool(measure(shown) <= tolerance) if len(shown) else False


def with_empty(violation, masks, tolerance):
    share = masks.double().flatten(1).mean(1).clamp(min=1e-6)
    return bool((violation(masks.double()) / share).mean() <= tolerance)


def hopeful(violation, masks, tolerance):
    return right_prior(violation, masks, tolerance) or not masks.any()


def of_booleans(violation, masks, tolerance):
    shown = masks[masks.flatten(1).any(1)]
    return bool((violation(shown) / shown.double().flatten(1).mean(1)).mean() <= tolerance)


WRONG_PRIORS = {
    "Python bool": lambda v, m, t: torch.tensor(right_prior(v, m, t)),
    "not booleans": lambda v, m, t: of_booleans(lambda u: v(u).double(), m, t),
    "mask that is empty": with_empty,
    "of the organ": lambda v, m, t: judged(m, lambda x: v(x).mean(), t),
    "at most the tolerance": lambda v, m, t: t < 0.5 and right_prior(v, m, t),
    "nothing is known": hopeful,
}


@pytest.mark.parametrize("message", WRONG_PRIORS)
def test_wrong_prior(message):
    with pytest.raises(CheckFailed, match=message):
        lab05.prior(WRONG_PRIORS[message])


def changed(**parts):
    """The right terms with one of them replaced."""

    def anatomy_terms(net, batch, penalty, weight):
        right = right_terms(net, batch, penalty if "constraint" not in parts else _half, weight)
        made = {key: part(net, batch, penalty, weight) for key, part in parts.items()}
        return {**right, **made}

    return anatomy_terms


def _half(probs):
    return probs.mean()


def constraint(images=None, activation=None, ramp=True, detached=False):
    def term(net, batch, penalty, weight):
        both = torch.cat([batch.labelled.images, batch.unlabelled.images])
        seen = both if images is None else images(batch)
        probs = (activation or (lambda x: x.softmax(1)))(net(seen))
        probs = probs.detach() if detached else probs
        return weight * (sigmoid_rampup(batch.progress) if ramp else 1) * penalty(probs)

    return term


WRONG_TERMS = {
    "Return a dict": lambda net, b, penalty, w: sum(right_terms(net, b, penalty, w).values()),
    "must be losses.dice_ce": changed(
        supervised=lambda net, b, p, w: losses.dice_ce(
            net(b.labelled.images).softmax(1), b.labelled.labels
        )
    ),
    "was not asked": changed(constraint=lambda net, b, p, w: net(b.unlabelled.images).mean()),
    "softmax over the class axis": changed(constraint=constraint(activation=torch.sigmoid)),
    "labelled and unlabelled": changed(constraint=constraint(lambda b: b.unlabelled.images)),
    r"must be weight \* sigmoid_rampup": changed(constraint=constraint(ramp=False)),
    "must teach": changed(constraint=constraint(detached=True)),
}


@pytest.mark.parametrize("message", WRONG_TERMS)
def test_wrong_terms(message):
    with pytest.raises(CheckFailed, match=message):
        lab05.terms(WRONG_TERMS[message])
