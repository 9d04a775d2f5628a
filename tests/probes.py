"""What several test files need to look into a method: a random batch, and what modules see."""

import torch
from torch import nn

from lsseg_edu.augment import smooth_field
from lsseg_edu.data import IGNORE, Cohort, Task
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


def net(dims=2):
    """Two convolutions, one channel to three classes, always the same weights."""
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 3, 1))


def weights(network):
    """All weights of a network in one row."""
    return torch.cat([p.detach().flatten() for p in network.parameters()])


class Fixed(nn.Module):
    """A registration network that always gives the same velocity ``(1, *S, D)``."""

    def __init__(self, velocity):
        super().__init__()
        self.velocity = nn.Parameter(velocity)

    def forward(self, moving, fixed):
        return self.velocity.expand(len(moving), *self.velocity.shape[1:])


def wave(strength=0.1, size=32, seed=0):
    """A smooth velocity ``(1, size, size, 2)``."""
    draw = torch.Generator().manual_seed(seed)
    return strength * smooth_field(torch.zeros(1, 1, size, size), 2, 2, draw).movedim(1, -1)


def rooms():
    """Eight volumes of a bright ball and a dark box: 3 labelled, 1 to choose by, 2 to test."""
    torch.manual_seed(0)
    labels = torch.zeros(8, 16, 32, 16, dtype=torch.long)
    place = torch.stack(torch.meshgrid(*map(torch.arange, (16, 32, 16)), indexing="ij"), -1)
    for mask in labels:
        ball, box = (torch.tensor([7.0, y, 7.0]) + 2 * torch.randn(3) for y in (9.0, 22.0))
        mask[(place - box).abs().amax(-1) < 5] = 2
        mask[(place - ball).norm(dim=-1) < 5] = 1
    images = torch.tensor([0.0, 2.0, -2.0])[labels] + 0.3 * torch.randn(labels.shape)
    cohort = Cohort.from_arrays(images, labels, names=["air", "ball", "box"], name="rooms")
    return Task.split(cohort, labelled=3, valid=1, test=2)
