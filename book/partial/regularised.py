# %% [markdown]
# # What the image adds: regularised losses
#
# <!-- badge -->
#
# **You will learn**
#
# - how an energy of the answer, which needs no label, fills the space between scribbles;
# - which pairs of pixels belong together, and how two widths decide it;
# - why a plain cut shrinks, and what a normalised cut does about it;
# - to bring the image in during training (a loss), or after it (inference, level sets).
#
# **You should know** [scribbles and partial cross-entropy](scribbles).

# %% tags=["setup"]

# %%
import time

import torch

from lsseg_edu import show, study
from lsseg_edu.data import IGNORE, Task, annotate, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.partial.regions import (
    CRFInference,
    DenseCRFLoss,
    GatedCRF,
    KernelCut,
    LevelSet,
    MumfordShah,
    NormalisedCut,
    PartialCrossEntropy,
    TotalVariation,
    affinities,
    crf_loss,
    gated_crf,
    level_set,
    mumford_shah,
    normalised_cut,
    on_grid,
    partial_cross_entropy,
    total_variation,
)
from lsseg_edu.partial.regions.chan_vese import narrow_band
from lsseg_edu.partial.regions.regularised import Regularised, cut_and_degree
from lsseg_edu.semi.self_training import mean_field
from lsseg_edu.train import Budget, fit

budget = Budget.auto()
full = Task.split(load("cardiac"), labelled=20, seed=0)
task = annotate.scribbles(full, seed=0)
names = full.train.names
pick = full.labelled[[2]]
image, mask = full.train.images[pick], full.train.labels[pick]
strokes = annotate.draw_scribbles(mask, seed=1)
print(task)

# %% [markdown]
# ## The idea in a picture
#
# Here is a heart with its scribbles. Take one pixel that nobody marked, and ask of every other pixel: is it *near*, and does it
# *look alike*? The map on the right is the answer. It knows nothing of hearts, and most of it lies in the ventricle.


# %%
def kin(row, column, near, alike):
    """Affinity of all pixels of the image to one of them, (64, 64)."""
    axis = torch.arange(64.0)
    far = (axis[:, None] - row) ** 2 + (axis - column) ** 2
    other = (image[0] - image[0, :, row, column, None, None]).square().sum(0)
    return (-far / (2 * near**2) - other / (2 * alike**2)).exp()


