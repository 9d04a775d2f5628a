# %% [markdown]
# # Self-supervision: questions an image answers itself
#
# <!-- badge -->
#
# **You will learn**
#
# - how to make a task, with answers, from images that nobody has annotated;
# - how eight such *pretexts* work, in slices and in volumes, and by which shortcut each can be cheated;
# - how their features reach a segmentation network, and what a fair control is;
# - how a jigsaw can also make pseudo-labels.
#
# **You should know** [the baseline](../foundations/baseline), the levels of the
# [U-Net](../foundations/networks), and what makes a comparison fair
# ([measuring honestly](../foundations/measuring)).

# %% tags=["setup"]

# %%
import math
from dataclasses import replace

import torch
import torch.nn.functional as F

from lsseg_edu import networks, show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.semi import self_supervision as ssl
from lsseg_edu.train import Batch, Budget, Part, Supervised, fit

budget = Budget.auto()
short = replace(budget, steps=budget.pick(6, 200, 400))
task = Task.split(load("cardiac"), labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# Sixty-seven of these seventy patients have no mask. But their images are not without information,
# and a good exam needs no annotator: *hide something that we know, and ask for it.* Here is one slice
# and four questions about it. Which way up is it? In what order do the tiles belong? What is in the
# holes? What did the contrast look like before it was changed?

# %%
torch.manual_seed(2)
heart = task.valid.images[3:4]
grid = ssl.Grid((64, 64), 3)


def board(tiles):
    """Nine tiles side by side, with white lines between them."""
    rows = F.pad(tiles, (1, 1, 1, 1), value=float(tiles.max())).unflatten(0, (3, 3))
    return torch.cat([torch.cat(list(row), -1) for row in rows], -2)


tiles = grid.cut(heart)[0]
shuffled = F.interpolate(board(tiles[torch.randperm(9)])[None], 64)
hole = ssl.holes(heart)
show.images(
    torch.cat(
        [heart, heart.rot90(1, (2, 3)), shuffled, heart.masked_fill(hole, 0), ssl.remap(heart)]
    ),
    titles=["a slice", "turned", "in pieces", "with holes", "remapped"],
    alt="A heart slice and four questions made from it: turned by 90 degrees, cut into nine shuffled "
    "tiles, with four square holes, and with its grey values changed by a random curve.",
)

# %% [markdown]
# Nobody needs the answers: we knew them before. What we want is what a network must learn to find
# them. To say which way up the heart is, it must find the heart. To fill the hole, it must know that the
# dark ring goes round the bright pool. The question is a **pretext**, and when it has done its work, we
# keep the encoder $f_{enc}$ and throw away the head $h$ that gave the answers:
#
# $$
# \hat\theta_{enc} = \arg\min_{\theta_{enc},\, h} \; \frac1N \sum_{n=1}^{N}
#   L_{pretext}\big(h(f_{enc}(\tilde x_n)),\ a_n\big),
# $$
#
# where $\tilde x_n$ is the image as posed and $a_n$ the answer, both made from the image $x_n$. Then the
# segmentation is trained on the three labelled patients, *starting from* $\hat\theta_{enc}$.
#
# The danger is the same in every section below: a network finds the *easiest* way to the answer, and
# that need not lead through the anatomy. So with each pretext, ask two things. What must be understood
# to answer? And how could one answer without understanding?

# %% [markdown]
# ## Relative position
#
# The first of the modern pretexts {cite:p}`doersch2015unsupervised` cuts two neighbouring tiles from an
# image and asks where the second lies, seen from the first: above, below, upper left... There are
# $3^2 - 1 = 8$ directions. With tiles $x_c$ and $x_{c+\delta}$ and the encoder's features $f$ of each,
#
# $$
# L = -\frac18 \sum_{\delta} \log p_\delta\big(f(x_c),\, f(x_{c+\delta})\big).
# $$
#
# The shortcut: if the tiles touched, a line that leaves one would enter the other, and the network would
# match lines. So each tile is smaller than its cell, with a **gap** to its neighbours, and is shaken in
# its cell by a random **jitter**. The brightness of a tile is another clue, since a coil shades the image
# from side to side: each tile is standardised on its own.

# %%
print(
    f"cell {grid.cell}, tile {grid.tile}, gap at least {grid.gap}, jitter up to {grid.slack} pixels"
)
starts = grid.corners(heart.expand(3, -1, -1, -1), torch.tensor([[0, 0], [0, 1]]))
for (a, b), (c, d) in starts.tolist():
    print(
        f"tile at row {a:2}, column {b:2}; its neighbour at row {c:2}, column {d:2}: gap {d - b - 16}"
    )

# %% [markdown]
# One network looks at all tiles, one by one, and the head sees the features of a *pair*. We ask for all
# eight neighbours at once, so that no direction is rarer than another:

# %%
show.code(ssl.RelativePosition.directions)

# %% [markdown]
# A tile of 16 pixels has a limit, too. The U-Net halves its image four times, and of this tile only two
# pixels are left after three. We stop there: the pretexts on tiles train levels 0 to 3 of the encoder,
# and level 4 keeps its random start. On larger images the tiles reach all levels.

# %% [markdown]
# ## Jigsaw puzzles
#
# Two tiles are a small puzzle. Take all nine {cite:p}`noroozi2016unsupervised`: shuffle them, and ask for
# the order. As $9! = 362\,880$ answers are too many for a classifier, a fixed *set* of permutations is
# agreed on, and the network names the one that was used:
#
# $$
# L = -\log p_\pi\big( h\big(g(x_{\pi(1)}), \ldots, g(x_{\pi(9)})\big) \big).
# $$
#
# The encoder $g$ is *siamese*, the same for all tiles, so it cannot know where a tile lies; only $h$
# compares. Which permutations belong in the set? If two of them differed in two tiles only, those two
# tiles would decide, and the others need not be looked at. So the set is built to be far apart in the
# Hamming distance (the number of places in which two permutations differ), greedily:


# %%
def nearest(permutations):
    """Smallest Hamming distance between any two."""
    distance = (permutations[:, None] != permutations).sum(2)
    return int(distance[~torch.eye(len(permutations), dtype=torch.bool)].min())


torch.manual_seed(0)
at_random = torch.rand(24, 9).argsort(1)
print("24 random permutations: two of them differ in only", nearest(at_random), "of 9 places")
print("the greedy set: any two differ in at least", nearest(ssl.permutation_set(24, 9)))

# %%
show.code(ssl.Jigsaw)

# %% [markdown]
# Note what the siamese encoder buys: shuffling the tiles is shuffling their *features*. Each image is
# encoded once and asked about in all 24 orders. Now a few steps of training, on all seventy patients'
# images and no mask. Then solve a puzzle by hand, on images of patients the network has not seen: lay it
# out in the orders A, B and C. One of them is right, one has two tiles exchanged, one is another member of
# the set. Decide before you look at the network's answer.

# %% tags=["nbval-ignore-output"]
solver = ssl.pretrain(ssl.Jigsaw, task, short).method.cpu().eval()
torch.manual_seed(1)
pieces = grid.cut(task.valid.images[[3, 21, 45]])
which = torch.tensor([3, 13, 23])
truth = solver.permutations[which]
mixed = ssl.take(pieces, truth)
with torch.no_grad():
    chance = solver.solve(ssl.standardised(mixed)).softmax(1)
exchanged = truth.clone()
exchanged[:, [3, 5]] = truth[:, [5, 3]]
guesses = {
    "right": truth,
    "near": exchanged,
    "far": solver.permutations[which - 2],
    "network": solver.permutations[chance.argmax(1)],
}
LETTERS = {
    "A": ("near", "right", "far"),
    "B": ("far", "near", "right"),
    "C": ("right", "far", "near"),
}


def puzzle(number, order):
    n = number - 1
    fig, ax = show.subplots(width=2.4, height=2.6)
    ax.axis("off")
    ax.set_title(order)
    tiles, text = mixed[n], "nine shuffled tiles of a heart slice"
    if order != "as it lies":
        guess = guesses[LETTERS[order][n] if order in LETTERS else "network"][n]
        tiles = mixed[n][guess.argsort()]
        right = int((guess == truth[n]).sum())
        text = f"laid out in this order, {right} of 9 tiles are in their places"
        if order not in LETTERS:
            ax.set_title(f"the network: {right} of 9 right")
            text += f"; the network gives it the probability {chance[n].max():.2f}"
    show.overlay(ax, board(tiles))
    return show.figure(fig, alt=f"Puzzle {number}, {order}: {text}.")


show.explore(
    puzzle,
    number=[1, 2, 3],
    order=["as it lies", "A", "B", "C", "the network's"],
    labels={"number": "puzzle", "order": "order"},
    limit=120_000,
    alt="Shuffled tiles of heart slices, three orders to choose from, and that of a jigsaw network.",
)

# %% [markdown]
# What did *you* look at? Probably the border of the body and the bright pools, hardly the muscle between
# them. The network is free to do the same. The tiles at the rim of the image can be told by the rim, and
# a puzzle that is solved by the rim teaches nothing of the heart.

# %% [markdown]
# ## Colourisation
#
# A photograph without its colours can be coloured by someone who knows that grass is green
# {cite:p}`zhang2016colorful,larsson2017colorization`. From the luminance $\ell(x)$ the whole U-Net predicts
# the colour that was taken away,
#
# $$
# L = \frac{1}{|\Omega|} \sum_{i \in \Omega} \big\| f(\ell(x))_i - (x_i - \ell(x)_i) \big\|^2 .
# $$
#
# For stained tissue this is the real thing: blue marks nuclei. Most of our images are grey, and here
# honesty is needed: **grey images have no colour, so this book uses a substitute.** The *contrast* is
# taken away, by a random curve from grey value to grey value, and the network has to give back the
# original. The curve may rise and fall: two tissues may become equally bright, as red and green may have
# the same grey. What distinguishes them then is where they lie and what shape they have.

# %%
torch.manual_seed(0)
nuclei = load("nuclei", subjects=2)
section = nuclei.images[:1]
grey, _ = ssl.Colorization(networks.unet(networks.Shape(3, 2, 2))).pose(section)
mean, deviation = nuclei.extras["colour"][0, :, :, None, None]
curves = [heart] + [ssl.remap(heart) for _ in range(2)]
show.images(
    torch.cat(
        [section * deviation + mean, grey, *[image.expand(-1, 3, -1, -1) for image in curves]]
    ),
    titles=["tissue", "its luminance", "a heart", "one curve", "another"],
    columns=6,
    alt="A stained tissue section in pink and blue and its grey luminance; a heart slice and the same "
    "slice with its grey values changed by two random curves, some tissues now equally bright.",
)

# %% [markdown]
# The shortcut here is low level: much of a colour can be guessed from the grey value itself, without
# seeing an object. And the task is not well posed. Where a nucleus might be of two colours, the squared
# error asks for their mean, which is neither; the original work predicts a histogram instead.

# %% [markdown]
# ## Rotation
#
# The simplest question of all {cite:p}`gidaris2018unsupervised`: was the image turned by 0, 90, 180 or 270
# degrees? Quarter turns move pixels without interpolating, so no blur gives them away, and every image
# is shown in all four, so that guessing the commonest turn is worth nothing.

# %%
show.code(ssl.rotations)

# %%
show.code(ssl.Rotation.loss)

# %% [markdown]
# Is the question hard enough? Cats in photographs stand in every corner, hearts in a scanner always lie
# the same way. Watch the loss; chance is $\ln 4$.

# %% tags=["nbval-ignore-output"]
turns = ssl.pretrain(ssl.Rotation, task, replace(budget, steps=budget.pick(6, 60, 200)))
losses = turns.history["rotation"]
print(
    f"chance {math.log(4):.2f}; first step {losses[0]:.2f}; last three {sum(losses[-3:]) / 3:.2f}"
)

# %% [markdown]
# A question that is answered perfectly after a few steps has no more to teach; what is left of training
# polishes the certainty. Compare the curve of a pretext with its chance level before you spend a night
# on it. A pretext can be too hard as well: then the loss stays at chance and the features stay noise.

# %% [markdown]
# ## Inpainting
#
# Cut holes, have them filled, and judge the *holes* only {cite:p}`pathak2016context`: with a mask $M$ that
# is 1 in the holes,
#
# $$
# L = \frac{1}{|M|} \sum_{i \in M} \big( f((1 - M) \odot x)_i - x_i \big)^2 .
# $$
#
# A loss over the whole image would be won by copying what is visible; a U-Net's skips are made for that.
# And there is a bonus: to draw the missing piece one needs the decoder, so the *whole* U-Net is trained.

# %%
show.code(ssl.Inpainting)

# %% tags=["nbval-ignore-output"]
painter = ssl.pretrain(ssl.Inpainting, task, short).method.cpu().eval()
torch.manual_seed(3)
pair = task.valid.images[[3, 36]]
mask = ssl.holes(pair)
with torch.no_grad():
    filled = torch.where(mask, painter.restore(pair, mask), pair)
show.images(
    torch.stack([pair, pair.masked_fill(mask, 0), filled], 1).flatten(0, 1),
    titles=["the slice", "as seen", "as filled"] * 2,
    columns=6,
    alt="Two heart slices of the validation patients, with four holes each, and with the holes as the "
    "network filled them: smooth, without the grain of the image.",
)

# %% [markdown]
# The fillings are smooth, as the squared error asks for: of all textures that might be there it wants the
# mean. The original adds a discriminator for sharp ones. For us blur does no harm: we want the features,
# not the picture.

# %% [markdown]
# ## Pre-train, then fine-tune
#
# The pretext is done; now the segmentation. The network is a fresh one of the baseline, with the encoder,
# or with all but its last layer, replaced:

# %%
show.code(ssl.finetune_from)

# %% [markdown]
# Everything else *is* the baseline: the schedule, the labelled images in their order, the augmentation,
# even the random weights wherever nothing is transferred. That makes training from scratch the control it
# should be, and any difference is due to the starting weights. Three trainings, then: from scratch, from
# the inpainter's encoder, and from its encoder and decoder.

# %% tags=["nbval-ignore-output"]
fits = {
    "from scratch": fit(Supervised(networks.unet(task)), task, budget, seed=0),
    "encoder": ssl.finetune_from(painter, task, budget, seed=0, part="encoder"),
    "encoder and decoder": ssl.finetune_from(painter, task, budget, seed=0, part="all"),
}
reports = {name: evaluate(fitted, task.valid, surfaces=False) for name, fitted in fits.items()}
for name, report in reports.items():
    print(f"{name:<20} validation Dice {report.mean_dice:.3f}")
show.curves(
    {name: fitted.history["supervised"] for name, fitted in fits.items()},
    ylabel="supervised loss",
    window=budget.pick(1, 15, 50),
    alt="The supervised loss while training from scratch, from the inpainting encoder, and from encoder "
    "and decoder.",
)

# %% [markdown]
# Look at the start and at the end of the curves separately. If the pretext has taught anything, the
# transferred networks fall earlier. Whether they also *end* lower on new patients is another matter: given
# enough steps, the baseline finds such features by itself. One run of each settles nothing; and the
# pretext's steps were extra. The honest opponent is therefore the baseline trained for twice as long
# (`supervised_longer`), which the scoreboard has as an arm of its own.

# %% [markdown]
# ## In three dimensions
#
# Volumes deserve questions about volumes. {cite:t}`taleb20203d` carried five pretexts over, and in this
# library each is the same class as for slices, since nothing in it depends on the number of axes:
#
# | pretext | in a slice | in a volume |
# |---|---|---|
# | relative position | 8 directions | 26 directions |
# | jigsaw | 9 tiles | 27 tiles |
# | rotation | 4 turns | 10: none, and three about each axis |
# | exemplar | views of a slice | views of a volume |
# | predictive coding | rows of tiles | slabs of tiles |
#
# Why 10 rotations, when a cube can be turned into 24 poses? Because these are the turns about *one* axis.
# They are all distinct, as the next cell checks, here on a brain:

# %%
brain = load("brain", size=32, dims=3, subjects=2).images[:1]
turned = ssl.rotations(brain)
print("poses of a volume:", len({tuple(t.flatten().tolist()) for t in turned}))
show.images(
    turned[:, 0, :, 16],
    titles=["as it was", *[f"axis {a}: {d}°" for a in "zyx" for d in (90, 180, 270)]],
    alt="The middle slice of a brain volume in its ten poses: as it was, and turned by 90, 180 and 270 "
    "degrees about each of three axes; some show the brain from above, some from the front or the side.",
)

# %%
volumes = networks.unet(networks.Shape(1, 4, 3), width=2)
print(
    "directions asked for:", ssl.RelativePosition(volumes, (32, 32, 32)).directions(brain).shape[1]
)
print("tiles of a jigsaw:   ", ssl.Jigsaw(volumes, (32, 32, 32)).permutations.shape[1])

# %% [markdown]
# `pretexts_3d(task, pretext="rotation")` runs pre-training and fine-tuning for any of the five. Mind the
# voxels: where slices are thick, a turn about an axis in the plane shows at once by the coarse direction.
# Then only the turns in the plane make sense. And mind the tiles: a 27th of a small volume is 8 voxels
# wide, which reaches the upper levels of the encoder only.

# %% [markdown]
# ## Contrastive predictive coding
#
# Read the image like a page: from the rows of tiles so far, predict the next {cite:p}`oord2018representation`.
# Not its pixels, which would waste effort on noise, but its *features*. A recurrent network sums up the
# rows above in a context $c_{r}$, and a linear map $W_k$ predicts the tile $k$ rows below, $W_k c_r$.
#
# There is a trap. The features $z$ are learnt as well: if they were all zero, the prediction would be
# perfect. Hence the *contrastive* loss. The prediction has to pick out its own tile among $N$, from other
# columns, rows and images:
#
# $$
# L = -\frac1N \sum_{n} \log \frac{\exp(\cos(q_n, k_n)/\tau)}{\sum_{m} \exp(\cos(q_n, k_m)/\tau)},
# \qquad q_n = W_k c_{r}, \quad k_n = z_{r+k} .
# $$
#
# With constant features every tile is equally likely, and the loss is that of chance, $\ln N$:

# %%
torch.manual_seed(0)
keys = torch.randn(96, 64)
print(f"ln 96 = {math.log(96):.2f}")
print(f"constant features: {ssl.info_nce(torch.ones(96, 64), torch.ones(96, 64)):.2f}")
print(f"perfect predictions of different tiles: {ssl.info_nce(keys, keys):.2f}")

# %%
show.code(ssl.CPC)

# %% [markdown]
# Medical images are hard on this loss. Much of a slice is air, and one tile of air is like the next: as a
# negative it is false. The loss can never get past these pairs, however good the features.

# %% [markdown]
# ## Exemplars
#
# Take the idea of "this one, not the others" to whole images {cite:p}`dosovitskiy2014discriminative`: every
# image is a class of its own, and its augmented copies are the members. As a *triplet* loss, with an
# anchor $a_n$ and a positive $p_n$ (two views of an image) and the views $p_m$ of others as negatives,
#
# $$
# L = \frac{1}{N(N-1)} \sum_{n \ne m} \big[\, \|a_n - p_n\| - \|a_n - p_m\| + \alpha \,\big]_+ .
# $$
#
# Nothing happens to a triplet whose negative is already further away than the positive by the margin
# $\alpha$:

# %%
anchor, positive = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.5], [3.0]])
print(f"margin 1, everything in order: {ssl.triplet(anchor, positive, 1.0):.2f}")
print(f"margin 3, too much to ask:     {ssl.triplet(anchor, positive, 3.0):.2f}")

