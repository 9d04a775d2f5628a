# %% [markdown]
# # The baseline: the loop that everything is compared with
#
# <!-- badge -->
#
# **You will learn**
#
# - what the loss of this book asks for, and why it is a sum of two;
# - the training loop, twenty lines written by hand, and that `fit` is those lines;
# - what augmentation, batch size and the learning-rate cycle do for a few labelled images;
# - what one more labelled patient is worth: the gap that the rest of the book tries to close.
#
# **You should know** how a PyTorch network is trained, and what a mask costs
# ([the price of a label](price)). The network itself is the subject of [networks](networks).

# %% tags=["setup"]

# %%
import os
import tempfile
from dataclasses import replace

import numpy as np
import torch

from lsseg_edu import losses, networks, show, study
from lsseg_edu.augment import Augment
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.train import Budget, Run, Supervised, fit
from lsseg_edu.train.budget import one_cycle

cohort = load("cardiac")
task = Task.split(cohort, labelled=3, seed=0)
task

# %% [markdown]
# A new technique is worth what it adds to the best thing one could have done without it. That
# thing is the *supervised baseline*: the same network, trained on the labelled images alone, as
# well as we know how. A weak baseline makes any idea look good, so we give it care: this page is
# the recipe that every method of the book shares.

# %% [markdown]
# ## The loss
#
# A network answers every pixel $i$ with probabilities $p_k(i)$ over the classes $k$; the mask says
# $y_i$. The first loss counts pixels. *Cross-entropy* is the surprise at the right answer,
#
# $$
# L_{CE} = -\frac{1}{|\Omega|} \sum_{i \in \Omega} \log p_{y_i}(i).
# $$
#
# But look at what the pixels are, in the masks that we have:

# %%
labels = task.train.labels[task.labelled]
shares = labels.flatten().bincount() / labels.numel()
for name, share in zip(task.train.names, shares, strict=True):
    print(f"{name:<16} {share:6.1%}")

# %% [markdown]
# "Background everywhere" is right nearly always, and useless. The score that we care about,
# the Dice coefficient, does not count background: it is the overlap of two areas, relative to
# their size. The *soft Dice loss* puts probabilities in its place,
#
# $$
# L_{Dice} = 1 - \frac{1}{K} \sum_k \frac{2 \sum_i p_k(i)\, y_k(i) + \epsilon}
#   {\sum_i p_k(i)^2 + \sum_i y_k(i)^2 + \epsilon},
# $$
#
# with $y_k(i) = 1$ where the mask says $k$ and 0 elsewhere. An organ of fifty pixels now weighs as
# much as one of five thousand. As it stands in the library:

# %%
show.code(losses.dice)

# %% [markdown]
# Two choices are worth a look. The sums run over the *whole batch*: a slice that does not show the
# organ then is no case of its own, in which a single stray pixel would cost a full point. And pixels
# that nobody annotated (`IGNORE`) are taken out of all sums; half of this book depends on that.
#
# Why not Dice alone, then? A loss acts through its gradient, so we look at the gradient. Below, one
# organ lies in an image of 64 by 64 pixels, and a network gives every pixel the same probability
# that it is organ. Red pixels are pushed towards "organ", blue ones towards "background". The
# numbers say how large the whole push is, and how much harder a pixel of the organ is pushed than
# one of the background. Make the organ small, and then make the network sure of the wrong thing.

# %%
rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
distance = ((rows - 31.5) ** 2 + (columns - 31.5) ** 2).sqrt()
ANSWERS = {"unsure": 0.5, "background everywhere": 0.05, "background, very sure": 0.001}


def pushes(radius, probability):
    """Gradient descent's push on the organ's logit at every pixel, for both losses."""
    organ = (distance < radius).long()[None]
    answers = {}
    for name, loss in (("cross-entropy", losses.cross_entropy), ("Dice", losses.dice)):
        logits = torch.zeros(1, 2, 64, 64)
        logits[:, 1] = np.log(probability / (1 - probability))
        logits.requires_grad_()
        loss(logits, organ).backward()
        answers[name] = -logits.grad[0, 1]
    return organ[0].bool(), answers