def inside(k):
    """A pixel of class ``k`` that no stroke touches, as far from the middle as half of them."""
    free = ((mask[0] == k) & (strokes[0] == IGNORE)).nonzero()
    away = (free - free.float().mean(0)).norm(dim=1)
    return free[away.argsort(stable=True)[len(free) // 2]].tolist()


spots = {names[k]: inside(k) for k in (3, 2)}
row, column = spots[names[3]]
fig, axes = show.subplots(1, 3, height=2.6)
show.overlay(axes[0], image[0])
show.overlay(axes[1], image[0], strokes[0], fill=True)
axes[2].imshow(kin(row, column, 6, 0.5), vmin=0, vmax=1, cmap="magma")
for ax, title in zip(axes, ("a pixel", "the scribbles", "its kin"), strict=True):
    ax.set_title(title)
    ax.axis("off")
for ax in (axes[0], axes[2]):
    ax.plot(column, row, "+", color="#56B4E9", ms=11, mew=2.5)
show.figure(
    fig,
    alt="A heart with a cross on a pixel of its left ventricle; its scribbles; and a map that is bright where pixels are "
    "near the cross and have its brightness: most of the ventricle, and little else.",
)

# %% [markdown]
# So give the network a second wish beside the scribbles: *do not part kin*. The first wish has a target, the second an **energy**
# $R$, low for answers that suit the image:
#
# $$
# L = L_{pCE}(S, y) + \lambda(t)\, R(S, x) .
# $$
#
# $S_{ik}$ is the probability of class $k$ at pixel $i$, and $x$ the image. There is a trap: every $R$ of this page is lowest for
# *one class everywhere*. Only the scribbles object to that. So $\lambda$ starts near zero and rises, once the scribbles have had their say.

# %%
show.code(Regularised)

# %% [markdown]
# ## Dense CRF loss
#
# Kinship is a number for every pair of pixels, a **bilateral** kernel with a width in space and one in intensity:
#
# $$
# W_{ij} = \exp\Big(-\frac{|r_i - r_j|^2}{2\sigma_r^2} - \frac{|x_i - x_j|^2}{2\sigma_x^2}\Big) .
# $$
#
# With labels in the place of $S$, a conditional random field charges $W_{ij}$ for each pair that a border parts. Tang and colleagues put the
# probabilities in, and had a loss. As a share of all affinity:
#
# $$
# R(S) = \frac{\sum_k S_k^\top W (1 - S_k)}{\mathbf 1^\top W \mathbf 1} .
# $$

# %%
show.code(crf_loss)

# %% [markdown]
# A matrix of all pairs of a 64-pixel image has 17 million entries, for each image of a batch. The authors filter in a clever lattice at half
# resolution; we write the matrix down, on a coarser grid. No loop is needed, since $-|f_i - f_j|^2/2$ is a product of matrices:

# %%
show.code(affinities)

# %% [markdown]
# And what does it say to a pixel? The gradient with respect to $S_{ik}$ is $(d_i - 2 (W S_k)_i)$ up to the scale, with $d = W\mathbf 1$: *go where the kin are.* Below
# an answer is judged that is right but for having slipped to the right by three pixels. Choose a pixel and both widths. The left panel shows its
# kin, the right one **what the loss punishes**: at which pixels another class would be cheaper, and by how much.

# %%
slipped = mask.roll(3, 2)
answer = torch.nn.functional.one_hot(slipped, 4).movedim(-1, 1).float()
wrong = on_grid((slipped != mask)[:, None].float(), 1024)[0, 0] >= 0.5


def punished(near, alike):
    """On a 32 x 32 grid: by how much another class would be cheaper at each pixel."""
    s = on_grid(answer, 1024).flatten(2).requires_grad_()
    energy = crf_loss(s, affinities(image, near, alike, 1024)).sum()
    (slope,) = torch.autograd.grad(energy, s)
    return ((s.detach() * slope).sum(1) - slope.amin(1)).view(32, 32)


def widths(pixel, near, alike):
    row, column = spots[pixel]
    family, force = kin(row, column, near, alike), punished(near, alike)
    share = float(force[wrong].sum() / force.sum())
    fig, axes = show.subplots(1, 2, width=4.0, height=2.15)
    axes[0].imshow(family, vmin=0, vmax=1, cmap="magma")
    axes[1].imshow(force, vmin=0, cmap="magma")
    axes[0].plot(column, row, "+", color="#56B4E9", ms=11, mew=2.5)
    titles = f"kin: {family.sum() - 1:.0f} pixels' worth", f"punished, {share:.0%} wrong"
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=10)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Kin of a pixel of the {pixel} for a spatial width of {near} pixels and an intensity width of {alike:g}: their "
        f"weights sum to {family.sum() - 1:.0f} pixels. Of what the loss punishes, {share:.0%} is at pixels that are wrong.",
    )


show.explore(
    widths,
    pixel=list(spots),
    near=[6, 20],
    alike=[0.1, 0.5, 2.0],
    labels={"pixel": "pixel in", "near": "width in pixels", "alike": "width in intensity"},
    limit=100_000,
    alt="The kin of a pixel, and where the dense CRF loss punishes a slipped answer, for different widths.",
)

# %% [markdown]
# A narrow intensity width hears noise as an edge: a pixel has few kin, well chosen but scattered, and most pixels are hardly spoken to. A wide one hears nothing, so that distance alone decides, and the loss becomes a blur. A large
# spatial width finds kin all over the chest, in whatever happens to be as bright. Nothing in the formula can tell them apart. With both widths large, what is punished is the *heart*: it is the minority, and would be cheapest as
# background. We come back to that. Watch the share of the punishment that hits wrong pixels; a loss that looked nowhere
# in particular would score

