# %% [markdown]
# # Adversarial augmentation: the change that hurts most
#
# <!-- badge -->
#
# **You will learn**
#
# - how an ascent inside a descent finds the training image that the network needs most;
# - why the *bound* is the whole method, and what a bound in pixels, in a coil or in anatomy allows;
# - how unlabelled images take part: by an answer that must not move, and by the shapes they have;
# - how to tell the gain of the ascent from the gain of mere variety.
#
# **You should know** [augmentation](../semi/augmentation), and the ramp-up of
# [consistency](../semi/consistency).

# %% tags=["setup"]

# %%

import numpy as np
import torch

from lsseg_edu import losses, show, study
from lsseg_edu.augment import displaced, folded, integrate, warp, warp_labels
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.augmentation import (
    AdvBias,
    DeformationAttack,
    Fluid,
    Modes,
    WorstCase,
    ascend,
    biased,
    register_unlabelled,
    somewhere,
    spline,
)
from lsseg_edu.semi.co_training.adversarial import virtual_adversarial
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
names = ("background", "RV", "myocardium", "LV")
task

# %% [markdown]
# ## The idea in a picture
#
# [Random augmentation](../semi/augmentation) shows a network whatever the dice give. Most draws are easy: the
# network knows the answer, and the step is wasted. So let us not draw but *search*. Below, one heart as it is,
# with a random change of every pixel by at most $\epsilon$, and with the change of the same size that harms
# this network most.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised.for_task(task), task, budget, seed=0)
net = baseline.method.cpu().eval().net.requires_grad_(False)

image, mask = task.valid.images[3:4], task.valid.labels[3:4]
torch.manual_seed(0)
attacker = WorstCase(net, epsilon=0.15, steps=5)
views = torch.cat([image, image + somewhere(image, 0.15), attacker.attack(image, mask)])
answers = baseline.predict(views).argmax(1)
harm = [float(losses.dice_ce(net(view[None]), mask)) for view in views]
show.images(
    views,
    labels=mask.repeat(3, 1, 1),
    predictions=answers,
    titles=["as it is", "random change", "worst change"],
    columns=4,
    names=names,
    alt="One heart as it is, with random and with adversarial changes of equal size, true areas and the "
    f"baseline's contours. The loss is {harm[0]:.2f}, {harm[1]:.2f} and {harm[2]:.2f}.",
)

# %% [markdown]
# For us the second and the third picture are the same picture with a little grain. If the contours of the
# third are worse all the same, then the network relies on something that we do not see, and that the next
# scanner may not keep.
#
# Training against it is a game with two moves, one inside the other:
#
# $$
# \min_\theta\; \mathbb{E}_{(x, y)}\; \max_{z \in \mathcal{B}}\; L\big( f_\theta(T_z x),\ T'_z\, y \big)
# $$
#
# The inner player changes the image, the outer one the weights. All methods of this page share the line. What
# makes them different is $z$, the thing that is changed, and $\mathcal{B}$, how far it may go:
#
# | method | $z$ is | bounded by | label | unlabelled images give |
# |---|---|---|---|---|
# | worst case | every pixel | $\epsilon$ at each | stays | (virtual version) an answer to keep |
# | AdvBias | control points of a bias field | $\pm b$ at each | stays | an answer to keep |
# | deformation statistics | coefficients of modes | $\pm b$ deviations | moves along | the modes |
# | fluid | a place between images | the geodesics | moves along | where the ways lead |
#
# Without a bound the inner player wins at once: it paints another image. With a bound that no scanner and no
# body can reach, the network learns to withstand what never comes. **The bound is the prior knowledge.**

# %% [markdown]
# ## The ascent
#
# The inner move is the optimiser of this book turned round: follow the gradient, with respect to $z$ and not
# to $\theta$, *upwards*, and come back into the box if a step has left it.

# %%
show.code(ascend)

# %% [markdown]
# Why the sign? In a box $|z_i| \le b$ every coordinate may move equally far, so the steepest way up moves each
# of them by a full step. It also frees us from units: pixels, control points and modes climb alike. Let us
# watch the loss of one slice while its pixels climb, five times from different starts.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)


