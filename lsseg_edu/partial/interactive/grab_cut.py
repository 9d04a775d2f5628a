"""GrabCut: learn the colours of two regions, cut between them, learn again."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsseg_edu.data import IGNORE
from lsseg_edu.partial.interactive.answering import Interactive
from lsseg_edu.partial.interactive.maps import around, marked
from lsseg_edu.partial.regions.graph_cut import graph_cut


def grabcut(
    image: Tensor,
    box: Tensor,
    seeds: Tensor | None = None,
    start: Tensor | None = None,
    components: int = 5,
    weight: float = 2.0,
    rounds: int = 5,
) -> Tensor:
    r"""The object in a box, by colour and edges alone.

    .. math::
        E(y, \theta) = \sum_i -\ln P(x_i \mid \theta_{y_i})
                       + \sum_{i \sim j} [y_i \ne y_j]\, w_{ij}, \qquad
        P(x \mid \theta) = \sum_{c=1}^{5} \pi_c\, \mathcal N(x; \mu_c, \Sigma_c)

    In turn the mixtures :math:`\theta_0, \theta_1` are fitted to the two regions and the regions
    are cut anew, until nothing changes. Outside the box everything is background for good.

    Args:
        image: ``(C, *S)``.
        box: ``(*S)`` booleans, True where the object may be.
        seeds: ``(*S)``: 1 object, 0 background, IGNORE elsewhere: corrections that stay.
        start: ``(*S)`` booleans, the object to begin with; by default the whole box, the paper's.
        components: of each mixture; the paper's 5.
        weight: of the border, in nats, see :func:`.graph_cut`. The paper's 50 belongs to the
            densities of three 8-bit colours; one grey value says much less.
        rounds: most of them.

    Returns:
        ``(*S)`` booleans. All False if no pixel of the box looks like an object.

    Raises:
        ValueError: an empty box, or one without anything outside it and no start within it.

    Reference: Rother, Kolmogorov, Blake, "GrabCut: Interactive Foreground Extraction using Iterated
    Graph Cuts", SIGGRAPH 2004.
    Simplified: mixtures fitted by EM (scikit-learn); the paper gives each pixel to one component.
    No border matting.

    Example:
        >>> image = torch.zeros(1, 12, 12)
        >>> image[:, 4:8, 4:8] = 1
        >>> box = torch.zeros(12, 12, dtype=torch.bool)
        >>> box[2:10, 2:10] = True
        >>> int(grabcut(image, box).sum())
        16
    """
    if not box.any() or (box.all() and start is None):
        raise ValueError("GrabCut needs a box around the object, and some image outside the box.")
    sure = torch.where(box, IGNORE, 0)
    if seeds is not None:
        sure = torch.where(seeds == IGNORE, sure, seeds)
    inside = torch.where(sure == IGNORE, box if start is None else start, sure == 1)
    for _ in range(rounds):
        if not inside.any() or inside.all():
            break
        unary = torch.stack([surprise(image, side, components) for side in (~inside, inside)])
        new = graph_cut(unary, image, sure, weight).bool()
        if (new == inside).all():
            break
        inside = new
    return inside


def surprise(image: Tensor, region: Tensor, components: int = 5) -> Tensor:
    """Minus the log-density ``(*S)`` of every pixel, if it were of ``region (*S)``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    pixels = image.flatten(1).T.double().numpy()
    own = pixels[region.flatten().numpy()]
    own = own if len(own) > 1 else own.repeat(2, axis=0)
    n = min(components, len(own) // 2)
    mixture = GaussianMixture(
        n, init_params="k-means++", max_iter=10, reg_covar=1e-2, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(own)
    return torch.from_numpy(-mixture.score_samples(pixels)).view(image.shape[1:])


class GrabCut(Interactive):
    """The network answers first; a click starts :func:`grabcut` on the object it is about.

    That is the clicked class, or the one that was shown where the user says "background". Its box
    is drawn around the current answer; nothing else of the network is used. Pixels that leave
    the object go to the class that came second there.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``.
        margin: from the current object to its box, and on to the border of what is looked at, in
            pixels.
        radius: of the disc that a click makes certain, in pixels.
        weight: see :func:`grabcut`; 6 beat 2 and 0.5 on validation subjects (cardiac phantom).
        rounds: likewise; 3, since the start is close.
    """

    def __init__(
        self, net: nn.Module, margin: int = 4, radius: float = 2, weight: float = 6.0, rounds=3
    ):
        super().__init__(net)
        self.margin, self.radius, self.weight, self.rounds = margin, radius, weight, rounds

    def react(self, images: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
        """The object of the newest click of each image, cut again."""
        seeds = marked(clicks, images.shape[2:], self.radius)
        parts = (x.cpu() for x in (images, seeds, clicks, previous))
        cut = [self.correct(*one) for one in zip(*parts, strict=True)]
        return torch.stack(cut).to(previous.device)

    def correct(self, image: Tensor, seeds: Tensor, clicks: Tensor, probs: Tensor) -> Tensor:
        """One image: seeds ``(*S)``, clicks ``(M, 1 + dims)``, probabilities ``(K, *S)``."""
        clicks, answer = clicks[clicks[:, 0] >= 0], probs.argmax(0)
        k = int(clicks[-1, 0]) if len(clicks) else 0
        k = k or (int(answer[tuple(clicks[-1, 1:])]) if len(clicks) else 0)
        start = torch.where(seeds == IGNORE, answer == k, seeds == k)
        if k == 0 or not start.any():
            return probs if k == 0 else replaced(probs, start, k)
        view = around(start, 2 * self.margin)
        box = torch.zeros_like(start)
        box[around(start, self.margin)] = True
        sides = torch.where(seeds == IGNORE, IGNORE, (seeds == k).long())
        mask = torch.zeros_like(start)
        mask[view] = grabcut(
            image[(slice(None), *view)],
            box[view],
            sides[view],
            start[view],
            weight=self.weight,
            rounds=self.rounds,
        )
        return replaced(probs, mask, k)


def replaced(probs: Tensor, mask: Tensor, k: int) -> Tensor:
    """Probabilities ``(K, *S)`` by which class ``k`` is just where ``mask (*S)`` is."""
    others = probs + 1e-6
    others[k] = 0
    others = others / others.sum(0)
    sure = F.one_hot(torch.tensor(k), len(probs)).to(probs).view(-1, *[1] * mask.ndim)
    lost = ~mask & (probs.argmax(0) == k)
    return torch.where(mask, sure, torch.where(lost, others, probs))
