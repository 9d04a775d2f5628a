# %% [markdown]
# # Active learning: which image is worth a question
#
# <!-- badge -->
#
# **You will learn**
#
# - the loop of asking, outlining and training, paid in seconds of an annotator;
# - what a network's doubt is good for when images are chosen by it, and why doubt alone asks the same question twice;
# - how a cover, the Fisher information and three sieves make questions differ from one another;
# - how to compare strategies: the area under a learning curve, chance at one end and a cheat at the other.
#
# **You should know** [the price of a label](../foundations/price) and [uncertainty](../semi/uncertainty).

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np
import torch

from lsseg_edu import networks, show, study
from lsseg_edu.data.annotate import answer_seconds, unaided
from lsseg_edu.evaluate import area_under_curve, learning_curve
from lsseg_edu.learn import quiz
from lsseg_edu.partial import max_cover
from lsseg_edu.partial.active import (
    active_learning,
    at_random,
    by_entropy,
    by_suggestion,
    by_three_criteria,
    by_true_error,
    dissatisfaction,
    diverse_order,
    layer_information,
    query_distribution,
    random_queries,
    representativeness,
    slices_on_request,
    suggestive_annotation,
    uncertain_queries,
)
from lsseg_edu.partial.active.loop import Pool
from lsseg_edu.semi.uncertainty import entropy
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
little = replace(budget, steps=budget.pick(2, 200, 600))
task = slices_on_request(seed=0, pool=8)
names = task.train.names
print(f"{len(task.labelled)} slices are outlined, {len(task.unlabelled)} are not")
print(f"so far the annotator has worked for {task.seconds / 60:.0f} minutes")

# %% [markdown]
# ## The idea in a picture
#
# Somebody will outline more slices for you, for an hour. Which ones? So far the labels came from wherever they happened to come from. Now
# there is a network, and it has an opinion about every image of the pool. Below, the three slices about which it is least sure, and the three
# about which it is surest.

# %% tags=["nbval-ignore-output"]
first = fit(Supervised(networks.unet(task, dropout=0.1)), unaided(task), little, seed=0)
answers = first.predict(task.train.images[task.unlabelled])
doubt = entropy(answers[None]).flatten(1).mean(1)
order = doubt.argsort(descending=True)
shown = torch.cat([order[:3], order[-3:]])
show.images(
    task.train.images[task.unlabelled[shown]],
    predictions=answers.argmax(1)[shown],
    titles=[
        f"patient {int(task.train.subjects[task.unlabelled[i]])}, doubt {doubt[i]:.2f}"
        for i in shown
    ],
    names=names,
    columns=6,
    alt="Six slices of the pool with the network's contours. The three of most doubt come from patients "
    f"{', '.join(str(int(task.train.subjects[task.unlabelled[i]])) for i in order[:3])}; beside them the three of least doubt.",
)

# %% [markdown]
# Two things can be seen here, and this page is about both. Doubt finds images that are *difficult*, and a mask for one of these should teach more than
# another easy one. And the doubtful ones may well be *neighbours*: if one patient puzzles the network, many of his slices do. Somebody who answers
# the same question twice has been paid twice.

# %% [markdown]
# ## The loop and chance
#
# With the labelled images $\mathcal L_r$ and the pool $\mathcal U_r$ of round $r$, an **acquisition function** $a$ puts the pool into an order:
#
# $$
# \theta_r = \mathrm{train}(\theta_{r-1}, \mathcal L_r), \qquad
# \mathcal L_{r+1} = \mathcal L_r \cup \mathrm{ask}\big(a(\theta_r, \mathcal U_r)\big), \qquad
# \mathrm{cost}(\mathcal L_r) - \mathrm{cost}(\mathcal L_0) \le \tfrac{r}{R}\, S .
# $$
#
# The currency is not images. A slice with three organs takes longer than one with none, so a strategy that asks for crowded slices gets fewer of
# them:

# %%
masks = task.train.extras["annotator"]
prices = torch.tensor([answer_seconds(mask[None]) for mask in masks])
for price in prices.unique():
    print(f"{price:6.1f} s: {int((prices == price).sum()):>3} slices")

