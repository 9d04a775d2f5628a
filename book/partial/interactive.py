# %% [markdown]
# # Interaction: the user corrects, the model answers
#
# <!-- badge -->
#
# **You will learn**
#
# - what a click says, and how to give it to a graph cut, a network, a level set or a crowd of agents;
# - how to train and to judge a method whose user is a program, without letting the truth leak;
# - why a few labels and a few clicks are two answers to the same question;
# - which image to look at first, when there is no time for all.
#
# **You should know** [the baseline](../foundations/baseline) and [the price of a label](../foundations/price).

# %% tags=["setup"]

# %%
import numpy as np
import torch
from torch import nn

from lsseg_edu import show, study
from lsseg_edu.augment import Augment
from lsseg_edu.data import Cohort, Task, annotate, load
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.partial.interactive import (
    UGIR,
    BIFSeg,
    GrabCut,
    HalfAndHalf,
    InteractiveEdit,
    IterMRL,
    PointGuided,
    apply_actions,
    click_maps,
    grabcut,
    image_specific,
    level_set,
    marked,
    with_user,
)
from lsseg_edu.partial.interactive.grab_cut import surprise
from lsseg_edu.train import Budget, Part, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
names = task.train.names
print(task)
print(f"a mask: {annotate.SECONDS['mask']:.0f} s an object; a click: {annotate.SECONDS['point']} s")

# %% [markdown]
# ## The idea in a picture
#
# Everything so far was decided before the test image came. A clinic is not a challenge: whoever needs the contour
# sits in front of the screen, sees that the answer is wrong, and knows *where*. A click is cheap. What could a
# method do with it?
#
# Below, a network that has learnt from three hearts gives its answer, and a second one mends it after each click. Move the slider.

# %% tags=["nbval-ignore-output"]
edit = fit(InteractiveEdit.for_task(task), task, budget, seed=0)
edit.method.cpu()
heart = task.valid.labels.flatten(1).any(1).nonzero()[:, 0]
few = task.valid.select(heart[:: budget.pick(30, 4, 2)])
answers = with_user(edit, few, clicks=5)


def dice_of(answer, labels):
    """Mean Dice of the classes of one slice."""
    shares = [
        2 * ((answer == k) & (labels == k)).sum() / ((answer == k).sum() + (labels == k).sum())
        for k in range(1, 4)
        if (answer == k).any() or (labels == k).any()
    ]
    return float(torch.stack(shares).mean())


def dots(ax, clicks):
    """The clicks, in the colours of their classes."""
    for k, row, column in clicks.tolist():
        if k >= 0:
            ax.plot(column, row, "o", ms=7, mfc=show.colour(k), mec="black", mew=1.4, clip_on=False)


dices = torch.tensor(
    [[dice_of(a, y) for a, y in zip(p.argmax(1), few.labels, strict=True)] for p in answers]
)
examples = dices[0].argsort(stable=True)[:2].tolist()
given = torch.stack([annotate.clicks(p.argmax(1), few.labels) for p in answers], 1)


def after(clicks, heart):
    i = examples[heart - 1]
    fig, axes = show.subplots(1, 2, width=5.6, height=2.7, width_ratios=[1, 1.1])
    show.overlay(axes[0], few.images[i], few.labels[i], answers[clicks][i].argmax(0))
    dots(axes[0], given[i, :clicks])
    axes[0].set_title("area: truth, line: answer")
    axes[1].plot(range(6), dices[:, i], color="#0072B2")
    axes[1].plot(clicks, dices[clicks, i], "o", color="#D55E00", ms=8)
    axes[1].set(xlabel="clicks", ylabel="Dice", ylim=(-0.03, 1.03))
    return show.figure(
        fig,
        alt=f"Heart {heart} after {clicks} clicks: the true areas, the contours of the answer and the clicks; "
        f"Dice is now {dices[clicks, i]:.2f}, it was {dices[0, i]:.2f} without a click.",
    )


