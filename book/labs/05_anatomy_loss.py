# %% [markdown]
# # Lab 5: A loss that knows anatomy
#
# <!-- badge -->
#
# **You will build** two penalties for answers that cannot be true, one for the size of an organ and one for its shape; two
# tests that a loss has to pass before it may train anything; and the training that uses them on images without masks.
# Allow 45 minutes.
#
# **You should know** the training loop of [the baseline](../foundations/baseline). The page
# [Constraints](../semi/constraints) has the ideas; leave its code closed.
#
# There are five steps with one blank each. After each comes a **check**: it runs your code and, if something is missing, says
# *which property* is missing. It does not compare with one true program, so whatever has the properties is right. Run the
# cells from top to bottom: where a cell stops with *Blank 1*, the first line of yours is wanted.

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch

from lsseg_edu import losses, networks, show
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import betti_error, score
from lsseg_edu.learn import quiz
from lsseg_edu.learn.checks import lab05
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.semi.priors.constraints import star_violation
from lsseg_edu.semi.priors.constraints.star import centroid, parents
from lsseg_edu.train import Budget, Method, fit

# %% [markdown]
# ## The problem
#
# Hearts in short-axis MR; three patients have masks, all the others only images. Three masks do not teach a network that a
# ventricle is one piece, and that it fits into a chest. You can tell it.

# %%
auto = Budget.auto()
budget = replace(auto, steps=auto.pick(3, 200, 800))
task = Task.split(load("cardiac"), labelled=3, seed=0)
names = task.train.names
print(task)

# %% [markdown]
# ## Step 1: how large
#
# A network answers with probabilities $p$ of $K$ classes at each pixel. The size of class $k$ is a mean, $V_k = \frac{1}{|\Omega|}\sum_i p_k(i)$,
# a share of the image. It should lie between $a_k$ and $b_k$. What is outside costs its square, averaged over images and classes:
#
# $$
# C = \frac{1}{BK} \sum_{n, k} \big( (a_k - V_{nk})_+ + (V_{nk} - b_k)_+ \big)^2, \qquad (x)_+ = \max(x, 0) .
# $$


# %%
def size_penalty(probs, low, high):
    """Probabilities (B, K, H, W) and bounds (K,), (K,) to a penalty, one number."""
    # BEGIN SOLUTION
    size = probs.mean((2, 3))
    outside = (low - size).relu() + (size - high).relu()
    return outside.square().mean()
    # END SOLUTION


# %%
lab05.size(size_penalty)

# %% [markdown]
# ```{dropdown} Hint
# `x.mean((2, 3))` takes the mean over the last two of four axes; `x.relu()` is $\max(x, 0)$.
# ```
#
# **Think.** Why not count the pixels whose class is $k$?
#
# ```{dropdown} Answer
# A count changes in steps: move the weights a little and it stays the same. Its gradient is zero nearly everywhere. A sum of
# probabilities changes with each of them.
# ```

# %% [markdown]
# ## Step 2: what shape
#
# A ventricle is **star-shaped**: from its middle one sees all of it. On the grid, each pixel has a *parent*, its neighbour on
# the way to the middle. You are given the parents, as flat indices: in image `n`, the parent of pixel `i` is pixel `parent[n, i]`.
# With the probability $u$ of the ventricle,
#
# $$
# C = \frac{1}{B|\Omega|} \sum_{n, i} \big(u_{n,i} - u_{n,\pi(i)}\big)_+ .
# $$


# %%
def star_penalty(u, parent):
    """Soft masks u (B, H, W) and parents (B, H * W) to a penalty, one number."""
    # BEGIN SOLUTION
    flat = u.flatten(1)
    return (flat - flat.gather(1, parent)).relu().mean()
    # END SOLUTION


# %%
lab05.star(star_penalty)

# %% [markdown]
# ```{dropdown} Hint
# `flat = u.flatten(1)` is `(B, H * W)`; `flat.gather(1, parent)` has the value of each pixel's parent in its place.
# ```
#
# What does it charge? A whole disc, one with a hole, and one with an island:

