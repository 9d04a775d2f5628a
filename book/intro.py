# %% [markdown]
# # Segmenting with Less
#
# <!-- badge -->
#
# A network that outlines hearts, tumours or nuclei learns from images that somebody has outlined by
# hand, pixel by pixel. That somebody is an expert, and takes hours for one patient. So in practice
# one has **few** masks, or **parts** of masks, or masks with **errors**. This book is about learning
# from those.
#
# It is a book that runs. Every figure was made by the code above it, every number by an experiment you
# can repeat, most of them on a laptop in minutes. And it is honest about them: each method stands beside
# a baseline that was given the same care, with several seeds, an interval, and the cases where
# it does not help.

# %% tags=["setup"]

# %%
import torch

from lsseg_edu import show, study
from lsseg_edu.data import Task, annotate, load

# %% [markdown]
# ## The problem in one figure
#
# Six images, of six patients. Choose what the annotators left you. Colour is annotated, a white
# line is scribbled background, and where an image is plain, nobody said anything.

# %%
hearts = Task.split(load("cardiac", subjects=8), valid=1, test=1)
chosen = torch.arange(len(hearts.train)).view(6, -1)[:, 2]  # the third slice of each patient
LEFT = {
    "all masks": lambda task: task,
    "few: the masks of two patients (semi-supervised)": lambda task: annotate.subjects(task, 2),
    "parts: scribbles (partially supervised)": lambda task: annotate.scribbles(task),
    "errors: masks of a hasty rater (inaccurate)": lambda task: annotate.raters(task, ["hasty"]),
}


def six_hearts(left):
    train = LEFT[left](hearts).train.select(chosen)
    return show.images(
        train.images,
        labels=train.labels,
        columns=6,
        fill=True,
        names=train.names,
        alt=f"Six hearts of six patients and what is known of them: {left}.",
    )


show.explore(
    six_hearts,
    left=list(LEFT),
    labels={"left": "you are given"},
    limit=150_000,
    alt="Six hearts of six patients and the annotation that is left.",
)

# %% [markdown]
# An hour of an expert buys very different amounts of each: [the price of a label](foundations/price) does
# the sums. The three poorer lines are the three families of methods, and the three main parts of the book.

# %% [markdown]
# ## The map
#
# The book follows one survey: Peng and Wang, *Medical Image Segmentation with Limited Supervision: A
# Review of Deep Network Models*, {cite:p}`peng2021medical`. Its sections are the nodes below; every
# technique it names has a row in [the map of the survey](scoreboard/map). Coloured nodes lead to the
# chapter that begins them. Pale ones are still to be written.

# %%
show.taxonomy()

# %% [markdown]
# ## For whom
#
# - **You are learning.** You know Python and have trained a network once. Read the parts in order; the
#   pages move without any installation. Answer the quizzes, try an exercise before you unfold its solution.
# - **You teach.** Each lab comes in two editions, one with blanks and one with solutions, and with checks that
#   tell a student *which* property of the answer is wrong. Begin with [the first
#   lab](labs/01_first_mean_teacher).
# - **You build.** One technique is one file of a screen: reference, equation, mechanism. Take the file, or call it: the
#   library `lsseg_edu` is what the chapters import ([API](api)).
# - **You do research.** The [scoreboard](scoreboard/scoreboard) compares methods under frozen protocols, and
#   [one page](scoreboard/unlabelled) says what unlabelled images buy. Add a row, or find the row that
#   contradicts you. [Measuring honestly](foundations/measuring) says what we take for evidence.
#
# ## How to use it
#
# | you want to | do this |
# |---|---|
# | read | Stay here. Figures with controls answer on the page; there is nothing to start. |
# | run one chapter | Click *Open in Colab* under its title. A free machine is enough; a GPU makes it quicker. |
# | run it at home | Clone the repository, `make lab`, and open a chapter in JupyterLab. Two cores suffice, and there are no data to download. |
# | use your own images | `Cohort.from_arrays(images, labels, subjects)`, then change one line of any chapter ([the data](foundations/data)). |
# | add a technique or a chapter | [Contributing](contributing) shows both on a page. |
#
# Each chapter is built alike: what you will learn, the idea in a picture, its equation, the code of that equation as it
# stands in the library, the method beside its baseline, what the scoreboard says, a quiz, exercises, and where to read
# on. How long a chapter takes stands under its title, measured.
#
# Three sizes of every experiment are built in. On a laptop the chapters train for minutes and are already true; on a
# GPU they train longer, with more seeds; and a size of seconds exists for the tests. The variable
# `LSSEG_EDU_BUDGET` (`smoke`, `laptop`, `gpu`) decides, by default the machine does.
#
# ## What a chapter ends with
#
# A claim with its uncertainty. This is the table of the first method of Part I, from the stored results:

# %%
arms = ("full-labels", "mean-teacher", "mean-teacher:weight=0", "supervised")
lines = study.summary(study.read(), "cardiac-3")
show.scoreboard([line for line in lines if line.method in arms])

# %% [markdown]
# *Runs* differ in their seed, and each seed draws other labelled patients. The interval of the difference is
# taken seed by seed. If it contains zero, the verdict is *undecided*, whatever the mean says.
#
# ## Where to begin
#
# With [the price of a label](foundations/price), if segmentation is new to you. With
# [consistency](semi/consistency), [scribbles](partial/scribbles) or [noisy labels](inaccurate/noise), if you know which
# labels you have. With [measuring honestly](foundations/measuring), if you have a result already.
#
# The words are in [the glossary](glossary), the symbols in [the notation](notation). Text and figures are licensed CC BY 4.0,
# the code Apache 2.0.
