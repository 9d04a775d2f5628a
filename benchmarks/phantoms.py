"""CPU seconds to make 100 subjects of each phantom on one core, and to read them from the cache.

Run: ``OMP_NUM_THREADS=1 python benchmarks/phantoms.py [name ...]``
"""

import os
import sys
import tempfile
import time

from lsseg_edu.data import load
from lsseg_edu.data.phantoms import FEW

CASES = [(2, 64, 100), (2, 128, 100), (3, 32, 100), (3, 64, 20)]


def seconds(name: str, size: int, dims: int, subjects: int) -> float:
    start = time.process_time()
    load(name, size=size, dims=dims, subjects=subjects)
    return time.process_time() - start


def main(names) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LSSEG_EDU_CACHE"] = folder
        print(f"{'phantom':10}{'size':>6}{'subjects':>10}{'made (s)':>10}{'cached (s)':>12}")
        for name in names:
            start = time.process_time()
            load(name, subjects=1)
            print(f"{name}: {time.process_time() - start:.1f} s for imports and the first subject")
            for dims, size, subjects in CASES:
                if dims == 3 and name not in ("cardiac", "brain", "abdomen"):
                    continue
                made, cached = (seconds(name, size, dims, subjects) for _ in range(2))
                row = f"{name:10}{f'{size} {dims}D':>6}{subjects:>10}{made:>10.1f}{cached:>12.2f}"
                print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or FEW)
