# %% [markdown]
# # Self-training: a network that marks its own homework
#
# <!-- badge -->
#
# **You will learn**
#
# - how a network labels the images nobody labelled, and why another one can gain from that;
# - what a confidence threshold buys and what it costs, and why it cannot catch a confident mistake;
# - how a dense conditional random field mends a segmentation: its energy, its update, its two kernels;
# - five ways to hand on a label, and the arm that a method of several trainings must be compared with.
#
# **You should know** the loop of [the baseline](../foundations/baseline) and what makes a comparison fair
# ([measuring honestly](../foundations/measuring)).

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch

from lsseg_edu import networks, show, study
from lsseg_edu.data import IGNORE, Task, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.self_training import (
    PseudoLabelled,
    TeacherStudent,
    UncertaintyWeighted,
    affinity,
    crf_self_training,
    growing_self_training,
    hard_labels,
    mean_field,
    pseudo_label_quality,
    self_training,
    with_pseudo,
)
from lsseg_edu.semi.self_training.dense_crf import offsets
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
short = replace(budget, steps=budget.pick(6, 250, 1000))
everyone = Task.split(load("cardiac"))
task = everyone.keep(labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# Three patients have masks, sixty-seven have images only. The baseline leaves those aside, although it
# can segment them: not well, but not blindly either. So let it. A network trained on the three, from now
# on the **teacher**, draws masks for all the others, and where it is not sure it draws nothing. These masks
# are called **pseudo-labels**. Then a fresh network, the **student**, learns from the three patients and
# from the sixty-seven together. Since the student may now be the better one, let it label, and train a
# third. That is what the next cell does, with somewhat shorter trainings than elsewhere in the book,
# because there are several.

# %% tags=["nbval-ignore-output"]
trained = self_training(task, short, seed=0, rounds=2, threshold=0.9)

shown = task.unlabelled[::4]  # every fourth slice is enough for the figures
images = task.train.images[shown]
answers = [one.predict(images) for one in trained.rounds]
some = [4, 40, 76, 100, 172]
pseudo = hard_labels(answers[0][some], threshold=0.9)
show.images(
    images[some],
    labels=pseudo,
    titles=[f"{(labels != IGNORE).float().mean():.0%} labelled" for labels in pseudo],
    fill=True,
    hatch=True,
    names=task.train.names,
    alt="Five hearts that nobody labelled, with the areas that the teacher drew in them and, hatched, the "
    "pixels that it left open, in and around the heart.",
)

# %% [markdown]
# Coloured is what the student will learn, tinted white is what it will learn as background, hatched is
# what nobody tells it anything about. *Not labelled* and *background* are different things. A mask that
# writes 0 where the teacher hesitates teaches the student that whatever is difficult is background.

# %% [markdown]
# ## Pseudo-labels
#
# In the paper's letters, with labelled images $x_l$ and unlabelled ones $x_u$: the teacher's answer
# $p = f_{\theta_{r-1}}(x_u)$ becomes a label at the pixels where its largest probability reaches $\tau$,
#
# $$
# \hat y_i = \arg\max_k p_{ik} \quad \text{if } \max_k p_{ik} \ge \tau, \qquad
# \theta_r = \arg\min_\theta\ L_{sup}\big(f_\theta(x_l), y\big) + w\, L_{sup}\big(f_\theta(x_u), \hat y\big) .
# $$
#
# The two halves alternate, for $r = 1, 2, \dots$ rounds. There is no new loss in it, only new labels.

# %%
show.code(hard_labels)

# %%
show.code(PseudoLabelled.loss)

# %%
show.code(self_training)

# %% [markdown]
# Three things to notice:
#
# - every student is **fresh**: weights of its own, batches of its own. A student that goes on from the
#   teacher's weights starts with a loss near zero, since the labels are what these weights say;
# - the labels are **fixed** while a student learns, and no gradient flows into them. Nobody can satisfy the loss by
#   changing the question;
# - a batch holds as many labelled images as pseudo-labelled ones, although there are over twenty times more
#   of the latter. The true masks keep half a vote.
#
# **Why should it help at all?** A pseudo-label holds no knowledge that the teacher did not have. But the
# student is not the teacher. It sees the new images warped, in other contrasts, and must give the same label,
# as in [weak-to-strong](weak_to_strong) training. And a small network cannot learn *everything* by heart. If the
# teacher's mistakes are like dice, wrong here and right there in pictures that look alike, the student learns
# what the labels have in common, and the dice average out. If the teacher is wrong **in the same way each time**,
# the same argument works against us: then the mistake *is* what the labels have in common.

# %% [markdown]
# ## Precision and coverage
#
# A threshold trades one for the other. **Precision**: of the pixels that were given an organ, how many are of
# it? **Coverage**: of the true organ's pixels, how many were given any label? Choose a threshold and the
# network that labels; round 0 is the teacher that saw the three patients only. The areas are true, the lines are
# pseudo-labels. *(Truth is used for display only: these phantoms have it for all patients. With real
# unlabelled images you could not draw this figure, and nothing here is chosen by it.)*

# %% tags=["nbval-ignore-output"]
truth = everyone.train.labels[shown]
thresholds = [0.0, 0.5, 0.7, 0.9]
quality = [
    [pseudo_label_quality(hard_labels(answer, tau), truth) for tau in thresholds]
    for answer in answers
]


def believed(threshold, round):
    now = quality[round][thresholds.index(threshold)]
    fig, (left, right) = show.subplots(1, 2, width=5.0, height=2.2)
    show.overlay(left, images[40], truth[40], hard_labels(answers[round][40:41], threshold)[0])
    left.set_title(f"labelled by round {round}")
    for number, (line, style) in enumerate(zip(quality, ("o-", "s--", "^:"), strict=True)):
        x, y = [q.coverage_foreground for q in line], [q.foreground for q in line]
        right.plot(x, y, style, color="#595959", ms=4, lw=1, label=f"round {number}")
    right.plot(
        now.coverage_foreground, now.foreground, "o", ms=11, mfc="none", mec="#D55E00", mew=2.2
    )
    right.set(xlabel="coverage of the organs", ylabel="precision")
    right.legend(loc="best")
    return show.figure(
        fig,
        alt=f"Round {round}, threshold {threshold:g}: of the pixels given an organ {now.foreground:.1%} are right; "
        f"{now.coverage_foreground:.1%} of the organs' pixels have a label, {now.coverage:.1%} of all pixels.",
    )


show.explore(
    believed,
    threshold=thresholds,
    round=[0, 1, 2],
    labels={"threshold": "threshold τ", "round": "round"},
    limit=72_000,
    alt="One unlabelled heart with its truth and its pseudo-labels, and precision over coverage for all "
    "thresholds and rounds.",
)

# %% [markdown]
# Raise the threshold: the lines shrink or break up, coverage falls, and precision should rise. What is lost are
# the pixels at which the teacher hesitates, and those are the ones a student could learn most from. Beware of
# careless definitions, too: of *all* pixels most have a label even at a high threshold, because the
# background is large and easy. That number looks good whatever becomes of the organs.
#
# Now change the round. If a curve lies above the one before it, the labels got better. If it moves to the
# **right** at the same height, the next network is *surer* of labels that are *no better*. Both happen; look which
# of them you see here.

# %% [markdown]
# ## Confirmation bias
#
# Take the pixels at which the teacher's pseudo-labels are **wrong**. What do other networks say just there?
# Four of them, of equal architecture:
#
# - the *student of round 1*, which was taught these mistakes;
# - the *student of round 2*, which was taught by that student, and has never seen the teacher's labels;
# - a *baseline*: trained on the three patients only, from other weights. It has seen no pseudo-label at all;
# - a student *taught the truth*: the student of round 1 once more, same weights, same batches, but with true
#   masks in place of the pseudo-labels. This is not a method, it is the reference.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised.for_task(task, seed=0), task, short, seed=0)
true_masks = everyone.train.labels[task.unlabelled]
true_task = with_pseudo(task, task.unlabelled, true_masks)
taught = fit(PseudoLabelled.for_task(task, seed=1000), true_task, short, seed=1000)

given = hard_labels(answers[0], 0.9)
mistake = (given != IGNORE) & (given != truth)
others = {
    "student of round 1": answers[1],
    "student of round 2": answers[2],
    "baseline": baseline.predict(images),
    "taught the truth": taught.predict(images),
}
shares = {}
for name, answer in others.items():
    said = answer.argmax(1)[mistake]
    same, right = (said == given[mistake]), (said == truth[mistake])
    shares[name] = [float(m.float().mean()) for m in (same, ~same & ~right, right)]

fig, ax = show.subplots(height=2.3)
left = np.zeros(len(shares))
PARTS = (
    ("the same mistake", "#D55E00", "//"),
    ("another mistake", "#BBBBBB", ""),
    ("right", "#56B4E9", ".."),
)
for number, (part, colour, hatch) in enumerate(PARTS):
    width = np.array([share[number] for share in shares.values()])
    style = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": part}
    ax.barh(list(shares), width, left=left, **style)
    left += width
ax.invert_yaxis()
ax.set_xlabel(f"share of the {int(mistake.sum())} pixels that the teacher labelled wrongly")
fig.legend(loc="outside upper center", ncols=3)
show.figure(
    fig,
    alt="What four networks say where the teacher's pseudo-labels are wrong. "
    + "; ".join(f"{n}: {s:.0%} the same mistake, {r:.0%} right" for n, (s, _, r) in shares.items()),
)

# %% [markdown]
# Read the bars from below. *Taught the truth* shows how many of these pixels can be learnt by this network in
# this time. The *baseline* shows how many of the mistakes are **shared without any teaching**: it learnt from the
# same three patients, so it has the same gaps. What the student of round 1 repeats beyond the baseline is
# **confirmation**: the mistake was in its labels, and it was paid for repeating it. And the student of
# round 2 passes on what it never saw.
#
# A student that repeats *fewer* of them than the baseline would have averaged something out; that is the gain one hopes
# for. Either way, the distance to the lowest bar is what wrong labels cost at these pixels, and nothing in the
# student's loss knows which they are.
#
# Can the next threshold not take them out? Only if the mistakes are *unsure*. Here are all wrong pixels of
# each round, and how sure the network is of them.

# %% tags=["nbval-ignore-output"]
levels = np.linspace(0.25, 0.999, 100)
sure = {}
for number, answer in enumerate(answers):
    confidence, label = answer.max(1)
    wrong = confidence[label != truth]
    sure[f"round {number}"] = [float((wrong >= level).float().mean()) for level in levels]
    above = (wrong >= 0.9).float().mean()
    print(
        f"round {number}: {len(wrong) / truth.numel():.2%} of the pixels are wrong; "
        f"of these {above:.0%} with a confidence of 0.9 or more"
    )
show.curves(
    sure,
    levels,
    xlabel="confidence",
    ylabel="share of the wrong pixels",
    alt="For each round, the share of the wrong pixels whose confidence is at least so large: it falls with the "
    "confidence, but a part of the wrong pixels is as sure as any.",
)

# %% [markdown]
# A curve that stays higher towards the right end belongs to a network that is *confident and wrong* more often. Training
# on hard labels works in that direction: cross-entropy with a hard label is not content until the probability is 1,
# whether the label is right or not. So a threshold that was chosen for the teacher means something else for the student.
#
# What helps, then? Labels from somewhere else than one's own answer: soft targets, the image's edges, other
# images first, the teacher's doubts. These are the next four sections. Before them, what this one training
# amounts to, on validation patients (the test patients are left to the scoreboard):

# %% tags=["nbval-ignore-output"]
for name, fitted in (("supervised", baseline), ("self-training, two rounds", trained)):
    report = evaluate(fitted, task.valid, surfaces=False)
    print(f"{name:<26} Dice {report.mean_dice:.3f}, calibration error {report.ece:.3f}")

# %% [markdown]
# Same first weights, same labelled images in the same order, same steps in the last training. But *three*
# trainings stand behind the second line, and one behind the first. We come back to that.

# %% [markdown]
# ## Teacher and student
#
# Self-training is one case of a general scheme: **one set of weights gives targets, another one learns them.**
# The teacher may stand still, as here, or follow the student as a moving average, which is
# [Mean Teacher](consistency.ipynb#mean-teacher). The target may be a hard label, or the whole distribution $\bar p$ of
# the teacher, as in Hinton's distillation:
#
# $$
# L = L_{sup} + w\, \frac{1}{|\Omega|} \sum_i KL\big(\bar p_i \,\Vert\, f_\theta(A x)_i\big), \qquad
# \bar p = f_{\theta_T}(x) .
# $$
#
# Let the teacher say 0.6 for an organ. What does each target ask of a student that stands at $p$? The push is the
# slope of the loss with respect to the student's logit, turned around.

# %%
p = torch.linspace(0.01, 0.99, 99)
show.curves(
    {"hard label (at least 0.5)": 1 - p, "soft target 0.6": 0.6 - p, "soft target 0.95": 0.95 - p},
    p,
    xlabel="the student's probability of the organ",
    ylabel="push on its logit",
    alt="Three falling straight lines. The push of the hard label is zero only at probability 1; that of the soft "
    "targets is zero at 0.6 and at 0.95, and negative beyond.",
)

# %% [markdown]
# The hard label pulls to 1. The soft target **pulls back** a student that becomes surer than its teacher. So
# doubt is handed on, which a threshold can only cut out, and a wrong pixel at 0.6 is repeated at 0.6.
# What is lost is the sharpening: if the teacher's 0.6 was right in most places, the student would have gained from
# rounding it up.

# %%
show.code(TeacherStudent)

# %% [markdown]
# The teacher sees the image lightly augmented, the student the same image *repainted*: without a harder question
# a student of equal size could only copy. The teacher is a copy, frozen, without dropout; and it is asked anew for each
# augmented image instead of once for all, which costs a forward pass a step.

# %% [markdown]
# ## The dense CRF
#
# The network decides about each pixel by itself, at the end. Two things it then leaves unused: pixels next
# to each other mostly have the same label, and where the label changes the *image* mostly changes too. A
# **conditional random field** puts both into one number. A labelling $y$ of the whole image has an energy,
#
# $$
# E(y) = \underbrace{-\sum_i \ln p_{i y_i}}_{\text{what the network says against it}}
#      + \underbrace{\sum_{i<j} [y_i \ne y_j]\; \kappa_{ij}}_{\text{a fee for each pair it tears apart}} ,
# $$
#
# and the fee is high for pairs that belong together:
#
# $$
# \kappa_{ij} = w_1 \exp\!\Big(\!-\frac{|r_i - r_j|^2}{2\theta_\alpha^2} - \frac{|x_i - x_j|^2}{2\theta_\beta^2}\Big)
#             + w_2 \exp\!\Big(\!-\frac{|r_i - r_j|^2}{2\theta_\gamma^2}\Big) .
# $$
#
# The first kernel is the **appearance** kernel: near *and* alike. The second is the **smoothness** kernel: near,
# whatever is to be seen. ("Dense" means that all pairs count, not the four neighbours only. Both kernels are
# also normalised, so that a pixel's fees add up to about $w_1 + w_2$.)
#
# In six pixels all of this can be done by hand. Three dark pixels, three bright ones; the network holds one of
# the dark ones for heart:

# %%
x = torch.tensor([0.0, 0.1, -0.1, 2.0, 2.1, 1.9])  # intensities
heart = torch.tensor([0.1, 0.2, 0.6, 0.7, 0.55, 0.9])  # what the network says
r = torch.arange(6.0)


def kernel(exponent):
    k = torch.exp(-exponent).fill_diagonal_(0)
    return k / k.sum(1).outer(k.sum(1)).sqrt()


apart, unlike = (r[:, None] - r) ** 2, (x[:, None] - x) ** 2
kappa = 2.0 * kernel(apart / (2 * 3.0**2) + unlike / (2 * 0.5**2)) + 1.0 * kernel(apart / 2)

every = torch.cartesian_prod(*[torch.arange(2)] * 6)  # all 64 labellings
said = torch.stack([1 - heart, heart]).log()
network_cost = -said[every, torch.arange(6)].sum(1)
fees = ((every[:, :, None] != every[:, None, :]) * kappa).sum((1, 2)) / 2
energy = network_cost + fees

decision = (every == (heart > 0.5)).all(1).int().argmax()
for index in (decision, torch.tensor(0), energy.argmin()):
    labelling = "".join(".H"[label] for label in every[index])
    cost, fee = network_cost[index], fees[index]
    print(f"{labelling}   network {cost:.2f} + fees {fee:.2f} = {cost + fee:.2f}")

# %% [markdown]
# The first line is the network's own decision, the cheapest one without fees. The second tears nothing apart and pays
# no fee at all, but has most of the network against it. The third is the cheapest of all 64: the wrong pixel costs a little to
# change and much to keep, since it looks like its dark neighbours.
#
# An image has $4^{4096}$ labellings, so nobody goes through them. **Mean field** keeps one distribution $q_i$ a pixel,
# and looks for the product of these that comes closest to the distribution $e^{-E(y)}$ (in Kullback-Leibler
# divergence). Setting the derivative to zero gives an equation that is used as an update, all pixels at once:
#
# $$
# q_{il}\ \propto\ \exp\Big(\underbrace{\ln p_{il}}_{\text{the network}} + \underbrace{\sum_{j \ne i} \kappa_{ij}\, q_{jl}}_{\text{the mail}}\Big) .
# $$
#
# Each pixel gets mail from all the others: "I hold $l$ for likely, as far as $q_j$", weighted by how much the two
# belong together. It adds the mail to what the network told it, and makes probabilities of the sum. Then again, since
# the others have changed their minds as well. With six pixels we can compare with the exact answer:

# %%
weight = torch.exp(-energy)
exact = (weight[:, None] * every).sum(0) / weight.sum()

q = heart.clone()
for _ in range(5):
    mail = torch.stack([kappa @ (1 - q), kappa @ q])
    q = (said + mail).softmax(0)[1]

probs = torch.stack([1 - heart, heart]).view(1, 2, 1, 6)
options = {"appearance": 2.0, "smoothness": 1.0, "near": 3.0, "alike": 0.5, "close": 1.0}
library = mean_field(probs, x.view(1, 1, 1, 6), steps=5, radius=5, **options)[0, 1, 0]
print("intensity        ", *(f"{v:5.1f}" for v in x))
print("network          ", *(f"{v:5.2f}" for v in heart))
print("exact, 64 terms  ", *(f"{v:5.2f}" for v in exact))
print("mean field       ", *(f"{v:5.2f}" for v in q))
print("the library's    ", *(f"{v:5.2f}" for v in library))

# %% [markdown]
# Mean field takes the right side everywhere, and it is **surer than the exact answer**: pixels that confirm each
# other are counted as if they were independent witnesses. Take its decisions, not its probabilities.
#
# The library does the same with tensors. It goes through the offsets of a window instead of the pixels; `affinity`
# holds $\kappa$ for each of them. (A test compares it with the double loop over all pairs, in 2D and 3D, and
# another one with the sum over all labellings.)

# %%
show.code(mean_field)

# %% [markdown]
# What does each width do? The figure follows one pixel at the border of the left ventricle, marked with a cross. The first
# panel shows its weights $\kappa_{ij}$ in the square around it: who sends it mail. The others show the network's answer and the
# CRF's, as lines, over the true areas.

# %% tags=["nbval-ignore-output"]
item = 40
rim = (truth[item] == 3) & (truth[item].roll(-1, 1) != 3)
row, column = rim.nonzero()[int(rim.sum()) // 2].tolist()
picture, answer, true = images[item : item + 1], answers[0][item : item + 1], truth[item]


def crf(near, alike, smoothness):
    widths = {"near": near, "alike": alike, "smoothness": smoothness}
    kappa = affinity(picture, appearance=2.0, close=1.0, radius=7, **widths)
    square = torch.zeros(15, 15)
    for (down, right), weights in zip(offsets(7, 2), kappa[:, 0, 0], strict=True):
        square[7 + down, 7 + right] = weights[row, column]
    labels = [q[0].argmax(0) for q in (answer, mean_field(answer, picture, **widths))]
    wrong = [int((label != true).sum()) for label in labels]
    fig, axes = show.subplots(1, 3, width=5.4, height=2.1)
    axes[0].imshow(square.sqrt(), cmap="magma", vmin=0, vmax=0.5)
    axes[0].plot(7, 7, "x", color="#56B4E9", ms=7, mew=2)
    for ax, label in zip(axes[1:], labels, strict=True):
        show.overlay(ax, picture[0], true, label)
    axes[1].plot(column, row, "x", color="white", ms=6, mew=2)
    edges = np.array([[-7, 7, 7, -7, -7], [-7, -7, 7, 7, -7]]) + [[column], [row]]
    axes[1].plot(*edges, color="white", lw=1)
    titles = ("weights", f"network: {wrong[0]} wrong", f"CRF: {wrong[1]} wrong")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Widths {near:g} px and {alike:g} deviations, smoothness {smoothness:g}: the largest weight of the marked "
        f"pixel is {square.max():.3f}; the network has {wrong[0]} wrong pixels, the CRF {wrong[1]}.",
    )


show.explore(
    crf,
    near=[1.5, 5.0],
    alike=[0.15, 0.5, 3.0],
    smoothness=[0.0, 5.0],
    labels={
        "near": "θα (pixels)",
        "alike": "θβ (image deviations)",
        "smoothness": "smoothness w₂",
    },
    limit=58_000,
    alt="The weights of a pixel at the border of the left ventricle, and the answer before and after the CRF.",
)

# %% [markdown]
# - Start with $w_2 = 0$ and $\theta_\beta = 0.5$. The weights stop at the border: bright blood gets little mail from dark
#   muscle. That is the appearance kernel, and the reason why a ragged contour can snap to the edge.
# - A large $\theta_\beta$ makes everybody look alike: the kernel becomes a round blob, and knows no edge any more. A small one
#   makes noise count as an edge, and the mail comes from a few look-alikes.
# - $\theta_\alpha$ is how far the mail travels. (Our window ends at 7 pixels, so 5 is cut already.)
# - A large $w_2$ smooths, and a smooth label map has short borders. **Thin things lose**: tearing a thin wall off the
#   neighbours on *both* its sides costs a fee twice for each of its pixels.
#
# A CRF mends mistakes that disagree with the image or with their neighbours. An organ that is missed as a whole, or mistaken
# for a neighbour of equal brightness, is neither.

# %% [markdown]
# ## Labels mended by a CRF
#
# Bai and colleagues labelled cardiac MR in this way. Network and unknown labels minimise *one* loss over both, in turn:
# with the labels fixed, train the network; with the network fixed, update the labels, through the CRF:
#
# $$
# \hat y \leftarrow \arg\max_k\, \mathrm{CRF}\big(f_\theta(x_u),\, x_u\big)_k .
# $$

# %%
show.code(crf_self_training)

# %% [markdown]
# Two differences to plain self-training. There is no threshold: what the network is unsure of is decided by the
# image. And it is one network that goes on, from the weights there are; without the CRF it would be handed its own
# answer, and stop. `crf={"steps": 0}` is that control. Is the mended label better? On some of the
# unlabelled slices (truth for display):

# %% tags=["nbval-ignore-output"]
part = everyone.train.select(shown[::4])
before = answers[0][::4]
pairs = zip(before.split(16), images[::4].split(16), strict=True)
mended = torch.cat([mean_field(p, x) for p, x in pairs])
print(f"{'Dice of the labels':<20}", *(f"{name:>17}" for name in part.names[1:]))
for name, labels in (("network", before), ("network and CRF", mended)):
    dice = score(labels.argmax(1), part, surfaces=False).dice
    print(f"{name:<20}", *(f"{value:17.3f}" for value in np.nanmean(dice, 0)))
changed = (mended.argmax(1) != before.argmax(1)).float().mean()
print(f"The CRF changes {changed:.2%} of the pixels.")

# %% [markdown]
# Look at the classes one by one; the thin one and the fat ones need not agree. And look at the last line. If it is small, there
# was little that a CRF can mend: a decoder with skips at full resolution, like ours, has seen the edges already, and what is
# left are mistakes of another kind. Our parameters are set by hand, for 64 pixels. Tuning them needs validation masks, which
# must then be counted among the labels.

# %% [markdown]
# ## A growing set
#
# The first teacher is the weakest of all, and in plain self-training it labels *everything*. Semi-Inf-Net, made for
# lung infections in the first months of COVID-19, lets it label a handful of images only. These join the training set, the
# network trains on, labels the next handful, and so on.

# %%
show.code(growing_self_training)

# %% [markdown]
# The picture shows who labelled how much, and when, if all procedures spend a first training on the three
# patients. A step up means that new images come in; a cross means that old labels are thrown away and made anew.

# %%
count, groups = len(task.unlabelled), 4
fig, ax = show.subplots(height=2.6)
plain = {"color": "#595959", "label": "self-training, 2 rounds"}
ax.step([0, 1, 1, 2, 3], [0, 0, count, count, count], **plain)
ax.plot([2], [count], "x", color="#595959", ms=9, mew=2)
grown = np.cumsum([len(group) for group in torch.arange(count).tensor_split(groups)])
times = [0, *(1 + np.arange(groups + 1) / groups)]
slow = {"color": "#0072B2", "ls": "--", "label": f"growing set, {groups} groups"}
ax.step(times, [0, *grown, count], where="post", **slow)
ax.set(xlabel="trainings' worth of steps", ylabel="pseudo-labelled images")
ax.legend(loc="lower right")
show.figure(
    fig,
    alt=f"Pseudo-labelled images over the steps spent. Self-training jumps to {count} after one training and renews all "
    f"labels after the second. The growing set climbs in {groups} steps of {count // groups} during the second "
    "training, and renews none.",
)

# %% [markdown]
# Two prices. An image that was labelled early keeps its label for good, so the mistakes of the first group are
# never revised. And the network is never fresh. What one gets: the last group is labelled by a network that has seen
# three quarters of the images, at the cost of two trainings instead of three. (The paper's network has reverse and edge attention besides;
# ours is the book's U-Net, so that the growing is all that differs.)

# %% [markdown]
# ## Weighted by doubt
#
# A threshold is a switch: 0.89 out, 0.91 in. And it asks the teacher's probability, of which we have just seen how little
# it knows of its own mistakes. Sedai and colleagues ask several teachers and let doubt be a **weight**. The teachers
# are one network with dropout, left on while it answers: each pass switches off other features. With the mean answer
# $\bar p$ of $T$ passes,
#
# $$
# U_i = -\sum_k \bar p_{ik} \ln \bar p_{ik}, \qquad c_i = e^{-U_i}, \qquad
# L_u = \frac{\sum_i c_i\, KL(\bar p_i \Vert p_i)}{\sum_i c_i} .
# $$
#
# The number $e^{U}$ has a meaning. For a sure teacher it is 1, for one that wavers between two classes 2, for one that knows nothing
# $K$: it counts the classes between which the teacher hesitates. So $c$ is one over that number.

# %%
for name, p in (
    ("sure", [1.0, 0.0, 0.0, 0.0]),
    ("two classes", [0.5, 0.5, 0.0, 0.0]),
    ("leans to one of two", [0.9, 0.1, 0.0, 0.0]),
    ("no idea", [0.25] * 4),
):
    doubt = torch.special.entr(torch.tensor(p)).sum()
    print(
        f"{name:<20} U = {doubt:.2f}   classes e^U = {doubt.exp():.2f}   weight c = {(-doubt).exp():.2f}"
    )

# %%
show.code(UncertaintyWeighted)

# %% [markdown]
# A network without dropout gives the same answer each time, so the teacher must be *trained* with it. Here is
# one, and where it doubts.

# %% tags=["nbval-ignore-output"]
bayesian = fit(Supervised(networks.unet(task, dropout=0.1, seed=1)), task, short, seed=1)
bayesian.method.cpu()
student = UncertaintyWeighted.for_task(task, teacher=bayesian.method, passes=8)
torch.manual_seed(0)
mean, doubt = student.doubt(images[::10])
trust = torch.exp(-doubt)
wrong = mean.argmax(1) != truth[::10]

fig, axes = show.subplots(1, 4, width=5.4, height=1.7)
show.overlay(axes[0], images[40], truth[40], mean[4].argmax(0))
axes[1].imshow(doubt[4], cmap="magma", vmin=0, vmax=np.log(4))
axes[2].imshow(trust[4], vmin=0.25, vmax=1)
axes[3].imshow(wrong[4], vmin=0, vmax=1)
titles = ("mean answer", "uncertainty U", "weight c", "white: wrong")
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="An unlabelled heart with its truth and the mean of eight answers with dropout; the entropy of that mean; the "
    f"weights made of it; and where it is wrong. Mean weight {trust[~wrong].mean():.2f} where right, "
    f"{trust[wrong].mean():.2f} where wrong.",
)

