# %% [markdown]
# # Co-training: two views are better than one
#
# <!-- badge -->
#
# **You will learn**
#
# - what a *view* is, and why a learner gains from a colleague only if that colleague sees something else;
# - how labels change hands in classic co-training, and how to measure what two learners can tell each other;
# - how the Jensen-Shannon divergence asks for agreement, and adversarial examples keep agreement from
#   becoming sameness;
# - how the three planes of a volume vote, and how doubt becomes a weight.
#
# **You should know** [self-training](self_training): pseudo-labels and rounds. For the second half, the
# ramp-up of [consistency](../semi/consistency).

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch

from lsseg_edu import networks, show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.co_training import (
    UMCT,
    AsymmetricUNet,
    Band,
    DeepCoTraining,
    EnsembleCoTraining,
    InPlane,
    co_training,
    fgsm,
    jensen_shannon,
    leave_some_out,
    plane_net,
    product,
    together,
    top_per_class,
    virtual_adversarial,
    vote,
    weighted_fusion,
)
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
everyone = Task.split(load("cardiac"))
task = everyone.keep(labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# In [self-training](self_training) a network marks its own homework. It is told what it thought already,
# and what it got wrong with conviction it will get wrong again. Would it not be better to swap homework
# with a neighbour? Only if the neighbour makes *other* mistakes. Two copies of one network do not.
#
# So let us give two learners two different pictures of the same heart. One sees the image blurred: how
# bright is it here? The other one sees what the blur took away: where is an edge?

# %%
image = task.valid.images[3:4]
low, high = (Band(torch.nn.Identity(), band, dims=2) for band in ("low", "high"))
views = torch.cat([image, low(image), high(image)])
print(
    "the two views add up to the image:", bool((views[1] + views[2] - views[0]).abs().max() < 1e-5)
)
show.images(
    views,
    titles=["the image", "view 1: low frequencies", "view 2: high frequencies"],
    columns=3,
    alt="A slice of a heart; the same slice blurred, without any fine line; and what the blur removed, which "
    "is nothing but lines and grain.",
)

# %% [markdown]
# A grey image has no two views by nature, as a web page has its own text and the text of the links that
# point to it; that was the first example of co-training. Frequencies are our choice, and an honest one in
# this sense: neither view contains the other, and together they lose nothing. They are *complementary*. They
# are not *independent*, for both are pictures of one anatomy.

# %% [markdown]
# ## Classic co-training
#
# Blum and Mitchell ask two things of the views. Each must be **sufficient**: a learner that sees only $v_1$
# can solve the task. And they must be **independent given the class**: if an example is easy in $v_1$, it
# may be anything in $v_2$. Then what learner 1 is sure of is, for learner 2, like a randomly drawn labelled
# example. In each round, for $a = 1, 2$ and the other one $b$,
#
# $$
# \hat y_b = \mathrm{top}\big(f_b(v_b(x_u))\big), \qquad
# f_a \leftarrow \arg\min_f\; L_{sup}\big(f(v_a(x_l)),\, y\big) + w\, L_{sup}\big(f(v_a(x_u)),\, \hat y_b\big) .
# $$
#
# Mind the index: learner $a$ gets $\hat y_b$. Its own opinion never comes back to it directly. And *top*
# has to be taken **class by class**: the surest pixels of a slice are all background, and a learner that
# is handed nothing but background learns to see nothing else.

# %%
show.code(top_per_class)

# %%
show.code(co_training)

# %% [markdown]
# Three rounds, with trainings shorter than elsewhere in the book because there are eight of them.
# Both learners begin with the same weights and see the same images in the same order, so all that
# tells them apart is the view.

# %% tags=["nbval-ignore-output"]
brief = replace(budget, steps=budget.pick(4, 100, 800))
rounds = budget.pick(1, 3, 3)
classic = co_training(task, brief, seed=0, rounds=rounds)
for number, one in enumerate(classic.rounds):
    members = one.method.cpu().eval().members
    with torch.inference_mode():
        probs = torch.stack([m.predict(task.valid.images) for m in members])
    dice = [
        score(p.argmax(1), task.valid, surfaces=False).mean_dice for p in (*probs, product(probs))
    ]
    print("round {}: low frequencies {:.3f}, high {:.3f}, both {:.3f}".format(number, *dice))

# %% [markdown]
# These are Dice values of validation patients. Round 0 has seen labels only. If one view is much weaker than
# the other, then *sufficient* is not met very well, and the stronger learner has little to gain from its
# colleague. Then compare a column with the *other* one a line above. Where a learner comes out about as good as its
# colleague was a round before, quality has travelled with the labels, for better and for worse.
#
# Where do the two agree as the rounds go by? Choose a round and a patient below. Green means that both say
# the same and are right, **orange that both say the same and are wrong**. Blue pixels are those where just one of the two is
# right: that one could teach the other something. The truth is used for this display and nowhere else:
# nobody labelled these patients for the learners.

# %% tags=["nbval-ignore-output"]
shown = task.unlabelled[[40, 203]]
unseen, truth = task.train.images[shown], everyone.train.labels[shown]
said = []
for one in classic.rounds:
    with torch.inference_mode():
        said.append([m.predict(unseen).argmax(1) for m in one.method.members])
COLOURS = {"agree, right": "#009E73", "agree, wrong": "#E69F00", "one is right": "#56B4E9", "both wrong, differ": "#000000"}  # fmt: skip


def kinds(first, second, truth):
    same, right = first == second, (first == truth).int() + (second == truth).int()
    return torch.where(same, (right == 0).int(), 3 - (right == 1).int())


def shares(number, i):
    first, second = (answer[i] for answer in said[number])
    inside = (first > 0) | (second > 0) | (truth[i] > 0)
    agreed = (first == second)[inside]
    right = (first == truth[i])[inside][agreed]
    return agreed.float().mean().item(), right.float().mean().nan_to_num().item()


def agreement(round, patient):
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    i = patient - 1
    fig, axes = show.subplots(1, 4, height=2.55, width_ratios=[1, 1, 1, 1.25])
    first, second = (answer[i] for answer in said[round])
    show.overlay(axes[0], low.view(unseen[i : i + 1])[0], prediction=first)
    show.overlay(axes[1], high.view(unseen[i : i + 1])[0], prediction=second)
    axes[2].imshow(
        kinds(first, second, truth[i]), cmap=ListedColormap(COLOURS.values()), vmin=0, vmax=3
    )
    for ax, title in zip(axes, ("low view says", "high view says", "agreement"), strict=False):
        ax.set_title(title)
        ax.axis("off")
    agreed, right = np.array([shares(n, i) for n in range(len(said))]).T
    for values, name, mark, line in (
        (agreed, "agreed", "o", "#0072B2"),
        (right, "of these right", "s", "#D55E00"),
    ):
        axes[3].plot(100 * values, marker=mark, ms=4, color=line, label=name)
    axes[3].axvline(round, color="#BBBBBB", lw=5, zorder=0)
    axes[3].set(ylim=(0, 100), xticks=range(len(said)), xlabel="round", title="% of heart pixels")
    handles = [Patch(color=value, label=name) for name, value in COLOURS.items()]
    fig.legend(handles=[*handles, *axes[3].lines[:2]], loc="outside lower center", ncols=3)
    return show.figure(
        fig,
        alt=f"Round {round}, patient {patient}: what each view says, and where they agree. Of the pixels that a "
        f"view or the truth gives to the heart, the two agree on {agreed[round]:.1%}; {right[round]:.1%} of those are right.",
    )


show.explore(
    agreement,
    round=list(range(len(said))),
    patient=[1, 2],
    limit=100_000,
    alt="The answers of the two views to a heart that nobody labelled, a map of where they agree, and the "
    "fractions agreed and right over the rounds.",
)

# %% [markdown]
# Follow the two lines. Agreement is visible without any label, being right is not. As long as both
# rise together, agreement is a sign of truth. When *agreed* rises and *right* does not, the
# learners have begun to talk each other into their mistakes; the orange pixels do not go away by further rounds,
# because nobody is left who disagrees.

# %% [markdown]
# ### What can they tell each other?
#
# Before spending hours on co-training, measure whether it can work. Take learners that know labels
# only. How far apart are their answers on unlabelled images? And of the heart pixels that one gets wrong, how
# many does the other one get right? (That second number needs the truth; on a real project, take
# validation patients.) We compare our two views with two learners of the *same* view that start
# from other weights, and with two that are the same in everything.

# %% tags=["nbval-ignore-output"]
start = 1000 * rounds  # the seed of round 0, see the code above
restarted = fit(
    Supervised(Band(networks.unet(task, seed=start + 1), "low", 2)), task, brief, start + 1
)
restarted.method.cpu().eval()
first, second = classic.rounds[0].method.members
pairs = {
    "same view, same start": (first, first),
    "same view, other start": (first, restarted.method),
    "low and high": (first, second),
}
for name, pair in pairs.items():
    with torch.inference_mode():
        probs = torch.stack([m.predict(task.valid.images) for m in pair])
    one, other = probs.argmax(2)
    lost = (one != task.valid.labels) & (task.valid.labels > 0)
    helped = (other == task.valid.labels)[lost].float().mean()
    divergence = jensen_shannon(probs)[task.valid.labels > 0].mean()
    print(
        f"{name:<24} JSD {divergence:.4f} nats; the other knows {helped:6.1%} of what one gets wrong"
    )

# %% [markdown]
# The first line is exactly zero in both columns: **two equal views cannot teach each other anything**, and the
# procedure falls back to self-training, weight by weight (our tests check that). How much of the
# second line's diversity the third one adds is the question to ask of any choice of views.

# %% [markdown]
# ## Deep co-training
#
# Classic co-training takes turns: label, train, label. Qiao and colleagues put both learners into one
# training, with a loss for each of the two requirements. *Agree*, on the unlabelled images:
#
# $$
# L_{cot} = \frac{1}{|\Omega|} \sum_i JSD\big(p_1, \dots, p_M\big)_i, \qquad
# JSD = H\Big(\frac1M \sum_m p_m\Big) - \frac1M \sum_m H(p_m) .
# $$
#
# Let us ask the divergence a few questions.

# %%
cases = {
    "both certain, the same": ([1, 0], [1, 0]),
    "both doubtful, the same": ([0.5, 0.5], [0.5, 0.5]),
    "one certain, one doubtful": ([1, 0], [0.5, 0.5]),
    "certain of opposites": ([1, 0], [0, 1]),
}
for name, pair in cases.items():
    probs = torch.tensor(pair, dtype=torch.float).view(2, 1, 2, 1, 1)
    print(f"{name:<27} {jensen_shannon(probs).abs().item():.3f} nats")
print(f"{'the most there is, ln 2':<27} {np.log(2):.3f} nats")

# %% [markdown]
# It charges for *disagreement*, not for doubt: the second case is free. No side is the teacher; both
# move. And there is a solution that costs nothing and helps nobody: make the networks equal. Both see the
# whole image here, so there are no views to keep them apart.
#
# ### The weak spots of a network
#
# What is a view, if not a choice of what one can be wrong about? So keep the *errors* apart. An
# **adversarial example** $g(x)$ is the image plus the small change that harms one particular network most.
# With a label, the gradient of the loss shows the way, and its sign is taken:
#
# $$ g(x) = x + \epsilon\, \mathrm{sign}\, \nabla_x L_{CE}\big(f(x), y\big) . $$
#
# Without one, the network's own answer stands in for the label. But at $x$ itself the divergence from
# one's own answer is zero and least: no slope. A **virtual adversarial** example first takes a tiny random
# step, and asks from there.

# %%
show.code(virtual_adversarial)

# %% [markdown]
# *Resist*: the other network must not be fooled by what fools the first,
#
# $$
# L_{dif} = \sum_m H\big(p_o(x),\; p_m(g_o(x))\big), \qquad o \ne m .
# $$
#
# If both had the same weak spots, $m$ could not keep to the old answer on $g_o(x)$. So the term pushes weak
# spots apart. Neither the example nor the target carries a gradient; the attacked network is not taught by
# its own attack (that would be adversarial training, another idea).

# %%
show.code(DeepCoTraining)

# %% [markdown]
# Side by side: the method, and **the same two networks without the two terms**, trained on the same draws. This
# is the arm to compare with, since two networks that answer together are already better than one.

# %% tags=["nbval-ignore-output"]
shorter = replace(budget, steps=budget.pick(4, 80, 1000))
arms = {
    "alone": DeepCoTraining.for_task(task, agree=0, resist=0),
    "deep co-training": DeepCoTraining.for_task(task),
}
pair = {name: fit(method, task, shorter, seed=0) for name, method in arms.items()}
for name, fitted in pair.items():
    nets = fitted.method.cpu().eval().nets
    with torch.inference_mode():
        probs = torch.stack([net(task.valid.images).softmax(1) for net in nets])
    dice = score(probs.mean(0).argmax(1), task.valid, surfaces=False).mean_dice
    apart = jensen_shannon(probs)[task.valid.labels > 0].mean()
    print(f"{name:<17} Dice of the two together {dice:.3f}, JSD in the heart {apart:.4f} nats")

# %% [markdown]
# Now attack network 1, as hard as you like, and show the example to both. At which $\epsilon$ does each
# answer fall apart? Compare the two trainings at the same $\epsilon$: the question is not whether network 1
# falls, but whether network 2 falls *with* it.

# %% tags=["nbval-ignore-output"]
few = torch.arange(3, len(task.valid), 12)
targets = task.valid.labels[few]


def attacked(trained, epsilon):
    victim, witness = pair[trained].method.nets
    clean = task.valid.images[few]
    with torch.no_grad():
        target = victim(clean).softmax(1)
    torch.manual_seed(0)
    example = virtual_adversarial(victim, clean, target, epsilon)
    with torch.inference_mode():
        answers = [net(example).argmax(1) for net in (victim, witness)]
    right = [(a == targets)[(a > 0) | (targets > 0)].float().mean().item() for a in answers]
    fig, axes = show.subplots(1, 4, height=2.15)
    axes[0].imshow((example - clean)[0, 0], cmap="RdBu", vmin=-1, vmax=1)
    show.overlay(axes[1], example[0], targets[0], fill=True)
    for ax, answer in zip(axes[2:], answers, strict=True):
        show.overlay(ax, example[0], prediction=answer[0])
    titles = ("the change", "image + change,\nthe truth", f"network 1:\n{right[0]:.0%} right", f"network 2:\n{right[1]:.0%} right")  # fmt: skip
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Networks trained {trained}; network 1 attacked with a change of {epsilon} image deviations. Of the heart "
        f"pixels of {len(few)} slices, network 1 gets {right[0]:.1%} right, network 2 {right[1]:.1%}.",
    )


