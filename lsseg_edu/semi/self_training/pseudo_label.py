"""Self-training: label the unlabelled images with a network, and train the next one on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit


class PseudoLabelled(Method):
    r"""The baseline on the union of labels :math:`y` and pseudo-labels :math:`\hat y`.

    .. math:: L = L_{sup}(f_\theta(x_l), y) + w\, L_{sup}(f_\theta(x_u), \hat y)

    The pseudo-labels ride along as ``task.train.extras["pseudo"]``, see :func:`with_pseudo`; they
    are warped with their images. Pixels that are IGNORE there count for nothing.

    Reference: Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for
    Deep Neural Networks", ICML Workshop on Challenges in Representation Learning 2013.
    Simplified: fixed labels of an earlier network; the paper's are those of the present one.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: ``w``. At 1 a pseudo-label counts as much as a label; at 0 it is the baseline.

    Raises:
        ValueError: a task without pseudo-labels.
    """

    unlabelled = True

    def __init__(self, net: nn.Module, weight: float = 1.0):
        super().__init__(net)
        self.weight = weight

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the labelled images, ``pseudo`` (already weighted) on the others."""
        others = batch.unlabelled
        if "pseudo" not in others.extras:
            raise ValueError("The task has no pseudo-labels: make it with with_pseudo().")
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        pseudo = losses.dice_ce(self.net(others.images), others.extras["pseudo"])
        return {"supervised": supervised, "pseudo": self.weight * pseudo}


@dataclass
class SelfTrained(Fitted):
    """The last of several trainings; ``rounds`` has them all, the first teacher at 0."""

    rounds: list[Fitted] = field(default_factory=list)

    @classmethod
    def of(cls, rounds: list[Fitted]) -> SelfTrained:
        """Method and history of the last training, the seconds of all."""
        last, seconds = rounds[-1], sum(one.seconds for one in rounds)
        return cls(last.method, last.history, seconds, any(r.interrupted for r in rounds), rounds)


def hard_labels(probs: Tensor, threshold: float = 0.0) -> Tensor:
    r"""The likeliest class where its probability reaches the threshold, IGNORE elsewhere.

    .. math:: \hat y_i = \arg\max_k p_{ik} \text{ if } \max_k p_{ik} \ge \tau

    Args:
        probs: ``(N, K, *S)``.
        threshold: :math:`\tau`; 0 labels every pixel.

    Returns:
        ``(N, *S)`` int64.

    Raises:
        ValueError: a threshold outside [0, 1].

    Example:
        >>> sure, unsure = [0.95, 0.05], [0.6, 0.4]
        >>> probs = torch.tensor([sure, unsure]).T.reshape(1, 2, 1, 2)  # one image of two pixels
        >>> hard_labels(probs, threshold=0.9)
        tensor([[[  0, 255]]])
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"The threshold is a probability; choose one in [0, 1], not {threshold}.")
    confidence, labels = probs.max(1)
    return labels.where(confidence >= threshold, IGNORE)


def unlabelled_images(task: Task) -> Tensor:
    """The images ``(M, C, *S)`` that nobody labelled.

    Raises:
        ValueError: there are none.
    """
    if len(task.unlabelled) == 0:
        raise ValueError(
            "Self-training needs unlabelled training images, and the task has none: "
            "use Task.keep(labelled=n)."
        )
    return task.train.images[task.unlabelled]


def with_pseudo(task: Task, index: Tensor, pseudo: Tensor) -> Task:
    """The task whose training images are the labelled ones and those of ``index``.

    Args:
        task: the problem; its labels stay as they are.
        index: ``(M,)`` unlabelled items of ``task.train``.
        pseudo: ``(M, *S)`` their pseudo-labels, which become the extra ``"pseudo"``.
    """
    everything = torch.full_like(task.train.labels, IGNORE)
    everything[index] = pseudo
    train = replace(task.train, extras={**task.train.extras, "pseudo": everything})
    return replace(task, train=train.select(torch.cat([task.labelled, index])))


def self_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 2,
    threshold: float = 0.9,
    weight: float = 1.0,
    **kwargs,
) -> SelfTrained:
    r"""Teach, label, start afresh, and again: each student labels for the next one.

    .. math::
        \theta_0 = \arg\min_\theta L_{sup}(f_\theta(x_l), y), \qquad
        \theta_r = \arg\min_\theta L_{sup}(f_\theta(x_l), y)
            + w\, L_{sup}\big(f_\theta(x_u), \hat y(f_{\theta_{r-1}}(x_u), \tau)\big)

    Every student has weights and batches of its own, so that it cannot repeat a mistake just
    because it began like its teacher. The last one has those of the baseline with this seed:
    with ``weight=0`` it *is* the baseline.

    Args:
        task: the problem, with its few labels.
        budget: of each of the ``rounds + 1`` trainings; by default :meth:`Budget.auto`.
        seed: of the last training's weights and draws; the earlier ones have others.
        rounds: how often pseudo-labels are made. Most of the change comes in the first rounds.
        threshold: :math:`\tau`, see :func:`hard_labels`. Lee takes every prediction; 0.9
            leaves out the pixels at which the teacher hesitates.
        weight: ``w``.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no round, no unlabelled image.

    Reference: Lee, ICML Workshop 2013, as in :class:`PseudoLabelled`.
    Simplified: labels change between trainings, not during one.
    """
    if rounds < 1:
        raise ValueError(f"Self-training needs at least 1 round, not {rounds}.")
    budget, first = budget or Budget.auto(), seed + 1000 * rounds
    images = unlabelled_images(task)
    trained = [fit(Supervised.for_task(task, first), task, budget, first, **kwargs)]
    for left in reversed(range(rounds)):
        fresh = seed + 1000 * left
        labels = hard_labels(trained[-1].predict(images), threshold)
        student = PseudoLabelled.for_task(task, fresh, weight=weight)
        both = with_pseudo(task, task.unlabelled, labels)
        trained.append(fit(student, both, budget, fresh, **kwargs))
    return SelfTrained.of(trained)
