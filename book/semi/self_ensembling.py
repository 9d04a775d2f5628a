# %% [markdown]
# # Self-ensembling: what to shake, whom to trust
#
# <!-- badge -->
#
# **You will learn**
#
# - how eight methods fill in the same line of algebra, and why the two blanks in it matter;
# - why a turned image needs a turned answer, and how to test that it got one;
# - what it means to believe a teacher only where it is sure, and a mistake in the arithmetic of "sure";
# - why two of the methods pick opposite pixels, and both have a reason.
#
# **You should know** [consistency](../semi/consistency): Mean Teacher, its ramp-up, and the control `weight=0`.

# %% tags=["setup"]

# %%
import math
from dataclasses import replace

import torch
from torch import nn

from lsseg_edu import show, study
from lsseg_edu.augment import Augment
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.semi.consistency.cui import CuiMeanTeacher
from lsseg_edu.semi.consistency.extreme_consistency import ExtremeConsistency
from lsseg_edu.semi.consistency.mmt_psm import MMTPSM, most
from lsseg_edu.semi.consistency.pi_model import PiModel
from lsseg_edu.semi.consistency.src_mt import SRCMT, relations
from lsseg_edu.semi.consistency.tcsm import TCSM
from lsseg_edu.semi.consistency.temporal_ensembling import TemporalEnsembling
from lsseg_edu.semi.consistency.transforms import AffineView, Dihedral
from lsseg_edu.semi.consistency.ua_mt import UAMT, entropy
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
short = replace(budget, steps=budget.pick(6, 200, 400))
task = Task.split(load("cardiac"), labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# An image without a mask can still contradict a network: change the image in a way that does not
# change the anatomy, and see whether the answer changes. Mean Teacher adds grain. But grain is not the
# only thing that leaves a heart a heart. Below, a network trained on three patients sees one heart four
# times: as it is, with grain, in other contrast, and turned. The turned answer is turned back before we
# draw it.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised.for_task(task), task, short, seed=0)
baseline.method.cpu()

image = task.valid.images[3:4]
torch.manual_seed(0)
paint = Augment(bias=0.4, gamma=0.6, contrast=0.5, blur=0, noise=0)
turn = Dihedral(torch.tensor([6]))
answers = [
    baseline.predict(image),
    baseline.predict(image + 0.4 * torch.randn_like(image)),
    baseline.predict(paint.repaint(image, None)),
    turn.inverse(baseline.predict(turn(image))),
]
show.images(
    image.repeat(4, 1, 1, 1),
    predictions=torch.cat(answers).argmax(1),
    titles=["as it is", "with grain", "repainted", "turned, back"],
    columns=5,
    names=("background", "RV", "myocardium", "LV"),
    alt="One heart with the baseline's answer to it and to three changed copies: with grain, in other "
    "contrast, and turned by a quarter. The answers differ although the anatomy is the same.",
)

# %% [markdown]
# Each change finds other weaknesses. A method of this family is a choice of what to **shake**. It is
# also a choice of whom to **trust**: when two answers differ, which one is the target, and at which
# pixels do we insist?

# %% [markdown]
# ## One line with two blanks
#
# Let $T$ move an image or an answer (a turn, a shift, a change of size), and let $\eta$ be all that
# does not move anything (grain, contrast, dropout). All methods here minimise
#
# $$
# L = L_{sup} + w(t)\,\frac{1}{|M|\,K} \sum_{i \in M} \sum_k
#   \big( f_\theta(T x + \eta)_{ik} - (T\,\tilde p)_{ik} \big)^2 ,
# $$
#
# with $\tilde p$ the trusted answer to the image before the move, $M$ the pixels that count, and $w(t)$ the
# ramp of [consistency](consistency.ipynb#ramp-up).
#
# | method | what is shaken | the trusted answer | pixels that count |
# |---|---|---|---|
# | Pi model | grain, dropout, shift | its own, of the same moment | all |
# | temporal ensembling | the same | average of its past answers | all, if met before |
# | Mean Teacher, Cui | grain | average of past weights | all; Cui: labelled images too |
# | UA-MT | grain, dropout | the teacher | where the teacher is sure |
# | TCSM | turn, mirror, size | the teacher, its answer moved | where $T$ invented nothing |
# | extreme consistency | all of it, and mixtures | the teacher of the weak image | the same |
# | SRC-MT | grain | the teacher | all, plus who resembles whom |
# | MMT-PSM | grain | mean of the teacher's answers | where grain matters most |

# %% [markdown]
# ## Pi model
#
# The simplest way to fill the blanks needs no teacher. Ask one network twice, each time with grain,
# dropout and a small shift of its own, undo the shifts, and let the two answers attract each other.

# %%
show.code(PiModel)

# %% [markdown]
# There is no `no_grad` in it. In the Pi model the gradient flows through **both** answers, and that says
# something about trust: nobody is trusted more. Take one pixel with the answers 0.9 and 0.5 and let
# gradient descent reduce their squared difference, once through both and once with the first held fixed.


# %%
def meet(fixed):
    answers = torch.tensor([0.9, 0.5], requires_grad=True)
    for _ in range(200):
        first = answers[0].detach() if fixed else answers[0]
        (gradient,) = torch.autograd.grad((first - answers[1]).square(), answers)
        answers = (answers - 0.05 * gradient).detach().requires_grad_()
    return [round(value, 2) for value in answers.tolist()]


print("through both:    ", meet(fixed=False))
print("first one fixed: ", meet(fixed=True))

# %% [markdown]
# Through both, they meet half-way: a good answer pays as much as a bad one. With the first one fixed, the
# second does all the walking. The methods below all fix a target, and then have to say why it deserves
# to be one.

# %% [markdown]
# ## Temporal ensembling
#
# Two passes a step are expensive, and the second answer is as noisy as the first. But the network has
# answered this very image before, several steps ago and with other noise. Laine and Aila keep a memory
# $Z_i$ for each training image, the running average of all its answers so far:
#
# $$
# Z_i \leftarrow \alpha Z_i + (1-\alpha)\, z_i, \qquad
# \tilde p_i = \frac{Z_i}{1-\alpha^{t}} \quad \text{after the } t\text{-th answer to image } i .
# $$
#
# Why the division? The memory starts at zero, which is not a distribution. Look at one pixel whose
# answers scatter about 0.8:

# %%
torch.manual_seed(0)
said = (0.8 + 0.1 * torch.randn(15)).clamp(0, 1).tolist()
memory, plain, corrected = 0.0, [], []
for t, z in enumerate(said, start=1):
    memory = 0.6 * memory + 0.4 * z
    plain.append(memory)
    corrected.append(memory / (1 - 0.6**t))
show.curves(
    {"answers z": said, "memory Z": plain, "target Z / (1 − αᵗ)": corrected},
    xlabel="answers to this image so far",
    ylabel="probability",
    alt="Scattered answers about 0.8; the plain memory starts below 0.4 and needs some eight answers to "
    "arrive; the corrected target is among the answers from the first one on.",
)

# %% [markdown]
# Uncorrected, the first targets would teach that this pixel is probably nothing at all. In the code,
# `answers` counts for each image by itself, since batches are drawn at random and some images are met
# more often than others.

# %%
show.code(TemporalEnsembling)

# %% [markdown]
# One line is easy to overlook: `weak = Augment.none()`. The memory belongs to the pixels of the *stored*
# image. If the image arrived warped by a random augmentation, each answer would be written over the last
# one at the wrong place. So the images come as they are, the method shakes them itself, and it can undo
# exactly what it did.
#
# The price is memory, $N \cdot K \cdot |\Omega|$ numbers, which is little for slices and a lot for
# volumes; and a target that is as old as the last visit. With few visits to each image, as in a short
# training, much of the ensemble is still from the network's first attempts. Mean Teacher was invented to
# mend this: average the weights, and the target is new at every step.

# %%
memory = TemporalEnsembling.for_task(task).memory
visits = 400 * 8 / len(task.unlabelled)
print(f"memory: {tuple(memory.shape)} in float16, {memory.nbytes / 1e6:.0f} MB")
print(f"answers to each unlabelled image in 400 steps of 8: about {visits:.0f}")

# %% [markdown]
# ## Mean Teacher for lesions
#
# Cui and colleagues brought Mean Teacher to lesions in brain MR. The mechanism stays, grain on both
# sides. What changes is who is asked: the consistency term covers **labelled and unlabelled** images.

# %%
show.code(CuiMeanTeacher)

# %% [markdown]
# On a labelled image there is already a mask, so why ask for more? Because the mask is hard and the
# lesion's edge is not. The teacher's soft answer stands beside it and says which of the edge pixels are
# debatable. The gain can only be small where masks are few, as here: three patients' images are asked
# one more question each, and the batch costs half as much again.

# %% [markdown]
# ## Uncertainty-aware mean teacher
#
# A teacher is wrong at times, and a student that copies it learns the errors. Yu and colleagues ask the
# teacher several times, with grain and with its dropout **on**, and average: $\bar p$. If the answers
# contradict each other, the average is flat, and its entropy is large:
#
# $$
# U_i = -\sum_k \bar p_{ik} \ln \bar p_{ik}, \qquad M = \{\, i : U_i < H(t) \,\}, \qquad
# H(t) = \big(\tfrac34 + \tfrac14 w(t)\big)\, U_{max} .
# $$
#
# Here $w$ is the same ramp, but over the whole training. It is the entropy of the mean, not the mean of the
# entropies. A teacher that is *sure* each time, but of something else each time, is as uncertain as can be,
# and only the first of the two notices:

# %%
each = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 2, 1, 1)
print(f"mean of the entropies: {entropy(each).mean():.3f}")
print(f"entropy of the mean:   {entropy(each.mean(0, keepdim=True)).item():.3f}")

