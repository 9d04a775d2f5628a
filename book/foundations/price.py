# %% [markdown]
# # The price of a label
#
# <!-- badge -->
#
# **You will learn**
#
# - what a segmentation is, semantic or instance, and why that changes its price;
# - eight ways to annotate the same image with less work, and what each of them leaves unsaid;
# - how to compare them in the one currency they share, an annotator's seconds;
# - which family of methods each of them needs.
#
# **You should know** Python and what a neural network is. Nothing about segmentation.

# %% tags=["setup"]

# %%
import torch

from lsseg_edu import losses, networks, show, study
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import evaluate, paired_bootstrap
from lsseg_edu.learn import quiz
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
tasks = {
    name: Task.split(load(name, subjects=8), valid=1, test=1)
    for name in ("cardiac", "abdomen", "nuclei")
}
tasks["cardiac"]

# %% [markdown]
# These are *phantoms*: images that the library draws, with tissue, noise and a scanner's faults. We
# use them because their truth is exact and because they need no download; [the
# data](data) shows all of them, and how to bring real ones.
#
# ## Semantic and instance
#
# To segment an image is to answer a question at each of its pixels. There are two questions.
#
# - *What is here?* Each pixel gets a class: liver, left kidney, background. This is **semantic**
#   segmentation. Two nuclei that touch become one area.
# - *Which one is here?* Each pixel gets an object. This is **instance** segmentation. One can count
#   the nuclei, and measure each of them.

# %%
nuclei = load("nuclei", size=128, subjects=2).select([4])


def in_colour(cohort, item):
    """A stained section as the microscope shows it: normalised channels back to their colours."""
    if cohort.channels == 1:
        return cohort.images[item]
    mean, deviation = cohort.extras["colour"][item]
    return cohort.images[item] * deviation[:, None, None] + mean[:, None, None]


crop = (..., slice(16, 112), slice(0, 96))
section = in_colour(nuclei, 0)[crop]
objects, kinds = nuclei.extras["instances"][0][crop], nuclei.labels[0][crop]
coloured = torch.where(objects > 0, (objects * 5) % 7 + 1, 0)
show.images(
    section.expand(3, -1, -1, -1),
    labels=torch.stack([torch.zeros_like(objects), kinds, coloured]),
    titles=["the image", "semantic: a class each", "instance: an object each"],
    fill=True,
    alt="One stained tissue section with many nuclei: the image, the same with two classes of nuclei "
    "filled, and with every nucleus in a colour of its own, also those that touch.",
)

# %%
areas = sum(int(annotate.components.components((kinds[None] == k).numpy()).max()) for k in (1, 2))
count = len(objects.unique()) - 1
print(f"connected areas in the semantic mask: {areas}")
print(f"nuclei:                               {count}")

# %% [markdown]
# The semantic mask holds fewer areas than there are nuclei: where two of a kind touch, the line
# between them is lost, and no amount of looking at the mask brings it back. The instance mask keeps
# it, because an annotator drew every outline. This is the more expensive question.
#
# A semantic mask of $K$ classes is a map $y : \Omega \to \{0, \dots, K-1\}$ over the pixels
# $\Omega$, class 0 the background. This book is mostly about semantic masks; where objects matter
# (nuclei, lesions), we say so.

# %% [markdown]
# ## What annotators leave
#
# A full mask says something about every pixel. It is made by outlining each object, slice by slice.
# People with less time do less, in different ways. Choose one of them, and an organ. Colour is
# what was annotated, a veil of white is annotated background. Pixels that look **as they do in the
# plain image carry no label**: the annotator said nothing about them.

