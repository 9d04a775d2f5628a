# %% [markdown]
# # Constraints: losses that know anatomy
#
# <!-- badge -->
#
# **You will learn**
#
# - how to say *this size*, *this shape*, *this many holes* to a network, without a mask;
# - why a sum, a difference along a ray and a product of three pixels have the gradients that are needed;
# - what a barcode is, and how a loss is read off it;
# - what each constraint cannot see, and how to check its gradient before trusting it.
#
# **You should know** [the baseline](../foundations/baseline) and how Dice is [measured](../foundations/measuring).

# %% tags=["setup"]

# %%
import numpy as np
import torch
import torch.nn.functional as F

from lsseg_edu import show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import betti_error, betti_numbers, evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.priors.constraints import (
    ClDice,
    Homology,
    StarShape,
    barcode,
    cldice,
    convex_violation,
    obeyed,
    size_bounds,
    size_penalty,
    soft_skeleton,
    star_violation,
    topology_loss,
)
from lsseg_edu.semi.priors.constraints.constrained import Constrained
from lsseg_edu.semi.priors.constraints.convex import _pattern
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
names = task.train.names
print(task)

# %% [markdown]
# ## The idea in a picture
#
# A network that has seen three hearts gives answers that no anatomist would give: a ventricle in two
# pieces, a ring that is open. It does not know that this is impossible. Nobody has told it, since
# cross-entropy and Dice look at one pixel, or at one sum, at a time.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised.for_task(task), task, budget, seed=0)
baseline.method.cpu()
answer = baseline.predict(task.valid.images)
guess = answer.argmax(1)
strange = torch.tensor(
    [
        sum(
            abs(a - b)
            for k in (1, 2, 3)
            for a, b in zip(*map(betti_numbers, (p == k, y == k)), strict=True)
        )
        for p, y in zip(guess, task.valid.labels, strict=True)
    ]
)
worst = strange.argsort(descending=True, stable=True)[:3]
show.images(
    task.valid.images[worst],
    labels=task.valid.labels[worst],
    predictions=guess[worst],
    names=names,
    titles=[f"{int(strange[i])} pieces or holes too many or too few" for i in worst],
    columns=3,
    alt="Three validation hearts with the true areas and the baseline's contours, those with the most wrong "
    f"pieces and holes: {', '.join(str(int(strange[i])) for i in worst)}.",
)

# %% [markdown]
# And on all validation slices? A heart's classes have **Betti numbers**: $\beta_0$ counts the pieces, $\beta_1$
# the holes. What is right can be counted without looking at a single contour.

# %% tags=["nbval-ignore-output"]
error = betti_error(guess, task.valid).mean(0)
for name, value in zip(names[1:], error, strict=True):
    print(f"{name:<18} wrong pieces and holes a slice: {value:.2f}")

# %% [markdown]
# The masks of three patients taught what an organ looks like. What an organ **is** can be written down. Such a
# sentence needs no mask, so it holds on unlabelled images as well:
#
# $$
# L = L_{sup} + w(t)\, \frac{1}{|X_l \cup X_u|} \sum_{x \in X_l \cup X_u} C\big(f_\theta(x)\big).
# $$
#
# $C$ is a penalty on the *answer*. It must be zero for every answer that may be true, and it must have a gradient
# where it is not. The rest of this page is four ways to find such a $C$.

# %%
show.code(Constrained)

# %% [markdown]
# ## Size constraint
#
# The simplest knowledge is one number. Kervadec and colleagues add up the probabilities of a class: that is its
# size, and a sum has a gradient at every pixel. Between the bounds $a \le b$ all is well, outside the square of the
# excess is charged:
#
# $$
# V_k = \frac{1}{|\Omega|}\sum_i p_k(i), \qquad
# C = \frac{1}{K-1} \sum_{k \ge 1} \Big(\frac{(a_k - V_k)_+ + (V_k - b_k)_+}{s_k}\Big)^2 .
# $$