# %%
axis = torch.arange(40.0)
disc = ((axis[:, None] - 20) ** 2 + (axis - 18) ** 2 < 121).float()
hole = disc * ((axis[:, None] - 20) ** 2 + (axis - 24) ** 2 > 9)
island = (disc + ((axis[:, None] - 20) ** 2 + (axis - 35) ** 2 < 10)).clamp(max=1)
three = torch.stack([disc, hole, island])
grid = torch.stack(torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")).flatten(1)
ways = parents(grid, centroid(three, grid).round().long(), (40, 40))
charges = [star_penalty(three[n : n + 1], ways[n : n + 1]).item() for n in range(3)]
show.images(
    three[:, None],
    titles=[f"{charge * 1600:.0f} pixels are charged" for charge in charges],
    columns=3,
    alt=f"A disc, a disc with a hole and a disc with an island; {charges[0] * 1600:.0f}, {charges[1] * 1600:.0f} and "
    f"{charges[2] * 1600:.0f} pixels are charged by the star penalty.",
)

# %% [markdown]
# ## Step 3: is the gradient right?
#
# A network trains on a wrong gradient without complaint. So a new loss is tested before it is used: nudge each entry of $u$ up and down by a
# little $\epsilon$, see what the loss does, and compare with what autograd says.
#
# $$
# \frac{\partial L}{\partial u_i} \approx \frac{L(u + \epsilon e_i) - L(u - \epsilon e_i)}{2 \epsilon}
# $$
#
# `u` is in double precision. It must be the same afterwards.


# %%
def numeric_gradient(loss, u, eps=1e-5):
    """A function of a tensor, and a tensor u of any shape, to the gradient there."""
    # BEGIN SOLUTION
    slope = torch.zeros_like(u)
    for i in range(u.numel()):
        nudge = torch.zeros_like(u)
        nudge.view(-1)[i] = eps
        slope.view(-1)[i] = (loss(u + nudge) - loss(u - nudge)) / (2 * eps)
    return slope
    # END SOLUTION


# %%
lab05.gradient(numeric_gradient)

# %% [markdown]
# Now test your own two penalties. Random numbers are best: they meet every branch of a formula.

# %%
draw = torch.Generator().manual_seed(0)
few = torch.rand(1, 5, 6, dtype=torch.double, generator=draw)
corner = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")).flatten(1)
way = parents(corner, torch.tensor([[2, 3]]), (5, 6))
bounds = torch.tensor([0.6]).double(), torch.tensor([0.8]).double()
for name, loss in (
    ("size", lambda u: size_penalty(u[:, None], *bounds)),
    ("star", lambda u: star_penalty(u, way)),
):
    leaf = few.clone().requires_grad_()
    (exact,) = torch.autograd.grad(loss(leaf), leaf)
    gap = (exact - numeric_gradient(loss, few)).abs().max()
    print(f"{name}: the two gradients agree to six digits: {bool(gap < 1e-6 * exact.abs().max())}")

# %% [markdown]
# **Think.** `relu` has a kink. Why does the test pass all the same, and when would it not?
#
# ```{dropdown} Answer
# At the kink itself the two one-sided slopes differ, and the central difference is their mean. Random numbers hit the kink with probability zero. On a *mask*, whose
# values are 0 and 1 only, nearly every difference of neighbours is exactly 0, and the test would fail although the code is right.
# ```

# %% [markdown]
# ## Step 4: is the prior true?
#
# A right gradient of a wrong prior leads away from the truth with great precision. You have a few masks; ask them. `violation(u)` gives the star
# violation of each of the masks `u (N, H, W)`, as a mean over the pixels of the *image*. Small organs cover few of them, so measure it per pixel of
# the **organ**: divide by the mask's share of the image. The prior holds if the mean over the masks that show the organ is at most the tolerance.


# %%
def prior_holds(violation, masks, tolerance):
    """A violation, boolean masks (N, H, W) of one organ, and a tolerance to True or False."""
    # BEGIN SOLUTION
    shown = masks[masks.flatten(1).any(1)].double()
    if len(shown) == 0:
        return False
    relative = violation(shown) / shown.mean((1, 2))
    return bool(relative.mean() <= tolerance)
    # END SOLUTION


# %%
lab05.prior(prior_holds)

# %%
masks = task.train.labels[task.labelled]
organs = {
    "right ventricle": masks == 1,
    "myocardium": masks == 2,
    "left ventricle": masks == 3,
    "myocardium and left ventricle": masks >= 2,
}
for name, mask in organs.items():
    print(f"{name:<30} star-shaped: {prior_holds(star_violation, mask, 0.01)}")

# %%
quiz(
    "The myocardium alone is no star, but together with the cavity it is. Why?",
    {
        "The cavity is larger.": "Size has nothing to do with it.",
        "From the centre of a ring, the first pixels of the wall have parents outside of it.": "In the hole. The ring's rays begin "
        "with a gap.",
        "Its masks are noisy.": "They are exact.",
    },
    correct="From the centre of a ring, the first pixels of the wall have parents outside of it.",
)

# %% [markdown]
# ## Step 5: the loss
#
# Put it together. `penalty(probs)` gives one number for the probabilities of any images, and needs no mask. So ask it about *all* images of the batch. The terms are
#
# $$
# L_{sup} = \text{dice\_ce}(f(x_l), y), \qquad L_{con} = w \cdot \text{ramp}(t) \cdot C\big(\text{softmax} f(x_l \cup x_u)\big),
# $$
#
# with `sigmoid_rampup(batch.progress)` for the ramp. `batch.labelled` and `batch.unlabelled` have `.images`; only the first has `.labels` to be used.


# %%
def anatomy_terms(net, batch, penalty, weight):
    """The loss of a batch as a dict of two terms, "supervised" and "constraint"."""
    # BEGIN SOLUTION
    logits = net(batch.labelled.images)
    others = net(batch.unlabelled.images)
    probs = torch.cat([logits, others]).softmax(1)
    ramp = sigmoid_rampup(batch.progress)
    return {
        "supervised": losses.dice_ce(logits, batch.labelled.labels),
        "constraint": weight * ramp * penalty(probs),
    }
    # END SOLUTION


# %%
lab05.terms(anatomy_terms)

# %% [markdown]
# The rest is given. The penalty below uses yours: the sizes of the three organs, and the star shape of the two regions that passed step 4. The bounds are those of
# the masks, with a quarter of slack.

# %%
shares = torch.stack([(masks == k).float().mean((1, 2)) for k in (1, 2, 3)], 1)
low, high = shares.amin(0) * 0.75, shares.amax(0) * 1.25


def anatomy(probs):
    regions = torch.cat([probs[:, 3], probs[:, 2] + probs[:, 3]])
    size = regions.shape[1:]
    axes = [torch.arange(n, device=probs.device) for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    parent = parents(grid, centroid(regions, grid).round().long(), size)
    bounds = low.to(probs), high.to(probs)
    return star_penalty(regions, parent) + 10 * size_penalty(probs[:, 1:], *bounds)


class Anatomical(Method):
    unlabelled = True

    def __init__(self, net, weight):
        super().__init__(net)
        self.weight = weight

    def loss(self, batch):
        return anatomy_terms(self.net, batch, anatomy, self.weight)


# %% [markdown]
# With `weight=0` it *is* the baseline, with the same images in the same order.

# %% tags=["nbval-ignore-output"]
fitted = {
    weight: fit(Anatomical(networks.unet(task, seed=0), weight), task, budget, seed=0)
    for weight in (0.0, 2.0)
}
said = {weight: one.predict(task.valid.images) for weight, one in fitted.items()}
print(f"{'':<14}{'Dice':>8}{'HD95':>8}{'Betti error':>13}{'charge':>9}")
for weight, probs in said.items():
    report = score(probs.argmax(1), task.valid)
    error = betti_error(probs.argmax(1), task.valid).mean()
    print(
        f"weight {weight:<7}{report.mean_dice:>8.3f}{report.mean_hd95:>8.1f}{error:>13.2f}{anatomy(probs):>9.4f}"
    )

# %% tags=["nbval-ignore-output"]
change = (said[0.0].argmax(1) != said[2.0].argmax(1)).flatten(1).sum(1)
most = change.argsort(descending=True, stable=True)[:2]
show.images(
    task.valid.images[most.repeat_interleave(2)],
    labels=task.valid.labels[most.repeat_interleave(2)],
    predictions=torch.stack([said[w].argmax(1)[i] for i in most for w in (0.0, 2.0)]),
    titles=["baseline", "with anatomy"] * 2,
    names=names,
    columns=4,
    alt="The two validation slices on which the arms differ most, each as the baseline and as the network with "
    f"anatomy sees it; they differ in {int(change[most[0]])} and {int(change[most[1]])} pixels.",
)

# %% [markdown]
# ## What have you shown?
#
# That the *charge* falls is no surprise: it was minimised. Whether the answers got better is for the other columns to say, and they may disagree: a stray piece
# counts in the Betti error and in HD95, and hardly in Dice. And this is one draw of three patients. A verdict needs several, with intervals; the page
# [Constraints](../semi/constraints) has the table.

# %%
share = np.mean([prior_holds(star_violation, mask, 0.01) for mask in organs.values()])
print(f"of the four regions we looked at, {share:.0%} are stars")

# %% [markdown]
# **If there is time left**
#
# - Force the wrong prior: put `probs[:, 1]`, the right ventricle, among the regions. What happens to its Dice?
# - Which of the two penalties does the work? Train with one of them only.
# - `SizeConstraint` takes *image tags*. How much would they sharpen the bounds of the right ventricle, which is absent from many slices?
#
# ```{admonition} Take-away
# Knowledge becomes a loss if it is zero for what may be true, differentiable for the rest, checked against finite differences, and checked against the masks that
# exist. Then it can teach where there is no mask.
# ```
