# %% [markdown]
# # Uncertainty: knowing where not to trust
#
# <!-- badge -->
#
# **You will learn**
#
# - why there are two kinds of doubt, and which of them another labelled patient would remove;
# - five ways to make one network answer many times, and four numbers to make of the answers;
# - how to test doubt: against errors pixel by pixel, against probabilities, against whole patients;
# - what temperature mends, and what it cannot.
#
# **You should know** how a network is trained ([the baseline](../foundations/baseline)) and what calibration is
# ([measuring honestly](../foundations/measuring)).

# %% tags=["setup"]

# %%
import math
from functools import cache

import numpy as np
import torch
from IPython.display import Markdown

from lsseg_edu import networks, show, study, survey
from lsseg_edu.data import IGNORE, Task, load
from lsseg_edu.evaluate import expected_calibration_error, interval_over_seeds, score
from lsseg_edu.learn import quiz
from lsseg_edu.semi.uncertainty import (
    BayesByBackprop,
    Gaussian,
    KendallGal,
    MCBatchNorm,
    MCDropout,
    TestTimeAugmentation,
    best_threshold,
    calibrated_ensemble,
    deep_ensemble,
    entropy,
    error_overlap,
    fit_temperature,
    mean_entropy,
    mutual_information,
    proper_scores,
    reliability,
    reliability_bins,
    retention,
    segment_entropy,
    statistics_of,
    subject_doubt,
    tempered,
    uncertainty_maps,
    with_batchnorm,
)
from lsseg_edu.train import Budget, fit

budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
task

# %% [markdown]
# ## The idea in a picture
#
# A pixel has one number $x$, its grey value say, and belongs to one of two classes. Dark pixels are
# always class 0, bright ones always class 1, and in between, for $|x| < 1$, it is a coin flip: blood and
# muscle share the pixel, and two experts would not agree either. We fit a small Bayesian classifier, and draw
# a dozen of the classifiers that the data allow (ticks: training pixels, at most sixty). Choose how many training pixels there are, and whether
# training ever saw a value above 1.5.

# %%
grid = np.linspace(-4, 4, 161)
centres = np.linspace(-4, 4, 11)


def features(x):
    return np.exp(-((np.asarray(x)[:, None] - centres) ** 2) / 2 / 0.8**2)


def possible_classifiers(x, y, draws=300):
    """Laplace approximation: Newton steps to the best weights, then draws around them."""
    phi, w, prior = features(x), np.zeros(len(centres)), np.eye(len(centres)) / 9
    for _ in range(30):
        p = 1 / (1 + np.exp(-phi @ w))
        curvature = phi.T * (p * (1 - p)) @ phi + prior
        w = w - np.linalg.solve(curvature, phi.T @ (p - y) + prior @ w)
    noise = np.random.default_rng(1).normal(size=(draws, len(w)))
    weights = w + np.linalg.solve(np.linalg.cholesky(curvature).T, noise.T).T
    return 1 / (1 + np.exp(-weights @ features(grid).T))


def two_doubts(pixels, seen):
    rng = np.random.default_rng(0)
    x = rng.uniform(-4, 1.5 if seen == "up to 1.5" else 4, pixels)
    y = np.where(np.abs(x) < 1, rng.random(pixels) < 0.5, x > 0)
    p = torch.from_numpy(possible_classifiers(x, y))
    samples = torch.stack([1 - p, p], 1)[:, None]  # (T, 1, K, grid)
    total, each, between = (m(samples)[0] for m in (entropy, mean_entropy, mutual_information))
    fig, (left, right) = show.subplots(1, 2, height=2.6)
    left.plot(grid, p[:12].T, color="#0072B2", lw=0.8)
    left.plot(x[:60], np.where(y, 1.08, -0.08)[:60], "|", color="#D55E00", ms=6)
    left.set(xlabel="x", ylabel="probability of class 1", ylim=(-0.15, 1.15))
    right.plot(grid, total, color="#595959", label="entropy of the mean")
    right.plot(grid, each, "--", color="#0072B2", label="mean entropy")
    right.plot(grid, between, "-.", color="#D55E00", label="mutual information")
    right.axhline(math.log(2), color="black", lw=0.8, ls=":")
    right.set(xlabel="x", ylabel="nats", ylim=(0, 1.15))
    right.legend(loc="upper left")
    middle, far = (float(between[np.abs(grid - at).argmin()]) for at in (0, 3))
    return show.figure(
        fig,
        alt=f"{pixels} training pixels, values {seen}: the classifiers that the data allow, and their doubt. "
        f"Mutual information {middle:.2f} in the middle, {far:.2f} at x = 3.",
    )


show.explore(
    two_doubts,
    pixels=[10, 40, 1000],
    seen=["up to 1.5", "everywhere"],
    labels={"pixels": "training pixels", "seen": "values seen in training"},
    limit=44_000,
    alt="Twelve classifiers that the training pixels allow, and three measures of their doubt.",
)

