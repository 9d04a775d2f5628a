# %% [markdown]
# # Noisy labels: learning from masks that are partly wrong
#
# <!-- badge -->
#
# **You will learn**
#
# - four ways in which masks go wrong, and why they are not equally bad;
# - how a network first learns what is right and then memorises what is wrong;
# - how co-teaching turns this order of learning into a filter;
# - against which kind of noise the filter helps, and against which it cannot.
#
# **You should know** the loop of [the baseline](../foundations/baseline) and the metrics of
# [measuring honestly](../foundations/measuring).

# %% tags=["setup"]

# %%
import torch

from lsseg_edu import networks, show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.inaccurate.noise import CoTeaching, keep_rate, models, small_loss
from lsseg_edu.learn import quiz
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
clean = Task.split(load("cardiac"), labelled=20, seed=0)
clean

# %% [markdown]
# ## Noise models
#
# So far some labels were missing. Now none is missing, and some are lies: a tired annotator, a student
# who learnt the protocol yesterday, an automatic tool whose output nobody checked. Before asking what to
# do, we should know the enemy. Four simulators, each with one knob:
#
# | kind | what happens | knob |
# |---|---|---|
# | `pixel` | each pixel gets another class, at random | rate |
# | `class` | each pixel of a class is taken for the next class, at random | rate |
# | `boundary` | each object is drawn too wide or too tight, all along its contour | pixels |
# | `item` | some slices are drawn in the wrong place, the others well | fraction of slices |
#
# Rates of different kinds cannot be compared: how many flipped pixels are as bad as a shifted contour? So
# we put all of them on the scale that the field measures by, *severity*: one minus the Dice between the
# noisy mask and the clean one.

# %%
labelled = clean.train.labels[clean.labelled]
slices = clean.labelled[[2, 15]]
levels = {"pixel": [0.1, 0.2, 0.4], "class": [0.1, 0.2, 0.4]}
levels |= {"boundary": [1, 2, 3], "item": [0.25, 0.5, 1.0]}


def noisy_masks(kind, strength):
    level = levels[kind][["low", "middle", "high"].index(strength)]
    noisy = models.corrupt(clean, kind, level, seed=0).train.labels
    severity = models.severity(noisy[clean.labelled], labelled, clean.train.classes)
    return show.images(
        clean.train.images[slices],
        labels=noisy[slices],
        titles=[f"{kind}, level {level:g}", f"severity {severity:.2f}"],
        names=clean.train.names,
        alt=f"Two hearts with labels of {kind} noise at level {level:g}, severity {severity:.2f}.",
    )


show.explore(
    noisy_masks,
    kind=list(levels),
    strength=["low", "middle", "high"],
    labels={"kind": "kind of noise"},
    limit=160_000,
    alt="Labels of two slices under four kinds of noise at three levels.",
)

# %% [markdown]
# Look at `pixel` and `boundary` at levels of similar severity. The first is ugly and harmless: the wrong
# pixels are scattered, any average over a neighbourhood votes them down, and a convolutional network
# averages over neighbourhoods by construction. The second looks like a perfectly good segmentation. Its
# errors lie side by side, all on the same side of the contour, and no average removes them.

# %% [markdown]
# ## First learn, then memorise
#
# What does a network do with wrong labels? Watch it. While it trains on masks with a part of the pixels
# flipped, we ask at regular intervals, on its own training slices: of the pixels whose label is **wrong**,
# how many does it give the *true* class, and how many the *wrong* one it was taught? (We may ask, because we
# made the noise. With real noise nobody can.)


