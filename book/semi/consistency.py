# %% [markdown]
# # Consistency: the same image, said twice
#
# <!-- badge -->
#
# **You will learn**
#
# - why an image without a mask can still correct a network;
# - how Mean Teacher turns that into a loss, and why its teacher is an *average* of students;
# - how the strength of the perturbation and the memory of the teacher change what is learnt;
# - what the method is worth on five kinds of image, and how much of that is the averaging alone.
#
# **You should know** the training loop of [the baseline](../foundations/baseline) and what makes a
# comparison fair ([measuring honestly](../foundations/measuring)).

# %% tags=["setup"]

# %%
import numpy as np
import torch

from lsseg_edu import networks, show, study
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn import quiz
from lsseg_edu.semi.consistency import MeanTeacher, sigmoid_rampup
from lsseg_edu.train import Budget, Supervised, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# Three patients have masks. Sixty-seven more have images only: no answer key. But there is one
# thing we know of every image, with or without a mask. **If we add a little noise to it, the heart
# in it does not move.** So the segmentation must not move either.
#
# A network trained on three patients breaks this rule all the time. Let us train one, show it an
# image it has never seen, and then show it the same image again with a little noise.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised(networks.unet(task)), task, budget, seed=0)

image = task.valid.images[3:4]
torch.manual_seed(0)
copies = image + 0.2 * torch.randn(4, *image.shape[1:])
views = torch.cat([image, copies])
show.images(
    views,
    predictions=baseline.predict(views).argmax(1),
    titles=["the image", *[f"noisy copy {i}" for i in range(1, 5)]],
    names=task.valid.names,
    alt="The baseline's contours on one heart image and on four noisy copies of it: the image "
    "hardly changes, the contours do.",
)

# %% [markdown]
# At least some of these answers must be wrong, and we did not need a mask to find out. Where the
# answers disagree, the network is guessing. A loss that punishes the disagreement pushes its
# decision boundaries away from the images, into regions where no image lies; that is the
# *cluster assumption* of semi-supervised learning, put to work.
#
# Written down, for an unlabelled image $x$ and two draws of noise $\eta, \eta'$:
#
# $$
# L_{cons} = \frac{1}{|\Omega| K} \sum_{i \in \Omega} \sum_{k=1}^{K}
#   \big( f_\theta(x + \eta)_{ik} - f_{\theta'}(x + \eta')_{ik} \big)^2
# $$
#
# $\Omega$ are the pixels, $K$ the classes, $f$ the probabilities. The left answer is the
# **student's**, who learns from this loss; the right one is the **teacher's**, who does not. All
# methods of this chapter share this line. They differ in the perturbation, and in who the teacher is.

# %% [markdown]
# ## Mean Teacher
#
# If the teacher is the student itself ($\theta' = \theta$), both make the same mistakes. One could
# do better by asking many networks and averaging, but many networks cost many trainings. Tarvainen
# and Valpola found them for free: **the student of a moment ago is another network**, and so is the
# one before. The teacher's weights are the exponential moving average (EMA) of all of them,
#
# $$
# \theta'_t = \alpha_t\, \theta'_{t-1} + (1 - \alpha_t)\, \theta_t ,
# \qquad \alpha_t = \min\!\big(1 - \tfrac{1}{t+1},\ \alpha\big),
# $$
#
# which remembers about $1/(1-\alpha)$ steps. The $\min$ is the *warm-up*: early on the teacher is
# the plain mean of all students so far. With $\alpha$ from the first step it would carry its random
# start along for a long time.
#
# Here is the whole of it, as it stands in the library:

# %%
show.code(MeanTeacher)

# %% [markdown]
# Four things to notice, because each is a way to get it wrong:
#
# - the noise is drawn **twice**; with one draw for both, equal networks would agree for nothing;
# - the teacher is under `no_grad`: it is a target. A gradient through both sides could satisfy the
#   loss by pulling the good answer towards the bad one;
# - the teacher moves **after** the optimiser's step, and only through the average;
# - `predict` asks the teacher. Always say which of the two you evaluate: the average alone is worth
#   something, as we shall see.
#
# How long should the teacher remember? The curve below is one weight of a student that learns
# (it rises) and is shaken by the randomness of its batches (it trembles). Move the slider.

# %%
steps = np.arange(1, 301)
student = 1 - np.exp(-steps / 40) + 0.12 * np.random.default_rng(0).normal(size=300)


def memory(decay, warm_up):
    teacher, path = -0.5, []
    for t, theta in zip(steps, student, strict=True):
        alpha = min(1 - 1 / (t + 1), decay) if warm_up == "with" else decay
        teacher = alpha * teacher + (1 - alpha) * theta
        path.append(teacher)
    return show.curves(
        {"student": student, "teacher": path},
        steps,
        ylabel="one weight",
        alt=f"A noisy rising curve, the student, and its moving average: decay {decay}, {warm_up} warm-up.",
    )


show.explore(
    memory,
    decay=[0.0, 0.5, 0.9, 0.97, 0.99, 0.999],
    warm_up=["with", "without"],
    labels={"decay": "EMA decay α", "warm_up": "warm-up"},
    limit=90_000,
    alt="One weight of the student over training, and the teacher that averages it.",
)

