"""Real kills: what was told stays, nothing is told twice, resume ends with exactly the total."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from tests.cluster.command import start

TRIALS = 40


def search(url: str, workers: int) -> subprocess.Popen[str]:
    return start(
        *("search", "tests.cluster.toys:SPACE", "--evaluate", "tests.cluster.toys:slow", "--strategy", "nsga2"),
        *("--objective", "error:min,cost:min", "--trials", str(TRIALS), "--workers", str(workers)),
        *("--study", "killed", "--store", url, "--json"),
    )


def told(url: str) -> int:
    if not Path(url.removeprefix("sqlite:///")).exists():
        return 0
    with Store(url) as store:
        return store.counts("killed").told if store.studies() else 0


def wait_until_told(process: subprocess.Popen[str], url: str, number: int) -> None:
    deadline = time.monotonic() + 90
    while told(url) < number:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the search did not get that far"
        time.sleep(0.05)


def kill_when(process: subprocess.Popen[str], url: str, number: int, number_of_signal: int) -> str:
    """Signal the process as soon as `number` evaluations are told; returns what it printed."""
    wait_until_told(process, url, number)
    process.send_signal(number_of_signal)
    return process.communicate(timeout=60)[0]


def check(url: str, before: dict[str, str]) -> None:
    """The resumed study has exactly its total, everything told before among it, and no proposal twice."""
    with Store(url) as store:
        evaluations = store.told("killed")
        assert [sequence for sequence, _, _ in evaluations] == list(range(1, TRIALS + 1))
        keys = {str(e.proposal): e.key for _, _, e in evaluations}
        assert len(keys) == TRIALS
        assert before.items() <= keys.items()
        assert store.study("killed").status == "done"
        assert all(record.state == "done" for record in store.proposals("killed"))


def recorded(url: str) -> dict[str, str]:
    with Store(url) as store:
        return {str(e.proposal): e.key for _, _, e in store.told("killed")}


@pytest.mark.parametrize("number", [1, 7, 23])
def test_kill_of_a_search_in_process(tmp_path: Path, number: int) -> None:
    url = f"sqlite:///{tmp_path}/archfront.db"
    kill_when(search(url, 0), url, number, signal.SIGKILL)
    before = recorded(url)
    assert len(before) >= number
    with Store(url) as store:
        first = store.study("killed").seconds
        assert first > 0, "a killed sitting counts up to its last commit"
        summary = Study.open("killed", store=store).run()
    assert summary["told"] == TRIALS
    assert summary["seconds"] > first
    check(url, before)


def test_interruption_leaves_a_resumable_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/archfront.db"
    process = search(url, 0)
    printed = kill_when(process, url, 3, signal.SIGINT)
    assert process.returncode == 130
    assert "archfront resume killed" in json.loads(printed)["error"]["hint"]
    with Store(url) as store:
        assert store.study("killed").status == "interrupted"
        assert Study.open("killed", store=store).run()["told"] == TRIALS


def test_ctrl_c_reaches_all_that_a_terminal_started_and_prints_one_message(tmp_path: Path) -> None:
    """A terminal interrupts the whole process group: the driver, and not the process that measures."""
    url = f"sqlite:///{tmp_path}/archfront.db"
    process = start(
        *("search", "archfront.spaces._toy:ToyImages", "--objective", "error,latency_ms", "--trials", "500"),
        *("--epochs", "1", "--workers", "0", "--study", "killed", "--store", url, "--json"),
        start_new_session=True,
    )
    wait_until_told(process, url, 3)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == ""


@pytest.mark.ray
def test_kill_of_a_driver_on_ray(tmp_path: Path, ray_cluster: int) -> None:
    url = f"sqlite:///{tmp_path}/archfront.db"
    kill_when(search(url, 2), url, 15, signal.SIGKILL)
    before = recorded(url)
    with Store(url) as store:
        summary = Study.open("killed", store=store).run(workers=ray_cluster)
    assert (summary["told"], summary["failed"]) == (TRIALS, 0)
    check(url, before)
