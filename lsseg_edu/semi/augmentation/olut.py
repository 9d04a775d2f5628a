"""Adversarial deformations that stay within what bodies differ by."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment import displaced, integrate, warp, warp_labels
from lsseg_edu.data import Task
from lsseg_edu.semi.adversarial.discriminator import one_hot
from lsseg_edu.semi.augmentation.ascent import ascend, somewhere
from lsseg_edu.semi.augmentation.deformations import Modes, register_unlabelled
from lsseg_edu.semi.augmentation.soft import soft_dice_ce
from lsseg_edu.train import Budget, Fitted, Method, fit


class DeformationAttack(Method):
    r"""Train on labelled images deformed, within a learned anatomical subspace, to be hard.

    .. math::
        L = L_{sup}(x, y) + w\, L_{sup}(x \circ \phi_{a^*}, y \circ \phi_{a^*}), \qquad
        \phi_a = \exp\Big(\sum_m a_m \sigma_m d_m\Big), \qquad
        a^* = \arg\max_{|a_m| \le b} L_{sup}(x \circ \phi_a, y \circ \phi_a).

    :math:`d_m` and :math:`\sigma_m` are the principal components of the velocities that register
    unlabelled images. A free attack on the displacement would tear the heart; along the modes it
    can only make it as large, as turned or as thin as hearts come. :math:`\exp` keeps it from
    folding, and the label takes the same way.

    Reference: Olut, Shen, Xu, Gerber, Niethammer, "Adversarial Data Augmentation via Deformation
    Statistics", ECCV 2020.
    Simplified: stationary velocities of the book's registration; the mean deformation is left
    out, so that :math:`a = 0` changes nothing.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        modes: of images of that size.
        bound: :math:`b`, in deviations. With 1.5 a random body of the box is about as far from
            the mean as a real one: :math:`b \sqrt{M/3}` against :math:`\sqrt{M}`.
        weight: :math:`w`. At 0 it is the supervised baseline.
        steps: of the ascent, each of half the bound: from one random body to a worse one, not
            to the corner of the box, where all modes are extreme at once. **0 is the control**: a
            random deformation of the subspace.
    """

    def __init__(self, net: nn.Module, modes: Modes, bound=1.5, weight=1.0, steps: int = 1):
        super().__init__(net)
        self.register_buffer("directions", modes.directions)
        self.register_buffer("deviations", modes.deviations)
        self.explained, self.bound, self.weight = modes.explained, bound, weight
        self.steps = steps

    @property
    def modes(self) -> Modes:
        """The subspace, on the device of the network."""
        return Modes(self.directions, self.deviations, self.explained)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the images, ``deformed`` (already weighted) on the worst motion."""
        images, labels = batch.labelled.images, batch.labelled.labels
        supervised = losses.dice_ce(self.net(images), labels)
        grid = self.grid(self.attack(images, labels))
        deformed = losses.dice_ce(self.net(warp(images, grid)), warp_labels(labels, grid))
        return {"supervised": supervised, "deformed": self.weight * deformed}

    def grid(self, coefficients: Tensor) -> Tensor:
        """Where to read, ``(B, *S, D)``, for coefficients ``(B, M)`` in deviations."""
        return displaced(integrate(self.modes.velocity(coefficients)))

    def attack(self, images: Tensor, labels: Tensor) -> Tensor:
        """Coefficients ``(B, M)`` within the bound for which the loss is high."""
        start = somewhere(images.new_empty(len(images), len(self.deviations)), self.bound)
        return ascend(lambda a: self.harm(images, labels, a), start, self.bound, self.steps, 0.5)

    def harm(self, images: Tensor, labels: Tensor, coefficients: Tensor) -> Tensor:
        """The loss after the motion; labels as soft masks, so that it has a slope."""
        grid = self.grid(coefficients)
        logits = self.net(warp(images, grid))
        return soft_dice_ce(logits, warp(one_hot(labels, logits.shape[1]), grid))


def deformation_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    modes: int = 8,
    bound: float = 1.5,
    weight: float = 1.0,
    steps: int = 1,
    **kwargs,
) -> Fitted:
    """Register the unlabelled images, find the modes, train with :class:`DeformationAttack`.

    Args:
        task: the problem.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        modes: principal components to keep.
        bound: as in :class:`DeformationAttack`, like ``weight`` and ``steps``.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no unlabelled image, or fewer of them than modes.
    """
    motions = register_unlabelled(task, budget, seed, **kwargs)
    model = Modes.of(motions.velocities, modes)
    method = DeformationAttack.for_task(
        task, seed, modes=model, bound=bound, weight=weight, steps=steps
    )
    fitted = fit(method, task, budget, seed, **kwargs)
    fitted.seconds += motions.seconds
    return fitted
