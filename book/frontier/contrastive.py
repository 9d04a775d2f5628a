# %% [markdown]
# # Contrastive learning: which of these belong together?
#
# <!-- badge -->
#
# **You will learn**
#
# - how one loss, *nearer to what belongs to it than to what does not*, covers four methods;
# - what the temperature does to the negatives, and why the nearest of them are often false;
# - how a queue (MoCo) makes the number of negatives independent of the batch;
# - how the anatomy itself says which slices, and which places, belong together;
# - how a big pre-trained network hands what it knows to a small one.
#
# **You should know** [self-supervision](../semi/self_supervision), where pre-training and its fair control
# are introduced, and the averaged teacher of [consistency](../semi/consistency).

# %% tags=["setup"]

# %%
import math

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from torch.nn.functional import normalize

from lsseg_edu import networks, show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.frontier import contrastive
from lsseg_edu.learn import quiz
from lsseg_edu.semi.self_supervision import finetune_from, pretrain
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# Here are five images without a mask. Which of them belong together?

# %%
torch.manual_seed(4)
views = contrastive.SimCLR(networks.unet(task))
train, height = task.train, task.train.extras["position"]
who, level = train.subjects.unique()[[0, 5]], (0.2, 0.7)


def slice_of(subject, at):
    """The resting frame's slice of a subject nearest to a height."""
    mine = ((train.subjects == subject) & (train.extras["frame"] == 0)).nonzero()[:, 0]
    return int(mine[(height[mine] - at).abs().argmin()])


anchor = train.images[[slice_of(who[0], level[0])]]
others = train.images[[slice_of(who[1], at) for at in level]]
show.images(
    torch.cat([anchor, views.view(anchor), views.view(anchor), others]),
    titles=["a slice", "a view of it", "another view", "same height", "lower down"],
    alt="A heart slice, two views of it that are turned, shifted and repainted, the slice of another "
    "patient at the same height, and a slice of that patient nearer to the apex.",
)

# %% [markdown]
# The second and third are the first one, moved and repainted: nobody needs a mask to know that they show
# the same thing. The fourth is a stranger's heart at the same height, so it shows the same anatomy. The fifth
# is the stranger's again, nearer to the apex. A network that *places* images so, like near like, has understood something
# that a segmenter can use. That is the whole program: take what is known to belong together, the
# **positives**, and pull it together; take what does not, the **negatives**, and push it away.
#
# Each image becomes a feature vector $z$ of length 1. With the cosines $s_{ij} = z_i^\top z_j$, the pairs $P$
# that belong together, and for each anchor $i$ its negatives $N(i)$, the loss {cite:p}`oord2018representation` is
#
# $$
# L = \frac{1}{|P|} \sum_{(i,p) \in P} -\log
#   \frac{\exp(s_{ip}/\tau)}{\exp(s_{ip}/\tau) + \sum_{n \in N(i)} \exp(s_{in}/\tau)} .
# $$
#
# It is the cross-entropy of a classifier that has to find the positive in a crowd of negatives. Why need
# there be a crowd at all? Because without it the best features are constant: everything is then near
# everything. In the library the loss takes $P$ and $N$ as two masks, and every method of this chapter uses it:

# %%
show.code(contrastive.contrast)

# %% [markdown]
# ## SimCLR
#
# The simplest choice of the masks {cite:p}`chen2020simple`: make two views of each of $B$ images. The
# positive of a view is the other view of its image, and the $2B - 2$ views of all the other images are its
# negatives.

# %%
show.code(contrastive.nt_xent)

# %%
show.code(contrastive.SimCLR)

# %% [markdown]
# Three things in it deserve a second look.
#
# **The views decide what is learnt.** Whatever the augmentation changes, the features must ignore; whatever
# it leaves alone is a shortcut. If the brightness stayed, it would be enough to find the other view. So the
# augmentation is stronger here than in supervised training.
#
# **The head is thrown away.** What is compared is not the encoder's summary but $z = g(f_{enc}(x))$, two
# layers later. Suppose that the orientation of the heart were useful to the segmenter. The loss wants it
# gone, as the views are turned at random. The head $g$ can drop it, so that the encoder need not.
#
# **The rate is a quarter of the supervised one.** Where all features are equal the gradients cancel, and steps
# that are too long can end there: the loss stays at chance, with no label to pull the images apart again. At
# the full rate, this is what the contrast of parts, further below, looked like on the training images.
#
# How hard is the exam? That depends on the crowd, and here the crowd is the batch:

