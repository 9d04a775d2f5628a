# %% [markdown]
# # Weak to strong: pseudo-labels that an easy view gives to a hard one
#
# <!-- badge -->
#
# **You will learn**
#
# - why one of two answers may be trusted more than the other, without any teacher network;
# - how eight methods answer the questions *who labels*, *which pixels* and *where does no gradient go*;
# - how a mutual information tells agreement from indifference;
# - how CutMix, a threshold and hard labels make FixMatch, and what can poison it.
#
# **You should know** [consistency](../semi/consistency): Mean Teacher and the ramp-up.

# %% tags=["setup"]

# %%
import math
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from lsseg_edu import losses, show, study
from lsseg_edu.augment import Augment
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.consistency.bortsova import Elastic, Siamese
from lsseg_edu.semi.consistency.covid_weak import PointConsistency
from lsseg_edu.semi.consistency.cps import CrossPseudoSupervision
from lsseg_edu.semi.consistency.cutmix import boxes, paste
from lsseg_edu.semi.consistency.dmnet import DMNet, FusionDecoder, sharpen
from lsseg_edu.semi.consistency.entropy_min import EntropyMinimisation
from lsseg_edu.semi.consistency.fixmatch import FixMatch, confident
from lsseg_edu.semi.consistency.mi_cluster import MIClustering, joint, mutual_information
from lsseg_edu.semi.consistency.transforms import Dihedral
from lsseg_edu.semi.consistency.unimatch import UniMatch
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# Mean Teacher compares two answers and trusts the one of the *better network*. There is another way to
# get one answer that is better than the other: ask the same network an **easier question**. Below, one
# network, trained on three patients, sees one heart as it is, then in other intensities, then with a box
# of another patient pasted in.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised.for_task(task), task, budget, seed=0)
baseline.method.cpu()

hard = FixMatch.for_task(task).strong
pair = task.valid.images[[3, 12]]
truth = task.valid.labels[[3, 12]]
torch.manual_seed(2)
painted, box = hard.repaint(pair, None), boxes(pair)
views = torch.cat([pair[:1], painted[:1], paste(painted, box)[:1]])
targets = torch.cat([truth[:1], truth[:1], paste(truth, box)[:1]])
show.images(
    views,
    labels=targets,
    predictions=baseline.predict(views).argmax(1),
    titles=["easy: as it is", "hard: repainted", "harder: box pasted"],
    columns=4,
    names=("background", "RV", "myocardium", "LV"),
    alt="One heart as it is, in other intensities, and with a box of another heart pasted in, each with "
    "the true areas and the baseline's contours.",
)

# %% [markdown]
# One picture proves nothing, so let us count: the Dice of the same network on all validation patients,
# on the easy view and on the hard one.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
harder = hard.repaint(task.valid.images, None)
for name, images in (("easy view", task.valid.images), ("hard view", harder)):
    dice = score(baseline.predict(images).argmax(1), task.valid, surfaces=False).mean_dice
    print(f"{name}: Dice {dice:.3f}")

# %% [markdown]
# If the easy answer is the better one on average, then it is worth something as a **label for the hard
# view**. No mask is needed: the anatomy is the same in both. That is weak-to-strong supervision, and it
# needs an answer to three questions.
#
# $$
# L = L_{sup} + w(t) \sum_{i \in M} \ell\big( f_\theta(A x)_i,\ \hat y_i \big)
# $$
#
# Who says $\hat y$? At which pixels $M$ is it believed? And through which of the two answers does the
# gradient flow?
#
# | method | two answers that must agree | the label | gradient |
# |---|---|---|---|
# | entropy minimisation | the answer and its own decision | soft, itself | its only answer |
# | siamese (Bortsova) | $f(Tx)$ and $T f(x)$, elastic | soft | both |
# | points and flips (Laradji) | $f(Tx)$ and $T f(x)$, turned | soft, and points | both |
# | clusters (Peng) | cluster of $x$ and of $Tx$ | none: any naming will do | both |
# | DMNet | decoder 1 and decoder 2 | soft, sharpened | both |
# | cross pseudo supervision | network 1 and network 2 | hard, all pixels | the learner only |
# | FixMatch | weak and strong view | hard, confident pixels | strong view only |
# | UniMatch | weak view and three others | hard, confident pixels | the three only |
#
# Read from top to bottom, the methods become more and more decided about who teaches whom.

