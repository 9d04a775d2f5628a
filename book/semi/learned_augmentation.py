# %% [markdown]
# # Learned augmentation: training pairs that a network makes
#
# <!-- badge -->
#
# **You will learn**
#
# - how unlabelled images teach which deformations and contrasts are worth simulating (Zhao, Chaitanya);
# - how a network paints an image that belongs to a mask, and why a critic must see both;
# - how masks come out of noise, how nodules come into lungs, and how a scan changes its scanner;
# - how to judge a generator: not by its pictures, but by what a segmenter gains from them.
#
# **You should know** [augmentation](../semi/augmentation), the two players of
# [adversarial learning](../semi/adversarial), and the registration of [atlases](../semi/atlases).

# %% tags=["setup"]

# %%
from dataclasses import replace

import torch
from torch.nn import functional as F

from lsseg_edu import networks, show, study
from lsseg_edu.augment import Augment, displaced, integrate, smooth_field, warp, warp_labels
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.augmentation.conditional_gan import ConditionalGAN
from lsseg_edu.semi.augmentation.costa import RetinaGAN
from lsseg_edu.semi.augmentation.cross_modal import CrossModal, cross_modal_augmentation
from lsseg_edu.semi.augmentation.ea_gan import EaGAN, paired_scanners, sobel
from lsseg_edu.semi.augmentation.gan import GAN
from lsseg_edu.semi.augmentation.motion import Motion
from lsseg_edu.semi.augmentation.nodules import NoduleGAN, NoduleSampler
from lsseg_edu.semi.augmentation.noise import WholeCritic
from lsseg_edu.semi.augmentation.patches import foreground
from lsseg_edu.semi.augmentation.synthetic import MOTION, WithSynthetic, moved
from lsseg_edu.semi.augmentation.task_driven import TaskDriven
from lsseg_edu.semi.augmentation.zhao import Appearance, LearnedTransforms
from lsseg_edu.semi.priors import Atlas
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
brief = replace(budget, steps=budget.pick(4, 200, 800))
task = Task.split(load("brain"), labelled=1, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# One brain has a mask. The usual augmentation turns it, bends it a little and changes its grey values, at random.
# Compare the first two pictures with the others, which show brains that nobody annotated.

# %%
slice_ = task.labelled[4:5].repeat(2)
generator = torch.Generator().manual_seed(1)
usual, masks = Augment.strong()(task.train.images[slice_], task.train.labels[slice_], generator)
near = (task.train.extras["position"] - task.train.extras["position"][slice_[0]]).abs()
others = task.unlabelled[near[task.unlabelled].argsort()[:2]]
show.images(
    torch.cat([usual, task.train.images[others]]),
    titles=["augmented"] * 2 + ["another brain"] * 2,
    columns=4,
    alt="One brain slice under two random augmentations, and the same level of two other brains, whose "
    "ventricles, folds and contrast differ in ways the augmentations do not show.",
)

# %% [markdown]
# The left half has variety, but it is *invented* variety: nobody asked a brain how it varies. Ventricles become
# larger with age, white matter and grey matter come closer in contrast on one scanner and part on another. All of
# this stands in the unlabelled images. **Learned augmentation** takes it from there and applies it to the image
# whose mask is known.

# %% [markdown]
# ## The equation, and how a generator is judged
#
# A generator is whatever makes pairs $(\tilde x, \tilde y)$ of image and mask. All methods of this chapter end in the
# same way: a share $\rho$ of each batch of the baseline is exchanged for such pairs,
#
# $$
# L = L_{sup}\big(f_\theta(\mathbf{x}), \mathbf{y}\big), \qquad
# (\mathbf{x}, \mathbf{y}) = (1-\rho)B \text{ real and } \rho B \text{ synthetic pairs.}
# $$

# %%
show.code(WithSynthetic)

# %% [markdown]
# The segmenter sees as many images in as many steps as the baseline, moved and repainted by the same recipe; with
# $\rho = 0$ it *is* the baseline, weight for weight. What the generator itself costs comes on top, and the scoreboard
# adds it to the minutes. This is the yardstick for everything below. A beautiful picture that teaches nothing is
# worth nothing here, and an ugly one may teach a lot.

# %% [markdown]
# ## Learned transforms
#
# Zhao and colleagues split the difference between two scans into *where* and *how bright*. A
# [registration network](../semi/atlases) learns to bring the labelled brain $a$, the atlas, onto every unlabelled
# image $y$ of the same height: that is a motion $\phi$. Undo it, and $y \circ \phi^{-1}$ lies on the atlas; what still differs
# there is appearance. A second network learns to add it:
#
# $$
# \min_\psi\; \lVert a + \psi - y \circ \phi^{-1} \rVert^2 + \lambda\, (1 - c_a) \lVert \nabla \psi \rVert .
# $$
#
# The paper works with volumes. Ours are stacks of slices, so each training slice is paired with the atlas slice at the same
# position in the stack, which the scanner writes down; the segmenter will need no position.
#
# $c_a$ marks the boundaries of the atlas labels. There the change of brightness may jump, elsewhere it must be smooth.
# Why so strict? Where the registration has failed, an unrestrained $\psi$ would paint the missing fold, and the mask would
# know nothing of it.

# %%
show.code(Appearance.loss)

# %% [markdown]
# Then the trick. Motion of image $i$ and look of image $j$ are *independent*:
# $\tilde x = (a + \psi_j) \circ \phi_i$ and $\tilde y = y_a \circ \phi_i$. A hundred unlabelled scans make ten thousand
# labelled ones.

# %%
show.code(LearnedTransforms.combine)

# %% tags=["nbval-ignore-output"]
motion = fit(Motion.for_task(task), task, brief, seed=0)
look = fit(Appearance.for_task(task, registration=motion.method), task, brief, seed=0)
known = task.unlabelled[: budget.pick(64, None, None)]
transforms = LearnedTransforms(look.method, task.train.select(known))
fitted = {
    "baseline": fit(Supervised.for_task(task), task, brief, seed=0),
    "learned transforms": fit(
        WithSynthetic(networks.unet(task, seed=0), transforms), task, brief, seed=0
    ),
}
for arm in (motion, look, *fitted.values()):
    arm.method.cpu().eval()
transforms.cpu()

# %% [markdown]
# Three answers to one question. The *single atlas* carries its mask over with the motion: no segmenter at all, and to be
# generous we tell it the height of each slice. The *baseline* has the one brain and the usual augmentation. The third has everything.

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    index = motion.method.source(task.valid)
    velocity = motion.method.net(transforms.atlas.images[index], task.valid.images)
    carried = motion.method.move(transforms.atlas.one_hot(index), velocity)
answers = {"single atlas": carried}
answers.update({name: arm.predict(task.valid.images) for name, arm in fitted.items()})
for name, probs in answers.items():
    dice = score(probs.argmax(1), task.valid, surfaces=False).mean_dice
    print(f"{name:<19} Dice on validation subjects {dice:.3f}")
extra = motion.seconds + look.seconds
print(f"the two networks behind the learned transforms: {extra:.0f} s more")

# %% [markdown]
# One seed and a short training; the scoreboard below has the long one. Move the two controls. The *shape* decides
# which unlabelled image lends its motion, the *look* which one lends its brightness. Follow the mask: it changes with the
# first control only.

# %% tags=["nbval-ignore-output"]
level = 4
lenders = (transforms.match == level).nonzero()[:3, 0]


def combine(shape, look):
    i, j = lenders[shape - 1], lenders[look - 1]
    image, mask = transforms.combine(i[None], j[None])
    atlas = transforms.match[i]
    others = task.train.images[known[[int(i), int(j)]]]
    pictures = torch.cat([transforms.atlas.images[atlas][None], others, image, image])
    areas = torch.cat([torch.zeros_like(mask).expand(4, -1, -1), mask])
    change = (image[0, 0] - transforms.atlas.images[atlas][0]).abs().mean()
    share = float((mask[0] == 1).sum() / (mask[0] > 0).sum())
    return show.images(
        pictures,
        labels=areas,
        titles=["atlas", f"shape {shape}", f"look {look}", "sample", "its mask"],
        fill=True,
        alt=f"The atlas, the image that lends its shape ({shape}), the one that lends its look ({look}), the "
        f"sample and its mask: it differs from the atlas by {change:.2f} a pixel, and fluid fills {share:.0%} of the brain.",
    )


show.explore(
    combine,
    alt="The atlas brain in the shape of one unlabelled brain and with the look of another.",
    labels={"shape": "shape of image", "look": "look of image"},
    limit=65_000,
    shape=[1, 2, 3],
    look=[1, 2, 3],
)

# %% [markdown]
# The sample can be no better than the registration. Folds of the cortex that the motion does not find are missing in the
# mask *and* in the image, and then nothing is wrong: image and mask still belong together. The dangerous case is a change
# of brightness that draws anatomy. That is what $\lambda$ is for, and why the scoreboard also has this method with its
# appearance half switched off.

# %% [markdown]
# ## Task-driven generators
#
# Zhao imitates what is there. Chaitanya and colleagues ask what *helps*. Two generators see a labelled image and
# noise $z$; one answers with a velocity $v$, the other with an additive change $\Delta$. They are trained together with the
# segmenter, on its loss, and against two critics who know unlabelled images:
#
# $$
# L_G = \underbrace{L_{sup}\big(f(\tilde x), \tilde y\big)}_{\text{helps}}
#     + \lambda_{adv} \underbrace{\big[\ell(d_V(x \circ e^v), 1) + \ell(d_I(x + \Delta), 1)\big]}_{\text{looks real}}
#     - \lambda_{big} \underbrace{\big[\lVert v \rVert_1 + \lVert \Delta \rVert_1\big]}_{\text{is not trivial}} ,
# \qquad \tilde x = (x + \Delta) \circ e^v .
# $$

# %%
show.code(TaskDriven.generator_loss)

# %% [markdown]
# Mind the direction. [Adversarial augmentation](../semi/adversarial_augmentation) makes images that *raise* the
# segmenter's loss; here the generators *lower* it. They cooperate. What would two cooperating networks do that are
# left alone? Nothing: an image that was not changed is the easiest of all, and the critics like it too. Here are
# the other two terms for a change that grows from nothing, if the image itself is an easy one.

# %%
amount = torch.linspace(0, 1, 101)
unlike = 0.15 * amount**2
show.curves(
    {
        "without the third term": unlike,
        "with it, weight 0.1": unlike - 0.1 * amount,
    },
    amount,
    xlabel="size of the change, as a fraction of the largest allowed",
    ylabel="loss of the generators",
    alt="A sketch: without a reward for size the generators' loss is lowest for no change at all; with it, at a "
    "moderate change.",
)

# %% [markdown]
# The curve is a sketch with made-up numbers, but its message is not: the minimum leaves zero as soon as size is rewarded.
# The reward in turn has to be held by something, since a large change may be nonsense. The critics hold it, and so do hard
# bounds: a $\tanh$ in each generator.

# %% tags=["nbval-ignore-output"]
cardiac = Task.split(load("cardiac"), labelled=3, seed=0)
torch.manual_seed(3)
heart, organs = (
    values[cardiac.labelled[4:5]] for values in (cardiac.train.images, cardiac.train.labels)
)
velocity = 0.12 * smooth_field(heart, 2, 4, None).movedim(1, -1)
change = 0.5 * smooth_field(heart, 1, 6, None)
grid = displaced(integrate(velocity))
views = torch.cat([heart, warp(heart, grid), heart + change, warp(heart + change, grid)])
moved_organs = warp_labels(organs, grid)
show.images(
    views[..., 8:56, 8:56],
    labels=torch.cat([organs, moved_organs, organs, moved_organs])[:, 8:56, 8:56],
    titles=["x", "moved", "repainted", "both"],
    columns=4,
    names=("background", "RV", "myocardium", "LV"),
    alt="A heart with its mask; moved, with the mask moved along; repainted, with the mask as it was; and both.",
)

# %% [markdown]
# The fields in this figure are random, of the kind that the generators begin with. Two things to see: the mask follows the
# motion and ignores the paint, and the segmenter gets the last picture, while each critic judges one generator's work alone.

# %% [markdown]
# ## GAN
#
# Now the other family: images that come out of nothing. A generator $G$ turns noise into a sample, a critic $d$ tells
# samples from real ones, and they are stepped in turn:
#
# $$
# \min_d\; \ell\big(d(x), 1\big) + \ell\big(d(G(z)), 0\big), \qquad \min_G\; \ell\big(d(G(z)), 1\big).
# $$
#
# The second term is the *non-saturating* one; [the adversarial chapter](../semi/adversarial) draws its slope.

# %%
show.code(GAN.loss)

# %%
show.code(GAN.critic_loss)

# %% [markdown]
# In that chapter the critic judged *patches*, and it was enough: the segmenter's input said where the heart lies. Noise
# says nothing. A critic of patches would be content with two hearts, or with half of one in a corner. So this one ends in
# a weight for each place, and has one verdict on the whole.

# %%
show.code(WholeCritic)

# %% tags=["nbval-ignore-output"]
gan = fit(GAN.for_task(cardiac, images=False), cardiac, brief, seed=0, augment=MOTION)
gan.method.cpu()
torch.manual_seed(0)
_, drawn = gan.method.sample(4)
real = moved(
    *(
        values[cardiac.labelled[[4, 10, 16, 22]]]
        for values in (cardiac.train.images, cardiac.train.labels)
    )
)[1]
sizes = [float((masks > 0).float().mean()) for masks in (real, drawn)]
show.images(
    torch.zeros(8, 1, 64, 64),
    labels=torch.cat([real, drawn]),
    titles=["real"] * 4 + ["out of noise"] * 4,
    columns=4,
    fill=True,
    names=("background", "RV", "myocardium", "LV"),
    alt=f"Four real masks, moved, where the heart covers {sizes[0]:.0%} of the image, and four masks out of noise, where "
    f"it covers {sizes[1]:.0%}.",
)

# %% [markdown]
# Look for three faults. Shapes that no heart has; parts that are missing, the ventricles for instance, which cover few pixels and
# are learnt last; and *the same shape again and again*: a generator that has found one mask which the critic believes has little
# reason to look for another. All three are what to expect from a few dozen masks and a few hundred steps. And keep in mind what a GAN cannot do in principle: trained on three patients, it has seen three patients.

# %% [markdown]
# ## Conditional GAN
#
# Masks are easy to vary, images are not. So let somebody else draw the mask, and learn only the way from mask to image. A
# *conditional* generator gets a condition $c$, here the mask, and the critic gets it too:
#
# $$
# \min_G\; \ell\big(d(c, G(c, z)), 1\big) + \lambda \lVert G(c, z) - x \rVert_1, \qquad
# \min_d\; \ell\big(d(c, x), 1\big) + \ell\big(d(c, G(c, z)), 0\big) .
# $$

# %%
show.code(ConditionalGAN.loss)

# %% [markdown]
# Each term does what the other cannot. The $L_1$ alone knows one best answer per pixel, the median of everything that may
# be there; grain has median zero, so it paints none. The critic alone accepts any image that looks real beside the mask. A toy
# shows the first half: the best constant under $L_1$ for a vessel that is bright in four of ten images.

# %%
vessel = torch.tensor([1.0] * 4 + [0.0] * 6)
guess = torch.arange(-20, 121) / 100
cost = (guess[:, None] - vessel).abs().mean(1)
print(f"the best grey value under L1: {guess[cost.argmin()]:.1f}")
print(f"under a squared error: {guess[(guess[:, None] - vessel).square().mean(1).argmin()]:.1f}")

# %% [markdown]
# Neither value is a mistake of the optimiser; the first is never bright, the second is a grey that occurs in no image at
# all. A critic would object to both.

# %% [markdown]
# ## Retinal synthesis
#
# Who draws the masks? Costa and colleagues let a network do it. An **adversarial autoencoder** reproduces vessel trees $y$
# through a short code $e(y)$; a critic of codes, who knows Gaussian noise, makes the codes of real trees look like noise. Then
# noise must look like the code of a tree, and the decoder draws it. A conditional GAN paints the fundus:
#
# $$
# z \sim N(0, I) \;\longrightarrow\; \tilde y = D(z) \;\longrightarrow\; \tilde x = G(\tilde y).
# $$

# %%
show.code(RetinaGAN.loss)

# %% [markdown]
# All of it is trained end to end: the painter never sees the expert's tree, it gets the decoder's, blurred as that may be. So when
# noise is decoded later, it meets nothing new. The critic of images sees the *same* decoded tree beside the true and the painted
# photograph; otherwise it could tell them apart by the sharpness of the tree. The catch is the decoder. Vessels are one pixel
# wide, and a code of 32 numbers cannot say where they are. What it loses, is lost for the segmenter too.

# %%
vessels = Task.split(load("vessels"), labelled=1, seed=0)
fundus, tree = (values[vessels.labelled] for values in (vessels.train.images, vessels.train.labels))
coarse = F.interpolate(
    F.avg_pool2d((tree == 1).float()[:, None], 8), scale_factor=8, mode="bilinear"
)
show.images(
    torch.cat([fundus[:2], coarse[:2].expand(-1, 3, -1, -1)]),
    titles=["a photograph", "another", "its tree, 64 numbers", "its tree, 64 numbers"],
    columns=4,
    alt="Two patches of a retina, and their vessel trees squeezed into 64 numbers by averaging: thick vessels are "
    "clouds, thin ones are gone.",
)

# %% [markdown]
# Averaging is a clumsy code, and a trained one is better. But the picture says what to look for in any sample from this model:
# are there thin vessels at all?

# %% [markdown]
# ## Synthetic nodules
#
# A small thing in a large image is the best case for a conditional GAN: ribs, heart and vessels need not be invented, for
# they are there. Qin and colleagues synthesise CT patches with nodules. Ours cuts a hole into a true slice, wider by two
# pixels than the mask $m$ that is to go there, and fills it:
#
# $$
# c = \big(m,\; x\,(1 - h)\big), \qquad \tilde x = x\,(1 - h) + G(c, z)\, h .
# $$

# %%
show.code(NoduleGAN.fill)

# %% tags=["nbval-ignore-output"]
lungs = Task.split(load("lesions"), labelled=5, seed=0)
holders = foreground(lungs.train.labels).flatten(1).any(1)
with_nodules = replace(lungs, train=lungs.train.select(holders))
painter = fit(NoduleGAN.for_task(lungs), with_nodules, brief, seed=0, augment=MOTION)
nodules = NoduleSampler(painter.method.cpu().eval(), Atlas.of(lungs))
torch.manual_seed(1)
synthetic, where = nodules.sample(64)
before = foreground(nodules.bank.labels).float().mean()
print(f"annotated slices: {before:.1%} of the pixels are nodule")
print(f"with one more drawn into each: {(where == 1).float().mean():.1%}")

# %% [markdown]
# Where may a nodule go? Where there is lung, which the sampler reads off the image: dark, but enclosed by tissue. No label of
# another image is needed. Its shape is an annotated one, turned and scaled. Now it is your turn: choose the size and the place,
# and see whether the image follows the mask.

# %% tags=["nbval-ignore-output"]
room = nodules.room.flatten(1).sum(1)
base = int(torch.where(foreground(nodules.bank.labels).flatten(1).any(1), 0, room).argmax())
slice_image, empty = nodules.bank.images[base : base + 1], nodules.bank.labels[base : base + 1]
inside = nodules.room[base].nonzero()
order = inside[:, 0].argsort()
spots = {
    name: inside[order[int(part * (len(order) - 1))]]
    for name, part in (("front", 0.2), ("middle", 0.5), ("back", 0.8))
}
distance = (torch.stack(torch.meshgrid(*[torch.arange(32.0) - 16] * 2, indexing="ij")) + 0.5).norm(
    dim=0
)


@torch.no_grad()
def draw(radius, place):
    row, column = spots[place]
    torch.manual_seed(0)
    centre = (row * 64 + column)[None]
    image, mask = nodules.gan.insert(slice_image, empty, (distance < radius)[None], centre)
    inner, outer = image[0, 0][mask[0] == 1].mean(), slice_image[0, 0][mask[0] == 1].mean()
    return show.images(
        torch.cat([slice_image, slice_image, image]),
        labels=torch.cat([empty, mask, empty]),
        titles=["true slice", "the mask", "painted"],
        columns=3,
        alt=f"A true slice without a nodule, a disc of radius {radius} pixels drawn in the {place} of its lung, and the "
        f"painted slice: within the disc the mean rises from {outer:.2f} to {inner:.2f}.",
    )


show.explore(
    draw,
    alt="A nodule mask of a chosen size at a chosen place in a lung, and the image that the generator paints for it.",
    labels={"radius": "radius in pixels", "place": "place"},
    limit=65_000,
    radius=[2, 4, 7],
    place=list(spots),
)

# %% [markdown]
# A large nodule is the hardest request: few of its kind were annotated. If the paint stays pale or has no edge, the segmenter is
# taught that a patch of slightly brighter lung is a nodule. Half of each batch is real, which limits the harm.

# %% [markdown]
# ## Cross-modal synthesis
#
# Masks on scanner A, patients on scanner B, nobody on both. [ShapeCycleGAN](../semi/adversarial) translates between them: a
# cycle both ways, a critic for each look, and a segmenter on each side that keeps the shapes in place. Cai and colleagues carry the
# same two consistencies on to slices and volumes and use the translated images as training data. Ours keeps the translators and
# changes who learns:

# %%
show.code(cross_modal_augmentation)

# %% [markdown]
# In ShapeCycleGAN the segmenter grows up with the translators and learns from their first attempts as from their last. Here it
# begins when they are finished; the segmenters of the first training only guard the shapes. Fairness asks for this order: the
# segmenter that counts then has the baseline's steps and the baseline's real images. `shape=0` is a plain CycleGAN.

# %%
show.code(CrossModal)

# %% [markdown]
# ## Edge-aware GAN
#
# If some patients *were* on both scanners, no cycle is needed: source and target can be compared pixel by pixel, and a
# conditional GAN with the source as its condition does the rest. Ea-GAN adds what a blurred image lacks. With $S$ the Sobel edge
# map,
#
# $$
# L_G = \ell\big(d(\cdot), 1\big) + \lambda \lVert G(x) - y \rVert_1 + \lambda_{edge} \lVert S(G(x)) - S(y) \rVert_1 .
# $$
#
# This is **gEa-GAN**. **dEa-GAN** shows the edges to the critic as well: $(x, y, S(y))$ against $(x, G(x), S(G(x)))$.

# %%
show.code(EaGAN.loss)

# %%
pairs = paired_scanners(seed=0)
one = (pairs.train.extras["scanner"] == 1).nonzero()[35:36, 0]
source, target = pairs.train.extras["other"][one], pairs.train.images[one]
blurred = F.avg_pool2d(target, 3, 1, 1, count_include_pad=False)
print(f"mean distance of the blurred image: {(blurred - target).abs().mean():.2f}")
print(f"mean distance of its edges: {(sobel(blurred) - sobel(target)).abs().mean():.2f}")
show.images(
    torch.cat([source, target, sobel(target), sobel(blurred)])[..., 4:60, 8:56],
    titles=["scanner A", "scanner B", "edges of B", "of B, blurred"],
    columns=4,
    alt="One brain on scanner A and on scanner B, the Sobel edges of the latter, and those of the same image blurred "
    "over three pixels: fainter and wider.",
)

# %% [markdown]
# For the $L_1$ a blurred image is a rather good answer; for the edges it is a bad one. But look at the background of the third
# picture. Sobel is a derivative, and derivatives amplify noise. A generator cannot know the grain of scanner B, so part of
# the edge loss can never be paid off, and asks for something that is not there.

# %% [markdown]
# ## What the scoreboard says
#
# Every method stands where it was made for: one labelled brain, three hearts, one retina, five patients with nodules, a change of
# scanner with and without pairs. The minutes include the generator's training. A method in brackets is a control: a part of it
# switched off. What has no line has not been run yet.

# %%
results = study.read()


def table(protocol, *arms):
    """The lines there are of these arms, without and with options."""
    lines = study.summary(results, protocol) if protocol in study.PROTOCOLS else []
    return show.scoreboard([line for line in lines if line.method.partition(":")[0] in arms])


references = ("supervised", "supervised-longer", "full-labels")
table("brain-1", "zhao-oneshot", "atlas-single", *references)

# %%
table("cardiac-3", "chaitanya-taskaug", "gan-generic", *references)

# %%
table("vessels-1", "costa-retina", "cgan", "gan-generic", *references)

# %%
table("lesions-5", "qin-nodule", "cgan", *references)

# %%
table("cardiac-shift", "cai-crossmodal", "zhang-cyclegan3d", *references)

# %%
table("brain-paired", "eagan", *references)

# %% [markdown]
# Three questions to put to these tables. Does the interval of the difference exclude zero? If not, the runs do not decide, however
# good the samples look. Is a control as good as the method? Then the part that was switched off is not what helps. And what do the
# extra minutes buy elsewhere: *supervised, longer* spends them on the labelled images alone. Generators from noise have the
# hardest position here. They are trained on the same few annotated images as the segmenter, and can add smoothness between
# them, but no knowledge. The methods that look at unlabelled images (Zhao, Chaitanya, Cai, Ea-GAN) have something to add.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A registration fails on one brain: a fold of its cortex is not found. What does the fold do to a sample of Zhao's that uses "
    "this motion?",
    {
        "The sample has the fold, but its mask does not.": "The motion moves image and mask alike; what it has not found is in neither.",
        "Neither the sample nor its mask has the fold.": "Both are the atlas, moved by the same motion. A poor registration "
        "costs variety, not correctness, as long as the change of appearance does not paint the fold.",
        "The mask has the fold, the sample does not.": "The mask comes from the atlas, too.",
    },
    correct="Neither the sample nor its mask has the fold.",
)

