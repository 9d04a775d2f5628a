"""Self-training with a dense CRF: the network's labels are mended before they are believed."""

from __future__ import annotations

import copy

import torch

from lsseg_edu.data import Task
from lsseg_edu.semi.self_training.dense_crf import mean_field
from lsseg_edu.semi.self_training.pseudo_label import (
    PseudoLabelled,
    SelfTrained,
    hard_labels,
    unlabelled_images,
    with_pseudo,
)
from lsseg_edu.train import Budget, Supervised, fit


def crf_self_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 2,
    weight: float = 1.0,
    crf: dict | None = None,
    **kwargs,
) -> SelfTrained:
    r"""Update the network with the labels fixed, then the labels with the network fixed, in turn.

    Network and unknown labels minimise one loss over both, a step at a time:

    .. math::
        \theta \leftarrow \arg\min_\theta L_{sup}(f_\theta(x_l), y)
            + w\, L_{sup}(f_\theta(x_u), \hat y), \qquad
        \hat y \leftarrow \arg\max_k\, \mathrm{CRF}\big(f_\theta(x_u), x_u\big)_k .

    The network alone would hand its own answer back to itself. The CRF sees what the answer
    does not use up: that pixels of one tissue look alike, and that a boundary follows an edge.
    Every pixel gets a label. It is one network that goes on: each round starts from the
    weights of the last one, with a new learning-rate cycle.

    Args:
        task: the problem, with its few labels.
        budget: of each of the ``rounds + 1`` trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws; the first training is the baseline's.
        rounds: how often the labels are updated. The paper takes 3.
        weight: ``w``.
        crf: options of :func:`.mean_field`. ``{"steps": 0}`` switches the CRF off, which is the
            control.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no round, no unlabelled image.

    Reference: Bai et al., "Semi-supervised Learning for Network-Based Cardiac MR Image
    Segmentation", MICCAI 2017.
    Simplified: the CRF's parameters are set by hand for images of 64 pixels, not tuned.
    """
    if rounds < 1:
        raise ValueError(f"Self-training needs at least 1 round, not {rounds}.")
    budget, images = budget or Budget.auto(), unlabelled_images(task)
    trained = [fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs)]
    for number in range(1, rounds + 1):
        probs = trained[-1].predict(images)
        pairs = zip(probs.split(16), images.split(16), strict=True)
        mended = torch.cat([mean_field(p, x, **(crf or {})) for p, x in pairs])
        network = PseudoLabelled(copy.deepcopy(trained[-1].method.net), weight)
        both = with_pseudo(task, task.unlabelled, hard_labels(mended))
        trained.append(fit(network, both, budget, seed + 1000 * number, **kwargs))
    return SelfTrained.of(trained)
