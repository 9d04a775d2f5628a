"""IteR-MRL: every voxel is an agent that moves its own probabilities, and all share one policy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from lsseg_edu import networks
from lsseg_edu.data import IGNORE, annotate
from lsseg_edu.networks import Shape
from lsseg_edu.partial.interactive.held_out import Corrected, HalfAndHalf
from lsseg_edu.partial.interactive.maps import click_maps
from lsseg_edu.train import Player

MOVES = (0.1, 0.2, 0.4)
"""By how much an agent may raise the probability of a class; the paper's values."""


class IterMRL(Corrected):
    r"""Refinement as a game of a few rounds, a click each, won by those who gain cross-entropy.

    Agent :math:`i` sees its surroundings in the image, its probabilities and the click maps
    (the state); it raises the probability of a class by one of :data:`MOVES` (the action,
    see :func:`apply_actions`); and it is paid what that gained (the reward):

    .. math::
        r_i^{(t)} = \ln p_{y_i}^{(t+1)}(i) - \ln p_{y_i}^{(t)}(i), \qquad
        G_i^{(t)} = r_i^{(t)} + \gamma\, G_i^{(t+1)}, \qquad
        A_i^{(t)} = \gamma\, G_i^{(t+1)} - V(s_i^{(t)}),

        L = -\frac1N \sum_{i,t} \Big( \sum_a \pi(a \mid s_i^{(t)})\, r_i^{(t)}(a)
            + \ln \pi(a_i^{(t)} \mid s_i^{(t)})\, A_i^{(t)} \Big)
            + \tfrac12 A^2 - \beta H[\pi] .

    The reward of a move is known for *every* action, so its mean stands in the loss, instead of
    that of the action drawn; only what comes later is estimated from the draw. The gradient is on
    average that of :math:`\ln \pi\, (G - V)`, with less noise.

    Policy :math:`\pi` and value :math:`V` are one convolutional network: all agents share it,
    and a neighbour's state is part of one's own. Actions are drawn in training; later, each agent
    takes the likeliest. An untrained agent stands by what is there, and believes a click nearby: to
    the network's logit of raising class k, :math:`\ln[(1 - \max_l m_l)\, p_k + m_k]` is added, with
    the click maps :math:`m`. Most agents are of the background, and without the first part all of
    them learn to vote for that before they learn anything else; an action that is hardly ever
    tried is not learnt, so without the second sure agents never change sides. (Both were seen on
    validation subjects.)

    Reference: Liao et al., "Iteratively-Refined Interactive 3D Medical Image Segmentation with
    Multi-Agent Reinforcement Learning", CVPR 2020.
    Simplified: several classes, where the paper has two (with two it is the same); synchronous
    advantage actor-critic, with the mean reward of a move; the start of the policy; all networks
    train at the same time, the games begin with answers for held-out subjects
    (:class:`.Corrected`); hints as Gaussian maps, not distances.

    Args:
        net: images ``(B, C, *S)`` to logits ``(B, K, *S)``: the first answer.
        policy: ``(B, C + 2 K, *S)`` to ``(B, 3 K + 1, *S)``: logits of the actions, and the value.
        others: who answers first in training, see :class:`.Corrected`.
        rounds: clicks of an episode, each a pass of the policy: fewer than at test, for the time.
            0: the policy is not trained, a control.
        discount: :math:`\gamma`, the paper's.
        entropy: :math:`\beta`, keeps the policy trying; our choice.
        sigma: of the click maps, in pixels.
    """

    def __init__(
        self,
        net: nn.Module,
        policy: nn.Module,
        others: HalfAndHalf | None = None,
        rounds: int = 3,
        discount: float = 0.95,
        entropy: float = 0.01,
        sigma: float = 3.0,
    ):
        super().__init__(net, others)
        self.policy, self.rounds, self.sigma = policy, rounds, sigma
        self.discount, self.entropy = discount, entropy

    @classmethod
    def for_task(cls, task, seed: int = 0, **options):
        """The baseline's U-Net, and another one as the policy, whose logits begin at 0."""
        c, k, dims = task.train.channels, task.train.classes, task.train.dims
        policy = networks.unet(Shape(c + 2 * k, len(MOVES) * k + 1, dims), seed=seed)
        for values in policy.final_conv.parameters():
            nn.init.zeros_(values)
        return super().for_task(task, seed, policy=policy, **options)

    def players(self) -> list[Player]:
        """The networks, by the supervised loss; the agents, by their rewards."""
        agents = Player("agents", list(self.policy.parameters()), self.game)
        return [*super().players(), *([agents] if self.rounds else [])]

    def game(self, batch) -> dict[str, Tensor]:
        """``actor``, ``critic`` and ``entropy`` (weighted) of one episode on labelled images."""
        images, labels = batch.labelled.images, batch.labelled.labels
        probs = self.first_answers(batch.labelled)
        clicks, played, rewards = images.new_empty(len(images), 0, images.ndim - 1).long(), [], []
        for _ in range(self.rounds):
            new = annotate.clicks(probs.argmax(1), labels).to(images.device)
            clicks = torch.cat([clicks, new[:, None]], 1)
            chances, value = self.decide(images, probs, clicks)
            action = chances.sample()
            paid = gains(probs, labels)
            expected = (chances.probs * paid).sum(-1)
            rewards.append(paid.gather(-1, action.unsqueeze(-1)).squeeze(-1))
            played.append((expected, chances.log_prob(action), value, chances.entropy()))
            probs = apply_actions(probs, action)
        terms, rewards = torch.stack([torch.stack(p) for p in played]), torch.stack(rewards)
        known = (labels != IGNORE).expand_as(rewards)
        return self.terms(*terms.unbind(1), returns(rewards, self.discount) - rewards, known)

    def terms(self, expected, log_prob, value, entropy, later, known) -> dict[str, Tensor]:
        """The three losses, means over known pixels and rounds; all ``(R, B, *S)``."""
        advantage = (later - value)[known]
        return {
            "actor": -(expected[known] + log_prob[known] * advantage.detach()).mean(),
            "critic": 0.5 * advantage.square().mean(),
            "entropy": -self.entropy * entropy[known].mean(),
        }

    def decide(self, images, probs, clicks) -> tuple[Categorical, Tensor]:
        """Chances of the actions of each agent, and what it expects ``(B, *S)``."""
        maps = click_maps(clicks, probs.shape[1], images.shape[2:], self.sigma)
        out = self.policy(torch.cat([images, probs, maps], 1)).float()
        said = (1 - maps.amax(1, keepdim=True)) * probs + maps
        prior = said.clamp(min=0.01).log().repeat_interleave(len(MOVES), 1)
        return Categorical(logits=(out[:, :-1] + prior).movedim(1, -1)), out[:, -1]

    def react(self, images: Tensor, clicks: Tensor, previous: Tensor) -> Tensor:
        """Each agent takes its likeliest action, once."""
        chances, _ = self.decide(images, previous, clicks)
        return apply_actions(previous, chances.logits.argmax(-1))