# %%
show.code(UAMT)

# %% [markdown]
# Three details decide whether this is the method or its shadow:
#
# - **Dropout on for the estimate, off for the target.** The scatter is what we measure; the target should
#   be the best answer there is. The student trains with dropout as well, which a small network pays for
#   on its labelled images too; the control that isolates this is UA-MT with `weight=0`.
# - **The mask's own sum.** `masked_mse` divides by the pixels that count. Divided by all pixels, a
#   cautious teacher would make a weak loss, and the ramp $w(t)$ would mean something else each step.
# - **$U_{max} = \ln K$.** The paper segments one organ, so its code has $\ln 2$. Copied to four
#   classes, that is a much stricter threshold than the paper's.
#
# The last point has another side, which is worth a computation. At a boundary the teacher typically
# hesitates between *two* classes. How uncertain can it be there, and is that above the threshold?

# %%
coin = math.log(2)
for classes in (2, 4):
    start = 0.75 * math.log(classes)
    verdict = "masked" if coin > start else "kept"
    print(
        f"K = {classes}: coin flip between two classes {coin:.2f}, threshold 3/4 ln K = {start:.2f}: {verdict}"
    )

# %% [markdown]
# With two classes the mask removes the debatable rim of the organ. With four, the rule of the paper never
# removes a pixel that hesitates between two of them, however much it hesitates; only those that
# hesitate among three or four. Train the method for a short while and look. The control *largest entropy*
# switches between the two readings of $U_{max}$.

