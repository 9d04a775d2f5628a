"""Relative position: in which direction does the second tile lie?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.semi.self_supervision.finetune import pretrain_finetune
from lsseg_edu.semi.self_supervision.tiles import TilePretext
from lsseg_edu.train import Budget, Fitted


class RelativePosition(TilePretext):
    r"""Two tiles of an image: name the direction from the first to the second.

    .. math::
        L = -\frac1N \sum_{n=1}^{N} \log p_n\big(f(x_c), f(x_{c + \delta_n})\big),
        \qquad \delta_n \in \{-1, 0, 1\}^D \setminus \{0\}

    There are :math:`N = 3^D - 1` directions: 8 in an image, 26 in a volume. All neighbours of a
    centre are asked about at once, so that each direction is seen equally often. To answer, the
    network has to recognise what it sees and to know what lies beside it.

    Reference: Doersch, Gupta, Efros, "Unsupervised Visual Representation Learning by Context
    Prediction", ICCV 2015; in 3D: Taleb et al., "3D Self-Supervised Methods for Medical
    Imaging", NeurIPS 2020.
    Simplified: smaller gaps than the paper's half tile; small images leave no more room.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        size: of the images, ``*S``.
        count: cells along each axis. With 3 (Taleb et al.) the centre is the middle cell; with
            more, it is drawn among the inner cells, as Doersch et al. draw theirs.
        hidden: units of the head.

    Raises:
        ValueError: fewer than 3 cells along an axis: no cell would have all its neighbours.
    """

    def __init__(self, net, size, count: int = 3, hidden: int = 64):
        if count < 3:
            raise ValueError(f"With {count} cells along an axis none is inside: use 3 or more.")
        super().__init__(net, size, count)
        steps = torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * self.dims)
        middle = len(steps) // 2
        others = torch.cat([steps[:middle], steps[middle + 1 :]])
        self.register_buffer("steps", torch.cat([steps[middle : middle + 1], others]))
        self.head = nn.Sequential(
            nn.Linear(2 * self.features, hidden), nn.ReLU(), nn.Linear(hidden, len(others))
        )

    def loss(self, batch) -> dict[str, Tensor]:
        """Cross-entropy over the directions."""
        logits = self.directions(batch.unlabelled.images)
        answers = torch.arange(logits.shape[1], device=logits.device).repeat(len(logits))
        return {"position": F.cross_entropy(logits.flatten(0, 1), answers)}

    def directions(self, images: Tensor) -> Tensor:
        """Logits ``(B, N, N)``: for the neighbour in direction n, a score of each direction."""
        centre = torch.randint(
            1, self.grid.count - 1, (len(images), 1, self.dims), device=images.device
        )
        features = self.embed(self.cut(images, centre + self.steps))
        middle, others = features[:, :1], features[:, 1:]
        return self.head(torch.cat([middle.expand_as(others), others], -1))


def finetune_relative_position(
    task, budget: Budget | None = None, seed: int = 0, **kwargs
) -> Fitted:
    """Fine-tune the encoder that relative positions trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=RelativePosition, **kwargs)