show.explore(
    attacked,
    trained=list(arms),
    epsilon=[0.0, 0.2, 0.4, 0.8],
    labels={"trained": "trained", "epsilon": "size of the change ε"},
    limit=80_000,
    alt="The change that harms network 1 most, the changed image, and the answers of both networks to it.",
)

# %% [markdown]
# Look at the change itself too: where is it strong, and would you have looked there? The percentage counts
# the pixels that the truth or the network gives to the heart, over several slices; the pictures show the
# first of them.

# %% [markdown]
# ## An ensemble on label subsets
#
# Peng and colleagues bring this to medical segmentation, where several networks share the work, and they add a simpler source of
# difference: **every network knows other labelled patients**.

# %%
subjects = task.train.subjects[task.labelled].unique()
for m, subset in enumerate(leave_some_out(subjects, many=3)):
    print(f"network {m} learns from the masks of patients {subset.tolist()}")

# %% [markdown]
# What a network was not shown it can only learn from its colleagues, through their agreement on the unlabelled
# images. The price is plain: with three patients, each network gives up a third of its labels.
# Labelled images are attacked by their label (the gradient's sign), the others by the network's own answer.

# %%
show.code(EnsembleCoTraining)

# %% [markdown]
# The two kinds of example are of one size, but not of one kind:

