"""What strategies share that fit predictors to everything told and evaluate what these like, batch by batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._errors import TooFewPointsError
from archfront.search._population import beginners
from archfront.search._ranking import survivors
from archfront.search._strategy import Strategy, Suggestion
from archfront.search._types import Configuration
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.predictors._predictor import Predictor

__all__ = ["Floats", "Guess", "Guided"]

Floats = NDArray[np.float64]
STRAGGLERS = 0.2
"""Share of a batch that may still be pending when the next one is made."""


class Guess:
    """What a fitted predictor says of losses, violations and their spread: for the inner search of one batch.

    `mirrored` names what the predictor has learned with the other sign, as losses.
    """

    def __init__(
        self,
        strategy: Strategy,
        predictor: Predictor | None,
        exact: Sequence[str] = (),
        mirrored: Collection[str] = (),
    ) -> None:
        self.strategy, self.predictor, self.exact, self.mirrored = strategy, predictor, exact, mirrored

    def of(self, configs: Sequence[Configuration]) -> tuple[Floats, Floats, Floats]:
        """Losses (n, m) minimised, their standard deviations (n, m; 0 where unknown), violations (n,)."""
        values, spreads = self.values(configs)
        strategy = self.strategy
        losses = np.stack([o.loss(1.0) * values[o.name] for o in strategy.objectives], axis=1)
        spread = np.stack([spreads[o.name] for o in strategy.objectives], axis=1)
        violations = np.zeros(len(configs))
        for constraint in strategy.constraints:
            violations += [constraint.violation(float(value)) for value in values[constraint.name]]
        return losses, spread, violations

    def improvement(self, configs: Sequence[Configuration], best: float) -> Floats:
        """Expected improvement (n,) of the only objective over the loss `best`, by the predictor's own distribution."""
        (objective,) = self.strategy.objectives
        assert self.predictor is not None
        if objective.name in self.mirrored:
            return self.predictor.improvement(configs, objective.name, best, "min")
        return self.predictor.improvement(configs, objective.name, objective.loss(best), objective.direction)

    def feasibility(self, configs: Sequence[Configuration]) -> Floats:
        """Probability (n,) that every constraint holds; 0 or 1 where a spread is unknown."""
        from scipy.special import ndtr

        probability = np.ones(len(configs))
        if self.strategy.constraints:
            values, spreads = self.values(configs)
            for constraint in self.strategy.constraints:
                margin = constraint.bound - values[constraint.name]
                margin = margin if constraint.operator == "<=" else -margin
                probability *= ndtr(margin / np.maximum(spreads[constraint.name], 1e-12))
        return probability

    def values(self, configs: Sequence[Configuration]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Raw values (n,) and standard deviations (n,) by the names of objectives and constraints."""
        values: dict[str, Floats] = {}
        spreads: dict[str, Floats] = {}
        for name in self.exact:
            values[name] = np.asarray(self.strategy.context.exact(name, configs), np.float64)
            spreads[name] = np.zeros(len(configs))
        if self.predictor is not None:
            for name, guess in self.predictor.predict(configs).items():
                values[name] = -guess.mean if name in self.mirrored else guess.mean
                spreads[name] = np.zeros(len(configs)) if guess.std is None else guess.std
        return values, spreads

    def suggestion(self, config: Configuration, origin: str) -> Suggestion:
        """A configuration with what is predicted for it."""
        values, spreads = self.values([config])
        names = [o.name for o in self.strategy.objectives if o.name not in self.exact]
        return Suggestion(config, origin, predicted={n: (float(values[n][0]), float(spreads[n][0])) for n in names})


class Guided(Strategy):
    """Write `batch`, and call `guided_by` in `__init__`. Random proposals come first, then batches; a batch is made
    when all but a few of the last one are told. Where the predictor has too few points the batch is random, and its
    origin says so."""

    def guided_by(self, predictor: str, *, initial: int, size: int, least: int = 1) -> None:
        """`initial` random proposals (at least `least`), then batches of `size` that a predictor of this name likes.

        Raises UsageError for a size below 1, UnknownNameError and UsageError for a predictor that cannot be used.
        """
        if initial < least or size < 1:
            both = "both must be at least 1" if least else "a batch must be at least 1, and nothing negative"
            raise UsageError(f"a batch of {size} after {initial} random proposals: {both}")
        self.predictor = predictor
        self._initial, self._size = initial, size
        self._queue: list[Suggestion] = []
        self._batches = 0
        self._new_predictor()  # an unknown or impossible one is refused now

    @abstractmethod
    def batch(self, guess: Guess) -> list[Suggestion]:
        """At most `size` unseen configurations to evaluate next. Draws from `self.rng`."""

    @property
    def exact(self) -> tuple[str, ...]:
        """Objectives that are computed in the inner search, not predicted."""
        return ()

    def propose(self, n: int) -> list[Suggestion]:
        if max(self.asked, len(self.told)) < self._initial:  # evaluations found elsewhere are a beginning, too
            return beginners(self, self._initial, n)
        self._queue = [s for s in self._queue if not self.seen(self.space.keys_of([s.config])[0])]
        if not self._queue:
            if len(self.pending) > STRAGGLERS * self._size:
                return []
            self._queue = self._made()
            self._batches += 1
        handed, self._queue = self._queue[:n], self._queue[n:]
        return handed

    def _made(self) -> list[Suggestion]:
        try:
            guess = Guess(self, self._fitted(), self.exact)
        except TooFewPointsError:
            return [Suggestion(config, "random") for config in self.space.sample(self.rng, self._size)]
        made = self.batch(guess)
        return made or [Suggestion(config, "random") for config in self.space.sample(self.rng, self._size)]

    def _fitted(self) -> Predictor | None:
        names = [o.name for o in self.objectives if o.name not in self.exact]
        names += [c.name for c in self.constraints if c.name not in names]
        if not names:
            return None
        told = [e for e in self.told if e.finite(names)]
        predictor = self._new_predictor()
        targets = {name: [e.values[name].value for e in told] for name in names}
        predictor.fit([e.config for e in told], targets)
        return predictor

    def _new_predictor(self) -> Predictor:
        from archfront import predictors

        make = predictors.load(self.predictor)
        return make(self.space, self.context, seed=self.seed + self._batches)

    def unseen(self, configs: Sequence[Configuration]) -> list[Configuration]:
        """Each configuration once that was never asked or told."""
        named = dict(zip(self.space.keys_of(configs), configs, strict=True)) if configs else {}
        return [config for key, config in named.items() if not self.seen(key)]

    def ranked(self, configs: Sequence[Configuration], losses: Floats, violations: Floats, n: int) -> list[int]:
        """Positions of the n best by rank, then crowding."""
        return survivors(losses, violations, self.space.keys_of(configs), n)

    def parents(self, n: int) -> list[Configuration]:
        """The n best told configurations by rank, then crowding."""
        keys = [e.key for e in self.told]
        return [self.told[i].config for i in survivors(self.losses, self.violations, keys, n)]

    def state(self) -> dict[str, Any]:
        queue = [[s.config, s.origin, {k: list(v) for k, v in s.predicted.items()}] for s in self._queue]
        return {"queue": queue, "batches": self._batches}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self._batches = int(state["batches"])
        self._queue = [
            Suggestion(config, origin, predicted={name: (mean, std) for name, (mean, std) in predicted.items()})
            for config, origin, predicted in state["queue"]
        ]
