r"""From many answers to one number a pixel: which doubt is meant, and does it find the errors?

``T`` answers :math:`p^{(t)}` with mean :math:`\bar p` hold two kinds of doubt. Each answer may be
unsure (*aleatoric*), and sure answers may contradict each other (*epistemic*):

.. math::
    \underbrace{H[\bar p]}_{\text{entropy}} =
    \underbrace{\tfrac1T \textstyle\sum_t H[p^{(t)}]}_{\text{mean entropy}} +
    \underbrace{I}_{\text{mutual information}}, \qquad H[p] = -\sum_k p_k \ln p_k .

All maps are ``(B, *S)``; entropies are in nats, at most ln K (not ln 2, which is that of two
classes). Samples are ``(T, B, K, *S)`` as :meth:`.Sampled.samples` gives them.

Reference: Nair, Precup, Arnold, Arbel, "Exploring uncertainty measures in deep networks for
Multiple sclerosis lesion detection and segmentation", Medical Image Analysis 2020; Camarasa et al.,
"Quantitative Comparison of Monte-Carlo Dropout Uncertainty Measures for Multi-class Segmentation",
UNSURE 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(samples: Tensor) -> Tensor:
    r"""Total doubt :math:`H[\bar p]`: entropy of the mean answer."""
    return torch.special.entr(_several(samples).mean(0)).sum(1)


def mean_entropy(samples: Tensor) -> Tensor:
    r"""Aleatoric doubt :math:`\frac1T\sum_t H[p^{(t)}]`: how unsure each answer is by itself."""
    return torch.special.entr(_several(samples)).sum(2).mean(0)


def mutual_information(samples: Tensor) -> Tensor:
    r"""Epistemic doubt :math:`H[\bar p] - \frac1T\sum_t H[p^{(t)}] \ge 0`: how they contradict.

    It is what knowing the pass would tell about the label. Rounding below 0 is cut off.
    """
    return (entropy(samples) - mean_entropy(samples)).clamp(min=0)


def variance(samples: Tensor) -> Tensor:
    r"""Spread :math:`\frac1K \sum_k \frac1T \sum_t (p_k^{(t)} - \bar p_k)^2` of the answers."""
    return _several(samples).var(0, unbiased=False).mean(1)


def predicted_variance(variances: Tensor) -> Tensor:
    r"""The variance the network itself predicts for its logits, averaged over passes and classes.

    Args:
        variances: ``(T, B, K, *S)``, those of :meth:`.KendallGal.variances`.
    """
    return _several(variances).mean((0, 2))


def uncertainty_maps(samples: Tensor, variances: Tensor | None = None) -> dict[str, Tensor]:
    """The measures that the two papers compare, ``{name: (B, *S)}``.

    Args:
        samples: ``(T, B, K, *S)``.
        variances: likewise, where the network predicts them: the fourth map.
    """
    measures = (entropy, mutual_information, variance)
    maps = {measure.__name__.replace("_", " "): measure(samples) for measure in measures}
    return (
        maps if variances is None else {**maps, "predicted variance": predicted_variance(variances)}
    )


def retention(doubt: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
    r"""Give the doubtful pixels to an expert: how many of those *kept* are wrong?

    Pixels are sorted by doubt, the surest first. Keeping the first ``n`` of ``N``,

    .. math:: \mathrm{kept}(n) = \frac{n}{N}, \qquad
              \mathrm{error}(n) = \frac1n \sum_{j \le n} [\hat y_j \ne y_j] .

    Useful doubt keeps the errors for the end of the queue. Doubt that knows nothing gives a flat
    line at the error rate. Pixels of equal doubt cannot be told apart: each of them counts with the
    mean error of them all, so the order in which they happen to come changes nothing.

    Args:
        doubt: any shape.
        wrong: the same shape, boolean; leave out what is IGNORE beforehand.

    Returns:
        ``kept`` and ``error``, each ``(N,)`` double.

    Raises:
        ValueError: no pixel, shapes that differ.
    """
    if doubt.shape != wrong.shape or doubt.numel() == 0:
        raise ValueError(
            f"doubt and wrong must be of the same pixels, at least one; "
            f"got {tuple(doubt.shape)} and {tuple(wrong.shape)}."
        )
    order = doubt.flatten().argsort()
    _, tie, count = doubt.flatten()[order].unique_consecutive(
        return_inverse=True, return_counts=True
    )
    wrong = wrong.flatten()[order].double()
    shared = wrong.new_zeros(len(count)).index_add_(0, tie, wrong) / count
    n = torch.arange(1, len(wrong) + 1, device=wrong.device, dtype=torch.double)
    return n / len(wrong), shared[tie].cumsum(0) / n


def area(doubt: Tensor, wrong: Tensor) -> float:
    """Area under the :func:`retention` curve, its mean error: lower is better.

    Errors are few, so compare it with the same area of other measures for the *same* prediction:
    a better prediction lowers it as well.
    """
    return float(retention(doubt, wrong)[1].mean())


def _several(samples: Tensor) -> Tensor:
    if samples.ndim < 4 or len(samples) < 1:
        raise ValueError(
            f"Samples are (T, B, K, *S) with T at least 1, not {tuple(samples.shape)}: "
            f"take them from method.samples(images)."
        )
    return samples.float()