# %% [markdown]
# The augmentation decides what is learnt: features become blind to what it changes. That is welcome for
# noise and contrast. But the views are *whole* images, and to tell patients apart one need not know where
# their ventricles end. For segmentation this is the pretext with the least to say about pixels. Moreover,
# two slices of one heart are pushed apart here as if they were strangers.

# %% [markdown]
# ## Puzzles of several modalities
#
# A patient often has several images of the same anatomy, T1 and T2 for example. {cite:t}`taleb2021multimodal`
# make one puzzle of both: each tile comes from a modality drawn at random. Brightness now says nothing
# about the place, and the features must be those that the modalities share: the anatomy.
#
# The second change is in the answer. Instead of naming one of a few permutations, the network gives
# scores $A_{sp}$ for tile $s$ at place $p$, and the **Sinkhorn operator** turns them into a soft permutation:
# divide the rows by their sums, then the columns, and again. The tiles $P$ are put together with it, and
# the resulting *image* is judged:
#
# $$
# L = \big\| S^\top P - P^* \big\|^2, \qquad S = \mathrm{Sinkhorn}(A/\tau).
# $$

# %%
show.code(ssl.sinkhorn)

# %%
torch.manual_seed(1)
scores = torch.randn(6, 6)
panels = {
    "one round, τ = 1": ssl.sinkhorn(scores, 1),
    "20 rounds, τ = 1": ssl.sinkhorn(scores, 20),
    "20 rounds, τ = 0.1": ssl.sinkhorn(scores / 0.1, 20),
}
fig, axes = show.subplots(1, 3, height=2.7, sharey=True)
for ax, (title, soft) in zip(axes, panels.items(), strict=True):
    ax.imshow(soft, cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=title, xlabel="place", xticks=[], yticks=[])
    print(f"{title:<20} row sums {soft.sum(1).min():.2f} to {soft.sum(1).max():.2f}")
