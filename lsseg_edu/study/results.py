"""One line a run, appended; never rewritten."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

RESULTS = Path(__file__).with_name("results.csv")
"""The book's own results: a link to ``book/scoreboard/results.csv``, packed into the wheel."""

COLUMNS = (
    *("method", "options", "protocol", "cohort", "supervision", "labelled", "seed"),
    *("dice", "dice_per_class", "hd95", "seconds", "steps", "budget", "device", "version"),
    *("ece", "implausible", "betti", "f1", "pq", "aji", "last", "curve"),
)


def append(path, row: dict) -> None:
    """Append one run with a single write, so that a kill leaves whole lines or nothing.

    Raises:
        ValueError: the row lacks a column or has a strange one.
    """
    if set(row) != set(COLUMNS):
        raise ValueError(f"A result has the columns {', '.join(COLUMNS)}, not {', '.join(row)}.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not path.exists() or path.stat().st_size == 0:
        writer.writeheader()
    elif not path.read_bytes().endswith(b"\n"):
        text.write("\n")  # a line torn by a full disk stays alone; read() skips it
    writer.writerow(row)
    with open(path, "a", encoding="utf-8") as file:
        file.write(text.getvalue())
        file.flush()
        os.fsync(file.fileno())


def read(path=RESULTS) -> list[dict]:
    """All whole rows, by default the book's; numbers as numbers. No file, no rows."""
    path = Path(path)
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        whole = [row for row in lines if None not in row.values() and None not in row]
    for row in whole:
        for key in ("labelled", "seed", "steps"):
            row[key] = int(row[key])
        for key in ("dice", "hd95", "seconds"):
            row[key] = float(row[key])
        for key in ("ece", "implausible", "betti", "f1", "pq", "aji", "last"):  # not every row's
            row[key] = float(row[key] or "nan")
        row["dice_per_class"] = [float(d) for d in row["dice_per_class"].split()]
    return whole
