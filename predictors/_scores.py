"""How good guesses are: one definition of every score, used everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from archfront.predictors._prediction import Prediction
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

__all__ = ["COVERED", "Scores", "kendall_tau", "mean_absolute_percentage_error", "root_mean_squared_error", "scores_of"]

COVERED = 0.9
"""Level of the interval whose coverage is reported."""


@dataclass(frozen=True)
class Scores:
    """Of n guesses. `mape` in per cent and `rmse` in the metric's unit (0 is perfect); `kendall` (tau-b) and `spearman`
    in -1..1, 0 where truth or guesses are constant.

    Only of guesses that come with a standard deviation: `nll`, the mean negative log density of the truth in nats, and
    `coverage`, the share of truths inside the central 90 % interval.
    """

    mape: float
    rmse: float
    kendall: float
    spearman: float
    nll: float | None = None
    coverage: float | None = None


def scores_of(predicted: Prediction | Floats, truth: Floats) -> Scores:
    """The scores of guesses (n,) or of a `Prediction` of n against true values (n,).

    A relative error is taken against at least the smallest positive step of a float, as scikit-learn does. Raises
    UsageError for lengths that differ, for no values, and for values that are not finite.
    """
    guess = predicted if isinstance(predicted, Prediction) else Prediction(np.asarray(predicted, np.float64))
    truth = np.asarray(truth, np.float64)
    if truth.shape != guess.mean.shape or not truth.size:
        raise UsageError(f"{truth.shape} true values for {guess.mean.shape} guesses", "give one each, at least one")
    if not np.isfinite(truth).all():
        raise UsageError("a true value is not finite", "score measured configurations only")
    nll = coverage = None
    if guess.std is not None:
        sure = np.maximum(guess.std, np.finfo(np.float64).tiny ** 0.5)  # a spread of 0 still has a density
        nll = float(np.mean(0.5 * ((truth - guess.mean) / sure) ** 2 + np.log(sure)) + 0.5 * math.log(2 * math.pi))
        low, high = guess.interval(COVERED)
        coverage = float(np.mean((low <= truth) & (truth <= high)))
    return Scores(
        mean_absolute_percentage_error(guess.mean, truth),
        root_mean_squared_error(guess.mean, truth),
        kendall_tau(guess.mean, truth),
        _spearman(guess.mean, truth),
        nll,
        coverage,
    )


def mean_absolute_percentage_error(mean: Floats, truth: Floats) -> float:
    """In per cent."""
    return float(100 * np.mean(np.abs(truth - mean) / np.maximum(np.abs(truth), np.finfo(np.float64).eps)))


def root_mean_squared_error(mean: Floats, truth: Floats) -> float:
    """In the unit of the values."""
    return float(np.sqrt(np.mean((truth - mean) ** 2)))


def kendall_tau(mean: Floats, truth: Floats) -> float:
    """tau-b, which corrects for ties; 0 where one side is constant."""
    from scipy.stats import kendalltau

    return 0.0 if _constant(mean) or _constant(truth) else float(kendalltau(mean, truth).statistic)


def _spearman(mean: Floats, truth: Floats) -> float:
    from scipy.stats import rankdata

    if _constant(mean) or _constant(truth):
        return 0.0
    return float(np.corrcoef(rankdata(mean), rankdata(truth))[0, 1])


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) == 0)
