# %% [markdown]
# # Scoreboard
#
# <!-- badge -->
#
# **You will learn**
#
# - how every technique of this book fares against the same baseline, under the same protocol;
# - how large the gap is that few, partial or wrong labels leave, on each cohort;
# - which differences these runs decide, and which they do not;
# - how to add a row of your own.
#
# **You should know** [what a fair comparison is](../foundations/measuring).

# %% tags=["setup"]

# %%
from lsseg_edu import show, study
from lsseg_edu.learn import quiz

results = study.read()
present = [name for name in study.PROTOCOLS if any(r["protocol"] == name for r in results)]
print(
    f"{len(results)} trainings under {len(present)} protocols, by lsseg-edu "
    f"{', '.join(sorted({r['version'] for r in results}))} on {', '.join(sorted({r['device'] for r in results}))}"
)

# %% [markdown]
# ## The rules
#
# A **protocol** fixes the cohort, the test subjects, how many training subjects have labels and of what kind,
# the number of steps, the batch size, the augmentation and the learning-rate cycle. Within a protocol the arms
# differ by the technique alone. A **seed** draws the labelled subjects, the weights, the batches and the
# annotator's hand; the test subjects are the same for all seeds. Nothing is chosen on the test subjects, and the
# last iterate is the one that is scored.
#
# Hyper-parameters are those of the class as it stands in the library, the same on every cohort. That is harder
# on a method than a tuned paper is, and nearer to what you will meet on your own data.

# %%
for name in present:
    p = study.protocol(name)
    subjects = "all subjects" if p.labelled is None else f"{p.labelled} subjects"
    print(
        f"{name:<18} {p.cohort}, labels of {subjects}: {p.supervision}; {p.steps} steps of {p.budget.batch} images"
    )

# %% [markdown]
# ## The gap
#
# Before asking what a method gains, ask what there is to gain: the distance between the baseline, which learns from
# the weak labels alone, and *full labels*.

# %%
gaps = {}
for name in present:
    lines = {line.method: line for line in study.summary(results, name)}
    if "full-labels" in lines and lines["full-labels"].difference:
        gaps[name] = tuple(100 * x for x in lines["full-labels"].difference)
show.bars(
    gaps,
    xlabel="Dice points between the baseline and full labels",
    alt="The gap of each protocol with its 95 % interval: "
    + "; ".join(f"{name} {mean:.1f}" for name, (mean, _, _) in gaps.items()),
)

# %% [markdown]
# ## All arms
#
# Choose a protocol. The bar is the difference to the baseline, seed by seed, with its 95 % interval; it is pale where
# the interval contains zero, that is, where these runs do not decide. Arms of fewer than three runs are left out.


# %%
def arms(protocol):
    baseline = study.protocol(protocol).baseline
    lines = [x for x in study.summary(results, protocol) if x.difference and x.seeds >= 3]
    bars = {line.method: tuple(100 * x for x in line.difference) for line in lines}
    return show.bars(
        bars,
        xlabel=f"Dice points above the baseline ({baseline}), {protocol}",
        alt=f"{protocol}: "
        + "; ".join(f"{name} {mean:+.1f}" for name, (mean, _, _) in bars.items()),
    )


show.explore(
    arms,
    protocol=[n for n in present if len({r["method"] for r in results if r["protocol"] == n}) > 1],
    limit=180_000,
    alt="Differences to the baseline under each protocol.",
)

# %% [markdown]
# The same as numbers. Seconds are processor time of one training on one core.

# %%
from IPython.display import Markdown

tables = []
for name in present:
    tables.append(f"### {name}\n\n" + show.scoreboard(study.summary(results, name)).data)
Markdown("\n\n".join(tables))

# %% [markdown]
# ## What did not help
#
# A table of winners teaches half of the truth. These arms were **not** better than their baseline beyond doubt:

# %%
for name in present:
    for line in study.summary(results, name):
        if line.verdict in ("worse", "undecided") and line.seeds >= 3:
            d = line.difference
            print(
                f"{name:<18} {line.method:<24} {100 * d.mean:+5.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]  {line.verdict}"
            )

# %% [markdown]
# *Undecided* is not *useless*: with few seeds, a few points either way cannot be told from the luck of the draw. It means
# that you should not build on it.

# %% [markdown]
# ## Add a row
#
# ```bash
# python -m lsseg_edu.study run --methods mean-teacher --protocols cardiac-3 --seeds 5 --jobs 2
# python -m lsseg_edu.study table --protocols cardiac-3
# ```
#
# Runs that are there are skipped, a run that is killed is started again by the same command, and a control is an option
# after a colon: `mean-teacher:weight=0`.

# %%
quiz(
    "Under one protocol, method A has a higher mean Dice than method B in three seeds, and both intervals overlap. What may you say?",
    {
        "A is better.": "Three seeds with overlapping intervals may well fall the other way next time.",
        "Neither is better.": "Overlap of the two separate intervals does not show that either. The seeds are paired: "
        "look at the interval of the *difference*.",
        "Look at the interval of the paired difference.": "Both arms share the labelled subjects of each seed, and that "
        "shared luck cancels in the difference.",
    },
    correct="Look at the interval of the paired difference.",
)

# %% [markdown]
# ## Exercises
#
# **1.** Which protocol has the widest interval for *full labels* minus baseline? What in its cohort could be the reason?
#
# ```{dropdown} Solution
# Look at the first figure. With one to three labelled subjects, a seed may draw typical or strange ones; the more the
# subjects of a cohort differ, the more the draw matters.
# ```
#
# **2.** *Gap closed* divides by the gap. When does that make the number worthless?
#
# ```{dropdown} Solution
# When the gap is small or its interval contains zero: a small number divided by noise. Always read it beside the
# difference in Dice points.
# ```
#
# **3.** You want to halve the width of an interval over seeds. How many seeds do you need?
#
# ```{dropdown} Solution
# Four times as many, and a little less, because Student's factor falls too: from three seeds (4.3 standard errors) to
# twelve (2.2).
# ```

# %% [markdown]
# ## Take away
#
# - Same protocol, same seeds, one difference: that is a comparison.
# - Ask for the gap before you ask for the gain.
# - A pale bar is a result.
