# %% [markdown]
# # Missing classes: one organ a data set
#
# <!-- badge -->
#
# **You will learn**
#
# - what *background* means in a data set that was made for one organ, and what it does not mean;
# - how to merge classes inside a loss, so that a network learns six organs from images that show one each;
# - how a known size, a question, a second network or a second patient can stand in for labels that are missing;
# - how to check that a partial loss is right: by adding up every labelling that is possible.
#
# **You should know** [the baseline](../foundations/baseline) and partial cross-entropy, from [scribbles](../partial/scribbles).

# %% tags=["setup"]

# %%
import matplotlib.patches as mpl
import numpy as np
import torch
import torch.nn.functional as F

from lsseg_edu import networks, show, study, survey
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.partial.classes import (
    Asked,
    ConditionalNet,
    DoDNet,
    MarginalLoss,
    SharedHeads,
    Told,
    accepted,
    dual_ascent,
    dynamic_head,
    exclusion_loss,
    marginal_logits,
    neighbours,
    open_labels,
    prior_bound,
    size_prior,
    vicinal_labels,
)
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
full = Task.split(load("abdomen"), labelled=12, seed=0)
task = annotate.missing_classes(full, given=1, seed=0)
names = task.train.names
print(task)

# %% [markdown]
# ## The idea in a picture
#
# One hospital studied livers, and outlined livers. Another one did kidneys. Both put their scans on the internet, and
# both files say 0 wherever there is something else. Together they hold every organ that we want, and there is **no
# image with all of them**.
#
# Below are our twelve patients; a coloured square says that somebody outlined this organ in this patient. Move the slider to
# let each hospital do more organs, and switch between what the files say and what is really there.

# %%
items = full.labelled
patients = full.train.subjects[items].unique()
truth = full.train.labels[items]
middle = [int((full.train.subjects == patient).nonzero()[5]) for patient in patients]


def dealt(organs, view):
    few = annotate.missing_classes(full, given=organs, seed=0).train
    table = few.extras["annotated"][middle][:, 1:]
    wrong = float(((few.labels[items] == 0) & (truth > 0)).sum() / (truth > 0).sum())
    fig, axes = show.subplots(1, 3, width=6.2, height=2.7, width_ratios=[1.1, 1, 1])
    for row, given in enumerate(table):
        for k in range(6):
            colour = show.colour(k + 1) if given[k] else "#F2F2F2"
            axes[0].add_patch(mpl.Rectangle((k - 0.42, row - 0.42), 0.84, 0.84, color=colour))
    axes[0].set(xlim=(-0.6, 5.6), ylim=(11.6, -0.6), ylabel="patient")
    axes[0].set_xticks(range(6), names[1:], rotation=90)
    axes[0].set_yticks(range(0, 12, 2), range(1, 13, 2))
    for ax, row in zip(axes[1:], (4, 2), strict=True):
        shown = (few if view == "what the files say" else full.train).labels[middle[row]]
        show.overlay(ax, few.images[middle[row]], shown, fill=True)
        ax.set_title(f"patient {row + 1}")
    return show.figure(
        fig,
        alt=f"Twelve patients, {organs} of 6 organs annotated in each, and two of the images with {view}. "
        f"{wrong:.0%} of all organ pixels are labelled background.",
    )


show.explore(
    dealt,
    organs=[1, 3, 5],
    view=["what the files say", "what is there"],
    labels={"organs": "organs outlined in each patient", "view": "colours show"},
    limit=115_000,
    alt="A table of patients and organs, and two of the images with their labels.",
)

# %%
labels = task.train.labels[items]
print(f"{'organ':<14}{'patients':>10}{'pixels labelled background':>30}")
for k, name in enumerate(names[1:], 1):
    here = task.train.extras["annotated"][middle][:, k].sum()
    hidden = ((truth == k) & (labels == 0)).sum() / (truth == k).sum()
    print(f"{name:<14}{int(here):>10}{hidden:>30.0%}")