# %% tags=["nbval-ignore-output"]
victim, clean = pair["alone"].method.nets[0], task.valid.images[few][:1]
with torch.no_grad():
    target = victim(clean).softmax(1)
signs = fgsm(victim, clean, targets[:1], 0.1) - clean
smooth = virtual_adversarial(victim, clean, target, 0.1) - clean
fig, axes = show.subplots(1, 3, height=2.4)
show.overlay(axes[0], clean[0], targets[0])
for ax, change in zip(axes[1:], (signs, smooth), strict=True):
    ax.imshow(change[0, 0], cmap="RdBu", vmin=-0.25, vmax=0.25)
names = ("image and truth", "by label: each pixel ± ε", "virtual: where it hurts")
for ax, title in zip(axes, names, strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt="A heart with its true contours; the sign attack, which moves every pixel by the same amount up or down; "
    "and the virtual one of the same mean square, whose strongest pixel moves "
    f"{smooth.abs().max() / smooth.abs().mean():.0f} times as much as the average one.",
)

# %% [markdown]
# ## Three planes
#
# Volumes have views by nature: they can be cut along three axes. Zhou and colleagues train one **2D** network for the
# axial, one for the coronal, one for the sagittal slices (DMPCT). A voxel lies in one slice of each stack, with
# other neighbours in each. Three opinions can vote:
#
# $$
# \hat y_i = \mathrm{maj}\big( \arg\max_k f_{ax}(x)_{ik},\; \arg\max_k f_{co}(x)_{ik},\; \arg\max_k f_{sa}(x)_{ik} \big) .
# $$
#
# The majority labels the unlabelled volumes; three students start afresh on labels and pseudo-labels, each in its own plane.
#
# A 2D network becomes a network of volumes with a change of axes. There is no loop over slices: they
# are the batch.

