# %% [markdown]
# # Atlases: one labelled body, bent into every other
#
# <!-- badge -->
#
# **You will learn**
#
# - how to segment without ever training a segmenter: move a labelled image, and let its labels ride along;
# - what a smooth motion is, how a network finds it in one look, and how to count the places where it folds;
# - three ways to fuse the opinions of several atlases, and how to find out whom to trust without knowing the truth;
# - nine ways to make registration and segmentation teach each other, and what each of them takes on trust.
#
# **You should know** the loop of [the baseline](../foundations/baseline), and what a pseudo-label is
# ([self-training](self_training)).

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch

from lsseg_edu import networks, show, study
from lsseg_edu.augment import displaced, folded, integrate, jacobian, warp
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.priors import Registration, alignment
from lsseg_edu.semi.priors.atlas import (
    AtlasNet,
    DeepAtlas,
    DeepAtlasNet,
    DeepAtlasPrior,
    DeepRS,
    LTNet,
    MultiAtlas,
    PriorUNet,
    SingleAtlas,
    atlas_em,
    centred_prior,
    locally_weighted,
    majority,
    posterior,
    probability_atlas,
    staple,
    trust,
)
from lsseg_edu.semi.priors.atlas.lt_net import round_trip
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
short = replace(budget, steps=budget.pick(6, 300, 1000))
task = Task.split(load("brain"), labelled=1, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# One brain is labelled: eight slices of fluid, grey and white matter. That is little to learn from. But look at it as a
# draughtsman would. Everybody's ventricles lie in the middle, everybody's cortex runs around the outside. A new
# brain is the labelled one, pushed about a little. If we knew *how* it was pushed, we could push the labels in the same way,
# and be done.
#
# The labelled image is called the **atlas**. Finding the push is **registration**; letting the labels ride along is **label
# propagation**. The next cell trains a network to find the push. It looks at pairs of images, and at no label at all.

# %% tags=["nbval-ignore-output"]
single = fit(SingleAtlas.for_task(task), task, short, seed=0)
method = single.method.cpu().eval()
atlas = method.atlas

item = 20  # a slice of the third validation patient
target, truth = task.valid.images[item : item + 1], task.valid.labels[item]
index = atlas.match(target)
moving, labels = atlas.images[index], atlas.labels[index]
with torch.no_grad():
    velocity = method.net(moving, target)
    arrived = method.move(atlas.one_hot(index), velocity).argmax(1)


def organ_dice(answer, truth, classes=4):
    """Mean Dice of the classes of one slice that either of the two shows."""
    pairs = [(answer == k, truth == k) for k in range(1, classes)]
    return float(
        np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs if (a | b).any()])
    )


panels = {
    "the atlas": (moving, labels[0], labels[0]),
    "its labels, not moved": (target, truth, labels[0]),
    "its labels, moved": (target, truth, arrived[0]),
}
fig, axes = show.subplots(1, 3, width=5.0, height=1.95)
for ax, (title, (image, area, line)) in zip(axes, panels.items(), strict=True):
    show.overlay(ax, image[0], area, line)
    ax.set_title(title)
    ax.axis("off")
fits = [organ_dice(said, truth) for said in (labels[0], arrived[0])]
show.figure(
    fig,
    alt="The labelled atlas slice; a new brain with its own tissue and, as lines, the atlas' labels where they "
    f"are, Dice {fits[0]:.2f}; and the same with the labels moved, Dice {fits[1]:.2f}.",
)

# %% [markdown]
# Areas are the truth of each image (the new brain's is drawn for us only): fluid orange, grey matter blue, white matter red. Lines are what the
# atlas says. No network here knows what grey matter is. One knows how to make two pictures look alike.
#
# Which slice of the atlas should be moved? The one that resembles the target: the atlas compares coarse copies of both. It
# must not look up the target's slice number, since nobody promises that of a new scan.

# %% [markdown]
# ## The equation
#
# Let $a$ be the atlas image, $y$ its labels, $x$ the target, and $\phi$ a map from places in the target to places in the
# atlas. Then $a \circ \phi$ is the atlas in the target's pose, and
#
# $$
# \hat\phi = \arg\min_\phi\ \underbrace{1 - \mathrm{LNCC}(a \circ \phi,\ x)}_{\text{unlike}}
#   + \lambda \underbrace{\int |\nabla^2 v|^2}_{\text{bent}}, \qquad \hat y = y \circ \hat\phi .
# $$
#
# Three decisions are hidden in it.
#
# - **Alike** is measured by the *local normalised cross-correlation*: the correlation of the two images inside small windows. If one
#   scanner makes everything twice as bright, nothing changes.
# - **Bent** is the second derivative of the motion. Shifting, turning and stretching the whole head is free; bending costs.
# - **The motion** is not $\phi$ itself but a velocity $v$, along which every place flows for one unit of time: $\phi = \exp(v)$. Particles in a flow never
#   meet, so the map can be undone, and we even know how: $\phi^{-1} = \exp(-v)$, the same flow backwards.
#
# How does one integrate a flow? Take a tiny step of $v / 64$, and double it six times: each time the map so far is applied to
# itself. This is called *scaling and squaring*.

