# %% [markdown]
# # What knowledge buys
#
# <!-- badge -->
#
# **You will learn**
#
# - what transfer, augmentation, atlases, shapes, constraints and curricula bought on this scoreboard, each in the setting
#   it was made for;
# - whether it was the idea that bought it: each technique beside the control that has everything but the idea;
# - why Dice is the wrong judge of an anatomical prior, and what the right ones say.
#
# **You should know** [what a fair comparison is](../foundations/measuring) and how to read the
# [scoreboard](scoreboard). [What unlabelled images buy](unlabelled) is the sister of this page.

# %% tags=["setup"]

# %%
import textwrap

import numpy as np

from lsseg_edu import show, study, survey
from lsseg_edu.learn import quiz

results = study.read()
PAGES = {
    "semi/transfer": "transfer",
    "semi/augmentation": "augmentation",
    "semi/adversarial_augmentation": "adversarial augmentation",
    "semi/learned_augmentation": "learned augmentation",
    "semi/atlases": "atlases",
    "semi/shape": "shape priors",
    "semi/constraints": "constraints",
    "semi/curriculum": "curriculum",
}
PLACES = {
    "cardiac-3": "heart, 3 patients",
    "acdc-3": "ACDC, 3 patients",
    "brain-1": "brain, 1 subject",
    "brain3d-2": "brain in 3D, 2 subjects",
    "brain-paired": "brain, two scanners paired",
    "hippocampus-4": "hippocampus in 3D, 4 subjects",
    "abdomen-2": "abdomen, 2 patients",
    "nuclei-2": "nuclei, 2 patients",
    "vessels-1": "vessels, 1 patient",
    "lesions-5": "lesions, 5 patients",
    "lesions-active": "lesions, masks on request",
    "cardiac-shift": "heart, another scanner",
}


def arms(protocol, pages=PAGES):
    """The techniques of these chapters with at least three seeds, without their controls; best first."""
    return study.techniques(results, protocol, pages)


present = [p for p in PLACES if arms(p)]
for p in present:
    print(
        f"{PLACES[p]:<30} gap {100 * study.gap(results, p):5.1f} Dice points, {len(arms(p)):2d} techniques"
    )
ran = {x.method for p in study.PROTOCOLS for x in study.summary(results, p)}
waiting = [
    row.name
    for row in survey.rows()
    if row.chapter.partition("#")[0] in PAGES and row.id not in ran
]
if waiting:
    print(f"\nbuilt, and without a training on the scoreboard ({len(waiting)}):")
    print(textwrap.fill(", ".join(waiting), 90))

# %% [markdown]
# ## Each in its own court
#
# A list of all of them would compare what cannot be compared. An atlas is made for one labelled brain, a topological loss
# for vessels, a curriculum against imbalance for lesions in a lung. So there is one figure a court. Zero is the supervised
# baseline on the same few masks. A line is the 95 % interval of the paired difference over the draws of labelled
# subjects; where it contains zero, the bar is pale.


# %%
def gains(where):
    lines = arms(places[where])
    bars = {survey.find(x.method).name: tuple(100 * d for d in x.difference) for x in lines}
    best, worst = lines[0], lines[-1]
    return show.bars(
        bars,
        xlabel="Dice points above the baseline",
        alt=f"{where}: {len(bars)} techniques against the baseline, from {survey.find(best.method).name} "
        f"with {100 * best.difference.mean:+.1f} points to {survey.find(worst.method).name} with "
        f"{100 * worst.difference.mean:+.1f}.",
    )


places = {PLACES[p]: p for p in present}
show.explore(
    gains,
    where=list(places),
    limit=190_000,
    alt="Dice points above the baseline with intervals, one bar a technique, for each protocol.",
)

# %% [markdown]
# ## Was it the idea?
#
# A technique changes more than its idea. It brings another network, or a second training, or twice as many images a step.
# The control keeps all of that and takes the idea out: random weights in the place of ImageNet's, an empty map in the place
# of the atlas, the same curriculum in a random order. Only the difference between the two belongs to the idea.