# %%
half = {name: max(1, (task.train.classes - 1) // 2) for name, task in tasks.items()}
KINDS = {
    "full masks": lambda task: annotate.subjects(task, 6),
    "fewer subjects": lambda task: annotate.subjects(task, 2),
    "every other slice": lambda task: annotate.slices(task, every=2),
    "scribbles": lambda task: annotate.scribbles(task),
    "points": lambda task: annotate.points(task, radius=1),
    "boxes": lambda task: annotate.boxes(task),
    "boundary scribbles": lambda task: annotate.boundary_scribbles(task),
    "missing classes": lambda task: annotate.missing_classes(task, half[task.train.name]),
    "a hasty rater": lambda task: annotate.raters(task, ["hasty"]),
}
left = {
    name: {kind: weaken(task) for kind, weaken in KINDS.items()} for name, task in tasks.items()
}
truth = {name: task.train.labels for name, task in tasks.items()}


def best_slice(name, whose, kept):
    """Of the subjects with masks or of the others: the fullest slice that was kept or was not."""
    few, sparse = (left[name][kind].train for kind in ("fewer subjects", "every other slice"))
    has = [(train.labels != IGNORE).flatten(1).any(1) for train in (few, sparse)]
    fits = ((has[0] == whose) & (has[1] == kept)).nonzero()[:, 0].tolist()
    return max(fits, key=lambda i: (len(truth[name][i].unique()), (truth[name][i] > 0).sum()))


shown = {name: [best_slice(name, True, False), best_slice(name, False, True)] for name in tasks}


def draw_boxes(ax, boxes):
    from matplotlib.patches import Rectangle

    for k, top, side, bottom, end in boxes[boxes[:, 0] >= 0].tolist():
        frame = Rectangle(
            (side - 0.5, top - 0.5), end - side, bottom - top, fill=False, lw=2, ec=show.colour(k)
        )
        ax.add_patch(frame)


def annotated(organ, annotation):
    task = left[organ][annotation]
    fig, axes = show.subplots(1, 2, width=5.4, height=3.1)
    for ax, item in zip(axes, shown[organ], strict=True):
        image, labels = in_colour(task.train, item), task.train.labels[item]
        show.overlay(ax, image, labels, fill=True)
        if annotation == "boxes":
            draw_boxes(ax, task.train.extras["boxes"][item])
        ax.set_title(f"{(labels != IGNORE).float().mean():.0%} of the pixels labelled")
        ax.axis("off")
    seconds = task.seconds / len(truth[organ])
    fig.suptitle(f"{annotation}: {seconds:.0f} s an image", fontsize=11)
    return show.figure(
        fig,
        alt=f"{organ}, {annotation}: two images and what the annotator left on them; "
        f"{seconds:.0f} seconds an image on average.",
    )


show.explore(
    annotated,
    organ=["cardiac", "abdomen"],
    annotation=list(KINDS),
    limit=155_000,
    alt="Two images of different subjects with the chosen kind of annotation.",
)

# %% [markdown]
# Go through them once more, and ask of each: *what is not said?*
#
# | annotation | is said | is not said |
# |---|---|---|
# | fewer subjects | everything, of some patients | the other patients, who look different |
# | slices | everything, of some slices | where organs end between slices |
# | scribbles | the middle of each region, background too | the boundary |
# | points | that something is here | its size and its shape |
# | boxes | where nothing is; how far something reaches | which pixels inside belong to it |
# | boundary scribbles | both sides of the boundary | where exactly it runs |
# | missing classes | some organs, exactly | whether "background" hides another organ |
# | a hasty rater | something everywhere | which part of it is wrong |
#
# The last two rows differ from the others. Everything else leaves *gaps*, which the library marks
# with the label `IGNORE`, so that no loss can mistake them for background. In the last two, gaps
# look like answers.

# %% [markdown]
# ## The price
#
# How long does each take? There is no price list for radiologists. There are measurements with crowd
# workers on photographs, and we take those. Outlining one object took 79 s on average in COCO
# {cite:p}`lin2014microsoft`; a scribble for one class of an image 10.9 s, its first point 2.4 s and
# each further one 0.9 s {cite:p}`bearman2016whats`; a box by its four extreme points 7 s
# {cite:p}`papadopoulos2017extreme`. A rough contour we put at 20 s ourselves.

# %%
annotate.SECONDS

# %% [markdown]
# A price is then a sum over pieces. With $n_k$ objects of class $k$ in an image,
#
# $$
# t_{mask} = 79 \sum_{k \geq 1} n_k , \qquad
# t_{scribble} = 10.9\, \big|\{k : n_k > 0\} \cup \{0\}\big| , \qquad
# t_{box} = 7 \sum_{k \geq 1} n_k .
# $$
#
# An expert at a three-dimensional viewer is slower at all of these. **Trust the ratios, not the
# hours**, and where the ratio decides your study, measure it with your own annotator. One ratio is
# plainly off already: scribbles are charged by class, so forty nuclei cost as little as one.
#
# What does one get for it? The obvious measure is the fraction of pixels that carry a label, and
# carry the right one. The picture on the right asks the same of the pixels that matter most, those
# with a neighbour of another class.


# %%
def beside_a_boundary(labels):
    """Pixels ``(B, H, W)`` with a neighbour of another class."""
    edge = torch.zeros_like(labels, dtype=torch.bool)
    down, right = labels[:, 1:] != labels[:, :-1], labels[:, :, 1:] != labels[:, :, :-1]
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    edge[:, :, 1:] |= right
    edge[:, :, :-1] |= right
    return edge


def bought(organ, kind):
    """Seconds an image, and the fractions of all and of boundary pixels labelled rightly."""
    right = left[organ][kind].train.labels == truth[organ]
    edge = beside_a_boundary(truth[organ])
    seconds = left[organ][kind].seconds / len(right)
    return seconds, float(right.float().mean()), float(right[edge].float().mean())


def prices(organ):
    fig, axes = show.subplots(1, 2, height=3.9, sharey=True)
    for number, kind in enumerate(KINDS, 1):
        seconds, everywhere, edges = bought(organ, kind)
        for ax, value in zip(axes, (everywhere, edges), strict=True):
            ax.plot(seconds, 100 * value, "o", ms=15, color="#D6E8F4", mec="#00507D")
            ax.text(seconds, 100 * value, number, ha="center", va="center_baseline", fontsize=9)
            ax.plot([], [], " ", label=f"{number} {kind}")
    for ax, title in zip(axes, ("of all pixels", "of the pixels beside a boundary"), strict=True):
        ax.set(xscale="log", xlabel="seconds an image", title=title, ylim=(-6, 108))
        ax.grid(color="#E0E0E0", lw=0.7)
    axes[0].set_ylabel("labelled rightly (%)")
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=0
    )
    return show.figure(
        fig,
        alt=f"{organ}: for each kind of annotation, seconds an image against the per cent of "
        "pixels labelled rightly, of all and of those beside a boundary: "
        + "; ".join(
            f"{kind} {s:.0f} s, {a:.0%}, {b:.0%}"
            for kind, (s, a, b) in ((kind, bought(organ, kind)) for kind in KINDS)
        ),
    )


show.explore(
    prices,
    organ=list(tasks),
    limit=75_000,
    alt="Price against pixels labelled rightly, for nine annotations.",
)

# %% [markdown]
# On the left, boxes look like the bargain of the century: most pixels of a mask for a tenth of its
# price. On the right they have little to offer. The pixels that boxes know are background, far from
# everything, and a network knows those after its first minute of training. **A labelled pixel is
# worth what it settles**, and most pixels settle nothing that their neighbours had not settled
# before.
#
# For the same reason, fewer subjects and fewer slices are not as poor as they look. They know all of
# the boundary on the images they have; their question is how different the next image is.

# %% [markdown]
# ## What an hour buys
#
# Give each kind the same hour. How many images can it annotate?

# %%
print(f"{'images an hour':<20}" + "".join(f"{name:>10}" for name in tasks))
masks_elsewhere = ("fewer subjects", "every other slice")  # the price of a mask, spread differently
for kind in KINDS:
    if kind not in masks_elsewhere:
        images = [3600 / bought(name, kind)[0] for name in tasks]
        print(f"{kind:<20}" + "".join(f"{n:>10.0f}" for n in images))

# %% [markdown]
# Then the question that decides: *which of these hours makes the better network?* It cannot be
# answered by counting. Let us spend two hours on hearts in three ways: full masks of as many patients
# as that pays for; every fourth slice of more patients; scribbles on all slices of more patients
# still.

# %%
hours = 2
everybody = Task.split(load("cardiac"))
OFFERS = {
    "masks": lambda task, n: annotate.subjects(task, n),
    "slices": lambda task, n: annotate.slices(task.keep(n), every=4),
    "scribbles": lambda task, n: annotate.scribbles(task.keep(n)),
}
bargains = {}
for kind, offer in OFFERS.items():
    each = offer(everybody, 10).seconds / 10
    patients = max(1, int(hours * 3600 / each))
    bargains[kind] = offer(everybody, patients)
    task = bargains[kind]
    print(
        f"{kind:<10} {patients:>3} patients, {len(task.labelled):>4} slices, "
        f"{task.seconds / 3600:.1f} h, {(task.train.labels != IGNORE).sum():>7} labelled pixels"
    )

# %% [markdown]
# The same network, the same steps, the same augmentation. Only the loss has to differ: Dice needs
# whole masks, so the scribbles are learnt by cross-entropy on the labelled pixels alone ([a chapter
# of its own](../partial/scribbles)). We judge on the validation patients; the test patients are kept
# for [the scoreboard](../scoreboard/scoreboard).

# %% tags=["nbval-ignore-output"]
LOSS = {"masks": losses.dice_ce, "slices": losses.dice_ce, "scribbles": losses.cross_entropy}
fitted, reports = {}, {}
for kind, task in bargains.items():
    method = Supervised(networks.unet(task, seed=0), loss=LOSS[kind])
    fitted[kind] = fit(method, task, budget, seed=0)
    reports[kind] = evaluate(fitted[kind], everybody.valid)
    print(f"{kind:<10} Dice {reports[kind].mean_dice:.3f}, HD95 {reports[kind].mean_hd95:.1f} mm")
for kind in ("slices", "scribbles"):
    gain = paired_bootstrap(reports[kind].per_subject, reports["masks"].per_subject)
    print(f"{kind} minus masks, same patients: {gain}")

# %% tags=["nbval-ignore-output"]
heart = everybody.valid.select([3])
show.images(
    heart.images.repeat(3, 1, 1, 1),
    labels=heart.labels.repeat(3, 1, 1),
    predictions=torch.cat([one.predict(heart.images).argmax(1) for one in fitted.values()]),
    titles=[f"two hours of {kind}" for kind in fitted],
    names=heart.names,
    alt="One heart of a validation patient, segmented after two hours of masks, of slices and of "
    "scribbles; filled areas are the truth, lines the predictions.",
)

# %% [markdown]
# Read the intervals: they are taken over the validation patients, so they say whether *these two
# networks* differ. They do not say what another draw of patients, or another seed, would have given;
# [measuring honestly](measuring) shows why that is the larger doubt. What the experiment does
# show is the shape of the trade: at a fixed price, *exact and few* competes with *rough and many*,
# and the first does not win by default.

# %% [markdown]
# ## Three families
#
# The survey that this book follows, {cite:t}`peng2021medical`, sorts the methods by what the annotator
# left. That is the right way round: one does not choose a method and then look for its labels.
#
# | what is left | family | part of this book |
# |---|---|---|
# | masks for a few subjects, none for many | semi-supervised | I, beginning with [consistency](../semi/consistency) |
# | slices, scribbles, points, missing classes | partially supervised | II, beginning with [scribbles](../partial/scribbles) |
# | boxes, boundary scribbles, raters who err | inaccurately supervised | III, beginning with [noisy labels](../inaccurate/noise) |
#
# The lines are not sharp. Boxes are certain outside and open inside; missing classes are exact in
# what they name and false in their background. And two families combine at once when the unannotated
# pixels of scribbled images are treated as unlabelled data, as several methods of Part II do.
#
# How much of a full mask's worth do scribbles keep when *the same subjects* are annotated, only more
# cheaply? The scoreboard has that comparison, with several seeds:

# %%
show.scoreboard(study.summary(study.read(), "cardiac-scribbles", baseline="pce"))

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "On hearts, boxes label more than four fifths of all pixels, and label them rightly. Why is that not "
    "four fifths of a mask?",
    {
        "Because boxes are often drawn carelessly.": "Ours are tight and exact; the argument does not need errors.",
        "Because those pixels are background far from any organ.": "They settle what was hardly in doubt; of the "
        "pixels beside a boundary, boxes label few.",
        "Because a box takes longer to draw than it seems.": "It takes 7 s by extreme clicking, a tenth of an outline.",
    },
    correct="Because those pixels are background far from any organ.",
)

