# %% [markdown]
# # Lab 7: Spend 200 clicks wisely
#
# <!-- badge -->
#
# **You will build** the parts of an active learner: the account of what an annotator's clicks buy, a doubt to rank images by, a cover that keeps the questions
# apart, and the one number by which strategies are compared. Then you spend 200 clicks, in four ways.
# Allow 45 minutes.
#
# **You should know** the training loop of [the baseline](../foundations/baseline). The page
# [Active learning](../partial/active) has the ideas; leave its code closed.
#
# There are four steps with one blank each. After each comes a **check**: it runs your code and, if something is missing, says
# *which property* is missing. It does not compare with one true program, so whatever has the properties is right. Run the
# cells from top to bottom: where a cell stops with *Blank 1*, the first line of yours is wanted.

# %% tags=["setup"]

# %%
import copy
from dataclasses import replace

import numpy as np
import torch

from lsseg_edu import networks, show
from lsseg_edu.data import Task, load
from lsseg_edu.data.annotate import ask, unaided, with_annotator
from lsseg_edu.data.annotate.cost import count_objects
from lsseg_edu.evaluate import score
from lsseg_edu.learn import quiz
from lsseg_edu.learn.checks import lab07
from lsseg_edu.train import Budget, Supervised, fit

# %% [markdown]
# ## The problem
#
# Lung lesions in CT; five patients have masks. There is an annotator who draws outlines click by click: six clicks for a lesion, and one click for each image, to call it up. 200 clicks, no more.
# The masks of the pool exist, in a drawer. What you write must not open it.

# %%
auto = Budget.auto()
budget = replace(auto, steps=auto.pick(2, 120, 400))
everything = Task.split(load("lesions")).keep(25, seed=0)
everything = replace(everything, train=everything.train.select(everything.labelled))
task = with_annotator(everything.keep(5, seed=0), everything.train.labels)
names = task.train.names
print(task)
print(f"{len(task.unlabelled)} images in the pool")

# %% [markdown]
# How many clicks an image costs is known only after it has been outlined. The simulation knows it from the drawer:

# %%
price = torch.tensor([1 + 6 * count_objects(mask[None]) for mask in everything.train.labels])
for clicks in price.unique().tolist():
    print(f"{clicks:>3} clicks: {int((price == clicks).sum()):>3} images")

# %% [markdown]
# ## Step 1: what the clicks buy
#
# A strategy names images in the order in which it wants them. The annotator goes through `order`, and stops at the first image that costs more than the clicks that are left. `price[i]` is the price of image `i`.


# %%
def affordable(order, price, clicks):
    """Numbers of images (M,), prices (N,) of all images, and clicks to the images outlined."""
    # BEGIN SOLUTION
    return order[price[order].cumsum(0) <= clicks]
    # END SOLUTION


# %%
lab07.budget(affordable)

# %% [markdown]
# ```{dropdown} Hint
# `price[order]` are the prices in the order of asking, and `x.cumsum(0)` adds up everything so far. Prices are positive, so once the sum is too large it stays so.
# ```
#
# **Think.** Why not skip the expensive image and take a cheaper one further down?
#
# ```{dropdown} Answer
# One may, but then it is another strategy: the last clicks of each round go to whatever shows little. The comparison would be between mixtures.
# ```

# %% [markdown]
# ## Step 2: doubt
#
# For each image, the entropy of the network's answer, summed over classes and averaged over pixels:
#
# $$
# u_n = \frac{1}{|\Omega|} \sum_j \Big( - \sum_k p_{njk} \ln p_{njk} \Big) .
# $$


# %%
def image_doubt(probs):
    """Probabilities (N, K, H, W) to one number an image, (N,)."""
    # BEGIN SOLUTION
    return torch.special.entr(probs).sum(1).mean((1, 2))
    # END SOLUTION


# %%
lab07.doubt(image_doubt)