# %%
show.code(integrate)

# %%
show.code(alignment)

# %% [markdown]
# ## Single atlas
#
# Classical registration starts from $v = 0$ and walks down the gradient for *this* pair, for minutes. A **registration network** $g$
# answers at once: $v = g(a, x)$ after one forward pass. It is trained on many pairs with the same objective and no labels.

# %%
show.code(Registration.loss)

# %%
show.code(SingleAtlas)

# %% [markdown]
# `steps` unites the two: start from the network's answer, then walk for this pair. The walk also looks at coarser copies of both images, in which
# parts that are far from each other can still attract. What it gains is what the network has missed; what remains is beyond this objective. Now slide along the way: at 0 the atlas is where it was, at 1 it has arrived. Beyond 1, it
# goes on in the same direction.


# %% tags=["nbval-ignore-output"]
def lines(ax, grid, every=4):
    """Draw the places that a grid ``(1, H, W, 2)`` reads, as a net of lines."""
    where = ((grid[0] + 1) * 32 - 0.5).numpy()
    for k in range(0, 64, every):
        ax.plot(*where[k].T, color="#0072B2", lw=0.8)
        ax.plot(*where[:, k].T, color="#0072B2", lw=0.8)
    ax.set(xlim=(-4, 67), ylim=(67, -4), aspect="equal")


def along(time):
    flow = time * velocity
    image, said = method.move(moving, flow), method.move(atlas.one_hot(index), flow).argmax(1)[0]
    motion = integrate(flow)
    fig, axes = show.subplots(1, 3, width=4.8, height=1.85)
    show.overlay(axes[0], image[0], said)
    show.overlay(axes[1], target[0], truth, said)
    lines(axes[2], displaced(motion))
    now = organ_dice(said, truth)
    titles = ("atlas on its way", f"target: Dice {now:.2f}", f"{folded(motion):.1%} folded")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"At time {time:g} of the motion: the atlas with its labels, the target with its truth and these labels, "
        f"Dice {now:.2f}, and the net of lines that the motion reads; {folded(motion):.2%} of the places fold.",
    )


show.explore(
    along,
    time=[0.0, 0.25, 0.5, 0.75, 1.0, 1.5],
    labels={"time": "time along the motion"},
    limit=57_000,
    alt="The atlas brain flows into the target: image, labels, and a net of lines.",
)

# %% [markdown]
# The net on the right shows *where the atlas is read*: where its lines spread, the atlas is squeezed into less space, and where they
# crowd, it is stretched.

# %% [markdown]
# ## Folds
#
# Can such a motion tear or fold tissue? A fold is easy to detect: the **Jacobian determinant** of $\phi$ at a place says how much a
# little square is enlarged. At 1 it keeps its area, near 0 it is squashed, and below 0 it is *turned over*: two places have
# changed their order. Anatomy does not do that, so folds are counted in any honest report of registration.
#
# Flows do not fold in theory. On a grid with a finite number of steps, and a velocity that jumps from pixel to pixel, they do. Below, one
# pair is registered by gradient descent three times, each with another price on bending.

# %% tags=["nbval-ignore-output"]
walks = {}
for bending in (0.0, 0.05, 1.0):
    steps = budget.pick(4, 80, 80)
    walker = SingleAtlas(method.net, atlas, bending=bending, steps=steps, rate=0.02)
    walks[bending] = walker.refine(moving, target, torch.zeros_like(velocity))

fig, axes = show.subplots(1, 3, width=5.4, height=2.1)
facts = []
for ax, (bending, flow) in zip(axes, walks.items(), strict=True):
    motion, image = integrate(flow), method.move(moving, flow)
    said = method.move(atlas.one_hot(index), flow).argmax(1)[0]
    terms = alignment(image, target, flow, bending)
    size = ax.imshow(jacobian(motion)[0], cmap="RdBu_r", vmin=-1, vmax=3)
    ax.imshow(np.ma.masked_greater(jacobian(motion)[0].numpy(), 0), cmap="gray", vmin=1, vmax=2)
    ax.set_title(
        f"bending {bending:g}: unlike {terms['unlikeness']:.2f}\nfolded {folded(motion):.1%}, "
        f"Dice {organ_dice(said, truth):.2f}",
        fontsize=8,
    )
    ax.axis("off")
    facts.append(
        f"bending {bending:g}: {folded(motion):.1%} folded, Dice {organ_dice(said, truth):.2f}"
    )
fig.colorbar(size, ax=axes, shrink=0.75, label="area, times")
show.figure(
    fig,
    alt="Jacobian determinant of three motions that differ in the weight of the bending energy; folds are black. "
    + "; ".join(facts),
)

