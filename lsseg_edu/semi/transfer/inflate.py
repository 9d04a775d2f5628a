"""From a 2D network to a 3D one that starts out answering the same."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import Task, load
from lsseg_edu.networks import Shape
from lsseg_edu.semi.transfer.finetune import source_task
from lsseg_edu.semi.transfer.layers import copy_layers, layers
from lsseg_edu.semi.transfer.slices import slices
from lsseg_edu.train import Budget, Fitted, Supervised, fit


class DepthConv(nn.Conv3d):
    """A 3D convolution that repeats the first and the last slice at the ends of the volume.

    Padded with zeros instead, a volume of equal slices would not look the same at its ends.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to ``(B, O, D, H, W)``."""
        around = self.kernel_size[0] // 2
        return super().forward(F.pad(x, (0, 0, 0, 0, around, around), mode="replicate"))


class SliceNorm(nn.InstanceNorm2d):
    """Instance normalisation of every slice by itself, as the 2D network had it."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` to the same."""
        slices = x.movedim(2, 1).flatten(0, 1)
        return super().forward(slices).unflatten(0, (len(x), -1)).movedim(1, 2)


def spread(kernel: Tensor, how: str, depth: int = 3) -> Tensor:
    r"""A 2D kernel ``(O, C, k, k)`` as a 3D one ``(O, C, depth, k, k)``.

    .. math:: W^{copy}_d = \tfrac1D W, \qquad
              W^{centre}_d = W \text{ if } d = (D - 1)/2 \text{ else } 0

    Both sum to ``W`` along depth. The copy averages over neighbouring slices, the centred kernel
    ignores them until training tells otherwise.

    Raises:
        ValueError: another way, or an even depth.
    """
    if how not in ("copy", "centre") or depth % 2 == 0:
        raise ValueError(
            f"A kernel is spread by 'copy' or 'centre' over an odd depth, not {how!r} over {depth}."
        )
    if how == "copy":
        return kernel.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth
    return F.pad(kernel.unsqueeze(2), (0, 0, 0, 0, depth // 2, depth // 2))


def inflate(net: nn.Module, how: str = "copy", depth: int = 3) -> nn.Module:
    """A 3D network made of a 2D one, which stays as it is.

    Convolutions get ``depth`` slices (1x1 ones stay pointwise); pooling, upsampling and
    normalisation work slice by slice, so the number of slices is the same at all levels.

    - ``"copy"``: on a volume of equal slices every activation is the 2D network's.
    - ``"centre"``: on any volume the answer is the 2D network's, slice by slice.
    - ``"random"``: the same architecture, kernels drawn anew: the control.

    Args:
        net: images ``(B, C, H, W)`` to logits; the book's U-Net.
        how: see above.
        depth: slices of a kernel, odd.

    Raises:
        ValueError: a layer whose 3D counterpart is not known.

    References: Carreira, Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017 (copy);
    Mansimov, Srivastava, Salakhutdinov, "Initialization Strategies of Spatio-Temporal
    Convolutional Neural Networks", 2015 (both).
    """
    return _deeper(copy.deepcopy(net), how, depth)


def _deeper(module: nn.Module, how: str, depth: int) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        return _conv(module, how, depth)
    if isinstance(module, nn.ConvTranspose2d):
        return _transposed(module)
    if isinstance(module, nn.MaxPool2d):
        return nn.MaxPool3d((1, module.kernel_size, module.kernel_size))
    if isinstance(module, nn.InstanceNorm2d):
        norm = SliceNorm(module.num_features, module.eps, affine=module.affine)
        norm.load_state_dict(module.state_dict(), assign=True)
        return norm
    if type(module).__name__.endswith("2d"):
        raise ValueError(f"{type(module).__name__} cannot be inflated: use the book's U-Net.")
    for name, child in module.named_children():
        setattr(module, name, _deeper(child, how, depth))
    return module


def _conv(flat: nn.Conv2d, how: str, depth: int) -> DepthConv:
    depth = depth if max(flat.kernel_size) > 1 else 1
    deep = DepthConv(
        *(flat.in_channels, flat.out_channels, (depth, *flat.kernel_size), (1, *flat.stride)),
        padding=(0, *flat.padding),
        bias=flat.bias is not None,
    )
    if how != "random":
        deep.weight.data = spread(flat.weight.data, how, depth).contiguous()
        if flat.bias is not None:
            deep.bias.data = flat.bias.data.clone()
    return deep


def _transposed(flat: nn.ConvTranspose2d) -> nn.ConvTranspose3d:
    sizes = (flat.in_channels, flat.out_channels, (1, *flat.kernel_size), (1, *flat.stride))
    deep = nn.ConvTranspose3d(*sizes, bias=flat.bias is not None)
    deep.weight.data = flat.weight.data.unsqueeze(2).clone()
    if flat.bias is not None:
        deep.bias.data = flat.bias.data.clone()
    return deep


def finetune_inflated(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    how: str = "copy",
    source: str | Task = "cardiac",
    **kwargs,
) -> Fitted:
    """Learn a 2D source, inflate the network, fine-tune it on the volumes.

    Args:
        task: of volumes, with its few labels.
        budget: of each training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        how: see :func:`inflate`.
        source: a phantom or a Task of slices; ``"slices"``, the labelled slices of the task
            itself, so that no other data are used; ``"random"`` for the control, the same 3D
            architecture with random weights.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: a task of slices; a source that is the target's own cohort.

    Simplified: slices of a small batch of volumes are few, so the 2D training takes at least
    eight images a step.
    """
    if task.train.dims != 3:
        raise ValueError("Networks are inflated for volumes: load the cohort with dims=3.")
    budget = budget or Budget.auto()
    flat = networks.unet(Shape(task.train.channels, task.train.classes, 2), seed=seed)
    seconds = 0.0
    if source == "random":
        how = "random"
    else:
        origin = flat_source(source, task)
        learnt = networks.unet(origin, seed=seed)
        wide = replace(budget, batch=max(8, budget.batch))
        seconds = fit(Supervised(learnt), origin, wide, seed, **kwargs).seconds
        copy_layers(layers(learnt.cpu()), layers(flat))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        deep = inflate(flat, how)
    fitted = fit(Supervised(deep), task, budget, seed, **kwargs)
    fitted.seconds += seconds
    return fitted


def flat_source(source: str | Task, task: Task) -> Task:
    """The 2D problem: the task's own slices, a phantom's, or a Task of slices."""
    if isinstance(source, str) and source == "slices":
        return slices(task)
    return source_task(Task.split(load(source)) if isinstance(source, str) else source, task)


def finetune_copied(task: Task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune a 2D network whose kernels are repeated along depth; :func:`finetune_inflated`."""
    return finetune_inflated(task, budget, seed, how="copy", **kwargs)


def finetune_padded(task: Task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """The same with kernels in the middle slice, zeros around; :func:`finetune_inflated`."""
    return finetune_inflated(task, budget, seed, how="centre", **kwargs)
