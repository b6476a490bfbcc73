"""Opening: what is created, upgraded, refused, and what an error says."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from archfront.cluster.store import DeviceRecord, NoStoreError, Store, _migrate
from archfront.cluster.store._core import Opened
from archfront.cluster.store._engine import address, engines, shown
from archfront.cluster.store._models import Base
from archfront.spaces._errors import StoreError


def test_migrations_make_exactly_the_models(store: Store) -> None:
    with store._reader.begin() as connection:
        options = {"version_table": _migrate.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_the_code_knows_every_revision() -> None:
    script = ScriptDirectory(str(Path(_migrate.__file__).parent / "migrations"))
    assert tuple(r.revision for r in script.walk_revisions())[::-1] == _migrate.REVISIONS


def test_reopening_finds_what_was_there(url: str, store: Store, lab: Any) -> None:
    lab.tell(lab.study(), "a", {"error": 0.5, "latency_ms@cpu": 1.0})
    with Store(url) as again:
        assert [r.name for r in again.studies()] == ["one"]
        assert len(again.front(study="one")) == 1


def test_a_store_that_is_only_read_is_not_made(url: str, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(NoStoreError, match="there is no store at"):
            Store(url, create=False)
    assert not list(tmp_path.iterdir())
    Store(url).close()
    Store(url, create=False).close()


def test_an_older_store_is_upgraded_and_keeps_its_rows(url: str) -> None:
    writer, reader = engines(address(url))
    with writer.begin() as connection:
        _migrate.upgrade(connection, "0001")
        connection.exec_driver_sql("insert into device values ('pi-1', 'pi', 'local', '{}')")
    writer.dispose()
    reader.dispose()
    with Store(url) as store:
        assert [device.identity for device in store.devices()] == ["pi-1"]
        assert store.artefact("k", "weights") is None
        with store._reader.begin() as connection:
            assert connection.exec_driver_sql(f"select * from {_migrate.VERSION_TABLE}").scalars().all() == [
                _migrate.HEAD
            ]


def test_a_newer_store_is_refused_untouched(url: str) -> None:
    with Store(url) as store, store._writer.begin() as connection:
        connection.exec_driver_sql(f"update {_migrate.VERSION_TABLE} set version_num = '9999'")
    file = address(url).database
    before = Path(file).read_bytes() if url.startswith("sqlite") and file else b""
    with pytest.raises(StoreError, match=r"newer archfront \(revision 9999.*upgrade archfront"):
        Store(url)
    assert not before or Path(str(file)).read_bytes() == before


def test_a_database_of_something_else_is_refused(url: str) -> None:
    writer, reader = engines(address(url))
    with writer.begin() as connection:
        connection.exec_driver_sql("create table study (id integer)")
    writer.dispose()
    reader.dispose()
    with pytest.raises(StoreError, match=r"not an archfront store: .*study"):
        Store(url)


def test_files_that_are_no_store_are_refused_untouched(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("dear diary, today I searched architectures")
    with pytest.raises(StoreError, match=r"notes.txt is not an archfront store.*give --store another"):
        Store(str(notes))
    assert notes.read_text().startswith("dear diary")
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("create table songs (title text)")
    before = other.read_bytes()
    with pytest.raises(StoreError, match="songs"):
        Store(f"sqlite:///{other}")
    assert other.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "other.db"]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "new.db").touch()
    with Store(str(tmp_path / "new.db")) as store:
        assert store.studies() == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///{}/missing/a.db", "folder .*missing does not exist"),
        ("sqlite:///{}", "is not a file"),
        ("sqlite://", "must outlive"),
        ("sqlite:///:memory:", "must outlive"),
        ("mysql://me:secret@host/db", r"mysql://me:\*\*\*@host/db.*neither SQLite nor PostgreSQL"),
        ("://", "cannot be read"),
    ],
)
def test_bad_addresses(url: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=says):
        Store(url.format(tmp_path))


def test_the_default_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCHFRONT_STORE", raising=False)
    with Store():
        assert (tmp_path / "archfront.db").exists()
    monkeypatch.setenv("ARCHFRONT_STORE", f"sqlite:///{tmp_path / 'else.db'}")
    with Store() as store:
        assert store.url.endswith("else.db")
    with Store("bare.db"):
        assert (tmp_path / "bare.db").exists()


def test_postgres_without_psycopg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'archfront\[postgres\]'"):
        Store("postgresql://localhost/x")


def test_an_unreachable_server_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=r"127.0.0.1:1/db.* does not answer") as caught:
        Store("postgresql://me:secret@127.0.0.1:1/db?connect_timeout=2")
    assert "secret" not in str(caught.value)
    assert shown(address("postgresql://me:secret@h/db")) == "postgresql+psycopg://me:***@h/db"


def test_a_full_disk_keeps_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "archfront.db"
    with Store(str(path)) as store:
        store.put_devices([])
        with store._writer.begin() as connection:
            pages = connection.exec_driver_sql("pragma page_count").scalar()
            connection.exec_driver_sql(f"pragma max_page_count = {pages + 20}")
        with pytest.raises(StoreError, match=r"archfront.db: database or disk is full.*what was committed stays"):
            _fill(store)
        stored = len(store.devices())
        assert stored > 0
    with Store(str(path)) as again:
        assert len(again.devices()) == stored
        again.put_devices([_device(-1)])


def _fill(store: Store) -> None:
    for number in range(10_000):
        store.put_devices([_device(number)])


def _device(number: int) -> Any:
    return DeviceRecord(f"d{number}", "d", "local", {"text": "x" * 2000})


def test_a_locked_and_a_readonly_file(tmp_path: Path) -> None:
    path = tmp_path / "archfront.db"
    with Store(str(path)) as store:
        with store._writer.begin() as connection:
            connection.exec_driver_sql("pragma busy_timeout = 50")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin immediate")
            assert store.studies() == []  # readers never wait
            with Store(str(path)) as reader:
                assert reader.devices() == []
            with pytest.raises(StoreError, match=r"archfront.db: database is locked: another process"):
                store.put_devices([_device(1)])
            other.execute("rollback")
        store.put_devices([_device(1)])
        with store._writer.begin() as connection:
            connection.exec_driver_sql("pragma query_only = 1")
        with pytest.raises(StoreError, match=r"archfront.db: attempt to write a readonly.*writable"):
            store.put_devices([_device(2)])


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "archfront.db"
    with Store(str(path)):
        pass
    data = bytearray(path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"archfront.db cannot be read"):
        Store(str(path))


def test_a_dropped_server_connection_is_taken_up_again(url: str) -> None:
    if not url.startswith("postgres"):
        pytest.skip("SQLite has no server")
    with Store(url) as store:
        calls = 0

        def change(connection: Any) -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                own = connection.exec_driver_sql("select pg_backend_pid()").scalar()
                with store._writer.connect() as other:
                    other.exec_driver_sql(f"select pg_terminate_backend({own})")
            return int(connection.exec_driver_sql("select 7").scalar())

        assert Opened._write(store, change) == 7
        assert calls == 2


def test_close_twice(url: str) -> None:
    store = Store(url)
    store.close()
    store.close()
