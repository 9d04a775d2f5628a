# %% [markdown]
# # Networks: from FCN to U-Net and its kin
#
# <!-- badge -->
#
# **You will learn**
#
# - why a segmentation network needs to see far *and* see sharply, and how that is a conflict;
# - seven answers to it, one idea each, with the code of that idea;
# - how to measure which pixels of the image an answer depends on;
# - how much the choice matters when labels are few.
#
# **You should know** what a convolution and a pooling layer do, and what a segmentation is
# ([the price of a label](price)).

# %% tags=["setup"]

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import nn

from lsseg_edu import losses, networks, show, study, survey
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate, score
from lsseg_edu.learn import quiz
from lsseg_edu.networks.attention_unet import AttentionGate
from lsseg_edu.networks.deeplab import ASPP
from lsseg_edu.networks.dense_unet import DenseBlock
from lsseg_edu.networks.pspnet import PyramidPooling
from lsseg_edu.networks.resnet import ResidualBlock
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
image, mask = task.valid.images[80:81], task.valid.labels[80:81]
task

# %% [markdown]
# **What** is at a pixel, and **where** does it end? The first question needs a wide view: a patch of
# grey is myocardium because of the bright pool inside it and the lung beside it. The second needs a
# sharp one. A network gets its wide view cheaply by making its maps coarse: after four halvings a
# 3x3 convolution spans most of our image. And a coarse map has forgotten where the boundary was.
# Every network on this page is an answer to that conflict.
#
# A network here takes images `(B, C, H, W)` to *logits* `(B, K, H, W)`, one score a class at every
# pixel, and is made in one manner, `networks.unet(task, width=8, seed=0)`. To see inside trained
# ones, we train four of them now, on three labelled patients, by the recipe of the
# [baseline](baseline). `width` is the number of channels at full resolution, the same for all.

# %% tags=["nbval-ignore-output"]
makers = {
    "FCN": networks.fcn,
    "DeepLab": networks.deeplab,
    "U-Net": networks.unet,
    "Attention U-Net": networks.attention_unet,
}
fits = {
    name: fit(Supervised(make(task, width=8)), task, budget, seed=0)
    for name, make in makers.items()
}
for name, fitted in fits.items():
    print(f"{name:<16} {fitted.seconds:4.0f} s")

# %% [markdown]
# ## FCN
#
# A classifier ends in dense layers that read one feature map of fixed size and answer once. Long,
# Shelhamer and Darrell saw that a dense layer *is* a convolution whose kernel is as large as the map.
# Written so, it can slide: a larger image gives a map of answers, one for each place. That is a
# **fully convolutional network**, and it was the end of classifying patches one by one.
#
# The map has a stride: FCN's deepest answers stand 32 pixels apart. What does that cost? We give a
# *perfect* classifier such a map: the true masks, averaged over blocks and interpolated back.

# %%
truth = F.one_hot(task.valid.labels, task.valid.classes).movedim(-1, 1).float()
strides, views = (1, 2, 4, 8, 16, 32), []
for stride in strides:
    blocks = F.avg_pool2d(truth, stride)
    views.append(F.interpolate(blocks, 64, mode="bilinear").argmax(1))
dices = [score(view, task.valid, surfaces=False).mean_dice for view in views]
show.images(
    image.repeat(6, 1, 1, 1),
    mask.repeat(6, 1, 1),
    torch.stack([view[80] for view in views]),
    titles=[f"stride {s}\nDice {d:.2f}" for s, d in zip(strides, dices, strict=True)],
    columns=6,
    alt="The true mask, and what is left of it after averaging over blocks: Dice "
    + ", ".join(f"{d:.2f} at stride {s}" for s, d in zip(strides, dices, strict=True))
    + ".",
)

# %% [markdown]
# So FCN does not stop at the coarse map. It scores two finer ones as well, with a linear map each,
# and **adds** the scores on the way up; the upsampling starts as interpolation and is learned:

# %%
show.code(networks.FCN.decode)

# %% [markdown]
# Its finest scores still have a stride of 8. Compare with the figure what that leaves, for organs
# of this size.