# %% [markdown]
# Is that so in the study, too, whose results stand at the end of this page? Its protocol deals anew for each seed. This cell would stop if any image of it
# had the labels of two organs, or if an organ were left out:

# %%
for seed in range(3):
    dealt_out = study.protocol("abdomen-organs").task(seed)
    some = dealt_out.labelled
    told = dealt_out.train.extras["annotated"][some][:, 1:]
    seen = dealt_out.train.labels[some]
    drawn = torch.stack([(seen == k).flatten(1).any(1) for k in range(1, 7)], 1)
    cohorts = [len(dealt_out.train.subjects[some][told[:, k]].unique()) for k in range(6)]
    assert (told.sum(1) == 1).all() and drawn.sum(1).max() == 1 and not (drawn & ~told).any()
    assert min(cohorts) > 0
    print(
        f"seed {seed}: {len(some)} images; at most {drawn.sum(1).max()} of 6 organs is outlined in any of "
        f"them; patients an organ: {cohorts}"
    )

# %% [markdown]
# ## The tempting mistake
#
# The files look like any other mask files. Pool them, train the usual network: nothing breaks. But for each image that says *this is
# liver*, five say *this is not*, of tissue that looks just the same. Cross-entropy, shown contradictory
# labels, learns their proportion, here one to five, and what is less likely than background is not drawn. Dice, the other half of our loss, is satisfied
# with lower odds, but the contradiction stays.
#
# Unlike a scribble, though, these labels are not silent outside the organ. *Background* in a spleen data set is a statement: **not spleen**.
# To throw it away, as partial cross-entropy would, is to lose the only thing that keeps the spleen
# from growing. It has to be read for what it says, no more and no less.

# %% [markdown]
# ## Marginal loss
#
# Shi and colleagues read it like this. If A are the organs annotated in an image, then its label 0 says: *one of the other classes,
# or none*. The probability of that is a sum,
#
# $$
# q_0(i) = p_0(i) + \sum_{k \notin A} p_k(i), \qquad q_k(i) = p_k(i) \quad (k \in A),
# $$
#
# and $q$ goes into whatever loss one likes: $L = L_{CE}(q, y) + L_{Dice}(q, y)$. In code it is one line of logarithms. Merge the *logits*,
# and every loss of logits becomes a loss for partial labels:

# %%
show.code(marginal_logits)

# %% [markdown]
# What changes for the pixel that hurts? Take one inside the liver, in the spleen data set, so it is labelled background. The network believes in
# *liver* as much as the slider says. On the right is where each loss pushes the three logits.


# %%
def pushed(belief):
    p = torch.tensor([1 - belief - 0.03, belief, 0.03], dtype=torch.double)
    logits = p.log().view(1, 3, 1, 1).requires_grad_()
    label = torch.zeros(1, 1, 1, dtype=torch.long)
    annotated = torch.tensor([[True, False, True]])
    said = {"naive": logits, "marginal": marginal_logits(logits, annotated)}
    cost = {name: F.cross_entropy(z, label) for name, z in said.items()}
    push = {n: -torch.autograd.grad(c, logits)[0].flatten() for n, c in cost.items()}
    fig, axes = show.subplots(1, 2, width=6.4, height=2.5, width_ratios=[1, 1.25])
    grid = torch.linspace(0.01, 0.96, 96)
    lines = {"naive": ("#595959", -(0.97 - grid).log()), "marginal": ("#0072B2", 0 * grid + 0.03)}
    for name, (colour, values) in lines.items():
        axes[0].plot(grid, values, color=colour)
        axes[0].plot(belief, cost[name].item(), "o", color=colour, markersize=8)
        away = -0.42 if name == "naive" else 0.0
        axes[1].barh(torch.arange(3) * 1.1 + away, push[name], 0.4, color=colour, label=name)
    axes[0].set(xlabel="belief in liver", ylabel="loss (nats)", ylim=(-0.2, 4.3), xlim=(0, 1))
    axes[1].axvline(0, color="black", lw=0.9)
    axes[1].set_yticks(torch.arange(3) * 1.1 - 0.2, ["background", "liver", "spleen"])
    axes[1].set(xlim=(-1.05, 1.05), xlabel="push on the logit")
    fig.legend(loc="outside upper center", ncols=2)
    return show.figure(
        fig,
        alt=f"A liver pixel labelled background in a spleen data set; belief in liver {belief:g}. The naive loss is "
        f"{cost['naive'].item():.2f} and pushes liver by {push['naive'][1].item():+.2f}; the marginal loss is "
        f"{cost['marginal'].item():.2f} and pushes liver by {push['marginal'][1].item():+.2f}.",
    )


