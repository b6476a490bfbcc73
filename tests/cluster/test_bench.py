"""Comparisons on tables: shares of a known front, rows that are kept, peers in the same command."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archfront import spaces
from archfront.cluster.bench import _problem
from archfront.cluster.bench._problem import Problem, problem
from archfront.cluster.bench._runs import Run
from archfront.cluster.bench.search import Comparison, compare
from archfront.cluster.store import Store
from archfront.spaces import TableSpace
from archfront.spaces._errors import UnknownNameError, UsageError
from tests.cluster.bench_files import check
from tests.cluster.command import in_process


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> TableSpace:
    """A table of 81 cells under a registered name; three of them vanish on `pi`."""
    configs = list(itertools.product(("none", "conv", "pool"), repeat=4))
    frame = pd.DataFrame(configs, columns=["a", "b", "c", "d"])
    weight = {"none": 0.0, "pool": 1.0, "conv": 3.0}
    size = np.array([sum(weight[op] for op in config) for config in configs])
    frame["err"] = 1 / (1 + size) + 0.01 * np.arange(81) % 0.07
    frame["lat"] = np.where(size < 1, np.nan, size + 0.1 * (np.arange(81) % 5))
    made = TableSpace(frame, ["a", "b", "c", "d"], {"error": "err"}, devices={"pi": {"latency_ms": "lat"}}, name="toy")
    load = spaces.load
    monkeypatch.setattr(_problem.spaces, "load", lambda name, **rest: made if name == "toy" else load(name, **rest))
    problem.cache_clear()
    return made


def comparison(*strategies: str, seeds: tuple[int, ...] = (0, 1), trials: int = 81) -> Comparison:
    """A comparison on the toy."""
    return Comparison("toy", None, ("pi",), tuple((name, {}) for name in strategies), seeds, trials)


def test_the_whole_table_is_the_whole_front(toy: TableSpace, store: Store) -> None:
    found = compare(store, comparison("random", "nsga2"))
    last = [row for row in found["rows"] if row["evaluations"] == 81]
    assert len(last) == 4
    assert {row["share"] for row in last} == {1.0}


def test_shares_grow_and_invalid_cells_never_count(toy: TableSpace, store: Store) -> None:
    found = compare(store, comparison("random"))
    shares = [row["share"] for row in found["rows"] if row["seed"] == 0]
    assert shares == sorted(shares)
    task = problem("toy", None, "pi", None)
    assert isinstance(task, Problem)
    assert isinstance(task.losses(dict.fromkeys("abcd", "none")), str)
    assert task.share([]) == 0


def test_finished_runs_are_kept_and_seeds_add(toy: TableSpace, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare(store, comparison("random", seeds=(0,), trials=50))
    ran: list[int] = []
    rows = Run.rows
    monkeypatch.setattr(Run, "rows", lambda run: (ran.append(run.seed), rows(run))[1])
    again = compare(store, comparison("random", seeds=(0, 1), trials=50))
    assert ran == [1]
    assert [row for row in again["rows"] if row["seed"] == 0] == first["rows"]
    compare(store, comparison("random", seeds=(0,), trials=30))  # the longer run stands for it
    assert ran == [1]
    longer = compare(store, comparison("random", seeds=(0,), trials=75))
    assert ran == [1, 0]
    assert longer["rows"][-1]["evaluations"] == 75


def test_peers_run_beside_ours(toy: TableSpace, store: Store) -> None:
    pytest.importorskip("pymoo", reason="pip install 'archfront[bench]'")
    peers = ("peer:optuna:tpe", "peer:optuna:nsgaii", "peer:pymoo:nsga2")
    found = compare(store, comparison("random", *peers, seeds=(0,), trials=60))
    summary = {row["strategy"]: row for row in found["summary"] if row["evaluations"] == 60}
    assert set(summary) == {"random", *peers}
    assert all(0.3 < row["mean"] <= 1 for row in summary.values())
    assert summary["random"]["sem"] is None
    assert summary["random"]["seeds"] == 1


def test_what_cannot_be_compared_is_refused_before_anything_runs(toy: TableSpace, store: Store) -> None:
    for strategy, words in (
        ("peer:optuna:cma", "tpe"),
        ("peer:hyperopt", "optuna"),
        ("nsga", "nsga2"),
    ):
        with pytest.raises(UnknownNameError, match=words):
            compare(store, comparison("random", strategy))
    assert store.bench("search", []) == {}
    with pytest.raises(UsageError, match="trained, not looked up"):
        problem("mlp", None, None, None)
    with pytest.raises(UnknownNameError, match="pi"):
        problem("toy", None, "phone", None)


def test_the_command_prints_a_document_or_writes_files(
    toy: TableSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = in_process(monkeypatch, capsys)
    store = f"sqlite:///{tmp_path}/bench.db"
    common = ["bench", "search", "--space", "toy", "--device", "pi", "--strategies", "random,nsga2(population=8)"]
    common += ["--peers", "none", "--trials", "50", "--seeds", "2", "--workers", "0", "--store", store]
    found = command(*common, "--json").json
    assert set(found) == {"protocol", "rows", "summary"}
    assert {row["strategy"] for row in found["rows"]} == {"random", "nsga2(population=8)"}
    assert set(found["rows"][0]) >= {"strategy", "space", "task", "device", "seed", "evaluations", "share"}
    assert set(found["summary"][0]) >= {"strategy", "device", "evaluations", "mean", "sem", "seeds"}
    done = command(*common, "--out", str(tmp_path / "toy"))
    assert "random" in done.out
    assert (tmp_path / "toy.png").stat().st_size > 5_000
    check(tmp_path / "toy.json", found)
    assert "| pi | random |" in (tmp_path / "toy.md").read_text()
    assert command(*common, "--seeds", "x").code == 2
    assert "no folder" in command(*common, "--out", str(tmp_path / "no" / "toy")).err