# %%
print(f"{wrong.float().mean():.0%}, the share of wrong pixels in the image")

# %%
show.code(DenseCRFLoss)

# %% [markdown]
# ## Normalised cut loss
#
# An energy that charges cuts has a favourite: no cut. Next best is a cut around *very little*. Below, a bright disc of radius 9 on dark ground, noisy; and for all
# radii the energy of saying "a disc of this radius".

# %%
axis = torch.arange(32.0) - 15.5
radius = (axis[:, None] ** 2 + axis**2).sqrt()
noise = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
picture = (1.5 * (radius < 9) + 0.35 * noise)[None, None]
w = affinities(picture, near=6.0, alike=0.5, points=1024)
radii = torch.arange(1.5, 15.1, 0.5)
guesses = torch.stack([(radius < r).float().flatten() for r in radii])
guesses = torch.stack([guesses, 1 - guesses], 1)
one = w.expand(len(radii), -1, -1)
plain, normalised = crf_loss(guesses, one), normalised_cut(guesses, one)
show.curves(
    {"plain cut": plain / plain.max(), "normalised cut": normalised / normalised.max()},
    radii,
    xlabel="radius of the guess (the disc has 9)",
    ylabel="energy / its largest",
    alt="Energy of discs of different radius. The plain cut is lowest for the smallest disc and has a dip at 9; the "
    "normalised cut is lowest at 9.",
)

# %%
print(f"cheapest for the plain cut: radius {radii[plain.argmin()]:.1f}")
print(f"cheapest for the normalised cut: radius {radii[normalised.argmin()]:.1f}")

# %% [markdown]
# So Shi and Malik divided what a class cuts by all that it is connected to, its **degree** $d^\top S_k$:
#
# $$
# R(S) = \sum_k \frac{S_k^\top W (1 - S_k)}{d^\top S_k}, \qquad d = W \mathbf 1 .
# $$
#
# A crumb cuts all it has, and pays 1. A cluster cuts a little of much. For a hard labelling, finding the minimum is NP-hard, and one used to
# relax it to eigenvectors. As a loss it is just evaluated. The numerator and the degree come out of one product with $W$, which is also the gradient:

# %%
show.code(cut_and_degree)

# %%
show.code(normalised_cut)

# %% [markdown]
# ## Kernel cut
#
# The normalised cut looks for clusters and does not mind a ragged border inside one; the CRF minds every cut pair, and shrinks. Take both:
# $R_{KC} = R_{NC} + \gamma R_{CRF}$. It costs next to nothing more, for both live on the same $W$.

# %%
show.code(KernelCut)

# %% [markdown]
# ## Gated CRF
#
# All pairs are many, and most are far. Obukhov and colleagues keep the pairs within a **window**, at full resolution, which works in volumes too. And they add
# **gates**: who sends a message, who receives one. Here scribbled pixels send, but do not receive, since a scribble is not up for debate.

# %%
show.code(gated_crf)

# %%
pairs = {"all, 64 x 64": 64**4, "all, 24 x 24": 24**4, "window of radius 4": 64**2 * 80}
for name, count in pairs.items():
    print(f"{name:<20} {count / 1e6:6.2f} million pairs an image")

# %% [markdown]
# ## Total variation
#
# What if the image is not asked at all? Total variation is the length of all borders, wherever they run:
#
# $$
# TV(S) = \frac{1}{|\Omega|} \sum_k \sum_i |\nabla S_k(i)| .
# $$
#
# It is the honest control of this page. If an energy with an image in it does no better, it was smoothness that helped.

# %%
show.code(total_variation)

