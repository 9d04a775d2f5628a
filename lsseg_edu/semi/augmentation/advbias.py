"""AdvBias: the uneven coil that the network likes least."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.augment.smooth import bspline_matrix, full_precision
from lsseg_edu.semi.augmentation.ascent import ascend, somewhere
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.semi.self_training.teacher_student import divergence
from lsseg_edu.train import Method


class AdvBias(Method):
    r"""Answer the same under the worst bias field that a scanner could plausibly have.

    A field :math:`\phi = 1 + \mathrm{spline}(c)` multiplies the image, :math:`x_c = x \phi_c`.
    The few control points :math:`c` climb on the divergence of the answers, then the network
    descends on it, on labelled and on unlabelled images:

    .. math::
        L = L_{sup} + w(t)\, KL\big(p(x) \,\Vert\, p(x_{c^*})\big), \qquad
        c^* = \arg\max_{|c| \le b} KL\big(p(x) \,\Vert\, p(x_c)\big).

    B-splines are positive and sum to 1, so :math:`|c| \le b` is enough for
    :math:`|\phi - 1| \le b` at *every* pixel. An attack on pixels is free to draw invisible noise
    that no scanner makes; this one can only do what a coil does.

    Reference: Chen, Qin, Qiu, Ouyang, Wang, Chen, Tarroni, Bai, Rueckert, "Realistic Adversarial
    Data Augmentation for MR Image Segmentation", MICCAI 2020.
    Simplified: the divergence alone, without the paper's term on contours; sign steps.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        bound: :math:`b`, as in the paper 0.3: the field stays between 0.7 and 1.3.
        weight: largest weight of the divergence.
        steps: of the ascent, 1 as in the paper. **0 is the control**: a random field, to tell what
            the ascent adds to mere variety.
        cells: control-point cells along each axis; coils are smooth.
        ramp: fraction of training over which the weight rises.

    Raises:
        ValueError: a bound outside [0, 1): the field would turn the image around.
    """

    unlabelled = True

    def __init__(self, net: nn.Module, bound=0.3, weight=1.0, steps=1, cells=2, ramp: float = 0.4):
        if not 0 <= bound < 1:
            raise ValueError(f"A field of 1 +- {bound} has no sense: give a bound in [0, 1).")
        super().__init__(net)
        self.bound, self.weight, self.steps = bound, weight, steps
        self.cells, self.ramp = cells, ramp

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised`` on the labelled half, ``divergence`` (already weighted) on both."""
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        images = torch.cat([batch.labelled.images, batch.unlabelled.images])
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        return {"supervised": supervised, "divergence": weight * self.unsteady(images)}

    def unsteady(self, images: Tensor) -> Tensor:
        """The divergence in nats a pixel under the worst field; the clean answer is the target."""
        with torch.no_grad():
            answer = self.net(images).float().softmax(1)
        points = self.attack(images, answer)
        return divergence(self.net(biased(images, points)), answer).mean()

    def attack(self, images: Tensor, answer: Tensor) -> Tensor:
        """Control points ``(B, 1, *cells + 3)`` within the bound that move ``answer`` furthest."""
        count = [self.cells + 3] * (images.ndim - 2)
        start = somewhere(images.new_empty(len(images), 1, *count), self.bound)

        def harm(points):
            return divergence(self.net(biased(images, points)), answer).mean()

        return ascend(harm, start, self.bound, self.steps)


def biased(images: Tensor, points: Tensor) -> Tensor:
    """``images (B, C, *S)`` times the field of ``points``; each channel's minimum stays."""
    low = images.amin(tuple(range(2, images.ndim)), keepdim=True)
    return (images - low) * (1 + spline(points, images.shape[2:])) + low


@full_precision
def spline(points: Tensor, size) -> Tensor:
    """The cubic B-spline of control points ``(B, M, *cells + 3)`` at ``size``: ``(B, M, *S)``.

    Values stay between the least and the largest control point.
    """
    for axis, length in enumerate(size, start=2):
        basis = bspline_matrix(length, points.shape[axis] - 3, points.device)
        points = (points.movedim(axis, -1) @ basis.T).movedim(-1, axis)
    return points
