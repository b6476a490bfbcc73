"""Predictors compared on tables: rows that nobody was fitted on, fits that are kept, proxies without a fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from archfront import predictors, spaces
from archfront.cluster.bench import predictors as bench
from archfront.cluster.bench.predictors import Column, Comparison, Fit, compare, table_space
from archfront.cluster.store import Store
from archfront.predictors import TooFewPointsError
from archfront.spaces import Categorical, SearchSpace, TableSpace
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._search_space import Configuration
from tests.cluster.bench_files import check
from tests.cluster.command import in_process

Named = tuple[str, Mapping[str, Any]]
OPERATIONS = {"none": 0.0, "pool": 1.0, "conv": 3.0}


class Cell(nn.Module):
    """A task without inputs asks for nothing but weights."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self) -> Tensor:
        """Their sum."""
        return self.weight.sum()


class Sample(TableSpace):
    """240 of 729 cells, whose networks can be built."""

    @property
    def builds(self) -> bool:
        """It has networks."""
        return True

    def build(self, config: Configuration) -> nn.Module:
        """As many weights as the cell has convolutions and pools."""
        return Cell(1 + int(sum(OPERATIONS[op] for op in config.values())))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[TableSpace]:
    """A sample under a registered name: a quality, and two metrics on `pi`, where some rows have no value."""
    configs = list(itertools.product(OPERATIONS, repeat=6))
    kept = [configs[i] for i in np.random.default_rng(0).permutation(len(configs))[:240]]
    frame = pd.DataFrame(kept, columns=list("abcdef"))
    size = np.array([sum(OPERATIONS[op] for op in config) for config in kept])
    frame["err"] = 1 / (2 + size) + 0.002 * (np.arange(240) % 5)
    frame["lat"] = np.where(size < 4, np.nan, size + 0.1 * (np.arange(240) % 5))
    frame["joule"] = 2 * frame["lat"]
    space = SearchSpace(*(spaces.Categorical(name, tuple(OPERATIONS)) for name in "abcdef"))
    pi = {"latency_ms": "lat", "energy_mj": "joule"}
    made = Sample(frame, space, {"error": "err"}, devices={"pi": pi}, name="toy")
    assert made.refusal is not None
    load = spaces.load
    monkeypatch.setattr(spaces, "load", lambda name, **rest: made if name == "toy" else load(name, **rest))
    table_space.cache_clear()
    yield made
    table_space.cache_clear()


def comparison(
    *named: Named, devices: tuple[str, ...] = (), sizes: tuple[int, ...] = (20, 60), seeds: int = 2
) -> Comparison:
    """A comparison on the toy."""
    return Comparison("toy", None, devices, named, sizes, tuple(range(seeds)), 100)


RIDGE: Named = ("ridge", {})
FOREST: Named = ("forest", {"trees": 10})


def test_a_row_per_predictor_column_size_and_seed(toy: TableSpace, store: Store) -> None:
    found = compare(store, comparison(RIDGE, FOREST, devices=("pi",)))
    assert len(found["rows"]) == 2 * 3 * 2 * 2
    assert [(p["metric"], p["device"]) for p in found["protocol"]] == [
        ("error", None),
        ("latency_ms", "pi"),
        ("energy_mj", "pi"),
    ]
    summary = {(r["predictor"], r["metric"], r["size"]): r for r in found["summary"]}
    best, worse = summary["ridge", "latency_ms", 60], summary["ridge", "latency_ms", 20]
    assert best["kendall"] > 0.9, "the label is a sum"
    assert best["rmse"] < worse["rmse"]
    assert best["rmse"] < 0.3
    assert 0.7 < best["coverage"] <= 1
    assert best["seeds"] == 2
    assert best["sem"] >= 0
    assert ("forest(trees=10)", "error", 20) in summary


def test_test_rows_are_valid_shared_and_never_fitted_on(
    toy: TableSpace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[str, int], list[tuple[list[Any], list[Any]]]] = {}

    def remember(fit: Fit, known: list[Any], y: Any, held: list[Any], truth: Any) -> dict[str, Any]:
        assert np.isfinite(y).all()
        assert np.isfinite(truth).all()
        seen.setdefault((str(fit.column), fit.seed), []).append((known, held))
        return fit._row(fit.column.metric, dict.fromkeys(("kendall", "rmse", "coverage"), 0.0), 0.0, 0.0)

    monkeypatch.setattr(Fit, "_fitted", remember)
    compare(store, comparison(RIDGE, FOREST, devices=("pi",)))
    for fits in seen.values():
        assert all(held == fits[0][1] for _, held in fits)
        small, large = sorted((known for known, _ in fits), key=len)[0], max((known for known, _ in fits), key=len)
        assert large[: len(small)] == small
        assert not any(config in large for config in fits[0][1])
    assert seen["error", 0][0][1] != seen["error", 1][0][1]