# %% tags=["nbval-ignore-output"]
uamt = fit(UAMT.for_task(task), task, short, seed=0)
uamt.method.cpu()
torch.manual_seed(0)
uncertain = uamt.method.uncertainty(image)[0, 0]
mean_answer = uamt.predict(image)[0].argmax(0)


def trusted(progress, largest):
    threshold = uamt.method.threshold(progress, {"ln K": 4, "ln 2": 2}[largest])
    sure = uncertain < threshold
    fig, (left, middle, right) = show.subplots(1, 3, width=5.6, height=1.9)
    show.overlay(left, image[0], prediction=mean_answer)
    heat = middle.imshow(uncertain, cmap="magma", vmin=0, vmax=math.log(4))
    fig.colorbar(heat, ax=middle, shrink=0.8)
    right.imshow(sure, cmap="gray", vmin=0, vmax=1)
    for ax, title in zip(
        (left, middle, right), ("teacher's answer", "entropy (nats)", "white: counts"), strict=True
    ):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Answer, entropy and mask at {progress:.0%} of training with {largest}: threshold "
        f"{threshold:.2f}, {sure.float().mean():.1%} of the pixels count.",
    )


show.explore(
    trusted,
    progress=[0.0, 0.5, 1.0],
    largest=["ln K", "ln 2"],
    labels={"progress": "training progress t", "largest": "largest entropy"},
    limit=60_000,
    alt="The teacher's answer, its entropy, and the pixels it is trusted at.",
)