# %% [markdown]
# Read *unlike* and *Dice* together. The freest motion makes the images most alike, because it may. Whether its labels fit
# best is another question: a motion that shuffles pixels until the picture is right explains the picture, not the anatomy. That
# is the hard truth of this page: **likeness is measured, correspondence is wanted**, and smoothness is all that ties the two.

# %% [markdown]
# ## Side by side
#
# The baseline learns appearance from the same eight slices. Same images, another use of them:

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised.for_task(task, seed=0), task, short, seed=0)
still = score(atlas.one_hot(atlas.match(task.valid.images)).argmax(1), task.valid, surfaces=False)
reports = {"atlas, not moved": still}
for steps in (0, budget.pick(1, 30, 30)):
    method.steps = steps
    reports[f"single atlas, {steps} steps of walk"] = evaluate(single, task.valid, surfaces=False)
method.steps = 0
reports["supervised U-Net"] = evaluate(baseline, task.valid, surfaces=False)
for name, report in reports.items():
    classes = np.nanmean(report.dice, 0).round(2)
    print(f"{name:<32} Dice {report.mean_dice:.3f}   by class {classes}")

# %% [markdown]
# (Validation patients; the test patients are left to the scoreboard.) Between the second and the third line lies what this registration network
# leaves undone for a pair it has not met.
#
# Now think about what either of them *can* know. The U-Net sees that white matter is bright: one brain shows this thousands of times over. Cortical folds are another matter. They differ from brain to brain in number, not only in place, so there is no motion
# that takes one brain's folds to another's. Tissue is a question of appearance, and here an atlas is at its weakest. Organs that
# look like their neighbours but lie in a known place are where it is strong. Keep that in mind for each method below: **position is a prior,
# not an answer.**

# %% [markdown]
# ## Multi-atlas
#
# An atlas is wrong where its body differs from the target's, and another atlas is wrong elsewhere. So register several and
# fuse what they say. For voting there are three classical rules. With $y^n$ the moved labels of atlas $n$:
#
# - **majority**: everybody has one vote, $p_{ik} = \frac1N \sum_n y^n_{ik}$;
# - **locally weighted**: a vote counts where the moved atlas *resembles* the target, $w_{ni} = \rho_{ni}^{\,g}$ with the local correlation $\rho$;
# - **STAPLE**: a vote counts by how often its atlas is right. Which is unknown, as is the truth. So one estimates both in
#   turn, by expectation-maximisation.

# %%
show.code(locally_weighted)

# %%
show.code(staple)

# %% [markdown]
# That sounds like pulling oneself up by one's bootstraps. It works as long as the raters err *independently*: those who are often right
# agree with each other more than those who guess. Five raters with accuracies that we set ourselves, three of them poor:

# %%
rng = np.random.default_rng(0)
accuracy = np.array([0.95, 0.6, 0.6, 0.55, 0.9])
answer = rng.choice(3, 5000, p=[0.5, 0.3, 0.2])
other = (answer + rng.integers(1, 3, (5, 5000))) % 3
said = np.where(rng.random((5, 5000)) < accuracy[:, None], answer, other)
votes = torch.from_numpy(np.eye(3, dtype=np.float32)[said]).movedim(-1, 1)[:, None, :, :, None]

fused, raters = staple(votes, steps=30)
found = raters[:, 0].diagonal(dim1=1, dim2=2).mean(1)
print("accuracy, set:      ", *(f"{a:.2f}" for a in accuracy))
print("accuracy, estimated:", *(f"{a:.2f}" for a in found.tolist()))
for name, result in (("majority", majority(votes)), ("STAPLE", fused)):
    print(f"{name:<8} is right at {(result[0].argmax(0)[:, 0].numpy() == answer).mean():.1%}")

# %% [markdown]
# Now six labelled abdomens, one network that registers any of them, and validation patients. Add atlases, and change the rule.

# %% tags=["nbval-ignore-output"]
organs = Task.split(load("abdomen"), labelled=6, seed=0)
several = fit(MultiAtlas.for_task(organs), organs, short, seed=0)
council = several.method.cpu().eval()
few = organs.valid.of(organs.valid.subjects.unique()[:3])
with torch.no_grad():
    said, alike = council.propagate(few.images)

RULES = {
    "majority": lambda n: majority(said[:n]),
    "locally weighted": lambda n: locally_weighted(said[:n], alike[:n]),
    "STAPLE": lambda n: staple(said[:n])[0],
}
counts = [1, 2, 3, 6]
fused = {rule: {n: fuse(n).argmax(1) for n in counts} for rule, fuse in RULES.items()}
scores = {
    rule: {n: score(answer, few, surfaces=False).mean_dice for n, answer in answers.items()}
    for rule, answers in fused.items()
}
shown = max(range(len(few.labels)), key=lambda n: len(few.labels[n].unique()))