# %% [markdown]
# ## SegNet
#
# Max-pooling keeps the largest of four values and forgets which of the four it was. SegNet
# **remembers the place**. Its decoder puts every value back where it came from, leaves zeros elsewhere,
# and lets convolutions fill the gaps. Only two bits a value cross from one half to the other.
#
# Here is the mechanism on the image itself, without any weights: pooled twice, and brought back with
# and without memory.

# %%
brightness = image - image.min()
once, first = F.max_pool2d(brightness, 2, return_indices=True)
twice, second = F.max_pool2d(once, 2, return_indices=True)
placed = F.max_unpool2d(F.max_unpool2d(twice, second, 2), first, 2)
stages = [brightness, F.interpolate(twice, 64), F.interpolate(twice, 64, mode="bilinear"), placed]
show.images(
    torch.cat(stages),
    titles=["image", "pooled to 16x16", "interpolated", "put back in place"],
    alt="The image, the image pooled to 16 by 16 pixels, that interpolated, which is blurred, and that "
    "unpooled: single bright dots, each exactly at the pixel it came from.",
)

# %%
show.code(networks.SegNet.decode)

# %% [markdown]
# ## U-Net
#
# U-Net keeps everything: each level of the encoder hands its **whole feature map** across to the decoder,
# which concatenates it to what comes from below. *What* travels through the bottom, *where* through
# the skips, and the convolutions after each meeting combine them.

# %%
show.code(networks.UNet.decode)

# %% [markdown]
# What does each skip carry? In our trained U-Net we cut them: the features of a level are replaced by
# zeros on their way across. (A network *trained* without the skip would make up for some of it; this
# shows what this one relies on.)

# %% tags=["nbval-ignore-output"]
net = fits["U-Net"].method.net.cpu().eval()
shown = [80, 24, 43]
slices = task.valid.images[shown]


@torch.no_grad()
def without(cut):
    features = net.encode(slices)
    for level, stride in enumerate((1, 2, 4, 8, 16)):
        if cut in (f"stride {stride}", "all four") and stride < 16 or cut == f"bottom ({stride})":
            features[level] = torch.zeros_like(features[level])
    answer = net.final_conv(net.decode(features)).argmax(1)
    whole = net(slices).argmax(1)
    same = (answer == whole).float().mean()
    return show.images(
        slices,
        predictions=answer,
        alt=f"Contours of the trained U-Net on three slices; cut: {cut}. {same:.1%} of the pixels "
        "keep their answer.",
    )


show.explore(
    without,
    cut=["nothing", "stride 1", "stride 4", "stride 8", "all four", "bottom (16)"],
    labels={"cut": "cut the skip at"},
    limit=62_000,
    alt="What a trained U-Net answers when one of its skips is cut.",
)

# %% [markdown]
# The skips are why U-Net became the default of this field, where boundaries are what is measured and
# images are few. In this book, unless a page says otherwise, *the network* is this one.

# %% [markdown]
# ## PSPNet
#
# Some questions need the whole image: is this a slice near the apex? PSPNet, made for street scenes and
# living rooms, asks the **averages**. The last map is averaged over 1, 2, 3 and 6 bins a side, each
# pyramid level is projected to a few channels, and all of them are put beside every pixel.

# %%
show.code(PyramidPooling)

# %%
bins = [F.interpolate(F.adaptive_avg_pool2d(image, n), 64, mode="bilinear") for n in (6, 3, 2, 1)]
low, high = image.quantile(0.01), image.quantile(0.99)
fig, axes = show.subplots(1, 5, height=1.6)
for ax, view, name in zip(
    axes, [image, *bins], ["image", "6 bins a side", "3 bins", "2 bins", "1 bin"], strict=True
):
    ax.imshow(view[0, 0], vmin=low, vmax=high)
    ax.set_title(name)
    ax.axis("off")
show.figure(
    fig, alt="The image and its averages over ever larger bins, down to a single grey value."
)

# %% [markdown]
# ## DeepLab
#
# Why pool at all? A 3x3 convolution whose nine weights stand $r$ pixels apart, **atrous** or *dilated*,
# spans $2r + 1$ pixels at the price of nine and keeps the map as fine as it was. DeepLab puts four
# such rates side by side and adds their scores: atrous spatial pyramid pooling (ASPP).

