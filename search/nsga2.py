"""NSGA-II (Deb et al., 2002): non-dominated sorting, crowding, Deb's constraint rule; refilled without generations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archfront.search._population import beginners, default_population, individuals
from archfront.search._ranking import survivors
from archfront.search._strategy import Strategy, Suggestion
from archfront.search._types import Configuration, Evaluation
from archfront.spaces._errors import UsageError

__all__ = ["Nsga2"]


class Nsga2(Strategy):
    """The population is the best of all that was told; every ask breeds from it, so that no worker waits.

    `population` defaults to a fifth of the trials within 4..50. `crossover` is the chance that a child has two parents,
    `mutation` the rate per active decision (default: one over their number).
    """

    test_parameters = {"population": 6}

    def __init__(
        self,
        *base: Any,
        population: int | None = None,
        crossover: float = 0.9,
        mutation: float | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        self.population = default_population(self.budget.trials, 50) if population is None else population
        if self.population < 2:
            raise UsageError(f"population={population} must be at least 2")
        if not 0 <= crossover <= 1:
            raise UsageError(f"crossover={crossover} must lie in 0..1")
        if mutation is not None and not 0 < mutation <= 1:
            raise UsageError(f"mutation={mutation} must lie in (0, 1]")
        self.crossover, self.mutation = crossover, mutation
        self._living: list[int] = []
        """Positions in `told` of the population, best first."""

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        candidates = [*self._living, *range(len(self.told) - len(evaluations), len(self.told))]
        rows, violations = individuals(self, candidates)
        keys = [self.told[i].key for i in candidates]
        self._living = [candidates[i] for i in survivors(rows, violations, keys, self.population)]

    def propose(self, n: int) -> Sequence[Suggestion]:
        if self.asked < self.population or len(self._living) < 2:
            return beginners(self, self.population, n)
        return [self._child() for _ in range(n)]

    def _child(self) -> Suggestion:
        one, other = self._winner(), self._winner()
        if one.key != other.key and self.rng.random() < self.crossover:
            child = self.space.crossover(one.config, other.config, self.rng)
            return Suggestion(self._mutant(child), "crossover", (one.key, other.key))
        return Suggestion(self._mutant(one.config), "mutation", (one.key,))

    def _mutant(self, config: Configuration) -> Configuration:
        return self.space.mutate(config, self.rng, self.mutation)

    def _winner(self) -> Evaluation:
        """Binary tournament: the living stand best first."""
        return self.told[self._living[int(self.rng.integers(len(self._living), size=2).min())]]