# %% [markdown]
# At $\alpha = 0$ the teacher *is* the student. At 0.9 the trembling is gone; at 0.99 the teacher is
# smooth but late; at 0.999 **without** warm-up it has not even left its random start after 300
# steps, and a student that must agree with it learns nonsense. Published decays belong to published
# training lengths. Ours are short, so the library's default is 0.99, with warm-up.

# %% [markdown]
# ## Ramp-up
#
# In the first steps *nobody* knows where the heart is. Agreement is easy then: say "background"
# everywhere. So the weight of the consistency term starts near zero and rises,
# $w(t) = w_{max} \exp\!\big(-5 (1 - t/T)^2\big)$, with $t$ the fraction of training done:

# %%
progress = np.linspace(0, 1, 101)
show.curves(
    {f"T = {T}": [sigmoid_rampup(t, T) for t in progress] for T in (0.2, 0.4, 0.8)},
    progress,
    xlabel="fraction of training done",
    ylabel="weight / largest weight",
    alt="Three S-shaped curves from nearly 0 to 1, reaching 1 at a fifth, two fifths and four "
    "fifths of the training.",
)

# %% [markdown]
# ## Side by side
#
# Now the comparison. Same network, same first weights, same labelled images in the same order, same
# augmentation, same steps: the only difference is the sixty-seven patients without masks.

# %% tags=["nbval-ignore-output"]
mean_teacher = fit(MeanTeacher(networks.unet(task)), task, budget, seed=0)
reports = {
    "supervised": evaluate(baseline, task.test),
    "mean teacher": evaluate(mean_teacher, task.test),
}
for name, report in reports.items():
    print(f"{name}\n{report}\n")

# %% [markdown]
# Which patients gained? Look at the test patient that gained most and the one that lost most, not
# at two that happen to look good.

# %% tags=["nbval-ignore-output"]
gain = reports["mean teacher"].per_subject - reports["supervised"].per_subject
best, worst = reports["supervised"].subjects[[gain.argmax(), gain.argmin()]]
slices = [(task.test.subjects == s).nonzero()[4, 0].item() for s in (best, worst)]
pair = task.test.select(torch.tensor(slices))
answers = torch.stack(
    [fitted.predict(pair.images).argmax(1) for fitted in (baseline, mean_teacher)]
)
show.images(
    pair.images.repeat(2, 1, 1, 1),
    labels=pair.labels.repeat(2, 1, 1),
    predictions=answers.flatten(0, 1),
    titles=[f"{who}, {which}" for who in reports for which in ("most gained", "most lost")],
    columns=4,
    names=pair.names,
    alt="Truth and prediction of both methods on the test patient that gained most from Mean "
    "Teacher and on the one that lost most.",
)

# %% [markdown]
# One training of each is an anecdote. Before we ask the scoreboard, look at what the loss was meant
# to change: how much the answer moves when the image is shaken. The map shows, pixel by pixel, the
# squared change of the probabilities, averaged over eight noisy copies.

# %% tags=["nbval-ignore-output"]
fits = {"supervised": baseline, "mean teacher": mean_teacher}


def shaken(noise, method):
    torch.manual_seed(0)
    noisy = image + noise * torch.randn(8, *image.shape[1:])
    calm, moved = fits[method].predict(image), fits[method].predict(noisy)
    change = (moved - calm).square().mean((0, 1))
    fig, (left, middle, right) = show.subplots(1, 3, height=2.5)
    show.overlay(left, image[0], prediction=calm[0].argmax(0))
    show.overlay(middle, noisy[0], prediction=moved[0].argmax(0))
    heat = right.imshow(change, cmap="magma", vmin=0, vmax=0.15)
    fig.colorbar(heat, ax=right, shrink=0.8)
    for ax, title in zip(
        (left, middle, right), ("the image", "a noisy copy", "change"), strict=True
    ):
        ax.set_title(title)
        ax.axis("off")
    return show.figure(
        fig,
        alt=f"Contours without and with noise {noise}, and where {method} changed its answer; "
        f"mean change {change.mean():.4f}.",
    )


show.explore(
    shaken,
    noise=[0.0, 0.1, 0.2, 0.4, 0.8],
    method=list(fits),
    labels={"noise": "noise (image deviation = 1)"},
    limit=140_000,
    alt="Where the answer changes when the image is shaken, for both methods.",
)

# %% [markdown]
# The change sits on the boundaries, where it should, and in places where the network guesses, where
# it should not. Compare the methods at one noise level, and mark that both break when the noise is
# large enough: consistency is learnt for the perturbation it is trained with.

# %% [markdown]
# ## What the scoreboard says
#
# The [scoreboard](../scoreboard/scoreboard) repeats this with several seeds, each of which draws
# other labelled patients, other weights and other batches. *Full labels* is the upper reference; the
# gap is what lies between it and the baseline. The row `weight=0` is the control: the same averaging
# teacher, but no consistency loss, so not one unlabelled image is used. `ramp=0` starts the
# consistency at its full weight.

