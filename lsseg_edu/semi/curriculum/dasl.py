"""Deep active self-paced learning: keep what is easy, ask about what is not."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate import ask
from lsseg_edu.data.annotate.cost import mask_seconds
from lsseg_edu.semi.curriculum.spl import pace, self_paced_weights
from lsseg_edu.semi.self_training import PseudoLabelled, SelfTrained, hard_labels, with_pseudo
from lsseg_edu.train import Budget, Fitted, Supervised, fit


@dataclass
class ActiveSelfPaced(SelfTrained):
    """The rounds, and what the annotator had to do.

    Attributes:
        queries: images that were annotated on request.
        annotation_seconds: estimate of the time that took.
        easy: images with a pseudo-label in each round.
    """

    queries: int = 0
    annotation_seconds: float = 0.0
    easy: tuple[int, ...] = ()


def active_self_paced(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 3,
    queries: int = 4,
    choose: str = "uncertain",
    start: float = 0.3,
    weight: float = 0.5,
    **kwargs,
) -> ActiveSelfPaced:
    r"""In each round the easy images label themselves, and the hard ones are shown to an expert.

    With :math:`\ell_i = -\frac{1}{|\Omega|}\sum_j \ln \max_k p_k(j)`, the loss of an image's own
    pseudo-labels,

    .. math::
        v_i = [\ell_i < \lambda] \text{ (self-paced: pseudo-label),} \qquad
        \text{annotate the } q \text{ images of largest } \ell_i, \qquad
        \lambda \text{ grows from round to round.}

    Both ends of one ranking are used. The middle waits for a better network. Pseudo-labels are
    made anew each round, a mask stays.

    Reference: Wang W. et al., "Deep Active Self-paced Learning for Accurate Pulmonary Nodule
    Segmentation", MICCAI 2018.
    Simplified: slices and a U-Net instead of instances and Nodule R-CNN; the annotator is
    simulated, see :func:`lsseg_edu.data.annotate.with_annotator`.

    Args:
        task: the problem, with its annotator.
        budget: of the first training, and of all rounds together.
        seed: of weights and draws; the first training is the baseline's.
        rounds: how often images are chosen.
        queries: ``q``, masks asked for in each round.
        choose: ``"uncertain"``; the control is ``"random"``, which spends as many queries.
        start: share of the unlabelled images that is easy in the first round; it grows to 0.9.
        weight: of the pseudo-labels; 0 is active learning alone.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: no annotator in the task; fewer unlabelled images than queries; an unknown
            choice.
    """
    check(task, rounds, queries, choose, start)
    budget, generator = budget or Budget.auto(), torch.Generator().manual_seed(seed)
    share = replace(budget, steps=-(-budget.steps // rounds))
    trained = [fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs)]
    paid, easy = [], []
    for number in range(1, rounds + 1):
        losses = doubt(trained[-1], task)
        scores = losses if choose == "uncertain" else torch.rand(len(losses), generator=generator)
        asked = task.unlabelled[scores.argsort(descending=True)[:queries]]
        task = ask(task, asked)
        paid.append(asked)
        probs = trained[-1].predict(task.train.images[task.unlabelled])
        losses, known = own_loss(probs), start + (0.9 - start) * (number - 1) / max(rounds - 1, 1)
        chosen = self_paced_weights(losses, pace(losses, known)) > 0
        easy.append(int(chosen.sum()))
        both = with_pseudo(task, task.unlabelled[chosen], hard_labels(probs[chosen]))
        student = PseudoLabelled(copy.deepcopy(trained[-1].method.net), weight)
        trained.append(fit(student, both, share, seed + 1000 * number, **kwargs))
    result, paid = ActiveSelfPaced.of(trained), torch.cat(paid)
    result.queries, result.easy = len(paid), tuple(easy)
    result.annotation_seconds = mask_seconds(task.train.labels[paid])
    return result


def doubt(fitted: Fitted, task: Task) -> Tensor:
    """Loss of its own pseudo-labels ``(M,)`` of each unlabelled image."""
    return own_loss(fitted.predict(task.train.images[task.unlabelled]))


def own_loss(probs: Tensor) -> Tensor:
    """Mean over pixels of the surprise at the likeliest class: ``(N, K, *S)`` to ``(N,)``."""
    return -probs.amax(1).clamp(min=1e-8).log().flatten(1).mean(1)


def check(task, rounds, queries, choose, start) -> None:
    """Raise unless there is an annotator, and enough to ask."""
    if "annotator" not in task.train.extras:
        raise ValueError("Nobody can be asked: give the task an annotator with with_annotator().")
    if choose not in ("uncertain", "random"):
        raise ValueError(f"Unknown arm {choose!r}: choose 'uncertain' or 'random'.")
    if rounds < 1 or queries < 0 or rounds * queries >= len(task.unlabelled):
        raise ValueError(
            f"{rounds} rounds of {queries} queries cannot be asked of {len(task.unlabelled)} "
            f"unlabelled images: at least one must be left."
        )
    if not 0 < start <= 0.9:
        raise ValueError(f"The first pool would be empty: give start in (0, 0.9], not {start}.")
    if (task.train.extras["annotator"] == IGNORE).any():
        raise ValueError("The annotator's masks must be complete: they hold IGNORE.")
