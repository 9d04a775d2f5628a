"""Run techniques under protocols, in parallel, and append what comes out."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor
from tqdm.auto import tqdm

import lsseg_edu
from lsseg_edu import evaluate
from lsseg_edu.data import Cohort
from lsseg_edu.partial.interactive.user import with_user
from lsseg_edu.study.protocols import protocol
from lsseg_edu.study.recipes import train_method
from lsseg_edu.study.results import append, read
from lsseg_edu.train import Budget, Fitted, device


def run(
    pairs: Iterable[tuple[str, str]],
    seeds: int,
    path,
    jobs: int = 1,
    budget: Budget | None = None,
) -> list[dict]:
    """Train each (method, protocol) for ``seeds`` seeds; skip what ``path`` has.

    A run that is killed loses only the trainings under way: call it again. Any joblib backend
    will do (``with joblib.parallel_config("dask"): run(...)``).

    Args:
        pairs: ids of ``survey.csv``, with options after a colon for controls
            (``"mean-teacher:weight=0"``), and names of :data:`~lsseg_edu.study.PROTOCOLS`.
        seeds: seeds 0 to ``seeds - 1``.
        path: the results file.
        jobs: parallel trainings, one thread each.
        budget: instead of the protocol's own, to try things out. Use another ``path`` then.

    Returns:
        The new rows.
    """
    done = {(r["method"], r["options"], r["protocol"], r["seed"]) for r in read(path)}
    asked = [(*_parse(m), protocol(p).name, seed) for seed in range(seeds) for m, p in pairs]
    todo = [one for one in asked if one not in done]
    parallel = Parallel(jobs, return_as="generator_unordered")
    runs = parallel(delayed(one_run)(*one, budget) for one in todo)
    new = []
    for row in tqdm(runs, total=len(todo), desc="runs"):
        append(path, row)
        new.append(row)
    return new


def one_run(method: str, options: str, name: str, seed: int, budget: Budget | None = None) -> dict:
    """Train and test once. ``seconds`` is processor time on a CPU (others may share it)."""
    torch.set_num_threads(1)
    p = protocol(name)
    budget = budget or p.budget
    task = p.upper(seed) if method == "full-labels" else p.task(seed)
    kind = device().type
    clock = time.process_time if kind == "cpu" else time.perf_counter
    start = clock()
    keywords = {k: ast.literal_eval(v) for k, v in (o.split("=") for o in options.split())}
    fitted = train_method(method, task, budget, seed, **keywords)
    seconds = clock() - start
    if p.clicks:
        probs = with_user(fitted, task.test, p.clicks)[-1]
    else:
        probs = fitted.predict(task.test.images).cpu()
    return {
        "method": method,
        "options": options,
        "protocol": name,
        "cohort": p.cohort,
        "supervision": task.supervision,
        "labelled": len(task.train.subjects[task.labelled].unique()),
        "seed": seed,
        "seconds": f"{seconds:.1f}",
        "steps": budget.steps,
        "budget": budget.name,
        "device": kind,
        "version": lsseg_edu.__version__,
        **measured(probs, task.test),
        **over_time(fitted, task.test),
    }


def measured(probs: Tensor, cohort: Cohort) -> dict[str, str]:
    """What the columns of the results say of probabilities ``(N, K, *S)``."""
    predicted = probs.argmax(1)
    report = evaluate.score(predicted, cohort)
    with np.errstate(all="ignore"):
        classes = np.nanmean(report.dice, axis=0)
    objects = {"f1": "", "pq": "", "aji": ""}
    if "instances" in cohort.extras:
        found = evaluate.split_objects(predicted)  # by components all touching objects were one
        means = evaluate.score_instances(found, cohort, numbered=True).means
        objects = {key: f"{means[key]:.4f}" for key in objects}
    return {
        "dice": f"{report.mean_dice:.4f}",
        "dice_per_class": " ".join(f"{d:.4f}" for d in classes),
        "hd95": f"{report.mean_hd95:.3f}",
        "ece": f"{evaluate.expected_calibration_error(probs, cohort.labels.cpu()):.4f}",
        "implausible": f"{evaluate.implausible(predicted, cohort):.4f}",
        "betti": f"{evaluate.betti_error(predicted, cohort).mean():.3f}",
        **objects,
    }


def over_time(fitted: Fitted, cohort: Cohort) -> dict[str, str]:
    """Of active learners ``dice`` is the area under the curve; the last round stands beside it."""
    if not fitted.stages:
        return {"last": "", "curve": ""}
    seconds, dice = evaluate.learning_curve(fitted, cohort)
    return {
        "dice": f"{evaluate.area_under_curve(seconds, dice):.4f}",
        "last": f"{dice[-1]:.4f}",
        "curve": " ".join(f"{s:.0f}:{d:.4f}" for s, d in zip(seconds, dice, strict=True)),
    }


def _parse(method: str) -> tuple[str, str]:
    id, _, options = method.partition(":")
    return id, " ".join(options.split(","))
