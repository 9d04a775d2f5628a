"""UGIR: several answers in one pass say which slices a user should look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lsseg_edu import losses
from lsseg_edu.networks import UNet
from lsseg_edu.networks.build import build
from lsseg_edu.partial.interactive.answering import Interactive
from lsseg_edu.partial.interactive.contour import level_set
from lsseg_edu.partial.interactive.maps import geodesic, imposed, marked
from lsseg_edu.semi.uncertainty.measures import variance


class GroupedUNet(UNet):
    """``groups`` U-Nets side by side in one: every convolution is grouped, no group sees another.

    Each has its own weights and its own answer, at the cost of one wider network and in one pass.

    Args:
        channels: ``C``.
        classes: ``K``.
        dims: 2 or 3.
        width: channels of each group at full resolution.
        groups: ``G``.
    """

    def __init__(self, channels: int, classes: int, dims: int, width: int = 8, groups: int = 4):
        super().__init__(groups * channels, groups * classes, dims, groups * width)
        self.groups = groups
        for parent in list(self.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, _ConvNd):
                    setattr(parent, name, self.grouped(layer))
        for up in (self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1):
            up.convs = nn.Sequential(Interleave(groups), up.convs)

    def grouped(self, layer: _ConvNd) -> _ConvNd:
        """The same convolution within groups of channels."""
        sizes = {"kernel_size": layer.kernel_size, "stride": layer.stride}
        sizes |= {"padding": layer.padding, "groups": self.groups}
        return type(layer)(
            layer.in_channels, layer.out_channels, bias=layer.bias is not None, **sizes
        )

    def answers(self, images: Tensor) -> Tensor:
        """Logits ``(G, B, K, *S)``, one answer a group."""
        copies = images.repeat(1, self.groups, *[1] * (images.ndim - 2))
        return super().forward(copies).unflatten(1, (self.groups, -1)).movedim(1, 0)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to the logarithm of the mean answer, ``(B, K, *S)``."""
        return self.answers(images).float().softmax(2).mean(0).clamp(min=1e-8).log()


class Interleave(nn.Module):
    """Channels ``[skips of all groups, the rest of all groups]`` sorted by group."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 2 G W, *S)``, in the order (2, G, W), to the order (G, 2, W)."""
        return x.unflatten(1, (2, self.groups, -1)).transpose(1, 2).flatten(1, 3)


def grouped_unet(problem, width: int = 8, groups: int = 4, seed: int = 0) -> GroupedUNet:
    """A :class:`GroupedUNet` for a task or cohort, weights drawn by ``seed``."""
    return build(GroupedUNet, problem, seed, width=width, groups=groups)


class UGIR(Interactive):
    r"""Ask the groups where they disagree; send the user there; move a level set by his clicks.

    .. math::
        u = \frac{1}{|\Omega|} \sum_i \frac1K \sum_k \mathrm{Var}_g\big[p^{(g)}_k(i)\big], \qquad
        q = (1 - \alpha)\, \bar p + \alpha\, e_c, \qquad \alpha = e^{-D}

    Slices are ranked by :math:`u` (see :func:`.with_user`). A click of class c holds nearby, and
    across no edge: :math:`D` is the geodesic distance to the nearest click. The contour of each
    class then follows :math:`q` by :func:`.level_set`.

    Reference: Wang G., Aertsen, Deprest, Ourselin, Vercauteren, Zhang S., "Uncertainty-Guided
    Efficient Interactive Refinement of Fetal Brain Segmentation from Stacks of MRI Slices", MICCAI
    2020.
    Simplified: four groups of the book's U-Net; several classes, a level set each; clicks only.

    Args:
        net: a :class:`GroupedUNet`.
        focus: the user looks at one image in so many, for as many more clicks. 1: at all.
        pixels: see :func:`.geodesic`: how far a click reaches where nothing changes.
        length: see :func:`.level_set`.
    """

    def __init__(self, net: GroupedUNet, focus: int = 2, pixels: float = 4.0, length: float = 0.5):
        super().__init__(net)
        self.focus, self.pixels, self.length = focus, pixels, length

    @classmethod
    def for_task(cls, task, seed: int = 0, groups: int = 4, **options):
        """On a grouped U-Net, each group as wide as the baseline."""
        return cls(grouped_unet(task, groups=groups, seed=seed), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """``{"supervised": Dice + cross-entropy}``, every group by itself."""
        answers = self.net.answers(batch.labelled.images)
        labels = batch.labelled.labels.repeat(len(answers), *[1] * (answers.ndim - 3))
        return {"supervised": losses.dice_ce(answers.flatten(0, 1), labels)}

    @torch.no_grad()
    def doubt(self, images: Tensor) -> Tensor:
        """How much the groups disagree about each image, ``(B,)``."""
        return variance(self.net.answers(images).softmax(2)).flatten(1).mean(1)

    def react(self, images: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
        """The network's answer, moved by all clicks; the previous one is not needed."""
        told = self.told(images, clicks, self.predict(images))
        _, *objects = told.unbind(1)
        inside = torch.stack([level_set(q, images, length=self.length) for q in objects], 1)
        inside = inside.sigmoid()
        probs = torch.cat([(1 - inside).prod(1, keepdim=True), inside], 1)
        return imposed(probs / probs.sum(1, keepdim=True), marked(clicks, images.shape[2:]))

    def told(self, images: Tensor, clicks: Tensor, probs: Tensor) -> Tensor:
        """Probabilities ``(B, K, *S)`` that believe the nearest click, the closer the more."""
        seeds = marked(clicks, images.shape[2:])
        ways = [geodesic(images, seeds == k, self.pixels) for k in range(probs.shape[1])]
        way, nearest = torch.stack(ways).min(0)
        believed = torch.exp(-way).unsqueeze(1)
        said = torch.zeros_like(probs).scatter(1, nearest.unsqueeze(1), 1.0)
        return (1 - believed) * probs + believed * said