show.explore(
    after,
    clicks=[0, 1, 2, 3, 4, 5],
    heart=[1, 2],
    limit=66_000,
    alt="Two hearts of the validation subjects, corrected click by click, and the Dice after each.",
)

# %% [markdown]
# ## What a user is
#
# A user is a function. It looks at the answer and says: *here belongs that class*. With $\hat y^{(n)}$ the classes of
# the answer $p^{(n)}$ after $n$ clicks,
#
# $$
# c_{n+1} = \text{user}\big(\hat y^{(n)}, y\big), \qquad
# p^{(n+1)} = A\big(x,\ p^{(n)},\ c_1, \dots, c_{n+1}\big).
# $$
#
# For tests with hundreds of images the user must be a program too. Ours clicks where it hurts most: into the middle
# of the largest connected region that is wrong. He **knows the truth**. Is that a leak? No: so does the person in
# front of the screen, and he tells the method nothing but a class and a place. It *would* be a leak to train on the
# test image's mask, to crop by it, or to let the method choose the best of its answers by it.

# %%
show.code(with_user)

# %% [markdown]
# A fair comparison fixes the number of clicks, and the user. Note two things that make a simulated user easier than a real
# one: he never misses, and he looks at every image.

# %%
truth = torch.zeros(1, 20, 20, dtype=torch.long)
truth[0, 4:16, 4:16] = 1
answer = truth.clone()
answer[0, 4:16, 4:9] = 0  # five columns are missing
answer[0, 17:19, 2:18] = 1  # and a strip is too much
k, row, column = annotate.clicks(answer, truth)[0].tolist()
print(f"The larger error is the missing part: class {k} belongs to row {row}, column {column}.")
answer[0, 4:16, 4:9] = 1
k, row, column = annotate.clicks(answer, truth)[0].tolist()
print(f"When that is mended, the strip: class {k} at row {row}, column {column}.")

# %% [markdown]
# ## Point-based interaction
#
# The simplest way to tell a network something is one more input channel. Zhang and colleagues ask for one click near the
# middle of each object; here it becomes a soft spot, a channel a class:
#
# $$
# p = f_\theta\big([x, m]\big), \qquad m_k(i) = \max_{c \text{ of class } k} \exp\Big(-\frac{|r_i - r_c|^2}{2\sigma^2}\Big)
# $$

# %%
show.code(PointGuided.guided)
# %%
show.code(PointGuided.simulate)

# %% [markdown]
# In training no one clicks, so the clicks are made from the labelled masks: roughly in the middle, since hands are rough,
# and not all of them, since a user may be done after one. A network that always got perfect clicks would learn to trust a
# perfection that never comes.

# %%
labels = task.train.labels[task.labelled]
i = int((labels == 1).flatten(1).sum(1).argmax())
torch.manual_seed(0)
clicks = PointGuided(nn.Identity(), 4).simulate(labels[i : i + 1].repeat(3, 1, 1))
fig, axes = show.subplots(1, 4, height=2.1)
show.overlay(axes[0], task.train.images[task.labelled][i], labels[i])
axes[0].set_title("image and mask")
for ax, one in zip(axes[1:], clicks, strict=True):
    maps = click_maps(one[None], 4, (64, 64))[0]
    ax.imshow(maps[1:].amax(0) - maps[0], cmap="PuOr_r", vmin=-1, vmax=1)
    dots(ax, one)
    ax.set_title(f"clicks: {int((one[:, 0] >= 0).sum())}")
for ax in axes:
    ax.axis("off")
show.figure(
    fig,
    alt="A heart with its mask, and three simulated sets of clicks upon it as soft spots, with "
    + ", ".join(str(int((one[:, 0] >= 0).sum())) for one in clicks)
    + " clicks; those of the background count negative.",
)

