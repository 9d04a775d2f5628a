"""Transfusion: is it the features that help, or only the scale of the weights?"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lsseg_edu.data import Task
from lsseg_edu.semi.transfer.finetune import (
    Source,
    finetune_layers,
    learn_source,
    start_from,
)
from lsseg_edu.semi.transfer.layers import Tuned, layers
from lsseg_edu.train import Budget, Fitted, Supervised, fit

INITS = ("random", "transfer", "mean-var", "small")


@torch.no_grad()
def redraw(parts: list[nn.Module], generator: torch.Generator) -> None:
    r"""Replace every weight tensor by independent normal numbers of its mean and deviation.

    .. math:: w_i \sim \mathcal N\big(\bar w,\ \tfrac1n \textstyle\sum_j (w_j - \bar w)^2\big)

    What a tensor has learnt is gone; how large its numbers are stays. Buffers (the running
    statistics of features that no longer exist) start afresh.

    Args:
        parts: the layers to redraw, in place.
        generator: on the CPU.
    """
    for module in (module for part in parts for module in part.modules()):
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
        for weight in module.parameters(recurse=False):
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(weight.mean() + weight.std(correction=0) * noise)


def transfusion(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    init: str = "mean-var",
    source: str | Task | Source = "imagenet",
    network: str = "efficient",
    layers: int | None = None,
    **kwargs,
) -> Fitted:
    """One of the arms that Raghu et al. compared, all with the same steps and draws.

    ============ ===================================================================
    ``random``   the network with random weights
    ``transfer`` its first ``layers`` from the source (fewer than all: a transfusion)
    ``mean-var`` the same layers, redrawn: the source's scale without its features
    ``small``    the book's small U-Net, from random weights
    ============ ===================================================================

    If ``mean-var`` does as well as ``transfer``, the features were not what helped. If ``small``
    does, the network was too large. Which arm *converges* first is a second question: see
    :func:`steps_to`.

    Args:
        task: the problem, with its few labels.
        budget: of each training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        init: an arm of the table.
        source: see :func:`.learn_source`.
        network: ``"efficient"`` or ``"unet"``.
        layers: how many; by default all that the source has learnt.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: an arm that there is not, or one that needs a source without it.

    Reference: Raghu, Zhang, Kleinberg, Bengio, "Transfusion: Understanding Transfer Learning for
    Medical Imaging", NeurIPS 2019. Simplified: the normalisation's weights are redrawn like all
    others; segmentation in place of classification.
    """
    if init not in INITS:
        raise ValueError(f"There is no arm {init!r}: choose one of {', '.join(INITS)}.")
    if init == "small":
        return fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs)
    if init == "random":
        return finetune_layers(None, task, budget, seed, network, **kwargs)
    given = learn_source(source, task, network, budget, seed, **kwargs)
    if given is None:
        raise ValueError(f"The arm {init!r} needs a source: 'imagenet', a phantom or a Task.")
    net = start_from(given, task, network, seed, layers)
    if init == "mean-var":
        count = given.layers if layers is None else layers
        redraw(_first(net, count), torch.Generator().manual_seed(seed))
    fitted = fit(Tuned(net), task, budget, seed, **kwargs)
    fitted.seconds += given.seconds
    return fitted


def steps_to(losses: list[float], level: float, window: int = 20) -> int | None:
    """The first step at which the mean of the last ``window`` losses is at most ``level``.

    Returns:
        Steps, counted from 1; None if the level is never reached.

    Example:
        >>> steps_to([4.0, 3.0, 2.0, 1.0, 0.0], level=1.5, window=2)
        4
    """
    window = min(window, len(losses))
    means = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    below = np.flatnonzero(means <= level)
    return int(below[0]) + window if len(below) else None


def _first(net: nn.Module, count: int) -> list[nn.Module]:
    return layers(net)[:count]
