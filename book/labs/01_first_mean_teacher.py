# %% [markdown]
# # Lab 1: Your first Mean Teacher
#
# <!-- badge -->
#
# **You will build** Mean Teacher from three small pieces, put them together, train it on three
# labelled patients, and compare it with the baseline. Allow 30 to 45 minutes.
#
# **You should know** what a softmax and a gradient are, and the idea of the chapter
# [Consistency](../semi/consistency). You need not have its code in your head; do not look at it yet.
#
# There are five steps with seven blanks in all. After each step comes a **check**: it runs your code
# and, if something is missing, says *which property* is missing. It does not compare with one true
# program, so whatever has the properties is right. Run the cells from top to bottom: where a cell
# stops with *Blank 1*, the first line of yours is wanted.

# %% tags=["setup"]

# %%
import copy
import math

import torch

from lsseg_edu import losses, networks, show
from lsseg_edu.data import Task, load
from lsseg_edu.evaluate import evaluate
from lsseg_edu.learn.checks import lab01
from lsseg_edu.train import Budget, Method, Supervised, fit

# %% [markdown]
# ## The problem
#
# Hearts in short-axis MR. Three patients have masks; for all other training patients we have images
# and nothing else.

# %%
budget = Budget.auto()
task = Task.split(load("cardiac"), labelled=3, seed=0)
print(task)

# %%
few = torch.cat([task.labelled[4:6], task.unlabelled[4:7]])
show.images(
    task.train.images[few],
    labels=task.train.labels[few],
    titles=["with a mask"] * 2 + ["image only"] * 3,
    names=task.train.names,
    alt="Five heart images from the training part: two with the contours of the right ventricle, "
    "the myocardium and the left ventricle, three without any contour.",
)

# %% [markdown]
# ## Step 1: two answers should agree
#
# For an unlabelled image, the **student** gives logits and the **teacher** gives logits. With $p$ and
# $q$ their probabilities (softmax over the $K$ classes), the consistency loss is
#
# $$
# L = \frac{1}{B K H W} \sum_{b,k,i} \big(p_{bki} - q_{bki}\big)^2 .
# $$
#
# The teacher's answer is a *target*: no gradient may flow into it.


# %%
def consistency_loss(student_logits, teacher_logits):
    """Logits (B, K, H, W) of both, to a scalar."""
    # BEGIN SOLUTION
    student = student_logits.softmax(1)
    teacher = teacher_logits.softmax(1).detach()
    return (student - teacher).square().mean()
    # END SOLUTION


# %%
lab01.consistency(consistency_loss)

# %% [markdown]
# ```{dropdown} Hint
# `x.softmax(1)` goes over the class axis, `x.detach()` is `x` without its history,
# `x.square().mean()` averages over all axes.
# ```
#
# **Think.** Cross-entropy would also make the two agree. What would it ask of the student where the
# teacher is *unsure*?
#
# ```{dropdown} Answer
# The same probabilities: cross-entropy is smallest at $p = q$ too. But there it is not zero, and it
# punishes a confident student on an unsure target without bound. The squared difference is at most 1,
# so one pixel where the teacher is plainly wrong cannot shout down the others.
# ```

# %% [markdown]
# ## Step 2: not from the start
#
# At the start the teacher knows nothing, and agreeing with it teaches nothing. So the loss gets a
# weight that begins near zero and rises to its largest value over a part of the training:
#
# $$
# w = w_{max}\, \exp\!\big(-5\,(1 - t)^2\big), \qquad
# t = \min\!\Big(\frac{\text{progress}}{\text{length}},\, 1\Big).
# $$


# %%
def ramp_up(progress, length, largest):
    """Weight at `progress` (0 to 1); it reaches `largest` at progress = `length` and stays."""
    # BEGIN SOLUTION
    t = min(progress / length, 1.0)
    return largest * math.exp(-5 * (1 - t) ** 2)
    # END SOLUTION


# %%
lab01.ramp_up(ramp_up)

# %%
progress = [i / 100 for i in range(101)]
show.curves(
    {"your ramp": [ramp_up(p, 0.4, 5.0) for p in progress]},
    progress,
    xlabel="fraction of training done",
    ylabel="weight",
    alt="The weight rises in the shape of an S from nearly 0 to 5, which it reaches at 0.4 of the "
    "training and keeps.",
)

# %% [markdown]
# ## Step 3: the average of your own past
#
# The teacher is not trained. After every step $t = 1, 2, \dots$ of the student $\theta$, each of its
# parameters moves a little towards the student's:
#
# $$
# \theta' \leftarrow \alpha\,\theta' + (1 - \alpha)\,\theta,
# \qquad \alpha = \min\!\Big(1 - \frac{1}{t + 1},\ \text{decay}\Big).
# $$
#
# The minimum is the *warm-up*: at first the teacher is the plain mean of all students so far, so it
# soon forgets its random start. **Buffers** (the running statistics of batch norm, if a network has
# them) are not averaged but copied from the student: they are averages already.


# %%
@torch.no_grad()
def ema_update(teacher, student, step, decay):
    """Move the teacher, in place, after step number `step` = 1, 2, ... of the student."""
    # BEGIN SOLUTION
    alpha = min(1 - 1 / (step + 1), decay)
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.mul_(alpha).add_(theirs, alpha=1 - alpha)
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(theirs)
    # END SOLUTION


