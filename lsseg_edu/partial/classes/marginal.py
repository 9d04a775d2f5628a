"""Marginal and exclusion loss: "background" means no more than it says."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.data import IGNORE
from lsseg_edu.partial.classes.partly import annotated_classes, marginal_loss, precise
from lsseg_edu.train import Method


class MarginalLoss(Method):
    r"""One network for many data sets, each of which annotated some organs only.

    In a liver data set the label *background* stands for everything that is not liver. So the
    probability that must be high there is that of *everything that is not liver*:

    .. math::
        q_0(i) = p_0(i) + \sum_{k\ \text{not annotated}} p_k(i), \qquad
        q_k(i) = p_k(i)\ \text{for annotated } k, \qquad
        L = L_{CE}(q, y) + L_{Dice}(q, y) + \lambda L_{ex} .

    Which of the merged classes it is, is left to the images of the other data sets. What can be
    said is where an organ that is not annotated is *not*: inside one that is. That is
    :func:`exclusion_loss`.

    Reference: Shi, Xiao, Chen, Zhou, "Marginal loss and exclusion loss for partially supervised
    multi-organ segmentation", Medical Image Analysis 2021.
    Simplified: the Dice term is this book's, over the batch; all data sets are drawn alike.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        exclusion: :math:`\lambda`. At 0 the loss is the marginal one alone.

    Example:
        >>> from lsseg_edu.data import Task, annotate, load
        >>> from lsseg_edu.train import Budget, fit
        >>> task = annotate.missing_classes(Task.split(load("abdomen"), labelled=12), given=1)
        >>> fitted = fit(MarginalLoss.for_task(task), task, Budget.named("smoke"), progress=False)
        >>> sorted(fitted.history)
        ['exclusion', 'marginal']
    """

    def __init__(self, net: nn.Module, exclusion: float = 1.0):
        super().__init__(net)
        self.exclusion = exclusion

    def loss(self, batch) -> dict[str, Tensor]:
        """``marginal``, and ``exclusion`` (already weighted)."""
        part = batch.labelled
        annotated, logits = annotated_classes(part), self.net(part.images)
        terms = {"marginal": marginal_loss(logits, part.labels, annotated)}
        if self.exclusion:
            overlap = exclusion_loss(logits, part.labels, annotated)
            terms["exclusion"] = self.exclusion * overlap
        return terms


def exclusion_loss(logits: Tensor, labels: Tensor, annotated: Tensor, eps: float = 1.0) -> Tensor:
    r"""How far the classes without labels reach into the organs that have some.

    Organs do not overlap. With :math:`e(i)` = 1 in the organs annotated in an image, and k a class
    that is not annotated there,

    .. math:: L_{ex} = \operatorname{mean}_{b,k} \Big[
        \frac{2 \sum_i p_k(i)\, e(i)}{\sum_i p_k(i) + \sum_i e(i) + \epsilon}
        + \frac{\sum_i e(i) \ln(1 + p_k(i))}{\sum_i e(i)} \Big] .

    Both terms are 0 where there is no overlap. With a softmax the cross-entropy asks for the same,
    in the end: where :math:`p_y = 1` nothing is left for the others.

    Args:
        logits: ``(B, K, *S)``.
        labels: ``(B, *S)``.
        annotated: ``(B, K)`` bool.
        eps: in pixels; an image without any organ then costs nothing.

    Returns:
        A scalar; 0 if nothing is missing.
    """
    probs, missing = precise(logits).softmax(1), ~annotated
    organs = ((labels > 0) & (labels != IGNORE)).unsqueeze(1).to(probs)
    axes = tuple(range(2, logits.ndim))
    size = organs.sum(axes)
    dice = 2 * (probs * organs).sum(axes) / (probs.sum(axes) + size + eps)
    entropy = (organs * probs.log1p()).sum(axes) / size.clamp(min=1)
    return ((dice + entropy) * missing).sum() / missing.sum().clamp(min=1)
