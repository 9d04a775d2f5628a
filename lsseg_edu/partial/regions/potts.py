"""Minimum cuts: labellings of a graph that are cheap where they must pay and hardly split."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import sparse


def alpha_expansion(costs: np.ndarray, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Classes ``(P,)`` of low Potts energy on any graph.

    .. math:: E(y) = \sum_i c_{i y_i} + \sum_{i \sim j} [y_i \ne y_j]\, w_{ij}

    In turn each class may take over whatever nodes it likes; the best such move is one minimum
    cut, and no move makes it worse. It ends when no class gains, at most a factor of 2 above the
    minimum. With two classes the first move, from all of one to some of the other, *is* the
    minimum.

    Args:
        costs: ``(P, K)``, infinite where forbidden; every row needs a finite entry.
        pairs: ``(2, E)`` neighbours, each pair once.
        weights: ``(E,)``, not negative.

    Reference: Boykov, Veksler, Zabih, "Fast Approximate Energy Minimization via Graph Cuts", IEEE
    TPAMI 2001.

    Raises:
        ValueError: a node that no class may have.
    """
    if not np.isfinite(costs).any(1).all():
        raise ValueError("A node may have no class at all: give each a finite cost somewhere.")
    possible = np.flatnonzero(np.isfinite(costs).any(0))
    if len(possible) <= 2:
        return expand(np.full(len(costs), possible[0]), possible[-1], costs, pairs, weights)
    y = costs.argmin(1)
    lowest, idle = energy(y, costs, pairs, weights), 0
    for alpha in np.tile(possible, 10):
        tried = expand(y, alpha, costs, pairs, weights)
        now = energy(tried, costs, pairs, weights)
        idle = idle + 1 if now > lowest - 1e-9 else 0
        if idle == len(possible):
            break
        if idle == 0:
            y, lowest = tried, now
    return y


def expand(y: np.ndarray, alpha: int, costs, pairs, weights) -> np.ndarray:
    """The best labelling in which every node keeps its class ``y (P,)`` or takes ``alpha``.

    With x = 1 for those that take it, a pair costs A, B, C or 0 (nobody, the second, the first,
    both): A + (C - A) x_i - C x_j + (B + C - A) (1 - x_i) x_j.
    """
    (i, j), n = pairs, len(y)
    a, b, c = weights * (y[i] != y[j]), weights * (y[i] != alpha), weights * (y[j] != alpha)
    taken = costs[:, alpha] + np.bincount(i, c - a, n) - np.bincount(j, c, n)
    stay = costs[np.arange(n), y]
    return np.where(min_cut(np.stack([stay, taken], 1), i, j, b + c - a), alpha, y)


def min_cut(costs: np.ndarray, i: np.ndarray, j: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    r"""Minimise :math:`\sum_p c_{p x_p} + \sum_e a_e (1 - x_{i_e})\, x_{j_e}` over ``x`` in {0, 1}.

    The largest flow from a source to a sink is the smallest cut between them. Nodes that the
    source still reaches when the flow is at its largest have x = 0.

    A cost difference above the sum of a node's edges decides it alone, so larger ones (infinite
    at a seed) are cut down to a bit more than that.

    Args:
        costs: ``(P, 2)``; a row may hold one infinity.
        i: ``(E,)`` start of each edge.
        j: ``(E,)`` its end.
        capacity: ``(E,)``, not negative. Integers are needed: all are scaled to a sum of about a
            billion, and rounded.

    Returns:
        ``(P,)`` booleans.
    """
    n = len(costs)
    limit = 1.01 * (np.bincount(i, capacity, n) + np.bincount(j, capacity, n)) + 1e-3
    difference = np.clip(costs[:, 1] - costs[:, 0], -limit, limit)
    amount = np.r_[capacity, difference.clip(0), (-difference).clip(0)]
    amount = np.rint(amount * 1e9 / amount.sum().clip(1e-9)).astype(np.int32)
    node, source, sink = np.arange(n), np.full(n, n), np.full(n, n + 1)
    ends = np.r_[i, source, node], np.r_[j, node, sink]
    graph = sparse.csr_array((amount, ends), shape=(n + 2,) * 2)
    left = graph - sparse.csgraph.maximum_flow(graph, n, n + 1).flow
    left.eliminate_zeros()
    reached = sparse.csgraph.breadth_first_order(left, n, return_predecessors=False)
    return ~np.isin(node, reached)


def energy(y: np.ndarray, costs: np.ndarray, pairs: np.ndarray, weights: np.ndarray) -> float:
    """What the classes ``y (P,)`` cost."""
    return costs[np.arange(len(y)), y].sum() + weights[y[pairs[0]] != y[pairs[1]]].sum()


def neighbours(size) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of flat indices ``(2, E)`` of pixels that touch, if at a corner, and their distances.

    Args:
        size: ``*S``, of a plane or a volume.
    """
    number, found, distance = np.arange(np.prod(size)).reshape(size), [], []
    for step in product((-1, 0, 1), repeat=len(size)):
        if step > (0,) * len(size):
            here = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, size, strict=True))
            there = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(step, size, strict=True))
            found.append(np.stack([number[here].ravel(), number[there].ravel()]))
            distance.append(np.full(found[-1].shape[1], np.linalg.norm(step)))
    return np.concatenate(found, 1), np.concatenate(distance)
