"""Two images that look alike, and the registration that makes them."""

from __future__ import annotations

import torch
from torch import nn

from lsseg_edu.augment.smooth import smooth_field
from lsseg_edu.learn.checks.demand import demand, passed
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Batch, Part


def picture(seed: int, size: int = 32) -> torch.Tensor:
    """A smooth random image with a little grain ``(2, 1, size, size)``."""
    draw = torch.Generator().manual_seed(seed)
    smooth = smooth_field(torch.zeros(2, 1, size, size), 1, 10, draw)
    return smooth + 0.05 * torch.randn(smooth.shape, generator=draw)


def unlike(measure) -> None:
    """Step 2: ``measure(moved, fixed)`` of ``(B, C, H, W)`` gives a scalar, 0 for alike."""
    a, b = picture(0), picture(1)
    value = measure(a, b)
    demand(
        isinstance(value, torch.Tensor) and value.ndim == 0,
        "The loss must be a scalar tensor: the mean over pixels and images.",
    )
    same = float(measure(a, a))
    demand(
        abs(same) < 0.02,
        f"Two equal images must cost (nearly) nothing; yours cost {same:.3g}: 1 minus the "
        "correlation.",
    )
    demand(
        float(value) > 0.5,
        f"Two images that have nothing to do with each other must cost about 1, not "
        f"{float(value):.3g}.",
    )
    contrast = float(measure(a, 3 * a + 2))
    demand(
        abs(contrast) < 0.02,
        "Another contrast and brightness must not matter: the correlation of a and 3a + 2 is 1, "
        f"but your loss is {contrast:.3g}. Subtract the local means, divide by both deviations.",
    )
    negative = float(measure(a, -a))
    demand(
        negative > 1.5,
        "A negative is not alike: the correlation of a and -a is -1, and the loss must be near 2, "
        f"not {negative:.3g}. Do not square it away.",
    )
    _local(measure, a)
    _gradient(measure, a, b)
    passed("unlike")


def _local(measure, a):
    """A contrast that is inverted in one half matters to the whole, and to each window."""
    light = torch.linspace(-1, 1, 32).expand_as(a)
    shaded = float(measure(a, 0.5 * a + light))
    demand(
        shaded < 0.6,
        "A slow shade across the image is no difference of anatomy: windows of a few pixels hardly "
        f"see it, but your loss is {shaded:.3g}. Take means over *windows*, not over the image.",
    )
    flat = torch.zeros_like(a)
    value = measure(a, flat)
    demand(
        value.isfinite(),
        "Where an image is flat its variance is 0: add a small number under the root, or the loss "
        "is nan.",
    )


def _gradient(measure, a, b):
    a = a.clone().requires_grad_()
    measure(a, b).backward()
    demand(
        a.grad is not None and a.grad.isfinite().all() and a.grad.abs().max() > 0,
        "A gradient must reach the moved image, and be finite: it is what moves it.",
    )


class Says(nn.Module):
    """A registration network that always answers with one velocity, and notes what it is asked."""

    def __init__(self):
        super().__init__()
        self.velocity = nn.Parameter(torch.full((1, 32, 32, 2), 0.05))
        self.asked = []

    def forward(self, moving, fixed):
        self.asked.append((moving, fixed))
        return self.velocity.expand(len(moving), -1, -1, -1)


def one_atlas(make) -> None:
    """The whole: ``make(net, atlas)`` is a registration made of the pieces."""
    images, others = picture(0), picture(2)
    labels = (images[:, 0] > 0).long()
    net = Says()
    method = make(net, Atlas(images, labels, 2))
    index = torch.arange(2)
    batch = Batch(None, Part(others, torch.full_like(labels, 255), index, index, {}), 0.5)
    terms = method.loss(batch)
    sum(terms.values()).backward()
    demand(
        net.asked and torch.equal(net.asked[-1][1], others),
        "The network must be asked about the atlas as the moving and the batch's unlabelled images "
        "as the fixed images, in this order.",
    )
    demand(
        all(value.isfinite() for value in terms.values()) and net.velocity.grad.abs().max() > 0,
        "The loss must be finite and teach the network.",
    )
    with torch.no_grad():
        probs = method.predict(others)
    demand(
        probs.shape == (2, 2, 32, 32) and torch.allclose(probs.sum(1), torch.ones(()), atol=1e-4),
        "The prediction must be the moved masks, (B, K, H, W), which add up to 1 at every pixel.",
    )
    still = method.atlas.one_hot(method.atlas.match(others))
    demand(
        not torch.allclose(probs, still),
        "The prediction must be the *moved* masks: yours lie where the atlas has them.",
    )
    passed("registration")
