# %% [markdown]
# # Sparse slices: a volume from a few of its planes
#
# <!-- badge -->
#
# **You will learn**
#
# - why a 3D network can be trained on volumes of which one plane in eight is labelled;
# - how registration hands a label on from plane to plane, and how far one should believe it;
# - how a network labels the planes in between, and which of its labels count;
# - which planes to outline, before anybody has outlined one.
#
# **You should know** [the baseline](../foundations/baseline), [the price of a label](../foundations/price), and how a
# network can [teach itself](../semi/self_training).

# %% tags=["setup"]

# %%
from dataclasses import replace

import torch
import torch.nn.functional as F

from lsseg_edu import networks, show, study
from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.partial import max_cover
from lsseg_edu.partial.slices import (
    HybridLoss,
    KHeads,
    Motion,
    SparseSlices,
    completed,
    handed_on,
    mixed_annotation,
    one_slice_training,
    plane_motion,
    propagate,
    propagated_training,
    representative_slices,
    rims,
    unannotated,
    uncertainty_guided,
    voxel_loss,
)
from lsseg_edu.partial.slices.bai import decay
from lsseg_edu.partial.slices.zheng_select import choose_planes
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
little = replace(budget, steps=budget.pick(2, 120, 300), batch=2)
full = Task.split(load("brain", size=32, dims=3), labelled=8, seed=0)
task = annotate.slices(full, every=8, seed=0)
names = full.train.names
everything = annotate.cost.mask_seconds(full.train.labels[full.labelled])
print(f"8 brains, every plane:     about {everything / 3600:.1f} hours of one annotator")
print(f"8 brains, one plane of 8:  about {task.seconds / 3600:.1f} hours")

# %% [markdown]
# ## The idea in a picture
#
# A volume is outlined plane by plane, and two neighbouring planes look much the same. So most of an annotator's time
# goes into drawing what has just been drawn. Why not skip some? Below is one brain from the front, and what is left of
# its labels if every second, fourth, eighth, sixteenth plane is outlined. The rest is not background: it is *unknown*.

# %%
volume, mask = full.train.images[full.labelled[0]], full.train.labels[full.labelled[0]]


def front(volumes, row=15):
    """The coronal plane of (..., D, H, W), the head up."""
    return volumes[..., row, :].flip(-2)


kept = {every: annotate.keep_slices(mask[None], every=every, seed=0)[0] for every in (2, 4, 8, 16)}
minutes = {every: annotate.cost.mask_seconds(labels[None]) / 60 for every, labels in kept.items()}
show.images(
    front(volume)[None].repeat(5, 1, 1, 1),
    labels=torch.stack([front(x) for x in (mask, *kept.values())]),
    titles=["every plane", *(f"1 in {e}: {m:.0f} min" for e, m in minutes.items())],
    columns=5,
    fill=True,
    names=names,
    alt="A brain seen from the front with all its labels, and with those of every 2nd, 4th, 8th and 16th axial "
    f"plane, which take {', '.join(f'{m:.0f}' for m in minutes.values())} minutes.",
)

# %% [markdown]
# Two questions follow. Can a network learn from the coloured lines alone? And can the gaps be filled by what we know
# about them, namely that **neighbours resemble each other**? The first question has a short answer, the second keeps the
# rest of this page busy.

# %% [markdown]
# ## Sparse annotation of a 3D U-Net
#
# Çiçek and colleagues gave every voxel a weight, and those that nobody labelled the weight zero:
#
# $$
# L = -\frac{\sum_i w_i \log p_{y_i}(i)}{\sum_i w_i} + L_{Dice}(w), \qquad
# w_i = \begin{cases} 1 & \text{if } i \text{ lies in a labelled plane} \\ 0 & \text{else.} \end{cases}
# $$

# %%
show.code(voxel_loss)
# %%
show.code(SparseSlices)

# %% [markdown]
# The images are whole volumes. A voxel in a labelled plane is predicted from its surroundings *in three dimensions*, and so
# the unlabelled planes on both sides take part as context, though not as truth. What is learnt at one plane is applied at every
# other, since the kernels are the same everywhere.
#
# How far can a few planes go? Random deformations in three dimensions help. They tilt, shift and bend a volume along with its
# labels, so a plane seldom meets the network's grid twice in the same way:

