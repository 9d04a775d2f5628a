"""Universal lesion mining in small: heads that share features find what was not annotated."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.data.annotate.components import components
from lsseg_edu.partial.classes.partly import annotated_classes, annotated_items
from lsseg_edu.semi.few_shot.conditioned import combine
from lsseg_edu.semi.self_training import SelfTrained
from lsseg_edu.train import Budget, Method, fit


class SharedHeads(Method):
    """Feature sharing: one trunk, and for each data set a head that finds *its* objects.

    Head k is the output channel k of a U-Net, with a sigmoid of its own. It is trained on the
    images that annotate class k, and on what was mined in the others, if anything was
    (``extras["pseudo"] (N, K, *S)``: 1, 0 or IGNORE).
    """

    def loss(self, batch) -> dict[str, Tensor]:
        """``heads``: Dice + cross-entropy of each head, averaged."""
        part = batch.labelled
        target = head_labels(part.labels, annotated_classes(part), part.extras.get("pseudo"))
        pairs = zip(self.heads(part.images)[0].unbind(1), target[:, 1:].unbind(1), strict=True)
        each = [losses.dice_ce(torch.stack([torch.zeros_like(z), z], 1), y) for z, y in pairs]
        return {"heads": torch.stack(each).mean()}

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K - 1, *S)``, a head each, and the features they share ``(B, W, *S)``."""
        features = self.net.decode(self.net.encode(images))
        return self.net.final_conv(features)[:, 1:], features

    def predict(self, images: Tensor) -> Tensor:
        """Fusion ``(B, K, *S)``: a pixel belongs to the head that is surest of it, or to none."""
        return combine(self.heads(images)[0].float().sigmoid())


def head_labels(labels: Tensor, annotated: Tensor, mined: Tensor | None = None) -> Tensor:
    """Binary labels of each class ``(B, K, *S)``: the annotator's, else the mined, else IGNORE.

    Args:
        labels: ``(B, *S)``.
        annotated: ``(B, K)`` bool.
        mined: ``(B, K, *S)`` in 0, 1, IGNORE.
    """
    shape = (*annotated.shape, *[1] * (labels.ndim - 1))
    every = torch.arange(annotated.shape[1], device=labels.device).view(1, *shape[1:])
    given = (labels.unsqueeze(1) == every).long()
    given = given.where((labels != IGNORE).unsqueeze(1), IGNORE)
    mined = torch.full_like(given, IGNORE) if mined is None else mined
    return given.where(annotated.view(shape), mined)


def mined_annotations(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    sure: float = 0.8,
    alike: float = 0.9,
    mine: bool = True,
    **kwargs,
) -> SelfTrained:
    r"""Train heads, let them search the images of the other data sets, and train on with the finds.

    A find is a connected region that head k holds for its class (:math:`p > 1/2`) in an image that
    does not annotate k. Of the finds,

    - those of mean probability >= ``sure`` are taken (**cross-dataset mining**);
    - so are those whose features resemble a sure find of the same class in the same patient, by
      their cosine (**intra-patient matching**): one slice vouches for the next;
    - the others are suspicious, and ignored.

    Everything else in the image is then background to head k. Half of the budget is spent before
    the search, half after.

    Reference: Yan et al., "Learning from Multiple Datasets with Heterogeneous and Partial Labels
    for Universal Lesion Detection in CT", IEEE TMI 2021.
    Simplified: the paper detects lesions with boxes. Here a detector's proposals become connected
    regions of a segmenter's head, its score their mean probability, its proposal fusion the surest
    head of a pixel, and lesion types organs. Matching starts from sure finds, since with one
    organ annotated throughout a patient there is no half-annotated one to start from; embeddings
    are means of the last features, not trained for matching.

    Args:
        task: partial labels, see :func:`~lsseg_edu.data.annotate.missing_classes`.
        budget: of both halves together.
        seed: of weights and draws.
        sure: mean probability of a find that needs no witness.
        alike: least cosine of a match; above 1 nothing is matched.
        mine: if not, the second half sees no finds (the control).
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no word on which classes are annotated; ``sure`` outside [0.5, 1].
    """
    if not 0.5 <= sure <= 1:
        raise ValueError(f"A find has a mean probability above one half: sure cannot be {sure}.")
    annotated_items(task)
    budget = budget or Budget.auto()
    half = replace(budget, steps=-(-budget.steps // 2))
    first = fit(SharedHeads.for_task(task, seed), task, half, seed, **kwargs)
    if mine:
        labels = task.train.labels
        task = task.supervise(labels, seconds=task.seconds, pseudo=found(first, task, sure, alike))
    second = fit(first.method, task, half, seed + 1000, **kwargs)
    return SelfTrained.of([first, second])


def found(fitted, task: Task, sure: float, alike: float) -> Tensor:
    """What the heads find in the labelled images, ``(N, K, *S)``: 1, 0 or IGNORE."""
    items = task.labelled
    where = next(fitted.method.parameters()).device
    fitted.method.eval()
    with torch.no_grad():
        batches = task.train.images[items].to(where).split(64)
        logits, features = zip(*map(fitted.method.heads, batches), strict=True)
    probs, features = torch.cat(logits).float().sigmoid().cpu(), torch.cat(features).float().cpu()
    subjects = task.train.subjects[items]
    mined = [accepted(p, features, subjects, sure, alike) for p in probs.unbind(1)]
    shape = (len(task.train), task.train.classes, *task.train.labels.shape[1:])
    every = torch.full(shape, IGNORE, dtype=torch.uint8)
    every[items, 1:] = torch.stack(mined, 1).to(every)
    return every


def accepted(
    probs: Tensor, features: Tensor, subjects: Tensor, sure: float, alike: float
) -> Tensor:
    """Which finds of one head count, ``(B, *S)``: 1 accepted, IGNORE suspicious, 0 elsewhere.

    Args:
        probs: the head's, ``(B, *S)``.
        features: ``(B, C, *S)``, whose mean over a find is its embedding.
        subjects: ``(B,)``, whose image it is.
        sure, alike: see :func:`mined_annotations`.
    """
    number = torch.from_numpy(components((probs > 0.5).numpy())).long()
    which = number.flatten()
    count = which.bincount().clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        """Over each find, in the order of their numbers; the rest of the images is number 0."""
        return which.bincount(values.flatten().double()) / count

    owner = mean(subjects.view(-1, *[1] * (probs.ndim - 1)).expand_as(probs)).round()
    certain = mean(probs) >= sure
    certain[0] = False
    embedding = F.normalize(torch.stack([mean(f) for f in features.unbind(1)], 1), dim=1)
    taken = certain.clone()
    for patient in owner[certain].unique():
        mine = owner == patient
        taken[mine] |= (embedding[mine] @ embedding[mine & certain].T >= alike).any(1)
    verdict = torch.where(taken, 1, IGNORE)
    verdict[0] = 0
    return verdict[number]
