"""Regularized evolution (Real et al., 2019, algorithm 1): the oldest dies, not the worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archfront.search._population import beginners, default_population, individuals
from archfront.search._ranking import survivors
from archfront.search._strategy import Capabilities, Strategy, Suggestion
from archfront.search._types import Evaluation
from archfront.spaces._errors import UsageError

__all__ = ["RegularizedEvolution"]


class RegularizedEvolution(Strategy):
    """Each child is a mutation of the winner of a tournament among the `population` youngest.

    The winner of several objectives is the best by non-dominated rank, then crowding, among the entrants. `population`
    defaults to a fifth of the trials within 4..64, `tournament` to a quarter of the population, at least 2.
    """

    capabilities = Capabilities(determinism="exact")
    test_parameters = {"population": 6, "tournament": 2}

    def __init__(self, *base: Any, population: int | None = None, tournament: int | None = None, **rest: Any) -> None:
        super().__init__(*base, **rest)
        self.population = default_population(self.budget.trials, 64) if population is None else population
        self.tournament = max(2, self.population // 4) if tournament is None else tournament
        if not 1 <= self.tournament <= self.population:
            raise UsageError(f"tournament={self.tournament} must lie in 1..population={self.population}")

    def propose(self, n: int) -> Sequence[Suggestion]:
        if self.asked < self.population or not self.told:
            return beginners(self, self.population, n)
        return [self._child() for _ in range(n)]

    def _child(self) -> Suggestion:
        winner = self._winner()
        return Suggestion(self.space.mutate(winner.config, self.rng), "mutation", (winner.key,))

    def _winner(self) -> Evaluation:
        oldest = max(0, len(self.told) - self.population)  # the older ones have died
        size = min(self.tournament, len(self.told) - oldest)
        entrants = [oldest + int(i) for i in self.rng.choice(len(self.told) - oldest, size, replace=False)]
        rows, violations = individuals(self, entrants)
        best = survivors(rows, violations, [self.told[i].key for i in entrants], 1)[0]
        return self.told[entrants[best]]
