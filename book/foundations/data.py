# %% [markdown]
# # The data
#
# <!-- badge -->
#
# **You will learn**
#
# - which cohorts this book trains on, and why most of them are made, not collected;
# - how a phantom is made, and what its two scanners change;
# - how hard each cohort is: what few labels leave to gain;
# - how to bring real data, public or your own, through the same door.
#
# **You should know** what a mask costs ([the price of a label](price)) and why one splits by subject
# ([measuring honestly](measuring)).

# %% tags=["setup"]

# %%
import numpy as np
import torch

from lsseg_edu import show, study
from lsseg_edu.data import IGNORE, Cohort, Task, load, phantoms, public
from lsseg_edu.learn import quiz

# %% [markdown]
# ## Why phantoms
#
# Medical images come with registrations, licences and gigabytes. A book that starts with a download that fails is a
# book that is closed. So the default data come **with the package**: six phantoms, drawn by programs from a seed, in
# seconds, on any machine, offline.
#
# A phantom has one more virtue. Its masks are **exact**: the program knows where it drew the heart. When a chapter
# corrupts labels on purpose, or claims that a method found the truth against its labels, there is a truth to check.
#
# It has one vice as well: it is not a patient. What wins on a phantom has to be shown on patients too; that is what the
# [scoreboard](../scoreboard/scoreboard)'s rows on real cardiac MR are for.

# %%
cohorts = {name: load(name, subjects=12) for name in phantoms.FEW}
for cohort in cohorts.values():
    print(cohort)

# %% [markdown]
# ## The six
#
# Choose a cohort. Each column is another subject; below, the same image with its mask.


# %%
def gallery(cohort):
    c = cohorts[cohort]
    area = (c.labels > 0).flatten(1).sum(1)
    shown = [int((area * (c.subjects == s)).argmax()) for s in c.subjects.unique()[:5]]
    images, labels = c.images[shown], c.labels[shown]
    return show.images(
        images.repeat(2, 1, 1, 1),
        labels=torch.cat([torch.zeros_like(labels), labels]),
        names=c.names,
        columns=5,
        alt=f"Five subjects of the {cohort} phantom, without and with the outlines of {', '.join(c.names[1:])}.",
    )


show.explore(
    gallery,
    cohort=list(cohorts),
    limit=170_000,
    alt="Five subjects of each phantom with their masks.",
)

# %% [markdown]
# | cohort | what it imitates | what makes it hard |
# |---|---|---|
# | `cardiac` | short-axis cine MR at two moments of the beat | thin muscle, neighbours as bright as blood, base and apex |
# | `brain` | T1 MR; the anatomy is **real**, the MNI152 template, each subject a random deformation of it | folded surfaces, partial volume, contrast that changes with the scanner |
# | `abdomen` | CT at several contrast phases | organs that touch, organs that are small, organs that a slice lacks |
# | `nuclei` | histology, stained; fluorescence as its second scanner | stains that differ from slide to slide, nuclei that touch |
# | `vessels` | photographs of the retina | lines one pixel wide, distractors that look like them |
# | `lesions` | lung CT with lesions of very unequal size | most pixels are background, most lesions are tiny |
#
# Every subject brings several items, and subjects differ far more from one another than the items of one subject do.
# That is what makes three labelled subjects *few*, however many slices they have.

# %% [markdown]
# ## Two scanners
#
# The same subjects can be seen by scanner `A` or scanner `B`: the anatomy stays, the appearance does not.

# %%
pairs = {name: [load(name, subjects=2, scanner=scanner) for scanner in "AB"] for name in cohorts}


def scanners(cohort, subject):
    both = []
    for c in pairs[cohort]:
        mine = (c.subjects == c.subjects.unique()[subject]).nonzero()[:, 0]
        area = (c.labels[mine] > 0).flatten(1).sum(1)
        both.append(c.select(mine[area.argmax()].view(1)))
    return show.images(
        torch.cat([c.images for c in both]),
        labels=torch.cat([c.labels for c in both]),
        titles=["scanner A", "scanner B"],
        names=both[0].names,
        alt=f"Subject {subject} of the {cohort} phantom, seen by scanner A and by scanner B.",
    )


show.explore(
    scanners,
    cohort=list(cohorts),
    subject=[0, 1],
    limit=150_000,
    alt="The same subject seen by two scanners, for each phantom.",
)

# %% [markdown]
# ## Cohort and Task
#
# Everything in this book speaks of two things. A **Cohort** is images, labels and whose they are. A **Task** is a cohort
# split by subject, together with the supervision that is left: where nobody annotated, the training label is `IGNORE`.

# %%
task = Task.split(load("cardiac"), labelled=3, seed=0)
print(task)
print(
    f"annotated pixels of the training images: {(task.train.labels != IGNORE).float().mean():.1%}"
)
print(
    "subjects in two parts:", set(task.train.subjects.tolist()) & set(task.test.subjects.tolist())
)

# %% [markdown]
# The labels of the other sixty-seven are not merely unused, they are not *there*: a method cannot look at them by accident.
# The seed draws who is labelled. The test subjects do not depend on it.

# %% [markdown]
# ## How hard is it?
#
# A cohort on which three labels do as well as seventy teaches nothing about learning with less. So here is the gap, in Dice on
# the test subjects, between the few labels that each cohort's protocol allows and all labels. Several seeds; each draws other
# labelled subjects.