# %% [markdown]
# ## Mumford-Shah
#
# One can do without pairs and still look. Mumford and Shah ask for regions that are nearly *constant*, with short borders:
#
# $$
# E(S) = \frac{1}{|\Omega|} \sum_k \sum_i S_{ik}\, |x_i - c_k|^2 + \mu\, TV(S), \qquad c_k = \text{mean of the image in region } k .
# $$
#
# Kim and Ye made it a loss. It is cheap, and it believes that each class has one grey level. For blood that is nearly true. For the
# background, which is lung, fat, liver and air, it is plainly false. Hence its small weight here.

# %%
show.code(mumford_shah)

# %% [markdown]
# ## One image, no network
#
# To see what an energy *alone* does with scribbles, leave out the network: make the logits of every pixel free, and descend on the loss of one image. A network
# would add what it has learnt from other images; here is none. Change the energy and the length of the strokes.

# %% tags=["nbval-ignore-output"]
energies = {
    "total variation": TotalVariation(torch.nn.Identity()),
    "dense CRF": DenseCRFLoss(torch.nn.Identity(), points=1024),
    "normalised cut": NormalisedCut(torch.nn.Identity(), points=1024),
    "Mumford-Shah": MumfordShah(torch.nn.Identity(), weight=1.0),
}
lengths = [0.1, 1.0]
steps = budget.pick(10, 80, 80)
drawn = {length: annotate.draw_scribbles(mask, length=length, seed=1) for length in lengths}


def overlap(said, truth):
    """Mean Dice over the three parts of the heart."""
    pairs = [(said == k, truth == k) for k in (1, 2, 3)]
    return sum(2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1) for a, b in pairs).item() / 3


def descend(method, scribbles):
    logits = torch.zeros(1, 4, 64, 64).requires_grad_()
    optimiser = torch.optim.Adam([logits], 0.3)
    for _ in range(steps):
        penalty = method.penalty(logits.softmax(1), image, scribbles)
        loss = partial_cross_entropy(logits, scribbles) + method.weight * penalty
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return logits.argmax(1)


def alone(energy, length):
    said = descend(energies[energy], drawn[length])
    known, found = (drawn[length] != IGNORE).float().mean(), overlap(said, mask)
    fig, axes = show.subplots(1, 2, width=4.0, height=2.25)
    show.overlay(axes[0], image[0], drawn[length][0], fill=True)
    show.overlay(axes[1], image[0], mask[0], said[0])
    axes[0].set_title(f"{known:.1%} scribbled")
    axes[1].set_title(f"lines: answer, Dice {found:.2f}")
    return show.figure(
        fig,
        alt=f"Free pixels under {energy}, with strokes of relative length {length:g}, {known:.1%} of the image: Dice {found:.2f}.",
    )


show.explore(
    alone,
    energy=list(energies),
    length=lengths,
    labels={"energy": "energy", "length": "length of the stroke"},
    limit=80_000,
    alt="One heart with scribbles, and the answer that an energy alone makes of them.",
)

# %% [markdown]
# ## Trust, but differentiate
#
# Each of these sums is checked against its double loop in the tests, and each gradient here, in double precision, against finite differences:

# %%
draw = torch.Generator().manual_seed(0)
logits = torch.randn(1, 3, 4, 5, generator=draw).double().requires_grad_()
tiny = torch.randn(1, 1, 4, 5, generator=draw).double()
gate, small = torch.ones_like(tiny), affinities(tiny, 2.0, 1.0)
checks = {
    "dense CRF": lambda x: crf_loss(x.softmax(1).flatten(2), small),
    "normalised cut": lambda x: normalised_cut(x.softmax(1).flatten(2), small),
    "gated CRF": lambda x: gated_crf(x.softmax(1), tiny, gate, gate, radius=1),
    "total variation": lambda x: total_variation(x.softmax(1)),
    "Mumford-Shah": lambda x: mumford_shah(x.softmax(1), tiny),
}
for name, loss in checks.items():
    print(f"{name:<16} gradient agrees: {torch.autograd.gradcheck(loss, logits)}")

