"""A recurrent segmenter against a critic: what is above tells what comes below."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.networks.blocks import conv, project, resize
from lsseg_edu.networks.build import build
from lsseg_edu.semi.adversarial.segmentation_gan import SegmentationGAN


class Sweep(nn.Module):
    r"""A local LSTM: it reads a feature map row by row, down and up, and remembers.

    Every column is a sequence whose steps are its rows. The memory :math:`c_r` of row ``r`` is
    what is kept of the row before and what is taken in:

    .. math:: c_r = \mathrm{forget}_r \odot c_{r-1} + \mathrm{write}_r \odot u_r, \qquad
              h_r = \mathrm{read}_r \odot \tanh c_r ,

    the gates being functions of the features :math:`x_r` and of :math:`h_{r-1}`. A convolution
    reaches a fixed number of pixels; a memory reaches as far as its gates let it.

    Args:
        channels: of the features; half of them are written on the way down, half on the way up.

    Raises:
        ValueError: an odd number of channels.

    Reference: Hochreiter, Schmidhuber, "Long Short-Term Memory", Neural Computation 1997.
    """

    def __init__(self, channels: int):
        super().__init__()
        if channels % 2:
            raise ValueError(
                f"Two directions share the channels: take an even number, not {channels}."
            )
        self.lstm = nn.LSTM(channels, channels // 2, bidirectional=True)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, C, *S)``, swept along the first axis of ``*S``, to the same shape."""
        rows = features.movedim(2, 0).movedim(2, -1)
        swept, _ = self.lstm(rows.flatten(1, -2))
        return swept.view(rows.shape).movedim(-1, 2).movedim(0, 2)


class SpineNet(nn.Module):
    """An atrous autoencoder with a local LSTM between its halves.

    It strides once only: discs and nerve roots are lost in a coarse map. Dilated ("atrous")
    convolutions see far instead, and the sweep sees the whole column.

    Args:
        channels: of the images.
        classes: of the logits.
        dims: 2 or 3.
        width: channels at full resolution, twice as many at half.
        dilations: of the convolutions before the sweep.
    """

    def __init__(self, channels, classes, dims, width: int = 16, dilations=(1, 2, 4, 8)):
        super().__init__()
        self.encode = nn.Sequential(
            conv(dims, channels, width),
            conv(dims, width, 2 * width, stride=2),
            *(conv(dims, 2 * width, 2 * width, dilation=rate) for rate in dilations),
        )
        self.sweep = Sweep(2 * width)
        self.decode = nn.Sequential(conv(dims, 2 * width, width), project(dims, width, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, *S)`` to logits ``(B, K, *S)``."""
        features = self.encode(images)
        return resize(self.decode(features + self.sweep(features)), images.shape[2:])


def spine_net(problem, seed: int = 0, **sizes) -> SpineNet:
    """A :class:`SpineNet` for a task or cohort, weights drawn by ``seed``."""
    return build(SpineNet, problem, seed, **sizes)


class SpineGAN(SegmentationGAN):
    r"""A recurrent segmenter learns the masks, and to draw masks that a critic believes.

    .. math::
        L_f = L_{sup}(f(x), y) + \lambda\, \ell\big(d(f(x)), 1\big), \qquad
        L_d = \ell\big(d(\tilde y), 1\big) + \ell\big(d(f(x)), 0\big).

    The critic judges the mask alone, without its image: which arrangements of organs exist.
    A spine is a chain whose links repeat; that is why the segmenter carries a memory along it.

    Reference: Han, Wei, Mercado, Leung, Li, "Spine-GAN: Semantic segmentation of multiple spinal
    structures", Medical Image Analysis 2018.
    Simplified: in small: four dilated convolutions, one LSTM sweep down and up the rows of the
    map at half resolution; softened masks for the critic as in :class:`.SegmentationGAN`.

    Args:
        net: the segmenter; ``for_task`` makes a :class:`SpineNet`.
        critic: sees ``K`` channels; its verdict is on the whole mask.
        **options: those of :class:`.SegmentationGAN`. ``weight=0`` leaves the recurrent network
            alone, which is not the book's U-Net.
    """

    sees = "masks"

    @staticmethod
    def segmenter(task, seed: int) -> nn.Module:
        """The recurrent network instead of the U-Net."""
        return spine_net(task, seed=seed)

    def judge(self, masks: Tensor, images: Tensor) -> Tensor:
        """One logit ``(B,)`` for each mask ``(B, K, *S)``; the images are not looked at."""
        return self.critic.whole(masks)
