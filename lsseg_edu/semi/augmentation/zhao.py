"""One-shot learning with learned transforms (Zhao): one labelled image, told in many ways."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu.augment import Augment, displaced, integrate, warp_labels
from lsseg_edu.data import Cohort, Task
from lsseg_edu.networks import UNet, build
from lsseg_edu.semi.augmentation.motion import Motion
from lsseg_edu.semi.augmentation.synthetic import moved, train_on_both
from lsseg_edu.train import Budget, Fitted, Method, fit


class Appearance(Method):
    r"""What has to be added to the atlas so that it looks like another image.

    A trained registration brings an unlabelled image :math:`y` to the atlas :math:`a`,
    :math:`y \circ \phi^{-1}`. There the anatomy agrees, and what differs is appearance. The network
    :math:`h` answers with that difference, :math:`\psi = h(a, y \circ \phi^{-1})`:

    .. math::
        L = \lVert a + \psi - y \circ \phi^{-1} \rVert^2
            + \lambda\, (1 - c_a) \lVert \nabla \psi \rVert .

    The change must be smooth inside a structure and may jump at the boundaries :math:`c_a` that
    the atlas labels know. Otherwise it would paint the remaining *spatial* differences, and labels
    would not follow.

    Args:
        net: atlas and aligned image ``(B, 2C, *S)`` to the change ``(B, C, *S)``.
        registration: a trained :class:`Motion`; frozen here.
        smooth: :math:`\lambda`. The paper's 0.02 is for grey values in [0, 1]. Ours have deviation
            1 and span about 8 of it; a squared error grows 8 times as much by that as a gradient.

    Reference: Zhao, Balakrishnan, Durand, Guttag, Dalca, "Data Augmentation Using Learned
    Transformations for One-Shot Medical Image Segmentation", CVPR 2019.
    Simplified: the inverse motion is that of the same velocity, :math:`\exp(-v)`; the paper
    trains a second registration for it.
    """

    labelled = False
    unlabelled = True
    weak = Augment.none()

    def __init__(self, net: nn.Module, registration: Motion, smooth: float = 0.15):
        super().__init__(net)
        self.registration = registration.requires_grad_(False)
        self.smooth = smooth

    @classmethod
    def for_task(cls, task, seed: int = 0, registration=None, **options) -> Appearance:
        """A small U-Net that starts with next to no change."""
        net = build(lambda c, k, dims: UNet(2 * c, c, dims, width=8), task, seed)
        net.final_conv.weight.data.mul_(0.05)
        net.final_conv.bias.data.zero_()
        return cls(net, registration or Motion.for_task(task, seed), **options)

    @property
    def atlas(self):
        """The labelled images."""
        return self.registration.atlas

    def align(self, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity ``v`` from atlas images ``index`` to images, and these brought back by it."""
        velocity = self.registration.net(self.atlas.images[index], images)
        return velocity, self.registration.move(images, -velocity)

    def delta(self, aligned: Tensor, index: Tensor) -> Tensor:
        """The change that gives atlas images ``index`` the look of ``aligned``."""
        return self.net(torch.cat([self.atlas.images[index], aligned], 1)).float()

    def loss(self, batch) -> dict[str, Tensor]:
        """Terms ``likeness`` and ``smoothness``."""
        images = batch.unlabelled.images
        index = self.registration.source(batch.unlabelled)
        with torch.no_grad():
            _, aligned = self.align(images, index)
        delta = self.delta(aligned, index)
        likeness = (self.atlas.images[index] + delta - aligned).square().mean()
        rough = roughness(delta, self.atlas.labels[index])
        return {"likeness": likeness, "smoothness": self.smooth * rough}


def roughness(delta: Tensor, labels: Tensor) -> Tensor:
    r"""Mean :math:`|\nabla\psi|` over neighbours of the same label, all axes added."""
    total = 0.0
    for axis in range(1, labels.ndim):
        inside = (labels.diff(dim=axis) == 0).unsqueeze(1)
        total = total + (delta.diff(dim=axis + 1).abs() * inside).mean()
    return total


