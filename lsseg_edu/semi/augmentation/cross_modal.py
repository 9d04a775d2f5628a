"""Cross-modal augmentation (Cai): annotated images as the other modality would show them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from lsseg_edu.data import Task
from lsseg_edu.semi.adversarial import ShapeCycleGAN
from lsseg_edu.semi.augmentation.synthetic import MOTION, Repainted, train_on_both
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Budget, Fitted, fit


class CrossModal(ShapeCycleGAN):
    r"""The translators of :class:`.ShapeCycleGAN`, kept as a painter of training images.

    Cycle both ways and the shape consistency of two segmenters train the translators, as there:

    .. math::
        L_G = \sum_s \ell\big(d_t(G_s x), 1\big)
            + \lambda \lVert G_t G_s x - x \rVert_1
            + w(t)\, L_{seg}\big(f_t(G_s x), y\big) .

    What differs is the segmenter that counts. There it grows up with the translators and learns
    from all their early attempts; here those segmenters only guard the shapes, and are thrown away.

    Reference: Cai, Zhang, Cui, Zheng, Yang, "Towards Cross-Modal Organ Translation and
    Segmentation: A Cycle- and Shape-Consistent Generative Adversarial Network", Medical Image
    Analysis 2019. Simplified: slices by default (all parts take volumes).
    """

    def paint(self, images: Tensor, labels: Tensor) -> Tensor:
        """Source images as the target's scanner would show them; the labels are not needed."""
        return self.translators[0](images)


def cross_modal_augmentation(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    fraction: float = 0.5,
    shape: float = 1.0,
    **kwargs,
) -> Fitted:
    """Train the translators, freeze them, and train a new segmenter on what they make.

    The segmenter sees annotated source images and, in ``fraction`` of each batch, translated ones
    with the masks that came along.

    Args:
        task: two scanners in ``extras["scanner"]``, 0 (source, annotated) and 1 (target).
        budget: of each of the two trainings; by default :meth:`Budget.auto`. The segmenter's
            is the baseline's; the translators' comes on top and is counted in the seconds.
        seed: of weights and draws.
        fraction: of translated pairs in a batch.
        shape: weight of the shape consistency; 0 is a plain CycleGAN.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: not two scanners, a fraction outside [0, 1].
    """
    budget = budget or Budget.auto()
    model = CrossModal.for_task(task, seed, shape=shape)
    translators = fit(model, task, budget, seed, **{**kwargs, "augment": MOTION})
    sampler = Repainted(source_bank(task), translators.method)
    return train_on_both(task, sampler, [translators], budget, seed, fraction, **kwargs)


def source_bank(task: Task) -> Atlas:
    """The annotated images of scanner 0."""
    return Atlas.of(replace(task, train=task.train.select(task.train.extras["scanner"] == 0)))
