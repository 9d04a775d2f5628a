"""Multi-atlas segmentation: ask several, and fuse what they say."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.semi.priors.atlas.fusion import locally_weighted, majority, staple
from lsseg_edu.semi.priors.atlas.propagation import by_subject, local_correlation
from lsseg_edu.semi.priors.registration import Atlas, Registration, alignment

FUSIONS = ("majority", "local", "staple")


class MultiAtlas(Registration):
    r"""Each of ``N`` labelled subjects is registered to the target, and the labels are fused.

    .. math:: p = \mathrm{fuse}\big(y^1 \circ \phi_1, \dots, y^N \circ \phi_N\big), \qquad
              a^n \circ \phi_n \approx x

    A single atlas is wrong where its anatomy differs from the target's, or where its registration
    failed. Other atlases are wrong elsewhere. One network serves all; a step of training draws one
    of the atlases for each image.

    Reference: Iglesias, Sabuncu, "Multi-Atlas Segmentation of Biomedical Images: A Survey",
    Medical Image Analysis 2015.

    Args:
        net: a :class:`~lsseg_edu.networks.RegistrationNet`.
        atlases: one an (arbitrarily large) subject.
        fusion: ``"majority"``, ``"local"`` (weighted by local correlation) or ``"staple"``.
        bending: of :class:`.Registration`.

    Raises:
        ValueError: no atlas, atlases of different sizes or classes, another word for the fusion.
    """

    def __init__(
        self, net: nn.Module, atlases: list[Atlas], fusion: str = "local", bending: float = 0.01
    ):
        _check(atlases, fusion)
        super().__init__(net, atlases[0], bending)
        self.atlases, self.fusion = nn.ModuleList(atlases), fusion

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """Every labelled subject is an atlas."""
        return cls(networks.registration(task, seed=seed), by_subject(task), **options)

    def loss(self, batch) -> dict[str, Tensor]:
        """Terms ``unlikeness`` and ``bending``, each image with an atlas drawn for it."""
        fixed = batch.unlabelled.images
        every = torch.stack([atlas.images[atlas.match(fixed)] for atlas in self.atlases])
        drawn = torch.randint(len(every), (len(fixed),), device=fixed.device)
        moving = every[drawn, torch.arange(len(fixed), device=fixed.device)]
        velocity = self.net(moving, fixed)
        return alignment(self.move(moving, velocity), fixed, velocity, self.bending)

    def propagate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What each atlas says, ``(N, B, K, *S)``, and how alike it is there, ``(N, B, *S)``."""
        votes, likeness = [], []
        for atlas in self.atlases:
            index = atlas.match(images)
            moving = atlas.images[index]
            velocity = self.net(moving, images)
            votes.append(self.move(atlas.one_hot(index), velocity))
            likeness.append(local_correlation(self.move(moving, velocity), images))
        return torch.stack(votes), torch.stack(likeness)

    def predict(self, images: Tensor) -> Tensor:
        """The fused masks ``(B, K, *S)``."""
        votes, likeness = self.propagate(images)
        if self.fusion == "local":
            return locally_weighted(votes, likeness)
        return majority(votes) if self.fusion == "majority" else staple(votes)[0]


def _check(atlases, fusion):
    if len(atlases) == 0:
        raise ValueError("Multi-atlas segmentation needs at least one atlas.")
    kinds = {(atlas.classes, tuple(atlas.images.shape[1:])) for atlas in atlases}
    if len(kinds) > 1:
        described = "; ".join(f"{k} classes on {s}" for k, s in sorted(kinds))
        raise ValueError(
            f"Atlases must agree in size and in their classes, and there are {described}: "
            f"resample them, and number their labels alike."
        )
    if fusion not in FUSIONS:
        raise ValueError(f"Unknown fusion {fusion!r}: choose one of {', '.join(FUSIONS)}.")
