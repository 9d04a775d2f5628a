"""The one training loop of the library."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lsseg_edu.data import Task
from lsseg_edu.train.batch import Batch, Part, augmented, pool
from lsseg_edu.train.budget import Budget, one_cycle
from lsseg_edu.train.budget import device as choose_device
from lsseg_edu.train.checkpoint import load_checkpoint, save_checkpoint
from lsseg_edu.train.fitted import Fitted
from lsseg_edu.train.method import Method


def fit(
    method: Method,
    task: Task,
    budget: Budget | None = None,
    seed: int = 0,
    augment=None,
    checkpoint=None,
    every: int = 100,
    device: str | None = None,
    progress: bool = True,
    chances: Callable[[float], Tensor] | None = None,
) -> Fitted:
    """Train a method on a task: draw, augment, forward, backward, step.

    The labelled images of step t depend on ``seed`` alone, not on the method: the baseline and
    the technique it is compared with see the same images, warped the same way.

    Args:
        method: what to minimise; trained in place.
        task: images, and the supervision that is left.
        budget: steps, batch size, learning rate; by default :meth:`Budget.auto`.
        seed: draws batches, augmentation and dropout (the network's weights have their own).
        augment: ``(images, labels, generator) -> images, labels``; by default
            ``Augment.strong()``, the same for every method.
        checkpoint: a file to save to every ``every`` steps and to resume from if it is there.
            A training killed at any step ends, on the CPU, with bitwise the same weights.
        every: steps between checkpoints.
        device: by default CUDA where there is one.
        progress: show a progress bar.
        chances: progress in [0, 1) to ``(n,)`` non-negative weights of the ``n`` labelled items, in
            the order of ``task.labelled``: curricula draw by them. By default all alike.

    Returns:
        The trained method, its history and the seconds. Ctrl-C returns what there is so far.

    Raises:
        FloatingPointError: a loss term became NaN or infinite; the sentence names the term.
        ValueError: no annotated image, no unlabelled one where the method needs them, none with a
            chance, a checkpoint that cannot be read, CUDA asked for and absent.
    """
    budget = budget or Budget.auto()
    run = Run(method, task, budget, seed, augment, choose_device(device), chances)
    if checkpoint and Path(checkpoint).exists():
        run.load(checkpoint)
    start, interrupted = time.perf_counter(), False
    quiet = not progress or os.environ.get("TQDM_DISABLE") == "1"  # its notebook bar is deaf to it
    bar = tqdm(total=budget.steps, initial=run.step, desc=type(method).__name__, disable=quiet)
    try:
        while run.step < budget.steps:
            run.one_step()
            bar.update()
            if checkpoint and (run.step % every == 0 or run.step == budget.steps):
                run.save(checkpoint)
    except KeyboardInterrupt:
        interrupted = True
        if checkpoint:
            run.save(checkpoint)
    finally:
        bar.close()
    return Fitted(method, run.history, time.perf_counter() - start, interrupted)


class Run:
    """One training: everything that changes from step to step, so that it can be saved."""

    def __init__(
        self, method: Method, task: Task, budget: Budget, seed: int, augment, device, chances=None
    ):
        if augment is None:
            from lsseg_edu.augment import Augment

            augment = Augment.strong()
        torch.manual_seed(seed)
        self.method, self.budget = method.to(device).train(), budget
        self.device, self.step, self.history = device, 0, {}
        self.train, self.chances = task.train.to(device), chances
        halves = [name for name in ("labelled", "unlabelled") if getattr(method, name)]
        self.pools = {name: pool(task, name, device) for name in halves}
        self.augments = {"labelled": augment, "unlabelled": method.weak or augment}
        self.generators = {  # one a pool: the labelled draws do not depend on the method
            name: torch.Generator(device).manual_seed(2 * seed + (name == "unlabelled"))
            for name in halves
        }
        self.players = method.players()
        self.optimisers = [
            torch.optim.AdamW(p.parameters, lr=budget.rate * p.rate, weight_decay=1e-4)
            for p in self.players
        ]
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def one_step(self):
        """The loop's body; the baseline chapter writes the same lines by hand."""
        progress = self.step / self.budget.steps
        batch = Batch(self.draw("labelled"), self.draw("unlabelled"), progress)
        for player, optimiser in zip(self.players, self.optimisers, strict=True):
            optimiser.param_groups[0]["lr"] = self.budget.rate * player.rate * one_cycle(progress)
            with torch.autocast(self.device.type, enabled=self.scaler.is_enabled()):
                terms = player.loss(batch)
            self.log(player.name, terms)
            optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(sum(terms.values())).backward()
            self.scaler.step(optimiser)
        self.scaler.update()
        self.step += 1
        with torch.no_grad():
            self.method.after_step(self.step / self.budget.steps)

    def draw(self, name: str) -> Part | None:
        """A batch by index from the cohort that is already on the device, augmented as a whole."""
        if name not in self.pools:
            return None
        pool, generator, size = self.pools[name], self.generators[name], self.budget.batch
        if self.chances and name == "labelled":
            order = self.draw_by_chance(size, generator)
        else:
            order = torch.randperm(len(pool), generator=generator, device=self.device)
            order = order.repeat(-(-size // len(pool)))[:size]
        return augmented(self.train, pool[order], self.augments[name], generator)

    def draw_by_chance(self, size: int, generator: torch.Generator) -> Tensor:
        """Without replacement, unless fewer items than the batch needs have a chance."""
        chances = self.chances(self.step / self.budget.steps).to(self.device)
        few = int((chances > 0).sum())
        if few == 0:
            raise ValueError("The pool is empty, no labelled item has a chance: start with more.")
        return torch.multinomial(chances, size, replacement=few < size, generator=generator)

    def log(self, player: str, terms: dict[str, Tensor]):
        """Record every term; stop before a broken one reaches the weights."""
        for name, value in terms.items():
            value = float(value.detach())
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"The loss term {name!r} of {player!r} is {value} at step {self.step}: the "
                    f"weights are those of the step before. Try a lower rate or look at its inputs."
                )
            self.history.setdefault(name, []).append(value)

    def state(self) -> dict:
        return {
            "method": self.method.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "scaler": self.scaler.state_dict(),
            "generators": {k: g.get_state() for k, g in self.generators.items()},
            "global": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "step": self.step,
            "history": self.history,
        }

    def save(self, path):
        save_checkpoint(self.state(), path)

    def load(self, path):
        state = load_checkpoint(path)
        try:
            self.method.load_state_dict(state["method"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.scaler.load_state_dict(state["scaler"])
            for name, saved in state["generators"].items():
                self.generators[name].set_state(saved)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise ValueError(
                f"The checkpoint {path} belongs to another method or network: "
                f"give this training a file of its own."
            ) from error
        torch.set_rng_state(state["global"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        self.step, self.history = state["step"], state["history"]