def council_of(atlases, rule):
    now = scores[rule][atlases]
    fig, (left, right) = show.subplots(1, 2, width=4.6, height=2.4)
    show.overlay(left, few.images[shown], few.labels[shown], fused[rule][atlases][shown])
    left.set_title(f"{atlases} atlas{'es' * (atlases > 1)}, {rule}")
    for (name, line), style in zip(scores.items(), ("o-", "s--", "^:"), strict=True):
        right.plot(counts, list(line.values()), style, color="#595959", ms=4, lw=1, label=name)
    right.plot(atlases, now, "o", ms=11, mfc="none", mec="#D55E00", mew=2.2)
    right.set(xlabel="atlases", ylabel="Dice, 3 patients", xticks=range(1, 7))
    fig.legend(loc="outside lower center", ncols=3, fontsize=8)
    return show.figure(
        fig,
        alt=f"{atlases} atlases fused by {rule}: Dice {now:.3f} on three validation patients. Left one slice with truth "
        f"and fused labels, right Dice over the number of atlases for the three rules.",
    )


show.explore(
    council_of,
    atlases=counts,
    rule=list(RULES),
    labels={"atlases": "atlases", "rule": "rule of fusion"},
    limit=54_000,
    alt="An abdomen with fused atlas labels, and Dice over the number of atlases.",
)

# %% [markdown]
# With one atlas all rules agree, and with two the majority can only tie. Then watch which rule makes use of the third. STAPLE's raters are supposed
# to be wrong independently. Registrations are not: all atlases tend to fail at the same border, and then agreement
# proves nothing. The local rule asks the image instead.

# %% [markdown]
# ## LT-Net
#
# Is there any way to catch a bad registration without labels? Travel back. LT-Net has two networks, one from the atlas to the
# target ($\phi$) and one from the target to the atlas ($\psi$). Whoever goes there and back must be home, and three things
# must have come home safely: the image, the place, and the labels, which are the *atlas'* own and thus known:
#
# $$
# L = L_{reg}(\phi) + L_{reg}(\psi)
#   + \lambda_i |a \circ \phi \circ \psi - a|
#   + \lambda_t \big(|\phi \circ \psi - id|^2 + |\psi \circ \phi - id|^2\big)
#   + \lambda_a\, \mathrm{Dice}(y \circ \phi \circ \psi,\ y) .
# $$

# %%
show.code(LTNet.loss)

# %% [markdown]
# Is it needed, when every flow can be undone exactly? Our single network answers the question "atlas to target" with one flow and
# "target to atlas" with another, and nobody has told it that these belong together. How far from home does it end?

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    targets = task.valid.images[:32]
    starts = atlas.images[atlas.match(targets)]
    there, back = integrate(method.net(starts, targets)), integrate(method.net(targets, starts))
print(
    f"there, and back by the exact inverse: {round_trip(there, integrate(-method.net(starts, targets))).sqrt():.2f} px from home"
)
print(f"there, and back by asking again:      {round_trip(there, back).sqrt():.2f} px from home")
print(
    f"there, and staying:                   {round_trip(there, torch.zeros_like(there)).sqrt():.2f} px from home"
)

# %% [markdown]
# The first line is the error of the grid. The second is what LT-Net's loss works on: two answers about one pair that contradict
# each other cannot both be right. But mind the logic: two answers that agree may both be wrong. A motion of zero comes home, too. It is the
# similarity that drives the network out of the door, and the cycle that keeps it honest on the way.

# %% [markdown]
# ## Atlas and EM
#
# Registration knows positions, a network knows appearance. Let them speak together. Ito and colleagues treat the labels of an unlabelled image
# as hidden variables and the registered atlas $\pi$ as their prior. **E-step**: the posterior is proportional to answer times prior.
# **M-step**: train the network on the posterior. And again.
#
# $$
# q_{ik} \propto f_\theta(x)_{ik}\, \big((1-d)\,\pi_{ik} + \tfrac{d}{K}\big), \qquad
# \theta \leftarrow \arg\min_\theta L_{sup} - w \sum_{i,k} q_{ik} \log f_\theta(x)_{ik}
# $$
#
# A moved label is nearly 0 or 1, and a prior of 0 forbids a class forever. The **doubt** $d$ says how often the atlas is
# taken to be simply mistaken. Slide from blind faith to deafness:

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    prior = single.predict(task.valid.images)
answers = baseline.predict(task.valid.images)
doubts = [0.0, 0.1, 0.3, 0.6, 1.0]
believed = {d: posterior(answers, prior, d) for d in doubts}
overall = {d: score(q.argmax(1), task.valid, surfaces=False).mean_dice for d, q in believed.items()}


