"""A search as a Ray job: what is asked of the cluster, and what is refused before."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archfront.cluster._submit import job_of
from archfront.cluster.store import Store
from archfront.spaces._errors import UnknownNameError, UsageError
from tests.cluster.command import in_process
from tests.faults.nodes import Node, free_port

STORE = "postgresql://me:secret@host/archfront"


def test_a_job_is_the_same_command_on_the_cluster() -> None:
    job = job_of(["search", "pflayer", "--set", "depth=2..4", "--study", "a b", "--store", STORE], {"HOME": "/"})
    assert job.entrypoint == "archfront search pflayer --set depth=2..4 --study 'a b' --address auto"
    assert job.environment == {"ARCHFRONT_STORE": STORE}
    assert (job.study, job.store) == ("a b", "postgresql+psycopg://me:***@host/archfront")


def test_what_the_environment_says_travels() -> None:
    here = {"ARCHFRONT_STORE": "sqlite:////shared/a.db", "ARCHFRONT_FILES": "s3://b/f", "PATH": "/bin"}
    job = job_of(["resume", "big", "--trials", "9"], here, command="/opt/bin/archfront")
    assert job.entrypoint == "/opt/bin/archfront resume big --trials 9 --address auto"
    assert job.environment == {"ARCHFRONT_STORE": "sqlite:////shared/a.db", "ARCHFRONT_FILES": "s3://b/f"}
    assert job.study == "big"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "pflayer", "--store", STORE], "needs a name"),
        (["search", "pflayer", "--study", "a"], "a file of this machine"),
        (["search", "pflayer", "--study", "a", "--store=sqlite:///a.db"], "a file of this machine"),
        (["search", "pflayer", "--study", "a", "--store", STORE, "--address", "auto"], "leave --address out"),
        (["resume", "--store", STORE], "which study"),
        (["search", "pflayer", "--store"], "needs a value"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        job_of(arguments, {})


def test_only_searches_are_submitted() -> None:
    with pytest.raises(UnknownNameError, match="search"):
        job_of(["serch", "pflayer"], {})


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = in_process(monkeypatch, capsys)
    done = run("submit", f"http://127.0.0.1:{free_port()}", "search", "mlp", "--study", "a", "--store", STORE)
    assert done.code == 2
    assert "no Ray dashboard takes jobs at" in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def dashboard() -> Iterator[str]:
    """A head with a dashboard."""
    if importlib.util.find_spec("opencensus") is None:
        pytest.skip("ray[default] is not installed: no dashboard")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="rj") as folder:
        where = ("--include-dashboard=true", f"--dashboard-port={port}", "--temp-dir", folder)
        head = Node("--head", f"--port={free_port()}", "--num-cpus=2", *where, environment={"PYTHONPATH": os.getcwd()})
        try:
            head.wait()
            yield f"http://127.0.0.1:{port}"
        finally:
            head.stop()


def test_a_submitted_search_survives_its_client(dashboard: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/archfront.db"
    archfront = str(Path(sys.executable).with_name("archfront"))
    what = ("tests.cluster.toys:SPACE", "--evaluate", "tests.cluster.toys:slow", "--objective", "error:min,cost:min")
    command = [archfront, "submit", "--follow", "--command", archfront, dashboard, "search", *what]
    client = subprocess.Popen([*command, "--trials", "40", "--study", "job", "--store", store])
    deadline = time.monotonic() + 120
    while not (tmp_path / "archfront.db").exists() or _told(store) < 5:
        assert client.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    client.kill()
    client.wait()
    while _told(store) < 40:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _told(url: str) -> int:
    with Store(url) as store:
        return store.counts("job").told if store.studies() else 0