# %% [markdown]
# With ten pixels all is doubtful. With a thousand the middle is as doubtful as before, but the classifiers
# now *agree* that it is: this doubt is in the data, it is **aleatoric**, and no further label
# will remove it. At the right end, where training saw nothing, they all have a different, often
# confident, opinion: this doubt is about the network, it is **epistemic**, and a few labels there remove it.
# One number cannot tell the two apart; a crowd of answers can.

# %% [markdown]
# ## Measures of doubt
#
# Let a network answer $T$ times, $p^{(1)}, \dots, p^{(T)}$, each a distribution over the $K$ classes of a pixel,
# and let $\bar p$ be their mean. Entropy $H[p] = -\sum_k p_k \ln p_k$ is 0 for a sure answer and $\ln K$, the most,
# for an even one. What the mean answer leaves open comes in two parts:
#
# $$
# \underbrace{H[\bar p]}_{\text{total}} \;=\;
# \underbrace{\frac1T \sum_t H\big[p^{(t)}\big]}_{\text{aleatoric: each answer is unsure}} \;+\;
# \underbrace{I}_{\text{epistemic: the answers contradict}} .
# $$
#
# $I$ is the *mutual information* of label and network: what we would learn about the label by being told which of the
# $T$ networks is right. Entropy is concave, so $I$ is never negative. Nair, Camarasa and their colleagues compare four
# maps: $H[\bar p]$, $I$, the variance of the answers, and a variance that the network itself predicts
# (we come to that one [below](#kendall-and-gal)).

# %%
show.code(mutual_information)

# %% [markdown]
# Three pixels, four classes, four answers each: one pixel sure, one evenly unsure in every answer,
# one that each answer is sure about, of a different class.

# %%
sure, even = torch.eye(4)[[1, 1, 1, 1]], torch.full((4, 4), 0.25)
pixels = torch.stack([sure, even, torch.eye(4)], -1)[:, None, :, None]  # (T, 1, K, 1, 3)
maps = {**uncertainty_maps(pixels), "mean entropy": mean_entropy(pixels)}
print(f"{'':<20} {'sure':>8} {'even':>8} {'contradictory':>14}     ln 4 = {math.log(4):.2f}")
for name, values in maps.items():
    print(f"{name:<20} {values[0, 0, 0]:8.2f} {values[0, 0, 1]:8.2f} {values[0, 0, 2]:14.2f}")

# %% [markdown]
# The entropy of the mean does not distinguish the last two; mutual information and variance see only the
# contradiction. Note the largest value, $\ln 4$. A threshold borrowed from a paper with two classes, scaled by
# $\ln 2$, would call half of the range impossible.
#
# So much for *what* to compute. Where do the many answers come from? Every estimator below has the
# same interface: `samples(images, passes)` gives `(T, B, K, *S)`, and `predict` is the mean.

# %% [markdown]
# ## MC dropout
#
# Dropout trains a crowd: every step moves another thinned network. Usually it is switched off at test time. Gal and
# Ghahramani leave it on and ask $T$ times; that draws networks from an approximate posterior over weights. It
# costs nothing in training, and $T$ forward passes later. Here is all of it:

# %%
show.code(MCDropout)

# %% [markdown]
# `random` names the kinds of layer that are in training mode during a pass. All others stay in evaluation mode: a batch
# norm that joined in would mix the test patients with each other. We train one on three patients, as we
# trained the baseline, and ask it $T$ times about four slices of each of ten validation patients.

# %% tags=["nbval-ignore-output"]
dropout = fit(MCDropout.for_task(task), task, budget, seed=0).method.cpu()
valid = task.valid.select(slice(0, None, 3))  # every third slice, ten patients
T = budget.pick(4, 16, 16)
mc = dropout.samples(valid.images, T)
shown = int(mutual_information(mc).flatten(1).mean(1).argmax())  # the slice they quarrel about most
show.images(
    valid.images[[shown] * 3],
    predictions=torch.stack([*mc[:2, shown], mc.mean(0)[shown]]).argmax(1),
    columns=4,
    titles=["pass 1", "pass 2", f"mean of {T}"],
    names=valid.names,
    alt="Contours of two dropout passes on the validation slice on which the passes disagree most, and those of the mean.",
)

# %% [markdown]
# We chose the slice with the largest mutual information, and no mask was needed for that. Whether the passes are *wrong* where they
# quarrel is the question of the rest of this page.

# %% [markdown]
# ## Deep ensembles
#
# The brute-force way. Train $M$ networks that share nothing but the task, and average. Dropout passes are neighbours
# of one solution; networks from different first weights end in different solutions altogether.

# %%
show.code(deep_ensemble)

# %% [markdown]
# The seed is the whole trick: it draws first weights, order of the images and augmentation. Set it once outside the loop
# and you have trained the same network $M$ times, at full price. (The original also trains against adversarial
# perturbations. It found bootstrapped training sets to hurt, and with three patients we can spare none.)

