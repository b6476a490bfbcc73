"""A hundred thousand evaluations on five devices: what users ask is answered from indexes, in memory of the front."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from archfront.cluster.store import Store
from archfront.search._types import Constraint
from tests.cluster.large import begin, device_study, fill
from tests.cluster.store.conftest import schema

LARGE = {"proposal", "evaluation", "observation", "observation_value", "device_value", "front_point", "report"}
FRONT_BYTES = 20_000
"""That a query may take per member of the front."""

Plan = tuple[set[str], set[str]]
"""Indexes used, and large tables read whole."""


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """On a server fewer, and told that reading a whole table is dear, as it is of one that is large."""
    if request.param == "sqlite":
        with Store(f"sqlite:///{tmp_path_factory.mktemp('large')}/archfront.db") as store:
            fill(store, 100_000, 5)
            yield store
        return
    with schema() as url, Store(url) as store:
        fill(store, 9_000, 3)
        with store._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("analyze")
        yield store


def plans(store: Store, question: Callable[[], Any]) -> Plan:
    """How the database answers the statements of a question."""
    asked: list[tuple[str, Any]] = []

    def listen(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if statement.lower().startswith(("select", "with")):
            asked.append((statement, parameters))

    event.listen(store._reader, "before_cursor_execute", listen)
    try:
        question()
    finally:
        event.remove(store._reader, "before_cursor_execute", listen)
    assert asked
    used: set[str] = set()
    whole: set[str] = set()
    with store._reader.begin() as connection:
        for statement, parameters in asked:
            if store.url.startswith("sqlite"):
                rows = connection.exec_driver_sql(f"explain query plan {statement}", parameters)
                _sqlite_plan([str(row[3]) for row in rows], used, whole)
            else:
                connection.exec_driver_sql("set local enable_seqscan = off")
                rows = connection.exec_driver_sql(f"explain (format json) {statement}", parameters)
                found = rows.scalar()
                _postgres_plan((found if isinstance(found, list) else json.loads(str(found)))[0]["Plan"], used, whole)
    return used, whole


def _sqlite_plan(lines: list[str], used: set[str], whole: set[str]) -> None:
    for line in lines:
        if match := re.search(r"USING (?:COVERING )?INDEX (\S+)", line):
            used.add(match[1])
        elif match := re.match(r"SCAN (\S+)", line):
            whole.update({match[1]} & LARGE)


def _postgres_plan(node: dict[str, Any], used: set[str], whole: set[str]) -> None:
    if "Index Name" in node:
        used.add(node["Index Name"])
    if node["Node Type"] == "Seq Scan":
        whole.update({node["Relation Name"]} & LARGE)
    for child in node.get("Plans", []):
        _postgres_plan(child, used, whole)


UNNAMED = {"sqlite_autoindex_proposal_2": "uq_proposal_study_id_key"}
"""SQLite names the indexes of constraints itself."""
FRONT = {"ix_front_point_front_id_left_sequence"}
QUESTIONS: dict[str, tuple[Callable[[Store], Any], set[str]]] = {
    "front of a study": (lambda s: s.front(study=device_study(1)), FRONT),
    "front of a device": (lambda s: s.front(space="large", device="d1"), FRONT),
    "best error under 15 ms": (
        lambda s: s.front(space="large", device="d1", where=[Constraint.parse("latency_ms@d1<=15")]).best("error"),
        FRONT,
    ),
    "hypervolume history": (lambda s: s.hypervolume_history(device_study(1)), FRONT),
    "counts": (lambda s: s.counts(device_study(1)), {"ix_evaluation_failed", "ix_evaluation_reused"}),
    "the paper's setting": (lambda s: s.newest_default(s.front(space="large", device="d1")), FRONT),
    "a key": (lambda s: s.find_key(s.front(study=device_study(1)).points[0].key[:20]), {"uq_proposal_study_id_key"}),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_reads_a_large_table_whole(large: Store, question: str) -> None:
    ask, expected = QUESTIONS[question]
    used, whole = plans(large, lambda: ask(large))
    assert not whole
    assert expected <= {UNNAMED.get(name, name) for name in used}


def test_memory_is_that_of_the_front(large: Store) -> None:
    ask, _ = QUESTIONS["best error under 15 ms"]
    ask(large)
    members = len(large.front(space="large", device="d1"))
    tracemalloc.start()
    ask(large)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < FRONT_BYTES * members


def test_a_study_for_a_new_device_reads_none_of_the_facts(large: Store) -> None:
    tracemalloc.start()
    study, _ = begin(large, 77)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    large.remove_study(study)


def test_the_answer_is_that_of_all_evaluations(large: Store) -> None:
    best = QUESTIONS["best error under 15 ms"][0](large)
    told = [e for _, _, e in large.told(device_study(1))]
    fast = [e for e in told if e.values["latency_ms@d1"].value <= 15]
    assert best.key == min(fast, key=lambda e: e.values["error"].value).key