axes[0].set_ylabel("tile")
show.figure(
    fig,
    alt="Three 6 x 6 matrices made from the same scores: after one round and after twenty at "
    "temperature 1 all entries are grey; at temperature 0.1 nearly black and white, a permutation.",
)

# %% [markdown]
# At a small temperature $S$ is nearly a permutation, and its gradient nearly zero: soft enough to learn,
# hard enough to mean something. As to the modalities: if an image has several channels, these are the
# modalities. Our phantoms have one. **Their second modality is made up**, by the random curve of the section
# on colourisation. Real modalities differ in more than a curve, for instance in what they show at all.

# %% [markdown]
# ## A loop of jigsaws
#
# So far the pretext came first and the segmentation second. {cite:t}`li2020self` run both at once, and take
# a *target* out of the pretext. One encoder serves a segmentation decoder and a jigsaw head. For a batch
# of unlabelled images the jigsaw is optimised $K$ times; each step leaves a slightly different encoder,
# which is asked for the segmentation. The average of its answers is the pseudo-label:
#
# $$
# \theta_k = \theta_{k-1} - \rho \nabla L_{jig}(x; \theta_{k-1}), \qquad
# \bar p = \frac1K \sum_{k=1}^K f_{\theta_k}(x), \qquad
# L = L_{sup} + \lambda L_{jig} + w(t) \, \frac{1}{|\Omega| C} \| f_{\theta_0}(x) - \bar p \|^2 .
# $$
#
# An average of networks is more careful than one of them: where they disagree, it is soft. An ensemble
# costs many trainings; here, a few jigsaw steps shake one network into being many.

