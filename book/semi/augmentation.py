# %% [markdown]
# # Augmentation: one mask, many images
#
# <!-- badge -->
#
# **You will learn**
#
# - which changes of an image leave its mask alone, which carry it along, and which blend it;
# - how to judge *one* augmentation, when everybody already trains with several;
# - what Mixup asks of a network between two images, and when that is too much to ask;
# - where augmentation helps most: on a scanner that no mask came from.
#
# **You should know** the training loop of [the baseline](../foundations/baseline) and what makes a
# comparison fair ([measuring honestly](../foundations/measuring)).

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import beta as beta_law

from lsseg_edu import networks, show, study
from lsseg_edu.augment import Augment, crop, cutout, erase, mixup, warp, warp_labels
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.semi.adversarial import scanner_shift
from lsseg_edu.semi.adversarial.discriminator import critic, one_hot
from lsseg_edu.semi.augmentation import (
    AdaMixUp,
    CutMix,
    FeatureSpace,
    Mixup,
    ShiftMixup,
    majority,
    only,
    partners,
    soft_dice_ce,
    with_cutout,
    with_warp,
)
from lsseg_edu.semi.augmentation.adamixup import policy
from lsseg_edu.semi.consistency import paste
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
names = ("background", "RV", "myocardium", "LV")
task

# %% [markdown]
# ## The idea in a picture
#
# Three patients have masks. A network that sees the same three hearts four hundred times learns *those*
# hearts: that the left ventricle lies here, is this large and this bright. The next patient lies a little
# turned in another scanner. But a turned heart with a turned mask is a labelled image as well, and it costs
# nothing. Here is one annotated slice, and three more that nobody had to draw.

# %%
index = task.labelled[4]
image, mask = task.train.images[index][None], task.train.labels[index][None]
many = image.expand(3, -1, -1, -1), mask.expand(3, -1, -1)
images, masks = Augment.strong()(*many, torch.Generator().manual_seed(3))
show.images(
    torch.cat([image, images]),
    labels=torch.cat([mask, masks]),
    titles=["annotated", *["made from it"] * 3],
    columns=4,
    names=names,
    alt="One heart with its contours, and three copies of it: turned, bent, shifted, brighter or darker. "
    "The contours follow every time.",
)

# %% [markdown]
# Augmentation is prior knowledge, put into the data instead of into the loss: *this change does not matter*,
# or, for motions, *this change moves the answer in the same way*. Written down, training minimises
#
# $$
# \min_\theta\; \mathbb{E}_{(x, y)}\, \mathbb{E}_{T}\; L\big( f_\theta(T x),\ T' y \big),
# $$
#
# and all that has to be decided is the distribution of $T$ and what $T'$ does to the mask. There are three
# answers to the second question:
#
# | change | what becomes of the mask | techniques of this page |
# |---|---|---|
# | moves pixels | moves along, $T' = T$ | warp, crop |
# | repaints or hides pixels | stays, $T' = 1$ | intensity, Random Erasing, Cutout |
# | mixes two images | mixed like them | Mixup, AdaMixUp, CutMix, feature space |

# %% [markdown]
# ## Turn the knobs
#
# All kinds and strengths, on that one slice. At 1 the moves and the intensities are those of this book's default.
# Crop, hiding and mixing start gently, and at 4 they take more than anybody should.

# %%
both = task.labelled[[4, 20]]
pair = task.train.images[both], task.train.labels[both]
generous = {"rotation": 15, "scale": 0.12, "shear": 0.07, "shift": 0.05, "elastic": 0.015}


def turned(strength):
    part = {name: strength * value for name, value in generous.items() if name != "elastic"}
    return replace(Augment.none(), **part)(image, mask, torch.Generator().manual_seed(4))


def bent(strength):
    part = replace(Augment.none(), elastic=0.015 * strength)
    return part(image, mask, torch.Generator().manual_seed(7))


def repainted(strength):
    part = only("intensities", strength)
    return part(image, mask, torch.Generator().manual_seed(1))


def windowed(strength):
    size = [round(64 * (1 - strength / 8))] * 2
    return crop(image, mask, size, torch.Generator().manual_seed(3))