def gradients(radius, answer):
    organ, answers = pushes(radius, ANSWERS[answer])
    fig, axes = show.subplots(1, 2, width=5.0, height=2.6)
    said = []
    for ax, (name, push) in zip(axes, answers.items(), strict=True):
        ax.imshow(push, cmap="RdBu_r", vmin=-3e-4, vmax=3e-4)
        times = push[organ].abs().mean() / push[~organ].abs().mean()
        said.append(f"{name}: push {push.abs().sum():.3f}, organ {times:.1f} x background")
        ax.set_title(said[-1].replace(", ", "\n"))
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"The push on every pixel; organ of radius {radius}, network {answer}. "
        + "; ".join(said)
        + ".",
    )


show.explore(
    gradients,
    radius=[3, 6, 12, 20],
    answer=list(ANSWERS),
    labels={"radius": "radius of the organ (pixels)", "answer": "the network is"},
    alt="Where cross-entropy and Dice push, for an organ of some size and a network of some opinion.",
)

# %% [markdown]
# Unsure: cross-entropy pushes every pixel alike, so of its whole push a small organ gets next to
# nothing. Dice pushes the pixels of the organ harder, the smaller it is. Very sure of background:
# now Dice hardly pushes at all. Its
# gradient passes through the softmax and carries a factor $p_k (1 - p_k)$, which is nearly zero
# where the network is confidently wrong. The cross-entropy's logarithm cancels that factor: its push on a
# pixel is $y_k - p_k$, largest where the answer is most wrong. One loss knows *what matters*, the other
# knows *how to leave a bad start*. We take the sum, equally weighted:

# %%
show.code(losses.dice_ce)

# %% [markdown]
# ## The loop
#
# Here is training, all of it, by hand. The images are in memory, so a batch is drawn by *index*; the
# whole batch is augmented at once; the learning rate follows one cycle, up and down.

# %%
brief = Budget("brief", steps=12)