# %%
for images in (2, 8, 4096):
    print(
        f"{images:4} images: {2 * images - 2:4} negatives, chance {math.log(2 * images - 1):.2f} nats"
    )

# %% [markdown]
# SimCLR was made with batches of thousands. Ours have eight images. Two slices of a heart and a dozen
# others are told apart by coarse features, and once that succeeds there is little left to learn.

# %% [markdown]
# ## Temperature on a circle
#
# Let the features be points on a circle, so that we can see them. The anchor is the square, its positive the
# diamond; the discs are negatives. The derivative of the loss says how strongly each negative is pushed away.
# By hand, for a negative $n$,
#
# $$
# \frac{\partial L}{\partial s_{in}} = \frac{1}{\tau} \, w_n, \qquad
# w_n = \frac{\exp(s_{in}/\tau)}{\exp(s_{ip}/\tau) + \sum_m \exp(s_{im}/\tau)} .
# $$
#
# Move the temperature, and watch who is pushed. The arrows are the gradients along the circle, scaled to the
# longest of them; the bars are each negative's share of the push.

# %%
ring = [60, 105, 150, 195, 240, 285]


def push(temperature, nearest):
    """Gradient of the loss with respect to the place of the positive and of every negative."""
    place = torch.tensor([0.0, 30.0, nearest, *ring]).deg2rad().requires_grad_()
    z = torch.stack([place.cos(), place.sin()], 1)
    first = torch.tensor([[True] + [False] * (len(place) - 2)])
    loss = contrastive.contrast(z[:1] @ z[1:].T, first, ~first, temperature)
    slope = torch.autograd.grad(loss, place)[0]
    weight = (z[:1] @ z[2:].T / temperature).softmax(1)[0]
    return place.detach(), -slope, weight.detach()


def circle(temperature, nearest):
    place, move, weight = push(temperature, -nearest)
    fig, (left, right) = show.subplots(1, 2, width=5.0, height=2.4)
    turn = torch.linspace(0, 2 * math.pi, 200)
    left.plot(turn.cos(), turn.sin(), color="#BBBBBB", lw=1)
    x, y = place.cos(), place.sin()
    left.plot(x[0], y[0], "s", color="#1A1A1A", ms=9)
    left.plot(x[1], y[1], "D", color="#009E73", ms=8)
    left.plot(x[2:], y[2:], "o", color="#D55E00", ms=7)
    for i, step in enumerate(0.6 * move / move[1:].abs().max()):
        if i and abs(step) > 0.06:
            tip = (x[i] - step * y[i], y[i] + step * x[i])
            arrow = {"arrowstyle": "-|>", "color": "#1A1A1A", "lw": 1.4}
            left.annotate("", tip, (x[i], y[i]), arrowprops=arrow)
    for i in range(len(place)):
        name = "anchor" if i == 0 else "positive" if i == 1 else str(i - 1)
        far = (0.58, 0.64)[i] if i < 2 else 0.8
        left.text(far * x[i], far * y[i], name, ha="center", va="center", fontsize=9)
    left.set(aspect="equal", xlim=(-1.25, 1.35), ylim=(-1.25, 1.25))
    left.axis("off")
    right.bar(range(1, len(weight) + 1), weight, color="#D55E00")
    right.set(
        ylim=(0, 1),
        xlabel="negative",
        ylabel="share of the push",
        xticks=range(1, 8),
        yticks=[0, 0.5, 1],
    )
    return show.figure(
        fig,
        alt=f"Temperature {temperature:g}, nearest negative {nearest} degrees from the anchor: it takes "
        f"{weight[0]:.0%} of the push, the six others together {1 - weight[0]:.0%}.",
    )


show.explore(
    circle,
    temperature=[0.05, 0.1, 0.3, 1.0],
    nearest=[15, 35, 50],
    labels={"temperature": "temperature τ", "nearest": "nearest negative, degrees away"},
    limit=65_000,
    alt="An anchor, a positive and seven negatives on a circle, and how hard each negative is pushed.",
)