def erased(strength):
    share = min(0.1 * strength, 0.4)
    area = (max(share, 1e-4),) * 2
    return erase(image, torch.Generator().manual_seed(4), p=1.0, area=area), mask


def cut_out(strength):
    return cutout(image, torch.Generator().manual_seed(6), side=min(strength / 4, 1)), mask


def blended(strength):
    share = torch.full((2,), 1 - strength / 8)
    soft = mixup(one_hot(pair[1], 4), share)
    return mixup(pair[0], share)[:1], soft.argmax(1)[:1]


def pasted(strength):
    side = 16 * strength / 2
    at = torch.arange(64)
    line = (at >= 32 - side) & (at < 32 + side)
    box = (line[:, None] & line).expand(2, 1, 64, 64)
    return paste(pair[0], box)[:1], paste(pair[1], box)[:1]


CHANGES = {
    "affine (moves)": turned,
    "elastic (moves)": bent,
    "crop (moves)": windowed,
    "intensity (repaints)": repainted,
    "Random Erasing (hides)": erased,
    "Cutout (hides)": cut_out,
    "Mixup (mixes)": blended,
    "CutMix (mixes)": pasted,
}


low, high = np.percentile(image, (1, 99))


def knobs(change, strength):
    seen, follows = CHANGES[change](strength)
    fig, ax = show.subplots(width=2.9, height=3.1)
    show.overlay(ax, seen[0], follows[0])
    ax.images[0].set_data(((seen[0, 0] - low) / (high - low)).clip(0, 1))  # one grey scale for all
    ax.set_title(f"{change.partition(' (')[0]}, strength {strength:g}")
    ax.axis("off")
    size = "x".join(map(str, seen.shape[2:]))
    heart = (follows != 0).float().mean()
    return show.figure(
        fig,
        alt=f"The annotated slice and its contours after {change} at strength {strength:g}: "
        f"{size} pixels, of which the heart takes {heart:.1%}; mean intensity {seen.mean():.2f}, "
        f"deviation {seen.std():.2f}.",
    )


show.explore(
    knobs,
    change=list(CHANGES),
    strength=[0, 0.5, 1, 2, 4],
    labels={"strength": "strength"},
    limit=140_000,
    alt="One annotated slice after an augmentation of any kind and strength.",
)

# %% [markdown]
# Look for the strength at which *you* would no longer sign the mask. For elastic motion it is where the wall
# of the heart becomes thinner than walls are. For intensities there is hardly any such place, as long as the
# contrast between blood and muscle survives. Erasing and Cutout keep the mask even where nothing is left to
# see, and at strength 4 that asks the network to guess. Half-and-half Mixup shows two hearts at once; the
# contours drawn are those of the larger share, but the loss below is told about both.

# %% [markdown]
# ## Warp
#
# A motion is a grid: for every pixel of the output, the place of the input to read. Affine maps and a smooth
# random displacement are added in **one** grid, so the image is interpolated once. Then comes the line in
# which most mistakes hide: the mask must be read at the *same* places, but not in the same manner.

# %%
grid = replace(only("moves", 2.0), tilt=0).grid(image, torch.Generator().manual_seed(5))
moved = warp(image, grid), warp_labels(mask, grid)
linear = warp(mask[:, None].float(), grid)[:, 0].round().long()
halves = (linear != moved[1]).sum().item()
print(f"pixels whose class changes if labels are interpolated: {halves}")
wrong = torch.where(linear != moved[1], linear, 0)
show.images(
    torch.cat([moved[0]] * 3),
    labels=torch.cat([moved[1], linear, wrong]),
    titles=["nearest", "linear, rounded", "the difference"],
    names=names,
    fill=True,
    alt="A warped heart with its mask read at the nearest pixel, with the mask interpolated and rounded, and "
    f"where they differ: {halves} pixels, most of them a seam around the myocardium called right ventricle.",
)

# %% [markdown]
# Between the myocardium, 2, and the background, 0, lies the number 1: a rim of right ventricle, around a wall
# that it does not touch. Class numbers are names: they can be *moved*, never averaged. Images are read linearly,
# since their nearest pixel would make staircases of every edge:

