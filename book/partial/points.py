# %% [markdown]
# # Points: one click an object
#
# <!-- badge -->
#
# **You will learn**
#
# - what a click says of an object, and the two things it leaves open: its extent and its neighbours;
# - how circles, an objectness prior, an edge network, Voronoi cells and clusters fill the gap;
# - how a detector learns from *some* of the points without being told that the rest is background;
# - how to score objects one by one: F1, PQ and AJI.
#
# **You should know** [the price of a label](../foundations/price) and partial cross-entropy, from
# [scribbles](../partial/scribbles).

# %% tags=["setup"]

# %%
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from scipy import ndimage

from lsseg_edu import networks, show, study, survey
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import instance_scores, score_instances, split_objects
from lsseg_edu.learn import quiz
from lsseg_edu.partial.points import (
    Objectness,
    PseudoEdgeNet,
    TwoLabels,
    WhatsThePoint,
    background_grown,
    clicked,
    cluster_labels,
    concentric_labels,
    concentric_training,
    detect,
    heat_maps,
    image_level,
    partial_points,
    qu_points,
    sobel,
    voronoi_labels,
)
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
full = Task.split(load("nuclei"), labelled=10, seed=0)
task = annotate.points(full, where="centre", seed=0)
points, size = clicked(task), task.train.labels.shape[1:]
mine, names = full.labelled, task.train.names
images, masks = task.train.images[mine], full.train.labels[mine]
instances = full.train.extras["instances"][mine]
hours = annotate.cost.mask_seconds(masks, instances) / 3600
patients = len(full.train.subjects[mine].unique())
print(f"{len(mine)} fields of {patients} patients, {(points[..., 0] > 0).sum()} nuclei")
print(f"{hours:.1f} hours of outlines, or {task.seconds / 3600:.1f} of clicks")

# %% [markdown]
# ## The idea in a picture
#
# A pathologist who counts nuclei clicks on each of them. Those clicks exist; outlines hardly ever do. A click
# says *there is one, of this kind, here*. It does not say how far the nucleus reaches, nor where the next one
# begins. Two circles make a cautious reading of it: within the small one we are sure of the nucleus, beyond
# the large one of the background, and in the ring between them we say nothing.
#
# Move the radii. The white tint is background; what has no colour is not labelled.


# %%
def circles(inner, outer):
    labels = concentric_labels(points[:1], size, inner, outer)
    known = labels != IGNORE
    right = (labels == masks[:1])[known].double().mean()
    return show.images(
        images[:1].repeat(2, 1, 1, 1),
        labels=torch.cat([labels, masks[:1]]),
        titles=[f"{known.double().mean():.0%} labelled, {right:.0%} right", "truth"],
        columns=2,
        fill=True,
        names=names,
        alt=f"A field with circles of {inner} and {outer} pixels: {known.double().mean():.0%} of the "
        f"pixels get a label, {right:.0%} of these the right one. Beside it the true nuclei.",
    )


show.explore(
    circles,
    inner=[2, 4],
    outer=[5, 8],
    labels={"inner": "inner radius (pixels)", "outer": "outer radius (pixels)"},
    limit=64_000,
    alt="Concentric labels on a field of nuclei for different radii, beside the truth.",
)

# %% [markdown]
# ## How objects are scored
#
# Dice asks about pixels. If two touching nuclei become one blob, Dice hardly moves, and the count is wrong.
# So we compare objects. A find and a nucleus are *the same* if their intersection over union is above one half; no
# nucleus can have two such partners. Then
#
# $$
# F_1 = \frac{2\,TP}{2\,TP + FP + FN}, \qquad
# PQ = \frac{\sum_{TP} IoU}{TP + (FP + FN)/2}, \qquad
# AJI = \frac{\sum_t |t \cap p^*_t|}{\sum_t |t \cup p^*_t| + \sum_{p\,unused} |p|} .
# $$
#
# F1 counts, PQ {cite:p}`kirillov2019panoptic` counts and measures, and AJI {cite:p}`kumar2017dataset` adds up pixels, so that
# every invented object costs its area. Predictions of classes become objects by their connected components.

# %%
show.code(instance_scores)

# %% [markdown]
# Components cannot part what touches. How much does that cost? We need no network to find out. Take the *true* foreground
# of our fields and read it as if it were a prediction, by components and by another rule: a **watershed** {cite:p}`vincent1991watersheds`, which lets
# water rise from the innermost pixels of each blob and draws a line where two pools meet.


# %%
readings = {
    "true nuclei": instances,
    "components": torch.from_numpy(np.stack([ndimage.label(mask > 0)[0] for mask in masks])),
    "watershed": split_objects(masks),
}


