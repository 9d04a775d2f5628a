# %% [markdown]
# # Curriculum: easy first
#
# <!-- badge -->
#
# **You will learn**
#
# - what an order of learning consists of: a ranking, a pacing, and two control arms without which it proves nothing;
# - how a network can choose its own examples, and why that has a closed form;
# - what sampling does to a problem in which nearly everything is background;
# - how an easier *task*, where, how much, how large, can guide a harder one.
#
# **You should know** [the baseline](../foundations/baseline); for the last part [constraints](constraints).

# %% tags=["setup"]

# %%

import torch

from lsseg_edu import show, study
from lsseg_edu.data import Task, annotate, load
from lsseg_edu.data.annotate.cost import mask_seconds
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.curriculum import (
    CoarseToFine,
    HeatmapClassifier,
    LabelDistribution,
    SizeGuided,
    active_self_paced,
    agreement,
    annealed,
    cased,
    cased_chances,
    data_curriculum,
    difficulty_by_size,
    growing_pool,
    item_losses,
    misclassified,
    ordered,
    patches,
    self_paced_weights,
    severity_stages,
)
from lsseg_edu.semi.curriculum.spl import pace
from lsseg_edu.train import Budget

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
mine = task.train.select(task.labelled)
print(task)

# %% [markdown]
# ## The idea in a picture
#
# Nobody teaches reading with a law report. Are there easy and hard images among the 36 labelled slices of three hearts? The
# simplest guess needs no network: where little of the organs is to be seen, the task is hard.

# %%
difficulty = difficulty_by_size(task)
queue = difficulty.argsort(stable=True)
ends = torch.cat([queue[:4], queue[-4:]])
show.images(
    mine.images[ends],
    labels=mine.labels[ends],
    names=mine.names,
    titles=[f"number {n}" for n in (1, 2, 3, 4, 33, 34, 35, 36)],
    columns=4,
    alt="The four first and the four last of 36 labelled slices, ordered by how much of the heart they show: "
    "large round ventricles in the first row; in the second a small apex, and slices above the valves, which look "
    "like a heart and have none of the three classes.",
)

# %% [markdown]
# The second row is not what one expects. Three of its slices are cut above the valves: bright, round, and to be called background. So
# "little to see" finds what is *small*, and also what is *deceptive*.
#
# Training draws its batches from *all* of them, from the first step on. A curriculum changes what is drawn, and when. Every
# method on this page is an answer to three questions: **who** says what is easy, **how** is the training made to prefer it, and
# **when** does that end?
#
# | method | who says what is easy | how | until |
# |---|---|---|---|
# | data curriculum | a prior, or a network trained before | a pool that grows | all are in |
# | raters (Jimenez-Sanchez) | how well experts agree | chances | all are alike |
# | self-paced | the network itself, now | weights 0 and 1 | the threshold is high enough |
# | CASED | what the network gets wrong, now | chances of patches | the mix of the data is reached |
# | deep active self-paced | the network itself, now | pseudo-labels, and queries | the queries are spent |
# | attention (Tang) | the severity of the disease | stages | all stages are open |
# | coarse to fine | the *task* is easier: where? | an input channel | |
# | size first (Kervadec) | the task is easier: how large? | an inequality | |
# | amounts first (Zhang) | the task is easier: how much of each? | a divergence | |

# %% [markdown]
# ## Data curriculum
#
# Bengio and colleagues' recipe has two parts. A **ranking** puts the examples into a queue $x_{(1)}, \dots, x_{(n)}$; a **pacing
# function** $g$ says how many of them are in the pool at the time $t$:
#
# $$
# D_t = \{x_{(1)}, \dots, x_{(g(t))}\}, \qquad g(t) = \Big\lceil n \min\Big(1,\; s + (1-s)\,\frac{t}{T}\Big) \Big\rceil .
# $$

# %%
show.code(growing_pool)
# %%
show.code(data_curriculum)