# %%
generator = torch.Generator().manual_seed(3)
sparse_mask = kept[8][None]
views = [Augment.strong()(volume[None], sparse_mask, generator) for _ in range(3)]
show.images(
    torch.stack([front(volume), *(front(x[0]) for x, _ in views)]),
    labels=torch.stack([front(sparse_mask[0]), *(front(y[0]) for _, y in views)]),
    titles=["as labelled", "deformed", "again", "and again"],
    columns=4,
    fill=True,
    names=names,
    alt="The labelled planes of one brain from the front, straight; and after three random deformations, where "
    "they are tilted, bent and shifted.",
)

# %% [markdown]
# A word on **batch normalisation**, which the paper introduces to this network: its batch is a single volume, and the
# authors normalise with that volume's own statistics in training and test alike. Take this literally and nothing is
# shared between volumes any more. It is *instance* normalisation:

# %%
features = torch.randn(1, 8, 4, 6, 6)
batch_norm = torch.nn.BatchNorm3d(8, track_running_stats=False)
same = torch.allclose(batch_norm(features), torch.nn.InstanceNorm3d(8)(features), atol=1e-5)
print("batch norm of one volume by its own statistics is instance norm:", same)

# %% [markdown]
# ## From plane to plane
#
# Now the gaps. Take two neighbouring planes, and bend the one until it looks like the other. The bending needs no label,
# but the label of the first plane can take the same way. Then on to the next neighbour. The motion $\exp(v)$ of a smooth
# velocity can be undone, so one registration serves both directions:
#
# $$
# v_i = \arg\min_v\; 1 - \mathrm{LNCC}\big(x_i \circ \exp(v),\, x_{i+1}\big) + \lambda \int \lVert \nabla^2 v \rVert^2 .
# $$

# %%
show.code(plane_motion)

# %% [markdown]
# Nothing is trained here: $v$ is a spline over a few control points, found by descent for each pair of planes. All pairs
# of all volumes go into one batch. On the way through a volume the motions are *composed*, and the mask is read once at the end;
# warping it again and again would blur it.

# %% tags=["nbval-ignore-output"]
valid = full.valid.select(torch.arange(3))
motion = plane_motion(valid.images)
still = Motion(*(torch.zeros_like(m) for m in motion))
carriers = {"copying": still, "registration": motion}

start = 16
lonely = torch.full_like(valid.labels, IGNORE)
lonely[:, start] = valid.labels[:, start]
carried = {name: propagate(lonely, 4, way)[0].argmax(1) for name, way in carriers.items()}
steps = torch.arange(start, start + 5)
rows = {"truth": valid.labels, **carried}
show.images(
    valid.images[0, :, steps].movedim(1, 0).repeat(3, 1, 1, 1),
    labels=torch.cat([x[0, steps] for x in rows.values()]),
    titles=[f"{name}, {d}" for name in rows for d in range(len(steps))],
    columns=5,
    fill=True,
    names=names,
    alt="Five consecutive axial planes of a brain: with their true labels in the upper row, with the labels of the "
    "first plane copied in the middle row, and carried by registration in the lower row.",
)

# %% [markdown]
# The number is the distance from the labelled plane, in planes. A copied label stays where it was, while the brain under it
# changes; a carried one follows the outline. What registration cannot do is invent: a gyrus or a ventricle that the first
# plane does not show has no label that could be bent into it. And folds are the hardest thing to follow from one thick plane to
# the next. So the error grows with the distance. How fast?


# %% tags=["nbval-ignore-output"]
def wrong(answer, truth):
    """Fraction of wrong voxels (B, D) among those that are, or are called, something."""
    there = (answer > 0) | (truth > 0)
    return ((answer != truth) & there).sum((2, 3)) / there.sum((2, 3)).clamp(min=1)


far = torch.arange(9)
errors = {}
for name, answer in carried.items():
    rate = wrong(answer, valid.labels)
    errors[name] = (rate[:, start + far.clamp(max=8)] + rate[:, start - far]) / 2