class LearnedTransforms(nn.Module):
    """A sampler: the atlas with the shape of one unlabelled image and the look of another.

    All velocities and changes of appearance are computed once; a sample is two look-ups, an
    addition and a warp.

    Args:
        model: a trained :class:`Appearance`, with its registration.
        others: the cohort of the ``N`` unlabelled images.
        spatial: move the atlas.
        appearance: change its look.
        independent: shape and look of *different* images: ``N`` times ``N`` examples. If not, both
            come from the same image, and the sample imitates it.
    """

    def __init__(self, model, others, spatial=True, appearance=True, independent=True):
        super().__init__()
        self.atlas, self.registration = model.atlas, model.registration
        self.spatial, self.appearance, self.independent = spatial, appearance, independent
        for name, values in zip(
            ("match", "velocity", "delta"), learned(model, others), strict=True
        ):
            self.register_buffer(name, values, persistent=False)

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` images and labels; each starts from the atlas image that suits its shape."""
        shape = torch.randint(len(self.match), (count,), device=self.match.device)
        look = self.looks(shape) if self.independent else shape
        return moved(*self.combine(shape, look))

    def looks(self, shape: Tensor) -> Tensor:
        """For each image of ``shape`` another one that was aligned to the same atlas image."""
        same = self.match[shape][:, None] == self.match[None]
        return same.float().multinomial(1)[:, 0]

    def combine(self, shape: Tensor, look: Tensor) -> tuple[Tensor, Tensor]:
        """The atlas with the shape of images ``shape`` and the look of images ``look``."""
        source = self.match[shape]
        images, labels = self.atlas.images[source], self.atlas.labels[source]
        if self.appearance:
            images = images + self.delta[look]
        if self.spatial:
            velocity = self.velocity[shape]
            images = self.registration.move(images, velocity)
            labels = warp_labels(labels, displaced(integrate(velocity)))
        return images, labels


@torch.no_grad()
def learned(model: Appearance, others: Cohort) -> list[Tensor]:
    """Atlas image, velocity and change of appearance of every image of a cohort."""
    others = others.to(next(model.parameters()).device)
    parts = []
    for some in torch.arange(len(others), device=others.images.device).split(64):
        images, index = others.images[some], model.registration.source(others.select(some))
        velocity, aligned = model.align(images, index)
        parts.append((index, velocity, model.delta(aligned, index)))
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def one_shot_augmentation(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    fraction: float = 0.5,
    spatial: bool = True,
    appearance: bool = True,
    independent: bool = True,
    **kwargs,
) -> Fitted:
    r"""Learn how bodies and scanners differ, tell the atlas in all these ways, train on that.

    .. math::
        \tilde x = (a + \psi_j) \circ \phi_i, \qquad \tilde y = y_a \circ \phi_i

    for random unlabelled images ``i`` and ``j``. No label but the atlas's is ever seen.

    Args:
        task: the problem; all its labelled images are the atlas, each target gets the one
            that suits it.
        budget: of each of the three trainings; by default :meth:`Budget.auto`. The segmenter's is
            the baseline's; registration and appearance come on top and count in the seconds.
        seed: of weights and draws.
        fraction: of synthetic pairs in a batch; the rest are the labelled images themselves.
        spatial, appearance, independent: see :class:`LearnedTransforms`; ``False`` are controls.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no unlabelled image, a fraction outside [0, 1].

    Reference: Zhao et al., CVPR 2019, as in :class:`Appearance`.
    """
    budget = budget or Budget.auto()
    clean = {key: value for key, value in kwargs.items() if key != "augment"}
    motion = fit(Motion.for_task(task, seed), task, budget, seed, **clean)
    model = Appearance.for_task(task, seed, registration=motion.method)
    look = fit(model, task, budget, seed, **clean)
    others = task.train.select(task.unlabelled)
    sampler = LearnedTransforms(look.method, others, spatial, appearance, independent)
    return train_on_both(task, sampler, [motion, look], budget, seed, fraction, **kwargs)
