"""Exemplars: every image is a class of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lsseg_edu.augment import Augment
from lsseg_edu.semi.self_supervision.finetune import Pretext, pretrain_finetune
from lsseg_edu.train import Budget, Fitted


def triplet(anchors: Tensor, positives: Tensor, margin: float = 1.0) -> Tensor:
    r"""An anchor is nearer to its own positive than to the others', by a margin.

    .. math::
        L = \frac{1}{N(N-1)} \sum_{n \ne m}
            \big[\, d(a_n, p_n) - d(a_n, p_m) + \alpha \,\big]_+

    Args:
        anchors: ``(N, F)``, ``N`` at least 2.
        positives: ``(N, F)``; row n belongs to anchor n, the others are its negatives.
        margin: :math:`\alpha`, in units of the Euclidean distance ``d``.
    """
    distance = torch.cdist(anchors.float(), positives.float())
    short = (distance.diagonal()[:, None] - distance + margin).clamp(min=0)
    own = torch.eye(len(anchors), dtype=torch.bool, device=short.device)
    return short[~own].mean()


class Exemplar(Pretext):
    """Two augmented views of an image lie close together; views of other images lie far away.

    The encoder learns to ignore whatever the augmentation changes (pose, contrast, noise) and to
    keep what tells one image from the next. So the augmentation decides what is learnt: here it
    is the one of every training in this book, drawn twice.

    Reference: Dosovitskiy et al., "Discriminative Unsupervised Feature Learning with
    Convolutional Neural Networks", NeurIPS 2014; as triplets, in 3D: Taleb et al., "3D
    Self-Supervised Methods for Medical Imaging", NeurIPS 2020.
    Simplified: every other image of the batch is a negative, even one of the same subject.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`.
        margin: the paper's 1; embeddings have length 1, distances are 0 to 2.
        features: of the embedding.
    """

    weak = Augment.none()

    def __init__(self, net, margin: float = 1.0, features: int = 64):
        super().__init__(net)
        self.margin = margin
        self.head = nn.Linear(net.widths[-1] * 2**self.dims, features)

    def loss(self, batch) -> dict[str, Tensor]:
        """The triplet loss of two views of the batch.

        Raises:
            ValueError: a batch of one image, which has no negatives.
        """
        images = batch.unlabelled.images
        if len(images) < 2:
            raise ValueError("Exemplars need a negative: use a batch of at least two images.")
        anchors, positives = (self.represent(self.view(images)) for _ in range(2))
        return {"exemplar": triplet(anchors, positives, self.margin)}

    def view(self, images: Tensor) -> Tensor:
        """Another augmentation of the same images."""
        seed = int(torch.randint(2**31, ()))
        generator = torch.Generator(images.device).manual_seed(seed)
        return Augment.strong()(images, images[:, 0].long(), generator)[0]

    def represent(self, images: Tensor) -> Tensor:
        """Embeddings ``(B, F)`` of length 1."""
        return normalize(self.head(self.embed(images)), dim=1)


def finetune_exemplar(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """Fine-tune the encoder that exemplars have trained; see :func:`.pretrain_finetune`."""
    return pretrain_finetune(task, budget, seed, pretext=Exemplar, **kwargs)