# %%
show.code(warp_labels)

# %% [markdown]
# The test of this pair of functions is simple enough to be worth copying into any project: warp an image that
# *is* its own label map, and compare.

# %% [markdown]
# ## Crop
#
# A window at a random place is a motion as well, and the only one that needs no interpolation. Large images
# are cropped because they do not fit into memory; small ones, to shake the habit of finding the heart by
# where it lies. Two things to watch. The window must not look for the organ: a crop around the mask tells the
# network where the heart is, which at the clinic nobody will. And a network trained on windows sees whole
# images only at the end; a fully convolutional one can, but its normalisation has never met so much
# background.

# %%
show.code(crop)

# %% [markdown]
# ## Intensity
#
# Scanners differ by what they do to intensities: the coil is nearer to one side (*bias field*), the sequence
# bends the grey scale (*gamma*), the window stretches it (*contrast*), the optics blur it, the electronics
# add noise. None of that moves anything, so no mask is an argument. The order is that of physics:

# %%
show.code(Augment.repaint)

# %% [markdown]
# ## Random Erasing
#
# In a picture of a street a car may stand before the pedestrian. In MR nothing stands before the heart, yet
# hiding a part of it teaches the same lesson: not to rest the whole decision on one spot. Random Erasing draws
# a rectangle of random area $a$ and aspect $r$, with sides $\sqrt{a r}$ and $\sqrt{a / r}$, and fills it with
# noise. In classification the label stays because the image is still one of a dog. In segmentation **every
# pixel's label stays**, the hidden ones' too: the network has to infer from the rim what lies inside.

# %%
show.code(erase)

# %% [markdown]
# ## Cutout
#
# Cutout is the plainer brother: one square, one size, zeros, in every image. DeVries and Taylor found the
# size to matter more than the shape. Their one subtlety is that the *centre* is uniform over all pixels, so
# the square may hang over the border. Then some images lose little; and no pixel is safe, the corners
# included. How often is each pixel hidden?

# %%
hidden = [
    (cutout(torch.ones(4000, 1, 64, 64), torch.Generator().manual_seed(0), side) == 0)
    .float()
    .mean(0)[0]
    for side in (0.25, 0.5)
]
fig, axes = show.subplots(1, 2, width=5.2, height=2.4)
for ax, share, side in zip(axes, hidden, (0.25, 0.5), strict=True):
    shown = ax.imshow(share, cmap="magma", vmin=0, vmax=0.3)
    ax.set_title(f"side {side:g}")
    ax.axis("off")
fig.colorbar(shown, ax=axes, shrink=0.8, label="chance to be hidden")
show.figure(
    fig,
    alt="Maps of how often each pixel is hidden by Cutout with a side of a quarter and of half the image: the "
    f"same all over the middle, {hidden[0][32, 32]:.3f} and {hidden[1][32, 32]:.3f}, and less at the border.",
)

# %% [markdown]
# ## One augmentation at a time
#
# Every experiment of this book trains with `Augment.strong()`, the baseline as well. That is fair to the
# *methods*, but it hides what augmentation is worth. To judge one, we train the baseline with **that one
# alone**, and set it between two references: no augmentation at all, and all of it. Everything else is the
# baseline's: network, first weights, steps, labelled subjects.

# %% tags=["nbval-ignore-output"]
none = with_warp(task, budget, seed=0, strength=0, progress=False)
alone = with_cutout(task, budget, seed=0, progress=False)
baseline = fit(Supervised.for_task(task), task, budget, seed=0)
for name, fitted in (("none", none), ("Cutout alone", alone), ("all (the baseline)", baseline)):
    print(f"{name}\n{evaluate(fitted, task.valid)}\n")

# %% [markdown]
# These are validation patients; the test patients are left to the scoreboard. Compare also what the
# *training* looked like. Without augmentation the loss falls fast: there is little to learn by heart.

# %% tags=["nbval-ignore-output"]
curves = {
    name: fitted.history["supervised"]
    for name, fitted in (("none", none), ("Cutout alone", alone), ("all", baseline))
}
ends = "; ".join(f"{name} {np.mean(values[-20:]):.2f}" for name, values in curves.items())
show.curves(
    curves,
    ylabel="training loss",
    window=budget.pick(1, 15, 31),
    alt=f"Training loss over the steps for three amounts of augmentation. At the end: {ends}.",
)

