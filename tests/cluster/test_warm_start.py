"""What a study takes from an earlier one: the front to start from, and a space reduced by the earlier history."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archfront.cluster._history import notes
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.search import reduce
from archfront.spaces import Categorical, Equals, SearchSpace, TableSpace
from archfront.spaces._errors import UnknownNameError, UsageError
from tests.cluster.command import Command, Done, in_process

TOY = "archfront.spaces._toy:ToyImages"
OPTIONS = ("a", "b", "c", "d")
SPACE = SearchSpace(*(Categorical(f"op{i}", OPTIONS, default="a") for i in range(6)))
CONDITIONAL = SearchSpace(
    Categorical("kind", ("plain", "gated"), default="gated"),
    Categorical("gate", ("relu", "silu"), when=Equals("kind", "gated")),
    *SPACE,
)
DENSE = [dict(zip(SPACE.names, word, strict=True)) for word in itertools.product("ab", repeat=6)]
CHEAPEST = dict.fromkeys(SPACE.names, "c")
FAR = [CHEAPEST, *({**CHEAPEST, f"op{i}": "d", "op5": "d"} for i in range(5))]
"""Few, and far from the dense words: noise."""


def words(config: Mapping[str, Any]) -> dict[str, float]:
    """a is accurate, b is fast, c and d are neither; but nothing is as cheap as c alone."""
    letters = [config[name] for name in SPACE.names]
    cost = sum((i + 1) * (v != "b") for i, v in enumerate(letters))
    return {
        "error": sum(float(v != "a") + 2 * (v in "cd") for v in letters),
        "cost": -1.0 if config == {**config, **CHEAPEST} else float(cost),
    }


GIVEN: dict[str, Any] = {"objectives": ["error:min", "cost:min"], "evaluate": f"{__name__}:words"}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a study of each space that tried all words of a and b, and a few others."""
    path = tmp_path_factory.mktemp("history") / "archfront.db"
    spaces = {"one": SPACE, "plain": CONDITIONAL}
    start = [*DENSE, *FAR]
    with Store(f"sqlite:///{path}") as store:
        for name, space in spaces.items():
            of_kind = [{**config, **({"kind": "plain"} if "kind" in space else {})} for config in start]
            study = Study(name, space=space, store=store, strategy="random", start=of_kind, default=False, **GIVEN)
            study.run(trials=len(start))
    return path


@pytest.fixture
def earlier(history: Path, tmp_path: Path) -> None:
    """The history in this test's own store."""
    shutil.copy(history, tmp_path / "archfront.db")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("ARCHFRONT_STORE", f"sqlite:///{tmp_path}/archfront.db")
    return in_process(monkeypatch, capsys)


def searched(run: Command, study: str, *more: str, trials: int = 30, space: str = "SPACE") -> Done:
    given = ("--objective", "error:min,cost:min", "--strategy", "nsga2", "--workers", "0", "--trials", str(trials))
    evaluate = ("--evaluate", f"{__name__}:words")
    return run("search", f"{__name__}:{space}", "--study", study, *given, *evaluate, *more)


