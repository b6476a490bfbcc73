"""How much a candidate is expected to improve a front: exactly for one and two objectives, by draws for more."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = ["expected_improvement", "hypervolume_improvement", "scalarised_improvement", "sorted_front"]

Floats = NDArray[np.float64]


def sorted_front(losses: Floats, reference: Floats) -> Floats:
    """The non-dominated rows (k, 2) below `reference` in both losses, the smallest first loss first."""
    inside = losses[(losses < reference).all(axis=1)]
    if len(inside):
        inside = inside[moocore.is_nondominated(inside)]
    return np.asarray(inside[np.argsort(inside[:, 0])])


def _strips(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """The region that `front` does not dominate as strips: edges (k + 2,) of the first loss, heights (k + 1,)."""
    edges = np.concatenate([[-np.inf], front[:, 0], reference[:1]])
    return edges, np.concatenate([reference[1:], front[:, 1]])


def hypervolume_improvement(front: Floats, points: Floats, reference: Floats) -> Floats:
    """What each point (n, 2) adds to the area that a `sorted_front` dominates up to `reference`."""
    edges, heights = _strips(front, reference)
    gain = np.zeros(len(points))
    for i, height in enumerate(heights):
        width = edges[i + 1] - np.maximum(points[:, 0], edges[i])
        gain += np.maximum(width, 0) * np.maximum(height - points[:, 1], 0)
    return gain


def expected_improvement(mean: Floats, std: Floats, front: Floats, reference: Floats) -> Floats:
    """Expected improvement (n,) of independent normal losses: for one loss (n, 1) below the reference or the best; for
    two the expected hypervolume improvement over a `sorted_front` (Emmerich et al., 2011), strip by strip."""
    if mean.shape[1] == 1:
        best = np.min(front[:, 0]) if len(front) else reference[0]
        return _shortfall(np.full(len(mean), min(best, reference[0])), mean[:, 0], std[:, 0])
    edges, heights = _strips(front, reference)
    total = np.zeros(len(mean))
    left = np.zeros(len(mean))
    for i, height in enumerate(heights):
        right = _shortfall(edges[i + 1], mean[:, 0], std[:, 0])
        total += (right - left) * _shortfall(height, mean[:, 1], std[:, 1])
        left = right
    return total


def _shortfall(bound: Floats | float, mean: Floats, std: Floats) -> Floats:
    """E[max(bound - X, 0)] of normal X."""
    from scipy.special import ndtr

    z = (bound - mean) / std
    return np.asarray(std * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) + (bound - mean) * ndtr(z))


def scalarised_improvement(mean: Floats, std: Floats, losses: Floats, weights: Floats, draws: Floats) -> Floats:
    """Expected improvement (n,) of max_j w_j loss_j + 0.05 sum (Knowles, 2006, eq. 2) by standard normal `draws`
    (s, m): for any number of losses, told ones (k, m)."""

    def scalar(values: Floats) -> Floats:
        weighted = values * weights
        return np.asarray(weighted.max(axis=-1) + 0.05 * weighted.sum(axis=-1))

    best = scalar(losses).min()
    gain = np.zeros(len(mean))
    for draw in draws:
        gain += np.maximum(best - scalar(mean + std * draw), 0)
    return gain / len(draws)