# %%
show.code(size_penalty)

# %% [markdown]
# Where do bounds come from? From the labelled masks, from a textbook of anatomy, or from **image tags**: somebody
# notes which organs a slice shows, which takes seconds. A tag sharpens both bounds, since an absent organ has size 0.

# %%
labels = task.train.labels[task.labelled]
for title, shown in (("any slice", False), ("slices that show it", True)):
    print(title)
    for name, (low, high) in zip(names[1:], size_bounds(labels, 4, shown=shown)[1:], strict=True):
        print(f"  {name:<18} {low:6.2%} to {high:6.2%} of the image")

# %% [markdown]
# A size says *how much*, not *where*. So who decides which pixels go? Below, a blob with a second, fainter one beside
# it. Nothing else is known about this image, and we descend on $C$ alone. Move the bounds.


# %%
axis = torch.arange(48.0)
near = ((axis[:, None] - 22) ** 2 + (axis - 17) ** 2).sqrt()
far = ((axis[:, None] - 27) ** 2 + (axis - 37) ** 2).sqrt()
start = torch.maximum(1.2 * (10 - near), 0.5 * (5 - far)).clamp(-6, 6)


def descend(low, high):
    logits, bounds = start.clone().requires_grad_(), (torch.tensor([low]), torch.tensor([high]))
    for _ in range(150):
        cost = size_penalty(logits.sigmoid()[None, None], *bounds, torch.tensor([0.1]))
        (slope,) = torch.autograd.grad(cost, logits)
        logits = (logits - 150 * slope).detach().requires_grad_()
    return logits.sigmoid().detach()


def sized(low, width):
    high = low + width
    before, after = start.sigmoid(), descend(low, high)
    moved = "the soft rims changed" if (after - before).abs().max() > 0.01 else "nothing changed"
    fig, axes = show.subplots(1, 3, width=6.2, height=2.3)
    for ax, map_, title in zip(axes[:2], (before, after), ("before", "after"), strict=True):
        ax.imshow(map_, cmap="gray", vmin=0, vmax=1)
        ax.contour(map_, [0.5], colors="#E69F00", linewidths=1.6)
        ax.set_title(f"{title}: size {map_.mean():.1%}")
    axes[2].imshow(after - before, cmap="PuOr", vmin=-0.7, vmax=0.7)
    axes[2].set_title("change")
    for ax in axes:
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Bounds {low:.0%} to {high:.0%}: a soft blob of size {before.mean():.1%} beside a fainter one, "
        f"and the same after descent on the size penalty, now {after.mean():.1%}: {moved}.",
    )


show.explore(
    sized,
    low=[0.05, 0.1, 0.15, 0.2, 0.25],
    width=[0.02, 0.1],
    labels={"low": "lower bound", "width": "upper bound minus lower"},
    limit=70_000,
    alt="A soft blob before and after the size penalty, and what changed.",
)

# %% [markdown]
# The pixels that **hesitate** move first, because there the sigmoid is steep: $\partial C / \partial z_i \propto p_i(1 - p_i)$.
# Far too large, and the faint blob vanishes, while the bright one only loses its rim. Too small, and it is the faint blob that
# grows most, true or not. The constraint passes the decision on to what the image has taught the network so far; a
# confident mistake is not undone by it. And there is no push at all between the bounds: the wider they are, the
# less is said.

# %% [markdown]
# ## Star shape
#
# Stand in the middle of a ventricle: you see every point of its wall, nothing is hidden. A region with this property is
# **star-shaped**. On a grid, the ray from the centre to a pixel $i$ comes in through one neighbour, its *parent*
# $\pi(i)$. If every pixel of the region has its parent in the region, it has the whole ray. So a probability may fall
# on the way out, and never rise:
#
# $$
# C = \frac{1}{|\Omega|} \sum_i \big(u_i - u_{\pi(i)}\big)_+ .
# $$

# %%
show.code(star_violation)