def opened(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/archfront.db")


def origins(store: Store, study: str) -> list[str]:
    return [record.proposal.origin for record in store.proposals(study)]


def flat(text: str) -> str:
    return " ".join(text.split())


class TestStart:
    def test_the_front_of_a_study_is_tried_after_the_default(self, run: Command, tmp_path: Path) -> None:
        assert searched(run, "one").code == 0
        front = run("front", "--study", "one", "--json").json["points"]
        done = searched(run, "two", "--start", "one", trials=30)
        assert done.code == 0, done.err
        with opened(tmp_path) as store:
            default = store.proposals("two")[0].proposal
            new = [point["key"] for point in front if point["key"] != default.key]
            proposals = [record.proposal for record in store.proposals("two")]
            assert [p.key for p in proposals[1 : 1 + len(new)]] == new
            assert origins(store, "two")[: 1 + len(new)] == ["default"] + ["warm-start"] * len(new)
            assert "warm-start" not in origins(store, "two")[1 + len(new) :]
            values = {e.key: e.values["cost"].value for _, _, e in store.told("two")}
        assert all(values[point["key"]] == point["metrics"]["cost"] for point in front), "measured again"
        assert f"warm start: {len(front)} configurations from the front of study one\n" in done.out

    def test_json_stays_one_document(self, run: Command) -> None:
        searched(run, "one")
        done = searched(run, "two", "--start", "one", "--json")
        assert done.json["told"] == 30
        assert "warm start" in done.err

    @pytest.mark.usefixtures("earlier")
    def test_what_is_illegal_in_the_new_space_is_skipped_and_counted(self, run: Command, tmp_path: Path) -> None:
        front = run("front", "--study", "one", "--json").json["points"]
        illegal = [point for point in front if point["config"]["op0"] != "b"]
        assert 0 < len(illegal) < len(front)
        done = searched(run, "two", "--start", "one", "--set", "op0=b")
        assert (
            f"{len(front) - len(illegal)} configurations from the front of study one, {len(illegal)} skipped"
            in flat(done.out)
        )
        with opened(tmp_path) as store:
            assert origins(store, "two").count("warm-start") <= len(front) - len(illegal)

    def test_a_file_wins_over_a_study_of_its_name(
        self, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        searched(run, "one")
        (tmp_path / "one").write_text(json.dumps([dict.fromkeys(SPACE.names, "c")]))
        assert searched(run, "two", "--start", "one").code == 0
        with opened(tmp_path) as store:
            assert origins(store, "two")[1] == "user"
            assert "warm-start" not in origins(store, "two")
        (tmp_path / "one").unlink()
        (tmp_path / "one").mkdir()
        assert "warm start" in searched(run, "three", "--start", "one").out, "a folder is no file"

    def test_neither_a_file_nor_a_study(self, run: Command) -> None:
        searched(run, "first")
        done = searched(run, "two", "--start", "frist")
        assert done.code == 2
        assert "'frist' is neither a file nor a study of this store" in flat(done.err)
        assert "did you mean 'first'?" in flat(done.err)
        assert [s["study"] for s in run("studies", "--json").json] == ["first"]

    def test_a_study_of_another_space(self, run: Command) -> None:
        run("search", TOY, "--objective", "error,params_m", "--trials", "1", "--workers", "0", "--study", "toy")
        done = searched(run, "two", "--start", "toy")
        assert done.code == 2
        assert f"--start 'toy' searched {TOY}" in flat(done.err)
        assert f"this study searches {__name__}:SPACE" in flat(done.err)

    def test_a_study_that_found_nothing(self, store: Store) -> None:
        def fails(config: Mapping[str, Any]) -> dict[str, float]:
            raise RuntimeError("never")

        given: dict[str, Any] = {"space": SPACE, "objectives": ["cost:min"], "store": store, "evaluate": fails}
        Study("one", **given).run(trials=3)
        with pytest.raises(UsageError, match="'one' has no front: nothing it tried came back ok"):
            Study("two", start_from="one", **given).run(trials=3)

    def test_from_python_after_ones_own_configurations(self, store: Store) -> None:
        given: dict[str, Any] = {"space": SPACE, "objectives": ["error:min", "cost:min"], "evaluate": words}
        Study("one", store=store, strategy="nsga2", **given).run(trials=20)
        mine = dict.fromkeys(SPACE.names, "d")
        Study("two", store=store, strategy="random", start=[mine], start_from="one", **given).run(trials=4)
        assert origins(store, "two") == ["default", "user", "warm-start", "warm-start"]
        with pytest.raises(UnknownNameError, match="did you mean 'one'"):
            Study("three", store=store, start_from="onee", **given).run(trials=4)
        with pytest.raises(UnknownNameError, match="did you mean 'start_from'"):
            Study("three", store=store, start_form="one", **given)

    def test_a_study_that_was_interrupted_in_its_start_goes_on_with_it(self, store: Store) -> None:
        """Even when the earlier study is gone: the record has what resume needs."""
        given: dict[str, Any] = {"space": SPACE, "objectives": ["error:min", "cost:min"], "strategy": "nsga2"}
        evaluate = f"{__name__}:words"
        Study("one", store=store, evaluate=evaluate, **given).run(trials=30)
        calls = itertools.count()

        def interrupted(config: Mapping[str, Any]) -> dict[str, float]:
            if next(calls) == 2:
                raise KeyboardInterrupt
            return words(config)

        whole = Study("whole", store=store, start_from="one", seed=3, evaluate=evaluate, **given)
        whole.run(trials=20)
        cut = Study("cut", store=store, start_from="one", seed=3, **given)
        with pytest.raises(KeyboardInterrupt):
            cut.run(trials=20, evaluate=interrupted)
        store.remove_study("one")
        Study.open("cut", store=store).run(evaluate=words)
        keys = [[record.proposal.key for record in store.proposals(name)] for name in ("whole", "cut")]
        assert keys[0] == keys[1]
        assert origins(store, "whole") == origins(store, "cut")


@pytest.mark.usefixtures("earlier")
class TestPopdb:
    def test_the_space_is_reduced_and_the_study_says_by_what(self, run: Command, tmp_path: Path) -> None:
        done = searched(run, "two", "--popdb", "one")
        assert done.code == 0, done.err
        with opened(tmp_path) as store:
            record = store.study("two")
            proposals = [r.proposal for r in store.proposals("two")]
        expected = reduce(SPACE, [*DENSE, *FAR])
        space = SearchSpace.from_dict(record.searched)
        assert space == expected.space
        assert (space.parent, space.identity, space.size) == (SPACE.id, SPACE.id, 64)
        taken = record.options["popdb"]
        assert taken["study"] == "one"
        assert taken["removed"] == {name: ["c", "d"] for name in SPACE.names}
        assert (taken["clustered"], taken["noise"]) == (64, 6)
        assert taken["lost"] == [SPACE.key(CHEAPEST)]
        assert all(not space.validate(p.config) for p in proposals)
        assert all(p.key == SPACE.key(p.config) for p in proposals), "keys stay what they were"
        assert "popdb: 12 values of 6 parameters removed, 4,096 -> 64 configurations (64 of 70 of study one" in done.out
        assert f"lost are 1 of its front's {taken['front']}: {SPACE.key(CHEAPEST)[:12]}" in flat(done.out)

    def test_a_threshold_above_every_share_leaves_one_value_each(self, run: Command, tmp_path: Path) -> None:
        assert searched(run, "two", "--popdb", "one", "--popdb-threshold", "0.6").code == 0
        with opened(tmp_path) as store:
            assert SearchSpace.from_dict(store.study("two").searched).size == 1
            assert store.study("two").options["popdb"]["threshold"] == 0.6

    def test_both_at_once(self, run: Command, tmp_path: Path) -> None:
        done = searched(run, "two", "--popdb", "one", "--start", "one", "--no-default")
        assert done.code == 0, done.err
        with opened(tmp_path) as store:
            options = store.study("two").options
            started = len(options["start_from"]["configs"])
            assert options["start_from"]["skipped"] == len(options["popdb"]["lost"]) == 1
            assert started + 1 == options["popdb"]["front"]
            assert origins(store, "two")[:started] == ["warm-start"] * started

    def test_resume_needs_the_earlier_study_no_more(self, run: Command, tmp_path: Path) -> None:
        searched(run, "two", "--popdb", "one", "--start", "one", trials=20)
        assert run("studies", "rm", "one").code == 0
        done = run("resume", "two", "--trials", "30", "--workers", "0")
        assert done.code == 0, done.err
        assert "popdb: " in done.out
        with opened(tmp_path) as store:
            space = SearchSpace.from_dict(store.study("two").searched)
            told = [e for _, _, e in store.told("two")]
        assert len(told) == 30
        assert all(not space.validate(e.config) for e in told)

    def test_a_lost_default_is_not_tried(self, run: Command, tmp_path: Path) -> None:
        """What would be tried instead is not the paper's own setting. The child without a trigger does no harm."""
        done = searched(run, "two", "--popdb", "plain", "--start", "plain", space="CONDITIONAL")
        assert done.code == 0, done.err
        with opened(tmp_path) as store:
            taken = store.study("two").options["popdb"]
            assert taken["removed"]["kind"] == ["gated"]
            assert "gate" not in taken["removed"]
            assert "default" not in origins(store, "two")
            assert {e.config["kind"] for _, _, e in store.told("two")} == {"plain"}
        assert "the space's default is removed too and not tried" in flat(done.out)

    def test_a_dry_run_counts_the_reduced_space(self, run: Command) -> None:
        facts = searched(run, "two", "--popdb", "one", "--start", "one", "--dry-run", "--json").json
        assert facts["size"] == 64
        assert [s["study"] for s in run("studies", "--json").json] == ["one", "plain"]


class TestRefusals:
    @pytest.mark.usefixtures("earlier")
    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--popdb", "on"), "did you mean 'one'?"),
            (("--popdb", "plain"), f"--popdb 'plain' searched own ({CONDITIONAL.id[:8]}), this study searches"),
            (("--start", "plain"), f"--start 'plain' searched own ({CONDITIONAL.id[:8]}), this study searches"),
            (("--popdb", "one", "--popdb-threshold", "1.5"), "threshold=1.5 must lie in [0, 1)"),
            (("--popdb-threshold", "0.02"), "popdb_threshold=0.02 without an earlier study"),
        ],
    )
    def test_before_anything_runs(self, run: Command, more: tuple[str, ...], message: str) -> None:
        done = searched(run, "two", *more)
        assert done.code == 2
        assert message in flat(done.err)
        assert "Traceback" not in done.err
        assert len(run("studies", "--json").json) == 2

    def test_histories_that_say_nothing(self, run: Command) -> None:
        searched(run, "short", trials=10)
        message = "--popdb 'short': PopDB needs a history of 50 configurations, this one has 10"
        assert message in flat(searched(run, "two", "--popdb", "short").err)
        searched(run, "even", "--strategy", "random", trials=60)
        message = "--popdb 'even': PopDB finds no dense region in 60 configurations: all of them are noise"
        assert message in flat(searched(run, "two", "--popdb", "even").err)