# %% [markdown]
# ## Side by side
#
# Twenty scribbled patients. The same first weights, images and steps, with the scribbles alone and with two of the energies.

# %% tags=["nbval-ignore-output"]
arms = {
    "partial cross-entropy": PartialCrossEntropy.for_task(task),
    "dense CRF loss": DenseCRFLoss.for_task(task),
    "normalised cut": NormalisedCut.for_task(task),
}
fitted = {name: fit(method, task, budget, seed=0) for name, method in arms.items()}
for one in fitted.values():
    one.method.cpu()
for name, one in fitted.items():
    print(f"{name}: {one.seconds:.0f} s\n{evaluate(one, task.valid)}\n")

# %% tags=["nbval-ignore-output"]
shown = task.valid.select(torch.tensor([2, 15, 26, 39]))
one = shown.select(torch.tensor([1]))
show.images(
    one.images.repeat(3, 1, 1, 1),
    labels=one.labels.repeat(3, 1, 1),
    predictions=torch.cat([arm.predict(one.images).argmax(1) for arm in fitted.values()]),
    titles=list(fitted),
    columns=3,
    names=names,
    alt="A validation slice: the answers of the networks trained on scribbles alone, with the dense CRF loss, and with the "
    "normalised cut, as lines over the true areas.",
)

# %% [markdown]
# What does such a step cost? Forward and backward, beside a step of partial cross-entropy:

# %% tags=["nbval-ignore-output"]
from lsseg_edu.train import Batch, Part

index = task.labelled[:8]
part = Part(task.train.images[index], task.train.labels[index], index, index, {})
batch = Batch(part, None, 1.0)
kinds = [PartialCrossEntropy, DenseCRFLoss, NormalisedCut, KernelCut, GatedCRF]
kinds += [TotalVariation, MumfordShah]
best = {}
for _ in range(budget.pick(2, 5, 5)):
    for kind in kinds:
        method = kind(arms["partial cross-entropy"].net)
        start = time.process_time()
        sum(method.loss(batch).values()).backward()
        spent = time.process_time() - start
        best[kind.__name__] = min(spent, best.get(kind.__name__, spent))
for name, spent in best.items():
    print(f"{name:<20} {spent / best['PartialCrossEntropy']:.2f}")

# %% [markdown]
# ## Dense CRF inference
#
# The other way round: train on scribbles alone, and let the image speak **afterwards**. Krähenbühl and Koltun's mean field lets the pixels of one answer write to each
# other until they agree. We met it when it [mended pseudo-labels](../semi/self_training). One thing is added here: a price $\mu(l, l')$ for each pair
# of labels, the **compatibility**. (Potts: 1 for any two that differ.)
#
# $$
# q_{il} \propto \exp\Big(\ln p_{il} - \sum_{l'} \mu(l, l') \sum_{j \ne i} \kappa_{ij}\, q_{jl'}\Big)
# $$

# %%
show.code(mean_field)

# %% [markdown]
# Between the loss and the inference there is a bargain. A loss is paid for at training, once, and what it teaches is shared by all images. Inference is paid for at every
# prediction, and each image is on its own.
#
# ## Level sets
#
# Before networks, one drew a rough contour and let it slide downhill on an energy. Chan and Vese's is Mumford-Shah's for two regions. The contour is the zero level of a function $\phi$ over the image, so that it can split
# and merge without any bookkeeping:
#
# $$
# \dot\phi_k = -u_k \Big(F_k - \sum_l u_l F_l\Big), \qquad
# F_k = |x - c_k|^2 - \mu\, \mathrm{div} \frac{\nabla u_k}{|\nabla u_k|}, \qquad u = \mathrm{softmax}(\phi) .
# $$

# %%
show.code(level_set)

# %% [markdown]
# It needs a first contour, and the network has one. It also needs a leash, since the energy would gladly take every bright thing in the chest: only a **narrow band** about the contours may move.
# Step through the descent. The energy must fall; whether the Dice rises is another matter.