# %% [markdown]
# The slider moves the threshold only; the teacher is the one at the end of this training. The longer a
# teacher is trained, the more its entropy withdraws to the rims of the organs, below the threshold for four
# classes. Once the whole mask is white, UA-MT is Mean Teacher with dropout and a larger bill. That is a
# question to ask of any method that filters: *how much does it filter, on my data?*

# %% [markdown]
# ## Transformation consistency
#
# Grain leaves every pixel where it was, so a network can satisfy the loss by becoming deaf to grain. Li
# and colleagues turn, mirror and scale the image instead. A segmentation network should be **equivariant**:
# the answer to the turned image is the turned answer, $f(Tx) = T f(x)$. Convolutions are not born with
# this; their kernels know up from down.

# %%
show.code(TCSM)

# %% [markdown]
# The order is where implementations go wrong: the student gets $T x$, and the teacher gets $x$, and its
# *answer* gets the same $T$, by the same interpolation and the same convention for the corners. There is
# a simple test. A network of 1x1 convolutions sees one pixel at a time and cannot help being equivariant,
# so a correct loss is zero for it, and an incorrect one is not:

# %%
torch.manual_seed(0)
pixelwise = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Softmax(1))
views = task.train.images[:8]
turns = Dihedral(torch.arange(8))
with torch.no_grad():
    student, teacher = pixelwise(turns(views)), pixelwise(views)
print("T of the answer:         zero?", bool((student - turns(teacher)).abs().max() < 1e-5))
print("T forgotten:             zero?", bool((student - teacher).abs().max() < 1e-5))
print(
    "the inverse of T instead: zero?", bool((student - turns.inverse(teacher)).abs().max() < 1e-5)
)
print("T undone gives the image:     ", bool(torch.equal(turns.inverse(turns(views)), views)))

# %% [markdown]
# Quarter-turns and mirrors move pixels onto pixels and lose nothing. Scaling has to interpolate, and a
# shrunken image leaves a margin that has to be invented. There the student is not asked; this is the
# method's mask $M$.

# %%
view = AffineView(torch.tensor([[[1.3, 0.25, 0.0], [-0.25, 1.3, 0.0]]]))
inside = view.inside(image)
show.images(
    torch.cat([view(image), view.inverse(view(image)), inside * view(image)]),
    titles=["T x", "T undone", "where it counts"],
    columns=5,
    alt="The heart image shrunken and turned, with its border stretched into the margin; moved back, a "
    "little blurred; and the moved image with the invented margin greyed out.",
)

# %% [markdown]
# Mirrors deserve a thought. A mirrored chest has its heart on the right, and no such patient will come.
# As long as $T$ acts on answers too, nothing false is taught, but a small network spends capacity on bodies
# that do not exist. Where left and right are classes of their own, use `TCSM(..., mirrors=False)`.

# %% [markdown]
# ## Extreme consistency
#
# If a hard question teaches more than an easy one, ask the hardest that still has a known answer.
# Fotedar and colleagues give the teacher a weakly changed image, and the student the same image after
# everything at once: moves, strong changes of intensity, and a **mixture** with another image. The
# target follows through the moves and the mixture, and through nothing else.

# %%
show.code(ExtremeConsistency.harden)

# %% tags=["nbval-ignore-output"]
easy = task.valid.images[[3, 16]]
torch.manual_seed(3)
extreme = ExtremeConsistency.for_task(task)
hard, target, known = extreme.harden(easy, baseline.predict(easy))
show.images(
    torch.cat([easy, hard]),
    predictions=torch.cat([baseline.predict(easy), target]).argmax(1),
    titles=[*["teacher's"] * 2, *["student's"] * 2],
    columns=7,
    alt="Two hearts with the network's answers; then the same two turned, repainted and mixed with "
    "one another, each with the answer that was turned and mixed in the same way.",
)

# %% [markdown]
# Two mixtures are used. CutMix pastes a box of the next image, so the target stays as hard as before.
# MixUp blends two images, and the target becomes a blend as well: half ventricle, half background. For
# a segmentation that is a strange thing to say, since no scanner superimposes two patients; it acts as
# smoothing between training images. The method fails when the hard image no longer determines the
# answer. Then the student learns an average of what could be there.

