"""Who is better than whom: non-dominated ranks with Deb's constraint rule, and crowding."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = ["constrained_rank", "crowding_distance", "survivors"]

Floats = NDArray[np.float64]


def constrained_rank(losses: Floats, violations: Floats) -> NDArray[np.int64]:
    """Rank from 0 of each row of `losses` (n, m), minimised; feasible rows (violation 0) come before all others,
    which are ranked by their violation (Deb, 2000). All values must be finite, violations may be infinite."""
    rank = np.zeros(len(losses), np.int64)
    feasible = violations <= 0
    if feasible.any():
        rank[feasible] = moocore.pareto_rank(losses[feasible])
    if not feasible.all():
        first = int(rank[feasible].max()) + 1 if feasible.any() else 0
        order = np.unique(violations[~feasible], return_inverse=True)[1]
        rank[~feasible] = first + order
    return rank


def crowding_distance(losses: Floats) -> Floats:
    """Crowding distance (n,) of Deb et al. (2002), section III-B: infinite at the ends of every objective."""
    n, m = losses.shape
    distance = np.zeros(n)
    if n <= 2:
        return np.full(n, np.inf)
    for j in range(m):
        order = np.argsort(losses[:, j], kind="stable")
        column = losses[order, j]
        span = column[-1] - column[0]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[2:] - column[:-2]) / span
    return distance


def survivors(losses: Floats, violations: Floats, keys: list[str], n: int) -> list[int]:
    """Positions of the n best rows, best first: by rank, then by crowding inside the rank, then by key."""
    by_key = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)  # ties: told order must not matter
    losses = losses[by_key]
    rank = constrained_rank(losses, violations[by_key])
    crowding = np.zeros(len(losses))
    for r in np.unique(rank):
        members = rank == r
        crowding[members] = crowding_distance(losses[members])
    order = np.lexsort((np.arange(len(losses)), -crowding, rank))
    return [int(i) for i in by_key[order[:n]]]
