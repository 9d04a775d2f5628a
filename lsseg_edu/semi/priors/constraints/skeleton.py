"""clDice: compare centre lines, so that a gap of one pixel weighs as much as a wide vessel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.train import Method


class ClDice(Method):
    r"""Dice of the centre lines, in place of a part of the Dice of the areas.

    Let :math:`S_P, S_L` be the skeletons of the prediction and of the mask :math:`V_P, V_L`.
    *Topology precision*: how much of the predicted centre line lies in the true vessel?
    *Topology sensitivity*: how much of the true centre line was found?

    .. math::
        T_p = \frac{\sum S_P V_L}{\sum S_P}, \quad T_s = \frac{\sum S_L V_P}{\sum S_L}, \quad
        clDice = \frac{2 T_p T_s}{T_p + T_s}, \quad
        L = L_{CE} + (1-\alpha) L_{Dice} + \alpha (1 - clDice) .

    A vessel that is broken loses as much of its centre line as the break is long, however thin it
    is. It needs masks: on unlabelled images there is no centre line to be found again.

    Reference: Shit et al., "clDice: a Novel Topology-Preserving Loss Function for Tubular
    Structure Segmentation", CVPR 2021.
    Simplified: beside the paper's Dice and clDice there is this book's cross-entropy.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        alpha: :math:`\alpha` in [0, 1]; 0 is the baseline. The paper tries up to 0.5.
        iterations: of thinning, at least the largest radius of a vessel in pixels.

    Raises:
        ValueError: alpha outside [0, 1].

    Example:
        >>> from lsseg_edu.data import Task, load
        >>> from lsseg_edu.train import Budget, fit
        >>> task = Task.split(load("vessels"), labelled=1)
        >>> fitted = fit(ClDice.for_task(task), task, Budget.named("smoke"), progress=False)
        >>> sorted(fitted.history)
        ['cldice', 'supervised']
    """

    def __init__(self, net: nn.Module, alpha: float = 0.5, iterations: int = 5):
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha divides the Dice in two parts: give 0 to 1, not {alpha}.")
        super().__init__(net)
        self.alpha, self.iterations = alpha, iterations

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``: cross-entropy and the rest of Dice; ``cldice`` (already weighted)."""
        logits, labels = self.net(batch.labelled.images), batch.labelled.labels
        area = (1 - self.alpha) * losses.dice(logits, labels)
        line = self.alpha * (1 - cldice(logits.float().softmax(1), labels, self.iterations))
        return {"supervised": losses.cross_entropy(logits, labels) + area, "cldice": line}


def cldice(probs: Tensor, labels: Tensor, iterations: int = 5, eps: float = 1.0) -> Tensor:
    """Soft clDice of the foreground classes, summed over the batch.

    Args:
        probs: ``(B, K, *S)``.
        labels: ``(B, *S)``; pixels of IGNORE take no part.
        iterations: of thinning.
        eps: smoothing, in pixels.

    Returns:
        A scalar in [0, 1]; 1 is perfect.
    """
    known = (labels != IGNORE).unsqueeze(1)
    masks = F.one_hot(labels.where(known[:, 0], 0), probs.shape[1]).movedim(-1, 1).to(probs)
    areas = [(x * known)[:, 1:] for x in (probs, masks)]
    lines = [soft_skeleton(x, iterations) for x in areas]
    precision = ((lines[0] * areas[1]).sum() + eps) / (lines[0].sum() + eps)
    sensitivity = ((lines[1] * areas[0]).sum() + eps) / (lines[1].sum() + eps)
    return 2 * precision * sensitivity / (precision + sensitivity)


def soft_skeleton(x: Tensor, iterations: int = 5) -> Tensor:
    """Centre lines of soft masks ``(B, K, *S)``: what each thinning would lose by an opening.

    Erosion is a smallest value, dilation a largest one, and both have gradients.
    """
    skeleton = (x - dilate(erode(x))).relu()
    for _ in range(iterations):
        x = erode(x)
        ridge = (x - dilate(erode(x))).relu()
        skeleton = skeleton + (ridge - skeleton * ridge).relu()
    return skeleton


def erode(x: Tensor) -> Tensor:
    """Smallest value of a pixel and its neighbours along the axes, ``(B, K, *S)``."""
    pool, dims = (F.max_pool2d, 2) if x.ndim == 4 else (F.max_pool3d, 3)
    lines = torch.eye(dims, dtype=torch.long).mul(2).add(1).tolist()
    thin = [-pool(-x, line, 1, [n // 2 for n in line]) for line in lines]
    return torch.stack(thin).amin(0)


def dilate(x: Tensor) -> Tensor:
    """Largest value of a pixel and all its neighbours, ``(B, K, *S)``."""
    pool = F.max_pool2d if x.ndim == 4 else F.max_pool3d
    return pool(x, 3, 1, 1)
