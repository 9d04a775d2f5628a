"""Lab 3: the right answers pass, and each wrong one is told which property it lacks."""

import copy

import pytest
import torch

from lsseg_edu import networks
from lsseg_edu.data import IGNORE
from lsseg_edu.evaluate import evaluate, interval_over_seeds
from lsseg_edu.learn.checks import CheckFailed, lab03
from lsseg_edu.semi.self_training import hard_labels, pseudo_label_quality


def right_quality(pseudo, truth):
    answer = pseudo_label_quality(pseudo, truth)
    return answer.foreground, answer.coverage_foreground


def right_rounds(task, rounds, threshold, seed, train):
    seeds = [seed + 1000 * left for left in reversed(range(rounds + 1))]
    models = [train(networks.unet(task, seed=seeds[0]), task, seeds[0])]
    for fresh in seeds[1:]:
        pseudo = hard_labels(models[-1].predict(task.train.images[task.unlabelled]), threshold)
        models.append(train(networks.unet(task, seed=fresh), task, fresh, pseudo))
    return models


def right_choice(candidates, task, run):
    return max(candidates, key=lambda tau: evaluate(run(tau), task.valid).mean_dice)


def right_gain(mine, arms):
    longer = arms["supervised longer"]
    return interval_over_seeds([mine[s] - longer[s] for s in mine.keys() & longer.keys()])


def test_right_answers_pass(capsys):
    lab03.labels(hard_labels)
    lab03.quality(right_quality)
    lab03.rounds(right_rounds)
    lab03.threshold(right_choice)
    lab03.gain(right_gain)
    assert capsys.readouterr().out.count("all checks passed") == 5


def masked(probs, threshold, value=IGNORE, reaches=torch.ge):
    confidence, label = probs.max(1)
    return label.where(reaches(confidence, threshold), value)


def in_place(probs, threshold):
    labels = masked(probs, threshold)
    probs[probs.max(1, keepdim=True).values.expand_as(probs) < threshold] = 0
    return labels


def spares_background(probs, threshold):
    labels = probs.argmax(1)
    return labels.where((probs.amax(1) >= threshold) | (labels == 0), IGNORE)


WRONG_LABELS = {
    "one class number a pixel": lambda p, t: (p >= t).long(),
    "over the class axis": lambda p, t: p.argmax(-1),
    "not background": lambda p, t: masked(p, t, 0),
    "background included": spares_background,
    "must be IGNORE": lambda p, t: masked(p, t, -1),
    "compare with >=": lambda p, t: masked(p, t, reaches=torch.gt),
    "label must be its class": lambda p, t: masked(p, t, reaches=torch.lt),
    "of type int64": lambda p, t: masked(p, t).float(),
    "with threshold 0 every": lambda p, t: masked(p, max(t, 0.6)),
    "must not change": in_place,
}


@pytest.mark.parametrize("message", WRONG_LABELS)
def test_wrong_labels(message):
    with pytest.raises(CheckFailed, match=f"(?i){message}"):
        lab03.labels(WRONG_LABELS[message])


def measured(pseudo, truth, organ=None, inside=None, covered=None):
    """The right answer with one of its sets of pixels replaced."""
    given = pseudo != IGNORE
    organ = given & (pseudo > 0) if organ is None else organ
    right = organ & (pseudo == truth)
    inside = truth > 0 if inside is None else inside
    covered = inside & given if covered is None else covered
    return float(right.sum() / organ.sum()), float(covered.sum() / inside.sum())


def never_nan(pseudo, truth):
    precision, coverage = right_quality(pseudo, truth)
    return (1.0 if precision != precision else precision), coverage


def overwrites(pseudo, truth):
    answer = right_quality(pseudo, truth)
    pseudo[pseudo == IGNORE] = 0
    return answer


WRONG_QUALITIES = {
    "leave the background out": lambda p, t: measured(p, t, organ=p != IGNORE),
    "without a pseudo-label as an organ": lambda p, t: measured(p, t, organ=p > 0),
    "Precision: of the pixels": lambda p, t: measured(p, t, organ=t > 0),
    "that of the organs": lambda p, t: measured(p, t, inside=torch.ones_like(p, dtype=bool)),
    "right or wrong": lambda p, t: measured(p, t, covered=(p == t) & (t > 0)),
    "must be NaN": never_nan,
    "two numbers": lambda p, t: right_quality(p, t)[0],
    "must not change": overwrites,
}


@pytest.mark.parametrize("message", WRONG_QUALITIES)
def test_wrong_quality(message):
    with pytest.raises(CheckFailed, match=message):
        lab03.quality(WRONG_QUALITIES[message])


def rounds_with(
    network=None, labeller=lambda models: models[-1], images=None, tau=None, seeds=None, pseudo=True
):
    """The right loop with one of its parts replaced."""

    def self_train(task, rounds, threshold, seed, train):
        order = seeds or [seed + 1000 * left for left in reversed(range(rounds + 1))]
        make = network or (lambda models, fresh: networks.unet(task, seed=fresh))
        models = [train(make([], order[0]), task, order[0])]
        for fresh in order[1:]:
            seen = task.train.images[task.unlabelled] if images is None else images(task)
            labels = hard_labels(labeller(models).predict(seen), threshold if tau is None else tau)
            net = make(models, fresh) if models else None
            models.append(train(net, task, fresh, labels if pseudo else None))
        return models

    return self_train


