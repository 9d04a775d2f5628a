# %% [markdown]
# # Lab 2: Believe the teacher where it is sure
#
# <!-- badge -->
#
# **You will build** the uncertainty-aware mean teacher (UA-MT) on top of a finished Mean Teacher: four
# small functions, then a training on three labelled patients, and a look at what the filter filters.
# Allow 30 to 45 minutes.
#
# **You should know** Mean Teacher ([lab 1](01_first_mean_teacher) or [Consistency](../semi/consistency)).
# The section [Uncertainty-aware mean teacher](../semi/self_ensembling) has the idea; leave its code closed.
#
# There are four steps with one blank each. After each comes a **check**: it runs your code and, if
# something is missing, says *which property* is missing. It does not compare with one true program, so
# whatever has the properties is right. Run the cells from top to bottom: where a cell stops with
# *Blank 1*, the first line of yours is wanted.

# %% tags=["setup"]

# %%
import math

import torch

from lsseg_edu import networks, show
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn.checks import lab02
from lsseg_edu.semi.consistency import MeanTeacher, sigmoid_rampup
from lsseg_edu.train import Budget, fit

# %% [markdown]
# ## The problem
#
# Mean Teacher asks the student to copy the teacher at *every* pixel. But a teacher that has seen three
# patients is wrong at many of them, and what it gets wrong is copied as faithfully as the rest. UA-MT
# lets a pixel count only if the teacher is **sure** of it:
#
# $$
# L_{cons} = \frac{\sum_i [U_i < H(t)]\; \lVert p_i - q_i \rVert^2}{K \sum_i [U_i < H(t)]},
# $$
#
# with the student's answer $p$, the teacher's $q$, the teacher's uncertainty $U$, and a threshold $H$ that
# rises with the progress $t$ of training. You will write $U$ (steps 1 and 2), $H$ (step 3) and the
# masked mean (step 4).

# %%
budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
print(task)

# %% [markdown]
# ## Step 1: ask several times
#
# How does one ask a network whether it is sure? Ask it several times, and disturb it a little each
# time: with grain on the image, and with its **dropout on**, so that each time some of its channels are
# missing. An answer that survives is a sure one.
#
# Return the teacher's probabilities of all $T$ passes in one tensor. Each pass gets noise of its own.


# %%
@torch.no_grad()
def noisy_answers(teacher, images, passes, noise):
    """Probabilities (T, B, K, H, W) of T passes over noisy copies of `images`, with dropout."""
    # BEGIN SOLUTION
    teacher.train()
    answers = [teacher(images + noise * torch.randn_like(images)).softmax(1) for _ in range(passes)]
    return torch.stack(answers)
    # END SOLUTION


# %%
lab02.noisy_answers(noisy_answers)

# %% [markdown]
# ```{dropdown} Hint
# `teacher.train()` switches dropout on, `teacher.eval()` off. `torch.stack(list)` puts tensors side by
# side along a new first axis.
# ```

# %% [markdown]
# ## Step 2: one number for "sure"
#
# Average the answers, $\bar p = \frac1T \sum_\tau p^\tau$, and take the entropy of the average. Its largest
# value, for $K$ equal probabilities, is $\ln K$; divide by it, and the uncertainty lies between 0 and 1
# for any number of classes:
#
# $$
# U_i = \frac{-\sum_{k} \bar p_{ik} \ln \bar p_{ik}}{\ln K} \in [0, 1].
# $$
#
# Mind $0 \ln 0$, which is 0 in this formula and `nan` on the machine.


# %%
def uncertainty(answers):
    """Answers (T, B, K, H, W) of T passes to the uncertainty (B, 1, H, W) of their mean."""
    # BEGIN SOLUTION
    mean = answers.mean(0)
    return torch.special.entr(mean).sum(1, keepdim=True) / math.log(mean.shape[1])
    # END SOLUTION


# %%
lab02.uncertainty(uncertainty)

