"""``python -m lsseg_edu.study run|table``: fill the scoreboard, or print it."""

from __future__ import annotations

import argparse
from pathlib import Path

from lsseg_edu import survey
from lsseg_edu.study.protocols import PROTOCOLS
from lsseg_edu.study.results import RESULTS, read
from lsseg_edu.study.runner import run
from lsseg_edu.study.table import summary
from lsseg_edu.train import Budget


def main(arguments: list[str] | None = None) -> None:
    """Run or print; every option has a default that makes the book's own table."""
    parser = argparse.ArgumentParser(prog="python -m lsseg_edu.study", description=__doc__)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--methods", nargs="*", help="ids of survey.csv (default: all of them)")
    parser.add_argument("--protocols", nargs="*", help="default: those the survey lists")
    parser.add_argument("--cohort", help="only protocols on this cohort")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--budget", help="smoke, laptop or gpu instead of the protocol's own")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    try:
        run_all(args) if args.what == "run" else print_tables(args)
    except ValueError as error:
        parser.error(str(error))


def run_all(args) -> None:
    """Each method under the protocols its row of the survey names, or those asked for."""
    budget = Budget.named(args.budget) if args.budget else None
    methods = args.methods or [row.id for row in survey.rows() if row.protocols]
    own = {method: survey.find(method.partition(":")[0]).protocols.split() for method in methods}
    pairs = [(m, p) for m in methods for p in args.protocols or own[m] if _wanted(p, args.cohort)]
    run(pairs, args.seeds, args.results, args.jobs, budget)


def print_tables(args) -> None:
    """One table a protocol, as text."""
    results = read(args.results)
    for name in args.protocols or PROTOCOLS:
        if not _wanted(name, args.cohort):
            continue
        print(f"\n{name}")
        for line in summary(results, name):
            closed = "" if line.closed is None else f"  gap closed {line.closed:5.0%}"
            print(f"  {line.method:<28} {line.dice}  n={line.seeds} {line.verdict:<9}{closed}")


def _wanted(name: str, cohort: str | None) -> bool:
    if name not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}.")
    return cohort is None or PROTOCOLS[name].cohort == cohort


if __name__ == "__main__":
    main()
