"""Lab 7: the right answers pass, and each wrong one is told which property it lacks."""

import numpy as np
import pytest
import torch

from lsseg_edu.learn.checks import CheckFailed, lab07


def right_budget(order, price, clicks):
    return order[price[order].cumsum(0) <= clicks]


def right_doubt(probs):
    return torch.special.entr(probs).sum(1).mean((1, 2))


def right_cover(likeness, n, forget=False, first=None):
    had, chosen = torch.zeros(len(likeness)), []
    for _ in range(n):
        gain = (likeness - had[:, None]).clamp(min=0).sum(0)
        gain[chosen] = -1
        chosen.append(first if first is not None and not chosen else int(gain.argmax()))
        new = likeness[:, chosen[-1]]
        had = had if forget else torch.maximum(had, new)
    return chosen


def right_area(spent, dice):
    spent, dice = np.array(spent), np.array(dice)
    return ((dice[1:] + dice[:-1]) / 2 * np.diff(spent)).sum() / (spent[-1] - spent[0])


def test_right_answers_pass(capsys):
    lab07.budget(right_budget)
    lab07.doubt(right_doubt)
    lab07.cover(right_cover)
    lab07.cover(lambda likeness, n: torch.tensor(right_cover(likeness, n)))
    lab07.curve(right_area)
    assert capsys.readouterr().out.count("all checks passed") == 5


def one_too_many(order, price, clicks):
    return order[price[order].cumsum(0) - price[order] < clicks]


def bargains(order, price, clicks):
    kept = []
    for i in order.tolist():
        if price[i] <= clicks:
            kept.append(i)
            clicks -= int(price[i])
    return torch.tensor(kept, dtype=torch.long)


WRONG_BUDGETS = {
    "Return the chosen images as a tensor": lambda o, p, c: right_budget(o, p, c).tolist(),
    "price\\[3\\]": lambda o, p, c: o[p.cumsum(0) <= c],
    "Too expensive": one_too_many,
    "expected \\[3, 0\\]": lambda o, p, c: o[:0],
    "Stop at the first": bargains,
    "<=, not <": lambda o, p, c: o[p[o].cumsum(0) < c],
}


@pytest.mark.parametrize("message", WRONG_BUDGETS)
def test_wrong_budget(message):
    with pytest.raises(CheckFailed, match=message):
        lab07.budget(WRONG_BUDGETS[message])


WRONG_DOUBTS = {
    "one number an image": lambda p: torch.special.entr(p).sum(1),
    "and not NaN": lambda p: -(p * p.log()).sum(1).mean((1, 2)),
    "mind the sign": lambda p: -right_doubt(p),
    "not the sum": lambda p: torch.special.entr(p).sum((1, 2, 3)),
    "Over the classes take the": lambda p: torch.special.entr(p).mean((1, 2, 3)),
    "natural logarithm": lambda p: right_doubt(p) / np.log(2),
    "Expected the mean entropy": lambda p: 1 - p.amax(1).mean((1, 2)),
}


@pytest.mark.parametrize("message", WRONG_DOUBTS)
def test_wrong_doubt(message):
    with pytest.raises(CheckFailed, match=message):
        lab07.doubt(WRONG_DOUBTS[message])


def in_place(likeness, n):
    answer = right_cover(likeness, n)
    likeness -= 0.1
    return answer


def last_only(likeness, n):
    had, chosen = torch.zeros(len(likeness)), []
    for _ in range(n):
        gain = (likeness - had[:, None]).clamp(min=0).sum(0)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        had = likeness[:, chosen[-1]]
    return chosen


WRONG_COVERS = {
    "must not change": in_place,
    "exactly n images": lambda likeness, n: right_cover(likeness, n - 1),
    "chosen twice": lambda likeness, n: [1] * n,
    "most like \\*all\\* others": lambda likeness, n: right_cover(likeness, n, first=2),
    "Two twins": lambda likeness, n: right_cover(likeness, n, forget=True),
    "Expected image 1": lambda likeness, n: right_cover(likeness, n, first=0),
    "covers less": last_only,
}


@pytest.mark.parametrize("message", WRONG_COVERS)
def test_wrong_cover(message):
    with pytest.raises(CheckFailed, match=message):
        lab07.cover(WRONG_COVERS[message])


WRONG_AREAS = {
    "Return one number": lambda s, d: np.diff(s) * d[1],
    "not equally far apart": lambda s, d: float(np.mean(d)),
    "Divide the area": lambda s, d: right_area(s, d) * (s[-1] - s[0]),
    "mean of both ends": lambda s, d: float((np.diff(s) * np.array(d)[1:]).sum() / (s[-1] - s[0])),
    "Expected": lambda s, d: d[-1],
    "need not begin at 0": lambda s, d: right_area(s, d) * (s[-1] - s[0]) / s[-1],
}


@pytest.mark.parametrize("message", WRONG_AREAS)
def test_wrong_area(message):
    with pytest.raises(CheckFailed, match=message):
        lab07.curve(WRONG_AREAS[message])
