"""Every registered predictor keeps the laws; those that need a model's context say so and are skipped."""

from __future__ import annotations

import pytest

from archfront import predictors
from archfront.predictors.testing import PredictorContract


class TestEveryPredictor(PredictorContract):
    @pytest.fixture(params=predictors.names())
    def predictor_class(self, request: pytest.FixtureRequest) -> type[predictors.Predictor]:
        return predictors.load(request.param)