show.explore(
    pushed,
    belief=[0.1, 0.4, 0.7, 0.95],
    labels={"belief": "the network's belief in liver"},
    limit=60_000,
    alt="Loss of an unannotated liver pixel, and where it pushes, for the naive and the marginal loss.",
)

# %% [markdown]
# The surer the network is of the truth, the harder the naive loss hits it. The marginal loss is constant: it is content with liver and content
# with background, and pushes down only what the label excludes, the spleen. Who, then, teaches the network that this is liver? The liver data set, elsewhere.
#
# **Is the sum right?** A label leaves some masks possible and excludes others. The probability of the label is the sum of the probabilities of all masks
# that are possible. For three pixels and four classes that is 64 masks; we can simply try them all.

# %%
torch.manual_seed(0)
logits = torch.randn(1, 4, 1, 3, dtype=torch.double)
annotated, label = torch.tensor([[True, True, False, False]]), torch.tensor([[[0, 1, 0]]])
possible, total = 0, 0.0
probs = logits.softmax(1)[0, :, 0]
for mask in torch.cartesian_prod(*[torch.arange(4)] * 3):
    written = mask.where(annotated[0, mask], 0)  # what this data set would write down
    if torch.equal(written, label[0, 0]):
        possible += 1
        total += probs[mask, torch.arange(3)].prod().item()
loss = F.cross_entropy(marginal_logits(logits, annotated), label, reduction="sum")
print(
    f"{possible} of 64 masks agree with the label; minus the logarithm of their sum: {-torch.tensor(total).log():.6f}"
)
print(f"marginal cross-entropy: {loss:.6f}")

# %% [markdown]
# **Exclusion.** One more thing is known: organs do not overlap. Where *spleen* is outlined, no liver can be, annotated or not. The exclusion loss
# charges the probability of the missing classes inside the organs that are there, with a Dice term and a logarithm that is zero at $p = 0$:

# %%
show.code(exclusion_loss)
# %%
show.code(MarginalLoss.loss)

# %% [markdown]
# With a softmax the classes compete anyway, so cross-entropy on the spleen's pixels asks for the same thing in the end. The exclusion term adds a different
# slope on the way there. Whether that is worth something is a question for the scoreboard, where `exclusion=0` is its control.

# %% [markdown]
# ## A prior of sizes
#
# Nothing in the marginal loss objects when the network says *liver* on half of a spleen image, or never. But the size of a liver is known, on average. **PaNN** compares the mean answer over all images, $\bar p$, with the shares
# $\pi$ that the organs are known to have, class by class:
#
# $$
# C = \sum_k KL\big((\pi_k, 1-\pi_k)\,\Vert\,(\bar p_k, 1-\bar p_k)\big).
# $$
#
# The paper reads $\pi$ off a few complete masks. We have none. We need none either: the mean size of the liver is in the liver data set.

# %%
prior = size_prior(labels, task.train.extras["annotated"][items])
for name, mine, real in zip(
    names, prior, (truth == torch.arange(7).view(-1, 1, 1, 1)).double().mean((1, 2, 3)), strict=True
):
    print(f"{name:<14} prior {mine:6.1%}   in the complete masks of all twelve {real:6.1%}")