def climb(epsilon, rounds=10):
    def loss(change):
        return losses.dice_ce(net(image + change), mask)

    change, path = somewhere(image, epsilon), []
    for _ in range(rounds):
        path.append(float(loss(change)))
        change = ascend(loss, change, epsilon, steps=1, rate=0.25)
    return [*path, float(loss(change))]


paths = {f"ε = {epsilon}": [climb(epsilon) for _ in range(5)] for epsilon in (0.05, 0.1, 0.2)}
gains = "; ".join(
    f"{k} from {np.mean(v, 0)[0]:.2f} to {np.mean(v, 0)[-1]:.2f}" for k, v in paths.items()
)
show.curves(
    paths,
    np.arange(11),
    xlabel="steps of the ascent",
    ylabel="loss of the slice",
    alt=f"The loss over the steps of the inner ascent, mean and range of five starts: {gains}.",
)

# %% [markdown]
# Most of the climb is done in a few steps, and each costs a forward and a backward pass. That is why the
# methods below take **one** step from a random start: a somewhat weaker opponent, for a fraction of the time.

# %% [markdown]
# ## Worst-case training
#
# Put the ascent into the loss, and adversarial data augmentation is there. Of the labelled images it trains
# on both versions, as they are and at their worst. For images without a mask there is no loss to climb on. But
# a network has an answer, and that answer should not move: **virtual** adversarial training climbs on the
# divergence $KL(p(x) \,\Vert\, p(x + r))$ from the network's own answer to the one it gives nearby.

# %%
show.code(WorstCase)

# %% [markdown]
# One trap is in `somewhere`. At $r = 0$ the divergence is zero, the least it can be; its gradient is zero as
# well, and an ascent that starts there does not move. Every method here starts at a random place in the box.
#
# ```{admonition} Kin
# :class: note
# [Mean Teacher](consistency.ipynb#mean-teacher) asks the same with *random* noise. Deep co-training
# ([there](co_training.ipynb#deep-co-training)) lets one network attack and another one answer.
# ```

# %% [markdown]
# ## AdvBias
#
# Pixels that climb by themselves draw patterns that no scanner makes. What an MR scanner does make is uneven
# brightness: the coil is nearer to one side. Chen and colleagues let the ascent play on just that. A field
# $\phi = 1 + \mathrm{spline}(c)$ multiplies the image, and only its few control points $c$ may move:
#
# $$
# L = L_{sup} + w(t)\, KL\big(p(x) \,\Vert\, p(x\, \phi_{c^*})\big), \qquad
# c^* = \arg\max_{|c| \le b} KL\big(p(x) \,\Vert\, p(x\, \phi_c)\big)
# $$

# %%
show.code(AdvBias)

# %% [markdown]
# The bound is worth a second look. We clip 25 control points, yet we want a promise about 4096 pixels. It comes
# for free: B-splines are never negative and sum to one, so the field at every pixel is a *mean* of control
# points, and a mean never leaves the range of what it averages.

# %%
torch.manual_seed(1)
points = somewhere(torch.zeros(500, 1, 5, 5), 0.3)
field = spline(points, (64, 64))
print(f"control points: {points.min():+.3f} to {points.max():+.3f}")
print(f"field:          {field.min():+.3f} to {field.max():+.3f}")
print("within the bound everywhere:", bool((field.abs() <= 0.3).all()))

# %% [markdown]
# Both halves of the batch take part, since no mask is needed. The target $p(x)$ is detached: the network is
# to learn that a field does not matter, not to become as unsure of the clean image as it is of the other.

# %% [markdown]
# ## Four opponents
#
# Choose who changes the image and how far he may go. The left panel is what the network sees, with the true
# areas and its contours; the right one is the change. At 1 the bounds are those of the methods.

# %% tags=["nbval-ignore-output"]
answer = baseline.predict(image)
coil = AdvBias(net, steps=3)
worst = WorstCase(net, steps=3)


def random_pixels(strength):
    return image + somewhere(image, 0.1 * strength)


def worst_pixels(strength):
    worst.epsilon = 0.1 * strength
    return worst.attack(image, mask)


