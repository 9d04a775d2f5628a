# %% [markdown]
# # Lab 4: One atlas, one label
#
# <!-- badge -->
#
# **You will build** a segmenter that never learns to segment: a network that moves one labelled brain onto any other, and
# takes the labels along. Three small functions and a loss, then a training, and a hard look at what you got.
# Allow 30 to 45 minutes.
#
# **You should know** the loop of [the baseline](../foundations/baseline). The chapter [Atlases](../semi/atlases) has the ideas;
# leave its code closed.
#
# There are four steps with one blank each. After each comes a **check**: it runs your code and, if
# something is missing, says *which property* is missing. It does not compare with one true program, so
# whatever has the properties is right. Run the cells from top to bottom: where a cell stops with
# *Blank 1*, the first line of yours is wanted.

# %% tags=["setup"]

# %%
from dataclasses import replace

import torch
import torch.nn.functional as F

from lsseg_edu import networks, show
from lsseg_edu.augment import displaced, integrate, warp
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn.checks import lab04
from lsseg_edu.semi.priors import Atlas, Registration, bending_energy
from lsseg_edu.train import Budget, fit

# %% [markdown]
# ## The problem
#
# Eight slices of **one** brain are labelled. That is the atlas. The other training brains have images only.

# %%
budget = replace(Budget.auto(), steps=Budget.auto().pick(6, 250, 1000))
task = Task.split(load("brain"), labelled=1, seed=0)
atlas = Atlas.of(task)
print(task)
print(f"atlas: {len(atlas.images)} slices, classes {', '.join(task.train.names)}")

# %% [markdown]
# ## Step 1: labels that move
#
# A motion is given as a **grid** $(B, H, W, 2)$: for each pixel of the *output*, the place in the *input* to read. `warp(images, grid)`
# does it for images $(B, C, H, W)$, with linear interpolation.
#
# Labels are numbers of classes, and half-way between class 0 and class 2 there is no class 1. So labels are taken apart into one mask for
# each class, and the *masks* are warped as if they were images. Return them as they are, soft at the borders.


# %%
def move_labels(labels, classes, grid):
    """Labels (B, H, W) read at `grid` (B, H, W, 2): soft masks (B, K, H, W)."""
    # BEGIN SOLUTION
    masks = F.one_hot(labels, classes).movedim(-1, 1).float()
    return warp(masks, grid)
    # END SOLUTION


# %%
lab04.move_labels(move_labels)

# %% [markdown]
# ```{dropdown} Hint
# `F.one_hot(labels, classes)` puts the classes last, as integers; `movedim(-1, 1)` brings them to where an image has its channels.
# ```
#
# **Think.** An organ moves to the *right* if the grid reads further to the ... ?
#
# ```{dropdown} Answer
# To the left. The grid says where to look, not where to go. What is found three pixels to the left is put here, three pixels to the
# right of where it was. Confusing the two is the classical mistake of registration.
# ```

# %% [markdown]
# ## Step 2: how unlike are two images?
#
# The squared difference will not do: scanners differ in brightness and contrast. The **correlation coefficient** does not mind. Taken
# within a window of nine pixels around each pixel, it does not mind a slow shade across the image either:
#
# $$
# \rho_i = \frac{\overline{ab}_i - \bar a_i \bar b_i}
#   {\sqrt{\big(\overline{a^2}_i - \bar a_i^2\big)\big(\overline{b^2}_i - \bar b_i^2\big) + \epsilon}},
# \qquad L = 1 - \frac{1}{|\Omega|} \sum_i \rho_i ,
# $$
#
# where a bar with index $i$ is the mean over the window around $i$. `means(x)` computes it for a whole batch. Take $\epsilon = 10^{-5}$; a
# variance can come out as $-10^{-8}$, so clamp it at 0.


# %%
def means(x):
    """Means of x (B, C, H, W) over a window of 9 x 9 pixels around each pixel."""
    return F.avg_pool2d(x, 9, stride=1, padding=4, count_include_pad=False)


def unlike(moved, fixed):
    """One minus the mean local correlation of two batches of images (B, C, H, W)."""
    # BEGIN SOLUTION
    covariance = means(moved * fixed) - means(moved) * means(fixed)
    variances = [(means(x * x) - means(x).square()).clamp(min=0) for x in (moved, fixed)]
    return 1 - (covariance / (variances[0] * variances[1] + 1e-5).sqrt()).mean()
    # END SOLUTION


# %%
lab04.unlike(unlike)

# %% [markdown]
# **Think.** Which contrast change does $\rho$ *not* forgive, and when would that hurt?
#
# ```{dropdown} Answer
# One that turns dark into bright: the negative has $\rho = -1$. In T2-weighted MR, fluid is bright, in T1-weighted it is dark. Between the two, correlation pulls
# in the wrong direction; mutual information, or $\rho^2$, is the remedy.
# ```

# %% [markdown]
# ## Step 3: does it fold?
#
# The displacement $u$ moves the place that is read from $x$ to $x + u(x)$. The determinant of its derivative,
#
# $$
# \det \begin{pmatrix} 1 + \partial_x u_x & \partial_y u_x \\ \partial_x u_y & 1 + \partial_y u_y \end{pmatrix},
# $$
#
# says how much area a little square gets. Where it is 0 or below, the square is turned over: a **fold**. Return the fraction of places that fold.
#
# Grid coordinates run from $-1$ to $1$ over the whole image. In *pixels*, $u_x$ is $W/2$ times as large and $u_y$ is $H/2$ times; that is done for you. Derivatives are then
# differences of neighbours: along $x$, `ux[:, :, 1:] - ux[:, :, :-1]`, which is one column short. Cut all four to $(H-1) \times (W-1)$.