# %% [markdown]
# Two patients are few, and the prior is off by what they happen to be; more hospitals would help. There is a second difficulty, and it is the
# reason for the paper's *min-max*. $\bar p$ stands inside a logarithm. A batch has its own mean, and the mean of logarithms is not the logarithm of the mean: forcing
# *each batch* to have average sizes would be wrong, since some slices show no kidney. Since $-\ln a = \max_u (1 + u - e^u a)$, the divergence is the largest value of a bound that is linear in $\bar p$. Of a linear
# function, batches are unbiased. The network descends on it, and the dual variable $u$ ascends:

# %%
show.code(prior_bound)
# %%
show.code(dual_ascent)

# %% [markdown]
# A test of this: eight slices, in which a kidney fills anything from nothing to a twelfth of the image. Their *mean* is exactly what the prior wants, so nothing
# should move. We descend on the eight answers, one slice a step, once with the divergence of each slice by itself, once with the dual variables.

# %%
share = torch.tensor([0.001, 0.001, 0.01, 0.03, 0.06, 0.08, 0.04, 0.002], dtype=torch.double)
start = torch.stack([1 - share, share], 1)
goal = start.mean(0)


def best(mean):
    return -torch.stack([mean, 1 - mean]).log()


print(f"{'before':<22}", *(f"{x:.3f}" for x in share), f"  mean {share.mean():.3f}")
for name in ("each slice by itself", "primal-dual"):
    logits, dual = start.log(), best(goal)
    for step in range(2000):
        z = logits[step % 8].clone().requires_grad_()
        answer = z.softmax(0)
        u = best(answer.detach()) if name == "each slice by itself" else dual
        (slope,) = torch.autograd.grad(prior_bound(answer, goal, u), z)
        logits[step % 8] = z.detach() - 0.4 * slope
        dual = dual_ascent(dual, answer.detach(), 0.01)
    now = logits.softmax(1)[:, 1]
    print(f"{name:<22}", *(f"{x:.3f}" for x in now), f"  mean {now.mean():.3f}")

# %% [markdown]
# Slice by slice, every image gets the average kidney, whether it shows one or not. The dual variables remember what the other slices said, and leave them nearly as they are.

# %% [markdown]
# ## One class at a time
#
# A different way out: never ask for more than the labels can answer. A network with *one* output, to which the question belongs as much as the image. **Dmitriev and
# Kaufman** put a number for the class, $H(c)$, between convolution and nonlinearity of every decoder layer:
#
# $$
# x^{l+1} = \sigma\big(N(w^l * x^l) + H(c)\,\mathbf 1\big).
# $$

# %%
show.code(Told)
# %%
show.code(Asked.loss)

# %% [markdown]
# An organ that is not asked for is background, rightly. So no label is missing, and the classes still share all weights. Why must the number come *after* the normalisation $N$? Try both places:

# %%
torch.manual_seed(0)
norm, x = torch.nn.InstanceNorm2d(8), torch.randn(1, 8, 16, 16)
for name, layer in (
    ("before", lambda h: F.relu(norm(x + h))),
    ("behind", lambda h: F.relu(norm(x) + h)),
):
    change = (layer(1.0) - layer(-1.0)).abs().mean()
    print(f"number {name} the normalisation: mean difference between two classes {change:.3f}")

# %%
probe = networks.Shape(channels=1, classes=7, dims=2)
told = ConditionalNet(networks.unet(probe), 7)
print("the table:", ", ".join(f"{h:+.1f}" for h in told.table.tolist()))

# %% [markdown]
# Normalisation subtracts the mean of a map, and a constant along with it. It is the kind of detail that breaks a
# re-implementation without an error message.

# %% [markdown]
# ## DoDNet
#
# One number a layer is a thin hint. In **DoDNet** the question writes the network's last layers. A controller $\varphi$ takes a one-hot code of the task, and what the encoder saw in this image, and returns the *weights* of three 1x1 convolutions:
#
# $$
# \omega = \varphi\big([\mathrm{GAP}(F), e_c]\big), \qquad \text{logit} = \big((M * \omega_1)_+ * \omega_2\big)_+ * \omega_3 .
# $$