# %% tags=["nbval-ignore-output"]
base = fitted["partial cross-entropy"]
probs = base.predict(shown.images)
band = narrow_band(probs.argmax(1), 3)


def evolved(steps):
    moved = level_set(probs, shown.images, steps, band=band)
    energy = mumford_shah(moved * band, shown.images * band)
    said = moved.argmax(1)
    dice = overlap(said, shown.labels)
    fig, axes = show.subplots(1, 2, width=4.4, height=2.5)
    for ax, i in zip(axes, (1, 2), strict=True):
        show.overlay(ax, shown.images[i], shown.labels[i], said[i])
        ax.set_title(f"{steps} steps" if i == 1 else f"Dice {dice:.2f} (four slices)")
    return show.figure(
        fig,
        alt=f"Two validation slices after {steps} steps of the level set, as lines over the true areas. Energy in the band "
        f"{energy:.3f}, Dice over four slices {dice:.2f}.",
    )


show.explore(
    evolved,
    steps=[0, 15, 60],
    labels={"steps": "steps of the descent"},
    limit=45_000,
    alt="Contours of a network, moved by a level set.",
)

# %% [markdown]
# Both procedures after training, on all validation slices, from the *same* network:

# %% tags=["nbval-ignore-output"]
after = {
    "network alone": PartialCrossEntropy(base.method.net),
    "dense CRF inference": CRFInference(base.method.net),
    "level set": LevelSet(base.method.net),
}
for name, method in after.items():
    method.eval()
    start = time.process_time()
    with torch.inference_mode():
        said = torch.cat([method.predict(x) for x in task.valid.images.split(32)])
    spent = (time.process_time() - start) / len(said)
    report = score(said.argmax(1), task.valid, surfaces=False)
    print(f"{name:<20} {1000 * spent:5.1f} ms a slice; mean Dice {report.mean_dice:.3f}")

# %% [markdown]
# ## What the scoreboard says
#
# One draw of scribbles and one seed decide nothing. The [scoreboard](../scoreboard/scoreboard) has several: first simulated scribbles, then an expert's on ACDC.

# %%
results = study.read()
MINE = {
    "pce",
    "full-labels",
    "dense-crf-loss",
    "ncut-loss",
    "kernel-cut",
    "gated-crf",
    "tv",
    "mumford-shah",
    "dense-crf-post",
    "variational-seg",
}


def lines_of(protocol):
    lines = study.summary(results, protocol) if protocol in study.PROTOCOLS else []
    return [line for line in lines if line.method.partition(":")[0] in MINE]


show.scoreboard(lines_of("cardiac-scribbles"))

# %%
show.scoreboard(lines_of("acdc-scribbles"))

# %% [markdown]
# How much of the gap between scribbles and full masks is closed by the best of them? And is the image worth asking, that is, does anything beat total variation?

# %%
for protocol in ("cardiac-scribbles", "acdc-scribbles"):
    lines = [line for line in lines_of(protocol) if line.method not in ("pce", "full-labels")]
    if not lines:
        print(f"{protocol}: no row yet")
        continue
    top = lines[0]
    share = "no share to be named" if top.closed is None else f"{top.closed:.0%} of the gap closed"
    print(f"{protocol}: best is {top.method}, {share}; against scribbles alone: {top.verdict}")
    without = [line.method for line in lines if line.verdict == "better"]
    print(f"  shown to be better than scribbles alone: {', '.join(without) or 'none'}")

# %% [markdown]
# Read it with three cautions. The weights and widths were set by reasoning from the papers' values, not tuned, so a better choice may exist for each row. *Undecided* is not *no effect*. And an
# energy can only help where the image shows an edge: the papers' photographs have colour, and a cow on grass; the wall between heart and liver has neither.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A network is trained with the dense CRF loss and no scribbles at all. What does it learn?",
    {
        "The edges of the images.": "They are cheap to follow, but not as cheap as having no border.",
        "One class everywhere.": "Nothing is cut, so the energy is zero. Only the scribbles object.",
        "Clusters of like pixels.": "That is what the normalised cut would like better.",
    },
    correct="One class everywhere.",
)

