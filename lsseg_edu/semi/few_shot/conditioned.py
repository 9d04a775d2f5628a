"""What conditioned methods share: episodes for training, one answer for all novel classes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Cohort
from lsseg_edu.semi.few_shot.episodes import check_support
from lsseg_edu.train import Method

ABSENT = 0.25
"""Relative odds of asking a query for a class it does not show: it must learn to say nothing."""


class Episode(NamedTuple):
    """Pairs of images: find in ``query`` what ``mask`` shows in ``support``.

    Attributes:
        support: images ``(Q, C, *S)``.
        mask: ``(Q, *S)`` bool, one class of each support image.
        query: other images ``(Q, C, *S)``.
        target: the same class there, ``(Q, *S)`` in 0, 1 or IGNORE.
    """

    support: Tensor
    mask: Tensor
    query: Tensor
    target: Tensor


def draw_episode(images: Tensor, labels: Tensor) -> Episode:
    """Play the test on base classes: half of the batch is support, the other half is asked.

    Every query draws a class that the support half shows, and a support image that shows it.
    Where no support image shows anything the target is IGNORE.

    Args:
        images: ``(B, C, *S)``.
        labels: ``(B, *S)`` base classes. Draws come from the global random state.

    Raises:
        ValueError: fewer than two images.
    """
    half = len(images) // 2
    if half < 1:
        raise ValueError("An episode needs a support and a query: take a batch of two or more.")
    device = images.device
    top = labels.where(labels != IGNORE, 0).amax().clamp(min=1)
    classes = torch.arange(1, int(top) + 1, device=device)
    shown = (labels.flatten(1)[:, None] == classes[:, None]).any(2)
    support, query = torch.randperm(len(images), device=device)[: 2 * half].split(half)
    odds = shown[support].any(0) * (ABSENT + shown[query].float())
    k = torch.multinomial(odds + 1e-9, 1)[:, 0]
    partner = support[torch.multinomial(shown[support][:, k].T + 1e-9, 1)[:, 0]]
    asked = classes[k].view(-1, *[1] * (labels.ndim - 1))
    target = (labels[query] == asked).long().where(labels[query] != IGNORE, IGNORE)
    target[~shown[partner, k]] = IGNORE
    return Episode(images[partner], labels[partner] == asked, images[query], target)


def combine(scores: Tensor) -> Tensor:
    r"""One foreground score a class to probabilities with a background.

    .. math:: p_0 \propto 1 - \max_k s_k, \qquad p_k \propto s_k

    A pixel is foreground exactly if its best score exceeds 1/2, and then of the class with that
    score; for a single class nothing changes.

    Args:
        scores: ``(B, K, *S)`` in [0, 1], each class asked on its own.

    Returns:
        ``(B, 1 + K, *S)``, summing to 1.
    """
    both = torch.cat([1 - scores.amax(1, keepdim=True), scores], 1)
    return both / both.sum(1, keepdim=True)


class Conditioned(Method):
    """A method that is told by its support set what to look for, without being trained again.

    Subclasses define :meth:`logits` (pairs, for episodes) and :meth:`score` (one class, any
    number of shots). The support set is kept in buffers; :meth:`condition` exchanges it.
    """

    def __init__(self, net):
        super().__init__(net)
        self.register_buffer("support_images", None)
        self.register_buffer("support_labels", None)

    def condition(self, support: Cohort) -> Conditioned:
        """Take this support set from now on.

        Raises:
            ValueError: a class that no support item shows.
        """
        check_support(support)
        where = next(self.parameters()).device
        self.support_images = support.images.to(where)
        self.support_labels = support.labels.to(where)
        return self

    def loss(self, batch) -> dict[str, Tensor]:
        """``episode``: cross-entropy + Dice of the query masks of one batch of episodes."""
        support, mask, query, target = draw_episode(batch.labelled.images, batch.labelled.labels)
        logits = self.logits(query, support, mask)
        both = torch.stack([torch.zeros_like(logits), logits], 1)
        return {"episode": losses.dice_ce(both, target)}

    def logits(self, query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
        """Foreground logits ``(Q, *S)``, pair by pair; a single support serves all queries."""
        raise NotImplementedError

    def score(self, query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
        """Foreground score ``(B, *S)`` of one class, given its ``n`` shots ``(n, C, *S)``."""
        raise NotImplementedError

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, 1 + novel, *S)``: :func:`combine` of a score for each novel class."""
        return combine(
            torch.stack([self.score(images, *shots).float() for shots in self.shots()], 1)
        )

    def shots(self) -> list[tuple[Tensor, Tensor]]:
        """For each novel class the support images that show it, and its masks there."""
        if self.support_images is None:
            raise ValueError("There is no support set yet: call condition(support) first.")
        shots = []
        for k in range(
            1, int(self.support_labels.where(self.support_labels != IGNORE, 0).max()) + 1
        ):
            masks = self.support_labels == k
            shows = masks.flatten(1).any(1)
            shots.append((self.support_images[shows], masks[shows]))
        return shots


def support_of(task) -> Cohort:
    """The support set of a task; one sentence if it has none."""
    if getattr(task, "support", None) is None:
        raise ValueError(
            "This method needs a support set: make the task with few_shot_task or FewShotTask.of."
        )
    return task.support
