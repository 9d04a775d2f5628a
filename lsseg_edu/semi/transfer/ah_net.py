"""AH-Net: a 2D network of neighbouring slices becomes an anisotropic 3D network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import Task
from lsseg_edu.networks import UNet
from lsseg_edu.semi.transfer.inflate import DepthConv, SliceNorm, inflate
from lsseg_edu.semi.transfer.slices import slices
from lsseg_edu.train import Budget, Fitted, Supervised, fit

DECODER = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")


class Propagation(nn.Module):
    r"""A block of flat kernels, and a 1x1xk convolution that carries its features across slices.

    .. math:: y = b(x), \qquad z = y + W_{1 \times 1 \times k} * \mathrm{ReLU}(\mathrm{norm}(y))

    :math:`W` starts at zero: the first answer is that of the 2D network.

    Args:
        block: what made the features, with any number of inputs.
        channels: of its output.
        reach: ``k``, slices.
    """

    def __init__(self, block: nn.Module, channels: int, reach: int = 3):
        super().__init__()
        self.block = block
        across = DepthConv(channels, channels, (reach, 1, 1))
        nn.init.zeros_(across.weight)
        nn.init.zeros_(across.bias)
        self.across = nn.Sequential(SliceNorm(channels, affine=True), nn.ReLU(), across)

    def forward(self, *inputs: Tensor) -> Tensor:
        """What ``block`` makes of the inputs, ``(B, C, D, H, W)``, and what its neighbours add."""
        y = self.block(*inputs)
        return y + self.across(y)


def ah_net(flat: UNet, reach: int = 3) -> nn.Module:
    r"""The 3D network of a 2D one that sees ``m`` neighbouring slices as channels.

    - The first kernel ``(O, m, k, k)`` becomes ``(O, 1, m, k, k)``: channels turn into depth.
    - All other kernels become flat, k x k x 1.
    - After every level of the decoder a :class:`Propagation` is added, k slices across.

    With these at zero the answer of slice z is the 2D network's for the slices around z.

    Args:
        flat: a U-Net of an odd number of channels.
        reach: slices of a propagation kernel.

    Raises:
        ValueError: an even number of channels.

    Reference: Liu et al., "3D Anisotropic Hybrid Network: Transferring Convolutional Features
    from 2D Images to 3D Anisotropic Volumes", MICCAI 2018.
    Simplified: a U-Net in place of the ResNet with global convolutions; the propagation is added
    to its input, where the paper's blocks are densely connected; no pyramid pooling.
    """
    first = flat.conv_0.conv_0.conv
    if first.in_channels % 2 == 0:
        raise ValueError(
            f"The middle slice must be among the channels: use an odd number, "
            f"not {first.in_channels}."
        )
    net = inflate(flat, "copy", depth=1)
    net.conv_0.conv_0.conv = _across_channels(first)
    for name, channels in zip(DECODER, net.widths[3::-1], strict=True):
        setattr(net, name, Propagation(getattr(net, name), channels, reach))
    return net.to(first.weight.dtype)


def _across_channels(flat: nn.Conv2d) -> DepthConv:
    sizes = (1, flat.out_channels, (flat.in_channels, *flat.kernel_size))
    deep = DepthConv(*sizes, padding=(0, *flat.padding))
    deep.weight.data = flat.weight.data.unsqueeze(1).clone()
    deep.bias.data = flat.bias.data.clone()
    return deep


def finetune_ah_net(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    transferred: bool = True,
    neighbours: int = 1,
    **kwargs,
) -> Fitted:
    """Train a 2D network on the labelled slices, turn it into an :func:`ah_net`, fine-tune.

    No data but the task's own are used: what is transferred is the training in 2D, where the
    same masks make many more examples.

    Args:
        task: of grey volumes, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`. The 2D one takes at
            least eight slices a step.
        seed: of weights and draws.
        transferred: False for the control, the same 3D network without the training in 2D.
        neighbours: slices on each side that the 2D network sees (paper: 1).
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: slices, or volumes of several channels.
    """
    if task.train.channels != 1:
        raise ValueError("AH-Net turns the channels into depth: it needs volumes of one channel.")
    budget, stacks = budget or Budget.auto(), slices(task, neighbours)
    flat, seconds = Supervised(networks.unet(stacks, seed=seed)), 0.0
    if transferred:
        wide = replace(budget, batch=max(8, budget.batch))
        seconds = fit(flat, stacks, wide, seed, **kwargs).seconds
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        deep = ah_net(flat.net.cpu())
    fitted = fit(Supervised(deep), task, budget, seed, **kwargs)
    fitted.seconds += seconds
    return fitted