# %% tags=["nbval-ignore-output"]
point = fit(PointGuided.for_task(task), task, budget, seed=0)
point.method.cpu()
pointed = with_user(point, few, clicks=5)
for n in (0, 1, 5):
    print(f"{n} clicks: Dice {score(pointed[n].argmax(1), few, surfaces=False).mean_dice:.3f}")

# %% [markdown]
# One pass, however many clicks. The price: nothing forces the network to *obey*. A click is a hint among many, and if the
# training made it unimportant, it is overheard.

# %% [markdown]
# ## GrabCut
#
# The opposite extreme needs no training at all. Draw a box around the object. What is outside is background for sure, so its
# colours can be learnt; what is inside is a mixture. Rother and colleagues describe both sides by five Gaussians, cut the
# image between them along its edges (the [graph cut](propagation)), and learn the colours again from the new
# sides, until nothing moves:
#
# $$
# E(y, \theta) = \sum_i -\ln P(x_i \mid \theta_{y_i}) + \sum_{i \sim j} [y_i \ne y_j]\, w_{ij}, \qquad
# P(x \mid \theta) = \sum_{c=1}^5 \pi_c\, \mathcal N(x; \mu_c, \Sigma_c)
# $$

# %%
show.code(grabcut)

# %% [markdown]
# The image below has an object of two greys on a ground of two others, and each grey of the object lies between those of the
# ground. Move the controls: how many rounds, how much a border costs, how many Gaussians.

# %% tags=["nbval-ignore-output"]
axis = torch.arange(32.0) - 15.5
disc = (axis[:, None].square() + axis.square()).sqrt() < 9
stripes = torch.where(torch.arange(32) // 3 % 2 == 0, 1.0, -1.0).expand(32, 32)
noise = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
image = torch.where(disc, stripes, stripes + 1) + 0.35 * noise
box = torch.zeros(32, 32, dtype=torch.bool)
box[4:28, 4:28] = True


def cut(rounds, weight, components):
    found = grabcut(image, box, rounds=rounds, weight=weight, components=components)
    dice = float(2 * (found & disc).sum() / (found.sum() + disc.sum()))
    sides = found if found.any() else box
    odds = surprise(image, ~sides, components) - surprise(image, sides, components)
    fig, axes = show.subplots(1, 3, width=6.0, height=2.3)
    axes[0].imshow(image[0], cmap="gray")
    axes[0].contour(box, [0.5], colors="#E69F00", linewidths=1.6)
    axes[1].imshow(odds, cmap="PuOr", vmin=-3, vmax=3)
    axes[2].imshow(found, cmap="gray", vmin=0, vmax=1.3)
    axes[2].contour(disc, [0.5], colors="#E69F00", linewidths=1.6)
    for ax, title in zip(axes, ("box", "colours say", f"cut: Dice {dice:.2f}"), strict=True):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"{components} Gaussians a side, {rounds} rounds, border weight {weight}: the box, what the colours "
        f"alone say, and the cut beside the true disc. Dice {dice:.2f}.",
    )


show.explore(
    cut,
    rounds=[1, 5],
    weight=[0.0, 2.0],
    components=[1, 5],
    labels={"weight": "weight of the border", "components": "Gaussians a side"},
    limit=45_000,
    alt="GrabCut of a striped disc: the box, the mixtures' opinion and the cut.",
)

# %% [markdown]
# Without a border it is a threshold, and noisy. With one Gaussian a side the greys of object and ground cannot be told
# apart. And one round learns the colours of the object from a box that is half ground.
#
# A click is a pixel whose side is fixed. In this book's version of it for hearts, the network answers first, a click names an
# object, and GrabCut draws a box around the answer and cuts that object again. It knows nothing of hearts. Where two organs have
# the same grey, as the two ventricles with their blood, the colours say nothing, and only box, edges and clicks are left.

# %%
show.code(GrabCut.correct)