# %%
quiz(
    "You give the critic of a conditional GAN the image only, without the mask. Samples look as real as before. What is missing?",
    {
        "Nothing: it is the image that must look real.": "And whose mask is it?",
        "Nobody objects if an image does not belong to its mask.": "A pair is wrong as soon as its halves do not match. Only the "
        "reconstruction term is left to say so, and it is content with averages.",
        "The generator no longer sees the mask.": "The generator does; the critic does not.",
    },
    correct="Nobody objects if an image does not belong to its mask.",
)

# %% [markdown]
# ## Exercises
#
# **1. Which half helps?** Train the segmenter on `LearnedTransforms` with `appearance=False`, with `spatial=False`, and with
# `independent=False`, on the same networks `motion` and `look`. Compare on the validation subjects.
#
# ```{dropdown} Hint
# `LearnedTransforms(look.method, task.train.select(known), appearance=False)` is a sampler; `WithSynthetic(networks.unet(task), sampler)` a method.
# Nothing has to be trained twice but the segmenter.
# ```
# ```{dropdown} Solution
# Three short trainings. Ask of each what it takes away: without appearance the samples have the atlas's contrast, which the usual
# repainting varies anyway; without motion the mask never changes its shape beyond the usual bending; with coupled draws
# there are as many samples as unlabelled images, instead of their square. One seed does not decide between arms that are close:
# repeat with other draws of the labelled brain before you believe an order.
# ```
#
# **2. A share of everything.** What happens to the nodule segmenter as $\rho$ goes from 0 to 1? Guess before you try
# `WithSynthetic(networks.unet(lungs), nodules, fraction=...)`.
#
# ```{dropdown} Hint
# At 1 the segmenter never sees a true nodule alone. What can it use to recognise a painted one?
# ```
# ```{dropdown} Solution
# At 0 it is the baseline. At 1 every batch holds slices with painted nodules, and a painted nodule may have marks of its own: a
# missing grain, a faint rim around the hole. A network that finds these marks has a low training loss and knows nothing about
# nodules. Real pairs in the batch make the shortcut expensive. That is why the default is a half.
# ```
#
# **3. Cooperate or compete.** Change the sign of `task` in `TaskDriven.generator_loss`. What becomes of the method, and which of
# the other two terms do you no longer need?
#
# ```{dropdown} Hint
# What do generators prefer that are paid for errors of the segmenter?
# ```
# ```{dropdown} Solution
# They become adversarial: they look for changes that hurt, as in the chapter on adversarial augmentation, only with networks in place of
# an ascent. Large changes hurt more than small ones, so the reward for size is no longer needed. What holds them back
# becomes all the more important: the critics and the bounds decide whether the hard image is still an image.
# ```

# %% [markdown]
# ## Take away
#
# - Unlabelled images know how bodies and scanners vary. Learn the variation there, apply it where the mask is known.
# - A pair is worth something only if image and mask belong together: the mask follows the motion, the critic sees both.
# - Cooperating generators do nothing unless size is rewarded; rewarded ones do nonsense unless bounded.
# - A generator that has seen three patients knows three patients.
# - Judge a generator by the segmenter it trains, at equal steps, with its own cost on the bill.
#
# **Reading.** {cite:t}`zhao2019data` for learned transforms, {cite:t}`chaitanya2019semi` for task-driven ones;
# {cite:t}`goodfellow2014generative` for the game and {cite:t}`bowles2018gan` for pairs out of noise; {cite:t}`mirza2014conditional`
# and {cite:t}`isola2017image` for conditions. {cite:t}`costa2018end` paints retinas, {cite:t}`qin2019pulmonary` nodules;
# {cite:t}`cai2019towards` and {cite:t}`yu2019ea` translate between modalities.
