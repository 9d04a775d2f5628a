# %% [markdown]
# # From strokes to masks: propagation and self-training
#
# <!-- badge -->
#
# **You will learn**
#
# - how a minimum cut turns a few strokes into a mask, and why that minimum can be found exactly;
# - how a network and a graph take turns, and how a network can take turns with itself;
# - to watch two numbers while labels grow: how many there are, and how many of them are right;
# - what other half-labels there are (areas, rough lines, tags, boxes, points), and what each leaves open.
#
# **You should know** [scribbles and partial cross-entropy](scribbles), and
# [self-training](../semi/self_training), where whole images lack labels instead of pixels.

# %% tags=["setup"]

# %%
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from lsseg_edu import networks, show, study
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.partial.regions import (
    DMPLS,
    BoundaryScribble,
    PartialCrossEntropy,
    Scribble2Label,
    SelfSimilarityStudent,
    annotated_areas,
    boxes_and_few_masks,
    points_and_rough_masks,
    propagate,
    propagated,
    scribble_hierarchy,
    scribblesup,
    separate,
    similar_ensemble,
    whole_scribbles,
)
from lsseg_edu.partial.regions.boundary_scribble import read_lines
from lsseg_edu.partial.regions.dong import PointsAndRoughMasks, heat_map, without_border
from lsseg_edu.partial.regions.graph_cut import contrast, graph_cut, grow
from lsseg_edu.partial.regions.lee import placed
from lsseg_edu.partial.regions.lin import superpixel_maps
from lsseg_edu.partial.regions.peng import similarity
from lsseg_edu.partial.regions.potts import energy, expand, min_cut
from lsseg_edu.partial.regions.rois import crop_rois, gaussian_targets
from lsseg_edu.partial.regions.zhao import BoxThenMask
from lsseg_edu.semi.self_training import pseudo_label_quality
from lsseg_edu.train import Budget, fit

budget = Budget.auto()
full = Task.split(load("cardiac"), labelled=8, seed=0)
names = full.train.names
chosen = full.labelled[[2, 14, 64]]
images, masks = full.train.images[chosen], full.train.labels[chosen]
strokes = annotate.draw_scribbles(masks, seed=1)


def dice(labels, truth):
    """Mean over the foreground classes, known pixels or not."""
    classes = range(1, int(truth.max()) + 1)
    pairs = [(labels == k, truth == k) for k in classes]
    return np.mean([2 * float((a & b).sum() / (a.sum() + b.sum())) for a, b in pairs])


# %% [markdown]
# ## The idea in a picture
#
# Partial cross-entropy asks nothing between the strokes. But *something* is known there: pixels next to a
# stroke that look like it are probably of its class, and a border lies where the image has an edge. So let
# the strokes grow, and learn from what they have grown to. (The numbers are Dice.)

# %%
grown = torch.stack(
    [grow(x, s, 4, region=0, sigma=0.3) for x, s in zip(images, strokes, strict=True)]
)
scores = [dice(g, y) for g, y in zip(grown, masks, strict=True)]
show.images(
    images[:2].repeat_interleave(3, 0),
    labels=torch.stack(
        [m for trio in zip(strokes[:2], grown[:2], masks[:2], strict=True) for m in trio]
    ),
    titles=[t for g in scores[:2] for t in ("strokes", f"grown: {g:.2f}", "truth")],
    columns=6,
    fill=True,
    names=names,
    alt="Two hearts, each with its strokes, with what a graph cut makes of them, and with the true mask. Dice "
    + " and ".join(f"{g:.2f}" for g in scores[:2])
    + ".",
)

# %% [markdown]
# Every technique of this page makes such labels and believes them more or less. Two things can go wrong:
# the labels are **wrong**, and a network learns the mistake; or they are **few**, and it learns nothing new.
# They are two sides of one threshold.

# %% [markdown]
# ## Graph cut
#
# Take each pixel as a node, and tie neighbours together with a weight: strong where they look alike, weak across an edge.
# A labelling pays for what a pixel is against, and for every tie it cuts. Strokes are not to be argued with:
#
# $$
# E(y) = \sum_i u_{y_i}(i) + \sum_{i \sim j} [y_i \ne y_j]\, w_{ij}, \qquad
# w_{ij} = \frac{\lambda}{|r_i - r_j|}\, e^{-|x_i - x_j|^2 / 2\sigma^2}, \qquad y_i = s_i \text{ on strokes.}
# $$

# %%
show.code(contrast)

# %% [markdown]
# There are $2^{4096}$ labellings of a small image with two classes. Boykov and Jolly found the cheapest
# without trying them. Connect every pixel to a *source* and a *sink* with capacities $u_1(i)$ and $u_0(i)$, and neighbours with
# $w_{ij}$. Whoever separates source from sink cuts just the ties that a labelling pays for, so the **minimum cut** is the
# minimum of $E$. And a minimum cut is what limits the largest *flow* from source to sink, which a program from the 1970s finds in
# milliseconds. SciPy has one. It wants integers, so costs are scaled and rounded.

