# %% [markdown]
# # Lab 3: Pseudo-labels without fooling yourself
#
# <!-- badge -->
#
# **You will build** self-training: labels that a network gives to new images, a measure of how good they are, and the
# rounds of teacher and student. Then you will do what is harder, and find out honestly whether it helped. Allow 45 minutes.
#
# **You should know** the training loop of [the baseline](../foundations/baseline) and the idea of
# [Self-training](../semi/self_training). You need not have its code in your head; do not look at it yet.
#
# There are five steps with one blank each. After each step comes a **check**: it runs your code and, if something is
# missing, says *which property* is missing. Run the cells from top to bottom: where a cell stops with *Blank 1*, the first
# line of yours is wanted.

# %% tags=["setup"]

# %%
from dataclasses import replace

import numpy as np

from lsseg_edu import networks, show, study
from lsseg_edu.data import IGNORE, Task, load
from lsseg_edu.evaluate import evaluate, interval_over_seeds
from lsseg_edu.learn import quiz
from lsseg_edu.learn.checks import lab03
from lsseg_edu.semi.self_training import PseudoLabelled, with_pseudo
from lsseg_edu.train import Budget, Supervised, fit, supervised_longer

# %% [markdown]
# ## The problem
#
# Hearts in short-axis MR; three patients have masks. To keep the lab short, a part of the patients stays away, and the
# trainings are shorter than elsewhere in the book.

# %%
auto = Budget.auto()
budget = replace(auto, steps=auto.pick(2, 150, 600))
cohort = load("cardiac")
everyone = Task.split(cohort.of(cohort.subjects.unique()[:50]))
task = everyone.keep(labelled=3, seed=0)
print(task)

# %% [markdown]
# ## Step 1: labels where the network is sure
#
# A network answers with probabilities $p$ over $K$ classes at each pixel $i$. Where the largest of them reaches the threshold
# $\tau$, its class is the pseudo-label. Elsewhere there is none:
#
# $$
# \hat y_i = \begin{cases} \arg\max_k p_{ik} & \text{if } \max_k p_{ik} \ge \tau \\ \text{IGNORE} & \text{else.} \end{cases}
# $$


# %%
def pseudo_labels(probs, threshold):
    """Probabilities (N, K, H, W) to labels (N, H, W), IGNORE where the network is not sure."""
    # BEGIN SOLUTION
    confidence, labels = probs.max(1)
    return labels.where(confidence >= threshold, IGNORE)
    # END SOLUTION


# %%
lab03.labels(pseudo_labels)

# %% [markdown]
# ```{dropdown} Hint
# `values, index = x.max(1)` gives the largest value over axis 1 and where it is. `a.where(condition, b)` is `a` where the
# condition holds and `b` elsewhere.
# ```
#
# **Think.** Why not write 0, the background, where the network is not sure?
#
# ```{dropdown} Answer
# Because that *is* a statement, and mostly a wrong one: the network hesitates at and in the organs. The student would learn that
# whatever is difficult is background. `IGNORE` takes part in no loss.
# ```

# %% [markdown]
# ## Step 2: how good are they?
#
# Two numbers, both about the **organs**, that is all classes but the background:
#
# - *precision*: of the pixels whose pseudo-label is an organ, the share whose truth is the same class;
# - *coverage*: of the pixels whose truth is an organ, the share that has a pseudo-label, right or wrong.
#
# If no pixel has an organ for its label, nothing is known of the precision: let it be NaN. (A tensor division 0/0 is NaN by itself.)


# %%
def quality(pseudo, truth):
    """Pseudo-labels and true labels (N, H, W) to two floats: precision, coverage."""
    # BEGIN SOLUTION
    given = pseudo != IGNORE
    organ = given & (pseudo > 0)
    precision = (organ & (pseudo == truth)).sum() / organ.sum()
    coverage = (given & (truth > 0)).sum() / (truth > 0).sum()
    return float(precision), float(coverage)
    # END SOLUTION


# %%
lab03.quality(quality)

# %% [markdown]
# The truth of unlabelled images nobody knows. But there are **validation patients**, whose masks are kept to choose things by. Here
# is a teacher, trained on the three patients, and the quality of its labels *there*:

# %% tags=["nbval-ignore-output"]
teacher = fit(Supervised(networks.unet(task, seed=1000)), task, budget, seed=1000)
answer = teacher.predict(task.valid.images)
levels = np.linspace(0.25, 0.99, 20)
path = np.array([quality(pseudo_labels(answer, tau), task.valid.labels) for tau in levels])
show.curves(
    {"precision": path[:, 0], "coverage": path[:, 1]},
    levels,
    xlabel="threshold",
    ylabel="share",
    alt="Precision and coverage of the teacher's labels on validation patients over the threshold: the coverage falls.",
)