colours = ListedColormap(["white", *map(show.colour, range(1, 8))])


def read_as(reading, image):
    field = full.train.select(mine[image - 1 : image])
    fig, axes = show.subplots(1, 2, width=5.2, height=2.8)
    for ax, name in zip(axes, ("true nuclei", reading), strict=True):
        numbers = readings[name][image - 1]
        f1 = score_instances(numbers[None], field, numbered=True).means["f1"]
        count = len(numbers.unique()) - 1
        ax.imshow(torch.where(numbers > 0, numbers % 7 + 1, 0), cmap=colours, vmin=0, vmax=7)
        ax.set(xticks=[], yticks=[], title=f"{name}: {count}" + f", F1 {f1:.2f}" * (ax is axes[1]))
    return show.figure(
        fig,
        alt=f"The true nuclei of image {image}, and its true foreground read as {reading}: {count} objects in "
        f"colours that change from one to the next, F1 {f1:.2f}.",
    )


show.explore(
    read_as,
    reading=list(readings),
    image=[1, 2],
    labels={"reading": "objects are", "image": "image"},
    limit=62_000,
    alt="A field of nuclei and its foreground, cut into objects in three ways.",
)

# %%
cells = voronoi_labels(points, size)
field = full.train.select(mine)
for name, numbers in readings.items():
    print(f"{name:<32}", score_instances(numbers, field, numbered=True))
print(
    f"{'components, less Voronoi borders':<32}", score_instances(masks.where(cells != 0, 0), field)
)

# %% [markdown]
# This is the **ceiling**, and it is low. In the second line every pixel is right, and nearly half of F1 is gone. A network that learns its full masks
# to perfection scores this much, and no more, when it is read by components. The last line is the warning. We took *right* pixels away, along the borders of
# the Voronoi cells that you will meet below, and the score went up. So an arm that was taught such gaps can count
# better than full masks without knowing nuclei any better. The watershed reads them all alike, and its ceiling is near 1.
#
# It has one number to choose, the distance between two innermost pixels, and such numbers are chosen on validation subjects:

# %%
for apart in range(1, 6):
    numbers = split_objects(task.valid.labels, apart)
    report = score_instances(numbers, task.valid, numbered=True)
    print(
        f"true masks of validation subjects, peaks {apart} pixels apart: F1 {report.means['f1']:.2f}"
    )

# %% [markdown]
# ## Concentric loss
#
# With $d_i$ the distance to the nearest click and $c(i)$ its class, Li et al. {cite:p}`li2019weakly` train on
#
# $$
# y_i = c(i) \text{ if } d_i \le r, \qquad y_i = 0 \text{ if } d_i > R, \qquad \text{ignored in between.}
# $$
#
# The outside counts as background, so **every** object must have been clicked on. The random background click that
# our annotator makes in each image is not needed here.

# %%
show.code(concentric_labels)

# %% [markdown]
# ## The point loss and objectness
#
# Bearman et al. {cite:p}`bearman2016whats` add two cheap things to the cross-entropy at the clicks. An image that shows a class shows it
# *somewhere*, and one that does not, *nowhere*: the image-level loss. And there is a prior $P_i$ that pixel $i$ belongs to some
# object, whichever it is:
#
# $$
# L = L_{point} + L_{img} - \frac{1}{|\Omega|}\sum_i \big[P_i \ln (1 - p_0(i)) + (1 - P_i) \ln p_0(i)\big] .
# $$
#
# The paper's prior is a ready-made detector of objects, trained on boxes of other classes. Ours is smaller: a logistic regression on the colours that were
# clicked on, all nuclei against all background. So this method uses the clicks on the background twice, in $L_{point}$ and for the prior.

# %%
show.code(WhatsThePoint)

# %%
show.code(image_level)

# %%
prior = Objectness.of(task)(images[:1])[0]
fig, axes = show.subplots(1, 2, width=5.2, height=2.7)
show.overlay(axes[0], images[0], masks[0])
axes[0].set_title("true outlines")
axes[1].imshow(prior, vmin=0, vmax=1, cmap="cividis")
axes[1].set_title("objectness")
axes[1].axis("off")
show.figure(
    fig,
    alt="A field with true outlines, and its objectness, bright where colours resemble those clicked "
    "as nuclei, of whichever class.",
)

