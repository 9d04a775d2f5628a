"""Who may choose, and what a gain is measured against."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from lsseg_edu.data import Cohort
from lsseg_edu.evaluate import interval_over_seeds
from lsseg_edu.learn.checks.demand import demand, passed

QUALITY = {  # share of right pixels on training, validation and test patients
    0.3: (0.90, 0.50, 0.60),
    0.9: (0.80, 0.60, 0.90),
    0.7: (0.85, 0.80, 0.70),
    0.5: (0.95, 0.70, 0.50),
}


def threshold(choose) -> None:
    """Step 4: ``choose(candidates, task, run)`` gives the candidate to use."""
    task = Watched()
    answer = choose(list(QUALITY), task, task.run)
    demand(
        not task.looked,
        "The test patients must not be looked at, not even for a hyper-parameter: what was chosen "
        "by them cannot be judged by them. Choose by task.valid.",
    )
    demand(
        answer in QUALITY,
        f"Return one of the candidates, the threshold itself; yours is {answer!r}.",
    )
    demand(
        set(task.ran) == set(QUALITY),
        "Every candidate must have its run before you choose: call run(threshold) for each.",
    )
    demand(
        answer != 0.5,
        "Do not choose by the training patients: their masks have been learnt, so they praise "
        "the network that remembers best. Choose by task.valid.",
    )
    demand(answer != 0.3, "The candidate with the *lowest* score was chosen: take the highest.")
    demand(
        answer == 0.7,
        "Return the candidate whose network has the highest mean Dice on task.valid: here that is "
        f"0.7, yours is {answer}.",
    )
    passed("choice without a leak")


def gain(measure) -> None:
    """Step 5: ``measure(mine, arms)`` gives the interval of the gain, from ``{seed: Dice}``."""
    mine = {0: 0.60, 1: 0.71, 2: 0.55, 3: 0.66}
    longer = {3: 0.65, 1: 0.69, 0: 0.59, 2: 0.52}
    short = {seed: dice - 0.05 for seed, dice in longer.items()}
    arms = {"supervised": short, "supervised longer": longer}
    answer = _interval(measure(mine, arms))
    expected, against_short = (_paired(mine, other) for other in (longer, short))
    demand(
        not np.isclose(answer[0], against_short[0]),
        "You compared with the short baseline, which had one training where yours had two. What "
        "two trainings' worth of steps buy without unlabelled images is 'supervised longer'.",
    )
    demand(
        not np.isclose(answer[0], -expected[0]),
        "The gain must be yours minus the reference: it has the wrong sign.",
    )
    demand(
        np.isclose(answer[0], expected[0]),
        "The mean must be that of the differences, mine[seed] - reference[seed]: expected "
        f"{expected[0]:.4f}, yours is {answer[0]:.4f}.",
    )
    demand(
        np.allclose(answer, expected),
        "The interval must be that of the differences, paired by *seed*: a seed draws the labelled "
        "patients, and a hard draw is hard for both arms. Look each seed up in both; the order of "
        "a dict is not the pairing.",
    )
    _common(measure)
    passed("paired gain")


def _common(measure):
    """Runs that only one arm has."""
    mine, longer = {0: 0.6, 1: 0.7, 5: 0.9}, {0: 0.5, 1: 0.68, 4: 0.2}
    expected = _paired({0: 0.6, 1: 0.7}, longer)
    try:
        answer = _interval(measure(mine, {"supervised": dict(longer), "supervised longer": longer}))
    except KeyError:
        answer = (np.nan,) * 3
    demand(
        np.allclose(answer, expected),
        "A seed that only one arm has (a run that is still missing) has no pair: use the seeds "
        "that both have.",
    )


class Watched:
    """A task that notices when somebody looks at its test patients, and runs of known quality."""

    def __init__(self):
        parts = [_cohort(n, seed) for seed, n in enumerate((4, 2, 3))]
        self.train, self.valid, self._test = parts
        self.labelled = torch.arange(len(self.train))
        self.unlabelled = self.labelled[:0]
        self.parts, self.ran, self.looked = parts, [], False

    @property
    def test(self) -> Cohort:
        self.looked = True
        return self._test

    def run(self, threshold):
        """A network that is right at a share of the pixels, see ``QUALITY``."""
        self.ran.append(threshold)
        return _Known(self.parts, QUALITY[threshold])


class _Known:
    def __init__(self, parts, shares):
        self.parts, self.shares = parts, shares

    def predict(self, images):
        which = next(i for i, part in enumerate(self.parts) if part.images.shape == images.shape)
        labels = self.parts[which].labels.clone().flatten()
        wrong = int((1 - self.shares[which]) * len(labels))
        labels[:wrong] = (labels[:wrong] + 1) % 3
        labels = labels.view(self.parts[which].labels.shape)
        return F.one_hot(labels, 3).movedim(-1, 1).float()


def _cohort(n: int, seed: int) -> Cohort:
    draw = np.random.default_rng(seed)
    labels = draw.integers(3, size=(n, 8, 8))
    return Cohort.from_arrays(draw.normal(size=(n, 8, 8)), labels, np.arange(n))


def _paired(mine, reference):
    seeds = sorted(mine)
    return tuple(interval_over_seeds([mine[s] - reference[s] for s in seeds]))


def _interval(answer) -> tuple[float, ...]:
    demand(
        isinstance(answer, tuple | list) and len(answer) == 3,
        "Return the interval that interval_over_seeds gives: mean, low, high.",
    )
    return tuple(float(value) for value in answer)
