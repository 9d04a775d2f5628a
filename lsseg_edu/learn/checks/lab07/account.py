"""The account: what the clicks buy, and what has been got for them."""

from __future__ import annotations

import math

import torch

from lsseg_edu.learn.checks.demand import demand, passed


def budget(affordable) -> None:
    """Step 1: ``affordable(order, price, clicks)`` gives the images that are outlined."""
    order, price = torch.tensor([3, 0, 2, 1]), torch.tensor([40, 70, 30, 50])
    answer = affordable(order, price, 100)
    demand(
        isinstance(answer, torch.Tensor) and answer.ndim == 1,
        "Return the chosen images as a tensor of their numbers: a piece of `order`.",
    )
    demand(
        answer.tolist() != [3],
        "The prices are those of the images: the first one asked about is image 3, so its price is "
        "price[3]. Look up price[order].",
    )
    demand(
        int(price[answer].sum()) <= 100,
        f"Too expensive: images {answer.tolist()} together cost {int(price[answer].sum())} clicks, "
        "and there are 100. Add up the prices of what was asked before.",
    )
    demand(
        answer.tolist() == [3, 0],
        "Images 3 and 0 cost 90 of 100 clicks, and the next one would be too much: expected "
        f"[3, 0], yours is {answer.tolist()}.",
    )
    demand(
        affordable(order, price, 85).tolist() == [3],
        "Stop at the first image that is too expensive. To go on and look for cheaper ones would "
        "be another strategy, one that prefers images with little to see.",
    )
    demand(
        affordable(order, price, 120).tolist() == [3, 0, 2],
        "Prices that add up to exactly the clicks there are can be paid: compare with <=, not <.",
    )
    demand(
        affordable(order, price, 49).tolist() == [],
        "Where even the first image is too expensive, nothing is outlined: return an empty tensor.",
    )
    demand(
        affordable(order, price, 1000).tolist() == order.tolist(),
        "With clicks enough for all images, all are outlined, in their order.",
    )
    passed("budget of clicks")


def curve(area) -> None:
    """Step 4: ``area(spent, dice)`` is the mean height of a learning curve."""
    answer = area([0, 50, 200], [0.2, 0.4, 0.8])
    demand(
        isinstance(answer, float | int) or getattr(answer, "ndim", None) == 0,
        "Return one number.",
    )
    answer = float(answer)
    demand(
        not math.isclose(answer, (0.2 + 0.4 + 0.8) / 3, rel_tol=1e-6)
        and not math.isclose(answer, (0.3 + 0.6) / 2, rel_tol=1e-6),
        "The points are not equally far apart: each piece counts by the clicks it lasts.",
    )
    demand(
        not math.isclose(answer, 105, rel_tol=1e-6),
        "Divide the area by the length of the axis, so that it is a Dice again, between 0 and 1.",
    )
    demand(
        not any(math.isclose(answer, x, rel_tol=1e-6) for x in ((10 + 60) / 200, (20 + 120) / 200)),
        "Between two points the curve is a straight line: take the mean of both ends of a piece, "
        "not one of them.",
    )
    demand(
        math.isclose(answer, 105 / 200, rel_tol=1e-6),
        f"Expected (50 * 0.3 + 150 * 0.6) / 200 = {105 / 200:.3f}; yours is {answer:.3f}.",
    )
    demand(
        math.isclose(float(area([100, 300], [0.2, 0.4])), 0.3, rel_tol=1e-6),
        "The axis need not begin at 0: the clicks for the first labels are spent before the curve "
        "begins. Divide by last minus first.",
    )
    passed("area under the curve")
