# %% [markdown]
# # Lab 6: Scribbles to segmentations
#
# <!-- badge -->
#
# **You will build** a network that learns from scribbles: the loss that hears only them, the kinship of pixels, an energy that charges
# for parting kin, and the training that uses both. Allow 45 minutes.
#
# **You should know** the training loop of [the baseline](../foundations/baseline). The pages [Scribbles](../partial/scribbles) and
# [Regularised losses](../partial/regularised) have the ideas; leave their code closed.
#
# There are four steps with one blank each. After each comes a **check**: it runs your code and, if something is missing, says
# *which property* is missing. It does not compare with one true program, so whatever has the properties is right. Run the
# cells from top to bottom: where a cell stops with *Blank 1*, the first line of yours is wanted.

# %% tags=["setup"]

# %%
from dataclasses import replace

import torch

from lsseg_edu import networks, show
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.learn.checks import lab06
from lsseg_edu.partial.regions import on_grid
from lsseg_edu.semi.consistency import sigmoid_rampup
from lsseg_edu.train import Budget, Method, fit

# %% [markdown]
# ## The problem
#
# Twenty patients, a few strokes in each slice. Most of the image has no label at all; such pixels are marked `IGNORE`.

# %%
auto = Budget.auto()
budget = replace(auto, steps=auto.pick(3, 200, 800))
full = Task.split(load("cardiac"), labelled=20, seed=0)
task = annotate.scribbles(full, seed=0)
names = task.train.names
chosen = task.labelled[[2, 14]]
images, strokes = task.train.images[chosen], task.train.labels[chosen]
known = (task.train.labels[task.labelled] != IGNORE).float().mean()
print(f"{known:.1%} of the pixels have a label; IGNORE is {IGNORE}")

# %%
show.images(
    images,
    labels=strokes,
    names=names,
    fill=True,
    alt="Two hearts, each with one stroke on every part of it and one on the background.",
)

# %% [markdown]
# ## Step 1: hear the scribbles
#
# With $\Omega_s$ the scribbled pixels of the batch, and $p$ the softmax of the logits,
#
# $$
# L_{pCE} = -\frac{1}{|\Omega_s|} \sum_{i \in \Omega_s} \log p_{y_i}(i) .
# $$


# %%
def partial_ce(logits, labels):
    """Logits (B, K, H, W), labels (B, H, W) with IGNORE off the scribbles, to one number."""
    # BEGIN SOLUTION
    known = labels != IGNORE
    logp = logits.log_softmax(1).movedim(1, -1)[known]
    return -logp.gather(1, labels[known][:, None]).mean()
    # END SOLUTION


# %%
lab06.partial(partial_ce)

# %% [markdown]
# ```{dropdown} Hint
# `x.movedim(1, -1)` puts the classes last, and `[labels != IGNORE]` then picks the pixels. Or look up what `F.cross_entropy` does with `ignore_index`.
# ```
#
# **Think.** What would the network learn if you replaced IGNORE by 0?
#
# ```{dropdown} Answer
# To draw scribbles. Class 0 is the background, so nearly every pixel of every organ would be called background.
# ```

# %% [markdown]
# ## Step 2: who belongs together
#
# Two pixels are kin if they are near ($r$: row and column) and look alike ($x$: intensity):
#
# $$
# W_{ij} = \exp\Big(-\frac{|r_i - r_j|^2}{2\sigma_r^2} - \frac{(x_i - x_j)^2}{2\sigma_x^2}\Big), \qquad W_{ii} = 0 .
# $$
#
# All pairs at once: no loop over pixels. Pixels are numbered row by row, as `flatten` does.


# %%
def kinship(images, near, alike):
    """Images (B, 1, H, W), widths in pixels and in intensity, to W (B, P, P) with P = H * W."""
    # BEGIN SOLUTION
    height, width = images.shape[2:]
    axes = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).to(images)
    far = (place[:, :, None] - place[:, None]).square().sum(0)
    x = images.flatten(1)
    other = (x[:, :, None] - x[:, None]).square()
    w = torch.exp(-far / (2 * near**2) - other / (2 * alike**2))
    return w * (1 - torch.eye(height * width, device=images.device))
    # END SOLUTION


# %%
lab06.affinity(kinship)

# %% [markdown]
# ```{dropdown} Hint
# With `x` of shape `(B, P)`, `x[:, :, None] - x[:, None]` has the difference of every pair. `torch.meshgrid(..., indexing="ij")` gives the rows and the columns of all pixels.
# ```
#
# Look at a row of your $W$: the kin of one pixel. A matrix of all pairs of 4096 pixels is large, so we work on a grid of 32 x 32 cells (`on_grid` takes means).