# %% [markdown]
# ```{dropdown} Hint
# `torch.special.entr(p)` is $-p \ln p$ with the right value at 0; so is `-p * p.clamp(min=1e-12).log()`,
# nearly. `keepdim=True` keeps the class axis with length 1.
# ```
#
# **Think.** Why not average the entropies of the $T$ answers instead?
#
# ```{dropdown} Answer
# A teacher that is sure each time, but of something else each time, has entropy 0 in every pass, and the
# mean of zeros is zero. Its mean answer, however, is flat, and the entropy of that is large. It is the
# *contradiction* between passes that we are after.
# ```

# %% [markdown]
# ## Step 3: stricter at first
#
# Early in training only the surest pixels shall count, in the end all of them. As our uncertainty lies in
# $[0, 1]$, so does the threshold; it rises from about three quarters to 1 with the ramp $w$ of lab 1,
# stretched over the whole training:
#
# $$
# H(t) = \tfrac34 + \tfrac14\, w(t), \qquad w(t) = \exp\!\big(-5\,(1 - t)^2\big).
# $$
#
# `sigmoid_rampup(progress, length)` is that ramp, reaching 1 at `progress = length`.


# %%
def threshold(progress):
    """The largest uncertainty that counts, at `progress` from 0 to 1 of the training."""
    # BEGIN SOLUTION
    return 0.75 + 0.25 * sigmoid_rampup(progress, 1.0)
    # END SOLUTION


# %%
lab02.threshold(threshold)

# %% [markdown]
# **Think.** A pixel on the border of two of the four classes: the teacher says each of the two with
# probability $\frac12$. What is its uncertainty, and is it masked at the start of the training?
#
# ```{dropdown} Answer
# $\ln 2 / \ln 4 = \frac12$, which is below three quarters: it counts from the first step. With four classes
# the rule leaves out pixels torn between *three or four* of them. With two classes the same pixel has the
# uncertainty 1 and is masked nearly to the end. The paper segments one organ against the background.
# ```

# %% [markdown]
# ## Step 4: the mean over what counts
#
# Last, the loss. `sure` is true at the pixels that count. Sum the squared differences there, and divide by
# the number of terms *in that sum*: classes times sure pixels. The teacher's answer is a target, as
# ever. Some day no pixel will be sure; the loss must then be 0, not `nan`.


# %%
def masked_consistency(student, teacher, sure):
    """Probabilities (B, K, H, W) of both, and a boolean mask (B, 1, H, W), to a scalar."""
    # BEGIN SOLUTION
    square = (student - teacher.detach()).square() * sure
    return square.sum() / (student.shape[1] * sure.sum()).clamp(min=1)
    # END SOLUTION


# %%
lab02.masked_consistency(masked_consistency)

# %% [markdown]
# **Think.** What would change if you divided by all pixels of the image?
#
# ```{dropdown} Answer
# A teacher that is sure of a tenth of the pixels would make a loss a tenth as large: the more cautious the
# teacher, the weaker the lesson on the pixels it *is* sure of. The weight of the term would drift
# with the mask, and no ramp would mean what it says.
# ```

# %% [markdown]
# ## Put together
#
# The rest is Mean Teacher: its ramp, its average, its `predict`. Only the consistency is replaced, and
# your four functions are all it takes. Mind the two modes of the teacher: dropout is **on** while its
# uncertainty is measured and **off** for the target, which should be the best answer there is.


# %%
class MyUAMT(MeanTeacher):
    passes = 4
    shares = ()  # of the pixels that counted, step by step

    def consistency(self, batch):
        images = batch.unlabelled.images
        student = self.net(self.perturb(images)).softmax(1)
        unsure = uncertainty(noisy_answers(self.teacher, images, self.passes, self.noise))
        self.teacher.eval()
        with torch.no_grad():
            target = self.teacher(self.perturb(images)).softmax(1)
        sure = unsure < threshold(batch.progress)
        self.shares = (*self.shares, sure.float().mean().item())
        return masked_consistency(student, target, sure)