# %%
results = study.read()
arms = ("full-labels", "mean-teacher", "mean-teacher:weight=0", "mean-teacher:ramp=0", "supervised")


def table(protocol):
    lines = study.summary(results, protocol)
    return show.scoreboard([line for line in lines if line.method in arms])


table("cardiac-3")

# %% [markdown]
# And on real patients (ACDC, cine MR, 3 of 70 with masks, 20 test patients):

# %%
table("acdc-3")

# %% [markdown]
# The same method, unchanged, on every cohort of the book:

# %%
differences = {}
for name in sorted(study.PROTOCOLS):
    lines = {line.method: line for line in study.summary(results, name)}
    if "mean-teacher" in lines:
        differences[name] = tuple(100 * d for d in lines["mean-teacher"].difference)
        print(f"{name:<12} mean teacher against supervised: {lines['mean-teacher'].verdict}")
show.bars(
    differences,
    xlabel="Dice points above the supervised baseline",
    alt="Difference of Mean Teacher to the baseline on every cohort, with 95 % intervals: "
    + "; ".join(f"{k} {m:+.1f} ({lo:+.1f} to {hi:+.1f})" for k, (m, lo, hi) in differences.items()),
)

# %% [markdown]
# Read the intervals before the bars. A pale bar means that these runs do not tell the two apart;
# with so few seeds, many will be pale, and that is a finding too: a gain smaller than the spread over
# *which patients were labelled* is not one to bet a study on. Read the control as well. Whatever
# `weight=0` gains over the baseline is the work of averaging, and only the rest is due to the
# unlabelled images.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You train Mean Teacher and the consistency loss is zero from the first step to the last. What is the likely cause?",
    {
        "The network is already perfectly consistent.": "Not from its first step: random weights "
        "answer noise with noise.",
        "Student and teacher get the same noise, and the decay is 0.": "Then they are one network "
        "asked one question, and agree by construction.",
        "There are too few labelled images.": "The consistency term does not look at labels at all.",
    },
    correct="Student and teacher get the same noise, and the decay is 0.",
)

# %%
quiz(
    "A paper reports the teacher's Dice for its method and the student's for the baseline. What is wrong?",
    {
        "Nothing, each is the better of its two networks.": "The teacher is an average of weights, and "
        "averaging helps without any unlabelled image.",
        "The gain mixes the averaging with the unlabelled images.": "Give the baseline an averaged "
        "teacher too: the `weight=0` row of the table.",
        "The student should have been evaluated on the training set.": "That measures memory.",
    },
    correct="The gain mixes the averaging with the unlabelled images.",
)

# %% [markdown]
# ## Exercises
#
# **1. Both sides.** Remove `torch.no_grad()` and let the gradient flow into the teacher's answer as
# well, with $\theta' = \theta$. Which segmentation minimises the consistency loss alone? Why does the
# supervised term not always prevent it?
#
# ```{dropdown} Hint
# Find an answer that never depends on the image.
# ```
# ```{dropdown} Solution
# Any constant answer, "background everywhere" say, is perfectly consistent. With the stop-gradient
# only the student moves towards the teacher's present answer; without it both may slide together
# towards the constant, and on images far from the labelled ones the supervised term, which only sees
# the labelled ones, hardly objects. The slow teacher is a brake on this collapse.
# ```
#
# **2. Another perturbation.** Gaussian noise is one way to shake an image. Suppose you rotate the
# student's image by 90 degrees instead. What else must you rotate before comparing, and what would
# happen if you forgot?
#
# ```{dropdown} Hint
# Noise leaves the heart where it is. A rotation does not.
# ```
# ```{dropdown} Solution
# The teacher's *answer* must be rotated in the same way: $f_\theta(R x)$ is compared with
# $R f_{\theta'}(x)$. Segmentation is *equivariant* to geometry, not invariant. If you forget, the loss
# asks for the same label at places where the anatomy differs; the cheapest way to obey is again a
# constant answer.
# ```
#
# **3. An honest gain.** From `results`, compute the gain of Mean Teacher over the *control* instead of
# over the baseline, seed by seed, and give its interval. Would you still recommend the method?
#
# ```{dropdown} Hint
# `study.summary` takes the name of the arm that differences are taken to.
# ```
# ````{dropdown} Solution
# ```python
# lines = study.summary(results, "cardiac-3", baseline="mean-teacher:weight=0")
# next(line.difference for line in lines if line.method == "mean-teacher")
# ```
# What you see is the value of the unlabelled images with the averaging taken out. Decide by the
# interval, not by the mean.
# ````

# %% [markdown]
# ## Take away
#
# - An unlabelled image has no answer, but it has a rule: *shake the image, keep the answer*.
# - Mean Teacher's target is the average of past students: better than each, and free.
# - Warm up the teacher, ramp up the weight, stop the gradient, and say which network you evaluate.
# - Compare with the averaging alone before you credit the unlabelled images.
#
# **Reading.** {cite:t}`tarvainen2017mean` introduce the method, {cite:t}`laine2017temporal` the ramp and the
# ensembles before it; {cite:t}`cui2019semi` brought it to lesions in brain MR.
