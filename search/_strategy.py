"""One strategy interface: ask for proposals, tell evaluations. The base owns everything but the idea."""

from __future__ import annotations

import json
import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.predictors._prediction import GUESSED_KINDS
from archfront.search._ranking import constrained_rank
from archfront.search._types import (
    Asked,
    Configuration,
    Constraint,
    Evaluation,
    Objective,
    Proposal,
    SearchBudget,
)
from archfront.spaces._arguments import Argument, arguments_of
from archfront.spaces._errors import ConfigurationError, StoreError, UnknownNameError, UsageError
from archfront.spaces._numbers import Real
from archfront.spaces._registry import registered_name
from archfront.spaces._search_space import ENUMERABLE, SearchSpace

__all__ = ["Capabilities", "Strategy", "Suggestion"]

TRIES = 20
"""How often `propose` may repeat itself before the base looks for something new."""


@dataclass(frozen=True)
class Capabilities:
    """What a strategy can do; impossible combinations are refused before anything is launched.

    `objectives`: at most this many, None for any number. `determinism`: "exact" needs told evaluations in proposal
    order, "order" only the same evaluations per batch, "none" promises nothing. `predicts`: its proposals carry what
    its model expects.
    """

    objectives: int | None = None
    constraints: bool = True
    conditional: bool = True
    real: bool = True
    multi_fidelity: bool = False
    batch_preferred: int = 1
    determinism: Literal["exact", "order", "none"] = "order"
    predicts: bool = False