# %% tags=["nbval-ignore-output"]
class Watched(Supervised):
    """The baseline, with a look at what it believes about the wrong labels."""

    def __init__(self, net, task, truth):
        super().__init__(net)
        self.images, self.given = (
            task.train.images[task.labelled[:48]],
            task.train.labels[task.labelled[:48]],
        )
        self.truth = truth.train.labels[task.labelled[:48]]
        self.seen = []

    def after_step(self, progress):
        step = round(progress * budget.steps)
        if step % max(1, budget.steps // 25) == 0:
            says = self.net(self.images).argmax(1)
            wrong = self.given != self.truth
            right, fooled = (
                (says == y)[wrong].float().mean().item() for y in (self.truth, self.given)
            )
            self.seen.append((step, right, fooled))


noisy = {
    kind: models.corrupt(clean, kind, level) for kind, level in (("pixel", 0.4), ("boundary", 3))
}
watched = {}
for kind, task in noisy.items():
    watched[kind] = fit(Watched(networks.unet(task), task, clean), task, budget, seed=0)
steps = [s for s, _, _ in watched["pixel"].method.seen]
show.curves(
    {
        f"{kind}: {what}": [row[column] for row in fitted.method.seen]
        for kind, fitted in watched.items()
        for column, what in ((1, "says the truth"), (2, "says the wrong label"))
    },
    steps,
    ylabel="fraction of wrongly labelled pixels",
    alt="On wrongly labelled pixels, over training: how often the network says the truth and how often "
    "it repeats the wrong label, for flipped pixels and for moved boundaries.",
)

# %% [markdown]
# Two different stories. Flipped pixels cannot be predicted from the image, so the network has to store them
# one by one; a small network in a short, well augmented training hardly does. A moved boundary *can* be
# predicted: the network needs no memory to draw all contours a little wide, or to blur the difference between
# those who draw wide and those who draw tight.
#
# In both stories the truth, if it is learnt at all, is learnt *first*. That order is the one thing we can use.

# %% [markdown]
# ## Co-teaching
#
# If clean labels are fitted first, then early on a label with a **small loss** is probably clean. So: train
# only on the labels of smallest loss. But a network that picks its own lessons keeps its own errors: once it
# believes a wrong label, the loss there is small, and the label is picked again. Han and colleagues use two
# networks with different starting weights. Each ranks the labels by its loss, and each learns from what **the
# other** picked:
#
# $$
# \theta_A \leftarrow \theta_A - \lambda \nabla L\big(\theta_A;\ \{ i : \ell_i(\theta_B) \text{ among the smallest } R(t) \}\big),
# \qquad
# R(t) = 1 - \tau \min(t / T_k, 1),
# $$
#
# and the same with $A$ and $B$ exchanged. The keep rate $R(t)$ starts at 1, since a network that knows nothing
# cannot rank, and falls to $1 - \tau$ before memorising begins.

# %%
show.code(CoTeaching.loss)

# %%
show.code(small_loss)

# %%
progress = torch.linspace(0, 1, 101).tolist()
show.curves(
    {f"τ = {rate}": [keep_rate(t, rate, 0.3) for t in progress] for rate in (0.1, 0.2, 0.4)},
    progress,
    xlabel="fraction of training done",
    ylabel="fraction of labels kept, R(t)",
    alt="Three keep rates falling linearly from 1 to 0.9, 0.8 and 0.6 over the first 30 % of training.",
)

# %% [markdown]
# One decision is ours, not the paper's: it ranks whole images of a classification batch, here the unit is a pixel. And one is
# yours: $\tau$. The paper sets it to the noise rate. Here we may compute that rate, since we made the noise; on real data it has
# to be estimated, from a few slices drawn twice, say.

# %% tags=["nbval-ignore-output"]
taught = {}
for kind, task in noisy.items():
    wrong = (task.train.labels != clean.train.labels)[task.labelled].float().mean().item()
    taught[kind] = fit(CoTeaching.for_task(task, noise_rate=wrong), task, budget, seed=0)
    dice = [evaluate(f, clean.test, False).mean_dice for f in (watched[kind], taught[kind])]
    print(
        f"{kind} noise, {wrong:.0%} of the pixels wrong: test Dice {dice[0]:.3f} trusting all labels, "
        f"{dice[1]:.3f} with co-teaching"
    )

# %% [markdown]
# Did it really sort the clean from the wrong? Here is what network B trusts at the end, at several keep rates, and
# how many of the pixels it gave up were in fact wrong (its *precision*, which needs the truth, so one can only
# compute it in a simulation).

# %% tags=["nbval-ignore-output"]
watch = clean.labelled[[2, 15]]


def trusted(noise, dropped):
    task, method = noisy[noise], taught[noise].method
    x, given, truth = task.train.images[watch], task.train.labels[watch], clean.train.labels[watch]
    with torch.no_grad():
        keep = small_loss(method.peer(x), given, 1 - dropped)
    gone = ~keep
    precision = (given != truth)[gone].float().mean() if gone.any() else torch.tensor(0.0)
    fig, axes = show.subplots(1, 2, width=5.2, height=2.9)
    for ax, image, y, g in zip(axes, x, given, gone, strict=True):
        show.overlay(ax, image, y)
        ax.imshow(torch.where(g, 1.0, torch.nan), cmap="autumn", alpha=0.6, vmin=0, vmax=2)
        ax.axis("off")
    fig.suptitle(
        f"given up: {gone.float().mean():.0%} of pixels, {precision:.0%} of them wrongly labelled",
        fontsize=10,
    )
    return show.figure(
        fig,
        alt=f"{noise} noise: with {dropped:.0%} of each class given up, {precision:.0%} of these pixels "
        "are wrongly labelled.",
    )


show.explore(
    trusted,
    noise=list(noisy),
    dropped=[0.0, 0.05, 0.1, 0.2, 0.4],
    labels={"noise": "kind of noise", "dropped": "fraction given up"},
    limit=170_000,
    alt="Which labels the peer network gives up, and how many of them were wrong.",
)

# %% [markdown]
# ## What the scoreboard says
#
# The row *full labels* is the same twenty subjects with clean masks: what the noise costs is the gap between it
# and the baseline that trusts every label. Co-teaching is told the noise rate, as in the paper.

# %%
results = study.read()
for name in study.PROTOCOLS:
    for line in study.summary(results, name):
        if line.method.startswith("co-teaching"):
            print(f"{name}: {line.method} against trusting all labels: {line.verdict}")

# %% [markdown]
# Flipped pixels:

# %%
show.scoreboard(study.summary(results, "cardiac-pixel"))

# %% [markdown]
# Moved boundaries:

# %%
show.scoreboard(study.summary(results, "cardiac-boundary"))

# %% [markdown]
# Moved boundaries on real cardiac MR (ACDC, 20 of 70 patients, simulated noise):

# %%
show.scoreboard(study.summary(results, "acdc-boundary"))

# %% [markdown]
# Three questions to ask of these tables. Is there a gap at all, that is, did the noise hurt the baseline? If
# not, no method can help. Does the interval of the difference exclude zero? If not, these runs do not decide.
# And is the kind of noise one that a small loss betrays? A contour that is drawn too wide *consistently* has a
# small loss: it is wrong in a way that the images explain.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "Co-teaching with two networks that start from the same weights and see the same batches: what is it?",
    {
        "The same as with different weights, only cheaper.": "Both rank alike, for ever: the exchange "
        "exchanges nothing.",
        "One network that picks its own lessons.": "Equal weights give equal losses, so each gets back its own "
        "choice. The library refuses two equal networks.",
        "An ensemble.": "An ensemble of equal networks is one network.",
    },
    correct="One network that picks its own lessons.",
)