# %%
show.code(ASPP)

# %%
rates = (2, 5, 7, 9)
fig, axes = show.subplots(1, 4, height=2.1)
coarse = F.avg_pool2d(image, 4)[0, 0]
for ax, rate in zip(axes, rates, strict=True):
    ax.imshow(coarse)
    offsets = rate * torch.arange(-1, 2)
    y, x = torch.meshgrid(8 + offsets, 8 + offsets, indexing="ij")
    seen = (x >= 0) & (x < 16) & (y >= 0) & (y < 16)
    ax.scatter(x[seen], y[seen], s=36, marker="s", color=show.colour(1), edgecolor="black")
    ax.set_title(f"rate {rate}: {2 * rate + 1} wide")
    ax.axis("off")
show.figure(
    fig,
    alt="The nine weights of a dilated convolution on the 16 by 16 map of our image, at rates 2, 5, 7 and "
    "9: close together at first, then at the border, and of the widest only those that still fall on the map.",
)

# %% [markdown]
# Look at the last one: at rate 9, seen from the middle, only one weight in nine still falls on the map. A rate belongs to an image size, and the
# paper's 24 would be a slow way to write a 1x1 convolution here. (The paper also sharpens the result
# with a conditional random field; that is a step after the network, and another chapter's subject.)

# %% [markdown]
# ## Attention U-Net
#
# U-Net's skips carry everything, the ribs as well as the heart. The Attention U-Net asks the decoder,
# which already knows roughly what is there, **where it wants to look**, and multiplies each pixel of
# the skip $x$ by a weight between 0 and 1, made of the skip and the coarser signal $g$:
#
# $$
# \alpha = \sigma\big(\psi^\top \mathrm{ReLU}(W_x x + W_g g + b)\big), \qquad \hat x = \alpha\, x .
# $$

# %%
show.code(AttentionGate)

# %% [markdown]
# The weights can be looked at, which is half of their charm. From the network that we trained:

# %% tags=["nbval-ignore-output"]
gated = fits["Attention U-Net"].method.net.cpu().eval()
maps, stages = [], (gated.upcat_4, gated.upcat_3, gated.upcat_2, gated.upcat_1)
with torch.no_grad():
    *skips, x = gated.encode(image)
    for up, gate in zip(stages, gated.gates, strict=True):
        skip = skips.pop()
        maps.append(gate.attention(skip, x)[0, 0])
        x = up(x, gate(skip, x))
heart = mask[0] > 0
fig, axes = show.subplots(1, 5, height=1.9)
show.overlay(axes[0], image[0], prediction=gated.final_conv(x)[0].argmax(0).detach())
axes[0].set_title("answer")
said = []
for ax, attention, stride in zip(axes[1:], maps, (8, 4, 2, 1), strict=True):
    shown = ax.imshow(attention, cmap="magma", vmin=0, vmax=1)
    ax.set_title(f"stride {stride}")
    full = F.interpolate(attention[None, None], 64, mode="bilinear")[0, 0]
    said.append(f"stride {stride}: {full[heart].mean():.2f} and {full[~heart].mean():.2f}")
    ax.axis("off")
fig.colorbar(shown, ax=axes, shrink=0.8, label="weight")
print("mean weight on the heart and elsewhere:", "; ".join(said))
show.figure(
    fig,
    alt="The weights of the four gates on one image. Mean on the heart and elsewhere, "
    + "; ".join(said)
    + ".",
)

# %% [markdown]
# Read such maps with care. The convolutions after a gate can scale its output back up, so the size of a
# weight says little; only its *differences* within a map do, and nothing in the loss asks them to mark the organ.

# %% [markdown]
# ## Dense U-Net
#
# In a plain network a layer reads the one before it. In a **dense block** it reads all of them: the
# input and everything found since, concatenated,
#
# $$
# x_l = [\, x_{l-1},\; f_l(x_{l-1}) \,].
# $$
#
# What was found once need not be found again, so each layer may be thin; and the loss reaches every
# layer by a short way.