# %% [markdown]
# $u$ is the probability of a region, a class or a union of classes. The centre is the centroid of the answer itself,
# for on an unlabelled image there is nothing else to take. Which pixels are charged?


# %%
def disc(y, x, ry, rx, size=40):
    grid = torch.arange(float(size))
    return ((((grid[:, None] - y) / ry) ** 2 + ((grid - x) / rx) ** 2) <= 1).float()


whole = disc(20, 20, 13, 11)
examples = {
    "disc": whole,
    "hole": whole - disc(20, 26, 3, 3),
    "bay": (whole - disc(7, 20, 9, 4)).clamp(min=0),
    "two pieces": (disc(20, 12, 11, 7) + disc(20, 31, 6, 5)).clamp(max=1),
    "crescent": (whole - disc(20, 25, 12, 10)).clamp(min=0),
}


def rise(u):
    u = u[None].clone().requires_grad_()
    (slope,) = torch.autograd.grad(star_violation(u).sum(), u)
    return slope[0] * u[0].numel()


fig, axes = show.subplots(2, 5, height=2.9)
for column, (name, u) in zip(axes.T, examples.items(), strict=True):
    column[0].imshow(u, cmap="gray", vmin=0, vmax=1)
    column[0].set_title(f"{name}\n{star_violation(u[None]).item() / u.mean():.3f}")
    column[1].imshow(rise(u), cmap="PuOr_r", vmin=-1.6, vmax=1.6)
    for ax in column:
        ax.axis("off")
show.figure(
    fig,
    alt="Five masks, their star violation for each pixel of the mask, and where the gradient wants less "
    "(orange, the rims that lie behind a gap) or more (purple, the last pixels of the gap): "
    + ", ".join(f"{n} {star_violation(u[None]).item() / u.mean():.3f}" for n, u in examples.items())
    + ".",
)

# %% [markdown]
# The number is the violation in units of the region's size. Behind every gap there is a rim that should not be there (orange),
# and in front of it one pixel of gap that should be filled (purple): the loss offers both cures and leaves the choice to the
# other terms. The bay costs nothing: from the centre one looks into it. The
# crescent is a warning. It *is* one piece, but its centroid lies at its edge or outside; the right ventricle looks like this. A prior must be true of the organ before it can help. That need not be guessed:
# a few masks are there, and can be asked.

# %%
for kind, tolerance in ((star_violation, 0.01), (convex_violation, 0.001)):
    regions = obeyed(kind, labels, 4, tolerance)
    words = [" + ".join(names[k] for k in region) for region in regions]
    print(f"{kind.__name__}: obeyed by {'; '.join(words)}")

# %% [markdown]
# The left ventricle, and what the epicardium encloses, wall and cavity together. The wall alone is a ring. `for_task`
# makes this choice from the labelled masks of whatever task it is given.

# %% [markdown]
# ## Convexity
#
# A star may have any outline; a **convex** region may not. Take two of its points, and what lies between them belongs to it as
# well. Broken into triples of pixels on a line, with the middle one exactly half-way, the condition forbids one pattern: *in,
# out, in*.
#
# $$
# C = \frac{1}{|D||\Omega|} \sum_{d \in D} \sum_i u_{i-d}\, u_{i+d}\, (1 - u_i)
# $$

# %%
show.code(convex_violation)
# %%
show.code(_pattern)

# %% [markdown]
# Three views of one image, shifted against each other, and a product. $D$ holds the axes and diagonals at four distances,
# so a dent of any width from two pixels on is seen by one of them. The plus sign below tells the two shapes apart.

# %%
plus = torch.zeros(40, 40)
plus[18:23, 8:33], plus[8:33, 18:23] = 1, 1
for name, u in {**examples, "plus": plus}.items():
    star, convex = star_violation(u[None]).item(), convex_violation(u[None]).item()
    print(f"{name:<11} star {star / u.mean():.4f}   convex {convex / u.mean():.4f}")

