# %% [markdown]
# # Shape priors: what a mask may look like
#
# <!-- badge -->
#
# **You will learn**
#
# - how to measure whether a mask *could be anatomy at all*, which Dice does not say;
# - how shapes are learnt from a few masks: outlines and their modes, or the code of an autoencoder;
# - three places to put that knowledge: in the loss, in the network, or behind it;
# - what a shape prior costs: a plausible mask may be plausibly wrong.
#
# **You should know** the loop of [the baseline](../foundations/baseline), what makes a comparison fair
# ([measuring honestly](../foundations/measuring)), and how [augmentation](augmentation) moves an image and its mask.

# %% tags=["setup"]

# %%
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from lsseg_edu import losses, show, study
from lsseg_edu.augment import displaced, folded, integrate, smooth_field, warp
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import Rules, implausible, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.priors.shape import (
    ACNN,
    SRSCN,
    AnatomicalWarp,
    BoundaryRefinement,
    PriorUNet,
    Repaired,
    ShapeAutoencoder,
    ShapeModel,
    ShapeProjection,
    ShapeRegularised,
    ShapeRestorer,
    Tetris,
    VariationalAutoencoder,
    VariationalShapes,
    acnn_training,
    align,
    corrupt,
    medoid,
    one_hot,
    pose,
    post_dae_segmentation,
    shape_set,
    shape_training,
)
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
valid, names = task.valid, task.valid.names
task

# %% [markdown]
# ## The idea in a picture
#
# A few patients have masks. Train the baseline on them and look at what it draws in hearts it has never
# seen. You need no training in medicine to say what is wrong with most of these.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised.for_task(task, seed=0), task, budget, seed=0)
answers = baseline.predict(valid.images).argmax(1)
some = [2, 26, 51]
show.images(
    valid.images[some],
    labels=valid.labels[some],
    predictions=answers[some],
    names=names,
    alt="Three hearts with their true areas and the baseline's lines: islands, holes and open walls where "
    "anatomy has one chamber inside one ring of muscle.",
)

# %% [markdown]
# There is one left ventricle. Muscle surrounds it on all sides, so it touches neither the right ventricle nor the
# rest of the chest. No organ comes in crumbs. Cross-entropy and Dice do not know: both judge a pixel by
# its own label, and an island of twenty pixels costs them what twenty pixels on the rim cost. A **shape prior**
# is a model of the masks themselves, without any image, and its question is not *is this pixel right?* but
# *is this a heart?*
#
# ## Plausibility, measured
#
# First, a number to judge by. A *rule* bounds the pieces of a class, or its holes, or says that two
# classes never touch. Which rules hold is not our opinion; it is read off true masks, and a rule that more than
# 2 % of the true masks break is no rule:

# %%
rules = Rules.of(valid.labels, names)
own = rules.broken(valid.labels).float().mean(0)
for sentence, share in zip(rules.sentences, own, strict=True):
    print(f"{sentence:<52} broken by {share:.1%} of the true masks")

# %% [markdown]
# *(These are the rules to measure with, read off validation masks. A method that uses rules reads its own off the
# masks of the labelled patients.)* A mask is **implausible** if it breaks at least one:

# %%
show.code(implausible)

# %% tags=["nbval-ignore-output"]
print(f"baseline: Dice {score(answers, valid, surfaces=False).mean_dice:.3f}")
print(
    f"baseline: {implausible(answers, valid, rules):.0%} of its masks are implausible, most often:"
)
often = rules.broken(answers).float().mean(0)
for i in often.argsort(descending=True)[:4]:
    print(f"  {often[i]:.0%} break  {rules.sentences[i]}")

# %% [markdown]
# Two warnings before we start to improve this number. *Background everywhere* breaks no rule: always read it beside
# Dice. And plausible is not correct: a perfect little heart in the wrong place passes.
#
# ## A statistical shape model
#
# The oldest of these models, and still the clearest. Describe a mask by points on the outlines of its organs,
# $z \in \mathbb{C}^n$ (row and column as one complex number). Make the points *correspond* between patients; move,
# turn and scale all onto their mean $\bar z$ (**Procrustes**), since pose is not shape; and take
# principal components of what is left:
#
# $$
# a z + t \;\approx\; \bar z + \sum_{j=1}^{m} b_j\, \phi_j , \qquad |b_j| \le c\, \sigma_j .
# $$
#
# With complex numbers a rotation with scaling is one factor $a$, so the best pose is a division:

