"""Gaussian process over a search space: options are embedded, and equal options of several parameters share theirs.

A configuration becomes a point phi = [sqrt(w_p) e_p(x_p)]_p: an option's learned coordinates, or a number in 0..1,
times the square root of its weight. With E = |phi - phi'|^2 the correlation is v exp(-E) + (1 - v) exp(-4E):
a smooth part, and a rough one for what the smooth part misses (with one scale alone the process grows sure of itself
where told points are dense, and never tries the exceptions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """Rows (n, columns) of a design: one-hot options (one column more where a parameter may be inactive), numbers."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.tables: list[tuple[int, int]] = []
        """(options, coordinates) of each group of categorical parameters with the same options."""
        groups: dict[Any, int] = {}
        self.blocks: list[_Block] = []
        at = 0
        for parameter in space:
            table = None
            width = _numbers(parameter) + bool(parameter.when)
            if isinstance(parameter, Categorical):
                key = (parameter.options, bool(parameter.when))
                width = len(parameter.options) + bool(parameter.when)
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
                if parameter.when:
                    design[:, block.columns.stop - 1] = active[:, i]
        return design


def _numbers(parameter: Parameter) -> int:
    """Columns of a number: of an ordinal its rank, of a "log or zero" one also whether it is zero."""
    return 1 if isinstance(parameter, Ordinal) else len(parameter.feature_names)


class Process:
    """Hyperparameters by `tune`, then `conditioned` on labels (n,) that are about standard normal.

    The constant mean and the variance take their likelihood's maximum for the other hyperparameters.
    """

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates
        parameters = len(coordinates.blocks)
        sizes = [options * dims for options, dims in coordinates.tables]
        self._ends = np.cumsum([1, parameters, *sizes])
        kinds = ["number" if block.table is None else "option" for block in coordinates.blocks]
        free = max(1, sum(p.size > 1 for p in coordinates.space))
        self._weight_mean = np.array([np.log(WEIGHT[kind][0] / free) for kind in kinds])
        self._weight_spread = np.array([WEIGHT[kind][1] for kind in kinds])
        rng = np.random.default_rng(0)  # only to break the symmetry of options: the same for every process
        tables = [rng.normal(0, 0.5, size) for size in sizes]
        self.theta = np.concatenate([[0.0], self._weight_mean, *tables, [LOG_NOISE[0]]])

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

    def tune(self, design: Floats, y: Floats, *, steps: int) -> None:
        """At most `steps` L-BFGS iterations from the present hyperparameters, on design (n, columns), labels (n,)."""
        from scipy.optimize import minimize

        bounds = [(-4.0, 4.0)] + [(-8.0, 5.0)] * (self._ends[1] - 1)
        bounds += [(-4.0, 4.0)] * int(self._ends[-1] - self._ends[1]) + [(-10.0, 0.0)]
        found = minimize(
            self.loss, self.theta, (design, y), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
        )
        if np.isfinite(found.fun):
            self.theta = np.asarray(found.x, np.float64)

    def loss(self, theta: Floats, design: Floats, y: Floats) -> tuple[float, Floats]:
        """-log p(y | theta) p(theta) up to a constant, mean and variance at their best; and its gradient."""
        from scipy.linalg import solve_triangular

        n = len(y)
        logit, weights, tables, log_noise = self._parts(theta)
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
        return float(loss + self._prior(gradient, logit, weights, tables, log_noise)), gradient

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

    def _prior(
        self, gradient: Floats, logit: float, weights: Floats, tables: Sequence[Floats], log_noise: float
    ) -> float:
        z = (weights - self._weight_mean) / self._weight_spread
        noise = (log_noise - LOG_NOISE[0]) / LOG_NOISE[1]
        gradient[0] += logit / MIXTURE_SPREAD**2
        gradient[1 : self._ends[1]] += z / self._weight_spread
        gradient[-1] += noise / LOG_NOISE[1]
        total = 0.5 * (z @ z + noise**2 + (logit / MIXTURE_SPREAD) ** 2)
        for start, table in zip(self._ends[1:-1], tables, strict=True):
            gradient[start : start + table.size] += table.ravel() / OPTION_SPREAD**2
            total += 0.5 * float((table**2).sum()) / OPTION_SPREAD**2
        return float(total)

    # -- predictions

    def correlations(self, one: Floats, other: Floats) -> Floats:
        """(n, m) between the rows of two designs, without noise."""
        matrix = self._map(self.theta)
        smooth = np.exp(-_squared(one @ matrix, other @ matrix))
        v = 1 / (1 + np.exp(-self.theta[0]))
        squared = smooth * smooth
        return np.asarray(v * smooth + (1 - v) * squared * squared)

    def conditioned(self, design: Floats, y: Floats) -> Posterior:
        """The process given labels (n,)."""
        from scipy.linalg import cho_solve, cholesky

        n = len(y)
        covariance = self.correlations(design, design)
        covariance[np.diag_indices(n)] += np.exp(self.theta[-1]) + LEAST_NOISE
        lower = cholesky(covariance, lower=True)
        one, by_y = (cho_solve((lower, True), column) for column in (np.ones(n), y))
        mean = float(by_y.sum() / one.sum())
        alpha = by_y - mean * one
        return Posterior(lower, alpha, mean, max(float((y - mean) @ alpha / n), 1e-12))


@dataclass(frozen=True)
class Posterior:
    """A process given n labels: weights of the labels, constant mean, variance."""

    lower: Floats
    alpha: Floats
    mean: float
    variance: float

    def at(self, correlations: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (m,), without noise, of points with these correlations (m, n) to the labels."""
        from scipy.linalg import solve_triangular

        explained = solve_triangular(self.lower, correlations.T, lower=True, check_finite=False)
        left = np.maximum(1 - (explained * explained).sum(axis=0), 1e-10)
        return self.mean + correlations @ self.alpha, np.sqrt(self.variance * left)


def _squared(one: Floats, other: Floats) -> Floats:
    """Squared distances (n, m)."""
    return np.asarray(np.maximum((one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T, 0))