# %%
show.code(DenseBlock)

# %%
block = DenseBlock(dims=2, inputs=8, growth=4, layers=5)
fig, ax = show.subplots(height=2.3)
start = np.zeros(len(block.layers))
for source in range(len(block.layers)):
    size = np.array([8 if source == 0 else 4] * len(start)) * (np.arange(len(start)) >= source)
    label = "the input" if source == 0 else f"layer {source}"
    ax.barh(range(1, 6), size, left=start, color=plt.cm.cividis(source / 5), label=label)
    start += size
assert start.tolist() == [layer[2].in_channels for layer in block.layers]
ax.set(xlabel="channels that the layer reads", ylabel="layer")
ax.invert_yaxis()
fig.legend(loc="outside right upper", title="made by")
show.figure(
    fig,
    alt="Channels read by the five layers of a dense block, by the layer that made them: "
    f"{', '.join(f'{n:.0f}' for n in start)}; the first eight are always the block's input.",
)

# %% [markdown]
# ## Encoders
#
# The left half of all these networks is a classifier without its end, and two families of classifiers serve
# most of the field. **VGG** stacks 3x3 convolutions and pooling, and nothing else: FCN and SegNet are
# built on it. **ResNet** adds its input to every two convolutions, so that they learn a *correction*:
# PSPNet and DeepLab are built on that.

# %%
show.code(ResidualBlock.forward)

# %% [markdown]
# Why does the sum matter? Follow the gradient backwards, from the last block to the first, in a stack of
# 32 blocks with fresh weights; then do the same with the shortcuts taken out.


# %%
class PlainBlock(ResidualBlock):
    def forward(self, x):
        return self.second(self.first(x)).relu()


def gradients(block, depth=32, seed=0):
    torch.manual_seed(seed)
    blocks = [block(dims=2, inputs=16, outputs=16) for _ in range(depth)]
    features = [nn.Conv2d(1, 16, 3, stride=4, padding=1)(image)]
    for one in blocks:
        features.append(one(features[-1]))
    loss = (features[-1] * torch.randn_like(features[-1])).sum()
    sizes = torch.stack([g.norm() for g in torch.autograd.grad(loss, features)])
    return (sizes / sizes[-1]).log10().tolist()


blocks = {"plain": PlainBlock, "residual": ResidualBlock}
sizes = {name: [gradients(block, seed=s) for s in range(3)] for name, block in blocks.items()}
first = {name: np.mean(values, 0)[0] for name, values in sizes.items()}
show.curves(
    sizes,
    range(33),
    xlabel="block, from the image to the loss",
    ylabel="log10 (gradient / last one)",
    alt="Size of the gradient along 32 blocks, relative to that at the end. At the first block, "
    + ", ".join(f"{name}: 10 to the {value:.1f}" for name, value in first.items())
    + ".",
)

# %% [markdown]
# Without the shortcuts, early and late layers live on different scales and no learning rate fits both. With
# them the gradient has a way around every block. Both encoders are in the library, as classifiers of
# whole images (`networks.vgg`, `networks.resnet`): that is how they are *pre-trained*, on images that have
# a label but no mask. Ours start from random weights; what pre-training is worth is a
# technique of its own, and not given to a baseline for free.

# %% [markdown]
# ## What a pixel sees
#
# The *receptive field* of an answer is the part of the image that can change it. One can count it from kernel
# sizes and strides. It is more honest to measure it: the derivative of the logits at one place with respect to
# every pixel of the image says how much each of them *does* move that answer. Luo and colleagues found
# that this **effective** receptive field is much smaller than the one that is counted, and grows while training.
#
# All seven networks, before any training; the answer in the middle, averaged over eight images:


# %%
def influence(net, images, row, column):
    """Mean absolute derivative of the logits at one place, for every pixel; sums to 1."""
    images = images.clone().requires_grad_()
    logits = net(images)[:, :, row, column]
    total = sum(
        torch.autograd.grad(scores.sum(), images, retain_graph=True)[0].abs().sum((0, 1))
        for scores in logits.unbind(1)
    )
    return total / total.sum()