# %% [markdown]
# Zero for the disc, exactly: a mask that is cut out of a grid by a convex outline has no such triple, whatever the
# displacement. The plus is a star without being convex. Note what differs in the *gradient*: a product of three
# probabilities is small as long as nobody is sure, so this penalty wakes up late.

# %% [markdown]
# ## Topology
#
# Vessels are neither stars nor convex, and there is no size to speak of. What matters is that they are
# *connected*: a bleeding or a stenosis is looked for along the tree. Dice hardly notices.

# %%
tree = torch.zeros(1, 48, 48, dtype=torch.long)
tree[:, 8:18], tree[:, 30:32], tree[:, 18:30, 22:25] = 1, 1, 1
nibbled, broken = tree.clone(), tree.clone()
nibbled[:, 8, 4:16] = 0
broken[:, 30:32, 34:40] = 0
pictures = {"the mask": tree, "12 pixels off a rim": nibbled, "12 pixels of a vessel": broken}
fig, axes = show.subplots(1, 3, height=3.0)
for ax, (name, mask) in zip(axes, pictures.items(), strict=True):
    probs = F.one_hot(mask, 2).movedim(-1, 1).double()
    dice = 2 * (mask * tree).sum() / (mask.sum() + tree.sum())
    line = soft_skeleton(probs, 6)[0, 1]
    ax.imshow(mask[0], cmap="gray", vmin=0, vmax=1.6)
    ax.imshow(np.ma.masked_less(line, 0.5), cmap="autumn", vmin=0, vmax=8)
    ax.set_title(f"{name}\nDice {dice:.3f}, clDice {cldice(probs, tree, 6):.3f}")
    ax.axis("off")
show.figure(
    fig,
    alt="A wide and a thin vessel with their centre lines; the same with twelve pixels taken off the rim of "
    "the wide one, and with twelve pixels cut out of the thin one. Dice is the same, clDice is not.",
)

# %% [markdown]
# The same number of wrong pixels, the same Dice. **clDice** compares centre lines (red). How much of the predicted line
# lies in the true vessel, how much of the true line has been found?
#
# $$
# T_p = \frac{\sum S_P V_L}{\sum S_P}, \qquad T_s = \frac{\sum S_L V_P}{\sum S_L}, \qquad
# clDice = \frac{2\, T_p\, T_s}{T_p + T_s}
# $$
#
# A skeleton is usually found by thinning, which has no gradient. Here erosion is the smallest value of a neighbourhood and
# dilation the largest. What an opening would remove, at each depth of thinning, is the ridge:

# %%
show.code(soft_skeleton)

# %% [markdown]
# clDice compares with a mask, so it works on labelled images. Can topology be asked for without one? For this, the pieces and holes
# have to be *counted* in a way that has a gradient. **Persistent homology** does it by counting at every threshold at
# once. Lower a threshold from 1 to 0 over a map of probabilities. Pieces appear at their highest pixel, and vanish when they
# grow together with an older one; holes appear when a ring closes, and vanish when they are filled. Each is a **bar** from
# birth to death. Move the threshold, and try the three rings. (Bars shorter than 0.08, of which
# a grid of pixels always has some, are not drawn.)

# %%
centre = torch.arange(24.0) - 11.5
radius = (centre[:, None] ** 2 + centre**2).sqrt()
angle = torch.atan2(centre[:, None], centre)
wall = 0.9 * torch.exp(-((radius - 7) ** 2) / 4)
gap = torch.exp(-(angle**2) / 0.08)
speck = 0.5 * torch.exp(-((centre[:, None] + 9) ** 2 + (centre + 9) ** 2) / 2)
rings = {
    "closed": wall,
    "weak link": wall * (1 - 0.55 * gap),
    "open, with a speck": torch.maximum(wall * (1 - gap), speck),
}
rings = {name: values.clamp(min=0.1) for name, values in rings.items()}  # never quite sure of no