# %% [markdown]
# A low training loss is no merit. With augmentation every step asks a new question; the loss stays higher, and
# what is measured on other patients is what counts.

# %% [markdown]
# ## Mixup
#
# Now two images become one. What should a network say *between* two images it knows? Nothing forbids it to be
# certain of the first one's mask up to the middle, and of the second one's from there on. Zhang and
# colleagues ask for the simplest thing instead: a straight line.
#
# $$
# \tilde x = \lambda x_a + (1 - \lambda)\, x_b, \qquad
# \tilde y = \lambda y_a + (1 - \lambda)\, y_b, \qquad \lambda \sim \mathrm{Beta}(\alpha, \alpha)
# $$
#
# The $y$ are one-hot, so $\tilde y$ is soft: a pixel can be 70 % myocardium and 30 % background. The same
# $\lambda$ stands in both lines. $\alpha$ says how often images are mixed evenly:

# %%
grade = np.linspace(0.005, 0.995, 199)
show.curves(
    {f"α = {alpha}": beta_law.pdf(grade, alpha, alpha) for alpha in (0.2, 0.4, 1.0, 4.0)},
    grade,
    xlabel="share λ of the first image",
    ylabel="density",
    alt="Densities of the Beta distribution: with 0.2 and 0.4 nearly all shares lie near 0 or 1, 1 is uniform, "
    "with 4 most lie around one half.",
)

# %%
show.code(Mixup)

# %% [markdown]
# **Soft labels need a soft loss.** Cross-entropy takes them as they come. Dice does not: with the usual
# denominator $\sum p^2 + \sum y$ a pixel that is half of each class is best answered by something else than
# a half. For hard labels $y^2 = y$, so nobody notices. Let us look for the best answer at a pixel whose
# target is one half:

# %%
answers = torch.linspace(0.01, 0.99, 99)
overlap = 2 * 0.5 * answers
plain = 1 - overlap / (answers**2 + 0.5)
squared = 1 - overlap / (answers**2 + 0.5**2)
best = [float(answers[loss.argmin()]) for loss in (plain, squared)]
print(f"best answer to 'half': {best[0]:.2f} without the square, {best[1]:.2f} with it")
show.curves(
    {"Σp² + Σy": plain, "Σp² + Σy²": squared},
    answers,
    xlabel="answer p where the target is 0.5",
    ylabel="Dice loss",
    alt="Dice loss over the answer for a target of one half. With the plain denominator it is least at "
    f"{best[0]:.2f}, with squares in both sums at {best[1]:.2f}.",
)

# %%
show.code(soft_dice_ce)

# %% [markdown]
# And `IGNORE`? A pixel that was annotated in one of the two images only is 70 % known, and nobody knows what
# the rest is. Its target does not sum to one; it counts for nothing.

# %% [markdown]
# ## AdaMixUp
#
# A straight line is a bold claim. Blend a heart at end-diastole with the same heart at end-systole, and what
# appears may look like a heart half-way through its beat, whose true mask is *between* the two and not a
# blend of them. Guo and colleagues call this **manifold intrusion**: the mixture collides with a real image
# that has another label. AdaMixUp learns for each pair how far it may be mixed. A **policy generator** $\pi$
# answers with a range $[\alpha, \alpha + \Delta]$ for $\lambda$, an **intrusion discriminator** $\varphi$
# tells mixtures from real images:
#
# $$
# L = L_{sup}(x, y) + L_{sup}(\tilde x, \tilde y)
#   + \tfrac12 \big[ -\ln \varphi(x) - \ln (1 - \varphi(\tilde x)) \big],
# \qquad \lambda = \alpha + \Delta\, u, \quad u \sim U(0, 1)
# $$

# %%
show.code(AdaMixUp)