# %% [markdown]
# ## Relations between samples
#
# So far each image was compared with itself. Liu and colleagues add what a batch knows: **who resembles
# whom**. Take the deepest features of the $B$ images as rows of $A$, and compare
#
# $$
# G = A A^\top, \qquad R_b = G_b \,/\, \lVert G_b \rVert_2, \qquad
# L_{rel} = \frac1B \sum_b \lVert R_b - R'_b \rVert^2
# $$
#
# of student and teacher. A relation can be right before the answer is: a network that does not know yet
# where the ventricle ends may know that this slice looks like that one.

# %%
show.code(SRCMT.consistency)

# %%
show.code(relations)

# %% tags=["nbval-ignore-output"]
batch = task.valid.images[[2, 3, 4, 5, 14, 15, 16, 17]]
torch.manual_seed(0)
with torch.no_grad():
    deep = [
        baseline.method.net.encode(batch + noise * torch.randn_like(batch))[-1]
        for noise in (0.0, 0.2, 0.8)
    ]
grams = [relations(features) for features in deep]
spans = {"vmin": min(g.min().item() for g in grams), "vmax": max(g.max().item() for g in grams)}
fig, axes = show.subplots(1, 3, height=2.3)
for ax, gram, noise in zip(axes, grams, (0.0, 0.2, 0.8), strict=True):
    heat = ax.imshow(gram, cmap="viridis", **spans)
    ax.set_title(f"noise {noise}")
    ax.set(xticks=range(8), yticks=range(8), xlabel="image")
fig.colorbar(heat, ax=axes, shrink=0.8)
moved = [(gram - grams[0]).square().sum(1).mean() for gram in grams[1:]]
show.figure(
    fig,
    alt="Row-normalised Gram matrices of eight slices of two patients at three noise levels, brightest on "
    f"the diagonal; the relation loss to the first is {moved[0]:.4f} and {moved[1]:.4f}.",
)

# %% [markdown]
# Images 0 to 3 are neighbouring slices of one heart, 4 to 7 the same slices of another. Each row has length
# 1, so only the pattern counts. The paper classifies whole images, where such a matrix nearly is the
# answer. A segmentation needs to know *where*, and a Gram matrix has summed over all places. Expect it to
# shape the encoder, not to draw the boundary.

# %% [markdown]
# ## Perturbation-sensitive mining
#
# UA-MT leaves out the pixels on which the teacher wavers. Zhou and colleagues go and look for them. Most
# of an image is easy; if the loss is a mean over all pixels, the easy ones drown the rest. So they
# measure how much each answer changes under perturbation, and learn from the most sensitive share only,
# with the *mean* of the perturbed answers as a target that is steadier than any of them. On the way, the
# student's features follow the teacher's, but only inside what the teacher takes for foreground.

# %%
show.code(MMTPSM.consistency)

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
copies = baseline.predict(image + 0.2 * torch.randn(8, *image.shape[1:]))
sensitive = copies.var(0, unbiased=False).sum(0)
mined = most(sensitive, 0.25)
hesitant = most(uncertain, 0.25)
fig, axes = show.subplots(1, 4, width=5.8, height=1.8)
show.overlay(axes[0], image[0], prediction=copies.mean(0).argmax(0))
for ax, values in zip(axes[1:], (sensitive.sqrt(), mined, ~hesitant), strict=True):
    ax.imshow(values, cmap="magma" if values.dtype.is_floating_point else "gray")
titles = ("mean answer", "sensitivity (root)", "mined: white", "certain: white")
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title)
    ax.axis("off")
both = (mined & hesitant).float().mean() / mined.float().mean()
show.figure(
    fig,
    alt="The mean answer, its sensitivity to noise, the quarter of the pixels that is mined, and the three "
    f"quarters that a teacher sure of itself would keep; {both:.0%} of the mined ones are not kept.",
)

# %% [markdown]
# As far as noise and dropout stir up the same pixels, the last two pictures are each other's negatives: one
# method learns where the other looks away. Both reasons are good. Where the teacher wavers it is most often
# wrong, so its word is worth least; and where it wavers is where there is something left to learn, so its
# word is worth most. What tips the balance is how good the target is at those pixels. MMT-PSM's bet is that
# the average of several answers is good enough. It loses the bet where all copies are wrong together, since
# noise cannot show that.
#
# The original mines region proposals of overlapping cells in Mask R-CNN. Ours mines pixels of a semantic
# segmentation; the principle is the same, the unit is not.