def bars_of(ring, threshold):
    values = rings[ring].double()
    fig, axes = show.subplots(1, 3, width=5.6, height=2.2, width_ratios=[1, 1, 1.5])
    axes[0].imshow(values, cmap="gray", vmin=0, vmax=1)
    axes[1].imshow(values >= threshold, cmap="gray", vmin=0, vmax=1)
    row, alive = 0, []
    for bars, colour, name in zip(
        barcode(values), ("#0072B2", "#D55E00"), ("pieces", "holes"), strict=True
    ):
        flat = torch.cat([values.flatten(), torch.zeros(1, dtype=torch.double)])
        ends = [
            (flat[b].item(), flat[d].item()) for b, d in zip(bars.birth, bars.death, strict=True)
        ]
        ends = sorted((e for e in ends if e[0] - e[1] > 0.08), key=lambda e: e[1] - e[0])
        for birth, death in ends:
            axes[2].plot([birth, death], [row, row], color=colour, lw=5, solid_capstyle="butt")
            row += 1
        alive.append(sum(death < threshold <= birth for birth, death in ends))
        axes[2].plot([], [], color=colour, lw=5, label=name)
    axes[2].axvline(threshold, color="black", lw=1.2, ls="--")
    axes[2].set(xlim=(1, 0), ylim=(-0.7, 3.2), yticks=[], xlabel="threshold")
    axes[2].legend(
        loc="upper right", frameon=True, facecolor="white", edgecolor="none", framealpha=1
    )
    titles = ("probability", f"above {threshold:g}", f"{alive[0]} piece(s), {alive[1]} hole(s)")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
    for ax in axes[:2]:
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Ring: {ring}. Above the threshold {threshold:g} there are {alive[0]} piece(s) and {alive[1]} hole(s); "
        f"the barcode has {row} bars longer than 0.08.",
    )


show.explore(
    bars_of,
    ring=list(rings),
    threshold=[0.15, 0.25, 0.35, 0.5, 0.65, 0.8],
    labels={"ring": "ring"},
    limit=125_000,
    alt="A ring of probabilities, what lies above a threshold, and the barcode of its pieces and holes.",
)

# %% [markdown]
# No threshold is special any more. Anatomy says: the myocardium is one piece with one hole. Then *one* bar of each colour should
# be long, as long as it can be, and all the others should not be there. Clough and colleagues write just this:
#
# $$
# C = \sum_{q \in \{0,1\}} \Big( \sum_{j \le \beta_q} \big(1 - (b_j - d_j)^2\big) + \sum_{j > \beta_q} (b_j - d_j)^2 \Big)
# $$

# %%
show.code(topology_loss)
# %%
show.code(barcode)

# %% [markdown]
# How does a count get a gradient? The two ends of a bar are the values of **two pixels**: the one where it is born, and the one
# where it dies. Which pixels these are is a matter of sorting, and changes rarely; their values are differentiable. Where, then,
# does the loss pull at the ring with the weak link?

# %%
for name in ("weak link", "open, with a speck"):
    values = rings[name].double().requires_grad_()
    (slope,) = torch.autograd.grad(topology_loss(values, (1, 1)), values)
    print(f"{name}: {int((slope.abs() > 0.01).sum())} of {slope.numel()} pixels are pulled at")
    holes = barcode(values)[1]
    lengths = holes.lengths(values.detach())
    if len(lengths) == 0 or lengths.max() < 0.05:
        print("  there is no hole to speak of, so nothing can be lengthened")
        continue
    y, x = divmod(int(holes.birth[lengths.argmax()]), 24)
    print(f"  the hole is born at radius {radius[y, x]:.1f} px, angle {angle[y, x]:+.2f} rad,")
    print(f"  where the value is {values[y, x]:.2f} and the pull upwards {-slope[y, x]:.2f}")