show.curves(
    errors,
    far,
    xlabel="distance to the labelled plane (planes)",
    ylabel="fraction wrong",
    alt="Fraction of wrong voxels against the distance to the labelled plane, for copied and for registered labels; "
    "at four planes " + ", ".join(f"{n} {e[:, 4].mean():.2f}" for n, e in errors.items()) + ".",
)

# %% [markdown]
# The band is the spread over three brains (validation subjects; nobody's test labels are looked at). Between *two* labelled planes
# one can come from both sides, and the nearer side speaks louder. Move the spacing, and switch the registration off.


# %% tags=["nbval-ignore-output"]
def filled(every, carry):
    sparse = annotate.keep_slices(valid.labels[:1], every=every, seed=0)
    way = Motion(*(m[:1] for m in carriers[carry]))
    soft, distance = propagate(sparse, 4, way)
    answer = soft.argmax(1)
    between, truth = (distance > 0)[0], valid.labels[0]
    there = (answer[0, between] > 0) | (truth[between] > 0)
    gaps = (answer[0, between] != truth[between])[there].float()
    return show.images(
        front(valid.images[0])[None].repeat(3, 1, 1, 1),
        labels=torch.stack([front(x[0]) for x in (sparse, answer, valid.labels)]),
        titles=["labelled", f"filled, {gaps.mean():.0%} wrong", "truth"],
        columns=3,
        fill=True,
        names=names,
        alt=f"A brain from the front with every {every}th plane labelled; with the gaps filled by {carry}, "
        f"{gaps.mean():.0%} of the voxels between the labelled planes wrong; and the truth.",
    )


show.explore(
    filled,
    every=[2, 4, 8, 16],
    carry=["copying", "registration"],
    labels={"every": "one labelled plane in", "carry": "gaps filled by"},
    limit=80_000,
    alt="A brain from the front: the labelled planes, the gaps filled, and the truth.",
)

# %% [markdown]
# ## Label propagation
#
# Filled volumes look like fully labelled ones, and it would be a mistake to treat them so. Bai and colleagues,
# who carried labels along the beat of an aorta, let the weight of a voxel fall with the distance $d$ its label has
# come:
#
# $$
# w_z = e^{-r\, d(z)}, \qquad d(z) = \min_{s\ \text{labelled}} |z - s| .
# $$
#
# Between $r = 0$, blind trust, and $r \to \infty$, which is Çiçek's loss again, lies a choice. Why an exponential? If
# each registration keeps a share $e^{-r}$ of what was right, then $d$ of them keep $e^{-rd}$.

# %%
distances = torch.arange(0, 9, 2)
print("distance        " + "".join(f"{d:6d}" for d in distances.tolist()))
for r in (0.0, 0.1, 0.5):
    print(f"weight, r = {r:<4}" + "".join(f"{w:6.2f}" for w in decay(distances, r).tolist()))
# %%
show.code(propagated_training)

# %% [markdown]
# ## One slice a volume
#
# How sparse can it get? With **one** labelled plane a volume, labels must travel half of it, and the curve above says what
# they are worth there. Yet the errors of registration are not those of a network. Registration drifts
# *within one volume*; a network has seen the classes in many, and need not have a labelled plane nearby. Bitarafan and colleagues let the two take turns:
#
# 1. registration carries the one label through the volume; a 3D network is trained on that;
# 2. the network answers for the same volumes, and registration of the neighbours tidies its answer,
#    $q_i = \tfrac13 (p_i + p_{i-1} \circ \phi_{i-1 \to i} + p_{i+1} \circ \phi_{i+1 \to i})$;
# 3. the network goes on with these labels. And so on.

# %%
show.code(handed_on)
# %%
show.code(one_slice_training)

# %% [markdown]
# What does the second step mend? Say the network is right, except in one plane, where it answers for a place a few pixels off. Both
# neighbours object. Averaged without motion they would object to the *right* answer as well, wherever the anatomy moves on from plane to plane.

# %% tags=["nbval-ignore-output"]
right = F.one_hot(valid.labels, 4).movedim(-1, 1).float()
slipped = right.clone()
slipped[:, :, 18] = right[:, :, 18].roll(3, -1)
mended = {name: handed_on(slipped, way).argmax(1) for name, way in carriers.items()}
outcomes = {"slipped": slipped.argmax(1), **mended}
print(
    "fraction wrong (mean of three brains) in plane 18, which slipped, and in plane 21, which did not"
)
for name, answer in outcomes.items():
    rate = wrong(answer, valid.labels).mean(0)
    print(f"  {name:<13} {rate[18]:.2f}   {rate[21]:.2f}")