def side(field, row, column, share=0.5):
    """Side of the smallest square around the place that holds this share of the influence."""
    for reach in range(64):
        window = field[max(0, row - reach) :, max(0, column - reach) :]
        inside = window[: row - max(0, row - reach) + reach + 1]
        inside = inside[:, : column - max(0, column - reach) + reach + 1]
        if inside.sum() >= share:
            return 2 * reach + 1


heat = plt.get_cmap("magma", 16)
ids = ("fcn", "segnet", "unet", "pspnet", "deeplab", "attention-unet", "densenet")
sample = task.train.images[task.unlabelled][7:500:62]
fig, axes = show.subplots(1, 7, height=1.6)
said = []
for ax, id in zip(axes, ids, strict=True):
    field = influence(survey.load(id)(task, width=8), sample, 32, 32)
    top = field.flatten().sort()[0][-4].sqrt()
    ax.imshow(field.sqrt(), cmap=heat, vmax=top, interpolation="nearest")
    name, pixels = survey.find(id).name, side(field, 32, 32)
    said.append(f"{name} {pixels} px")
    ax.set_title(f"{name}\n{pixels} px", fontsize=8)
    ax.axis("off")
show.figure(
    fig,
    alt="Influence of every pixel on the logits in the middle, untrained. Side of the square that holds "
    "half of it: " + ", ".join(said) + ".",
)

# %% [markdown]
# The number is the side of the square that holds half of the influence. Where the skips reach up to full
# resolution there is a bright point in the middle: the pixel itself. Where everything passes through a coarse map
# you see that map's blocks. And nowhere is the influence zero: normalisation divides by a deviation taken over
# the whole image, so strictly every pixel sees every other.
#
# Now the four that we trained. Choose a network and a place in the image.

# %% tags=["nbval-ignore-output"]
untrained = {name: make(task, width=8) for name, make in makers.items()}
places = {"in the left ventricle": (30, 39), "far from the heart": (10, 10)}


def sees(network, place):
    nets = {"untrained": untrained[network], "trained": fits[network].method.net.cpu().eval()}
    row, column = places[place]
    fig, (first, *others) = show.subplots(1, 3, height=2.2, width=6)
    show.overlay(first, image[0], prediction=fits[network].predict(image)[0].argmax(0))
    first.set_title("the place")
    said = []
    for ax, (weights, net) in zip(others, nets.items(), strict=True):
        field = influence(net, image, row, column)
        ax.imshow(field.sqrt(), cmap=heat, interpolation="nearest")
        said.append(f"{weights} {side(field, row, column)} px")
        ax.set_title(said[-1])
    for ax in (first, *others):
        ax.plot(column, row, "+", color="white", markersize=12, markeredgewidth=1.5)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"{network}: side of the square that holds half of the influence on the answer {place}: "
        + ", ".join(said)
        + ".",
    )


show.explore(
    sees,
    network=list(makers),
    place=list(places),
    limit=62_000,
    alt="Which pixels of the image move the answer at a chosen place.",
)

# %% [markdown]
# ## Why not batch normalisation
#
# Most of these networks were published with *batch normalisation*. We do not use it.
# Take one image and put it into many batches with other images. What comes out for *that image* should not depend on its
# company. With batch statistics it does:

# %%
companions = task.train.images
relative = []
for seed in range(3):
    torch.manual_seed(seed)
    batch_norm = BasicUNet(2, 1, 4, (8, 8, 16, 32, 64, 8), norm="batch").train()
    spreads = []
    for size in (2, 4, 8, 16, 32):
        draws = [torch.randperm(len(companions))[: size - 1] for _ in range(10)]
        with torch.no_grad():
            logits = [batch_norm(torch.cat([image, companions[d]]))[0] for d in draws]
        logits = torch.stack(logits)
        spreads.append((logits.std(0).mean() / logits.mean(0).std()).item())
    relative.append(spreads)
with torch.no_grad():
    instance_norm = networks.unet(task).train()
    alone, together = instance_norm(image)[0], instance_norm(torch.cat([image, companions[:7]]))[0]