# %% [markdown]
# ## BIFSeg
#
# Between hint and cut lies a third way: *train again*, on the one image that the user looks at. Wang and colleagues take two
# steps in turn. A graph cut makes labels of the network's answer and the clicks. The last layer is then trained on these
# labels, with a weight for each pixel:
#
# $$
# w_i = \begin{cases} \omega & \text{marked by the user} \\
# 0 & \max_k p_k(i) < \tau \text{, or near a click of another class} \\ 1 & \text{otherwise} \end{cases}
# $$

# %%
show.code(BIFSeg.react)
# %%
show.code(BIFSeg.trust)

# %% [markdown]
# The zero is the point. What the network doubts, or what the user has just contradicted, is the last thing it should learn
# from itself. Below: the answer, the labels of the cut, the weights, and the answer of the tuned layer.

# %% tags=["nbval-ignore-output"]
bifseg = BIFSeg(edit.method.net).eval()
i = examples[0]
picture, one_click = few.images[i : i + 1], given[i : i + 1, :1]
with torch.no_grad():
    first = bifseg.predict(picture)
    seeds = marked(one_click, (64, 64), bifseg.radius)
    cut_labels = bifseg.relabelled(first, picture, seeds)
    ways = torch.full_like(first, torch.inf)
    trusted = bifseg.trust(first, cut_labels, seeds, ways)
tuned = bifseg.interact(picture, one_click)
fig, axes = show.subplots(1, 4, width=5.8, height=1.9)
for ax, lines in zip(axes[[0, 1, 3]], (first.argmax(1), cut_labels, tuned.argmax(1)), strict=True):
    show.overlay(ax, picture[0], few.labels[i], lines[0])
    dots(ax, one_click[0])
axes[2].imshow(trusted[0], cmap="viridis", vmin=0, vmax=2)
for ax, title in zip(axes, ("answer", "graph cut", "weights", "tuned"), strict=True):
    ax.set_title(title)
    ax.axis("off")
show.figure(
    fig,
    alt=f"A heart and one click: the first answer (Dice {dice_of(first.argmax(1)[0], few.labels[i]):.2f}), the "
    "labels of the graph cut, the weights (dark where the network doubts, bright at the click), and the answer of "
    f"the tuned layer (Dice {dice_of(tuned.argmax(1)[0], few.labels[i]):.2f}).",
)

# %% [markdown]
# Only the last layer moves, from the trained weights every time, so the features are computed once. A $1 \times 1$
# layer is linear; a whole batch of images can be tuned at once, each with weights of its own:

# %%
show.code(image_specific)

# %% [markdown]
# ## Interactive editing
#
# A network can also be *trained to be corrected*. The editor of Zhou and colleagues sees the image, the last answer and the
# clicks, and gives the next answer:
#
# $$
# p^{(n)} = g_\phi\big([x,\ p^{(n-1)},\ m(c_1, \dots, c_n)]\big), \qquad
# L = \frac1R \sum_{n=1}^R \ell\big(p^{(n)}, y\big)
# $$
#
# The clicks of the training come from a robot user, who looks for the largest error of each answer, the editor's own included:

# %%
show.code(InteractiveEdit.edit_loss)

# %% [markdown]
# And where do the first answers come from? Not from the network that will be corrected. It knows three subjects by heart, and on
# their images there is little to mend: an editor that sees no mistakes learns to leave everything as it is. So two more networks are
# trained, each on one half of the labelled subjects, and every training image is answered by the one that *does not know its subject*.
# Nobody uses them afterwards. (The trick is that of stacking, {cite:t}`wolpert1992stacked`.)

# %%
show.code(HalfAndHalf.answers)

# %% [markdown]
# Whose mistakes are most like those on new patients? Count the wrong pixels of three first answers:

# %% tags=["nbval-ignore-output"]
seen = task.train.select(task.labelled)
part = Part(seen.images, seen.labels, task.labelled, seen.subjects, {})
with torch.no_grad():
    held_out = edit.method.first_answers(part)