# %%
show.code(InPlane)

# %%
volume = torch.randn(2, 1, 32, 32, 32)
untouched = [torch.equal(InPlane(torch.nn.Identity(), axis)(volume), volume) for axis in range(3)]
print("cut and put together again, unchanged along each axis:", untouched)

opinions = torch.tensor([[0.40, 0.35, 0.25], [0.45, 0.40, 0.15], [0.02, 0.97, 0.01]])
print(
    "two say 0, one says 1 and is very sure. The majority:",
    vote(opinions.view(3, 1, 3, 1)).argmax(1).item(),
)
print("the mean of the probabilities would say:", opinions.mean(0).argmax().item())
opinions = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.1, 0.4, 0.5]])
print(
    "three opinions, a tie. The larger mean decides:",
    vote(opinions.view(3, 1, 3, 1)).argmax(1).item(),
)

# %% [markdown]
# Here are three teachers on the brain phantom, with two labelled subjects and a short training.

# %% tags=["nbval-ignore-output"]
brain = Task.split(load("brain", size=32, dims=3), labelled=2, seed=0)
little = replace(budget, steps=budget.pick(2, 100, 300), batch=2)
planes = ("axial", "coronal", "sagittal")
teachers = [
    fit(Supervised(plane_net(brain, axis, seed=10 * axis)), brain, little) for axis in range(3)
]
teachers = together(teachers, vote)
teachers.method.cpu().eval()
with torch.inference_mode():
    each = torch.stack([m.predict(brain.valid.images) for m in teachers.method.members])
