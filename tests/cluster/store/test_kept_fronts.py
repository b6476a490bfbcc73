"""Fronts are kept up: after any steps they equal a brute-force recomputation, without reading the archive."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archfront.cluster.store import Store
from archfront.search._types import Constraint, Objective

ERROR = Objective("error", "min")
CPU = Objective("latency_ms", "min", "cpu", "ms")
PI = Objective("latency_ms", "min", "pi", "ms")
SPEED = Objective("throughput_per_s", "max", "cpu")
NUMBER = st.one_of(st.integers(0, 4).map(float), st.integers(0, 4).map(float), st.just(math.nan))
KEYS = st.sampled_from([f"{a}.{n}" for a in "abcd" for n in "12"])
STEPS = st.one_of(
    st.tuples(
        st.just("tell"), st.sampled_from(["one", "two"]), st.lists(st.tuples(KEYS, NUMBER, NUMBER, NUMBER), max_size=4)
    ),
    st.tuples(st.just("measure"), st.sampled_from("abcd"), st.sampled_from(["cpu-1", "pi-1"]), NUMBER),
    st.tuples(st.just("seed"), KEYS, NUMBER, st.integers(0, 2)),
    st.tuples(st.just("withdraw"), st.integers(0, 20)),
    st.tuples(st.just("status"), KEYS, st.sampled_from(["failed", "stopped"])),
    st.tuples(st.just("reopen")),
)


@pytest.mark.parametrize("examples", [100])
def test_kept_fronts_equal_brute_force(store: Store, make_lab: Callable[[], Any], examples: int) -> None:
    """After any sequence of tells, sessions, other seeds and withdrawals."""

    @settings(
        max_examples=examples if store.url.startswith("sqlite") else examples // 2,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(STEPS, max_size=12))
    def check(steps: list[Any]) -> None:
        try:
            run(store, other, make_lab(), steps)
        finally:
            empty(store)

    with Store(store._address.render_as_string(hide_password=False)) as other:
        check()


def empty(store: Store) -> None:
    from archfront.cluster.store._models import Base

    with store._writer.begin() as connection:
        for rows in reversed(Base.metadata.sorted_tables):
            connection.execute(rows.delete())


def run(store: Store, other: Store, lab: Any, steps: list[Any]) -> None:
    names = {name: f"{name}-{lab.identity}" for name in ("one", "two", "extra")}
    lab.study(names["one"], objectives=(ERROR, CPU, PI))
    lab.study(names["two"], objectives=(ERROR, CPU), constraints=(Constraint("latency_ms", "<=", 3.0, "cpu"),))
    extra = 0
    for kind, *step in steps:
        if kind == "tell":
            name, rows = names[step[0]], step[1]
            known = {p.proposal.key for p in store.proposals(name)}
            fresh = {key: numbers for key, *numbers in rows if key not in known}
            records = lab.propose(name, *fresh)
            back = [dict(zip(("error", "latency_ms@cpu", "latency_ms@pi"), n, strict=True)) for n in fresh.values()]
            store.record(name, 1, [lab.outcome(r, v) for r, v in zip(records, back, strict=True)])
        elif kind == "measure":
            other.add_device_sessions([lab.session(step[0], step[2], device=step[1])])  # another process
        elif kind in ("seed", "status"):
            extra += 1
            study = lab.study(f"{names['extra']}-{extra}", objectives=(ERROR,))
            if kind == "seed":
                lab.tell(study, step[0], {"error": step[1]}, train_seed=step[2])
            else:
                lab.tell(study, step[0], {"error": 0.0}, status=step[1])
        elif kind == "withdraw":
            ids = [row["id"] for row in table(store, "observation") if row["identity"] == lab.identity]
            if ids:
                store.withdraw(ids[step[0] % len(ids)])
        else:
            store._cache.clear()
    for front in table(store, "front"):
        if front["identity"] == lab.identity:
            rows = [row for row in table(store, "front_point", front["id"]) if row["left_sequence"] is None]
            kept = {row["key"]: [told(row["values"])[name] for name in names_of(front)] for row in rows}
            assert len(kept) == len(rows)
            assert kept == brute(store, front), front["name"]
    store.hypervolume_history(names["one"])


def table(store: Store, name: str, front: int | None = None) -> list[Any]:
    from sqlalchemy import select

    from archfront.cluster.store._models import Base

    rows = Base.metadata.tables[name]
    query = select(rows) if front is None else select(rows).where(rows.c.front_id == front)
    with store._reader.begin() as connection:
        return list(connection.execute(query.order_by("id") if "id" in rows.c else query).mappings())


def names_of(front: Any) -> list[str]:
    return [o["metric"] + (f"@{o['device']}" if o["device"] else "") for o in front["objectives"]]


def brute(store: Store, front: Any) -> dict[str, list[float]]:
    """The same question answered from the tables without any of the store's own code."""
    sessions = defaultdict(list)
    for row in table(store, "device_value"):
        if row["identity"] == front["identity"] and row["signature"] == front["signature"]:
            sessions[row["architecture_key"], row["metric"], row["device"]].append(row["value"])
    points = {}
    for key, architecture, values in everything(store, front):
        for thing in (*front["objectives"], *front["constraints"]):
            if thing["identity"]:
                name = f"{thing['metric']}@{thing['device']}"
                numbers = sessions.get((architecture, thing["metric"], thing["identity"]))
                if numbers is not None:
                    valid = [number for number in numbers if number is not None]
                    values[name] = statistics.median(valid) if valid else math.nan
        names = names_of(front)
        if not all(math.isfinite(values.get(name, math.nan)) for name in names):
            continue
        if all(values.get(f"{c['metric']}@{c['device']}", math.inf) <= c["bound"] for c in front["constraints"]):
            points[key] = [values[name] for name in names]
    return {
        key: p
        for key, p in points.items()
        if not any(all(x <= y for x, y in zip(q, p, strict=True)) and q != p for q in points.values())
    }


