# %% [markdown]
# # Measuring honestly
#
# <!-- badge -->
#
# **You will learn**
#
# - what Dice, HD95 and ASSD see, what each is blind to, and how to count what none of them sees;
# - how one and the same prediction gets five different scores;
# - how a patient on both sides of the split inflates a score, by experiment;
# - how many seeds a claim needs, why pairing helps, and what a fair comparison is.
#
# **You should know** what a segmentation is ([the price of a label](price)) and how one is trained
# ([the baseline](baseline)).

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage, stats

from lsseg_edu import networks, show, study
from lsseg_edu.data import Cohort, Task, annotate, load
from lsseg_edu.evaluate import (
    evaluate,
    expected_calibration_error,
    interval_over_seeds,
    paired_bootstrap,
    score,
)
from lsseg_edu.learn import quiz
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"))
task

# %% [markdown]
# ## Overlap and distance
#
# Let $P$ be the pixels that a network gives to a class and $Y$ those that truly have it. The **Dice**
# score is their overlap, as a fraction of their mean size:
#
# $$
# \mathrm{Dice} = \frac{2\,|P \cap Y|}{|P| + |Y|} .
# $$
#
# It does not care *where* the wrong pixels are. For that one measures distances between the two
# boundaries, $\partial P$ and $\partial Y$. Take every boundary point of one, look for the nearest of
# the other, in both directions. The mean of all these distances is the **ASSD** (average symmetric
# surface distance). The larger of the two 95th percentiles is the **HD95**: nearly the worst
# distance, but deaf to the worst twentieth.
#
# Below are two round objects, a large and a small one. Choose a mistake, and how many pixels of it.

# %%
SIDE = 96
rows, columns = np.mgrid[:SIDE, :SIDE]
OBJECTS = {
    "large": (rows - 40) ** 2 + (columns - 36) ** 2 <= 22**2,
    "small": (rows - 64) ** 2 + (columns - 76) ** 2 <= 5**2,
}


def mistake(mask, kind, pixels):
    """A prediction that is wrong in one way only."""
    if pixels == 0:
        return mask
    if kind == "shifted":
        return np.roll(mask, pixels, axis=1)
    if kind == "a speck far away":
        speck = (rows - 84) ** 2 + (columns - 16) ** 2 <= pixels**2
        return mask | speck
    change = {"too small": ndimage.binary_erosion, "too large": ndimage.binary_dilation}[kind]
    return change(mask, iterations=pixels)


images = np.stack([ndimage.gaussian_filter(mask.astype(float), 1) for mask in OBJECTS.values()])
stage = Cohort.from_arrays(images, np.stack(list(OBJECTS.values())))


def measured(kind, pixels):
    predicted = np.stack([mistake(mask, kind, pixels) for mask in OBJECTS.values()])
    report = score(torch.from_numpy(predicted).long(), stage)
    fig, axes = show.subplots(1, 2, height=3.1)
    words = []
    for i, (ax, name) in enumerate(zip(axes, OBJECTS, strict=True)):
        show.overlay(ax, stage.images[i], stage.labels[i], predicted[i].astype(int), fill=True)
        dice, hd95, assd = (m[i, 0] for m in (report.dice, report.hd95, report.assd))
        words.append(f"Dice {dice:.2f}, HD95 {hd95:.1f} px, ASSD {assd:.1f} px")
        ax.set_title(f"{name}\n{words[-1]}")
        ax.axis("off")
    return show.figure(
        fig, alt=f"Two discs, {kind} by {pixels} pixels. Large: {words[0]}. Small: {words[1]}."
    )


show.explore(
    measured,
    kind=["shifted", "too small", "too large", "a speck far away"],
    pixels=[0, 1, 2, 4, 6],
    labels={"kind": "mistake"},
    limit=120_000,
    alt="A large and a small disc with the same mistake, and their scores.",
)

# %% [markdown]
# Things to find with the controls:
#
# - the **same** two pixels cost the small object far more Dice than the large one. A Dice of 0.8 is
#   poor for a liver and fine for a lesion: never compare it across classes of different size;
# - distances treat both alike. They have units, millimetres on real images, and need the spacing;
# - a **speck** far away hardly touches the Dice of the large object. HD95 jumps only when the speck is
#   more than a twentieth of the boundary, ASSD creeps up at once;
# - shrunk by six pixels, the small object is **gone**. What is the distance to nothing?

