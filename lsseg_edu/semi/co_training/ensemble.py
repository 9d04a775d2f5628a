"""Deep co-training for segmentation: an ensemble on different subsets of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lsseg_edu.data import IGNORE
from lsseg_edu.semi.co_training.adversarial import fgsm, virtual_adversarial
from lsseg_edu.semi.co_training.dct import DeepCoTraining


class EnsembleCoTraining(DeepCoTraining):
    r"""Deep co-training in which every network knows other labelled subjects.

    The loss is that of :class:`.DeepCoTraining`, with two changes.

    .. math:: L_{sup}(f_m) \text{ on the subset } S_m \subset S, \qquad
        g_o(x) = \begin{cases} \text{FGSM, with the label} & x \in S \\
                               \text{virtual adversarial} & x \in U \end{cases}

    What a network was not shown it can only learn from the others, through their agreement on
    the unlabelled images.

    Reference: Peng, Estrada, Pedersoli, Desrosiers, "Deep co-training for semi-supervised image
    segmentation", Pattern Recognition 2020.
    Simplified: a ring of attackers drawn at each step instead of every pair; Dice +
    cross-entropy; one ramp for both terms.

    Args:
        nets: as in :class:`.DeepCoTraining`.
        subjects: for each network, the subjects whose labels it may learn from.
        **options: of :class:`.DeepCoTraining`; the paper's weights differ from data set to data
            set, and those of Qiao and colleagues are kept.

    Raises:
        ValueError: not as many subsets as networks; equal networks.
    """

    def __init__(self, nets: Sequence[nn.Module], subjects: Sequence[Tensor], **options):
        super().__init__(nets, **options)
        if len(subjects) != len(nets):
            raise ValueError(f"{len(nets)} networks need as many subsets, not {len(subjects)}.")
        known = torch.zeros(len(nets), 1 + max(int(s.max()) for s in subjects), dtype=torch.bool)
        for row, subset in zip(known, subjects, strict=True):
            row[subset] = True
        self.register_buffer("known", known)

    @classmethod
    def for_task(cls, task, seed: int = 0, many: int = 3, **options) -> EnsembleCoTraining:
        """``many`` U-Nets, each without its share of the labelled subjects."""
        subjects = task.train.subjects[task.labelled].unique()
        return super().for_task(
            task, seed, many, subjects=leave_some_out(subjects, many), **options
        )

    def labels_of(self, m: int, part) -> Tensor:
        """The labels of the network's own subjects; IGNORE on the others'."""
        mine = self.known[m][part.subject].view(-1, *(1,) * (part.labels.ndim - 1))
        return part.labels.where(mine, IGNORE)

    def attack(self, net: nn.Module, batch, images: Tensor, probs: Tensor) -> Tensor:
        """By the label where there is one, by the network's own answer where there is none."""
        labels = batch.labelled.labels
        many = len(labels)
        first = fgsm(net, images[:many], labels, self.epsilon)
        second = virtual_adversarial(net, images[many:], probs[many:], self.epsilon)
        return torch.cat([first, second])


def leave_some_out(subjects: Tensor, many: int) -> list[Tensor]:
    """``many`` subsets of the subjects: in turn, each subject is left out of one of them.

    Raises:
        ValueError: fewer subjects than subsets, so that some network would miss none.
    """
    if len(subjects) < max(many, 2):
        raise ValueError(
            f"{len(subjects)} labelled subject(s) cannot make {many} different subsets: label "
            f"at least {max(many, 2)}, or use DeepCoTraining, whose networks share all labels."
        )
    turn = torch.arange(len(subjects)) % many
    return [subjects[turn != m] for m in range(many)]