# %%
small = on_grid(images, 1024)
w = kinship(small, 4.0, 0.5)
fig, axes = show.subplots(1, 4, height=2.1)
for ax, n, spot in zip(axes[::2], (0, 1), (16 * 32 + 18, 15 * 32 + 14), strict=True):
    ax.imshow(small[n, 0])
    ax.plot(spot % 32, spot // 32, "+", color="#56B4E9", ms=10, mew=2)
    ax.set_title("a pixel")
for ax, n, spot in zip(axes[1::2], (0, 1), (16 * 32 + 18, 15 * 32 + 14), strict=True):
    ax.imshow(w[n, spot].view(32, 32), vmin=0, vmax=1, cmap="magma")
    ax.set_title("its kin")
for ax in axes:
    ax.axis("off")
show.figure(
    fig,
    alt="Two hearts on a coarse grid with a cross on one pixel, and the pixels that are near it and look like it.",
)

# %% [markdown]
# ## Step 3: what it costs to part them
#
# $S_k$ are the probabilities of class $k$, one for each of the $P$ points. A border between kin is charged, as a share of all kinship in the image:
#
# $$
# R(S) = \frac{\sum_k S_k^\top W (1 - S_k)}{\sum_{ij} W_{ij}}, \qquad \text{then the mean over the images.}
# $$


# %%
def cut_share(probs, w):
    """Probabilities (B, K, P) and W (B, P, P) to one number."""
    # BEGIN SOLUTION
    cut = (probs * ((1 - probs) @ w)).sum((1, 2))
    return (cut / w.sum((1, 2))).mean()
    # END SOLUTION


# %%
lab06.energy(cut_share)

# %% [markdown]
# ```{dropdown} Hint
# `(1 - probs) @ w` is `(B, K, P)`: for each pixel, the kin that are *not* of class k. (W is symmetric.)
# ```
#
# Test it on the true masks, and on the same masks moved by some pixels. The truth should part fewer kin.

# %%
masks = full.train.labels[chosen]
costs = {}
for shift in (0, 2, 4):
    hard = torch.nn.functional.one_hot(masks.roll(shift, 2), 4).movedim(-1, 1).float()
    costs[shift] = cut_share(on_grid(hard, 1024).flatten(2), w).item()
    print(f"moved by {shift} pixels: {costs[shift]:.4f} of the kinship is parted")

# %%
quiz(
    "Which answer costs nothing at all?",
    {
        "The true mask.": "It parts some kin, wherever an edge of the image is weak.",
        "One class everywhere.": "No border, no cut. That is why the scribbles must go first.",
        "One half for every class, everywhere.": "Doubt costs: each pair is cut by half.",
    },
    correct="One class everywhere.",
)

# %% [markdown]
# ## Step 4: the loss
#
# Put it together. `energy(probs, images)` gives one number. The terms are
#
# $$
# L_{scr} = L_{pCE}(f(x), y), \qquad L_{reg} = w \cdot \text{ramp}(t) \cdot R\big(\text{softmax} f(x), x\big),
# $$
#
# with `sigmoid_rampup(batch.progress)` for the ramp. `batch.labelled` has `.images` and `.labels`.


# %%
def scribble_terms(net, batch, energy, weight):
    """The loss of a batch as a dict of two terms, "scribbles" and "regulariser"."""
    # BEGIN SOLUTION
    part = batch.labelled
    logits = net(part.images)
    ramp = sigmoid_rampup(batch.progress)
    return {
        "scribbles": partial_ce(logits, part.labels),
        "regulariser": weight * ramp * energy(logits.softmax(1), part.images),
    }
    # END SOLUTION


# %%
lab06.terms(scribble_terms)

# %% [markdown]
# The rest is given: your energy on a grid of 24 x 24 cells, and a method that the loop of the book can train. With `weight=0` it *is* partial cross-entropy, with the same images in the same order.


# %%
def parting(probs, images):
    w = kinship(on_grid(images, 576), near=2.25, alike=0.5)  # 2.25 cells are 6 pixels
    return cut_share(on_grid(probs, 576).flatten(2), w)


class Scribbled(Method):
    def __init__(self, net, weight):
        super().__init__(net)
        self.weight = weight

    def loss(self, batch):
        return scribble_terms(self.net, batch, parting, self.weight)


# %% tags=["nbval-ignore-output"]
fitted = {
    weight: fit(Scribbled(networks.unet(task, seed=0), weight), task, budget, seed=0)
    for weight in (0.0, 1.0)
}
said = {weight: one.predict(task.valid.images) for weight, one in fitted.items()}
print(f"{'':<14}{'Dice':>8}{'HD95':>8}{'kin parted':>12}")
for weight, probs in said.items():
    report = score(probs.argmax(1), task.valid)
    parted = parting(probs, task.valid.images)
    print(f"weight {weight:<7}{report.mean_dice:>8.3f}{report.mean_hd95:>8.1f}{parted:>12.4f}")

# %% tags=["nbval-ignore-output"]
change = (said[0.0].argmax(1) != said[1.0].argmax(1)).flatten(1).sum(1)
most = change.argsort(descending=True, stable=True)[:2]
show.images(
    task.valid.images[most.repeat_interleave(2)],
    labels=task.valid.labels[most.repeat_interleave(2)],
    predictions=torch.stack([said[w].argmax(1)[i] for i in most for w in (0.0, 1.0)]),
    titles=["scribbles alone", "with the energy"] * 2,
    names=names,
    columns=4,
    alt="The two validation slices on which the arms differ most, each as the network sees it that was trained on scribbles alone and "
    f"the one with the energy; they differ in {int(change[most[0]])} and {int(change[most[1]])} pixels.",
)

# %% [markdown]
# ## What have you shown?
#
# That fewer kin are parted is no surprise: it was minimised. Whether the answers got better, the Dice and HD95 must say, and this is one draw of strokes and one seed. The page
# [Regularised losses](../partial/regularised) has the table with several, and the control that does not look at the image.

# %%
print(f"the truth parts fewer kin than a moved mask: {costs[0] < min(costs[2], costs[4])}")

# %% [markdown]
# **If there is time left**
#
# - Change the widths in `parting`. What does the energy become for `alike=100`, and what for `alike=0.01`?
# - Divide by the degree: write the normalised cut, $\sum_k S_k^\top W (1 - S_k) / d^\top S_k$ with $d = W \mathbf 1$. What must be done for a class that the image does not show?
# - Leave out the ramp. Watch the loss terms in `fitted[1.0].history`.
#
# ```{admonition} Take-away
# Scribbles say what things are, the image says where they may end. A loss over pairs of pixels joins the two: no label, all pairs at once, and checked before it is trusted.
# ```