def apply_actions(probs: Tensor, action: Tensor, most: float = 0.99) -> Tensor:
    r"""Raise one class by :math:`\delta`; the others share what is left, in proportion.

    .. math:: p_k' = \min(p_k + \delta, 0.99), \qquad
              p_j' = p_j\, \frac{1 - p_k'}{1 - p_k} \quad (j \ne k)

    With two classes this is the paper's :math:`p \pm \delta`.

    Args:
        probs: ``(B, K, *S)``.
        action: ``(B, *S)`` in ``0 .. 3 K - 1``: class times three, plus the place in MOVES.
        most: no probability is raised above it, so that nothing is final.
    """
    size = torch.tensor(MOVES, device=probs.device)[action % len(MOVES)].unsqueeze(1)
    k = (action // len(MOVES)).unsqueeze(1)
    old = probs.gather(1, k)
    new = torch.where(old > most, old, (old + size).clamp(max=most))
    rest = (1 - new) / (1 - old).clamp(min=1e-6)
    return (probs * rest).scatter(1, k, new)


def log_likelihood(probs: Tensor, labels: Tensor) -> Tensor:
    """Log-probability ``(B, *S)`` of the truth, at least ln 0.01; 0 where nobody annotated."""
    known = labels != IGNORE
    mine = probs.gather(1, labels.where(known, 0).unsqueeze(1)).squeeze(1)
    return mine.clamp(min=0.01).log() * known


def gains(probs: Tensor, labels: Tensor) -> Tensor:
    """What each action would gain in log-likelihood: ``(B, *S, 3 K)``."""
    before, actions = log_likelihood(probs, labels), range(len(MOVES) * probs.shape[1])
    after = [apply_actions(probs, torch.full_like(labels, a)) for a in actions]
    return torch.stack([log_likelihood(p, labels) - before for p in after], -1)


def returns(rewards: Tensor, discount: float) -> Tensor:
    """Discounted sum ``(R, ...)`` of the rewards from each round on."""
    total, found = torch.zeros_like(rewards[0]), []
    for reward in rewards.flip(0):
        total = reward + discount * total
        found.append(total)
    return torch.stack(found[::-1])
