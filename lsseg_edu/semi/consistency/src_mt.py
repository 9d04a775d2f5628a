"""Relations between samples: who resembles whom must survive the noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.augment.smooth import full_precision
from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher
from lsseg_edu.semi.consistency.mmt_psm import look


class SRCMT(MeanTeacher):
    r"""Mean Teacher that also keeps the similarities *between* the images of a batch.

    The deepest features of ``B`` images are the rows of ``A``. Their Gram matrix says who
    resembles whom; each row is scaled to length 1, and student and teacher must agree on it:

    .. math::
        G = A A^\top, \qquad R_b = G_b / \lVert G_b \rVert_2, \qquad
        L_{cons} = L_{MSE} + \beta\, \frac1B \sum_b \lVert R_b(x+\eta;\theta) -
        R_b(x+\eta';\theta') \rVert^2 .

    Answers say what each image shows. Relations say more of an image on which the answer is
    still wrong: that it looks like this patient and unlike that one.

    Reference: Liu, Yu, Luo, Dou, Heng, "Semi-supervised Medical Image Classification with
    Relation-driven Self-ensembling Model", IEEE TMI 2020.
    Simplified: on a segmentation network (the paper classifies whole images); relations among
    the unlabelled images of the batch only.

    Args:
        net: the student, with ``encode``, ``decode`` and ``final_conv``.
        relation: :math:`\beta`, weight of the relations beside the answers (paper 1).
        **options: those of :class:`.MeanTeacher`.

    Raises:
        ValueError: a network whose features cannot be seen; a batch of one image.
    """

    def __init__(self, net: nn.Module, relation: float = 1.0, **options):
        if not hasattr(net, "encode"):
            raise ValueError(
                f"{type(net).__name__} does not show its features: take a network with encode, "
                f"decode and final_conv, such as networks.unet(task)."
            )
        super().__init__(net, **options)
        self.relation = relation

    def consistency(self, batch) -> Tensor:
        """Mean squared difference of the answers, and of the relations between the images."""
        images = batch.unlabelled.images
        student, answer = look(self.net, self.perturb(images))
        with torch.no_grad():
            teacher, target = look(self.teacher, self.perturb(images))
        samples = (answer - target).square().mean()
        rows = (relations(student[-1]) - relations(teacher[-1])).square().sum(1)
        return samples + self.relation * rows.mean()


@full_precision
def relations(features: Tensor) -> Tensor:
    """Row-normalised Gram matrix ``(B, B)`` of features ``(B, C, *S)``, ``B`` at least 2."""
    if len(features) < 2:
        raise ValueError("Relations are between images: use a batch of at least two.")
    rows = features.float().flatten(1)
    return F.normalize(rows @ rows.T, dim=1)