# %%
quiz(
    "A public data set has masks of the liver, and label 0 everywhere else. You need liver and kidneys. What does its label 0 mean?",
    {
        "Background.": "Then every kidney in it would teach the network that kidneys are background.",
        "Not liver.": "Right for this data set: the kidneys are in there somewhere. Methods for missing classes "
        "begin by writing this down.",
        "Not annotated, so `IGNORE`.": "Safe, but it throws away something true: those pixels are surely no liver.",
    },
    correct="Not liver.",
)

# %% [markdown]
# ## Exercises
#
# **1. Your own price list.** Your annotator is a radiologist who needs four minutes for an outline, and
# 15 s for a scribble. Which rows of the table of the two hours change, and does the order of
# *labelled pixels* change with them?
#
# ```{dropdown} Hint
# Full masks and slices are both made of outlines.
# ```
# ```{dropdown} Solution
# The hour buys a third of the masks and of the slices ($79/240$), but almost three quarters of the
# scribbles ($10.9/15$). The more an annotator's outlines cost *relative* to the strokes, the better
# the weak annotations become. The order of labelled pixels does not change: strokes label fewest,
# as before; which is one more reason not to judge by it. An expert's time usually shifts the trade this way: judging *what*
# something is stays quick, drawing it exactly does not.
# ```
#
# **2. Count or outline.** A pathologist wants to know how many lymphocytes a section holds. Which of the nine
# annotations is enough to *train* such a counter, and which would be enough to *judge* it?
#
# ```{dropdown} Hint
# What does a count need of each nucleus?
# ```
# ```{dropdown} Solution
# A point in each nucleus is enough for both: it says that there is one, and where. Semantic masks, which are
# dearer, are not even sufficient, because touching nuclei merge. The cheapest annotation that
# answers the question is not always a thinned-out version of the dearest.
# ```
#
# **3. Three raters or three times the patients.** For one price you can have three raters outline ten
# patients each, or one rater outline thirty. Let every rater be `"hasty"`. Compare the fraction of
# wrong boundary pixels in the majority vote of three with that of one.
#
# ```{dropdown} Hint
# `annotate.raters(task, ["hasty"] * 3)` leaves the vote in `train.labels`; `beside_a_boundary` is above.
# ```
# ````{dropdown} Solution
# ```python
# edge = beside_a_boundary(truth["cardiac"])
# for n in (1, 3):
#     voted = annotate.raters(tasks["cardiac"], ["hasty"] * n)
#     print(n, (voted.train.labels != truth["cardiac"])[edge].float().mean())
# ```
# The vote is better, because these raters err independently. Twelve raters who all draw *generously*
# would agree on the same wrong line: voting removes noise, never bias. Whether better labels beat more
# patients depends on what limits the network, and is decided by training it.
# ````

# %% [markdown]
# ## Take away
#
# - Ask first what the annotation leaves *unsaid*, and whether the gaps are marked or hidden.
# - Compare annotations at equal price, never at equal numbers of images.
# - A labelled pixel is worth what it settles; most of the cheap ones settle little.
# - The ratios of the price list are borrowed. Measure yours before you spend.
#
# **Reading.** {cite:t}`bearman2016whats` compare points, scribbles and masks at equal annotation time,
# the model of this page. {cite:t}`peng2021medical` give the map of methods.