# %%
show.code(pose)

# %% [markdown]
# Points at equal arc length correspond if their *starts* do. Pose and starts depend on each other, so
# they are found in turn:

# %%
show.code(align)

# %% [markdown]
# Three labelled patients are 36 slices, and not all show all organs. To have more shapes, each mask is
# **turned, stretched and bent** at random, about twice as strongly as the baseline's images are. That is honest only
# if it is said: most of what any model on this page believes about hearts comes from three hearts and from
# this augmentation. Slide the first two modes:

# %%
shapes = shape_set(task, seed=0)
print(f"{len(task.labelled)} labelled masks, {len(shapes)} shapes with their warps")
projection = ShapeProjection(shapes, len(names))
for organs, model in projection.models.items():
    print(f"{' + '.join(names[k] for k in organs)}: {len(model.modes)} modes")

heart = projection.models[(1, 2, 3)]
inks = ListedColormap([show.colour(k) for k in range(len(names))])


def paint(ax, mask, title=""):
    ax.imshow(mask, cmap=inks, vmin=0, vmax=len(names) - 1)
    ax.set(xticks=[], yticks=[], anchor="S")
    ax.spines[:].set(visible=True, color="#AAAAAA")
    ax.set_title(title, fontsize=9)


def modes(first, second):
    mask = heart.draw(np.array([first, second]) * heart.deviations[:2], (64, 64))
    fig, ax = show.subplots(width=2.5, height=2.6)
    paint(ax, mask, f"b₁ = {first:g} σ₁,  b₂ = {second:g} σ₂")
    sizes = ", ".join(f"{names[k]} {(mask == k).sum()} pixels" for k in (1, 2, 3))
    return show.figure(fig, alt=f"The heart at {first:g} and {second:g} deviations: {sizes}.")


show.explore(
    modes,
    first=[-3, -1.5, 0, 1.5, 3],
    second=[-3, 0, 3],
    labels={"first": "first mode, in σ", "second": "second mode, in σ"},
    limit=42_000,
    alt="A heart drawn by the first two modes of the shape model.",
)

# %% [markdown]
# At 0, 0 is the mean heart. Push both sliders to the ends: a linear model knows no limits of its own, and far
# from the mean its outlines may cross. Hence the **clipping**, $|b_j| \le c\sigma_j$. To repair an answer, find the nearest
# shape that the clipped model can draw:

# %%
show.code(ShapeModel.project)

# %% [markdown]
# The points correspond by arc length in the first round only. A notch in the answer would shift all points after it; a
# nearest point does not care. As the shape model has no words for islands and holes, they are gone. So is
# whatever is real and rare: no scar bulges that no labelled patient had.
#
# ## A shape model between two networks
#
# {cite:t}`ambellan2019automated` do not leave the last word to the modes. The first network answers, the shape model
# *adjusts*, and a second network looks at the image again, but only **in a band along the boundary** of the
# adjusted shape. Where the organ is, the model has decided. Where exactly it ends, the image may say.

# %%
show.code(BoundaryRefinement)

# %% [markdown]
# Look at `loss`: the second network is not trained on the first one's answers. On the three patients both
# have learnt from, those are nearly perfect, and it would learn to trust them. It is trained on spoilt
# true masks instead, adjusted in the same way. How masks are spoilt, we shall see [below](#post-dae).
#
# ## The code of a shape
#
# Outlines must correspond, and organs must be there. An autoencoder has fewer demands: a mask in, a short vector (its
# **code**), a mask out, trained to reproduce. What the code cannot say, the decoder cannot draw.

# %%
show.code(ShapeAutoencoder)

# %% [markdown]
# ## ACNN
#
# {cite:t}`oktay2018anatomically` put the encoder $\Phi$ into the loss. The answer must be right pixel by pixel,
# *and* it must have the code of the truth:
#
# $$
# L = L_{sup}(f_\theta(x), y) + \lambda\, \tfrac{1}{d}\, \lVert \Phi(f_\theta(x)) - \Phi(y) \rVert_2^2 .
# $$

# %%
show.code(ACNN)

