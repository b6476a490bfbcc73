"""Bayesian optimisation with any predictor that says how sure it is: expected improvement over candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archfront.search._acquisition import acquired
from archfront.search._guided import Guess
from archfront.search._ranking import survivors
from archfront.search._strategy import Strategy, Suggestion
from archfront.search._types import Configuration
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.predictors._predictor import Predictor

__all__ = ["Surrogate"]

ENUMERATED = 20_000
"""Spaces up to this size are scored whole."""
POOL = 1_000
"""Random candidates for a larger space, beside as many variations of the best told."""
CLIMBS, CLIMBERS, STEPS = 4, 20, 10
"""Rounds in which the best candidates are varied, how many of them, variations of each."""


class Surrogate:
    """A predictor of everything told, objectives as losses; pending proposals are taken to give what it predicts."""

    def __init__(self, strategy: Strategy, predictor: str) -> None:
        self.strategy, self.name = strategy, predictor
        able = self._new().capabilities  # an unknown or impossible one is refused now
        if not able.uncertainty:
            raise UsageError(
                f"predictor {predictor!r} does not say how sure it is", "bayesian needs e.g. pfn or gaussian_process"
            )

    def propose(self, n: int) -> list[Suggestion]:
        """At most n unseen configurations, each found with the ones before it believed. Raises TooFewPointsError."""
        chosen: list[Suggestion] = []
        waiting = [proposal.config for proposal in self.strategy.pending]
        for _ in range(n):
            believing = self._believing([*waiting, *(s.config for s in chosen)])
            guess = Guess(self.strategy, believing, mirrored=self._mirrored)
            best = self._best(guess, {key for s in chosen for key in self.strategy.space.keys_of([s.config])})
            if best is None:
                break
            chosen.append(guess.suggestion(best, "acquisition"))
        return chosen

    @property
    def _mirrored(self) -> list[str]:
        """What is maximised is learned with the other sign: a surrogate need not be symmetric, the search has to be."""
        return [o.name for o in self.strategy.objectives if o.direction == "max"]

    def _new(self) -> Predictor:
        from archfront import predictors

        strategy = self.strategy
        return predictors.load(self.name)(strategy.space, strategy.context, seed=strategy.seed)

    def _believing(self, waiting: Sequence[Configuration]) -> Predictor:
        """Fitted to what is told, and again with its own means for what is not."""
        strategy = self.strategy
        names = list(dict.fromkeys([*(o.name for o in strategy.objectives), *(c.name for c in strategy.constraints)]))
        told = sorted((e for e in strategy.told if e.finite(names)), key=lambda e: e.key)  # their order must not matter
        configs = [e.config for e in told]
        signs = {name: -1.0 if name in self._mirrored else 1.0 for name in names}
        targets = {name: [signs[name] * e.values[name].value for e in told] for name in names}
        predictor = self._new()
        predictor.fit(configs, targets)
        if waiting:
            believed = predictor.predict(waiting, names)
            predictor = self._new()
            more = {name: [*targets[name], *believed[name].mean.tolist()] for name in names}
            predictor.fit([*configs, *waiting], more)
        return predictor

    def _best(self, guess: Guess, taken: set[str]) -> Configuration | None:
        """The unseen configuration of largest expected improvement."""
        strategy = self.strategy
        space, rng = strategy.space, strategy.rng
        if space.size <= ENUMERATED:
            pool = self._fresh(space.enumerate(), taken)
            return pool[acquired("ei", strategy, guess, pool, 1)[0]] if pool else None
        keys = [e.key for e in strategy.told]
        parents = [strategy.told[i].config for i in survivors(strategy.losses, strategy.violations, keys, CLIMBERS)]
        varied = space.mutate_all(parents * (POOL // len(parents)), rng)
        pool = self._fresh([*space.sample(rng, POOL), *varied], taken)
        if not pool:
            return None
        for _ in range(CLIMBS):
            best = [pool[i] for i in acquired("ei", strategy, guess, pool, CLIMBERS)]
            pool = [*best, *self._fresh(space.mutate_all(best * STEPS, rng), taken)]
        return pool[acquired("ei", strategy, guess, pool, 1)[0]]

    def _fresh(self, configs: Sequence[Configuration], taken: set[str]) -> list[Configuration]:
        """Each configuration once that was never asked or told, nor chosen now."""
        strategy = self.strategy
        named = dict(zip(strategy.space.keys_of(configs), configs, strict=True)) if configs else {}
        return [config for key, config in named.items() if not strategy.seen(key) and key not in taken]