# %% [markdown]
# Very few pixels. The hole of the weak ring is born at its thinnest place (angle 0 is to the right, where the gap is), and exactly there it is pulled up.
# That is surgical, and slow: one pixel a step. And look what happens with the *open* ring. Where there is no hole, there is no bar, and where there is no bar
# there is nothing to lengthen: the pull is elsewhere, at the speck. The loss mends what is nearly right. It does not invent.
#
# Is the count right? Ours is read off one procedure that joins pixels in the order of their values; holes are the pieces of the complement. The
# tests compare it, bar by bar, with [GUDHI](https://gudhi.inria.fr). In a training it runs on maps of 32 by 32 pixels, on the unlabelled images:

# %%
show.code(Homology.penalty)
# %%
print("what the labelled masks agree on:", Homology.for_task(task).betti)

# %% [markdown]
# ## Trust, but differentiate
#
# A new loss has a bug more often than not, and a network trains on wrong gradients without complaint. So each of these was checked in double
# precision against finite differences:

# %%
torch.manual_seed(0)
u = torch.rand(1, 6, 7, dtype=torch.double, requires_grad=True)
checks = {
    "size": lambda u: size_penalty(u[:, None], *map(torch.tensor, ([0.7], [0.8], [0.8]))),
    "star": lambda u: star_violation(u).sum(),
    "convexity": lambda u: convex_violation(u).sum(),
    "clDice": lambda u: cldice(torch.stack([1 - u, u], 1), (u > 0.5).long(), 2),
    "homology": lambda u: topology_loss(u[0], (1, 1)),
}
for name, loss in checks.items():
    print(f"{name:<10} gradient agrees: {torch.autograd.gradcheck(loss, u)}")

# %% [markdown]
# ## Side by side
#
# First the heart, with the star constraint on the two regions found above. Same first weights, same labelled images, same steps.

# %% tags=["nbval-ignore-output"]
star = fit(StarShape.for_task(task), task, budget, seed=0)
star.method.cpu()
for name, fitted in (("supervised", baseline), ("star shape", star)):
    said = fitted.predict(task.valid.images)
    violation = np.mean(
        [star_violation(said[:, list(r)].sum(1)).mean() for r in star.method.regions]
    )
    error = betti_error(said.argmax(1), task.valid).mean()
    print(f"{name}: star violation {violation:.5f}, wrong pieces and holes {error:.2f}")
    print(f"{evaluate(fitted, task.valid)}\n")

# %% [markdown]
# Then the vessels of one eye, with and without clDice. Compare Dice and the Betti error: they are two questions.

# %% tags=["nbval-ignore-output"]
eyes = Task.split(load("vessels"), labelled=1, seed=0)
arms = {
    alpha: fit(ClDice.for_task(eyes, alpha=alpha), eyes, budget, seed=0) for alpha in (0.0, 0.5)
}
seen = {alpha: fitted.predict(eyes.valid.images).argmax(1) for alpha, fitted in arms.items()}
for alpha, classes in seen.items():
    dice = score(classes, eyes.valid, surfaces=False).mean_dice
    print(
        f"alpha {alpha}: Dice {dice:.3f}, Betti error {betti_error(classes, eyes.valid).mean():.1f}"
    )
patch = eyes.valid.images[[2, 2]]
show.images(
    patch,
    labels=eyes.valid.labels[[2, 2]],
    predictions=torch.stack([seen[0.0][2], seen[0.5][2]]),
    titles=["Dice", "Dice and clDice"],
    names=eyes.train.names,
    columns=3,
    alt="A quarter of a retina with its vessels and the contours found with Dice, and with clDice as well.",
)

# %% [markdown]
# ## What the scoreboard says
#
# One eye, or three hearts, are one draw. The [scoreboard](../scoreboard/scoreboard) has several, on test subjects:

# %%
results = study.read()
mine = {"prior-size", "prior-star", "prior-convex", "prior-topology", "supervised", "full-labels"}
show.scoreboard(
    [line for line in study.summary(results, "cardiac-3") if line.method.partition(":")[0] in mine]
)

# %%
show.scoreboard(
    [line for line in study.summary(results, "vessels-1") if line.method.partition(":")[0] in mine]
)