# %%
show.code(DoDNet.answer)
# %%
show.code(dynamic_head)

# %%
network = DoDNet(networks.unet(probe), 7)
backbone, controller = (
    sum(p.numel() for p in m.parameters()) for m in (network.net, network.controller)
)
print(f"weights of one U-Net             {backbone:>8}")
print(f"of six, one for each organ       {6 * backbone:>8}")
print(f"of DoDNet's controller           {controller:>8}")
print(f"that it writes for each question {network.controller.out_features:>8}")

# %% [markdown]
# Encoder and decoder run once; for each organ only the head is rewritten, which is next to free. The conditional network has to run its decoder once a class. Both share a weakness: each question is answered without regard to the others, and nothing
# keeps two answers from claiming the same pixel. To predict, we let the more certain one have it.

# %% [markdown]
# ## Two networks and their averages
#
# Back to one output for all classes. A background pixel in a spleen image is *open*: it may be any class that was not annotated. Somebody could close it, with a pseudo-label. **Huang and colleagues** train two networks, and let
# the running average of each teach the other one, in open pixels only:

# %%
z = torch.tensor([0.3, 0.5, 0.2]).log().view(1, 3, 1, 1)
closed = open_labels(z, torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([[True, False, True]]))
pairs = zip(("background", "liver", "spleen"), z.exp().flatten(), closed.flatten(), strict=True)
for name, before, after in pairs:
    print(f"{name:<12} teacher {before:.2f}   label of this pixel {after:.2f}")

# %%
show.code(open_labels)

# %% [markdown]
# The teacher may have thought of the spleen; the label has excluded it, so the rest is scaled to one. The label is soft, it keeps the teacher's doubt. Why two networks? With one, an error would confirm itself
# ([co-training](../semi/co_training) has more on that); `exchange=False` is the control in which each is taught by itself.

# %% [markdown]
# ## Vicinal labels
#
# No image has all labels. Could one be made? **VLUU** blends images of different data sets, like [mixup](../semi/augmentation), and the blend inherits the labels of all of them. The class that
# only one of the two annotates takes its mask from that one, on the assumption that *organs lie alike in people who lie alike*. So we choose a partner that looks similar. And since the assumption is shaky, the share $\kappa_k$ of the
# blend whose label of class k is really known weighs the class in the loss. Move $\lambda$:

# %%
show.code(neighbours)

# %%
given = task.train.extras["annotated"]
first = middle[4]
others = [i for i in middle if not torch.equal(given[i], given[first])]
pool = torch.tensor([first, *others])
partner = int(pool[neighbours(task.train.images[pool], given[pool])[0]])
pair = torch.tensor([first, partner])
kinds = [names[int(given[i][1:].float().argmax()) + 1] for i in (first, partner)]


def blended(share):
    images = task.train.images[pair]
    part = torch.tensor([share, 1 - share])
    target, known = vicinal_labels(task.train.labels[pair], given[pair], torch.tensor([1, 0]), part)
    blend = share * images[0] + (1 - share) * images[1]
    drawn = (target[0] > 0.5).int().argmax(0)
    fig, axes = show.subplots(1, 3, width=6.4, height=2.5)
    seen = (
        (images[0], task.train.labels[first]),
        (images[1], task.train.labels[partner]),
        (blend, drawn),
    )
    weight = [f"{known[0, names.index(kind)].max():.2f}" for kind in kinds]
    titles = (
        f"{kinds[0]} data set",
        f"{kinds[1]} data set",
        f"blend: weights {weight[0]}, {weight[1]}",
    )
    for ax, (image, mask), title in zip(axes, seen, titles, strict=True):
        show.overlay(ax, image, mask)
        ax.set_title(title)
    return show.figure(
        fig,
        alt=f"A patient of the {kinds[0]} data set, one of the {kinds[1]} data set, and their blend with a share of {share:g} "
        f"of the first. It has both labels; they weigh {weight[0]} and {weight[1]} in the loss.",
    )


