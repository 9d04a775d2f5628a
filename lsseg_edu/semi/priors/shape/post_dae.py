"""Post-DAE: a denoising autoencoder repairs the masks of any segmenter."""

from __future__ import annotations

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.semi.priors.shape.autoencoder import ShapeRestorer, shape_training
from lsseg_edu.semi.priors.shape.corruption import corrupt
from lsseg_edu.semi.priors.shape.shapes import repaired
from lsseg_edu.train import Budget, Fitted


def post_dae_segmentation(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    code: int = 4,
    corrupted: bool = True,
    **kwargs,
) -> Fitted:
    r"""Learn to restore spoilt masks, then restore what the baseline answers.

    .. math::
        \min_{\Phi, \Psi}\ L_{Dice}\big(\Psi(\Phi(c(y))), y\big), \qquad
        \hat y = \Psi(\Phi(\arg\max_k f_\theta(x)_k)) .

    The image has no say in the repair, so the autoencoder works behind any segmenter, a forest
    or an atlas too, and never has to be trained again. That is its weakness as well: it knows
    how hearts look, not how *this* heart looks.

    Reference: Larrazabal, Martinez, Glocker, Ferrante, "Post-DAE: Anatomically Plausible
    Segmentation via Post-Processing With Denoising Autoencoders", IEEE Transactions on Medical
    Imaging 2020.
    Simplified: shapes are warps of the labelled masks, see :data:`~.shapes.WARPS`; the code is a
    small map instead of a vector.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws; the segmenter is the baseline of this seed.
        code: numbers at each place of the code, see :class:`.ShapeRestorer`.
        corrupted: False trains a plain autoencoder, the control.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Returns:
        The baseline with the autoencoder behind it (``method.repair``).

    Raises:
        ValueError: no complete mask, or a code that does not fit.
    """
    spoil = corrupt if corrupted else None
    dae = shape_training(task, budget, seed, code, spoil, losses.dice, net=ShapeRestorer, **kwargs)
    return repaired(task, dae.method, budget, seed, dae.seconds, **kwargs)
