"""From a generator to a training set: what it makes takes a share of every labelled batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.augment import Augment, warp, warp_labels
from lsseg_edu.data import Task
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Budget, Fitted, Supervised, fit

MOTION = replace(Augment.strong(), bias=0, gamma=0, contrast=0, blur=0, noise=0)
"""The geometric half of everybody's augmentation: generators learn from clean intensities."""


class WithSynthetic(Supervised):
    r"""The baseline with part of each batch exchanged for synthetic pairs.

    .. math::
        L = L_{sup}\big(f_\theta(\mathbf{x}), \mathbf{y}\big), \qquad
        (\mathbf{x}, \mathbf{y}) = (1-\rho)B \text{ real pairs and } \rho B \text{ synthetic ones} .

    Steps and batch are the baseline's, and synthetic images pass through the same repainting as
    real ones (their motion is the sampler's own). At ``fraction=0`` it *is* the baseline.

    Args:
        net: the segmenter.
        sampler: a module whose ``sample(count)`` gives images ``(count, C, *S)`` and labels
            ``(count, *S)``; frozen here.
        fraction: :math:`\rho`. A half: whatever a generator gets wrong, the other half shows right.

    Raises:
        ValueError: a fraction outside [0, 1].
    """

    def __init__(self, net: nn.Module, sampler: nn.Module, fraction: float = 0.5):
        if not 0 <= fraction <= 1:
            raise ValueError(f"The synthetic share is a fraction in [0, 1], not {fraction}.")
        super().__init__(net)
        self.sampler, self.fraction = sampler.requires_grad_(False), fraction

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, on the mixed batch."""
        images, labels = self.mix(batch.labelled.images, batch.labelled.labels)
        return {"supervised": self.criterion(self.net(images), labels)}

    @torch.no_grad()
    def mix(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch with its first items replaced."""
        count = round(self.fraction * len(images))
        if count == 0:
            return images, labels
        made, masks = self.sampler.sample(count)
        made = Augment.strong().repaint(made.to(images.dtype), None)
        return torch.cat([made, images[count:]]), torch.cat([masks, labels[count:]])


class Repainted(nn.Module):
    """A sampler for generators that paint an image over given anatomy.

    A labelled image is drawn and moved, then ``painter.paint(images, labels)`` makes the image.

    Args:
        bank: the labelled images.
        painter: a module with ``paint``.
    """

    def __init__(self, bank: Atlas, painter: nn.Module):
        super().__init__()
        self.bank, self.painter = bank, painter

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` synthetic images and their labels."""
        images, labels = self.bank.images, self.bank.labels
        index = torch.randint(len(images), (count,), device=images.device)
        images, labels = moved(images[index], labels[index])
        return self.painter.paint(images, labels), labels


def moved(images: Tensor, labels: Tensor, motion: Augment = MOTION) -> tuple[Tensor, Tensor]:
    """Images ``(B, C, *S)`` and labels ``(B, [M,] *S)`` moved alike, by the global random state."""
    grid = motion.grid(images, None)
    return warp(images, grid), warp_labels(labels, grid)


def train_on_both(
    task: Task,
    sampler: nn.Module,
    before: list[Fitted],
    budget: Budget,
    seed: int,
    fraction: float,
    **kwargs,
) -> Fitted:
    """Train the segmenter on real and synthetic pairs, by the baseline's recipe.

    Args:
        task: the problem.
        sampler: of synthetic pairs.
        before: the trainings of the generator: their seconds are added to the bill.
        budget: the baseline's.
        seed: of weights and draws; the real images are the baseline's, in its order.
        fraction: of synthetic pairs in a batch.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.
    """
    method = WithSynthetic(networks.unet(task, seed=seed), sampler, fraction)
    last = fit(method, task, budget, seed, **kwargs)
    history = {key: values for one in before for key, values in one.history.items()}
    everything = [*before, last]
    return Fitted(
        method,
        {**history, **last.history},
        sum(one.seconds for one in everything),
        any(one.interrupted for one in everything),
    )
