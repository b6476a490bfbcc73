"""Scores are scipy's and the textbook's; predictions refuse nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_percentage_error

from archfront.predictors import Prediction, scores_of
from archfront.spaces._errors import UsageError


@pytest.fixture
def truth() -> np.ndarray:
    return np.round(np.random.default_rng(0).normal(30, 4, 500), 1)  # with ties


def test_scores_are_the_references(truth: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    std = rng.uniform(0.5, 2, 500)
    mean = truth + std * rng.normal(size=500)
    scores = scores_of(Prediction(mean, std), truth)
    assert scores.kendall == pytest.approx(stats.kendalltau(mean, truth).statistic)
    assert scores.spearman == pytest.approx(stats.spearmanr(mean, truth).statistic)
    assert scores.mape == pytest.approx(100 * mean_absolute_percentage_error(truth, mean))
    assert scores.rmse == pytest.approx(np.sqrt(((mean - truth) ** 2).mean()))
    assert scores.nll == pytest.approx(-stats.norm(mean, std).logpdf(truth).mean())
    assert scores.coverage == pytest.approx(0.9, abs=0.04)
    alone = scores_of(mean, truth)
    assert (alone.nll, alone.coverage) == (None, None)
    assert alone.kendall == scores.kendall


def test_constants_have_no_rank(truth: np.ndarray) -> None:
    flat = scores_of(np.full(500, 3.0), truth)
    assert (flat.kendall, flat.spearman) == (0, 0)
    perfect = scores_of(Prediction(truth, np.zeros(500)), truth)
    assert (perfect.mape, perfect.rmse, perfect.coverage) == (0, 0, 1)
    assert perfect.kendall == pytest.approx(1)
    assert np.isfinite(perfect.nll or 0)
    assert np.isfinite(scores_of(np.ones(3), np.array([0.0, 1.0, 2.0])).mape)


def test_nonsense_is_refused(truth: np.ndarray) -> None:
    with pytest.raises(UsageError, match="one each"):
        scores_of(truth[:3], truth)
    with pytest.raises(UsageError, match="at least one"):
        scores_of(np.empty(0), np.empty(0))
    with pytest.raises(UsageError, match="not finite"):
        scores_of(truth[:2], np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="mean must be finite"):
        Prediction(np.array([np.inf]))
    with pytest.raises(ValueError, match="std must be finite"):
        Prediction(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="negative"):
        Prediction(np.ones(2), -np.ones(2))
    with pytest.raises(UsageError, match="no standard deviation"):
        Prediction(np.ones(2)).interval()
    with pytest.raises(UsageError, match="level=1"):
        Prediction(np.ones(2), np.ones(2)).interval(1)


def test_intervals_are_central() -> None:
    low, high = Prediction(np.array([10.0]), np.array([2.0])).interval(0.95)
    assert low[0] == pytest.approx(10 - 2 * stats.norm.ppf(0.975))
    assert low[0] + high[0] == pytest.approx(20)
