"""SRSCN: answer and reconstruction must agree, and the network must know its slice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.networks import UNet
from lsseg_edu.semi.priors.shape.autoencoder import ShapeAutoencoder, ShapeRestorer
from lsseg_edu.semi.priors.shape.constrained import ShapeConstrained, constrained_training
from lsseg_edu.semi.priors.shape.corruption import corrupt
from lsseg_edu.semi.self_supervision.finetune import pooled
from lsseg_edu.train import Budget, Fitted


class SRSCN(ShapeConstrained):
    r"""What a shape network would have to change in the answer is a loss.

    .. math:: L = L_{sup}(p, y) + \lambda \lVert p - \Pi(p) \rVert^2
        + \mu\, (g(x) - z)^2, \qquad p = f_\theta(x)

    :math:`\Pi` restores shapes and is frozen. No truth stands in the second term: it asks only
    that the answer be *a* shape. The third, the spatial constraint, asks the bottleneck of the
    U-Net for the position :math:`z` of the slice between base (0) and apex (1): which shapes are
    possible depends on it. The scanner knows it, and at prediction nobody asks.

    Reference: Yue, Luo, Ye, Xu, Zhuang, "Cardiac Segmentation from LGE MRI Using Deep Neural
    Network Incorporating Shape and Spatial Priors", MICCAI 2019.
    Simplified: squared differences; a linear regression of the pooled bottleneck.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        shape: an autoencoder trained on spoilt masks.
        weight: :math:`\lambda`.
        spatial: :math:`\mu`; 0 leaves the position out.

    Raises:
        ValueError: ``spatial`` on a batch whose cohort has no ``extras["position"]``.
    """

    def __init__(self, net: UNet, shape: ShapeAutoencoder, weight=1.0, spatial: float = 1.0):
        super().__init__(net, shape, weight)
        self.spatial, dims = spatial, len(shape.size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.position = nn.Linear(2**dims * net.widths[-1], 1)

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, ``shape`` and ``spatial``, the last two already weighted."""
        seen = batch.labelled
        features = self.net.encode(seen.images)
        logits = self.net.final_conv(self.net.decode(features))
        terms = {
            "supervised": losses.dice_ce(logits, seen.labels),
            "shape": self.weight * self.constraint(*self.compared(logits, seen.labels)),
        }
        if self.spatial:
            terms["spatial"] = self.spatial * self.misplaced(features[-1], seen.extras)
        return terms

    def constraint(self, probs: Tensor, truth: Tensor) -> Tensor:
        """Squared difference of the answer and its reconstruction, a mean over pixels."""
        return (probs - self.shape(probs).softmax(1)).square().sum(1).mean()

    def misplaced(self, bottleneck: Tensor, extras: dict) -> Tensor:
        """Mean squared error of the position that the bottleneck gives away."""
        if "position" not in extras:
            raise ValueError(
                "The spatial constraint needs extras['position'], the place of each slice in its "
                "stack, and this cohort has none: set spatial=0."
            )
        guess = self.position(pooled(bottleneck))[:, 0].float()
        return F.mse_loss(guess, extras["position"].to(guess))


def srscn_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    weight: float = 1.0,
    spatial: float = 1.0,
    code: int = 4,
    **kwargs,
) -> Fitted:
    """Train the shape network on spoilt masks, then :class:`SRSCN`.

    Args:
        task: the problem, with its few labels, and ``extras["position"]``.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        weight: of the distance to the reconstruction.
        spatial: of the slice's position.
        code: numbers at each place of the code, see :class:`.ShapeRestorer`.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no complete mask, a code that does not fit, no positions.
    """
    shape, options = (
        {"code": code, "corrupt": corrupt, "net": ShapeRestorer},
        {"weight": weight, "spatial": spatial},
    )
    return constrained_training(SRSCN, task, budget, seed, shape, options, **kwargs)