firsts = {
    "the network, images it has learnt from": (edit.predict(seen.images), seen.labels),
    "the halves, the same images": (held_out, seen.labels),
    "the network, new patients": (answers[0], few.labels),
}
for title, (probs, labels) in firsts.items():
    print(f"{title:<40}{(probs.argmax(1) != labels).float().mean():.1%}")

# %% [markdown]
# ## IteR-MRL
#
# An editor gives its answer in one go. Liao and colleagues let it be *argued about*. Every voxel is an agent. It sees the image
# around it, the probabilities, the clicks; it may raise the probability of a class by 0.1, 0.2 or 0.4; and it is paid by
# what this gained in cross-entropy:
#
# $$
# r_i^{(t)} = \ln p_{y_i}^{(t+1)}(i) - \ln p_{y_i}^{(t)}(i), \qquad
# \nabla L = -\sum_{i,t} \nabla \ln \pi\big(a_i^{(t)} \mid s_i^{(t)}\big)\,
# \Big(\sum_{l \ge 0} \gamma^l r_i^{(t+l)} - V(s_i^{(t)})\Big)
# $$
#
# All agents share one policy $\pi$, a convolutional network. That makes thousands of them as cheap as one pass, and each
# game teaches thousands of moves. What a move pays at once is known for *every* action, so the code takes the mean of it
# over the policy and not only the action drawn: on average the same gradient, with less noise. A game begins where the editor's training does, with answers for subjects that the answering network
# does not know.

# %%
show.code(apply_actions)
# %%
show.code(IterMRL.game)

# %% [markdown]
# Why pay the *gain*, and not the final score? A voxel that was right before earns nothing by staying right; one that turns a
# bad probability into a fair one is paid at once, though it is still not good. Credit goes to the move that earned it.
#
# A game small enough to be watched: discs in heavy noise. The first answer judges each pixel by itself. Then the agents play;
# the user clicks before each round.

# %% tags=["nbval-ignore-output"]
draw = torch.Generator().manual_seed(0)
centre = 10 + 12 * torch.rand(40, 2, 1, 1, generator=draw)
radius = 4 + 4 * torch.rand(40, 1, 1, generator=draw)
grid = torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij"))
discs = ((grid - centre).square().sum(1).sqrt() < radius).long()
noisy = 1.5 * discs + torch.randn(40, 32, 32, generator=draw)
toys = Task.split(Cohort.from_arrays(noisy.numpy(), discs.numpy(), names=["ground", "disc"]))
torch.manual_seed(0)
policy = nn.Sequential(
    *(nn.Conv2d(5, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=2, dilation=2)),
    *(nn.ReLU(), nn.Conv2d(16, 7, 1)),
)
agents = IterMRL(nn.Conv2d(1, 2, 1), policy)
small = Budget(budget.name, steps=budget.pick(6, 200, 300), batch=8, rate=1e-2)
game = fit(agents, toys, small, seed=0, augment=Augment.none(), device="cpu")
rounds = with_user(game, toys.test, clicks=5)
told = torch.stack([annotate.clicks(p.argmax(1), toys.test.labels) for p in rounds], 1)


def played(round):
    p, last = rounds[round][0, 1], rounds[max(round - 1, 0)][0, 1]
    right = (rounds[round].argmax(1) == toys.test.labels).float().mean()
    fig, axes = show.subplots(1, 3, width=5.4, height=2.2)
    axes[0].imshow(toys.test.images[0, 0], cmap="gray")
    axes[0].contour(toys.test.labels[0], [0.5], colors="#E69F00", linewidths=1.4)
    dots(axes[0], told[0, :round])
    axes[1].imshow(p, cmap="gray", vmin=0, vmax=1)
    axes[2].imshow(p - last, cmap="PuOr_r", vmin=-0.4, vmax=0.4)
    titles = ("image, truth, clicks", "probability", "last move")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"A disc in noise after {round} rounds: image with the truth and the clicks, probability of the disc, and "
        f"by how much the agents moved it. Right pixels of all test images: {right:.1%}.",
    )