# %% [markdown]
# The prices are those of the [price of a label](../foundations/price), and a look at a slice takes as long as a point. Nobody knows them beforehand; the annotator goes through the slices in the order named, and stops when the next
# one would take longer than what is left of the round. Here is the loop. `acquire` is all in which two arms differ.

# %%
show.code(active_learning)

# %% [markdown]
# What may an acquisition function look at? A `Pool`: images, the labels so far, the network. The masks are not in it.

# %%
show.code(Pool)

# %% [markdown]
# The **baseline** asks at random. Do not smile: chance is diverse, it has the proportions of the pool, and no badly trained network can mislead it. At the other
# end stands a **cheat**, which asks for the slices in which most pixels *are* wrong. It must be handed the masks to be made, so it is
# an upper reference and not a method.

# %%
show.code(at_random)
# %%
show.code(by_true_error)

# %% [markdown]
# ## Entropy, margin and BALD
#
# Without the masks the error has to be guessed. Three guesses, each averaged over the pixels of an image: the **entropy** of the answer, the **margin** between its two likeliest
# classes, and **BALD**, which leaves the dropout on and asks how far the passes *contradict* one another:
#
# $$
# H[\bar p], \qquad p_{(1)} - p_{(2)}, \qquad
# I = H\Big[\tfrac1T \sum_t p^{(t)}\Big] - \tfrac1T \sum_t H\big[p^{(t)}\big] .
# $$
#
# Four pixels show that they do not agree. Two passes each, three classes:

# %%
passes = {
    "sure, both passes": [[0.98, 0.01, 0.01]] * 2,
    "a tie of two": [[0.50, 0.50, 0.00]] * 2,
    "a leader and two others": [[0.52, 0.24, 0.24]] * 2,
    "sure, of two things": [[0.98, 0.02, 0.00], [0.02, 0.98, 0.00]],
}
print(f"{'':<26}{'entropy':>8}{'margin':>8}{'BALD':>8}")
for name, rows in passes.items():
    p = torch.tensor(rows)
    mean = p.mean(0)
    total = torch.special.entr(mean).sum().item()
    inner = torch.special.entr(p).sum(1).mean().item()
    lead = mean.topk(2).values
    print(f"{name:<26}{total:8.2f}{(lead[0] - lead[1]).item():8.2f}{max(total - inner, 0):8.2f}")

# %% [markdown]
# The tie has the smallest margin; the leader with two others has more entropy. Both may be doubts that *no label can end*, since the border of an organ is blurred in every
# patient. Only the last pixel has BALD's attention: the passes are sure and cannot both be right. That is ignorance, and a label would end it.

# %%
show.code(by_entropy)

# %% [markdown]
# ## Suggestive annotation
#
# Yang and colleagues answer the second half of the question. First, a **committee**: networks taught on bootstrap samples of the labelled images, drawn with replacement. The
# variance of their answers is the doubt, and the $K$ most doubtful images become candidates $\mathcal K$. Then a **cover**. Every image of the pool is represented by the chosen
# one that is most like it, by the cosine of the deepest features, and the choice should represent all:
#
# $$
# S^* = \arg\max_{S \subset \mathcal K,\, |S| = n} F(S), \qquad F(S) = \sum_{i \in \mathcal U} \max_{j \in S} \cos(f_i, f_j) .
# $$
#
# The best $S$ is out of reach, as there are too many. But $F$ has diminishing returns: an image adds less to a larger choice. For such functions the **greedy** choice, one image after
# the other, reaches at least $1 - 1/e$, 63 % of the best. Tests compare it with brute force.

# %%
show.code(by_suggestion)

# %% [markdown]
# Try it on a pool of 60 images whose features are two numbers. Three groups of patients, and one of them puzzles the network. Large dots are doubtful. Which ones are asked about?

