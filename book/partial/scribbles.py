# %% [markdown]
# # Scribbles: learning from one pixel in fifty
#
# <!-- badge -->
#
# **You will learn**
#
# - what a scribble tells a network, and what it leaves open;
# - why "not annotated" is not "background", and what it costs to mix them up;
# - partial cross-entropy: the loss under every scribble method of this part;
# - how far it gets on real expert scribbles, and where the rest of the gap lies.
#
# **You should know** [the price of a label](../foundations/price) and the loop of
# [the baseline](../foundations/baseline).

# %% tags=["setup"]

# %%
import torch

from lsseg_edu import losses, networks, show, study
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.partial.regions import PartialCrossEntropy, partial_cross_entropy
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
full = Task.split(load("cardiac"), labelled=20, seed=0)
task = annotate.scribbles(full, seed=0)
print(
    f"masks:     {full.supervision}, about {annotate.cost.mask_seconds(full.train.labels[full.labelled]) / 3600:.1f} hours of one annotator"
)
print(f"scribbles: about {task.seconds / 3600:.1f} hours")

# %% [markdown]
# ## The idea in a picture
#
# To outline a heart, one clicks along every edge of it. To scribble on it, one drags the mouse through
# the middle of each part, and once through the background. The second takes a fraction of the time. It
# also says nothing about the very thing that a segmentation is: where one part ends and the next one
# begins.
#
# Move the controls: how long the stroke is, and how thick the pen. Pixels without colour are not
# annotated.

# %%
chosen = full.labelled[[2, 14]]
images, masks = full.train.images[chosen], full.train.labels[chosen]


def scribbled(length, width):
    drawn = annotate.draw_scribbles(masks, length=length, width=width, seed=1)
    known = (drawn != IGNORE).float().mean()
    right = (drawn == masks)[drawn != IGNORE].float().mean()
    return show.images(
        images.repeat(2, 1, 1, 1),
        labels=torch.cat([drawn, masks]),
        titles=[f"{known:.1%} of pixels known"] * 2 + ["full mask"] * 2,
        columns=4,
        fill=True,
        names=full.train.names,
        alt=f"Two hearts with scribbles of relative length {length} and width {width}, {known:.1%} of "
        f"the pixels, {right:.0%} of them right; beside them the full masks.",
    )


show.explore(
    scribbled,
    length=[0.1, 0.4, 0.7, 1.0],
    width=[1, 3],
    labels={"length": "length of the stroke", "width": "width of the pen (pixels)"},
    limit=170_000,
    alt="Scribbles on two hearts beside the full masks, for strokes of different length and width.",
)

# %% [markdown]
# Even the longest stroke with the thickest pen leaves most of the image blank. What is known, though,
# is known for sure: a scribble stays inside its part. So the data are *few*, not *wrong*, and that
# decides what we do with them.

# %% [markdown]
# ## The tempting mistake
#
# A mask file with scribbles in it looks like any other mask file: numbers for the classes, zero
# elsewhere. Feed it to an ordinary loss, and the network is told that every pixel between the
# scribbles is **background**. It will learn just that, and draw scribbles.

# %% tags=["nbval-ignore-output"]
naive = task.train.labels.where(task.train.labels != IGNORE, 0)
naive[task.unlabelled] = IGNORE  # these subjects stay unlabelled: the same twenty for every arm
wrong_idea = fit(Supervised(networks.unet(task)), task.supervise(naive), budget, seed=0)

example = task.valid.select(torch.tensor([2, 15, 26, 39]))
show.images(
    example.images,
    labels=example.labels,
    predictions=wrong_idea.predict(example.images).argmax(1),
    names=example.names,
    alt="Predictions of a network that was told all unannotated pixels are background: thin lines "
    "inside the true parts of the heart, or nothing.",
)

# %% [markdown]
# ## Partial cross-entropy
#
# The cure is to ask nothing where nothing is known. With $\Omega_s$ the scribbled pixels,
#
# $$
# L = -\frac{1}{|\Omega_s|} \sum_{i \in \Omega_s} \log p_{y_i}(i) .
# $$
#
# All the care is in the word *partial*. The sum runs over $\Omega_s$ and so does the mean: dividing by
# all pixels would make the loss smaller, the fewer pixels one scribbles. The library marks an unknown
# pixel with `IGNORE` (255), and every supervised loss in it skips those.

