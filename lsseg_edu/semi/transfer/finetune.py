"""Pre-train on another task, then fine-tune on the few masks, or read off frozen features."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from lsseg_edu import networks
from lsseg_edu.data import Task, load
from lsseg_edu.semi.transfer.efficient import efficient_unet
from lsseg_edu.semi.transfer.layers import Tuned, copy_layers, layers
from lsseg_edu.train import Budget, Fitted, Supervised, fit

NETWORKS = {"unet": networks.unet, "efficient": efficient_unet}
"""The book's U-Net, and a U-Net around EfficientNet-Lite0, for which ImageNet weights exist."""


class Source(NamedTuple):
    """Where weights come from.

    Attributes:
        net: a network that :func:`.layers` knows.
        layers: how many of its layers, from the image, have been trained.
        seconds: what training it took here.
    """

    net: nn.Module
    layers: int
    seconds: float = 0.0


def source_task(source: str | Task, target: Task) -> Task:
    """The source problem: a phantom with all its masks, of the target's size and dimensions.

    Raises:
        ValueError: the source is the target's own cohort, whose masks were taken away.
    """
    if not isinstance(source, Task):
        size, dims = target.train.images.shape[-1], target.train.dims
        source = Task.split(load(source, size=size, dims=dims))
    if source.train.name == target.train.name:
        raise ValueError(
            f"The source {source.train.name!r} is the target's own cohort and would bring the "
            f"masks that the task has taken away: choose another source."
        )
    return source


def learn_source(
    source, task: Task, network: str = "unet", budget=None, seed: int = 0, **kwargs
) -> Source | None:
    """Weights to start from.

    Args:
        source: ``"random"`` for none; ``"imagenet"``; the name of a phantom or a Task, on whose
            masks the network is trained first; or a :class:`Source` that is there already.
        task: the target.
        network: a key of :data:`NETWORKS`.
        budget: of the source's training; by default :meth:`Budget.auto`.
        seed: of its weights and draws.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no such network; ImageNet weights for another one; see :func:`source_task`.
    """
    if network not in NETWORKS:
        raise ValueError(f"There is no network {network!r}: choose one of {', '.join(NETWORKS)}.")
    if isinstance(source, Source):
        return source
    if isinstance(source, str) and source == "random":
        return None
    if isinstance(source, str) and source == "imagenet":
        if network != "efficient":
            raise ValueError("ImageNet weights exist for the network 'efficient' only.")
        net = efficient_unet(task, imagenet=True, seed=seed)
        return Source(net, len(net.encoder))
    origin = source_task(source, task)
    net = NETWORKS[network](origin, seed=seed)
    seconds = fit(Supervised(net), origin, budget, seed, **kwargs).seconds
    return Source(net, len(layers(net)), seconds)


def start_from(source: Source | None, task: Task, network: str, seed: int, count=None) -> nn.Module:
    """A fresh network for the task whose first ``count`` layers are the source's.

    Without a source it is the control: the same network with the random weights of ``seed``.

    Raises:
        ValueError: more layers than the source has learnt.
    """
    net = NETWORKS[network](task, seed=seed)
    if source is not None:
        count = source.layers if count is None else count
        if not 0 <= count <= source.layers:
            raise ValueError(
                f"{count} layers cannot be transferred: the source has learnt {source.layers}."
            )
        copy_layers(layers(source.net.cpu())[:count], layers(net)[:count])
    return net


def finetune_layers(
    source: Source | None,
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    network: str = "unet",
    copied: int | None = None,
    frozen: int = 0,
    rate: float = 1.0,
    **kwargs,
) -> Fitted:
    """Copy the first layers of a source, hold some of them still, train the others.

    Args:
        source: from :func:`learn_source`; None for random weights.
        task: the target, with its few labels.
        budget: of this training; by default :meth:`Budget.auto`.
        seed: of weights and draws; those of the control are the same.
        network: a key of :data:`NETWORKS`, the source's.
        copied: layers to copy; by default all that the source has learnt.
        frozen: layers to hold still.
        rate: learning rate as a multiple of the budget's; the control must have the same.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.
    """
    net = start_from(source, task, network, seed, copied)
    return fit(Tuned(net, frozen, rate), task, budget, seed, **kwargs)


def transfer_learning(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | Source = "imagenet",
    network: str = "efficient",
    frozen: bool = False,
    rate: float = 1.0,
    **kwargs,
) -> Fitted:
    r"""Start from a source task's weights; fine-tune all, or read off frozen features.

    .. math::
        \theta^S = \arg\min_\theta L(f_\theta; \text{source}), \qquad
        \hat\theta = \arg\min_{\theta} L_{sup}(f_\theta(x), y) \text{ from }
        \theta^0_{\le n} = \theta^S_{\le n}, \ \theta^0_{>n} \text{ random}

    Frozen, :math:`\theta_{\le n}` stays what it was: the source is a feature extractor. The head
    is always new, and the first kernel is remapped to the target's channels
    (:func:`.remap_channels`). The control is ``source="random"``: same network, steps and draws.

    Args:
        task: the problem, with its few labels.
        budget: of each training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        source: ``"imagenet"``, ``"random"``, a phantom, a Task; see :func:`learn_source`.
        network: ``"efficient"`` or ``"unet"``; ImageNet weights exist for the first.
        frozen: hold the transferred layers still.
        rate: of the fine-tuning, as a multiple of the budget's. Large steps forget the source;
            whoever lowers it lowers the control's too.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    References: Deng et al., "ImageNet: A Large-Scale Hierarchical Image Database", CVPR 2009;
    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010; Donahue et
    al., "DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition", ICML 2014.
    Simplified: one learning rate for all layers.
    """
    given = learn_source(source, task, network, budget, seed, **kwargs)
    still = given.layers if frozen and given else 0
    fitted = finetune_layers(given, task, budget, seed, network, frozen=still, rate=rate, **kwargs)
    fitted.seconds += given.seconds if given else 0
    return fitted