def virtual_pixels(strength):
    return virtual_adversarial(net, image, answer, 0.1 * strength)


def random_field(strength):
    return biased(image, somewhere(torch.zeros(1, 1, 5, 5), 0.3 * strength))


def worst_field(strength):
    coil.bound = 0.3 * strength
    return biased(image, coil.attack(image, answer))


OPPONENTS = {
    "random pixels": random_pixels,
    "worst pixels (mask known)": worst_pixels,
    "worst pixels (virtual)": virtual_pixels,
    "random bias field": random_field,
    "worst bias field": worst_field,
}


def played(opponent, strength):
    torch.manual_seed(1)
    seen = OPPONENTS[opponent](strength)
    given = baseline.predict(seen).argmax(1)
    fig, axes = show.subplots(1, 2, width=4.4, height=2.5)
    show.overlay(axes[0], seen[0], mask[0], given[0])
    axes[1].imshow((seen - image)[0, 0], cmap="PuOr", vmin=-0.6, vmax=0.6)
    changed = (given != answer.argmax(1)).float().mean()
    for ax, title in zip(
        axes, (f"answer changed: {changed:.1%}", "change of the image"), strict=True
    ):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"{opponent} at {strength:g} times its bound: the baseline's answer and what was added to the "
        f"image, {(seen - image).abs().max():.2f} at most; {changed:.2%} of the pixels change class.",
    )


show.explore(
    played,
    opponent=list(OPPONENTS),
    strength=[0.5, 1, 2, 3],
    labels={"strength": "times the bound"},
    limit=100_000,
    alt="An image under random and adversarial changes of pixels and of the bias field.",
)

# %% [markdown]
# Compare each *worst* with its *random* twin at the same strength. Random grain averages out in every
# convolution; the searched one does not. Random control points average out too, in the spline; the searched ones
# pull together, to one bright and one dark side. The distance between the twins is all that an ascent can be
# worth over plain augmentation. Then compare the right panels across opponents. Which of these changes could a
# scanner make?

# %% [markdown]
# ## Side by side
#
# The baseline has seen random bias fields of its own (they are part of `Augment.strong()`), AdvBias the worst
# ones on top, and on the images of the sixty-seven other patients as well.

# %% tags=["nbval-ignore-output"]
advbias = fit(AdvBias.for_task(task), task, budget, seed=0)
advbias.method.cpu().eval()
for name, fitted in (("supervised", baseline), ("AdvBias", advbias)):
    print(f"{name}\n{evaluate(fitted, task.valid)}\n")

# %% [markdown]
# These are validation patients as they come. What the method was made for is another question: how does the
# score fall when coils become worse? Here every validation slice gets a random field of growing bound.

# %% tags=["nbval-ignore-output"]
few = task.valid.of(task.valid.subjects.unique()[: budget.pick(3, 10, 10)])
bounds = np.array([0.0, 0.2, 0.4, 0.6, 0.8])


def under(fitted):
    scores = []
    for bound in bounds:
        torch.manual_seed(0)
        seen = biased(few.images, somewhere(torch.zeros(len(few), 1, 5, 5), float(bound)))
        scores.append(score(fitted.predict(seen).argmax(1), few, surfaces=False).mean_dice)
    return scores


falls = {"supervised": under(baseline), "AdvBias": under(advbias)}
ends = "; ".join(f"{name} from {v[0]:.2f} to {v[-1]:.2f}" for name, v in falls.items())
show.curves(
    falls,
    bounds,
    xlabel="bound of the random field",
    alt=f"Dice on validation patients under random bias fields of growing bound: {ends}.",
)

# %% [markdown]
# Two numbers can be read off: the height of the curves, and how they fall. A method that trades a little of
# the first for a lot of the second is worth it where the next scanner is unknown, and not where it is the
# same one.

# %% [markdown]
# ## Deformation statistics
#
# Brightness is the scanner's. What about the body? A free attack on a displacement field tears the heart to
# pieces, and then the mask that moves along is a mask of nothing. Olut and colleagues ask the unlabelled images
# how bodies *do* differ. First each of them is registered with the labelled image it resembles most; no mask is
# needed for that. What comes out is a velocity a patient, and their principal components are the **modes** of
# this population:
#
# $$
# \phi_a = \exp\Big( \sum_m a_m \sigma_m d_m \Big), \qquad
# a^* = \arg\max_{|a_m| \le b} L_{sup}\big( x \circ \phi_a,\ y \circ \phi_a \big)
# $$