show.explore(
    blended,
    share=[0.2, 0.5, 0.8],
    labels={"share": "share of the first patient"},
    limit=60_000,
    alt="Two patients from different data sets, and their blend with the labels of both.",
)

# %%
show.code(vicinal_labels)

# %% [markdown]
# ## Mining what was not annotated
#
# The last idea comes from lesion *detection*. **Yan and colleagues** have a large set in which many lesions were overlooked, and small sets with one kind of lesion each. In small, and for segmentation: one trunk of shared features, and one head for each data set, trained
# on *its* images alone. Then each head searches the images of the others.

# %%
show.code(SharedHeads.loss)

# %% [markdown]
# What a head finds is not all true. A find is taken if the head is sure (*cross-dataset mining*), or if it resembles a sure find in the same patient (*intra-patient matching*): a slice vouches for the next one. Other finds are
# suspicious, and ignored. Everything else is background to this head. Here are three slices, two of one patient:

# %%
scores, features = torch.zeros(3, 16, 16), torch.zeros(3, 2, 16, 16)
features[:, 1] = 1.0
for item, rows, p, second in (
    (0, 2, 0.9, 0.1),
    (1, 2, 0.6, 0.1),
    (1, 10, 0.6, 6.0),
    (2, 2, 0.6, 0.1),
):
    scores[item, rows : rows + 4, 4:11] = p
    features[item, :, rows : rows + 4, 4:11] = torch.tensor([1.0, second]).view(2, 1, 1)
verdict = accepted(scores, features, torch.tensor([0, 0, 1]), sure=0.8, alike=0.9)
words = {0: "background", 1: "taken", IGNORE: "ignored"}
fig, axes = show.subplots(2, 3, width=5.4, height=3.7)
for i, column in enumerate(axes.T):
    column[0].imshow(scores[i], vmin=0, vmax=1)
    column[0].set_title(f"patient {'AAB'[i]}, slice {(1, 2, 1)[i]}")
    column[1].imshow(torch.where(verdict[i] == IGNORE, 0.5, verdict[i].double()), vmin=0, vmax=1)
    for ax in column:
        ax.set(xticks=[], yticks=[])
    for rows in (2, 10):
        if scores[i, rows, 5] > 0:
            sure = f"{scores[i, rows, 5]:.1f}, {'other look' if features[i, 1, rows, 5] > 1 else 'same look'}"
            column[0].text(7.5, rows + 4.1, sure, color="white", ha="center", va="top", fontsize=8)
            found = words[int(verdict[i, rows, 5])]
            column[1].text(7.5, rows + 4.1, found, color="white", ha="center", va="top", fontsize=8)
axes[0, 0].set_ylabel("finds")
axes[1, 0].set_ylabel("verdict")
show.figure(
    fig,
    alt="Four finds in three slices. The sure one is taken; the unsure one of the same patient that looks like it is taken as well; "
    "one that looks different, and one in another patient, are ignored.",
)

# %% [markdown]
# What of a detector becomes what? Proposals are connected regions of a head's map, their score is the mean probability, proposal fusion is the surest head of each pixel, and lesion types are organs. What is lost
# in the translation: the paper matches *annotated* lesions with overlooked ones in the same patient. With one organ annotated from top to bottom there is no half-annotated patient, so our matching starts from finds.

# %% [markdown]
# ## Side by side
#
# The same twelve patients, the same network, steps and draws of images: once with the files as they are, once with the marginal loss, once with complete masks.

# %% tags=["nbval-ignore-output"]
arms = {
    "naive": fit(Supervised.for_task(task), task, budget, seed=0),
    "marginal + exclusion": fit(MarginalLoss.for_task(task), task, budget, seed=0),
    "complete masks": fit(Supervised.for_task(full), full, budget, seed=0),
}
answers, dice = {}, {}
for name, fitted in arms.items():
    fitted.method.cpu()
    answers[name] = fitted.predict(task.valid.images).argmax(1)
    dice[name] = score(answers[name], task.valid, surfaces=False)
