"""What the evolutionary strategies share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archfront.search._strategy import Strategy, Suggestion

__all__ = ["beginners", "default_population", "individuals"]


def default_population(trials: int | None, largest: int) -> int:
    """A fifth of the trials within 4..largest; `largest` without a limit on trials."""
    return largest if trials is None else min(max(trials // 5, 4), largest)


def individuals(strategy: Strategy, positions: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses (k, m) and violations (k,) of these members of `strategy.told`, without touching the others."""
    rows, violations = strategy.rows_of(positions)
    return np.array(rows, np.float64).reshape(len(positions), -1), np.array(violations, np.float64)


def beginners(strategy: Strategy, population: int, n: int) -> list[Suggestion]:
    """Random configurations: at most n, and what is missing to `population` asked ones, but one at least."""
    missing = max(population - strategy.asked, 1)
    return [Suggestion(config, "random") for config in strategy.space.sample(strategy.rng, min(n, missing))]
