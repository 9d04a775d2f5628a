"""SSL-ALPNet: superpixels set the exercises, prototypes of parts answer them."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.networks import Shape
from lsseg_edu.networks.blocks import resize
from lsseg_edu.semi.few_shot.conditioned import Conditioned, support_of
from lsseg_edu.semi.few_shot.superpixels import superpixel_maps
from lsseg_edu.train import Budget, Fitted, fit


class ALPNet(Conditioned):
    r"""Few-shot segmentation that is trained without one manual label.

    An episode: an image, one of its superpixels as the mask, and the same image and superpixel
    after a random geometric and intensity transform as the query. To answer, foreground and
    background of the support features are summed up by *prototypes* :math:`q_j`: means over a
    grid of windows that a mask fills (local), and the mean over the whole mask (global). With
    the query's features :math:`z_i`,

    .. math:: s_{ij} = 20 \cos(z_i, q_j), \qquad
              l_{ic} = \sum_{j \in c} s_{ij}\, \mathrm{softmax}_{j \in c}(s_{ij}), \qquad
              p_i = \mathrm{softmax}_c(l_{ic}) .

    One mean of a liver and its vessels, or of all there is in a background, is like neither;
    local prototypes keep the parts apart. ``alignment`` is the same task with the roles
    exchanged: the query's predicted mask must find the superpixel in the support.

    Reference: Ouyang, Biffi, Chen, Kart, Qiu, Rueckert, "Self-Supervision with Superpixels:
    Training Few-shot Medical Image Segmentation without Annotation", ECCV 2020.
    Simplified: a U-Net from scratch instead of a ResNet-101 pre-trained on COCO; Dice beside the
    cross-entropy instead of class weights; the background has a global prototype as well.

    Args:
        net: images ``(B, C, H, W)`` to features ``(B, F, H, W)``, whose scale is free.
        window: pixels of the feature map (32 along a side for images of 64) along a side of a
            grid cell while training. Organs of our 64 pixels are small: 2, not the paper's 4.
        test_window: the same when asked; half as wide, as in the paper (1 was better than 2 on
            validation subjects: fewer than one window in a spleen was filled).
        filled: fraction of a window that a mask must cover to make a prototype (paper: 0.95).
        temperature: the factor 20 of the cosine.
        weight: of ``alignment`` (paper: 1).
    """

    labelled = False
    unlabelled = True

    def __init__(
        self,
        net: nn.Module,
        window: int = 2,
        test_window: int = 1,
        filled: float = 0.95,
        temperature: float = 20.0,
        weight: float = 1.0,
    ):
        super().__init__(net)
        self.window, self.test_window, self.filled = window, test_window, filled
        self.temperature, self.weight = temperature, weight

    @classmethod
    def for_task(cls, task, seed: int = 0, features: int = 32, **options) -> ALPNet:
        """On the book's U-Net with 32 features a pixel."""
        support = support_of(task)
        net = networks.unet(Shape(support.channels, features, support.dims), seed=seed)
        return cls(net, **options).condition(support)

    def loss(self, batch) -> dict[str, Tensor]:
        """``episode`` and ``alignment``, on superpixels; no label is read."""
        images, regions = batch.unlabelled.images, batch.unlabelled.extras["superpixels"]
        mask = draw_superpixel(regions)
        draws = torch.Generator(images.device).manual_seed(int(torch.randint(2**31, ())))
        query, target = Augment.strong()(images, mask.long(), draws)
        z_support, z_query = self.embed(images), self.embed(query)
        answer = self.compare(z_query, z_support[:, None], mask[:, None], self.window)
        decided = answer.argmax(1, keepdim=True) == 1
        back = self.compare(z_support, z_query[:, None], decided, self.window)
        return {
            "episode": losses.dice_ce(answer, target),
            "alignment": self.weight * losses.dice_ce(back, mask.long()),
        }

    def embed(self, images: Tensor) -> Tensor:
        """Features at half the resolution, ``(B, F, H/2, W/2)``."""
        return F.avg_pool2d(self.net(images), 2)

    def compare(self, query: Tensor, support: Tensor, masks: Tensor, window: int) -> Tensor:
        """Logits ``(B, 2, H, W)`` of background and foreground.

        Args:
            query: features ``(B, F, h, w)``.
            support: features ``(B or 1, n, F, h, w)`` of the shots of each query, or of all.
            masks: bool ``(B or 1, n, H, W)``.
            window: of the local prototypes.
        """
        size = masks.shape[-2:]
        masks = F.adaptive_avg_pool2d(masks.to(support.dtype), support.shape[-2:])
        sides = [
            nearness(query, *self.prototypes(support, side, window), self.temperature)
            for side in (1 - masks, masks)
        ]
        return resize(torch.stack(sides, 1), size)

    def prototypes(self, support: Tensor, masks: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Prototypes ``(B, P, F)``, local ones and last the global one, and which are valid."""
        local, valid = local_prototypes(support, masks, window, self.filled)
        whole = average(support, masks)[:, None]
        return torch.cat([local, whole], 1), F.pad(valid, (0, 1), value=True)

    def score(self, query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
        """Probability of the foreground; the prototypes of all shots stand side by side."""
        shots = (self.embed(support)[None], masks[None], self.test_window)
        parts = self.embed(query).split(8)  # all at once would need a gigabyte
        return torch.cat([self.compare(part, *shots).softmax(1)[:, 1] for part in parts])


def local_prototypes(features: Tensor, masks: Tensor, window: int, filled: float):
    """Means over the cells of a grid: ``(E, n * cells, F)``, and which cells a mask fills.

    Args:
        features: ``(E, n, F, h, w)``.
        masks: ``(E, n, h, w)`` in [0, 1].
        window: pixels along a side of a cell.
        filled: a cell is valid where the mean of its mask is above this.
    """
    cells = F.avg_pool2d(features.flatten(0, 1), window).flatten(2).transpose(1, 2)
    cover = F.avg_pool2d(masks, window).flatten(1)
    return cells.reshape(len(features), -1, features.shape[2]), cover > filled


def average(features: Tensor, masks: Tensor) -> Tensor:
    """Mean ``(E, F)`` of features ``(E, n, F, h, w)`` under masks ``(E, n, h, w)``."""
    total = (features * masks.unsqueeze(2)).sum((1, 3, 4))
    return total / masks.sum((1, 2, 3)).clamp(min=1e-6)[:, None]


def nearness(query: Tensor, prototypes: Tensor, valid: Tensor, temperature=20.0) -> Tensor:
    """Likeness ``(B, h, w)`` of each pixel to the prototypes that are most like it.

    Args:
        query: ``(B, F, h, w)``.
        prototypes: ``(B or 1, P, F)``.
        valid: ``(B or 1, P)`` bool; the others count for nothing.
        temperature: factor of the cosine.
    """
    pixels = F.normalize(query.flatten(2), dim=1)
    cosine = temperature * F.normalize(prototypes, dim=2) @ pixels
    share = cosine.masked_fill(~valid[:, :, None], -torch.inf).softmax(1)
    return (cosine * share).sum(1).view(len(query), *query.shape[2:])


def draw_superpixel(regions: Tensor) -> Tensor:
    """One superpixel of each image ``(B, H, W)`` as a bool mask, all its superpixels alike likely.

    Empty where an image has no superpixel. Draws come from the global random state.
    """
    present = torch.zeros(len(regions), int(regions.max()) + 1, device=regions.device)
    present.scatter_(1, regions.flatten(1), 1.0)[:, 0] = 1e-9
    return (regions == torch.multinomial(present, 1)[:, :, None]) & (regions > 0)


def ssl_alpnet(
    task, budget: Budget | None = None, seed: int = 0, options: dict | None = None, **kwargs
) -> Fitted:
    """Cut the training images into superpixels, forget their labels, and train ALPNet.

    Args:
        task: a few-shot task. Its training labels are replaced by IGNORE before anything else.
        budget: by default :meth:`Budget.auto`.
        seed: of weights and draws.
        options: of :class:`ALPNet`.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.
    """
    method = ALPNet.for_task(task, seed, **(options or {}))
    train = replace(
        task.train,
        labels=torch.full_like(task.train.labels, IGNORE),
        extras={"superpixels": superpixel_maps(task.train)},
    )
    return fit(method, Task(train, task.valid, task.test), budget, seed, **kwargs)
