"""Contrastive predictive coding: from the rows above, which tile comes next?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.semi.self_supervision.finetune import pretrain_finetune
from lsseg_edu.semi.self_supervision.tiles import TilePretext
from lsseg_edu.train import Budget, Fitted


def info_nce(queries: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    r"""Each query has to find its own key among all keys.

    .. math::
        L = -\frac1N \sum_n \log
            \frac{\exp(\cos(q_n, k_n) / \tau)}{\sum_m \exp(\cos(q_n, k_m) / \tau)}

    Args:
        queries: ``(N, F)``.
        keys: ``(N, F)``; row n is the answer to query n, all others are its negatives.
        temperature: :math:`\tau`; small values ask for clearer answers.

    Returns:
        A scalar in nats; :math:`\ln N` is chance.
    """
    queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    answers = torch.arange(len(keys), device=keys.device)
    return F.cross_entropy(queries @ keys.T / temperature, answers)


class CPC(TilePretext):
    r"""Read the image row by row; tell the features of the tiles below from those of others.

    .. math::
        c_{rj} = \mathrm{GRU}(z_{1j}, \ldots, z_{rj}), \qquad
        L = \frac1K \sum_{k=1}^{K} \mathrm{InfoNCE}\big(W_k c_{rj},\ z_{r+k,\,j}\big)

    Tiles become features ``z``, a recurrent network sums up the rows above to a context ``c``,
    and a linear map for each distance ``k`` predicts. Nothing is predicted pixel by pixel: the
    prediction has only to be nearer to the true tile than to the tiles of the other columns,
    rows and images of the batch. In a volume the rows are slabs along its first axis.

    Reference: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive
    Coding", arXiv 2018; in 3D: Taleb et al., "3D Self-Supervised Methods for Medical Imaging",
    NeurIPS 2020.
    Simplified: a GRU down each column, told the mean of the row beside the column's own tile,
    instead of a masked convolution; tiles do not overlap; cosine similarity with a temperature.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        size: of the images, ``*S``.
        count: tiles along each axis; the paper's 7 overlapping ones do not fit small images.
            By default 4 in an image, 3 in a volume.
        ahead: largest ``k``; the paper predicts up to 5 of 7 rows.
        hidden: units of the context.
    """

    def __init__(self, net, size, count: int | None = None, ahead: int = 2, hidden: int = 64):
        super().__init__(net, size, count or (4 if len(size) == 2 else 3))
        self.context = nn.GRU(2 * self.features, hidden, batch_first=True)
        self.ahead = nn.ModuleList([nn.Linear(hidden, self.features) for _ in range(ahead)])

    def loss(self, batch) -> dict[str, Tensor]:
        """InfoNCE, averaged over the distances."""
        rows = self.rows(batch.unlabelled.images)
        context = self.summarise(rows)
        terms = [
            info_nce(predict(context[:, :-k]).flatten(0, 2), rows[:, k:].flatten(0, 2))
            for k, predict in enumerate(self.ahead, start=1)
        ]
        return {"cpc": torch.stack(terms).mean()}

    def rows(self, images: Tensor) -> Tensor:
        """Features of the tiles, ``(B, rows, columns, F)``."""
        return self.embed(self.cut(images)).unflatten(1, (self.grid.count, -1))

    def summarise(self, rows: Tensor) -> Tensor:
        """Context ``(B, rows, columns, hidden)``: what rows 1 to r say, for each column."""
        seen = torch.cat([rows, rows.mean(2, keepdim=True).expand_as(rows)], -1)
        context, _ = self.context(seen.transpose(1, 2).flatten(0, 1))
        return context.unflatten(0, (len(rows), -1)).transpose(1, 2)


def finetune_cpc(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the encoder that CPC has trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=CPC, **kwargs)
