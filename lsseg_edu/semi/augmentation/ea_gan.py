"""Ea-GAN: translation between contrasts that also gets the edges right."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu.data import IGNORE, Task, load
from lsseg_edu.semi.adversarial import scanner_shift, verdict_loss
from lsseg_edu.semi.augmentation.conditional_gan import ConditionalGAN
from lsseg_edu.semi.augmentation.cross_modal import source_bank
from lsseg_edu.semi.augmentation.synthetic import MOTION, Repainted, train_on_both
from lsseg_edu.train import Budget, Fitted, fit


class EaGAN(ConditionalGAN):
    r"""A conditional GAN from one contrast to the other, with edge maps in its losses.

    With :math:`S` the Sobel edge map, the generator of a source image :math:`x` minimises

    .. math::
        \ell\big(d(\cdot), 1\big) + \lambda \lVert G(x) - y \rVert_1
            + \lambda_{edge} \lVert S(G(x)) - S(y) \rVert_1 .

    That is **gEa-GAN**; its critic sees :math:`(x, y)`. In **dEa-GAN**, the default, the critic
    sees the edges too, :math:`(x, y, S(y))` against :math:`(x, G(x), S(G(x)))`.

    It learns from the *same bodies* in both contrasts: a batch holds source and target image on top
    of each other as ``2C`` channels (:func:`stacked`).

    Reference: Yu, Zhou, Wang, Shi, Fripp, Bourgeat, "Ea-GANs: Edge-Aware Generative Adversarial
    Networks for Cross-Modality MR Image Synthesis", TMI 2019. Simplified: slices by default.

    Args:
        net, critic, classes, reconstruction: of :class:`.ConditionalGAN`.
        edges: :math:`\lambda_{edge}`; as the paper, equal to :math:`\lambda`. At 0 with
            ``edge_critic=False`` this is pix2pix.
        edge_critic: dEa-GAN; ``False`` is gEa-GAN.
        **game: see :class:`.Generative`.
    """

    labelled = False
    unlabelled = True

    def __init__(
        self, net, critic, classes, reconstruction=10.0, edges=10.0, edge_critic=True, **game
    ):
        super().__init__(net, critic, classes, reconstruction, **game)
        self.edges, self.edge_critic = edges, edge_critic

    @staticmethod
    def shown(task) -> int:
        """The condition is an image."""
        return task.train.channels

    @staticmethod
    def extra(channels: int) -> int:
        """The edge map of the judged image."""
        return channels

    def part(self, batch):
        """Pairs need no mask."""
        return batch.unlabelled

    def condition(self, part) -> Tensor:
        """The source contrast: the first half of the channels."""
        return part.images.chunk(2, 1)[0]

    def target(self, part) -> Tensor:
        """The target contrast: the second half."""
        return part.images.chunk(2, 1)[1]

    def beside(self, condition: Tensor, images: Tensor) -> Tensor:
        """Source, image, and its edges, which are blank for the critic of gEa-GAN."""
        edges = sobel(images) if self.edge_critic else torch.zeros_like(images)
        return torch.cat([condition, images, edges], 1)

    def loss(self, batch) -> dict[str, Tensor]:
        """``fool``, ``reconstruction`` and ``edges``, weighted."""
        source, target = self.condition(batch.unlabelled), self.target(batch.unlabelled)
        fake = self.make(source)
        return {
            "fool": verdict_loss(self.judge(self.beside(source, fake)), 1.0),
            "reconstruction": self.reconstruction * (fake - target).abs().mean(),
            "edges": self.edges * (sobel(fake) - sobel(target)).abs().mean(),
        }

    def paint(self, images: Tensor, labels: Tensor) -> Tensor:
        """Source images in the target's contrast; the labels are not needed."""
        return self.make(images)


def sobel(images: Tensor) -> Tensor:
    r"""Edge strength :math:`\sqrt{\sum_a (S_a * x)^2}` of each channel, ``(B, C, *S)`` as given.

    :math:`S_a` is a central difference along axis ``a``, smoothed with (1, 2, 1) along the others;
    in units of :func:`scipy.ndimage.sobel`. Borders are repeated.
    """
    dims, shape = images.ndim - 2, images.shape
    flat = images.float().reshape(-1, 1, *shape[2:])
    flat = F.pad(flat, (1, 1) * dims, mode="replicate")
    smooth, slope = flat.new_tensor([1.0, 2.0, 1.0]), flat.new_tensor([-1.0, 0.0, 1.0])
    convolve = F.conv2d if dims == 2 else F.conv3d
    squares = 0.0
    for axis in range(dims):
        kernel = flat.new_ones(())
        for other in range(dims):
            kernel = kernel[..., None] * (slope if other == axis else smooth)
        squares = squares + convolve(flat, kernel[None, None]).square()
    return (squares + 1e-6).sqrt().reshape(shape)


def paired_scanners(seed: int = 0, labelled_target: int | None = 0, cohort: str = "brain") -> Task:
    """:func:`.scanner_shift`, in which the clinic's unlabelled bodies were seen by both scanners.

    Half of the training subjects have masks and an image of scanner A. The other half have an
    image of scanner B, and in ``train.extras["other"]`` one of A: pairs, without masks.

    Args:
        seed, labelled_target, cohort: of :func:`.scanner_shift`.

    Example:
        >>> task = paired_scanners()
        >>> task.train.extras["other"].shape == task.train.images.shape
        True
    """
    task = scanner_shift(seed, labelled_target, cohort)
    source = load(cohort, scanner="A")
    other = torch.zeros_like(task.train.images)
    for subject in task.train.subjects[task.train.extras["scanner"] == 1].unique():
        other[task.train.subjects == subject] = source.images[source.subjects == subject]
    return replace(task, train=replace(task.train, extras={**task.train.extras, "other": other}))


def stacked(task: Task) -> Task:
    """The paired images of a task as one cohort of ``2C`` channels, source first, without masks.

    Raises:
        ValueError: a task without paired images.
    """
    if "other" not in task.train.extras:
        raise ValueError("Ea-GAN learns from pairs: give extras['other'], as paired_scanners does.")
    pairs = task.train.select(task.train.extras["scanner"] == 1)
    images = torch.cat([pairs.extras["other"], pairs.images], 1)
    labels = torch.full_like(pairs.labels, IGNORE)
    return replace(task, train=replace(pairs, images=images, labels=labels, extras={}))


def edge_aware_augmentation(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    fraction: float = 0.5,
    edges: float = 10.0,
    edge_critic: bool = True,
    **kwargs,
) -> Fitted:
    """Learn to translate from pairs, then train on annotated images in the target's contrast.

    Args:
        task: of :func:`paired_scanners`.
        budget: of each of the two trainings; by default :meth:`Budget.auto`. The segmenter's
            is the baseline's; the generator's comes on top and is counted in the seconds.
        seed: of weights and draws.
        fraction: of translated pairs in a batch.
        edges, edge_critic: of :class:`EaGAN`; ``edges=0, edge_critic=False`` is pix2pix.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: a task without paired images, a fraction outside [0, 1].
    """
    budget = budget or Budget.auto()
    pairs = stacked(task)
    model = EaGAN.for_task(task, seed, edges=edges, edge_critic=edge_critic)
    painter = fit(model, pairs, budget, seed, **{**kwargs, "augment": MOTION})
    sampler = Repainted(source_bank(task), painter.method)
    return train_on_both(task, sampler, [painter], budget, seed, fraction, **kwargs)
