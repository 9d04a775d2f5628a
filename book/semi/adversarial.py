# %% [markdown]
# # Adversarial learning: a second network that judges
#
# <!-- badge -->
#
# **You will learn**
#
# - what cross-entropy and Dice cannot see, and how a *discriminator* sees it;
# - how two networks are trained against each other, how the game is lost, and what keeps it going;
# - how a judge of masks becomes a guide for images without masks (Hung, DAN, ASDNet);
# - how images are translated from one scanner to another so that masks can move along.
#
# **You should know** the training loop of [the baseline](../foundations/baseline), and
# [self-training](self_training), whose pseudo-labels return here.

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from lsseg_edu import losses, show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.adversarial import (
    DAN,
    ASDNet,
    Critic,
    HungSemi,
    SegmentationGAN,
    ShapeCycleGAN,
    Sweep,
    Translator,
    one_hot,
    region_dice,
    scanner_shift,
    soften,
    verdict_loss,
)
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
everyone = Task.split(load("cardiac"))
task = everyone.keep(3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# Here are two wrong answers to one heart. Both call the same number of pixels of the muscle "left
# ventricle", and both are equally sure of everything they say. In the first, the ventricle is a little
# too large. In the second, the same number of errors is strewn over the muscle.

# %%
truth = task.valid.labels[3]
muscle, pool = truth == 2, truth == 3
rim = torch.from_numpy(ndimage.binary_dilation(pool.numpy(), iterations=1)) & muscle
strewn = torch.zeros_like(rim)
places = muscle.nonzero()
chosen = places[
    torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[: rim.sum()]
]
strewn[chosen[:, 0], chosen[:, 1]] = True


def answer(errors):
    """Probabilities of 0.9 for the true class, and for the left ventricle where the errors are."""
    said = truth.where(~errors, 3)
    return (0.9 - 0.1 / 3) * one_hot(said[None], 4) + 0.1 / 3


answers = {"a rim too wide": answer(rim), "errors strewn": answer(strewn)}
for name, probs in answers.items():
    logits = probs.log()
    print(
        f"{name:<15} {int((probs.argmax(1)[0] != truth).sum())} wrong pixels, "
        f"cross-entropy {losses.cross_entropy(logits, truth[None]):.4f}, "
        f"Dice loss {losses.dice(logits, truth[None]):.4f}"
    )
show.images(
    task.valid.images[[3, 3, 3], :, 16:60, 14:58],
    labels=torch.stack([truth, *[probs.argmax(1)[0] for probs in answers.values()]])[
        :, 16:60, 14:58
    ],
    titles=["truth", *answers],
    columns=3,
    fill=True,
    names=task.valid.names,
    alt="One heart three times: with its true mask, with a left ventricle that is one pixel too wide, and with "
    "as many wrong pixels strewn over the muscle as holes and specks.",
)

# %% [markdown]
# No loss of this book so far can tell them apart, for a simple reason: cross-entropy and Dice are sums over
# pixels. Shuffle the pixels of answer and mask together, and nothing changes. Yet no cardiologist would
# confuse the two: the first is a heart, the second is nothing that exists.
#
# One could write a loss against holes, another against specks, a third for closed rings. Adversarial
# learning **learns** that loss instead. A second network, the *critic* or *discriminator*, sees whole
# patches of masks, some drawn by experts and some by the segmenter, and learns to tell which is which. What
# gives the segmenter away is what it still has to learn.

# %% [markdown]
# ## Two players
#
# Let $f(x)$ be the segmenter's probabilities, $y$ the expert's mask, and $\sigma(d(\cdot))$ the critic's belief
# that it looks at an expert's. With $\ell(z, r) = -r \ln\sigma(z) - (1-r)\ln(1-\sigma(z))$,
#
# $$
# L_d = \ell\big(d(y), 1\big) + \ell\big(d(f(x)), 0\big), \qquad
# L_f = L_{sup}\big(f(x), y\big) + \lambda\, \ell\big(d(f(x)), 1\big) .
# $$
#
# The second half of each is the same verdict with the opposite target: that is the game. The two losses are
# minimised **in turn**, each over its own weights.

# %%
show.code(SegmentationGAN.players)

# %% [markdown]
# Two details decide whether this is a game or a mess. In the critic's loss the answers are *detached*: else the
# critic's gradient would train the segmenter to be easy to catch. And in the segmenter's loss the gradient
# goes *through* the critic, but the critic's optimiser throws away what it leaves there.
#
# Why does the segmenter minimise $-\ln\sigma(z)$, and not the critic's own $\ln(1-\sigma(z))$, which would be
# the true opposite? Look at what the segmenter feels of either, depending on how far it is believed:

# %%
belief = torch.linspace(0.002, 0.998, 250)
z = belief.logit().requires_grad_()
(fooling,) = torch.autograd.grad(len(z) * verdict_loss(z, 1.0), z)
(opposite,) = torch.autograd.grad(-len(z) * verdict_loss(z, 0.0), z)
show.curves(
    {"opposite of the critic's loss": -opposite, "fooling the critic (ours)": -fooling},
    belief,
    xlabel="critic's belief in the answer",
    ylabel="push on the critic's logit",
    alt="Push towards being believed, over the critic's belief. The literal opposite of the critic's loss pushes "
    "hardly at all where the belief is near 0; the fooling loss pushes most there.",
)

# %% [markdown]
# A beginner is believed by nobody. With the literal opposite, the one who has everything to learn is told
# nothing; in our form it is told most. The push in the figure is on the critic's *logit*, though. What
# reaches the pixels is multiplied by the slope of the critic itself, and there the trouble begins.

# %% [markdown]
# ## The critic
#
# %%
show.code(Critic)

# %% [markdown]
# It is small, and it is *fully convolutional*: it has a verdict for every place. Each verdict is about a patch
# (22 pixels wide with three levels, 46 with four), so it can speak of holes, rings and neighbourhoods, and it
# sees many patches in few masks. `whole` averages the places into one verdict a mask.
#
# `spectral_norm` divides each convolution by its largest singular value. A critic without this brake can make
# its logit as steep as it likes. All methods below share this network and the training above; they
# differ in what it is shown:
#
# | method | the critic sees | told "real" | told "fake" | what it does for unlabelled images |
# |---|---|---|---|---|
# | adversarial segmentation | mask and image | softened masks | answers | nothing |
# | Spine-GAN | mask | softened masks | answers | nothing |
# | Hung | mask, every pixel | one-hot masks | answers | chooses the pixels of pseudo-labels |
# | DAN | answer and image | answers on annotated images | answers on the others | wants them alike |
# | ASDNet | mask, every pixel | one-hot masks | answers | chooses the region of a Dice loss |
# | cycle + shape | image | images of a scanner | translated images | gives them the other scanner's look |

# %% [markdown]
# ## Adversarial segmentation losses
#
# Luc and colleagues were the first to put a critic behind a segmentation network, in plain supervised training.
# Not one unlabelled image is used: the critic is a loss of higher order.

# %%
show.code(SegmentationGAN)

# %% [markdown]
# What is `soften` for? A mask consists of zeros and ones; a softmax never does. A critic will find this out long
# before it learns what a heart looks like. So the mask is brought half-way to meet the answer: the true class
# keeps at least 0.9, the rest is shared in the network's own proportions.

# %%
probs = torch.tensor([0.50, 0.30, 0.15, 0.05]).view(1, 4, 1, 1)
mask = one_hot(torch.tensor([[[1]]]), 4)
for name, values in (
    ("network's answer", probs),
    ("mask", mask),
    ("softened mask", soften(mask, probs, 0.9)),
):
    print(f"{name:<17}", " ".join(f"{value:.3f}" for value in values.flatten()))

# %% [markdown]
# ## Collapse, and its cure
#
# A game that one side wins is no lesson for the other. Let us lose it on purpose. The *spoilt* arm takes
# everything that looks like vigour: hard masks, a critic that learns as fast as the segmenter, the adversarial
# term at the weight of the supervised one. The *cured* arm has the library's values: softened masks, a critic ten
# times slower, $\lambda = 0.1$, and a critic that is asked to believe real masks to 0.9 only. Everything else is equal.

# %% tags=["nbval-ignore-output"]
brief = replace(budget, steps=budget.pick(6, 100, 400))
spoilt = {"soft": 1.0, "rate": 1.0, "smooth": 0.0, "weight": 1.0}
games = {
    "spoilt": fit(SegmentationGAN.for_task(task, **spoilt), task, brief, seed=0),
    "cured": fit(SegmentationGAN.for_task(task), task, brief, seed=0),
}
fig, (left, right) = show.subplots(1, 2, height=2.7)
for (name, game), colour, dash in zip(
    games.items(), ("#D55E00", "#0072B2"), ("--", "-"), strict=True
):
    log = {key: np.array(values) for key, values in game.history.items()}
    steps = np.arange(1, len(log["real"]) + 1)
    left.plot(steps, (log["real"] + log["fake"]) / 2, color=colour, linestyle=dash, label=name)
    right.plot(steps, log["supervised"], color=colour, linestyle=dash)
left.axhline(np.log(2), color="black", linestyle=":", linewidth=1.2, label="a coin flip")
left.set(xlabel="training step", title="critic's loss: 0 = it has won", ylim=(0, 1.5))
right.set(xlabel="training step", title="segmenter's supervised loss", ylim=(0, None))
fig.legend(loc="outside lower center", ncols=3)
last = {name: np.mean(game.history["supervised"][-5:]) for name, game in games.items()}
show.figure(
    fig,
    alt="Left: loss of the critic over training, spoilt and cured, beside the loss of a coin flip. Right: the "
    f"segmenter's supervised loss; it ends at {last['spoilt']:.2f} spoilt, {last['cured']:.2f} cured.",
)

# %% tags=["nbval-ignore-output"]
for game in games.values():
    game.method.cpu()
for name, game in games.items():
    dice = score(game.predict(task.valid.images).argmax(1), task.valid, surfaces=False).mean_dice
    print(f"{name:<7} Dice on validation patients {dice:.3f}")
one = task.valid.images[3:4]
show.images(
    one.repeat(2, 1, 1, 1),
    labels=task.valid.labels[3:4].repeat(2, 1, 1),
    predictions=torch.cat([game.predict(one).argmax(1) for game in games.values()]),
    titles=list(games),
    names=task.valid.names,
    alt="A validation heart with the truth and the answer of the spoilt and of the cured game.",
)

# %% [markdown]
# Follow the dashed line of the critic in the stored run. Within a few dozen steps it lies near zero: the critic is
# certain of everything, and for that it need not know a heart, only ones from values below one. From then
# on the segmenter hears one message from it, *be different*, at full weight and without a hint as to how.
# It follows, and stays away from the masks; that is the right-hand curve. When such a critic loses its certainty
# again, it may be because the answers have become something else, not because they have become good.
#
# The cure is nothing but modesty on both sides: masks that cannot be told by their sharpness, a critic that takes its
# time, a small say for it. The supervised term shows the way and the critic corrects. A healthy game is one whose
# critic's loss stays between zero and the coin flip. If you train one of these methods, **plot the critic's loss
# before you look at any Dice**.

# %% [markdown]
# ## Spine-GAN
#
# Han and colleagues use the same game for spines. Their critic sees the mask alone: which arrangements exist?
# What is new is the segmenter. A spine is a chain of links that repeat, and what is above tells what comes
# below; so between encoder and decoder runs an LSTM, row after row, with a memory $c$ for each column:
#
# $$
# c_r = \mathrm{forget}_r \odot c_{r-1} + \mathrm{write}_r \odot u_r, \qquad
# h_r = \mathrm{read}_r \odot \tanh c_r .
# $$

# %%
show.code(Sweep)

# %% [markdown]
# How far does news travel? We change the first row of a feature map and measure the change of every row below, for
# convolutions with dilations 1, 2, 4 and 8, and for sweeps whose forget gates are more or less open.

# %%
torch.manual_seed(0)
features = torch.randn(1, 8, 48, 8)
changed = features.clone()
changed[:, :, 0] += 3


def reach(layer):
    with torch.no_grad():
        change = (layer(changed) - layer(features)).abs().mean((0, 1, 3))
    return (change / change.max()).clamp(min=1e-6)


def sweep(keep):
    layer = Sweep(8)
    hidden = layer.lstm.hidden_size
    with torch.no_grad():
        layer.lstm.bias_ih_l0[hidden : 2 * hidden] = keep
    return layer


dilated = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=d, dilation=d) for d in (1, 2, 4, 8)))
travel = {"dilated convolutions": reach(dilated)}
for keep in (0.0, 2.0, 4.0):
    share = torch.tensor(keep).sigmoid()
    travel[f"sweep, keeps ≈ {share:.0%}"] = reach(sweep(keep))
