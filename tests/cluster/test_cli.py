"""Every command: what it prints, its JSON document, its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.command import Command, in_process

OWN = ("search", "tests.cluster.toys:SPACE", "--objective", "error:min", "--trials", "1", "--workers", "0")
TOY = "archfront.spaces._toy:ToyImages"
SUMMARY = {
    "study",
    "space",
    "task",
    "strategy",
    "status",
    "proposed",
    "told",
    "failed",
    "reused",
    "front_size",
    "hypervolume",
    "seconds",
    "startup_seconds",
    "store",
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("ARCHFRONT_STORE", f"sqlite:///{tmp_path}/archfront.db")
    return in_process(monkeypatch, capsys)


@pytest.fixture
def searched(run: Command) -> Command:
    done = search(run)
    assert done.code == 0, done.err
    return run


def search(run: Command, *more: str, study: str = "toy") -> Any:
    objectives = ("--objective", "error,params_m")
    return run("search", TOY, *objectives, "--trials", "6", "--epochs", "2", "--workers", "0", "--study", study, *more)


class TestSearch:
    def test_prints_the_front_and_what_to_type_next(self, run: Command) -> None:
        done = search(run)
        assert done.code == 0
        assert "6 told (0 failed, 0 reused)" in done.out
        assert "★" in done.out
        assert "the paper's own setting" in done.out
        assert "archfront export" in done.out
        assert "[fraction]" in done.out

    def test_json_is_one_document_with_the_stable_keys(self, run: Command) -> None:
        done = search(run, "--json")
        assert set(done.json) == SUMMARY
        assert (done.json["told"], done.json["status"]) == (6, "done")

    def test_strategy_parameters_and_settings(self, run: Command) -> None:
        done = search(run, "--strategy", "nsga2(population=3)", "--set", "width=4", "--set", "trainer.lr=0.01..0.02")
        assert done.code == 0
        facts = run("show", "toy", "--json").json
        assert facts["parameters"]["population"] == 3
        assert search(run, "--strategy", "nsga2", "--set", "strategy.population=5", study="other").code == 0
        assert run("show", "other", "--json").json["parameters"]["population"] == 5

    def test_start_file(self, run: Command, tmp_path: Path) -> None:
        file = tmp_path / "start.json"
        file.write_text(json.dumps([{"width": 6, "depth": 1}]))
        assert search(run, "--start", str(file)).code == 0
        file.write_text("{")
        done = search(run, "--start", str(file), study="bad")
        assert done.code == 2
        assert "not JSON" in done.err

    def test_dry_run_stores_nothing(self, run: Command, tmp_path: Path) -> None:
        done = search(run, "--dry-run", "--json")
        assert done.code == 0
        assert {"objectives", "devices", "size", "expected_minutes", "seconds_per_trial"} <= set(done.json)
        assert "expected_minutes" in search(run, "--dry-run").out
        assert not list(tmp_path.glob("archfront.db*"))

    def test_a_name_is_found_when_none_is_given(self, run: Command) -> None:
        for _ in range(2):
            assert run("search", TOY, "--objective", "error,params_m", "--trials", "2", "--workers", "0").code == 0
        names = [s["study"] for s in run("studies", "--json").json]
        assert len(set(names)) == 2

    def test_own_function(self, run: Command) -> None:
        space, function = "tests.cluster.toys:SPACE", "tests.cluster.toys:two"
        done = run(
            *("search", space, "--evaluate", function, "--objective", "error:min,cost:min"),
            *("--trials", "8", "--workers", "0", "--study", "own", "--json"),
        )
        assert done.json["told"] == 8
        assert len(run("front", "--study", "own", "--json").json["points"]) >= 1

    def test_bounds_that_nothing_meets_are_said(self, run: Command) -> None:
        done = search(run, "--constraint", "params_m<=0", "--objective", "error,params_m")
        assert done.code == 0
        assert "nothing meets params_m<=0 yet" in done.out
        assert "the paper's own setting (not within the bounds)" in run("front", "--study", "toy").out

    def test_custom_strategy(self, run: Command) -> None:
        assert search(run, "--strategy", "tests.cluster.toys:Greedy", "--json").json["told"] == 6


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("search", "pflayr"), 2, "did you mean 'pflayer'"),
            (("search", TOY, "--strategy", "nsga"), 2, "did you mean 'nsga2'"),
            (("search", TOY, "--strategy", "nsga2(population=x)"), 2, "population='x' is not a whole number"),
            (("search", TOY, "--strategy", "tests.cluster.toys:Gredy"), 2, "did you mean 'Greedy'"),
            (
                ("search", TOY, "--strategy", "nsga2", "--set", "strategy.crossover=high"),
                2,
                "crossover='high' is not a number",
            ),
            (("search", TOY, "--minutes", "-1"), 2, "minutes=-1 must be above 0"),
            ((*OWN, "--evaluate", "tests.cluster.toys:tw"), 2, "unknown function in module 'tests.cluster.toys' 'tw'"),
            ((*OWN, "--evaluate", "tests.cluster.toyz:two"), 2, "no module named 'tests.cluster.toyz'"),
            ((*OWN, "--evaluate", "two"), 2, "give package.module:name"),
            ((*OWN, "--evaluate", "tests.cluster.toys:CHOICES"), 2, "give a function"),
            ((*OWN[:1], "tests.cluster.toys:SPAC", *OWN[2:], "--evaluate", "tests.cluster.toys:two"), 2, "'SPACE'"),
            (("search", TOY, "--objective", "eror"), 2, "did you mean 'error'"),
            (("search", TOY, "--objective", "eror:min"), 2, "did you mean 'error'"),
            (("search", TOY, "--device", "cpuu"), 2, "did you mean 'cpu'"),
            (("search", TOY, "--set", "width"), 2, "NAME=VALUE"),
            (("search", TOY, "--trials", "0"), 2, "trials"),
            (("search", TOY, "--no-such-option"), 2, "no-such-option"),
            (("search",), 2, "'space'"),
            (("serch", TOY), 2, "serch"),
            (("resume", "nothing"), 1, "there is no store at"),
            (("front", "mlp"), 1, "there is no store at"),
            (("front",), 2, "SPACE or --study"),
            (("export", "abc", "-o", "x.pt"), 1, "there is no store at"),
            (("show", "nothing"), 1, "there is no store at"),
            (("compare", "a", "b"), 1, "there is no store at"),
            (("replay", "nothing"), 1, "there is no store at"),
            (("studies", "rm", "nothing"), 2, "unknown study"),
            (("studies", "remove"), 2, "known: rm"),
            (("devices", "register"), 2, "which device"),
            (("spaces", "mlpp"), 2, "did you mean 'mlp'"),
        ],
        ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else "",
    )
    def test_message_and_exit_code(self, run: Command, arguments: tuple[str, ...], code: int, message: str) -> None:
        done = run(*arguments)
        assert done.code == code
        assert message in " ".join((done.err + done.out).split())
        assert "Traceback" not in done.err
        document = run(*arguments, "--json")
        assert document.code == code
        assert set(document.json["error"]) == {"code", "message", "hint"}
        assert "there is no store" not in message or document.json["error"]["code"] == "no_store"

    @pytest.mark.parametrize("command", ["studies", "devices"])
    def test_what_is_not_there_is_not_listed(self, run: Command, tmp_path: Path, command: str) -> None:
        assert isinstance(run(command, "--json").json, list)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("resume", "nothing"), 2, "unknown study"),
            (("front", "mlp"), 1, "no study"),
            (("export", "abc", "-o", "x.pt"), 2, "abc"),
            (("show", "nothing"), 2, "unknown study or key"),
            (("replay", "toi"), 2, "did you mean 'toy'"),
        ],
    )
    def test_what_a_store_does_not_have(
        self, searched: Command, arguments: tuple[str, ...], code: int, message: str
    ) -> None:
        done = searched(*arguments)
        assert done.code == code
        assert message in " ".join((done.err + done.out).split())

    def test_two_studies_of_one_name(self, searched: Command) -> None:
        done = search(searched)
        assert done.code == 2
        assert "archfront resume toy" in done.err
        assert "another --study name" in " ".join(done.err.split())


class TestFront:
    def test_json_has_the_stable_keys(self, searched: Command) -> None:
        document = searched("front", TOY, "--json").json
        assert set(document) == {
            *(
                "space",
                "task",
                "study",
                "device",
                "protocol",
                "stored",
                "objectives",
                "reference",
                "hypervolume",
                "points",
            )
        }
        for point in document["points"]:
            assert set(point) == {"key", "config", "metrics", "study", "origin", "kind"}
            assert {"error", "params_m"} <= set(point["metrics"])
        costs = [p["metrics"]["params_m"] for p in document["points"]]
        assert costs == sorted(costs), "cheapest first"

    def test_bounds_and_best(self, searched: Command) -> None:
        everything = searched("front", "--study", "toy", "--json").json["points"]
        bound = everything[0]["metrics"]["params_m"]
        within = searched("front", "--study", "toy", "--where", f"params_m<={bound}", "--json").json["points"]
        assert [p["key"] for p in within] == [everything[0]["key"]]
        best = searched("front", "--study", "toy", "--best", "error", "--json").json["points"]
        assert best[0]["metrics"]["error"] == min(p["metrics"]["error"] for p in everything)

    def test_plot_and_csv(self, searched: Command, tmp_path: Path) -> None:
        picture, sheet = tmp_path / "front.png", tmp_path / "front.csv"
        done = searched("front", "--study", "toy", "--plot", str(picture), "--csv", str(sheet))
        assert done.code == 0
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert sheet.read_text().startswith("key,")
        page = tmp_path / "front.html"
        assert searched("front", "--study", "toy", "--plot", str(page)).code == 0
        key = searched("front", "--study", "toy", "--json").json["points"][0]["key"]
        assert "<svg" in page.read_text()
        assert key[:12] in page.read_text()
        assert searched("front", "--study", "toy", "--plot", "front.bmp").code == 2

    def test_epochs_choose_the_protocol(self, searched: Command) -> None:
        assert searched("front", TOY, "--epochs", "2", "--json").code == 0
        assert searched("front", TOY, "--epochs", "3").code == 2


class TestShow:
    def test_a_study_and_a_key(self, searched: Command, tmp_path: Path) -> None:
        assert {"objectives", "failures", *SUMMARY} <= set(searched("show", "toy", "--json").json)
        key = searched("front", "--study", "toy", "--json").json["points"][0]["key"]
        facts = searched("show", key[:10], "--json").json
        assert facts["key"] == key
        assert [r["step"] for r in facts["reports"]] == [1, 2]
        assert "learning curve" in searched("show", key[:10]).out
        curve = tmp_path / "curve.png"
        assert searched("show", "toy", "--curve", str(curve)).code == 0
        assert curve.exists()


class TestStudies:
    def test_list_and_remove(self, searched: Command) -> None:
        listed = searched("studies", "--json").json
        assert [set(s) for s in listed] == [SUMMARY]
        assert "toy" in searched("studies").out
        assert searched("studies", "rm", "toy").code == 0
        assert searched("studies", "--json").json == []
        again = search(searched, "--json")
        assert again.json["reused"] == 6, "facts outlive their study"

    def test_resume_of_a_finished_study(self, searched: Command) -> None:
        done = searched("resume", "toy", "--workers", "0")
        assert done.code == 0
        assert "is finished" in done.out
        assert searched("resume", "toy", "--workers", "0", "--trials", "8", "--json").json["told"] == 8


class TestLists:
    def test_spaces(self, run: Command) -> None:
        for row in run("spaces", "--json").json:
            assert {"name", "paper", "year", "parameters", "size", "log10_size", "elastic", "tasks", "exports"} <= set(
                row
            )
        assert "mlp" in run("spaces").out
        assert "width" in run("spaces", "mlp").out

    def test_a_space_is_shown_as_it_is_searched(self, run: Command) -> None:
        """The trainer's parameters too; members of a group that differ by their index only in one row."""
        rows = {line.split()[0]: line.split() for line in run("spaces", "mlp").out.splitlines() if line.split()}
        assert rows["width"] == ["width", "integer", "8", "..", "512", "128", "architecture", "log,", "elastic"]
        assert rows["dropout[0..29]"][-5:] == ["depth", ">", "i", "hyperparameter", "self_tuned"]
        assert rows["trainer.lr"][-2:] == ["hyperparameter", "log"]
        assert "trainer.optimizer=adamw" in run("spaces", "mlp").out
        variant = run("spaces", "pflayer/vit_ti", "--json").json
        names = [p["name"] for p in variant["searched"]["parameters"]]
        assert names[: variant["parameters"]] == [p["name"] for p in variant["space"]["parameters"]]
        assert {"mixer[1]", "trainer.lr"} <= set(names)
        assert variant["epochs"] == 300

    @pytest.mark.parametrize("command", ["strategies", "predictors", "trainers"])
    def test_others(self, run: Command, command: str) -> None:
        assert isinstance(run(command, "--json").json, list)
        assert run(command).code == 0

    def test_devices(self, run: Command) -> None:
        keys = {"name", "kind", "threads", "batch", "precision", "runtime", "measured"}
        assert all(keys <= set(row) for row in run("devices", "--json").json)
        assert run("devices", "register", "batched", "--batch", "8", "--json").code == 0
        names = [row["name"] for row in run("devices", "--json").json]
        assert "batched" in names
        assert run("devices", "register", "batched", "--batch", "9").code == 2
        assert run("devices", "register", "cpu").code == 2

    def test_gc(self, searched: Command) -> None:
        assert "removed" in searched("gc", "--json").json


def test_every_command_and_option_has_help(run: Command) -> None:
    import typer.main

    from archfront.cluster.cli import app

    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert command.help, name
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            assert text, f"{name} {parameter.name} has no help"
    assert run("--help").code == 0