# %% [markdown]
# ## Empties
#
# There is none. If one of the two masks is empty, no boundary can be measured, and the score of that
# image is *undefined*, for the distances always, for Dice only if both are empty ($0/0$). Some code
# writes 0 here. For Dice that is harsh where both are empty; for HD95 it is absurd, because 0 is the
# best value there is: **a network that predicts nothing would win.** Our `score` leaves such values
# out, as NaN, and counts them in a column of their own. Watch the count together with the mean:

# %%
nothing = torch.zeros_like(task.valid.labels)
print(score(nothing, task.valid))

# %% [markdown]
# Dice is 0, as it should be. HD95 and ASSD are undefined, and the last column says on how many slices.
#
# ## One prediction, five scores
#
# The metric is not yet the number in the table: it must be averaged, and there lies more freedom than
# between most methods. Take one fixed prediction of the validation patients, the masks of a hasty
# rater who also overlooks small parts. Here are five ways to average its Dice.

# %%
valid = task.valid
careless = annotate.Style(ragged=1.2, coarse=2.0, miss=60.0)
predicted = annotate.rate(valid.labels, careless, seed=0)


def per_slice(empty_both, empty_one=0.0, first=1):
    """Mean Dice over slices and classes from ``first`` on; what an empty mask scores is a choice."""
    scores = []
    for k in range(first, valid.classes):
        p, y = (predicted == k).flatten(1), (valid.labels == k).flatten(1)
        size, both = p.sum(1) + y.sum(1), (p & y).sum(1)
        dice = torch.where(size > 0, 2 * both / size, empty_both)
        one = (p.any(1) != y.any(1)) & (size > 0)
        scores.append(torch.where(one, empty_one, dice))
    return float(torch.stack(scores).nanmean())


ways = {
    "pooled per patient, organs only": score(predicted, valid, surfaces=False).mean_dice,
    "per slice, empty pairs left out": per_slice(torch.nan),
    "per slice, empty pairs score 1": per_slice(1.0),
    "per slice, every empty left out": per_slice(torch.nan, torch.nan),
    "the same, background is a class": per_slice(torch.nan, torch.nan, first=0),
}
fig, ax = show.subplots(height=2.4)
ax.barh(list(ways), ways.values(), color="#0072B2", height=0.6)
for row, value in enumerate(ways.values()):
    ax.text(value + 0.003, row, f"{value:.3f}", va="center")
ax.set(xlim=(0.5, 1), xlabel='"the Dice" of one prediction')
ax.invert_yaxis()
show.figure(
    fig,
    alt="Five bars for one prediction: " + "; ".join(f"{w} {v:.3f}" for w, v in ways.items()) + ".",
)

# %% [markdown]
# The same pixels each time. This book uses the first line, for these reasons:
#
# - **Pooled per patient.** The pixels of all slices of a patient are counted together, then divided. A
#   patient is what a doctor treats, what was sampled, and what is independent of the next one. Slices
#   are not, and a slice at the tip of the heart, with nine pixels of it, would weigh as much as one
#   through the middle.
# - **Organs only.** Background fills most of the image and is almost always right. As a "class" it
#   adds a term near 1 to every mean, and a quarter of the progress disappears.
# - **Empties counted**, not scored.
#
# For the survey of what can go wrong with metrics, and which to choose for which question, see
# {cite:t}`maierhein2024metrics`.

# %% [markdown]
# ## Leakage
#
# A cohort of slices arrives: images, masks, and no patient numbers. Someone shuffles the slices, trains
# on half of them and tests on the other half. What is wrong? The neighbours of every test slice,
# millimetres away, are in the training set. The score is then partly one of *memory*.
#
# The library refuses this if it can see it:

# %%
pool = task.train.of(task.train.subjects.unique()[:6])
half = len(pool) // 2
shuffled = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))
try:
    Task(pool.select(shuffled[:half]), valid, pool.select(shuffled[half:]))
except ValueError as refusal:
    print(refusal)