def together(doubt):
    fig, axes = show.subplots(1, 3, width=4.8, height=1.85)
    maps = (prior[item], answers[item], believed[doubt][item])
    names = ("the atlas", "the network", "both")
    for ax, probs, name in zip(axes, maps, names, strict=True):
        guess = probs.argmax(0)
        show.overlay(ax, target[0], truth, guess)
        ax.set_title(f"{name}: {organ_dice(guess, truth):.2f}")
    return show.figure(
        fig,
        alt=f"Doubt {doubt:g}: what the atlas says, what the network says, and their posterior, over the truth of one slice. "
        f"Dice of the posterior here {organ_dice(guess, truth):.2f}, on all validation patients {overall[doubt]:.3f}.",
    )


show.explore(
    together,
    doubt=doubts,
    labels={"doubt": "doubt in the atlas, d"},
    limit=48_000,
    alt="The atlas, the network, and their posterior on one brain.",
)

# %% tags=["nbval-ignore-output"]
for doubt, value in overall.items():
    print(f"doubt {doubt:<5g} posterior's Dice {value:.3f}")

# %% [markdown]
# The last line is the network alone. A posterior better than it is worth learning; a worse one is a lesson in the atlas' mistakes.
# Which is it here? (This is looked at on validation patients, who have masks. On unlabelled patients you could
# not draw this figure.)

# %%
show.code(atlas_em)

# %% [markdown]
# ## Trusted pseudo-labels
#
# EM asks the network what it thinks of the atlas. Chi and colleagues ask the image. Registration leaves a trace when it fails: the
# moved atlas does not look like the target there. So train a segmenter on propagated labels, and let pixel $i$ count by
# $c_i = \max(\rho_i, 0) \cdot \max_k q_{ik}$, with the local correlation $\rho$ after the motion.

# %%
show.code(trust)

# %% tags=["nbval-ignore-output"]
masks, belief = trust(method, task.valid.images)
wrong = masks.argmax(1) != task.valid.labels
inside = (task.valid.labels > 0) | (masks.argmax(1) > 0)
edges = np.linspace(0, 1, 6)
for low, high in zip(edges[:-1], edges[1:], strict=True):
    here = inside & (belief >= low) & (belief <= high)
    print(
        f"trust {low:.1f} to {high:.1f}: {here.sum() / inside.sum():4.0%} of the brain, {wrong[here].float().mean():.0%} wrong"
    )

fig, axes = show.subplots(1, 2, width=4.2, height=2.1)
heat = axes[0].imshow(belief[item], cmap="viridis", vmin=0, vmax=1)
axes[1].imshow(wrong[item], cmap="gray")
for ax, title in zip(axes, ("trust", "white: wrong"), strict=True):
    ax.set_title(title)
    ax.axis("off")
fig.colorbar(heat, ax=axes[0], shrink=0.8)
show.figure(
    fig,
    alt="For the brain of the first picture, the trust in each pixel's moved label, and the pixels whose moved "
    f"label is wrong; mean trust {belief[item].mean():.2f}, {wrong[item].float().mean():.0%} wrong.",
)

# %% [markdown]
# The table is the test of the idea. If the share of wrong labels falls from line to line, trust is information; if it hardly moves, the weights
# are decoration. Why can it fail? Because the registration was *trained* to raise this very correlation. Where it succeeded by
# shuffling, the measure is satisfied and the labels are wrong. In the words of Goodhart: when a measure becomes a target, it
# ceases to be a good measure.

# %% [markdown]
# ## DeepAtlas
#
# So far the registration was finished before the segmenter began. Xu and Niethammer train both at once, and both minimise one
# disagreement:
#
# $$
# L_{anatomy} = \mathrm{Dice}\big(y \circ \phi,\ f(x)\big), \qquad
# L_{reg} = L_{align} + \lambda_r L_{anatomy}, \qquad L_{seg} = L_{sup} + \lambda_s L_{anatomy} .
# $$
#
# The segmenter tells the registration where organs are, which likeness alone could not; the registration tells the segmenter where
# they belong. In the loop they are two players who are stepped in turn, and each takes the other's word as given:

# %%
show.code(DeepAtlas.registration_loss)

# %%
show.code(DeepAtlas.loss)

# %% [markdown]
# Notice the two `detach`. Without the first, the segmenter would be changed to suit the registration's motion while the *registration's* loss is
# minimised, and the fastest way to agree would be to agree on something simple.
#
# The player who is worse gains most. Where the segmenter is ahead, $\lambda_s$ should be small: disagreement with a
# poor registration is no fault.

# %% [markdown]
# ## DeepRS
#
# He and colleagues add two ideas. The first takes the network's velocity as a source of **new labelled images**. Moved by $\alpha v$ with a
# random $\alpha$, atlas and labels are a body between two real ones, and its labels are *exact*, since both went the same way. It does not
# matter at all whether the registration was right. You have seen such images: every frame of [the slider above](atlases.ipynb#single-atlas) is
# one, and beyond 1 the motion overshoots into bodies that no scan has shown.
#
# The second looks after the labels that have arrived at $x$ itself, and which are only as good as the registration. A critic sees moved atlas
# and target side by side and says, place by place, whether they are aligned. Its belief is the weight of the label. It is a
# *learnt* trust, in place of Chi's correlation, and it plays against the registration, who wants to be believed.