# %% [markdown]
# ## Entropy minimisation
#
# The oldest of them needs one answer only. If classes are clusters of pixels, few pixels should lie
# between them; so a network that hesitates at many unlabelled pixels has put its boundary in the wrong
# place. Grandvalet and Bengio simply charge for hesitation:
#
# $$
# L = L_{sup} + w(t)\,\frac{1}{|\Omega|}\sum_{i} H(p_i), \qquad H(p) = -\sum_k p_k \ln p_k .
# $$

# %%
show.code(EntropyMinimisation)

# %% [markdown]
# What does this loss ask of a pixel with two classes? The push is the slope of $H$ with respect to the
# logit $z$ of the first class, turned around because we descend.

# %%
z = torch.linspace(-6, 6, 121, requires_grad=True)
p = z.sigmoid()
entropy = -(p * p.log() + (1 - p) * (1 - p).log())
(slope,) = torch.autograd.grad(entropy.sum(), z)
show.curves(
    {"entropy H": entropy.detach(), "push on the logit": -slope},
    p.detach(),
    xlabel="probability of class 1",
    ylabel="nats",
    alt="Entropy over the probability, highest at one half, and the push on the logit: downwards below one "
    "half, upwards above it, zero at one half and at both ends.",
)

# %% [markdown]
# Below one half the push goes down, above it up: **every pixel is pushed to where it leans already**. A
# pixel at 0.5 is not pushed at all, and neither is one that is certain of the wrong class. So the term
# cannot correct an error that the labelled images do not correct; it hardens what is there. And one
# answer has no entropy anywhere: background, everywhere, with certainty. A small weight and a ramp keep the
# labelled images in charge.

# %% [markdown]
# ## Siamese equivariance
#
# Bortsova and colleagues compare two answers. A chest that is deformed a little is still a chest, and its
# lungs are deformed in the same way. So deforming the image and then asking must give the same as asking
# and then deforming the answer, $f(Tx) = T f(x)$, for **all** images, labelled ones included.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(1)
image = task.valid.images[3:4]
deform = Elastic.draw(image, strength=0.05)
before, after = baseline.predict(deform(image)), deform(baseline.predict(image))
gap = (before - after).square().sum(1).sqrt()[0] * deform.inside(image)[0, 0]
fig, axes = show.subplots(1, 4, width=5.8, height=1.8)
show.overlay(axes[0], image[0], prediction=baseline.predict(image)[0].argmax(0))
show.overlay(axes[1], deform(image)[0], prediction=before[0].argmax(0))
show.overlay(axes[2], deform(image)[0], prediction=after[0].argmax(0))
axes[3].imshow(gap, cmap="magma", vmin=0, vmax=1)
for ax, title in zip(axes, ("f(x)", "f(T x)", "T f(x)", "difference"), strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="The baseline's answer to a heart, to the deformed heart, the deformed answer, and where the last two "
    f"differ; mean difference {gap.mean():.4f}.",
)

# %%
show.code(Siamese)

# %% [markdown]
# $T$ is drawn once and used twice, on images and on probabilities, with the same grid and the same
# interpolation. Warping is a differentiable layer, and there is no `no_grad`: both branches learn, so that
# they meet half-way. The price is known from [the Pi model](self_ensembling.ipynb#pi-model): nothing says which of
# the two is right. A constant answer satisfies the second term for every $T$:

# %%
constant = torch.tensor([0.7, 0.1, 0.1, 0.1]).view(1, 4, 1, 1).expand(1, 4, 64, 64)
print(
    "T of a constant answer differs from it:",
    bool((deform(constant) - constant).abs().max() > 1e-5),
)

# %% [markdown]
# That is why the labelled images take part in both terms: there the constant is expensive. Equivariance to
# smooth deformations is also something that convolutions nearly have by birth, and that the augmentation
# of this book trains anyway. What is left to learn is where the network's habits at some distance matter,
# and the loss is small there.

# %% [markdown]
# ## Points and flips
#
# The same equation helps where labels are weak rather than few. Laradji and colleagues segment COVID-19
# lesions from **points**: one click in each lesion and one in the background. What does that cost?