# %%
quiz(
    "Two data sets: one with 20 % of pixels flipped at random, one whose annotator draws every contour two pixels wide. Which is the worse to learn from?",
    {
        "The flipped one: its severity is higher.": "It may well be, and the network averages it away.",
        "The wide one.": "Its error has a pattern that the images explain, so it is learnt like the truth, "
        "and no amount of such data removes it.",
        "They are the same if the Dice to the clean masks is the same.": "Severity measures the labels, not what "
        "a network makes of them.",
    },
    correct="The wide one.",
)

# %% [markdown]
# ## Exercises
#
# **1. Own choice.** Change `CoTeaching.loss` so that each network learns from its *own* small-loss labels. Which
# of the two lines must change, and what do you expect of the memorisation curve?
#
# ```{dropdown} Hint
# Look at which mask goes into which `labels.where(...)`.
# ```
# ```{dropdown} Solution
# Exchange `trusted_by_a` and `trusted_by_b`. A wrong label that network A has once fitted has a small loss *for A*
# and is picked again: errors feed themselves. With the exchange, A's error must also have been made by B, whose
# weights and therefore whose accidents are different.
# ```
#
# **2. The wrong noise rate.** The labels are clean, but you run co-teaching with $\tau = 0.2$. What do you lose, and
# where in the image?
#
# ```{dropdown} Hint
# Which clean pixels have the largest loss?
# ```
# ```{dropdown} Solution
# A fifth of the pixels is given up although nothing is wrong: the hard ones, at boundaries, in thin walls, in
# the patient who differs from all others, and with them most of the smallest organ. Those carry most of the information that is left to learn. A hard example
# and a wrong label look the same to a loss; this is the price of every small-loss method.
# ```
#
# **3. A better question.** A contour that is always too wide has a small loss. Suppose three annotators drew each mask,
# one wide, one tight, one fair. Propose something to do with the three masks *before* any training.
#
# ```{dropdown} Hint
# The errors of different people point in different directions.
# ```
# ```{dropdown} Solution
# Fuse them: a majority vote per pixel removes what only one of them did, and STAPLE also weighs each annotator by an
# estimate of their reliability. Noise that is systematic for one annotator is random across annotators, and random
# noise averages out. (Atlases are fused in the same way.)
# ```

# %% [markdown]
# ## Take away
#
# - Noise has a kind, not only a rate. Random errors average out; systematic ones are learnt.
# - Networks learn clean labels first. A small loss early on is evidence, not proof.
# - Let another network choose your lessons, and evaluate one network, not the average of two.
# - Hard and wrong look alike to a loss.
#
# **Reading.** {cite:t}`han2018co` introduce co-teaching; {cite:t}`zhang2017understanding` show that networks can
# memorise any labels; {cite:t}`arpit2017closer` show that they learn the simple patterns first.