# %%
lab02.ua_mt(MyUAMT)

# %% [markdown]
# ## A fair comparison
#
# UA-MT needs a network with dropout, and dropout alone changes what a network learns. So Mean Teacher gets
# the *same* network. Two things are left in which they differ: the mask, and that UA-MT takes its *target*
# with the dropout off, where the original Mean Teacher leaves it on.


# %% tags=["nbval-ignore-output"]
def network():
    return networks.unet(task, dropout=0.1, seed=0)


plain = fit(MeanTeacher(network()), task, budget, seed=0)
mine = fit(MyUAMT(network()), task, budget, seed=0)
print(f"Mean Teacher {plain.seconds:.0f} s, yours {mine.seconds:.0f} s")

# %%
lab02.fair(plain, mine)

# %% [markdown]
# What has the mask done? First, how many pixels counted as training went on:

# %% tags=["nbval-ignore-output"]
shares = mine.method.shares
show.curves(
    {"pixels that counted": shares},
    ylabel="share",
    window=max(1, budget.steps // 50),
    alt=f"The share of pixels that counted, step by step: {shares[0]:.0%} at first, "
    f"{shares[-1]:.0%} in the end.",
)

# %% [markdown]
# Then, where. The uncertainty of your trained teacher on one slice that it was not trained on, and what
# its mask would leave out with the threshold of the first step:

# %% tags=["nbval-ignore-output"]
image, truth = task.valid.images[3:4], task.valid.labels[3]
method = mine.method.cpu()
torch.manual_seed(0)
answers = noisy_answers(method.teacher, image, 8, method.noise)
unsure = uncertainty(answers)[0, 0]
said = answers.mean(0)[0].argmax(0)
panels = {
    "uncertainty": (unsure, "magma"),
    "white: counts": (unsure < threshold(0.0), "gray"),
    "white: wrong": (said != truth, "gray"),
}
fig, axes = show.subplots(1, 4, height=2.0)
show.overlay(axes[0], image[0], truth, said)
axes[0].set_title("truth and mean answer")
for ax, (title, (values, colours)) in zip(axes[1:], panels.items(), strict=True):
    ax.imshow(values, cmap=colours, vmin=0, vmax=1)
    ax.set_title(title)
for ax in axes:
    ax.axis("off")
counts = unsure < threshold(0.0)
show.figure(
    fig,
    alt="A heart with truth and mean answer, the teacher's uncertainty, the pixels that count, and those "
    f"where the teacher is wrong; {counts.float().mean():.1%} count, {(said != truth).float().mean():.1%} "
    f"are wrong.",
)

# %% [markdown]
# Compare the last two pictures. A good mask is black where the teacher is wrong. If yours is white almost
# everywhere, nothing was left out, and what you have trained is Mean Teacher with a longer bill.
#
# Now the judgement, on test patients that neither has seen:

# %% tags=["nbval-ignore-output"]
for name, fitted in {"mean teacher": plain, "your UA-MT": mine}.items():
    print(f"{name}\n{evaluate(fitted, task.test)}\n")

# %% [markdown]
# ## What have you shown?
#
# One training of each, with one draw of three patients: an answer for this draw. The
# [scoreboard](../scoreboard/scoreboard) repeats the comparison over draws and seeds.
#
# **If there is time left**
#
# - Let `threshold` rise from 0.3. How many pixels count now, and at which of them is the teacher wrong?
# - Set `noise=0.0` and leave the dropout on; then the other way round. Which of the two makes the teacher
#   contradict itself?
# - Reverse the mask and learn from the *unsure* pixels only. A published method does (the section on
#   [perturbation-sensitive mining](../semi/self_ensembling) says why). What happens to yours?
#
# ```{admonition} Take-away
# A filter is four lines, and each line has a quiet way to be wrong: dropout that is off, $\ln 2$ for
# four classes, a threshold in other units, a mean over the wrong number. Test the lines, then measure what the
# filter removes before you credit it with anything.
# ```