# %%
everyone = Task.split(load("cardiac"))
clicked = annotate.points(everyone, seed=0)
masks = annotate.cost.mask_seconds(everyone.train.labels) / 3600
known = (clicked.train.labels != IGNORE).float().mean()
print(f"masks for all {len(everyone.train)} slices: {masks:.1f} hours")
print(f"points for all of them: {clicked.seconds / 3600:.1f} hours, {known:.2%} of the pixels")

# %% [markdown]
# A point says *what* is there, not how far it reaches. Trained on points alone, a network is free
# everywhere else. The consistency term ties this freedom: quarter-turns and mirrors move pixels onto
# pixels, so $f(Tx)$ and $T f(x)$ can be compared at every pixel, and the points move along.

# %%
dots, _ = annotate.draw_points(everyone.train.labels[4:5], radius=1, seed=0)
image4 = everyone.train.images[4:5]
turns = [Dihedral(torch.tensor([element])) for element in (0, 3, 5, 1)]
show.images(
    torch.cat([turn(image4) for turn in turns]),
    labels=torch.cat([turn(dots[:, None])[:, 0] for turn in turns]),
    titles=["x", "half-turn", "quarter-turn", "mirror"],
    columns=4,
    fill=True,
    names=everyone.train.names,
    alt="One heart with a dot for each class, and the same under a half-turn, a quarter-turn and a mirror: "
    "the dots move with the anatomy. The dots are drawn larger than they are.",
)

# %%
show.code(PointConsistency)

# %% [markdown]
# The term asks for *stable* shapes, not for right ones. A blob around every point is as stable as the true
# outline. What makes the outline right is left to the network's habit of following edges; where there is no
# edge, no consistency will find one. The scoreboard below has a table of its own for points: one in each
# lesion, and next to the method the partial cross-entropy that learns from the points alone.

# %% [markdown]
# ## Clusters that survive
#
# All consistency losses so far share a flaw: the constant answer satisfies them. Peng and colleagues use an
# agreement that a constant answer fails. A second head sorts pixels into $C$ clusters. Let $c$ be the
# cluster of a pixel in $x$, and $c'$ that of the same pixel, or a neighbour, in $Tx$. Counted over all
# pixels, the pair has a joint distribution $P$, and
#
# $$
# I(P) = \sum_{c c'} P_{cc'} \ln \frac{P_{cc'}}{P_c P_{c'}} = H(c) - H(c \mid c') .
# $$
#
# The second half is consistency: knowing one must tell the other. The first half is the entropy of the
# *marginal*: all clusters must be used. Three small cases:

# %%
stripes = torch.arange(64).view(1, 8, 8) % 4
columns, rows = F.one_hot(stripes, 4), F.one_hot(stripes.transpose(1, 2), 4)
columns, rows = (values.movedim(-1, 1).float() for values in (columns, rows))
constant = torch.zeros_like(columns)
constant[:, 0] = 1
for name, first, second in (
    ("agreement", columns, columns),
    ("names exchanged", columns, columns[:, [1, 0, 3, 2]]),
    ("independent", columns, rows),
    ("constant", constant, constant),
):
    print(f"{name:<20} I = {mutual_information(joint(first, second)).abs():.3f}")
print(f"{'the most there is':<20} ln 4 = {math.log(4):.3f}")

# %% [markdown]
# The constant, a perfect solution before, is now as bad as independence. And a cluster's name has no
# meaning: if 1 and 2 exchange theirs, nothing is lost. (`joint` averages $P$ with its transpose, since
# either image might have come first. That is why the names here are exchanged in pairs. With one head for
# both images, as below, the question does not arise.)

# %%
show.code(MIClustering)

# %% [markdown]
# Why a second head, and why more clusters than classes? The marginal's entropy wants all clusters equally
# large, and classes are not: most of a slice is background. Asked of the classes themselves, the
# term would cut the background into equal shares and call them organs. With 20 clusters on a head of their
# own, the background may have fifteen of them, and the decoder's features still have to tell things apart in
# a way that survives turning. The head is thrown away after training. Let us look at it before:

# %% tags=["nbval-ignore-output"]
short = replace(budget, steps=budget.pick(6, 150, 400))
clustering = fit(MIClustering.for_task(task), task, short, seed=0)
clustering.method.cpu().eval()
turn = Dihedral(torch.tensor([5]))
with torch.no_grad():
    here, _ = clustering.method.answers(image)
    there, _ = clustering.method.answers(turn(image))
