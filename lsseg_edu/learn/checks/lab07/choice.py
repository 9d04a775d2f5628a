"""The choice: one image by its doubt, several by what they stand for."""

from __future__ import annotations

import math

import torch

from lsseg_edu.learn.checks.demand import demand, passed


def doubt(measure) -> None:
    """Step 2: ``measure(probs)`` takes ``(N, K, H, W)`` to one number an image."""
    probs = torch.zeros(3, 3, 2, 4)
    probs[:, 0] = 1
    probs[1, :, :, :1] = torch.tensor([0.5, 0.25, 0.25])[:, None, None]
    probs[2] = 1 / 3
    before = probs.clone()
    answer = measure(probs)
    demand(
        isinstance(answer, torch.Tensor) and answer.shape == (3,),
        "Return one number an image, shape (N,). Yours: "
        f"{tuple(getattr(answer, 'shape', ()))}. Sum over the classes, then mean over the pixels.",
    )
    demand(torch.equal(probs, before), "The probabilities you are given must not change.")
    demand(
        torch.isfinite(answer).all(),
        "0 * log(0) is 0 here, and not NaN: torch.special.entr(p) is -p log p and knows that.",
    )
    sure, some, none = answer.tolist()
    demand(sure < some < none, "The doubtful image must get the larger number: mind the sign.")
    demand(abs(sure) < 1e-6, "An image of which every pixel is sure has no doubt: 0.")
    demand(
        not math.isclose(none, 8 * math.log(3), rel_tol=1e-4),
        "Take the mean over the pixels, not the sum.",
    )
    demand(
        not math.isclose(none, math.log(3) / 3, rel_tol=1e-4),
        "Over the classes take the *sum*: an entropy is not a mean over classes.",
    )
    demand(
        not math.isclose(none, math.log2(3), rel_tol=1e-4),
        "Use the natural logarithm, please.",
    )
    pixel = 0.5 * math.log(2) + 0.5 * math.log(4)
    demand(
        math.isclose(none, math.log(3), rel_tol=1e-4)
        and math.isclose(some, pixel / 4, rel_tol=1e-4),
        f"Expected the mean entropy, {pixel / 4:.4f} for the second image and {math.log(3):.4f} "
        f"for the third; yours are {some:.4f} and {none:.4f}.",
    )
    passed("doubt of an image")


def cover(greedy) -> None:
    """Step 3: ``greedy(likeness, n)`` chooses ``n`` columns that stand for all rows."""
    twins = torch.tensor(
        [[1.0, 0.95, 0.1], [0.95, 1.0, 0.2], [0.9, 0.95, 0.1], [0.1, 0.1, 1.0], [0.0, 0.0, 0.7]]
    )
    before = twins.clone()
    answer = [int(i) for i in greedy(twins, 2)]
    demand(torch.equal(twins, before), "The likenesses you are given must not change.")
    demand(len(answer) == 2, f"Choose exactly n images: 2 here, yours are {len(answer)}.")
    demand(len(set(answer)) == 2, "No image may be chosen twice.")
    demand(
        answer[0] != 2,
        "The first choice is the image that is most like *all* others: the largest sum of a "
        "column, over the rows.",
    )
    demand(
        set(answer) != {0, 1},
        "Two twins. What the first one stands for already must not count again for the second: a "
        "row gains only what is *above* its best likeness so far.",
    )
    demand(
        answer == [1, 2],
        f"Expected image 1, which stands for three rows, then image 2; yours are {answer}.",
    )
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(12, 7, generator=generator)
    mine = random[:, [int(i) for i in greedy(random, 4)]].amax(1).sum()
    demand(
        mine > 0.999 * random[:, _reference(random, 4)].amax(1).sum(),
        "On random likenesses yours covers less than the greedy choice. After each choice, update "
        "what every row has: the maximum of what it had and of its likeness to the new image.",
    )
    passed("greedy cover")


def _reference(likeness, n) -> list[int]:
    chosen: list[int] = []
    for _ in range(n):
        had = likeness[:, chosen].amax(1) if chosen else likeness.new_zeros(len(likeness))
        chosen.append(int((likeness - had[:, None]).clamp(min=0).sum(0).argmax()))
    return chosen
