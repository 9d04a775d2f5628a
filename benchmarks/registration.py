"""How long a trained network takes to register one pair, and to carry the labels.

Run: ``OMP_NUM_THREADS=1 python benchmarks/registration.py``. It prints a line a size and ends
with status 1 if a pair of 64x64 takes more than the target of 0.1 s.
"""

import sys
from statistics import median
from time import perf_counter

import torch

from lsseg_edu import networks
from lsseg_edu.networks import Shape
from lsseg_edu.semi.priors import Atlas, Registration

TARGET = 0.1


def seconds(size, repeats: int = 20) -> float:
    """Median time to find the atlas slice, register the pair, and warp the masks."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(8, 1, *size, generator=draw)
    labels = torch.randint(0, 4, (8, *size), generator=draw)
    net = networks.registration(Shape(1, 4, len(size)))
    method, times = Registration(net, Atlas(images, labels, 4)).eval(), []
    with torch.inference_mode():
        for number in range(repeats + 3):
            start = perf_counter()
            method.predict(images[number % 8 :][:1])
            times.append(perf_counter() - start)
    return median(times[3:])


def main() -> int:
    torch.set_num_threads(1)
    for size in ((64, 64), (128, 128), (32, 32, 32)):
        took = seconds(size)
        print(f"{'x'.join(map(str, size)):<10} {1000 * took:6.1f} ms a pair, labels carried")
        if size == (64, 64):
            missed = took > TARGET
    print(f"target {1000 * TARGET:.0f} ms for 64x64: " + ("MISSED" if missed else "met"))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