groups = [here[0].argmax(0), turn.inverse(there)[0].argmax(0)]
same = (groups[0] == groups[1]).float().mean()
fig, axes = show.subplots(1, 4, height=2.0)
show.overlay(axes[0], image[0], task.valid.labels[3])
for ax, group in zip(axes[1:3], groups, strict=True):
    ax.imshow(group, cmap="tab20", vmin=0, vmax=19)
axes[3].imshow(groups[0] == groups[1], vmin=0, vmax=1)
titles = ("truth", "clusters of x", "of T x, turned back", "white: the same")
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="A heart with its true contours, the clusters of its pixels, the clusters of the turned image turned "
    f"back, and where they agree: {same:.0%} of the pixels, {len(groups[0].unique())} clusters in use.",
)

# %% [markdown]
# Not every cluster finds a use in so short a training. Compare those that did with the truth. Whatever border of a cluster runs along the border of an organ was
# found without a label; and most borders do not. Clusters follow whatever is stable under turning, and
# brightness is the most stable thing there is.

# %% [markdown]
# ## Two decoders
#
# Two answers to one view can differ as well, if different machinery gives them. DMNet has one encoder and
# two decoders of **different architecture**: the U-Net's, which climbs level by level, and one that brings
# all levels to full size at once and adds them.

# %%
show.code(FusionDecoder)

# %%
method = DMNet.for_task(task)
own = [*method.net.upcat_1.parameters(), *method.net.upcat_2.parameters()]
own += [*method.net.upcat_3.parameters(), *method.net.upcat_4.parameters()]
print(
    f"U-Net decoder:  {sum(p.numel() for p in own):>6} weights, learnt upsampling, level by level"
)
print(
    f"second decoder: {sum(p.numel() for p in method.second.parameters()):>6} weights, interpolation, all at once"
)
unsure = torch.tensor([0.6, 0.4]).log().view(1, 2, 1, 1)
for temperature in (1.0, 0.5, 0.25):
    first = sharpen(unsure, temperature)[0, 0].item()
    print(f"0.60 sharpened at T = {temperature:<4}: {first:.2f}")

# %% [markdown]
# Twice the same decoder would see the same features through the same glasses and agree soon. Different
# ones are wrong in different places: without transposed convolutions, for instance, there are no checkerboards.
# Their masks are sharpened, as in the last lines above, and the Dice between the two is maximised on
# unlabelled images. Since the encoder is shared, so are its blind spots: what no feature shows, no decoder
# can draw. (The paper adds a discriminator that judges masks; ours leaves it out.)

# %%
show.code(DMNet.loss)

# %% [markdown]
# ## Cross pseudo supervision
#
# Chen and colleagues share nothing: two whole networks that start from different random weights. Each
# takes the *decision* of the other as its label, argmax and all, without gradient into the one that gave it.

# %%
show.code(CrossPseudoSupervision.loss)

# %% [markdown]
# What happens at a pixel on which they disagree? Let network 1 give a class the probability 0.8, network 2
# give it 0.3, and descend on the cross term alone. Nothing else is known of this pixel.


# %%
def quarrel(start, steps=120, rate=0.25):
    logits = torch.tensor(start).logit()
    path = [logits.sigmoid()]
    for _ in range(steps):
        decision = (logits > 0).float().flip(0)
        logits = logits - rate * (logits.sigmoid() - decision) / 4
        path.append(logits.sigmoid())
    return torch.stack(path).T


one, two = quarrel([0.8, 0.3])
show.curves(
    {"network 1, starts at 0.8": one, "network 2, starts at 0.3": two},
    np.arange(121),
    xlabel="steps on the cross term alone",
    ylabel="probability of the class",
    alt=f"Two probabilities that walk towards each other's decision until one crosses one half; then both run "
    f"to the same side and end at {one[-1]:.2f} and {two[-1]:.2f}.",
)

# %% [markdown]
# Each walks towards the other's side. The one that was *less sure* crosses one half first, and from then on
# both run the same way. So the surer network wins, which is a sensible rule, and it is the only rule there
# is: whether the surer one is right, the labelled images must have seen to. After the quarrel the
# term has nothing more to say about this pixel, however wrong it is. Different first weights buy time, not truth.
#
# Both networks are trained, one answers. As in the paper, `predict` asks the first; if you average the two,
# say so, and give the baseline an ensemble of two as well.

