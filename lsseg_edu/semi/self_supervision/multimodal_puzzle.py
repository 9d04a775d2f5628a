"""Puzzles of several modalities: sort tiles of mixed contrast, softly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.semi.self_supervision.colorization import remap
from lsseg_edu.semi.self_supervision.finetune import pretrain_finetune
from lsseg_edu.semi.self_supervision.tiles import TilePretext, standardised, take
from lsseg_edu.train import Budget, Fitted


def sinkhorn(scores: Tensor, iterations: int = 20) -> Tensor:
    r"""Scores ``(..., T, T)`` to matrices whose rows and columns all sum to 1.

    .. math:: S^0 = \exp(A), \qquad S^{l} = \mathrm{columns}(\mathrm{rows}(S^{l-1}))

    where each step divides the rows, then the columns, by their sums (in logarithms). The limit
    is a soft permutation, and differentiable; the larger the scores, the harder it is.

    Reference: Mena et al., "Learning Latent Permutations with Gumbel-Sinkhorn Networks",
    ICLR 2018.
    """
    scores = scores.float()
    for _ in range(iterations):
        scores = scores - scores.logsumexp(-1, keepdim=True)
        scores = scores - scores.logsumexp(-2, keepdim=True)
    return scores.exp()


class MultimodalPuzzle(TilePretext):
    r"""Shuffled tiles, each of a random modality: put them back into their places.

    .. math::
        L = \big\| S^{\top} P - P^* \big\|^2, \qquad S = \mathrm{Sinkhorn}(h(P) / \tau)

    :math:`P^*` are the tiles in order, ``P`` the same tiles shuffled, and :math:`S_{sp}` says how
    much of tile ``s`` goes to place ``p``. There is no list of permutations: any order may come,
    and what is scored is the image that results. As a tile's modality tells nothing of its place,
    the features have to be those of the anatomy that the modalities share.

    The modalities are the image's channels. **Images with one channel** get a second modality
    from a random intensity curve (:func:`.remap`), one for each image.

    Reference: Taleb, Lippert, Klein, Nabi, "Multimodal Self-Supervised Learning for Medical
    Image Analysis", IPMI 2021.
    Simplified: no cross-modal synthesis; a synthetic second modality for grey images.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`; it sees a tile in all its channels.
        size: of the images, ``*S``.
        count: tiles along each axis.
        temperature: :math:`\tau`; near 0 the permutation is hard and its gradient vanishes.
        hidden: units of the head.
    """

    def __init__(self, net, size, count: int = 3, temperature: float = 0.5, hidden: int = 64):
        super().__init__(net, size, count)
        self.temperature, places = temperature, count**self.dims
        self.head = nn.Sequential(
            nn.Linear(2 * self.features, hidden), nn.ReLU(), nn.Linear(hidden, places)
        )

    def loss(self, batch) -> dict[str, Tensor]:
        """Mean squared error of the puzzle that was put together."""
        ordered = self.mixed(batch.unlabelled.images)
        order = torch.rand(ordered.shape[:2], device=ordered.device).argsort(1)
        shuffled = take(ordered, order)
        restored = put_together(shuffled, self.assignment(shuffled))
        return {"puzzle": (restored - ordered).square().mean()}

    def mixed(self, images: Tensor) -> Tensor:
        """Tiles in order ``(B, T, C, *t)``, each of a modality drawn at random."""
        if self.channels == 1:
            modalities = torch.stack([images, remap(images)], 1)
        else:
            shape = (len(images), self.channels, self.channels, *images.shape[2:])
            modalities = images.unsqueeze(2).expand(shape)
        tiles = self.grid.cut(modalities.flatten(1, 2)).unflatten(2, modalities.shape[1:3])
        item, tile = (torch.arange(n, device=images.device) for n in tiles.shape[:2])
        which = torch.randint(modalities.shape[1], tiles.shape[:2], device=images.device)
        return standardised(tiles[item[:, None], tile, which])

    def assignment(self, shuffled: Tensor) -> Tensor:
        """``S (B, T, T)``: rows are the tiles as they lie, columns are places."""
        features = self.embed(shuffled)
        others = features.mean(1, keepdim=True).expand_as(features)
        scores = self.head(torch.cat([features, others], -1))
        return sinkhorn(scores / self.temperature)


def put_together(shuffled: Tensor, assignment: Tensor) -> Tensor:
    """At each place the tiles ``(B, T, ...)``, mixed by its column of ``assignment (B, T, T)``."""
    return torch.einsum("bsp,bsn->bpn", assignment, shuffled.flatten(2)).view_as(shuffled)


def finetune_multimodal_puzzle(
    task, budget: Budget | None = None, seed: int = 0, **kwargs
) -> Fitted:
    """Fine-tune the encoder that mixed puzzles have trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=MultimodalPuzzle, **kwargs)