answers = dict(zip([f"{name} network" for name in planes], each.argmax(2), strict=True))
answers["majority of the three"] = vote(each).argmax(1)
for name, answer in answers.items():
    dice = score(answer, brain.valid, surfaces=False).mean_dice
    print(f"{name:<22} Dice {dice:.3f}")

# %% [markdown]
# Choose who answers and from which side you look. A plane network is steady within its own plane and
# *frays across it*: it decided slice by slice. Look at the axial network from the front, and at the majority from the
# same side.

# %% tags=["nbval-ignore-output"]


def sides(who, plane):
    axis, subject = planes.index(plane), 2
    image = brain.valid.images[subject].select(1 + axis, 15).flip(1)
    truth = brain.valid.labels[subject].select(axis, 15).flip(0)
    answer = answers[who][subject].select(axis, 15).flip(0)
    wrong = answer != truth
    fig, axes = show.subplots(1, 3, width=5.4, height=2.1)
    show.overlay(axes[0], image, truth, fill=True)
    show.overlay(axes[1], image, answer, fill=True)
    axes[2].imshow(wrong, cmap="magma", vmin=0, vmax=1.3)
    for ax, title in zip(axes, ("truth", who, f"wrong: {wrong.float().mean():.1%}"), strict=True):
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"A {plane} slice of a brain: the truth, what the {who} says, and where that is wrong: "
        f"{wrong.float().mean():.2%} of the pixels.",
    )


