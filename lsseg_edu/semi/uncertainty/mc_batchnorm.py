"""MC batch norm: the mini-batch an image happens to be normalised with is a random draw."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from lsseg_edu import networks
from lsseg_edu.augment import Augment
from lsseg_edu.semi.uncertainty.sampled import Sampled


class MCBatchNorm(Sampled):
    r"""Each pass normalises with the statistics of another random *training* mini-batch.

    .. math::
        p^{(t)} = \mathrm{softmax}\, f_\theta(x;\ \mu_{B_t}, \sigma_{B_t}), \qquad
        B_t \subset D_{train}, \quad |B_t| = M .

    A network with batch norm was trained on such draws: every step saw its images through means
    and variances that depended on who else was in the batch. That noise is like dropout's, an
    approximate posterior, and it can be drawn from at test time. The batch has the size ``M`` of
    training (larger batches are less random) and is augmented as in training. The running
    statistics are not used by the passes, and are left as they were.

    Reference: Teye, Azizpour, Smith, "Bayesian Uncertainty Estimation for Batch Normalized Deep
    Networks", ICML 2018.

    Args:
        net: a network with batch norms, see :func:`with_batchnorm`.
        images: ``(N, C, *S)`` training images that the mini-batches are drawn from. They are a
            buffer: the method needs them for life.
        passes: ``T``.
        batch: ``M``, that of the training.

    Raises:
        ValueError: a network without batch norm.
    """

    def __init__(self, net: nn.Module, images: Tensor, passes: int = 16, batch: int = 8):
        super().__init__(net, passes)
        if not any(isinstance(m, _BatchNorm) for m in net.modules()):
            raise ValueError(
                "The passes differ by batch statistics, and this network has no batch norm: "
                "give it some, e.g. with_batchnorm(networks.unet(task))."
            )
        self.register_buffer("images", images)
        self.batch = batch

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> MCBatchNorm:
        """On the book's U-Net with batch norms; mini-batches of its labelled images."""
        net = with_batchnorm(networks.unet(task, seed=seed))
        return cls(net, task.train.images[task.labelled], **options)

    def sample(self, images: Tensor) -> Tensor:
        """One answer, normalised with one random training mini-batch."""
        with statistics_of(self.net, self.draw()):
            return super().sample(images)

    def draw(self) -> Tensor:
        """A mini-batch ``(M, C, *S)`` of training images, augmented as the loop augments them."""
        images = self.images[torch.randperm(len(self.images))[: self.batch]]
        seed = int(torch.randint(2**31, ()))
        generator = torch.Generator(images.device).manual_seed(seed)
        nowhere = torch.zeros_like(images[:, 0], dtype=torch.long)
        return Augment.strong()(images, nowhere, generator)[0]


@contextmanager
def statistics_of(net: nn.Module, batch: Tensor):
    """Inside, the batch norms of ``net`` use the statistics of ``batch``; afterwards their own."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    kept = [({k: v.clone() for k, v in m.named_buffers()}, m.momentum, m.training) for m in norms]
    try:
        for norm in norms:
            norm.momentum, norm.training = 1.0, True  # running statistics become the batch's
        net(batch)
        for norm in norms:
            norm.training = False
        yield
    finally:
        for norm, (buffers, momentum, training) in zip(norms, kept, strict=True):
            norm.momentum, norm.training = momentum, training
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])


def with_batchnorm(net: nn.Module) -> nn.Module:
    """``net`` with a batch norm in place of each instance norm; the other weights stay."""
    for name, layer in net.named_children():
        if isinstance(layer, _InstanceNorm):
            kind = getattr(nn, type(layer).__name__.replace("Instance", "Batch"))
            setattr(net, name, kind(layer.num_features))
        else:
            with_batchnorm(layer)
    return net