@dataclass(frozen=True)
class Suggestion:
    """A configuration with where it comes from; `propose` may return these or plain configurations."""

    config: Configuration
    origin: str = "proposed"
    parents: tuple[str, ...] = ()
    predicted: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Strategy(ABC):
    """Write `propose`, and `learn` if there is a model; `state` and `restore_state` if `propose` keeps something.

    Finds `self.rng`; `self.told` (usable evaluations in told order) with `self.losses` (n, m) minimised and
    `self.violations` (n,); `self.unusable`; `self.pending` (proposals asked and not told); `self.context`.
    Its parameters are the keyword-only arguments of its own `__init__`.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    trainer: ClassVar[str | None] = None
    """The trainer that the strategy presupposes, by name; None for any."""
    test_parameters: ClassVar[Mapping[str, Any]] = {}
    """Parameters with which the contract kit runs it on small budgets."""

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        constraints: Sequence[Constraint] = (),
        budget: SearchBudget | None = None,
        seed: int = 0,
        context: Context | None = None,
        start: Sequence[Suggestion] = (),
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise UnknownNameError.of(f"parameter of strategy {registered_name(type(self))!r}", name, self.parameters())
        self.space, self.objectives, self.constraints = space, tuple(objectives), tuple(constraints)
        self.budget, self.seed, self.context = budget or SearchBudget(), seed, context or Context()
        self.rng = np.random.default_rng(seed)
        self.told: list[Evaluation] = []
        self.unusable: list[Evaluation] = []
        self._pending: dict[str, Proposal] = {}
        self._start = list(start)
        self._prefix = uuid.uuid4().hex[:24]
        """Of all ids of this sitting: neighbours in time are neighbours in every index."""
        self._keys: set[str] = set()
        self._told_ids: set[str] = set()
        self._asked = 0
        self._applied = 0
        self._iteration = 0
        self._rows: list[list[float]] = []
        self._violations: list[float] = []
        self._exhausted = False
        self.check(space, self.objectives, self.constraints)

    # -- written by the strategy's file

    @abstractmethod
    def propose(self, n: int) -> Sequence[Configuration | Suggestion]:
        """At most n configurations to try next; none means: wait for the next tell. Draws from `self.rng` only."""

    def learn(self, evaluations: Sequence[Evaluation]) -> None:  # noqa: B027 - optional
        """Update the model with newly told usable evaluations (they are in `self.told` already).

        Draws only from `self.learning_rng()`, so that a resumed study learns the same.
        """

    def state(self) -> dict[str, Any] | None:
        """What `propose` changed beside `self.rng`, as JSON; None when there is nothing. Never the archive."""
        return None

    def restore_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional
        """Inverse of `state`."""

    # -- what the base gives

    @property
    def losses(self) -> NDArray[np.float64]:
        """Objectives of `told`, (n, m), minimised."""
        return np.array(self._rows, np.float64).reshape(len(self._rows), len(self.objectives))

    @property
    def violations(self) -> NDArray[np.float64]:
        """Total relative violation of the constraints by `told`, (n,); infinite where a value is missing."""
        return np.array(self._violations, np.float64)

    def rows_of(self, positions: Sequence[int]) -> tuple[list[list[float]], list[float]]:
        """Losses and violations of some members of `told`: no copy of the whole archive."""
        return [self._rows[i] for i in positions], [self._violations[i] for i in positions]

    @property
    def pending(self) -> list[Proposal]:
        """Proposals asked and not yet told, oldest first."""
        return list(self._pending.values())

    @property
    def asked(self) -> int:
        """Number of proposals so far."""
        return self._asked

    def seen(self, key: str) -> bool:
        """Whether a configuration of this key was asked or told: it is never proposed again."""
        return key in self._keys

    def learning_rng(self) -> np.random.Generator:
        """The generator for `learn`: a function of the seed and the number told."""
        return np.random.default_rng([self.seed, len(self.told)])

    def best(self, n: int) -> list[Evaluation]:
        """At most n non-dominated told evaluations, feasible ones before others; the best compromise (smallest sum of
        losses scaled to 0..1 over the front) first, ties by key. Empty only while nothing usable was told."""
        if not self.told or n < 1:
            return []
        losses, rank = self.losses, constrained_rank(self.losses, self.violations)
        first = np.flatnonzero(rank == 0)
        span = np.ptp(losses[first], axis=0)
        scaled = (losses[first] - losses[first].min(axis=0)) / np.where(span > 0, span, 1)
        order = sorted(zip(scaled.sum(axis=1), first, strict=True), key=lambda p: (p[0], self.told[p[1]].key))
        return [self.told[i] for _, i in order[:n]]

    @classmethod
    def parameters(cls) -> dict[str, Argument]:
        """The strategy's own parameters: the keyword-only arguments of its `__init__`s."""
        return arguments_of(cls, Strategy)

    @classmethod
    def check(cls, space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()) -> None:
        """Raise UsageError when the strategy cannot search this space for these objectives."""
        able, name = cls.capabilities, registered_name(cls)
        advice = "choose another --strategy, e.g. nsga2"
        if not objectives:
            raise UsageError("a search needs at least one objective")
        if able.objectives is not None and len(objectives) > able.objectives:
            raise UsageError(
                f"strategy {name!r} optimises {able.objectives} objective(s), not {len(objectives)}", advice
            )
        if constraints and not able.constraints:
            raise UsageError(f"strategy {name!r} knows no constraints", advice)
        if not able.conditional and any(p.when for p in space):
            raise UsageError(f"strategy {name!r} cannot search conditional parameters", advice)
        continuous = [p.name for p in space if isinstance(p, Real) and p.size > 1]
        if not able.real and continuous:
            raise UsageError(f"strategy {name!r} cannot search the real parameter {continuous[0]!r}", advice)

    # -- the protocol

    @final
    def ask(self, n: int) -> Asked:
        """Up to n new proposals: legal, canonical, of keys never asked or told. The reason says why there are fewer:
        waiting (ask again after a tell), exhausted (nothing new is left), budget (all trials are asked)."""
        left = math.inf if self.budget.trials is None else self.budget.trials - self._asked
        unseen = self.space.size - len(self._keys)
        self._exhausted |= unseen == 0
        wanted = int(min(n, left, unseen))
        proposals: list[Proposal] = []
        while len(proposals) < wanted and self._start:
            self._accept([self._start.pop(0)], proposals)
        if len(proposals) < wanted:
            self._iteration += 1
        waiting = False
        tries = 0
        while len(proposals) < wanted and not waiting and not self._exhausted:
            suggested = self.propose(wanted - len(proposals))
            waiting = not suggested
            before = len(proposals)
            self._accept(suggested[: wanted - len(proposals)], proposals)
            tries += len(proposals) == before
            if tries >= TRIES:
                self._look_elsewhere(suggested, wanted, proposals)
        if len(proposals) == n:
            return Asked(tuple(proposals))
        if len(proposals) == left:
            return Asked(tuple(proposals), "budget")
        self._exhausted |= len(self._keys) == self.space.size
        return Asked(tuple(proposals), "exhausted" if self._exhausted else "waiting")

    @final
    def enter(self, config: Mapping[str, Any]) -> Proposal:
        """A pending proposal for a configuration found elsewhere (origin "foreign"); it counts as asked. What it leaves
        out takes its default.

        Raises ConfigurationError; UsageError when its key was asked or told before.
        """
        entered: list[Proposal] = []
        self._accept([Suggestion(checked_configuration(self.space, config, "told result"), "foreign")], entered)
        if not entered:
            raise UsageError(f"configuration {dict(config)} is in this study already", "results are told once")
        return entered[0]

    def _accept(self, suggestions: Sequence[Configuration | Suggestion], proposals: list[Proposal]) -> None:
        """Make proposals of those whose key is new."""
        given = [s if isinstance(s, Suggestion) else Suggestion(s) for s in suggestions]
        configs = self.space.canonicalise_all([suggestion.config for suggestion in given])
        for suggestion, config, key in zip(given, configs, self.space.keys_of(configs), strict=True):
            if key in self._keys:
                continue
            proposal = Proposal(
                f"{self._prefix}{self._asked:08x}",
                self._asked,
                config,
                key,
                suggestion.origin,
                suggestion.parents,
                self._iteration,
                suggestion.predicted,
            )
            self._keys.add(key)
            self._pending[proposal.id] = proposal
            self._asked += 1
            proposals.append(proposal)

    def _look_elsewhere(
        self, suggested: Sequence[Configuration | Suggestion], wanted: int, proposals: list[Proposal]
    ) -> None:
        """The strategy repeats itself: try neighbours of what it suggests, then random ones, then all that are left."""
        for suggestion in suggested:
            config = suggestion.config if isinstance(suggestion, Suggestion) else suggestion
            for neighbour in self.space.neighbours(self.space.canonicalise(config), self.rng):
                if len(proposals) < wanted:
                    self._accept([Suggestion(neighbour, "neighbour")], proposals)
        for config in self.space.sample(self.rng, TRIES * max(1, wanted - len(proposals))):
            if len(proposals) < wanted:
                self._accept([Suggestion(config, "random")], proposals)
        if len(proposals) < wanted and self.space.size <= ENUMERABLE:
            everything = self.space.enumerate()
            for i in self.rng.permutation(len(everything)):
                if len(proposals) < wanted:
                    self._accept([Suggestion(everything[i], "random")], proposals)
        self._exhausted = len(proposals) < wanted

    @final
    def tell(self, evaluations: Iterable[Evaluation]) -> None:
        """Take evaluations in; a proposal told twice counts once, foreign ones (unknown id) are welcome.

        Raises ConfigurationError for a foreign configuration that is not legal.
        """
        usable = self._take(evaluations)
        if usable:
            self.learn(usable)

    def _take(self, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
        usable = []
        for given in evaluations:
            if given.proposal is not None and given.proposal in self._told_ids:
                continue
            evaluation = self._recognised(given)
            self._applied += 1
            self._keys.add(evaluation.key)
            if not self._usable(evaluation):
                self.unusable.append(evaluation)
                continue
            self.told.append(evaluation)
            self._rows.append([o.loss(evaluation.values[o.name].value) for o in self.objectives])
            self._violations.append(self._violation(evaluation))
            usable.append(evaluation)
        return usable

    def _recognised(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation with canonical configuration and key of this space."""
        if evaluation.proposal is not None:
            self._told_ids.add(evaluation.proposal)
            if self._pending.pop(evaluation.proposal, None) is not None:
                return evaluation
        config = self.space.canonicalise(evaluation.config)
        key = self.space.keys_of([config])[0]
        return Evaluation(
            config,
            key,
            evaluation.status,
            evaluation.values,
            evaluation.proposal,
            evaluation.fidelity,
            evaluation.seconds,
            evaluation.error,
        )

    def _usable(self, evaluation: Evaluation) -> bool:
        names = [o.name for o in self.objectives]
        status = evaluation.status == "ok" or (evaluation.status == "stopped" and self.capabilities.multi_fidelity)
        if not (status and evaluation.finite(names)):
            return False
        return all(evaluation.values[name].kind not in GUESSED_KINDS for name in names)

    def _violation(self, evaluation: Evaluation) -> float:
        total = 0.0
        for constraint in self.constraints:
            value = evaluation.values.get(constraint.name)
            total += math.inf if value is None or not math.isfinite(value.value) else constraint.violation(value.value)
        return total

    # -- resume

    @final
    def state_dict(self) -> dict[str, Any]:
        """A JSON mapping for `load_state_dict`: the generator, the strategy's own state, how much was applied."""
        return {
            "format": 1,
            "strategy": registered_name(type(self)),
            "space": self.space.id,
            "seed": self.seed,
            "rng": self.rng.bit_generator.state,
            "iteration": self._iteration,
            "exhausted": self._exhausted,
            "start": len(self._start),
            "applied": self._applied,
            "state": self.state(),
        }

    @final
    def load_state_dict(
        self,
        state: Mapping[str, Any],
        proposals: Sequence[Proposal] = (),
        batches: Sequence[Sequence[Evaluation]] = (),
    ) -> None:
        """Continue a fresh strategy: `proposals` all that were asked, `batches` all that was told, as it was told.

        Batches that the state had not seen are learned; the others too when the strategy keeps no state of its own.
        Raises StoreError for a state of another strategy, space or seed.
        """
        for name, here in (
            ("strategy", registered_name(type(self))),
            ("space", self.space.id),
            ("seed", self.seed),
        ):
            if state[name] != here:
                raise StoreError(f"the stored state is of {name} {state[name]!r}, this is {here!r}")
        for proposal in proposals:
            self._keys.add(proposal.key)
            self._pending[proposal.id] = proposal
        self._asked = len(proposals)
        self._start = self._start[len(self._start) - int(state["start"]) :]
        own = state["state"]
        if own is not None:
            self.restore_state(json.loads(json.dumps(own)))
        for batch in batches:
            usable = self._take(batch)
            seen = own is not None and self._applied <= state["applied"]
            if usable and not seen:
                self.learn(usable)
        self._iteration, self._exhausted = state["iteration"], state["exhausted"]
        self.rng.bit_generator.state = state["rng"]


def checked_configuration(space: SearchSpace, config: Mapping[str, Any], where: str) -> Configuration:
    """A user's configuration (defaults where it is silent), canonical. Raises ConfigurationError naming `where`."""
    try:
        return space.canonicalise({**space.default, **config})
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message}", error.hint) from error
