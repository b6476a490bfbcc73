"""For each metric the predictor that ranks held-out configurations best; which one it is changes with n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors import load
from archfront.predictors._errors import TooFewPointsError
from archfront.predictors._folds import folds
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.predictors._scores import kendall_tau, root_mean_squared_error
from archfront.spaces._errors import StoreError, UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

__all__ = ["Auto"]

CANDIDATES = ("ridge", "svr", "forest", "gaussian_process")


class Auto(Predictor):
    """At every fit, per metric: the candidate with the largest Kendall tau over five folds of shuffled rows, to three
    digits; then the smaller root mean square error; then the earlier candidate.

    Candidates that do not support the context, or need more rows than a fold leaves, are passed over; where none is
    left, the fit raises TooFewPointsError. The choice is in the report's `chosen`. Every candidate tells its standard
    deviation. As text, `candidates` are separated by commas or spaces.
    """

    capabilities = PredictorCapabilities(uncertainty=True)
    minimum = 5
    test_parameters = {"candidates": ("ridge", "gaussian_process")}

    def __init__(self, *base: Any, candidates: str | Sequence[str] = CANDIDATES, **rest: Any) -> None:
        super().__init__(*base, **rest)
        candidates = candidates.replace(",", " ").split() if isinstance(candidates, str) else list(candidates)
        classes = {name: load(name) for name in candidates}
        unsure = [name for name, cls in classes.items() if not cls.capabilities.uncertainty]
        if unsure or not classes:
            raise UsageError(f"candidates={candidates}", f"{unsure} tell no standard deviation: choose others")
        self.candidates = {
            name: cls(self.search_space, self.context, seed=self.seed)
            for name, cls in classes.items()
            if cls.supports(self.context) is None
        }
        if not self.candidates:
            raise UsageError(f"none of candidates={candidates} can be used here", "add `ridge`")

    def inputs(self, configs: Sequence[Configuration]) -> NDArray[Any]:
        """The configurations: each candidate has inputs of its own."""
        return self.rows_of(configs)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        order = self.generator().permutation(len(y))
        configs, y = list(inputs[order]), y[order]
        weights = None if weights is None else weights[order]
        fits: dict[str, tuple[Fitted, Floats]] = {}
        ranks: dict[str, tuple[float, float, int]] = {}
        for place, (name, member) in enumerate(self.candidates.items()):
            if (found := self._tried(member, configs, y, weights)) is not None:
                fits[name] = found
                ranks[name] = (-round(kendall_tau(found[1], y), 3), root_mean_squared_error(found[1], y), place)
        if not fits:
            raise TooFewPointsError(f"no candidate can be fitted on {len(y)} points", "evaluate more configurations")
        best = min(ranks, key=lambda name: ranks[name])
        fitted, guess = fits[best]
        tau = {name: -rank[0] for name, rank in ranks.items()}
        back = np.empty(len(y))
        back[order] = guess
        chosen = {"predictor": best, "kendall": tau, **fitted.chosen}
        return Fitted({"predictor": best, "model": fitted.model}, chosen, back, ranks[best][1])

    @staticmethod
    def _tried(
        member: Predictor, configs: Sequence[Configuration], y: Floats, weights: Floats | None
    ) -> tuple[Fitted, Floats] | None:
        """A candidate's fit and its out-of-fold means, None where there are too few rows."""
        if len(y) < member.minimum:
            return None
        x = member.encoded(configs)
        fitted = member.fit_metric(x, y, weights)
        if fitted.out_of_fold is not None:
            return fitted, fitted.out_of_fold
        if any(len(train) < member.minimum for train, _ in folds(len(y))):
            return None
        return fitted, member.out_of_fold(x, y, weights)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats | None]:
        member = self.candidates.get(model["predictor"])
        if member is None:
            raise StoreError(f"the stored model is a {model['predictor']!r}", "add it to the candidates")
        return member.predict_metric(model["model"], member.encoded(list(inputs)))
