"""Ramp-up of an unsupervised weight."""

from __future__ import annotations

import math


def sigmoid_rampup(progress: float, length: float = 0.4) -> float:
    r"""Weight of the unlabelled term as training goes: nearly 0 at first, 1 from ``length`` on.

    .. math:: w(t) = \exp\left(-5\,(1 - t/T)^2\right), \qquad t \le T

    At the start the network's predictions are noise, and agreeing with noise teaches nothing but
    to say the same everywhere. Starting at :math:`e^{-5} \approx 0.007`, the labelled images
    have the word until the predictions are worth agreeing with.

    Args:
        progress: fraction of training done, ``t`` in [0, 1], so that a ramp tuned on one data
            set keeps its shape on another.
        length: ``T``, the fraction of training the ramp takes; 0 switches it off.

    Returns:
        The weight, in (0, 1].

    Reference: Laine, Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017.

    Example:
        >>> [round(sigmoid_rampup(t), 3) for t in (0.0, 0.2, 0.4, 1.0)]
        [0.007, 0.287, 1.0, 1.0]
    """
    left = 1 - min(progress / length, 1.0) if length > 0 else 0.0
    return math.exp(-5 * left**2)