def everything(store: Store, front: Any) -> list[tuple[str, str, dict[str, float]]]:
    observations = {row["id"]: row for row in table(store, "observation")}
    if front["study_id"] is not None:
        proposals = {row["id"]: row for row in table(store, "proposal")}
        return [
            (proposals[e["proposal_id"]]["key"], proposals[e["proposal_id"]]["architecture_key"], told(e["values"]))
            for e in table(store, "evaluation")
            if e["study_id"] == front["study_id"] and e["status"] == "ok"
            if e["observation_id"] is None or observations[e["observation_id"]]["usable"]
        ]
    numbers = {row["observation_id"]: row["value"] for row in table(store, "observation_value")}
    newest: dict[str, dict[int, float]] = defaultdict(dict)
    architectures = {}
    for id_, row in sorted(observations.items()):
        where = ("identity", "task_identity", "protocol")
        if row["usable"] and not row["private"] and all(row[name] == front[name] for name in where):
            value = numbers[id_]
            newest[row["key"]][row["train_seed"]] = math.nan if value is None else value
            architectures[row["key"]] = row["architecture_key"]
    return [(k, architectures[k], {"error": statistics.fmean(seeds.values())}) for k, seeds in newest.items()]


def told(values: Any) -> dict[str, float]:
    return {name: float(value["value"]) for name, value in values.items()}


def test_the_front_of_then_is_the_front_of_what_was_told_then(store: Store, make_lab: Callable[[], Any]) -> None:
    numbers = st.integers(0, 6).map(float)

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4), min_size=1, max_size=4))
    def check(batches: list[list[tuple[float, float]]]) -> None:
        lab = make_lab()
        study = lab.study(f"study-{lab.identity}", reference=(7.0, 7.0))
        for i, batch in enumerate(batches):
            records = lab.propose(study, *(f"{i}-{j}" for j in range(len(batch))))
            values = [{"error": error, "latency_ms@cpu": latency} for error, latency in batch]
            store.record(study, 1, [lab.outcome(r, v) for r, v in zip(records, values, strict=True)])
        told = [point for batch in batches for point in batch]
        volumes = dict(store.hypervolume_history(study))
        volume = 0.0
        for sequence in range(1, len(told) + 1):
            front = store.front(study=study, at_sequence=sequence)
            then = told[:sequence]
            best = sorted(p for p in then if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in then))
            assert sorted(tuple(v.value for v in p.values.values()) for p in front.points) == best
            volume = volumes.get(sequence, volume)
            assert front.hypervolume == volume

    check()


def test_the_incremental_path_does_not_read_the_archive(store: Store, lab: Any) -> None:
    """The number of statements per record does not depend on how many outcomes it has, or were there before."""
    from sqlalchemy import event

    study = lab.study()
    seen: list[str] = []
    event.listen(store._writer, "before_cursor_execute", lambda c, k, statement, *rest: seen.append(statement))

    def statements(start: int, size: int) -> int:
        records = lab.propose(study, *(str(start + i) for i in range(size)))
        told = [{"error": float(r.proposal.number), "latency_ms@cpu": -float(r.proposal.number)} for r in records]
        outcomes = [
            lab.outcome(r, v, sessions=(lab.session(r.architecture_key, v["latency_ms@cpu"]),))
            for r, v in zip(records, told, strict=True)
        ]
        seen.clear()
        store.record(study, 1, outcomes)
        return len(seen)

    statements(0, 30)  # the reference point is frozen here
    assert statements(30, 1) == statements(31, 50) == statements(90, 1) <= 25