show.explore(
    sides,
    who=list(answers),
    plane=["axial", "coronal"],
    labels={"who": "who answers", "plane": "seen in a slice that is"},
    limit=75_000,
    alt="A slice of a brain with its true tissues, those a network or the vote of three gives it, and the errors.",
)

# %% [markdown]
# The vote hears every plane alike, however sure it is, and it hears a plane that knows nothing as loudly as
# one that knows. Whoever is wrong in two planes is wrong in the label.

# %% [markdown]
# ## Uncertain views
#
# Xia and colleagues (UMCT) mend both. Their views are three **3D** networks; each has one axis of the volume in front, and
# kernels that treat this axis unlike the others. Without that last condition there would be no views: a network whose kernels
# are the same in all directions answers a turned volume with the turned answer.

# %%
print("kernel sizes:", end=" ")
flat = AsymmetricUNet(channels=1, classes=4, dims=3)
print(*sorted({m.kernel_size for m in flat.modules() if isinstance(m, torch.nn.Conv3d)}))
cubic = networks.unet(brain)
for name, net in (("flat kernels", flat), ("cubic kernels (U-Net)", cubic)):
    print(f"{name:<22} {sum(p.numel() for p in net.parameters()):>7} weights")

# %% [markdown]
# How sure is a view? Ask it $T$ times with dropout on. The mean $\bar p_a$ is its opinion, the variance $U_a$ its
# uncertainty, voxel by voxel. The label of a view is the fusion of all *others*, and the surer voice counts more:
#
# $$
# c_a = \frac{1}{U_a + \delta}, \qquad \hat p_a = \frac{\sum_{b \ne a} c_b\, \bar p_b}{\sum_{b \ne a} c_b} .
# $$

# %%
show.code(weighted_fusion)

# %% [markdown]
# Suppose view 1 listens to two colleagues. One is perfectly sure of class 0, the other one says class 1, and its
# uncertainty grows. What does view 1 get to hear?

# %%
doubt = torch.linspace(0, 0.5, 101)
colleagues = (
    torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]).view(3, 1, 2, 1).expand(3, 1, 2, 101)
)
uncertainty = torch.stack([torch.zeros(101), torch.zeros(101), doubt]).view(3, 1, 1, 101)
heard = {
    f"δ = {floor}": 1 - weighted_fusion(colleagues, uncertainty, floor)[0, 0, 0]
    for floor in (0.3, 0.1, 0.01)
}
show.curves(
    heard,
    doubt,
    xlabel="uncertainty (variance) of the colleague who says class 1",
    ylabel="share of class 1",
    alt="The share of the doubtful colleague in the fused label falls from one half as its variance grows; with a "
    "floor of 0.01 it falls at once to a few per cent, with 0.3 it is still above a quarter at the end.",
)

# %% [markdown]
# At equal certainty both count the same. With a small $\delta$ the scale is steep, almost "the surest one decides".
# Keep in mind what this variance can and cannot know: it is the network's own doubt. A view that is wrong
# without hesitation outweighs a colleague who is right and modest.

# %%
show.code(UMCT)

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats this with several draws of the labelled subjects, in full
# trainings; what has no line has not been run yet. First the methods for slices, with three labelled patients. The rows with `agree=0 resist=0`, where they are there,
# are the controls: as many networks, no exchange. *Supervised, longer* is what twice the time buys when it is
# spent on the labelled images.

# %%
results = study.read()
mine = ("cotrain-classic", "deep-cotrain-seg", "dct-qiao", "dmpct", "umct")
others = {"supervised", "supervised-longer", "full-labels", "self-training", "pseudo-label"}


def belongs(line):
    return line.method in others or line.method.partition(":")[0] in mine


show.scoreboard([line for line in study.summary(results, "cardiac-3") if belongs(line)])

# %% [markdown]
# And the methods for volumes, with two labelled brains. Beware of one thing: both use networks of their
# own, three 2D U-Nets or three flat 3D ones, and the baseline here is a single 3D U-Net. A difference to that
# baseline may be due to the networks, or to the vote, and need no unlabelled volume at all. The control is `weight=0`.

# %%
show.scoreboard([line for line in study.summary(results, "brain3d-2") if belongs(line)])