# %% [markdown]
# ## Step 3: rounds
#
# `train` is given. It trains a network on the labels and, if there are some, on pseudo-labels of *all* unlabelled images.


# %%
def train(net, task, seed, pseudo=None):
    """Train `net`; `seed` draws the batches, `pseudo` (M, H, W) belongs to task.unlabelled."""
    if pseudo is None:
        return fit(Supervised(net), task, budget, seed=seed)
    both = with_pseudo(task, task.unlabelled, pseudo)
    return fit(PseudoLabelled(net), both, budget, seed=seed)


# %% [markdown]
# Now the loop. A **teacher** learns from the labels alone. In each round the network that was trained last labels the unlabelled
# training images, `task.train.images[task.unlabelled]`, and a **fresh** student learns from labels and pseudo-labels.
#
# - *Fresh*: a new network, with weights of its own. A student that goes on from its teacher's weights has learnt its
#   labels before the first step.
# - Every network has a seed of its own, for its weights (`networks.unet(task, seed=...)`) and for its batches. **The last student has
#   `seed` itself**, so that it starts exactly as a baseline with this seed does; the others have for example `seed + 1000`, `seed + 2000`.
# - `fitted.predict(images)` gives the probabilities.


# %%
def self_train(task, rounds, threshold, seed, train):
    """All networks in a list: [teacher, student 1, ..., student of the last round]."""
    # BEGIN SOLUTION
    first = seed + 1000 * rounds
    models = [train(networks.unet(task, seed=first), task, first)]
    for left in reversed(range(rounds)):
        answers = models[-1].predict(task.train.images[task.unlabelled])
        pseudo, fresh = pseudo_labels(answers, threshold), seed + 1000 * left
        models.append(train(networks.unet(task, seed=fresh), task, fresh, pseudo))
    return models
    # END SOLUTION


# %%
lab03.rounds(self_train)

# %% [markdown]
# ```{dropdown} Hint
# With two rounds the seeds are `seed + 2000`, `seed + 1000`, `seed`. `for left in reversed(range(rounds))` counts how many rounds are
# left after this one. `models[-1]` is the network that was trained last.
# ```

# %% [markdown]
# ## Step 4: a colleague's threshold
#
# Which threshold? A colleague has written this. `run(threshold)` trains with the threshold and returns the last student.


# %%
def colleagues_choice(candidates, task, run):
    scores = {}
    for threshold in candidates:
        report = evaluate(run(threshold), task.test, surfaces=False)
        scores[threshold] = report.mean_dice
    best = max(scores, key=scores.get)
    print(
        f"threshold {best}: Dice {scores[best]:.3f} on {len(task.test.subjects.unique())} test patients"
    )
    return best


# %%
quiz(
    "The colleague reports the printed Dice as the method's result on test patients. What is wrong with it?",
    {
        "Too few candidates were tried.": "More candidates would make it worse.",
        "Nothing: no network was *trained* on a test patient.": "True, and not enough. The threshold was chosen by them, and it "
        "is part of the method.",
        "The test patients chose the threshold, and then judged it.": "The largest of several scores is too high even if all "
        "candidates are equally good: it is the one that was lucky on these patients.",
    },
    correct="The test patients chose the threshold, and then judged it.",
)

# %% [markdown]
# How much does it flatter? Let all candidates be **equally good**, a true Dice of 0.70, and let each measured score be off by a standard
# error of two Dice points. Choose the best of them, ten thousand times:

# %%
draw = np.random.default_rng(0)
for candidates in (1, 3, 10, 30):
    measured = 0.70 + 0.02 * draw.normal(size=(10_000, candidates))
    print(
        f"best of {candidates:>2}: reported {measured.max(1).mean():.3f}, true 0.700, "
        f"{100 * (measured.max(1).mean() - 0.70):+.1f} Dice points for nothing"
    )

# %% [markdown]
# (Our candidates err independently. On the same patients real ones err alike in part, which makes the flattery smaller, but it never
# changes its sign.) Write the choice anew, so that the test patients stay unseen: **validation
# patients choose**.


# %%
def choose_threshold(candidates, task, run):
    """The candidate whose last student, run(threshold), is best on those who may choose."""
    # BEGIN SOLUTION
    scores = {
        threshold: evaluate(run(threshold), task.valid, surfaces=False).mean_dice
        for threshold in candidates
    }
    return max(scores, key=scores.get)
    # END SOLUTION


# %%
lab03.threshold(choose_threshold)