# %%
show.code(min_cut)

# %% [markdown]
# Do we believe it? On twelve pixels, all $2^{12}$ labellings can be tried:

# %%
draw = torch.Generator().manual_seed(0)
unary, tiny = torch.rand(2, 3, 4, generator=draw), torch.randn(1, 3, 4, generator=draw)
pairs, w = contrast(tiny, weight=0.7)
costs = unary.flatten(1).T.double().numpy()
every = np.array(list(product((0, 1), repeat=12)))
scores = [energy(y, costs, pairs, w) for y in every]
cut = graph_cut(unary, tiny, weight=0.7).flatten().numpy()
print(
    f"labellings tried: {len(every)}, the cheapest is the minimum cut: {(cut == every[np.argmin(scores)]).all()}"
)

# %% [markdown]
# With more than two classes the problem is NP-hard. **Alpha-expansion** solves it in moves: class $\alpha$ may take over
# whatever pixels it likes, all others stay. The best such move is a two-class problem again, thus one cut. Let each class have its turn until
# none gains; the result costs at most twice the minimum, in practice hardly more than it.

# %%
show.code(expand)

# %% [markdown]
# Now move the weight of the border, and the contrast $\sigma$ that still counts as noise. The last control switches on a **regional term**,
# $u_k(i) = -\ln P(x_i \mid \text{strokes of } k)$, from histograms of the grey levels under the strokes.


# %%
def cut_of(weight, sigma, region):
    labels = grow(images[1], strokes[1], 4, region, weight=weight, sigma=sigma)
    found = dice(labels, masks[1])
    fig, ax = show.subplots(width=2.8, height=3.0)
    show.overlay(ax, images[1], masks[1], labels)
    ax.set_title(f"areas: truth, lines: cut\nDice {found:.2f}")
    return show.figure(
        fig,
        alt=f"Border weight {weight:g}, sigma {sigma:g}, regional term {region:g}: the minimum cut for the second heart above, as "
        f"lines over the true areas. Dice {found:.2f}.",
    )


show.explore(
    cut_of,
    weight=[0.1, 0.5, 2, 8],
    sigma=[0.15, 0.6],
    region=[0, 0.1],
    labels={"weight": "weight of the border", "sigma": "contrast sigma", "region": "regional term"},
    limit=54_000,
    alt="The minimum cut of one heart over the true areas, for different weights.",
)

# %% [markdown]
# Without the regional term, only the *ratios* of the ties matter: all weights give one cut. (Why? Multiply $E$ by two.) What matters is $\sigma$. Too
# small, and noise is an edge; too large, and nothing is, so that a cut is cheapest where it is *shortest*. That is the **shrinking bias**: a border close
# around the stroke costs least.
#
# The regional term should help, and in a photograph of a cow on grass it does. Here it can do harm: blood in both ventricles has one grey
# level, and vessels and fat outside the heart share it. Appearance says *what*, not *which one*.
#
# As a technique for training, `graph_cut_training` grows the strokes of all images and then trains the plain baseline on the masks. It is the
# arm that everything cleverer should beat. The same solver serves the chapter on interaction, where the strokes come from a user one at a time.

# %% [markdown]
# ## ScribbleSup
#
# A graph cut looks at one image. It does not know what hearts look like. A network does, a little, as soon as it has seen a few; so let
# it speak. Lin and colleagues wrote one energy for both, over the labels of **superpixels** $i$ and the weights $\theta$:
#
# $$
# E(y, \theta) = \sum_i \psi^{scr}_i(y_i) \; - \; \sum_i \sum_{p \in i} \ln P(y_i \mid p, \theta) \; + \; \sum_{i \sim j} [y_i \ne y_j]\, w_{ij}
# $$
#
# and lowered it in turns. Network fixed: the labels are a graph cut. Labels fixed: the middle term is the ordinary cross-entropy, so train. Superpixels make the graph small, and
# let a pair be compared by the *histograms* of its grey levels and gradients, not by two noisy numbers.

# %%
show.code(propagate)

# %%
parts = superpixel_maps(full.train.select(chosen), scale=10, smallest=4, largest=1.0)
once = propagate(images[1], strokes[1], parts[1], None, 4)
flat, number = images[1].flatten().double().numpy(), parts[1].flatten().numpy()
means = np.bincount(number, flat) / np.bincount(number).clip(1)
fig, axes = show.subplots(1, 2, width=4.6, height=2.5)
axes[0].imshow(means[parts[1]], vmin=-1.5, vmax=3)
show.overlay(axes[1], images[1], once, fill=True)
titles = (f"{len(parts[1].unique())} superpixels", f"first cut: Dice {dice(once, masks[1]):.2f}")
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt=f"The heart as {len(parts[1].unique())} superpixels, each in its mean grey, and the labels of the first graph "
    f"cut, with Dice {dice(once, masks[1]):.2f}.",
)

# %% [markdown]
# Let it run: three rounds, which share the steps of the one training that partial cross-entropy gets.

