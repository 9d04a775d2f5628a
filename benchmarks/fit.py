"""What the loop costs: ``fit`` beside bare loops of the same work, and the rest of a training.

Run: ``OMP_NUM_THREADS=1 python benchmarks/fit.py [--rounds 11] [--steps 12]``; about three minutes
on an idle core. It prints a table and ends with status 1 if a target is missed.

A bare loop is what one would write for one method on one machine: no named terms, no check for
NaN, no progress bar, no checkpoint. Its work is that of ``fit``: the same draws, augmentation,
network, loss and optimiser. Both are timed by turns, in processor time (which does not count the
waiting for a busy machine), and the median of the ratios of neighbours is reported: what slows
one of the two slows its neighbour as well. The set-up of a training is counted in.
"""

import argparse
import copy
import io
import subprocess
import sys
from contextlib import redirect_stderr
from functools import partial
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from time import process_time

import torch
from tqdm import tqdm

from lsseg_edu import losses, networks
from lsseg_edu.augment import Augment
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.semi.consistency import MeanTeacher
from lsseg_edu.train import Budget, Supervised, fit
from lsseg_edu.train.budget import one_cycle

BATCH = 16


def bare_supervised(task, net, budget):
    """Draw, augment, forward, backward, step."""
    net.train()
    augment, generator = Augment.strong(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=budget.rate, weight_decay=1e-4)
    pool, curve = task.labelled, []
    for step in range(budget.steps):
        optimiser.param_groups[0]["lr"] = budget.rate * one_cycle(step / budget.steps)
        index = pool[torch.randperm(len(pool), generator=generator)[:BATCH]]
        images, labels = augment(task.train.images[index], task.train.labels[index], generator)
        loss = losses.dice_ce(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    return curve


def bare_mean_teacher(task, net, budget):
    """The same with unlabelled images, noise, and a teacher; constant weight and decay."""
    net.train()
    teacher = copy.deepcopy(net).requires_grad_(False)
    augment, generator = Augment.strong(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=budget.rate, weight_decay=1e-4)
    pools, curve = (task.labelled, task.unlabelled), []
    for step in range(budget.steps):
        optimiser.param_groups[0]["lr"] = budget.rate * one_cycle(step / budget.steps)
        drawn = [p[torch.randperm(len(p), generator=generator)[:BATCH]] for p in pools]
        (images, labels), (others, _) = (
            augment(task.train.images[i], task.train.labels[i], generator) for i in drawn
        )
        loss = losses.dice_ce(net(images), labels)
        student = net(others + 0.1 * torch.randn_like(others)).softmax(1)
        with torch.no_grad():
            target = teacher(others + 0.1 * torch.randn_like(others)).softmax(1)
        loss = loss + (student - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
        with torch.no_grad():
            torch._foreach_lerp_(list(teacher.parameters()), list(net.parameters()), 0.01)
    return curve


def by_fit(method, task, net, budget):
    """The same work by the library; its progress bar runs, but writes to nowhere."""
    with redirect_stderr(io.StringIO()):
        return fit(method(net), task, budget, device="cpu").history


def cpu_seconds(work) -> float:
    start = process_time()
    work()
    return process_time() - start


def ratio(clock, mine, theirs, rounds: int, title: str) -> tuple[float, float]:
    """Median of ``clock(mine) / clock(theirs)``, timed by turns, and the median of the latter."""
    pairs = []
    for i in tqdm(range(rounds + 1), desc=title):
        if i % 2:
            a, b = clock(mine), clock(theirs)
        else:
            b, a = clock(theirs), clock(mine)
        pairs.append((a, b))
    return median(a / b for a, b in pairs[1:]), median(b for _, b in pairs[1:])


def step_ratio(method, bare, task, budget, rounds) -> tuple[float, float]:
    """``fit`` over the bare loop, and the bare loop's seconds a step."""
    net = networks.unet(task)
    value, seconds = ratio(
        cpu_seconds,
        lambda: by_fit(method, task, copy.deepcopy(net), budget),
        lambda: bare(task, copy.deepcopy(net), budget),
        rounds,
        method.__name__,
    )
    return value, seconds / budget.steps


def augmentation_seconds(task, repeats: int = 40) -> float:
    """Median cost of augmenting one batch."""
    index = task.labelled[:BATCH]
    images, labels = task.train.images[index], task.train.labels[index][:, None]
    generator = torch.Generator().manual_seed(0)
    work = partial(Augment.strong(), images, labels, generator)
    return median(cpu_seconds(work) for _ in range(repeats))


def python_seconds(code: str) -> float:
    """Processor time of a new Python that runs ``code``."""
    start = getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    end = getrusage(RUSAGE_CHILDREN)
    return end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime


def evaluation_seconds(task, net) -> float:
    """Dice and both surface distances of the 20 test patients; MONAI is imported before."""
    few = fit(Supervised(net), task, Budget("brief", steps=60), progress=False, device="cpu")
    evaluate(few, task.test.of(task.test.subjects[:1]))
    return cpu_seconds(lambda: evaluate(few, task.test))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11, help="pairs of trainings compared")
    parser.add_argument("--steps", type=int, default=12, help="of each of these trainings")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = Task.split(load("cardiac"), labelled=3)
    budget = Budget("benchmark", steps=args.steps, batch=BATCH)
    supervised, step = step_ratio(Supervised, bare_supervised, task, budget, args.rounds)
    teacher, long = step_ratio(MeanTeacher, bare_mean_teacher, task, budget, args.rounds)
    package, seconds = ratio(python_seconds, "import lsseg_edu", "import torch", 7, "import")
    loop, _ = ratio(python_seconds, "from lsseg_edu.train import fit", "import torch", 7, "import")
    rows = [
        ("fit over a bare loop, supervised", supervised, 1.05, f"{1000 * step:.0f} ms a step"),
        ("fit over a bare loop, mean teacher", teacher, 1.08, f"{1000 * long:.0f} ms a step"),
        ("augmentation over a step", augmentation_seconds(task) / step, 0.15, ""),
        ("import lsseg_edu over import torch", package, 1.2, f"torch {seconds:.1f} s"),
        ("import of the loop over import torch", loop, 1.2, ""),
        ("seconds to evaluate 20 patients", evaluation_seconds(task, networks.unet(task)), 5, ""),
    ]
    print(f"{'what (U-Net 64x64, batch 16, CPU)':<38}{'measured':>9}{'target':>8}")
    for what, measured, target, note in rows:
        verdict = "met" if measured <= target else "MISSED"
        print(f"{what:<38}{measured:>9.3f}{target:>8.2f}  {verdict:<7}{note}")
    return int(any(measured > target for _, measured, target, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