# %%
rng = np.random.default_rng(0)
centres = np.array([[0.2, 1.4], [0.9, 0.9], [1.5, 0.15]])
group = np.repeat([0, 1, 2], [24, 20, 16])
points = centres[group] + rng.normal(0, 0.11, (60, 2))
puzzled = np.array([0.25, 0.45, 0.9])[group] + rng.normal(0, 0.12, 60)
lines = torch.nn.functional.normalize(torch.tensor(points), dim=1)
cosine = (lines @ lines.T).clamp(min=0) ** 20  # sharper, as 2 numbers leave little room
by_doubt = torch.tensor(-puzzled).argsort()


def chosen_by(strategy, n):
    if strategy == "doubt alone":
        return by_doubt[:n]
    if strategy == "cover alone":
        return max_cover(cosine, n)
    candidates = by_doubt[:24]
    return candidates[max_cover(cosine[:, candidates], n)]


def choice(strategy, n):
    chosen = chosen_by(strategy, n).numpy()
    covered = cosine[:, chosen].amax(1).mean().item()
    fig, ax = show.subplots(width=3.8, height=2.8)
    ax.scatter(*points.T, s=10 + 110 * np.clip(puzzled, 0, None), c="#BBBBBB", edgecolor="#666666")
    ax.scatter(*points[chosen].T, s=70, c="#D55E00", marker="X", edgecolor="black", zorder=3)
    ax.set(xlabel="first feature", ylabel="second feature", xlim=(-0.2, 1.9), ylim=(-0.3, 1.8))
    ax.set_title(f"covers {covered:.0%}, mean doubt {puzzled[chosen].mean():.2f}")
    groups = len(set(group[chosen]))
    return show.figure(
        fig,
        alt=f"Sixty images in three groups; {strategy} with {n} questions asks in {groups} of the groups, "
        f"covers {covered:.0%} of the pool, mean doubt {puzzled[chosen].mean():.2f}.",
    )


show.explore(
    choice,
    strategy=["doubt alone", "cover alone", "doubt, then cover"],
    n=[1, 2, 4],
    labels={"n": "questions"},
    limit=64_000,
    alt="Sixty images as dots, the larger the more doubtful, and those that a strategy asks about.",
)

# %% [markdown]
# Doubt alone stays in one corner. The cover alone goes wherever the crowd is, whether or not the network is wrong there. Both in a row keep the questions doubtful and apart, as long as
# the $K$ candidates reach into more than one group: with a small $K$ the cover has nothing left to choose from.

# %% [markdown]
# ## Fisher information
#
# Sourati and colleagues ask a statistician's question: which labels would *pin the weights down*? The Fisher information of an image is the expected square of the gradient that its label would cause,
# and nobody needs the label for that, since the network itself says how probable each is:
#
# $$
# A_i = \mathbb E_{y \sim p(y \mid x_i)} \big[ g\, g^\top \big], \qquad g = \nabla_\theta \ln p(y \mid x_i, \theta) .
# $$
#
# A matrix of all weights squared would not fit into any computer. So the gradient of each layer is shrunk to its **mean**, one number a layer. This mean is a derivative along one direction,
# the one that moves all weights of the layer alike, and forward-mode differentiation finds it for all pixels at once. What remains is the covariance of these derivatives under the
# softmax, and the expectation over all labellings is exact. A test adds up every labelling of a tiny image and compares.

# %%
show.code(layer_information)

# %% [markdown]
# Now the questions. They are drawn from a distribution $q$ over the images, the one that minimises the **Fisher information ratio**
#
# $$
# q^* = \arg\min_q \mathrm{tr}\big[ I_q^{-1} I_p \big], \qquad I_q = \sum_i q_i A_i + \delta I, \qquad I_p = \tfrac1N \sum_i A_i .
# $$
#
# Twelve images with two layers. Each is drawn as the direction about which it tells something; its length is how much. Most tell about the first layer. How much louder are they?

# %%
show.code(query_distribution)


