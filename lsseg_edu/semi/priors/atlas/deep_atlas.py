"""DeepAtlas: a registration and a segmentation that mark each other's work."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.semi.priors.atlas.propagation import overlap_loss
from lsseg_edu.semi.priors.registration import Atlas, Registration, alignment
from lsseg_edu.train import Method, Player


class DeepAtlas(Method):
    r"""One network moves the atlas, one segments, and both minimise the same disagreement.

    For a labelled pair :math:`(a, y)` and an unlabelled image :math:`x`, registered by
    :math:`\phi`:

    .. math::
        L_{anatomy} = \mathrm{Dice}\big(y \circ \phi,\ f(x)\big), \qquad
        L_{reg} = L_{align}(a \circ \phi, x) + \lambda_r L_{anatomy}, \qquad
        L_{seg} = L_{sup} + \lambda_s L_{anatomy}

    To the registration, the segmenter's answer is a weak label that says where organs are; to
    the segmenter, the warped label is. The two are stepped in turn, each with the other held
    fixed. Their errors have different reasons: one sees edges and motion, the other appearance.

    Reference: Xu, Niethammer, "DeepAtlas: Joint Semi-Supervised Learning of Image Registration
    and Segmentation", MICCAI 2019.
    Simplified: all pairs are atlas to unlabelled image; a linear ramp instead of training each
    network alone at first; pairs of slices that resemble each other.

    Args:
        net: the segmenter.
        registration: the atlas and its network.
        anatomy: :math:`\lambda_r`; the paper's 3 is relative to other similarity terms.
        weight: :math:`\lambda_s`. Small: where registration is the weaker of the two, a large one
            would hold the segmenter back.
        ramp: fraction of training over which both rise.
    """

    unlabelled = True
    weak = Augment.weak()

    def __init__(
        self, net: nn.Module, registration: Registration, anatomy=1.0, weight=0.3, ramp=0.4
    ):
        super().__init__(net)
        self.registration = registration
        self.anatomy, self.weight, self.ramp = anatomy, weight, ramp

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """The book's U-Net and registration network."""
        return cls(networks.unet(task, seed=seed), Registration.for_task(task, seed), **options)

    def players(self) -> list[Player]:
        """The registration first, then the segmenter, who sees what it has become."""
        return [
            Player("registration", list(self.registration.parameters()), self.registration_loss),
            Player("segmenter", list(self.net.parameters()), self.loss),
        ]

    def registration_loss(self, batch) -> dict[str, Tensor]:
        """``unlikeness``, ``bending``, and ``anatomy`` against the segmenter's answer."""
        images = batch.unlabelled.images
        index = self.atlas.match(images)
        moving = self.atlas.images[index]
        velocity = self.registration.net(moving, images)
        moved = self.registration.move(moving, velocity)
        masks = self.registration.move(self.atlas.one_hot(index), velocity)
        answer = self.net(images).softmax(1).detach()
        anatomy = self.anatomy * self.ramped(batch.progress) * overlap_loss(masks, answer)
        terms = alignment(moved, images, velocity, self.registration.bending)
        return {**terms, "anatomy": anatomy}

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, and ``warped``: the answer against the moved masks."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        images = batch.unlabelled.images
        masks = self.registration.predict(images).detach()
        warped = overlap_loss(self.net(images).softmax(1), masks)
        return {
            "supervised": supervised,
            "warped": self.weight * self.ramped(batch.progress) * warped,
        }

    def ramped(self, progress: float) -> float:
        """From 0 to 1, linearly, over the first ``ramp`` of training."""
        return min(1.0, progress / self.ramp) if self.ramp else 1.0

    @property
    def atlas(self) -> Atlas:
        """Whose labels are moved."""
        return self.registration.atlas