# %%
for temperature in (0.05, 0.1, 0.5, 1.0):
    weight = push(temperature, -15)[2]
    print(f"τ = {temperature:4}: the nearest negative takes {weight[0]:.3f} of the push")

# %% [markdown]
# A small temperature looks only at the **hardest** negatives; a large one pushes everybody a little, even
# those on the far side, who could not be further away. Small values make features that tell fine things
# apart, and papers choose around 0.1.
#
# Now put the nearest negative to 15 degrees, nearer than the positive. It may be a *stranger* who looks alike:
# then the push is what we want. But it may be the slice next door, of the same heart: then it is a **false
# negative**, and a small temperature spends nearly all of its force on the error. In photographs of a thousand
# kinds of objects this is rare. In hearts, where all images show the same organ, it is the rule. We come
# back to it.

# %% [markdown]
# ## MoCo
#
# SimCLR's crowd is the batch, and the batch is what the memory holds. {cite:t}`he2020momentum` keep the
# crowd outside of it: the features of the *last* batches stay in a **queue** and serve as negatives. They
# cost nothing, as no gradient flows into them.
#
# But they were made by the encoder of some steps ago, and that encoder saw things differently. So there are
# two encoders. The *query* encoder $\theta$ learns; the *key* encoder, which fills the queue, follows slowly,
#
# $$
# \theta' \leftarrow m\,\theta' + (1-m)\,\theta, \qquad
# L = -\log \frac{\exp(q^\top k/\tau)}{\exp(q^\top k/\tau) + \sum_{j=1}^{Q} \exp(q^\top k_j/\tau)} .
# $$
#
# You know this from [Mean Teacher](../semi/consistency.ipynb#mean-teacher). There the average made a better teacher; here it
# makes keys *comparable* although they were made at different times.

# %%
show.code(contrastive.MoCo)

# %% [markdown]
# The queue is a ring: the newest keys are written over the oldest. Nothing says that the batch divides the
# queue. Here ten places and batches of four; each place shows the number of the batch whose key it holds.

# %%
ring_of_ten = contrastive.MoCo(networks.unet(task), queue=10)
ring_of_ten.queue.zero_()
for number in range(1, 6):
    ring_of_ten.enqueue(torch.full((4, 64), float(number)))
    held = " ".join(f"{int(key[0])}" for key in ring_of_ten.queue)
    print(f"after batch {number}: {held}   next to go: place {int(ring_of_ten.oldest)}")

# %% [markdown]
# How long may the queue be? Below is a toy encoder, a single weight, which rises and trembles as it learns.
# Its key encoder follows with decay $m$, and the curves show the *spread* of that weight over the keys in the
# queue: how differently the oldest and the newest of them were made.

# %%
steps = np.arange(300)
query = 1 - np.exp(-steps / 40) + 0.12 * np.random.default_rng(0).normal(size=300)


def spread(decay, longest=64):
    """Deviation of the key encoder's weight over the last 1, 2, ... batches, on average."""
    key, path = query[0], []
    for weight in query:
        key = decay * key + (1 - decay) * weight
        path.append(key)
    ends = range(100, 300)
    return [np.mean([np.std(path[t - n : t]) for t in ends]) for n in range(1, longest + 1)]


show.curves(
    {f"m = {decay}": spread(decay) for decay in (0.0, 0.9, 0.99)},
    xlabel="batches in the queue",
    ylabel="spread of the weight",
    alt="The spread of one weight over the keys in a queue. Without momentum it is large from the second "
    "batch on; with momentum 0.9 and 0.99 it starts near zero and grows slowly with the queue's length.",
)

# %% [markdown]
# Without momentum even a short queue mixes keys of quite different encoders. A slow encoder removes the
# trembling; what is left is the drift, and that grows with the queue. Slower is not always better: with
# $m = 0.99$ a short queue is the most uniform, but the encoder is still on its way from its random start, and
# a long queue sees it travel.
#
# There is a second limit, and it comes from the data. The original's queue holds a twentieth of the images.
# Ours has seventy patients' slices. If the queue were as long as the data, the query's *own image*
# would be in it, as its negative. One more detail: in the original, batch normalisation would let a query
# recognise the key from its own batch by the batch's statistics, hence batches are shuffled over GPUs. Our
# U-Net normalises each image by itself, and there is nothing to shuffle.

