"""Gaussian process over a search space: options are embedded, and equal options of several parameters share theirs.

A configuration becomes a point phi = [sqrt(w_p) e_p(x_p)]_p: an option's learned coordinates, or a number in 0..1,
times the square root of its weight. With E = |phi - phi'|^2 the correlation is v exp(-E) + (1 - v) exp(-4E):
a smooth part, and a rough one for what the smooth part misses (with one scale alone the process grows sure of itself
where told points are dense, and never tries the exceptions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._parameter import Floats, Parameter
from archfront.spaces._search_space import Configuration, SearchSpace

__all__ = ["Coordinates", "Posterior", "Process"]

DIMENSIONS = 3
"""Coordinates of an option, or fewer for few options."""
OPTION_SPREAD = 0.5**0.5
"""Prior standard deviation of an option's coordinates."""
LOG_NOISE = (np.log(1e-2), 1.5)
"""Prior mean and standard deviation of the logarithm of the noise's share of the variance."""
LEAST_NOISE = 1e-5
MIXTURE_SPREAD = 1.5
WEIGHT = {"option": (2.0, 1.0), "number": (3.0, 1.5)}
"""The log weights are normal around log(first / number of parameters) with the second as standard deviation."""


@dataclass(frozen=True)
class _Block:
    """A parameter's columns in the design matrix; `table` is its group of options, None for a number."""

    columns: slice
    table: int | None


class Coordinates:
    """Rows (n, columns) of a design: one-hot options (one column more where a parameter may be inactive), numbers.

    `idle(config)` names the parameters that make no difference there: their options are as good as inactive.
    """

    def __init__(self, space: SearchSpace, idle: Callable[[Configuration], Collection[str]] | None = None) -> None:
        self.space, self.idle = space, idle
        self.tables: list[tuple[int, int]] = []
        """(options, coordinates) of each group of categorical parameters with the same options."""
        groups: dict[Any, int] = {}
        self.blocks: list[_Block] = []
        at = 0
        for parameter in space:
            table = None
            absent = idle is not None or bool(parameter.when)
            width = _numbers(parameter) + absent
            if isinstance(parameter, Categorical):
                key = (parameter.options, absent)
                width = len(parameter.options) + absent
                if key not in groups:
                    groups[key] = len(self.tables)
                    self.tables.append((width, min(DIMENSIONS, max(1, width - 1))))
                table = groups[key]
            self.blocks.append(_Block(slice(at, at + width), table))
            at += width
        self.width = at

    def __call__(self, configs: Sequence[Configuration]) -> Floats:
        """The design of canonical configurations."""
        codes = self.space.encode(configs)
        active = self.space.active(codes)
        if self.idle is not None:
            named = [self.idle(config) for config in configs]
            active &= np.array([[n not in names for n in self.space.names] for names in named]).reshape(active.shape)
        design = np.zeros((len(configs), self.width))
        rows = np.arange(len(configs))
        for i, (parameter, block) in enumerate(zip(self.space, self.blocks, strict=True)):
            first = block.columns.start
            if block.table is not None:
                last = block.columns.stop - 1
                design[rows, first + np.where(active[:, i], codes[:, i].astype(np.int64), last - first)] = 1
            else:
                own = parameter.features(codes[:, i])[:, -_numbers(parameter) :]
                design[:, first : first + own.shape[1]] = np.where(active[:, i : i + 1], own, 0.5)
                if self.idle is not None or parameter.when:
                    design[:, block.columns.stop - 1] = active[:, i]
        return design


def _numbers(parameter: Parameter) -> int:
    """Columns of a number: of an ordinal its rank, of a "log or zero" one also whether it is zero."""
    return 1 if isinstance(parameter, Ordinal) else len(parameter.feature_names)


