"""Jigsaw: in which of the known orders do the tiles lie?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.semi.self_supervision.finetune import pretrain_finetune
from lsseg_edu.semi.self_supervision.tiles import TilePretext, take
from lsseg_edu.train import Budget, Fitted


def permutation_set(number: int, pieces: int, pool: int = 5000, seed: int = 0) -> Tensor:
    """Permutations that differ from each other in as many places as possible, greedily.

    Nine tiles have 362 880 orders, 27 have 10^28. Told apart are only a few; if two of these
    differed in two tiles, the answer would hang on those two alone. Starting with one random
    permutation, we add from a pool of random ones the one whose smallest Hamming distance to
    those chosen is largest (and, of equals, whose mean distance is).

    Args:
        number: how many; the paper takes 100 to 1000.
        pieces: tiles of the puzzle.
        pool: random permutations to choose from.
        seed: of the pool.

    Returns:
        ``(number, pieces)`` int64, each row a permutation, no two equal.

    Raises:
        ValueError: more permutations asked for than the pool has different ones.

    Example:
        >>> permutation_set(3, 9).shape
        torch.Size([3, 9])
    """
    generator = torch.Generator().manual_seed(seed)
    candidates = torch.rand((pool, pieces), generator=generator).argsort(1)
    chosen, nearest, total = [candidates[0]], torch.full((pool,), float("inf")), 0.0
    while len(chosen) < number:
        distance = (candidates != chosen[-1]).sum(1)
        nearest, total = torch.minimum(nearest, distance), total + distance
        best = (nearest + total / (pieces * len(chosen) + 1)).argmax()
        if nearest[best] == 0:
            raise ValueError(f"There are no {number} permutations of {pieces} pieces: use fewer.")
        chosen.append(candidates[best])
    return torch.stack(chosen)


class Jigsaw(TilePretext):
    r"""Shuffle the tiles by a permutation from a fixed set; the network names the permutation.

    .. math:: L = -\log p_{\pi}\big( h(g(x_{\pi(1)}), \ldots, g(x_{\pi(T)})) \big)

    ``g`` is the siamese encoder: one tile at a time, the same weights for all. What it gives for
    a tile does not depend on where the tile lies, so each image is encoded once and its
    *features* are put into every order of the set: every permutation is seen equally often.

    Reference: Noroozi, Favaro, "Unsupervised Learning of Visual Representations by Solving
    Jigsaw Puzzles", ECCV 2016; in 3D: Taleb et al., "3D Self-Supervised Methods for Medical
    Imaging", NeurIPS 2020.
    Simplified: 24 permutations; the orders of one image share their jitter.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        size: of the images, ``*S``.
        count: tiles along each axis: 3 makes 9 in an image and 27 in a volume.
        number: permutations of the set.
        hidden: features of a tile in the head.
    """

    def __init__(self, net, size, count: int = 3, number: int = 24, hidden: int = 32):
        super().__init__(net, size, count)
        pieces = count**self.dims
        self.register_buffer("permutations", permutation_set(number, pieces))
        self.tile = nn.Sequential(nn.Linear(self.features, hidden), nn.ReLU())
        self.head = nn.Linear(pieces * hidden, number)

    def loss(self, batch) -> dict[str, Tensor]:
        """Cross-entropy over the permutations, each image in all of them."""
        tiles, number = self.cut(batch.unlabelled.images), len(self.permutations)
        features = self.tile(self.embed(tiles)).repeat_interleave(number, 0)
        answers = torch.arange(number, device=tiles.device).repeat(len(tiles))
        logits = self.head(take(features, self.permutations[answers]).flatten(1))
        return {"jigsaw": F.cross_entropy(logits, answers)}

    def solve(self, tiles: Tensor) -> Tensor:
        """Logits ``(B, number)`` of shuffled tiles ``(B, T, C, *t)``."""
        return self.head(self.tile(self.embed(tiles)).flatten(1))


def finetune_jigsaw(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the encoder that jigsaw puzzles have trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=Jigsaw, **kwargs)