# %%
show.code(ssl.SelfLoop.pseudo_label)

# %% [markdown]
# Three details. The loop moves a *copy*: the network itself learns the jigsaw by the term of its own.
# The target is computed without gradients. And the spread is only as good as the shaking. If $\rho$ is so
# small that all $K$ answers agree, the pseudo-label is the network's own opinion, and nothing is learnt;
# if it is too large, it is the opinion of a broken network. Below, how far the baseline's answers move from
# the original one, averaged over pixels, for a few rates:

# %% tags=["nbval-ignore-output"]
items = torch.arange(4)
part = Part(task.valid.images[:4], None, items, items, {})
loop = ssl.SelfLoop(fits["from scratch"].method.net.cpu(), (64, 64)).eval()
with torch.no_grad():
    before = loop.net(part.images).softmax(1)
for rate in (0.001, 0.01, 0.1, 1.0):
    torch.manual_seed(0)
    loop.rate = rate
    moved = (loop.pseudo_label(Batch(None, part, 0.5)) - before).abs().mean()
    print(f"rate {rate:5}: mean change {moved:.4f}")

# %% [markdown]
# ## Surrogate supervision
#
# Which pretext should you choose? {cite:t}`tajbakhsh2019surrogate` asked it for medical images: rotation,
# reconstruction and colourisation as starting points, for several amounts of labels, against training from
# scratch. The study is a function of the library. A pretext is trained once and fine-tuned for each amount;
# scores are of the *validation* patients, for this is a choice. Here it runs in miniature, to show its form.

