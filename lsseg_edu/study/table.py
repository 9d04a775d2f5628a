"""What the results say: means, intervals, paired differences, the gap closed."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from lsseg_edu import survey
from lsseg_edu.evaluate.intervals import Interval, interval_over_seeds
from lsseg_edu.study.protocols import protocol as frozen

MORE_IS_BETTER = ("dice", "f1", "pq", "aji", "last")
"""Columns of the results that a verdict can be given on."""


@dataclass(frozen=True)
class Line:
    """One method under one protocol.

    Attributes:
        method: id, with options if any.
        protocol: name.
        seeds: number of runs.
        dice: mean test Dice and its 95 % interval over seeds.
        difference: the same of the seed-by-seed difference to the baseline, in ``column``; None
            for itself.
        closed: fraction of the gap between baseline and full labels that it closes in ``column``,
            over the seeds that all three have; None if there are none.
        hd95: mean over seeds.
        seconds: mean over seeds.
        score: mean and interval of ``column``.
        column: what arms are compared by.
    """

    method: str
    protocol: str
    seeds: int
    dice: Interval
    difference: Interval | None
    closed: float | None
    hd95: float
    seconds: float
    score: Interval
    column: str

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``undecided`` against the baseline, by the interval alone."""
        if self.difference is None:
            return "baseline"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "undecided"


def summary(
    results: list[dict], protocol: str, baseline: str | None = None, column: str = "dice"
) -> list[Line]:
    """A line a method, best first; runs that lack the column are left out.

    Args:
        results: rows of :func:`lsseg_edu.study.read`.
        protocol: name.
        baseline: the arm that differences are taken to; by default the protocol's own.
        column: what arms are compared by: ``dice``, or ``f1``, ``pq``, ``aji`` of objects, or
            ``last``, the Dice of an active learner's last round.

    Raises:
        ValueError: a column in which more is not better.
    """
    if column not in MORE_IS_BETTER:
        raise ValueError(
            f"Arms are ranked by one of {', '.join(MORE_IS_BETTER)}, in which more is better, "
            f"not by {column!r}: compare two of them with study.difference."
        )
    baseline = baseline or frozen(protocol).baseline
    runs = _runs([r for r in results if not math.isnan(r[column])], protocol)
    base, full = runs.get(baseline, {}), runs.get("full-labels", {})
    lines = [_line(key, protocol, mine, base, full, baseline, column) for key, mine in runs.items()]
    return sorted(lines, key=lambda line: -line.score.mean)


def techniques(
    results: list[dict], protocol: str, pages: Container[str], seeds: int = 3
) -> list[Line]:
    """Those techniques of some pages of the book that were run here, without controls; best first.

    Args:
        results: rows of :func:`lsseg_edu.study.read`.
        protocol: name.
        pages: as in the survey's column ``chapter``, ``{"semi/consistency", ...}``.
        seeds: the least number of runs.
    """
    lines = [x for x in summary(results, protocol) if ":" not in x.method and x.difference]
    page = {x.method: survey.find(x.method).chapter.partition("#")[0] for x in lines}
    lines = [x for x in lines if page[x.method] in pages and x.seeds >= seeds]
    return sorted(lines, key=lambda line: -line.difference.mean)


def difference(
    results: list[dict], protocol: str, method: str, control: str, column: str = "dice"
) -> Interval:
    """Mean of ``method - control`` over the seeds that both have, with its 95 % interval.

    Args:
        results: rows of :func:`lsseg_edu.study.read`.
        protocol: name.
        method, control: arms, with options if any (``"cased:sampling='uniform'"``).
        column: any number of the results: ``dice``, ``hd95``, ``implausible``, ``betti``, ...

    Raises:
        ValueError: no seed has a number of both.
    """
    return interval_over_seeds(paired(results, protocol, method, control, column))


def paired(
    results: list[dict], protocol: str, method: str, control: str, column: str = "dice"
) -> list[float]:
    """``method - control`` of each seed that both have, in the order of the seeds.

    Arguments and errors are those of :func:`difference`.
    """
    runs = _runs(results, protocol)
    mine, other = (runs.get(arm, {}) for arm in (method, control))
    pairs = [mine[s][column] - other[s][column] for s in sorted(mine.keys() & other.keys())]
    pairs = [pair for pair in pairs if not math.isnan(pair)]
    if not pairs:
        raise ValueError(
            f"No seed of {protocol!r} has the {column} of both {method!r} and {control!r}."
        )
    return pairs


def gap(results: list[dict], protocol: str, column: str = "dice") -> float:
    """What the protocol's missing labels cost: full labels minus the baseline, mean over seeds.

    Raises:
        ValueError: one of the two has not been run.
    """
    return difference(results, protocol, "full-labels", frozen(protocol).baseline, column).mean


def gap_closed(method: float, baseline: float, full: float) -> float:
    """``(method - baseline) / (full - baseline)``: 0 as the baseline, 1 as full labels."""
    return (method - baseline) / (full - baseline)


def _runs(results: list[dict], protocol: str) -> dict[str, dict[int, dict]]:
    """Rows of a protocol by arm and seed."""
    runs: dict[str, dict[int, dict]] = {}
    for r in results:
        if r["protocol"] == protocol:
            key = f"{r['method']}:{r['options']}" if r["options"] else r["method"]
            runs.setdefault(key, {})[r["seed"]] = r
    return runs


def _line(key, protocol, mine, base, full, baseline, column) -> Line:
    pairs = [mine[s][column] - base[s][column] for s in mine if s in base]
    dice, score = (interval_over_seeds([r[c] for r in mine.values()]) for c in ("dice", column))
    shared, closed = mine.keys() & base.keys() & full.keys(), None
    if shared and key != baseline:
        arms = ({s: arm[s] for s in shared} for arm in (mine, base, full))
        closed = gap_closed(*(_mean(arm, column) for arm in arms))
    difference = interval_over_seeds(pairs) if pairs and key != baseline else None
    hd95, seconds = _mean(mine, "hd95"), _mean(mine, "seconds")
    return Line(key, protocol, len(mine), dice, difference, closed, hd95, seconds, score, column)


def _mean(runs: dict[int, dict], column: str) -> float:
    return sum(r[column] for r in runs.values()) / len(runs)