print(f"{'Dice on validation subjects':<28}", *(f"{name:>22}" for name in arms))
for k, organ in enumerate(names[1:]):
    print(f"{organ:<28}", *(f"{np.nanmean(report.dice[:, k]):>22.3f}" for report in dice.values()))
print(f"{'mean':<28}", *(f"{report.mean_dice:>22.3f}" for report in dice.values()))


# %% tags=["nbval-ignore-output"]
def naive_or_marginal(training, subject):
    mine = task.valid.subjects == task.valid.subjects.unique()[subject - 1]
    item = int(mine.nonzero()[5])
    fig, axes = show.subplots(1, 2, width=5.0, height=2.6)
    for ax, mask, title in (
        (axes[0], task.valid.labels[item], "truth"),
        (axes[1], answers[training][item], training),
    ):
        show.overlay(ax, task.valid.images[item], mask, fill=True)
        ax.set_title(title)
    organs = dice[training].dice[subject - 1]
    return show.figure(
        fig,
        alt=f"Validation subject {subject}: a slice with its true organs, and with those found after training "
        f"on {training}. Mean Dice of the subject's organs {np.nanmean(organs):.2f}.",
    )


show.explore(
    naive_or_marginal,
    training=list(arms),
    subject=[1, 4, 7],
    labels={"training": "training", "subject": "validation subject"},
    limit=100_000,
    alt="Slices of validation subjects with true organs beside those found by the naive pool, with "
    "the marginal loss, or with complete masks.",
)

# %% [markdown]
# And is it the mistake that we said it would be? Of the pixels of each organ: how many are called background, how many by the name of another organ?

# %% tags=["nbval-ignore-output"]
inside = task.valid.labels > 0
for name, answer in answers.items():
    lost = ((answer == 0) & inside).sum() / inside.sum()
    mixed = ((answer > 0) & (answer != task.valid.labels) & inside).sum() / inside.sum()
    print(f"{name:<22} called background {lost:6.1%}   another organ {mixed:6.1%}")

# %% [markdown]
# ## What the scoreboard says
#
# Several draws of patients and of who annotates what, on test subjects. The baseline is the naive pool; *full labels* are complete masks **of the same twelve patients**, so the gap between them is what missing
# classes cost, and nothing else.

# %%
results = study.read()
lines = study.summary(results, "abdomen-organs")
show.scoreboard(lines)

# %% [markdown]
# This book set itself a target: ten Dice points between the marginal loss and the naive pool. And each idea has a control that lacks nothing but the idea:

# %%
shown = {line.method: line.difference for line in lines}
if shown.get("marginal-loss"):
    gain, low, high = (100 * d for d in shown["marginal-loss"])
    verdict = "reached" if gain >= 10 else "missed"
    sure = "by the whole interval" if low >= 10 or high < 10 else "by the mean alone"
    print(f"marginal + exclusion loss above the naive pool: {gain:+.1f} [{low:+.1f}, {high:+.1f}]")
    print(f"points of Dice; the target of 10 is {verdict}, {sure}\n")
else:
    print("The marginal loss and the naive pool have not been run yet: the target is open.")
for control in [arm for arm in shown if arm.partition(":")[0] in shown and ":" in arm]:
    arm = control.partition(":")[0]
    mean, low, high = study.difference(results, "abdomen-organs", arm, control)
    print(f"{survey.title(arm)} above {survey.title(control)}:")
    print(f"{'':4}{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")