print(
    f"instance normalisation moves with the company: {not torch.allclose(alone, together, atol=1e-4)}"
)
show.curves(
    {"batch normalisation": relative, "instance normalisation": [0] * 5},
    (2, 4, 8, 16, 32),
    xlabel="images in the batch",
    ylabel="spread / signal of the logits",
    alt="How much the logits of one image depend on the other images of its batch: for batch normalisation "
    f"{np.mean(relative, 0)[0]:.2f} of the signal with two images, {np.mean(relative, 0)[-1]:.2f} with 32; for "
    "instance normalisation nothing.",
)

# %% [markdown]
# Small batches are the rule in medical imaging, and here there is more against it. Many of our methods put two kinds of
# images into one step, labelled and unlabelled, clean and perturbed, so the statistics would mix them.
# Others copy or average networks, and batch normalisation keeps *running statistics* beside its weights that an
# average of weights knows nothing of. Instance normalisation (each channel of each image by itself) and group
# normalisation (a few channels together) have neither problem. U-Net here uses the former; the others use the
# latter, because PSPNet normalises a map of a single pixel, and one value less its own mean is always 0.

# %% [markdown]
# ## Side by side
#
# What they cost: weights, counted, and time for one step on a batch of eight, measured on the machine that
# made this page (as the scoreboard has them):

# %% tags=["nbval-ignore-output"]
index = task.labelled[:8]
batch, target = task.train.images[index], task.train.labels[index]
print(f"{'network':<18}{'weights':>11}{'ms a step':>11}")
for id in ids:
    net = survey.load(id)(task)
    times = []
    for _ in range(budget.pick(2, 5, 5)):
        start = time.process_time()
        losses.dice_ce(net(batch), target).backward()
        times.append(time.process_time() - start)
    weights = sum(p.numel() for p in net.parameters())
    print(f"{survey.find(id).name:<18}{weights:>11,}{1000 * np.median(times):>11.0f}")

# %% [markdown]
# Few weights are not little work: a dense block keeps all of its maps at full size and reads them again and again.
#
# And what they answer, those four that we trained, on the test patients:

# %% tags=["nbval-ignore-output"]
for name, fitted in fits.items():
    report = evaluate(fitted, task.test)
    print(f"{name:<16} Dice {report.mean_dice:.3f}   HD95 {report.mean_hd95:5.2f} mm")
show.images(
    image.repeat(4, 1, 1, 1),
    mask.repeat(4, 1, 1),
    torch.cat([fitted.predict(image).argmax(1) for fitted in fits.values()]),
    titles=list(fits),
    columns=4,
    names=task.valid.names,
    alt="Truth and answers of the four networks on the same slice of a validation patient.",
)

# %% [markdown]
# ## What the scoreboard says
#
# All of them with several seeds, each of which draws other labelled patients, against U-Net with three and with
# all seventy labelled patients:

# %%
arms = {*ids, "supervised", "full-labels"}
lines = {x.method: x for x in study.summary(study.read(), "cardiac-3") if x.method in arms}
show.scoreboard(lines.values())

# %% [markdown]
# How much of what could be gained is a matter of architecture?

# %%
tried = {id: lines[id].dice.mean for id in ids if id in lines}
if len(tried) > 1 and {"supervised", "full-labels"} <= set(lines):
    best, worst = max(tried, key=tried.get), min(tried, key=tried.get)
    choice = 100 * (tried[best] - tried["unet"])
    labels = 100 * (lines["full-labels"].dice.mean - lines["supervised"].dice.mean)
    print(
        f"best: {best}, worst: {worst}, {100 * (tried[best] - tried[worst]):.1f} Dice points apart"
    )
    print(f"the best network instead of U-Net:   {choice:+.1f} points")
    print(f"all labels instead of three patients: {labels:+.1f} points")
    answer = "less than" if choice < labels else "at least as much as"
    print(f"with few labels, the network matters {answer} the labels")

