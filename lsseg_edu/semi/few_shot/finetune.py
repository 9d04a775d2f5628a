"""Fine-tuning on the support set, and the control that has nothing else."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from lsseg_edu import losses, networks
from lsseg_edu.data import Cohort
from lsseg_edu.semi.few_shot.conditioned import support_of
from lsseg_edu.train import Budget, Fitted, Method, Player, Supervised, fit


class SupportFinetune(Method):
    r"""Gradient steps on the support set, until a watched loss stops falling.

    :math:`\theta \leftarrow \theta - \eta \nabla L(\theta;\, \text{support})`. The weights that
    answer are those of the step with the lowest watched loss; once it has not fallen for
    ``patience`` steps they are kept for good (early stopping). Training goes on behind them, so
    that the history shows what stopping spared us.

    Args:
        net: trained on base classes, with a new head for the novel ones.
        watched: a support item held out from the gradient steps; with one shot the support
            itself, whose loss can say that nothing more is learnt, but not that too much is.
        patience: steps without a new lowest loss.
        rate: learning rate as a multiple of the budget's; a quarter, to keep what the base
            classes taught.
    """

    def __init__(self, net: nn.Module, watched: Cohort, patience: int = 50, rate: float = 0.25):
        super().__init__(net)
        self.best = copy.deepcopy(net).requires_grad_(False)
        self.patience, self.rate = patience, rate
        self.register_buffer("watched_images", watched.images)
        self.register_buffer("watched_labels", watched.labels)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("kept_at", torch.zeros((), dtype=torch.long))
        self.register_buffer("watched", self.watch())
        self.register_buffer("lowest", self.watched.clone())

    def players(self) -> list[Player]:
        """One player, slower than the budget's."""
        return [Player("net", list(self.net.parameters()), self.loss, self.rate)]

    def loss(self, batch) -> dict[str, Tensor]:
        """``support``, and ``watched``, a constant that moves nothing and is only logged."""
        support = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        return {"support": support, "watched": self.watched.clone()}

    @torch.no_grad()
    def watch(self) -> Tensor:
        """The loss of the watched items as they are, not augmented."""
        return losses.dice_ce(self.net(self.watched_images), self.watched_labels)

    def after_step(self, progress: float):
        """Keep these weights if they are the best so far and patience is not over."""
        self.steps += 1
        self.watched.copy_(self.watch())
        if self.watched < self.lowest and not self.stopped:
            self.best.load_state_dict(self.net.state_dict())
            self.lowest.copy_(self.watched)
            self.kept_at.copy_(self.steps)

    @property
    def stopped(self) -> bool:
        """Whether patience is over."""
        return bool(self.steps - self.kept_at > self.patience)

    def overfit(self) -> float:
        """How far the watched loss rose from the kept weights to the last step, in its units."""
        return float(self.watched - self.lowest)

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities ``(B, 1 + novel, *S)`` of the kept weights."""
        return self.best(images).float().softmax(1)


def fss_finetune(
    task,
    budget: Budget | None = None,
    seed: int = 0,
    patience: int = 50,
    rate: float = 0.25,
    **kwargs,
) -> Fitted:
    """Train on the base classes, then give the network a new head and train on the support set.

    The last support item is held out to stop by if there are two or more and the others still
    show every class; else the support loss itself is watched.
    ``fitted.history`` holds both losses, ``fitted.method.overfit()`` the rise that was avoided.

    Args:
        task: a few-shot task.
        budget: of the base training; fine-tuning takes half its steps.
        seed: of weights and draws.
        patience: see :class:`SupportFinetune`.
        rate: see :class:`SupportFinetune`.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.

    Reference: Caelles, Maninis, Pont-Tuset, Leal-Taixe, Cremers, Van Gool, "One-Shot Video
    Object Segmentation", CVPR 2017, adapts a network to one annotated frame in this way.
    """
    support, budget = support_of(task), budget or Budget.auto()
    base = fit(Supervised.for_task(task, seed), task, budget, seed, **kwargs)
    given, watched = hold_out(support)
    net = with_new_head(base.method.net.cpu(), support, seed)
    method = SupportFinetune(net, support.select(watched), patience, rate)
    few = replace(budget, steps=max(budget.steps // 2, 1))
    tuned = fit(method, task.on_support(given), few, seed, **kwargs)
    tuned.seconds += base.seconds
    return tuned


def with_new_head(base: nn.Module, support: Cohort, seed: int) -> nn.Module:
    """The base network with a fresh last convolution, one output for each class of ``support``."""
    net = networks.unet(support, seed=seed)
    body = {k: v for k, v in base.state_dict().items() if not k.startswith("final_conv.")}
    net.load_state_dict({**net.state_dict(), **body})
    return net


def hold_out(support: Cohort) -> tuple[list[int], list[int]]:
    """Support items to train with, and those to watch; the same ones if none can be spared."""
    everyone = list(range(len(support)))
    left = {*support.labels[:-1].unique().tolist()}
    if left >= set(range(support.classes)):
        return everyone[:-1], everyone[-1:]
    return everyone, everyone


def support_only(task, budget: Budget | None = None, seed: int = 0, **kwargs) -> Fitted:
    """The scratch control: the baseline trained on the support set and on nothing else.

    What base classes, episodes or superpixels are worth is what they add to this.

    Args:
        task: a few-shot task.
        budget: by default :meth:`Budget.auto`.
        seed: of weights and draws.
        **kwargs: passed on to :func:`~lsseg_edu.train.fit`.
    """
    support_of(task)
    few = task.on_support()
    return fit(Supervised.for_task(few, seed), few, budget, seed, **kwargs)