# %%
show.code(DeepRS.loss)

# %% [markdown]
# What does a critic of alignment take for aligned, when nobody has an aligned pair? The target beside a mixture of itself with a bit of the moved atlas.
# It is a trick, and you should distrust it a little: a critic could learn to see the mixing.

# %% [markdown]
# ## Deep atlas network
#
# In an echocardiogram intensities are speckle, and to correlate speckle with speckle says little. Dong and colleagues let the moved atlas and
# the target pass through one encoder and ask for the same *information* at each level, fine and coarse:
#
# $$
# L = L_{align} + \frac{\lambda}{J} \sum_{j=1}^{J} \frac{1}{|\Omega_j|} \sum_i
#   \Big(1 - \cos\big(e_j(a \circ \phi)_i,\ e_j(x)_i\big)\Big) .
# $$

# %%
show.code(DeepAtlasNet)

# %% [markdown]
# An encoder that is trained to agree would soon say the same about everything. Here it is `frozen` inside this term: the only way to
# agree is to move. And the registration network is a light one, as in the paper:

# %%
light, usual = DeepAtlasNet.for_task(task).net, networks.registration(task)
count = [sum(p.numel() for p in net.parameters()) for net in (light, usual)]
print(f"light: {count[0]:,} weights; the others' registration network: {count[1]:,}")

# %% [markdown]
# ## Deep atlas prior
#
# Several atlases, all moved onto one image and averaged, are a **probability atlas** $A$: at each pixel, how often is it liver? One
# could show it to the network. Zheng and colleagues put it into the *loss* instead. Where the atlas expects the right class anyway, a
# pixel teaches little; where it is surprised, it counts:
#
# $$
# L_{prior} = \frac{\sum_i w_i\,(1 - p_{i y_i})^\gamma\, (-\log p_{i y_i})}{\sum_i w_i}, \qquad
# w_i = \epsilon + (1 - A_{i y_i})^\gamma .
# $$
#
# You may know the second factor as the *focal loss*, which asks the network's own opinion whether a pixel is hard. The first asks
# the atlas.

# %% tags=["nbval-ignore-output"]
body, mask = few.images[shown : shown + 1], few.labels[shown : shown + 1]
with torch.no_grad():
    shares = probability_atlas(council, list(council.atlases), body)
surprise = (1 - shares.gather(1, mask[:, None])[:, 0]).square()
fig, axes = show.subplots(1, 4, height=2.0)
show.overlay(axes[0], body[0], mask[0])
for ax, k in zip(axes[1:3], (1, 2), strict=True):
    ax.imshow(shares[0, k], cmap="viridis", vmin=0, vmax=1)
    ax.set_title(f"A: {few.names[k]}")
heat = axes[3].imshow(surprise[0], cmap="magma", vmin=0, vmax=1)
fig.colorbar(heat, ax=axes[3], shrink=0.8)
axes[0].set_title("truth")
axes[3].set_title("surprise")
for ax in axes:
    ax.axis("off")
show.figure(
    fig,
    alt=f"An abdomen with its true organs, the probability atlas of two of them, and the surprise, which is high at "
    f"{(surprise > 0.25).float().mean():.0%} of the pixels, along borders.",
)

# %% [markdown]
# The unlabelled images come in through a critic that compares answers, as in [adversarial learning](adversarial). Its two halves are separate
# knobs, `prior_weight` and `weight`, because a paper that turns both at once cannot tell which of them did it.

# %%
show.code(DeepAtlasPrior.surprise)

# %% [markdown]
# ## AtlasNet
#
# Everybody else moves the atlas to the image. AtlasNet moves the *image* to the atlas, segments it there, and takes the answer back. In the **common
# space** all bodies have one pose, so there is less to learn. Below: thirty-two brains, averaged as they lie, and averaged after each was moved to the
# atlas slice it resembles.

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    nearest = atlas.match(task.train.images)
    common = nearest == nearest.bincount().argmax()
    bunch = task.train.images[common][:32]
    flows = method.net(atlas.images[nearest[common][:32]], bunch)
    gathered = warp(bunch, displaced(integrate(-flows)))
spread = [group.var(0).mean().item() for group in (bunch, gathered)]
fig, axes = show.subplots(1, 2, width=3.8, height=2.2)
for ax, group, name, value in zip(
    axes, (bunch, gathered), ("as they lie", "in the atlas' space"), spread, strict=True
):
    show.overlay(ax, group.mean(0))
    ax.set_title(f"{name}\nvariance {value:.2f}", fontsize=9)
    ax.axis("off")
show.figure(
    fig,
    alt=f"The mean of brains as they lie, and their mean in the atlas' space; the variance between "
    f"brains is {spread[0]:.2f} before and {spread[1]:.2f} after.",
)