def first_net(task, seed):
    return networks.unet(task, seed=seed)


def goes_on(task, rounds, threshold, seed, train):
    net = networks.unet(task, seed=seed)
    return rounds_with(network=lambda models, fresh: net)(task, rounds, threshold, seed, train)


def copies(task, rounds, threshold, seed, train):
    def network(models, fresh):
        return copy.deepcopy(models[-1].method.net) if models else first_net(task, fresh)

    return rounds_with(network=network)(task, rounds, threshold, seed, train)


def begins_alike(task, rounds, threshold, seed, train):
    network = rounds_with(network=lambda models, fresh: first_net(task, seed))
    return network(task, rounds, threshold, seed, train)


def no_teacher(task, rounds, threshold, seed, train):
    return right_rounds(task, rounds - 1, threshold, seed, train)


def taught_teacher(task, rounds, threshold, seed, train):
    labels = torch.zeros(len(task.unlabelled), 32, 32, dtype=torch.long)

    def first(net, task, seed, pseudo=None):
        return train(net, task, seed, labels if pseudo is None else pseudo)

    return right_rounds(task, rounds, threshold, seed, first)


def other_pair(task, rounds, threshold, seed, train):
    return right_rounds(task, rounds, threshold, seed + 1, train)


WRONG_ROUNDS = {
    "three trainings": no_teacher,
    "list of all networks": lambda *args: right_rounds(*args)[-1],
    "in the order of the trainings": lambda *args: right_rounds(*args)[::-1],
    "labels alone": taught_teacher,
    "all of them and no others": rounds_with(images=lambda task: task.test.images),
    "hand them on": rounds_with(pseudo=False),
    "not the teacher's once more": rounds_with(labeller=lambda models: models[0]),
    "with the threshold that": rounds_with(tau=0.0),
    "must be fresh": copies,
    "a new network each round": goes_on,
    "began like its teacher": begins_alike,
    "batches of its own": lambda task, rounds, threshold, seed, train: right_rounds(
        task, rounds, threshold, seed, lambda net, t, s, *pseudo: train(net, t, seed, *pseudo)
    ),
    "cannot pair them": other_pair,
}


@pytest.mark.parametrize("message", WRONG_ROUNDS)
def test_wrong_rounds(message):
    with pytest.raises(CheckFailed, match=message):
        lab03.rounds(WRONG_ROUNDS[message])


def by(score, best=max):
    return lambda candidates, task, run: best(candidates, key=lambda tau: score(run(tau), task))


def on(part):
    return lambda fitted, task: evaluate(fitted, getattr(task, part), surfaces=False).mean_dice


def highest_score(candidates, task, run):
    return max(on("valid")(run(tau), task) for tau in candidates)


WRONG_CHOICES = {
    "must not be looked at": by(on("test")),
    "not even for a hyper-parameter": by(lambda f, t: on("valid")(f, t) + on("test")(f, t)),
    "training patients": by(on("train")),
    "lowest": by(on("valid"), best=min),
    "one of the candidates": highest_score,
    "Every candidate": lambda candidates, task, run: max(candidates),
    "highest mean Dice": by(lambda fitted, task: -abs(on("valid")(fitted, task) - 0.6)),
}


@pytest.mark.parametrize("message", WRONG_CHOICES)
def test_wrong_choice(message):
    with pytest.raises(CheckFailed, match=message):
        lab03.threshold(WRONG_CHOICES[message])


def against(arm, sign=1):
    def measure(mine, arms):
        other = arms[arm]
        return interval_over_seeds(
            [sign * (mine[s] - other[s]) for s in mine.keys() & other.keys()]
        )

    return measure


def in_order(mine, arms):
    pairs = zip(mine.values(), arms["supervised longer"].values(), strict=False)
    return interval_over_seeds([a - b for a, b in pairs])


def unpaired(mine, arms):
    reference = sum(arms["supervised longer"].values()) / len(arms["supervised longer"])
    return interval_over_seeds([dice - reference for dice in mine.values()])


def every_seed(mine, arms):
    return interval_over_seeds([mine[s] - arms["supervised longer"][s] for s in mine])


def best_seed(mine, arms):
    differences = [mine[s] - arms["supervised longer"].get(s, 0) for s in mine]
    return interval_over_seeds([max(differences)] * len(differences))


WRONG_GAINS = {
    "short baseline": against("supervised"),
    "wrong sign": against("supervised longer", sign=-1),
    "paired by .seed": in_order,
    "order of a dict is not the pairing": unpaired,
    "that both have": every_seed,
    "that of the differences": best_seed,
    "mean, low, high": lambda mine, arms: right_gain(mine, arms).mean,
}


@pytest.mark.parametrize("message", WRONG_GAINS)
def test_wrong_gain(message):
    with pytest.raises(CheckFailed, match=message):
        lab03.gain(WRONG_GAINS[message])