# %% [markdown]
# ## Side by side
#
# Three short trainings on the same three labelled patients: the baseline and UA-MT from above, and TCSM.
# They are shown on the validation patients; the test patients are left to the scoreboard, whose
# trainings are whole.

# %% tags=["nbval-ignore-output"]
tcsm = fit(TCSM.for_task(task), task, short, seed=0)
tcsm.method.cpu()
fits = {"supervised": baseline, "UA-MT": uamt, "TCSM": tcsm}
for name, fitted in fits.items():
    print(f"{name}\n{evaluate(fitted, task.valid)}\n")

# %% [markdown]
# What did the perturbation buy? Each method is trained on one kind of shaking. Below you choose the kind
# and its strength, and see where the answer changes: the root mean squared change of the probabilities over
# four draws, with moves undone. Black is no change, the brightest colour 0.4 and more.


# %% tags=["nbval-ignore-output"]
calm = {name: fitted.predict(image) for name, fitted in fits.items()}


def inconsistency(kind, strength, method):
    torch.manual_seed(0)
    same, amount = image.repeat(4, 1, 1, 1), 0.8 * strength
    view = AffineView.draw(same, rotation=90 * strength if kind == "turn" else 0)
    shaken = view(same)
    if kind == "grain":
        shaken = same + amount * torch.randn_like(same)
    elif kind == "contrast":
        paint = Augment(bias=amount, gamma=amount, contrast=amount, blur=0, noise=0)
        shaken = paint.repaint(same, None)
    answers, known = fits[method].predict(shaken), view.inverse(view.inside(same).float())
    change = (view.inverse(answers) - calm[method]).square().mean(1, keepdim=True) * known
    change = (change.sum(0) / known.sum(0).clamp(min=1)).sqrt()[0]
    fig, (left, right) = show.subplots(1, 2, width=4.2, height=2.0)
    show.overlay(left, shaken[1], prediction=answers[1].argmax(0))
    right.imshow(change, cmap="magma", vmin=0, vmax=0.4)
    for ax, title in zip((left, right), ("one shaken copy", "change of the answer"), strict=True):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"{method} shaken by {kind} of strength {strength}: a copy with its answer, and the map of "
        f"changes, mean {change.mean():.4f}.",
    )


show.explore(
    inconsistency,
    kind=["grain", "contrast", "turn"],
    strength=[0.1, 0.4, 1.0],
    method=["supervised", "TCSM"],
    labels={
        "kind": "what is shaken",
        "strength": "strength (1: noise 0.8, contrast ×2.2, turns to 90°)",
    },
    limit=70_000,
    alt="Where the answer changes when the image is shaken in different ways.",
)

# %% [markdown]
# Consistency is learnt for the shaking it was trained with, and carries over to other kinds only as far as
# they share a weakness. Compare the two methods under *turn* first, then under *grain* and *contrast*. And
# keep in mind that a calm map is no proof of a good segmentation: a network that answers "background" to
# everything never changes its mind.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats the comparison with full trainings and several draws of
# the labelled patients. `weight=0` is the averaging teacher without one unlabelled image, the control for
# all methods with a teacher. *Supervised, longer* spends more steps on the labelled images alone, which is
# the fair opponent of the methods that ask their networks many times a step.

# %%
results = study.read()
mine = {
    "pi-model",
    "temporal-ensembling",
    "cui-mt",
    "ua-mt",
    "tcsm",
    "mmt-psm",
    "extreme-consistency",
    "src-mt",
    "mean-teacher",
    "mean-teacher:weight=0",
    "supervised",
    "supervised-longer",
    "full-labels",
}
show.scoreboard([line for line in study.summary(results, "cardiac-3") if line.method in mine])

