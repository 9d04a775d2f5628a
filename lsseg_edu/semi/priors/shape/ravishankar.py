"""Shape regularisation network: the segmenter hands over to a network that knows shapes."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.semi.priors.shape.autoencoder import ShapeRestorer
from lsseg_edu.semi.priors.shape.constrained import ShapeConstrained, constrained_training
from lsseg_edu.semi.priors.shape.corruption import corrupt
from lsseg_edu.train import Budget, Fitted


class ShapeRegularised(ShapeConstrained):
    r"""A cascade: the segmenter's answer is projected onto the shapes, and the result counts.

    With :math:`p = f_\theta(x)` and the projection :math:`\Pi = \Psi \circ \Phi`,

    .. math:: L = L_{sup}(p, y) + L_{sup}(\Pi(p), y) + \lambda \Big( \lVert p - \Pi(p) \rVert^2
        + \frac1d \lVert \Phi(p) - \Phi(y) \rVert^2 \Big) .

    The last two terms, means over pixels and code, keep the answer near the shapes and at the
    right one of them; the second makes the segmenter say what the shape network can use. The
    network of shapes has learnt to *restore* spoilt masks, so it maps answers that are off the
    shapes back to them.

    Reference: Ravishankar, Venkataramani, Thiruvenkadam, Sudhakar, Vaidya, "Learning and
    Incorporating Shape Models for Semantic Segmentation", MICCAI 2017.
    Simplified: the shape network stays as pretraining left it; its code is a small map.

    Args:
        net: the segmenter.
        shape: an autoencoder trained on spoilt masks.
        weight: :math:`\lambda`.
    """

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the segmenter's answer, ``cascade`` on the last one, ``shape``."""
        labels = batch.labelled.labels
        logits = self.net(batch.labelled.images)
        probs, truth = self.compared(logits, labels)
        code = self.shape.encode(probs)
        projected = self.shape.decode(code)
        away = (probs - projected.softmax(1)).square().sum(1).mean()
        other = (code - self.shape.encode(truth)).square().mean()
        return {
            "supervised": losses.dice_ce(logits, labels),
            "cascade": losses.dice_ce(projected, labels),
            "shape": self.weight * (away + other),
        }

    def predict(self, images: Tensor) -> Tensor:
        """The projected answer ``(B, K, *S)``."""
        return self.shape(self.net(images).float().softmax(1)).softmax(1)


def cascade_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    weight: float = 0.1,
    code: int = 4,
    **kwargs,
) -> Fitted:
    """Train the shape network on spoilt masks, then :class:`ShapeRegularised`.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        weight: of the two distances to the shapes.
        code: numbers at each place of the code, see :class:`.ShapeRestorer`.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no complete mask, or a code that does not fit.
    """
    shape = {"code": code, "corrupt": corrupt, "net": ShapeRestorer}
    return constrained_training(
        ShapeRegularised, task, budget, seed, shape, {"weight": weight}, **kwargs
    )
