"""From one scanner to the other: translate the images, keep the shapes, take the masks along."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE
from lsseg_edu.networks import build, unet
from lsseg_edu.semi.adversarial.discriminator import critic, verdict_loss
from lsseg_edu.semi.adversarial.translator import Translator
from lsseg_edu.semi.consistency.rampup import sigmoid_rampup
from lsseg_edu.train import Method, Player

ONE_SCANNER = (
    "ShapeCycleGAN translates between two scanners, and this task has not two: give "
    "task.train.extras['scanner'] a 0 (source) or 1 (target) for every image, as in scanner_shift."
)


class ShapeCycleGAN(Method):
    r"""Two translators, two critics, two segmenters, between scanner 0 (source) and 1 (target).

    For an image :math:`x` of scanner ``s``, :math:`t` being the other one, :math:`G_s` the
    translator from ``s``, :math:`d_t` the critic and :math:`f_t` the segmenter of ``t``:

    .. math::
        L_G = \sum_s \ell\big(d_t(G_s x), 1\big)
            + \lambda \lVert G_t G_s x - x \rVert_1
            + w(t)\, L_{seg}\big(f_t(G_s x), y\big) .

    The critic asks for the look of the other scanner, the cycle that nothing is lost on the
    way, and the third term, *shape consistency*, that the organs stay where the mask says: a
    cycle alone is content if :math:`G_s` moves them and :math:`G_t` moves them back. The
    segmenters learn from real images and from translated ones, with the mask that came along:

    .. math:: L_f = \sum_s L_{seg}(f_s(x), y) + L_{seg}(f_t(G_s x), y) .

    Reference: Zhang, Yang, Zheng, "Translating and Segmenting Multimodal Medical Volumes with
    Cycle- and Shape-Consistency Generative Adversarial Network", CVPR 2018.
    Simplified: slices by default (all parts take volumes too); everything is trained together
    from the start instead of pre-trained part by part. The paper has masks on both sides; where
    there is none, the answer of the image's own segmenter stands in for it.

    Args:
        net: the target's segmenter, which :meth:`predict` asks.
        source: the source's segmenter.
        translators: from source to target, from target to source.
        critics: of source images, of target images.
        cycle: :math:`\lambda`. CycleGAN's 10 belongs to translators that begin at random. Ours
            begin as the identity, where the cycle is closed; under a critic whose slope is
            bounded, 10 never let them leave it (validation images, 150 steps).
        shape: largest weight of the shape consistency.
        synthetic: weight of the translated images in the segmenters' loss.
        ramp: fraction of training over which ``shape`` rises: at first no segmenter knows one.
        rates: learning rates of translators and critics as multiples of the segmenters', equal as
            in CycleGAN. Here the critics must not be slow: two scanners are harder to tell apart
            than a mask and a softmax, and a critic that cannot leaves the images as they are.
    """

    unlabelled = True

    def __init__(
        self,
        net: nn.Module,
        source: nn.Module,
        translators,
        critics,
        cycle=1.0,
        shape=1.0,
        synthetic=1.0,
        ramp: float = 0.4,
        rates=(0.5, 0.5),
    ):
        super().__init__(net)
        self.source = source
        self.translators, self.critics = nn.ModuleList(translators), nn.ModuleList(critics)
        self.cycle, self.shape, self.synthetic = cycle, shape, synthetic
        self.ramp, self.rates = ramp, rates

    @classmethod
    def for_task(cls, task, seed: int = 0, **options) -> ShapeCycleGAN:
        """Two U-Nets of the book, two translators, two critics of images.

        Raises:
            ValueError: the task does not have images of two scanners.
        """
        scanners = task.train.extras.get("scanner", torch.zeros(1))
        if sorted(scanners.unique().tolist()) != [0, 1]:
            raise ValueError(ONE_SCANNER)

        def translator(channels, classes, dims):
            return Translator(channels, dims)

        return cls(
            unet(task, seed=seed),
            unet(task, seed=seed),
            [build(translator, task, 2 * seed + i) for i in range(2)],
            [critic(task, "images", 2 * seed + i) for i in range(2)],
            **options,
        )

    def players(self) -> list[Player]:
        """Translators, critics, segmenters."""
        groups = (self.translators, self.critics, nn.ModuleList([self.source, self.net]))
        steps = (self.loss, self.critic_loss, self.segmenter_loss)
        names = ("translators", "critics", "segmenters")
        return [
            Player(name, list(group.parameters()), step, rate)
            for name, group, step, rate in zip(names, groups, steps, (*self.rates, 1), strict=True)
        ]

    def loss(self, batch) -> dict[str, Tensor]:
        """Of the translators: ``fool`` the critics, close the ``cycle``, keep the ``shape``."""
        terms = {"fool": [], "cycle": [], "shape": []}
        for images, labels, s in self.domains(batch.labelled, batch.unlabelled):
            fake = self.translators[s](images)
            terms["fool"].append(verdict_loss(self.critics[1 - s](fake), 1.0))
            terms["cycle"].append((self.translators[1 - s](fake) - images).abs().mean())
            shape = self.shape_of(images, labels, s)
            terms["shape"].append(losses.dice_ce(self.segmenter(1 - s)(fake), shape))
        shape = self.shape * sigmoid_rampup(batch.progress, self.ramp)
        weights = {"fool": 1.0, "cycle": self.cycle, "shape": shape}
        return {name: weights[name] * sum(values) for name, values in terms.items()}

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """Of the critics: ``real`` images of their scanner from ``fake`` ones."""
        real = fake = 0.0
        for images, _, s in self.domains(batch.labelled, batch.unlabelled):
            with torch.no_grad():
                translated = self.translators[s](images)
            real = real + verdict_loss(self.critics[s](images), 0.9)
            fake = fake + verdict_loss(self.critics[1 - s](translated), 0.0)
        return {"real": real, "fake": fake}

    def segmenter_loss(self, batch) -> dict[str, Tensor]:
        """Of the segmenters: annotated images, ``real`` and ``translated`` with their masks."""
        supervised = translated = 0.0
        for images, labels, s in self.domains(batch.labelled):
            with torch.no_grad():
                fake = self.translators[s](images)
            supervised = supervised + losses.dice_ce(self.segmenter(s)(images), labels)
            translated = translated + losses.dice_ce(self.segmenter(1 - s)(fake), labels)
        return {"supervised": supervised, "synthetic": self.synthetic * translated}

    def segmenter(self, scanner: int) -> nn.Module:
        """The segmenter of one scanner."""
        return self.net if scanner else self.source

    @torch.no_grad()
    def shape_of(self, images: Tensor, labels: Tensor, scanner: int) -> Tensor:
        """The mask ``(B, *S)``, and where nobody drew one what the segmenter itself says."""
        return labels.where(labels != IGNORE, self.segmenter(scanner)(images).argmax(1))

    def domains(self, *parts):
        """Images, labels and number of each scanner of which there is an image."""
        if any("scanner" not in part.extras for part in parts):
            raise ValueError(ONE_SCANNER)
        images, labels = (
            torch.cat([getattr(p, key) for p in parts]) for key in ("images", "labels")
        )
        scanner = torch.cat([p.extras["scanner"] for p in parts])
        for s in (0, 1):
            if (scanner == s).any():
                yield images[scanner == s], labels[scanner == s], s