# %% [markdown]
# So we do what the shuffler did, and lose the patient numbers. The experiment: six patients; half of
# their slices to train on, the other half to test on, once split **by slice**, once **by patient**.
# Everything else is equal, the number of training slices too. And because these are phantoms, we can
# do what no study can: ask ten new patients whether the test score told the truth.

# %% tags=["nbval-ignore-output"]
anonymous = replace(pool, subjects=1000 + torch.arange(len(pool)))
orders = {"by slice": shuffled, "by patient": pool.subjects.argsort(stable=True)}
fitted, own, new = {}, {}, {}
for split, order in orders.items():
    one = Task(anonymous.select(order[:half]), valid, anonymous.select(order[half:]))
    fitted[split] = fit(Supervised(networks.unet(one, seed=0)), one, budget, seed=0)
    own[split] = evaluate(fitted[split], pool.select(order[half:]), surfaces=False)
    new[split] = evaluate(fitted[split], valid, surfaces=False)
    claimed, true = own[split].mean_dice, new[split].mean_dice
    print(
        f"split {split:<10}  claimed Dice {claimed:.3f}   on new patients {true:.3f}   "
        f"too high by {claimed - true:+.3f}"
    )

# %% tags=["nbval-ignore-output"]
fig, ax = show.subplots(height=2.6)
for row, split in enumerate(orders):
    for shift, report, shade in ((-0.14, own[split], "#D55E00"), (0.14, new[split], "#0072B2")):
        ax.plot(
            report.per_subject,
            np.full(len(report.per_subject), row + shift),
            "o",
            color=shade,
            alpha=0.5,
        )
        ax.plot(report.mean_dice, row + shift, "|", color="black", ms=22, mew=2)
ax.plot([], [], "o", color="#D55E00", label="test patients of the split")
ax.plot([], [], "o", color="#0072B2", label="new patients")
ax.set(
    yticks=[0, 1],
    yticklabels=[f"split {split}" for split in orders],
    ylim=(1.5, -0.5),
    xlabel="Dice of a patient",
)
fig.legend(loc="outside upper center", ncols=2)
show.figure(
    fig,
    alt="Dice of each patient. Split by slice: "
    f"mean {own['by slice'].mean_dice:.2f} on its own test slices, {new['by slice'].mean_dice:.2f} on new patients. "
    f"Split by patient: {own['by patient'].mean_dice:.2f} and {new['by patient'].mean_dice:.2f}.",
)

# %% [markdown]
# Look at the gap within each row, not between the rows. The two networks differ for an honest reason:
# the slices of the first come from twice as many patients, so it *is* the better one. But its own test
# says it is better still, and that surplus will not be there on Monday's patients. The test by patient
# has no such surplus; with three test patients it is merely *uncertain*, which the spread shows.
#
# Patients are the coarse form of this. The same happens with two scans of one patient, two fields of
# one tissue section, two frames of one film, and with anything fitted before the split: a
# normalisation over all images, a crop around the true mask, a hyper-parameter.

# %% [markdown]
# ## Calibration
#
# A probability of 0.8 is a claim: among a hundred such pixels, about eighty are right. The **expected
# calibration error** puts pixels in bins $B_b$ by the probability of their predicted class, and
# averages the difference between claim and truth {cite:p}`guo2017calibration`:
#
# $$
# \mathrm{ECE} = \sum_b \frac{|B_b|}{N} \,\big|\, \mathrm{accuracy}(B_b) - \mathrm{confidence}(B_b) \big| .
# $$

# %% tags=["nbval-ignore-output"]
probs = fitted["by patient"].predict(valid.images)
confidence, guess = probs.max(1)
body = (valid.labels > 0) | (guess > 0)
ticks = torch.linspace(0.25, 1, 11)
which = torch.bucketize(confidence[body], ticks[1:-1])
right = (guess == valid.labels)[body].float()
pixels = which.bincount(minlength=10).clamp(min=1)
accuracy = which.bincount(right, minlength=10) / pixels
claim = which.bincount(confidence[body], minlength=10) / pixels
seen = which.bincount(minlength=10) >= 20
everywhere = expected_calibration_error(probs, valid.labels)
within = expected_calibration_error(probs, valid.labels.where(body, 255))
print(f"ECE over all pixels: {everywhere:.3f};  where heart is or is predicted: {within:.3f}")
fig, ax = show.subplots(width=4.2, height=3)
ax.plot([0.25, 1], [0.25, 1], ":", color="black", label="calibrated")
ax.plot(claim[seen], accuracy[seen], "o-", color="#0072B2", label="this network")
ax.set(xlabel="claimed probability", ylabel="fraction right")
ax.legend()
show.figure(
    fig,
    alt="Fraction of right pixels over the claimed probability, for pixels of the heart; below the "
    f"diagonal the network claims too much. Expected calibration error {within:.2f}.",
)