# %% [markdown]
# It looks like a GAN and is none. There is one player: all three networks minimise the *same* sum. The policy
# wants its mixtures to be **recognised**, since what can be told from a real image does not intrude on one.
# Nothing drives it towards realism. Train it for a moment and look at the ranges it allows:

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
helpers = networks.build(policy, task, 0), critic(task, "images", 0)
learner = AdaMixUp(networks.unet(task), *helpers)
short = replace(budget, steps=budget.pick(6, 120, 400))
ranges = fit(learner, task, short, seed=0).method.cpu().eval()
sample = task.train.images[task.labelled]
with torch.no_grad():
    low, span = (values.numpy() for values in ranges.ranges(sample))
order = np.argsort(low)
fig, ax = show.subplots(height=2.4)
ax.vlines(np.arange(len(low)), low[order], (low + span)[order], color=show.colour(7), lw=4)
ax.axhline(0.5, color="#595959", lw=1, ls=":")
ax.set(xlabel="pairs of labelled images, sorted", ylabel="share λ allowed", ylim=(0, 1))
show.figure(
    fig,
    alt=f"The range of shares that the policy allows each pair: from {low.mean():.2f} to "
    f"{(low + span).mean():.2f} on average; it differs from pair to pair by {low.std():.2f}.",
)

# %% [markdown]
# At the first step all ranges are the middle third. Where they have gone, and whether pairs differ at all,
# depends on how well the discriminator works by now; a range at one end means that the policy has made the
# pair nearly real again, the cheap way out of the *second* term. Where the ranges have shrunk to dots at one half, the
# opposite has happened: half and half is the mixture that is told most easily from a real image, and the policy has given
# up all variety for it.

# %% [markdown]
# ## CutMix
#
# Mixup leaves no pixel as it was; Cutout leaves most as they were and wastes the rest. CutMix fills the hole
# with a piece of another image. In classification the two *image* labels are mixed in proportion to the areas,
# $\lambda \sim \mathrm{Beta}(\alpha, \alpha)$ being the share that is kept. In segmentation there is nothing
# to mix: **each pixel brings its own label**, hard as before, through the same box. No soft loss is needed.

# %%
show.code(CutMix)

# %% [markdown]
# The box is that of [weak to strong](weak_to_strong.ipynb#fixmatch), where it will make questions hard whose
# answers a teacher gives. Here both images come with their masks. The image is impossible, an RV may end in a
# straight line; yet every pixel is right, and context can no longer be trusted.

# %% [markdown]
# ## Feature space
#
# The mean of two hearts in pixels is a ghost. The mean of their *codes* may be a heart: a network that
# separates classes has unfolded them. DeVries and Taylor mix there. Take a vector $c_j$ of the bottleneck and
# another one **of the same class**, and go on in the direction that leads away from it, or towards it:
#
# $$
# c'_j = c_j + \lambda\, (c_j - c_k) \ \text{(extrapolation)}, \qquad
# c'_j = c_j + \lambda\, (c_k - c_j) \ \text{(interpolation)}
# $$
#
# Interpolation makes a class tighter; extrapolation, which they found to help, makes it wider, so that the
# decoder has to draw its boundaries further out. Here are the bottleneck vectors of the trained baseline, in
# their two principal directions:

# %% tags=["nbval-ignore-output"]
net = baseline.method.cpu().eval().net
labelled = task.train.images[task.labelled], task.train.labels[task.labelled]
with torch.no_grad():
    codes = net.encode(labelled[0])[-1]
classes = majority(labelled[1], codes.shape[2:]).flatten()
vectors = codes.movedim(1, -1).flatten(0, -2)
torch.manual_seed(0)
beyond = vectors + 0.5 * (vectors - vectors[partners(classes)])
centred = vectors - vectors.mean(0)
_, _, axes2 = torch.linalg.svd(centred, full_matrices=False)
fig, panels = show.subplots(1, 2, height=2.9, sharex=True, sharey=True)
for ax, points, title in zip(
    panels, (vectors, beyond), ("of images", "extrapolated, λ = 0.5"), strict=True
):
    flat = (points - vectors.mean(0)) @ axes2[:2].T
    for k, name in enumerate(names):
        mine = flat[classes == k]
        ax.scatter(*mine.T, s=9, color=show.colour(k) if k else "#8A8A8A", label=name)
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, markerscale=1.8)
spread = beyond.std(0).mean() / vectors.std(0).mean()
show.figure(
    fig,
    alt="Bottleneck vectors in their two principal directions, coloured by class, before and after "
    f"extrapolation: the clouds are {spread:.1f} times as wide.",
)

