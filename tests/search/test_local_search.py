"""Local search climbs, and starts again where there is nothing left to climb."""

from __future__ import annotations

import numpy as np
import pytest

from archfront.search._types import Evaluation, Objective, Proposal, SearchBudget, Value
from archfront.search.local_search import LocalSearch
from archfront.spaces import Integer, SearchSpace
from archfront.spaces._errors import UsageError

GRID = SearchSpace(Integer("x", 0, 30), Integer("y", 0, 30))
"""961 configurations; the loss is least at x = 7, y = 22."""


def search(objectives: str, trials: int, seed: int) -> tuple[LocalSearch, list[Proposal]]:
    aims = [Objective(name, "min") for name in objectives.split()]
    strategy = LocalSearch(GRID, aims, budget=SearchBudget(300), seed=seed, initial=3)
    proposals = []
    for _ in range(trials):
        (proposal,) = strategy.ask(1).proposals
        proposals.append(proposal)
        x, y = proposal.config["x"], proposal.config["y"]
        values = {"loss": Value(float((x - 7) ** 2 + (y - 22) ** 2), "trained"), "size": Value(float(x), "trained")}
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", values, proposal.id)])
    return strategy, proposals


@pytest.mark.parametrize("seed", range(3))
def test_it_walks_down_to_the_optimum_and_then_starts_again(seed: int) -> None:
    strategy, proposals = search("loss", 200, seed)
    best = strategy.best(1)[0]
    assert best.config == {"x": 7, "y": 22}
    keys = [p.key for p in proposals]
    around = GRID.keys_of(GRID.neighbours(best.config, np.random.default_rng(0)))
    last = max(keys.index(key) for key in [*around, best.key])
    assert {p.origin for p in proposals[: last + 1]} == {"random", "neighbour"}
    assert {p.origin for p in proposals[last + 1 :]} == {"random"}


def test_a_front_is_walked_along() -> None:
    """Of loss and x the front is y = 22, x in 0..7: eight points, found to the last."""
    strategy, _ = search("loss size", 200, seed=1)
    assert {(e.config["x"], e.config["y"]) for e in strategy.best(8)} == {(x, 22) for x in range(8)}


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="initial=0"):
        LocalSearch(GRID, [Objective("loss", "min")], budget=SearchBudget(10), initial=0)