# %% tags=["nbval-ignore-output"]
print(
    f"mean weight of right pixels {trust[~wrong].mean():.2f}, of wrong ones {trust[wrong].mean():.2f}"
)
print(
    f"wrong pixels: {wrong.float().mean():.2%} of all, {trust[wrong].sum() / trust.sum():.2%} of the weight"
)

# %% [markdown]
# The last line is the whole effect: the share of the mistakes in the loss before and after the weighting. Compare the
# last two pictures as well. White pixels that lie in bright areas of the weight are the mistakes that no doubt announces;
# dropout asks one network in several moods, and all of them learnt from the same three patients.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats the trainings with several seeds, each with other labelled patients.
# Look for three reference arms:
#
# - *supervised* has the labelled images, and the steps of **one** training;
# - *supervised, longer* has the labelled images, and the steps of **two**. Every method of this page is a procedure of two trainings
#   (three for self-training and the CRF with their two rounds). Whoever gets two trainings may simply spend them on the
#   three patients, and that is what a procedure has to beat. A gain over *supervised* that *supervised, longer* has as well is a gain
#   by patience, and no unlabelled image was needed for it;
# - *Mean Teacher* with `weight=0` is the averaging without unlabelled images: the cheapest trick there is.

# %%
results = study.read()
mine = {
    "pseudo-label",
    "teacher-student",
    "bai-crf",
    "inf-net",
    "sedai",
    "supervised",
    "supervised-longer",
    "mean-teacher:weight=0",
    "full-labels",
}
show.scoreboard([line for line in study.summary(results, "cardiac-3") if line.method in mine])

