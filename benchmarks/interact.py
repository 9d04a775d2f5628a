"""How long a reader waits for the answer to a click, on one quiet core. Target: under a second.

Run: ``OMP_NUM_THREADS=1 python benchmarks/interact.py``. Ends with status 1 if a target is missed.

Processor time, which does not count the waiting for a busy machine. A click on the canvas is the
method's answer to one 64x64 slice, and the picture of it. The first click of a process also imports
what the method needs; it is reported apart. Networks are not trained: their speed does not depend
on their weights, but a rough answer has more to cut, so the numbers of GrabCut and BIFSeg are upper
ones.
"""

import sys
from statistics import median
from time import process_time

import torch

from lsseg_edu import show
from lsseg_edu.data import Task, load
from lsseg_edu.partial.interactive import (
    UGIR,
    BIFSeg,
    GrabCut,
    InteractiveEdit,
    IterMRL,
    PointGuided,
)

TARGET = 1.0


def waits(method, task, clicks: int = 9) -> list[float]:
    """Processor seconds from each click to its picture."""
    centre = int(task.valid.labels.flatten(1).bool().sum(1).argmax())
    canvas = show.Canvas(method.for_task(task), task.valid.images[centre], task.train.names)
    places = torch.randint(0, 64, (clicks, 2), generator=torch.Generator().manual_seed(0))
    seconds = []
    for n, (row, column) in enumerate(places.tolist()):
        start = process_time()
        canvas.click(row, column, n % 4)
        canvas.picture()
        seconds.append(process_time() - start)
    return seconds


def main() -> int:
    task = Task.split(load("cardiac"), labelled=3)
    slow = 0
    print(f"{'method':<16} {'first':>8} {'median':>8} {'longest':>8}  (seconds)")
    for method in (PointGuided, GrabCut, BIFSeg, InteractiveEdit, IterMRL, UGIR):
        first, *rest = waits(method, task)
        print(f"{method.__name__:<16} {first:8.3f} {median(rest):8.3f} {max(rest):8.3f}")
        slow += median(rest) > TARGET
    return int(slow > 0)


if __name__ == "__main__":
    sys.exit(main())