# %% [markdown]
# ## PseudoEdgeNet
#
# Where does a nucleus end? At an edge of the image; but there are many edges. Yoo et al. {cite:p}`yoo2019pseudoedgenet` let a
# *shallow* network $g$ draw edges, a *deep* one $h$ say which of them matter, and ask that the product is the Sobel gradient of the
# segmentation:
#
# $$
# L = L_{point} + \lambda\,\frac{1}{|\Omega|} \lVert \mathcal S(1 - p_0) - g(x) \odot h(x) \rVert_1 .
# $$
#
# Nobody labels an edge. The point loss uses discs at the clicks, Voronoi borders and background clicks.

# %%
show.code(PseudoEdgeNet)

# %%
grey, inside = images[:1].mean(1, keepdim=True), (masks[:1, None] > 0).float()
fig, axes = show.subplots(1, 3, height=2.5)
show.overlay(axes[0], images[0], masks[0])
axes[0].set_title("image, true outlines")
for ax, maps, title in (
    (axes[1], grey, "Sobel of the image"),
    (axes[2], inside, "Sobel of the true foreground"),
):
    ax.imshow(sobel(maps)[0].square().sum(0).sqrt(), cmap="cividis")
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="A field with true outlines; the edges of the image, which are everywhere; and those of the true "
    "foreground, which are a part of them.",
)

# %% [markdown]
# In the middle is what a shallow network can see, on the right what the segmentation's own gradient ought to be. The attention has to pick
# the one out of the other.

# %% [markdown]
# ## Voronoi cells and clusters
#
# Qu et al. {cite:p}`qu2019weakly` make two rough labels of the clicks. The border of a **Voronoi cell** is as far from one click as from its
# neighbour: background, in most cases. **k-means** on colour and distance to the click makes three groups: nuclei, background,
# and those that are neither surely. The first keeps objects apart and knows no shape; the second knows the shape and runs them
# together. Choose a view.

# %%
views = {
    "Voronoi": cells[:1],
    "k-means": cluster_labels(images[:1], points[:1]),
    "truth": masks[:1],
}


def rough(view):
    labels = views[view]
    known = labels != IGNORE
    right = (labels == masks[:1])[known].double().mean()
    return show.images(
        images[:1].repeat(2, 1, 1, 1),
        labels=torch.cat([torch.full_like(labels, IGNORE), labels]),
        titles=["image", f"{known.double().mean():.0%} labelled, {right:.0%} right"],
        columns=2,
        fill=True,
        names=names,
        alt=f"An image and its {view} labels: {known.double().mean():.0%} of the pixels have one, "
        f"{right:.0%} of these are right.",
    )


show.explore(
    rough,
    view=list(views),
    labels={"view": "labels from"},
    limit=60_000,
    alt="An image of nuclei beside its Voronoi labels, its k-means labels, or the truth.",
)

# %% [markdown]
# Training takes the mean of both cross-entropies. Late in training a [dense CRF loss](../partial/propagation) is added, which asks
# that pixels of like colour get like answers.

# %%
show.code(TwoLabels)

# %% [markdown]
# ## Partial points
#
# Suppose that only a quarter of the nuclei was clicked on {cite:p}`qu2020weakly`. Now the outside of the circles is *not* background. Stage 1
# is a detector. Each click is a hill in a heat map, with a narrow belt of background about it, and all else is unknown:

# %%
show.code(heat_maps)

# %%
show.code(background_grown)

# %% [markdown]
# After a round of training, pixels where the detector is sure of background join the known ones; undiscovered nuclei stay
# unknown, and nobody teaches that they are not there. Watch the heat (above) and the known area (below, bright) from round to round.

# %% tags=["nbval-ignore-output"]
few = partial_points(task, 0.25, seed=0)
found, stages = detect(few, budget, seed=0)


def inside(rows):
    """Clicks, and the nuclei that they lie in."""
    item, row = (rows[..., 0] > 0).nonzero(as_tuple=True)
    hit = instances[(item, *rows[item, row, 1:].T)]
    return (
        f"{len(item):5} points in {len(torch.stack([item, hit], 1)[hit > 0].unique(dim=0))} nuclei"
    )


print("clicked on:", inside(clicked(few)))
print("found:     ", inside(found))
print("there are: ", inside(points))


def growing(turn):
    heat, known = stages[turn - 1]
    fig, axes = show.subplots(2, 3, height=4.6)
    for i in range(3):
        axes[0, i].imshow(heat[i].amax(0), vmin=0, vmax=1, cmap="cividis")
        axes[1, i].imshow(known[i], vmin=0, vmax=1, cmap="cividis")
        axes[0, i].set_title(f"heat after round {turn}" if i == 1 else "")
        axes[1, i].set_title("known to that round" if i == 1 else "")
        axes[0, i].axis("off")
        axes[1, i].axis("off")
    share = known.double().mean()
    return show.figure(
        fig,
        alt=f"Round {turn}: heat maps of three fields, and what was known to it, {share:.0%} of the pixels.",
    )