# %% [markdown]
# ## Global and local contrast
#
# Back to the false negatives. {cite:t}`chaitanya2020contrastive` turn the trouble into the method: in medical
# images we *know* which slices are alike. Patients lie in the scanner in much the same way; cut every volume
# into $S$ equal parts along its axis, and a slice from part $s$ of one heart shows what a slice from part $s$
# of another heart shows. Nobody needs to draw anything for that, the position is in the file.

# %%
columns = (0.12, 0.37, 0.62, 0.87)
rows = torch.tensor([[slice_of(subject, at) for at in columns] for subject in who])
parts = contrastive.partition(height, 4)
fig, axes = show.subplots(2, 4, width=3.3, height=2.05)
for patient, ids, line in zip("AB", rows, axes, strict=True):
    for ax, i in zip(line, ids, strict=True):
        show.overlay(ax, train.images[i])
        ax.set_title(f"{patient}, part {parts[i]}", fontsize=9)
        ax.axis("off")
show.figure(
    fig,
    alt="Four slices each of patients A and B, one from every part of the heart from base to apex: in a "
    "column the two patients show similar anatomy, along a row it changes.",
)

# %% [markdown]
# So the masks change, and nothing else. Slices of the same part are positives, whoever the patient is; those
# of other parts are negatives. Here are both choices of the masks for two slices of each of two patients, in
# two views:

# %%
names = [f"{p}{s}{view}" for view in ("", "'") for p in "AB" for s in (0, 2)]
image = torch.arange(4).repeat(2)
part = torch.tensor([0, 2, 0, 2]).repeat(2)
itself = torch.eye(8, dtype=torch.bool)
choices = {
    "SimCLR": (image[:, None] == image) & ~itself,
    "by part of the volume": (part[:, None] == part) & ~itself,
}
fig, axes = show.subplots(1, 2, height=3.2)
for ax, (title, positive) in zip(axes, choices.items(), strict=True):
    kind = torch.where(itself, 0.5, torch.where(positive, 0.0, 1.0))
    ax.imshow(kind, cmap="gray", vmin=-0.15, vmax=1)
    for i, j in positive.nonzero().tolist():
        ax.text(j, i, "+", ha="center", va="center", color="white", fontsize=12)
    ax.set(title=title, xticks=range(8), yticks=range(8))
    ax.set_xticklabels(names)
    ax.set_yticklabels(names)
    ax.tick_params(length=0)
    pulled, pushed = int(positive[0].sum()), int((~positive & ~itself)[0].sum())
    print(f"{title:<22} {pulled} positives of each view, {pushed} negatives")
show.figure(
    fig,
    alt="Two 8 by 8 tables of who is positive to whom, for slices of parts 0 and 2 of patients A and B in "
    "two views. SimCLR: only the other view. By part: also both views of the other patient's slice.",
)

# %%
show.code(contrastive.GlobalLocal.global_loss)

# %% [markdown]
# That trains the encoder, and a summary of the whole slice. A segmenter also needs to know *where* in the
# slice it is. Hence a second stage for the **decoder**. The encoder stands still. Two views of a slice are
# made that differ in intensity only, and the feature map of a decoder level is cut into regions. A region
# must find the one at the same place of the other view, among all regions of the slice:

# %%
show.code(contrastive.GlobalLocal.local_loss)

# %%
show.code(contrastive.GlobalLocal.places)

# %%
torch.manual_seed(1)
twice = torch.cat([views.views.repaint(anchor, None) for _ in range(2)])
fig, axes = show.subplots(1, 2, width=3.1, height=1.85)
for ax, one, title in zip(axes, twice, ("one view", "the other view"), strict=True):
    show.overlay(ax, one)
    for edge in range(8, 64, 8):
        ax.axhline(edge - 0.5, color="white", lw=0.5, alpha=0.6)
        ax.axvline(edge - 0.5, color="white", lw=0.5, alpha=0.6)
    ax.add_patch(Rectangle((31.5, 23.5), 8, 8, fill=False, edgecolor="#E69F00", linewidth=2.5))
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="Two repaintings of one heart slice under the same 8 by 8 grid; the same region is framed in "
    "both: a positive pair. All other regions are its negatives.",
)