# %% [markdown]
# Read the interval before the mean and the minutes beside both: these methods train between two and eight networks.
# If a method does not stand apart from its own control, what helped was the committee, and not what its
# members told each other. That is worth knowing too, for a committee needs no unlabelled images.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "Two learners of classic co-training agree on 99 % of the unlabelled pixels after the first round. Is that good news?",
    {
        "Yes, agreement means that they are right.": "They may share their mistakes; agreement is visible, truth is not.",
        "It depends on whether they still could disagree.": "If the views are different and both learners good, it is. If "
        "they agree because they are alike, nothing is left to exchange.",
        "No, co-training needs views that disagree on most pixels.": "They should be wrong in different places, and "
        "right in the same ones.",
    },
    correct="It depends on whether they still could disagree.",
)

# %%
quiz(
    "In the resistance term somebody forgets one line: network 1 is shown its *own* adversarial example. What is trained now?",
    {
        "The same thing, by symmetry.": "Nothing now says that the weak spots of the two must differ.",
        "A robust network, twice.": "Each learns to resist its own attack. That smooths both, but keeps neither different "
        "from the other.",
        "Nothing, the gradient is zero.": "The example was made to change the answer, so there is a gradient.",
    },
    correct="A robust network, twice.",
)

# %% [markdown]
# ## Exercises
#
# **1. The most there is.** Three networks and four classes: what is the largest Jensen-Shannon divergence at a
# pixel, and for which answers? And with five networks?
#
# ```{dropdown} Hint
# It is the entropy of the mean less the mean of the entropies. Make the second one zero, and the first one large.
# ```
# ```{dropdown} Solution
# Three networks, each certain of a class of its own: the mean is $(1/3, 1/3, 1/3, 0)$ and the divergence $\ln 3$. Five
# networks cannot have five classes among four; the mean can be at most as spread as votes of 2, 1, 1, 1, and that is
# $-\frac25 \ln \frac25 - \frac35 \ln \frac15 = 1.33$, a little less than $\ln 4 = 1.39$.
# ```
#
# **2. Three votes.** The three plane networks are wrong at a voxel with probability $q$ each, independently. How often
# is the majority wrong, if two wrong ones always agree? For which $q$ does the vote help? What if all three are wrong at the same voxels?
#
# ```{dropdown} Hint
# The majority is wrong if two or three are.
# ```
# ```{dropdown} Solution
# $3q^2(1-q) + q^3 = q^2(3 - 2q)$. For $q = 0.1$ that is $0.028$, a quarter of the errors. It is below $q$ exactly if $q < 1/2$: a vote of
# networks that are mostly wrong is worse than any of them. With common mistakes the vote is wrong as often as one
# network, $q$. Independence does all the work, here as in the two views of Blum and Mitchell.
# ```
#
# **3. Other views.** Replace the two bands by the left and the right half of the image, the other half set to zero.
# Are these views sufficient? Independent? What would `top_per_class` hand over?
#
# ```{dropdown} Hint
# Which pixels can a learner of the left half label?
# ```
# ```{dropdown} Solution
# Neither is sufficient: a learner that sees the left half can only guess the right one from where hearts usually end. What it
# is sure of lies in its own half, and there the other one is blind: it would be told labels of pixels it cannot see,
# and could learn no more from them than where hearts usually are. The halves are fairly independent, which shows that
# independence without sufficiency is worth nothing.
# ```
#
# ## Take away
#
# - A learner gains from a colleague who is wrong elsewhere. Measure that before you train: equal views exchange nothing.
# - Labels cross over: what one is sure of goes to the other, class by class, the surest first.
# - An agreement loss alone makes networks equal. Something must keep them apart: views, label subsets, each other's adversarial examples.
# - Volumes have three planes. A majority needs no probabilities; doubt as a weight needs dropout, and knows only the doubt a network admits.
# - Compare with the same committee without exchange. Agreement can be seen, being right cannot.
#
# **Reading.** {cite:t}`blum1998combining`; {cite:t}`qiao2018deep`, with the attacks of {cite:t}`goodfellow2015explaining` and
# {cite:t}`miyato2019virtual`; {cite:t}`peng2020deep`; {cite:t}`zhou2019semi`; {cite:t}`xia2020uncertainty`, whose
# flat kernels go back to {cite:t}`liu2018anisotropic`.
