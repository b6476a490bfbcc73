"""Studies on PostgreSQL, and stores that cannot be used: what the user reads, and what stays."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces._errors import StoreError
from tests.cluster.command import Command, in_process
from tests.cluster.studies import own


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(monkeypatch, capsys)


@pytest.fixture
def postgres() -> Iterator[str]:
    """A database of its own on the server of ARCHFRONT_TEST_POSTGRES, or on a local one with trust authentication."""
    psycopg = pytest.importorskip("psycopg")
    server = os.environ.get("ARCHFRONT_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
    try:
        admin = psycopg.connect(server, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL server answers: {error}")
    name = f"archfront_{uuid.uuid4().hex[:12]}"
    with admin:
        admin.execute(f"create database {name}")
        yield server.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(server, autocommit=True) as again:
        again.execute(f"drop database {name} with (force)")


@pytest.mark.postgres
def test_a_study_on_postgresql_equals_one_on_sqlite(postgres: str, tmp_path: Path) -> None:
    fronts = []
    for url in (postgres, f"sqlite:///{tmp_path}/archfront.db"):
        with Store(url, files=str(tmp_path / "files")) as store:
            with pytest.raises(KeyboardInterrupt):
                own(store).run(trials=20, watch=_interrupt_at(7))
            assert Study.open("own", store=store).run()["told"] == 20
            fronts.append([(p.key, p.metrics) for p in store.front(study="own").points])
    assert fronts[0] == fronts[1]


def _interrupt_at(number: int) -> Any:
    def watch(progress: Any) -> None:
        if progress.told == number:
            raise KeyboardInterrupt

    return watch


class TestUnusable:
    @pytest.mark.parametrize("command", [("studies",), ("search", "mlp", "--trials", "2"), ("front", "mlp")])
    def test_a_folder_that_is_not_there(self, run: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
        done = run(*command, "--store", str(tmp_path / "no" / "archfront.db"))
        assert done.code == 1
        assert "does not exist" in " ".join(done.err.split())

    def test_a_file_that_is_no_database(self, run: Command, tmp_path: Path) -> None:
        file = tmp_path / "archfront.db"
        file.write_text("not a database, but long enough to be looked at as one" * 10)
        done = run("studies", "--store", str(file), "--json")
        assert done.code == 1
        assert done.json["error"]["code"] == "store"
        assert file.read_text().startswith("not a database")

    def test_a_database_of_somebody_else(self, run: Command, tmp_path: Path) -> None:
        file = tmp_path / "other.db"
        connection = sqlite3.connect(file)
        connection.execute("create table mine (x)")
        connection.commit()
        connection.close()
        before = file.read_bytes()
        assert run("studies", "--store", str(file)).code == 1
        assert file.read_bytes() == before

    def test_a_disk_that_fills_up_keeps_what_was_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"sqlite:///{tmp_path}/archfront.db"
        with Store(url) as store:
            with pytest.raises(KeyboardInterrupt):
                own(store).run(trials=400, watch=_interrupt_at(5))
            pages = sqlite3.connect(tmp_path / "archfront.db").execute("pragma page_count").fetchone()[0]
        monkeypatch.setattr("archfront.cluster.store._engine._PRAGMAS", (*_pragmas(), f"max_page_count={pages + 4}"))
        with Store(url) as store, pytest.raises(StoreError, match="what was committed stays"):
            Study.open("own", store=store).run()
        monkeypatch.undo()
        with Store(url) as store:
            told = store.counts("own").told
            assert told >= 5
            assert len(store.told("own")) == told
            study = Study.open("own", store=store)
            with pytest.raises(KeyboardInterrupt):
                study.run(watch=_interrupt_at(told + 3))
            assert store.counts("own").told == told + 3


def _pragmas() -> tuple[str, ...]:
    from archfront.cluster.store import _engine

    return _engine._PRAGMAS