# %%
def designed(loud, others):
    angle = torch.cat(
        [torch.linspace(-0.02, 0.02, 12 - others), 1.48 + 0.02 * torch.arange(others)]
    )
    size = torch.cat([torch.full((12 - others,), float(loud)), torch.ones(others)])
    g = size[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    q = query_distribution(torch.einsum("nl,nm->nlm", g, g)).numpy()
    fig, (left, right) = show.subplots(1, 2, width=5.8, height=2.5, width_ratios=[1, 1.3])
    for x, y in g:
        left.plot([0, x], [0, y], color="#0072B2", lw=1.5)
    left.set(xlabel="layer 1", ylabel="layer 2", title="what each image tells")
    right.bar(range(1, 13), q, color="#0072B2")
    right.set(xlabel="image", title="how often to ask, q", ylim=(0, 1), xticks=[1, 4, 8, 12])
    rare = q[12 - others :].sum()
    return show.figure(
        fig,
        alt=f"{12 - others} images tell about layer 1, {loud} times as loud as the {others} that tell about "
        f"layer 2. The questions: {1 - rare:.0%} go to the many, {rare:.0%} to the {others}.",
    )


show.explore(
    designed,
    loud=[1, 3, 8],
    others=[1, 4],
    labels={"loud": "loudness of the many", "others": "images about layer 2"},
    limit=55_000,
    alt="Twelve images as directions of information about two layers, and the query distribution.",
)

# %% [markdown]
# A ranking by loudness would ask about the many, and only about them. $q$ does not: the second image that says what the first has said lowers the ratio hardly at all. Diversity has not been added
# here. It falls out of the inverse. And the loudness? It hardly moves the shares. The ratio measures what a question tells in
# units of what the pool tells, so the *numbers* of images count, and only by their square root. Among the many, those at the rim gain as they get louder, since
# their little tilt tells something about the second layer as well.

# %% [markdown]
# ## Three criteria
#
# Shen and colleagues name what a good question has: **dissatisfaction**, the network segments it badly; **representativeness**, it is like many others; **diverseness**, it is unlike those that are labelled.
# Dissatisfaction has two levels. Doubtful pixels are added up, as above; and every object is compared with itself, the soft answer with the hard one, so that a *small* faint organ counts as much as
# a large one:
#
# $$
# D = \frac{1}{|\Omega| \ln K} \sum_j H[p_j] + 1 - \frac{1}{K-1} \sum_{k \ge 1} \mathrm{Dice}(p_k, \hat y_k) .
# $$

# %%
show.code(by_three_criteria)
# %%
show.code(diverse_order)

# %%
soft = torch.zeros(3, 2, 16, 16)
soft[:, 0] = 1
for image, side, p in zip(soft, (8, 8, 2), (0.99, 0.6, 0.6), strict=True):
    image[:, :side, :side] = torch.tensor([1 - p, p])[:, None, None]
for name, whole, pixels in zip(
    ("large and sure", "large and faint", "small and faint"),
    dissatisfaction(soft),
    entropy(soft[None]).flatten(1).mean(1) / np.log(2),
    strict=True,
):
    print(f"{name:<16} pixel level {pixels:.3f}, image level {whole - pixels:.3f}")
corner = torch.nn.functional.normalize(
    torch.tensor([[1, 0.1], [1, 0.2], [0.9, 0.3], [0.1, 1]]), dim=1
)
print(
    "typical of the pool, most first:", representativeness(corner).argsort(descending=True).tolist()
)
print("unlike image 0, most first:     ", diverse_order(corner[1:], corner[:1]).add(1).tolist())

# %% [markdown]
# The last two lines are opposites, as they should be: what is unlike all others is diverse and not representative. So the three are sieves, one after the other, and not one sum. What is left after
# two sieves is bad *and* typical; the third makes sure that it is not asked twice.
#
# A fifth strategy has its own page: [deep active self-paced learning](../semi/curriculum) asks about one end of the ranking by doubt, and lets the other end label itself.

# %% [markdown]
# ## Side by side
#
# Four arms, one seed, the same network, steps and seconds. After each round five validation subjects are scored (the loop never sees them).

# %% tags=["nbval-ignore-output"]
options = {"seed": 0, "rounds": budget.pick(2, 4, 4)}
arms = {
    "random": random_queries(task, little, **options),
    "entropy": uncertain_queries(task, little, **options),
    "suggestive": suggestive_annotation(task, little, **options),
    "cheat: true error": random_queries(task, little, oracle=True, **options),
}
judges = task.valid.of(task.valid.subjects.unique()[:5])
curves = {name: learning_curve(fitted, judges) for name, fitted in arms.items()}
fig, ax = show.subplots()
for (name, (seconds, dice)), style in zip(curves.items(), ("o-", "s--", "^-.", "d:"), strict=True):
    ax.plot(seconds / 60, dice, style, label=name)
ax.set(xlabel="minutes of the annotator", ylabel="validation Dice")
fig.legend(loc="outside right upper")
area = {name: area_under_curve(*curve) for name, curve in curves.items()}
show.figure(
    fig,
    alt="Validation Dice over the minutes of the annotator. Area under the curve: "
    + ", ".join(f"{name} {value:.3f}" for name, value in area.items())
    + ".",
)

# %% [markdown]
# **How to read four curves?** The last point says who is best when the money is gone. The **area** under the curve, divided by its length, is the Dice at a moment chosen at random: it rewards those who
# are good early, which is the promise of active learning.

# %% tags=["nbval-ignore-output"]
print(f"{'':<20}{'area':>7}{'last':>7}{'asked':>7}{'patients':>10}")
for name, fitted in arms.items():
    items = torch.cat(fitted.asked)
    owners = len(task.train.subjects[items].unique())
    print(f"{name:<20}{area[name]:7.3f}{curves[name][1][-1]:7.3f}{len(items):7}{owners:10}")

# %% [markdown]
# This is one seed, and lines that differ by less than the next seed would move them say nothing. Look at the last two columns instead: they are *why* strategies differ. A strategy that asks for crowded slices gets fewer
# of them for the hour, and one that asks about few patients has not seen many hearts. Which slices were these?


# %% tags=["nbval-ignore-output"]
def questions(strategy, number):
    items = arms[strategy].asked[number - 1][:3]
    owners = sorted({int(s) for s in task.train.subjects[items]})
    fig, axes = show.subplots(1, 3, width=4.8, height=2.1)
    for ax in axes:
        ax.axis("off")
    for ax, i in zip(axes, items, strict=False):
        show.overlay(ax, task.train.images[i], masks[i])
        ax.set_title(f"patient {int(task.train.subjects[i])}\n{prices[i]:.0f} seconds")
    return show.figure(
        fig,
        alt=f"Round {number} of {strategy}: {len(arms[strategy].asked[number - 1])} slices were outlined, the "
        f"first {len(items)} are shown; they come from patients {', '.join(map(str, owners))}.",
    )


show.explore(
    questions,
    strategy=list(arms),
    number=[1, options["rounds"]],
    labels={"number": "round"},
    limit=62_000,
    alt="The first slices that were outlined in the first and in the last round, with the annotator's contours.",
)

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) has several seeds, each of which draws other patients, other first slices, and other chances. For an arm that asks, the column *Dice* is the **area under the test curve**, and the difference
# is taken to asking at random. *Supervised* and *full labels* ask nobody, so theirs is the Dice of one training: with the first slices alone, and with every slice of the pool.

