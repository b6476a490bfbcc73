"""Ridge, support vectors and the better of both are scikit-learn's grid search, label scaling included."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from archfront.predictors._folds import criterion, folds, label_factor
from archfront.predictors._scores import mean_absolute_percentage_error, root_mean_squared_error
from archfront.predictors.best_of_both import BestOfBoth
from archfront.predictors.ridge import Ridge
from archfront.predictors.svr import GRIDS, Svr
from archfront.spaces._parameter import Floats
from tests.predictors.tables import CELLS, table


def searched(estimator: Any, grid: dict[str, Any], x: Floats, y: Floats, scoring: str, **fit: Any) -> Any:
    from sklearn.model_selection import GridSearchCV

    return GridSearchCV(estimator, grid, cv=5, scoring=scoring).fit(x, y, **fit)


def ridge_search(x: Floats, y: Floats, scoring: str = "neg_mean_absolute_percentage_error", **fit: Any) -> Any:
    from sklearn.linear_model import Ridge as Reference

    return searched(Reference(max_iter=10**6), {"alpha": np.arange(0.1, 10.1, 0.1)}, x, y, scoring, **fit)


def svr_search(x: Floats, y: Floats, grid: tuple[int, ...], **fit: Any) -> Any:
    from sklearn.svm import SVR

    machine = SVR(kernel="rbf", gamma="auto", epsilon=0, max_iter=10**6)
    return searched(machine, {"C": grid}, x, y, "neg_mean_absolute_percentage_error", **fit)


@pytest.mark.parametrize(("n", "scale"), [(12, 1.0), (50, 1e-3), (103, 1.0), (250, 1e7)])
def test_ridge_is_the_grid_search(n: int, scale: float) -> None:
    configs, x, y = table(n, seed=n, scale=scale)
    factor = 10 ** (math.floor(math.log10(np.abs(y).max())) - 1)
    found = ridge_search(x, y / factor)
    predictor = Ridge(CELLS)
    report = predictor.fit(configs, {"latency_ms": y})
    assert report.chosen["latency_ms"]["alpha"] == pytest.approx(found.best_params_["alpha"])
    others, features, _ = table(200, seed=1)
    guess = predictor.predict(others)["latency_ms"].mean
    assert guess == pytest.approx(found.predict(features) * factor, rel=1e-6)


def test_weighted_ridge_is_the_grid_search() -> None:
    configs, x, y = table(60, seed=3)
    weights = np.random.default_rng(0).uniform(0.1, 3, 60)
    found = ridge_search(x, y / label_factor(y), sample_weight=weights)
    predictor = Ridge(CELLS)
    report = predictor.fit(configs, {"latency_ms": y}, weights=weights)
    assert report.chosen["latency_ms"]["alpha"] == pytest.approx(found.best_params_["alpha"])
    guess = predictor.predict(configs)["latency_ms"].mean
    assert guess == pytest.approx(found.predict(x) * label_factor(y), rel=1e-6)


def test_labels_of_both_signs_are_searched_by_rmse() -> None:
    configs, x, y = table(80, seed=5, shift=0.0)
    found = ridge_search(x, y / label_factor(y), "neg_root_mean_squared_error")
    predictor = Ridge(CELLS)
    report = predictor.fit(configs, {"score": y})
    assert report.chosen["score"]["alpha"] == pytest.approx(found.best_params_["alpha"])
    by_percent = Ridge(CELLS, scoring="mape").fit(configs, {"score": y})
    found = ridge_search(x, y / label_factor(y))
    assert by_percent.chosen["score"]["alpha"] == pytest.approx(found.best_params_["alpha"])


@pytest.mark.parametrize("grid", ["coarse", "paper"])
def test_svr_is_the_grid_search(grid: Any) -> None:
    n = 60 if grid == "coarse" else 30
    configs, x, y = table(n, seed=7)
    found = svr_search(x, y / label_factor(y), GRIDS[grid])
    predictor = Svr(CELLS, grid=grid)
    report = predictor.fit(configs, {"bleu": y})
    assert report.chosen["bleu"]["C"] == found.best_params_["C"]
    others, features, _ = table(200, seed=1)
    guess = predictor.predict(others)["bleu"].mean
    assert guess == pytest.approx(found.predict(features) * label_factor(y), rel=1e-6)


def test_the_better_of_both_wins() -> None:
    for seed in (0, 2):
        configs, x, y = table(40, seed=seed)
        ridge = ridge_search(x, y / label_factor(y))
        svr = svr_search(x, y / label_factor(y), GRIDS["coarse"])
        better, name = (ridge, "ridge") if ridge.best_score_ >= svr.best_score_ else (svr, "svr")
        predictor = BestOfBoth(CELLS)
        assert predictor.fit(configs, {"top1": y}).chosen["top1"]["predictor"] == name
        guess = predictor.predict(configs)["top1"].mean
        assert guess == pytest.approx(better.predict(x) * label_factor(y), rel=1e-6)


@pytest.mark.parametrize(("largest", "factor"), [(2.5e8, 1e7), (73.5, 1.0), (-9.0, 0.1), (0.031, 1e-3), (0.0, 1.0)])
def test_labels_are_divided_by_a_power_of_ten(largest: float, factor: float) -> None:
    assert label_factor(np.array([largest, largest / 3])) == pytest.approx(factor)


@pytest.mark.parametrize("n", [1, 2, 5, 13])
def test_folds_are_those_of_scikit_learn(n: int) -> None:
    from sklearn.model_selection import KFold

    ours = list(folds(n))
    assert sorted(np.concatenate([held for _, held in ours])) == list(range(n))
    if n >= 5:
        for (train, held), (theirs, theirs_held) in zip(ours, KFold(5).split(np.empty(n)), strict=True):
            assert np.array_equal(train, theirs)
            assert np.array_equal(held, theirs_held)


def test_percentages_are_left_where_they_mean_nothing() -> None:
    assert criterion(np.array([20.0, 30.0]), "auto") is mean_absolute_percentage_error
    for y in ([-1.0, 2.0], [0.0, 3.0], [1e-5, 50.0], [0.0, 0.0]):
        assert criterion(np.array(y), "auto") is root_mean_squared_error
