"""Test-time augmentation: would the answer be the same had the patient lain otherwise?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lsseg_edu.semi.consistency.transforms import AffineView
from lsseg_edu.semi.uncertainty.sampled import Sampled

POSES = partial(AffineView.draw, rotation=15.0, scale=0.12, shift=0.05)
"""The motions of ``Augment.strong()``: those under which the network was trained."""


class TestTimeAugmentation(Sampled):
    r"""Move the image at random, ask, and move the answer back.

    .. math:: p^{(t)} = T_t^{-1}\big[f_\theta(T_t\, x + e_t)\big], \qquad
              T_t \sim p(T), \quad e_t \sim N(0, s^2)

    The weights are the same in each pass; what varies is the *image*, as it would have varied had
    it been taken again. The authors therefore read the entropy of the mean as aleatoric, the
    doubt that lies in the data. (A perfectly equivariant network would show none of it.)

    Reference: Ayhan, Berens, "Test-time Data Augmentation for Estimation of Heteroscedastic
    Aleatoric Uncertainty in Deep Neural Networks", MIDL 2018; Wang, Li, Aertsen, Deprest,
    Ourselin, Vercauteren, "Aleatoric uncertainty estimation with test-time augmentation for
    medical image segmentation with convolutional neural networks", Neurocomputing 2019.
    Simplified: no mirrors, since organs have sides and the training has none.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``; trained as the baseline is.
        passes: ``T``. Wang et al. take 20.
        noise: ``s`` in image deviations; Wang et al. take 0.05.
        draw: images to a view of :mod:`lsseg_edu.semi.consistency.transforms`; by default the
            rotations, scalings and shifts of the training.
    """

    __test__ = False  # pytest takes a class of this name for a test

    def __init__(
        self, net: nn.Module, passes: int = 16, noise: float = 0.05, draw: Callable = POSES
    ):
        super().__init__(net, passes)
        self.noise, self.draw = noise, draw

    def sample(self, images: Tensor) -> Tensor:
        """One answer, given to a moved and noisy copy and moved back."""
        view = self.draw(images)
        moved = view(images)
        return view.inverse(super().sample(moved + self.noise * torch.randn_like(moved)))