# %% tags=["nbval-ignore-output"]
whole = Task.split(load("cardiac"), seed=0)
mini = replace(budget, steps=budget.pick(2, 120, 400))
rows = ssl.surrogate_supervision(whole, mini, labelled=(2, 20))
scores = {}
for row in rows:
    scores.setdefault(row["start"], {})[row["labelled"]] = [row["dice"]]
show.budget(
    scores,
    ylabel="validation Dice",
    alt="Validation Dice for 2 and 20 labelled patients, from scratch and from three pretexts: "
    + "; ".join(f"{r['start']}, {r['labelled']}: {r['dice']:.2f}" for r in rows),
)

# %% [markdown]
# One seed, a short training: read the form, not the ranking. Where the steps are so few, more labelled
# patients need not even help, for each of them is seen less often. What to look for in a study of your own is a
# *trend*: whatever a pretext gives, it should give it where labels are few. With many labels one expects
# the lines to meet. If yours do not, ask whether the baseline was trained long enough.

# %% [markdown]
# ## What the scoreboard says
#
# Each pretext as the [scoreboard](../scoreboard/scoreboard) has it: pre-trained on all images, fine-tuned on
# three patients, each for as many steps as the baseline has. *Supervised, longer* is the baseline with the
# steps of both rounds.

# %%
results = study.read()
mine = {
    *("ssl-relpos", "ssl-jigsaw", "ssl-colorization", "ssl-rotation", "ssl-inpainting", "ssl-cpc"),
    *("ssl-exemplar", "multimodal-puzzle", "self-loop", "supervised", "full-labels"),
    *("supervised-longer", "mean-teacher:weight=0"),
}
show.scoreboard([line for line in study.summary(results, "cardiac-3") if line.method in mine])

