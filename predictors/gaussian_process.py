"""Gaussian process with one lengthscale per parameter: Matérn-5/2 over numbers times Hamming over categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._folds import folds
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

__all__ = ["GaussianProcess"]

LOG_LENGTH = (-4.0, 7.0)
LOG_SCALE = (-4.0, 4.0)
LOG_NOISE = (float(np.log(1e-6)), float(np.log(2.0)))
"""Bounds of the search, labels being standardised: beyond them nothing changes."""


class GaussianProcess(Predictor):
    """k(x, x') = scale * matern52(sqrt(sum_p (x_p - x'_p)^2 / l_p^2)) * exp(-sum_p [x_p != x'_p] / l_p), plus noise.

    The first sum runs over numbers (ordinals by rank), the second over categoricals; an inactive parameter differs from
    every active value. Hyperparameters maximise the likelihood times weak log-normal priors (for lengthscales those of
    Hvarfner et al., 2024, which grow with the number of parameters; without any, 50 points are overfitted), on at most
    `tuned_on` random rows; the process is conditioned on all. Weights divide the noise.
    """

    capabilities = PredictorCapabilities(uncertainty=True)
    minimum = 3

    def __init__(self, *base: Any, tuned_on: int = 500, **rest: Any) -> None:
        super().__init__(*base, **rest)
        if tuned_on < self.minimum:
            raise UsageError(f"tuned_on={tuned_on} must be at least {self.minimum}")
        self.tuned_on = tuned_on
        self._kernel = _Kernel(self)

    def inputs(self, configs: Sequence[Configuration]) -> Floats:
        return self._kernel.coordinates(self.search_space.to_features(configs))

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        from scipy.linalg import cho_solve, cholesky, solve_triangular

        level, spread = float(y.mean()), float(y.std()) or 1.0
        t = (y - level) / spread
        unsure = np.ones(len(y)) if weights is None else weights.mean() / weights
        rows = np.sort(self.generator().permutation(len(y))[: self.tuned_on])
        theta = self._kernel.tuned(inputs[rows], t[rows], unsure[rows])
        noise = float(np.exp(theta[-1]))
        covariance = self._kernel.between(theta, inputs, inputs) + np.diag(noise * unsure)
        lower = cholesky(covariance, lower=True)
        root = solve_triangular(lower, np.eye(len(y)), lower=True)
        alpha = cho_solve((lower, True), t)
        precision = root.T @ root
        guess = t.copy()
        for _, held in folds(len(y)):  # the same hyperparameters, conditioned on the other folds (Rasmussen, 5.12)
            guess[held] -= np.linalg.solve(precision[np.ix_(held, held)], alpha[held])
        model = {"x": inputs, "theta": theta, "level": level, "spread": spread, "alpha": alpha, "root": root}
        return Fitted(model, self._kernel.described(theta), level + spread * guess)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        theta = model["theta"]
        near = self._kernel.between(theta, model["x"], inputs)
        mean = model["level"] + model["spread"] * (model["alpha"] @ near)
        noise = np.exp(theta[-1])
        left = np.exp(theta[-2]) - ((model["root"] @ near) ** 2).sum(axis=0)
        return mean, model["spread"] * np.sqrt(np.maximum(left, 0) + noise)


class _Kernel:
    """The kernel over a space's columns. theta: log lengthscale per parameter, log scale, log noise."""

    def __init__(self, predictor: Predictor) -> None:
        space = predictor.search_space
        self.names = space.names
        self.hamming = np.array([isinstance(p, Categorical) for p in space])
        columns: list[int] = []
        owner: list[int] = []
        at = 0
        for i, parameter in enumerate(space):
            width = len(parameter.feature_names) + bool(parameter.when)
            ranked = len(parameter.options) if isinstance(parameter, Ordinal) else 0  # its one-hot columns are left out
            columns += range(at + ranked, at + width)
            owner += [i] * (width - ranked)
            at += width
        self.columns, self.owner = np.array(columns), np.array(owner)
        self.apart = self.hamming[self.owner]
        numbers, categories = (~self.hamming).sum(), self.hamming.sum()
        self.centre = np.where(self.hamming, np.log(max(1, categories) / 2), np.sqrt(2) + 0.5 * np.log(max(1, numbers)))
        self.centre = np.array([*self.centre, 0.0, np.log(1e-2)])
        self.width = np.array([*np.where(self.hamming, 1.0, np.sqrt(3)), 1.0, 2.0])
        self.bounds = [LOG_LENGTH] * len(self.names) + [LOG_SCALE, LOG_NOISE]

    def coordinates(self, features: Floats) -> Floats:
        """Columns whose squared distance is 1 between different categories, (x - x')^2 between numbers."""
        return np.asarray(features[:, self.columns] * np.where(self.apart, np.sqrt(0.5), 1.0))

    def described(self, theta: Floats) -> dict[str, Any]:
        """Hyperparameters in words, for labels of mean 0 and variance 1."""
        lengths = np.exp(theta[:-2])
        return {
            "lengthscales": {name: round(float(length), 4) for name, length in zip(self.names, lengths, strict=True)},
            "scale": round(float(np.exp(theta[-2])), 4),
            "noise": round(float(np.exp(theta[-1])), 6),
        }

    def _factors(self, theta: Floats, one: Floats, other: Floats) -> tuple[Floats, Floats]:
        """exp(-Hamming), and sqrt(5) times the scaled distance."""
        inverse = np.exp(-theta[:-2])[self.owner]
        scale = np.where(self.apart, np.sqrt(inverse), inverse)
        one, other = one * scale, other * scale
        hamming = _squared(one[:, self.apart], other[:, self.apart])
        distance = _squared(one[:, ~self.apart], other[:, ~self.apart])
        return np.exp(-hamming), np.sqrt(5 * distance)

    def between(self, theta: Floats, one: Floats, other: Floats) -> Floats:
        """Covariances (n, m) without noise."""
        alike, r = self._factors(theta, one, other)
        return np.asarray(np.exp(theta[-2]) * alike * (1 + r + r**2 / 3) * np.exp(-r))

    def loss(self, theta: Floats, x: Floats, t: Floats, unsure: Floats) -> tuple[float, Floats]:
        """-log p(t | x, theta) p(theta) up to a constant, and its gradient (Rasmussen and Williams, 2006, eq. 5.9)."""
        from scipy.linalg import cho_solve, cholesky

        alike, r = self._factors(theta, x, x)
        scale, noise = np.exp(theta[-2]), np.exp(theta[-1])
        decay = scale * alike * np.exp(-r)
        covariance = decay * (1 + r + r**2 / 3)
        lower = cholesky(covariance + np.diag(noise * unsure), lower=True, check_finite=False)
        both = cho_solve((lower, True), np.column_stack([t, np.eye(len(t))]), check_finite=False)
        alpha, precision = both[:, 0], both[:, 1:]
        outer = np.outer(alpha, alpha) - precision
        by_category = _weighted(outer * covariance, x[:, self.apart])
        by_number = _weighted(outer * decay * (1 + r) * (5 / 3), x[:, ~self.apart])  # -2 d matern / d distance^2
        by_column = np.empty(x.shape[1])
        by_column[self.apart], by_column[~self.apart] = by_category, by_number
        inverse = np.exp(-theta[:-2])
        by_length = np.bincount(self.owner, by_column, len(self.names)) * np.where(self.hamming, inverse, inverse**2)
        slope = -0.5 * np.array([*by_length, (outer * covariance).sum(), noise * (np.diagonal(outer) * unsure).sum()])
        z = (theta - self.centre) / self.width
        loss = 0.5 * t @ alpha + np.log(np.diagonal(lower)).sum() + 0.5 * z @ z
        return float(loss), slope + z / self.width

    def tuned(self, x: Floats, t: Floats, unsure: Floats) -> Floats:
        """theta of least loss, from the centre of the priors."""
        from scipy.optimize import minimize

        start = np.clip(self.centre, *np.array(self.bounds).T)
        found = minimize(self.loss, start, (x, t, unsure), jac=True, method="L-BFGS-B", bounds=self.bounds)
        return np.asarray(found.x, np.float64)


def _squared(one: Floats, other: Floats) -> Floats:
    """Squared distances (n, m)."""
    return np.asarray(np.maximum((one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T, 0))


def _weighted(weight: Floats, x: Floats) -> Floats:
    """sum_ij weight_ij (x_ic - x_jc)^2 for every column c; `weight` is symmetric."""
    return np.asarray(2 * (weight.sum(axis=1) @ x**2 - (x * (weight @ x)).sum(axis=0)))