# %% [markdown]
# $\Phi$ is frozen and the gradient passes through it. Each number of the code depends on the whole mask, so at last
# a pixel is judged by all others. At prediction nothing is added: if it helps, the network itself has
# become a better draughtsman.
#
# ## SRSCN
#
# {cite:t}`yue2019cardiac` use the *reconstruction*, not the code: whatever a restoring network $\Pi$ would
# change about the answer is a cost, $\lVert p - \Pi(p) \rVert^2$. No truth stands in that term. A second one asks the
# bottleneck of the U-Net for the **position of the slice** between base and apex: which shapes are possible depends on it,
# and the scanner knows it.

# %%
show.code(SRSCN.constraint)

# %%
show.code(SRSCN.misplaced)

# %% [markdown]
# ## Shape regularisation network
#
# {cite:t}`ravishankar2017learning` append the restoring network to the segmenter and train through it. The cascade's **last**
# answer counts, and the first is held close to the shapes and to the code of the truth. The segmenter may say
# something odd as long as the shape network understands it.

# %%
show.code(ShapeRegularised)

# %% [markdown]
# ## Post-DAE
#
# {cite:t}`larrazabal2020post` ask for nothing of the segmenter: neither its loss nor its weights nor, and this is the
# point, the **image**. Spoil true masks, teach a *denoising* autoencoder to restore them, and put it behind
# whatever segmenter there is. All depends on how the masks are spoilt. A network that
# has only ever seen salt and pepper will repair salt and pepper.

# %%
show.code(corrupt)

# %%
show.code(post_dae_segmentation)

# %% [markdown]
# The autoencoder here, `ShapeRestorer`, has a small *map* for a code instead of a vector: with this few masks it learns
# much faster where things are. Train it, and the variational autoencoder of the next section as well.

# %% tags=["nbval-ignore-output"]
restorer = shape_training(
    task, budget, code=4, corrupt=corrupt, criterion=losses.dice, net=ShapeRestorer
)
latent = {"method": VariationalShapes, "net": VariationalAutoencoder}
variational = shape_training(task, budget, code=16, **latent)
for fitted in (restorer, variational):
    fitted.method.cpu().eval()
    copies = fitted.predict(one_hot(valid.labels, len(names))).argmax(1)
    dice = score(copies, valid, surfaces=False).mean_dice
    print(f"{type(fitted.method.net).__name__}: true masks in and out, Dice {dice:.3f}")

# %% [markdown]
# Keep these two numbers in mind. A mask that goes through an autoencoder cannot come out better than this, even
# if it went in perfect. A shape prior pays where the segmenter is worse than its own copy, and
# harms where it is better.
#
# ## Anatomical warping
#
# The methods so far make implausible masks *rarer*. {cite:t}`painchaud2019cardiac` rule them out. A **variational**
# autoencoder has a code in which small steps are small changes of shape. Draw many codes around those of the
# true masks, decode them, and **keep those that obey the rules**. If an answer breaks a rule, encode it, find the nearest valid code
# $z^*$, and walk back towards the answer's own code $z$ while the decoded mask stays valid:

# %%
show.code(AnatomicalWarp)

# %% tags=["nbval-ignore-output"]
own_rules = Rules.of(shapes, names)  # of the labelled patients' shapes only
draws = budget.pick(100, 1000, 4000)
warping = AnatomicalWarp(variational.method.net, shapes, own_rules, draws)
print(f"{len(warping.valid)} of {draws} drawn codes decode to a valid heart")


def damaged(kind, which):
    mask = valid.labels[which].clone()
    y, x = ((mask == 3).nonzero().float().mean(0)).long().tolist()
    if kind == "an island":
        mask[4:11, 50:58] = 3
    if kind == "an open wall":
        mask[y - 4 : y + 5, x:][mask[y - 4 : y + 5, x:] == 2] = 0
    if kind == "half of it missing":
        mask[y:] = 0
    return mask


repairs = {
    "shape model": projection,
    "Post-DAE": restorer.method,
    "anatomical warp": warping,
}
whole = ((one_hot(valid.labels, 4).flatten(2).sum(2) > 60).all(1)).nonzero()[:, 0]
hearts = {"one heart": int(whole[2]), "another heart": int(whole[-4])}


def agreement(mask, truth):
    pairs = [((mask == k), (truth == k)) for k in (1, 2, 3)]
    return np.mean([float(2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1)) for a, b in pairs])