# %% [markdown]
# Move the time. Whoever is blank is not drawn yet. Then change the order.


# %%
def contact_sheet(inside):
    """All labelled slices in the order of their difficulty; those outside the pool are blank."""
    small = torch.nn.functional.avg_pool2d(mine.images[queue, :, 8:56, 8:56], 2)
    small = ((small + 1) / 4).clamp(0, 1)[:, 0]
    small = small.where(inside[queue, None, None], 0.9)
    tiles = torch.nn.functional.pad(small, (1, 1, 1, 1), value=1.0)
    return tiles.view(4, 9, 26, 26).permute(0, 2, 1, 3).reshape(104, 234)


def pool_at(order, progress):
    inside = growing_pool(ordered(difficulty, order, seed=0), progress, start=0.25, full=0.6)
    fig, ax = show.subplots(width=4.4, height=2.4)
    ax.imshow(contact_sheet(inside), cmap="gray", vmin=0, vmax=1)
    ax.set_title(
        f"{progress:.0%} of training: {int(inside.sum())} of {len(inside)} slices in the pool"
    )
    ax.set_xlabel("easy slices first, row by row")
    ax.set_xticks([])
    ax.set_yticks([])
    return show.figure(
        fig,
        alt=f"Order {order}, {progress:.0%} of training done: {int(inside.sum())} of {len(inside)} slices in the pool, "
        f"{int(inside[queue[:18]].sum())} of them from the easier half.",
    )


show.explore(
    pool_at,
    order=["easy", "anti", "random"],
    progress=[0.0, 0.2, 0.4, 0.6],
    labels={"order": "order", "progress": "fraction of training done"},
    limit=160_000,
    alt="The 36 labelled slices in the order of their difficulty; those that are not in the pool yet are blank.",
)

# %% [markdown]
# The two other orders are not there for fun. Suppose the curriculum helps. Was it the *order*? Or was it that early training
# sees few images often, which a **random** pool of the same size does too? And if easy first is right, hard first (**anti**) must be
# wrong; if both help alike, the ranking means nothing. A claim about a curriculum needs all three arms.

# %% [markdown]
# ## Agreement of raters
#
# Who knows what is hard? Those who do it for a living. Jimenez-Sanchez and colleagues rank fractures by how well radiologists agree on
# them. And they shut nobody out: easy images are drawn more **often**, and the preference is annealed,
#
# $$
# P_t(i) \propto s_i^{\,\gamma (1 - t/T)} .
# $$

# %%
show.code(annealed)

# %% [markdown]
# We have no radiologists, but we have simulated raters: one draws generously, one tightly, one hastily. Their Dice is the score.

# %%
styles = ("generous", "tight", "hasty")
drawn = torch.stack([annotate.rate(mine.labels, s, seed=1000 * i) for i, s in enumerate(styles)], 1)
scores = agreement(drawn)
shown = scores.argsort()[[0, 18, 35]]
steps = torch.linspace(0, 1, 51)
paths = torch.stack([annealed(scores, float(t), full=0.6)[shown] for t in steps], 1)
show.curves(
    {f"agreement {scores[i]:.2f}": path * 100 for i, path in zip(shown, paths, strict=True)},
    steps,
    xlabel="fraction of training done",
    ylabel="chance of being drawn (%)",
    alt="The chance of three slices to be drawn, that on which raters agree least, a middle one and the best: "
    "they start apart and meet at 60 % of training.",
)