def test_finished_fits_are_kept_and_seeds_add(toy: TableSpace, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare(store, comparison(RIDGE, seeds=1))
    ran: list[tuple[int, int]] = []
    rows = Fit.rows
    monkeypatch.setattr(Fit, "rows", lambda fit: (ran.append((fit.seed, fit.size)), rows(fit))[1])
    again = compare(store, comparison(RIDGE, sizes=(20, 30, 60), seeds=2))
    assert ran == [(0, 30), (1, 20), (1, 30), (1, 60)]
    assert [r for r in again["rows"] if r["seed"] == 0 and r["size"] != 30] == first["rows"]
    assert compare(store, comparison(RIDGE, seeds=1)) == first


def test_a_proxy_is_ranked_against_quality_without_a_fit(toy: TableSpace, store: Store) -> None:
    found = compare(store, comparison(("zero_cost", {"proxy": "params"}), RIDGE, devices=("pi",), seeds=1))
    (row,) = (r for r in found["rows"] if r["predictor"].startswith("zero_cost"))
    assert (row["metric"], row["truth"], row["size"], row["fit_seconds"]) == ("params", "error", 0, 0)
    assert row["kendall"] < -0.8, "more weights, less error: the sign stays"
    assert row["rmse"] is None
    assert row["coverage"] is None


def test_the_default_is_what_learns_and_fits(toy: TableSpace) -> None:
    fits = comparison(devices=("pi",), sizes=(4, 20), seeds=1).fits()
    assert {f.predictor for f in fits} == set(predictors.names()) - {
        "zero_cost",
        "criticality",
        "dataset_aware",
        "few_shot",
        "hypernetwork",
    }
    assert {f.column.metric for f in fits if f.predictor == "latency"} == {"latency_ms", "energy_mj"}
    assert {f.size for f in fits if f.predictor == "ridge"} == {20}, "ridge needs five"
    assert {f.size for f in fits if f.predictor == "forest"} == {4, 20}
    assert "latency" not in {f.predictor for f in comparison(seeds=1).fits()}


def test_what_cannot_be_compared_is_refused_before_anything_runs(
    toy: TableSpace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "finished", lambda *rest: pytest.fail("something ran"))
    with pytest.raises(TooFewPointsError, match="needs 5"):
        compare(store, comparison(FOREST, RIDGE, sizes=(4, 20)))
    with pytest.raises(UsageError, match="--device"):
        compare(store, comparison(("latency", {})))
    with pytest.raises(UnknownNameError, match="ridge"):
        compare(store, comparison(FOREST, ("rigde", {})))
    with pytest.raises(UnknownNameError, match="trees"):
        compare(store, comparison(("forest", {"tree": 3})))
    with pytest.raises(UsageError, match="240 valid rows"):
        compare(store, comparison(FOREST, sizes=(141,)))
    with pytest.raises(UnknownNameError, match="pi"):
        comparison(FOREST, devices=("phone",))
    with pytest.raises(UsageError, match="no table"):
        table_space("mlp", None)
    monkeypatch.setattr(Sample, "builds", False)
    with pytest.raises(UsageError, match="builds the networks"):
        compare(store, comparison(("zero_cost", {})))
    assert np.isnan(Column("latency_ms", "pi").values(toy)).any()


def test_the_command_prints_a_document_or_writes_files(
    toy: TableSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = in_process(monkeypatch, capsys)
    common = ["bench", "predictors", "--space", "toy", "--device", "pi", "--predictors", "ridge,latency"]
    common += ["--sizes", "40,20", "--seeds", "2", "--test", "50", "--workers", "0"]
    common += ["--store", f"sqlite:///{tmp_path}/bench.db"]
    found = command(*common, "--json").json
    assert set(found) == {"protocol", "rows", "summary"}
    assert set(found["rows"][0]) >= {"predictor", "metric", "device", "size", "seed", "kendall", "rmse", "coverage"}
    assert all(row["coverage"] is None for row in found["rows"] if row["predictor"] == "latency")
    done = command(*common, "--out", str(tmp_path / "toy"))
    assert "latency_ms@pi" in done.out
    assert (tmp_path / "toy.png").stat().st_size > 5_000
    check(tmp_path / "toy.json", found)
    assert "| latency_ms@pi | 40 | ridge |" in (tmp_path / "toy.md").read_text()
    for wrong in (["--sizes", "x"], ["--sizes", "0"], ["--seeds", "x"], ["--predictors", ","]):
        assert command(*common, *wrong).code == 2
    assert "no folder" in command(*common, "--out", str(tmp_path / "no" / "toy")).err


def test_the_list_says_what_a_predictor_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = in_process(monkeypatch, capsys)
    rows = {row["name"]: row for row in command("predictors", "--json").json}
    assert set(rows) == set(predictors.names())
    assert (rows["ridge"]["minimum"], rows["ridge"]["uncertainty"]) == (5, True)
    assert rows["forest"]["parameters"]["trees"] == 100
    assert "Breiman" in rows["forest"]["about"]


def test_by_default_what_cannot_read_so_many_columns_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prior-data fitted network reads 64."""
    words = WIDE.sample(np.random.default_rng(0), 30, distinct=True)
    frame = pd.DataFrame([{**word, "err": float(i)} for i, word in enumerate(words)])
    table = TableSpace(frame, WIDE, {"error": "err"}, name="wide")
    monkeypatch.setattr(bench, "table_space", lambda *_: table)
    chosen = {name for name, _ in Comparison("wide", None, (), (), (10,), (0,), test=2)._default()}
    assert "pfn" not in chosen
    assert {"ridge", "forest"} <= chosen


WIDE = SearchSpace(*(Categorical(f"op{i}", tuple("abcd")) for i in range(20)))
