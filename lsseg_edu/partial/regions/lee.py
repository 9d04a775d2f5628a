"""Scribble2Label: an average of what was said before, where it is sure, completes the scribbles."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.partial.regions import partial_cross_entropy
from lsseg_edu.semi.consistency.fixmatch import confident
from lsseg_edu.train import Budget, Fitted, Method, fit


class Scribble2Label(Method):
    r"""Learn the scribbles; after a warm-up, also the running average of one's own answers.

    Every now and then the network answers all scribbled images as they are stored, without
    augmentation, and the answers :math:`p_n` enter an average:

    .. math::
        \bar p_n = \alpha\, p_n + (1 - \alpha)\, \bar p_{n-1}, \qquad
        \hat y_i = \arg\max_k \bar p_{ik} \text{ where } \max_k \bar p_{ik} > \tau
            \text{ and } i \notin \Omega_s,

        L = L_{pCE}(s) + \lambda\, L_{pCE}(\hat y) .

    An answer that changes from time to time never gets past :math:`\tau`: consistency filters the
    labels. They are made for the plain image and learnt on the augmented one. To find its way
    from one to the other, each pixel carries its place as ``extras["place"]``.

    Reference: Lee, Jeong, "Scribble2Label: Scribble-Supervised Cell Segmentation via
    Self-Generating Pseudo-Labels with Consistency", MICCAI 2020.
    Simplified: K classes instead of cell and background; times as shares of the training.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        images: ``(N, C, *S)`` all training images.
        classes: ``K``.
        tau: :math:`\tau` (paper 0.8).
        weight: :math:`\lambda` (paper 0.5).
        momentum: :math:`\alpha` (paper 0.2). 1 forgets all but the last answer: the control.
        warmup: share of the training with scribbles only (paper: a third).
        updates: how many answers are averaged, the first at the end of the warm-up (paper: every
            fifth epoch).

    Raises:
        ValueError: a threshold or a momentum outside [0, 1]; no update.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Tensor,
        classes: int,
        tau: float = 0.8,
        weight: float = 0.5,
        momentum: float = 0.2,
        warmup: float = 0.3,
        updates: int = 8,
    ):
        if not (0 <= tau <= 1 and 0 < momentum <= 1 and updates >= 1):
            raise ValueError(
                f"tau and momentum are shares, with at least one update: not {tau}, {momentum} "
                f"and {updates}."
            )
        super().__init__(net)
        self.images, self.tau, self.weight, self.momentum = images, tau, weight, momentum
        self.warmup, self.updates = warmup, updates
        shape = (len(images), classes, *images.shape[2:])
        self.register_buffer("average", torch.zeros(shape, dtype=torch.float16))
        self.register_buffer("answers", torch.zeros((), dtype=torch.long))

    def loss(self, batch) -> dict[str, Tensor]:
        """``scribbles``, and ``pseudo`` (already weighted), 0 while nothing is believed."""
        part = batch.labelled
        logits = self.net(part.images)
        pseudo = self.labels_of(part.index, part.extras["place"])
        pseudo = pseudo.masked_fill(part.labels != IGNORE, IGNORE)
        return {
            "scribbles": partial_cross_entropy(logits, part.labels),
            "pseudo": self.weight * losses.cross_entropy(logits, pseudo),
        }

    def labels_of(self, index: Tensor, place: Tensor) -> Tensor:
        """Pseudo-labels ``(B, *S)``, where pixel ``place (B, *S)`` of item ``index`` came to be."""
        kept = self.average[index].flatten(2).float()
        where = place.flatten(1).unsqueeze(1).expand(-1, kept.shape[1], -1)
        pseudo = confident(kept.gather(2, where), self.tau).view(place.shape)
        return pseudo if self.answers > 0 else torch.full_like(pseudo, IGNORE)

    def after_step(self, progress: float):
        """Answer again if it is time to."""
        due = (progress - self.warmup) / (1 - self.warmup) * self.updates
        if progress >= self.warmup and int(self.answers) < min(1 + int(due), self.updates):
            self.answer()

    @torch.no_grad()
    def answer(self):
        """One more answer to every image enters the average; the first one *is* the average."""
        share = self.momentum if self.answers > 0 else 1.0
        training = self.net.training
        self.net.eval()
        for index in torch.arange(len(self.images)).split(64):
            probs = self.net(self.images[index].to(self.average.device)).softmax(1)
            self.average[index] = torch.lerp(self.average[index].float(), probs, share).half()
        self.net.train(training)
        self.answers += 1


def scribble2label(
    task: Task, budget: Budget | None = None, seed: int = 0, augment=None, device=None, **options
) -> Fitted:
    """Train :class:`Scribble2Label` on the scribbled images of a task.

    Args:
        task: with sparse labels.
        budget: of the training.
        seed: of weights and draws.
        augment: of :func:`~lsseg_edu.train.fit`.
        device: likewise.
        **options: those of the method, and ``progress``.
    """
    progress = options.pop("progress", True)
    task = placed(task)
    net = networks.unet(task, seed=seed)
    method = Scribble2Label(net, task.train.images, task.train.classes, **options)
    return fit(method, task, budget, seed, augment, device=device, progress=progress)


def placed(task: Task) -> Task:
    """The scribbled images alone, each pixel with its place: ``extras["place"] (N, *S)``."""
    train = task.train.select(task.labelled)
    place = torch.arange(train.labels[0].numel()).view(train.labels.shape[1:])
    extras = {**train.extras, "place": place.expand(len(train), *place.shape).contiguous()}
    return replace(task, train=replace(train, extras=extras))