# %%
lab01.ema(ema_update)

# %% [markdown]
# ```{dropdown} Hint
# `zip(teacher.parameters(), student.parameters())` walks through both in the same order. Methods
# that end in an underscore work in place: `mine.mul_(a).add_(theirs, alpha=b)`, `mine.copy_(theirs)`.
# ```

# %% [markdown]
# ## Step 4: put them together
#
# In this book a technique is a `Method`: it has a network `self.net` (here the student) and says what
# to minimise. The loop `fit` calls
#
# - `loss(batch)`, which returns named terms. `fit` minimises their sum. `batch.labelled` has
#   `.images` and `.labels`, `batch.unlabelled` has `.images`, and `batch.progress` runs from 0 to 1;
# - `after_step(progress)` after each step of the optimiser, without gradients;
# - `predict(images)` when the method is judged.
#
# The network's start and the counter of steps are given. Write the rest with your three pieces.
# Student and teacher must see the unlabelled images through **different** noise (`self.noisy` draws
# anew each time), the labelled ones come without noise, and it is the *teacher* who is judged.


# %%
class MyMeanTeacher(Method):
    unlabelled = True  # fit draws unlabelled images too

    def __init__(self, net, weight=1.0, decay=0.99, noise=0.1, length=0.4):
        super().__init__(net)
        self.teacher = copy.deepcopy(net).requires_grad_(False)
        self.weight, self.decay, self.noise, self.length = weight, decay, noise, length
        self.steps = 0

    def noisy(self, images):
        return images + self.noise * torch.randn_like(images)

    def loss(self, batch):
        supervised = losses.dice_ce(self.net(batch.labelled.images), batch.labelled.labels)
        # BEGIN SOLUTION
        images = batch.unlabelled.images
        with torch.no_grad():
            teacher = self.teacher(self.noisy(images))
        agreement = consistency_loss(self.net(self.noisy(images)), teacher)
        consistency = ramp_up(batch.progress, self.length, self.weight) * agreement
        # END SOLUTION
        return {"supervised": supervised, "consistency": consistency}

    def after_step(self, progress):
        # BEGIN SOLUTION
        self.steps += 1
        ema_update(self.teacher, self.net, self.steps, self.decay)
        # END SOLUTION

    def predict(self, images):
        """Probabilities (B, K, H, W)."""
        # BEGIN SOLUTION
        return self.teacher(images).softmax(1)
        # END SOLUTION


# %%
lab01.mean_teacher(MyMeanTeacher)

# %% [markdown]
# ## Step 5: a fair comparison
#
# Train the baseline and your method. They must differ in **nothing but the idea**: the same network
# with the same first weights (`networks.unet(task, seed=0)` made twice), the same `task`, `budget`
# and `seed` for `fit`. The baseline is done for you.

# %% tags=["nbval-ignore-output"]
baseline = fit(Supervised(networks.unet(task, seed=0)), task, budget, seed=0)

# %% tags=["nbval-ignore-output"]
# BEGIN SOLUTION
mine = fit(MyMeanTeacher(networks.unet(task, seed=0)), task, budget, seed=0)
# END SOLUTION

# %%
lab01.fair(baseline, mine)

# %% [markdown]
# First look at the two terms of your loss. The consistency term starts near zero because its weight
# does, not because student and teacher agree.

# %% tags=["nbval-ignore-output"]
show.curves(
    {name: mine.history[name] for name in ("supervised", "consistency")},
    ylabel="loss term",
    window=max(1, budget.steps // 25),
    alt="The supervised and the weighted consistency term of your Mean Teacher over its training.",
)

# %% [markdown]
# Now the judgement, on test patients that neither has seen:

# %% tags=["nbval-ignore-output"]
reports = {
    "supervised": evaluate(baseline, task.test),
    "your mean teacher": evaluate(mine, task.test),
}
for name, report in reports.items():
    print(f"{name}\n{report}\n")

# %% tags=["nbval-ignore-output"]
gain = 100 * (reports["your mean teacher"].per_subject - reports["supervised"].per_subject)
print(
    f"{(gain > 0).sum()} of {len(gain)} test patients gained, {(gain < 0).sum()} lost; "
    f"on average {gain.mean():+.1f} Dice points."
)

# %% [markdown]
# ## What have you shown?
#
# One training of each, with one draw of three patients. Whatever the sign of your difference, it
# answers for this draw only. The [scoreboard](../scoreboard/scoreboard) repeats the comparison over
# draws and seeds and gives its interval; [Consistency](../semi/consistency) reads it, with a control
# that averages the weights but uses no unlabelled image.
#
# **If there is time left**
#
# - Set `weight=0.0` in your method. What is left of the gain, and whose work is it?
# - Return the student in `predict`. Which is better, and by how much, at step 50 and at the end?
# - Set `decay=0.9999` and take the warm-up out of `ema_update`. Predict what happens before you run it.
#
# ```{admonition} Take-away
# Mean Teacher is a squared difference with one side detached, a weight that waits, and a running
# average. Each is two lines long, and each has a way of being wrong that raises no error: that is
# why you tested properties before you trained.
# ```