show.explore(
    growing,
    turn=[1, 2, 3],
    labels={"turn": "round"},
    limit=46_000,
    alt="Detection heat maps of three fields and the area known to the detector, round by round.",
)

# %% [markdown]
# ## Side by side
#
# The same ten patients, network and steps: clicks read as circles, clicks read by Voronoi and clusters, and full masks. Every
# nucleus is clicked on, so stage 1 is left out.

# %% tags=["nbval-ignore-output"]
arms = {
    "concentric": concentric_training(task, budget, seed=0),
    "Voronoi + k-means": qu_points(task, budget, seed=0, rounds=0),
    "full masks": fit(Supervised(networks.unet(full)), full, budget, seed=0),
}
answers = {n: fitted.predict(task.valid.images).argmax(1).cpu() for n, fitted in arms.items()}
answers["the true masks"] = task.valid.labels
print(f"{'F1 of validation subjects':<26}{'components':>12}{'watershed':>12}")
for name, answer in answers.items():
    whole = score_instances(answer, task.valid).means["f1"]
    parted = score_instances(split_objects(answer), task.valid, numbered=True).means["f1"]
    print(f"{name:<26}{whole:>12.3f}{parted:>12.3f}")

# %% tags=["nbval-ignore-output"]
show.images(
    task.valid.images[18].repeat(3, 1, 1, 1),
    labels=task.valid.labels[18].repeat(3, 1, 1),
    predictions=torch.stack([answers[name][18] for name in arms]),
    titles=list(arms),
    columns=3,
    names=names,
    alt="A validation field three times: predictions after training with circles, with Voronoi cells and "
    "clusters, and with full masks, over the true nuclei.",
)

# %% [markdown]
# ## What the scoreboard says
#
# The upper arm has full masks of the *same* patients. All arms are read by the watershed here, and compared by **F1**; Dice stands beside it. First, every
# nucleus was clicked on:

# %%
results = study.read()
lines = study.summary(results, "nuclei-points", column="f1")
show.scoreboard(lines)

# %% [markdown]
# And here only a part of them was. A method that reads the unclicked as background is expected to suffer:

# %%
few_lines = study.summary(results, "nuclei-partial-points", column="f1")
show.scoreboard(few_lines)

# %% [markdown]
# This book set itself a target: points should reach four fifths of the F1 that full masks reach. A ratio of that kind needs its ceiling beside it, which is
# what the true masks of the test subjects score when they are read in the same way. Below it, as shares of full masks' scores:

# %%
COLUMNS = ("f1", "pq", "aji", "dice")
test = study.protocol("nuclei-points").upper(0).test
ceiling = score_instances(split_objects(test.labels), test, numbered=True).means | {"dice": 1.0}


def means(column):
    lines = study.summary(results, "nuclei-points", column=column)
    return {line.method: line.score.mean for line in lines}


def share(arm, column):
    """A score as a share of full masks' on the same draws: mean, and ends of the interval."""
    change = study.difference(results, "nuclei-points", arm, "full-labels", column)
    return [1 + d / full[column] for d in change]


full = {column: means(column).get("full-labels") for column in COLUMNS}
arms_run = [arm for arm in means("f1") if arm != "full-labels" and full["f1"]]
print(f"{'':<46}" + "".join(f"{column.upper():>8}" for column in COLUMNS))
print(f"{'true masks: the ceiling':<46}" + "".join(f"{ceiling[c]:8.3f}" for c in COLUMNS))
if full["f1"]:
    print(f"{'full masks':<46}" + "".join(f"{full[c]:8.3f}" for c in COLUMNS))
for arm in arms_run:
    print(f"{survey.title(arm):<46}" + "".join(f"{share(arm, c)[0]:8.0%}" for c in COLUMNS))
if not arms_run:
    print("No arm and its full masks have been run yet: the target is open.")

# %%
for arm in [arm for arm in arms_run if arm != "pce"][:1]:
    mean, low, high = share(arm, "f1")
    verdict = "reached" if mean >= 0.8 else "missed"
    sure = "by the whole interval" if low >= 0.8 or high < 0.8 else "by the mean alone"
    print(f"best F1: {survey.title(arm)}, {mean:.0%} [{low:.0%}, {high:.0%}] of full masks'")
    print(
        f"the target of 80 % is {verdict}, {sure}; full masks have {full['f1'] / ceiling['f1']:.0%} of the ceiling"
    )