# %%
CONTROLS = [
    ("cardiac-3", "pretrain-finetune", "pretrain-finetune:source='random'"),
    ("cardiac-3", "transfusion", "pretrain-finetune:source='random'"),
    ("brain3d-2", "inflate-2d-copy", "inflate-2d-copy:source='random'"),
    ("brain3d-2", "ah-net", "ah-net:transferred=False"),
    ("cardiac-3", "aug-warp", "aug-warp:strength=0"),
    ("cardiac-shift", "advbias", "advbias:steps=0"),
    ("brain-1", "zhao-oneshot", "atlas-single"),
    ("brain-1", "lt-net", "atlas-single"),
    ("brain-1", "ito-em", "ito-em:doubt=1.0"),
    ("brain-1", "deepatlas", "deepatlas:weight=0.0"),
    ("cardiac-3", "atlasnet", "atlasnet:moving=False"),
    ("cardiac-3", "prob-atlas-concat", "prob-atlas-concat:informed=False"),
    ("cardiac-3", "post-dae", "post-dae:corrupted=False"),
    ("cardiac-3", "curriculum-data", "curriculum-data:order='random'"),
    ("lesions-5", "cased", "cased:sampling='uniform'"),
    ("vessels-1", "prior-topology", "supervised"),
]


def compared(column="dice"):
    """The pairs that have been run on three seeds, with the difference of a column."""
    for protocol, method, control in CONTROLS:
        seeds = {x.method: x.seeds for x in study.summary(results, protocol)}
        if min(seeds.get(method, 0), seeds.get(control, 0)) >= 3:
            yield (
                protocol,
                method,
                control,
                study.difference(results, protocol, method, control, column),
            )


ideas = {
    f"{survey.find(method).name}": tuple(100 * d for d in difference)
    for _, method, _, difference in compared()
}
for protocol, method, control, (mean, low, high) in compared():
    print(
        f"{PLACES[protocol]:<24} {survey.find(method).name:<34} {100 * mean:+6.1f} [{100 * low:+6.1f}, {100 * high:+6.1f}]"
    )
    print(f"{'':24} against {survey.title(control)}")

# %%
show.bars(
    ideas,
    xlabel="Dice points above its own control",
    alt=f"{len(ideas)} techniques, each against its own control: the largest difference is "
    f"{max(ideas, key=lambda k: ideas[k][0])} with {max(d[0] for d in ideas.values()):+.1f} points.",
)

# %% [markdown]
# ## What Dice does not see
#
# A prior on shape does not promise more overlap. It promises answers that could be a heart: one ventricle, not three, and a
# wall that is closed around it. [Plausibility](../semi/shape) counts the masks that break a rule which nearly all true masks
# obey; the [Betti error](../semi/constraints) counts the pieces and holes that are too many or too few. Both are read
# *beside* Dice, for an empty mask breaks no rule.


# %%
def beside(protocol, column, scale):
    """Mean Dice and mean of another column of every arm of these chapters, and of the baseline."""
    rows = [r for r in results if r["protocol"] == protocol and not np.isnan(r[column])]
    seen = {}
    for r in rows:
        if not r["options"] and (r["method"] == "supervised" or r["method"] in mine):
            seen.setdefault(r["method"], []).append((r["dice"], scale * r[column]))
    return {method: np.mean(pairs, 0) for method, pairs in seen.items() if len(pairs) >= 3}


mine = {x.method for p in present for x in arms(p, ("semi/shape", "semi/constraints"))}
VIEWS = {
    "implausible masks (%), heart": ("cardiac-3", "implausible", 100),
    "Betti error, vessels": ("vessels-1", "betti", 1),
}


def plane(view):
    protocol, column, scale = VIEWS[view]
    points = beside(protocol, column, scale)
    fig, ax = show.subplots(height=3.6)
    for i, (method, (dice, value)) in enumerate(sorted(points.items(), key=lambda x: -x[1][0])):
        star = method == "supervised"
        ax.plot(
            100 * dice,
            value,
            "*" if star else "osD^vPX<>hp"[i % 11],
            ms=13 if star else 7,
            color="black" if star else None,
            label="the baseline" if star else survey.find(method).name,
        )
    ax.set(xlabel="test Dice (%)", ylabel=view)
    ax.set_ylim(0, 1.12 * max(value for _, value in points.values()))
    ax.margins(x=0.12)
    fig.legend(loc="outside right upper", fontsize=8)
    base = points.get("supervised", (np.nan, np.nan))
    least = min(points, key=lambda m: points[m][1])
    return show.figure(
        fig,
        alt=f"{view} against Dice for {len(points)} arms: the baseline has {base[1]:.0f}, the least is "
        f"{points[least][1]:.0f} of {survey.title(least)}.",
    )


views = [v for v, (p, column, scale) in VIEWS.items() if len(beside(p, column, scale)) > 1]
show.explore(
    plane,
    view=views,
    limit=110_000,
    alt="Plausibility, or Betti error, against Dice, one mark a technique.",
)