# %% [markdown]
# The second column is the price: planes where nothing was wrong lose something in an average with their neighbours, and lose less if
# the neighbours are moved into place first.

# %% [markdown]
# ## Uncertainty-guided self-training
#
# The network may also fill the gaps on its own, and say how sure it is. In Zheng's method it has several heads on shared
# features. Each answers for itself, and their mean labels what nobody did, voxel by voxel, with a weight:
#
# $$
# \bar p = \frac1T \sum_t p^{(t)}, \qquad \hat y_i = \arg\max_k \bar p_{ik}, \qquad
# w_i = e^{-H(\bar p_i)} .
# $$
#
# $e^{H}$ is the number of classes between which the heads hesitate, so a voxel between two classes counts half. It does not
# matter whether every head is unsure or sure heads disagree: the mean is flat in either case.

# %%
show.code(completed)
# %%
show.code(KHeads)
# %%
show.code(uncertainty_guided)

# %% [markdown]
# Is the weight worth its name? It is, if heavy voxels are wrong less often than light ones. First a network learns from the
# labelled planes alone; then it answers in the planes of the same brains that nobody has labelled. (We have their labels in a drawer, and
# take them out for this one question.)

# %% tags=["nbval-ignore-output"]
heads = fit(KHeads.for_task(task), task, little, seed=0)
mine, given = task.labelled, task.train.labels[task.labelled]
labels, weights = completed(given, heads.predict(task.train.images[mine]))
truth = full.train.labels[mine]
mistaken = (labels != truth) & (given == IGNORE)
for low, high in ((0.0, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
    here = (weights >= low) & (weights < high) & (given == IGNORE)
    share = mistaken[here].float().mean() if here.any() else 0.0
    print(
        f"weight {low:.1f} to {min(high, 1):.1f}: {here.float().mean():5.1%} of voxels, {share:5.1%} wrong"
    )

# %% tags=["nbval-ignore-output"]
fig, axes = show.subplots(1, 3, width=6.4, height=2.5)
show.overlay(axes[0], front(volume).numpy(), front(given[0]).numpy(), fill=True)
axes[1].imshow(front(weights[0]), cmap="gray", vmin=0, vmax=1)
axes[2].imshow(front(mistaken[0].float()), cmap="gray", vmin=0, vmax=1)
for ax, title in zip(axes, ("labelled planes", "weight (white: 1)", "wrong (white)"), strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="A brain from the front with its labelled planes; the weights of the pseudo-labels, 1 in the labelled "
    "planes; and which voxels are wrong.",
)

# %% [markdown]
# ## Choosing planes
#
# So far the planes came at equal distances. But the annotator could be sent to any plane of any volume. Which ones teach
# most, if nothing is labelled yet? Zheng and colleagues want them **influential**, like many others, and **diverse**, unlike
# each other. Both wishes are in one function. Let $s_{ij} \ge 0$ say how alike two planes are, and have every plane represented by the
# chosen one most like it:
#
# $$
# S^* = \arg\max_{|S| = n} F(S), \qquad F(S) = \sum_i \max_{j \in S} s_{ij} .
# $$

# %%
show.code(max_cover)

# %% [markdown]
# Finding the best set is hard. Choosing the best *next* one again and again is easy, and reaches at least $1 - 1/e \approx 63\,\%$ of the
# best $F$, because $F$ is submodular: what a plane adds can only shrink as others are added. Below, dots are planes, close dots are alike, and each is
# tied to its representative. Choose more of them, and compare with a random choice.

# %%
draw = torch.Generator().manual_seed(4)
middles = torch.tensor([[0.0, 0.0], [3.0, 1.0], [1.2, 3.0], [4.2, 3.4]])
sizes = torch.tensor([16, 9, 5, 2])
dots = middles.repeat_interleave(sizes, 0) + 0.45 * torch.randn(32, 2, generator=draw)
alike = torch.exp(-torch.cdist(dots, dots))
by_chance = torch.randperm(32, generator=draw)


def covered(count, choose):
    chosen = max_cover(alike, count) if choose == "cover" else by_chance[:count]
    value = alike[:, chosen].amax(1)
    fig, ax = show.subplots(width=4.4, height=2.9)
    for i, j in enumerate(chosen[alike[:, chosen].argmax(1)].tolist()):
        ax.plot(*dots[[i, j]].T, color="#999999", lw=0.8, zorder=1)
    ax.scatter(*dots.T, color="#0072B2", s=22, zorder=2)
    ax.scatter(*dots[chosen].T, color="#D55E00", marker="s", s=60, zorder=3)
    ax.set_title(f"F = {value.sum():.1f} of at most {len(dots)}")
    ax.axis("off")
    return show.figure(
        fig,
        alt=f"{count} of 32 dots in four groups chosen by {choose}, each other dot tied to the chosen one most like it: "
        f"F is {value.sum():.1f}.",
    )


show.explore(
    covered,
    count=[1, 2, 3, 4],
    choose=["cover", "chance"],
    labels={"count": "chosen", "choose": "chosen by"},
    limit=60_000,
    alt="Dots in four groups; the chosen ones are squares, and every dot is tied to the chosen one most like it.",
)

# %% [markdown]
# The first choice is in the largest group, the second elsewhere. And likeness itself? Comparing voxels would call the same brain, shifted by a
# few pixels, a different one. An autoencoder is trained to redraw planes from 32 numbers; planes with the same numbers are alike. No label is
# involved, and it looks at the planes of all eight brains at once. One plane in eight may be outlined, but it need not be *every* eighth.

# %% tags=["nbval-ignore-output"]
hidden = unannotated(full)
plans = {
    choose: choose_planes(hidden, 32, choose, little, 0, progress=False)
    for choose in ("cover", "even", "random")
}
fig, axes = show.subplots(1, 3, height=2.6, sharey=True)
for ax, (name, plan) in zip(axes, plans.items(), strict=True):
    ax.scatter(plan[:, 0], plan[:, 1], marker="s", s=14, color="#0072B2")
    ax.set(title=name, xlabel="brain", xlim=(-0.7, 7.7), ylim=(-1, 32))
axes[0].set_ylabel("plane, from the neck up")
counts = {name: plan[:, 0].bincount(minlength=8) for name, plan in plans.items()}
show.figure(
    fig,
    alt="Which of the 32 planes of each of eight brains are chosen, by cover, evenly, at random. Planes in a brain: "
    + "; ".join(f"{n} {c.min()} to {c.max()}" for n, c in counts.items())
    + ".",
)

# %%
show.code(representative_slices)

# %% [markdown]
# After the annotator has answered, it goes on as before: train on the labelled planes, let the network label the rest with a weight, go on.

# %% [markdown]
# ## Hybrid loss
#
# In a real archive nobody has been consistent. One annotator outlined whole volumes, another every eighth plane, a third a block
# of neighbouring ones. Zero weights take all of this as it is:

# %%
mixed = mixed_annotation(full.keep(3), every=8, run=4)
three = mixed.labelled
show.images(
    front(mixed.train.images[three]),
    labels=front(mixed.train.labels[three]),
    titles=["whole", "every 8th plane", "a block of 4"],
    columns=3,
    fill=True,
    names=names,
    alt="Three brains from the front: one labelled wholly, one in every eighth plane, one in a block of four planes.",
)

# %% [markdown]
# Self-training completes them, and its pseudo-labels are weakest where it matters most, at the boundary. Wang and colleagues therefore ask the network a second
# question, and only where a person drew the answer: *how near is the rim?*
#
# $$
# L = L_w(f, \hat y) + \lambda\, \frac{1}{(K-1)\,|\Omega_l|} \sum_{i \in \Omega_l} \sum_{k \ge 1} \big(g_{ki} - r_k(i)\big)^2,
# \qquad r_k(i) = e^{-d_k(i)^2 / 2 \sigma^2}
# $$
#
# $d_k(i)$ is the distance to the boundary of class $k$ within the plane. Classes are learnt from labels *and* pseudo-labels, rims from labels $\Omega_l$ alone.
# Both heads $f$ and $g$ read the same features, so what is needed to find a rim is there for the classes as well.

# %%
near = rims(mask[None, 14:15], 4)[0]
fig, axes = show.subplots(1, 4, height=2.0)
show.overlay(axes[0], volume[:, 14].numpy(), mask[14].numpy(), fill=True)
axes[0].set_title("labels")
for ax, rim, name in zip(axes[1:], near[:, 0], names[1:], strict=True):
    ax.imshow(rim, cmap="gray", vmin=0, vmax=1)
    ax.set_title(f"rim: {name}")
for ax in axes:
    ax.axis("off")
show.figure(
    fig,
    alt="A labelled axial plane of a brain, and the three targets of the regression: bright at the boundary of "
    "cerebrospinal fluid, grey matter and white matter, dark away from it.",
)
# %%
show.code(HybridLoss)

# %% [markdown]
# ## Side by side
#
# Eight brains, one plane in eight. The same first weights, the same steps: the labelled planes alone, with registered labels in between, and with
# every plane outlined by hand.

# %% tags=["nbval-ignore-output"]
arms = {
    "labelled planes alone": fit(SparseSlices.for_task(task), task, little, seed=0),
    "label propagation": propagated_training(task, little, seed=0),
    "every plane": fit(Supervised(networks.unet(full)), full, little, seed=0),
}
for name, fitted in arms.items():
    print(f"{name}\n{evaluate(fitted, task.test)}\n")

# %% tags=["nbval-ignore-output"]
shown = task.valid.select(torch.tensor([0]))
answers = [fitted.predict(shown.images).argmax(1)[0] for fitted in arms.values()]
show.images(
    front(shown.images[0])[None].repeat(4, 1, 1, 1),
    labels=torch.stack([front(x) for x in (shown.labels[0], *answers)]),
    titles=["truth", *arms],
    columns=4,
    fill=True,
    names=names,
    alt="A validation brain from the front: the truth, and the answers after training on the labelled planes "
    "alone, with label propagation, and on every plane.",
)

# %% [markdown]
# Before you rejoice or despair: this is one draw of eight subjects, and a short training. Note also what the third arm costs. The printed hours at the top of
# the page are the price of the difference.

# %% [markdown]
# ## What the scoreboard says
#
# Several draws, test subjects only. *Full labels* are the same subjects with every plane outlined. First the setting of this page, one plane in eight:

# %%
results = study.read()


def board(protocol):
    lines = study.summary(results, protocol) if protocol in study.PROTOCOLS else []
    return show.scoreboard(lines)


board("brain3d-slices")

# %% [markdown]
# One plane in each volume of the heart:

# %%
board("cardiac3d-slice")

# %% [markdown]
# Whole volumes, sparse planes and blocks together:

# %%
board("brain3d-hybrid")

# %% [markdown]
# As many planes of the same brains, chosen by the cover, at equal distances, or at random:

# %%
board("brain3d-choose")

# %% [markdown]
# And the hippocampus of real patients, one plane in eight:

# %%
board("hippocampus-slices")

# %% [markdown]
# How to read these tables. The gap between the baseline and *full labels* is all there is to be gained by labelling the planes in between. Where the zero-weighted
# network has nearly closed it by itself, no method of this page has much room, and a difference whose interval contains zero has not been shown. The methods of several rounds share *one* budget among them, so none of
# them wins by training longer.
#
# Rows with options are controls, each with one idea taken out: `rate=0` trusts every carried label alike, `register=False` leaves the network alone with itself, `weighted=False` counts every pseudo-label fully, `regression=0` asks for no rim, `choose` sends the annotator elsewhere.
# Where the difference between a method and its control has not been shown, the idea it is named after has not been shown to matter here. Here they are, seed by seed:

# %%
boards = ("brain3d-slices", "cardiac3d-slice", "brain3d-hybrid", "brain3d-choose")
pairs = []
for name in boards:
    lines = study.summary(results, name) if name in study.PROTOCOLS else []
    ran = {line.method for line in lines if line.seeds > 1}
    for control in sorted(arm for arm in ran if ":" in arm):
        method = control.partition(":")[0]
        if method in ran:
            pairs.append((name, method, control, study.difference(results, name, method, control)))
for name, method, control, gain in pairs:
    print(f"{name:<16} {method:<18} against {control:<32} {gain} Dice")
if not pairs:
    print("The rows of these protocols have not been run yet.")

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A plane lies five planes from one labelled plane and one plane from another. With r = 0.1, what is its weight?",
    {
        "exp(-0.1)": "The distance to the nearest labelled plane counts, which is 1.",
        "exp(-0.5)": "That is the weight for the farther one.",
        "exp(-0.6)": "Distances do not add up: the label comes from either side, not through both.",
    },
    correct="exp(-0.1)",
)

# %%
quiz(
    "You label only the planes that show the organ, and never one above or below it. What can happen?",
    {
        "Nothing, the network has seen the background within the planes.": "It has seen background beside the organ, "
        "but no plane without any organ.",
        "The organ may be continued beyond its end.": "No labelled voxel contradicts it there. Ends of organs must "
        "be labelled, as background, like everything else.",
        "The loss becomes undefined in the other planes.": "Their weight is zero, which is very well defined.",
    },
    correct="The organ may be continued beyond its end.",
)

# %% [markdown]
# ## Exercises
#
# **1. Spacing or subjects?** You can have 32 planes outlined. Four planes in each of eight brains, or all 32 planes of one brain? Predict the
# outcome, then train both with `SparseSlices`.
#
# ```{dropdown} Hint
# `full.keep(1)` is one brain with all its planes. What do two neighbouring planes of one brain tell that one of them does not?
# ```
# ```{dropdown} Solution
# Neighbouring planes are nearly copies, different brains are not. Unless the task depends on how planes continue each other, expect the eight brains to
# teach more. Use several seeds: one brain is also a *luckier or unluckier* draw than eight, so its spread is the second answer of the experiment.
# ```
#
# **2. What rate?** Read off the error curve of this page which $r$ would make $e^{-rd}$ the fraction of voxels that are *right* at distance $d$. Does training with
# this rate have to be best?
#
# ```{dropdown} Hint
# $r \approx -\ln(1 - e(d)) / d$. Compare $d = 1$ and $d = 8$.
# ```
# ```{dropdown} Solution
# The two distances give different rates: the first step costs most, and later ones less each. An exponential is a model, not a law. And no: the best weight for training also depends on whether the errors are *systematic*. Random mistakes average out over eight brains, and mistakes that always
# shrink the same organ do not. Choose it on validation subjects.
# ```
#
# **3. A cover of pixels.** Replace the codes of the autoencoder by the planes themselves (flattened, normalised) and choose 32 planes again. Which planes
# are chosen more often now?
#
# ```{dropdown} Hint
# Which planes of a head are most like all others, pixel by pixel? Which have no likeness to anything?
# ```
# ```{dropdown} Solution
# Expect the outline of the head to rule: most of the difference between raw planes is where the head ends and the air begins, so sizes and poses get chosen. The same
# anatomy a few pixels further on counts as something new. A short code cannot afford to keep every pixel and has to find what varies between planes; pose is only a part of that.
# Whether the other choice teaches more is another question. Let the annotator answer both, train, and compare on validation subjects.
# ```
#
# ## Take away
#
# - Unlabelled planes get weight zero and stay in the picture: the network sees them as context.
# - Registration carries labels to the neighbours. It cannot invent what the labelled plane does not show, so trust it less with every plane.
# - Two teachers with different errors mend each other: registration knows one volume, the network knows them all.
# - A pseudo-label needs a weight, and a weight can be checked: heavy voxels must be wrong less often.
# - Where to label is a question that can be asked before any label exists.
#
# **Reading.** The weight of zero: {cite:t}`cicek20163d`. Propagation and its exponential: {cite:t}`bai2018recurrent`. One slice: {cite:t}`bitarafan20213d`.
# Uncertainty: {cite:t}`zheng2020cartilage`. Which planes to label: {cite:t}`zheng2020annotation`, with the guarantee of {cite:t}`nemhauser1978analysis`. Mixed
# annotation: {cite:t}`wang2020ct`. Free-form deformations: {cite:t}`rueckert1999nonrigid`.
