# %% [markdown]
# # Few-shot: the class is a question
#
# <!-- badge -->
#
# **You will learn**
#
# - how a network can be asked for an organ that no training mask ever named;
# - what an episode is, and why base and novel classes must never mix;
# - four ways to use the few annotated slices: as training data, as the weights of a classifier, as maps
#   that steer another network, and as prototypes to compare with;
# - how superpixels replace the manual masks of the base classes;
# - what one and five slices give here, next to simply training on them.
#
# **You should know** [the baseline](../foundations/baseline) and the
# [U-Net's levels](../foundations/networks). [Self-supervision](self_supervision) helps.

# %% tags=["setup"]

# %%

import numpy as np
import torch
import torch.nn.functional as F

from lsseg_edu import show, study
from lsseg_edu.augment import Augment
from lsseg_edu.data import load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi import few_shot as fs
from lsseg_edu.train import Budget, fit

budget = Budget.auto()
task = fs.few_shot_task(shots=5, seed=0)
one = fs.few_shot_task(shots=1, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# All networks so far answer with a fixed list of classes. A surgeon who needs an organ that is not on the
# list waits until somebody has annotated it on many patients. **Few-shot segmentation** makes the class a
# part of the *question*: here is a slice, here is a mask on it; find the same thing in this other slice.
#
# The problem of this page: four organs are annotated on all training patients, the **base** classes.
# Spleen and right kidney are **novel**. They are in the training images, but no training mask shows them,
# exactly as in data sets whose annotators were not asked for them. Five slices, of five other patients, show
# what is meant: the **support set**. Every other image is a **query**.

# %%
whole = load("abdomen").of(task.train.subjects.unique())
shows = [(task.train.labels == k).flatten(1).any(1) for k in (1, 2, 4)]
hidden = torch.isin(whole.labels, torch.tensor([2, 4])).flatten(1).sum(1)
train = (hidden * torch.stack(shows).all(0)).argmax().item()
both = torch.stack([(task.valid.labels == k).flatten(1).sum(1) for k in (1, 2)]).amin(0)
query = both.argmax().item()


def panel(ax, image, labels=None, title="", shift=0, **kinds):
    """One slice with its mask; ``shift`` keeps the colours of novel classes apart from the base's."""
    labels = labels + shift * (labels > 0) if labels is not None else None
    show.overlay(ax, image, labels, **kinds)
    ax.set_title(title, fontsize=9)


fig, axes = show.subplots(1, 4, height=1.9)
panel(axes[0], task.train.images[train], task.train.labels[train], "trained with")
panel(
    axes[1],
    task.train.images[train],
    torch.isin(whole.labels[train], torch.tensor([2, 4])) * 7,
    "in it, but unnamed",
)
panel(axes[2], one.support.images[0], one.support.labels[0], "support", 4)
panel(axes[3], task.valid.images[query], title="query: where?")
show.figure(
    fig,
    alt="An abdominal slice with the contours of liver, left kidney, aorta and stomach; the same slice with the two "
    "organs that its mask leaves out; a support slice with spleen and right kidney; a query without any contour.",
)

# %% [markdown]
# Formally, a support set $S = \{(x_s, y_s)\}_{s=1}^{n}$ of $n$ *shots*, whose masks $y_s$ show one class, is a second
# argument of the network:
#
# $$
# p_i = f_\theta(x_q, S)_i \in [0, 1] .
# $$
#
# Each novel class is asked on its own; at the end `combine` puts the answers together. If the best of them
# is above one half the pixel gets that class, else it is background.

# %%
show.code(fs.combine)

# %% [markdown]
# Which subject may be where? The survey's definition has a trap: *novel* means that **training has never
# seen a mask of the class**, and the support patients may be neither trained on nor judged. Let us not
# believe it, but look. The full masks of the training patients are compared with the ones that are left.

# %%
novel = torch.isin(whole.labels, torch.tensor([2, 4]))
parts = (task.train, task.valid, task.test)
shared = [int(torch.isin(task.support.subjects, part.subjects).sum()) for part in parts]
print(f"pixels of novel organs in the training images: {novel.sum():,}")
print(
    "what the training masks call them:", task.train.labels[novel].unique().tolist(), "(background)"
)
print("support subjects in train, valid, test:", shared)
print(
    "the draw for one shot is in the draw for five:",
    torch.isin(one.support.subjects, task.support.subjects).all().item(),
)

# %% [markdown]
# ## Episodes
#
# How can one train for a question that will be asked later? By playing the game with base classes. An
# **episode** draws a class that is known, hides one image's mask, and shows another's. Our episodes
# take half of the batch as support and ask about the other half.

# %%
show.code(fs.draw_episode)

# %%
torch.manual_seed(7)
few = torch.tensor([4, 25, 96, 207, 318, 429, 533, 602])
episode = fs.draw_episode(task.train.images[few], task.train.labels[few])
fig, axes = show.subplots(2, 3, width=4.4, height=3.4)
for column in range(3):
    panel(
        axes[0, column],
        episode.support[column],
        episode.mask[column].long(),
        f"support {column + 1}",
    )
    panel(
        axes[1, column],
        episode.query[column],
        episode.target[column],
        f"query {column + 1}, target",
    )
empty = int((episode.target[:3] == 0).flatten(1).all(1).sum())
show.figure(
    fig,
    alt="Three episodes: above, support slices with one organ each; below, other slices with the same organ as the "
    f"target; in {empty} of them there is none of it.",
)

# %% [markdown]
# Why ask for something that is not there? Because at the test it will happen: most slices of a patient
# show no spleen. A network that was only ever asked for what is present learns that there is always an
# answer. The odds are `ABSENT = 0.25` to 1.
#
# And remember the trap: spleen pixels are background in every episode. The network is *taught* not to
# answer there. Some studies leave all images with novel organs out of training. In a hospital nobody can
# know which those are, so we keep them, as the harder and more honest setting.

# %% [markdown]
# ## Copying as a yardstick
#
# Before any learning: bodies are alike. What if the support mask is laid over the query as it is? No network, no
# training, and whatever this scores was *not* understood. `pair_slices` takes for each query the
# support slice nearest in its position along the body.

# %%
show.code(fs.pair_slices)

# %%
support, valid = task.support, task.valid
paired = fs.pair_slices(valid.extras["position"], support.extras["position"])
for name, problem in (("one", one), ("five", task)):
    partner = fs.pair_slices(valid.extras["position"], problem.support.extras["position"])
    dice = score(problem.support.labels[partner], valid, surfaces=False).mean_dice
    print(f"{name:<4} support slices, copied: validation Dice {dice:.2f}")

# %%
patient = (valid.subjects == valid.subjects[query]).nonzero()[::4, 0]
fig, axes = show.subplots(1, 3, width=5.2, height=2.0)
for ax, i in zip(axes.flat, patient, strict=True):
    title = f"z = {valid.extras['position'][i]:.2f}, mask {paired[i] + 1}"
    panel(ax, valid.images[i], support.labels[paired[i]], title, 4)
used = ", ".join(str(int(paired[i]) + 1) for i in patient)
show.figure(
    fig,
    alt="Every fourth slice of a validation patient from below, each with the mask of the support slice nearest in "
    f"position, numbers {used}; the masks fit the organs roughly or not at all.",
)

# %% [markdown]
# ## Fine-tuning on the support set
#
# The obvious idea first: the support set is training data. Take the network that knows the base classes, give it
# a new last layer, and go on training on five slices, or on one. The survey warns that this
# overfits, and it surely does; what matters is to *notice*. So one support slice is held out of the gradient
# steps. Its loss is watched, the weights of its lowest value are kept, and when it has not fallen for
# `patience` steps nothing later is kept any more.

# %%
show.code(fs.SupportFinetune)

# %% tags=["nbval-ignore-output"]
tuned = fs.fss_finetune(task, budget)
method = tuned.method.cpu()
kept = int(method.kept_at)
print(
    f"kept: step {kept} of {int(method.steps)}; the watched loss rose by {method.overfit():.2f} until the end"
)
show.curves(
    {
        "support, trained on": tuned.history["support"],
        "support slice held out": tuned.history["watched"],
    },
    ylabel="loss",
    xlabel="fine-tuning step",
    window=budget.pick(1, 9, 25),
    alt=f"The loss of four support slices while fine-tuning on them, and of the fifth, which is only watched. "
    f"The weights of step {kept} are kept; the watched loss then rises by {method.overfit():.2f}.",
)

# %% [markdown]
# The distance between the two lines is the overfit, and the rise of the watched one from its lowest point is
# what early stopping has spared us. With **one** shot there is no slice to hold out. The code then watches the
# only slice it has, which is the slice it trains on: that can tell that nothing more is learnt, but not that too
# much is. No trick changes this; somebody would have to annotate a second slice.

# %% [markdown]
# ## OSLSM
#
# Shaban and colleagues do not train on the support at all. A *conditioning branch* $g$ looks at it and writes the
# **weights of the last layer** of a *query branch* with features $F$:
#
# $$
# (w, b) = h\big(g(x_s \odot y_s)\big), \qquad p_i = \sigma\big(w^\top F_i + b\big) .
# $$
#
# A new class is one forward pass, no gradient step. Both branches learn in episodes on base classes.

# %%
show.code(fs.OSLSM.classifier)

# %%
show.code(fs.OSLSM.logits)

# %% [markdown]
# The branch must see the organ and nothing else, so the image is multiplied by the mask. Our images have mean
# 0; an organ of average brightness would vanish in the product. Hence the mask is given as well.

# %%
first = support.images[:1] * (support.labels[:1] == 1)[:, None]
fig, axes = show.subplots(1, 4, height=1.9)
panel(axes[0], support.images[0], (support.labels[0] == 1).long(), "support, spleen")
panel(axes[1], first[0], title="what the branch sees")
panel(axes[2], support.images[0], 2 * (support.labels[0] == 2).long(), "right kidney")
panel(
    axes[3],
    (support.images[:1] * (support.labels[:1] == 2)[:, None])[0],
    title="what the branch sees",
)
show.figure(
    fig,
    alt="A support slice with the spleen's contour and the same slice with everything else set to zero; the same for "
    "the right kidney.",
)

# %% [markdown]
# A layer that turns the branch's features into all these weights would itself have many weights, to be learnt
# from four base classes. So a *hash* $h$ shares a few numbers: weight $j$ is $\theta_j = \zeta_j\, v_{\kappa(j)}$, with an
# entry $\kappa(j)$ and a sign $\zeta_j$ drawn once and never changed.

# %%
show.code(fs.WeightHashing)

# %%
oslsm = fs.OSLSM.for_task(task)
wide = oslsm.conditioner.head.in_features
made, numbers = len(oslsm.hashing.entry), oslsm.conditioner.head.out_features
print(f"numbers from the branch: {numbers}; classifier weights made of them: {made}")
print(f"weights of the last layer before the hash:  {wide * numbers:>5}")
print(f"weights of a layer without the hash:        {wide * made:>5}")
query_image, mask = valid.images[query : query + 1], (support.labels[:1] == 1)
same = (
    oslsm.classifier(support.images[:1], mask),
    oslsm.classifier(support.images[:1] + 3 * ~mask[:, None], mask),
)
print("the classifier changes with what lies outside the mask:", not torch.equal(*same))

# %% [markdown]
# The weak point is the single meeting place. All that is known of the organ has to pass through a few numbers, and
# *where* it was in the body, which the copied masks above showed to be worth something, is averaged away.

# %% [markdown]
# ## SE few-shot
#
# Roy and colleagues let the branches meet early and often. Two U-Nets run side by side. After each of its nine
# blocks the *conditioner*, which reads support image and mask, squeezes its features $v^{(l)}$ to **one map**, and the
# map multiplies the features $u^{(l)}$ of the *segmenter* at the same depth:
#
# $$
# \hat u^{(l)}_i = u^{(l)}_i\; \sigma\big(w_l^\top v^{(l)}_i + b_l\big), \qquad l = 1, \dots, 9 .
# $$

# %%
from lsseg_edu.semi.few_shot.se_few_shot import walk

show.code(walk)

# %%
show.code(fs.SEConditioner)

# %% [markdown]
# Nine maps, from the size of the image down to four by four and up again. They speak of *places*: where the map is
# small the segmenter goes blind, whatever it sees. Train it, ask for the spleen, and look at some of them.

# %% tags=["nbval-ignore-output"]
guided = fit(fs.SEFewShot.for_task(task), task, budget, seed=0)
guide = guided.method.cpu().eval()
with torch.no_grad():
    maps = guide.conditioner.maps(support.images[:1], support.labels[:1] == 1)
fig, axes = show.subplots(1, 4, height=2.0)
panel(axes[0], support.images[0], (support.labels[0] == 1).long(), "support")
for ax, level in zip(axes[1:], (0, 3, 6), strict=True):
    ax.imshow(maps[level][0, 0], cmap="magma", vmin=0, vmax=1)
    ax.set_title(f"map {level + 1}: {maps[level].min():.2f} to {maps[level].max():.2f}", fontsize=8)
    ax.axis("off")
spread = ", ".join(f"{m.max() - m.min():.2f}" for m in maps)
show.figure(
    fig,
    alt=f"A support slice with the spleen, and three of the nine maps of the conditioner. The range of values within "
    f"each of the nine is {spread}.",
)

# %% [markdown]
# **Slices of a volume.** Since the maps say where, support and query should lie at about the same height. For a
# volume each query slice therefore takes its nearest support slice, as in the copying above; `predict` knows no
# positions and averages the answers of all shots. Both are the same network:

# %% tags=["nbval-ignore-output"]
some = valid.of(valid.subjects.unique()[: budget.pick(2, 10, 10)])
answers = torch.zeros_like(some.labels)
with torch.no_grad():
    for subject in some.subjects.unique():
        mine = some.subjects == subject
        probs = guide.predict_volume(some.images[mine], some.extras["position"][mine])
        answers[mine] = probs.argmax(1)
mean = score(guided.predict(some.images).argmax(1), some, surfaces=False).mean_dice
nearest = score(answers, some, surfaces=False).mean_dice
print(f"all five shots averaged:      validation Dice {mean:.3f}")
print(f"nearest slice by position:    validation Dice {nearest:.3f}")

# %% [markdown]
# ## scSE blocks
#
# The map comes from an older idea that needs no second network: let a feature map recalibrate **itself**. *Channel
# excitation* (cSE) averages over space and decides which channels matter; *spatial excitation* (sSE) squeezes the
# channels by a 1x1 convolution and decides where. scSE adds the two:
#
# $$
# \hat u_{ci} = u_{ci}\, \sigma\big(W_2\, \mathrm{ReLU}(W_1 \bar u)\big)_c + u_{ci}\, \sigma\big(w^\top u_i + b\big) .
# $$

# %%
show.code(fs.ChannelGate)

# %%
show.code(fs.SpatialGate)

# %% [markdown]
# By hand, on two channels: brightness, and where brightness changes. The channel gate here likes
# the second channel, the spatial gate likes bright places.

# %%
image = F.avg_pool2d(valid.images[query : query + 1], 2)
edges = F.pad(image.diff(dim=3), (0, 1)).abs() + F.pad(image.diff(dim=2), (0, 0, 0, 1)).abs()
u = torch.cat([image - image.min(), edges], 1)
block = fs.SCSE(2, 2)
with torch.no_grad():
    block.channel.excite[2].weight.zero_()
    block.channel.excite[2].bias.copy_(torch.tensor([-3.0, 3.0]))
    block.spatial.squeeze.weight.copy_(torch.tensor([4.0, 0.0]).view(1, 2, 1, 1))
    block.spatial.squeeze.bias.fill_(-4 * float((image - image.min()).quantile(0.7)))
    rows = [u, block.channel(u), block.spatial(u), block(u)]
fig, axes = show.subplots(2, 4, width=5.4, height=2.95)
for column, (features, title) in enumerate(
    zip(rows, ("features", "cSE", "sSE", "scSE, the sum"), strict=True)
):
    for c in range(2):
        axes[c, column].imshow(
            features[0, c].detach(), vmin=0, vmax=1.2 * float(u[0, c].quantile(0.97))
        )
        axes[c, column].set(xticks=[], yticks=[])
    axes[0, column].set_title(title, fontsize=9)
axes[0, 0].set_ylabel("brightness")
axes[1, 0].set_ylabel("edges")
gates = block.channel.gate(u).flatten().tolist()
show.figure(
    fig,
    alt=f"Two feature maps of a slice, brightness and edges. The channel gates {gates[0]:.2f} and {gates[1]:.2f} darken the "
    "first as a whole; the spatial gate keeps both channels at bright places only; the sum has both.",
)

# %%
from monai.networks.blocks import ChannelSELayer

theirs, ours = ChannelSELayer(2, 8), fs.ChannelGate(8)
ours.excite.load_state_dict(theirs.fc.state_dict())
x = torch.randn(2, 8, 16, 16)
plain, gated = (
    sum(p.numel() for p in n.parameters()) for n in (fs.scse_unet(task).cpu(), fs.SpatialGate(2, 8))
)
print("channel gate as in MONAI:", torch.allclose(theirs(x), ours(x), atol=1e-6))
print(
    f"weights of a spatial gate on 8 channels: {gated}; of the whole U-Net with nine scSE blocks: {plain:,}"
)

# %% [markdown]
# The block is a network's detail and no few-shot method by itself. `scse_supervised` puts it after each block of the
# baseline's U-Net, and changes nothing else; the scoreboard below has it on the heart, with three labelled patients.
# In SE few-shot, the same spatial gate reads one network and multiplies another.

# %% [markdown]
# ## SSL-ALPNet
#
# Why should the questions of training be organs? Ouyang and colleagues need no manual mask at all. An image is
# cut into **superpixels**, a random one is the "organ", and the query is the *same image* after a random
# deformation and repainting. The answer is known, because the mask was moved along.

# %%
torch.manual_seed(8)
item = valid.select([query])
regions = fs.superpixel_maps(item)
from lsseg_edu.semi.few_shot.alpnet import draw_superpixel

region = draw_superpixel(regions)
moved, target = Augment.strong()(item.images, region.long(), torch.Generator().manual_seed(1))
fig, axes = show.subplots(1, 4, height=1.9)
panel(axes[0], item.images[0], title="image")
order = torch.randperm(int(regions.max()) + 1)
axes[1].imshow(
    np.ma.masked_equal(order[regions[0]], int(order[0])), cmap="tab20", interpolation="nearest"
)
axes[1].set_title(f"{regions[regions > 0].unique().numel()} superpixels", fontsize=9)
axes[1].axis("off")
panel(axes[2], item.images[0], region[0].long(), "support: one of them")
panel(axes[3], moved[0], target[0], "query and target")
show.figure(
    fig,
    alt=f"A slice; its {regions[regions > 0].unique().numel()} superpixels; the slice with one of "
    "them as mask; and the same slice deformed and repainted, with the mask moved along.",
)

# %% [markdown]
# Superpixels are not organs, and need not be. What is trained is a *skill*: to find again what was shown. (A region
# larger than a quarter of the image is left out: mostly air, and finding air again trains nobody.)
#
# The answer is given by comparison. Features of the support are averaged to **prototypes** $q_j$, and each
# query pixel's features $z_i$ are compared with them by the cosine:
#
# $$
# s_{ij} = 20 \cos(z_i, q_j), \qquad l_{ic} = \sum_{j \in c} s_{ij}\, \operatorname{softmax}_{j \in c}(s_{ij}), \qquad
# p_i = \operatorname{softmax}_c(l_{ic}),
# $$
#
# where $c$ is foreground or background. The inner softmax lets the nearest prototype speak for its side.

# %%
show.code(fs.nearness)

# %% [markdown]
# Why several prototypes? The older way takes *one* mean of the foreground and *one* of the background. But the
# background is liver, bone, fat and air, and their mean is none of them. In numbers: a background of two tissues
# whose features point in opposite directions.

# %%
tissue = torch.tensor([[1.0, 0.1], [-1.0, 0.1]])
pixel = torch.tensor([1.0, 0.1]).view(1, 2, 1, 1)
for name, prototypes in (
    ("one mean", tissue.mean(0, keepdim=True)),
    ("one for each tissue", tissue),
):
    valid_ones = torch.ones(1, len(prototypes), dtype=torch.bool)
    like = fs.nearness(pixel, prototypes[None], valid_ones).item()
    print(f"{name:<20} a pixel of the first tissue scores {like:5.1f} of 20")

# %% [markdown]
# **Local** prototypes are the means over the windows of a grid, wherever the mask fills a window. The **global** one
# is the mean over the whole mask: a small organ may fill no window at all.

# %%
show.code(fs.local_prototypes)

# %%
kidney = (support.labels == 2).flatten(1).sum(1).argmax().item()
mask = (support.labels[kidney] == 2).float()
fig, axes = show.subplots(1, 3, width=5.6, height=2.2)
panel(axes[0], support.images[kidney], 6 * mask.long(), "support, right kidney")
found = []
for ax, side, name in zip(axes[1:], (4, 2), ("training", "asking"), strict=True):
    cover = F.avg_pool2d(mask[None, None], side)[0, 0]
    ax.imshow(cover, cmap="magma", vmin=0, vmax=1)
    for y, x in (cover > 0.95).nonzero().tolist():
        ax.plot(x, y, "o", color="#0072B2", ms=side)
    found.append(int((cover > 0.95).sum()))
    ax.set_title(f"windows for {name}:\n{found[-1]} filled", fontsize=9)
    ax.axis("off")
show.figure(
    fig,
    alt="A support slice with the right kidney; how far each window of 4 by 4 pixels is filled by it, and each of 2 by 2. "
    f"Windows filled to more than 95 percent carry a dot: {found[0]} of the large ones, {found[1]} of the small ones.",
)

# %% [markdown]
# As in the paper, windows are half as wide when the network is asked as they were in training. An organ of our 64
# pixels fills hardly any window of 4 by 4, and without a local prototype the foreground is left with its mean. (On
# validation patients the finer windows were the better ones, which is why they are the default.)

# %%
show.code(fs.ALPNet.loss)

# %% [markdown]
# The second term, `alignment`, asks the way back: take the query with the network's *own decision* as its mask, and
# find the superpixel in the support. If the decision was wrong, the way back fails.
#
# That no manual label is read is a claim about code, and so it can be tested: `ssl_alpnet` overwrites the training
# labels before anything else. The test suite goes further, fills them with random numbers, and gets the same weights
# bit by bit.

# %%
show.code(fs.ssl_alpnet)

# %% [markdown]
# ## Side by side
#
# Now ALPNet, which reads no training mask, next to the two networks trained above. With another support set,
# ALPNet and SE few-shot answer at once; the fine-tuned network would have to be tuned again.

# %% tags=["nbval-ignore-output"]
alp = fs.ssl_alpnet(task, budget)
alpnet = alp.method.cpu().eval()
lines = [f"{'validation Dice':<16} {'one shot':>9} {'five shots':>11}"]
for name, fitted in (("SE few-shot", guided), ("SSL-ALPNet", alp)):
    dice = []
    for shown in (one.support, task.support):
        fitted.method.condition(shown)
        dice.append(evaluate(fitted, some, surfaces=False).mean_dice)
    lines.append(f"{name:<16} {dice[0]:>9.3f} {dice[1]:>11.3f}")
lines.append(
    f"{'fine-tuning':<16} {'':>9} {evaluate(tuned, some, surfaces=False).mean_dice:>11.3f}"
)
print("\n".join(lines))

# %% [markdown]
# One run each, on validation patients: an impression. Compare it with what copying scored, above, and with the
# scoreboard, below, where the baseline is the plain network trained on the support set and nothing else.
#
# Next, be the radiologist. Choose the support slice and the number of shots (further slices are added in
# order), and see what ALPNet makes of the same query. Nothing is trained between two frames. Areas are the truth, lines
# the answer; yellow is the spleen, pink the right kidney.

# %% tags=["nbval-ignore-output"]
subjects = [f"slice {letter}" for letter in "ABCD"]
truth = valid.labels[query]


def smooth(image):
    """Without its grain, which makes frames large."""
    return F.interpolate(F.avg_pool2d(image[None], 2), image.shape[1:], mode="bilinear")[0]


def ask(first, shots):
    chosen = [(subjects.index(first) + i) % 5 for i in range(shots)]
    alpnet.condition(task.support.select(chosen))
    with torch.no_grad():
        found = alpnet.predict(valid.images[query : query + 1])[0].argmax(0)
    alpnet.condition(task.support)
    dice = [
        2 * ((found == k) & (truth == k)).sum() / ((found == k).sum() + (truth == k).sum())
        for k in (1, 2)
    ]
    fig, axes = show.subplots(1, 2, width=4.4, height=2.45)
    more = "alone" if shots == 1 else f"and {shots - 1} more"
    panel(
        axes[0],
        smooth(support.images[chosen[0]]),
        support.labels[chosen[0]],
        f"support: {first}\n{more}",
        4,
    )
    panel(axes[1], smooth(valid.images[query]), truth, "", 4, prediction=found + 4 * (found > 0))
    axes[1].set_title(f"Dice: spleen {dice[0]:.2f},\nright kidney {dice[1]:.2f}", fontsize=9)
    return show.figure(
        fig,
        alt=f"Support {first} {more}. The query's Dice is {dice[0]:.3f} for the spleen and {dice[1]:.3f} for the "
        "right kidney.",
    )


show.explore(
    ask,
    first=subjects,
    shots=[1, 3, 5],
    labels={"first": "support image", "shots": "shots"},
    limit=95_000,
    alt="A support slice with the masks of both organs, and a query: areas are the truth, lines what was found.",
)

# %% [markdown]
# Change the slice at one shot first. A mask is a mask, and yet the answers differ: with one shot, *which* slice was
# annotated can matter as much as the method. Papers report the mean over such draws, and too often only the mean. Then
# raise the number of shots. More prototypes can only add things to be like, on both sides; watch whether false
# areas vanish or appear.

# %% [markdown]
# ## What the scoreboard says
#
# Each run draws other support patients. The baseline here is **support only**: the plain network, trained from
# scratch on the one or five slices, with the same augmentation and steps. The upper reference has the novel organs
# annotated on all training patients. First one shot:

# %%
results = study.read()
show.scoreboard(study.summary(results, "abdomen-1shot", baseline="support-only"))

# %% [markdown]
# And five:

# %%
show.scoreboard(study.summary(results, "abdomen-5shot", baseline="support-only"))

# %% [markdown]
# Three questions to these tables. *How far from full labels?* Read the last lines' distance to the first before you
# compare methods with each other: a method that is better than another may still be useless at a bedside. *Does it
# beat the support set alone?* An interval that contains zero says that all the base classes, episodes or superpixels
# have not been shown to add anything to one slice and augmentation. *What do four more slices buy?* Compare the rows of
# the two tables; if five slices and no method beat one slice and any method, annotate.
#
# Why might episodes fail here? The methods come from data sets with tens of base classes, or with ImageNet behind
# them. Four organs, on which "mask" and "organ of that brightness at that place" are nearly the same, allow a
# network to learn the four and ignore the support. And every novel organ in a training image was taught as background.
# A Dice near zero does not mean that the support is ignored. It means that the answer hardly ever exceeds one half: it may
# be higher on the organ than beside it, and still lose against what training said of such pixels. ALPNet was never told
# that a spleen is background, and fine-tuning is told the contrary.
#
# The scSE block, in the supervised baseline of the heart:

# %%
mine = {"scse-block", "supervised", "full-labels"}
show.scoreboard([line for line in study.summary(results, "cardiac-3") if line.method in mine])

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A paper trains on liver, kidneys and spleen, then reports a few-shot Dice for the *left kidney*, with five support "
    "slices of patients who were not in training. What is wrong?",
    {
        "Nothing: the support patients are new.": "The patients are, the class is not. Its masks were trained with.",
        "The class was a base class.": "The network may have learnt it by name; the support could be blank and the score the same.",
        "Five is not few.": "Five is a usual number of shots.",
    },
    correct="The class was a base class.",
)

