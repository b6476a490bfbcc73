"""The laws of a strategy, as tests: subclass `StrategyContract` and give it a `strategy_class` fixture.

    class TestGreedy(StrategyContract):
        @pytest.fixture
        def strategy_class(self) -> type[Strategy]:
            return Greedy

The laws are those of search-core §11; they run in process on two toy spaces with known fronts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from archfront.search._strategy import Strategy
from archfront.search._types import Asked, Constraint, Evaluation, Objective, Proposal, SearchBudget, Value
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import Equals, IndexBelow
from archfront.spaces._errors import ArchfrontError, UsageError
from archfront.spaces._numbers import Integer
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import Configuration, SearchSpace

__all__ = ["TOY_SPACES", "StrategyContract", "toy_values"]

TOY_SPACES: dict[str, SearchSpace] = {
    "conditional": SearchSpace(
        Integer("depth", 1, 3),
        Categorical("kind", ("conv", "attention")),
        Ordinal("heads", (1, 2, 4), when=(Equals("kind", "attention"),)),
        Repeated(Categorical("op", ("a", "b")), 3, when=IndexBelow("depth")),
    ),
    "categorical": SearchSpace(Repeated(Categorical("op", ("a", "b", "c")), 4)),
}
"""Two spaces of 56 and 81 configurations."""

TRIALS = 24
OBJECTIVES = (Objective("error", "min"), Objective("params_m", "min"))
Told = Callable[[Strategy, Sequence[Proposal]], None]


def toy_values(config: Configuration, kind: str = "trained") -> dict[str, Value]:
    """Two conflicting objectives of a toy configuration: error falls and params_m grows with its size."""
    size = sum({"a": 0.0, "b": 1.0, "c": 2.0}.get(str(v), 0.0) for v in config.values())
    size += config.get("depth", 0) + (config.get("heads", 1) if config.get("kind") == "attention" else 0)
    wrinkle = 0.01 * sum(len(str(v)) * (i + 1) for i, v in enumerate(config.values())) % 0.05
    values = {"error": 1 / (1 + size) + wrinkle, "params_m": size + 1}
    return {name: Value(value, kind) for name, value in values.items()}  # type: ignore[arg-type]


def evaluated(proposal: Proposal, **changes: Any) -> Evaluation:
    """The toy evaluation of a proposal."""
    ok = Evaluation(proposal.config, proposal.key, "ok", toy_values(proposal.config), proposal.id)
    return replace(ok, **changes)


class StrategyContract:
    """Override `strategy_class`; `parameters` defaults to the class's `test_parameters`."""

    @pytest.fixture
    def strategy_class(self) -> type[Strategy]:
        """The class under test: override."""
        raise TypeError("a contract needs a `strategy_class` fixture")

    @pytest.fixture(params=sorted(TOY_SPACES))
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        """Both toy spaces in turn."""
        return TOY_SPACES[request.param]

    @pytest.fixture
    def make(self, strategy_class: type[Strategy], space: SearchSpace) -> Callable[..., Strategy]:
        """A fresh strategy; keyword arguments override the toy problem's."""

        def make(**changes: Any) -> Strategy:
            arguments: dict[str, Any] = {
                "space": space,
                "objectives": _objectives(strategy_class),
                "budget": SearchBudget(trials=TRIALS),
                "seed": 0,
                **strategy_class.test_parameters,
                **changes,
            }
            try:
                return strategy_class(arguments.pop("space"), arguments.pop("objectives"), **arguments)
            except UsageError as refusal:
                pytest.skip(f"declared impossible: {refusal}")

        return make

    def test_01_02_legal_canonical_and_never_twice(self, make: Callable[..., Strategy], space: SearchSpace) -> None:
        proposals = _run(make())
        assert len(proposals) == min(TRIALS, space.size)
        for proposal in proposals:
            assert space.validate(proposal.config) == []
            assert space.canonicalise(proposal.config) == proposal.config
            assert space.key(proposal.config) == proposal.key
        assert len({p.key for p in proposals}) == len(proposals)
        assert [p.number for p in proposals] == list(range(len(proposals)))

    def test_03_ends_exhausted(self, make: Callable[..., Strategy]) -> None:
        small = SearchSpace(
            Integer("depth", 1, 2), Repeated(Categorical("op", ("a", "b")), 2, when=IndexBelow("depth"))
        )
        strategy = make(space=small, budget=SearchBudget())
        assert len(_run(strategy)) == small.size == 6
        assert strategy.ask(1) == Asked((), "exhausted")

    def test_04_foreign_evaluations_are_welcome(self, make: Callable[..., Strategy], space: SearchSpace) -> None:
        strategy = make()
        foreign = space.sample(np.random.default_rng(3), 5, distinct=True)
        strategy.tell([Evaluation(c, space.key(c), "ok", toy_values(c), "unknown-id") for c in foreign[:1]])
        strategy.tell([Evaluation(c, "", "ok", toy_values(c)) for c in foreign[1:]])
        assert (
            len(strategy.told) == len(strategy.best(99)) + sum(e not in strategy.best(99) for e in strategy.told) == 5
        )
        asked = {p.key for p in _run(strategy)}
        assert not asked & {space.key(c) for c in foreign}

    def test_05_telling_twice_is_telling_once(self, make: Callable[..., Strategy]) -> None:
        once, twice = make(), make()
        sequences = []
        for strategy, times in ((once, 1), (twice, 2)):
            keys = []
            for _ in range(8):
                asked = strategy.ask(2)
                keys += [p.key for p in asked.proposals]
                for _ in range(times):
                    strategy.tell([evaluated(p) for p in asked.proposals])
            sequences.append(keys)
        assert sequences[0] == sequences[1]
        assert len(once.told) == len(twice.told)

    def test_06_failures_and_nan_do_no_harm(self, make: Callable[..., Strategy]) -> None:
        strategy = make()
        bad = ["failed", "invalid", "timeout", "unmeasured", "poisoned"]
        told = 0
        for i, proposal in enumerate(_steps(strategy)):
            evaluation = evaluated(proposal)
            if i % 3 == 0:
                evaluation = evaluated(proposal, status=bad[i // 3 % 5], values={}, error="boom")
            elif i % 3 == 1:
                name = strategy.objectives[0].name
                evaluation = evaluated(proposal, values={**evaluation.values, name: Value(math.nan, "trained")})
            else:
                told += 1
            strategy.tell([evaluation])
        assert len(strategy.told) == told
        assert len(strategy.unusable) + told == strategy.asked

    def test_07_08_the_seed_decides(self, make: Callable[..., Strategy]) -> None:
        keys = [[p.key for p in _run(make(seed=seed))] for seed in (5, 5, 6)]
        assert keys[0] == keys[1]
        assert keys[0] != keys[2]

    @pytest.mark.parametrize("between", [False, True], ids=["after-tell", "between-ask-and-tell"])
    def test_09_state_round_trip_at_every_step(self, make: Callable[..., Strategy], between: bool) -> None:
        straight = [p.key for p in _run(make())]
        strategy = make()
        proposals: list[Proposal] = []
        batches: list[list[Evaluation]] = []
        stored: dict[str, Any] = {}
        while (asked := strategy.ask(1)).proposals:
            proposals += asked.proposals
            stored = json.loads(json.dumps(strategy.state_dict()))
            if between:
                strategy = _resumed(make(), stored, proposals, batches)
            batches.append([evaluated(p) for p in asked.proposals])
            strategy.tell(batches[-1])
            strategy = _resumed(make(), stored, proposals, batches)
        assert [p.key for p in proposals] == straight

    def test_09_state_of_another_space_is_refused(self, make: Callable[..., Strategy]) -> None:
        stored = make().state_dict()
        other = make(space=SearchSpace(Categorical("x", ("a", "b", "c"))))
        with pytest.raises(ArchfrontError, match="space"):
            other.load_state_dict(stored)

    def test_10_permuted_tells_within_a_batch(
        self, make: Callable[..., Strategy], strategy_class: type[Strategy]
    ) -> None:
        if strategy_class.capabilities.determinism != "order":
            pytest.skip(f"declares determinism {strategy_class.capabilities.determinism!r}")
        sequences = []
        for reverse in (False, True):
            strategy, keys = make(), []
            for _ in range(4):
                asked = strategy.ask(6)
                keys += [p.key for p in asked.proposals]
                strategy.tell(sorted((evaluated(p) for p in asked.proposals), key=lambda e: e.key, reverse=reverse))
            sequences.append(keys)
        assert sequences[0] == sequences[1]

    def test_11_respects_batch_size_and_budget(self, make: Callable[..., Strategy]) -> None:
        strategy = make(budget=SearchBudget(trials=10))
        sizes = []
        for n in (3, 1, 4):
            asked = strategy.ask(n)
            sizes.append(len(asked.proposals))
            assert len(asked.proposals) == n or asked.reason == "waiting"
            strategy.tell([evaluated(p) for p in asked.proposals])
        _run(strategy)
        assert strategy.asked == 10
        assert strategy.ask(5) == Asked((), "budget")

    def test_12_flipping_an_objective_mirrors_the_search(
        self, make: Callable[..., Strategy], strategy_class: type[Strategy]
    ) -> None:
        first, *others = _objectives(strategy_class)
        straight = make()
        mirrored = make(objectives=[replace(first, direction="max"), *others])

        def told(strategy: Strategy, proposals: Sequence[Proposal]) -> None:
            values = [toy_values(p.config) for p in proposals]
            for value in values:
                value["error"] = Value(-value["error"].value, "trained")
            strategy.tell([evaluated(p, values=v) for p, v in zip(proposals, values, strict=True)])

        assert [p.key for p in _run(mirrored, told)] == [p.key for p in _run(straight)]
        assert {e.key for e in mirrored.best(99)} == {e.key for e in straight.best(99)}

    def test_13_a_constant_objective_does_no_harm(self, make: Callable[..., Strategy], space: SearchSpace) -> None:
        strategy = make()

        def told(strategy: Strategy, proposals: Sequence[Proposal]) -> None:
            constant = {name: Value(1.0, "trained") for name in ("error", "params_m")}
            strategy.tell([evaluated(p, values=constant) for p in proposals])

        assert len(_run(strategy, told)) == min(TRIALS, space.size)
        assert len(strategy.best(99)) == len(strategy.told)  # equal vectors do not dominate each other

    @pytest.mark.parametrize(
        "odd",
        [
            SearchSpace(Categorical("x", ("only",))),
            SearchSpace(Integer("x", 1, 5)),
            SearchSpace(
                Categorical("on", (False, True)).fixed(False), Repeated(Integer("y", 1, 3), 2, when=Equals("on", False))
            ).fix({"on": False}),
        ],
        ids=["one-value", "one-dimension", "single-parent"],
    )
    def test_14_odd_spaces(self, make: Callable[..., Strategy], odd: SearchSpace) -> None:
        assert len(_run(make(space=odd))) == min(TRIALS, odd.size)

    def test_15_a_constraint_nothing_meets(
        self, make: Callable[..., Strategy], strategy_class: type[Strategy], space: SearchSpace
    ) -> None:
        strategy = make(constraints=[Constraint("params_m", "<=", 0.5)])
        assert len(_run(strategy)) == min(TRIALS, space.size)
        assert (strategy.violations > 0).all()
        least = min(strategy.told, key=lambda e: e.values["params_m"].value)
        assert strategy.best(1)[0].values["params_m"] == least.values["params_m"]

    def test_16_inactive_decisions_make_no_new_key(self, make: Callable[..., Strategy]) -> None:
        hidden = SearchSpace(
            Categorical("kind", ("conv", "attention")),
            Ordinal("heads", (1, 2, 4, 8), when=(Equals("kind", "attention"),)),
        )
        assert len({p.key for p in _run(make(space=hidden))}) == 5

    def test_17_numpy_scalars_are_accepted(self, make: Callable[..., Strategy]) -> None:
        strategy = make()
        proposal = strategy.ask(1).proposals[0]
        values = {name: Value(np.float32(v.value), "trained") for name, v in toy_values(proposal.config).items()}  # type: ignore[arg-type]
        strategy.tell([evaluated(proposal, values=values)])
        assert json.dumps(strategy.state_dict())
        assert len(strategy.told) == 1

    @pytest.mark.parametrize("kind", ["predicted", "proxy"])
    def test_18_guesses_are_never_best(self, make: Callable[..., Strategy], kind: str) -> None:
        strategy = make()
        one, other = [next(iter(strategy.ask(1).proposals)) for _ in range(2)]
        strategy.tell([evaluated(one, values=toy_values(one.config, kind)), evaluated(other)])
        assert [e.key for e in strategy.best(9)] == [other.key]

    def test_19_asking_for_nothing_and_for_everything(self, make: Callable[..., Strategy], space: SearchSpace) -> None:
        strategy = make(budget=SearchBudget())
        assert strategy.ask(0).proposals == ()
        asked = strategy.ask(10_000)
        assert asked.reason in ("exhausted", "waiting")
        assert len(asked.proposals) <= space.size

    def test_unknown_parameters_are_refused(self, make: Callable[..., Strategy]) -> None:
        with pytest.raises(ArchfrontError, match="no_such_parameter"):
            make(no_such_parameter=1)


def _objectives(strategy_class: type[Strategy]) -> Sequence[Objective]:
    limit = strategy_class.capabilities.objectives
    return OBJECTIVES if limit is None else OBJECTIVES[:limit]


def _steps(strategy: Strategy) -> Any:
    while (asked := strategy.ask(1)).proposals:
        yield from asked.proposals


def _tell(strategy: Strategy, proposals: Sequence[Proposal]) -> None:
    strategy.tell([evaluated(p) for p in proposals])


def _run(strategy: Strategy, told: Told = _tell) -> list[Proposal]:
    """Ask one by one and tell the toy values until nothing comes."""
    proposals = []
    for proposal in _steps(strategy):
        proposals.append(proposal)
        told(strategy, [proposal])
    return proposals


def _resumed(
    fresh: Strategy, stored: dict[str, Any], proposals: Sequence[Proposal], batches: Sequence[Sequence[Evaluation]]
) -> Strategy:
    fresh.load_state_dict(stored, proposals, batches)
    return fresh
