"""AtlasNet: one network for each common space, and every image goes to all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import displaced, integrate, warp
from lsseg_edu.augment.geometry import warp_labels
from lsseg_edu.data import Task
from lsseg_edu.semi.priors.atlas.propagation import by_subject, last_of, registered
from lsseg_edu.semi.priors.registration import Atlas, Registration
from lsseg_edu.train import Budget, Fitted, Method, fit


class AtlasNet(Method):
    r"""``k`` segmenters, each of which only ever sees anatomy in the pose of its own atlas.

    A registration takes an image :math:`x` to the space of atlas :math:`j`; there network
    :math:`f_j` is trained and asked, and its answer goes back the way the image came:

    .. math::
        L = \sum_j L_{sup}\big(f_j(x \circ \phi_j),\ y \circ \phi_j\big), \qquad
        p(x) = \frac1k \sum_j f_j(x \circ \phi_j) \circ \phi_j^{-1} .

    In a common space there is less variability to learn, so few labels go further. Each
    registration errs in its own way; the mean of ``k`` answers, brought back, evens that out.

    The registration answers with a velocity :math:`v_j` that moves the atlas onto the image.
    So :math:`\phi_j = e^{-v_j}`, and back it is :math:`e^{v_j}`: no second registration.

    Reference: Vakalopoulou, Chassagnon, Bus, et al., "AtlasNet: Multi-atlas Non-linear Deep
    Networks for Medical Image Segmentation", MICCAI 2018.
    Simplified: registration with a network; the atlas of a stack is the slice that resembles the
    image; the mean of probabilities for the majority vote.

    Args:
        nets: ``k`` segmenters.
        atlases: ``k`` atlases.
        registration: trained; it stays as it is.
        moving: whether images are moved at all. If not, it is an ensemble of ``k`` networks,
            which is the control.

    Raises:
        ValueError: not as many networks as atlases.
    """

    def __init__(
        self,
        nets: list[nn.Module],
        atlases: list[Atlas],
        registration: Registration,
        moving: bool = True,
    ):
        if len(nets) != len(atlases) or len(nets) == 0:
            raise ValueError(
                f"Every common space needs its own network: {len(nets)} networks were given "
                f"for {len(atlases)} atlases."
            )
        super().__init__(nn.ModuleList(nets))
        self.atlases = nn.ModuleList(atlases)
        self.registration = registration.requires_grad_(False)
        self.moving = moving

    def loss(self, batch) -> dict[str, Tensor]:
        """One ``supervised`` term for each space, named by its number."""
        part, terms = batch.labelled, {}
        for number, (net, atlas) in enumerate(zip(self.net, self.atlases, strict=True)):
            there = displaced(integrate(-self.velocity(atlas, part.images)))
            logits = net(warp(part.images, there))
            terms[f"supervised_{number}"] = losses.dice_ce(logits, warp_labels(part.labels, there))
        return terms

    @torch.no_grad()
    def velocity(self, atlas: Atlas, images: Tensor) -> Tensor:
        """What moves the best matching atlas image onto each image, ``(B, *S, D)``."""
        moving = atlas.images[atlas.match(images)]
        return self.registration.net(moving, images) * float(self.moving)

    def predict(self, images: Tensor) -> Tensor:
        """The mean of all answers ``(B, K, *S)``, each brought back from its space."""
        answers = []
        for net, atlas in zip(self.net, self.atlases, strict=True):
            velocity = self.velocity(atlas, images)
            answer = net(warp(images, displaced(integrate(-velocity)))).float().softmax(1)
            answers.append(warp(answer, displaced(integrate(velocity))))
        return torch.stack(answers).mean(0)


def atlas_net(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    spaces: int = 2,
    moving: bool = True,
    **kwargs,
) -> Fitted:
    """Train a registration, then :class:`AtlasNet` on the spaces of some labelled subjects.

    Args:
        task: the problem.
        budget: of the registration, and of the ``k`` networks, which are trained side by side.
        seed: of weights and draws.
        spaces: ``k`` at most; there are no more than labelled subjects (paper: 6).
        moving: of :class:`AtlasNet`.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no space.
    """
    if spaces < 1:
        raise ValueError(f"AtlasNet needs at least 1 common space, not {spaces}.")
    budget = budget or Budget.auto()
    first = registered(task, budget, seed, **kwargs)
    atlases = by_subject(task)[:spaces]
    nets = [networks.unet(task, seed=seed + 1000 * number) for number in range(len(atlases))]
    method = AtlasNet(nets, atlases, first.method, moving)
    return last_of([first, fit(method, task, budget, seed, **kwargs)])
