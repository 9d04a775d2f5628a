"""Lab 4: the right answers pass, and each wrong one is told which property it lacks."""

import pytest
import torch
import torch.nn.functional as F

from lsseg_edu import augment
from lsseg_edu.augment import displaced, integrate, jacobian, warp
from lsseg_edu.augment.geometry import warp_labels
from lsseg_edu.learn.checks import CheckFailed, lab04
from lsseg_edu.semi.priors import Registration, alignment, bending_energy
from lsseg_edu.semi.priors.atlas import local_correlation


def one_hot(labels, classes):
    return F.one_hot(labels, classes).movedim(-1, 1).float()


def right_move(labels, classes, grid):
    return warp(one_hot(labels, classes), grid)


def right_unlike(moved, fixed):
    return 1 - local_correlation(moved, fixed).mean()


class Right(Registration):
    pass


def test_right_answers_pass(capsys):
    lab04.move_labels(right_move)
    lab04.unlike(right_unlike)
    lab04.folded(augment.folded)
    lab04.one_atlas(Right)
    assert capsys.readouterr().out.count("all checks passed") == 4


def numbers(labels, classes, grid):
    """Class numbers interpolated, then taken apart."""
    moved = warp(labels.unsqueeze(1).float(), grid)[:, 0].round().long()
    return one_hot(moved, classes)


STILL = displaced(torch.zeros(1, 8, 16, 2))

WRONG_MOVES = {
    "movedim": lambda y, k, g: warp(one_hot(y, k), g).movedim(1, -1),
    "floating point": lambda y, k, g: right_move(y, k, g).round().long(),
    "must leave the labels": lambda y, k, g: right_move(y.flip(-1), k, g),
    "read where the grid says": lambda y, k, g: right_move(y, k, 2 * STILL - g),
    "no class 1": numbers,
    "half and half": lambda y, k, g: one_hot(warp_labels(y, g), k),
}


@pytest.mark.parametrize("message", WRONG_MOVES)
def test_wrong_moves(message):
    with pytest.raises(CheckFailed, match=message):
        lab04.move_labels(WRONG_MOVES[message])


def whole(a, b):
    """The correlation over the whole image."""
    a, b = (x - x.mean((2, 3), keepdim=True) for x in (a, b))
    return 1 - ((a * b).mean((2, 3)) / (a.std((2, 3)) * b.std((2, 3)) + 1e-6)).mean()


def means(x):
    return F.avg_pool2d(x, 9, stride=1, padding=4, count_include_pad=False)


def no_epsilon(a, b):
    covariance = means(a * b) - means(a) * means(b)
    variances = [(means(x * x) - means(x).square()).clamp(min=0) for x in (a, b)]
    return 1 - (covariance / (variances[0] * variances[1]).sqrt()).mean()


def covariance_only(a, b):
    return 1 - (means(a * b) - means(a) * means(b)).mean()


WRONG_MEASURES = {
    "scalar": lambda a, b: 1 - local_correlation(a, b),
    "cost \\(nearly\\) nothing": covariance_only,
    "must cost about 1": lambda a, b: 0 * right_unlike(a, b),
    "contrast and brightness": lambda a, b: 3 * (a - b).square().mean(),
    "A negative is not alike": lambda a, b: 1 - local_correlation(a, b).square().mean(),
    "over \\*windows\\*": whole,
    "flat": no_epsilon,
    "gradient must reach": lambda a, b: right_unlike(a.detach(), b) + 0 * a.sum(),
}


@pytest.mark.parametrize("message", WRONG_MEASURES)
def test_wrong_measures(message):
    with pytest.raises(CheckFailed, match=message):
        lab04.unlike(WRONG_MEASURES[message])


def derivatives(u):
    height, width = u.shape[1:3]
    ux, uy = u[..., 0] * width / 2, u[..., 1] * height / 2
    x = [d.diff(dim=2)[:, :-1] for d in (ux, uy)]
    y = [d.diff(dim=1)[:, :, :-1] for d in (ux, uy)]
    return x[0], y[0], x[1], y[1]


def without_identity(u):
    a, b, c, d = derivatives(u)
    return ((a * d - b * c) <= 0).float().mean()


def wrong_sign(u):
    a, b, c, d = derivatives(u)
    return (((1 + a) * (1 + d) - (b - c).square()) <= 0).float().mean()


def only_x(u):
    a, *_ = derivatives(u)
    return (1 + a <= 0).float().mean()


def any_axis(u):
    a, _, _, d = derivatives(u)
    return ((1 + a <= 0) | (1 + d <= 0)).float().mean()


WRONG_COUNTS = {
    "plus the identity": without_identity,
    "Only 0 and below": lambda u: (jacobian(u) < 0.5).float().mean(),
    "differ from 1": lambda u: ((jacobian(u) - 1) > 0.1).float().mean(),
    "above and below": only_x,
    "half a circle": any_axis,
    "a minus belongs": wrong_sign,
    "near one half": lambda u: (jacobian(u) <= 0).any().float(),
}


@pytest.mark.parametrize("message", WRONG_COUNTS)
def test_wrong_counts(message):
    with pytest.raises(CheckFailed, match=message):
        lab04.folded(WRONG_COUNTS[message])


class Swapped(Right):
    def loss(self, batch):
        fixed = batch.unlabelled.images
        moving = self.atlas.images[self.atlas.match(fixed)]
        velocity = self.net(fixed, moving)
        return alignment(self.move(moving, velocity), fixed, velocity, self.bending)


class Deaf(Right):
    def loss(self, batch):
        fixed = batch.unlabelled.images
        moving = self.atlas.images[self.atlas.match(fixed)]
        velocity = self.net(moving, fixed)
        unlike = right_unlike(moving, fixed) + 0 * velocity.sum()
        return {"unlikeness": unlike, "bending": 0 * bending_energy(velocity)}


class Hard(Right):
    def predict(self, images):
        return super().predict(images).argmax(1)


class Still(Right):
    def predict(self, images):
        return self.atlas.one_hot(self.atlas.match(images))


WRONG_METHODS = {
    "in this order": Swapped,
    "teach the network": Deaf,
    "add up to 1": Hard,
    "where the atlas has them": Still,
}


@pytest.mark.parametrize("message", WRONG_METHODS)
def test_wrong_methods(message):
    with pytest.raises(CheckFailed, match=message):
        lab04.one_atlas(WRONG_METHODS[message])


def test_the_motion_of_the_checks_is_what_it_says():
    from lsseg_edu.learn.checks.lab04.moving import shift

    ramp = torch.arange(16.0).expand(1, 1, 8, 16)
    read = warp(ramp, displaced(shift(3, 0)))
    assert torch.allclose(read[..., :12], ramp[..., 3:15], atol=1e-4)
    assert torch.allclose(integrate(shift(1, 0)), shift(1, 0), atol=1e-5)