# %%
for protocol, column, scale, methods in (
    ("cardiac-3", "implausible", 100, ("post-dae", "acnn", "cvae-warp", "ssm-pca")),
    ("vessels-1", "betti", 1, ("prior-topology",)),
):
    base = beside(protocol, column, scale).get("supervised")
    for method in methods:
        if method in beside(protocol, column, scale) and base is not None:
            value = study.difference(results, protocol, method, "supervised", column)
            overlap = study.difference(results, protocol, method, "supervised")
            print(
                f"{survey.find(method).name:<34} {column} {base[1]:5.1f} {scale * value.mean:+6.1f} "
                f"[{scale * value.low:+6.1f}, {scale * value.high:+6.1f}]   Dice {100 * overlap.mean:+5.1f} "
                f"[{100 * overlap.low:+5.1f}, {100 * overlap.high:+5.1f}]"
            )

# %% [markdown]
# ## What the scoreboard says
#
# Counted by the interval of the paired difference alone, chapter by chapter:

# %%
for page, words in PAGES.items():
    lines = [(p, x) for p in present for x in arms(p, (page,))]
    if lines:
        count = {v: sum(x.verdict == v for _, x in lines) for v in ("better", "undecided", "worse")}
        print(f"\n{words}: " + ", ".join(f"{n} {v}" for v, n in count.items()))
        for p, x in sorted(lines, key=lambda pair: -pair[1].closed)[:2]:
            low, high = (100 * d for d in (x.difference.low, x.difference.high))
            print(
                f"  {survey.find(x.method).name:<38} {PLACES[p]:<22} {100 * x.difference.mean:+5.1f} [{low:+5.1f}, {high:+5.1f}] "
                f" gap closed {x.closed:4.0%}"
            )

# %% [markdown]
# The next paragraphs are about these numbers, and a cell holds them to it: if a later edition of the results contradicts
# them, it fails, and they have to be written anew.

