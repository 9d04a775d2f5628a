"""Mean Teacher for brain lesions: labelled images must agree with themselves too."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher


class CuiMeanTeacher(MeanTeacher):
    r"""Mean Teacher whose consistency is asked of labelled and unlabelled images alike.

    .. math::
        L_{cons} = \frac{1}{|\Omega|K} \sum_{x \in X_L \cup X_U} \sum_{i,k}
            \big(f_\theta(x+\eta)_{ik} - f_{\theta'}(x+\eta')_{ik}\big)^2

    Lesions are small and their borders uncertain, so even a mask is one opinion among several.
    On a labelled image the teacher's soft answer stands beside that hard mask.

    Reference: Cui, Liu, Li, Guo, Sun, Li, Jin, Ye, "Semi-supervised Brain Lesion Segmentation
    with an Adapted Mean Teacher Model", IPMI 2019.
    Simplified: the book's U-Net and schedules instead of the paper's.

    Args:
        net: as for :class:`.MeanTeacher`, like every other argument.
    """

    def consistency(self, batch) -> Tensor:
        """Mean squared difference of the two answers, over the whole batch."""
        images = torch.cat([batch.labelled.images, batch.unlabelled.images])
        student = self.net(self.perturb(images)).softmax(1)
        with torch.no_grad():
            teacher = self.teacher(self.perturb(images)).softmax(1)
        return (student - teacher).square().mean()