show.curves(
    {name: values.log10() for name, values in travel.items()},
    np.arange(48),
    xlabel="rows below the change",
    ylabel="change, powers of ten",
    alt="How much each row changes when the first one does. Dilated convolutions fall to nothing after 15 rows; "
    "a sweep fades more slowly if its forget gate keeps more, and then reaches the last row.",
)

# %% [markdown]
# A convolution's reach is built in; that of a memory is *learnt*. Our network has a small version of both. Keep in mind
# what it is asked to do on our scoreboard: a short-axis slice of a heart has no chain in it. The row there is about this
# architecture on few labels, on an organ for which it was not made.

# %% [markdown]
# ## Hung
#
# So far the critic was a teacher of style. Hung and colleagues noticed that it can also *choose*. Their critic has a
# verdict for every pixel. On an unlabelled image, where its belief $m$ exceeds $\tau$, the answer looks like an
# expert's, so it may serve as its own label $\hat y$:
#
# $$
# L_{st} = \frac{\sum_i [m_i > \tau]\,\big(-\ln f(u)_{i \hat y_i}\big)}{\sum_i [m_i > \tau]},
# \qquad m = \sigma\big(d(f(u))\big), \quad \hat y_i = \arg\max_k f(u)_{ik} .
# $$

# %%
show.code(HungSemi)