# %%
results = study.read()
known = "cardiac-active" in study.PROTOCOLS
show.scoreboard(study.summary(results, "cardiac-active") if known else [])

# %% [markdown]
# And the curves themselves: the mean over the seeds, and a band from the lowest to the highest seed. The arm that begins with `al-random-baseline` is chance; with `oracle=True` it is the cheat.

# %%
minutes, stored = np.linspace(0, 60, 31), {}
for row in results:
    if row["protocol"] == "cardiac-active" and row["curve"]:
        seconds, dice = np.array([point.split(":") for point in row["curve"].split()], float).T
        arm = f"{row['method']} {row['options']}".strip()
        stored.setdefault(arm, []).append(np.interp(60 * minutes, seconds - seconds[0], dice))
if stored:
    stored = {a: stored[a] for a in sorted(stored, key=lambda a: (a != "al-random-baseline", a))}
    ends = ", ".join(f"{arm} {np.mean(runs, 0)[-1]:.3f}" for arm, runs in stored.items())
    picture = show.curves(
        stored,
        minutes,
        xlabel="minutes of the annotator",
        ylabel="test Dice",
        alt=f"Test Dice of the stored runs over the minutes of the annotator. After an hour: {ends}.",
    )
picture if stored else print("no curves are stored yet")

# %% [markdown]
# Three questions to such a table. Does the cheat beat chance, and by how much? That is all there is to be won by ranking images; if its interval contains zero, no honest arm can be expected to do better. Does an arm beat chance
# with its interval? And does one that looks for *different* images beat the one that takes its doubt from the same network? Where the answer is "undecided", ask at random: it is free, and it leaves a sample
# from which one may estimate.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You rank the pool by entropy and ask about the first ten slices. Nine are of one patient. What is wrong?",
    {
        "Entropy is the wrong measure; take the margin.": "It ranks image by image as well, so the nine neighbours stay together.",
        "Each image was judged by itself.": "What the first of the nine will teach is not taken off the value of the other eight.",
        "The patient should be left out.": "He is where the network errs. One or two of his slices are good questions.",
    },
    correct="Each image was judged by itself.",
)