show.explore(
    played,
    round=[0, 1, 2, 3, 4, 5],
    limit=40_000,
    alt="Agents refine the probabilities of a noisy disc, round by round.",
)

# %% [markdown]
# The agents do not begin from nothing: an untrained one stands by the answer, and believes a click nearby. It would otherwise
# vote for the background, as most agents are of the background and that vote pays; and what an agent never tries it cannot learn.
# Nobody told them to smooth, or how far to believe. That had to turn out to pay; how far it went in a short game you see above.

# %%
show.code(IterMRL.decide)

# %% [markdown]
# ## UGIR
#
# A stack has many slices, and most of them are fine. Whom do you ask for a click, and *where*? Wang and colleagues let the network
# say which slices it is unsure of. It is one U-Net whose convolutions are **grouped**: channels in four groups that never
# meet. Four answers come out of a single pass. Where they contradict each other, the slice should be seen:
#
# $$
# u = \frac{1}{|\Omega|} \sum_i \frac1K \sum_k \mathrm{Var}_g\big[p_k^{(g)}(i)\big]
# $$

# %%
show.code(UGIR.doubt)

# %% tags=["nbval-ignore-output"]
ugir = fit(UGIR.for_task(task), task, budget, seed=0)
ugir.method.cpu()
stack = task.valid.select(slice(None, None, budget.pick(6, 1, 1)))
doubt = ugir.method.doubt(stack.images)
wrong = (ugir.predict(stack.images).argmax(1) != stack.labels).flatten(1).float().mean(1)
orders = {
    "random": torch.randperm(len(doubt), generator=torch.Generator().manual_seed(0)),
    "most doubtful first": doubt.argsort(descending=True),
    "worst first (needs the truth)": wrong.argsort(descending=True),
}
found = {name: (wrong[order].cumsum(0) / wrong.sum()).numpy() for name, order in orders.items()}
third = len(doubt) // 3
print(f"errors found in the first third of {len(doubt)} slices:")
for name, curve in found.items():
    print(f"  {name:<30} {curve[third - 1]:.0%}")
show.curves(
    found,
    np.arange(1, len(doubt) + 1) / len(doubt),
    xlabel="share of the slices seen",
    ylabel="share of all wrong pixels seen",
    alt="How many of the wrong pixels a user has seen after a share of the slices: in random order, most doubtful first, "
    f"worst first. After a third: {', '.join(f'{c[third - 1]:.0%}' for c in found.values())}.",
)

# %% [markdown]
# The correction itself is a **level set**. A click is believed nearby, the less the farther, and not across an edge of the
# image (a *geodesic* distance $D$): $q = (1 - \alpha)\, \bar p + \alpha\, e_c$ with $\alpha = e^{-D}$. Then a contour
# $\phi = 0$ moves until it lies where $q$ says, and no longer than need be:
#
# $$
# \frac{\partial \phi}{\partial t} = \mu\, \mathrm{div}\big(d(|\nabla\phi|) \nabla\phi\big)
# + \delta(\phi)\Big[\nu\, \mathrm{div}\Big(g \frac{\nabla\phi}{|\nabla\phi|}\Big) + \ln\frac{q}{1-q}\Big]
# $$

# %%
show.code(level_set)

# %% [markdown]
# Try it: a probability with a hole and a speck, and an image with an edge, around which $g$ is small. How much should length cost?

# %%
ramp = torch.arange(40.0) - 19.5
far = (ramp[:, None].square() + ramp.square()).sqrt()
q = torch.where(far < 11, 0.75, 0.25)
q[18:21, 22:25], q[4:6, 5:8] = 0.3, 0.7
flat = torch.zeros(1, 1, 40, 40)