# %%
quiz(
    "You want to know whether a conditioned network reads its support at all. Which check tells you?",
    {
        "Its episode loss on base classes falls.": "It would also fall for a network that learnt the base organs by heart.",
        "Ask the same query with the mask of another organ: does the answer change?": "If it does not, the support is ignored, "
        "however good the answers look.",
        "Its Dice grows with the number of shots.": "It may also stay the same for a network that reads well, and an average over "
        "shots is smoother in any case.",
    },
    correct="Ask the same query with the mask of another organ: does the answer change?",
)

# %% [markdown]
# ## Exercises
#
# **1. The blank support.** Ask OSLSM with an empty mask. On what can its classifier weights depend? What should a good
# method answer, and which line of training would teach it?
#
# ```{dropdown} Hint
# Look at `classifier`: what is left of the image under a mask of zeros?
# ```
# ```{dropdown} Solution
# Both inputs are zero, so the weights are the same for every support image: they depend on the biases of the branch alone.
# The answer should be *nothing anywhere*. `draw_episode` never shows an empty mask (its target is `IGNORE` where
# the support shows nothing), so nothing teaches it. An episode with an empty mask and the target 0 everywhere would.
# ```
#
# **2. Windows.** In training, ALPNet's windows cover 4 by 4 pixels of the image. Estimate how many local prototypes a disc of
# radius 6 pixels makes at the most, and what happens with radius 2.
#
# ```{dropdown} Hint
# A window must be filled to 95 %, so practically whole. How many 4 by 4 squares of one grid fit into the disc?
# ```
# ```{dropdown} Solution
# The square inscribed in the disc has a side of $6\sqrt2 \approx 8.5$, so with luck 2 by 2 windows fit: four. With radius 2 the
# inscribed square has a side of 2.8: none. Only the global prototype is left, and that is why it is there. The windows of 2 by
# 2 that are used for asking may still find room for one.
# ```
#
# **3. A fair control.** A colleague finds that SE few-shot with five shots beats *support only* with one. Name the two
# comparisons that should be made instead, and what each of them would show.
#
# ```{dropdown} Hint
# Two things differ: the method and the labels.
# ```
# ```{dropdown} Solution
# SE few-shot against *support only*, both with five: what episodes on base classes add to the same labels. And *support only*
# with five against one: what four more slices are worth without any method. The colleague's number mixes both. Repeat it
# over draws of the support, and pair the runs by draw.
# ```
#
# ## Take away
#
# - In few-shot segmentation the class is an input. Base classes train the skill; novel ones appear in no training mask.
# - Episodes play the test; they must also ask for what is not there.
# - Support as training data (fine-tuning), as weights (OSLSM), as maps (SE few-shot), as prototypes (ALPNet).
# - Superpixels can set the questions; then no manual mask is needed until the support set.
# - Compare with the support set alone, with a copied mask, and over several draws of the support.
#
# **Reading.** {cite:t}`shaban2017one`; {cite:t}`caelles2017one` for fine-tuning on one frame;
# {cite:t}`roy2020squeeze`, {cite:t}`roy2018concurrent` and {cite:t}`hu2018squeeze`; {cite:t}`ouyang2020self` with the
# superpixels of {cite:t}`felzenszwalb2004efficient`. The hash is by {cite:t}`chen2015compressing`.