# %%
show.code(AtlasNet.predict)

# %% [markdown]
# The way to the space is $\exp(-v)$ and the way home $\exp(v)$: this is where a flow that can be undone earns its keep. The paper trains `k`
# networks for `k` atlases and lets them vote. Its control is `moving=False`: then it is an ensemble of `k` ordinary networks, and ensembles help
# by themselves.

# %% [markdown]
# ## A prior as input
#
# The simplest thing one can do with a mean of masks is to hand it to the network. Zotti and colleagues need no registration for it: they move
# each labelled heart to the middle of the image, average, and let the network *find the centre* of a new heart, where the map is then
# put down as additional channels.

# %%
hearts = Task.split(load("cardiac"), labelled=3, seed=0)
there = hearts.train.labels[hearts.labelled]
there = there[(there > 0).flatten(1).any(1)]
scattered = torch.stack([(there == k).float().mean(0) for k in range(4)])
centred = centred_prior(hearts)
fig, axes = show.subplots(1, 4, height=2.0)
panels = [(m, k) for k in (1, 3) for m in (scattered, centred)]
for ax, (maps, k) in zip(axes, panels, strict=True):
    heat = ax.imshow(maps[k], cmap="viridis", vmin=0, vmax=1)
    where = "centred" if maps is centred else "as they lie"
    ax.set_title(f"{hearts.train.names[k]}\n{where}", fontsize=9)
    ax.axis("off")
fig.colorbar(heat, ax=axes, shrink=0.8)
show.figure(
    fig,
    alt="How often a pixel belongs to the right and to the left ventricle in the slices of three hearts, as they lie and after each "
    f"was centred; the highest share of the left ventricle is {scattered[3].max():.0%} and {centred[3].max():.0%}.",
)

# %%
show.code(PriorUNet.located)

# %% [markdown]
# The centre is a *mean place under a softmax*, so the gradient of the segmentation reaches it: pointing somewhere else would have put the map
# elsewhere. It also has a loss of its own, the distance to the true centre. The control is `informed=False`: same network, same centre, but a map that says nothing.

# %% [markdown]
# ## What the scoreboard says
#
# First the one-shot setting, one labelled brain. All methods that only *move* the atlas are compared with one another and with
# the U-Net that learns from these eight slices. `steps=30` is the walk after the network's answer.

# %%
results = study.read()
moved = ("atlas-single", "atlas-single:steps=30", "lt-net", "deep-atlas-net")
taught = (
    "ito-em",
    "ito-em:doubt=1.0",
    "chi-deform",
    "chi-deform:weighted=False",
    "deepatlas",
    "deeprs",
)
several_needed = (
    "atlas-multi",
    "atlas-multi:fusion='majority'",
    "atlas-multi:fusion='staple'",
    "dap",
    "dap:prior_weight=0.0",
    "atlasnet",
    "atlasnet:moving=False",
    "prob-atlas-concat",
    "prob-atlas-concat:informed=False",
)
references = ("supervised", "full-labels", "mean-teacher:weight=0")


def table(protocol, *arms):
    wanted = {arm for group in arms for arm in group} | set(references)
    return show.scoreboard([x for x in study.summary(results, protocol) if x.method in wanted])


table("brain-1", moved, taught)

# %% [markdown]
# Where several patients are labelled, there is more than one atlas. Three hearts:

# %%
table("cardiac-3", moved, taught, several_needed)

# %% [markdown]
# And two abdomens, where position says more than anywhere else in this book:

# %%
table("abdomen-2", moved, taught, several_needed)

# %% [markdown]
# Does any of them beat what the labelled images alone teach? Against the baseline, seed by seed:

# %%
for protocol in ("brain-1", "cardiac-3", "abdomen-2"):
    for line in study.summary(results, protocol):
        if line.method in {*moved, *taught, *several_needed} and line.difference is not None:
            mean, low, high = (100 * d for d in line.difference)
            print(
                f"{protocol:<10} {line.method:<32}{mean:+6.1f} Dice points [{low:+.1f}, {high:+.1f}]  {line.verdict}"
            )

# %% [markdown]
# Read a line together with its control. A learner with an atlas that is not better than the same learner without (`doubt=1.0`,
# `weighted=False`, `moving=False`, `informed=False`, `prior_weight=0.0`) has gained by something else. And read the first table from below: what only moves an atlas competes
# with a network that can look at each pixel. If it loses on tissue, the picture at the top of this page has told you why. An arm
# that is missing from a table has not been run yet.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A registration reaches a correlation of 0.99 with the target, and 8 % of its places fold. What do you expect of its labels?",
    {
        "Nearly perfect labels, since the images are nearly equal.": "Equal images do not make equal anatomy: a motion that is free "
        "enough can paint the target with the atlas' pixels.",
        "Labels that may be poor: the motion has shuffled pixels.": "Folds say that neighbours have changed their order, which tissue "
        "does not. Likeness was bought with correspondence.",
        "Nothing can be said, folds have to do with speed only.": "A fold is a place where the Jacobian determinant is not positive: "
        "a property of the map, whatever made it.",
    },
    correct="Labels that may be poor: the motion has shuffled pixels.",
)

