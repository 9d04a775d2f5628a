"""Does 80 % sure mean right four times in five?"""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.data import IGNORE


def expected_calibration_error(probs: Tensor, labels: Tensor, bins: int = 15) -> float:
    r"""Expected calibration error over the annotated pixels.

    .. math:: \mathrm{ECE} = \sum_b \frac{|B_b|}{N}\,
              \big|\mathrm{accuracy}(B_b) - \mathrm{confidence}(B_b)\big|

    with pixels put into ``bins`` equal bins by the probability of the predicted class.

    Args:
        probs: ``(N, K, *S)``, summing to 1 over ``K``.
        labels: ``(N, *S)`` int64; IGNORE is left out.
        bins: number of bins.

    Returns:
        ECE in [0, 1]; 0 is perfectly calibrated.

    Reference: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    known = labels != IGNORE
    confidence, predicted = probs.max(1)
    confidence, right = confidence[known], (predicted == labels)[known].float()
    b = (confidence * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins).index_add_(0, b, right - confidence)
    return float(gap.abs().sum() / len(b))
