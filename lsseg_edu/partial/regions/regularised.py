"""What the regularised losses share: scribbles teach, and the image judges the whole answer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.partial.regions import partial_cross_entropy
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.train import Method


class Regularised(Method):
    r"""Partial cross-entropy on the scribbles, and an energy of the answer on every pixel.

    .. math:: L = L_{pCE}(S, y) + \lambda(t)\, R(S, x)

    ``S`` are the probabilities, ``x`` the image. Subclasses define :meth:`penalty`, ``R``.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        weight: largest :math:`\lambda`.
        ramp: fraction of training over which it rises. "One class everywhere" is the cheapest
            answer to every ``R``, so the scribbles go first. (Tang et al. start from a network
            that was trained on the scribbles alone.)

    Raises:
        ValueError: a negative weight.
    """

    def __init__(self, net: nn.Module, weight: float = 1.0, ramp: float = 0.4):
        super().__init__(net)
        if weight < 0:
            raise ValueError(f"A negative weight would reward cuts: take 0 or more, not {weight}.")
        self.weight, self.ramp = weight, ramp

    def loss(self, batch) -> dict[str, Tensor]:
        """``scribbles`` and ``regulariser`` (already weighted), of the labelled images."""
        part = batch.labelled
        logits = self.net(part.images).float()
        with torch.autocast(logits.device.type, enabled=False):  # sums over a million pairs
            penalty = self.penalty(logits.softmax(1), part.images.float(), part.labels)
        weight = self.weight * sigmoid_rampup(batch.progress, self.ramp)
        scribbles = partial_cross_entropy(logits, part.labels)
        return {"scribbles": scribbles, "regulariser": weight * penalty}

    def penalty(self, probs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """``(B, K, *S)``, ``(B, C, *S)`` and the scribbles ``(B, *S)`` to one number."""
        raise NotImplementedError(f"{type(self).__name__} must define penalty().")


class AllPairs(Regularised):
    r"""An energy over all pairs of pixels, on a grid so coarse that they can be written down.

    Subclasses define :meth:`energy`.

    Args:
        net: images to logits.
        weight: :math:`\lambda`.
        near: :math:`\sigma_r` in pixels. Tang et al. take 100 px in photographs of about 500 px;
            a heart in an image of 64 px needs less, since air and blood are dark and bright in
            many places.
        alike: :math:`\sigma_x` in image deviations. The papers' 15 of 255 grey values are about a
            quarter of a photograph's deviation; MR is noisier.
        points: of the grid; 576 are 24 x 24 pixels, or 8 x 8 x 8 voxels. Time and memory go with
            the square; with 576 a step costs little more than one of partial cross-entropy.
        ramp: as in :class:`Regularised`.
    """

    def __init__(self, net, weight=1.0, near=6.0, alike=0.5, points=576, ramp=0.4):
        super().__init__(net, weight, ramp)
        self.near, self.alike, self.points = near, alike, points

    def penalty(self, probs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Mean :meth:`energy` on the grid, four images at a time (large matrices are slow)."""
        small, energies = on_grid(probs, self.points).flatten(2), []
        for s, x in zip(small.split(4), images.split(4), strict=True):
            affinity = affinities(x, self.near, self.alike, self.points)
            energies.append(self.energy(s, affinity))
        return torch.cat(energies).mean()

    def energy(self, probs: Tensor, affinity: Tensor) -> Tensor:
        """Probabilities ``(B, K, P)`` and affinities ``(B, P, P)`` to the energy of each image."""
        raise NotImplementedError(f"{type(self).__name__} must define energy().")


def affinities(images: Tensor, near: float, alike: float, points: int = 576) -> Tensor:
    r"""How strongly each pair of grid points belongs together: a Gaussian bilateral kernel.

    .. math::
        W_{ij} = \exp\!\Big(-\frac{|r_i - r_j|^2}{2\sigma_r^2}
                            -\frac{|x_i - x_j|^2}{2\sigma_x^2}\Big), \qquad W_{ii} = 0

    One product of matrices: with features ``f`` (place and intensity, each in units of its width)
    the exponent is :math:`f_i \cdot f_j - |f_i|^2/2 - |f_j|^2/2`.

    Args:
        images: ``(B, C, *S)``, normalised to deviation 1.
        near: :math:`\sigma_r` in pixels of the full image, whatever the grid.
        alike: :math:`\sigma_x` in image deviations.
        points: of the grid, at most.

    Returns:
        ``(B, P, P)``, symmetric, in [0, 1]; what is below 1e-13 is 1e-13.

    Raises:
        ValueError: a width that is not positive.
    """
    if not (near > 0 and alike > 0):
        raise ValueError(f"Widths are positive; got near={near} and alike={alike}.")
    small = on_grid(images, points)
    sides = zip(small.shape[2:], images.shape[2:], strict=True)
    axes = [(torch.arange(n, device=images.device) - n / 2) * full / n for n, full in sides]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).to(small)
    place = place.expand(len(images), -1, -1)
    f = torch.cat([place / near, small.flatten(2) / alike], 1)
    half = f.square().sum(1, keepdim=True) / 2
    one = torch.ones_like(half)
    exponent = torch.cat([f, half, one], 1).mT @ torch.cat([f, -one, -half], 1)
    affinity = exponent.clamp_(-30, 0).exp_()  # smaller than e^-80 is subnormal: 20 times slower
    affinity.diagonal(dim1=1, dim2=2).zero_()
    return affinity


def cut_and_degree(probs: Tensor, affinity: Tensor) -> tuple[Tensor, Tensor]:
    r"""What each class cuts, :math:`S_k^\top W (1 - S_k)`, and degrees :math:`d = W \mathbf{1}`.

    A cut is quadratic in ``S``: the messages :math:`W S_k` are its value *and* its gradient,
    :math:`d - 2 W S_k`. They are computed once, without a graph.

    Args:
        probs: ``(B, K, P)``.
        affinity: ``W (B, P, P)``, symmetric.

    Returns:
        ``(B, K)`` and ``(B, 1, P)``.
    """
    with torch.no_grad():
        mail = torch.cat([probs, torch.ones_like(probs[:, :1])], 1) @ affinity
        heard, degree = mail[:, :-1], mail[:, -1:]
        kept = (probs * heard).sum(2)
    return (probs * (degree - 2 * heard)).sum(2) + kept, degree


def on_grid(maps: Tensor, points: int) -> Tensor:
    """Means over cells: ``(B, C, *S)`` to at most ``points`` points, as many along each axis."""
    dims = maps.ndim - 2
    side = int(points ** (1 / dims) + 1e-6)
    pool = F.adaptive_avg_pool2d if dims == 2 else F.adaptive_avg_pool3d
    return pool(maps, [min(side, n) for n in maps.shape[2:]])
