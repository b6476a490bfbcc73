"""Pareto local search (Paquete et al., 2004): neighbours of the non-dominated; one objective: White et al. (2021)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from archfront.search._population import beginners, default_population, individuals
from archfront.search._ranking import constrained_rank
from archfront.search._strategy import Strategy, Suggestion
from archfront.search._types import Evaluation
from archfront.spaces._errors import UsageError

__all__ = ["LocalSearch"]


class LocalSearch(Strategy):
    """After `initial` random configurations (a fifth of the trials within 4..20): untried neighbours of members of the
    front, which are visited in random order; where every neighbour of every member is tried, a random restart.

    A configuration's neighbourhood is fixed: a real parameter has two neighbours in it, drawn by the configuration.
    """

    test_parameters = {"initial": 4}

    def __init__(self, *base: Any, initial: int | None = None, **rest: Any) -> None:
        super().__init__(*base, **rest)
        self.initial = default_population(self.budget.trials, 20) if initial is None else initial
        if self.initial < 1:
            raise UsageError(f"initial={initial} must be at least 1")
        self._front: list[int] = []
        """Positions in `told` of the non-dominated, by key."""
        self._explored: set[str] = set()
        """Keys whose neighbours are all tried: a memo, found again after a resume."""

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        candidates = [*self._front, *range(len(self.told) - len(evaluations), len(self.told))]
        rank = constrained_rank(*individuals(self, candidates))
        self._front = sorted(
            (candidates[i] for i in np.flatnonzero(rank == 0)), key=lambda position: self.told[position].key
        )

    def propose(self, n: int) -> Sequence[Suggestion]:
        if self.asked < self.initial or not self.told:
            return beginners(self, self.initial, n)
        found: dict[str, Suggestion] = {}
        for i in self.rng.permutation(len(self._front)):
            for suggestion, key in self._untried(self.told[self._front[i]]):
                if len(found) == n:
                    return list(found.values())
                found.setdefault(key, suggestion)
        restarts = [Suggestion(config, "random") for config in self.space.sample(self.rng, n - len(found))]
        return [*found.values(), *restarts]

    def _untried(self, member: Evaluation) -> Iterator[tuple[Suggestion, str]]:
        """The neighbours of a member that were never asked, with their keys, in an order of its own."""
        if member.key in self._explored:
            return
        neighbours = self.space.neighbours(member.config, np.random.default_rng(int(member.key[:16], 16)))
        new = [
            (c, key) for c, key in zip(neighbours, self.space.keys_of(neighbours), strict=True) if not self.seen(key)
        ]
        if not new:
            self._explored.add(member.key)
        yield from ((Suggestion(config, "neighbour", (member.key,)), key) for config, key in new)