def by_hand(net, budget, seed):
    generator = torch.Generator().manual_seed(2 * seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=budget.rate, weight_decay=1e-4)
    augment, curve = Augment.strong(), []
    for step in range(budget.steps):
        optimiser.param_groups[0]["lr"] = budget.rate * one_cycle(step / budget.steps)
        order = torch.randperm(len(task.labelled), generator=generator)
        index = task.labelled[order[: budget.batch]]
        images, labels = task.train.images[index], task.train.labels[index]
        images, labels = augment(images, labels, generator)
        loss = losses.dice_ce(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    return curve


mine = networks.unet(task, seed=0)
curve = by_hand(mine, brief, seed=0)

# %% [markdown]
# And here is the library, asked for the same: the same first weights, the same seed, the same twelve
# steps. Not "a similar curve": the same numbers, to the last bit, and in the end the same weights.

# %%
theirs = networks.unet(task, seed=0)
fitted = fit(Supervised(theirs), task, brief, seed=0, device="cpu", progress=False)
pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
same_weights = all(torch.equal(a, b) for a, b in pairs)
assert curve == fitted.history["supervised"] and same_weights
print(f"{brief.steps} losses, all equal: {curve == fitted.history['supervised']}")
print(f"all {sum(p.numel() for p in mine.parameters()):,} weights equal: {same_weights}")

# %% [markdown]
# ## fit
#
# So what is in `fit` that is not in the twenty lines? Its body is one function. Read it beside the
# loop above; the lines come in the same order.

# %%
show.code(Run.one_step)

# %% [markdown]
# | by hand | in `fit` | why |
# |---|---|---|
# | `order`, `index`, `augment` | `self.draw("labelled")` | a second pool, `"unlabelled"`, with a generator of its own, for methods that ask for it |
# | `losses.dice_ce(net(images), labels)` | `player.loss(batch)` | the idea of a method; a dictionary of named terms, each logged |
# | one network, one optimiser | `players` | two for adversarial methods, stepped in turn; else one |
# | `loss.backward()` | `scaler`, `autocast` | half precision on a GPU, where it saves time; on a CPU they do nothing |
# | `loss.item()` | `self.log` | a term that is not finite stops the training and is named |
# | | `after_step` | for what moves after the weights did: an average of them, say |
#
# The draw is worth a second look, for it is what makes comparisons fair. The labelled images of
# step $t$ depend on the seed alone: a method that *also* draws unlabelled images uses another
# generator for them, so baseline and method see the same labelled images, warped in the same way.
# ([Curricula](../semi/curriculum) hand in `chances`, to draw some images more often; without them all are alike.)

# %%
show.code(Run.draw)

# %% [markdown]
# A method is a small class around a network. The baseline is the smallest:

# %%
show.code(Supervised)

# %% [markdown]
# ### How long?
#
# `Budget` says how long to train, once, for a method and its baseline alike. `Budget.auto()` takes
# the one that the environment variable `LSSEG_EDU_BUDGET` names; without it, `gpu` where there is a
# GPU, else `laptop`. Every chapter of this book runs under all three. Here are their sizes, and here is the
# baseline on three labelled patients, trained:

# %%
for name in ("smoke", "laptop", "gpu"):
    print(Budget.named(name))

# %% tags=["nbval-ignore-output"]
budget = Budget.auto()
few = fit(Supervised(networks.unet(task)), task, budget, seed=0)
print(f"{budget.name}: {budget.steps} steps in {few.seconds:.0f} s")

# %% [markdown]
# ### The learning rate
#
# It rises for the first 15 % of the training and falls along half a cosine for the rest. The large
# rate in between finds a good region quickly; the small one at the end settles in it. Since the
# cycle is tied to the *fraction* of training done, it fits any budget, and since it ends near zero,
# the last weights are the ones to keep: nothing is chosen on any validation set.

# %%
progress = np.linspace(0, 1, 201)
show.curves(
    {"AdamW": [Budget.named("laptop").rate * one_cycle(t) for t in progress]},
    progress,
    xlabel="fraction of training done",
    ylabel="learning rate",
    alt="The learning rate rises steeply over the first seventh of the training, then falls along "
    "half a cosine to zero.",
)

# %% [markdown]
# ### The batch
#
# A step follows the gradient of a few images and hopes that it is the gradient of all. How well do
# the two agree? We compute the gradient of the cross-entropy (which is a plain mean over images) for each
# labelled slice, and compare the mean over random batches with the mean over all, by the cosine of
# the angle between them: 1 is the same direction, 0 is no relation. Once for the first weights, and once for
# the trained ones.


# %% tags=["nbval-ignore-output"]
def agreement(net, sizes=(1, 2, 4, 8, 16, 32), draws=30):
    single = []
    for i in task.labelled:
        images, labels = task.train.images[i : i + 1], task.train.labels[i : i + 1]
        loss = losses.cross_entropy(net(images), labels)
        gradient = torch.autograd.grad(loss, list(net.parameters()))
        single.append(torch.cat([g.flatten() for g in gradient]))
    single = torch.stack(single)
    orders = [torch.randperm(len(single)) for _ in range(draws)]
    batches = torch.stack([torch.stack([single[o[:n]].mean(0) for n in sizes]) for o in orders])
    return torch.cosine_similarity(batches, single.mean(0), dim=-1).tolist()


nets = {"before training": networks.unet(task), "after training": few.method.net.cpu()}
curves = {name: agreement(net) for name, net in nets.items()}
show.curves(
    curves,
    (1, 2, 4, 8, 16, 32),
    xlabel=f"labelled slices in the batch, of {len(task.labelled)}",
    ylabel="cosine with the full gradient",
    alt="Agreement of a batch's gradient with that of all labelled slices, for one and for eight slices: "
    + "; ".join(f"{k} {np.mean(v, 0)[0]:.2f} and {np.mean(v, 0)[3]:.2f}" for k, v in curves.items())
    + ".",
)

# %% [markdown]
# Before training the slices agree: all of them have the same to say, and any one will do. After
# training what is left is what they disagree about. One slice is then a poor guide to the others, and
# may point the wrong way; eight are a better one, at eight times the price. What remains of the noise
# does little harm: small steps average over it, and the falling learning rate makes the steps small.

# %% [markdown]
# ### Stopped, and continued
#
# Trainings get killed. With `checkpoint=` the loop saves what it would need to go on: weights, optimiser,
# the state of every random generator, the step. The file is written beside the old one and renamed,
# so there is always a whole one. Here we stop a training at its seventh step, as Ctrl-C would, and
# call `fit` again with the same line:


# %%
class Stopped(Supervised):
    def after_step(self, progress):
        if round(progress * brief.steps) == 7:
            raise KeyboardInterrupt


with tempfile.TemporaryDirectory() as folder:
    options = {"seed": 0, "device": "cpu", "progress": False}
    file = os.path.join(folder, "training.pt")
    half = fit(Stopped(networks.unet(task)), task, brief, checkpoint=file, **options)
    print(f"stopped after {len(half.history['supervised'])} steps, interrupted: {half.interrupted}")
    rest = fit(Supervised(networks.unet(task)), task, brief, checkpoint=file, **options)
pairs = zip(rest.method.parameters(), theirs.parameters(), strict=True)
print(f"continued to {len(rest.history['supervised'])} steps")
same = all(torch.equal(a, b) for a, b in pairs)
print(f"the same weights as the training that was never stopped: {same}")

# %% [markdown]
# ## Augmentation
#
# Three patients show three hearts, in three poses, with three sets of scanner faults. *Augmentation*
# makes the differences that the next patient will bring: rotation, size, shear, position and a
# smooth random deformation; then the scanner: uneven coil, grey scale, contrast, blur, noise. What
# moves, moves in image and mask alike, at the same places: the image is read between pixels, by
# linear interpolation, the mask at the nearest pixel, for there is no class between two classes.
#
# Choose how strong, and which half. Strength 1 is what the book trains with.

# %%
motion = ("rotation", "scale", "shear", "shift", "elastic")
scanner = ("bias", "gamma", "contrast", "blur", "noise")
parts = {"both": motion + scanner, "motion": motion, "scanner": scanner}
some = task.labelled[[4, 16, 29]]


def augmented(strength, part):
    scaled = {name: strength * getattr(Augment.strong(), name) for name in parts[part]}
    generator = torch.Generator().manual_seed(1)
    images, labels = task.train.images[some], task.train.labels[some]
    images, labels = replace(Augment.none(), **scaled)(images, labels, generator)
    return show.images(
        images,
        labels,
        titles=[f"patient {s}" for s in task.train.subjects[some].tolist()],
        alt=f"A slice of each labelled patient with its mask; augmentation: {part}, strength "
        f"{strength:g}.",
    )


show.explore(
    augmented,
    strength=[0, 0.5, 1, 2, 3],
    part=list(parts),
    limit=190_000,
    alt="The three labelled patients, augmented more or less strongly; the mask follows the image.",
)

# %% [markdown]
# At twice the strength you may not recognise a heart any more, and what you cannot, the network
# cannot learn from. There are no mirror images: the liver is on the right, and the right ventricle is on
# the left of the picture. A flip would teach what never occurs.
#
# What is it worth? The same training twice, with augmentation and without, judged on the
# *validation* patients, for this is a choice and choices are not made on the test set:

# %% tags=["nbval-ignore-output"]
plain = fit(Supervised(networks.unet(task)), task, budget, seed=0, augment=Augment.none())
both = {"strong augmentation": few, "no augmentation": plain}
for name, one in both.items():
    report = evaluate(one, task.valid, surfaces=False)
    loss = np.mean(one.history["supervised"][-20:])
    print(f"{name:<20} last training loss {loss:.3f}   validation Dice {report.mean_dice:.3f}")
show.curves(
    {name: one.history["supervised"] for name, one in both.items()},
    ylabel="training loss",
    window=max(1, budget.steps // 25),
    alt="Training loss of both runs; over the last steps "
    + ", ".join(f"{np.mean(r.history['supervised'][-20:]):.2f} with {n}" for n, r in both.items()),
)

# %% [markdown]
# Compare the two columns. Without augmentation the loss goes lower, because the same few slices come back
# every few steps and can be learnt by heart. The training loss says how well the network knows
# what it has seen. It says nothing about the next patient.

# %% [markdown]
# ## What another label buys
#
# Now the question of the book. The same loop, the same number of steps, and 1, 3, 10 or all 70 training
# patients with masks. Where two points stand above one another, other patients were drawn
# (and other first weights, other batches).

# %% tags=["nbval-ignore-output"]
seeds = budget.pick({1: 1, 70: 1}, {1: 2, 3: 2, 10: 1, 70: 1}, {1: 3, 3: 3, 10: 2, 70: 1})
scores = {3: [evaluate(few, task.test, surfaces=False).mean_dice]}
for amount, runs in seeds.items():
    for seed in range(1 if amount == 3 else 0, runs):  # one with three is there already
        given = Task.split(cohort, labelled=amount, seed=seed)
        one = fit(Supervised(networks.unet(given, seed=seed)), given, budget, seed=seed)
        report = evaluate(one, given.test, surfaces=False)
        scores.setdefault(amount, []).append(report.mean_dice)
means = {amount: np.mean(scores[amount]) for amount in sorted(scores)}
show.budget(
    {"supervised": scores},
    full=means[70],
    xlabel="training patients with masks",
    ylabel="test Dice",
    alt="Test Dice over the number of labelled patients: "
    + ", ".join(f"{mean:.2f} with {amount}" for amount, mean in means.items())
    + ".",
)

# %% tags=["nbval-ignore-output"]
amounts = list(means)
for a, b in zip(amounts[:-1], amounts[1:], strict=True):
    gain = 100 * (means[b] - means[a]) / (b - a)
    print(f"from {a:>2} to {b:>2} patients: {gain:+.2f} Dice points for each patient more")

# %% [markdown]
# Two things to take from the curve. Each further label buys less than the one before, so the first few are the ones to
# choose well. And with few labels it matters *which* patients they are: the spread between two draws of
# so few patients is part of the result, and a comparison that uses one draw has measured the draw.
#
# The distance from the first points to the dotted line is **the gap**: what all the other masks would have
# bought. Closing it without paying for them is what the methods of this book are for. The unlabelled
# images are there, and so are scribbles, boxes, and the masks of a hurried annotator.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) has the two ends of the curve with more seeds and longer
# training. `Dice loss` is the baseline with the Dice loss alone in place of the sum.

# %%
results = study.read()
arms = ("supervised", "full-labels", "dice-loss")
show.scoreboard([line for line in study.summary(results, "cardiac-3") if line.method in arms])

# %% [markdown]
# And the gap on every cohort, few labels against all:

# %%
for name in study.PROTOCOLS:
    lines = {line.method: line for line in study.summary(results, name)}
    whole = study.protocol(name)
    if whole.supervision == "full" and {"supervised", "full-labels"} <= set(lines):
        least, most = lines["supervised"], lines["full-labels"]
        gap = 100 * (most.dice.mean - least.dice.mean)
        print(
            f"{whole.cohort:<9} {whole.labelled} labelled: {least.dice.mean:.3f}   all: "
            f"{most.dice.mean:.3f}   gap {gap:4.1f} points   ({least.seeds} seeds)"
        )

# %% [markdown]
# `acdc` is a real cohort: cine MR of patients. The others are the phantoms of
# [the data](data), made to be as hard with few labels as real images are.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You train with the Dice loss alone. After a hundred steps the network answers `background` with "
    "probability 0.999 everywhere, and stays there. Why?",
    {
        "The organ is too small for Dice.": "Dice weighs an organ by overlap, whatever its size.",
        "Where the softmax is saturated, the gradient of Dice is nearly zero.": "It carries the factor "
        "p (1 - p). Cross-entropy does not, which is why it is in the sum.",
        "The learning rate is too small by now.": "A larger one would multiply a gradient of nearly "
        "zero.",
    },
    correct="Where the softmax is saturated, the gradient of Dice is nearly zero.",
)

# %%
quiz(
    "Two methods are trained with the same seed. Method B also draws unlabelled images. With one "
    "generator for all draws, what would be unfair?",
    {
        "B would need more memory.": "True, but no matter of fairness.",
        "B's labelled batches would differ from A's.": "The extra draws shift the random numbers, and "
        "with few labels the order and the warps of the images move the score.",
        "Nothing: the seed is the same.": "A seed fixes the sequence of numbers, not who gets which.",
    },
    correct="B's labelled batches would differ from A's.",
)

# %% [markdown]
# ## Exercises
#
# **1. The push.** Derive the two gradients of the figure: for one organ ($K = 2$), find
# $\partial L / \partial z_i$ of cross-entropy and of Dice with respect to the organ's logit $z_i$. Where does
# the factor $p (1 - p)$ come from, and why is it missing in one of them?
#
# ```{dropdown} Hint
# $p = \sigma(z)$ has $\partial p / \partial z = p (1 - p)$. What is $\partial \log p / \partial p$?
# ```
# ```{dropdown} Solution
# Cross-entropy: $\partial L / \partial z_i = (p_i - y_i) / |\Omega|$, for $1/p$ from the logarithm cancels $p$
# (and $1/(1-p)$ cancels $1-p$). Dice has no logarithm: with $I = \sum p y$ and
# $S = \sum p^2 + \sum y$, the organ's term gives $\partial L / \partial p_i = -(y_i S - 2 I p_i) / S^2$ (without the
# $\epsilon$, and with $1/K = 1/2$), times $p_i (1 - p_i)$. The background's term adds one of the same form.
# ```
#
# **2. Steps or labels?** Give the network with three labelled patients ten times as many steps. Does
# it reach the one with all labels? Say what you expect before you run it, and look at the validation set.
#
# ```{dropdown} Hint
# `replace(budget, steps=10 * budget.steps)`.
# ```
# ````{dropdown} Solution
# ```python
# longer = replace(budget, steps=10 * budget.steps)
# more = fit(Supervised(networks.unet(task)), task, longer, seed=0)
# evaluate(more, task.valid, surfaces=False).mean_dice
# ```
# Longer training helps until the three patients are known in every pose that the augmentation can make of them.
# It cannot invent a fourth heart. If your gain is large, the shorter training was too short, and a
# comparison with it would have flattered whatever was trained for longer.
# ````
#
# **3. Another schedule.** Replace the cycle by a constant rate in `by_hand`. Why must a method and its
# baseline never differ in this?
#
# ```{dropdown} Hint
# The weights at the end of a constant rate still tremble.
# ```
# ```{dropdown} Solution
# With a constant rate the last weights are one draw from a cloud around the optimum; the falling rate
# shrinks the cloud, and averaging weights (as Mean Teacher does) removes much of it as well. A
# method that averages, compared with a baseline of constant rate, would be paid for the cloud and not
# for its idea.
# ```

# %% [markdown]
# ## Take away
#
# - Cross-entropy leaves a bad start, Dice knows what matters; the sum does both.
# - `fit` is the twenty lines of this page. A method changes the loss, and nothing else.
# - The training loss knows nothing of the next patient. Augment, and choose on validation patients.
# - The gap between few labels and all labels is the prize; the draw of the few is part of the score.
#
# **Reading.** {cite:t}`milletari2016vnet` for the Dice loss; {cite:t}`loshchilov2019decoupled` for AdamW;
# {cite:t}`smith2019super` for the one cycle; {cite:t}`isensee2021nnunet` for how far a careful baseline
# goes.