# %%
show.code(FeatureSpace)

# %% [markdown]
# A place of the bottleneck covers 16 x 16 pixels; its class is what most of them are. The new vectors are
# detached, as in the paper, where the encoder was trained before and by itself: they teach the decoder. Mind
# the limits of the idea in a U-Net. Its **skips** carry the fine detail past the bottleneck unchanged, so
# the decoder still sees where the real edges are. That keeps outlines honest, and it keeps the augmentation
# weak.

# %% [markdown]
# ## On another scanner
#
# Panfilov and colleagues asked the question that matters at a clinic: the masks come from one scanner, the
# patients are imaged on another. They compared Mixup, which knows nothing of the new machine, with
# adversarial domain adaptation, which may look at its images, and with both. Here are the two scanners of the
# cardiac phantom:

# %%
shifted = scanner_shift(seed=0)
kinds = shifted.train.extras["scanner"]
middle = (shifted.train.extras["position"] - 0.5).abs()
first, other = (int((middle + 9 * (kinds != k)).argmin()) for k in (0, 1))
show.images(
    shifted.train.images[[first, other]],
    titles=["scanner A, with masks", "scanner B, none"],
    columns=2,
    alt="A heart on scanner A and another one on scanner B: contrast, sharpness and noise differ.",
)

# %%
show.code(ShiftMixup)

# %% [markdown]
# Set `alpha=0` and `weight=0`, and what is left is the baseline; each of the two switches adds one of the
# remedies. The test images are scanner B's throughout. Be careful with the reading: our baseline has seen
# bias fields, gamma and contrast of many kinds, which the shift between two scanners is made of. A remedy can
# only mend what is still broken.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats this with several draws of the labelled patients.
# *Affine + elastic data warping (strength=0)* is no augmentation at all; the row *Supervised baseline* has all
# of `Augment.strong()`, and differences are taken to it. Warp, crop, intensity, erasing and Cutout stand
# there **alone**, with nothing else; the mixing methods come **on top** of the baseline's augmentation.

# %%
results = study.read()
GIVEN = ("aug-warp", "aug-crop", "aug-intensity", "aug-erasing", "aug-cutout")
MIXED = ("aug-mixup", "aug-adamixup", "aug-cutmix", "aug-feature-space")
BOUNDS = ("supervised", "full-labels")


def table(protocol, wanted):
    lines = study.summary(results, protocol)
    return show.scoreboard([line for line in lines if line.method.split(":")[0] in wanted])


table("cardiac-3", (*GIVEN, *MIXED, *BOUNDS))

# %% [markdown]
# And trained on scanner A, tested on scanner B:

# %%
table("cardiac-shift", (*GIVEN, *MIXED, "panfilov-mixup", *BOUNDS))

# %% [markdown]
# How to read the tables. The distance from *none* to the baseline is what augmentation is worth here; set it
# beside the gains of any method in this book. An arm *alone* that comes close to the baseline says that the
# rest adds little; one far below it may still be useful as a part. A mixing method that is undecided against
# the baseline adds nothing that these runs can show **on top of** strong augmentation, which is another
# statement than that it does nothing. Where there is no row, nobody has run it yet.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A colleague augments with random rotations. Images are rotated linearly, masks as well, and then rounded "
    "to integers. The cohort has the classes background, liver (1), spleen (2), kidney (3). What happens?",
    {
        "Nothing, rounding restores the classes.": "It restores integers, but between 0 and 2 the integer "
        "is 1.",
        "A thin rim of liver appears around the spleen.": "On the way from 0 to 2 the interpolation passes 1. "
        "Class numbers are names and may not be averaged.",
        "The masks become blurred.": "They are integers again, only wrong ones.",
    },
    correct="A thin rim of liver appears around the spleen.",
)