# %%
quiz(
    "Five atlases, of which four are copies of one poor scan. Which rule is fooled?",
    {
        "The majority and STAPLE.": "The copies agree with each other always. STAPLE takes that for reliability: its raters "
        "are supposed to err independently.",
        "Only the majority.": "STAPLE starts from the majority, and finds that those who agree with it are reliable.",
        "The local weights as well, in any case.": "They ask each atlas for its likeness to the target. If the copies fit badly, the "
        "fifth outweighs them.",
    },
    correct="The majority and STAPLE.",
)

# %%
quiz(
    "In DeepRS, which labels may be wrong?",
    {
        "Those of the perturbed atlas, if the registration is bad.": "Image and label take the same way, wherever it leads: they fit.",
        "Those that have been moved onto the target.": "They are right only where the registration is; hence the critic.",
        "Those of the atlas.": "An expert drew them.",
    },
    correct="Those that have been moved onto the target.",
)

# %% [markdown]
# ## Exercises
#
# **1. Back and forth.** $\phi = \exp(v)$ and $\psi = \exp(-v)$ are inverse to each other. Then why has LT-Net a second network, and what would its cycle
# losses be if the second answered with $-v$?
#
# ```{dropdown} Hint
# What could a loss change that is zero whatever the weights are?
# ```
# ```{dropdown} Solution
# All three would be zero up to the error of the grid, for *any* $v$, and so teach nothing. The cycle is informative only because the second
# network sees the pair the other way round and commits itself without knowing the first one's answer. In the paper the networks give
# displacements, not velocities, so that nothing is invertible by construction.
# ```
#
# **2. Whose mistake?** Estimate on validation patients how much of the single atlas' error is registration, and how much is the atlas. Use `steps`, and an
# oracle that may look at the truth.
#
# ```{dropdown} Hint
# For each patient, several labelled patients could have been the atlas. Which would have been best?
# ```
# ````{dropdown} Solution
# ```python
# from lsseg_edu.semi.priors.atlas import SingleAtlas, by_subject
#
# for atlas in by_subject(organs):
#     alone = SingleAtlas(council.net, atlas)
#     answer = alone.predict(few.images)
#     print(score(answer.argmax(1), few, surfaces=False).per_subject.round(2))
#     alone.steps = 30
#     answer = alone.predict(few.images)
#     print(score(answer.argmax(1), few, surfaces=False).per_subject.round(2), "after 30 steps")
# ```
# Rows that differ between atlases show what the choice of the atlas is worth; what `steps` adds was the network's shortcoming. The
# oracle takes the best row of each column. It is an upper limit for any rule that *chooses* one atlas, and fusion may still beat it.
# ````
#
# **3. A prior that cannot be wrong.** Take doubt $d = 0$ in Ito's E-step and a registration that has shifted an organ by its width. Follow EM for three
# rounds on paper. Why does it never recover?
#
# ```{dropdown} Hint
# Where is the posterior zero, and what does the M-step learn there?
# ```
# ```{dropdown} Solution
# Where the moved label is certain and wrong, the true class has prior 0, posterior 0, and target 0, in each round, however sure the network was. The M-step teaches
# it to be unsure, then to be wrong. With $d > 0$ the prior only multiplies the odds, by at most $1 + K(1-d)/d$ , and a network that is surer than that
# wins.
# ```
#
# ## Take away
#
# - Registration segments without a segmenter: move the image, and the labels ride along.
# - Flows can be undone; count the folds all the same. Likeness is measured, correspondence is wanted.
# - Several atlases are better asked where they resemble the target; agreement is proof only among independent raters.
# - Propagated labels are pseudo-labels: use them as a prior, with doubt, or with trust that was tested.
# - Position is a strong prior for organs and a weak one for tissue. Look at the control before you credit the atlas.
#
# **Reading.** {cite:t}`rohlfing2005quo` and {cite:t}`iglesias2015multi` review single and multiple atlases, {cite:t}`artaechevarria2009combination` the
# weights and {cite:t}`warfield2004simultaneous` STAPLE. Flows: {cite:t}`arsigny2006log`; networks that register: {cite:t}`dalca2018unsupervised` and
# {cite:t}`balakrishnan2019voxelmorph`. The systems: {cite:t}`wang2020lt`, {cite:t}`ito2019semi`, {cite:t}`chi2020deep`, {cite:t}`xu2019deepatlas`,
# {cite:t}`he2020deep`, {cite:t}`dong2020deep`, {cite:t}`zheng2019semi`, {cite:t}`vakalopoulou2018atlasnet` and {cite:t}`zotti2019convolutional`.
