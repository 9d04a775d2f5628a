"""A universal model: one network restores images of many origins, and is asked where from."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.networks.blocks import resize
from lsseg_edu.semi.self_supervision.finetune import finetune_from, pooled
from lsseg_edu.semi.transfer.corruptions import corrupt
from lsseg_edu.semi.transfer.finetune import source_task
from lsseg_edu.semi.transfer.genesis import Genesis
from lsseg_edu.train import Budget, Fitted, fit

SOURCES = {
    (1, 2): ("cardiac", "brain", "abdomen", "lesions"),
    (1, 3): ("cardiac", "brain", "abdomen"),
    (3, 2): ("nuclei", "vessels"),
}
"""Phantoms by channels and dimensions: MR and CT of three regions; stains and the eye."""


class Universal(Genesis):
    r"""Restoration, and a classifier that asks the encoder's features for the source.

    .. math:: L = \frac{1}{|\Omega|} \| f(T(x)) - x \|^2
        + \lambda\, \mathrm{CE}\big(d(R(f_{enc}(T(x)))),\ s\big)

    ``s`` is the source of ``x``. :math:`R` is the identity on the way forward. On the way back it
    reverses the gradient (``hide=True``): the classifier :math:`d` learns to name the source and
    the encoder to give it no hint, so that anatomy is described alike in all modalities. With
    ``hide=False`` the encoder helps: features know what they come from.

    Reference: Zhang, Zhang, Zhang, Wang, "Universal Model for 3D Medical Image Analysis",
    arXiv 2010.06107, 2020; gradient reversal: Ganin, Lempitsky, ICML 2015.
    Simplified: the paper's modality critic is one linear layer; its scale classifier, which
    trains the levels in between, is left out; the restoration is that of Models Genesis.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        sources: how many there are.
        weight: :math:`\lambda`. A tenth: the restoration's error is well below 1, the
            classifier's starts at the logarithm of the number of sources.
        hide: reverse the gradient.

    Raises:
        ValueError: fewer than two sources.
    """

    def __init__(self, net, sources: int, weight: float = 0.1, hide: bool = True):
        super().__init__(net)
        if sources < 2:
            raise ValueError(f"A universal model needs at least 2 sources, not {sources}.")
        self.asks = nn.Linear(net.widths[-1] * 2**self.dims, sources)
        self.weight, self.hide = weight, hide

    def loss(self, batch) -> dict[str, Tensor]:
        """``restoration``, and ``source``, already weighted."""
        images = batch.unlabelled.images
        features = self.net.encode(corrupt(images))
        restored = self.head(self.net.decode(features))
        hint = pooled(features[-1])
        hint = 2 * hint.detach() - hint if self.hide else hint  # value of hint, gradient of -hint
        guess = F.cross_entropy(self.asks(hint), batch.unlabelled.extras["source"])
        return {
            "restoration": (restored - images).square().mean(),
            "source": self.weight * guess,
        }

    @torch.no_grad()
    def origin(self, images: Tensor) -> Tensor:
        """Probability of each source ``(B, S)``, of images as they are."""
        return self.asks(self.embed(images)).softmax(1)


def joint_sources(tasks: list[Task], seed: int = 0) -> Task:
    """The training images of several tasks as one, without labels, as many from each.

    Args:
        tasks: of equal channels and dimensions; images are resized to those of the first one,
            which also lends its validation and test subjects, unused.
        seed: which images are drawn of the larger ones.

    Returns:
        A task whose ``train.extras["source"]`` is the number of the task an image comes from.

    Raises:
        ValueError: images of different channels or dimensions.
    """
    kinds = {(task.train.channels, task.train.dims) for task in tasks}
    if len(kinds) > 1:
        raise ValueError(
            f"The sources must agree in channels and dimensions, not have {sorted(kinds)}."
        )
    size = tasks[0].train.images.shape[2:]
    generator, each = torch.Generator().manual_seed(seed), min(len(t.train) for t in tasks)
    drawn = [torch.randperm(len(t.train), generator=generator)[:each] for t in tasks]
    pairs = zip(tasks, drawn, strict=True)
    images = torch.cat([resize(task.train.images[index], size) for task, index in pairs])
    source = torch.arange(len(tasks)).repeat_interleave(each)
    nobody = torch.full((len(images),), -1)
    labels = torch.full((len(images), *images.shape[2:]), IGNORE)
    parts = {"images": images, "labels": labels, "subjects": nobody, "extras": {"source": source}}
    return replace(tasks[0], train=replace(tasks[0].train, **parts))


def finetune_universal(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    sources: tuple[str | Task, ...] | None = None,
    weight: float = 0.1,
    hide: bool = True,
    **kwargs,
) -> Fitted:
    """Pre-train on several sources and the task's own images, then fine-tune on the few masks.

    Args:
        task: the problem, with its few labels.
        budget: of each round; by default :meth:`Budget.auto`.
        seed: of weights and draws.
        sources: phantoms or Tasks; by default all phantoms of the task's channels and dimensions
            but its own. Their labels are not used.
        weight: see :class:`Universal`; 0 is Models Genesis on the same mixture.
        hide: see :class:`Universal`.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no other source; sources of other channels or dimensions.
    """
    if sources is None:
        kind = SOURCES.get((task.train.channels, task.train.dims), ())
        sources = tuple(name for name in kind if name != task.train.name)
    joint = joint_sources([task, *(source_task(source, task) for source in sources)], seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = networks.unet(task, seed=seed)
        method = Universal(net, 1 + len(sources), weight, hide)
    first = fit(method, joint, budget, seed, **kwargs)
    second = finetune_from(method, task, budget, seed, **kwargs)
    history, stopped = {**first.history, **second.history}, first.interrupted or second.interrupted
    return Fitted(second.method, history, first.seconds + second.seconds, stopped)