# %% [markdown]
# The forms in three dimensions, with two labelled brains (relative positions; the other four pretexts are options of the same
# procedure):

# %%
mine_3d = {"taleb-3d", "supervised", "full-labels"}
show.scoreboard([line for line in study.summary(results, "brain3d-2") if line.method in mine_3d])

# %% [markdown]
# Read the interval before the mean, and the line of the longer baseline before that of any pretext. Where
# the two overlap, the extra steps would have been as well spent on the labels.
#
# Then consider the setting. Self-supervision made its name with large networks and millions of images.
# Our network is tiny, the images are those of seventy patients, and the augmentation may already teach
# some of what a pretext could. A small gain here is no verdict on the idea, and a large one elsewhere is no
# promise for your data.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "Your jigsaw network solves every puzzle, but fine-tuning gains nothing. What would you look at first?",
    {
        "Whether the tiles touch, or differ in brightness.": "Then the puzzle is solved by matching lines "
        "or shading. Gaps, jitter and standardised tiles close these shortcuts.",
        "Whether the set has enough permutations for the network to reach 100 %.": "It has reached it. An "
        "easy pretext is the trouble, not the cure.",
        "Whether the head of the jigsaw was transferred.": "It is thrown away: the segmentation has no use "
        "for the name of a permutation.",
    },
    correct="Whether the tiles touch, or differ in brightness.",
)

