"""Studies on other tasks as what a new one begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archfront.cluster._known_datasets import Earlier
from archfront.cluster.store import Store
from archfront.predictors import DataSet
from archfront.predictors.dataset_aware import DatasetAware
from archfront.search._types import Evaluation, Value
from archfront.spaces._toy import ToyImages
from tests.cluster.command import Command, Done, in_process

QUICK = "tests.cluster.test_known_datasets:Quick"
GUIDED = f"diffusion(guide={QUICK},initial=0,training_steps=5,steps=4,batch_size=3,pool=6,quantiser=argmax)"
SMALL = ("--set", "depth=1..2", "--set", "width=8..64")


class Quick(DatasetAware):
    """As a guide, which has no parameters."""

    def __init__(self, *base: Any, **rest: Any) -> None:
        super().__init__(*base, networks=2, hidden=8, layers=1, steps=10, adaptation=5, rows=2, draws=1, **rest)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Commands in a folder with three data sets of small images."""
    monkeypatch.setenv("ARCHFRONT_STORE", f"sqlite:///{tmp_path}/archfront.db")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, size in (("a", 4), ("b", 5), ("c", 4)):
        y = np.arange(60) % 3
        np.savez(f"{name}.npz", x=(rng.random((60, size, size)) * (1 + y[:, None, None]) / 3).astype(np.float32), y=y)
    return in_process(monkeypatch, capsys)


def searched(run: Command, data: str, strategy: str = "random", *more: str, study: str = "", trials: int = 4) -> Done:
    given = ("--strategy", strategy, "--objective", "error", "--epochs", "1", "--workers", "0", "--trials", str(trials))
    return run("search", "mlp", "--data", f"{data}.npz", "--study", study or data, *given, *SMALL, *more)


def flat(done: Done) -> str:
    return " ".join((done.out + done.err).split())


def test_a_new_task_begins_with_what_others_found(run: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert searched(run, name).code == 0
    done = searched(run, "c", GUIDED)
    assert done.code == 0, done.err
    assert "other tasks: learns from 8 evaluations of studies a, b" in flat(done)
    with Store(f"sqlite:///{tmp_path}/archfront.db") as store:
        origins = [record.proposal.origin for record in store.proposals("c")]
        options = {record.name: record.options for record in store.studies()}
    assert origins[0] == "default"
    assert set(origins[1:]) <= {"diffusion-guided", "diffusion"}
    assert "diffusion-guided" in origins[1:]
    assert [name for name, own in options.items() if "other_tasks" in own] == ["c"], "only who asked has a list"
    assert searched(run, "a", study="later").code == 0
    replayed = run("replay", "c")  # asks again with what was known when it began
    assert replayed.code == 0, replayed.err


def test_a_store_that_knows_nothing_says_what_to_do(run: Command) -> None:
    done = searched(run, "c", GUIDED)
    assert done.code == 2
    assert "no study of 'mlp' on another task with the same training: run one first" in flat(done)
    searched(run, "c")
    assert "run one first" in flat(searched(run, "c", GUIDED, study="again")), "its own task is no other one"


def test_guesses_and_devices_are_left_out() -> None:
    space, dataset = ToyImages.bind(), DataSet("other", [np.zeros((2, 16))])
    one, other = space.search_space.sample(np.random.default_rng(0), 2)
    found = [
        Evaluation(one, "1", "ok", {"error": Value(0.5, "trained"), "latency_ms@cpu": Value(3.0, "measured")}),
        Evaluation(other, "2", "ok", {"error": Value(0.1, "predicted"), "nll": Value(2.0, "trained")}),
        Evaluation({**one, "width": 3}, "3", "ok", {"error": Value(0.2, "trained")}),
    ]
    source = Earlier(None, [], space, space.search_space)._source(dataset, dataset, found)
    assert source is not None
    assert source.configs == [one, other], "what is illegal here is left out"
    assert {name: source.known(name) for name in source.values} == {"error": [0], "nll": [1]}


def test_data_that_is_gone_is_left_out_and_said(run: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    searched(run, "a")
    searched(run, "b")
    (tmp_path / "a.npz").unlink()
    assert searched(run, "c", GUIDED).code == 0
    assert [r.message for r in caplog.records if "left out" in r.message and "a.npz" in r.message] != []
