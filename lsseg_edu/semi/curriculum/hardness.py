"""What curricula ask of a network: how hard is each item for it, as it is?"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE, Cohort
from lsseg_edu.train import Fitted, Method


def item_losses(method: Method, cohort: Cohort) -> Tensor:
    """Mean cross-entropy ``(N,)`` of the annotated pixels of each item, as it is, in nats."""
    probs = Fitted(method).predict(cohort.images)
    method.train()
    labels = cohort.labels.cpu()
    each = F.nll_loss(probs.clamp(min=1e-8).log(), labels, ignore_index=IGNORE, reduction="none")
    return each.flatten(1).sum(1) / (labels != IGNORE).flatten(1).sum(1).clamp(min=1)
