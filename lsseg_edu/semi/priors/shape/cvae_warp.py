"""Anatomical warping: an implausible mask is replaced by the nearest valid shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import Task
from lsseg_edu.evaluate import Rules
from lsseg_edu.semi.priors.shape.autoencoder import ShapeAutoencoder, ShapeNet, shape_training
from lsseg_edu.semi.priors.shape.shapes import one_hot, repaired, shape_set
from lsseg_edu.train import Budget, Fitted


class VariationalAutoencoder(ShapeAutoencoder):
    r"""A :class:`.ShapeAutoencoder` whose code is a Gaussian: the encoder gives mean and spread.

    Small steps in the latent space are then small changes of shape, wherever they start.

    Reference: Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    """

    def __init__(self, classes: int, size, code: int = 16, width: int = 8):
        super().__init__(classes, size, code, width)
        self.to_spread = nn.Linear(self.to_code[1].in_features, code)

    def posterior(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``(B, code)`` of the code of masks ``(B, K, *S)``."""
        features = self.down(masks)
        return self.to_code(features), self.to_spread(features.flatten(1)).clamp(-8, 8)


class VariationalShapes(ShapeNet):
    r"""Train a :class:`VariationalAutoencoder` by its evidence bound.

    .. math:: L = L_{sup}(\Psi(z), y) + \beta\, KL\big(N(\mu, \sigma^2) \,\Vert\, N(0, 1)\big),
        \qquad z = \mu + \sigma\epsilon
    """

    beta = 0.002
    """The reconstruction is a mean over pixels, so the divergence must be small as well."""

    def loss(self, batch) -> dict[str, Tensor]:
        """``reconstruction`` from a drawn code, and ``divergence`` (already weighted)."""
        labels = batch.labelled.labels
        mean, spread = self.net.posterior(one_hot(labels, self.net.classes))
        logits = self.net.decode(mean + (spread / 2).exp() * torch.randn_like(mean))
        divergence = (spread.exp() + mean.square() - 1 - spread).sum(1).mean() / 2
        return {
            "reconstruction": losses.dice_ce(logits, labels),
            "divergence": self.beta * divergence,
        }


class AnatomicalWarp(nn.Module):
    r"""Replace each mask that breaks a rule by a valid shape close to it.

    Codes are drawn around those of the training shapes, and only codes whose decoded mask obeys
    all rules are kept. A mask that breaks a rule is encoded, :math:`z`; from the nearest valid
    code :math:`z^*` one walks back towards :math:`z`, halving the way, as far as the decoded mask
    stays valid. What is valid already is not touched. A network so young that no draw is valid
    gives the training shape of the nearest code.

    Args:
        net: a trained :class:`VariationalAutoencoder`.
        shapes: true masks ``(M, *S)`` whose codes the valid ones are drawn around.
        rules: what a valid mask obeys.
        draws: codes tried.
        spread: of the draws, in standard deviations of the training codes.
        seed: of the draws.

    Raises:
        ValueError: no shape that obeys the rules.

    Reference: Painchaud, Skandarani, Judge, Bernard, Lalande, Jodoin, "Cardiac MRI Segmentation
    with Strong Anatomical Guarantees", MICCAI 2019, and "Cardiac Segmentation With Strong
    Anatomical Guarantees", IEEE Transactions on Medical Imaging 2020.
    Simplified: a thousand codes instead of four million; rules of pieces, holes and contact
    that are read off the true masks, see :class:`~lsseg_edu.evaluate.Rules`.
    """

    def __init__(self, net, shapes: Tensor, rules: Rules, draws=1000, spread=0.3, seed=0):
        super().__init__()
        shapes = shapes[~rules.broken(shapes).any(1)]
        if len(shapes) == 0:
            raise ValueError("There is no valid shape to draw codes around: give true masks.")
        self.net, self.rules = net.requires_grad_(False), rules
        codes = self.encode(shapes)
        generator = torch.Generator().manual_seed(seed)
        start = torch.randint(len(codes), (draws,), generator=generator)
        noise = torch.randn(draws, codes.shape[1], generator=generator).to(codes)
        drawn = codes[start.to(codes.device)] + spread * codes.std(0, correction=0) * noise
        self.register_buffer("valid", drawn[self.obeys(drawn)])
        self.register_buffer("shapes", shapes)
        self.register_buffer("codes", codes)

    def encode(self, labels: Tensor) -> Tensor:
        """Hard masks ``(B, *S)`` to codes ``(B, code)``."""
        where = next(self.net.parameters()).device
        with torch.no_grad():
            return self.net.encode(one_hot(labels.to(where), self.net.classes))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes to probabilities ``(B, K, *S)``, a batch at a time."""
        with torch.no_grad():
            return torch.cat([self.net.decode(part).softmax(1) for part in codes.split(256)])

    def obeys(self, codes: Tensor) -> Tensor:
        """Whether each code decodes to a mask that breaks no rule: boolean ``(B,)``."""
        return ~self.rules.broken(self.decode(codes).argmax(1)).any(1).to(codes.device)

    def nearest(self, codes: Tensor, halvings: int = 5) -> Tensor:
        """For each code ``(B, code)`` a valid one, close by."""
        anchor = self.valid[torch.cdist(codes, self.valid).argmin(1)]
        reach, step = torch.zeros(len(codes), 1).to(codes), 1.0
        for _ in range(halvings):
            step = step / 2
            tried = anchor + (reach + step) * (codes - anchor)
            reach = reach + step * self.obeys(tried)[:, None]
        return anchor + reach * (codes - anchor)

    def forward(self, labels: Tensor) -> Tensor:
        """Hard masks ``(B, *S)`` to probabilities ``(B, K, *S)`` of valid masks."""
        answer = one_hot(labels, self.net.classes)
        wrong = self.rules.broken(labels).any(1).to(labels.device)
        if wrong.any():
            answer[wrong] = self.replace(self.encode(labels[wrong])).to(answer)
        return answer

    def replace(self, codes: Tensor) -> Tensor:
        """Codes of invalid masks to probabilities of valid ones."""
        if len(self.valid):
            return self.decode(self.nearest(codes))
        return one_hot(self.shapes[torch.cdist(codes, self.codes).argmin(1)], self.net.classes)


def cvae_segmentation(
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    code: int = 16,
    draws: int = 1000,
    **kwargs,
) -> Fitted:
    """The baseline, with :class:`AnatomicalWarp` behind it.

    The rules are those that the labelled masks obey; no other mask is looked at.

    Args:
        task: the problem, with its few labels.
        budget: of each of the two trainings; by default :meth:`Budget.auto`.
        seed: of weights and draws; the segmenter is the baseline of this seed.
        code: length of the code. A neighbour is near in few dimensions only.
        draws: codes tried.
        **kwargs: ``progress`` and ``device``, passed on to :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: no complete mask, a code that does not fit.
    """
    parts = {"method": VariationalShapes, "net": VariationalAutoencoder}
    shapes = shape_set(task, seed=seed)
    vae = shape_training(task, budget, seed, code, **parts, **kwargs)
    rules = Rules.of(shapes, task.train.names)
    warp = AnatomicalWarp(vae.method.net.eval(), shapes, rules, draws, seed=seed)
    return repaired(task, warp, budget, seed, vae.seconds, **kwargs)