# %% [markdown]
# Compare this with the threshold of [FixMatch](weak_to_strong.ipynb#fixmatch). There, the *segmenter's* probability decides
# whether to believe the segmenter. Here it is a second network, which looks at the surroundings and not at one pixel's
# certainty. Mask and label are constants for the gradient; the term waits until a quarter of the training is done; and
# the critic learns from labelled images only, since for the others there is nothing "real" to show.
#
# We train it beside the baseline: the same first weights, the same labelled images in the same order, the same steps.
# Now and then we take a picture of what the critic believes about one unlabelled image.

# %% tags=["nbval-ignore-output"]
short = replace(budget, steps=budget.pick(6, 200, 800))
moments = sorted(
    {max(1, round(share * short.steps)) for share in (0.05, 0.15, 0.3, 0.5, 0.75, 1.0)}
)
item = task.unlabelled[40:41]
image = task.train.images[item]
album = {}


class Watched(HungSemi):
    """Hung's method, which now and then writes down what it thinks of one image."""

    def after_step(self, progress):
        step = round(progress * short.steps)
        if step in moments:
            self.eval()
            where = next(self.parameters()).device
            probs = self.net(image.to(where)).softmax(1)
            album[step] = probs.cpu(), self.critic(probs).sigmoid().cpu()
            self.train()