def evolved(length, steps):
    phi = level_set(q[None], flat, steps, length=length)[0]
    size = int((phi > 0).sum())
    fig, axes = show.subplots(1, 2, width=4.4, height=2.3)
    axes[0].imshow(q, cmap="gray", vmin=0, vmax=1)
    axes[0].contour(phi, [0], colors="#E69F00", linewidths=1.6)
    axes[1].imshow(phi, cmap="PuOr_r", vmin=-3, vmax=3)
    for ax, title in zip(axes, (f"contour: {size} pixels", "level set"), strict=True):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Length weight {length}, {steps} steps: the contour over the probability encloses {size} pixels; "
        "beside it the level-set function.",
    )


show.explore(
    evolved,
    length=[0.1, 0.5, 1.0, 2.0],
    steps=[0, 40],
    labels={"length": "price of length"},
    limit=45_000,
    alt="A contour on a probability with a hole and a speck, for several prices of its length.",
)

# %% [markdown]
# ## Side by side
#
# One curve a method, over the slices of the validation subjects used above: **Dice after n clicks**. GrabCut, BIFSeg and
# the editor start from the same network, so their curves start at one point. UGIR's user sees one slice in two,
# and clicks twice there; the number of clicks is that of the others.

# %% tags=["nbval-ignore-output"]
arms = {
    "GrabCut": with_user(GrabCut(edit.method.net), few, clicks=5),
    "BIFSeg": with_user(bifseg, few, clicks=5),
    "interactive editing": answers,
    "points": pointed,
    "UGIR": with_user(ugir, few, clicks=5),
}
curves = {
    name: [score(p.argmax(1), few, surfaces=False).mean_dice for p in steps]
    for name, steps in arms.items()
}
show.curves(
    {"no user": [curves["BIFSeg"][0]] * 6, **curves},
    range(6),
    xlabel="clicks an image",
    alt="Dice after n clicks: "
    + "; ".join(f"{n} from {c[0]:.2f} to {c[-1]:.2f}" for n, c in curves.items())
    + ".",
)

# %% [markdown]
# What a curve like this does *not* show: whether an answer ever gets worse after a click, which no user forgives, and how
# long it takes, which he forgives for about a second. Count both, the time for one image:

# %% tags=["nbval-ignore-output"]
listeners = dict(zip(arms, (GrabCut(edit.method.net), bifseg, edit, point, ugir), strict=True))
k, row, column = given[i, 0].tolist()
print(f"{'':<20}{'made worse by a click':>22}{'seconds an answer':>19}")
for name, steps in arms.items():
    each = torch.tensor(
        [[dice_of(a, y) for a, y in zip(p.argmax(1), few.labels, strict=True)] for p in steps]
    )
    canvas = show.Canvas(listeners[name], few.images[i], names)
    canvas.click(row, column, k)
    worse = (each.diff(dim=0) < -0.01).float().mean()
    print(f"{name:<20}{worse:>22.0%}{canvas.seconds:>19.2f}")

# %% [markdown]
# ## Your turn
#
# With a kernel (JupyterLab, Colab) the picture below can be clicked: choose a class, click where it belongs, and watch. The
# sliders and the button do the same by keyboard. Without one you see the first answer.
#
# It is the editor that listens here: one pass of a network, and the quickest to answer together with the points. Put `bifseg` or
# `GrabCut(edit.method.net)` in its place, and each click starts a cut, or a training.

# %% tags=["nbval-ignore-output"]
i = examples[0]
show.Canvas(edit, few.images[i], names, truth=few.labels[i])

# %% [markdown]
# ## What the scoreboard says
#
# Three hearts are one draw. The [scoreboard](../scoreboard/scoreboard) repeats it: three labelled subjects, Dice on the test
# subjects after five clicks an image. Its baseline is the supervised network, which has no user; *full labels* is the same network
# with all training masks, and no user either.

# %%
results = study.read()
known = "cardiac-clicks" in study.PROTOCOLS
show.scoreboard(study.summary(results, "cardiac-clicks") if known else [])

