"""Deep atlas prior: the loss looks hardest where the atlas would not have guessed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu import losses
from lsseg_edu.data import IGNORE, Task
from lsseg_edu.semi.adversarial.discriminator import Adversarial, verdict_loss
from lsseg_edu.semi.priors.atlas.propagation import by_subject, last_of, registered
from lsseg_edu.semi.priors.atlas.soft import as_bytes
from lsseg_edu.semi.priors.registration import Atlas, Registration
from lsseg_edu.train import Budget, Fitted, fit


class DeepAtlasPrior(Adversarial):
    r"""Focal cross-entropy weighted by a probabilistic atlas, and a critic for the unlabelled.

    The atlas :math:`A_{ik}` is the share of aligned training masks that have class ``k`` at pixel
    ``i``. On labelled images a pixel counts by how unexpected its label :math:`y_i` is,

    .. math::
        L_{prior} = \frac{\sum_i w_i\, (1 - p_{i y_i})^\gamma\, (-\log p_{i y_i})}{\sum_i w_i},
        \qquad w_i = \epsilon + (1 - A_{i y_i})^\gamma ,

    so that border regions and rare shapes, where the atlas is of two minds, weigh more than what
    position alone gives away. On unlabelled images the answer must pass for a labelled image's
    before a critic :math:`d` of class maps:

    .. math:: L_f = L_{sup} + \lambda_p L_{prior} + \lambda_u\, \ell(d(f(u)), 1), \qquad
              L_d = \ell(d(f(x)), 1) + \ell(d(f(u)), 0) .

    Reference: Zheng, Lin, Hu, et al., "Semi-supervised Segmentation of Liver Using Adversarial
    Learning with Deep Atlas Prior", MICCAI 2019.
    Simplified: the Dice and cross-entropy of the baseline stay, the prior-weighted term comes
    on top; several organs.

    Args:
        net: the segmenter.
        critic: sees ``K`` channels.
        prior_weight: :math:`\lambda_p`; 0 takes the atlas out.
        weight: :math:`\lambda_u`; 0 takes the critic's part out.
        gamma: :math:`\gamma` (that of the focal loss, 2).
        floor: :math:`\epsilon`: what the atlas expects must still be learnt.
        **options: ``rate`` and ``smooth`` of :class:`.Adversarial`.

    Raises:
        ValueError: a task without an atlas, see :func:`with_atlas`.
    """

    unlabelled = True

    def __init__(
        self, net: nn.Module, critic, prior_weight=1.0, weight=0.01, gamma=2.0, floor=0.1, **options
    ):
        super().__init__(net, critic, weight, **options)
        self.prior_weight, self.gamma, self.floor = prior_weight, gamma, floor

    def loss(self, batch) -> dict[str, Tensor]:
        """``supervised``, ``prior`` and ``adversarial``, weighted."""
        part, answer = batch.labelled, self.net(batch.unlabelled.images).softmax(1)
        if "atlas" not in part.extras:
            raise ValueError("The task has no probability atlas: make it with with_atlas().")
        logits, expected = self.net(part.images), part.extras["atlas"].float() / 255
        return {
            "supervised": losses.dice_ce(logits, part.labels),
            "prior": self.prior_weight * self.surprise(logits, part.labels, expected),
            "adversarial": self.weight * verdict_loss(self.critic(answer), 1.0),
        }

    def surprise(self, logits: Tensor, labels: Tensor, expected: Tensor) -> Tensor:
        """The focal cross-entropy, weighted by what ``expected (B, K, *S)`` did not foresee."""
        known = labels != IGNORE
        true = labels.where(known, 0).unsqueeze(1)
        log_p = logits.float().log_softmax(1).gather(1, true)[:, 0]
        weight = self.floor + (1 - expected.gather(1, true)[:, 0]).clamp(min=0).pow(self.gamma)
        weight = weight * known
        focal = (1 - log_p.exp()).pow(self.gamma) * -log_p
        return (weight * focal).sum() / weight.sum().clamp(min=1)

    def critic_loss(self, batch) -> dict[str, Tensor]:
        """Answers to ``labelled`` images to be believed, to ``unlabelled`` ones not."""
        with torch.no_grad():
            parts = (batch.labelled, batch.unlabelled)
            old, new = (self.net(part.images).softmax(1) for part in parts)
        return {
            "labelled": verdict_loss(self.critic(old), 1 - self.smooth),
            "unlabelled": verdict_loss(self.critic(new), 0.0),
        }


@torch.no_grad()
def probability_atlas(registration: Registration, atlases: list[Atlas], images: Tensor) -> Tensor:
    r"""Class frequencies ``(B, K, *S)`` of the atlases' masks, each aligned with the image.

    .. math:: A_{ik} = \frac1N \sum_n [y^n \circ \phi_n]_{ik}

    Args:
        registration: trained; its network aligns.
        atlases: one a subject, which votes with the slice that resembles the image.
        images: ``(B, C, *S)``.
    """
    votes = []
    for atlas in atlases:
        index = atlas.match(images)
        velocity = registration.net(atlas.images[index], images)
        votes.append(registration.move(atlas.one_hot(index), velocity))
    return torch.stack(votes).mean(0)


def with_atlas(task: Task, registration: Registration) -> Task:
    """The task with the probability atlas of each labelled image, as extra ``"atlas"``.

    The *other* labelled subjects make it: with its own mask among the votes, no label of an
    image would be a surprise.

    Raises:
        ValueError: fewer than two labelled subjects.
    """
    where = registration.atlas.images.device
    atlases = [atlas.to(where) for atlas in by_subject(task)]
    if len(atlases) < 2:
        raise ValueError(
            "A probability atlas is an average over subjects, and the task has 1 with labels: "
            "use Task.keep(labelled=n) with n of 2 or more."
        )
    index, size = task.labelled, task.train.labels.shape[1:]
    owners = task.train.subjects[index]
    stored = torch.zeros((len(task.train), task.train.classes, *size), dtype=torch.uint8)
    for number, subject in enumerate(owners.unique()):
        others = atlases[:number] + atlases[number + 1 :]
        shares = probability_atlas(registration, others, atlases[number].images)
        stored[index[owners == subject]] = as_bytes(shares).cpu()
    extras = {**task.train.extras, "atlas": stored}
    return replace(task, train=replace(task.train, extras=extras))


def atlas_prior_training(
    task: Task, budget: Budget | None = None, seed: int = 0, **options
) -> Fitted:
    """Register the labelled images with one another, average their masks, train by the prior.

    Args:
        task: the problem.
        budget: of the registration, and of the segmenter.
        seed: of weights and draws.
        **options: of :class:`DeepAtlasPrior`; ``progress`` and ``device`` go to
            :func:`~lsseg_edu.train.fit`.

    Raises:
        ValueError: fewer than two labelled subjects.
    """
    if len(task.train.subjects[task.labelled].unique()) < 2:
        with_atlas(task, Registration.for_task(task))  # says why
    budget = budget or Budget.auto()
    kwargs = {k: options.pop(k) for k in ("progress", "device", "augment") if k in options}
    first = registered(task, budget, seed, **kwargs)
    informed = with_atlas(task, first.method.eval())
    method = DeepAtlasPrior.for_task(task, seed, **options)
    return last_of([first, fit(method, informed, budget, seed, **kwargs)])