# %% tags=["nbval-ignore-output"]
live = Task.split(load("cardiac"), labelled=budget.pick(2, 8, 20), seed=0)
truth = live.train.labels[live.labelled]
task = annotate.scribbles(live, seed=0)
arms = {"partial cross-entropy": fit(PartialCrossEntropy.for_task(task), task, budget, seed=0)}
arms["ScribbleSup"] = scribblesup(task, budget, seed=0)
for number, labels in enumerate(arms["ScribbleSup"].labels, 1):
    print(f"round {number}: Dice of the labels it is taught {dice(labels, truth):.3f}")

# %% [markdown]
# Step through the rounds. The filled areas are what the network is taught in this round, the lines what it answers after it.

# %% tags=["nbval-ignore-output"]
rounds = arms["ScribbleSup"]
shown = 14
example, true = task.train.images[task.labelled[shown]], truth[shown]


def round_of(number):
    taught = rounds.labels[number - 1][shown]
    said = rounds.rounds[number - 1].predict(example[None]).argmax(1)[0]
    share = (taught != true).float().mean()
    fig, axes = show.subplots(1, 2, width=4.6, height=2.5)
    show.overlay(axes[0], example, taught, fill=True)
    show.overlay(axes[1], example, true, said)
    axes[0].set_title(f"taught: {share:.1%} wrong")
    axes[1].set_title("answer (lines), truth")
    return show.figure(
        fig,
        alt=f"Round {number}: the labels that are taught, {share:.1%} of the pixels wrongly, and the network's answer "
        f"after it, with Dice {dice(said, true):.2f}, over the truth.",
    )


show.explore(
    round_of,
    number=[1, 2, 3],
    labels={"number": "round"},
    limit=28_000,
    alt="What ScribbleSup teaches in each round, and what the network answers.",
)

# %% [markdown]
# Where does a wrong label of round 1 vanish? Where the network has learnt better *from other images*. Where all images are wrong in one way, it has
# learnt the mistake, and the next cut hears it from two sides. The alternation is a descent, with all the minima that this implies.

# %% [markdown]
# ## Scribble2Label
#
# Can the network do without the graph? Its own answers are labels too, if one knows which to believe. Lee and Jeong believe those that are sure **and do not change**. From
# time to time all scribbled images are answered without augmentation, and the answers enter an average; where that is above $\tau$, it is a label:
#
# $$
# \bar p_n = \alpha\, p_n + (1 - \alpha)\, \bar p_{n-1}, \qquad
# \hat y_i = \arg\max_k \bar p_{ik} \ \text{ where } \max_k \bar p_{ik} > \tau \text{ and } i \notin \Omega_s, \qquad
# L = L_{pCE}(s) + \lambda\, L_{pCE}(\hat y).
# $$

# %%
show.code(Scribble2Label.loss)
# %%
show.code(Scribble2Label.labels_of)

# %% [markdown]
# A technical point that is easily got wrong: the average lives in the coordinates of the stored image, the loss in those of the augmented one. Here every pixel carries its own number
# through the augmentation, as if it were a label, and the average is looked up at the number that arrives.
#
# We train it, and keep a diary of its average, to compare with the truth afterwards. The truth serves this figure alone.


# %% tags=["nbval-ignore-output"]
class Diary(Scribble2Label):
    """Keeps a copy of the average after each answer."""

    def answer(self):
        super().answer()
        self.pages = [*getattr(self, "pages", []), self.average.float().cpu().clone()]


mine = placed(task)
diary = Diary(networks.unet(task), mine.train.images, 4)
arms["Scribble2Label"] = fit(diary, mine, budget, seed=0)
unknown = mine.train.labels == IGNORE


def believed(page, tau):
    best, labels = page.max(1)
    return labels.masked_fill((best < tau) | ~unknown, IGNORE)


taus = (0.5, 0.8, 0.95)
quality = {t: [pseudo_label_quality(believed(p, t), truth) for p in diary.pages] for t in taus}
fig, axes = show.subplots(1, 2, height=3.0, sharex=True)
for tau, dash in zip(taus, ("-", "--", ":"), strict=True):
    answer = range(1, len(diary.pages) + 1)
    axes[0].plot(answer, [q.foreground for q in quality[tau]], dash, label=f"tau {tau:g}")
    axes[1].plot(answer, [q.coverage_foreground for q in quality[tau]], dash)
axes[0].set(
    xlabel="answers in the average",
    title="precision: believed organs that are right",
    ylim=(0, 1.02),
)
axes[1].set(
    xlabel="answers in the average", title="coverage: organ pixels believed", ylim=(0, 1.02)
)
for ax in axes:
    ax.title.set_fontsize(9)
fig.legend(loc="outside lower center", ncols=3)
last = {tau: quality[tau][-1] for tau in taus}
show.figure(
    fig,
    alt="Precision and coverage of the pseudo-labels over the training, for three thresholds. At the end: "
    + "; ".join(
        f"tau {t:g}: precision {q.foreground:.2f}, coverage {q.coverage_foreground:.2f}"
        for t, q in last.items()
    )
    + ".",
)