# %% [markdown]
# Then encoder and decoder, all but the last layer, are handed to the segmenter and fine-tuned. Let us
# train this pretext and SimCLR on all training images, without a mask:

# %% tags=["nbval-ignore-output"]
trained = {
    name: pretrain(pretext, task, budget).method.cpu().eval()
    for name, pretext in (
        ("SimCLR", contrastive.SimCLR),
        ("global and local", contrastive.GlobalLocal),
    )
}
untrained = contrastive.GlobalLocal.for_task(task).eval()


@torch.no_grad()
def found(pretext, images):
    """Share of the regions whose nearest region in another view is the one at the same place."""
    torch.manual_seed(0)
    first, second = (
        normalize(pretext.places(views.views.repaint(images, None)), dim=2) for _ in range(2)
    )
    nearest = (first @ second.mT).argmax(2)
    return (nearest == torch.arange(nearest.shape[1])).float().mean()


print(f"regions that find their place: by chance {1 / 64:.2f}")
for name, pretext in (("untrained", untrained), ("trained", trained["global and local"])):
    print(f"{name:>30} {found(pretext, task.valid.images):.2f}")

# %% [markdown]
# ## Neighbours, before and after
#
# What has the encoder learnt of the *slice*? Take the validation patients, whom it has never seen. For each of
# their slices, look for the nearest one **of another patient**. Do they lie at the same height of the heart?

# %% tags=["nbval-ignore-output"]
seen = task.valid
at = seen.extras["position"]
encoders = {"untrained": untrained, **trained}
kin = {}
for name, pretext in encoders.items():
    with torch.no_grad():
        z = normalize(pretext.embed(seen.images), dim=1)
    likeness = z @ z.T
    likeness[seen.subjects[:, None] == seen.subjects] = -1
    kin[name] = likeness.argsort(1, descending=True)[:, :4]
stranger = seen.subjects[:, None] != seen.subjects
chance = (at[:, None] - at).abs()[stranger].mean()
print(f"difference in height to a slice of another patient, drawn at random: {chance:.2f}")
for name, nearest in kin.items():
    print(f"to the nearest, {name:<17} {(at[nearest[:, 0]] - at).abs().mean():.2f}")

# %% [markdown]
# Look at some of them. The frame of an image is coloured by its height, from violet at the base to yellow at
# the apex; the number says the same.

# %% tags=["nbval-ignore-output"]
queries = [1, 28, 89]


def neighbours(query, encoder):
    one = queries[query - 1]
    items = [one, *kin[encoder][one].tolist()]
    fig, axes = show.subplots(1, 5, height=1.75)
    for ax, i, title in zip(axes, items, ["query", "1st", "2nd", "3rd", "4th"], strict=True):
        show.overlay(ax, seen.images[i])
        colour = colormaps["viridis"](float(at[i]))
        for spine in ax.spines.values():
            spine.set(visible=True, linewidth=5, edgecolor=colour)
        ax.set_title(f"{title}: {at[i]:.2f}")
    away = (at[items[1:]] - at[one]).abs().mean()
    return show.figure(
        fig,
        alt=f"Query {query} at height {at[one]:.2f} and its four nearest slices of other patients, "
        f"{encoder}: at heights {', '.join(f'{at[i]:.2f}' for i in items[1:])}, {away:.2f} away.",
    )


show.explore(
    neighbours,
    query=[1, 2, 3],
    encoder=list(encoders),
    limit=85_000,
    alt="A heart slice and its nearest neighbours among other patients' slices, for three encoders.",
)

# %% [markdown]
# Mind what this shows and what it does not. The global stage is *told* the height, so it ought to find it in
# new patients, too. SimCLR is not told; where its neighbours match in height, the views have taught it. Even
# an untrained network does better than chance, since it passes on shapes and shades. And knowing the height
# is not yet knowing where the wall of the ventricle ends.

# %% [markdown]
# ## Fine-tune and distil
#
# In the methods so far, the unlabelled images are used before the labels come, and never again.
# {cite:t}`chen2020big` use them twice, and with a network that is **big**. Their observation: the fewer the
# labels, the more a big self-supervised network gains over a small one. Three rounds, then:
#
# 1. pre-train a big network on images alone;
# 2. fine-tune it on the few labels;
# 3. freeze it, and let a small student repeat its answers to the *unlabelled* images.
#
# The student never sees a label. It gets the whole distribution, softened by a temperature $T$
# {cite:p}`hinton2014distilling`:
#
# $$
# L = T^2 \, \frac{1}{|\Omega|} \sum_i KL\big(\bar p_i^{(T)} \,\|\, p_i^{(T)}\big), \qquad
# p^{(T)} = \mathrm{softmax}(\text{logits}/T) .
# $$

