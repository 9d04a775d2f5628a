"""Networks that are asked for one class at a time, and never hear of the others."""

from __future__ import annotations

import torch
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.partial.classes.partly import annotated_classes, precise
from lsseg_edu.semi.few_shot.conditioned import combine
from lsseg_edu.train import Method


class Asked(Method):
    r"""A question goes in with the image: "where is class c?" The answer is a binary map.

    Only questions that the labels can answer are asked in training, so no label is missing. To
    :meth:`predict`, all classes are asked for; :func:`.combine` makes the most certain one the
    answer of a pixel, or the background if all are below one half.

    Subclasses define :meth:`features`, what all questions share, and :meth:`answer`.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        classes: ``K``, with the background.
    """

    def __init__(self, net, classes: int):
        super().__init__(net)
        self.classes = classes

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """On the book's U-Net; what is added to it is drawn by ``seed`` as well."""
        from lsseg_edu import networks

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(networks.unet(task, seed=seed), task.train.classes, **options)

    def features(self, images: Tensor):
        """What is computed once for an image, whatever is asked."""
        raise NotImplementedError

    def answer(self, features, asked: Tensor) -> Tensor:
        """Logits ``(B, *S)`` of "is this class ``asked (B,)``?"."""
        raise NotImplementedError

    def loss(self, batch) -> dict[str, Tensor]:
        """``asked``: Dice + cross-entropy of one class for each image, one that it annotates."""
        part = batch.labelled
        asked = questions(annotated_classes(part))
        logits = self.answer(self.features(part.images), asked)
        shape = (-1, *[1] * (part.labels.ndim - 1))
        spoken_of = (part.labels == asked.view(shape)) | (part.labels == IGNORE)
        target = part.labels.where(spoken_of, 0)
        return {"asked": losses.dice_ce(as_class(logits, asked, self.classes), target)}

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, K, *S)``, after ``K - 1`` questions."""
        features = self.features(images)
        every = [torch.full((len(images),), k, device=images.device) for k in self.organs]
        scores = [self.answer(features, asked).float().sigmoid() for asked in every]
        return combine(torch.stack(scores, 1))

    @property
    def organs(self) -> range:
        """The classes that can be asked for."""
        return range(1, self.classes)


def questions(annotated: Tensor) -> Tensor:
    """One of the annotated organs of each item, at random: ``(B, K)`` bool to ``(B,)``.

    Raises:
        ValueError: an item that annotates the background only.
    """
    organs = annotated[:, 1:].float()
    if not (organs > 0).any(1).all():
        raise ValueError(
            "An image annotates no organ, so nothing can be asked of it: leave it unlabelled."
        )
    return torch.multinomial(organs, 1)[:, 0] + 1


def as_class(logits: Tensor, asked: Tensor, classes: int) -> Tensor:
    """Binary logits ``(B, *S)`` as ``(B, K, *S)``: the class asked for against the background.

    All other classes have logit minus infinity. A batch that asks for several classes then has a
    Dice for each of them, as everywhere in this book.

    Example:
        >>> as_class(torch.zeros(1, 1, 1), torch.tensor([2]), classes=4).softmax(1).flatten()
        tensor([0.5000, 0.0000, 0.5000, 0.0000])
    """
    logits = precise(logits).unsqueeze(1)
    nothing = logits.new_full((1, classes, *[1] * (logits.ndim - 2)), -torch.inf)
    nothing[:, 0] = 0
    every = torch.arange(classes, device=logits.device).view(1, -1, *[1] * (logits.ndim - 2))
    return torch.where(every == asked.view(-1, *[1] * (logits.ndim - 1)), logits, nothing)
