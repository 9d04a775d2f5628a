"""Global and local contrast: alike are slices of one height, and regions of one place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lsseg_edu import networks
from lsseg_edu.frontier.contrastive.loss import contrast, nt_xent
from lsseg_edu.frontier.contrastive.simclr import SimCLR
from lsseg_edu.networks.blocks import project
from lsseg_edu.semi.self_supervision import pretrain_finetune
from lsseg_edu.train import Budget, Fitted


def partition(position: Tensor, count: int = 4) -> Tensor:
    """Which of ``count`` equal parts of its volume each slice lies in: ``(N,)``, 0 to count - 1.

    Args:
        position: ``(N,)`` height of each slice in its volume, 0 to 1.
        count: parts of a volume; the paper's 4.

    Raises:
        ValueError: all slices in one part, so that none is a negative.
    """
    parts = (position * count).long().clamp(0, count - 1)
    if len(parts.unique()) < 2:
        raise ValueError(
            f"With {count} partitions all slices lie in one and there are no negatives: use at "
            f"least 2 partitions, and slices of several heights (a whole volume has none)."
        )
    return parts


def regions(maps: Tensor, count: int = 8) -> Tensor:
    """Cut feature maps ``(B, F, *s)`` into ``count`` blocks an axis: ``(B, count^D, F k^D)``.

    Region r of one map lies where region r of any other map lies.

    Raises:
        ValueError: maps that cannot be cut evenly.
    """
    dims = maps.ndim - 2
    if any(n % count for n in maps.shape[2:]):
        size = "x".join(map(str, maps.shape[2:]))
        raise ValueError(f"A map of {size} has no {count} equal regions an axis: use a divisor.")
    for axis in range(maps.ndim - 1, 1, -1):
        maps = maps.unflatten(axis, (count, -1))
    blocks = maps.movedim([2 + 2 * i for i in range(dims)], [1 + i for i in range(dims)])
    return blocks.flatten(1, dims).flatten(2)


class GlobalLocal(SimCLR):
    r"""First the encoder learns heights in the body, then the decoder learns places in a slice.

    **Global**, in the first half of the steps. Volumes are aligned, roughly: slices at the same
    relative height show the same anatomy, whoever the patient is. With :math:`s(i)` the partition
    of the volume that slice i comes from, :func:`.contrast` is taken of

    .. math::
        P = \{(i, j): s(i) = s(j),\ i \ne j\}, \qquad N(i) = \{j: s(j) \ne s(i)\}

    over two views of each slice. **Local**, in the second half: the encoder stands still. Two views
    of a slice differ in intensity alone, and each region of a decoder feature map has to find the
    region of the same place in the other view among all regions of the slice, by :func:`.nt_xent`.

    Reference: Chaitanya, Erdil, Karani, Konukoglu, "Contrastive Learning of Global and Local
    Features for Medical Image Segmentation with Limited Annotations", NeurIPS 2020.
    Simplified: both stages share one learning-rate cycle; batches are drawn at random rather than
    slice by slice of each partition, and a neighbour in the same partition of the same volume is
    a positive as well.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        parts: ``(N,)`` the :func:`partition` of every training item.
        blocks: of the decoder that the local stage trains, 1 to 3; the paper's 3. The others keep
            the weights they have.
        count: regions along each axis.
        **options: of :class:`.SimCLR`; the temperature is the paper's 0.1.
    """

    decodes = True

    def __init__(self, net, parts: Tensor, blocks: int = 3, count: int = 8, **options):
        super().__init__(net, **options)
        self.register_buffer("parts", parts)
        self.blocks, self.count = blocks, count
        width = net.widths[4 - blocks]
        self.local_head = nn.Sequential(
            project(self.dims, width, 16), nn.ReLU(), project(self.dims, 16, 16)
        )

    @classmethod
    def for_task(cls, task, seed: int = 0, partitions: int = 4, **options) -> GlobalLocal:
        """The pretext on the book's U-Net; heights come from ``task.train.extras["position"]``.

        Raises:
            ValueError: a cohort that does not say where its slices lie; one partition.
        """
        if "position" not in task.train.extras:
            raise ValueError(
                f"{task.train.name!r} does not say where its slices lie: give "
                f'extras["position"], 0 to 1 along each volume.'
            )
        parts = partition(task.train.extras["position"], partitions)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(networks.unet(task, seed=seed), parts, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``global`` in the first half of training, ``local`` in the second."""
        part = batch.unlabelled
        if batch.progress < 0.5:
            return {"global": self.global_loss(part.images, self.parts[part.index])}
        return {"local": self.local_loss(part.images)}

    def global_loss(self, images: Tensor, parts: Tensor) -> Tensor:
        """Contrast of partitions ``parts (B,)`` over two views of ``images (B, C, *S)``."""
        views = torch.cat([self.view(images), self.view(images)])
        z = normalize(self.represent(views).float(), dim=1)
        own = torch.eye(len(z), dtype=torch.bool, device=z.device)
        same = parts.repeat(2)[:, None] == parts.repeat(2)
        return contrast(z @ z.T, same & ~own, ~same, self.temperature)

    def local_loss(self, images: Tensor) -> Tensor:
        """Contrast of places within each of ``images (B, C, *S)``, two repaintings of it."""
        first, second = (self.places(self.views.repaint(images, None)) for _ in range(2))
        return nt_xent(first, second, self.temperature)

    def places(self, images: Tensor) -> Tensor:
        """Features of the regions, ``(B, count^D, F)``; the encoder gets no gradient."""
        with torch.no_grad():
            *skips, x = self.net.encode(images)
        for up in (self.net.upcat_4, self.net.upcat_3, self.net.upcat_2)[: self.blocks]:
            x = up(x, skips.pop())
        return regions(self.local_head(x), self.count)


def finetune_chaitanya(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune encoder and decoder that both stages left; see :func:`.pretrain_finetune`.

    The two stages share the steps of one budget, as every pretext has one.
    """
    return pretrain_finetune(task, budget, seed, pretext=GlobalLocal, **kwargs)