# %% [markdown]
# Two lessons. Where the line runs below the diagonal the network is too sure of itself, as networks that were
# trained on few patients tend to be; that is the reason why [pseudo-labels](../semi/consistency) need care. And compare the two
# numbers: over all pixels the error looks small, because background is easy and sure. It is the background
# class all over again. Always say over which pixels.

# %% [markdown]
# ## Seeds and intervals
#
# Train again with another seed, and the score changes. With few labels it changes a lot, mostly because
# *other patients* were labelled. One run of a method against one run of a baseline is a coin toss with
# a story. What does it take to see a true gain of two points?
#
# Below, twenty research groups each test the *same* method, whose true gain is 2 Dice points. The draw of
# the labelled patients moves a score by 4 points (standard deviation), all else by 1 point. Each line is the
# 95 % interval of one group. Choose the seeds, and whether method and baseline share their draws.

# %%
GAIN, DRAW, REST = 2.0, 4.0, 1.0


def groups(design, seeds):
    rng = np.random.default_rng(1)
    shared = rng.normal(0, DRAW, (20, seeds))
    other = shared if design == "paired" else rng.normal(0, DRAW, (20, seeds))
    method = GAIN + shared + rng.normal(0, REST, (20, seeds))
    baseline = other + rng.normal(0, REST, (20, seeds))
    fig, ax = show.subplots(height=3.2)
    found = 0
    for row, (a, b) in enumerate(zip(method, baseline, strict=True)):
        if design == "paired":
            mean, low, high = interval_over_seeds(a - b)
        else:
            mean, half = (
                a.mean() - b.mean(),
                np.sqrt(a.var(ddof=1) + b.var(ddof=1)) / np.sqrt(seeds),
            )
            half *= stats.t.ppf(0.975, 2 * seeds - 2)
            low, high = mean - half, mean + half
        clear = low > 0
        found += clear
        style = {"color": "#0072B2" if clear else "#999999", "lw": 2}
        ax.plot([low, high], [row, row], **style)
        ax.plot(mean, row, "o" if clear else "s", color=style["color"], ms=5)
    ax.axvline(0, color="black", lw=0.9)
    ax.axvline(GAIN, color="#D55E00", ls="--", label="true gain")
    ax.set(xlim=(-15, 19), yticks=[], ylabel="groups", xlabel="gain in Dice points, 95 % interval")
    ax.set_title(f"{found} of 20 groups see a gain (round, blue)")
    ax.legend(loc="lower right")
    return show.figure(
        fig, alt=f"Intervals of 20 groups, {design}, {seeds} seeds: {found} lie above zero."
    )


show.explore(
    groups,
    design=["unpaired", "paired"],
    seeds=[2, 3, 5, 10, 20],
    limit=120_000,
    alt="Intervals of twenty repetitions of the same study, around a true gain of 2 points.",
)

# %% [markdown]
# With two or three seeds the intervals are honest, and so wide that most groups see nothing. (They are
# Student's, which know how badly two numbers estimate a spread.) Two things help: more seeds,
# slowly, as $1/\sqrt{n}$; and **pairing**, at once. If seed 3 labels three difficult patients, it does so for
# both arms, and the difference $d_s = a_s - b_s$ does not contain them:
#
# $$
# \bar d \pm t_{0.975,\,n-1}\, \frac{s_d}{\sqrt n}, \qquad
# s_d^2 = s_a^2 + s_b^2 - 2\,\mathrm{cov}(a, b) .
# $$
#
# That is why `fit` draws the labelled batch from the seed alone, never from the method. How large is the
# spread in this book? From the rows of the scoreboard, for the baseline, and the seeds one would need to
# know its mean to within one point:

# %%
results = study.read()
print(f"{'protocol':<20}{'runs':>5}{'mean':>8}{'sd, points':>12}{'seeds for +-1 point':>22}")
for name in sorted(study.PROTOCOLS):
    runs = [
        r["dice"]
        for r in results
        if (r["method"], r["protocol"], r["options"]) == ("supervised", name, "")
    ]
    if len(runs) >= 3:
        spread = 100 * np.std(runs, ddof=1)
        need = next(
            n for n in range(2, 10_000) if stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n) <= 1
        )
        print(f"{name:<20}{len(runs):>5}{np.mean(runs):>8.3f}{spread:>12.1f}{need:>22}")

# %% [markdown]
# Patients vary too, and within one run they are paired by nature: both networks segment the same ones. The
# **paired bootstrap** draws the patients again and again with replacement, and looks how the mean
# difference moves {cite:p}`efron1979bootstrap`. For the two networks above, on the ten new patients:

# %% tags=["nbval-ignore-output"]
a, b = new["by slice"].per_subject, new["by patient"].per_subject
rng = np.random.default_rng(0)
draws = rng.integers(len(a), size=(2, 5000, len(a)))
apart = np.quantile(a[draws[0]].mean(1) - b[draws[1]].mean(1), [0.025, 0.975])
print(f"paired:   {paired_bootstrap(a, b)}")
print(f"unpaired: {a.mean() - b.mean():.3f} [{apart[0]:.3f}, {apart[1]:.3f}]")

# %% [markdown]
# The two intervals answer for different things. Over **patients**: would *these two networks* differ on
# other patients? Over **seeds**: would the *method* differ if the study were repeated? A claim about a
# method needs the second, and our tables give it.

# %% [markdown]
# ## Validation and test
#
# The test set may be looked at once. Every further look is a choice, and choosing is training by hand.
# Suppose forty variants of a method are all *equally good*. Each is measured on the same few patients, the
# best is reported. How much too high is its score?


# %%
def winners(patients, spread=8.0, studies=4000):
    """Of m equal variants, m = 1 .. 40: how much too high the best one's score is, in Dice points.

    First on the patients it was chosen on, then on as many others.
    """
    rng = np.random.default_rng(0)
    chosen_on, judged_on = rng.normal(0, spread / np.sqrt(patients), (2, studies, 40))
    best = [chosen_on[:, :m].argmax(1) for m in range(1, 41)]
    return [[scores[range(studies), b].mean() for b in best] for scores in (chosen_on, judged_on)]


show.curves(
    {f"scored where chosen, {n} patients": winners(n)[0] for n in (5, 10, 20)}
    | {"scored on 20 others": winners(20)[1]},
    xlabel="variants tried, m",
    ylabel="score too high by (points)",
    alt="The best of m equal variants looks better the more are tried: after forty, by several points on "
    "five patients, and still by some on twenty. Scored on other patients, it is not too high at all.",
)

# %% [markdown]
# (Here a variant's Dice varies by 8 points over patients, independently of the others. Variants that err
# on the same patients inflate less.) The cure costs nothing: **choose on validation, score on test**.
# The checkpoint is a choice as well. Our protocol takes the last iterate and chooses none. In a
# study with three labelled patients, be fair about the other side too: a validation set of ten fully
# annotated patients is more supervision than the method is said to need {cite:p}`oliver2018realistic`.