# %% [markdown]
# ## Self-paced learning
#
# A ranking that is fixed beforehand is blind to what the network finds hard. Kumar and colleagues let it choose. Give each example a
# weight $v_i$, and minimise over *both*:
#
# $$
# \min_{\theta,\; v \in [0,1]^n}\; \sum_i v_i\, \ell_i(\theta) - \lambda \sum_i v_i .
# $$
#
# Without the second term, choosing nothing would be best. With it, each example earns $\lambda$ if it is taken and costs $\ell_i$. So with the network
# fixed, the best $v$ needs no search: take whatever costs less than it earns, $v_i = [\ell_i < \lambda]$. Then train on those, raise
# $\lambda$, and begin again.
#
# *Self-paced curriculum* adds what the teacher knows: a region $\{v : a^\top v \le c\}$ in which the choice must lie, with $a_i$ large for hard
# examples. Still no search. It is the knapsack of the greengrocer, who takes what is worth most by the kilogram, and cuts the last melon.

# %%
show.code(self_paced_weights)
# %%
loss, weight = torch.tensor([0.1, 0.3, 0.4, 0.7, 0.9]), torch.tensor([1.0, 4.0, 1.0, 1.0, 1.0])
for threshold in (0.35, 0.5, 1.0):
    free = self_paced_weights(loss, threshold)
    region = self_paced_weights(loss, threshold, prior=weight, capacity=3.0)
    rounded = [round(v, 2) for v in region.tolist()]
    print(f"threshold {threshold}: free {free.tolist()}, within the region {rounded}")

# %% [markdown]
# The second example is easy for the network and hard for the teacher ($a_2 = 4$): within the region it has to wait.
#
# One danger is plain in the formula. The choice depends on the network, and the network on the choice. What it could not do at first, it is not shown,
# so it cannot learn it; only $\lambda$ breaks the circle. That is why it *must* grow until everybody is in.

# %% [markdown]
# ## CASED
#
# Lesions: most are a few pixels large. Cut into patches, this is what a network would be fed:

# %%
lungs = Task.split(load("lesions"), labelled=5, seed=0)
cut = patches(lungs, size=32)
lesion = (cut.train.labels > 0).flatten(1).any(1)
print(f"{len(lesion)} patches, {lesion.float().mean():.0%} with some lesion")
print(f"{(cut.train.labels > 0).float().mean():.1%} of all pixels are lesion")
print(f"{(cut.train.labels[lesion] > 0).float().mean():.1%} of those in patches with a lesion")

# %% [markdown]
# Uniform sampling mostly repeats that lung is lung. Balanced sampling, half and half, has another fault: it never learns how *rare* lesions are, and in
# the end it finds them everywhere. CASED is a path between the two. It begins with lesion patches only, the lesion beside its surroundings.
# Then it adds background, up to its share in the data; and a background patch is drawn with the probability that the network **gets it wrong**,
# $\epsilon_i$:
#
# $$
# P_t(i) = (1 - g(t))\, \frac{[i \in A]}{|A|} + g(t)\, \frac{[i \notin A]\; \epsilon_i}{\sum_{j \notin A} \epsilon_j},
# \qquad g(t) = \min\Big(\frac{t}{T}, 1\Big)\, \frac{n - |A|}{n} .
# $$

# %%
show.code(cased_chances)

# %% [markdown]
# Train it, and next to it the same network on uniformly drawn patches: as many steps, as many pixels.

# %% tags=["nbval-ignore-output"]
arms = {name: cased(lungs, budget, sampling=name, progress=False) for name in ("uniform", "cased")}
for name, fitted in arms.items():
    found = fitted.predict(lungs.valid.images).argmax(1)
    dice = score(found, lungs.valid, surfaces=False).mean_dice
    lesions = lungs.valid.labels > 0
    alarms = (found > 0)[~lesions.flatten(1).any(1)].flatten(1).any(1).float().mean()
    print(f"{name:<8} Dice {dice:.3f}; slices without a lesion in which one is found: {alarms:.0%}")

# %% [markdown]
# Which background does the trained network still get wrong? Those are the patches that CASED draws at the end.