# %%
show.code(contrastive.Distillation.imitation)

# %%
small, large = networks.unet(task), contrastive.SimCLRv2.for_task(task).net
for name, net in (("student", small), ("teacher", large)):
    print(f"{name}: {sum(p.numel() for p in net.parameters()):7,} weights")

# %% [markdown]
# Beware of the name: this temperature softens *answers over classes*, the one above weighed *negatives*. And
# why $T^2$? The gradient of the softened divergence falls with $1/T^2$; the factor puts it back, so that
# changing $T$ does not secretly change the learning rate. The gradient at one pixel, teacher's logits
# $(4, 2, 0)$, student's all 0:

# %%
for temperature in (1, 2, 4, 8):
    logits = torch.zeros(1, 3, requires_grad=True)
    teacher = contrastive.soften(torch.tensor([[4.0, 2.0, 0.0]]).softmax(1), temperature)
    divergence = (teacher * (teacher.log() - (logits / temperature).log_softmax(1))).sum()
    size = torch.autograd.grad(divergence, logits)[0].norm()
    said = ", ".join(f"{p:.2f}" for p in teacher[0])
    print(
        f"T = {temperature}: ({said})   gradient {size:.3f}, times T² {temperature**2 * size:.2f}"
    )

# %% [markdown]
# At $T = 1$ the second class hardly speaks, at 8 all three are nearly equal. What a student can learn from the
# second class is where the teacher hesitates, and in a segmentation that is along the boundaries.

# %% [markdown]
# ## Side by side
#
# Three trainings on the masks of three patients: from scratch, from SimCLR's encoder, and from the encoder and
# decoder of global and local contrast. Network, labelled images, order, augmentation and schedule are the same.

# %% tags=["nbval-ignore-output"]
fits = {"from scratch": fit(Supervised(networks.unet(task)), task, budget, seed=0)}
for name, pretext in trained.items():
    fits[name] = finetune_from(pretext, task, budget, seed=0)
for name, fitted in fits.items():
    print(f"{name:<18} test Dice {evaluate(fitted, task.test, surfaces=False).mean_dice:.3f}")
show.curves(
    {name: fitted.history["supervised"] for name, fitted in fits.items()},
    ylabel="supervised loss",
    window=budget.pick(1, 15, 50),
    alt="The supervised loss while fine-tuning from scratch, from SimCLR, and from global and local "
    "contrast.",
)

# %% [markdown]
# One run each, on one draw of the labelled patients: enough to see the form of the curves, too little to rank
# the methods. A pretext pays, if it does, in the first steps; whether anything of it is left at the end, on
# new patients, is what the scoreboard is for.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats this with several seeds; which of the four have no line below
# have not been run yet. *Supervised, longer* is
# the baseline with twice the steps: what the time of a pre-training buys when it is simply spent on the labels.
# (SimCLRv2 spends three trainings, two of them on a bigger network.)

# %%
results = study.read()
mine = {
    *("simclr", "moco", "chaitanya-contrast", "simclrv2-distill"),
    *("supervised", "supervised-longer", "full-labels"),
}
show.scoreboard([line for line in study.summary(results, "cardiac-3") if line.method in mine])

# %% [markdown]
# Read the intervals, and compare with the longer baseline before you believe a gain. If a method stands below
# it, its extra steps would have been better spent on the labels.
#
# Then remember what the methods were made for: millions of photographs, batches of thousands, hundreds of
# epochs, networks a hundred times as large. Here the batch has eight slices, all of them hearts. Chaitanya's
# idea was made for this setting, the others were not. The survey sees a *gap between the objectives* of
# pre-training and segmentation: features that tell slices apart are not yet features that tell
# a ventricle from its wall.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You lower the temperature from 0.5 to 0.05 and the features of neighbouring slices of a heart drift "
    "apart. Why?",
    {
        "The learning rate became too high.": "The gradient does grow, but that is not what picks out "
        "the neighbours.",
        "The nearest negatives now take nearly all of the push.": "And the nearest ones are the slices next "
        "door, false negatives.",
        "A low temperature pushes all negatives equally.": "The other way round: a high one does.",
    },
    correct="The nearest negatives now take nearly all of the push.",
)

