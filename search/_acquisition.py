"""Which of the candidates that a predictor has guessed are evaluated: acquisition functions for batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archfront.search._improvement import expected_improvement, scalarised_improvement, sorted_front
from archfront.search._types import Configuration
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.search._guided import Guess, Guided

__all__ = ["ACQUISITIONS", "acquired"]

Floats = NDArray[np.float64]
ACQUISITIONS = ("ei", "pi", "ucb", "its", "mean")
BETA = 0.5
"""Of ucb: mean - beta * std of minimised losses."""
REFERENCE_QUANTILE = 0.9
"""Of the first told losses: beyond it nothing counts."""
DRAWS = 64


def acquired(name: str, strategy: Guided, guess: Guess, configs: Sequence[Configuration], n: int) -> list[int]:
    """Positions of at most n candidates, best first.

    "ei": expected (hypervolume) improvement times the probability that the constraints hold, one after another, each
    chosen one taken to give what is predicted. "pi": probability of improvement, for one objective. "ucb", "its" (one
    draw of each candidate's own normal) and "mean" are ranked by non-dominated sorting and crowding.
    """
    losses, spread, violations = guess.of(configs)
    if name in ("ei", "pi"):
        feasible = guess.feasibility(configs)
        return _one_by_one(name, strategy, losses, np.maximum(spread, 1e-9), feasible, n)
    shown = {
        "ucb": losses - BETA * spread,
        "its": losses + spread * strategy.rng.standard_normal(losses.shape),
        "mean": losses,
    }[name]
    return strategy.ranked(configs, shown, violations, n)


def _one_by_one(name: str, strategy: Guided, mean: Floats, std: Floats, feasible: Floats, n: int) -> list[int]:
    told, m = strategy.losses, mean.shape[1]
    if name == "pi" and m > 1:
        raise UsageError(f"acquisition 'pi' is for one objective, not {m}", "choose ei")
    good = told[strategy.violations <= 0]
    weights, draws = strategy.rng.dirichlet(np.ones(m)), strategy.rng.standard_normal((DRAWS, m))
    beginning = told[: max(10, len(told) // 5)]
    reference = np.maximum(np.quantile(beginning, REFERENCE_QUANTILE, axis=0), told.min(axis=0) + 1e-9)
    chosen: list[int] = []
    left = np.ones(len(mean), bool)
    for _ in range(min(n, len(mean))):
        if not len(good):
            gain = feasible
        elif name == "pi":
            gain = feasible * _probability(mean[:, 0], std[:, 0], good.min())
        elif m > 2:
            gain = feasible * scalarised_improvement(mean, std, good, weights, draws)
        else:
            front = sorted_front(good, reference) if m == 2 else good[[good[:, 0].argmin()]]
            gain = feasible * expected_improvement(mean, std, front, reference)
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        chosen.append(best)
        left[best] = False
        good = np.concatenate([good, mean[[best]]])
    return chosen


def _probability(mean: Floats, std: Floats, best: float) -> Floats:
    from scipy.special import ndtr

    return np.asarray(ndtr((best - mean) / std))
