"""What the results say: means, intervals, paired differences, the gap closed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lsseg_edu.evaluate.intervals import Interval, interval_over_seeds
from lsseg_edu.study.protocols import protocol as frozen


@dataclass(frozen=True)
class Line:
    """One method under one protocol.

    Attributes:
        method: id, with options if any.
        protocol: name.
        seeds: number of runs.
        dice: mean test Dice and its 95 % interval over seeds.
        difference: the same of the seed-by-seed difference to the baseline; None for itself.
        closed: fraction of the gap between baseline and full labels that it closes, over the
            seeds that all three have; None if there are none.
        hd95: mean over seeds.
        seconds: mean over seeds.
    """

    method: str
    protocol: str
    seeds: int
    dice: Interval
    difference: Interval | None
    closed: float | None
    hd95: float
    seconds: float

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``undecided`` against the baseline, by the interval alone."""
        if self.difference is None:
            return "baseline"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "undecided"


def summary(results: list[dict], protocol: str, baseline: str | None = None) -> list[Line]:
    """A line a method, best first.

    Args:
        results: rows of :func:`lsseg_edu.study.read`.
        protocol: name.
        baseline: the arm that differences are taken to; by default the protocol's own.
    """
    baseline = baseline or frozen(protocol).baseline
    runs = _runs(results, protocol)
    base, full = runs.get(baseline, {}), runs.get("full-labels", {})
    lines = [_line(key, protocol, mine, base, full, baseline) for key, mine in runs.items()]
    return sorted(lines, key=lambda line: -line.dice.mean)


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
    runs = _runs(results, protocol)
    mine, other = (runs.get(arm, {}) for arm in (method, control))
    pairs = [mine[s][column] - other[s][column] for s in mine.keys() & other.keys()]
    pairs = [pair for pair in pairs if not math.isnan(pair)]
    if not pairs:
        raise ValueError(
            f"No seed of {protocol!r} has the {column} of both {method!r} and {control!r}."
        )
    return interval_over_seeds(pairs)


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


def _line(key, protocol, mine, base, full, baseline) -> Line:
    pairs = [mine[s]["dice"] - base[s]["dice"] for s in mine if s in base]
    dice = interval_over_seeds([r["dice"] for r in mine.values()])
    shared, closed = mine.keys() & base.keys() & full.keys(), None
    if shared and key != baseline:
        arms = ({s: arm[s] for s in shared} for arm in (mine, base, full))
        closed = gap_closed(*(_mean(arm, "dice") for arm in arms))
    difference = interval_over_seeds(pairs) if pairs and key != baseline else None
    hd95, seconds = _mean(mine, "hd95"), _mean(mine, "seconds")
    return Line(key, protocol, len(mine), dice, difference, closed, hd95, seconds)


def _mean(runs: dict[int, dict], column: str) -> float:
    return sum(r[column] for r in runs.values()) / len(runs)