# %%
quiz(
    "A method pre-trains for 400 steps and fine-tunes for 400. Which baseline is the fair one?",
    {
        "400 steps from scratch, same seed and same batches.": "A useful control: it isolates the starting "
        "weights. But the method had twice the time.",
        "400 steps from scratch, and 800 steps from scratch.": "The first isolates the starting weights, the "
        "second asks whether the time was well spent.",
        "The same network with random weights and no training.": "That would be beaten by anything.",
    },
    correct="400 steps from scratch, and 800 steps from scratch.",
)

# %% [markdown]
# ## Exercises
#
# **1. The middle knows too much.** With `count=3` the first tile of a pair is always the middle one. How
# could the network name the direction without looking at it? Try `RelativePosition` with `count=5`. What
# changes, and what does it cost?
#
# ```{dropdown} Hint
# Hearts in a scanner lie where they always lie.
# ```
# ```{dropdown} Solution
# If the first tile is always the middle, the place of the second one *is* the direction, and where a tile
# lies in the body can be seen from that tile alone. With `count=5` the first tile is drawn from the nine
# inner cells, and the same second tile may be the right or the left neighbour: both must be looked at. The
# price is smaller tiles (8 pixels at a size of 64), of which fewer levels of the encoder see anything.
# ```
#
# **2. The wrong hole.** Change the loss of `Inpainting` to the mean over *all* pixels. Which solution does a
# U-Net find within a few steps, and which connection makes it so easy?
#
# ```{dropdown} Hint
# Three quarters of the answer are in plain sight.
# ```
# ```{dropdown} Solution
# It copies. The skip at full resolution hands the visible pixels to the last layers, which reach three
# quarters of the score by passing them on, and the gradient is dominated by this copying. The deep levels,
# which alone see far enough to fill a hole, get little of it. Judging the holes only leaves nothing to copy.
# ```
#
# **3. Who deserves the credit?** Fine-tune from an *untrained* pretext, `ssl.Jigsaw.for_task(task, seed=1)`,
# and compare with training from scratch. What does this control measure?
#
# ```{dropdown} Hint
# What is different between the two starts? Nothing has been learnt in either.
# ```
# ````{dropdown} Solution
# ```python
# untrained = ssl.Jigsaw.for_task(task, seed=1)
# evaluate(ssl.finetune_from(untrained, task, budget, seed=0), task.valid).mean_dice
# ```
# Only the random numbers of the encoder's first weights differ. The difference in Dice is therefore what a
# change of random start alone does; a pretext's gain in a single run has to be seen against it.
# ````

# %% [markdown]
# ## Take away
#
# - A pretext hides what we know and asks for it; we keep the features, not the answers.
# - Every pretext has shortcuts: touching tiles, shading, copying, constant features. Close them, and look
#   at the loss against chance: too easy teaches nothing, too hard teaches nothing.
# - Tiles and turns train the encoder; inpainting and colourisation train the decoder as well.
# - The control is the same fine-tuning from scratch, and the same *time* from scratch.
#
# **Reading.** {cite:t}`doersch2015unsupervised` began it, {cite:t}`noroozi2016unsupervised` made puzzles of it;
# {cite:t}`taleb20203d` carried five pretexts to volumes, with the soft puzzles of {cite:t}`mena2018learning` in
# {cite:t}`taleb2021multimodal`; {cite:t}`tajbakhsh2019surrogate` compare three of them on medical images.