# %% [markdown]
# ```{dropdown} Hint
# `torch.special.entr(p)` is $-p \ln p$, entry by entry, and 0 where $p$ is 0.
# ```

# %%
quiz(
    "An image has a large lesion of which the network is sure, another one a tiny lesion of which it is not. Which has more doubt?",
    {
        "Always the second.": "A tiny lesion has few pixels, and the mean is taken over the whole image.",
        "It may be the first.": "A large lesion has a long border, and a border is doubtful in every image.",
        "Neither.": "They are two numbers; one will be larger.",
    },
    correct="It may be the first.",
)

# %% [markdown]
# ## Step 3: cover
#
# Doubt judges images one by one, so it will ask about four slices of the same lesion. Choose for the *set* instead. `likeness[i, j]` says how well image `j` stands for image `i`, between 0 and 1. An image is covered by
# the chosen one that is most like it. Choose `n` columns, one after the other, each the one that adds most:
#
# $$
# F(S) = \sum_i \max_{j \in S} s_{ij}, \qquad j^* = \arg\max_j F(S \cup \{j\}) - F(S) .
# $$


# %%
def greedy_cover(likeness, n):
    """Likeness (N, M) of N images to M candidates, to n of the candidates, in order."""
    # BEGIN SOLUTION
    had, chosen = torch.zeros(len(likeness)), []
    for _ in range(n):
        gain = (likeness - had[:, None]).clamp(min=0).sum(0)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        had = torch.maximum(had, likeness[:, chosen[-1]])
    return torch.tensor(chosen)
    # END SOLUTION


# %%
lab07.cover(greedy_cover)

# %% [markdown]
# ```{dropdown} Hint
# Keep for every row what it `had`: its best likeness to a chosen column, 0 at first. A candidate's gain is the sum over the rows of `(likeness - had).clamp(min=0)`. Whoever is chosen already must not be chosen again.
# ```
#
# **Think.** Would looking at all sets of `n` columns be better?
#
# ```{dropdown} Answer
# Never worse, and out of reach: 8 of 80 candidates make 29 thousand million sets. The greedy choice is guaranteed 63 % of the best, and usually gets nearly all of it.
# ```

# %% [markdown]
# ## Step 4: one number for a curve
#
# A strategy leaves a curve: clicks `spent` so far, and the Dice then. Its mean height is the area under the straight lines between the points, divided by the length of the axis.


# %%
def area_under(spent, dice):
    """Clicks (R + 1,) and Dice (R + 1,), lists of numbers, to one number."""
    # BEGIN SOLUTION
    spent, dice = np.asarray(spent), np.asarray(dice)
    pieces = np.diff(spent) * (dice[1:] + dice[:-1]) / 2
    return pieces.sum() / (spent[-1] - spent[0])
    # END SOLUTION


# %%
lab07.curve(area_under)

# %% [markdown]
# ```{dropdown} Hint
# `np.diff(spent)` are the lengths of the pieces; the height of a piece is the mean of its two ends.
# ```

# %% [markdown]
# ## Spend them
#
# The rest is given: four strategies, each made of your pieces. The last one is a cheat, and is called so: it opens the drawer.


# %%
def at_random(method, images, open_pool, n):
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(n))


def by_doubt(method, images, open_pool, n):
    return image_doubt(method.predict(images)).argsort(descending=True)


def doubt_then_cover(method, images, open_pool, n):
    candidates = by_doubt(method, images, open_pool, n)[: 2 * n]
    deep = method.net.encode(images)[-1].mean((2, 3))
    deep = torch.nn.functional.normalize(deep, dim=1)
    likeness = (deep @ deep[candidates].T).clamp(min=0)
    return candidates[greedy_cover(likeness, len(candidates))]


def cheat(method, images, open_pool, n):
    wrong = method.predict(images).argmax(1) != everything.train.labels[open_pool]
    return wrong.flatten(1).float().mean(1).argsort(descending=True)


