"""Two checks before the training: is the gradient right, and is the prior true?"""

from __future__ import annotations

import torch

from lsseg_edu.learn.checks.demand import demand, passed


def gradient(numeric) -> None:
    """Step 3: ``numeric(loss, u)`` gives the gradient of ``loss`` at ``u`` by differences."""
    u = torch.tensor([[0.3, -0.7, 1.1], [0.2, 0.9, -0.4]], dtype=torch.double)
    before, asked = u.clone(), []

    def cube(x):
        asked.append(x.dtype)
        return (x**3).sum() + (x[0] * x[1]).sum()

    answer = numeric(cube, u)
    demand(torch.equal(u, before), "The point you were given must not change: work on a copy.")
    demand(
        isinstance(answer, torch.Tensor) and answer.shape == u.shape,
        "Return one slope for each entry of u, in a tensor of the same shape.",
    )
    demand(
        set(asked) == {torch.double},
        "Work in double precision: in single precision a difference of two nearly equal numbers "
        "has no correct digit left.",
    )
    truth = 3 * u**2 + u.flip(0)
    demand(
        not torch.allclose(answer, 2 * truth, rtol=1e-3),
        "Twice too large: the two points are 2 * eps apart.",
    )
    demand(
        not torch.allclose(answer, -truth, rtol=1e-3),
        "The sign is wrong: (loss(u + eps) - loss(u - eps)) / (2 eps).",
    )
    demand(
        torch.allclose(answer, truth, rtol=1e-2, atol=1e-2),
        "Each entry must be moved alone, there and back, and then restored: yours is not the "
        "gradient of a sum of cubes and products.",
    )
    demand(
        torch.allclose(answer, truth, rtol=1e-6, atol=1e-6),
        "Nearly, but not to six digits. Use *central* differences, u + eps and u - eps: the error "
        "of a one-sided difference is proportional to eps, theirs to its square.",
    )
    passed("numerical gradient")


def prior(holds) -> None:
    """Step 4: ``holds(violation, masks, tolerance)`` says whether known masks obey a prior."""
    masks = torch.zeros(4, 10, 10, dtype=torch.bool)
    masks[0, :2], masks[1, :4], masks[2, :1] = True, True, True  # shares 0.2, 0.4, 0.1, 0
    seen = []

    def violation(u):
        seen.append(u)
        return torch.tensor([0.002, 0.004, 0.004, 0.0], dtype=u.dtype)[: len(u)]

    answer = holds(violation, masks, 0.03)  # relative: 0.01, 0.01, 0.04; mean 0.02
    demand(isinstance(answer, bool), "Return True or False, a Python bool: bool(...).")
    demand(
        all(u.is_floating_point() for u in seen),
        "violation computes with probabilities: give it masks.double(), not booleans.",
    )
    demand(
        len(seen) == 1 and len(seen[0]) == 3,
        "A mask that is empty has no shape. Leave such images out before you ask: of the four "
        "masks here, three show the organ.",
    )
    demand(
        answer and not holds(violation, masks, 0.018),
        "Measure the violation per pixel *of the organ*: divide each by its mask's share of the "
        "image, then take the mean. Else a small organ obeys everything.",
    )
    demand(
        holds(violation, masks, 0.5) and not holds(violation, masks, 0.005),
        "The prior holds if the mean violation is at most the tolerance.",
    )
    demand(
        not holds(violation, torch.zeros_like(masks), 0.03),
        "Where no mask shows the organ nothing is known, and the prior must not be taken for true.",
    )
    passed("is the prior true")