# %% [markdown]
# ## A fair comparison
#
# A technique is compared with a baseline, and the difference is to be *the idea*. So everything else
# must be shared. The list is made of mistakes that are in print or in public code:
#
# 1. **Same recipe.** Network, steps, batch, augmentation, schedule, averaging of weights, labelled
#    patients, seeds. A tuned recipe around an idea can earn the whole gain. Take the idea out and leave
#    the recipe: if the score stays, the idea did nothing. That arm is called a *control*.
# 2. **A baseline somebody cared for.** Weak augmentation is kind to every method that brings its own.
# 3. **The name is the mechanism.** If "the method" in the code lacks the step its paper is named for, the row
#    in the table measures something else.
# 4. **No look behind the curtain.** No crop around a true mask, no prompt taken from one, no
#    normalisation or threshold over the test images.
# 5. **Last iterate, or a choice on validation.** Never the best on test.
# 6. **Patients, not slices; organs, not background; empties counted.**
# 7. **Several draws and seeds, paired, with an interval.** And the upper reference beside it: a gain means
#    little without knowing how far the end of the road is.
# 8. **Show what failed.** A table where everything helps was filtered.
#
# The library is built so that the fair way is the short one: `fit(A(net), task, budget, seed)` and
# `fit(B(net), task, budget, seed)` share all but the method, and a [scoreboard](../scoreboard/scoreboard) row can be
# made by a protocol only.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "Network A has an HD95 of 6 mm, network B of 9 mm, on the same 20 patients. What must you ask before you prefer A?",
    {
        "Which of them has more parameters.": "Interesting, but not what makes the two numbers comparable.",
        "On how many images each predicted nothing.": "Those images have no distance. If A gave up on the "
        "difficult ones, its mean is over the easy ones.",
        "Whether the spacing was isotropic.": "It was the same for both.",
    },
    correct="On how many images each predicted nothing.",
)

# %%
quiz(
    "A study reports 0.86 for its method and 0.84 for the baseline: three seeds each, standard deviation over seeds 0.03. Is the gain shown?",
    {
        "Yes, the mean is higher.": "By less than one standard deviation of a single run.",
        "No, the two intervals overlap.": "Overlap of separate intervals does not decide, if the seeds were paired.",
        "It cannot be told without the differences seed by seed.": "If both arms shared their draws, the spread of the "
        "*difference* may be far smaller than 0.03, or it may not.",
    },
    correct="It cannot be told without the differences seed by seed.",
)

# %% [markdown]
# ## Exercises
#
# **1. The size of a pixel.** Two squares of side $n$ are shifted against each other by one pixel. Give
# their Dice. From which side on is it above 0.95?
#
# ```{dropdown} Hint
# The overlap is a rectangle.
# ```
# ```{dropdown} Solution
# $\mathrm{Dice} = 2 n (n-1) / (2 n^2) = 1 - 1/n$, so $n = 20$ gives 0.95 and every larger square is
# above. A lesion of four pixels across can lose a quarter of its Dice to an error that nobody
# could see.
# ```
#
# **2. A metric for sale.** Write a "prediction" that looks at no image and still gets a high mean Dice by the last of
# the five ways above. How high?
#
# ```{dropdown} Hint
# Which class never lets you down, and which slices are left out?
# ```
# ````{dropdown} Solution
# ```python
# predicted = torch.zeros_like(valid.labels)
# per_slice(torch.nan, torch.nan, first=0)
# ```
# Background everywhere. Every organ is then empty in the prediction, so "every empty left out" drops
# all organs from the mean, and what is left is the Dice of the background. A network that finds nothing gets
# the score of a good one.
# ````
#
# **3. Half a leak.** Split by patient, but compute the normalisation (mean and deviation) from all images,
# test images included. Is that leakage? And choosing the learning rate by the test score, once, with only two
# candidates?
#
# ```{dropdown} Hint
# Ask in each case what of the *test labels* can reach the network.
# ```
# ```{dropdown} Solution
# The first uses test *images*, not labels. It is a mild leak: the score holds only for patients who were there when
# the statistics were computed (it becomes a legitimate setting, *transductive*, if that is what one will do in the
# clinic, and says so). Normalising each patient by itself, as `Cohort` does, avoids the question. The second
# uses test labels. The figure above gives the price for $m = 2$: small, but not zero, and it
# is paid again for every further look.
# ```

# %% [markdown]
# ## Take away
#
# - Dice for how much, distances for where, a count for what neither can see.
# - Pool over a patient, leave the background out, never score an empty with 0 mm.
# - Split by patient; whatever is fitted before the split leaks.
# - Pair everything that can be paired, and give the interval over seeds.
# - Choose on validation, score on test, once. Compare ideas, not recipes.
#
# **Reading.** {cite:t}`maierhein2024metrics` on choosing metrics; {cite:t}`oliver2018realistic` on
# evaluating methods for few labels; {cite:t}`guo2017calibration` on calibration.