# %% tags=["nbval-ignore-output"]
motions = register_unlabelled(task, budget, seed=0)
modes = Modes.of(motions.velocities, 8)
print(f"{len(motions.velocities)} images registered")
print(f"variance that 8 modes explain: {modes.explained:.0%}")
random = modes.velocity(somewhere(torch.zeros(64, 8), 1.5))
print(f"places that fold at up to 1.5 deviations: {folded(integrate(random)):.2%}")

# %% [markdown]
# Slide along a mode. The image follows, and so does the mask, for both are read at the same places.

# %% tags=["nbval-ignore-output"]
index = task.labelled[4]
heart, outline = task.train.images[index][None], task.train.labels[index][None]
lines = torch.zeros(1, 1, 64, 64)
lines[..., 3::8, :] = lines[..., :, 3::8] = 1.0


def shaped(mode, coefficient):
    a = torch.zeros(1, 8)
    a[0, mode - 1] = coefficient
    motion = integrate(modes.velocity(a))
    grid = displaced(motion)
    seen, follows = warp(heart, grid), warp_labels(outline, grid)
    fig, axes = show.subplots(1, 2, width=4.4, height=2.4)
    show.overlay(axes[0], seen[0], follows[0])
    axes[1].imshow(warp(lines, grid)[0, 0], cmap="Greys", vmin=0, vmax=1.2)
    for ax, title in zip(axes, (f"mode {mode}: {coefficient:+g} σ", "the motion"), strict=True):
        ax.set_title(title)
        ax.axis("off")
    area = (follows == 3).sum() / (outline == 3).sum()
    return show.figure(
        fig,
        alt=f"The labelled slice with its contours, {coefficient:+g} deviations along mode {mode}, and a "
        f"grid that moves with it: the left ventricle has {area:.0%} of its area.",
    )


show.explore(
    shaped,
    mode=[1, 2, 3, 4],
    coefficient=[-3, -1.5, 0, 1.5, 3],
    labels={"mode": "mode", "coefficient": "coefficient (deviations)"},
    limit=80_000,
    alt="A labelled heart deformed along the modes of the population.",
)

# %% [markdown]
# Eight numbers instead of thousands of displacements. At three deviations look for bodies that you would not
# believe: the bound of one and a half is there to leave them out, and the exponential keeps the motion from
# folding. Now the ascent is the one you know, over $a$. To have a slope, the labels of the *ascent* are soft masks,
# warped linearly; the labels of the *descent* are hard, as ever.

# %%
show.code(DeformationAttack)

# %% [markdown]
# How much harder are worst bodies than random ones, for the baseline? And is the worst one a body?

# %% tags=["nbval-ignore-output"]
attack = DeformationAttack(net, modes, steps=4)
torch.manual_seed(3)
drawn = somewhere(torch.zeros(1, 8), attack.bound)
torch.manual_seed(3)
searched = attack.attack(heart, outline)
grids = [attack.grid(a) for a in (torch.zeros(1, 8), drawn, searched)]
bodies = torch.cat([warp(heart, grid) for grid in grids])
truths = torch.cat([warp_labels(outline, grid) for grid in grids])
hurt = [float(losses.dice_ce(net(x[None]), y[None])) for x, y in zip(bodies, truths, strict=True)]
show.images(
    bodies,
    labels=truths,
    predictions=baseline.predict(bodies).argmax(1),
    titles=["annotated", "random body", "worst body"],
    columns=4,
    names=names,
    alt="An annotated slice, a random and a worst deformation of it within the bound, with the moved "
    f"masks and the baseline's contours. The loss is {hurt[0]:.2f}, {hurt[1]:.2f} and {hurt[2]:.2f}.",
)

