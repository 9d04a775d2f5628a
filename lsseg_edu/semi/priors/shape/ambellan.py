"""CNN, shape model, CNN: a plausible shape first, then its boundary once more from the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.networks import Shape, unet
from lsseg_edu.semi.priors.shape.corruption import corrupt
from lsseg_edu.semi.priors.shape.projection import ShapeProjection
from lsseg_edu.semi.priors.shape.shapes import shape_set, shape_task
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit


class BoundaryRefinement(Method):
    r"""Redraw a band around the boundaries of an adjusted mask; elsewhere the mask stands.

    .. math::
        \hat y_i = \begin{cases} f_\theta(x, s)_i & \text{within } r \text{ pixels of a boundary
        of } s \\ s_i & \text{elsewhere,} \end{cases} \qquad s = \Pi(\arg\max_k f^0(x)_k) .

    :math:`\Pi` projects the first network's answer :math:`f^0(x)` onto a statistical shape model:
    few modes, so the shape is plausible and its boundary is a little off. The second network sees
    the image beside :math:`s` and is trained and asked in the band only. While it trains,
    :math:`s` is the projection of a *spoilt true* mask: on the images it was trained with the
    first network makes none of the mistakes that it makes on others.

    Reference: Ambellan, Tack, Ehlke, Zachow, "Automated Segmentation of Knee Bone and Cartilage
    Combining Statistical Shape Knowledge and Convolutional Neural Networks", Medical Image
    Analysis 2019.
    Simplified: slices instead of sub-volumes of a volume, and one pass whose answer counts in the
    band instead of a network run on patches along it.

    Args:
        net: the second network, images and one-hot masks ``(B, C + K, H, W)`` to logits.
        first: the first network, trained.
        adjust: a :class:`.ShapeProjection`.
        radius: :math:`r`, half the width of the band, in pixels.
    """

    def __init__(self, net: nn.Module, first: Method, adjust: ShapeProjection, radius: int = 3):
        super().__init__(net)
        self.first = first.requires_grad_(False)
        self.adjust, self.radius = adjust, radius

    def loss(self, batch) -> dict[str, Tensor]:
        """Term ``boundary``: the supervised loss within the band."""
        labels, images = batch.labelled.labels, batch.labelled.images
        shape = self.adjust(corrupt(labels, self.adjust.classes))
        logits = self.net(torch.cat([images, shape], 1))
        return {"boundary": losses.dice_ce(logits, labels.where(self.band(shape), IGNORE))}

    def band(self, shape: Tensor) -> Tensor:
        """Pixels ``(B, H, W)`` within the radius of a change of class in one-hot masks."""
        width = 2 * self.radius + 1
        near = F.max_pool2d(shape, width, 1, self.radius)
        return near.sum(1) > 1

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, K, H, W)``: the second network's in the band, 0 or 1 outside."""
        shape = self.adjust(self.first.predict(images).argmax(1))
        refined = self.net(torch.cat([images, shape], 1)).float().softmax(1)
        return refined.where(self.band(shape).unsqueeze(1), shape)


def ambellan_segmentation(
    task: Task, budget: Budget | None = None, seed: int = 0, radius: int = 3, **kwargs
) -> Fitted:
    """Train the baseline, fit the shape model to the few masks, train the boundary's network.

    Args:
        task: the problem, with its few labels; slices.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws; the first network is the baseline of this seed.
        radius: see :class:`BoundaryRefinement`.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no complete mask, volumes.
    """
    channels, classes = task.train.channels, task.train.classes
    adjust = ShapeProjection(shape_set(task, seed=seed), classes)
    first = fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs)
    second = unet(Shape(channels + classes, classes, task.train.dims), seed=seed + 1000)
    method = BoundaryRefinement(second, first.method, adjust, radius)
    refined = fit(method, shape_task(task), budget, seed + 1000, **kwargs)
    history = {**first.history, **refined.history}
    stopped = first.interrupted or refined.interrupted
    return Fitted(method, history, first.seconds + refined.seconds, stopped)