# %% tags=["nbval-ignore-output"]
members = deep_ensemble(task, budget, seed=0, members=budget.pick(2, 3, 5)).method.cpu()
answers = members.samples(valid.images)
print(f"{len(answers)} members, {len(valid)} slices of {len(valid.subjects.unique())} patients")

# %% [markdown]
# ## Test-time augmentation
#
# Keep the network, vary the *image*. Had the patient breathed out or the coil been placed elsewhere,
# would the answer be the same? Draw a motion $T_t$ and a little noise $e_t$, ask, and move the answer back:
#
# $$
# p^{(t)} = T_t^{-1}\big[f_\theta(T_t\, x + e_t)\big] .
# $$

# %%
show.code(TestTimeAugmentation)

# %% [markdown]
# The authors call the entropy of the mean *aleatoric*, since it is the acquisition that varies. Keep a
# reservation: a perfectly equivariant network would show no such doubt, on however blurred an image.
# What is measured is how far the network's answer hangs on circumstances that should not matter. No training is needed; we take
# the first member of the ensemble, which is the supervised baseline.

# %% tags=["nbval-ignore-output"]
baseline = members.net[0]
augmented = TestTimeAugmentation(baseline.net)
tta = augmented.samples(valid.images, T)

# %% [markdown]
# ## Kendall and Gal
#
# Let the network say itself how noisy a pixel is. It has two heads, logits $f$ and their variance $\sigma^2$, and is trained
# *through* the noise:
#
# $$
# L = -\ln \frac1S \sum_s \mathrm{softmax}\big(f + \sigma \odot \epsilon_s\big)_{y},
# \qquad \epsilon_s \sim N(0, I) .
# $$
#
# Nobody labels $\sigma$. Why should it become anything but zero? Take two classes, logits
# $(2, -2)$, and compute the loss as a function of $\sigma$ for a label that agrees, for one that contradicts, and for a
# pixel at which the experts are divided.

# %%
sigma = np.linspace(0, 8, 81)
nodes, weights = np.polynomial.hermite_e.hermegauss(80)
margin = 4 + math.sqrt(2) * sigma[:, None] * nodes  # of the two noisy logits
right = (weights / weights.sum() / (1 + np.exp(-margin))).sum(1)
agrees, contradicts = -np.log(right), -np.log(1 - right)
show.curves(
    {
        "label agrees": agrees,
        "label contradicts": contradicts,
        "half and half": (agrees + contradicts) / 2,
    },
    sigma,
    xlabel="predicted deviation σ of the logits",
    ylabel="loss (nats)",
    alt="Loss over the predicted deviation: rising if the label agrees with the logits, falling if it contradicts, "
    "and falling to a flat bottom if half of the labels contradict.",
)

# %% [markdown]
# Where the label agrees, noise costs something; where it contradicts, noise is a discount, and the
# network learns to claim it at pixels whose label it cannot guess. This is *loss attenuation*. Dropout passes at test
# time add the epistemic part.

# %%
show.code(KendallGal)

# %% tags=["nbval-ignore-output"]
heads = fit(KendallGal.for_task(task), task, budget, seed=0).method.cpu()
one = valid.images[shown : shown + 1]
samples = heads.samples(one, T)
maps = uncertainty_maps(samples, heads.variances(one, T))
fig, axes = show.subplots(1, 5, width=5.6, height=1.55)
show.overlay(axes[0], one[0], valid.labels[shown], samples.mean(0)[0].argmax(0))
for ax, values in zip(axes[1:], maps.values(), strict=True):
    ax.imshow(values[0], cmap="magma")
    ax.axis("off")
for ax, title in zip(axes, ["truth, answer", *maps], strict=True):
    ax.set_title(title.replace(" ", "\n", 1), fontsize=9)
show.figure(
    fig,
    alt="Truth and answer on one validation slice, and four maps of doubt: entropy, mutual information, variance of the "
    "answers, and the variance that the network predicts for its logits.",
)

# %% [markdown]
# The first map is total doubt. The second and third are the quarrel of the dropout passes; the last is what the second head
# claims. Each map has a scale of its own: compare *where* they are bright, not how bright.

# %% [markdown]
# ## MC batch normalisation
#
# Many published networks have batch norms instead of dropout, and those are a source of randomness as well. In training, an image
# was normalised with the mean and variance of whoever else was in its mini-batch. Teye and colleagues repeat the draw at test time: a random
# *training* mini-batch passes through the network, each batch norm takes its statistics, and the test image is normalised with them.

# %%
show.code(MCBatchNorm.sample)

# %%
show.code(statistics_of)

# %% [markdown]
# The size of the mini-batch is part of the method: it sets how random the draws are. Here is the spread of the first layer's means over
# thirty draws, for a fresh network and the images of our three patients. Draw from more, and all passes become the same.

