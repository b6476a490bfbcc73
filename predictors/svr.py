"""Support vector regression with a Gaussian kernel and a cross-validated C (Sarah et al., 2022, §4.3)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._folds import Scoring, criterion, folds, label_factor
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Svr"]

GRIDS: Mapping[str, tuple[int, ...]] = {"paper": tuple(range(1, 101)), "coarse": (1, 3, 10, 30, 100)}
STEPS = 1_000_000
"""libsvm's iterations are capped as in the paper's package."""


class Svr(Predictor):
    """Chooses C of `grid` by five-fold cross-validation with gamma = 1 / features and epsilon = 0.

    "paper" tries 1, 2 ... 100, which is scikit-learn's grid search (seconds for 250 rows); "coarse" five values.
    `scoring` as in `ridge`. The standard deviation is the spread of the out-of-fold residuals, the same for every row.
    """

    capabilities = PredictorCapabilities(uncertainty=True, differentiable=True)
    minimum = 5

    def __init__(
        self, *base: Any, grid: Literal["coarse", "paper"] = "coarse", scoring: Scoring = "auto", **rest: Any
    ) -> None:
        super().__init__(*base, **rest)
        if grid not in GRIDS:
            raise UsageError(f"grid={grid!r} must be one of {', '.join(GRIDS)}")
        self.grid, self.scoring = GRIDS[grid], scoring

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        factor, gamma = label_factor(y), 1 / inputs.shape[1]
        scaled, error = y / factor, criterion(y, self.scoring)
        kernel = _kernel(inputs, inputs, gamma)
        guesses = np.empty((len(y), len(self.grid)))
        errors = []
        for train, held in folds(len(y)):
            for i, c in enumerate(self.grid):
                machine = _machine(kernel[np.ix_(train, train)], scaled[train], c, weights, train)
                guesses[held, i] = machine.predict(kernel[np.ix_(held, train)])
            errors.append([error(guess, scaled[held]) for guess in guesses[held].T])
        best = int(np.argmin(np.mean(errors, axis=0)))
        machine = _machine(kernel, scaled, self.grid[best], weights, np.arange(len(y)))
        model = {
            "support": inputs[machine.support_],
            "weight": machine.dual_coef_[0] * factor,
            "intercept": float(machine.intercept_[0] * factor),
            "gamma": gamma,
            "spread": float(np.sqrt(np.mean((guesses[:, best] - scaled) ** 2)) * factor),
        }
        chosen = {"C": self.grid[best]}
        return Fitted(model, chosen, guesses[:, best] * factor, float(np.mean(errors, axis=0)[best]))

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        mean = _kernel(inputs, model["support"], model["gamma"]) @ model["weight"] + model["intercept"]
        return mean, np.full(len(inputs), model["spread"])

    def torch_mean(self, model: Model) -> Callable[[Tensor], Tensor]:
        import torch

        support, weight = torch.from_numpy(model["support"]), torch.from_numpy(model["weight"])

        def mean(features: Tensor) -> Tensor:
            distance = (features[:, None] - support).square().sum(dim=-1)
            guess: Tensor = torch.exp(-model["gamma"] * distance) @ weight + model["intercept"]
            return guess

        return mean


def _kernel(one: Floats, other: Floats, gamma: float) -> Floats:
    distance = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.asarray(np.exp(-gamma * np.maximum(distance, 0)))


def _machine(kernel: Floats, y: Floats, c: float, weights: Floats | None, rows: NDArray[np.int64]) -> Any:
    """scikit-learn's machine on a computed kernel: the numbers of kernel="rbf", computed once for the whole grid."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVR

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the cap is the paper's; what was reached is used
        machine = SVR(kernel="precomputed", epsilon=0, C=c, max_iter=STEPS)
        machine.random_state = 0  # unused, but drawn from the global generator if absent
        return machine.fit(kernel, y, None if weights is None else weights[rows])