baseline = fit(Supervised.for_task(task), task, short, seed=0)
hung = fit(Watched.for_task(task), task, short, seed=0)
for name, fitted in (("supervised", baseline), ("Hung", hung)):
    fitted.method.cpu()
    print(f"{name}\n{evaluate(fitted, task.valid)}\n")

# %% [markdown]
# These are validation patients, and one training of each is an anecdote; the comparison is the scoreboard's. First the
# learning curves of both players:

# %% tags=["nbval-ignore-output"]
log = hung.history
show.curves(
    {
        "segmenter: masks": log["supervised"],
        "critic: real masks": log["real"],
        "critic: answers": log["fake"],
    },
    ylabel="loss",
    window=7,
    alt="Losses of Hung's method over training: the segmenter's on the masks, the critic's on real masks and on "
    f"answers, which end near {np.mean(log['real'][-20:]):.2f} and {np.mean(log['fake'][-20:]):.2f}.",
)

# %% [markdown]
# Then what the critic believes. The image has no mask as far as the method knows; the phantom knows it, so the title
# can tell how many of the trusted pixels are right. Move through the training at one threshold, then change the
# threshold.

# %% tags=["nbval-ignore-output"]
secret = everyone.train.labels[item][0]


def trusted(step, threshold):
    probs, confidence = album[step]
    judge = HungSemi(nn.Identity(), nn.Identity(), threshold=threshold)
    labels = judge.pseudo_labels(probs, confidence)[0]
    right, believed = probs.argmax(1)[0] == secret, labels != 255
    share, correct = believed.float().mean(), right[believed].float().mean().nan_to_num()
    others = right[~believed].float().mean().nan_to_num()
    fig, axes = show.subplots(1, 3, width=5.6, height=2.5)
    show.overlay(axes[0], image[0], prediction=probs.argmax(1)[0])
    axes[1].imshow(confidence[0, 0], cmap="cividis", vmin=0, vmax=1)
    show.overlay(axes[2], image[0], labels, fill=True, hatch=True)
    titles = (
        "the answer",
        "critic's belief,\ndark 0, bright 1",
        f"trusted: {share:.0%},\n{correct:.0%} right",
    )
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    used = "used" if step >= 0.25 * short.steps else "not yet used"
    return show.figure(
        fig,
        alt=f"Step {step}, threshold {threshold}: {share:.1%} of the pixels are trusted ({used}); {correct:.1%} of "
        f"these are right, {others:.1%} of the others. Mean belief {confidence.mean():.2f}.",
    )