# %% [markdown]
# Read the interval before the mean, and the column of minutes before both. If the rows with a teacher
# overlap with each other and with `weight=0`, the runs do not tell these methods apart, and the simplest
# of them is the one to start with. A method that was published with a gain on its own data, with its
# own schedule, may show none under a recipe shared by all; that is no refutation of the paper, but it is
# what you would get by copying it.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You add quarter-turns to Mean Teacher: student and teacher both get the turned image, each with its own "
    "grain. What has the network been taught about turning?",
    {
        "To be equivariant to turns.": "Nowhere are the answers to a turned and an unturned image compared.",
        "Nothing: it has only seen more poses of the unlabelled images.": "Both answers are to T x, so "
        "the loss is about grain alone. This is augmentation, not transformation consistency.",
        "To be invariant to turns.": "That would need the turned answer to equal the unturned one.",
    },
    correct="Nothing: it has only seen more poses of the unlabelled images.",
)

# %%
quiz(
    "UA-MT masks 60 % of the pixels, and its code divides the sum of squares by the number of all pixels. "
    "What is the effect?",
    {
        "None, a constant factor is absorbed by the learning rate.": "It is not constant: it changes with "
        "every batch and with the ramp of the threshold.",
        "The consistency is weaker just when the teacher is cautious.": "The weight is multiplied by the "
        "masked share, so caution about some pixels discounts all the others.",
        "Uncertain pixels take part after all.": "Their terms are zero in either case.",
    },
    correct="The consistency is weaker just when the teacher is cautious.",
)

# %% [markdown]
# ## Exercises
#
# **1. A target out of nothing.** Remove the bias correction from temporal ensembling, and let items without a
# target take part. What do the targets of the first round say, and how does the ramp-up hide the mistake?
#
# ```{dropdown} Hint
# What do the `K` numbers of an empty memory sum to?
# ```
# ```{dropdown} Solution
# To zero: the target asks every class to be improbable. As probabilities sum to one, the network that comes
# closest in squares is the one that answers $1/K$ for every class, so the loss pulls towards a flat
# answer. The weight $w(t)$ is near zero during the first round, which is why the mistake rarely shows; it
# returns with small data sets where items are first met late, or with `ramp=0`.
# ```
#
# **2. Threshold for boundaries.** Find a threshold rule for UA-MT with $K$ classes that masks a coin flip
# between two classes at the start of training and nothing at the end. Is it still $H(t)$ with another
# $U_{max}$?
#
# ```{dropdown} Hint
# At the start the threshold must be below $\ln 2$, at the end at least $\ln K$.
# ```
# ```{dropdown} Solution
# For example $H(t) = (1 - w(t)) \tfrac34 \ln 2 + w(t) \ln K$. It is not the paper's rule with another
# constant: with $U_{max} = \ln 2$ the pixels of entropy above $\ln 2$ would stay masked to the end. For $K = 2$
# the two rules coincide. Another way is to threshold the *margin* between the two largest probabilities,
# which does not depend on $K$.
# ```
#
# **3. Mirrors.** On a cohort in which left and right kidney are two classes, a mirrored image shows the left
# kidney on the right. Write the target that TCSM gives for it, and the target that would be anatomically
# right. Change `TCSM.view` accordingly.
#
# ```{dropdown} Hint
# $T$ moves the channels' pixels, but leaves the channels themselves in place.
# ```
# ````{dropdown} Solution
# TCSM's target says "left kidney" at the mirrored place, now on the right. If position is what defines the
# class, the two channels must change places as well; else drop the mirrors:
#
# ```python
# TCSM(net, mirrors=False)
# ```
#
# Swapping the channels of mirrored images in the target is right only if the body is symmetric up to that
# swap. With the liver in the image it is not.
# ````

# %% [markdown]
# ## Take away
#
# - One loss, two blanks: what to shake, and whom to trust.
# - If the image moves, the answer moves with it. A network of 1x1 convolutions tests your code.
# - A filter is worth what it filters. Look at the mask before you credit it.
# - Certain pixels are safe and teach little, uncertain ones teach much and are not safe.
# - Calm is not correct. Compare with the averaging alone, and with the same time spent on labels.
#
# **Reading.** {cite:t}`laine2017temporal` introduce the Pi model and temporal ensembling,
# {cite:t}`tarvainen2017mean` the teacher that all the others share. The variants: {cite:t}`cui2019semi`,
# {cite:t}`yu2019uncertainty`, {cite:t}`li2021transformation`, {cite:t}`fotedar2020extreme`,
# {cite:t}`liu2020semi` and {cite:t}`zhou2020deep`.
