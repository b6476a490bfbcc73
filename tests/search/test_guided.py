"""Strategies that fit predictors: what they propose is predicted well, random only where nothing can be fitted."""

from __future__ import annotations

from collections import Counter

import moocore
import numpy as np
import pytest

from archfront.predictors._context import Context
from archfront.search import Evaluation, SearchBudget, Strategy, Value, load
from archfront.spaces._errors import ArchfrontError, UnknownNameError, UsageError
from tests.search.test_ehvi import CELLS, COST, ERROR, run, values

GUIDED = ("linas", "weaknas", "bananas")


def made(name: str, trials: int = 60, **parameters: object) -> Strategy:
    """On the cells, with a cheap predictor."""
    defaults: dict[str, object] = {"predictor": "ridge", "seed": 0}
    if name == "linas":
        defaults |= {"population": 10, "inner_evaluations": 200}
    else:
        defaults |= {"initial": 15, "batch_size": 5}
    if name == "weaknas":
        defaults["top"] = 40
    return load(name)(CELLS, [ERROR, COST], budget=SearchBudget(trials), **{**defaults, **parameters})


@pytest.mark.parametrize("name", GUIDED)
def test_what_a_predictor_likes_is_better_than_chance(name: str) -> None:
    strategy = made(name)
    told = run(strategy, 60)
    cells = CELLS.enumerate()
    rank = moocore.pareto_rank(np.array([list(values(c).values()) for c in cells]))
    of_key = dict(zip(CELLS.keys_of(cells), rank.tolist(), strict=True))
    ranks = [of_key[e.key] for e in told]
    assert np.mean(ranks[20:]) < np.mean(ranks[:15])


@pytest.mark.parametrize("name", GUIDED)
def test_predictions_travel_with_proposals(name: str) -> None:
    strategy = made(name)
    run(strategy, 30)
    (proposal,) = strategy.ask(1).proposals
    assert set(proposal.predicted) == {"error", "cost"}
    assert abs(proposal.predicted["cost"][0] - values(proposal.config)["cost"]) < 2


@pytest.mark.parametrize("name", GUIDED)
def test_too_few_points_fall_back_to_random_and_say_so(name: str) -> None:
    strategy = made(name)
    origins: Counter[str] = Counter()
    for _ in range(30):  # everything fails: nothing can ever be fitted
        for proposal in strategy.ask(1).proposals:
            origins[proposal.origin] += 1
            strategy.tell([Evaluation(proposal.config, proposal.key, "failed", {}, proposal.id)])
    assert origins == {"random": 30}


@pytest.mark.parametrize("name", GUIDED)
def test_bad_parameters_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, match="ridge"):
        made(name, predictor="rigde")
    with pytest.raises(UsageError, match="cannot be used here"):
        made(name, predictor="zero_cost")
    with pytest.raises(UnknownNameError, match="size"):
        made(name, size=3)
    assert "size" not in load(name).parameters()


class TestLinas:
    def test_a_batch_waits_for_the_last_one_but_not_for_stragglers(self) -> None:
        strategy = made("linas")
        first = strategy.ask(20)
        assert (len(first.proposals), first.reason) == (10, "waiting")
        done = [
            Evaluation(p.config, p.key, "ok", {n: Value(v, "trained") for n, v in values(p.config).items()}, p.id)
            for p in first.proposals
        ]
        strategy.tell(done[:7])
        assert strategy.ask(20).reason == "waiting"
        strategy.tell(done[7:8])
        second = strategy.ask(10)
        assert len(second.proposals) == 10
        assert {p.origin for p in second.proposals} == {"inner-evolution"}

    def test_full_samples_once_and_validates_its_front(self) -> None:
        strategy = made("linas", trials=40, tactic="full")
        origins = Counter(p.origin for p in (strategy.ask(1).proposals[0] for _ in range(20)))
        assert origins == {"random": 20}

    def test_the_random_tactic_predicts_nothing(self) -> None:
        strategy = made("linas", tactic="random")
        run(strategy, 30)
        assert strategy.ask(1).proposals[0].origin == "random"

    def test_objectives_that_are_computed_are_not_predicted(self) -> None:
        asked: list[str] = []

        def exact(metric: str, configs: list[dict[str, object]]) -> object:
            asked.append(metric)
            return np.array([values(c)["cost"] for c in configs]) if metric == "cost" else None

        context = Context(exact=exact)  # type: ignore[arg-type]
        strategy = made("linas", validation_only="cost", context=context)
        run(strategy, 20)
        (proposal,) = strategy.ask(1).proposals
        assert set(proposal.predicted) == {"error"}
        assert "cost" in asked
        with pytest.raises(UnknownNameError, match="cost"):
            made("linas", validation_only="price")

    def test_a_warm_start_is_used_before_anything_random(self) -> None:
        cold, warm = made("linas"), made("linas")
        known = run(made("linas", seed=5), 40)
        warm.tell([Evaluation(e.config, e.key, e.status, e.values) for e in known])
        assert len(warm.told) == 40
        assert len(cold.told) == 0
        assert len({e.key for e in run(warm, 20)}) == 60

    def test_impossible_sizes_are_refused(self) -> None:
        with pytest.raises(ArchfrontError, match="population"):
            made("linas", population=1)
        with pytest.raises(UnknownNameError, match="concurrent"):
            made("linas", tactic="concurent")