show.explore(
    trusted,
    step=moments,
    threshold=[0.1, 0.2, 0.4],
    labels={"step": "training step", "threshold": "threshold τ"},
    limit=90_000,
    alt="An unlabelled heart: the segmenter's answer, the critic's belief in it, and the pseudo-labels it trusts.",
)

# %% [markdown]
# Two things are worth a look. The belief is coarse, since the critic judges patches; its verdict says "something is odd
# *around here*". And a belief is worth what it filters: compare the share that is right among the trusted pixels with
# that among the others (the text behind the figure has both). Most pixels are background, and background is
# easy for everybody; what counts is what happens on the rims of the organs. A threshold of 0.2 looks careless. Remember
# the game, though: the critic is *paid* for not believing answers, so even a good one rarely gets much more than one half.

# %% [markdown]
# ## DAN
#
# Zhang and colleagues give the game another question. Not "expert or network?", but "**was this image annotated?**" A
# segmenter is better on images it has seen the masks of. Is that visible? Let us count islands, the pieces of
# an organ that are not its largest one, in the answers of our baseline.


# %% tags=["nbval-ignore-output"]
def islands(images):
    """Pieces beyond the first of each organ, a slice."""
    answers = baseline.predict(images).argmax(1).numpy()
    pieces = [ndimage.label(a == k)[1] for a in answers for k in (1, 2, 3)]
    return np.maximum(np.array(pieces) - 1, 0).sum() / len(answers)


for name in ("labelled", "unlabelled"):
    print(
        f"{name:<10} images: {islands(task.train.images[getattr(task, name)]):.2f} islands a slice"
    )

# %% [markdown]
# The *evaluation network* $e$ gets the image and the answer, and guesses whether a mask existed. The segmenter wants the
# answers on unlabelled images to pass for annotated ones:
#
# $$
# L_e = \ell\big(e(x_L, f(x_L)), 1\big) + \ell\big(e(x_U, f(x_U)), 0\big), \qquad
# L_f = L_{sup} + w(t)\, \ell\big(e(x_U, f(x_U)), 1\big) .
# $$

# %%
show.code(DAN)

# %% [markdown]
# Both sides are answers of one network, so none is given away by being sharp: the disease of the last section cannot
# break out. It has one of its own. $e$ sees the *image*, and only three patients are annotated. It could simply learn
# their faces. The augmentation makes that harder, not impossible; with so few labelled patients it is the first thing to
# suspect when the term does not help.

# %% [markdown]
# ## ASDNet
#
# Nie and colleagues keep Hung's confidence network and ask what should be paid attention to. Twice:
#
# $$
# L_{sup} = \frac{\sum_b a_b\,(1 - D_b)}{\sum_b a_b}, \quad a_b = (1 - D_b)^\beta, \qquad
# L_{semi} = 1 - D\big(f(u), \hat y;\ [\,m > \tau\,]\big) .
# $$
#
# *Sample attention*: an image that is segmented well already ($D_b$ near 1) has little to teach. *Region attention*: the
# self-taught loss is a Dice inside the trusted region, so that the large background does not drown the organs.

# %%
show.code(ASDNet)

# %%
share = np.linspace(0, 1, 101)
show.curves(
    {f"β = {beta}": (1 - share) ** beta for beta in (0, 1, 2)},
    share,
    xlabel="Dice that the image has already",
    ylabel="attention",
    alt="Attention over the Dice of an image: constant for beta 0, falling straight to zero for 1, faster at "
    "first for 2.",
)

