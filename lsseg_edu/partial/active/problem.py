"""Where active learning begins: a few outlined slices, a pool, and an annotator."""

from __future__ import annotations

from dataclasses import replace

from lsseg_edu.data import Task, annotate, load


def slices_on_request(
    seed: int = 0, pool: int = 20, labelled: int = 2, count: int = 2, size: int = 64
) -> Task:
    """Cardiac slices: few are outlined, and an annotator outlines others on request.

    Args:
        seed: draws the subjects of the pool, and of these the labelled ones.
        pool: training subjects; a score for each of their slices is wanted in every round.
        labelled: subjects with outlines to begin with.
        count: slices outlined of each of their stacks (one at end-diastole, one at end-systole).
        size: pixels along a side.
    """
    everything = everything_outlined(seed, pool, size)
    start = annotate.slices(everything.keep(labelled, seed), count=count, seed=seed)
    return annotate.with_annotator(start, everything.train.labels)


def everything_outlined(seed: int = 0, pool: int = 20, size: int = 64) -> Task:
    """The same subjects with the outlines of all their slices: the upper reference."""
    task = Task.split(load("cardiac", size=size)).keep(pool, seed)
    return replace(task, train=task.train.select(task.labelled))
