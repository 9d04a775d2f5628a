"""Dense CRF: every pixel talks to every other, and the like-minded are those that look alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def mean_field(
    probs: Tensor,
    images: Tensor,
    steps: int = 5,
    appearance: float = 2.0,
    smoothness: float = 1.0,
    near: float = 3.0,
    alike: float = 0.5,
    close: float = 1.0,
    radius: int = 7,
    compatibility: Tensor | None = None,
) -> Tensor:
    r"""Mean-field inference in a fully connected conditional random field.

    A labelling ``y`` costs what the network says against it, and something for each pair of
    pixels that look alike, or are close, and have different labels (Potts):

    .. math::
        E(y) = -\sum_i \ln p_{i y_i} + \sum_{i<j} [y_i \ne y_j]\, \kappa_{ij}, \qquad
        \kappa_{ij} = w_1 \hat k^{app}_{ij} + w_2 \hat k^{smooth}_{ij},

        k^{app}_{ij} = \exp\!\Big(-\frac{|r_i - r_j|^2}{2\theta_\alpha^2}
                              -\frac{|x_i - x_j|^2}{2\theta_\beta^2}\Big), \qquad
        k^{smooth}_{ij} = \exp\!\Big(-\frac{|r_i - r_j|^2}{2\theta_\gamma^2}\Big),

    with positions ``r`` and intensities ``x``; the hat stands for the normalisation of
    :func:`affinity`. The labels' distribution is approximated by a product of one
    distribution ``q`` a pixel. Each step sends all messages at once:

    .. math:: q_{il} \propto \exp\Big(\ln p_{il} + \sum_{j \ne i} \kappa_{ij}\, q_{jl}\Big) .

    (The cost of *other* labels is the same as a reward for one's own: they differ by
    :math:`\sum_j \kappa_{ij}`, which no label depends on.) With a **compatibility**
    :math:`\mu(l, l')`, a price for each pair of labels in the place of Potts' 0 and 1, the
    reward becomes :math:`-\sum_{l'} \mu(l, l') \sum_{j \ne i} \kappa_{ij}\, q_{jl'}`.

    Messages come from a window of ``radius`` pixels. With a radius that covers the image this
    is the sum over all pairs; a smaller one leaves out the far pairs.

    Args:
        probs: ``(B, K, *S)`` the network's probabilities.
        images: ``(B, C, *S)``, normalised to deviation 1.
        steps: of the iteration. The paper's converges within 10.
        appearance: :math:`w_1`, in nats: what a unanimous, similar neighbourhood adds.
        smoothness: :math:`w_2`, in nats.
        near: :math:`\theta_\alpha` in pixels; the paper's 60 belongs to photographs.
        alike: :math:`\theta_\beta` in image deviations: tissue against tissue, above the noise.
        close: :math:`\theta_\gamma` in pixels.
        radius: of the window. Cost and memory grow with ``(2 radius + 1)^D``: in volumes take 3.
        compatibility: :math:`\mu (K, K)`, symmetric; None for Potts, ``1 - eye(K)``.

    Returns:
        ``(B, K, *S)``, summing to one over ``K``. With both weights 0 these are ``probs``.

    Raises:
        ValueError: shapes that do not agree; prices that are not a symmetric ``(K, K)`` matrix.

    Reference: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian
    Edge Potentials", NIPS 2011.
    Simplified: direct sums over a window in place of the paper's high-dimensional filtering.
    """
    if probs.shape[0] != images.shape[0] or probs.shape[2:] != images.shape[2:]:
        raise ValueError(
            f"probs (B, K, *S) and images (B, C, *S) must agree in B and *S; "
            f"got {tuple(probs.shape)} and {tuple(images.shape)}."
        )
    if compatibility is not None:
        _check_prices(compatibility, probs.shape[1])
    kernel = affinity(images, appearance, smoothness, near, alike, close, radius)
    evidence = probs.float().clamp(min=1e-6).log()
    q = evidence.softmax(1)
    for _ in range(steps):
        message = torch.zeros_like(q)
        for weight, neighbour in zip(kernel, shifted(q, radius), strict=True):
            message.addcmul_(weight, neighbour)
        if compatibility is not None:
            message = -torch.einsum("lm,bm...->bl...", compatibility.to(q), message)
        q = (evidence + message).softmax(1)
    return q


def _check_prices(compatibility: Tensor, classes: int) -> None:
    shape = tuple(compatibility.shape)
    if shape != (classes, classes) or not torch.equal(compatibility, compatibility.T):
        raise ValueError(
            f"compatibility is a symmetric ({classes}, {classes}) matrix of prices, one for each "
            f"pair of labels; got {shape}."
        )


def affinity(
    images: Tensor,
    appearance: float,
    smoothness: float,
    near: float,
    alike: float,
    close: float,
    radius: int,
) -> Tensor:
    r"""The weights :math:`\kappa_{ij}`, of each pixel ``i`` to each offset ``j - i``.

    Both kernels are normalised as in the paper's code,
    :math:`\hat k_{ij} = k_{ij} / \sqrt{d_i d_j}` with :math:`d_i = \sum_{j \ne i} k_{ij}`. This
    keeps them symmetric, as a pair's energy is, and makes a pixel's weights sum to about 1. A
    pixel that resembles nobody gets little mail and keeps its opinion.

    Args:
        images: ``(B, C, *S)``.
        appearance, smoothness, near, alike, close, radius: those of :func:`mean_field`.

    Returns:
        ``(offsets, B, 1, *S)`` in the order of :func:`shifted`; 0 for offsets that leave the image.
    """
    alike_kernel, close_kernel = [], []
    inside = torch.ones_like(images[:, :1])
    steps = offsets(radius, images.ndim - 2)
    moved = zip(steps, shifted(images, radius), shifted(inside, radius), strict=True)
    for offset, neighbour, exists in moved:
        distance = sum(step**2 for step in offset)
        contrast = (images - neighbour).square().sum(1, keepdim=True)
        exponent = -distance / (2 * near**2) - contrast / (2 * alike**2)
        alike_kernel.append(exists * exponent.exp())
        close_kernel.append(exists * torch.tensor(-distance / (2 * close**2)).exp())
    kernels = (torch.stack(kernel) for kernel in (alike_kernel, close_kernel))
    look, place = (normalised(kernel, radius) for kernel in kernels)
    return appearance * look + smoothness * place


def normalised(kernel: Tensor, radius: int) -> Tensor:
    """Divide ``(offsets, B, 1, *S)`` by the root of the sums at both ends of each pair."""
    root = kernel.sum(0).clamp(min=1e-20).rsqrt()
    return kernel * root * torch.stack(list(shifted(root, radius)))


def offsets(radius: int, dims: int) -> list[tuple[int, ...]]:
    """All steps of at most ``radius`` along each of ``dims`` axes, except to stay."""
    return [o for o in product(range(-radius, radius + 1), repeat=dims) if any(o)]


def shifted(maps: Tensor, radius: int) -> Iterator[Tensor]:
    """For each of :func:`offsets`, the neighbour that far away, at every pixel of ``(B, C, *S)``.

    Beyond the border there are zeros.
    """
    size = maps.shape[2:]
    padded = F.pad(maps, (radius,) * (2 * len(size)))
    for offset in offsets(radius, len(size)):
        window = [slice(radius + o, radius + o + n) for o, n in zip(offset, size, strict=True)]
        yield padded[(..., *window)]
