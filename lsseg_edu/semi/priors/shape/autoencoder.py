"""Networks that know shapes: a mask in, a short code, a mask out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.networks import build
from lsseg_edu.networks.blocks import conv, groups, project
from lsseg_edu.semi.priors.shape.shapes import WARPS, one_hot, shape_task
from lsseg_edu.train import Budget, Fitted, Method, fit

LEVELS = 3


class ShapeAutoencoder(nn.Module):
    r"""Encoder :math:`\Phi` and decoder :math:`\Psi` with a bottleneck that is one vector.

    Three convolutions of stride 2, one that mixes, and a linear map make ``code`` numbers of a
    mask; the way back mirrors it. Since the code is short and belongs to the whole mask, what it
    cannot say cannot be drawn: stray pixels, holes.

    Args:
        classes: ``K``.
        size: ``*S``; each side a multiple of 8.
        code: length of the code.
        width: channels after the first convolution.

    Raises:
        ValueError: a size that cannot be halved three times, or a code that is not shorter
            than the mask it stands for.

    Reference: Oktay et al., "Anatomically Constrained Neural Networks (ACNNs)", IEEE
    Transactions on Medical Imaging 2018. Simplified: one encoder, no predictor from images.
    """

    def __init__(self, classes: int, size, code: int = 32, width: int = 8):
        super().__init__()
        self.classes, self.size, dims = classes, tuple(size), len(size)
        if any(n % 2**LEVELS for n in size):
            raise ValueError(f"Masks of {self.size} cannot be halved three times: pad them.")
        self.small = tuple(n // 2**LEVELS for n in size)
        widths = [classes, *(width * 2**i for i in range(LEVELS))]
        scale = partial(_scale, dims)
        down = [scale("conv", a, b) for a, b in pairwise(widths)]
        up = [scale("convtrans", a, b) for a, b in pairwise([*widths[:0:-1], width])]
        deep = widths[-1]
        self.down = nn.Sequential(*down, conv(dims, deep, deep))
        self.up = nn.Sequential(conv(dims, deep, deep), *up, project(dims, width, classes))
        self.to_code, self.from_code = self.bottleneck(deep, code)
        length = self.encode(torch.zeros(1, classes, *size)).numel()
        if not 1 <= length < prod(size):
            raise ValueError(
                f"A code of {length} numbers is no summary of masks of {prod(size)} pixels: "
                f"choose a smaller code, of at least 1."
            )

    def bottleneck(self, deep: int, code: int) -> tuple[nn.Module, nn.Module]:
        """From features ``(B, deep, *s)`` to the code, and back."""
        flat = deep * prod(self.small)
        to_code = nn.Sequential(nn.Flatten(), nn.Linear(flat, code))
        return to_code, nn.Sequential(nn.Linear(code, flat), nn.Unflatten(1, (deep, *self.small)))

    def encode(self, masks: Tensor) -> Tensor:
        """Masks or probabilities ``(B, K, *S)`` to codes ``(B, code)``.

        Raises:
            ValueError: masks of another size or number of classes than the network was made for.
        """
        if masks.shape[1:] != (self.classes, *self.size):
            raise ValueError(
                f"The shape network knows {self.classes} classes on {self.size}, and gets "
                f"{masks.shape[1]} on {tuple(masks.shape[2:])}: resample, or train one for these."
            )
        return self.to_code(self.down(masks))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes to logits ``(B, K, *S)``."""
        return self.up(F.relu(self.from_code(codes)))

    def forward(self, masks: Tensor) -> Tensor:
        """Masks ``(B, K, *S)`` to logits ``(B, K, *S)``."""
        return self.decode(self.encode(masks))