# %%
FIXED = [
    # protocol, arm, control, column, and what the interval of the difference says
    ("cardiac-3", "pretrain-finetune", "pretrain-finetune:source='random'", "dice", "above"),
    ("cardiac-3", "pretrain-finetune", "supervised", "dice", "open"),
    ("cardiac-3", "tajbakhsh-ft", "supervised", "dice", "open"),
    ("acdc-3", "pretrain-finetune", "supervised", "dice", "open"),
    ("cardiac-3", "transfusion", "pretrain-finetune:source='random'", "dice", "open"),
    ("cardiac-3", "adv-aug-general", "supervised", "dice", "open"),
    ("brain-paired", "eagan", "supervised", "dice", "above"),
    ("cardiac-3", "supervised", "aug-warp:strength=0", "dice", "above"),
    ("cardiac-3", "aug-warp", "supervised", "dice", "open"),
    ("cardiac-3", "aug-intensity", "supervised", "dice", "below"),
    ("cardiac-3", "aug-erasing", "supervised", "dice", "below"),
    ("cardiac-3", "aug-mixup", "supervised", "dice", "open"),
    ("cardiac-3", "aug-cutmix", "supervised", "dice", "open"),
    ("brain-1", "zhao-oneshot", "atlas-single", "dice", "above"),
    ("brain-1", "zhao-oneshot", "supervised", "dice", "open"),
    ("brain-1", "zhao-oneshot", "supervised", "implausible", "below"),
    ("brain-1", "lt-net", "atlas-single", "dice", "open"),
    ("brain-1", "atlas-single", "supervised", "dice", "below"),
    ("brain-1", "ito-em", "atlas-single", "dice", "above"),
    ("brain-1", "ito-em", "supervised", "dice", "open"),
    ("brain-1", "deeprs", "atlas-single", "dice", "above"),
    ("brain-1", "chi-deform", "atlas-single", "dice", "above"),
    ("brain-1", "deepatlas", "atlas-single", "dice", "above"),
    ("cardiac-3", "post-dae", "supervised", "implausible", "below"),
    ("cardiac-3", "post-dae", "supervised", "dice", "below"),
    ("acdc-3", "post-dae", "supervised", "implausible", "below"),
    ("acdc-3", "post-dae", "supervised", "dice", "open"),
    ("cardiac-3", "cvae-warp", "supervised", "implausible", "below"),
    ("cardiac-3", "cvae-warp", "supervised", "dice", "below"),
    ("cardiac-3", "ambellan-ssm", "supervised", "implausible", "below"),
    ("cardiac-3", "ambellan-ssm", "supervised", "dice", "open"),
    ("cardiac-3", "ambellan-ssm", "ssm-pca", "dice", "above"),
    ("cardiac-3", "acnn", "supervised", "implausible", "open"),
    ("vessels-1", "prior-topology", "supervised", "betti", "below"),
    ("vessels-1", "prior-topology", "supervised", "dice", "below"),
    ("cardiac-3", "prob-atlas-concat", "prob-atlas-concat:informed=False", "dice", "open"),
    ("cardiac-3", "curriculum-data", "curriculum-data:order='random'", "dice", "open"),
    ("lesions-5", "cased", "cased:sampling='uniform'", "dice", "open"),
    ("cardiac-3", "kervadec-curr", "supervised", "dice", "below"),
]
for protocol, arm, control, column, says in FIXED:
    mean, low, high = study.difference(results, protocol, arm, control, column)
    side = "above" if low > 0 else "below" if high < 0 else "open"
    print(
        f"{survey.title(arm)} - {survey.title(control)}, {column}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    )
    assert side == says, (arm, control, column, side)


imagenet, random = "pretrain-finetune", "pretrain-finetune:source='random'"
assert (
    min(study.paired(results, "cardiac-3", imagenet, random))
    > 0.2
    > 0
    > min(study.paired(results, "cardiac-3", imagenet, "supervised"))
)
assert min(study.paired(results, "brain-1", "zhao-oneshot", "atlas-single")) > 0.2
assert max(study.paired(results, "cardiac-3", "aug-warp:strength=0", "supervised")) < 0
closed = {x.method: x.closed for x in arms("cardiac-3")}
assert 0.3 < closed["pretrain-finetune"] < 0.4 < closed["tajbakhsh-ft"] < 0.6
assert min(study.paired(results, "cardiac-3", "tajbakhsh-ft", "supervised")) < 0
assert min(study.paired(results, "acdc-3", "pretrain-finetune", "supervised")) < -0.4
assert max(study.paired(results, "cardiac-3", "kervadec-curr", "supervised")) < 0
assert min(study.paired(results, "cardiac-3", "adv-aug-general", "supervised")) > 0
better = [x.method for p in present for x in arms(p) if x.verdict == "better"]
assert better == ["eagan"]
assert next(x.closed for x in arms("brain-paired")) > 0.5
half = [
    beside("cardiac-3", "implausible", 1)[m][1] for m in ("post-dae", "cvae-warp", "supervised")
]
assert max(half[:2]) < half[2] / 2

# %% [markdown]
# **Other people's images.** A network that starts from ImageNet closes a third of the gap on the heart, and about half of it if only the
# last three of the transferred layers are tuned (Tajbakhsh). These are the highest bars of the heart's list, and their intervals over three draws are too
# wide to promise anything: each has a draw below the baseline, and on patients one draw of three lost more than forty
# points. The controls are clear, though. The same network from random weights fails with three patients, and *every* draw has more than twenty points
# between the two. Nor is it the scale of the weights: redrawn at random with ImageNet's means and deviations, as in Transfusion, they are
# level with plainly random ones. So what the weights have *learnt* is worth a great deal, and the network they belong to is a poor choice without it: large, and
# made for photographs. Ask of any paper on transfer which of the two comparisons it makes.
#
# **Invariances.** The cheapest knowledge is still the best bargain. Take the usual augmentation away from the baseline, and it
# loses on every draw. Of its parts, the warps alone do as well as the whole. Intensities alone, and erased rectangles alone, are
# worse than the baseline with their whole intervals: they do not say that a heart may lie elsewhere, and be larger. Mixing two
# images keeps up with the baseline. Warps and intensities chosen by an adversary, to make the loss as large as they can, are above the baseline on
# every draw, by little.
#
# **Another scanner.** Where two scanners have seen the same brains, a translator from one to the other can be learnt pixel by pixel, and Ea-GAN closes most
# of a small gap. It is the only technique of this page that is better than its baseline with its whole interval. Without such pairs, nothing
# that was run under the shift of scanners could be told from the baseline.
#
# **An atlas.** One labelled brain, moved onto another, stays far below a network trained on the same slices. The phantom's brains
# fold differently, and no smooth motion makes one of them another; besides, an atlas slice has to be found for each slice.
# A correspondence that can be travelled back (LT-Net) is no better here than one that cannot. But look at what the moved brains are
# good for when a *network* learns from them. As extra training images (learned transforms), or as doubtful labels of the other brains
# (Ito's expectation-maximisation, DeepRS, Chi, DeepAtlas), they are above propagation with their whole intervals; the first and
# the second are level with the baseline in Dice, and the learned transforms are less often implausible. A network forgives the errors
# of registration that do not repeat.
#
# **Shapes.** Here Dice and anatomy part. The denoising autoencoder and the variational one take away far more than half of the
# implausible masks, with their whole intervals, and both pay for it in Dice: what they put in the place of an impossible heart is
# a possible one, not the patient's. On patients of ACDC the denoising autoencoder does as much for plausibility, and its price in Dice, if any, is too small
# for three draws. The adjusted shape model of Ambellan and colleagues is the exception. It keeps the
# network's answer near the model's outline, removes some of the implausible masks, and shows no loss of overlap. A constraint in the *loss*, as ACNN
# has it, changed neither number: with three patients there are few wrong shapes to learn from while training.
#
# **Topology.** The skeleton loss does just what it says. Vessels have fewer breaks and stray pieces, with the whole interval, and
# overlap falls by two points, with the whole interval as well. Which of the two you want depends on what
# is done with the vessels next.
#
# **An order.** On the heart, easy first was no better than the same schedule in a random order. Sizes first (Kervadec) lost on every draw: the sizes that a network
# predicts from three patients are wrong, and the segmenter is held to them. For lesions, CASED is above
# uniform patches on average, and its interval contains zero.
#
# A warning as on the sister page: three draws, one recipe, small networks, four hundred steps. And a phantom has the anatomy that
# somebody wrote into it. A prior that is learnt from three of its patients is tested on the same kind of patient.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A network that starts from ImageNet is 4 points above the baseline. The same network from random weights is 5 points above "
    "it. What did ImageNet buy?",
    {
        "4 points.": "They come with the network; it has them without ImageNet.",
        "Nothing that this comparison shows.": "The control has the same network, and is no worse.",
        "It cost 1 point, for certain.": "That needs an interval of the difference between the two, not two means.",
    },
    correct="Nothing that this comparison shows.",
)