# %% [markdown]
# A higher threshold moves both curves, in opposite directions. Watch the labels grow: choose an answer and a threshold.

# %% tags=["nbval-ignore-output"]
pages = sorted({0, len(diary.pages) // 3, len(diary.pages) - 1})


def labels_at(answer, tau):
    labels = believed(diary.pages[answer - 1], tau)
    q, pseudo = pseudo_label_quality(labels, truth), labels[shown]
    wrong = (pseudo != IGNORE) & (pseudo != true)
    fig, axes = show.subplots(1, 2, width=4.6, height=2.5)
    show.overlay(axes[0], example, pseudo, fill=True)
    axes[1].imshow(wrong, vmin=0, vmax=1)
    axes[0].set_title(f"believed: {(pseudo != IGNORE).float().mean():.0%}")
    axes[1].set_title(f"believed wrongly: {wrong.float().mean():.1%}")
    axes[1].axis("off")
    return show.figure(
        fig,
        alt=f"After {answer} answers, with threshold {tau:g}: pseudo-labels of one heart, and those that are wrong. In all images, "
        f"{q.coverage_foreground:.0%} of the organ pixels have a label, and {q.foreground:.0%} of the organ labels are right.",
    )


show.explore(
    labels_at,
    answer=[p + 1 for p in pages],
    tau=[0.5, 0.8],
    labels={"answer": "answers in the average", "tau": "threshold tau"},
    limit=32_000,
    alt="Pseudo-labels of one heart as the average grows, and which of them are wrong.",
)

# %% [markdown]
# ## DMPLS
#
# An average over time needs a memory of all images. Luo and colleagues take two opinions at one time: one encoder, **two decoders**, the second behind dropout. The label is the class that
# a mixture of both thinks likeliest, and the mixture is drawn anew at every step:
#
# $$
# \hat y = \arg\max_k \big(\alpha\, p^1_k + (1-\alpha)\, p^2_k\big), \quad \alpha \sim U(0,1), \qquad
# L = \tfrac12 \sum_b L_{pCE}(p^b, s) + \tfrac{\lambda}{2} \sum_b \big(1 - \mathrm{Dice}(p^b, \hat y)\big).
# $$

# %%
show.code(DMPLS.loss)
# %%
show.code(DMPLS.mixed)

# %% [markdown]
# No threshold at all: every pixel has a label at every step. What protects from mistakes? Below are two made-up decoders, one that sees the ventricle too far left, and one too far right.
# Move $\alpha$.

# %%
axis = torch.arange(48.0) - 23.5
circle = [torch.sigmoid(11 - (axis[:, None] ** 2 + (axis - c) ** 2).sqrt()) for c in (-5, 5)]
sure = [0.04 + 0.92 * circle[0], 0.15 + 0.6 * circle[1]]


def mixture(alpha):
    label = (alpha * sure[0] + (1 - alpha) * sure[1]) > 0.5
    both, none = (sure[0] > 0.5) & (sure[1] > 0.5), (sure[0] < 0.5) & (sure[1] < 0.5)
    open_ = ~both & ~none
    fig, axes = show.subplots(1, 3, width=6.2, height=2.4)
    for ax, p, title in zip(axes, sure, ("first decoder", "second decoder"), strict=False):
        ax.imshow(p, vmin=0, vmax=1)
        ax.set_title(title)
    axes[2].imshow(label, vmin=0, vmax=1.4)
    axes[2].contour(open_.float(), [0.5], colors="#E69F00", linewidths=1.4)
    taken = label[open_].float().mean()
    axes[2].set_title(f"label; {taken:.0%} of the dispute in")
    for ax in axes:
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"alpha {alpha:g}: two shifted discs of probability, and the label of their mixture. Of the pixels on which they "
        f"disagree (outlined), {taken:.0%} are labelled foreground; those on which they agree are the same for every alpha.",
    )


show.explore(
    mixture,
    alpha=[0, 0.25, 0.5, 0.75, 1],
    labels={"alpha": "alpha"},
    limit=32_000,
    alt="Two decoders and the label of their mixture.",
)

# %% [markdown]
# Where both agree, the label never changes, and its hardness makes both surer. Where they disagree it jumps from one to the other as $\alpha$ is drawn, so that on average neither is pulled
# far. The jump does not happen in the middle, though: the *surer* decoder wins most draws. And where both make one mistake, nothing protects.

# %% [markdown]
# ## Self-similarity student
#
# Cheng and colleagues had slides of tissue in which *some* tumour was outlined and the rest left as if it were healthy. Labels were missing **and wrong**. Two ideas. Features should know near from
# far: a patch resembles the one beside it more than one across the slide, which needs no label. And patches whose features are alike should vote together:
#
# $$
# L_{sim} = \frac1N \sum_i \big(m - \cos(z_i, z_{n(i)}) + \cos(z_i, z_{f(i)})\big)_+, \qquad
# \tilde p_i = \frac{\sum_{j \in W_i} a_{ij}\, p'_j}{\sum_{j \in W_i} a_{ij}}, \quad a_{ij} = e^{\kappa \cos(z'_i, z'_j)} .
# $$
#
# $p'$ and $z'$ are an average [teacher](../semi/consistency)'s. Where $\tilde p$ is sure, it labels a pixel that has no label, and **strikes out** a label that says otherwise.

# %%
show.code(SelfSimilarityStudent.loss)
# %%
show.code(similar_ensemble)

# %% [markdown]
# What is the gain of voting among the *like-minded*? Take a very noisy teacher and, for want of a trained network, smoothed grey levels as features. $\kappa = 0$ is a vote of all neighbours.

# %%
noise = torch.Generator().manual_seed(0)
hot = F.one_hot(masks, 4).movedim(-1, 1).float()
teacher = (2.0 * hot + 1.6 * torch.randn(hot.shape, generator=noise)).softmax(1)
soft = F.avg_pool2d(images, 3, 1, 1)
features = torch.cat([(soft - c).square().mul(-2).exp() for c in (-1, 0, 1, 2)], 1)
votes = {"teacher": teacher.argmax(1)}
for sharp in (0.0, 5.0):
    votes[f"vote, kappa {sharp:g}"] = similar_ensemble(teacher, features, sharp, 2).argmax(1)
for name, labels in votes.items():
    print(
        f"{name:<14} wrong pixels {(labels != masks).float().mean():.1%}, Dice {dice(labels, masks):.2f}"
    )

# %% [markdown]
# Any vote removes noise that is independent from pixel to pixel. A plain mean also rounds off what is thin; the like-minded do not ask across an edge, and fewer pixels are wrong. (Real mistakes are
# not independent. No vote mends what all neighbours believe.)

# %% [markdown]
# ## Feature-similarity propagation
#
# In emphysema, nobody outlines all there is. A reader marks a few typical **areas** of each kind and leaves the rest. Peng and colleagues let the areas grow in rounds. With $\mu_a$ the mean deep feature of an annotated
# area $a$,
#
# $$
# s_k(i) = \max_{a:\, y_a = k} \cos(z_i, \mu_a), \qquad c_i = s_{k_1}(i) - s_{k_2}(i) \quad (k_1, k_2 \text{: the two most similar classes}).
# $$
#
# The pixels of largest confidence $c$ join, if the network itself answers $k_1$ as well, and a growing share of them from round to round.

# %%
show.code(propagated)

# %%
lungs = Task.split(load("lesions"), labelled=20, seed=0)
areas = annotated_areas(lungs, seed=0)
some = lungs.labelled[
    (lungs.train.labels[lungs.labelled] > 0).flatten(1).sum(1).argsort(descending=True)[[1, 8]]
]
x, given, lesion = lungs.train.images[some], areas.train.labels[some], lungs.train.labels[some]
scales = [F.avg_pool2d(x, n, 1, n // 2, count_include_pad=False) for n in (1, 3, 7)]
z = F.normalize(
    torch.cat([(s - c).square().mul(-2).exp() for s in scales for c in (-1, 0, 1, 2)], 1), dim=1
)


def joined(share):
    labels = propagated(z, given, nearest, 2, share)
    q = pseudo_label_quality(labels, lesion)
    fig, axes = show.subplots(1, 2, width=4.6, height=2.5)
    show.overlay(axes[0], x[0], labels[0], fill=True)
    show.overlay(axes[1], x[0], lesion[0], fill=True)
    axes[0].set_title(f"known: {(labels[0] != IGNORE).float().mean():.0%}")
    axes[1].set_title("truth")
    return show.figure(
        fig,
        alt=f"Share {share:g}: a lung with labels grown from annotated areas beside the truth. In two such images {q.coverage:.0%} "
        f"of the pixels have a label, and {q.precision[1]:.0%} of the lesion labels are right.",
    )


nearest = similarity(z, given, 2).argmax(1)  # in place of a network's answer
show.explore(
    joined,
    share=[0, 0.1, 0.3, 0.9],
    labels={"share": "share of the unlabelled pixels"},
    limit=32_000,
    alt="A lung with labels that grow from annotated areas, beside the truth.",
)

# %% [markdown]
# Here, too, the features are smoothed grey levels, so that the figure needs no training: they take whatever is bright for a lesion. A network's features, trained on the areas, know better, and improve as the areas grow. The order is what matters: the sure ones first.

# %% [markdown]
# ## Boundary scribbles
#
# A *rough line around* a lesion takes seconds. It says more than a box, and it is not a mask: the border is *near* the line. Zheng and colleagues use what is certain on both sides of an uncertain **band**, and, within the band, as
# much as can be said. With $d$ the distance from the line and $c = 1 - e^{-d^2/2\sigma^2}$,
#
# $$
# L = L_{sup}(\text{certain}) + w_1 \frac{\sum_{i \in B} c_i\, (-\ln p_{\hat y_i}(i))}{\sum_{i \in B} c_i}
#   + w_2 \frac{1}{|\Omega|} \sum_i c_i\, g_i + \mu_t\, C_{size} .
# $$
#
# The pseudo-mask $\hat y$ is the filled line. $g$ is the contrast of the answer, high along its outline: an outline far from every line costs. The size must lie between the certain core and core plus band, and $\mu$ rises while it does not.

# %%
show.code(BoundaryScribble.loss)

# %%
rough = annotate.boundary_scribbles(lungs, rough=1.0, seed=0)
lines, known = rough.train.extras["contours"][some], rough.train.labels[some]
filled, distance = read_lines(known, lines, 2)
worth = (1 - torch.exp(-distance.square() / 2)) * (known == IGNORE)
fig, axes = show.subplots(1, 3, width=5.2, height=2.1)
show.overlay(axes[0], x[0], known[0], lesion[0], fill=True)
axes[1].imshow(worth[0], vmin=0, vmax=1)
axes[2].imshow(torch.exp(-distance[0].square() / 2), vmin=0, vmax=1)
titles = ("certain; lines: truth", "worth in the band", "where outlines may be")
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title, fontsize=9)
    ax.axis("off")
right = {"certain pixels": known != IGNORE, "filled line, in the band": known == IGNORE}
right = {
    n: float(((filled if "line" in n else known) == lesion)[m].float().mean())
    for n, m in right.items()
}
show.figure(
    fig,
    alt="A lung: what rough lines leave certain, with a band of unknown pixels in which the true border runs; how "
    "much the filled line is worth in the band, nothing on the line itself; and the boundary map around the lines. "
    + ", ".join(f"{n}: {v:.0%} right" for n, v in right.items())
    + ".",
)

# %%
for name, value in right.items():
    print(f"{name:<26} {value:.1%} are right")

# %% [markdown]
# ## Hierarchical scribbles
#
# In a brain tumour the parts are hard to draw, and the tumour as a whole is easy. Ji and colleagues ask for strokes on the **whole**, and for each image a **tag**: which parts does it show? First a two-class network finds the whole, with partial cross-entropy and the [dense CRF loss](regularised). Then a classifier
# learns the tags from the mean of a map over the whole, $\hat t_k = \sigma\big(\overline{m\, a_k} / \overline{m}\big)$. Its **activation map** $a_k$ is large where the part is, and shares out the whole. Last, a network is trained on these labels.

# %%
show.code(scribble_hierarchy)

# %% [markdown]
# When can a tag locate a part? When there are images that *lack* it, among images that are like them otherwise. On our hearts this can be counted, and it was better counted before than after:

# %%
tags = whole_scribbles(full).train.extras["tags"][full.labelled]
print(f"{'of ' + str(len(tags)) + ' images':<20} {'shown':>6}   shown without")
for k in (1, 2, 3):
    without = ", ".join(
        f"{names[j]}: {int((tags[:, k] & ~tags[:, j]).sum())}" for j in (1, 2, 3) if j != k
    )
    print(f"{names[k]:<20} {int(tags[:, k].sum()):>6}   {without}")

# %% [markdown]
# Read the table as a forecast. A part that is hardly ever without another gives the classifier no reason to look at the one rather than the other, and its activation map will share out the two by chance or by the edges of the image. Tags of tumours (some have no necrosis, some do not enhance) are better
# behaved than those of hearts.

# %% [markdown]
# ## Boxes for all, masks for a few
#
# To *find* a nucleus among hundreds needs many examples, and boxes are enough for it. To *outline* one that has been found is nearly the same task every time, and a few masks are enough. Zhao and colleagues split the problem along this line: stage 1 detects, from boxes; stage 2
# segments the inside of a box, from few masks.

# %%
tissue = Task.split(load("nuclei"), labelled=20, seed=0)
mixed = boxes_and_few_masks(tissue, masks=2, seed=0)
hours = {
    "masks of all": annotate.cost.mask_seconds(
        tissue.train.labels[tissue.labelled], tissue.train.extras["instances"][tissue.labelled]
    )
}
hours["boxes, and masks of two"] = mixed.seconds
for name, value in hours.items():
    print(f"{name:<24} {value / 3600:5.1f} hours")

# %%
field = tissue.labelled[[5]]
boxes, (mean, spread) = mixed.train.extras["boxes"][field], tissue.train.extras["colour"][field[0]]
picture = (
    tissue.train.images[field] * spread[:, None, None] + mean[:, None, None]
)  # its true colours
picture = picture.clamp(0, 1)
heat, sides, where = gaussian_targets(boxes, 2, (64, 64))
fig, axes = show.subplots(1, 3, width=5.2, height=2.1)
axes[0].imshow(picture[0].permute(1, 2, 0))
for k, a, b, c, d in boxes[0][boxes[0, :, 0] > 0].tolist():
    edge = "#E69F00" if k == 1 else "#56B4E9"
    axes[0].plot(
        [b - 0.5, d - 0.5, d - 0.5, b - 0.5, b - 0.5],
        [a - 0.5, a - 0.5, c - 0.5, c - 0.5, a - 0.5],
        color=edge,
        lw=1,
    )
axes[1].imshow(heat[0].amax(0), vmin=0, vmax=1)
rows = boxes[0][boxes[0, :, 0] > 0][:, 1:].float()
rows = rows[(rows[:, 2:] - rows[:, :2]).prod(1).argsort(descending=True)[:4]]
crops = crop_rois(picture.expand(len(rows), -1, -1, -1), rows, 16)
sheet = torch.cat([torch.cat(list(crops[:2]), 2), torch.cat(list(crops[2:4]), 2)], 1)
axes[2].imshow(sheet.permute(1, 2, 0))
for ax, title in zip(axes, ("boxes", "stage 1: centres", "stage 2: crops"), strict=True):
    ax.set_title(title, fontsize=9)
    ax.axis("off")
show.figure(
    fig,
    alt=f"A field of tissue with its {len(boxes[0][boxes[0, :, 0] > 0])} boxes; the heat map of their centres that the detector "
    "learns; and four crops of 16 by 16 pixels, as the segmenter sees them.",
)

# %%
show.code(BoxThenMask.predict)

# %% [markdown]
# A nucleus that stage 1 misses is lost, however good stage 2 is. In return touching nuclei come out *separate*, which no semantic network gives.

# %% [markdown]
# ## Points and rough masks
#
# Dong and colleagues had neurons in such numbers that nobody would box them all: a **point** in each, and **rough masks**. Each is wrong where the other is right. A rough mask errs at borders, and glues neighbours together. A point knows nothing of borders, and counts. Their network answers twice, *what is a
# cell* and *where are the middles*:
#
# $$
# L = L_{sup}(p, \hat y \text{ away from rough borders}) + \lambda_p L_{pCE}(p, \text{points})
#   + \lambda_h \frac{\sum_i (1 + \beta h_i) (q_i - h_i)^2}{\sum_i (1 + \beta h_i)} .
# $$

# %%
show.code(PointsAndRoughMasks.loss)

# %%
pointed = points_and_rough_masks(tissue, seed=0)
hasty, clicks = pointed.train.labels[field], pointed.train.extras["clicks"][field]
asked, middles = without_border(hasty, 1.0), heat_map(clicks > 0, clicks != IGNORE, 1.5)
apart = separate(hasty, middles)
together = separate(hasty, middles * 0)
fig, axes = show.subplots(1, 4, height=2.1)
show.overlay(axes[0], picture[0], hasty[0])
axes[1].imshow(np.where(asked[0] == IGNORE, 0.5, (asked[0] > 0).float()), vmin=0, vmax=1)
axes[2].imshow(middles[0], vmin=0, vmax=1)
colours = np.random.default_rng(1).permutation(256)
axes[3].imshow(
    np.ma.masked_equal(colours[apart[0] % 256] * (apart[0] > 0).numpy(), 0), cmap="nipy_spectral"
)
for ax, title in zip(
    axes, ("rough mask", "asked (grey: not)", "middles", "cut apart"), strict=True
):
    ax.set_title(title, fontsize=9)
    ax.axis("off")
counts = [len(n.unique()) - 1 for n in (together, apart, tissue.train.extras["instances"][field])]
show.figure(
    fig,
    alt=f"A field of nuclei with a hasty mask, the pixels of it that are asked, the heat map of the points, and the mask cut "
    f"apart at the points: {counts[0]} pieces become {counts[1]} cells; there are {counts[2]}.",
)

# %%
print(
    f"pieces of the rough mask: {counts[0]}; cut apart at the middles: {counts[1]}; nuclei: {counts[2]}"
)

# %% [markdown]
# ## Side by side
#
# The three arms that were trained above, on test patients: same strokes, same network, same number of steps.

# %% tags=["nbval-ignore-output"]
for name, fitted in arms.items():
    fitted.method.cpu()
    report = score(fitted.predict(live.test.images).argmax(1), live.test, surfaces=False)
    each = "  ".join(
        f"{n} {d:.3f}" for n, d in zip(names[1:], np.nanmean(report.dice, 0), strict=True)
    )
    print(f"{name:<22} mean Dice {report.mean_dice:.3f}   {each}")

# %% [markdown]
# ## What the scoreboard says
#
# One draw of strokes is one draw. The [scoreboard](../scoreboard/scoreboard) has several, with the controls that take an idea out of its method: one round without the network, a fixed mixture, a memory of
# one answer. First simulated scribbles, then an expert's:

# %%
results = study.read()
MINE = {
    "pce",
    "supervised",
    "full-labels",
    "graph-cut",
    "scribblesup",
    "scribble2label",
    "dmpls",
    "cheng-wsi",
}
MINE |= {
    "boundary-scribble",
    "peng-emphysema",
    "ji-scribble-brats",
    "zhao-box-inst",
    "macaque-neuron",
}


def board(protocol):
    lines = study.summary(results, protocol) if protocol in study.PROTOCOLS else []
    return show.scoreboard([line for line in lines if line.method.partition(":")[0] in MINE])


board("cardiac-scribbles")

# %%
board("acdc-scribbles")

# %% [markdown]
# Three questions to put to these tables. Does a method close a part of the gap whose interval excludes zero? Does its *control* close as much: then it is not the idea. And does the order on the phantom survive on real strokes? Simulated strokes run through the
# middle of things; an expert's are longer here and shorter there, and nobody simulated why.
#
# The other kinds of half-labels have protocols of their own:

# %%
board("lesions-areas")

# %%
board("lesions-contours")

# %%
board("nuclei-scribbles")

# %%
board("nuclei-boxes")

# %%
board("nuclei-rough")

# %%
board("cardiac-whole")

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You double every weight of the graph and every unary cost. What happens to the minimum cut?",
    {
        "The border becomes smoother.": "It would, if only the border's weights grew.",
        "Nothing.": "The energy doubles for every labelling alike, so the cheapest one stays the cheapest.",
        "The seeds lose.": "They are constraints, not costs.",
    },
    correct="Nothing.",
)

# %%
quiz(
    "Precision of your pseudo-labels is 99 %, and the student does not improve. What do you look at first?",
    {
        "The learning rate.": "Perhaps later.",
        "Coverage near the borders.": "Labels that are sure and right may all lie where the network was right anyway. What it does not know is at "
        "the border, and there nothing is believed.",
        "The threshold: it is too low.": "A lower one gives more labels. A threshold that is too low shows in the precision.",
    },
    correct="Coverage near the borders.",
)

# %% [markdown]
# ## Exercises
#
# **1. A class nobody scribbled.** Erase the strokes of the left ventricle in one image, `s[s == 3] = IGNORE`, and grow them again. Where does the ventricle go? What would the network learn from it?
#
# ```{dropdown} Hint
# `grow` takes a class without a stroke to be absent from the image.
# ```
# ```{dropdown} Solution
# To whatever is cheapest around it, mostly the myocardium. The mask looks complete and says with full confidence that there is no ventricle. Partial cross-entropy would have kept silent instead. Every technique that *completes* labels
# takes a missing stroke for a missing organ, so the annotator must scribble on every class that an image shows.
# ```
#
# **2. Take the threshold out.** Train `scribble2label` with `tau=0`. Then with `momentum=1`. Which of the two does more harm, and to what?
#
# ```{dropdown} Hint
# The first believes everything, the second forgets.
# ```
# ```{dropdown} Solution
# With `tau=0` all pixels have labels from the first answer on, right or wrong; coverage is 1 and precision is that of the network. With `momentum=1` the label is the last answer alone: a sure mistake of one moment is learnt before the next answer could
# object. Look at both with `pseudo_label_quality`, over several seeds, before you decide. That the answer is not obvious is the reason for the scoreboard's control rows.
# ```
#
# **3. The shrinking bias, measured.** Make an image of two grey levels with a long thin finger of the bright one, and put a seed at its root. For which contrast does the cut go around the finger, and when does it cut the finger off?
#
# ```{dropdown} Hint
# Compare the length of the finger's outline, each tie at $e^{-\Delta^2/2\sigma^2}$, with its width, each tie at 1.
# ```
# ```{dropdown} Solution
# Around: perimeter times $e^{-\Delta^2/2\sigma^2}$. Across: width times 1. A finger of width $b$ and length $l$ is kept as soon as $2l\, e^{-\Delta^2/2\sigma^2} < b$, so the longer, the clearer its edge must be. This is why a vessel is not segmented with a plain graph cut from one click.
# ```
#
# ## Take away
#
# - A graph cut finds the cheapest border that respects the strokes, exactly for two classes. What it cannot know is what organs look like; a network can.
# - Alternate (ScribbleSup), average over time (Scribble2Label), mix two opinions (DMPLS), let the like-minded vote (Cheng): four answers to *whom do I believe?*
# - Precision and coverage are bought from each other. Report both, and where the covered pixels lie.
# - Each kind of half-label leaves something open: areas the rest, lines the exact border, tags the place, boxes the shape, points the extent. Leave it open in the loss, too.
#
# **Reading.** {cite:t}`boykov2001interactive` is where it begins; {cite:t}`boykov2001fast` has more classes, and {cite:t}`rother2004grabcut` needs only a box. {cite:t}`lin2016scribblesup` brought networks in.
# {cite:t}`lee2020scribble2label` and {cite:t}`luo2022scribble` do without a graph. Partial areas: {cite:t}`cheng2020self` and {cite:t}`peng2020semi`. Lines: {cite:t}`zheng2020weakly`. Tags: {cite:t}`ji2019scribble`. Boxes and masks:
# {cite:t}`zhao2018deep`. Points: {cite:t}`dong2020towards`.