# %%
show.code(partial_cross_entropy)

# %%
show.code(PartialCrossEntropy)

# %% [markdown]
# Where does this loss push? Below is the size of its gradient with respect to the network's output, for
# a network that knows nothing yet, beside the gradient that a full mask would give.

# %%
labels = annotate.draw_scribbles(masks, seed=1)
logits = torch.zeros(2, 4, 64, 64, requires_grad=True)
(sparse,) = torch.autograd.grad(partial_cross_entropy(logits, labels), logits)
(dense,) = torch.autograd.grad(losses.cross_entropy(logits, masks), logits)
fig, axes = show.subplots(1, 3, height=2.5)
show.overlay(axes[0], images[0], labels[0], fill=True)
axes[1].imshow(sparse[0].abs().sum(0) > 0)
axes[2].imshow(dense[0].abs().sum(0) > 0)
for ax, title in zip(axes, ("scribbles", "pixels that speak", "with a full mask"), strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="An image with scribbles; the pixels with a gradient under partial cross-entropy, exactly the "
    "scribbled ones; and under a full mask, all of them.",
)

# %% [markdown]
# Between the scribbles there is no gradient at all. Why does the network say anything sensible there?
# Because it has no memory for places, only for appearances: its weights are the same at every pixel.
# A dark pixel in the muscle that nobody marked looks like a dark pixel in the muscle that somebody
# marked, in this patient or another, and gets the same answer. What remains open is the *boundary*,
# where appearances mix. That is where we should expect the errors.

# %% [markdown]
# ## Side by side
#
# The same twenty patients, the same network and steps: once with their scribbles, once with their masks.

# %% tags=["nbval-ignore-output"]
arms = {
    "background elsewhere": wrong_idea,
    "partial cross-entropy": fit(PartialCrossEntropy(networks.unet(task)), task, budget, seed=0),
    "full masks": fit(Supervised(networks.unet(full)), full, budget, seed=0),
}
reports = {name: evaluate(fitted, task.test) for name, fitted in arms.items()}
for name, report in reports.items():
    print(f"{name}\n{report}\n")

# %% tags=["nbval-ignore-output"]
answers = torch.cat([fitted.predict(example.images).argmax(1) for fitted in arms.values()])
show.images(
    example.images.repeat(3, 1, 1, 1),
    labels=example.labels.repeat(3, 1, 1),
    predictions=answers,
    titles=[name if i == 0 else "" for name in arms for i in range(4)],
    columns=4,
    names=example.names,
    alt="Four validation slices, three rows: predictions after training with background elsewhere, "
    "with partial cross-entropy, and with full masks.",
)

# %% [markdown]
# And are the errors where we said? For every wrong pixel of the validation slices, take its distance to
# the nearest true boundary:

# %% tags=["nbval-ignore-output"]
from scipy.ndimage import distance_transform_edt


def distance_to_boundary(labels):
    edges = torch.zeros_like(labels, dtype=torch.bool)
    for axis in (1, 2):
        edges |= (labels != labels.roll(1, axis)) | (labels != labels.roll(-1, axis))
    return torch.stack([torch.from_numpy(distance_transform_edt(~e.numpy())) for e in edges])


valid = task.valid.select(task.valid.labels.flatten(1).any(1))
distance = distance_to_boundary(valid.labels)
rates = {}
for name in ("full masks", "partial cross-entropy"):
    wrong = arms[name].predict(valid.images).argmax(1) != valid.labels
    rates[name] = [float(wrong[distance.round() == d].float().mean()) for d in range(12)]
show.curves(
    rates,
    range(12),
    xlabel="distance to the nearest true boundary (pixels)",
    ylabel="fraction wrong",
    alt="Error rate against the distance to the boundary, for full masks and scribbles.",
)

# %% [markdown]
# ## What the scoreboard says
#
# Simulated scribbles on the phantom, twenty subjects. *Gap closed* has no meaning for the lower arm of a
# gap, so it stays empty: partial cross-entropy **is** the baseline that the scribble methods of the
# [next](regularised) [pages](propagation) start from. Their rows are there; here are the two ends.

# %%
results = study.read()


def ends(protocol):
    lines = study.summary(results, protocol, baseline="pce")
    return [line for line in lines if line.method in ("pce", "full-labels")]


show.scoreboard(ends("cardiac-scribbles"))

