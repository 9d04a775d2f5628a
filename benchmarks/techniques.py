"""What the loop adds to each technique: ``fit`` beside a bare loop over the technique's own losses.

Run: ``OMP_NUM_THREADS=1 python benchmarks/techniques.py [--rounds 5] [--steps 8] [--methods ...]``;
a few minutes on an idle core. It prints a line for every Method of the survey that trains on the
cardiac phantom, and ends with status 1 if one of them misses the target of 1.10.

The bare loop draws, augments, and steps each player once; it keeps no history, checks nothing,
and shows no progress. The set-up of a training is counted in on both sides.
"""

import argparse
import inspect
import sys

import torch
from fit import cpu_seconds, ratio

from lsseg_edu import survey
from lsseg_edu.augment import Augment
from lsseg_edu.data import Task, load
from lsseg_edu.train import Batch, Budget, Method, fit
from lsseg_edu.train.batch import augmented, pool
from lsseg_edu.train.budget import one_cycle

TARGET = 1.10


def bare(method, task, budget):
    """Draw, augment, and for each player forward, backward, step."""
    method.train()
    draws = torch.Generator().manual_seed(0)
    augments = {"labelled": Augment.strong(), "unlabelled": method.weak or Augment.strong()}
    pools = {n: pool(task, n, "cpu") for n in augments if getattr(method, n)}
    players = method.players()
    optimisers = [torch.optim.AdamW(p.parameters, weight_decay=1e-4) for p in players]
    for step in range(budget.steps):
        progress = step / budget.steps
        halves = {"labelled": None, "unlabelled": None}
        for name, items in pools.items():
            index = items[torch.randperm(len(items), generator=draws)[: budget.batch]]
            halves[name] = augmented(task.train, index, augments[name], draws)
        batch = Batch(halves["labelled"], halves["unlabelled"], progress)
        for player, optimiser in zip(players, optimisers, strict=True):
            optimiser.param_groups[0]["lr"] = budget.rate * player.rate * one_cycle(progress)
            loss = sum(player.loss(batch).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        method.after_step((step + 1) / budget.steps)


def methods(wanted):
    """Ids and classes of the survey's Methods that train on slices with few labels."""
    for row in survey.rows():
        kind = survey.load(row.id) if row.built and "cardiac-3" in row.protocols.split() else None
        if inspect.isclass(kind) and issubclass(kind, Method) and (not wanted or row.id in wanted):
            yield row.id, kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="pairs of trainings compared")
    parser.add_argument("--steps", type=int, default=8, help="of each of these trainings")
    parser.add_argument("--methods", nargs="*", default=[], help="ids of the survey")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = Task.split(load("cardiac"), labelled=3)
    budget, missed = Budget("benchmark", steps=args.steps), []
    for id, kind in methods(args.methods):
        value, seconds = ratio(
            cpu_seconds,
            lambda kind=kind: fit(kind.for_task(task), task, budget, progress=False, device="cpu"),
            lambda kind=kind: bare(kind.for_task(task), task, budget),
            args.rounds,
            id,
        )
        missed += [id] * (value > TARGET)
        print(
            f"{id:<24}{value:6.3f} x its bare loop, {1000 * seconds / budget.steps:4.0f} ms a step"
        )
    print(f"target {TARGET}: " + (f"MISSED by {', '.join(missed)}" if missed else "met by all"))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