# %% tags=["nbval-ignore-output"]
errors = misclassified(arms["cased"].method.cpu(), cut.train)
end = cased_chances(lesion, errors, 1.0)
background = (~lesion).nonzero()[:, 0]
often = background[end[background].argsort(descending=True)[:4]]
seldom = background[end[background].argsort()[:4]]
chosen = torch.cat([often, seldom])
show.images(
    cut.train.images[chosen],
    titles=[f"{1000 * end[i]:.2f} in a thousand" for i in chosen],
    columns=4,
    alt="Background patches with their chance of being drawn at the end of CASED: the four most likely and the "
    f"four least likely; the first is {end[often[0]] / end[seldom[0]]:.0f} times as likely as the last row's first.",
)

# %% [markdown]
# ## Deep active self-paced learning
#
# Self-pacing ranks unlabelled images too, if the loss is that of their own pseudo-labels: $\ell_i = -\frac{1}{|\Omega|} \sum_j \ln \max_k p_k(j)$. Both ends of the
# ranking are of use. At the **easy** end, the pseudo-labels may be believed. At the **hard** end, they may not; but there, one mask of an
# annotator teaches most. Wang and colleagues do both in each round, and leave the middle for later.

# %%
show.code(active_self_paced)

# %% [markdown]
# Whoever asks must count. A method that is given twelve more masks has to be compared with one that is given *any* twelve: `choose="random"`. What do they cost?

# %%
everyone = Task.split(load("lesions")).train.labels
given = lungs.train.labels[lungs.labelled]
print(f"masks of five patients, {len(given)} slices: {mask_seconds(given) / 60:.0f} minutes")
print(f"twelve slices more: {mask_seconds(everyone[lungs.unlabelled[:12]]) / 60:.0f} minutes")

# %% [markdown]
# ## Attention-guided curriculum
#
# Tang and colleagues classify chest radiographs, and the order comes from the *reports*: a severe pneumonia is easier to see than a mild one.
# Severe cases and healthy people come first, moderate and mild ones later. Here the size of the lesion stands for the words of the report.

# %%
five = lungs.train.labels[lungs.labelled]
stage = severity_stages(five, stages=3)
shown = torch.cat(
    [(stage == s).nonzero()[:, 0][(five[stage == s] > 0).flatten(1).any(1)][:2] for s in range(3)]
)
show.images(
    lungs.train.images[lungs.labelled][shown],
    labels=five[shown],
    titles=[f"stage {int(stage[i]) + 1}" for i in shown],
    columns=6,
    alt="Six slices with their lesions, two of each stage: large lesions first, the smallest in stage 3.",
)

# %% [markdown]
# Then comes the *attention*. A classifier that pools a heatmap into one answer says, by the way, where it has seen the disease. In the last part of the training it must also
# give the right answer from what is left when the image is dimmed outside the heat.

# %%
show.code(HeatmapClassifier)

# %% [markdown]
# It never sees a contour, only whether there is a lesion, and how large. On the scoreboard its heatmaps are judged as segmentations, which they were
# not made for: read its row as localisation, and compare it with its own control arms.

# %% [markdown]
# ## Coarse to fine
#
# Now the other meaning of the word. Not easier *examples*: an easier **task**. *Is there any organ here?* has two classes instead of seven and can be answered on small images.
# A first network answers it; its map is one more channel of the second one's input.

# %%
show.code(CoarseToFine)

# %% [markdown]
# Stage 1 is frozen, and in most published pipelines its map crops the image. A crop cannot be undone where it is wrong; a channel can be overruled. The control is
# `informed=False`: the same two networks, the same steps, and a channel that is empty.

# %% [markdown]
# ## Size first
#
# *How large is the ventricle?* is one number an image. Kervadec and colleagues learn to predict it from the few masks. Then the segmenter must agree, on every
# unlabelled image, up to a tolerance:
#
# $$
# (1 - \gamma)\, R(x)_k \;\le\; \frac{1}{|\Omega|} \sum_i f_\theta(x)_{ik} \;\le\; (1 + \gamma)\, R(x)_k .
# $$
#
# The penalty is that of [the size constraint](constraints.ipynb#size-constraint), with bounds for each image instead of one pair for all.