# %% [markdown]
# Now with your own loop, one round, and the first draw of patients:

# %% tags=["nbval-ignore-output"]
runs = {}


def run(threshold):
    runs[threshold] = self_train(task, rounds=1, threshold=threshold, seed=0, train=train)
    return runs[threshold][-1]


threshold = choose_threshold([0.5, 0.9], task, run)
print(f"the validation patients choose {threshold}")

# %% [markdown]
# ## Step 5: an honest comparison
#
# Your method has a teacher and a student: **two** trainings. Three arms, then, for three draws of the labelled patients:
#
# - *yours*, with the chosen threshold;
# - *supervised*: one training on the labelled patients;
# - *supervised longer*: one training of twice as many steps on the labelled patients. It spends the steps that your two trainings
#   spend, and sees no unlabelled image.
#
# All three have the same seeds, so the same labelled patients, and your last student, too, starts like the two others.

# %% tags=["nbval-ignore-output"]
mine, arms = {}, {"supervised": {}, "supervised longer": {}}
for seed in range(auto.pick(2, 3, 3)):
    drawn = everyone.keep(labelled=3, seed=seed)
    models = runs[threshold] if seed == 0 else self_train(drawn, 1, threshold, seed, train)
    fits = {
        "supervised": train(networks.unet(drawn, seed=seed), drawn, seed),
        "supervised longer": supervised_longer(drawn, budget, seed=seed, times=2),
    }
    mine[seed] = evaluate(models[-1], drawn.test, surfaces=False).mean_dice
    for name, fitted in fits.items():
        arms[name][seed] = evaluate(fitted, drawn.test, surfaces=False).mean_dice

print(f"{'seed':<20}" + "".join(f"{seed:>8}" for seed in mine))
for name, scores in {"yours": mine, **arms}.items():
    print(f"{name:<20}" + "".join(f"{scores[seed]:>8.3f}" for seed in scores))

# %% [markdown]
# Look along the lines, then down the columns. If the columns differ more than the lines, then *which patients were labelled* matters more
# than the method, and means over seeds tell little. The remedy is **pairing**: a draw that is hard for one arm is hard for the
# other as well, and their difference does not see it.
#
# Write the gain: the interval (`interval_over_seeds` of a list) of the differences, seed by seed, to the arm that has had as much training
# as yours. Use the seeds that both have.


# %%
def honest_gain(mine, arms):
    """{seed: Dice} of yours, and {arm: {seed: Dice}} of the others, to the interval of the gain."""
    # BEGIN SOLUTION
    reference = arms["supervised longer"]
    seeds = mine.keys() & reference.keys()
    return interval_over_seeds([mine[seed] - reference[seed] for seed in seeds])
    # END SOLUTION


# %%
lab03.gain(honest_gain)

# %% tags=["nbval-ignore-output"]
gain = honest_gain(mine, arms)
flattering = interval_over_seeds([mine[s] - arms["supervised"][s] for s in mine])
print(f"against supervised longer: {gain}")
print(f"against the short baseline: {flattering}")
verdict = "better" if gain.low > 0 else "worse" if gain.high < 0 else "undecided"
print(f"\nhonest verdict: {verdict}")

# %% [markdown]
# ## What have you shown?
#
# Three draws of three patients, short trainings, one round. If your interval contains zero, the sentence for the paper is not "self-training
# helps" and not "self-training does not help"; it is "these runs do not tell". The scoreboard has longer trainings, more unlabelled patients
# and two rounds; this is what *your* function says of its rows:

# %%
scores = {}
for row in study.read():
    if row["protocol"] == "cardiac-3" and not row["options"]:
        scores.setdefault(row["method"], {})[row["seed"]] = row["dice"]
book = {"supervised": scores["supervised"], "supervised longer": scores["supervised-longer"]}
if len(scores.get("pseudo-label", {})) > 1:
    print(f"pseudo-label on cardiac-3, honest gain: {honest_gain(scores['pseudo-label'], book)}")

# %% [markdown]
# **If there is time left**
#
# - Run `colleagues_choice([0.5, 0.9], task, run)` and compare what it prints with what you found.
# - A student's step passes twice as many images through the network as a baseline's. Which `times` makes `supervised_longer` fair in
#   *seconds*? (`Fitted.seconds` has them.)
# - Give the student its teacher's weights (`copy.deepcopy(models[-1].method.net)`). What does its `pseudo` loss start with?
#
# ```{admonition} Take-away
# Pseudo-labels are three lines. Not fooling yourself is the work: not labelled is not background, precision and coverage are those of
# the organs, the test patients choose nothing, and the reference has trained as long as you have.
# ```
