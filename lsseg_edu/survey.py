"""The map: every technique of the survey, and where in this project it lives.

``survey.csv`` is plain data, one row a technique:

======================  ========================================================================
``id, section, name``   as the survey has them; ``ref`` is its reference number there
``priority``            ``core``, ``variant``, ``mention`` (context), ``beyond`` (later than
                        the survey) or ``reference`` (an arm to compare with, not a technique)
``what``                the technique in a sentence
``object``              ``package.module:name`` of the code; empty while it is not built
``chapter``             page and section of the book, ``semi/consistency#mean-teacher``
``test``                the pytest node that fails when the mechanism is taken out
``protocols``           the scoreboard protocols it has been run under, space-separated
``simplified``          what we leave out, in a few words
======================  ========================================================================

Reference: Peng, Wang, "Medical Image Segmentation with Limited Supervision: A Review of Deep
Network Models", IEEE Access 2021.
"""

from __future__ import annotations

import csv
import functools
from importlib import import_module, resources
from typing import NamedTuple


class Row(NamedTuple):
    """One technique; the columns of ``survey.csv``."""

    id: str
    section: str
    name: str
    ref: str
    priority: str
    what: str
    object: str
    chapter: str
    test: str
    protocols: str
    simplified: str

    @property
    def built(self) -> bool:
        """Whether the technique is in the library."""
        return bool(self.object)


@functools.cache
def rows() -> tuple[Row, ...]:
    """All techniques, in the survey's order."""
    text = resources.files("lsseg_edu").joinpath("survey.csv").read_text(encoding="utf-8")
    return tuple(Row(**line) for line in csv.DictReader(text.splitlines()))


def find(id: str) -> Row:
    """The row of a technique.

    Raises:
        ValueError: no such id; the sentence names the nearest ones.
    """
    for row in rows():
        if row.id == id:
            return row
    from difflib import get_close_matches

    near = get_close_matches(id, [row.id for row in rows()], 3, 0.3)
    raise ValueError(f"The survey has no technique {id!r}; did you mean {' or '.join(near)}?")


def title(arm: str) -> str:
    """What readers call an arm of the scoreboard: the technique's name, and its options if any.

    Example:
        >>> title("mean-teacher:weight=0")
        'Mean Teacher (weight=0)'
    """
    id, _, options = arm.partition(":")
    return find(id).name + (f" ({options})" if options else "")


def load(id: str):
    """The class or function that implements a technique.

    Raises:
        ValueError: no such id, or not built yet.
    """
    row = find(id)
    if not row.built:
        raise ValueError(f"{row.name} ({id}) is on the map but not in the library yet.")
    module, name = row.object.split(":")
    return getattr(import_module(module), name)