# %% [markdown]
# Now the same runs, seed by seed, against *supervised, longer*:

# %%
for line in study.summary(results, "cardiac-3", baseline="supervised-longer"):
    if line.method in mine and line.difference is not None:
        low, high = 100 * line.difference.low, 100 * line.difference.high
        print(
            f"{line.method:<24}{100 * line.difference.mean:+6.1f} Dice points [{low:+.1f}, {high:+.1f}]  {line.verdict}"
        )

# %% [markdown]
# Read the verdicts of these lines, not the means of the table. *Undecided* means that these draws of three patients do
# not tell; with few seeds it takes a large effect to be told from luck. Where a method is *worse*, think of the
# bars of confirmation bias: a weak teacher's mistakes were taught with the energy of two trainings. Self-training lives on its first
# teacher. It was made for settings where that one is good already and unlabelled images are plenty; three patients are the hard case.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You raise the threshold from 0.9 to 0.999, and the precision of the pseudo-labels rises. Why may the student get worse?",
    {
        "Because a precise label is easier to learn by heart.": "Precise labels are what one wants, as long as they "
        "are where something is to be learnt.",
        "Because what is left are the easy pixels.": "Cores of organs and far background the teacher knows already; the "
        "borders, where the student could learn something, are now `IGNORE`.",
        "Because the loss has fewer terms and is smaller.": "It is divided by the number of labelled pixels.",
    },
    correct="Because what is left are the easy pixels.",
)