# %%
fresh = with_batchnorm(networks.unet(task)).conv_0.eval()  # its first block is enough
first_norm = next(m for m in fresh.modules() if isinstance(m, torch.nn.BatchNorm2d))
torch.manual_seed(0)


def spread(size, draws=30):
    method = MCBatchNorm(fresh, task.train.images[task.labelled], batch=size)
    means = []
    for _ in range(draws):
        with torch.no_grad(), statistics_of(fresh, method.draw()):
            means.append(first_norm.running_mean.clone())
    return float(torch.stack(means).std(0).mean())


sizes = [1, 2, 4, 8, 16]
show.curves(
    {"first layer": [spread(size) for size in sizes]},
    sizes,
    xlabel="size of the mini-batch M",
    ylabel="spread of the means",
    alt="The spread of the batch means falls as the mini-batch grows from 1 to 16 images.",
)

# %% [markdown]
# The passes need training images at hand, for as long as the network is in use. Where those may not
# leave the hospital, that alone decides against the method.

# %% [markdown]
# ## Bayes by backprop
#
# All of the above imitate a posterior over weights. One can also learn one. Blundell and colleagues give each weight
# a mean $\mu$ and a deviation $\sigma$, draw $\theta = \mu + \sigma \epsilon$ at every step, and maximise the evidence lower
# bound: fit the labels, and stay close to the prior $N(0, s^2)$,
#
# $$
# L = L_{sup}(\mu + \sigma\epsilon) + \frac1N \sum \Big(\ln\frac s\sigma + \frac{\sigma^2 + \mu^2}{2 s^2} - \frac12\Big) ,
# $$
#
# with $N$ annotated pixels. The draw is written as a function of $\mu$ and $\sigma$, so both get gradients:

# %%
show.code(Gaussian)

# %%
show.code(BayesByBackprop.kl)

# %% [markdown]
# How does a weight find its $\sigma$? Suppose noise on it costs $c\,\sigma^2 / 2$ nats of likelihood, summed over all pixels. A weight on which nothing
# depends has $c = 0$.

# %%
s, sigma = 0.1, np.geomspace(0.003, 0.3, 200)
prior_cost = np.log(s / sigma) + sigma**2 / (2 * s**2) - 0.5
fig, ax = show.subplots(width=5.4, height=2.6)
arms = zip((0, 1000, 10000), ("-", "--", "-."), ("#595959", "#0072B2", "#D55E00"), strict=True)
for c, dash, line in arms:
    cost = prior_cost + c * sigma**2 / 2
    ax.plot(sigma, cost, dash, color=line, label=f"c = {c:,}")
    ax.plot(sigma[cost.argmin()], cost.min(), "o", color=line)
ax.set(xscale="log", ylim=(-0.3, 8), ylabel="cost (nats)")
ax.set_xlabel("deviation σ of one weight (prior: 0.1)")
ax.set_xticks([0.003, 0.01, 0.03, 0.1, 0.3], ["0.003", "0.01", "0.03", "0.1", "0.3"])
ax.minorticks_off()
fig.legend(loc="outside right upper")
show.figure(
    fig,
    alt="Cost of one weight over its deviation: without likelihood the minimum, a dot, is at the prior's deviation, and the more "
    "the likelihood depends on the weight, the smaller is the best deviation.",
)

# %% [markdown]
# The minimum lies at $\sigma = (1/s^2 + c)^{-1/2}$: the prior's deviation where nothing is at stake, little where much is. It is the cleanest idea
# of this page and the hardest to train: twice as many parameters, a noisy gradient, and a bound that treats neighbouring pixels as
# independent evidence. The survey says as much, and explains with it why dropout and ensembles are what people use.

# %% [markdown]
# ## Side by side
#
# Same network, same steps, same three patients. The first row is the baseline; augmentation and the
# ensemble *contain* it. Validation patients:

# %% tags=["nbval-ignore-output"]
heads_mean = heads.samples(valid.images, budget.pick(1, 8, 16)).mean(0)
SAMPLES = {"MC dropout": mc, "augmentation": tta, "ensemble": answers}
means = {"supervised": answers[0], **{name: x.mean(0) for name, x in SAMPLES.items()}}
for name, probs in {**means, "Kendall and Gal": heads_mean}.items():
    dice = score(probs.argmax(1), valid, surfaces=False).mean_dice
    ece = expected_calibration_error(probs, valid.labels)
    print(f"{name:<16} Dice {dice:.3f}   ECE over all pixels {ece:.4f}")

# %% [markdown]
# One training each: an anecdote, to be settled by the scoreboard below. A mean of many answers is often a better
# answer, but that is not what this page is about. The question is what the *spread* knows.

# %% [markdown]
# ## Choose estimator, measure and passes
#
# Now hold doubt against errors. On validation patients we know the truth. The test is the one by Nair and colleagues: hand the
# most doubtful pixels to an expert, and count the errors among the pixels that are *kept*. Useful doubt makes the curve
# fall fast. The dashed line is an oracle that hands over exactly the wrong pixels; without any
# knowledge the curve stays flat. Choose, and look at the map on one slice and the curve over all ten patients.

