"""Co-training: two learners with a view each, and each labels for the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.co_training.agreement import product
from lsseg_edu.semi.co_training.committee import together
from lsseg_edu.semi.self_training import PseudoLabelled, SelfTrained, with_pseudo
from lsseg_edu.train import Budget, Supervised, fit


class Band(nn.Module):
    """A network that is shown one band of spatial frequencies, and nothing of the other.

    ``"low"`` is the image blurred by a Gaussian: how bright is it here? ``"high"`` is what the
    blur took away: where is an edge? Their sum is the image.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        band: ``"low"`` or ``"high"``.
        dims: 2 or 3.
        sigma: deviation of the Gaussian, pixels.

    Raises:
        ValueError: another band.
    """

    def __init__(self, net: nn.Module, band: str, dims: int, sigma: float = 1.5):
        super().__init__()
        if band not in ("low", "high"):
            raise ValueError(f"There is no band {band!r}: choose 'low' or 'high'.")
        self.net, self.band, self.blur = net, band, GaussianFilter(dims, sigma)

    def view(self, images: Tensor) -> Tensor:
        """What the network gets to see of ``images (B, C, *S)``."""
        low = self.blur(images)
        return low if self.band == "low" else images - low

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        return self.net(self.view(images))


def top_per_class(probs: Tensor, share: float) -> Tensor:
    r"""The surest ``share`` of the pixels that are given each class, IGNORE elsewhere.

    By class, so that the easiest one, the background, does not crowd out the others.

    Args:
        probs: ``(N, K, *S)``, of all images together.
        share: in (0, 1]. Pixels as sure as the last one that is kept are kept too.

    Returns:
        ``(N, *S)`` int64.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share of pixels to hand over lies in (0, 1], not at {share}.")
    confidence, labels = probs.max(1)
    kept = torch.full_like(labels, IGNORE)
    for k in labels.unique().tolist():
        mine = labels == k
        count = int(mine.sum())
        last = confidence[mine].kthvalue(count - max(round(share * count), 1) + 1).values
        kept[mine & (confidence >= last)] = k
    return kept


def co_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    rounds: int = 2,
    share: float = 0.8,
    views: Sequence[str] = ("low", "high"),
    sigma: float = 1.5,
    weight: float = 1.0,
    **kwargs,
) -> SelfTrained:
    r"""Two learners see two views of the images; what one is sure of becomes a label of the other.

    With views :math:`v_1, v_2` of an image and the labelled set :math:`L`, for each round

    .. math::
        f_a \leftarrow \arg\min_f L_{sup}\big(f(v_a(x_l)), y\big)
            + w\, L_{sup}\big(f(v_a(x_u)), \hat y_b\big), \qquad
        \hat y_b = \mathrm{top}\big(f_b(v_b(x_u))\big), \qquad b \ne a .

    A label travels from one view to the other, never back into its own. If the views are
    independent given the class, an example that is easy in one is a random one in the other, and
    its label is news there. If they are equal, both learners are the same and each hears its
    own opinion: with ``views=("low", "low")`` this *is* self-training, weight by weight.

    A grey image has no two views by nature. Low and high frequencies share no coefficient, but
    they are pictures of one anatomy: complementary, not independent.

    Args:
        task: the problem, with its few labels.
        budget: of each of the ``2 (rounds + 1)`` trainings; by default :meth:`Budget.auto`.
        seed: of the last round's weights and draws, the same for both learners, so that nothing
            but the view tells them apart; earlier rounds have others.
        rounds: how often labels change hands. The paper takes 30 small ones.
        share: see :func:`top_per_class`, reached in the last round; round ``r`` of ``R`` hands
            over ``r / R`` of it, so that the surest go first.
        views: the two bands.
        sigma: of :class:`Band`.
        weight: ``w``.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Returns:
        The two learners as a :class:`.Committee` that multiplies their probabilities, as in the
        paper; ``rounds`` has the committee of every round.

    Raises:
        ValueError: no round, not two views, no unlabelled image.

    Reference: Blum, Mitchell, "Combining Labeled and Unlabeled Data with Co-Training", COLT 1998.
    Simplified: pixels for documents; labels are renewed in each round, where the paper's stay,
    and go to the other learner's set, where the paper's two learners share theirs.
    """
    if rounds < 1 or len(views) != 2:
        raise ValueError(
            f"Co-training needs two views and at least 1 round, not {len(views)} and {rounds}."
        )
    if len(task.unlabelled) == 0:
        raise ValueError("Nothing is left to label for the other: use Task.keep(labelled=n).")
    budget, images = budget or Budget.auto(), task.train.images[task.unlabelled]

    def learner(band, seed):
        return Band(networks.unet(task, seed=seed), band, task.train.dims, sigma)

    fresh = seed + 1000 * rounds
    pair = [fit(Supervised(learner(v, fresh)), task, budget, fresh, **kwargs) for v in views]
    trained = [together(pair, product)]
    for number in range(1, rounds + 1):
        given = [top_per_class(one.predict(images), share * number / rounds) for one in pair]
        fresh = seed + 1000 * (rounds - number)
        pair = [
            fit(
                PseudoLabelled(learner(band, fresh), weight),
                with_pseudo(task, task.unlabelled, theirs),
                budget,
                fresh,
                **kwargs,
            )
            for band, theirs in zip(views, reversed(given), strict=True)
        ]
        trained.append(together(pair, product))
    return SelfTrained.of(trained)