# %%
quiz(
    "In MoCo, what would happen with decay m = 0?",
    {
        "The key encoder would be the query encoder.": "So the keys in the queue come from encoders that "
        "differ as much as the query encoder trembles: they are hardly comparable.",
        "The keys would get a gradient.": "They are made without one whatever the decay.",
        "The queue would stay empty.": "It is filled after every step, whatever the decay.",
    },
    correct="The key encoder would be the query encoder.",
)

# %% [markdown]
# ## Exercises
#
# **1. False negatives.** A batch holds 8 slices drawn at random from the 840 of 70 patients, 12 of each. How
# likely is it that a slice meets another one of the same patient as a negative? Of the same part of a
# volume ($S = 4$, parts equally full)? What could you change in SimCLR without using the position?
#
# ```{dropdown} Hint
# First find the probability that one other slice is harmless, then that all seven are.
# ```
# ```{dropdown} Solution
# Another slice is of the same patient with probability 11/839, so the chance of at least one among seven is
# $1 - (828/839)^7$, about 9 %. Of the same part it is about 1/4, and $1 - (3/4)^7$, about 87 %. So the anatomy
# at the same height in *other* patients is the main source of false negatives, and it cannot be seen from
# the patient's number. One could leave all slices of the same patient out of `negatives`, which `contrast`
# can do with a mask, but that removes only the smaller part. That is why Chaitanya et al. use the position.
# ```
#
# **2. Does the batch matter?** Pre-train SimCLR with batches of 4 and of 32 for the same number of *images*,
# and compare the difference in height of the nearest neighbours. What else changes with the batch?
#
# ```{dropdown} Hint
# `replace(budget, batch=32, steps=budget.steps // 4)`, from `dataclasses`.
# ```
# ````{dropdown} Solution
# ```python
# from dataclasses import replace
#
# for batch in (4, 32):
#     longer = replace(budget, batch=batch, steps=budget.steps * 8 // batch)
#     pretext = pretrain(contrastive.SimCLR, task, longer).method.cpu().eval()
# ```
# With 32 images a view has 62 negatives, among them surely one that is hard, and surely several that are
# false. But there are also eight times fewer steps, at the same learning rate. Whether negatives or steps
# matter more can only be told by varying one at a time: same steps (more images seen), or MoCo, whose queue
# changes the number of negatives and nothing else.
# ````
#
# **3. A stale queue.** In the figure of the toy encoder, $m = 0.99$ has the smallest spread in a short queue, but
# not in a long one. Explain both. Then try $m = 0.9999$ in `spread`: would you recommend it?
#
# ```{dropdown} Hint
# An average with decay $m$ remembers about $1/(1-m)$ steps, and $0.9999^{300}$ is about 0.97.
# ```
# ```{dropdown} Solution
# From step to step the trembling counts, and the longer average has less of it. Over 64 batches the drift counts:
# an encoder that remembers 100 steps lags far behind one that remembers 10, and is still catching up
# when the other has arrived. With $m = 0.9999$ the spread vanishes, because the key encoder does not move: after
# 300 steps 97 % of it is its random start. All keys are comparable, but the query has to agree with an
# untrained network. The decay must fit the length of the training, and the queue the decay.
# ```

# %% [markdown]
# ## Take away
#
# - One loss: pull positives together, push negatives away. The methods differ in who is which.
# - A small temperature looks at the nearest negatives, and in medical images those are often false.
# - A queue with a slow encoder gives many negatives to a small batch; queue and decay must fit each other.
# - Knowledge of the anatomy can choose the pairs: same height, same place.
# - A big network can be pre-trained, fine-tuned, and then teach a small one on images without labels.
#
# **Reading.** {cite:t}`chen2020simple` take SimCLR apart, augmentation by augmentation; {cite:t}`he2020momentum`
# explain the queue; {cite:t}`chaitanya2020contrastive` bring both to medical volumes and to the decoder;
# {cite:t}`chen2020big` show what size is good for when labels are few.