# %% [markdown]
# Two warnings. The hardest image is sometimes the one with the *worst mask*; attention then teaches the
# annotator's error with most energy. And Dice in a chosen region is the combination that
# [FixMatch](weak_to_strong.ipynb#fixmatch) avoids. Watch what it says about an organ that happens not to be in the region:

# %%
doubt = torch.zeros(1, 4, 32, 32)
doubt[:, 0] = 3.0
doubt.requires_grad_()
background = torch.ones(1, 32, 32, dtype=torch.bool)
background[:, 10:20, 10:20] = False
for name, loss in (
    ("Dice in the region", region_dice(doubt, doubt.argmax(1), background).mean()),
    ("cross-entropy there", losses.cross_entropy(doubt, doubt.argmax(1).where(background, 255))),
):
    (push,) = torch.autograd.grad(loss, doubt)
    print(f"{name:<20} push against an organ outside the region: {push[0, 1].sum():.4f}")

# %% [markdown]
# An organ that the critic never trusts is an organ whose share in the region is zero, and Dice asks for exactly that share.
# Hung's cross-entropy objects as well, but less. It takes care to keep $\lambda_{st}$ small.

# %% [markdown]
# ## Translation with cycle and shape consistency
#
# The last method judges images instead of masks. The problem is another one: all masks were drawn on scanner A, and the
# clinic has scanner B. Our phantom can put the same patients on both, so we can measure what the change costs
# the baseline from above, which has only ever seen A:

# %% tags=["nbval-ignore-output"]
on_b = load("cardiac", scanner="B").of(task.valid.subjects.unique())
for name, cohort in (("A", task.valid), ("B", on_b)):
    dice = score(baseline.predict(cohort.images).argmax(1), cohort, surfaces=False).mean_dice
    print(f"the same patients on scanner {name}: Dice {dice:.3f}")

# %% [markdown]
# In the frozen problem no patient is on both scanners: half of the training patients were imaged on A and have masks, the
# other half on B and have none. Test and validation are B.

# %%
shift = scanner_shift(seed=0)
shift

# %% [markdown]
# A translator $G_A$ repaints A images as B would show them, $G_B$ the other way round, and each scanner has a critic that
# knows its look. But a look is not enough: a translator may paint a perfect B image *of another heart*, and then
# the mask no longer fits. CycleGAN demands that the way there and back leads home, $G_B(G_A(x)) = x$. Is that enough? Here
# is a pair that moves every heart, and moves it back:

# %%
x, y = task.valid.images[3:4], task.valid.labels[3:4]


def there(images):
    return images.roll(6, -1)


def back(images):
    return images.roll(-6, -1)


organ, moved = (y > 0), there(y > 0)
print(f"cycle loss: {(back(there(x)) - x).abs().mean():.1f}")
print(
    f"overlap of the heart with its own mask afterwards: {(organ & moved).sum() / organ.sum():.2f}"
)

# %% [markdown]
# The cycle is content, and the mask is wrong. This is why Zhang, Yang and Zheng add **shape consistency**: the segmenter
# of the other scanner, asked about the translated image, must find the organs where the mask says. It is the third term
# in the translators' loss, and the segmenters in turn learn from translated images with the mask that came along:
#
# $$
# L_G = \sum_s \ell\big(d_t(G_s x), 1\big) + \lambda \lVert G_t G_s x - x \rVert_1
#     + w(t)\, L_{seg}\big(f_t(G_s x), y\big), \qquad
# L_f = \sum_s L_{seg}\big(f_s(x), y\big) + L_{seg}\big(f_t(G_s x), y\big) .
# $$

# %%
show.code(ShapeCycleGAN.loss)

# %%
show.code(ShapeCycleGAN.segmenter_loss)

# %% [markdown]
# Three players now: translators, critics, segmenters. The translator is $x + g(x)$ with $g = 0$ at first: scanners show the
# same body, there is little to change. Nothing in it is made for slices; the survey describes volumes, and all
# parts take them:

# %%
volume = torch.randn(1, 1, 12, 24, 24)
print("a volume, translated at the start:", bool((Translator(1, dims=3)(volume) == volume).all()))

