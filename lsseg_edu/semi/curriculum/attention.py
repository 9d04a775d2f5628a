"""Attention-guided curriculum: severe cases first, then look where the disease was seen."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.train import Budget, Fitted, Method, fit


class HeatmapClassifier(Method):
    r"""Does this image show the disease? And, as a by-product, where?

    One heatmap a class, :math:`h_k`, is pooled to one answer,

    .. math:: y_k = \frac1r \ln \frac{1}{|\Omega|} \sum_i e^{\,r\, h_k(i)}, \qquad
              L = \mathrm{BCE}(y, [\text{class } k \text{ is shown}]) .

    With a ``guide``, a trained classifier whose heatmaps say where to look, the answer must also
    be found in what is left of the image there, :math:`x \odot a(x)`.

    Args:
        net: a :class:`~lsseg_edu.networks.UNet`; only its encoder down to stride 4 is used.
        classes: ``K``.
        guide: a trained classifier, or None; frozen here.
        sharpness: ``r``; large is the maximum, 0 the mean.
    """

    def __init__(self, net: nn.Module, classes: int, guide=None, sharpness: float = 5.0):
        super().__init__(net)
        conv = nn.Conv2d if net.conv_0.conv_0.conv.weight.ndim == 4 else nn.Conv3d
        self.head = conv(net.widths[2], classes - 1, 1)
        nn.init.zeros_(self.head.weight)  # no random number: all weights depend on the net's seed
        nn.init.zeros_(self.head.bias)
        self.guide = None if guide is None else guide.requires_grad_(False)
        self.sharpness = sharpness

    def heatmaps(self, images: Tensor) -> Tensor:
        """Logits ``(B, K-1, *S/4)`` of each place."""
        x = self.net.conv_0(images)
        return self.head(self.net.down_2(self.net.down_1(x)))

    def classify(self, images: Tensor) -> Tensor:
        """Logits ``(B, K-1)``: is class ``k`` in the image?"""
        heat = self.sharpness * self.heatmaps(images).float().flatten(2)
        return (heat.logsumexp(2) - torch.tensor(heat.shape[2]).log()) / self.sharpness

    def loss(self, batch) -> dict[str, Tensor]:
        """``classification`` of the images; ``attended`` of what the guide leaves of them."""
        images = batch.labelled.images
        shown = presence(batch.labelled.labels, self.head.out_channels)
        loss = F.binary_cross_entropy_with_logits
        terms = {"classification": loss(self.classify(images), shown)}
        if self.guide is not None:
            looked = images * self.attention(images, shown)
            terms["attended"] = loss(self.classify(looked), shown)
        return terms

    @torch.no_grad()
    def attention(self, images: Tensor, shown: Tensor) -> Tensor:
        """Where to look, ``(B, 1, *S)`` in [0, 1]: the guide's heat of the classes shown.

        An image that shows nothing, or that the guide is not sure of, is looked at as a whole.
        """
        heat = self.guide.places(images) * shown.view(*shown.shape, *[1] * (images.ndim - 2))
        heat = heat.amax(1, keepdim=True)
        top = heat.flatten(2).amax(2).view(-1, 1, *[1] * (images.ndim - 2))
        return torch.where(top > 0.5, heat / top.clamp(min=1e-6), 1.0)

    def places(self, images: Tensor) -> Tensor:
        """Probability ``(B, K-1, *S)`` of each class at each pixel, from the heatmaps."""
        mode = "bilinear" if images.ndim == 4 else "trilinear"
        heat = self.heatmaps(images).float()
        return F.interpolate(heat, images.shape[2:], mode=mode, align_corners=False).sigmoid()

    def predict(self, images: Tensor) -> Tensor:
        """Localisation as probabilities ``(B, K, *S)``; the background has what is left."""
        places = self.places(images)
        probs = torch.cat([1 - places.amax(1, keepdim=True), places], 1)
        return probs / probs.sum(1, keepdim=True)


def attention_curriculum(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    stages: int = 3,
    order: str = "severe",
    refine: float = 0.4,
    **kwargs,
) -> Fitted:
    """Classify slices, the severe ones first; then refine where the heatmaps point.

    Of each mask only two things are used, which a report would tell: whether a class is there,
    and how much of it.

    Reference: Tang et al., "Attention-Guided Curriculum Learning for Weakly Supervised
    Classification and Localization of Thoracic Diseases on Chest Radiographs", MLMI 2018.
    Simplified: severity is the size of the lesion instead of words of a report; one refinement,
    in which the image is dimmed outside the heat.

    Args:
        task: the problem.
        budget: of curriculum and refinement together.
        seed: of weights and draws.
        stages: groups by severity; images without any finding are in from the beginning.
        order: ``"severe"`` first; controls: ``"mild"`` first, and ``"all"`` at once.
        refine: fraction of the steps for the refinement; 0 for none.
        **kwargs: ``progress``, ``device`` and ``augment``.

    Raises:
        ValueError: an unknown order; no finding at all; refine outside [0, 1).
    """
    if order not in ("severe", "mild", "all") or not 0 <= refine < 1:
        raise ValueError(
            f"Unknown arm {order!r} with refine={refine}: the order is 'severe', 'mild' or 'all', "
            f"refine in [0, 1)."
        )
    budget = budget or Budget.auto()
    labels, classes = task.train.labels[task.labelled], task.train.classes
    stage = severity_stages(labels, stages, order)
    late = round(refine * budget.steps)

    def chances(progress: float) -> Tensor:
        return (stage <= progress * stages).float()

    first = HeatmapClassifier(networks.unet(task, seed=seed), classes)
    early = replace(budget, steps=budget.steps - late)
    fitted = fit(first, task, early, seed, chances=chances, **kwargs)
    if late == 0:
        return fitted
    second = HeatmapClassifier(networks.unet(task, seed=seed), classes, guide=first)
    second.net.load_state_dict(first.net.state_dict())
    second.head.load_state_dict(first.head.state_dict())
    whole = replace(budget, steps=late)
    refined = fit(second, task, whole, seed + 1000, **kwargs)
    refined.seconds += fitted.seconds
    return refined


def severity_stages(labels: Tensor, stages: int, order: str = "severe") -> Tensor:
    """The stage ``(N,)``, from 0, in which each image is first seen.

    Args:
        labels: ``(N, *S)``.
        stages: groups of the images with a finding, of equal number.
        order: ``"severe"`` or ``"mild"`` first, or ``"all"``.

    Raises:
        ValueError: no image with a finding.
    """
    severity = ((labels > 0) & (labels != IGNORE)).flatten(1).float().mean(1)
    found = severity > 0
    if not found.any():
        raise ValueError("The first pool would be empty: no labelled image shows a finding.")
    stage = torch.zeros(len(labels), dtype=torch.long)
    if order != "all":
        value = severity[found] if order == "mild" else -severity[found]
        stage[found] = value.argsort(stable=True).argsort() * stages // int(found.sum())
    return stage


def presence(labels: Tensor, classes: int) -> Tensor:
    """Whether each of the ``classes`` foreground classes is shown, ``(B, classes)`` of 0 and 1."""
    shown = [(labels == k).flatten(1).any(1) for k in range(1, classes + 1)]
    return torch.stack(shown, 1).float()