# %% [markdown]
# Read the intervals in the table before you rank anything: where a verdict is *undecided*, these runs do not
# tell that network from U-Net. All of them were trained by one recipe that was made for U-Net; a recipe of their own could
# help some. The same was found on a grander scale: nnU-Net, a plain U-Net whose *recipe* adapts itself to the
# data, surpassed most specialised networks on the 23 data sets of its paper. That is why this book fixes the network and
# studies the labels.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A U-Net and an FCN find the same organs, but the FCN's boundaries are blunt. What would help it most?",
    {
        "More channels in the deepest layer.": "That layer knows what is there; its map is still coarse.",
        "A path from full-resolution features to the answer.": "The FCN's finest scores have a "
        "stride of 8; a skip from stride 1 brings back where.",
        "A larger receptive field.": "It finds the organs already; it does not see them sharply.",
    },
    correct="A path from full-resolution features to the answer.",
)

# %%
quiz(
    "The counted receptive field of a network covers the whole image. What may you conclude?",
    {
        "Its answers use the whole image.": "They can. How much they do is what the derivative measures, and it is "
        "mostly the neighbourhood.",
        "No pixel outside could change an answer, and some inside may hardly do so.": "The count is an upper bound "
        "for convolutions; the effective field is what training makes of it.",
        "It needs no skips.": "Seeing far says nothing about seeing sharply.",
    },
    correct="No pixel outside could change an answer, and some inside may hardly do so.",
)

# %% [markdown]
# ## Exercises
#
# **1. Count it.** The encoder of the U-Net has two 3x3 convolutions a level and halves four times. How wide is
# the receptive field of a value at the bottom, counted?
#
# ```{dropdown} Hint
# At stride $s$, a 3x3 convolution widens the field by $2s$ pixels, and a 2x2 pooling by $s$ (the stride before it).
# ```
# ```{dropdown} Solution
# $1 + 2 \cdot 2 \cdot (1 + 2 + 4 + 8 + 16) + (1 + 2 + 4 + 8) = 1 + 124 + 15 = 140$ pixels: more than twice our image.
# The measured field is far smaller.
# ```
#
# **2. A skip that adds.** FCN adds scores, U-Net concatenates features. Show that adding is the special case: which weights of
# the convolution after a concatenation give the sum of two maps?
#
# ```{dropdown} Hint
# A 1x1 convolution of $[a, b]$ is $W_a a + W_b b$.
# ```
# ```{dropdown} Solution
# $W_a = W_b = I$. Concatenation lets the network learn how to combine, for the price of more weights, and more memory.
# ```
#
# **3. Fair by what?** The table above compares networks of equal width. Make two of them equal in weights instead
# (`width=`), then in milliseconds, and train both pairs. Which comparison would you report?
#
# ```{dropdown} Hint
# Weights grow about as the square of the width.
# ```
# ````{dropdown} Solution
# ```python
# def weights(net):
#     return sum(p.numel() for p in net.parameters())
#
# aim = weights(networks.unet(task))
# width = min(range(4, 33, 4), key=lambda w: abs(weights(networks.dense_unet(task, width=w)) - aim))
# ```
# There is no neutral answer: equal weights favour networks that reuse them (dense blocks), equal time favours those that work on
# coarse maps. Report both, and say which.
# ````

# %% [markdown]
# ## Take away
#
# - Coarse maps see far and forget where; skips, indices, dilation and pooled context are four ways around it.
# - What a network *could* see and what its answers depend on are two things. The derivative tells.
# - No batch statistics: small, mixed batches and averaged networks do not go with them.
# - Before you change the network, ask what the labels and the recipe are worth.
#
# **Reading.** {cite:t}`long2015fully` (FCN), {cite:t}`badrinarayanan2017segnet` (SegNet), {cite:t}`ronneberger2015unet`
# (U-Net), {cite:t}`zhao2017pyramid` (PSPNet), {cite:t}`chen2018deeplab` (DeepLab), {cite:t}`oktay2018attention` (Attention
# U-Net), {cite:t}`huang2017densely` and {cite:t}`jegou2017hundred` (dense blocks), {cite:t}`simonyan2015very` (VGG),
# {cite:t}`he2016deep` (ResNet); {cite:t}`luo2016understanding` on effective receptive fields, {cite:t}`ulyanov2016instance` and
# {cite:t}`wu2018group` on normalisation; {cite:t}`isensee2021nnunet` on what the recipe is worth.