# %%
show.code(retention)

# %% tags=["nbval-ignore-output"]
MEASURES = {"entropy": entropy, "mutual information": mutual_information}


@cache
def mistakes(estimator, passes):
    """Predicted classes, where they are wrong, and the curve of who knows where."""
    predicted = SAMPLES[estimator][:passes].mean(0).argmax(1)
    wrong = predicted != valid.labels
    return predicted, wrong, retention(wrong.float(), wrong)[1]


def tested(estimator, measure, passes):
    samples = SAMPLES[estimator][:passes]
    predicted, wrong, oracle = mistakes(estimator, passes)
    doubt = MEASURES[measure](samples)
    kept, error = retention(doubt, wrong)
    fig, (left, middle, right) = show.subplots(
        1, 3, width=5.6, height=1.9, width_ratios=(1, 1, 1.25)
    )
    show.overlay(left, valid.images[shown], valid.labels[shown], predicted[shown])
    middle.imshow(doubt[shown], cmap="magma")
    middle.contour(wrong[shown], [0.5], colors="#56B4E9", linewidths=0.8)
    middle.axis("off")
    every = slice(len(kept) * 4 // 5, None, len(kept) // 400)
    given = 100 - 100 * kept[every]
    right.plot(given, 100 * oracle[every], "--", color="#595959", label="oracle")
    right.plot(given, 100 * error[every], color="#0072B2", label="doubt")
    right.set(xlabel="given away (%)", ylabel="errors kept (%)", ylim=(0, None))
    right.legend()
    left.set_title("truth, mean answer", fontsize=9)
    middle.set_title("doubt; blue: errors", fontsize=9)
    right.set_title(f"T = {len(samples)}", fontsize=9)
    return show.figure(
        fig,
        alt=f"{estimator}, {measure}, T = {len(samples)}: {100 * wrong.float().mean():.1f} % of the pixels are wrong; "
        f"when a twentieth is given away, {100 * error[len(error) * 19 // 20]:.2f} % of the kept ones. "
        f"Area under the curve {100 * error.mean():.3f} %.",
    )


show.explore(
    tested,
    estimator=list(SAMPLES),
    measure=list(MEASURES),
    passes=[2, 16],
    labels={"passes": "passes T (an ensemble has fewer members)"},
    limit=78_000,
    alt="A map of doubt with the true errors, and the share of wrong pixels among those kept, over those given away.",
)

# %% [markdown]
# Three things to try. Raise $T$ with mutual information: from two answers a contradiction is estimated badly,
# while the entropy of the mean depends on them less. Switch the measure at a fixed estimator: most errors of a
# segmentation lie on boundaries, where *every* answer is unsure, and a measure that only sees contradiction can miss them. And
# look for blue outlines on black: **errors about which nobody had a doubt**. No measure finds those, for they are not in
# the answers.

# %% [markdown]
# ## Calibration
#
# The curve needs only the *order* of the doubts. Whoever adds up risks needs their size as well: of the pixels
# given 0.8, four in five should be right. *Temperature scaling* divides all logits by one number $\tau$, fitted
# on validation subjects to minimise the negative log-likelihood. We fit it on five validation patients and look at the other
# five, within the heart, true or predicted: outside, everything is easy and hides the rest.

# %%
show.code(fit_temperature)

# %% tags=["nbval-ignore-output"]
people = valid.subjects.unique()
first = torch.isin(valid.subjects, people[::2])


def within(probs, items):
    """Labels of these items, IGNORE where neither truth nor prediction has any heart."""
    labels = valid.labels[items]
    return labels.where((labels != 0) | (probs[items].argmax(1) != 0), IGNORE)


single = answers[0]
labels = within(single, ~first)
fitted = fit_temperature(single[first], within(single, first))
taus = sorted({0.5, 1.0, 1.5, 3.0, round(fitted, 2)})


def diagram(tau):
    probs = tempered(single[~first], tau)
    scores = proper_scores(probs, labels)
    claimed, found, share = reliability_bins(probs, labels)
    fig, ax = show.subplots(width=4.4, height=3.0)
    ax.plot([0.25, 1], [0.25, 1], ":", color="black")
    ax.plot(claimed, found, color="#0072B2", lw=1)
    ax.scatter(claimed, found, 12 + 400 * share, color="#0072B2", alpha=0.6)
    ax.set(xlabel="claimed probability", ylabel="right", xlim=(0.25, 1.05), ylim=(0, 1.05))
    mark = " (fitted)" if tau == round(fitted, 2) else ""
    ax.set_title(f"τ = {tau:g}{mark}: NLL {scores.nll:.3f}, ECE {scores.ece:.3f}", fontsize=9)
    return show.figure(
        fig,
        alt=f"Reliability diagram at temperature {tau:g}{mark}: negative log-likelihood {scores.nll:.3f}, Brier score "
        f"{scores.brier:.3f}, expected calibration error {scores.ece:.3f}.",
    )


show.explore(
    diagram,
    tau=taus,
    labels={"tau": "temperature τ"},
    limit=27_000,
    alt="Accuracy over claimed probability, one dot a bin, its size the share of pixels; dotted: calibrated.",
)

# %% [markdown]
# Below the dotted line the network claims too much. Each $\tau$ moves all dots together, and no
# decision changes: the largest probability stays the largest. That is the strength of the method, and its limit. One number
# makes the average confidence right; it cannot make the network doubt *this* pixel and trust *that* one.

# %% [markdown]
# ## Calibrating Dice
#
# Some networks claim too much because their loss asks them to. Let a pixel belong to a class in $q$ of all cases
# that look like it. Which probability $p$ is charged least, on average? Cross-entropy is a *proper* score: $p = q$.
# The Dice loss judges the pixel together with all others of its class. Let the others be settled, with a Dice of $D$ among themselves:


# %%
q, p = np.linspace(0.01, 0.99, 99), np.linspace(0, 1, 1001)


def cheapest(rest, squares):
    """The p of least expected Dice loss, beside 1000 pixels whose Dice is ``rest``."""
    size = p**2 if squares else p
    member = 1 - (1000 * rest + 2 * p) / (1001 + size)
    stranger = 1 - 1000 * rest / (1000 + size)
    return p[(q[:, None] * member + (1 - q[:, None]) * stranger).argmin(1)]


show.curves(
    {
        "cross-entropy": q,
        "Dice, D = 0.9": cheapest(0.9, squares=True),
        "Dice, D = 0.6": cheapest(0.6, squares=True),
        "without squares, D = 0.9": cheapest(0.9, squares=False),
    },
    q,
    xlabel="true probability q",
    ylabel="cheapest claim p",
    alt="The claim that each loss likes best over the true probability: cross-entropy the diagonal; Dice with squares in its "
    "denominator a steeper line that reaches 1 at q = D; without squares a step from 0 to 1 at half of D.",
)

# %% [markdown]
# With squares in the denominator the cheapest claim is $\min(1, q/D)$: the worse the rest of the organ, the more must this pixel
# claim. Without squares it is all or nothing. Neither is honest. Mehrtash and colleagues leave the loss as it is, train several
# networks with batch norm by Dice alone, and average. The members claim too much, but not all of the same
# mistakes, so their mean is sure only where they agree.

# %%
show.code(calibrated_ensemble)

# %% [markdown]
# What averaging does to three scores can be seen on our own ensemble, though it is trained with cross-entropy as well. NLL and Brier
# are proper scores; within the heart, all validation patients:

# %% tags=["nbval-ignore-output"]
arms = {
    "one member": single,
    "mean of the members": answers.mean(0),
    "mean of dropout passes": mc.mean(0),
}
every = torch.ones_like(first)
for name, probs in arms.items():
    scores = proper_scores(probs, within(probs, every))
    print(f"{name:<23} NLL {scores.nll:.3f}   Brier {scores.brier:.3f}   ECE {scores.ece:.3f}")

# %% [markdown]
# They go one step further: the entropy averaged over a **predicted structure** is one number for one organ of one patient. Does
# it know how good the contour is?

# %% tags=["nbval-ignore-output"]
mean = answers.mean(0)
report = score(mean.argmax(1), valid, surfaces=False)
doubts = segment_entropy(mean, valid.subjects).numpy()
fig, ax = show.subplots(width=5.4, height=3.0)
for k, (name, marker) in enumerate(zip(report.names, "os^", strict=True)):
    ax.scatter(
        doubts[:, k],
        report.dice[:, k],
        28,
        color=show.colour(k + 1),
        marker=marker,
        ec="#333333",
        lw=0.5,
        label=name,
    )
ax.set(xlabel="mean entropy within the predicted structure (nats)", ylabel="Dice", ylim=(0, 1))
fig.legend(loc="outside right upper")
show.figure(
    fig,
    alt="Dice over the mean entropy of the predicted structure, one mark for each of three structures of ten validation patients.",
)

# %% [markdown]
# ## Reliability, patient by patient
#
# A clinic does not ask about pixels. It asks: *which of these patients must I look at?* Jungo and Reyes put the question to several
# estimators. On average over a data set most were well calibrated; for single patients many were not. Their measures, one
# function:

# %%
show.code(reliability)

# %% [markdown]
# The **overlap** is the Dice of the doubtful and the wrong pixels. It needs a threshold, and that must not be
# chosen on the patients it is judged by: again five choose and five judge. The **correlation**
# asks whether the patients with the most doubt, in proportion to the organ that was found, are those with the worst Dice.

# %% tags=["nbval-ignore-output"]
judges = valid.select(~first)
for name, samples in SAMPLES.items():
    probs, doubt = samples.mean(0), entropy(samples)
    wrong = probs.argmax(1) != valid.labels
    threshold = best_threshold(doubt[first], wrong[first])
    overlap = error_overlap(doubt[~first], wrong[~first], threshold)
    everyone = reliability(probs, doubt, valid, threshold)
    print(
        f"{name:<13} threshold {threshold:.2f}   overlap on the others {overlap:.2f}   "
        f"correlation over {len(people)} patients {everyone.correlation:+.2f}"
    )

# %% [markdown]
# Here they are, patient by patient. Choose the estimator and how a patient's doubt is summed up.


# %% tags=["nbval-ignore-output"]
SUMS = {
    "per pixel of the organ": lambda d, predicted: subject_doubt(d, predicted, valid.subjects),
    "per pixel of the image": lambda d, predicted: subject_doubt(
        d, torch.ones_like(predicted), valid.subjects
    ),
}


def alarm(estimator, doubt):
    samples = SAMPLES[estimator]
    predicted = samples.mean(0).argmax(1)
    u = SUMS[doubt](entropy(samples), predicted).numpy()
    dice = np.nanmean(score(predicted, valid, surfaces=False).dice, axis=1)
    fig, ax = show.subplots(width=4.4, height=2.7)
    ax.scatter(u, dice, 30, color="#0072B2")
    alarmed = u >= np.sort(u)[-3]
    ax.scatter(u[alarmed], dice[alarmed], 90, facecolors="none", edgecolors="#D55E00")
    ax.axhline(np.sort(dice)[2], color="#595959", lw=0.8, ls=":")
    ax.set(xlabel=f"doubt {doubt} (nats)", ylabel="Dice", ylim=(0, 1))
    found = int((alarmed & (dice <= np.sort(dice)[2])).sum())
    ax.set_title(f"{found} of the 3 worst patients among the 3 most doubtful", fontsize=9)
    return show.figure(
        fig,
        alt=f"Dice over doubt of ten validation patients, {estimator}, doubt {doubt}: {found} of the three worst are among the "
        f"three most doubtful.",
    )


show.explore(
    alarm,
    estimator=list(SAMPLES),
    doubt=list(SUMS),
    labels={"doubt": "a patient's doubt"},
    limit=22_000,
    alt="Dice of each validation patient over its doubt; the three most doubtful are ringed, the three worst lie at or below the line.",
)

# %% [markdown]
# Divide by the image and a small heart looks safe because there is little of it; divide by the organ, and a
# patient whose heart was *overlooked* gets a large doubt only if somebody hesitated. Ten patients say little: a single one changes the count.
# Before such an alarm goes to work it needs hundreds, from another hospital.

# %% [markdown]
# ## Where the doubt goes
#
# Doubt can also train. [UA-MT](self_ensembling.ipynb#uncertainty-aware-mean-teacher) believes its teacher only where dropout passes leave
# little entropy; [uncertainty-guided self-training](self_training.ipynb#weighted-by-doubt) weights pseudo-labels by it. Both ask for the
# total. If you ask *which patient to label next*, ask for the epistemic part: a boundary that is blurred in every image stays blurred.

# %% [markdown]
# ## What the scoreboard says
#
# Several draws of the labelled patients, the test patients, Dice and ECE of the mean prediction over all pixels. The ensembles spend as many
# trainings as they have members; the others one, and some passes. Rows of the first edition of the scoreboard have no ECE.

# %%
results = [r for r in study.read() if r["protocol"] == "cardiac-3"]
mine = [
    "supervised",
    "supervised-longer",
    "full-labels",
    "mc-dropout",
    "mc-batchnorm",
    "tta-uncert",
]
mine += ["kendall-gal", "bnn", "deep-ensembles", "mehrtash", "dice-loss", "ua-mt", "sedai"]


def calibrations(method):
    """ECE of every run of a method that recorded it."""
    runs = (r["ece"] for r in results if r["method"] == method and not r["options"])
    return [ece for ece in runs if not math.isnan(ece)]


def table():
    rows = [
        "| method | test Dice | difference to baseline | ECE | runs | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for line in study.summary(results, "cardiac-3"):
        if line.method not in mine:
            continue
        ece = calibrations(line.method)
        claimed = str(interval_over_seeds(ece)) if ece else "not recorded"
        gain = (
            "baseline" if line.difference is None else f"{line.difference.mean:+.3f} {line.verdict}"
        )
        rows.append(
            f"| {survey.find(line.method).name} | {line.dice} | {gain} | {claimed} | {line.seeds} "
            f"| {line.seconds / 60:.1f} |"
        )
    return Markdown("\n".join(rows))


table()

# %% [markdown]
# Read the two columns apart. A method can gain Dice and claim too much, or be humble and wrong. ECE over all
# pixels is small for everybody, because most pixels are background and easy; compare rows, not the number with 0. And where two intervals overlap
# on so few draws, do not choose by this table: choose by what you can afford. Passes cost time at every patient, members cost trainings once,
# a second head costs nearly nothing.

# %% [markdown]
# ## Check yourself

# %%
quiz(
    "You may label one more patient and choose among a hundred without masks. By which doubt do you choose?",
    {
        "By the largest entropy of the mean.": "That includes the blur at every boundary. The noisiest scan would win, and it "
        "stays noisy with a label.",
        "By the largest mutual information.": "It is the part that a label can remove: the answers contradict, so somebody is "
        "wrong and can learn.",
        "By the largest variance that the network predicts.": "That is the noise the network claims for the data: the least "
        "teachable part.",
    },
    correct="By the largest mutual information.",
)

# %%
quiz(
    "A network for four classes says 0.25 for each, at every pixel of every image, and each class fills a quarter of them. "
    "What is its ECE?",
    {
        "0: it is perfectly calibrated.": "Its claim is one in four, and it is right one time in four. Calibrated, and useless: "
        "calibration is not knowledge.",
        "0.75: it is wrong three times in four.": "That is its error rate. It never claimed to be right more often.",
        "ln 4.": "That is its entropy and its negative log-likelihood, which do notice that it knows nothing.",
    },
    correct="0: it is perfectly calibrated.",
)

# %% [markdown]
# ## Exercises
#
# **1. A crowd of copies.** Somebody saves the time of training and copies one network five times. What are
# entropy, mean entropy and mutual information of this ensemble? What does a mutual information of zero prove, then?
#
# ```{dropdown} Hint
# All $p^{(t)}$ are equal.
# ```
# ```{dropdown} Solution
# The mean is $p$ itself, so entropy and mean entropy are both $H[p]$, and the mutual information is 0. It proves that the
# answers agree, not that they are right or that data were plenty: members trained from the same weights on
# the same batches agree everywhere. Epistemic doubt is only as good as the variety of the crowd.
# ```
#
# **2. Temperature and order.** Does temperature scaling change the error-retention curve? Try it: compute `area` for `single`
# and for `tempered(single, 3.0)`, with the entropy as doubt. Then think of the case of two classes.
#
# ```{dropdown} Hint
# `area(entropy(probs[None]), probs.argmax(1) != valid.labels)`; a single answer is a sample with $T = 1$.
# ```
# ````{dropdown} Solution
# ```python
# from lsseg_edu.semi.uncertainty import area
#
# wrong = single.argmax(1) != valid.labels
# for tau in (1.0, 3.0):
#     print(tau, area(entropy(tempered(single, tau)[None]), wrong))
# ```
# With two classes nothing changes: the entropy is a function of $|z_1 - z_2|$ alone, and dividing all of these by $\tau$ keeps
# their order. With more classes the order of two pixels can change a little (one hesitates between two classes, the other among four), so
# the area does too. Calibration mends the size of the doubt and hardly its order; the curve judges the order.
# ````
#
# **3. The overlooked heart.** A network finds no heart at all in a patient, and is sure of it. What do entropy, mutual information,
# `segment_entropy` and `subject_doubt` say? Invent a measure that would raise an alarm, and say what it must know.
#
# ```{dropdown} Hint
# Nothing in the answers is doubtful. What do you know of hearts?
# ```
# ```{dropdown} Solution
# Entropy and mutual information are near 0 everywhere, `segment_entropy` is not a number, since there is no segment, and `subject_doubt` is
# nearly 0. All measures of this page look at the answers only. An alarm needs knowledge from outside: that
# every patient has a heart, of a volume between two bounds seen in training. *No predicted organ* must be an alarm by itself.
# ```
#
# ## Take away
#
# - Two kinds of doubt: in the data (entropy of each answer) and about the network (contradiction between answers). Their sum is the
#   entropy of the mean, at most $\ln K$.
# - Answers become many by dropout, by members, by moving the image, by batch statistics, or by noise on the weights; each asks another question.
# - Test doubt against errors: the order by a retention curve, the size by calibration, the use by patients.
# - Temperature is one number. It mends the average claim, changes no decision, and finds no error.
# - A confident mistake of all answers is invisible to all of these.
#
# **Reading.** {cite:t}`kendall2017what` on the two kinds of doubt; {cite:t}`gal2016dropout` and {cite:t}`kendall2017bayesian` on dropout,
# {cite:t}`lakshminarayanan2017simple` on ensembles, {cite:t}`teye2018bayesian` on batch norm, {cite:t}`blundell2015weight` on Bayes by backprop,
# {cite:t}`ayhan2018test` and {cite:t}`wang2019aleatoric` on test-time augmentation; {cite:t}`nair2020exploring` and
# {cite:t}`camarasa2020quantitative` compare measures, {cite:t}`jungo2019assessing` asks about patients, {cite:t}`mehrtash2020confidence`
# and {cite:t}`guo2017calibration` calibrate.