# %% [markdown]
# ## FixMatch
#
# Now the easy and the hard view. FixMatch makes one decision for each of our three questions. *Who says
# it?* The network itself, of the **weak** view. *Which pixels?* Those at which its largest probability
# reaches $\tau$. *Where does no gradient go?* Into the weak view. The **strong** view must say the same:
#
# $$
# L_u = \frac{1}{|\Omega|} \sum_i \big[\max_k q_{ik} \ge \tau\big]\; \big({-\ln} f_\theta(A x)_{i \hat y_i}\big),
# \qquad \hat y_i = \arg\max_k q_{ik}, \quad q = f(x) .
# $$
#
# The sum is divided by *all* pixels. While the network is sure of few, the term is weak; it grows with
# the network's confidence, as if it had a ramp of its own. (In short trainings that is not enough: an early,
# confident mistake is learnt by heart. So ours has the ordinary ramp as well.)

# %%
show.code(FixMatch)

# %% [markdown]
# **CutMix.** In classification, the strong view distorts the image by any means. In a segmentation the means
# must not move the pixels away from their labels. CutMix is the strongest that does not: a box of another
# image, pasted at the same place. It removes context; a network that knows the heart by where it lies in the
# body has to recognise it in a torn-out piece. The same box must cut the image, its labels and its mask of
# believed pixels. Our labels carry the mask with them: not believed means `IGNORE`, so one `paste` serves both.

# %%
show.code(boxes)

# %% [markdown]
# **Teacher.** The paper's $q$ is the network's own answer. In segmentation it has become usual to take the
# averaged weights of [Mean Teacher](consistency.ipynb#mean-teacher) for it; `decay=0` is the paper's version, for then
# the average is the network itself.
#
# **Why no Dice?** All our supervised losses are Dice plus cross-entropy. Here it would be a trap. Suppose
# nobody is sure of one organ in this batch: its pixels are `IGNORE`, and the believed pixels are
# all background. The network still gives the organ a small probability there, as it should while it learns.
# How hard is that punished?

# %%
logits = torch.zeros(1, 4, 64, 64)
logits[:, 0] = 3.9
logits.requires_grad_()
labels = torch.zeros(1, 64, 64, dtype=torch.long)
labels[:, 20:40, 20:40] = IGNORE
print(f"probability of the organ at each believed pixel: {logits.softmax(1)[0, 1, 0, 0]:.3f}")
for name, loss in (("cross-entropy", losses.cross_entropy), ("Dice", losses.dice)):
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
    print(f"{name:<14} total push against it: {gradient[0, 1].sum():.4f}")

# %% [markdown]
# Dice asks for a class's *share*, and if no label mentions the class the right share is none. Its push is
# several times that of cross-entropy; the organ is suppressed, the teacher becomes less sure of it, fewer of
# its pixels are believed, and round it goes. A confidence threshold and a loss of class shares do not go together.

# %% [markdown]
# ## UniMatch
#
# What is a strong view *for*? For exploring answers that the network does not give by itself. Repainting
# explores what we can think of. UniMatch adds a stream that needs no imagination: the weak image's own
# **features**, half of their channels dropped. And it uses two strong views with boxes of their own instead of
# one. All three are labelled by the one weak view.

# %%
show.code(UniMatch.consistency)

# %% [markdown]
# Half of the term's weight is the feature stream's, a quarter each strong view's. Two views of one image
# that follow the same label also follow each other; the authors liken it to a contrastive loss with positive
# pairs only. The bill: four answers to every unlabelled image a step, three of them with a gradient, where
# Mean Teacher needs two and one. Compare it with methods of equal time, not of equal steps.

# %% [markdown]
# ## Side by side
#
# FixMatch and the baseline: the same first weights, the same labelled images in the same order, the same steps.

# %% tags=["nbval-ignore-output"]
fixmatch = fit(FixMatch.for_task(task), task, budget, seed=0)
fixmatch.method.cpu().eval()
for name, fitted in (("supervised", baseline), ("FixMatch", fixmatch)):
    print(f"{name}\n{evaluate(fitted, task.valid)}\n")

