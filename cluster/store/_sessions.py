"""Values of architectures: measuring sessions, each a row, and analytic values, stored once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from archfront.cluster.store._codec import chunks, finite
from archfront.cluster.store._models import AnalyticValue, DeviceValue, StudyRow
from archfront.cluster.store._records import DeviceSession
from archfront.cluster.store._sql import insert_new

__all__ = ["insert_analytic", "insert_sessions"]

_Where = tuple[str, str]  # space identity, signature
_UNIQUE = ("identity", "signature", "architecture_key", "device", "metric", "session")


def insert_sessions(connection: Connection, sessions: Sequence[DeviceSession]) -> dict[_Where, set[str]]:
    """Store the sessions that are not there yet: the architectures that got one, by (identity, signature)."""
    if not sessions:
        return {}
    known = _known(connection, sessions)
    names = sorted({session.study for session in sessions if session.study is not None})
    query = select(StudyRow.name, StudyRow.id).where(StudyRow.name.in_(names))
    studies = {row.name: row.id for row in connection.execute(query)} if names else {}
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    new: dict[_Where, set[str]] = defaultdict(set)
    for session in sessions:
        place = tuple(str(getattr(session, name)) for name in _UNIQUE)
        if place not in known:
            rows.setdefault(place, _row(session, studies.get(session.study or "")))
            new[session.identity, session.signature].add(session.architecture_key)
    insert_new(connection, DeviceValue.__table__, list(rows.values()), *_UNIQUE)
    return dict(new)


def insert_analytic(
    connection: Connection, identity: str, signature: str, values: Mapping[tuple[str, str], float]
) -> set[str]:
    """Store values by (architecture key, metric) that are not there yet: the architectures that got one."""
    known: set[tuple[str, str]] = set()
    for part in chunks(sorted({architecture for architecture, _ in values})):
        query = select(AnalyticValue.architecture_key, AnalyticValue.metric).where(
            AnalyticValue.identity == identity,
            AnalyticValue.signature == signature,
            AnalyticValue.architecture_key.in_(part),
        )
        known.update((architecture, metric) for architecture, metric in connection.execute(query))
    where = {"identity": identity, "signature": signature}
    rows = [
        {**where, "architecture_key": place[0], "metric": place[1], "value": finite(value)}
        for place, value in values.items()
        if place not in known
    ]
    insert_new(connection, AnalyticValue.__table__, rows)
    return {str(row["architecture_key"]) for row in rows}


def _known(connection: Connection, sessions: Sequence[DeviceSession]) -> set[tuple[str, ...]]:
    """The sessions of these architectures and devices that are stored already."""
    columns = [DeviceValue.__table__.c[name] for name in _UNIQUE]
    known: set[tuple[str, ...]] = set()
    for part in chunks(sorted({session.architecture_key for session in sessions})):
        query = select(*columns).where(
            DeviceValue.identity.in_({session.identity for session in sessions}),
            DeviceValue.signature.in_({session.signature for session in sessions}),
            DeviceValue.architecture_key.in_(part),
            DeviceValue.device.in_({session.device for session in sessions}),
        )
        known.update(tuple(row) for row in connection.execute(query))
    return known


def _row(session: DeviceSession, study: int | None) -> dict[str, Any]:
    place = {name: getattr(session, name) for name in _UNIQUE}
    numbers = ("value", "minimum", "median", "spread", "reference_drift")
    return {
        **place,
        **{name: finite(getattr(session, name)) for name in numbers},
        "kind": session.kind,
        "n": session.n,
        "study_id": study,
        "created": session.created or time.time(),
    }