def mend(damage, patient):
    which = hearts[patient]
    truth = valid.labels[which]
    before = answers[which] if damage == "the baseline's answer" else damaged(damage, which)
    with torch.no_grad():
        after = {name: repair(before[None]).argmax(1)[0] for name, repair in repairs.items()}
    fig, axes = show.subplots(1, 5, height=2.3)
    words = []
    for ax, (name, mask) in zip(
        axes, {"truth": truth, "damaged": before, **after}.items(), strict=True
    ):
        broken = int(rules.broken(mask[None]).sum())
        dice = agreement(mask, truth)
        said = f"{name}\nDice {dice:.2f}\nbreaks {broken}" if name != "truth" else "truth"
        paint(ax, mask, said)
        words.append(f"{name}: Dice {dice:.2f}, {broken} rules broken")
    handles = [
        Patch(facecolor=show.colour(k), edgecolor="#595959", label=names[k]) for k in (1, 2, 3)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return show.figure(fig, alt=f"{damage}, {patient}. " + "; ".join(words[1:]) + ".")


show.explore(
    mend,
    damage=[
        "an island",
        "an open wall",
        "half of it missing",
        "the baseline's answer",
    ],
    patient=list(hearts),
    limit=110_000,
    alt="A true mask, the same mask damaged, and what three shape priors make of the damaged one.",
)

# %% [markdown]
# None of the three sees the image. An island is easy for everybody. *Half of it missing* is not a repair but
# a guess: the missing half is what the prior expects, and the expectation is three patients wide. On the
# baseline's own answer, look at the two numbers apart: fewer broken rules with a lower Dice means that
# the prior made a heart of it, though not this one.
#
# Between the answer's code and the nearest valid one lies a path. Walk along it:

# %% tags=["nbval-ignore-output"]
bad = answers[rules.broken(answers).any(1)]
bad = (bad if len(bad) else valid.labels)[[0, len(bad) // 2]] if len(bad) != 1 else bad[[0, 0]]
start = warping.encode(bad)
end = warping.valid if len(warping.valid) else warping.codes
end = end[torch.cdist(start, end).argmin(1)]


def walk(way, mask):
    code = start + way * (end - start)
    drawn = warping.decode(code).argmax(1)[mask - 1]
    broken = rules.broken(drawn[None])[0]
    fig, (left, right) = show.subplots(1, 2, width=4.4, height=2.5)
    paint(left, bad[mask - 1], "the segmenter's answer")
    paint(right, drawn, f"decoded, breaks {int(broken.sum())} rule(s)")
    said = [s for s, b in zip(rules.sentences, broken, strict=True) if b]
    return show.figure(
        fig,
        alt=f"Mask {mask}, {way:.0%} of the way to the nearest valid code: "
        + ("breaks " + "; ".join(said) if said else "obeys all rules")
        + f"; the heart covers {int((drawn > 0).sum())} pixels.",
    )


show.explore(
    walk,
    way=[0.0, 0.3, 0.6, 1.0],
    mask=[1, 2],
    labels={"way": "way to the nearest valid code"},
    limit=45_000,
    alt="An implausible answer, and what is decoded between its code and the nearest valid code.",
)

# %% [markdown]
# Already at 0 the decoded mask may be plausible although the answer was not: that is the bottleneck's doing. Where it is not,
# the method stops at the first point of the path, seen from the answer, from which on it stays valid.
#
# ## Template transformer
#
# {cite:t}`lee2019tetris` make implausible answers impossible by construction. The network does not classify pixels.
# It **moves a template**: $\hat y = t \circ \exp(v)$ with $v = g_\theta(t, x)$, through a differentiable resampling, and Dice is
# taken on the warped template.

# %%
show.code(Tetris.loss)

# %% [markdown]
# A smooth invertible motion tears nothing and glues nothing. Increase the strength of a random one: the shape
# changes, the counts of pieces and holes do not, unless a wall is squeezed to less than a pixel.

# %%
template = medoid(task.train.labels[task.labelled], len(names))
field = smooth_field(torch.zeros(2, 1, 64, 64), 2, 3, torch.Generator().manual_seed(4))
field = field.movedim(1, -1)


def bend(strength, motion):
    displacement = integrate(strength * field[motion - 1 : motion])
    moved = warp(one_hot(template[None], len(names)), displaced(displacement)).argmax(1)
    broken = int(rules.broken(moved).sum())
    fold = folded(displacement)
    fig, (left, right) = show.subplots(1, 2, width=4.4, height=2.5)
    paint(left, template, "template")
    paint(right, moved[0], f"moved, breaks {broken} rule(s)")
    changed = float((moved[0] != template).float().mean())
    return show.figure(
        fig,
        alt=f"Motion {motion} at strength {strength:g}: {changed:.1%} of the pixels changed class, "
        f"{broken} rules broken, {fold:.1%} of the places fold.",
    )


show.explore(
    bend,
    strength=[0.0, 0.1, 0.2, 0.4],
    motion=[1, 2],
    limit=40_000,
    alt="A template heart, and the same moved by a smooth random motion.",
)

# %% [markdown]
# The price: what the template shows cannot vanish. Near the apex there is no right ventricle, and this network has to
# shrink one to nothing. In a cohort where every image shows every organ, that price is zero.
#
# ## Autoencoder features
#
# All of the above learn from masks. {cite:t}`he2019dpa` learn from the **unlabelled images**: an autoencoder
# of images, then its frozen features at all scales handed to the segmenter. It is a prior on appearance rather than on
# shape, and it has seen all seventy patients.

# %%
show.code(PriorUNet)

# %% [markdown]
# The mixing convolutions start as the identity on the U-Net's own features, so at the first step the network *is* the
# baseline. The control trains the same network with an autoencoder of random weights (`pretrained=False`).
#
# ## Side by side
#
# One prior in the loss, three behind the same baseline. These are validation patients; the test patients are left to the
# scoreboard.

# %% tags=["nbval-ignore-output"]
acnn = acnn_training(task, budget, seed=0)
predictions = {"supervised": answers, "ACNN": acnn.predict(valid.images).argmax(1)}
for name, repair in repairs.items():
    method = Repaired(baseline.method, repair).cpu().eval()
    with torch.no_grad():
        predictions[name] = method.predict(valid.images).argmax(1)

points = {
    name: (score(p, valid, surfaces=False).mean_dice, implausible(p, valid, rules))
    for name, p in predictions.items()
}
for name, (dice, share) in points.items():
    print(f"{name:<16} Dice {dice:.3f}   implausible {share:.0%}")

# %% tags=["nbval-ignore-output"]
fig, ax = show.subplots(height=2.9)
for (name, (dice, share)), marker, ink in zip(
    points.items(), "os^DP", ("#595959", "#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True
):
    ax.plot(dice, 100 * share, marker, color=ink, ms=9, label=name)
ax.axhline(50 * points["supervised"][1], color="black", lw=0.9, ls=":", label="half of supervised")
ax.axvline(points["supervised"][0], color="#595959", lw=0.9)
ax.set(xlabel="Dice", ylabel="implausible masks (%)", ylim=(-4, 104))
fig.legend(loc="outside right upper")
show.figure(
    fig,
    alt="Share of implausible masks over Dice, on validation patients. "
    + "; ".join(f"{n}: Dice {d:.2f}, {s:.0%} implausible" for n, (d, s) in points.items()),
)

# %% [markdown]
# A good prior lies **below and not to the left** of the baseline. Points far below and to the left have traded
# accuracy for tidiness. Ask which of the two your study needs: a volume wants the right pixels, a simulation of blood flow
# cannot start with a hole in the wall. One training of each is an anecdote; the intervals follow.

# %% [markdown]
# ## What the scoreboard says
#
# Each row repeats the training with other labelled patients and other weights. The controls: `corrupted=False` is a
# plain autoencoder behind the baseline, `pretrained=False` a random one inside it, `spatial=0` SRSCN without the
# slice position. The scoreboard knows Dice and distances; plausibility was measured above.

# %%
results = study.read()
arms = {
    "full-labels",
    "supervised",
    "supervised-longer",
    "ssm-pca",
    "ambellan-ssm",
    "acnn",
    "srscn",
    "srscn:spatial=0",
    "ravishankar",
    "post-dae",
    "post-dae:corrupted=False",
    "cvae-warp",
    "tetris",
    "dpa-densebias",
    "dpa-densebias:pretrained=False",
}


def table(protocol):
    return show.scoreboard([x for x in study.summary(results, protocol) if x.method in arms])


table("cardiac-3")

# %% [markdown]
# And on real patients (ACDC, 3 of 70 with masks):

# %%
table("acdc-3")

# %% [markdown]
# Read HD95 beside Dice: an island far away hardly moves Dice and dominates the distance, so this is where a repair should
# show. If Dice is *undecided* and HD95 much smaller, the prior has done its work. If Dice is *worse*, remember the two
# numbers you kept in mind: the copy of a true mask is the ceiling of every method whose last step is a decoder.
# The methods that only add a loss have no such ceiling, and no guarantee either.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A colleague reports that a denoising autoencoder behind her network brought implausible masks from 30 % to "
    "0 %. What do you ask for first?",
    {
        "The number of latent dimensions.": "Interesting, but it does not tell whether the result is of use.",
        "Dice or distances of the same masks, before and after.": "An empty mask and an average heart in every image "
        "are perfectly plausible as well.",
        "The learning rate.": "It will not say whether the masks are right.",
    },
    correct="Dice or distances of the same masks, before and after.",
)

# %%
quiz(
    "In ACNN, somebody forgets to freeze the autoencoder: one optimiser holds the weights of both. What happens to the shape term?",
    {
        "It goes to zero, and says nothing any more.": "An encoder that gives every mask the same code satisfies it.",
        "It becomes stronger.": "A loss whose ruler may be bent is not a stronger one.",
        "Nothing, the gradient is the same.": "The segmenter's is, at first. The encoder's is new.",
    },
    correct="It goes to zero, and says nothing any more.",
)

# %% [markdown]
# ## Exercises
#
# **1. Modes and masks.** How many modes can a shape model of ten masks have at most? What are the modes worth that were
# learnt from ten masks and ninety warps of them?
#
# ```{dropdown} Hint
# Ten points span how many dimensions around their mean? And who chose the warps?
# ```
# ```{dropdown} Solution
# Nine. With the warps up to 99, but the additional ones describe the random motions of the augmentation, not patients.
# They keep the model from being too narrow; they do not teach it what hearts do.
# ```
#
# **2. A ceiling.** The restorer copies true masks with a Dice of $r$, the segmenter has a Dice of $s$. Argue why the repaired answer
# cannot be expected above $r$, and why $s < r$ does not suffice for a gain.
#
# ```{dropdown} Hint
# What does the restorer know of the patient that the segmenter's mask does not say?
# ```
# ```{dropdown} Solution
# Even from the true mask it makes one of Dice $r$. From a wrong one it can restore what is *systematically* wrong with
# masks (islands, holes), but which of two plausible hearts lies in the image is written in the image, and the restorer does not
# see it. If the errors of the segmenter are plausible ones, a shift of the whole heart say, there is nothing to mend, and
# the copy's own loss remains.
# ```
#
# **3. A rule too many.** Add *every slice shows a right ventricle* to the rules of the anatomical warp. On which slices does
# the method now do harm, and how would `Rules.of` have protected you?
#
# ```{dropdown} Hint
# Look at the slices near the apex.
# ```
# ```{dropdown} Solution
# Slices below the right ventricle would get one drawn. In the true masks many slices show none, more than the 2 %
# that may break a rule, so it would not have become one. A rule is an empirical claim: check it on true masks, rare
# disease included, before enforcing it.
# ```
#
# ## Take away
#
# - Dice judges pixels, plausibility judges the mask. Measure both, on the same answers.
# - A shape prior is a model of masks: outlines with modes, an autoencoder with a code, a template with a motion.
# - It can sit in the loss (ACNN, SRSCN), in the network (cascade, template), or behind it (shape model, Post-DAE, warp).
# - Behind the network it sees no image: it mends what no heart looks like, not what *this* heart does not look like.
# - It is as wide as the masks it was taught with. Rare anatomy is the first thing it repairs away.
#
# **Reading.** {cite:t}`cootes1995active`, {cite:t}`ambellan2019automated`, {cite:t}`oktay2018anatomically`, {cite:t}`yue2019cardiac`,
# {cite:t}`ravishankar2017learning`, {cite:t}`larrazabal2020post`, {cite:t}`painchaud2019cardiac` with {cite:t}`painchaud2020cardiac`,
# {cite:t}`lee2019tetris` and {cite:t}`he2019dpa`.
