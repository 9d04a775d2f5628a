"""Pre-train on the images alone, then fine-tune on the few masks."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lsseg_edu import networks
from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.networks import UNet
from lsseg_edu.train import Budget, Fitted, Method, Supervised, fit

PARTS = {"encoder": ("conv_0", "down_1", "down_2", "down_3", "down_4")}
PARTS["all"] = (*PARTS["encoder"], "upcat_4", "upcat_3", "upcat_2", "upcat_1")


class Pretext(Method):
    """A task whose answer is known without an annotator; a subclass poses it in :meth:`loss`.

    What is wanted is not the answer but the features of ``net``, the book's U-Net, that make it
    possible. A head of the pretext's own gives the answer and is thrown away.
    :meth:`predict` means nothing before fine-tuning.

    Attributes:
        decodes: whether the pretext trains the decoder too.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
    """

    labelled = False
    unlabelled = True
    weak = Augment.weak()
    decodes = False

    def __init__(self, net: UNet):
        super().__init__(net)
        kernel = next(net.parameters())
        self.channels, self.dims = kernel.shape[1], kernel.ndim - 2

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> Pretext:
        """The pretext on the book's U-Net; ``seed`` draws the head's weights as well."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(networks.unet(task, seed=seed), **options)

    def embed(self, images: Tensor) -> Tensor:
        """Whole images ``(B, C, *S)`` to the bottleneck's summary ``(B, F)``."""
        return pooled(self.net.encode(images)[-1])


def pooled(features: Tensor) -> Tensor:
    """A feature map ``(B, F, *s)`` averaged over its 2 x 2 (x 2) quarters: ``(B, 2^D F)``.

    One mean over the whole map would say next to nothing: instance normalisation has just set
    the mean of every channel. Quarters also keep where things are, which most pretexts ask for.
    """
    pool = F.adaptive_avg_pool2d if features.ndim == 4 else F.adaptive_avg_pool3d
    return pool(features, 2).flatten(1)


def pretrain(
    pretext: type[Pretext], task: Task, budget: Budget | None = None, seed: int = 0, **kwargs
) -> Fitted:
    """Train a pretext on all training images of the task, with every label taken away.

    Args:
        pretext: the class; made by its ``for_task``.
        task: only its training images are used.
        budget: of this training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.
    """
    labels = torch.full_like(task.train.labels, IGNORE)
    images = replace(task, train=replace(task.train, labels=labels, extras={}))
    return fit(pretext.for_task(task, seed), images, budget, seed, **kwargs)


def transfer(source: UNet, target: UNet, part: str = "encoder"):
    """Copy the encoder's weights, or all but the last layer's, from one U-Net to another.

    Raises:
        ValueError: a part that there is not.
    """
    if part not in PARTS:
        raise ValueError(f"There is no part {part!r} to transfer: choose 'encoder' or 'all'.")
    for name in PARTS[part]:
        getattr(target, name).load_state_dict(getattr(source, name).state_dict())


def finetune_from(
    pretext: Pretext | None,
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    part: str | None = None,
    **kwargs,
) -> Fitted:
    """Train the supervised baseline from a pretext's weights; from scratch if there is none.

    Apart from the weights it starts from, the training *is* the baseline's: same schedule, same
    labelled images in the same order, same first weights wherever nothing was transferred.

    Args:
        pretext: a trained one, or None for the control.
        task: the problem, with its few labels.
        budget: of this training; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        part: ``"encoder"`` or ``"all"``; by default all that the pretext has trained.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: ``"all"`` of a pretext that has not trained a decoder.
    """
    method = Supervised.for_task(task, seed)
    if pretext is not None:
        part = part or ("all" if pretext.decodes else "encoder")
        if part == "all" and not pretext.decodes:
            name = type(pretext).__name__
            raise ValueError(f"{name} trains no decoder: transfer its 'encoder' only.")
        transfer(pretext.net, method.net, part)
    return fit(method, task, budget, seed, **kwargs)


def pretrain_finetune(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    pretext: type[Pretext] | None = None,
    part: str | None = None,
    **kwargs,
) -> Fitted:
    r"""Two rounds: a pretext on images alone, then the few masks from the weights it leaves.

    .. math::
        \hat\theta_{enc} = \arg\min_{\theta_{enc}, h} \sum_{x} L_{pretext}(h \circ f_{enc}; x),
        \qquad
        \hat\theta = \arg\min_{\theta} \sum_{(x, y)} L_{sup}(f_\theta(x), y)
        \text{ from } \theta^0_{enc} = \hat\theta_{enc} .

    The control is the same second round from scratch, ``finetune_from(None, task, budget, seed)``,
    which is the supervised baseline; for the time of both rounds it is
    :func:`~lsseg_edu.train.supervised_longer`.

    Args:
        task: the problem, with its few labels.
        budget: of each round; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        pretext: the class; by default :class:`.Inpainting`, which trains encoder and decoder.
        part: ``"encoder"`` or ``"all"``; by default all that the pretext trains.
        **kwargs: ``progress``, ``device`` and ``augment``, passed on to
            :func:`~lsseg_edu.train.fit`.

    Returns:
        The fine-tuned network, with the history and the seconds of both rounds.

    References: Doersch, Gupta, Efros, "Unsupervised Visual Representation Learning by Context
    Prediction", ICCV 2015; Noroozi, Favaro, "Unsupervised Learning of Visual Representations by
    Solving Jigsaw Puzzles", ECCV 2016.
    Simplified: one learning rate for all layers; nothing is frozen.
    """
    if pretext is None:
        from lsseg_edu.semi.self_supervision.inpainting import Inpainting

        pretext = Inpainting
    first = pretrain(pretext, task, budget, seed, **kwargs)
    second = finetune_from(first.method, task, budget, seed, part, **kwargs)
    history = {**first.history, **second.history}
    stopped = first.interrupted or second.interrupted
    return Fitted(second.method, history, first.seconds + second.seconds, stopped)
