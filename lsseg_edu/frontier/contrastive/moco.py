"""MoCo: the negatives are in a queue, and a slow encoder put them there."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lsseg_edu.frontier.contrastive.loss import contrast
from lsseg_edu.frontier.contrastive.simclr import SimCLR
from lsseg_edu.semi.consistency import ema_update
from lsseg_edu.semi.self_supervision import pretrain_finetune
from lsseg_edu.semi.self_supervision.finetune import pooled
from lsseg_edu.train import Budget, Fitted


class MoCo(SimCLR):
    r"""A query finds its key among the keys of the last batches, which a queue remembers.

    .. math::
        q = f_\theta(\tilde x), \quad k = f_{\theta'}(\tilde x'), \qquad
        L = -\log \frac{\exp(q^\top k / \tau)}
                       {\exp(q^\top k / \tau) + \sum_{j=1}^{Q} \exp(q^\top k_j / \tau)},
        \qquad \theta' \leftarrow m \theta' + (1 - m) \theta .

    After each step :math:`\theta'` follows :math:`\theta`, and the keys of the batch take the
    place of the oldest in the queue: first in, first out. So the number of negatives no longer
    depends on the batch. The keys in the queue come from encoders of several steps ago, and a
    slow :math:`\theta'` keeps them comparable. No gradient enters a key.

    The original shuffles its batches over GPUs, or batch statistics would tell a query which key
    is its own. Our U-Net normalises each instance by itself: nothing to shuffle.

    Reference: He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual
    Representation Learning", CVPR 2020; the two-layer head is that of MoCo v2, arXiv 2020.
    Simplified: instance normalisation instead of shuffled batch normalisation.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`, the query encoder.
        queue: ``Q``, keys to remember. The paper's 65536 are a twentieth of its images; 128 of
            some hundred slices are 16 batches of 8, and seldom hold the query's own image.
        decay: ``m``. The paper's 0.999 averages over thousands of steps; 0.99 fits hundreds.
        temperature: the paper's 0.07.
        **options: of :class:`.SimCLR`.
    """

    def __init__(self, net, queue: int = 128, decay=0.99, temperature=0.07, **options):
        super().__init__(net, temperature=temperature, **options)
        self.decay, self.keys = decay, None
        self.key_net = copy.deepcopy(self.net).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("queue", normalize(torch.randn(queue, self.head[-1].out_features)))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    def loss(self, batch) -> dict[str, Tensor]:
        """InfoNCE of one view against the key of the other and the queue.

        Raises:
            ValueError: a queue shorter than the batch.
        """
        images = batch.unlabelled.images
        if len(images) > len(self.queue):
            raise ValueError(
                f"A queue of {len(self.queue)} keys cannot take a batch of {len(images)}: "
                f"make it at least as long."
            )
        queries = normalize(self.represent(self.view(images)).float(), dim=1)
        self.keys = self.represent_key(self.view(images))
        own = torch.eye(len(images), dtype=torch.bool, device=images.device)
        none = own.new_zeros(len(images), len(self.queue))
        positives = torch.cat([own, none], 1)
        negatives = torch.cat([torch.zeros_like(own), ~none], 1)
        similarity = queries @ torch.cat([self.keys, self.queue]).T
        return {"moco": contrast(similarity, positives, negatives, self.temperature)}

    @torch.no_grad()
    def represent_key(self, images: Tensor) -> Tensor:
        """Keys ``(B, features)`` of length 1, by the slow encoder."""
        return normalize(self.key_head(pooled(self.key_net.encode(images)[-1])).float(), dim=1)

    def after_step(self, progress: float):
        """The slow encoder follows; the new keys replace the oldest."""
        ema_update(self.key_net, self.net, self.decay)
        ema_update(self.key_head, self.head, self.decay)
        self.enqueue(self.keys)

    @torch.no_grad()
    def enqueue(self, keys: Tensor):
        """Write ``keys (B, features)`` over the oldest; the queue is a ring."""
        places = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.oldest.copy_((self.oldest + len(keys)) % len(self.queue))


def finetune_moco(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the encoder that MoCo has trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=MoCo, **kwargs)