class ShapeRestorer(ShapeAutoencoder):
    """The same with a code that is a small map: ``code`` numbers at each place of an eighth.

    It keeps where things are and forgets how their rims run, is learnt from fewer masks, and each
    place still sees most of the mask. For restoring this is the better compromise; a vector says
    more about the whole shape in fewer numbers.
    """

    def bottleneck(self, deep: int, code: int) -> tuple[nn.Module, nn.Module]:
        """From features ``(B, deep, *s)`` to a map ``(B, code, *s)``, and back."""
        dims = len(self.size)
        return project(dims, deep, code), project(dims, code, deep)


def _scale(dims: int, kind: str, inputs: int, outputs: int) -> nn.Module:
    """Half or twice the size: kernels of 4 pixels at stride 2 leave no checkerboard."""
    step = Conv[kind, dims](inputs, outputs, kernel_size=4, stride=2, padding=1)
    return nn.Sequential(step, nn.GroupNorm(groups(outputs), outputs), nn.LeakyReLU(0.1))


class ShapeNet(Method):
    r"""Reconstruct masks, or restore what was done to them.

    .. math:: L = L_{sup}\big(\Psi(\Phi(c(y))), y\big)

    with :math:`c` the identity for an autoencoder, a random corruption for a denoising one. The
    images of the batch are not looked at.

    Args:
        net: a :class:`ShapeAutoencoder`.
        corrupt: ``(labels, classes) -> labels``; none by default.
        criterion: logits and labels to a scalar.
    """

    def __init__(self, net: ShapeAutoencoder, corrupt=None, criterion=losses.dice_ce):
        super().__init__(net)
        self.corrupt, self.criterion = corrupt, criterion

    def loss(self, batch) -> dict[str, Tensor]:
        """Term ``reconstruction``."""
        labels = batch.labelled.labels
        seen = self.corrupt(labels, self.net.classes) if self.corrupt else labels
        logits = self.net(one_hot(seen, self.net.classes))
        return {"reconstruction": self.criterion(logits, labels)}

    def predict(self, masks: Tensor) -> Tensor:
        """Masks ``(B, K, *S)`` to probabilities of the same shape."""
        return self.net(masks).float().softmax(1)

    def forward(self, labels: Tensor) -> Tensor:
        """Hard masks ``(B, *S)`` to probabilities, as :class:`~.shapes.Repaired` wants it."""
        return self.predict(one_hot(labels, self.net.classes))


def for_masks(task: Task, seed: int = 0, net=ShapeAutoencoder, **sizes) -> ShapeAutoencoder:
    """A shape network for the masks of a task, weights drawn by ``seed``."""
    size = task.train.labels.shape[1:]

    def make(channels, classes, dims, **sizes):
        return net(classes, size, **sizes)

    return build(make, task, seed, **sizes)


def shape_training(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    code: int = 32,
    corrupt=None,
    criterion=losses.dice_ce,
    method=ShapeNet,
    net=ShapeAutoencoder,
    **kwargs,
) -> Fitted:
    """Train a shape network on the complete masks of a task, strongly warped.

    Masks cost little and are hard to sum up: twice the steps, with batches twice as large.

    Args:
        task: only its training masks are used.
        budget: steps and rate; by default :meth:`Budget.auto`.
        seed: of weights, draws and warps.
        code: length of the code.
        corrupt, criterion: see :class:`ShapeNet`.
        method, net: a subclass of :class:`ShapeNet`, and of :class:`ShapeAutoencoder`.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no complete mask, or a code that does not fit.

    Example:
        >>> import torch
        >>> from lsseg_edu.data import Task, load
        >>> task = Task.split(load("cardiac"), labelled=3)
        >>> fitted = shape_training(task, Budget.named("smoke"), progress=False)
        >>> fitted.predict(one_hot(task.valid.labels[:2], 4)).shape
        torch.Size([2, 4, 64, 64])
    """
    budget = budget or Budget.auto()
    shapes = shape_task(task)
    network = method(for_masks(task, seed, net, code=code), corrupt, criterion)
    larger = replace(budget, steps=2 * budget.steps, batch=2 * budget.batch)
    kwargs = {**kwargs, "augment": WARPS}
    return fit(network, shapes, larger, seed, **kwargs)
