"""Which of the candidates that a predictor has guessed are evaluated: acquisition functions for batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archfront.search._improvement import expected_improvement, scalarised_improvement, sorted_front
from archfront.search._ranking import constrained_rank, survivors
from archfront.search._types import Configuration
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.search._guided import Guess
    from archfront.search._strategy import Strategy

__all__ = ["ACQUISITIONS", "acquired"]

Floats = NDArray[np.float64]
ACQUISITIONS = ("ei", "pi", "ucb", "its", "mean")
BETA = 0.5
"""Of ucb: mean - beta * std of minimised losses."""
DRAWS = 64


def acquired(name: str, strategy: Strategy, guess: Guess, configs: Sequence[Configuration], n: int) -> list[int]:
    """Positions of at most n candidates, best first.

    "ei": expected (hypervolume) improvement, up to halfway between the worst of the front and the worst of all, times
    the probability that the constraints hold, one after another, each chosen one taken to give what is predicted.
    "pi": probability of improvement, for one objective. "ucb", "its" (one draw of each candidate's own normal) and
    "mean" are ranked by non-dominated sorting and crowding.
    """
    losses, spread, violations = guess.of(configs)
    if name in ("ei", "pi"):
        feasible = guess.feasibility(configs)
        if name == "ei" and n == 1 and losses.shape[1] == 1 and (strategy.violations <= 0).any():
            best = strategy.losses[strategy.violations <= 0].min()
            return [int(np.argmax(feasible * guess.improvement(configs, float(best))))]
        return _one_by_one(name, strategy, losses, np.maximum(spread, 1e-9), feasible, n)
    shown = {
        "ucb": losses - BETA * spread,
        "its": losses + spread * strategy.rng.standard_normal(losses.shape),
        "mean": losses,
    }[name]
    return survivors(shown, violations, strategy.space.keys_of(configs), n)


def _one_by_one(name: str, strategy: Strategy, mean: Floats, std: Floats, feasible: Floats, n: int) -> list[int]:
    told, m = strategy.losses, mean.shape[1]
    if name == "pi" and m > 1:
        raise UsageError(f"acquisition 'pi' is for one objective, not {m}", "choose ei")
    good = told[strategy.violations <= 0]
    weights, draws = strategy.rng.dirichlet(np.ones(m)), strategy.rng.standard_normal((DRAWS, m))
    first = told[constrained_rank(told, strategy.violations) == 0]
    reference = (first.max(axis=0) + told.max(axis=0)) / 2 + 1e-9 * np.maximum(1, abs(told.max(axis=0)))
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