# %%
results, gaps = study.read(), {}
for name in study.PROTOCOLS:
    lines = {line.method: line for line in study.summary(results, name)}
    if study.protocol(name).weaken is None and {"supervised", "full-labels"} <= lines.keys():
        few, full = lines["supervised"], lines["full-labels"]
        gaps[name] = tuple(100 * x for x in full.difference)
        print(f"{name:<12} few labels {few.dice}   all labels {full.dice}")
show.bars(
    gaps,
    xlabel="Dice points lost by few labels",
    lines={"0": 0, "10": 10},
    alt="What few labels cost on each cohort: "
    + "; ".join(f"{name} {mean:.0f} points" for name, (mean, _, _) in gaps.items()),
)

# %% [markdown]
# ## Real data
#
# The same door opens to public data sets. The library prints the licence and whom to cite, checks what it downloads against a
# checksum, and tells you what to do where a registration stands in between.

# %%
for name in public.SOURCES:
    print(public.about(name), "\n")

# %% [markdown]
# ```python
# task = public.task("hippocampus", labelled=4, seed=0)   # downloads 27 MB on the first call
# ```
#
# If you have prepared `.npz` files in a folder, name the folder in the environment variable `LSSEG_EDU_DATA`, and no download is
# tried. The results on ACDC in this book were measured in that way: 64x64 pixels around the heart, a region that is found **without
# looking at a label**. The heart is what moves between the two frames.

# %% [markdown]
# ## Your own data
#
# Arrays in, cohort out:

# %%
rng = np.random.default_rng(0)
scans = rng.normal(size=(6, 48, 48))
masks = (scans > 1.5).astype(int)
mine = Cohort.from_arrays(
    scans, masks, subjects=[0, 0, 1, 1, 2, 2], names=["tissue", "spot"], name="mine"
)
mine

# %% [markdown]
# Data that are wrong in one of the usual ways are refused with a sentence, before a training is wasted on them:

# %%
broken = scans.copy()
broken[3, 10, 10] = np.nan
attempts = {
    "a NaN": lambda: Cohort.from_arrays(broken, masks),
    "a label too many": lambda: Cohort.from_arrays(scans, masks * 2, names=["tissue", "spot"]),
    "floating point masks": lambda: Cohort.from_arrays(scans, masks.astype(float)),
    "shapes that differ": lambda: Cohort.from_arrays(scans[:, :-1], masks),
    "too many for test": lambda: Task.split(mine, valid=1, test=2),
    "one subject on both sides": lambda: Task(mine, mine.of([0]), mine.of([1])),
}
for what, attempt in attempts.items():
    try:
        attempt()
    except ValueError as error:
        print(f"{what}: {error}\n")

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A colleague normalises all images of a cohort by the cohort's mean and deviation before splitting it. What leaks?",
    {
        "Nothing: no label was used.": "Leakage is about test *subjects*, not only about their labels.",
        "A little of the test images enters every training image.": "Mean and deviation were computed with them. It is a "
        "small leak, but one that is easy to avoid: the library normalises each subject by itself.",
        "The test labels.": "They were not touched.",
    },
    correct="A little of the test images enters every training image.",
)

# %% [markdown]
# ## Exercises
#
# **1. Slices are not subjects.** The cardiac phantom has twelve items per subject. Somebody reports results "with 36 labelled
# images". Which two very different experiments could that be?
#
# ```{dropdown} Hint
# Thirty-six is three times twelve.
# ```
# ```{dropdown} Solution
# Three subjects with all twelve slices, or thirty-six subjects with one slice each. The second covers far more anatomy for
# the same number of masks. Always report labelled *subjects*, and how many images each contributes.
# ```
#
# **2. The other scanner.** Train on scanner A, test on scanner B. Which cohort would you expect to suffer most? Look at the figure
# first, then try it.
#
# ```{dropdown} Hint
# `test = load(name, scanner="B")`, and `evaluate(fitted, test.of(task.test.subjects.unique()))` keeps the same test subjects.
# ```
# ```{dropdown} Solution
# The one whose appearance changes most, which for `nuclei` means another imaging physics altogether. Augmentation of
# intensities covers small changes of contrast, not an inversion of it.
# ```
#
# **3. A phantom that is too easy.** How would you notice that a phantom misleads you about a method, if you had no real data at all?
#
# ```{dropdown} Hint
# What did the table of gaps tell you?
# ```
# ```{dropdown} Solution
# If few labels already reach what all labels reach, every method looks equal. If the ranking of methods turns around when
# you change the scanner, the noise or the number of subjects, it is a property of the phantom. In the end there is no substitute for
# a few real cases with good masks, kept for the last look.
# ```

# %% [markdown]
# ## Take away
#
# - Phantoms: offline, exact, and not patients. Believe what holds on both.
# - Split by subject; labels that are not given are not there.
# - Know the gap before you try to close it.
#
# **Reading.** {cite:t}`bernard2018deep` for ACDC, {cite:t}`antonelli2022medical` for the Medical Segmentation Decathlon,
# {cite:t}`xiong2021global` for the left atrium, {cite:t}`fonov2011unbiased` for the MNI152 template.