# %% [markdown]
# These are validation patients; the test patients are left to the scoreboard. Now look inside one
# training step, with the trained network. Choose how the strong view is made and how sure the weak view has
# to be. The hatched pixels are not believed. On validation patients we know the truth, so the title can say
# how many of the believed pixels are right; the method cannot know that.

# %% tags=["nbval-ignore-output"]
RECIPES = {
    "as the weak one": (0, False),
    "CutMix only": (0, True),
    "repainted": (1, False),
    "repainted + CutMix": (1, True),
    "twice as strong + CutMix": (2, True),
}
two = task.valid.images[[3, 12]]
answer = fixmatch.predict(two)
right = answer.argmax(1) == task.valid.labels[[3, 12]]


def paint(strength):
    fields = {
        name: strength * getattr(hard, name)
        for name in ("bias", "gamma", "contrast", "blur", "noise")
    }
    return replace(Augment.none(), **fields)


def inside(view, tau):
    strength, cut = RECIPES[view]
    torch.manual_seed(4)
    strong, labels = paint(strength).repaint(two, None), confident(answer, tau)
    believed = labels[0] != IGNORE
    if cut:
        torch.manual_seed(5)
        box = boxes(two, share=(0.3, 0.3))
        strong, labels = paste(strong, box), paste(labels, box)
    with torch.no_grad():
        asked = fixmatch.method.net(strong)
    charge = F.cross_entropy(asked, labels, ignore_index=IGNORE, reduction="none")[0]
    share, correct = believed.float().mean(), right[0][believed].float().mean().nan_to_num()
    fig, axes = show.subplots(1, 3, width=5.4, height=2.3)
    show.overlay(axes[0], two[0], confident(answer, tau)[0], fill=False, hatch=True)
    show.overlay(axes[1], strong[0], labels[0], fill=False, hatch=True)
    axes[2].imshow(charge, cmap="magma", vmin=0, vmax=2)
    for ax, title in zip(
        axes,
        (
            f"weak: {share:.0%} believed\n({correct:.0%} of it right)",
            "strong view\nand its labels",
            "loss",
        ),
        strict=True,
    ):
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Strong view {view}, threshold {tau}: {share:.1%} of the weak view's pixels are believed, "
        f"{correct:.1%} of those are right; the mean loss is {charge.mean():.4f}.",
    )


show.explore(
    inside,
    view=list(RECIPES),
    tau=[0.5, 0.9, 0.99],
    labels={"view": "strong view", "tau": "threshold τ"},
    limit=90_000,
    alt="The weak view with its confident pseudo-label, the strong view with the labels it is given, and "
    "where the student is charged.",
)

# %% [markdown]
# Raise the threshold first: what is lost are the rims of the organs, where most errors are, and where
# most of the learning would be. Then change the view at one threshold. With the weak view itself the loss
# should be small: the network is asked what it, or its average, has just said. Every step towards a stronger view adds
# places where it can be told something. At "twice as strong", ask yourself whether *you* could still find the
# contour. Beyond that point the label teaches the network to guess from the surroundings.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats this with several draws of the labelled patients.
# *Supervised, longer* spends more steps on the labelled images; `weight=0` is the averaging teacher
# without unlabelled images, the control for FixMatch and UniMatch, which answer with an average too.

# %%
results = study.read()
mine = {
    "entropy-min",
    "bortsova",
    "covid-weak-cons",
    "mi-cluster",
    "dmnet",
    "cps",
    "fixmatch",
    "unimatch",
    "mean-teacher",
    "mean-teacher:weight=0",
    "supervised",
    "supervised-longer",
    "full-labels",
}
show.scoreboard([line for line in study.summary(results, "cardiac-3") if line.method in mine])

# %% [markdown]
# And lung lesions of which only points are annotated:

# %%
points = {"covid-weak-cons", "pce", "full-labels"}
show.scoreboard(
    [line for line in study.summary(results, "lesions-points") if line.method in points]
)