# %% [markdown]
# ## Fluid registration
#
# Shen and colleagues use the same registrations without an ascent. If one velocity leads from the annotated
# heart to patient 1 and another to patient 2, then on the ways, and between the ways, there are bodies that
# nobody has scanned:
#
# $$
# v = t \sum_k \lambda_k v_k, \qquad \sum_k \lambda_k = 1, \quad t \in [0, T], \qquad
# (x, y) \mapsto (x \circ \exp v,\ y \circ \exp v)
# $$
#
# Every point of that fan is a labelled image. At its tips it should look like the unlabelled ones. Below, one
# annotated slice and two of the patients that resemble it.

# %% tags=["nbval-ignore-output"]
hearts = (task.train.labels[task.labelled] > 0).flatten(1).float().mean(1) > 0.08
chosen = (motions.source.bincount(minlength=len(hearts)) * hearts).argmax()
mine = (motions.source == chosen).nonzero()[:, 0]
ways, targets = motions.velocities[mine], task.train.images[task.unlabelled[motions.target[mine]]]
start = task.train.images[task.labelled[chosen]][None]
drawn = task.train.labels[task.labelled[chosen]][None]
arrived = warp(start.expand(len(ways), -1, -1, -1), displaced(integrate(ways)))
alike = torch.cosine_similarity(arrived.flatten(1), targets.flatten(1))
good = alike.argsort(descending=True)[: max(len(ways) // 6, 2)]
one = good[(ways[good] - ways[good].mean(0)).flatten(1).norm(dim=1).argmax()]
two = good[(ways[good] - ways[one]).flatten(1).norm(dim=1).argmax()]
grids = [displaced(integrate((s * ways[one] + (1 - s) * ways[two])[None])) for s in (1, 0.5, 0)]
panels = {
    "patient 1": (targets[one], None),
    "annotated": (start[0], drawn[0]),
    "patient 2": (targets[two], None),
}
for title, grid in zip(("warped to 1", "half-way", "warped to 2"), grids, strict=True):
    panels[title] = warp(start, grid)[0], warp_labels(drawn, grid)[0]
fig, axes = show.subplots(2, 3, width=4.8, height=3.6)
for ax, (title, (picture, contours)) in zip(axes.flat, panels.items(), strict=True):
    show.overlay(ax, picture, contours)
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="Above, patient 1, the annotated slice with its contours, and patient 2; below, the annotated slice "
    "warped to patient 1, half-way, and to patient 2, with its contours. Correlation with the targets: "
    f"{alike[one]:.2f} and {alike[two]:.2f}.",
)

# %%
show.code(Fluid)

# %% [markdown]
# Look at shapes in the figure, not at brightness: a motion moves tissue, it does not repaint it. Where the
# registration stopped before it arrived, nothing is lost but realism. Image and mask have taken the **same** way,
# so the pair is a true pair wherever it ends.
#
# Now compare the two uses of one registration. The modes pool what all patients do and let an opponent choose; the
# fan keeps to real patients and draws at random. Neither can invent what a motion cannot reach: a scar, a tumour,
# another contrast.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats this with several draws of the labelled patients. Each
# method has its control. `steps=0` is the same method **without the ascent**: a random field, a random body.
# `virtual=0` uses no unlabelled image, `weight=0` no worst case with labels.

# %%
results = study.read()
MINE = ("adv-aug-general", "advbias", "olut-deformstats", "shen-fluid")
KIN = ("mean-teacher", "supervised", "full-labels")


def table(protocol):
    lines = study.summary(results, protocol)
    return show.scoreboard(
        [line for line in lines if line.method.split(":")[0] in MINE or line.method in KIN]
    )


table("cardiac-3")

# %% [markdown]
# One labelled brain, where deformations are the main difference between patients:

# %%
table("brain-1")

# %% [markdown]
# And trained on scanner A, tested on scanner B:

# %%
table("cardiac-shift")

# %% [markdown]
# Read the controls first. If `steps=0` does as well as the method, the gain, where there is one, belongs to
# the variety and to the consistency, not to the ascent. If a method is undecided against the baseline, these
# runs do not show what it costs *or* gains; look at the minutes then. Robustness to a change that the test
# images do not have need not show in the first table at all: the third is the fairer court for AdvBias, the
# second for the deformations. Where there is no row, nobody has run it yet.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You implement virtual adversarial training and start the ascent at r = 0. What happens?",
    {
        "The ascent finds the steepest direction.": "There is none at a minimum: the gradient is zero.",
        "The perturbation stays zero, and so does the loss term.": "The divergence from the own answer is "
        "least at no change; its slope there is zero.",
        "The loss becomes NaN.": "All is finite. That is what makes this mistake hard to notice.",
    },
    correct="The perturbation stays zero, and so does the loss term.",
)