# %% tags=["nbval-ignore-output"]
small = replace(budget, steps=budget.pick(4, 100, 600), batch=4)
cycle = fit(ShapeCycleGAN.for_task(shift), shift, small, seed=0)
cycle.method.cpu().eval()
patient = task.valid.subjects.unique()[2]
on_a, same_on_b = task.valid.of(patient[None]).images[3:4], on_b.of(patient[None]).images[3:4]
with torch.no_grad():
    fake = cycle.method.translators[0](on_a)
    home = cycle.method.translators[1](fake)
fig, axes = show.subplots(1, 5, height=1.9)
for ax, picture in zip(axes[:4], (on_a, fake, same_on_b, home), strict=True):
    ax.imshow(picture[0, 0], vmin=-1.5, vmax=3)
axes[4].imshow((fake - on_a)[0, 0], cmap="RdBu_r", vmin=-1.5, vmax=1.5)
titles = ("scanner A", "A → B", "truly on B", "A → B → A", "what was\nrepainted")
for ax, title in zip(axes, titles, strict=True):
    ax.set_title(title, fontsize=9)
    ax.axis("off")
distance = [(picture - same_on_b).abs().mean() for picture in (on_a, fake)]
show.figure(
    fig,
    alt="A validation patient on scanner A, translated to B, truly imaged on B, and translated back; beside it the "
    f"repainting. Mean distance to the true B image: {distance[0]:.2f} before, {distance[1]:.2f} after.",
)

# %% tags=["nbval-ignore-output"]
a_images = task.valid.images
with torch.no_grad():
    b_images = torch.cat([cycle.method.translators[0](part) for part in a_images.split(32)])


def histogram(images):
    counts, _ = np.histogram(images.numpy(), bins=60, range=(-2, 4), density=True)
    return counts


show.curves(
    {
        "scanner A": histogram(a_images),
        "A → B": histogram(b_images),
        "scanner B": histogram(on_b.images),
    },
    np.linspace(-2, 4, 60),
    xlabel="intensity (deviations of the subject)",
    ylabel="share of pixels",
    alt="Histograms of the validation images on scanner A, of the same translated to B, and on scanner B.",
)

# %% [markdown]
# The true B image was never shown to the network, nor was any patient on both scanners; it is there for us to judge.
# Look at *where* the image was repainted before you look at how well. Changes that follow tissue are a change of
# contrast. A change that draws an edge of its own would be an invented boundary, and a mask would be taught to follow it.
# If the last picture is pale, hardly anything was repainted: the cheapest way to close a cycle is to paint nothing, and a
# critic that cannot yet tell the scanners apart asks for nothing. And look at the *grain* of the true B image. It is random;
# a translator that gets only the image can predict contrast and blur, but no noise, so even a perfect one keeps a distance
# to the true image. This training is a short one; the scoreboard has the long one.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats the comparison with full trainings and several draws of the labelled
# patients. *Supervised, longer* spends more steps on the labelled images, which is fair to put beside methods that train
# two networks; `mean-teacher (weight=0)` shows what averaging weights is worth without any other idea. What has no line
# has not been run yet.

# %%
results = study.read()


def table(protocol, *arms):
    """The lines there are of these arms."""
    return show.scoreboard(
        [line for line in study.summary(results, protocol) if line.method in arms]
    )


references = ("supervised", "supervised-longer", "mean-teacher:weight=0", "full-labels")
table("cardiac-3", "gan-seg-adv", "spine-gan", "hung-advsemi", "dan", "asdnet", *references)

# %% [markdown]
# And across scanners, where *supervised* has only masks of A and *full labels* has masks of B as well:

# %%
table("cardiac-shift", "zhang-cyclegan3d", *references)

# %% [markdown]
# Read the intervals before the means. In the first table, separate two questions: does a critic help a *supervised* network
# (the adversarial loss and Spine-GAN use no unlabelled image), and do unlabelled images help through it (Hung, DAN, ASDNet)? Spine-GAN
# brings another network along, so its difference to the baseline is not the critic's alone. An interval that contains
# zero means that these runs do not show a gain, and adversarial terms with small weights are often of that kind: they
# change the look of the answer more than its Dice, and Dice, as we saw at the beginning, does not see looks. The column HD95
# sees them better.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "After 50 steps the critic's loss is 0.001 and stays there. The supervised loss still falls. What is going on?",
    {
        "The critic is excellent, so the segmenter gets excellent advice.": "A critic that is certain of everything says "
        "the same about a good answer and a bad one.",
        "The critic has found a difference that has nothing to do with shape.": "Sharpness of the mask, for one. Soften the "
        "masks, slow the critic, lower its weight, and watch its loss rise towards the coin flip.",
        "Training has converged.": "The game is over, which is not the same.",
    },
    correct="The critic has found a difference that has nothing to do with shape.",
)

