"""Charts of results: every one shows its seeds or its interval."""

from __future__ import annotations

from itertools import cycle

import numpy as np

from lsseg_edu.show.picture import Picture, figure
from lsseg_edu.show.style import DASHES, LINES, MARKERS, subplots


def curves(
    runs: dict,
    x=None,
    *,
    alt: str,
    xlabel: str = "training step",
    ylabel: str = "Dice",
    window: int = 1,
) -> Picture:
    """How does something change while training? One line per arm, a band over its seeds.

    The line is the mean over the runs, the band goes from the lowest to the highest run.

    Args:
        runs: ``{arm: (T,) or (seeds, T)}``, the baseline first.
        x: ``(T,)``; by default 1, 2, ..., T.
        alt: the alt text.
        xlabel: what ``x`` is.
        ylabel: what the values are.
        window: average over so many neighbouring points first (losses are noisy).
    """
    fig, ax = subplots()
    for (name, values), line, dash in zip(runs.items(), cycle(LINES), cycle(DASHES)):
        values = _smooth(np.atleast_2d(np.asarray(values, float)), window)
        steps = np.arange(1, values.shape[1] + 1) if x is None else x
        ax.plot(steps, values.mean(0), color=line, linestyle=dash, label=name)
        if len(values) > 1:
            ax.fill_between(steps, values.min(0), values.max(0), color=line, alpha=0.2, lw=0)
    return _finish(fig, ax, xlabel, ylabel, alt)


def budget(
    results: dict, *, alt: str, xlabel="labelled subjects", ylabel="Dice", full=None
) -> Picture:
    """What does another label buy? The score of every seed over the amount of labels.

    Args:
        results: ``{arm: {amount: [score of every seed]}}``, the baseline first.
        alt: the alt text.
        xlabel: what the amount is: subjects, slices, seconds of an annotator.
        ylabel: the score.
        full: score with all labels, drawn as a line.
    """
    fig, ax = subplots()
    arms = zip(results.items(), cycle(LINES), cycle(DASHES), cycle(MARKERS))
    for (name, scores), line, dash, marker in arms:
        amounts = sorted(scores)
        means = [np.mean(scores[a]) for a in amounts]
        ax.plot(amounts, means, color=line, linestyle=dash, marker=marker, label=name)
        for a in amounts:
            ax.plot(np.full(len(scores[a]), a), scores[a], ".", color=line, alpha=0.5, ms=6)
    if full is not None:
        ax.axhline(full, color="black", linestyle=":", linewidth=1.2, label="all labels")
    ax.set_xscale("log")
    ticks = sorted({a for scores in results.values() for a in scores})
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    return _finish(fig, ax, xlabel, ylabel, alt)


def bars(
    intervals: dict, *, alt: str, xlabel="gap to full supervision closed (%)", lines=None
) -> Picture:
    """Who gains how much, and how sure is it? One bar per arm, with its interval.

    A bar whose interval contains the first of ``lines`` (by default 0) is pale: no effect shown.

    Args:
        intervals: ``{arm: (mean, low, high)}``.
        alt: the alt text.
        xlabel: what is measured.
        lines: ``{name: x}`` reference lines, e.g. ``{"supervised": 0, "all labels": 100}``.

    Raises:
        ValueError: no arm.
    """
    if not intervals:
        raise ValueError("There is no bar to draw: give {arm: (mean, low, high)}.")
    lines = lines or {"": 0.0}
    start = next(iter(lines.values()))
    mean, low, high = np.array([intervals[name] for name in intervals], float).T
    fig, ax = subplots(height=0.9 + 0.34 * len(intervals))
    rows = np.arange(len(intervals))
    pale = (low <= start) & (start <= high)
    fills = np.where(pale, "#BFD7E8", LINES[1])
    ax.barh(rows, mean - start, left=start, color=fills, height=0.62, zorder=1)
    error = [mean - low, high - mean]
    ax.errorbar(mean, rows, xerr=error, fmt="none", ecolor="black", capsize=3, lw=1.2)
    above = ax.get_xaxis_transform()
    for name, x in lines.items():
        ax.axvline(x, color="black", linewidth=0.9, linestyle="-" if x == start else ":")
        ax.text(x, 1.02, name, transform=above, ha="center", fontsize=9)
    ax.set_yticks(rows, list(intervals))
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    return figure(fig, alt)


def _smooth(values, window):
    if window <= 1:
        return values
    padded = np.pad(values, ((0, 0), (window // 2, (window - 1) // 2)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, window, axis=1).mean(-1)


def _finish(fig, ax, xlabel, ylabel, alt) -> Picture:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(axis="y", color="#E0E0E0", linewidth=0.7)
    ax.set_axisbelow(True)
    fig.legend(loc="outside right upper")
    return figure(fig, alt)
