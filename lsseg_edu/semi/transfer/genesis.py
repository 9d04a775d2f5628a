"""Models Genesis: mend spoilt images, then segment with the encoder and decoder that can."""

from __future__ import annotations

from torch import Tensor, nn

from lsseg_edu.data import Task
from lsseg_edu.semi.self_supervision.finetune import Pretext, finetune_from, pretrain
from lsseg_edu.semi.transfer.corruptions import corrupt
from lsseg_edu.semi.transfer.finetune import source_task
from lsseg_edu.train import Budget, Fitted


class Genesis(Pretext):
    r"""Restore the image from what is left of it, whole network, mean squared error.

    .. math:: L = \frac{1}{|\Omega|} \big\| f(T(x)) - x \big\|^2, \qquad
        T = T_{paint} \circ T_{intensity} \circ T_{shuffle}

    Intensity teaches appearance, shuffling texture and borders, in- and out-painting context.
    Unlike a classifier of rotations it trains the decoder too, and both are handed over.

    Reference: Zhou, Sodha, Rahman Siddiquee, Feng, Tajbakhsh, Gotway, Liang, "Models Genesis:
    Generic Autodidactic Models for 3D Medical Image Analysis", MICCAI 2019.
    Simplified: small whole volumes in place of crops from many patients' scans; no flips, organs
    have sides.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`, 2D or 3D.
    """

    decodes = True

    def __init__(self, net):
        super().__init__(net)
        conv = nn.Conv2d if self.dims == 2 else nn.Conv3d
        self.head = conv(net.widths[0], self.channels, 1)

    def loss(self, batch) -> dict[str, Tensor]:
        """``restoration``: mean squared error of all pixels."""
        images = batch.unlabelled.images
        return {"restoration": (self.restore(corrupt(images)) - images).square().mean()}

    def restore(self, spoilt: Tensor) -> Tensor:
        """The network's version ``(B, C, *S)`` of the image before."""
        return self.head(self.net.decode(self.net.encode(spoilt)))


def finetune_genesis(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    source: str | Task | None = None,
    part: str = "all",
    **kwargs,
) -> Fitted:
    """Restore images without labels, then fine-tune on the few masks.

    Args:
        task: the problem, with its few labels.
        budget: of each round; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        source: whose images are restored: a phantom or a Task of the same size and channels; by
            default the training images of the task itself, labelled or not.
        part: ``"all"`` (encoder and decoder, the paper's) or ``"encoder"``.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: a source with other channels.
    """
    origin = task if source is None else source_task(source, task)
    if origin.train.channels != task.train.channels:
        raise ValueError(
            f"The source has {origin.train.channels} channels, the target {task.train.channels}: "
            f"choose a source with as many."
        )
    first = pretrain(Genesis, origin, budget, seed, **kwargs)
    second = finetune_from(first.method, task, budget, seed, part, **kwargs)
    history, stopped = {**first.history, **second.history}, first.interrupted or second.interrupted
    return Fitted(second.method, history, first.seconds + second.seconds, stopped)


def finetune_genesis_3d(task: Task, budget: Budget | None = None, seed: int = 0, **kwargs):
    """Genesis in volumes, as Genesis Chest CT; see :func:`finetune_genesis`.

    Raises:
        ValueError: a task of slices.
    """
    if task.train.dims != 3:
        raise ValueError("Genesis Chest CT is for volumes; for slices use finetune_genesis_2d.")
    return finetune_genesis(task, budget, seed, **kwargs)


def finetune_genesis_2d(task: Task, budget: Budget | None = None, seed: int = 0, **kwargs):
    """The same recipe in slices, as Genesis Chest CT 2D and X-ray; see :func:`finetune_genesis`.

    Raises:
        ValueError: a task of volumes.
    """
    if task.train.dims != 2:
        raise ValueError("Genesis Chest CT 2D is for slices; for volumes use finetune_genesis_3d.")
    return finetune_genesis(task, budget, seed, **kwargs)