# %%
quiz(
    "A strategy reaches the same Dice with 10 slices that chance reaches with 15. Has it saved a third of the work?",
    {
        "Yes.": "Of the slices. The annotator is paid by the second.",
        "Only if its slices take no longer to outline.": "Doubtful slices tend to show more organs. Compare at equal seconds.",
        "No, the difference is noise.": "That is another question, for several seeds.",
    },
    correct="Only if its slices take no longer to outline.",
)

# %% [markdown]
# ## Exercises
#
# **1. Doubt by the second.** Write an acquisition function that ranks by entropy *per expected second*, where the seconds are guessed from the number of organs in the answer. What will it prefer?
#
# ```{dropdown} Hint
# `pool.each(lambda x: ...)` gives one number an image. `(answer == k).flatten(1).any(1)` says whether class `k` occurs.
# ```
# ```{dropdown} Solution
# Divide the entropy by `2.4 + 79 * organs`. Slices without an organ cost a look each, so a little doubt about them beats a lot of doubt about others: the strategy begins by having
# the network's false alarms refuted, many for the price of one outline. Sensible, if the network raises false alarms; otherwise a waste of looks.
# ```
#
# **2. The committee's size.** `by_suggestion` with two members: how many different values can the variance of a class have at a pixel on which both are sure?
#
# ```{dropdown} Hint
# Both right, both wrong, or one of each.
# ```
# ```{dropdown} Solution
# Two: 0 if they agree, 1/4 if they do not. With $M$ sure members it is $m (M - m) / M^2$ for $m$ of one opinion. A small committee has a coarse voice; the mean over the pixels of an image makes up for it.
# ```
#
# **3. A cold start.** Give chance and `by_fisher` a network that has been trained for two steps (`Budget("cold", steps=2)`). What does the Fisher information of such a network tell?
#
# ```{dropdown} Hint
# The expectation is taken under the network's own probabilities.
# ```
# ```{dropdown} Solution
# It tells which images would change *this* network most, if the labels came as it expects. With two steps it expects noise. Every strategy of this page but chance trusts the network, and in the first
# round least is known about whether it may. Some ask at random first, and switch later.
# ```
#
# ## Take away
#
# - Active learning is a loop: train, order the pool, have it outlined for so many seconds, train on.
# - Doubt finds difficult images. It judges them one by one, so it must be joined by something that looks at the *set*: a cover, an information matrix, a sieve of distances.
# - The greedy cover is within $1 - 1/e$ of the best; the Fisher information ratio is diverse by itself.
# - Compare at equal seconds, with equal seeds, by the area under the curve; with chance below and a cheat above. The gap between these two is all there is to be won.
#
# **Reading.** The loop and its vocabulary: {cite:t}`settles2009active`. Passes that contradict: {cite:t}`gal2017deep`. Committee and cover: {cite:t}`yang2017suggestive`, with the bound of {cite:t}`nemhauser1978analysis`. Fisher information:
# {cite:t}`sourati2019intelligent`. Three criteria: {cite:t}`shen2020deep`.
