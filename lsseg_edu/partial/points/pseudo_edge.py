"""PseudoEdgeNet: a shallow network draws edges, and the segmentation must have the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.losses import cross_entropy
from lsseg_edu.networks.build import Shape, build
from lsseg_edu.partial.points.clicked import clicked, taught
from lsseg_edu.partial.points.voronoi import voronoi_labels
from lsseg_edu.train import Budget, Fitted, Method, fit


class PseudoEdgeNet(Method):
    r"""Clicks say where nuclei are, and an edge network says where they end.

    .. math:: L = L_{point} + \lambda\, \frac{1}{|\Omega|}
              \big\lVert \mathcal{S}(p) - g(x) \odot h(x) \big\rVert_1

    :math:`\mathcal{S}(p)` is the :func:`sobel` gradient of the probability of *any* object. The
    edge network ``g`` has four layers of 3 x 3 only: it sees edges, and cannot tell whose. The
    **attention** ``h`` in (0, 1) is deep, and says which edges are a nucleus's. Nobody drew an
    edge: ``g`` is taught by the segmentation, and teaches it in turn, since an edge that ``g``
    can draw everywhere by one rule is cheaper than one that ignores the image.

    Reference: Yoo, Yoo, Paeng, "PseudoEdgeNet: Nuclei Segmentation only with Point Annotations",
    MICCAI 2019.
    Simplified: U-Nets in place of feature pyramid networks; several classes.

    Args:
        net: the segmentation, images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        edges: ``g``, images to ``(B, dims, *S)``.
        attention: images to ``(B, 1, *S)``, the logit of ``h``.
        weight: :math:`\lambda`; 1 in the paper, 0 is the control.
    """

    def __init__(self, net: nn.Module, edges: nn.Module, attention: nn.Module, weight=1.0):
        super().__init__(net)
        self.edges, self.attention, self.weight = edges, attention, weight

    @classmethod
    def for_task(cls, task: Task, seed: int = 0, **options) -> PseudoEdgeNet:
        """On the book's U-Net, with a smaller one for the attention."""
        from lsseg_edu import networks

        shape = Shape(task.train.channels, 1, task.train.dims)
        attention = networks.unet(shape, width=4, seed=seed + 1)
        edges = build(EdgeNet, Shape(shape.channels, shape.dims, shape.dims), seed)
        return cls(networks.unet(task, seed=seed), edges, attention, **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``point`` on the labelled pixels, ``edge`` (already weighted) on all."""
        part = batch.labelled
        logits = self.net(part.images).float()
        objects = 1 - logits.softmax(1)[:, :1]
        edges = self.edges(part.images) * self.attention(part.images).sigmoid()
        edge = (sobel(objects) - edges.float()).abs().mean()
        return {"point": cross_entropy(logits, part.labels), "edge": self.weight * edge}


class EdgeNet(nn.Sequential):
    """Four convolutions of 3 x 3: a field of view of nine pixels."""

    def __init__(self, channels: int, classes: int, dims: int, width: int = 8):
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        widths = [channels, width, width, width]
        layers = []
        for a, b in zip(widths, widths[1:], strict=False):
            layers += [conv(a, b, 3, padding=1), nn.ReLU()]
        super().__init__(*layers, conv(width, classes, 3, padding=1))


def sobel(maps: Tensor) -> Tensor:
    """Sobel's derivative along each axis: ``(B, 1, *S)`` to ``(B, dims, *S)``.

    A step from 0 to 1 gives 0.5 on both its sides. The border is repeated beyond the image.
    """
    dims = maps.ndim - 2
    conv = F.conv2d if dims == 2 else F.conv3d
    smooth = maps.new_tensor([0.25, 0.5, 0.25])
    slope = maps.new_tensor([-0.5, 0.0, 0.5])
    padded = F.pad(maps, (1,) * (2 * dims), mode="replicate")
    kernels = []
    for axis in range(dims):
        kernel = maps.new_ones(())
        for other in range(dims):
            kernel = kernel[..., None] * (slope if other == axis else smooth)
        kernels.append(kernel)
    return conv(padded, torch.stack(kernels).unsqueeze(1))


def pseudo_edge_net(
    task: Task, budget: Budget | None = None, seed: int = 0, weight: float = 1.0, **kwargs
) -> Fitted:
    """Train :class:`PseudoEdgeNet` on clicks and the borders of their Voronoi cells.

    Args:
        task: made by ``annotate.points``; clicks on the background are used as well.
        budget, seed, kwargs: as for :func:`~lsseg_edu.train.fit`.
        weight: of the edges.

    Raises:
        ValueError: those of :func:`.clicked`.
    """
    labels = voronoi_labels(clicked(task), task.train.labels.shape[1:])
    method = PseudoEdgeNet.for_task(task, seed, weight=weight)
    return fit(method, taught(task, labels), budget, seed, **kwargs)