# %% [markdown]
# How to read it. Every row sees the same annotations; co-training runs four networks and is slower, mining splits the same steps into two halves. The rows with options are controls: `exclusion=0` for the second loss, `exchange=False` for the second network,
# `similar=False` for the similar partner, `mine=False` for the finds. Where the difference between a method and its control has not been shown, the idea it is named after has not been shown to matter *here*: two patients an organ, small images, short
# training. And where a network that is asked for one class falls behind, remember what it does not see: that classes exclude each other.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A pixel of the spleen data set is labelled background. The network says: liver 0.9, background 0.09, spleen 0.01. What is the marginal cross-entropy?",
    {
        "`-ln 0.09`": "That is the naive one, which insists on the class background.",
        "`-ln 0.99`": "Liver and background are both allowed, so their probabilities are added.",
        "0, since the liver is not annotated": "The label is not silent: it excludes the spleen, and 0.01 went there.",
    },
    correct="`-ln 0.99`",
)

# %%
quiz(
    "You mark all pixels outside the annotated organ as unknown (IGNORE) instead. What happens to a network trained on single-organ data sets?",
    {
        "Nothing ever tells it where an organ ends, nor that there is background.": "Each image then shows one class only. Organs may grow without limit, and the loss is content.",
        "It learns the same, with fewer pixels.": "The ignored pixels carried the statement: not this organ.",
        "It learns better, since nothing is contradictory.": "Nothing is contradictory, and nothing is limited.",
    },
    correct="Nothing ever tells it where an organ ends, nor that there is background.",
)

# %% [markdown]
# ## Exercises
#
# **1. More organs a hospital.** Repeat *Side by side* with `given=2` and `given=3`. Which of the arms changes most, and when does the naive pool become acceptable?
#
# ```{dropdown} Hint
# The table under the first figure: for which share of an organ's pixels does the label lie?
# ```
# ```{dropdown} Solution
# With `given=g` an organ's pixels are called background in (6 - g) of 6 patients. As long as that is more than half, the likeliest label of a liver pixel is *background*. From `given=4` on the
# majority is right, and even the naive network should begin to draw. The marginal loss has no such threshold; it gains from every further mask in the ordinary way.
# ```
#
# **2. The other reading.** Train `MarginalLoss` on `annotate.missing_classes(full, given=1, others="ignore")`, where missing organs become IGNORE, not background. Which of the two tasks carries more information, and who could make such labels?
#
# ```{dropdown} Hint
# To mark the missing organs as unknown one has to know where they are.
# ```
# ```{dropdown} Solution
# With `"ignore"` the remaining 0 is *true* background, so the labels say more; the naive loss is right as well. But an annotator would have had to outline the other organs to leave them out. It is an instructive upper bound
# for what could be known about background, not a data set that anybody has.
# ```
#
# **3. A network that is sure of nothing.** The marginal loss is constant along the line from *liver* to *background*. Show that a network that answers 0.5 and 0.5 for every unannotated liver pixel is not punished, and say which term on this page would object.
#
# ```{dropdown} Hint
# Look at the gradient of `marginal_logits` for the two: they are equal. Then look for a term in which the *distribution* among open classes occurs.
# ```
# ```{dropdown} Solution
# $q_0$ depends on the sum alone. The prior of sizes objects if on average too little is called liver; co-training objects if the other average is surer; finds that are taken do. The liver data set objects indirectly, since the weights are shared: it is hard to be sure there
# and unsure here about tissue that looks the same.
# ```
#
# ## Take away
#
# - In a single-organ data set, *background* means *not this organ*. Read it as that: neither as *nothing*, nor as silence.
# - Merge the logits of all that the label leaves open; every loss then works, and a brute-force sum proves it.
# - Or ask for one class at a time, by a number in the decoder or by weights written on demand.
# - What the labels leave open may be closed by known sizes, by another network, by another patient, by finds. Each needs its control.
# - Compare with complete masks of the *same* patients: that gap, and only that, is due to missing classes.
#
# **Reading.** {cite:t}`shi2021marginal` for marginal and exclusion loss; {cite:t}`zhou2019prior` for the prior; {cite:t}`dmitriev2019learning` and {cite:t}`zhang2021dodnet` for
# networks that are asked; {cite:t}`huang2020multi`, {cite:t}`dong2022towards` and {cite:t}`yan2021learning` for co-training, vicinal labels and mining.
