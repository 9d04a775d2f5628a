"""Partial cross-entropy: learn from the scribbled pixels, ask nothing of the others."""

from __future__ import annotations

from torch import Tensor

from lsseg_edu.data import IGNORE
from lsseg_edu.train import Method


def partial_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross-entropy over the annotated pixels :math:`\Omega_s` alone.

    .. math:: L = -\frac{1}{|\Omega_s|} \sum_{i \in \Omega_s} \log p_{y_i}(i)

    The mean is over :math:`|\Omega_s|`, not over the image: divided by all pixels, the loss of
    a scribble covering 1 % of the image would be a hundred times too small.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)`` int64, IGNORE off the scribbles.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: no pixel of the batch is annotated.

    Reference: Tang, Djelouah, Perazzi, Boykov, Schroers, "Normalized Cut Loss for
    Weakly-Supervised CNN Segmentation", CVPR 2018.
    """
    known = labels != IGNORE
    if not known.any():
        raise ValueError("No pixel of this batch is annotated: draw from task.labelled only.")
    log_probs = logits.float().log_softmax(1)
    chosen = log_probs.gather(1, labels.where(known, 0).unsqueeze(1)).squeeze(1)
    return -(chosen * known).sum() / known.sum()


class PartialCrossEntropy(Method):
    """Train on scribbles with :func:`partial_cross_entropy`.

    What lies between the scribbles is left to the network's own smoothness: neighbouring pixels
    that look alike get like features, hence like labels. Nothing here says where a boundary is;
    that is what the regularised losses of the same chapter add.

    The background needs scribbles too. Without them the cheapest answer is "foreground
    everywhere", and the loss would not object (:meth:`lsseg_edu.data.Task.supervise` refuses).
    """

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"scribbles": partial cross-entropy}`` of the labelled images."""
        images, labels = batch.labelled.images, batch.labelled.labels
        return {"scribbles": partial_cross_entropy(self.net(images), labels)}