class Process:
    """Hyperparameters by `tune`, then `conditioned` on labels (n,) that are about standard normal.

    The constant mean and the variance take their likelihood's maximum for the other hyperparameters. `draw` 0 centres
    the prior of the hyperparameters at its mean, another number at a draw from it.
    """

    def __init__(self, coordinates: Coordinates, draw: int = 0) -> None:
        self.coordinates = coordinates
        parameters = len(coordinates.blocks)
        sizes = [options * dims for options, dims in coordinates.tables]
        self._ends = np.cumsum([1, parameters, *sizes])
        kinds = ["number" if block.table is None else "option" for block in coordinates.blocks]
        free = max(1, len(coordinates.space.varied))
        weights = np.array([np.log(WEIGHT[kind][0] / free) for kind in kinds])
        entries = int(sum(sizes))
        self._centre = np.concatenate([[0.0], weights, np.zeros(entries), [LOG_NOISE[0]]])
        spread = [WEIGHT[kind][1] for kind in kinds]
        self._spread = np.array([MIXTURE_SPREAD, *spread, *[OPTION_SPREAD] * entries, LOG_NOISE[1]])
        rng = np.random.default_rng(draw)
        self._low = np.array([-4.0] + [-8.0] * parameters + [-4.0] * entries + [-10.0])
        self._high = np.array([4.0] + [5.0] * parameters + [4.0] * entries + [0.0])
        if draw:
            drawn = self._centre + self._spread * rng.standard_normal(len(self._centre))
            self._centre = np.clip(drawn, self._low, self._high)
        self.theta = self._centre.copy()
        if not draw:  # only to break the symmetry of options
            self.theta[self._ends[1] : self._ends[-1]] = rng.normal(0, 0.5, entries)
        self._first = self.theta.copy()

    # -- hyperparameters

    def _parts(self, theta: Floats) -> tuple[float, Floats, list[Floats], float]:
        ends = self._ends
        tables = [
            theta[start:end].reshape(shape)
            for start, end, shape in zip(ends[1:-1], ends[2:], self.coordinates.tables, strict=True)
        ]
        return float(theta[0]), theta[1 : ends[1]], tables, float(theta[-1])

    def _map(self, theta: Floats) -> Floats:
        """The matrix (columns, dimensions) from the design to phi."""
        _, weights, tables, _ = self._parts(theta)
        blocks = []
        for block, weight in zip(self.coordinates.blocks, np.exp(weights / 2), strict=True):
            own = np.eye(block.columns.stop - block.columns.start) if block.table is None else tables[block.table]
            blocks.append(weight * own)
        matrix = np.zeros((self.coordinates.width, sum(b.shape[1] for b in blocks)))
        column = 0
        for block, own in zip(self.coordinates.blocks, blocks, strict=True):
            matrix[block.columns, column : column + own.shape[1]] = own
            column += own.shape[1]
        return matrix

    def tune(self, design: Floats, y: Floats, *, steps: int, afresh: int = 0) -> None:
        """At most `steps` L-BFGS iterations from the present hyperparameters, on design (n, columns), labels (n,); and
        `afresh` iterations from the first ones, if they end at more probable ones: few labels may have led astray."""
        starts = [(self.theta, steps), (self._first, afresh)]
        found = [self._climbed(start, design, y, limit) for start, limit in starts if limit]
        loss, theta = min(found, key=lambda one: one[0])
        if np.isfinite(loss):
            self.theta = theta

    def _climbed(self, start: Floats, design: Floats, y: Floats, steps: int) -> tuple[float, Floats]:
        from scipy.optimize import minimize

        bounds = list(zip(self._low, self._high, strict=True))
        found = minimize(
            self.loss, start, (design, y), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
        )
        loss = float(found.fun)
        return loss if math.isfinite(loss) else math.inf, np.asarray(found.x, np.float64)

    def loss(self, theta: Floats, design: Floats, y: Floats) -> tuple[float, Floats]:
        """-log p(y | theta) p(theta) up to a constant, mean and variance at their best; and its gradient."""
        from scipy.linalg import solve_triangular

        n = len(y)
        logit, weights, _, log_noise = self._parts(theta)
        v, noise = 1 / (1 + np.exp(-logit)), np.exp(log_noise)
        matrix = self._map(theta)
        phi = design @ matrix
        smooth = np.exp(-_squared(phi, phi))
        rough = (smooth * smooth) ** 2
        covariance = v * smooth + (1 - v) * rough
        covariance[np.diag_indices(n)] += noise + LEAST_NOISE
        lower = np.linalg.cholesky(covariance)
        root = solve_triangular(lower, np.eye(n), lower=True, check_finite=False)
        precision = root.T @ root
        one, by_y = precision.sum(axis=1), precision @ y
        mean = by_y.sum() / one.sum()
        alpha = by_y - mean * one
        variance = max((y - mean) @ alpha / n, 1e-12)
        loss = 0.5 * n * np.log(variance) + np.log(np.diagonal(lower)).sum()
        slope = 0.5 * (precision - np.outer(alpha, alpha) / variance)  # d loss / d covariance
        by_distance = slope * (v * smooth + 4 * (1 - v) * rough)
        by_phi = -4 * (by_distance.sum(axis=1)[:, None] * phi - by_distance @ phi)
        gradient = np.zeros_like(theta)
        gradient[0] = (slope * (smooth - rough)).sum() * v * (1 - v)
        gradient[-1] = np.trace(slope) * noise
        self._spread_gradient(gradient, design.T @ by_phi, matrix, np.exp(weights / 2))
        z = (theta - self._centre) / self._spread
        return float(loss + 0.5 * (z @ z)), gradient + z / self._spread

    def _spread_gradient(self, gradient: Floats, by_matrix: Floats, matrix: Floats, scale: Floats) -> None:
        """From the map's entries to weights and coordinates of options."""
        column = 0
        for p, block in enumerate(self.coordinates.blocks):
            width = block.columns.stop - block.columns.start
            dims = width if block.table is None else self.coordinates.tables[block.table][1]
            here = (block.columns, slice(column, column + dims))
            gradient[1 + p] += 0.5 * (by_matrix[here] * matrix[here]).sum()
            if block.table is not None:
                start = self._ends[1 + block.table]
                gradient[start : start + width * dims] += (scale[p] * by_matrix[here]).ravel()
            column += dims

    # -- predictions

    def embedded(self, design: Floats) -> Floats:
        """The points phi (n, dimensions) of a design."""
        return design @ self._map(self.theta)

    def between(self, one: Floats, other: Floats) -> Floats:
        """Correlations (n, m) of embedded points, without noise."""
        smooth = np.exp(-_squared(one, other))
        v = 1 / (1 + np.exp(-self.theta[0]))
        squared = smooth * smooth
        return np.asarray(v * smooth + (1 - v) * squared * squared)

    def correlations(self, one: Floats, other: Floats) -> Floats:
        """(n, m) between the rows of two designs, without noise."""
        return self.between(self.embedded(one), self.embedded(other))

    def conditioned(self, design: Floats, y: Floats) -> Posterior:
        """The process given labels (n,)."""
        from scipy.linalg import cholesky, solve_triangular

        n = len(y)
        covariance = self.correlations(design, design)
        covariance[np.diag_indices(n)] += np.exp(self.theta[-1]) + LEAST_NOISE
        lower = cholesky(covariance, lower=True)
        one, by_y = (solve_triangular(lower, column, lower=True, check_finite=False) for column in (np.ones(n), y))
        mean = float(one @ by_y / (one @ one))
        whitened = by_y - mean * one
        return Posterior(lower, whitened, mean, max(float(whitened @ whitened / n), 1e-12))


