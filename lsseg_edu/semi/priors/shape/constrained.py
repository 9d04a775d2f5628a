"""A segmenter trained under the eyes of a frozen shape network."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.priors.shape.autoencoder import ShapeAutoencoder, shape_training
from lsseg_edu.semi.priors.shape.shapes import one_hot
from lsseg_edu.train import Budget, Fitted, Method, fit


class ShapeConstrained(Method):
    """Supervised loss plus a term in which a pretrained shape network looks at the answer.

    The shape network's weights are fixed, its gradient passes *through* it to the segmenter. A
    shape network that went on learning would soon find every answer shapely.

    Args:
        net: the segmenter.
        shape: a trained :class:`.ShapeAutoencoder`; it is copied and frozen.
        weight: of the shape term.
    """

    def __init__(self, net: nn.Module, shape: ShapeAutoencoder, weight: float):
        super().__init__(net)
        self.shape = copy.deepcopy(shape).requires_grad_(False)
        self.weight = weight

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, and ``shape`` (already weighted)."""
        labels = batch.labelled.labels
        logits = self.net(batch.labelled.images)
        shape = self.weight * self.constraint(*self.compared(logits, labels))
        return {"supervised": losses.dice_ce(logits, labels), "shape": shape}

    def compared(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and one-hot truth ``(B, K, *S)``; equal where nobody annotated."""
        probs, known = logits.float().softmax(1), (labels != IGNORE)
        truth = one_hot(labels.where(known, 0), probs.shape[1])
        return probs, truth.where(known.unsqueeze(1), probs.detach())

    def constraint(self, probs: Tensor, truth: Tensor) -> Tensor:
        """What the shape network has against the answer: a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define constraint(probs, truth).")


def constrained_training(
    method: type[ShapeConstrained],
    task: Task,
    budget: Budget | None,
    seed: int,
    shape: dict,
    options: dict,
    **kwargs,
) -> Fitted:
    """Train the shape network, then the segmenter with it.

    Args:
        method: the constraint; made by its ``for_task``, so its segmenter starts from the
            baseline's weights.
        task, budget, seed: as ever; the budget is that of each training.
        shape: arguments of :func:`.shape_training`.
        options: arguments of ``method``.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.
    """
    first = shape_training(task, budget, seed, **shape, **kwargs)
    segmenter = method.for_task(task, seed, shape=first.method.net, **options)
    second = fit(segmenter, task, budget, seed, **kwargs)
    history = {**first.history, **second.history}
    stopped = first.interrupted or second.interrupted
    return Fitted(second.method, history, first.seconds + second.seconds, stopped)