# %%
quiz(
    "Blood is equally bright in both ventricles. You raise the spatial width from 6 to 20 pixels. What happens?",
    {
        "Pixels of the two ventricles become kin, and the loss wants them in one class.": "The kernel sees brightness and distance, and "
        "the distance has stopped to matter.",
        "The loss gets more exact, since it uses more pairs.": "More pairs, and more of them wrong.",
        "Nothing: the wall between them separates them.": "The kernel does not look at what lies between two pixels.",
    },
    correct="Pixels of the two ventricles become kin, and the loss wants them in one class.",
)

# %% [markdown]
# ## Exercises
#
# **1. By hand.** Three pixels in a row, $W_{12} = 1$, $W_{23} = 0.2$, $W_{13} = 0$. Which labelling with two classes, both of them used, has the lowest dense CRF loss? And if $S_2 = (0.5, 0.5)$?
#
# ```{dropdown} Hint
# Each cut pair counts at both its ends, in the numerator as in $\mathbf 1^\top W \mathbf 1$.
# ```
# ```{dropdown} Solution
# $\mathbf 1^\top W \mathbf 1 = 2.4$. Cutting 2|3 costs $2 \cdot 0.2/2.4 = 1/6$, cutting 1|2 costs $5/6$. With $S_2$ undecided between its neighbours, each of its two pairs is half cut:
# $2 \cdot (0.5 + 0.1)/2.4 = 1/2$. Doubt is not free, so the loss also pushes to a decision.
# ```
#
# **2. A prior in the prices.** The right ventricle and the left never touch. Write a `compatibility` that says so, and refine the network's validation answers with `mean_field(..., compatibility=price)`. What changes?
#
# ```{dropdown} Hint
# `price = 1 - torch.eye(4)`, then raise `price[1, 3]` and `price[3, 1]`.
# ```
# ```{dropdown} Solution
# Pixels at which both ventricles had a say now avoid the pair: they choose the muscle or the background between. On answers that have the wall right nothing happens, so count the pixels that change before you call it an improvement.
# ```
#
# **3. The cheating gate.** In `GatedCRF` open all gates (`gated=False`). The scribbled pixels now receive messages, too. At which pixels does that matter, and can the scribble lose?
#
# ```{dropdown} Hint
# Partial cross-entropy of a pixel has an unbounded slope as its probability goes to zero; what is the largest slope of the energy?
# ```
# ```{dropdown} Solution
# It matters at thin strokes through tissue that looks like something else: there the neighbours write to the stroke. The energy's slope is bounded by the pixel's share of the affinity, while $-\ln p$ grows without bound, so in the end the scribble keeps its
# class. But the pull costs confidence around it. Whether it costs Dice is for the control row to say.
# ```
#
# ## Take away
#
# - A regulariser needs no label: it charges borders where the image has none.
# - The two widths *are* the model. Look at the kin of a pixel before you train.
# - Plain cuts shrink; normalised cuts cluster; a window is cheap and works in volumes.
# - Total variation is the control: does the image have a word in the gain?
# - A loss teaches all images at once; inference and level sets mend each by itself.
#
# **Reading.** {cite:t}`tang2018normalized` and {cite:t}`tang2018regularized` for the losses, after {cite:t}`shi2000normalized` and {cite:t}`tang2016normalized`; {cite:t}`obukhov2019gated` for windows and gates;
# {cite:t}`krahenbuhl2011efficient` for inference. The variational line runs from {cite:t}`mumford1989optimal` and {cite:t}`rudin1992nonlinear` over {cite:t}`chan2001active` and the bands of {cite:t}`adalsteinsson1995fast` to {cite:t}`kim2020mumford`.