@dataclass(frozen=True)
class Posterior:
    """A process given n labels: the factor L of their covariance (n, n), L^-1 (labels - mean), the constant mean, the
    variance."""

    lower: Floats
    whitened: Floats
    mean: float
    variance: float

    def explained(self, correlations: Floats, before: NDArray[np.float32] | None = None) -> Floats:
        """The rows of L^-1 C that follow those `before` (k, m), for the correlations (n - k, m) of the labels from
        the k-th on to m points."""
        from scipy.linalg import solve_triangular

        k = 0 if before is None else len(before)
        rest = correlations if before is None else correlations - self.lower[k:, :k].astype(np.float32) @ before
        return np.asarray(solve_triangular(self.lower[k:, k:], rest, lower=True, check_finite=False))

    def given(self, explained: NDArray[np.floating[Any]], share: Floats | None = None) -> tuple[Floats, Floats]:
        """Mean and standard deviation (m,), without noise, of points whose L^-1 C (n, m) is this. `share` (m,) is its
        sum of squares where that is known."""
        share = (explained * explained).sum(axis=0) if share is None else share
        mean = self.whitened.astype(explained.dtype) @ explained
        return np.asarray(self.mean + mean, np.float64), np.sqrt(self.variance * np.maximum(1 - share, 1e-10))


def _squared(one: Floats, other: Floats) -> Floats:
    """Squared distances (n, m)."""
    return np.asarray(np.maximum((one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T, 0))