# %%
quiz(
    "A shape prior lowers the share of implausible masks from 60 % to 5 %, and Dice by 20 points. Is it useful?",
    {
        "Yes, plausibility is what it was made for.": "An empty mask is perfectly plausible.",
        "No, Dice is what counts.": "Dice hardly notices a second ventricle of four pixels. A surgeon does.",
        "Not as it is: it repairs masks into the anatomy of somebody else.": "What it puts out is a heart, but not "
        "this patient's. The two numbers have to be read together.",
    },
    correct="Not as it is: it repairs masks into the anatomy of somebody else.",
)

# %% [markdown]
# ## Exercises
#
# **1. Another control.** Zhao's one-shot augmentation is compared with single-atlas propagation above. Name what else differs
# between the two, besides the learned transforms, and say which run would separate it.
#
# ```{dropdown} Hint
# Which of the two trains a segmentation network at all?
# ```
# ```{dropdown} Solution
# Propagation moves one mask and trains no segmenter. Augmentation trains a U-Net, on moved masks. So a part of the difference
# may be what a U-Net makes of *any* moved masks. The run that separates it: the same U-Net on the atlas moved by random smooth
# fields, which is the baseline with its usual augmentation; its number stands in the same list.
# ```
#
# **2. Two priors at once.** Choose a technique of the list that works on the images and one that works on the masks. Would you
# expect their gains to add up? Say why, and which three arms an experiment needs.
#
# ```{dropdown} Hint
# What is the error that each one removes?
# ```
# ```{dropdown} Solution
# If they remove different errors (contrast that was never seen; stray islands), about; if the same, no. The arms are: each alone,
# and both. The *interaction*, both minus each alone plus the baseline, needs an interval of its own, which is wider than any of the
# four.
# ```
#
# **3. Your own court.** Write a protocol for a problem you know: how many masks, which other knowledge, which number judges. Which
# two techniques of this part would you run first, and with which controls?
#
# ```{dropdown} Hint
# Begin with the number that judges.
# ```
# ```{dropdown} Solution
# There is no single answer, but there are wrong ones: a court without a control, a judge that the technique optimises directly, and
# more techniques than you can give three seeds each.
# ```

# %% [markdown]
# ## Take away
#
# - Judge a technique where it was made to work, and against a control that lacks nothing but the idea.
# - Knowledge that is wrong for the patient at hand does harm, and Dice may be the last to notice.
# - Cheap knowledge first: augmentation costs a line.
#
# **Reading.** {cite:t}`raghu2019transfusion` is the model of an honest control; {cite:t}`larrazabal2020post` and
# {cite:t}`painchaud2020cardiac` measure plausibility; {cite:t}`peng2021medical` is the map.