# %% [markdown]
# And scribbles that an expert really drew, on all 70 training patients of ACDC
# {cite:p}`valvano2021learning`:

# %%
show.scoreboard(ends("acdc-scribbles"))

# %% [markdown]
# The row *full labels* minus the row of partial cross-entropy is what all the
# [regularised losses](regularised), [graph cuts and pseudo-labels](propagation) of the scribble literature
# fight for. Keep that number in mind when you read of a gain.

# %%
for name in ("cardiac-scribbles", "acdc-scribbles"):
    lines = {line.method: line for line in ends(name)}
    print(f"{name}: full masks are {lines['full-labels'].verdict} than scribbles")

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You scribble only on the organs, never on the background, and train with partial cross-entropy. What happens?",
    {
        "The network learns the organs and calls the rest background.": "Nothing ever told it that the "
        "class background exists.",
        "It may call every pixel an organ, and the loss is content.": "No annotated pixel objects. This "
        "is why the background needs scribbles, and why the library refuses a task without them.",
        "Training stops with an error in the loss.": "The loss is perfectly finite. The mistake is silent.",
    },
    correct="It may call every pixel an organ, and the loss is content.",
)

# %%
quiz(
    "You make the scribbles twice as long. By how much does partial cross-entropy change its scale?",
    {
        "It doubles.": "It would, if it were a sum.",
        "Not at all, on average.": "It is a mean over the annotated pixels, so the balance with any other "
        "loss term stays.",
        "It halves.": "It would, if one divided a fixed sum by the number of pixels.",
    },
    correct="Not at all, on average.",
)

# %% [markdown]
# ## Exercises
#
# **1. What is a scribble worth?** You have four hours of an annotator's time. Use `annotate.SECONDS` and
# the counts above: how many subjects can be scribbled, how many outlined? Which would you choose, and which
# experiment would settle it?
#
# ```{dropdown} Hint
# Divide four hours by the seconds per subject of each kind. Then think of what the extra subjects add
# that the outlines do not.
# ```
# ```{dropdown} Solution
# Scribbles reach several times more subjects. More subjects means more variety of anatomy and contrast;
# outlines mean exact boundaries for few. The experiment fixes the *seconds*, not the subjects: train
# `PartialCrossEntropy` on as many scribbled subjects as the time allows, `Supervised` on as many outlined
# ones, several seeds each, and compare. Any other comparison gives one side annotations for free.
# ```
#
# **2. Dice on scribbles.** Dice + cross-entropy is the loss of all baselines in this book, and our `dice`
# skips unknown pixels. Why is Dice computed over scribbled pixels alone a strange objective?
#
# ```{dropdown} Hint
# Dice compares *sizes*. What is the size of a scribble a size of?
# ```
# ```{dropdown} Solution
# Dice normalises by the sizes of truth and prediction. Over the scribbled pixels these are the lengths of
# strokes, chosen by the annotator's hand, not by anatomy: a class that was scribbled generously weighs the
# same as one with a dot, and the ratio of organ to background is that of the pens. It is not wrong, since
# it is still minimal for the right answer, but it no longer measures overlap of regions.
# ```
#
# **3. A second opinion.** The network is free between the scribbles. Write down, in words, one more thing you
# know about a segmentation that needs no annotation, and turn it into a loss term.
#
# ```{dropdown} Hint
# What do two neighbouring pixels of the same brightness usually have in common?
# ```
# ```{dropdown} Solution
# For instance: neighbours that look alike have the same label. Penalise
# $\sum_{ij} w_{ij} \lVert p_i - p_j \rVert^2$ with $w_{ij}$ large when pixels $i, j$ are close and alike. This
# is the seed of the [CRF losses](regularised). Another: the answer must not move when the image is shaken, which is
# [consistency](../semi/consistency), and it works between scribbles as it does on unlabelled images.
# ```

# %% [markdown]
# ## Take away
#
# - Unknown is not background. Mark it, and let no loss see it.
# - Average over what is annotated, so that the scale of the loss does not depend on the pen.
# - Scribble on the background too.
# - What scribbles leave open is the boundary; everything that follows in this part is about closing it.
#
# **Reading.** {cite:t}`tang2018normalized` define the partial loss and the normalised cut that completes it;
# {cite:t}`lin2016scribblesup` started deep learning from scribbles; {cite:t}`valvano2021learning` drew the ones we
# used.