def table() -> TableSpace:
    """All words of SPACE, fast on one device by b and on the other by b or c."""
    frame = pd.DataFrame(SPACE.enumerate())
    frame["err"] = [words(config)["error"] / 20 for config in SPACE.enumerate()]
    letters = frame[SPACE.names].to_numpy()
    frame["one"], frame["two"] = 1.0 + (letters != "b").sum(axis=1), 1.0 + (~np.isin(letters, ["b", "c"])).sum(axis=1)
    devices = {name: {"latency_ms": name} for name in ("one", "two")}
    return TableSpace(frame, SPACE.names, {"error": "err"}, devices=devices, name="words")


class TestTable:
    def test_from_one_device_to_another(self, store: Store) -> None:
        space = table()
        start = [*DENSE, *FAR]
        Study("one", space=space, devices=["one"], strategy="random", start=start, store=store).run(trials=71)
        warm = {"start_from": "one", "popdb": "one"}
        Study("two", space=space, devices=["two"], strategy="nsga2", store=store, **warm).run(trials=20)
        proposals = [record.proposal for record in store.proposals("two")]
        assert [p.origin for p in proposals[:3]] == ["default", "warm-start", "warm-start"]
        told = [e for _, _, e in store.told("two")]
        assert all("latency_ms@two" in e.values and "latency_ms@one" not in e.values for e in told)
        assert all(math.isfinite(e.values["latency_ms@two"].value) for e in told)
        lines = list(notes(store.study("two")))
        assert len(lines) == 2
        Study.open("two", store=store, space=space).run(trials=25)
        assert len(store.told("two")) == 25