def spend(strategy, clicks=200, rounds=4):
    now, spent, asked = task, [0], []
    method = Supervised(networks.unet(task, seed=0))
    fit(method, unaided(now), budget, seed=0)
    method.cpu()
    stages = [copy.deepcopy(method)]
    for number in range(1, rounds + 1):
        left = clicks * number // rounds - spent[-1]
        with torch.inference_mode():
            pool = now.unlabelled
            method.eval()
            order = strategy(method, now.train.images[pool], pool, max(1, left // 5))
        items = affordable(pool[order], price, left)
        now, later = ask(now, items), replace(budget, steps=-(-budget.steps // 2))
        asked.append(items)
        fit(method, unaided(now), later, seed=number)
        method.cpu()
        stages.append(copy.deepcopy(method))
        spent.append(spent[-1] + int(price[items].sum()))
    return spent, asked, stages


def dice_of(method):
    with torch.inference_mode():
        return score(
            method.eval().predict(task.valid.images).argmax(1), task.valid, False
        ).mean_dice


# %% tags=["nbval-ignore-output"]
strategies = (at_random, by_doubt, doubt_then_cover, cheat)
runs = {s.__name__.replace("_", " "): spend(s) for s in strategies}
dice = {name: [dice_of(method) for method in stages] for name, (_, _, stages) in runs.items()}
fig, ax = show.subplots()
for (name, (spent, _, _)), style in zip(runs.items(), ("o-", "s--", "^-.", "d:"), strict=True):
    ax.plot(spent, dice[name], style, label=name)
ax.set(xlabel="clicks", ylabel="validation Dice")
fig.legend(loc="outside right upper")
show.figure(
    fig,
    alt="Validation Dice over clicks. Areas: "
    + ", ".join(
        f"{name} {area_under(spent, dice[name]):.3f}" for name, (spent, _, _) in runs.items()
    )
    + ".",
)

# %% tags=["nbval-ignore-output"]
print(f"{'':<20}{'area':>7}{'last':>7}{'clicks':>8}{'images':>8}{'patients':>10}")
for name, (spent, asked, _) in runs.items():
    items = torch.cat(asked)
    owners = len(task.train.subjects[items].unique())
    area = area_under(spent, dice[name])
    print(f"{name:<20}{area:7.3f}{dice[name][-1]:7.3f}{spent[-1]:8}{len(items):8}{owners:10}")

# %% [markdown]
# What did the first round of each buy?

# %% tags=["nbval-ignore-output"]
first = torch.cat([asked[0][:3] for _, asked, _ in runs.values()])
titles = [
    f"{name}, {int(price[i])} clicks" for name, (_, asked, _) in runs.items() for i in asked[0][:3]
]
show.images(
    task.train.images[first],
    labels=everything.train.labels[first],
    titles=titles,
    names=names,
    columns=6,
    alt="The first images that each strategy had outlined, with the annotator's contours and prices: "
    + "; ".join(titles),
)

# %% [markdown]
# ## What have you shown?
#
# How to spend clicks, and how to count what they have brought. *Not* which strategy is best: that is one draw of five patients, one network, 200 clicks. Another seed gives another order of the lines, unless they
# are far apart. The page [Active learning](../partial/active) has the table with several seeds and intervals.

# %%
total = int(price[task.unlabelled].sum())
print(f"to outline the whole pool would take {total} clicks: 200 are {200 / total:.0%} of it")

# %% [markdown]
# **If there is time left**
#
# - Rank by doubt *per click*. The price is not known beforehand; what could stand for it?
# - Take the largest doubt of a pixel, or the mean of the 50 largest, instead of the mean of all. Which lesions are asked about now?
# - Spend all 200 clicks in one round, and then in ten. What do rounds buy, and what do they cost?
#
# ```{admonition} Take-away
# An annotator's time is the budget, so count it. Rank by doubt, choose for the set, compare curves at equal cost by their area, and always let chance play along.
# ```
