"""fANOVA: shares that are known, and brute force over a whole grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from archfront.predictors._errors import TooFewPointsError
from archfront.predictors._importance import LISTED, Importance, _columns, importance, shares_of_tree
from archfront.spaces import Categorical, IndexBelow, Integer, Ordinal, Real, Repeated, SearchSpace

GRID = SearchSpace(
    Categorical("kind", ("a", "b", "c")),
    Ordinal("width", (8, 16, 64)),
    Integer("depth", 1, 5),
    Integer("log", 1, 4, log=True),
)
MIXED = SearchSpace(
    Categorical("kind", ("a", "b")),
    Real("x", 0, 1),
    Real("lr", 1e-4, 1, log=True),
    Integer("many", 1, 10 * LISTED),
    Real("decay", 1e-3, 1, log=True, zero=True),
    Real("nothing", 0, 1),
)


def of(space: SearchSpace, function: Callable[[Mapping[str, Any]], float], n: int, seed: int = 0) -> Importance:
    configs = space.sample(np.random.default_rng(seed), n)
    return importance(space, configs, [function(c) for c in configs], seed)


def shares(found: Importance) -> dict[str, float]:
    return {s.parameters[0]: s.share for s in found.parameters}


def test_an_additive_function_has_its_own_shares() -> None:
    """Uniform on 0..1 has the variance 1/12, two even options 1/4: x, kind and lr explain 9 : 3 : 4 / 3."""
    found = of(MIXED, lambda c: 3 * c["x"] + (c["kind"] == "b") + np.log10(c["lr"]) / 4 * 2 / np.sqrt(3), 600)
    got = shares(found)
    total = 9 + 3 + 4 / 3
    assert got["x"] == pytest.approx(9 / total, abs=0.05)
    assert got["kind"] == pytest.approx(3 / total, abs=0.05)
    assert got["lr"] == pytest.approx(4 / 3 / total, abs=0.05)
    assert max(got["nothing"], got["many"], got["decay"]) < 0.02
    assert [s.share for s in found.parameters] == sorted((s.share for s in found.parameters), reverse=True)
    assert found.pairs[0].share < 0.05


def test_the_zero_of_a_log_or_zero_parameter_weighs_as_it_is_drawn() -> None:
    got = shares(of(MIXED, lambda c: float(c["decay"] == 0) + float(c["many"] > 5 * LISTED), 600))
    assert got["decay"] == pytest.approx(0.16 / 0.41, abs=0.05)
    assert got["many"] == pytest.approx(0.25 / 0.41, abs=0.05)


def test_a_pure_interaction_is_found_as_one() -> None:
    found = of(MIXED, lambda c: float((c["x"] > 0.5) != (c["kind"] == "b")), 400)
    assert set(found.pairs[0].parameters) == {"x", "kind"}
    assert found.pairs[0].share > 0.6
    assert found.parameters[0].share < 0.1


def test_effects_and_interactions_leave_nothing_over_one() -> None:
    rng = np.random.default_rng(3)
    found = of(GRID, lambda c: float(rng.normal()) + c["depth"] * (c["kind"] == "a"), 60)
    everything = [s.share for s in (*found.parameters, *found.pairs)]
    assert min(everything) >= 0
    assert sum(everything) <= 1 + 1e-9


def test_one_tree_equals_brute_force_over_the_grid() -> None:
    from sklearn.tree import DecisionTreeRegressor

    def seen(rows: list[dict[str, Any]]) -> Any:
        codes = GRID.encode(rows)
        return np.concatenate([_columns(p, codes[:, i]) for i, p in enumerate(GRID)], axis=1)

    rng = np.random.default_rng(1)
    configs = GRID.sample(rng, 80)
    tree = DecisionTreeRegressor(random_state=0, max_features=0.5).fit(seen(configs), rng.normal(size=80))
    everything = GRID.enumerate()
    shape = [int(p.size) for p in GRID]
    table = tree.predict(seen(everything)).reshape(shape)
    logs = np.diff(np.log(np.arange(1, 6)))
    weights = [np.full(n, 1 / n) for n in shape[:3]] + [logs / logs.sum()]
    joint = np.einsum("a,b,c,d->abcd", *weights)
    table -= (table * joint).sum()
    total = (table**2 * joint).sum()

    def variance(kept: tuple[int, ...]) -> float:
        """Of the marginal prediction."""
        gone = tuple(i for i in range(4) if i not in kept)
        marginal = joint.sum(axis=gone)
        return float((((table * joint).sum(axis=gone) / marginal) ** 2 * marginal).sum())

    got = shares_of_tree(tree.tree_, list(GRID))
    for i in range(4):
        assert got[i, i] == pytest.approx(variance((i,)) / total, abs=1e-10)
    for i, j in itertools.combinations(range(4), 2):
        expected = (variance((i, j)) - variance((i,)) - variance((j,))) / total
        assert [got[i, j], got[j, i]] == pytest.approx([expected] * 2, abs=1e-10)


def test_members_of_a_group_are_shown_and_summed() -> None:
    space = SearchSpace(
        Integer("depth", 1, 3), Repeated(Ordinal("width", (1, 2, 3)), 3, when=IndexBelow("depth")), Integer("one", 1, 1)
    )
    found = of(space, lambda c: float(sum(c[f"width[{i}]"] for i in range(c["depth"]))), 200)
    got = shares(found)
    assert set(got) == {"depth", "width[0]", "width[1]", "width[2]"}, "what cannot vary explains nothing"
    (group,) = found.groups
    assert group.parameters == ("width[*]",)
    assert group.share == pytest.approx(sum(s for name, s in got.items() if name != "depth"))


def test_the_same_seed_gives_the_same_answer_and_constants_none() -> None:
    assert of(GRID, lambda c: float(c["depth"]), 40, 5) == of(GRID, lambda c: float(c["depth"]), 40, 5)
    assert {s.share for s in of(GRID, lambda c: 1.0, 40).parameters} == {0.0}


def test_too_few_evaluations_are_refused() -> None:
    with pytest.raises(TooFewPointsError, match=r"19 told evaluations.*at least 20"):
        of(GRID, lambda c: float(c["depth"]), 19)