show.bars(
    {survey.title(line.method): line.score for line in lines},
    xlabel="F1 of test subjects, read by the watershed",
    lines={"": 0.0, "80 % of full masks": 0.8 * full["f1"], "true masks": ceiling["f1"]},
    alt=f"F1 of {len(lines)} arms with intervals; full masks have {full['f1']:.3f}, the ceiling is {ceiling['f1']:.3f}.",
) if full["f1"] else None

# %% [markdown]
# A share near one says that an arm finds nuclei as well as full masks do *by this rule*, whose ceiling both share. Look along the row before
# you believe it: F1 forgives a find that is too small or too large, as long as their overlap is half of both together. Dice and AJI do not.
#
# Each idea has a control that lacks nothing else: `prior=0` for objectness, `weight=0` for the edges or the CRF, no ring, no growing background.

# %%
pairs = [
    (protocol, line.method.partition(":")[0], line.method)
    for protocol, arms_here in (("nuclei-points", lines), ("nuclei-partial-points", few_lines))
    for line in arms_here
    if ":" in line.method
]
for protocol, arm, control in pairs:
    if any(r["protocol"] == protocol and r["method"] == arm and not r["options"] for r in results):
        change = study.difference(results, protocol, arm, control, "f1")
        print(f"{protocol:<22} F1 of {survey.title(arm)} above {survey.title(control)}: {change}")
if not pairs:
    print("No control has been run yet.")

# %% [markdown]
# An interval that contains zero says that no difference was shown.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "Half of the nuclei were never clicked on. Which reading of the clicks now teaches something false?",
    {
        "Cross-entropy at the clicks alone.": "It says nothing of the other half.",
        "Concentric circles.": "Beyond the outer circles lie unclicked nuclei, and they are called background.",
        "Heat maps with an unknown rest.": "They were made for this case.",
    },
    correct="Concentric circles.",
)

# %%
quiz(
    "Two touching nuclei are predicted as one blob that covers both exactly, and the larger is twice the smaller. What is TP?",
    {
        "0": "The blob's IoU with the larger nucleus is two thirds: above one half.",
        "1": "It matches the larger nucleus, with an IoU of two thirds; the smaller one is missed.",
        "2": "A find has at most one partner with an IoU above one half.",
    },
    correct="1",
)

# %% [markdown]
# ## Exercises
#
# **1. Random clicks.** Make the task with `where="random"` in place of `"centre"`. Which of the readings on this page suffers most?
#
# ```{dropdown} Hint
# Which of them assume that the click is in the middle?
# ```
# ```{dropdown} Solution
# Circles and the Voronoi border: a click near the rim puts part of the inner circle outside the nucleus, and the border between
# two clicks no longer runs between the nuclei. Point loss and objectness do not care where in the nucleus one clicked.
# ```
#
# **2. No ring.** Train `concentric_training(task, budget, inner=5, outer=5.01)`. What has the ring been good for?
#
# ```{dropdown} Hint
# Look at the share of right labels in the first figure.
# ```
# ```{dropdown} Solution
# Without a ring every pixel has a label, and all nuclei are taught to be discs of five pixels. Small ones come out too large, long ones
# too round. The ring leaves those pixels to the network, which has seen their colour elsewhere.
# ```
#
# **3. Where the watershed errs.** Find a field in which `split_objects` is wrong although every pixel of the mask is right. Which nuclei does it break, which does it leave together, and why can no single `apart` mend both?
#
# ```{dropdown} Hint
# Compare the numbers of `readings["watershed"]` and `instances`. What has two peaks in its distance to the background?
# ```
# ```{dropdown} Solution
# A long, bent nucleus has several innermost pixels, and is broken if they are farther apart than `apart`. Two small ones that overlap have theirs close
# together, and are merged. The first error asks for a larger distance, the second for a smaller one. Methods that are made for instances learn the
# distance map itself, or the direction to the centre, instead of reading it off a mask.
# ```

# %% [markdown]
# ## Take away
#
# - A click gives the place and the kind of an object. Extent and border must come from the image or from a prior.
# - Say which pixels are background *known*, and which are merely not clicked on.
# - Labels that err in different places help each other: cells for the borders, clusters for the shape.
# - Score objects, not only pixels; let every arm turn pixels into objects by the same rule, and know what the truth itself would score by it.
#
# **Reading.** {cite:t}`bearman2016whats` for points and their price; {cite:t}`li2019weakly`, {cite:t}`yoo2019pseudoedgenet` and
# {cite:t}`qu2020weakly` for nuclei and mitoses; {cite:t}`kirillov2019panoptic` and {cite:t}`kumar2017dataset` for the scores.
