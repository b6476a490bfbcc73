"""The examples run as they are written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archfront import search, spaces
from archfront.search.testing import StrategyContract
from archfront.spaces.testing import ModelSpaceContract
from tests.cluster.command import Command, in_process

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def in_the_examples_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a user stands there: modules of the working folder can be named."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("custom_strategy", "custom_space", "notebook"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("ARCHFRONT_STORE", f"sqlite:///{tmp_path}/archfront.db")
    return in_process(monkeypatch, capsys)


class TestCustomStrategy(StrategyContract):
    @pytest.fixture
    def strategy_class(self) -> type[search.Strategy]:
        return search.load("custom_strategy:Greedy")


class TestCustomSpace(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> spaces.ModelSpace:
        return spaces.load("custom_space:Wine")


def test_the_custom_strategy_is_named_on_the_command_line(run: Command) -> None:
    done = run(
        *("search", "mlp", "--strategy", "custom_strategy:Greedy", "--trials", "4", "--epochs", "1"),
        *("--objective", "error,params_m", "--workers", "0", "--json"),
    )
    assert (done.json["told"], done.json["strategy"]) == (4, "custom_strategy:Greedy")


def test_the_custom_space_is_searched_and_exported(run: Command, tmp_path: Path) -> None:
    done = run(
        *("search", "custom_space:Wine", "--objective", "error,params_m", "--trials", "4", "--epochs", "5"),
        *("--workers", "0", "--study", "wine", "--json"),
    )
    assert done.json["failed"] == 0
    key = run("front", "--study", "wine", "--json").json["points"][0]["key"]
    assert run("export", key[:12], "-o", str(tmp_path / "wine.onnx"), "--format", "onnx", "--json").code == 0


def test_the_python_example(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import notebook

    monkeypatch.chdir(tmp_path)
    notebook.main()
    assert (tmp_path / "front.png").exists()
    assert "latency_ms" in capsys.readouterr().out
