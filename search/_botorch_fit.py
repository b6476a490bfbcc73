"""Hyperparameters of a Gaussian process by maximum a posteriori: BoTorch's objective in numpy, at a tenth of its cost.

The model is that of `botorch.models.SingleTaskGP` (0.12 to 0.18; Hvarfner et al., 2024): RBF kernel of unit variance
with a lengthscale per parameter, LogNormal(sqrt 2 + log(d) / 2, sqrt 3); noise variance LogNormal(-4, 1), at least
1e-4; constant mean. All that a parameter contributes to the columns of `x` shares its lengthscale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, lapack
from scipy.optimize import minimize

__all__ = ["Hyperparameters", "fitted", "log_posterior"]

Floats = NDArray[np.float64]

LENGTHSCALES = (0.025, 1e3)
NOISES = (1e-4, 10.0)
"""Least and largest values; BoTorch has the lower ends only, the upper ones keep a flat objective from running away."""

NOISE_PRIOR = (-4.0, 1.0)
ITERATIONS = 200


@dataclass(frozen=True)
class Hyperparameters:
    """`lengthscales` by parameter, in units of the columns; `noise` is a variance of the standardised values."""

    lengthscales: tuple[float, ...]
    noise: float
    mean: float

    @classmethod
    def starts(cls, parameters: int) -> list[Hyperparameters]:
        """Where a fit begins: at the modes of the priors, and smooth with noise. The posterior has many maxima."""
        location, scale = _lengthscale_prior(parameters)
        lengthscale = math.exp(location - scale**2)
        mode = cls((lengthscale,) * parameters, math.exp(NOISE_PRIOR[0] - NOISE_PRIOR[1] ** 2), 0.0)
        return [mode, cls((1.0,) * parameters, 0.1, 0.0)]


def fitted(x: Floats, groups: NDArray[np.int64], y: Floats) -> Hyperparameters:
    """The best local maximum a posteriori that L-BFGS-B reaches from the `starts`. Deterministic.

    `x` (n, columns), `groups` (columns,) the parameter of each column, `y` (n,) standardised. Raises LinAlgError when
    the covariance is positive definite nowhere.
    """
    parameters = int(groups.max(initial=-1)) + 1
    found = [_climbed(x, groups, y, start) for start in Hyperparameters.starts(parameters)]
    loss, best = min(found, key=lambda pair: pair[0])
    if not math.isfinite(loss):
        raise LinAlgError("the covariance of the data is not positive definite")
    return best


def _climbed(x: Floats, groups: NDArray[np.int64], y: Floats, start: Hyperparameters) -> tuple[float, Hyperparameters]:
    """Minus log posterior and hyperparameters of the local maximum that is reached from `start`."""
    parameters = len(start.lengthscales)
    theta = np.log([*start.lengthscales, start.noise])
    bounds = [tuple(np.log(LENGTHSCALES))] * parameters + [tuple(np.log(NOISES))]
    found = minimize(
        _loss,
        np.clip(theta, *np.transpose(bounds)),
        (x, groups, y),
        "L-BFGS-B",
        jac=True,
        bounds=bounds,
        options={"maxiter": ITERATIONS, "ftol": 1e-6, "gtol": 1e-4},
    )
    if not math.isfinite(found.fun):
        return math.inf, start
    mean = _covariance(found.x, x, groups, y).mean
    return float(found.fun), Hyperparameters(tuple(np.exp(found.x[:-1]).tolist()), float(np.exp(found.x[-1])), mean)


def log_posterior(x: Floats, groups: NDArray[np.int64], y: Floats, hyperparameters: Hyperparameters) -> float:
    """What is maximised, divided by the number of rows, as in gpytorch's ExactMarginalLogLikelihood."""
    theta = np.log([*hyperparameters.lengthscales, hyperparameters.noise])
    return -_loss(theta, x, groups, y)[0]


def _lengthscale_prior(parameters: int) -> tuple[float, float]:
    return math.sqrt(2) + math.log(parameters) / 2, math.sqrt(3)


@dataclass(frozen=True)
class _Covariance:
    kernel: Floats
    inverse: Floats
    logarithm: float
    alpha: Floats
    mean: float


def _covariance(theta: Floats, x: Floats, groups: NDArray[np.int64], y: Floats) -> _Covariance:
    """K, its inverse and log determinant with noise; the mean by generalised least squares, its maximum."""
    scaled = x / np.exp(theta[:-1])[groups]
    squares = (scaled**2).sum(1)
    kernel = np.exp(np.minimum(scaled @ scaled.T - 0.5 * squares[:, None] - 0.5 * squares, 0.0))
    noisy = kernel.copy()
    noisy.flat[:: len(x) + 1] += math.exp(theta[-1])
    factor, bad = lapack.dpotrf(noisy, lower=1, overwrite_a=1)
    if bad:
        raise LinAlgError("not positive definite")
    logarithm = 2 * float(np.log(np.diagonal(factor)).sum())
    lower, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    ones = inverse.sum(1)
    mean = float(ones @ y / ones.sum())
    return _Covariance(kernel, inverse, logarithm, inverse @ (y - mean), mean)


def _loss(theta: Floats, x: Floats, groups: NDArray[np.int64], y: Floats) -> tuple[float, Floats]:
    """Minus log posterior per row, and its gradient by the logarithms of lengthscales and noise."""
    try:
        c = _covariance(theta, x, groups, y)
    except LinAlgError:
        return math.inf, np.zeros_like(theta)
    n, parameters = len(x), len(theta) - 1
    value = -0.5 * float((y - c.mean) @ c.alpha) - 0.5 * c.logarithm - 0.5 * n * math.log(2 * math.pi)
    outer = np.outer(c.alpha, c.alpha) - c.inverse
    weights = outer * c.kernel
    # sum_ij w_ij (x_i - x_j)^2 = 2 (sum_i w_i x_i^2 - x' w x): no n x n table per column
    spread = 2 * (weights.sum(1) @ x**2 - np.einsum("ic,ic->c", x, weights @ x))
    by_parameter = np.bincount(groups, spread, parameters) * np.exp(-2 * theta[:-1])
    gradient = 0.5 * np.append(by_parameter, np.trace(outer) * math.exp(theta[-1]))
    location, scale = _lengthscale_prior(parameters)
    locations = np.append(np.full(parameters, location), NOISE_PRIOR[0])
    scales = np.append(np.full(parameters, scale), NOISE_PRIOR[1])
    deviation = (theta - locations) / scales
    value += float((-theta - np.log(scales) - 0.5 * math.log(2 * math.pi) - 0.5 * deviation**2).sum())
    gradient += -1 - deviation / scales
    return -value / n, -gradient / n