# %% [markdown]
# So a row above *full labels* says: with five clicks for each new image, three masks are worth more than all of them without.
# That is no miracle. The clicks are information about the *test* image, and no training set has that. Whether it is
# cheaper depends on how many images will come: masks are paid once, clicks every time.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A simulated user clicks into the middle of the largest error, which he finds with the test mask. Is the test score still honest?",
    {
        "No, the test mask was used.": "By the user, who stands for a person who sees the right answer. It is part of what is tested.",
        "Yes, if the method gets class and place of the click and nothing else.": "And if every method is given the same user and "
        "as many clicks.",
        "Yes, always.": "Not if the method chooses its best answer by the mask, or crops the image by it.",
    },
    correct="Yes, if the method gets class and place of the click and nothing else.",
)

# %%
quiz(
    "In BIFSeg, what would happen if doubtful pixels had weight 1 like the others?",
    {
        "The network would learn its own guesses as truths.": "The labels there come from its own answer and the cut. "
        "Training on them makes the guess certain, right or wrong.",
        "Nothing, the labels come from the user.": "Only those of a few pixels do.",
        "The clicks would be ignored.": "They keep their larger weight, but they are few.",
    },
    correct="The network would learn its own guesses as truths.",
)

# %% [markdown]
# ## Exercises
#
# **1. A click in vain.** Give `GrabCut` a click of class 0 where the answer is background already. What does it do, and what should it?
#
# ```{dropdown} Hint
# Which object is the click about?
# ```
# ```{dropdown} Solution
# None, so nothing is cut: the answer stays. The simulated user never clicks so, since nothing is wrong there; a person does,
# to say "do not come here". To honour it one would have to keep the click as a seed for later cuts. The code does: `marked`
# reads *all* clicks so far.
# ```
#
# **2. Who may look?** Set `focus=1` in `UGIR` and call `with_user` again. Is it fair to compare the two curves at the same n?
#
# ```{dropdown} Hint
# Count the clicks, not the slices.
# ```
# ```{dropdown} Solution
# Yes: n is the number of clicks *divided by all images*, and with `focus=2` half of the images get twice as many. The
# difference tells whether doubt found the slices that needed help. It need not be positive: if all slices are about
# equally wrong, the second click on one helps less than the first on another.
# ```
#
# **3. A careless user.** Move every click by up to three pixels in a random direction before the method hears of it, keeping the class.
# Which methods suffer most?
#
# ```{dropdown} Hint
# Which take a click as certain, and which as a hint?
# ```
# ```{dropdown} Solution
# Those with hard constraints: a wrong seed of a graph cut stays wrong, and BIFSeg trains on it with the largest weight. A network that was trained
# with rough clicks has learnt how far to trust them. Write `user = lambda answer, labels: ...` around `annotate.clicks`, clamp to
# the image, and compare the curves.
# ```
#
# ## Take away
#
# - A click is a class and a place. It can be a channel, a seed, a label with weight, or a state.
# - Networks that are trained to be corrected need a simulated user, and mistakes like those they will meet: of networks that do
#   not know the patient.
# - Cuts, level sets and test-time training obey at once and need no simulated user; they know less.
# - Fix the user and the number of clicks, and give the method class and place, nothing else. Count the clicks that made it worse.
# - Clicks are paid at every image, masks once.
#
# **Reading.** {cite:t}`rother2004grabcut` started it all, with a box; {cite:t}`xu2016deep` put clicks into channels, and
# {cite:t}`zhang2021interactive` ask for one in each object's middle. {cite:t}`wang2018interactive` tune the network to the image,
# {cite:t}`zhou2019interactive` train an editor, {cite:t}`liao2020iteratively` a crowd, {cite:t}`wang2020uncertainty` choose the slice;
# their level set comes from {cite:t}`li2010distance`. How simulated users are built, and judged: {cite:t}`sofiiuk2022reviving`.