# %%
quiz(
    "A paper compares adversarial bias fields with a baseline that has no bias-field augmentation, and gains "
    "three points. Which arm is missing?",
    {
        "A larger bound.": "That would tune the method, not explain it.",
        "Random fields of the same bound.": "Only the difference to them is due to the ascent.",
        "Full supervision.": "It tells how much there is to gain, not where the gain came from.",
    },
    correct="Random fields of the same bound.",
)

# %% [markdown]
# ## Exercises
#
# **1. The cost of worst.** Count the forward and backward passes of one step of AdvBias with $n$ ascent steps, in
# units of the baseline's step (8 labelled images; a backward pass costs two forward ones). What does that make
# of a comparison at equal steps?
#
# ```{dropdown} Hint
# The supervised term sees 8 images, everything else 16. Which passes need no gradient?
# ```
# ```{dropdown} Solution
# Baseline: one forward and one backward pass of 8 images, 3 units of 8 images. AdvBias adds the target (16
# images forward: 2 units), each ascent step (16 images forward and backward: 6), and the descent (6). Together
# $3 + 2 + 6n + 6 = 11 + 6n$ units, nearly six baselines for $n = 1$. (The gradient with respect to the weights is not
# needed in the ascent, which saves a part of it.) At equal *time* the baseline could train almost six times as
# long, or six seeds could vote: the row *supervised, longer* exists for that reason.
# ```
#
# **2. Two balls.** WorstCase bounds the largest change of a pixel with labels, and the root mean square without.
# Which of the two allows an attack to paint a bright spot of 20 pixels in a 64 x 64 image at $\epsilon = 0.1$?
# How bright?
#
# ```{dropdown} Hint
# The mean square over 4096 pixels is $\epsilon^2$. Put all of it into 20.
# ```
# ```{dropdown} Solution
# The largest change is at most 0.1 anywhere: no spot. The root mean square allows $20\, h^2 = 4096 \cdot 0.01$,
# so $h = 1.4$ image deviations, a spot that everybody sees. In practice one power-iteration step spreads the
# change over all edges, but the *bound* does not forbid the spot.
# ```
#
# **3. A body with a tumour.** All unlabelled patients are healthy. You register, find the modes, and train with the
# worst deformations. Will the network be more robust on a patient with a tumour? What could you change?
#
# ```{dropdown} Hint
# What do all elements of the subspace have in common?
# ```
# ```{dropdown} Solution
# Every warped image is the labelled one with its tissue moved: no new tissue appears. The tumour's displacement
# of its surroundings may be partly covered, if it resembles a mode; its brightness is not. Intensity changes that
# are local (an adversarial field with more control cells), pasted lesions, or unlabelled images of patients in
# a consistency term reach what deformations cannot.
# ```
#
# ## Take away
#
# - The inner player searches for the example that the network needs most; the outer one learns it.
# - The bound is the prior knowledge: pixels, coils, bodies. Ask of each whether the clinic will ever show it.
# - Without labels one climbs on the divergence from the own answer. Start anywhere but at no change.
# - Deformations take the mask along; statistics keep them human.
# - The control is the same change *without the ascent*. Only what exceeds it is due to being adversarial.
#
# **Reading.** {cite:t}`goodfellow2015explaining` and {cite:t}`madry2018towards` for the two moves,
# {cite:t}`wong2020fast` for the single step, {cite:t}`miyato2019virtual` for the virtual version,
# {cite:t}`chen2020realistic` for AdvBias, {cite:t}`olut2020adversarial` for the modes and
# {cite:t}`shen2020anatomical` for the fluid ones, over {cite:t}`arsigny2006log` for the exponential.
