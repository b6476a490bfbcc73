"""Ridge regression with a cross-validated penalty, the whole path from one SVD (Sarah et al., 2022, §4.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._folds import Scoring, criterion, folds, label_factor
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Ridge"]

ALPHAS = np.arange(1, 101) / 10


class Ridge(Predictor):
    """Chooses alpha of 0.1, 0.2 ... 10 by five-fold cross-validation: the choice and the predictions of scikit-learn's
    grid search.

    `scoring`: "mape" as the paper, "rmse", or "auto" (mape, but rmse for labels of both signs or near zero). The
    standard deviation is the spread of the out-of-fold residuals, widened with a row's distance from the training rows
    as in Bayesian linear regression.
    """

    capabilities = PredictorCapabilities(uncertainty=True, differentiable=True)
    minimum = 5

    def __init__(self, *base: Any, scoring: Scoring = "auto", **rest: Any) -> None:
        super().__init__(*base, **rest)
        self.scoring: Scoring = scoring

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        factor = label_factor(y)
        scaled, error = y / factor, criterion(y, self.scoring)
        guesses = np.empty((len(y), len(ALPHAS)))
        errors = []
        for train, held in folds(len(y)):
            path = _Path(inputs[train], scaled[train], None if weights is None else weights[train])
            guesses[held] = path.predict(inputs[held])
            errors.append([error(guess, scaled[held]) for guess in guesses[held].T])
        best = int(np.argmin(np.mean(errors, axis=0)))
        path = _Path(inputs, scaled, weights)
        spread = np.sqrt(np.mean((guesses[:, best] - scaled) ** 2))
        axes = path.axes / np.sqrt(path.values**2 + ALPHAS[best])
        leverage = 1 / len(y) + np.mean(((inputs - path.centre) @ axes) ** 2, axis=0).sum()
        model = {
            "weight": path.weight[:, best] * factor,
            "intercept": float(path.intercept[best] * factor),
            "centre": path.centre,
            "axes": axes,
            "rows": len(y),
            "spread": float(spread * factor / np.sqrt(1 + leverage)),
        }
        chosen = {"alpha": float(ALPHAS[best])}
        return Fitted(model, chosen, guesses[:, best] * factor, float(np.mean(errors, axis=0)[best]))

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        leverage = 1 / model["rows"] + (((inputs - model["centre"]) @ model["axes"]) ** 2).sum(axis=1)
        return inputs @ model["weight"] + model["intercept"], model["spread"] * np.sqrt(1 + leverage)

    def torch_mean(self, model: Model) -> Callable[[Tensor], Tensor]:
        import torch

        weight = torch.from_numpy(model["weight"])
        return lambda features: features @ weight + model["intercept"]


class _Path:
    """The solutions for every alpha: weight (features, alphas), intercept (alphas,)."""

    def __init__(self, x: Floats, y: Floats, weights: Floats | None) -> None:
        self.centre, level = np.average(x, axis=0, weights=weights), np.average(y, weights=weights)
        root = np.ones(len(y)) if weights is None else np.sqrt(weights)
        left, self.values, right = np.linalg.svd((x - self.centre) * root[:, None], full_matrices=False)
        self.axes = right.T
        shrunk = self.values[:, None] / (self.values[:, None] ** 2 + ALPHAS)
        self.weight = self.axes @ (shrunk * (left.T @ ((y - level) * root))[:, None])
        self.intercept = level - self.centre @ self.weight

    def predict(self, x: Floats) -> Floats:
        """Guesses (n, alphas)."""
        return np.asarray(x @ self.weight + self.intercept)
