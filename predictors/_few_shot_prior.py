"""Bayesian linear regression on a handful of rows, averaged over the scales of its prior and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._parameter import Floats

__all__ = ["Posterior", "farthest", "posterior"]

LEVEL = 10.0
"""Prior standard deviation of the constant against that of a device's weight: it is free."""
SHARES = (0.0, 0.1, 0.3, 1.0, 3.0)
"""The same of a feature's weight: 0 believes the other devices only."""
SCALES = np.geomspace(0.03, 1.0, 6)
"""Prior standard deviations of a device's weight, labels and devices being standardised."""
NOISES = np.geomspace(0.003, 1.0, 11)
"""Standard deviations of the noise in standardised labels."""
TYPICAL = (0.1, 0.12, 0.1)
"""Share, scale and noise by which a design is made before anything is measured: the middle of the grids."""


@dataclass(frozen=True)
class Posterior:
    """Of the weights: mean `weight` (d,) and `covariance` (d, d); `noise` is the variance of a label around them,
    `left_out` (n,) what is guessed for each row without it, `evidence` the log density of the labels up to a constant
    that depends on n only."""

    weight: Floats
    covariance: Floats
    noise: float
    left_out: Floats
    evidence: float


def posterior(rows: Floats, t: Floats, root: Floats, devices: int) -> Posterior:
    """Learn labels t (n,) from `rows` (n, d): a constant, `devices` columns, then features. `root` (n,) is the square
    root of the rows' weights, which divide the noise.

    Every combination of the grids counts by its evidence (all are equally likely beforehand), so that the mixture's
    variance also tells how little a few rows say about the scales.
    """
    parts = [_Part.of(rows, t, root, devices, share) for share in SHARES]
    evidence = np.stack([part.evidence for part in parts])
    likely = np.exp(evidence - evidence.max())
    total = float(evidence.max() + np.log(likely.mean()))
    likely /= likely.sum()
    weight, second = np.zeros(rows.shape[1]), np.zeros((rows.shape[1], rows.shape[1]))
    for part, p in zip(parts, likely, strict=True):
        axes = part.deviation[:, None] * part.axes
        weight += axes @ np.einsum("sn,snk->k", p, part.mean)
        second += axes @ np.einsum("sn,snk,snl->kl", p, part.mean, part.mean) @ axes.T
        second += np.diag(part.deviation**2 * (p.sum(axis=1) @ SCALES**2))
        second -= (axes * np.einsum("sn,snk->k", p, part.known)) @ axes.T
    left_out = sum(np.einsum("sn,sni->i", p, part.left_out) for part, p in zip(parts, likely, strict=True))
    noise = float(likely.sum(axis=(0, 1)) @ NOISES**2)
    return Posterior(weight, second - np.outer(weight, weight), noise, np.asarray(left_out), total)


@dataclass(frozen=True)
class _Part:
    """The posteriors of one share, for every scale s and noise n of the grids.

    Along the k `axes` (d, k), in units of the prior's `deviation` (d,): the mean of the weights (s, n, k), and how much
    of their prior variance is `known` (s, n, k); log `evidence` (s, n); `left_out` (s, n, rows).
    """

    deviation: Floats
    axes: Floats
    mean: Floats
    known: Floats
    evidence: Floats
    left_out: Floats

    @classmethod
    def of(cls, rows: Floats, t: Floats, root: Floats, devices: int, share: float) -> _Part:
        deviation = _deviation(rows.shape[1], devices, share)
        left, values, right = np.linalg.svd(rows * deviation * root[:, None], full_matrices=False)
        target = t * root
        along = left.T @ target
        beside = target - left @ along
        scale, noise = SCALES[:, None, None] ** 2, NOISES[None, :, None] ** 2
        total = scale * values**2 + noise
        evidence = -0.5 * (along**2 / total + np.log(total)).sum(axis=2)
        evidence = evidence - 0.5 * beside @ beside / NOISES**2 - (len(t) - len(values)) * np.log(NOISES)
        # what a row would be guessed without it (Rasmussen and Williams, 2006, eq. 5.12)
        alone = np.maximum(1 - (left**2).sum(axis=1), 0)
        precision = np.einsum("ik,snk->sni", left**2, 1 / total) + alone / noise
        solved = np.einsum("ik,snk->sni", left, along / total) + beside / noise
        return cls(
            deviation,
            right.T,
            scale * values * along / total,
            scale * (scale * values**2 / total),
            evidence,
            t - solved / precision / root,
        )


def _deviation(d: int, devices: int, share: float) -> Floats:
    return np.array([LEVEL, *[1.0] * devices, *[share] * (d - 1 - devices)])


def farthest(rows: Floats, devices: int, n: int) -> NDArray[np.int64]:
    """Positions of n of the `rows` (r, d) that a design measures: each is the one that those before it leave most
    unsure (greedy D-optimality; the labels are not needed). Ties: the first."""
    share, scale, noise = TYPICAL
    scaled = rows * _deviation(rows.shape[1], devices, share) * scale
    unsure, chosen = np.eye(rows.shape[1]), np.empty(0, np.int64)
    for _ in range(n):
        variance = np.einsum("rd,de,re->r", scaled, unsure, scaled, optimize=True)
        variance[chosen] = -np.inf
        best = int(np.argmax(variance))
        along = unsure @ scaled[best]
        unsure = unsure - np.outer(along, along) / (noise**2 + scaled[best] @ along)
        chosen = np.append(chosen, best)
    return chosen