# %%
quiz(
    "In Hung's method you forget to detach the critic's belief and use the belief itself as a soft weight of the "
    "self-taught loss. What may the segmenter learn?",
    {
        "Nothing new, the weights are only a little softer.": "The gradient now flows through the weights too.",
        "To be disbelieved on difficult images, because that makes the loss small.": "A weight that the loss can change is a "
        "way out of the loss.",
        "To be believed everywhere.": "That is what the adversarial term asks. This gradient has the opposite sign wherever the "
        "cross-entropy is large.",
    },
    correct="To be disbelieved on difficult images, because that makes the loss small.",
)

# %% [markdown]
# ## Exercises
#
# **1. Which cure cures?** The spoilt game differs from the cured one in four values. Change them back one at a time, and
# plot the critic's loss. Which single value is enough to make the critic win again, and which to make the segmenter suffer
# from it?
#
# ```{dropdown} Hint
# `SegmentationGAN.for_task(task, rate=1.0)` changes one. Two of the four are about the critic, one about what it is shown,
# one about how loudly it speaks.
# ```
# ```{dropdown} Solution
# Expect this: the rate decides how soon the critic is certain; hard masks decide whether it can be certain *at all* while
# the answers are good. Smoothing keeps its loss on real masks from reaching zero, but not its verdict from being right. The
# weight has no influence on who wins, only on what it costs: at a small weight a lost game is a wasted network and
# little more.
# ```
#
# **2. A verdict on IGNORE.** Suppose half of each mask is annotated and the rest is `IGNORE`. You set its one-hot vector to
# zero and train the critic. What does it learn, and what does the library put there instead?
#
# ```{dropdown} Hint
# Does the segmenter's softmax ever sum to zero?
# ```
# ```{dropdown} Solution
# A pixel whose classes sum to zero occurs in real masks only, so the critic recognises experts by their holes, and is certain
# at once. `soften` puts the network's own answer there, on both sides: what is equal gives nothing away. In addition,
# Hung's critic is not asked about these pixels at all. Both is needed: a verdict next to the hole has the hole in its patch.
# ```
#
# **3. Shape without masks.** In `scanner_shift` the B images have no masks, so shape consistency for $G_B$ uses the answer of B's own
# segmenter in place of $y$. What would happen with this term at full weight from the first step, and what prevents it?
#
# ```{dropdown} Hint
# What does an untrained segmenter answer, and who must reproduce it?
# ```
# ```{dropdown} Solution
# The translator would be asked to repaint B images so that A's segmenter finds in them whatever B's beginner has guessed. It might
# learn to paint these guesses. The ramp $w(t)$ keeps the term near zero until the segmenters know something; the target is
# detached, so that the segmenter is not pulled towards the translator's mistakes in return.
# ```

# %% [markdown]
# ## Take away
#
# - Pixel losses do not see shapes. A critic learns the loss that does.
# - Detach the answers for the critic; let the gradient through the critic for the segmenter; step in turn.
# - A critic that has won teaches nothing. Soften the masks, slow it down, give it a small say, and plot its loss.
# - The critic's belief can choose pseudo-labels. It is a filter like any other: look at what it lets through.
# - Translated images carry their masks along only if shapes are held in place. A cycle alone does not hold them.
#
# **Reading.** The game is {cite:t}`goodfellow2014generative`'s, the smoothing {cite:t}`salimans2016improved`'s, the norm
# {cite:t}`miyato2018spectral`'s. Critics of masks: {cite:t}`luc2016semantic`, {cite:t}`han2018spine`,
# {cite:t}`hung2018adversarial`, {cite:t}`nie2018asdnet`; of annotated and other images: {cite:t}`zhang2017deep`. Translation:
# {cite:t}`isola2017image` for patches, {cite:t}`zhu2017unpaired` for the cycle, {cite:t}`zhang2018translating` for the shape.
