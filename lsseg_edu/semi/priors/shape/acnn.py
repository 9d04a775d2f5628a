"""ACNN: the answer must have the code of the truth."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.semi.priors.shape.constrained import ShapeConstrained, constrained_training
from lsseg_edu.train import Budget, Fitted


class ACNN(ShapeConstrained):
    r"""Distance of answer and truth, measured where an autoencoder sums up whole shapes.

    .. math:: L = L_{sup}(f_\theta(x), y)
        + \lambda \frac1d \lVert \Phi(f_\theta(x)) - \Phi(y) \rVert_2^2

    :math:`\Phi` is the encoder of an autoencoder of masks, :math:`d` the length of its code.
    Pixel losses judge each pixel by itself; an island far from the heart costs them no more
    than the same pixels on its rim. The code notices that the *shape* is another.

    Reference: Oktay et al., "Anatomically Constrained Neural Networks (ACNNs): Application to
    Cardiac Image Enhancement and Segmentation", IEEE Transactions on Medical Imaging 2018.
    Simplified: the mean over the code instead of its sum; no predictor network from images.

    Args:
        net: the segmenter.
        shape: the trained autoencoder, of which only the encoder is used.
        weight: :math:`\lambda`, in units of the code. The codes of cardiac masks vary by about 50
            (mean square), so 0.003 makes the term a tenth of the supervised loss; with 0.1 it
            drowned the labels. The paper's 0.01 belongs to the scale of its own code.
    """

    def constraint(self, probs: Tensor, truth: Tensor) -> Tensor:
        """Mean squared difference of the two codes."""
        return (self.shape.encode(probs) - self.shape.encode(truth)).square().mean()


def acnn_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    weight: float = 0.003,
    code: int = 32,
    **kwargs,
) -> Fitted:
    """Train the autoencoder of masks, then :class:`ACNN`. With ``weight=0`` it is the baseline.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        weight: of the code's distance.
        code: length of the code; the paper's is 64 for whole volumes.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no complete mask, or a code that does not fit.
    """
    return constrained_training(
        ACNN, task, budget, seed, {"code": code}, {"weight": weight}, **kwargs
    )
