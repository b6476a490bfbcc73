"""Stacked regression (Breiman, 1996): ridge, support vectors and a network, weighted by a non-negative ridge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.predictors.mlp import Mlp
from archfront.predictors.ridge import Ridge
from archfront.predictors.svr import Svr
from archfront.spaces._parameter import Floats

__all__ = ["Stacked"]

PENALTY = 1.0
"""On the members' weights, labels being standardised (our choice)."""


class Stacked(Predictor):
    """The members' out-of-fold means (five folds) are what the second level learns from, so that a member which only
    remembers gets no weight. `hidden` and `steps` are the network's (`mlp`).

    The standard deviation is the spread of the stacked out-of-fold residuals, the same for every row.
    """

    capabilities = PredictorCapabilities(uncertainty=True)
    minimum = 5
    test_parameters = {"hidden": 32, "steps": 60}

    def __init__(self, *base: Any, hidden: int = 128, steps: int = 800, **rest: Any) -> None:
        super().__init__(*base, **rest)
        here, seed = (self.search_space, self.context), self.seed
        self.members: dict[str, Predictor] = {
            "ridge": Ridge(*here, seed=seed),
            "svr": Svr(*here, seed=seed),
            "mlp": Mlp(*here, seed=seed, hidden=hidden, steps=steps),
        }

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        fits = {name: member.fit_metric(inputs, y, weights) for name, member in self.members.items()}
        columns = [
            self.members[name].out_of_fold(inputs, y, weights) if fitted.out_of_fold is None else fitted.out_of_fold
            for name, fitted in fits.items()
        ]
        guesses = np.stack(columns, axis=1)
        share, intercept = _non_negative_ridge(guesses, y, weights)
        guess = guesses @ share + intercept
        model = {
            "members": {name: fitted.model for name, fitted in fits.items()},
            "share": share,
            "intercept": intercept,
            "spread": float(np.sqrt(np.mean((guess - y) ** 2))),
        }
        rounded = {name: round(float(part), 3) for name, part in zip(fits, share, strict=True)}
        return Fitted(model, {"weights": rounded}, guess)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        guesses = [self.members[name].predict_metric(own, inputs)[0] for name, own in model["members"].items()]
        return np.stack(guesses, axis=1) @ model["share"] + model["intercept"], np.full(len(inputs), model["spread"])


def _non_negative_ridge(x: Floats, y: Floats, weights: Floats | None) -> tuple[Floats, float]:
    """Weights (columns,) of at least 0, and an intercept: least squares, with rows added for the penalty."""
    from scipy.optimize import nnls

    root = np.ones(len(y)) if weights is None else np.sqrt(weights / weights.mean())
    centre, level = np.average(x, axis=0, weights=root**2), float(np.average(y, weights=root**2))
    spread = float(y.std()) or 1.0
    rows = np.concatenate([(x - centre) * root[:, None] / spread, np.sqrt(PENALTY) * np.eye(x.shape[1])])
    share, _ = nnls(rows, np.concatenate([(y - level) * root / spread, np.zeros(x.shape[1])]))
    return share, level - float(centre @ share)
