"""bayesian with another surrogate: it passes the laws, finds the best of a toy, and refuses what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from archfront.predictors.testing import ADDITIVE, CONDITIONAL
from archfront.search._types import Constraint, Evaluation, Objective, SearchBudget, Value
from archfront.search.bayesian import Bayesian
from archfront.search.testing import StrategyContract
from archfront.spaces._choices import Categorical
from archfront.spaces._errors import ArchfrontError, UsageError
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import SearchSpace


class PfnBayesian(Bayesian):
    """As `bayesian(predictor=pfn)`."""

    test_parameters = {"initial": 12, "predictor": "pfn"}


class TestPfnLaws(StrategyContract):
    @pytest.fixture
    def strategy_class(self) -> type[Bayesian]:
        """Under test."""
        return PfnBayesian


def told(strategy: Bayesian, trials: int, loss: dict[str, float]) -> list[float]:
    """Losses in the order of asking: the sum of what each letter costs."""
    found = []
    for _ in range(trials):
        (proposal,) = strategy.ask(1).proposals
        value = sum(loss[v] for v in proposal.config.values() if isinstance(v, str))
        found.append(value)
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", {"loss": Value(value, "trained")}, proposal.id)])
    return found


@pytest.mark.parametrize("predictor", ["pfn", "gaussian_process"])
def test_the_best_of_an_additive_toy_is_found(predictor: str) -> None:
    """One of 729: in 30 evaluations at random with probability .04."""
    space = SearchSpace(Repeated(Categorical("op", ("a", "b", "c")), 6))
    strategy = Bayesian(space, [Objective("loss", "min")], seed=1, predictor=predictor, initial=8)
    assert min(told(strategy, 30, {"a": 0.0, "b": 1.0, "c": 2.5})) == 0


def test_a_large_space_with_reals_and_pending_proposals() -> None:
    strategy = Bayesian(ADDITIVE, [Objective("loss", "min")], seed=0, predictor="pfn", initial=6)
    assert strategy.budget == SearchBudget()
    told(strategy, 8, {"a": 0.0, "b": 1.0, "c": 2.5})
    proposals = strategy.ask(3).proposals
    assert len({proposal.key for proposal in proposals}) == 3
    assert {proposal.origin for proposal in proposals} == {"acquisition"}
    assert all("loss" in proposal.predicted for proposal in proposals)


def test_two_objectives_and_a_constraint() -> None:
    objectives = [Objective("one", "min"), Objective("two", "max")]
    strategy = Bayesian(
        CONDITIONAL, objectives, constraints=[Constraint.parse("one<=1")], seed=0, predictor="pfn", initial=6
    )
    rng = np.random.default_rng(0)
    for _ in range(12):
        (proposal,) = strategy.ask(1).proposals
        values = {name: Value(float(rng.random()), "trained") for name in ("one", "two")}
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", values, proposal.id)])


def test_a_predictor_without_uncertainty_is_refused() -> None:
    with pytest.raises(UsageError, match="'mlp' does not say how sure it is"):
        Bayesian(CONDITIONAL, [Objective("loss", "min")], predictor="mlp")
    with pytest.raises(ArchfrontError, match="pfnn"):
        Bayesian(CONDITIONAL, [Objective("loss", "min")], predictor="pfnn")