# %%
quiz(
    "A paper trains a teacher, a student and a second student, and gains two Dice points over the supervised baseline of equal "
    "network and learning rate. Which arm is missing first of all?",
    {
        "A baseline trained for three times as many steps.": "It answers whether the unlabelled images did it, or the time.",
        "A baseline with all labels.": "Good to have, as the upper end. It does not explain the gain.",
        "A larger network.": "That would be another difference, not one less.",
    },
    correct="A baseline trained for three times as many steps.",
)

# %%
quiz(
    "You set the appearance kernel's `alike` to a hundred image deviations. What is left of it?",
    {
        "Nothing, its weights become 0.": "The exponent goes to 0 there, so the factor goes to 1.",
        "A second smoothness kernel, of another width.": "All pixels now look alike, and only nearness counts.",
        "A kernel that follows edges more strictly.": "That is what a *small* width does.",
    },
    correct="A second smoothness kernel, of another width.",
)

# %% [markdown]
# ## Exercises
#
# **1. What a threshold promises.** Suppose the teacher is perfectly calibrated: of the pixels with confidence $c$ a share $c$ is
# right. Which precision does $\tau = 0.9$ guarantee, over all believed pixels? Compare with round 0 in the figure above.
# Why can it be lower for the *organs* even so?
#
# ```{dropdown} Hint
# Every believed pixel has a confidence of at least $\tau$. Which pixels are most of them?
# ```
# ```{dropdown} Solution
# At least 0.9, and mostly far more, since many pixels are surer than the threshold. But the promise is about *all* believed
# pixels, and these are background for the most part. Calibration on the average says nothing about a class. And on
# patients unlike the labelled ones a network is usually too sure, so that not even the average holds.
# ```
#
# **2. Endless fees.** Let $w_1$ and $w_2$ grow without bound. Which labelling has the least energy? And which one does mean
# field find?
#
# ```{dropdown} Hint
# What does a labelling with one label cost in fees?
# ```
# ```{dropdown} Solution
# With one label everywhere no pair is torn apart and all fees are 0: one class for the whole image, the one with the largest
# $\sum_i \ln p_{ik}$, which is the background. Mean field runs there too, or gets stuck before it: it moves all pixels at once
# from where the network put them, and a large organ whose pixels confirm each other may hold out. Try it with
# `mean_field(answer, picture, appearance=50, steps=50)`.
# ```
#
# **3. Rounds or steps.** Train `supervised_longer(task, short, times=3)` and compare it on `task.valid` with `trained`,
# which has had as many steps. Then ask which of the two had more *seconds*, and make the comparison fair in that sense as well.
#
# ```{dropdown} Hint
# A step of a student passes twice as many images through the network. `Fitted.seconds` has the time.
# ```
# ````{dropdown} Solution
# ```python
# from lsseg_edu.train import supervised_longer
#
# longer = supervised_longer(task, short, seed=0, times=3)
# for one in (longer, trained):
#     print(f"{one.seconds:.0f} s: Dice {evaluate(one, task.valid, surfaces=False).mean_dice:.3f}")
# ```
# One training on labels and two students cost $1 + 2 + 2 = 5$ trainings' worth of images: `times=5` is fair in seconds. State
# which of the two you mean, and do it for several seeds before you believe a difference.
# ````
#
# ## Take away
#
# - A pseudo-label knows nothing that its teacher did not know. What averages out can gain; what is wrong each time is learnt.
# - Report precision *and* coverage, of the organs, not of the background. Not labelled is not background.
# - A confident mistake passes every threshold, and each round makes mistakes more confident.
# - A CRF adds what the image knows: alike and near belong together. It mends borders, and eats thin walls.
# - Several trainings are compared with a baseline that trained as long.
#
# **Reading.** {cite:t}`lee2013pseudo` trained on one's own labels, {cite:t}`xie2020self` made students noisy and larger, {cite:t}`arazo2020pseudo`
# named the confirmation bias; {cite:t}`hinton2014distilling` taught with soft answers. The dense CRF is by
# {cite:t}`krahenbuhl2011efficient`. In medical images: {cite:t}`bai2017semi`, {cite:t}`fan2020inf` and {cite:t}`sedai2019uncertainty`.
