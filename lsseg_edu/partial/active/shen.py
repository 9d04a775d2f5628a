"""Three criteria: badly segmented, typical of the pool, unlike what is labelled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.partial.active.informative import most, per_image
from lsseg_edu.partial.active.loop import Asked, Pool, active_learning
from lsseg_edu.semi.uncertainty import entropy
from lsseg_edu.train import Budget


def dissatisfaction(probs: Tensor) -> Tensor:
    r"""How little the network can be content with its answers, ``(B,)`` in [0, 2].

    .. math::
        D = \underbrace{\frac{1}{|\Omega| \ln K} \sum_j H[p_j]}_{\text{pixel level}}
          + \underbrace{1 - \frac{1}{K-1} \sum_{k \ge 1}
            \frac{2 \sum_j p_{jk} \hat y_{jk} + 1}{\sum_j p_{jk} + \sum_j \hat y_{jk} + 1}
            }_{\text{image level}}

    The first part adds up doubtful pixels. The second compares an object with itself: the Dice of
    the soft answer and the hard one, low if an organ is faint or barely reaches a majority
    anywhere. It does not shrink with the size of the organ, as the first does.

    Args:
        probs: ``(B, K, *S)``.
    """
    classes = probs.shape[1]
    hard = F.one_hot(probs.argmax(1), classes).movedim(-1, 1).to(probs)
    both, sizes = (probs * hard).flatten(2).sum(2), (probs + hard).flatten(2).sum(2)
    dice = ((2 * both + 1) / (sizes + 1))[:, 1:].mean(1)
    pixels = per_image(entropy(probs[None])) / torch.tensor(float(classes)).log()
    return pixels + 1 - dice


def representativeness(features: Tensor) -> Tensor:
    """Mean cosine with all images of the pool: ``(M, F)`` of length 1 to ``(M,)``."""
    return features @ features.mean(0)


def diverse_order(features: Tensor, known: Tensor) -> Tensor:
    r"""Again and again the image that is least like any image that is labelled or chosen.

    .. math:: i^* = \arg\min_i \max_{j \in \mathcal L \cup S} \cos(f_i, f_j)

    Args:
        features: ``(M, F)`` of the candidates, of length 1.
        known: ``(N, F)`` of the labelled images.

    Returns:
        ``(M,)`` all candidates, the most diverse first.
    """
    nearest, order = (features @ known.T).amax(1), []
    for _ in range(len(features)):
        order.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, features @ features[order[-1]])
        nearest[order] = torch.inf
    return torch.tensor(order)


def by_three_criteria(pool: Pool, first: int = 4, second: int = 2) -> Tensor:
    """Three sieves, one after the other; the number that will be asked about is ``n``.

    1. of the whole pool the ``first * n`` images of largest :func:`dissatisfaction`;
    2. of these the ``second * n`` of largest :func:`representativeness`;
    3. these in :func:`diverse_order`.
    """
    grudge = pool.each(lambda x: dissatisfaction(pool.fitted.method.predict(x)))
    kept = most(grudge)[: first * pool.count]
    features, labelled = pool.features(), pool.task.train.images[pool.task.labelled]
    kept = kept[most(representativeness(features)[kept])[: second * pool.count]]
    return kept[diverse_order(features[kept], pool.features(labelled))]


def three_criteria(task: Task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Asked:
    """Ask about what is badly segmented, typical, and new: :func:`by_three_criteria`.

    Reference: Shen, Tian, Dong, Zhang, Yan, Che, Yao, Luo, Han, "Deep Active Learning for
    Breast Cancer Segmentation on Immunohistochemistry Images", MICCAI 2020.
    Simplified: sieves instead of weighted scores; image-level dissatisfaction is the Dice of the
    answer with itself; features are those of the segmentation network.

    Args:
        task: the problem and its annotator.
        budget, seed, kwargs: as for :func:`.active_learning`.
    """
    return active_learning(task, budget, seed, acquire=by_three_criteria, **kwargs)
