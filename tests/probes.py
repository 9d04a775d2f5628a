"""What several test files need to look into a method: a random batch, and what modules see."""

import torch

from lsseg_edu.data import IGNORE
from lsseg_edu.train import Batch, Part


def batch(*size, items=4, classes=3, progress=1.0):
    """Random labelled images, and as many unlabelled ones, one grey value brighter."""
    torch.manual_seed(1)
    images, labels = torch.randn(items, 1, *size), torch.randint(0, classes, (items, *size))
    index = torch.arange(items)
    nobody = torch.full_like(labels, IGNORE)
    other = Part(images.flip(0) + 1, nobody, index, index, {})
    return Batch(Part(images, labels, index, index, {}), other, progress)


def outputs(module):
    """What the module returns from now on, call by call."""
    seen = []
    module.register_forward_hook(lambda m, x, out: seen.append(out))
    return seen


def inputs(module):
    """What the module is given from now on, call by call."""
    seen = []
    module.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    return seen
