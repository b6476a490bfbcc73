"""Ridge or support vectors, whichever cross-validates better: the package's default (Sarah et al., 2022, §4.3)."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

from archfront.predictors._folds import Scoring
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.predictors.ridge import Ridge
from archfront.predictors.svr import Svr
from archfront.spaces._parameter import Floats

__all__ = ["BestOfBoth"]


class BestOfBoth(Predictor):
    """For each metric `ridge` or `svr`, the smaller mean error over the same five folds (a tie: ridge).

    `grid` and `scoring` as in those.
    """

    capabilities = PredictorCapabilities(uncertainty=True)
    minimum = 5

    def __init__(
        self, *base: Any, grid: Literal["coarse", "paper"] = "coarse", scoring: Scoring = "auto", **rest: Any
    ) -> None:
        super().__init__(*base, **rest)
        self.both: dict[str, Predictor] = {
            "ridge": Ridge(self.search_space, self.context, seed=self.seed, scoring=scoring),
            "svr": Svr(self.search_space, self.context, seed=self.seed, grid=grid, scoring=scoring),
        }

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        fits = {name: member.fit_metric(inputs, y, weights) for name, member in self.both.items()}
        errors = {name: fitted.error for name, fitted in fits.items() if fitted.error is not None}
        better = min(errors, key=lambda name: errors[name])
        fitted = fits[better]
        chosen = {"predictor": better, **fitted.chosen}
        return Fitted({"predictor": better, "model": fitted.model}, chosen, fitted.out_of_fold, fitted.error)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats | None]:
        return self.both[model["predictor"]].predict_metric(model["model"], inputs)