# %%
quiz(
    "You add Mixup to a baseline without any other augmentation and gain eight Dice points. What may you conclude?",
    {
        "Mixup is worth eight points.": "Where nothing else varied the images. On top of warps and intensity "
        "changes it may be worth none.",
        "Some variation was missing, and Mixup supplied it.": "Whether it supplies anything that a warp does "
        "not is seen only on top of one.",
        "Linear behaviour between images is right for anatomy.": "The score does not say why it rose.",
    },
    correct="Some variation was missing, and Mixup supplied it.",
)

# %% [markdown]
# ## Exercises
#
# **1. A lawful flip.** Mirrors are the most popular augmentation of all, and there are none in
# `Augment.strong()`. Give an organ for which a left-right mirror is right, one for which it is wrong, and one
# class for which it is wrong although the *image* looks plausible.
#
# ```{dropdown} Hint
# Ask of each class whether its name contains a side.
# ```
# ```{dropdown} Solution
# Nuclei have no sides: every mirror is right. The liver lies on the right: a mirrored abdomen belongs to a
# patient with situs inversus, one in ten thousand. Left and right kidney look alike; mirrored, the image is
# plausible, but the mask now calls the left one right. There $T'$ is more than moving: the two labels would
# have to change their names as well.
# ```
#
# **2. Two losses or one.** For cross-entropy, show that the loss of the mixed label is the mixture of the two
# losses, $L(p, \lambda y_a + (1 - \lambda) y_b) = \lambda L(p, y_a) + (1 - \lambda) L(p, y_b)$. Is it so for
# Dice?
#
# ```{dropdown} Hint
# Which of the two is linear in $y$?
# ```
# ```{dropdown} Solution
# $-\sum_k y_k \ln p_k$ is linear in $y$, so the two are equal, and a program may use whichever is easier.
# Dice has $y^2$ (or $y$) in its denominator and is not linear. The mixture of two Dice losses is least
# somewhere between the two hard masks, but not at $p = \tilde y$; the Dice of the soft label with squares is
# least exactly there.
# ```
#
# **3. What is on top of what.** Run `with_cutout` alone and on top of everything (`alone=False`), with three
# seeds each, at whatever budget you have. Report both gains, each against its own reference. Which of the two
# would you put into an abstract, and which into the conclusion?
#
# ```{dropdown} Hint
# The reference of the first is `with_warp(task, strength=0)`; of the second, the baseline.
# ```
# ````{dropdown} Solution
# ```python
# for seed in range(3):
#     shots = task if seed == 0 else Task.split(load("cardiac"), labelled=3, seed=seed)
#     pairs = {
#         "alone": (with_cutout(shots, seed=seed), with_warp(shots, seed=seed, strength=0)),
#         "on top": (
#             with_cutout(shots, seed=seed, alone=False),
#             fit(Supervised.for_task(shots, seed), shots, seed=seed),
#         ),
#     }
#     for name, (arm, reference) in pairs.items():
#         gain = evaluate(arm, shots.valid).mean_dice - evaluate(reference, shots.valid).mean_dice
#         print(seed, name, f"{gain:+.3f}")
# ```
# The second answers the question a reader has: should I add this to what I already do? The first explains
# what the technique does by itself. An abstract that quotes the first as if it were the second has misled.
# ````
#
# ## Take away
#
# - Moves carry the mask along, repainting leaves it, mixing mixes it. Decide which one you are doing.
# - Labels are moved at the same places as the image, and never averaged, unless they are one-hot.
# - Judge an augmentation twice: alone against none, and on top of all the others.
# - Soft labels need a loss whose minimum is at the label; cross-entropy has it, Dice only with squares.
# - Augmentation is in the baseline of every method in this book. What it is worth belongs in the report.
#
# **Reading.** {cite:t}`shorten2019survey` survey the field. {cite:t}`zhong2020random` introduce Random Erasing,
# {cite:t}`devries2017improved` Cutout, {cite:t}`zhang2018mixup` Mixup, {cite:t}`guo2019mixup` AdaMixUp,
# {cite:t}`yun2019cutmix` CutMix and {cite:t}`devries2017dataset` feature-space augmentation.
# {cite:t}`panfilov2019improving` took Mixup to another scanner.
