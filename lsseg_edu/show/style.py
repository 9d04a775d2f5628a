"""One plotting style: colour-blind safe, on a white card, readable on a light or a dark page."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler

COLOURS = ("#E69F00", "#56B4E9", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#0072B2")
"""Colours of the classes 1, 2, ... (Okabe and Ito, 2008: told apart with any colour vision)."""

LINES = ("#595959", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of the arms of a chart, the baseline first; all of them dark enough on white."""

DASHES = ("-", "-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

WIDTH = 6.6
"""Width of a page in inches: a figure of this width shows its fonts at their true size."""

STYLE = {
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.prop_cycle": cycler(color=LINES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "normal",
    "axes.labelsize": 10,
    "axes.grid": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "hatch.linewidth": 0.5,
}


def use_style() -> None:
    """Make the book's style Matplotlib's default for this session."""
    mpl.rcParams.update(STYLE)


def subplots(rows: int = 1, columns: int = 1, width: float = WIDTH, height=2.8, **kwargs):
    """A figure of the book and its axes, as ``matplotlib.pyplot.subplots`` gives them.

    Args:
        rows: rows of axes.
        columns: columns of axes.
        width: inches; the page has :data:`WIDTH`.
        height: inches.
        **kwargs: passed on, e.g. ``sharey=True``.

    Example:
        >>> fig, ax = subplots()
        >>> line = ax.plot([0, 1], [0, 1])
        >>> picture = figure(fig, alt="A straight line from 0 to 1.")  # doctest: +SKIP
    """
    use_style()
    return plt.subplots(rows, columns, figsize=(width, height), **kwargs)


def colour(k: int) -> str:
    """Colour of class ``k``; white for the background, and from the start again after seven."""
    return COLOURS[(k - 1) % len(COLOURS)] if k else "#FFFFFF"