# %%
show.code(SizeGuided)

# %% [markdown]
# Everything depends on the regressor. With $\gamma = 0.1$ the segmenter is forced to within a tenth of a number that was itself learnt from three patients. If the regressor errs by more than
# that, the constraint is wrong on most images, and its gradient says so with authority. Check its error on validation patients before you believe in it.

# %% [markdown]
# ## Amounts first
#
# In another domain, for example on another scanner, the segmenter fails, but simpler estimates may survive. Zhang and colleagues ask two easy questions about an
# unlabelled image. *How much of each class does it hold?* And, of some superpixels whose class is plain: *which?* Plain regressions, learnt on the source, answer them. The segmenter then has to be
# in keeping with the answers:
#
# $$
# L = L_{sup} + w(t) \Big( \mathrm{KL}\big(q \,\|\, \bar p(\Omega)\big) + \frac{1}{|S|} \sum_{s \in S} \mathrm{KL}\big(q_s \,\|\, \bar p(s)\big) \Big) .
# $$

# %%
show.code(LabelDistribution.loss)

# %% [markdown]
# The first term can be satisfied by putting the right amount in the wrong place. The landmarks tie it down. For the features we use *ranks* of grey levels instead of grey
# levels: a scanner may bend the grey scale as it likes, the order of the tissues stays.

# %% [markdown]
# ## Side by side
#
# The data curriculum, by the prior ranking, easy first and hard first. Everything else is the same, the number of images in the pool at each step included.

# %% tags=["nbval-ignore-output"]
orders = ("easy", "anti")
trained = {
    order: data_curriculum(task, budget, seed=0, order=order, ranking="size", progress=False)
    for order in orders
}
for order, fitted in trained.items():
    report = score(fitted.predict(task.valid.images).argmax(1), task.valid, surfaces=False)
    print(f"{order:<5} Dice on validation patients {report.mean_dice:.3f}")
show.curves(
    {order: fitted.history["supervised"] for order, fitted in trained.items()},
    ylabel="training loss",
    window=budget.pick(1, 25, 50),
    alt="Training loss of the easy and of the anti curriculum over the steps, smoothed.",
)

# %% [markdown]
# Mind what the training loss tells here: it is that of the images *in the pool*. It is low in the beginning because the pool is easy, not because the network is good. Only the
# validation patients are the same for both.
#
# What would the network itself call easy? Let us ask the one that has been through the easy curriculum, and set a threshold below which half of the slices lie.

# %% tags=["nbval-ignore-output"]
losses = item_losses(trained["easy"].method.cpu(), mine)
half = self_paced_weights(losses, pace(losses, 0.5)) > 0
print(
    f"{int(half[queue[:18]].sum())} of its {int(half.sum())} easy slices are from the prior's easier half"
)

# %% [markdown]
# ## What the scoreboard says
#
# The control arms stand beside each method: `order=random` and `order=anti`, `sampling=uniform`, `choose=random`, `informed=False`. The question is never *is it better than the baseline* alone.

# %%
results = study.read()
mine_ids = {
    *("curriculum-data", "self-paced", "jimenez-cl", "task-curriculum", "kervadec-curr", "cased"),
    *("dasl", "tang-attention-cl", "zhang-cda", "supervised", "supervised-longer", "full-labels"),
}


def table(protocol):
    lines = study.summary(results, protocol)
    return show.scoreboard([x for x in lines if x.method.partition(":")[0] in mine_ids])


table("cardiac-3")

# %% [markdown]
# Lung lesions, five patients with masks:

# %%
table("lesions-5")

# %% [markdown]
# With an annotator who may be asked for a few masks more:

# %%
table("lesions-active")

# %% [markdown]
# With tags and severity of lesions for all slices, and no mask; the first row is what the others are compared with:

# %%
table("lesions-tags")

# %% [markdown]
# Another scanner:

# %%
table("cardiac-shift")

# %% [markdown]
# Look for a row in which the method stands apart from *its own control*. Where easy, anti and random lie within one another's intervals, the order did not matter here, whatever the
# difference to the baseline is. This is what careful studies of data curricula mostly find when data are clean and training is long enough. There is more to expect where the classes are very unequal, and where the easier task
# knows something that the labels of the harder one do not say.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "A curriculum gains two Dice points over the baseline. So does the random order with the same pacing. What have you shown?",
    {
        "That easy images should come first.": "The random order gains as much without knowing what is easy.",
        "That the growing pool helps, or something else that both arms share.": "The order is the only thing that differs, and it makes no difference.",
        "Nothing, the runs must be repeated.": "Repeat them, by all means; but the comparison says something already.",
    },
    correct="That the growing pool helps, or something else that both arms share.",
)

# %%
quiz(
    "In self-paced learning you forget to raise the threshold. What does the network learn?",
    {
        "The same, only more slowly.": "Examples above the threshold have weight 0; their loss is never lowered.",
        "What it found easy at the start, better and better.": "And what it did not find easy it is never shown.",
        "Nothing, since no example is below the threshold.": "Some were at the start, and their loss only falls.",
    },
    correct="What it found easy at the start, better and better.",
)

# %% [markdown]
# ## Exercises
#
# **1. An empty pool.** Call `data_curriculum(task, budget, start=0)`. Why is this an error, and not simply a curriculum that starts with nothing?
#
# ```{dropdown} Hint
# What is in the first batch?
# ```
# ```{dropdown} Solution
# There would be no image to draw in the first steps. One could skip them, but then the arm has fewer steps than the baseline; or draw anyway, but then the pool is not what was asked for.
# The library refuses, before anything is trained.
# ```
#
# **2. Balance is not prior.** A network was trained with half of the patches showing a lesion, though it is one in ten in the data. For one patch it says 50 %. What should it say?
#
# ```{dropdown} Hint
# Bayes: the odds in training are those of the data, times how much more often lesions were drawn.
# ```
# ```{dropdown} Solution
# Odds of 1 under a training prior of 1 : 1. In the data the prior is 1 : 9, so the odds are 1/9, and the answer 10 %. That is why a balanced sampler raises false alarms, and why CASED ends at the shares of the data.
# (Its background patches are still the difficult ones, so its probabilities are not calibrated either.)
# ```
#
# **3. The regressor's worth.** Train a `SizeRegressor` on the three patients and compare, on the validation patients, its mean error with that of always guessing the mean size of the labelled slices.
# How large must $\gamma$ be for the inequality to hold on nine images of ten?
#
# ```{dropdown} Hint
# `shares(task.valid.labels, 4)` are the true sizes; `regressor.sizes(task.valid.images)` the guesses.
# ```
# ```{dropdown} Solution
# The quantile 0.9 of `(guess - truth).abs() / guess` is the answer. If it is far above 0.1, the paper's tolerance is too tight for three patients: the paper had more. A constraint that is wrong on most images is worse than none.
# ```
#
# ## Take away
#
# - A curriculum is a ranking and a pacing. Random and anti orders are part of the experiment.
# - Self-paced weights have a closed form, and a vicious circle; the threshold must grow.
# - Where nearly everything is background, it matters *which* background is drawn.
# - An easier task helps as far as its answer is right. Measure that first.
# - Count what the annotator is asked.
#
# **Reading.** {cite:t}`bengio2009curriculum` and, with controls, {cite:t}`hacohen2019power`; {cite:t}`kumar2010self` and {cite:t}`jiang2015self`; {cite:t}`jesson2017cased`, {cite:t}`wang2018deep`,
# {cite:t}`jimenez2019medical`, {cite:t}`tang2018attention`, {cite:t}`roth2018spatial`, {cite:t}`kervadec2019curriculum` and {cite:t}`zhang2017curriculum`.
