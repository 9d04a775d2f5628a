"""Extreme consistency: an easy question for the teacher, a very hard one for the student."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsseg_edu.augment import Augment
from lsseg_edu.semi.consistency.mean_teacher import MeanTeacher
from lsseg_edu.semi.consistency.transforms import AffineView, Chain, Dihedral
from lsseg_edu.semi.consistency.ua_mt import masked_mse


class ExtremeConsistency(MeanTeacher):
    r"""The student's image is moved, repainted and mixed with another one, all of it strongly.

    The teacher sees the weakly augmented image ``x``. Its answer then goes through the moves
    ``T`` and the mixing ``m`` of the student's image, and through nothing else: intensities
    ``A`` do not change where things are.

    .. math::
        \tilde x = m(A(T x)), \qquad \tilde p = m(T f_{\theta'}(x)), \qquad
        m(v)_b = \lambda_b\, v_b + (1 - \lambda_b)\, v_{b+1} .

    :math:`\lambda_b` is a map: 0 in a box and 1 outside (CutMix), or one number (MixUp). The loss
    is the mean squared difference of :math:`f_\theta(\tilde x)` and :math:`\tilde p`, where ``T``
    has not invented the pixel.

    Reference: Fotedar, Tajbakhsh, Ananth, Ding, "Extreme Consistency: Overcoming Annotation
    Scarcity and Domain Shifts", MICCAI 2020.
    Simplified: a fixed set of transformations, all applied to every image, instead of a random
    choice of a longer list.

    Args:
        net: as for :class:`.MeanTeacher`, like the options.
        rotation: largest angle, degrees, on top of a random quarter-turn.
        scale: largest ``|ln factor|`` of the size.
        extreme: its intensity part repaints the student's images; about three times the book's
            ``Augment.strong()`` by default.
        mirrors: whether ``T`` may mirror.
    """

    weak = Augment.weak()

    def __init__(
        self,
        net,
        rotation=30.0,
        scale=0.25,
        extreme: Augment | None = None,
        mirrors=True,
        **options,
    ):
        super().__init__(net, **options)
        self.rotation, self.scale, self.mirrors = rotation, scale, mirrors
        self.extreme = extreme or Augment(bias=0.4, gamma=0.6, contrast=0.5, blur=1.5, noise=0.3)

    def consistency(self, batch) -> Tensor:
        """Mean squared difference of the student's answer and the teacher's, moved and mixed."""
        images = batch.unlabelled.images
        with torch.no_grad():
            answer = self.teacher(images).softmax(1)
        images, target, known = self.harden(images, answer)
        return masked_mse(self.net(images).softmax(1), target, known)

    def harden(self, images: Tensor, answer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The extreme images, the answer that belongs to them, and where it is known."""
        turn = Dihedral.draw(images, mirrors=self.mirrors)
        move = AffineView.draw(images, rotation=self.rotation, scale=self.scale)
        view, mix = Chain((turn, move)), Mixing.draw(images)
        known = mix(view.inside(images).to(images.dtype)) > 0.999
        return mix(self.extreme.repaint(view(images), None)), mix(view(answer)), known


@dataclass(frozen=True)
class Mixing:
    """A mixture of each image with the next one of the batch, of predictions alike.

    Attributes:
        keep: ``(B, 1, *S)``, the share of its own that every pixel keeps, in [0, 1].
    """

    keep: Tensor

    @classmethod
    def draw(cls, images: Tensor, generator=None) -> Mixing:
        """For each image, with equal chance, CutMix or MixUp.

        CutMix takes a box with a fraction uniform in [0, 1/2] of the image's volume, anywhere
        inside, from the next image; MixUp takes that fraction of every pixel from it.

        Args:
            images: ``(B, C, *S)``.
            generator: on the device of ``images``; by default the global random state.

        Raises:
            ValueError: a batch of one, whose only image would be mixed with itself.
        """
        if len(images) < 2:
            raise ValueError("A mixture needs another image: use a batch of at least two.")
        size, batch = images.shape[2:], len(images)
        draws = torch.rand(2 + len(size), batch, generator=generator, device=images.device)
        taken, box = draws[0] / 2, torch.ones_like(images[:, :1], dtype=torch.bool)
        side = taken ** (1 / len(size))
        for axis, (length, start) in enumerate(zip(size, draws[2:], strict=True), start=2):
            place = (torch.arange(length, device=images.device) + 0.5) / length
            start = (start * (1 - side))[:, None]
            line = (place >= start) & (place < start + side[:, None])
            box = box & line.view(batch, *(length if i == axis else 1 for i in range(1, box.ndim)))
        share, cut = (values.view(-1, *(1,) * (box.ndim - 1)) for values in (taken, draws[1] < 0.5))
        return cls(torch.where(cut, (~box).to(images.dtype), (1 - share).to(images.dtype)))

    def __call__(self, values: Tensor) -> Tensor:
        """Mix ``values (B, C, *S)``."""
        return self.keep * values + (1 - self.keep) * values.roll(-1, 0)
