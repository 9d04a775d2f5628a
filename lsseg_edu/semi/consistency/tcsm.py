"""Transformation-consistent self-ensembling: turn the image, and the answer must turn with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher
from lsseg_edu.semi.consistency.transforms import AffineView, Chain, Dihedral
from lsseg_edu.semi.consistency.ua_mt import masked_mse


class TCSM(MeanTeacher):
    r"""The student sees the moved image; the teacher sees the image, and its *answer* is moved.

    .. math::
        L_{cons} = \frac{1}{|M|K} \sum_{i \in M} \sum_k
            \big(f_\theta(T x + \eta)_{ik} - (T f_{\theta'}(x + \eta'))_{ik}\big)^2

    ``T`` is a quarter-turn or mirror, then a scaling, drawn for each image. ``M`` are the pixels
    that ``T`` took from within the image: what a smaller image leaves at its border is made up.
    Noise leaves the organ where it is, so the network may obey by ignoring noise. A turn moves it,
    and the network has to find it again.

    Reference: Li, Yu, Chen, Fu, Xing, Heng, "Transformation-Consistent Self-Ensembling Model for
    Semisupervised Medical Image Segmentation", IEEE TNNLS 2021.
    Simplified: consistency on the unlabelled images only; plain linear interpolation.

    Args:
        net: as for :class:`.MeanTeacher`.
        scale: largest ``|ln factor|`` of the size (paper: factors 0.8 to 1.2).
        mirrors: whether ``T`` may mirror (as in the paper). A mirrored body is no body: try
            without where left and right organs are classes of their own.
        **options: those of :class:`.MeanTeacher`.
    """

    def __init__(self, net: nn.Module, scale: float = math.log(1.2), mirrors=True, **options):
        super().__init__(net, **options)
        self.scale, self.mirrors = scale, mirrors

    def view(self, images: Tensor) -> Chain:
        """A ``T`` for each image."""
        turn = Dihedral.draw(images, mirrors=self.mirrors)
        return Chain((turn, AffineView.draw(images, scale=self.scale)))

    def consistency(self, batch) -> Tensor:
        """Mean squared difference of the answer to the moved image and the moved answer."""
        images = batch.unlabelled.images
        view = self.view(images)
        student = self.net(self.perturb(view(images))).softmax(1)
        with torch.no_grad():
            target = view(self.teacher(self.perturb(images)).softmax(1))
        return masked_mse(student, target, view.inside(images))
