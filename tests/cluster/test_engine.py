"""Studies on a real Ray: failures, killed workers, early stopping, reproducible tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces._errors import ArchfrontError
from tests.cluster import toys
from tests.cluster.studies import own

pytestmark = pytest.mark.ray
TOY = "archfront.spaces._toy:ToyImages"


def table(store: Store, name: str) -> list[tuple[Any, ...]]:
    """Keys, origins and values in proposal order."""
    told = {e.proposal: e for _, _, e in store.told(name)}
    rows = []
    for record in store.proposals(name):
        values = {n: v.value for n, v in told[record.proposal.id].values.items() if "latency" not in n}
        rows.append((record.proposal.key, record.proposal.origin, values))
    return rows


def test_a_model_space_is_trained_and_told_once(store: Store, ray_cluster: int) -> None:
    study = Study("toy", store=store, space=TOY, objectives=["error", "params_m"], epochs=2)
    summary = study.run(trials=8, workers=ray_cluster)
    assert (summary["told"], summary["failed"], summary["status"]) == (8, 0, "done")
    told = store.told("toy")
    assert len({e.proposal for _, _, e in told}) == 8
    assert all(e.fidelity["epochs"] == 2 for _, _, e in told)
    assert [r.step for r in store.reports(str(told[0][2].proposal))] == [1, 2]
    assert study.front()[0].load() is not None
    assert not list(Path(store.files_url, "ray").glob("*"))


def test_failures_are_recorded_and_the_study_goes_on(store: Store, ray_cluster: int) -> None:
    summary = own(store, evaluate="tests.cluster.toys:evaluate", strategy="random").run(trials=20, workers=ray_cluster)
    assert summary["told"] == 20
    failed = [e for _, _, e in store.told("own") if e.status == "failed"]
    assert {e.config["depth"] for e in failed} <= {3, 4, 5}
    assert summary["failed"] == len(failed) > 0
    for _, _, evaluation in store.told("own"):
        steps = [report.step for report in store.reports(str(evaluation.proposal))]
        assert steps == [1, 2], "every learning curve is kept"


def test_a_worker_killed_again_and_again_fails_its_trial_only(store: Store, ray_cluster: int) -> None:
    start = [{"depth": 2}, {"depth": 1}, {"depth": 7}]
    study = own(store, evaluate="tests.cluster.toys:killer", start=start, strategy="random", settings={"width": (8,)})
    assert study.run(trials=4, workers=ray_cluster)["told"] == 4
    by_depth = {e.config["depth"]: e for _, _, e in store.told("own")}
    assert by_depth[2].status == "failed"
    assert "died (2 times)" in by_depth[2].error
    assert by_depth[1].status == by_depth[7].status == "ok"


def test_a_worker_killed_once_is_replaced(
    store: Store, ray_cluster: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = str(tmp_path / "killed")

    def once(config: Mapping[str, Any]) -> dict[str, float]:
        os.environ["KILLED_ONCE"] = memory
        return toys.killer(config)

    study = own(store, evaluate=once, start=[{"depth": 2}], strategy="random")
    assert study.run(trials=2, workers=ray_cluster)["failed"] == 0
    assert Path(memory).exists()


def test_asha_stops_trials_and_they_stay_off_the_front(store: Store, ray_cluster: int) -> None:
    study = Study("toy", store=store, space=TOY, objectives=["error", "params_m"], epochs=9, scheduler="asha")
    summary = study.run(trials=12, workers=ray_cluster)
    told = [e for _, _, e in store.told("toy")]
    stopped = [e for e in told if e.status == "stopped"]
    assert summary["told"] == 12
    assert stopped
    assert all(1 <= e.fidelity["epochs"] < 9 for e in stopped)
    assert all(e.fidelity["epochs"] == 9 for e in told if e.status == "ok")
    on_front = {p.key for p in store.front(study="toy").points}
    assert not on_front & {e.key for e in stopped}


def test_a_killed_controller_loses_nothing(store: Store, ray_cluster: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from archfront.cluster._pilots import Pilots

    calls = []
    exchanged = Pilots._exchanged

    def killed(self: Pilots, work: Any) -> Any:
        calls.append(len(work))
        if len(calls) == 4:
            ray.kill(self._controller, no_restart=False)
        return exchanged(self, work)

    monkeypatch.setattr(Pilots, "_exchanged", killed)
    summary = own(store, strategy="random").run(trials=30, workers=ray_cluster)
    assert len(calls) > 4
    assert (summary["told"], summary["failed"], summary["status"]) == (30, 0, "done")
    assert len({e.proposal for _, _, e in store.told("own")}) == 30


def test_a_search_whose_workers_all_die_gives_up(
    store: Store, ray_cluster: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archfront.cluster._pilots.MOST_BARREN", 1)

    def dies(config: Mapping[str, Any]) -> dict[str, float]:
        os._exit(1)

    study = own(store, strategy="random", evaluate=dies, max_failures=100)
    with pytest.raises(ArchfrontError, match="died 3 times without a result between"):
        study.run(trials=4, workers=ray_cluster)
    assert store.study("own").status == "failed"


@pytest.mark.parametrize("strategy", ["random", "nsga2"])
def test_reproducible_whatever_the_workers(store: Store, ray_cluster: int, strategy: str) -> None:
    def delayed(config: Mapping[str, Any]) -> dict[str, float]:
        import random
        import time

        time.sleep(random.random() / 20)
        return toys.two(config)

    options = {"strategy": strategy, "reproducible": True, "lookahead": 4, "evaluate": delayed}
    own(store, "zero", **options).run(trials=16)
    for name, workers in (("one", 1), ("two", ray_cluster)):
        own(store, name, **options).run(trials=16, workers=workers)
        assert table(store, name) == table(store, "zero")


def test_the_loops_own_error_ends_the_search(store: Store, ray_cluster: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "record", _full)
    with pytest.raises(OSError, match="disk full"):
        own(store).run(trials=4, workers=ray_cluster)
    assert store.study("own").status == "failed"
    monkeypatch.undo()
    assert Study.open("own", store=store).run(workers=ray_cluster)["told"] == 4


def _full(*_: Any, **__: Any) -> int:
    raise OSError("disk full")