# %%
def folded(displacement):
    """The fraction of places at which a displacement (B, H, W, 2) folds."""
    height, width = displacement.shape[1:3]
    ux, uy = displacement[..., 0] * width / 2, displacement[..., 1] * height / 2
    # BEGIN SOLUTION
    along_x = [(u[:, :, 1:] - u[:, :, :-1])[:, :-1] for u in (ux, uy)]
    along_y = [(u[:, 1:] - u[:, :-1])[:, :, :-1] for u in (ux, uy)]
    determinant = (1 + along_x[0]) * (1 + along_y[1]) - along_y[0] * along_x[1]
    return (determinant <= 0).float().mean()
    # END SOLUTION


# %%
lab04.folded(folded)

# %% [markdown]
# ```{dropdown} Hint
# `u.diff(dim=2)` is the difference along x, `u.diff(dim=1)` along y. Cut the last row of the first and the last column of the second.
# ```

# %% [markdown]
# ## Step 4: put together
#
# A network $g$ sees the atlas image and the target and answers with a velocity $v$. `integrate(v)` turns it into a displacement, along which nothing
# folds if $v$ is smooth; `displaced(u)` turns a displacement into a grid. Write the loss:
#
# $$
# L = \mathrm{unlike}\big(a \circ e^{v},\ x\big) + \lambda\, \mathrm{bending}(v) .
# $$
#
# `bending_energy(v)` is given. Return the two terms by name: `"unlikeness"` and `"bending"`, the latter already multiplied by `self.bending`.


# %%
class MyRegistration(Registration):
    def loss(self, batch):
        fixed = batch.unlabelled.images
        moving = self.atlas.images[self.atlas.match(fixed)]
        # BEGIN SOLUTION
        velocity = self.net(moving, fixed)
        moved = warp(moving, displaced(integrate(velocity)))
        return {
            "unlikeness": unlike(moved, fixed),
            "bending": self.bending * bending_energy(velocity),
        }
        # END SOLUTION

    def predict(self, images):
        index = self.atlas.match(images)
        velocity = self.net(self.atlas.images[index], images)
        grid = displaced(integrate(velocity))
        return move_labels(self.atlas.labels[index], self.atlas.classes, grid)


# %%
lab04.one_atlas(MyRegistration)

# %% [markdown]
# **Think.** Where in this loss is a label?
#
# ```{dropdown} Answer
# Nowhere. `predict` uses the atlas' labels, training does not. You could label the atlas *after* the training, or relabel it with other
# organs, and need not train again.
# ```

# %% [markdown]
# ## What have you got?

# %% tags=["nbval-ignore-output"]
mine = fit(MyRegistration(networks.registration(task), atlas), task, budget, seed=0)
print(f"{mine.seconds:.0f} s of training")

valid = task.valid
unmoved = atlas.cpu().one_hot(atlas.match(valid.images)).argmax(1)
print(
    f"labels where the atlas has them: Dice {score(unmoved, valid, surfaces=False).mean_dice:.3f}"
)
print(
    f"labels moved by your network:    Dice {evaluate(mine, valid, surfaces=False).mean_dice:.3f}"
)

# %% tags=["nbval-ignore-output"]
item = 20
target, truth = valid.images[item : item + 1], valid.labels[item : item + 1]
method = mine.method.cpu()
with torch.no_grad():
    velocity = method.net(atlas.images[atlas.match(target)], target)
moved = mine.predict(target).argmax(1)
share = folded(integrate(velocity))
show.images(
    target.repeat(2, 1, 1, 1),
    labels=truth.repeat(2, 1, 1),
    predictions=torch.cat([unmoved[item : item + 1], moved]),
    titles=["not moved", f"moved, {share:.1%} folded"],
    names=valid.names,
    columns=2,
    alt=f"A validation brain with its truth and the atlas' labels, before and after they were moved; {share:.2%} of the places fold.",
)

# %% [markdown]
# Look first at the outline of the brain and at the ventricles, then at the cortex. Which parts found their way?
#
# The labels of *one* person's cortical folds are pressed into another person's, who has other folds. No smooth motion can do that,
# and a rough one would only pretend to.

# %% [markdown]
# ## What have you shown?
#
# One training, one atlas, one draw. The [scoreboard](../scoreboard/scoreboard) has several, beside the network that simply learns from the eight slices.
#
# **If there is time left**
#
# - Set `bending=0` and train again. What happens to the unlikeness, to the folds, and to the Dice? Which of the three would you have reported?
# - Take `task.keep(labelled=3)` and move each of the three atlases by itself, with `lsseg_edu.semi.priors.atlas.by_subject`. Average the masks.
# - Give a wrong atlas: `atlas.labels.roll(8, -1)`. Does any number in the training tell you?
#
# ```{admonition} Take-away
# Registration needs no label to train, one to predict, and none to be wrong. Its loss measures likeness, and what you want is correspondence: count
# the folds, look at the pictures, and judge by masks that the training has not seen.
# ```
