"""Two images become one: how much of each, and the blend itself."""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from torch import Tensor

from lsseg_edu.augment.smooth import per_image


def beta(images: Tensor, alpha: float, generator: torch.Generator | None = None) -> Tensor:
    r"""One share for each image, ``(B,)``, from :math:`\mathrm{Beta}(\alpha, \alpha)`.

    1 is uniform; below 1 most shares are near 0 or 1, above it near one half. Drawn by inverting
    the distribution function, so that one uniform number a share is all the randomness there is.

    Args:
        images: ``(B, C, *S)``, for their number and device only.
        alpha: :math:`\alpha`, positive.
        generator: on the device of ``images``; by default the global random state.

    Raises:
        ValueError: an ``alpha`` that is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"Beta({alpha}, {alpha}) does not exist: give a positive alpha.")
    draws = torch.rand(len(images), generator=generator, device=images.device)
    share = betaincinv(alpha, alpha, draws.cpu().double().numpy())
    return torch.as_tensor(share, dtype=torch.float32).to(images.device)


def mixup(values: Tensor, share: Tensor) -> Tensor:
    r"""Each item blended with the next one of the batch (the last one: with the first).

    :math:`\lambda_b v_b + (1 - \lambda_b) v_{b+1}`. Call it with the same ``share`` on images and
    on one-hot labels: what is half a heart in one is half a label in the other.

    Args:
        values: ``(B, *, *S)`` float.
        share: :math:`\lambda`, ``(B,)`` in [0, 1].

    Raises:
        ValueError: a batch of one, whose only image would be mixed with itself.

    Reference: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
    ICLR 2018.

    Example:
        >>> images, labels = torch.randn(4, 1, 32, 32), torch.rand(4, 3, 32, 32)
        >>> share = beta(images, 0.4)
        >>> mixup(images, share).shape, mixup(labels, share).shape
        (torch.Size([4, 1, 32, 32]), torch.Size([4, 3, 32, 32]))
    """
    if len(values) < 2:
        raise ValueError("Mixup needs another image: use a batch of at least two.")
    share = per_image(share, values)
    return share * values + (1 - share) * values.roll(-1, 0)
