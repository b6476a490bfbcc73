"""Multi-objective successive halving: who goes on, and a search on Ray that stops trials early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from archfront.cluster._moasha import Rungs, epsilon_net_order, milestones
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import Real, SearchSpace


def test_milestones_are_powers_of_the_factor() -> None:
    assert milestones(1, 52, 3) == [1, 3, 9, 27]
    assert milestones(2, 18, 3) == [2, 6]
    assert milestones(5, 5, 3) == []


def test_one_objective_is_halved_as_by_asha() -> None:
    rungs = Rungs([1], 3)
    decisions = [rungs.goes_on(str(i), 1, np.array([loss])) for i, loss in enumerate([5.0, 4.0, 6.0, 3.0, 7.0, 4.5])]
    assert decisions == [True, True, False, True, False, False]


def test_the_dominated_stop_and_the_front_goes_on() -> None:
    rungs = Rungs([1], 2)
    front = [(0.0, 3.0), (1.0, 2.0), (2.0, 1.0), (3.0, 0.0)]
    for i, point in enumerate([(4.0, 4.0), (5.0, 5.0), (6.0, 6.0), (7.0, 7.0)]):
        rungs.goes_on(f"bad{i}", 1, np.array(point))
    assert all(rungs.goes_on(f"good{i}", 1, np.array(point)) for i, point in enumerate(front))
    assert not rungs.goes_on("late", 1, np.array((8.0, 8.0)))


def test_a_net_spreads_over_the_front() -> None:
    line = np.array([[i, 10.0 - i] for i in range(11)])
    order = epsilon_net_order(line)
    assert order[:3] == [0, 10, 5]
    assert sorted(order) == list(range(11))
    assert epsilon_net_order(np.ones((3, 2))) == [0, 1, 2]


def test_only_milestones_decide_and_nothing_unknown_goes_on() -> None:
    rungs = Rungs([2, 6], 3)
    assert rungs.goes_on("a", 1, np.array([9.0]))
    assert rungs.goes_on("a", 2, np.array([9.0]))
    assert rungs.goes_on("a", 3, np.array([99.0]))
    assert not rungs.goes_on("b", 2, np.array([np.nan]))


def curve(config: Mapping[str, Any], *, budget: Any, report: Callable[..., None]) -> dict[str, float]:
    """Two losses that fall with the epochs, in conflict along x; y only makes both worse."""
    values = {}
    for epoch in range(1, budget.epochs + 1):
        rest = 1 / epoch + config["y"]
        values = {"one": config["x"] + rest, "other": 1 - config["x"] + rest}
        report(epoch, values)
    return values


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_on_ray_stops_what_is_behind(store: Store) -> None:
    space = SearchSpace(Real("x", 0, 1), Real("y", 0, 1))
    study = Study(
        *("halved",),
        space=space,
        objectives=["one:min", "other:min"],
        strategy="random",
        scheduler="moasha",
        epochs=9,
        evaluate="tests.cluster.test_moasha:curve",
        store=store,
    )
    summary = study.run(trials=18, workers=2)
    assert summary["told"] == 18
    told = [e for _, _, e in store.told("halved")]
    stopped = [e for e in told if e.status == "stopped"]
    finished = [e for e in told if e.status == "ok"]
    assert len(stopped) >= 6
    assert all(e.fidelity["epochs"] < 9 for e in stopped)
    assert {e.fidelity["epochs"] for e in finished} == {9}
    assert np.mean([e.config["y"] for e in finished]) < np.mean([e.config["y"] for e in stopped])
    assert all(point.key in {e.key for e in finished} for point in study.front().result.points)
