"""Cross-validation as the paper does it: contiguous folds, scaled labels, the mean percentage error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._scores import mean_absolute_percentage_error, root_mean_squared_error
from archfront.spaces._parameter import Floats

__all__ = ["Criterion", "Scoring", "criterion", "fold_error", "folds", "label_factor"]

FOLDS = 5
NEAR_ZERO = 1e-3
"""Labels this small beside the largest one make percentages meaningless (our choice: the paper only warns)."""

Scoring = Literal["auto", "mape", "rmse"]
Criterion = Callable[[Floats, Floats], float]
"""(guesses, truth) to an error, 0 at best."""


def folds(n: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows to train on, rows held out), five times (n times below five rows): held out are successive stretches."""
    rows = np.arange(n)
    for held in np.array_split(rows, min(FOLDS, n)):
        yield np.setdiff1d(rows, held), held


def label_factor(y: Floats) -> float:
    """10^(floor(log10 max|y|) - 1): labels divided by it have their largest in 10..100; 1 where all are 0."""
    largest = float(np.abs(y).max())
    return 10.0 ** (math.floor(math.log10(largest)) - 1) if largest else 1.0


def criterion(y: Floats, scoring: Scoring) -> Criterion:
    """What a choice is made by. "auto": the percentage error, but the root mean square where labels have both signs or
    come near zero (a thousandth of the largest)."""
    size = np.abs(y)
    vague = bool((y > 0).any() and (y < 0).any()) or float(size.min()) <= NEAR_ZERO * float(size.max())
    relative = scoring == "mape" or (scoring == "auto" and not vague)
    return mean_absolute_percentage_error if relative else root_mean_squared_error


def fold_error(guess: Floats, y: Floats, error: Criterion) -> float:
    """The mean over the folds of the error of out-of-fold guesses (n,)."""
    return float(np.mean([error(guess[held], y[held]) for _, held in folds(len(y))]))
