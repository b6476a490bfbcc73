"""One store per test, on SQLite and on PostgreSQL, and a small laboratory that fills it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from archfront.cluster.store import DeviceSession, Outcome, ProposalRecord, Snapshot, Store, StudyRecord
from archfront.search._types import Evaluation, Objective, Proposal, Status, Value

POSTGRES = os.environ.get("ARCHFRONT_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
ERROR = Objective("error", "min")
LATENCY = Objective("latency_ms", "min", "cpu", "ms")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database: a file, or a schema of its own on the test server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'archfront.db'}"
        return
    with schema() as made:
        yield made


@contextmanager
def schema() -> Iterator[str]:
    """The address of a new schema on the test server; skips without one."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    try:
        server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL server at {POSTGRES} (set ARCHFRONT_TEST_POSTGRES): {str(error).splitlines()[0]}")
    name = f"archfront_test_{uuid.uuid4().hex}"
    with server:
        server.execute(f"create schema {name}")
        joint = "&" if "?" in POSTGRES else "?"
        yield f"{POSTGRES}{joint}options=-csearch_path%3D{name}"
        server.execute("set client_min_messages = warning")
        server.execute(f"drop schema {name} cascade")
    server.close()


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    with Store(url, files=str(tmp_path / "files")) as store:
        yield store


class Lab:
    """Makes studies of one space and lets their proposals come back with the values a test wants."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.identity = f"toy-{uuid.uuid4().hex}"
        self.epochs: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def study(self, name: str = "one", *, objectives: tuple[Objective, ...] = (ERROR, LATENCY), **fields: Any) -> str:
        devices = {o.device: f"{o.device}-1" for o in objectives if o.device}
        usual = {
            "space": "toy/small",
            "identity": self.identity,
            "task": "digits",
            "task_identity": "digits-1",
            "signature": "s1",
            "protocol": "p1",
            "devices": devices,
        }
        self.store.create_study(StudyRecord(name, objectives=objectives, **{**usual, **fields}))
        self.epochs[name] = self.store.begin_sitting(name)
        self.asked[name] = 0
        return name

    def propose(self, study: str, *keys: str, snapshot: Snapshot | None = None) -> list[ProposalRecord]:
        """One proposal per key; the architecture key is the key up to a dot."""
        start = self.asked[study]
        self.asked[study] += len(keys)
        made = [
            ProposalRecord(
                Proposal(uuid.uuid4().hex, start + i, {"x": key, "w": 0.5}, key, "random"), key.partition(".")[0]
            )
            for i, key in enumerate(keys)
        ]
        self.store.insert_proposals(study, self.epochs[study], made, snapshot)
        return made

    def outcome(
        self, record: ProposalRecord, values: Mapping[str, float | Value], status: Status = "ok", **fields: Any
    ) -> Outcome:
        """Plain numbers are trained values, or measured ones where a device is named."""
        p = record.proposal
        told = {
            n: v if isinstance(v, Value) else Value(v, "measured" if "@" in n else "trained") for n, v in values.items()
        }
        return Outcome(Evaluation(p.config, p.key, status, told, p.id, {"epochs": 3.0}, 0.5), **fields)

    def tell(self, study: str, key: str, values: Mapping[str, float | Value], **fields: Any) -> ProposalRecord:
        """Propose one key and record what came back."""
        (record,) = self.propose(study, key)
        assert self.store.record(study, self.epochs[study], [self.outcome(record, values, **fields)]) == 1
        return record

    def session(self, architecture: str, value: float, *, device: str = "cpu-1", **fields: Any) -> DeviceSession:
        place = (self.identity, "s1", architecture, device)
        return DeviceSession(*place, fields.pop("metric", "latency_ms"), value, uuid.uuid4().hex, **fields)

    def keys(self, **question: Any) -> list[str]:
        """The keys on a front, cheapest first."""
        return [point.key for point in self.store.front(**question).points]


@pytest.fixture
def lab(store: Store) -> Lab:
    return Lab(store)


@pytest.fixture
def make_lab(store: Store) -> Callable[[], Lab]:
    """For property tests: a new space per example, in the same store."""
    return lambda: Lab(store)
