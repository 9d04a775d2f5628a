"""Rethinking pre-training: does its gain survive augmentation, labels and self-training?"""

from __future__ import annotations

from itertools import product

import numpy as np

from lsseg_edu.augment import Augment
from lsseg_edu.data import Task
from lsseg_edu.evaluate import evaluate
from lsseg_edu.semi.self_training.pseudo_label import (
    PseudoLabelled,
    hard_labels,
    unlabelled_images,
    with_pseudo,
)
from lsseg_edu.semi.transfer.finetune import Source, learn_source, start_from
from lsseg_edu.train import Budget, Fitted, Supervised, fit

STRENGTHS = {"none": Augment.none, "weak": Augment.weak, "strong": Augment.strong}


def pretrain_and_self_train(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | Source = "brain",
    augment: str = "strong",
    self_trained: bool = True,
    network: str = "unet",
    threshold: float = 0.9,
    **kwargs,
) -> Fitted:
    r"""One cell of the factorial: an initialisation, an augmentation, with or without a student.

    .. math::
        \theta_T = \arg\min_\theta L_{sup}(x_l, y) \text{ from } \theta^0, \qquad
        \theta_S = \arg\min_\theta L_{sup}(x_l, y) + L_{sup}(x_u, \hat y_{\theta_T})
        \text{ from } \theta^0

    Without self-training the answer is :math:`\theta_T` with the student's seed, so that both
    have the same first weights and the same labelled batches.

    Args:
        task: the problem, with its few labels.
        budget: of each training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        source: of :math:`\theta^0`; ``"random"`` for none. See :func:`.learn_source`.
        augment: ``"none"``, ``"weak"`` or ``"strong"``, of target and student; a source is always
            learnt with the strong one.
        self_trained: train a student on the teacher's pseudo-labels.
        network: ``"unet"`` or ``"efficient"``.
        threshold: confidence of a pseudo-label, see :func:`.hard_labels`.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no such augmentation; no unlabelled image to self-train on.

    Reference: Zoph et al., "Rethinking Pre-training and Self-training", NeurIPS 2020.
    """
    if augment not in STRENGTHS:
        raise ValueError(f"There is no augmentation {augment!r}: choose {', '.join(STRENGTHS)}.")
    change, budget = STRENGTHS[augment](), budget or Budget.auto()
    given = learn_source(source, task, network, budget, seed, **kwargs)
    fresh = start_from(given, task, network, seed)
    if not self_trained:
        last = fit(Supervised(fresh), task, budget, seed, change, **kwargs)
    else:
        images, other = unlabelled_images(task), seed + 1000
        teacher = Supervised(start_from(given, task, network, other))
        teacher = fit(teacher, task, budget, other, change, **kwargs)
        pseudo = hard_labels(teacher.predict(images), threshold)
        both = with_pseudo(task, task.unlabelled, pseudo)
        last = fit(PseudoLabelled(fresh), both, budget, seed, change, **kwargs)
        last.seconds += teacher.seconds
    last.seconds += given.seconds if given else 0
    return last


def factorial(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | Source = "brain",
    augments: tuple[str, ...] = ("weak", "strong"),
    labelled: tuple[int, ...] = (3, 20),
    **kwargs,
) -> list[dict]:
    """Initialisation x augmentation x number of labels x self-training, every combination.

    Args:
        task: with all its labels; they are taken away here.
        budget: of every training; by default :meth:`Budget.auto`.
        seed: of weights, draws and labelled subjects.
        source: learnt once for all cells; see :func:`.learn_source`.
        augments: see :func:`pretrain_and_self_train`.
        labelled: numbers of labelled subjects, fewer than there are.
        **kwargs: ``network``, ``progress`` and ``device``, passed on.

    Returns:
        Rows ``{"init", "augment", "labelled", "self_trained", "dice"}`` with the *validation*
        Dice; ``init`` is ``random`` or ``source``. See :func:`effect` and :func:`interaction`.

    Reference: Zoph et al., NeurIPS 2020.
    """
    network = kwargs.pop("network", "unet")
    inits = {
        "random": "random",
        "source": learn_source(source, task, network, budget, seed, **kwargs),
    }
    rows = []
    for number, augment, init, twice in product(labelled, augments, inits, (False, True)):
        cell = {"init": init, "augment": augment, "labelled": number, "self_trained": twice}
        few, given = task.keep(number, seed), inits[init]
        run = pretrain_and_self_train(few, budget, seed, given, augment, twice, network, **kwargs)
        cell["dice"] = evaluate(run, task.valid, surfaces=False).mean_dice
        rows.append(cell)
    return rows


def effect(rows: list[dict], factor: str, **fixed) -> float:
    """Mean Dice at the second level of a factor less that at the first, over all other factors.

    Args:
        rows: of :func:`factorial`; a level is first if its rows come first.
        factor: ``"init"``, ``"augment"``, ``"labelled"`` or ``"self_trained"``.
        **fixed: levels of other factors: only the rows that have them.

    Raises:
        ValueError: a factor without two levels.

    Example:
        >>> rows = [{"init": "random", "dice": 0.5}, {"init": "source", "dice": 0.75}]
        >>> effect(rows, "init")
        0.25
    """
    low, high = levels(rows, factor)
    rows = [row for row in rows if all(row[key] == value for key, value in fixed.items())]
    means = [np.mean([r["dice"] for r in rows if r[factor] == v]) for v in (low, high)]
    return float(means[1] - means[0])


def interaction(rows: list[dict], factor: str, other: str) -> float:
    """How much larger the effect of ``factor`` is at the second level of ``other``.

    0: they add up. Negative: each does what the other does as well.
    """
    low, high = levels(rows, other)
    return effect(rows, factor, **{other: high}) - effect(rows, factor, **{other: low})


def levels(rows: list[dict], factor: str) -> tuple:
    """The two levels of a factor in the order of the rows.

    Raises:
        ValueError: there are not two.
    """
    found = tuple(dict.fromkeys(row.get(factor) for row in rows))
    if len(found) != 2:
        raise ValueError(f"An effect compares two levels; the factor {factor!r} has {len(found)}.")
    return found
