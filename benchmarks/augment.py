"""Cost of augmenting a 16x1x64x64 batch, beside one supervised step of the U-Net on it.

Run: ``OMP_NUM_THREADS=1 python benchmarks/augment.py``. Target: at most 15 % of the step.
"""

from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from lsseg_edu.augment import Augment, intensity
from lsseg_edu.augment.geometry import warp, warp_labels


def milliseconds(work, repeats: int = 30) -> float:
    """Median time of one call, after three to warm up."""
    times = []
    for _ in range(repeats + 3):
        start = perf_counter()
        work()
        times.append(1000 * (perf_counter() - start))
    return median(times[3:])


def parts(images, labels, generator) -> dict:
    """Each part of the recipe as a call without arguments."""
    augment = Augment.strong()
    grid = augment.grid(images, generator)
    work = {
        "strong, all of it": lambda: augment(images, labels, generator),
        "weak, all of it": lambda: Augment.weak()(images, labels, generator),
        "  grid": lambda: augment.grid(images, generator),
        "  warp": lambda: warp(images, grid),
        "  warp_labels": lambda: warp_labels(labels, grid),
    }
    for name in ("bias_field", "gamma", "contrast", "blur", "noise"):
        change = getattr(intensity, name)
        work["  " + name] = lambda change=change: change(images, generator)
    return work


def training_step(images, labels):
    """One supervised step of the book's U-Net, as a call without arguments."""
    from lsseg_edu import networks
    from lsseg_edu.data import Cohort

    cohort = Cohort.from_arrays(images.numpy(), labels.numpy())
    net = networks.unet(cohort, width=16, seed=0)
    optimiser = torch.optim.AdamW(net.parameters())

    def step():
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()

    return step


def main():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 1, 64, 64, generator=generator)
    labels = torch.randint(0, 4, (16, 64, 64), generator=generator)
    costs = {name: milliseconds(work) for name, work in parts(images, labels, generator).items()}
    step = milliseconds(training_step(images, labels))
    for name, cost in [*costs.items(), ("U-Net step", step)]:
        print(f"{name:<20} {cost:7.2f} ms  {100 * cost / step:6.1f} % of a step")


if __name__ == "__main__":
    main()