# %% [markdown]
# Read with care: Dice is not what most of these constraints are for. A ventricle that loses a stray piece of five pixels gains in the Betti error and
# in the Hausdorff distance (the column HD95), and next to nothing in Dice. If a row's interval contains zero, the sentence is "no change of
# Dice was shown". And a prior that the network has learnt from its masks anyway, as it well may learn that ventricles are round, has
# nothing left to say.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "The size penalty on an unlabelled image is zero. What do you know about the answer?",
    {
        "It is probably right.": "A ventricle of the right size beside the heart costs nothing either.",
        "Its classes have sizes that are possible.": "And nothing else. Size is necessary, not sufficient.",
        "The bounds were too wide.": "Perhaps; a penalty of zero does not tell.",
    },
    correct="Its classes have sizes that are possible.",
)

# %%
quiz(
    "You ask the homology loss for one hole, and the network's ring is wide open: no hole at any threshold. What happens?",
    {
        "The gap is closed within a few steps.": "There is no bar whose ends could be moved.",
        "The term has no gradient that would close it.": "It charges 1 for the missing hole, and 1 is a constant.",
        "The loss becomes infinite.": "It is 1 for the missing bar.",
    },
    correct="The term has no gradient that would close it.",
)

# %% [markdown]
# ## Exercises
#
# **1. Crossed bounds.** Make a `SizeConstraint` by hand with a lower bound of 0.3 and an upper bound of 0.2 for one class. What would descent on such a penalty do, if
# the library let you?
#
# ```{dropdown} Hint
# Between 0.2 and 0.3 both terms are positive.
# ```
# ```{dropdown} Solution
# The library refuses, and says which class. Without the check, the sum of both excesses is constant between the bounds, so its square has no slope there:
# every size from 0.2 to 0.3 would be charged the same. No error, no warning, a term that does nothing.
# ```
#
# **2. The wrong prior.** Force `StarShape` on the right ventricle, `regions=((1,),)`, and train at the smoke budget. Which number would tell you, before any
# training, that this was a mistake?
#
# ```{dropdown} Hint
# `obeyed` measures it.
# ```
# ```{dropdown} Solution
# The violation of the *true* masks: `star_violation((labels == 1).double())`. If the truth is charged, the loss teaches the network to leave the truth. A
# constraint must be checked on the masks that exist.
# ```
#
# **3. Two discs.** Descend on `convex_violation` from two separate soft discs. Do they merge, or does one vanish? Start again with one of them fainter.
#
# ```{dropdown} Hint
# The pattern *in, out, in* can be cured at three places.
# ```
# ```{dropdown} Solution
# All three probabilities of a triple get a gradient, each in proportion to the product of the other two. With two equal discs the ends are pulled down
# as much as the middle is pushed up. With a faint disc, the *bright* end's pull on the faint one is the strongest: $\partial C/\partial u_{i+d} =
# u_{i-d}(1-u_i)$ is large where the other end is bright. The faint one goes first, as with the size.
# ```
#
# ## Take away
#
# - A constraint is a penalty on answers: zero for all that may be true, with a gradient for the rest. It needs no mask.
# - Size is a sum, star shape a difference along a ray, convexity a product of three, topology the ends of a bar.
# - It says what is impossible, not what is true; the decision among the possible ones stays with the image.
# - Ask the masks you have whether the prior holds. Check the gradient. Measure what the constraint is about, not only Dice.
#
# **Reading.** Sizes: {cite:t}`pathak2015constrained` and {cite:t}`kervadec2019constrained`. Stars: {cite:t}`mirikharaji2018star`, after
# {cite:t}`veksler2008star`. Convexity: {cite:t}`gorelick2017convexity` and, in a network, {cite:t}`liu2020convex`. Topology:
# {cite:t}`shit2021cldice`, {cite:t}`clough2022topological` and, with the barcode of the mask as the target, {cite:t}`hu2019topology`.