# %% [markdown]
# Read the interval before the mean, and the minutes beside both. If the methods with hard labels and a strong
# view stand apart from those that compare two answers of equal standing, that is the lesson of this
# page; if their intervals overlap, so few draws of three patients were not enough to show it. Ask also what a
# method that loses to the baseline was told by its pseudo-labels: a confident mistake is taught with the
# same energy as the truth.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A colleague speeds FixMatch up: one forward pass of the strong view gives both the pseudo-label (detached) "
    "and the prediction. What has become of the method?",
    {
        "It is the same, only faster.": "The label no longer comes from the easier question, so it knows nothing "
        "that the prediction does not know.",
        "It has become entropy minimisation on confident pixels.": "Cross-entropy with one's own decision pushes each "
        "pixel to where it leans, as the entropy does.",
        "It has become Mean Teacher.": "There is no second network and no average in it.",
    },
    correct="It has become entropy minimisation on confident pixels.",
)

# %%
quiz(
    "You add CutMix to FixMatch. Images and labels are pasted with the same box, but the mask of believed pixels "
    "is forgotten and stays that of the first image. What happens?",
    {
        "Nothing, the mask only removes pixels.": "It now removes the wrong ones, and lets the wrong ones in.",
        "Inside the box, uncertain labels are believed and certain ones dropped.": "The mask there belongs to the "
        "image that was pasted over.",
        "The loss becomes NaN.": "All is finite, and no test of shapes will notice.",
    },
    correct="Inside the box, uncertain labels are believed and certain ones dropped.",
)

# %% [markdown]
# ## Exercises
#
# **1. Balance.** Compute the mutual information of perfect agreement if one cluster holds 90 % of the pixels and
# another one the rest. What does the loss gain by cutting the large cluster in two, whatever is in it?
#
# ```{dropdown} Hint
# For perfect agreement $I$ is the entropy of the marginal.
# ```
# ```{dropdown} Solution
# $H(0.9, 0.1) = 0.33$ nats. Cut in two equal parts, $H(0.45, 0.45, 0.1) = 0.95$: nearly three times as much, for a
# cut that need not mean anything as long as it survives the transformation. With few clusters the loss cuts up
# the background first. That is why the head has more clusters than there are classes, and why it is not the
# segmentation's own head.
# ```
#
# **2. Threshold and classes.** With $K = 4$ classes, which is the smallest $\tau$ at which a pixel that hesitates
# between exactly two of them is never believed? And the smallest $\tau$ that does anything at all?
#
# ```{dropdown} Hint
# What is the smallest possible maximum of $K$ probabilities?
# ```
# ```{dropdown} Solution
# A coin flip between two classes has the maximum $1/2$, so any $\tau > 1/2$ leaves it out. The maximum of $K$
# probabilities is never below $1/K$; up to $\tau = 1/4$ everything is believed. Unlike the entropy threshold of
# UA-MT, the rule for two hesitating classes does not depend on $K$.
# ```
#
# **3. A fair pair.** Cross pseudo supervision trains two networks. Train two *supervised* networks from two seeds,
# and predict with the first; then with the mean of both. Which of the two is the right baseline for `cps`, and
# what would you report if the mean of both gained as much as the method?
#
# ```{dropdown} Hint
# What is used at prediction, and what was spent in training?
# ```
# ```{dropdown} Solution
# `predict` uses one network, so for the score the single baseline is right; for the cost, *supervised longer* is,
# since two networks were trained. If an ensemble of two baselines gains as much, it does so with twice the time
# at prediction and without unlabelled images: report both, and say what each needs.
# ```
#
# ## Take away
#
# - An easier question gets a better answer, and the better answer can label the harder question.
# - Decide who labels, where it is believed, and where no gradient goes. Each is one line, and each can be wrong unseen.
# - A constant answer is consistent. Mutual information forbids it; elsewhere only the labelled images do.
# - Box, label and mask are cut together. A loss of class shares and a threshold do not go together.
# - A confident mistake is taught like a truth: start slowly.
#
# **Reading.** {cite:t}`grandvalet2004semi`, {cite:t}`bortsova2019semi`, {cite:t}`laradji2021weakly`,
# {cite:t}`peng2020mutual` after {cite:t}`ji2019invariant`, {cite:t}`fang2020dmnet`, {cite:t}`chen2021semi`,
# {cite:t}`sohn2020fixmatch` and {cite:t}`yang2023revisiting`. CutMix is by {cite:t}`yun2019cutmix`;
# {cite:t}`french2020semi` brought it to semi-supervised segmentation.
