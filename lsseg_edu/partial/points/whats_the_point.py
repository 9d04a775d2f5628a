"""What's the point: learn from clicks, from what an image shows at all, and from objectness."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.losses import cross_entropy
from lsseg_edu.partial.points.clicked import clicked
from lsseg_edu.train import Method


class WhatsThePoint(Method):
    r"""Clicks, classes of the image, and a prior of where objects are.

    .. math::
        L = \underbrace{-\frac{1}{|I_s|} \sum_{i \in I_s} \ln p_{y_i}(i)}_{\text{point}}
          + \lambda_1 L_{img}
          - \frac{\lambda_2}{|\Omega|} \sum_i \Big[ P_i \ln \sum_{k > 0} p_k(i)
                + (1 - P_i) \ln p_0(i) \Big]

    :math:`L_{img}` is :func:`image_level`. The last term is Bearman's objectness: :math:`P_i` is
    the probability that pixel ``i`` belongs to *some* object, whichever. It gives the clicks an
    extent, which they do not have themselves.

    Reference: Bearman, Russakovsky, Ferrari, Fei-Fei, "What's the Point: Semantic Segmentation
    with Point Supervision", ECCV 2016.
    Simplified: the paper's objectness was trained on boxes of other classes; ours is learnt from
    colours at the clicks, see :class:`Objectness`. Clicks weigh alike, whoever made them first.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        objectness: images to ``P (B, *S)``, without a gradient.
        image: :math:`\lambda_1`; 1 in the paper.
        prior: :math:`\lambda_2`; 1 in the paper, 0 is the control.
    """

    def __init__(self, net: nn.Module, objectness: nn.Module, image=1.0, prior=1.0):
        super().__init__(net)
        self.objectness, self.image, self.prior = objectness, image, prior

    @classmethod
    def for_task(cls, task: Task, seed: int = 0, **options) -> WhatsThePoint:
        """On the book's U-Net, with the objectness of the task's clicks."""
        from lsseg_edu import networks

        return cls(networks.unet(task, seed=seed), Objectness.of(task), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``point``, ``image`` and ``objectness``, the last two already weighted."""
        part = batch.labelled
        if "points" not in part.extras:
            raise ValueError("There are no points: make the task with annotate.points.")
        logits = self.net(part.images).float()
        numbers = torch.arange(logits.shape[1], device=logits.device)
        present = (part.extras["points"][..., :1] == numbers).any(1)
        return {
            "point": cross_entropy(logits, part.labels),
            "image": self.image * image_level(logits, present),
            "objectness": self.prior * self.extent(logits, part.images),
        }

    def extent(self, logits: Tensor, images: Tensor) -> Tensor:
        """Binary cross-entropy of "any object" with the prior, over all pixels."""
        with torch.no_grad():
            prior = self.objectness(images)
        score = logits[:, 1:].logsumexp(1) - logits[:, 0]
        return F.binary_cross_entropy_with_logits(score, prior)


def image_level(logits: Tensor, present: Tensor) -> Tensor:
    r"""Each class that is there is somewhere; each that is not is nowhere.

    .. math:: -\frac{1}{|L|} \sum_{k \in L} \ln \max_i p_k(i)
              - \frac{1}{|L'|} \sum_{k \notin L} \ln (1 - \max_i p_k(i))

    Args:
        logits: ``(B, K, *S)``.
        present: ``(B, K)`` bool: ``L`` of each image.

    Returns:
        A scalar, the mean over images; a sum over nothing is 0.
    """
    top = logits.float().softmax(1).flatten(2).amax(2).clamp(1e-6, 1 - 1e-6)
    there = -(present * top.log()).sum(1) / present.sum(1).clamp(min=1)
    absent = -(~present * (1 - top).log()).sum(1) / (~present).sum(1).clamp(min=1)
    return (there + absent).mean()


class Objectness(nn.Module):
    """How much a pixel's colour resembles those clicked as objects, against the background's.

    A logistic regression on the channels and their means over 3 x 3 pixels, fitted on all clicks
    of the training images; both groups weigh alike. It knows no class and no shape.

    Args:
        weight: ``(2C,)``.
        bias: a scalar.
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())

    @classmethod
    def of(cls, task: Task) -> Objectness:
        """Fitted on a task's clicks; errors are those of :func:`.clicked`."""
        from sklearn.linear_model import LogisticRegression

        points = clicked(task)
        item, row = (points[..., 0] >= 0).nonzero(as_tuple=True)
        features = with_means(task.train.images[task.labelled]).movedim(1, -1)
        chosen = features[(item, *points[item, row, 1:].T)]
        fitted = LogisticRegression(class_weight="balanced", max_iter=500)
        fitted.fit(chosen.numpy(), (points[item, row, 0] > 0).numpy())
        return cls(torch.from_numpy(fitted.coef_[0]), torch.tensor(fitted.intercept_[0]))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, *S)`` in (0, 1)."""
        score = torch.einsum("bc...,c->b...", with_means(images.float()), self.weight)
        return (score + self.bias).sigmoid()


def with_means(images: Tensor) -> Tensor:
    """Channels ``(B, C, *S)`` and their local means, ``(B, 2C, *S)``."""
    pool = F.avg_pool2d if images.ndim == 4 else F.avg_pool3d
    return torch.cat([images, pool(images, 3, 1, 1, count_include_pad=False)], 1)
