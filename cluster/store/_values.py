"""What is known already: facts, device values, analytic values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from archfront.cluster.store._candidates import Slot, device_medians
from archfront.cluster.store._codec import chunks, number, stored_value
from archfront.cluster.store._core import Opened
from archfront.cluster.store._fronts import refresh_architectures
from archfront.cluster.store._models import AnalyticValue, DeviceValue, Observation, ObservationValue, StudyRow
from archfront.cluster.store._records import DeviceSession, Fact
from archfront.cluster.store._sessions import insert_analytic, insert_sessions
from archfront.search._types import Value

__all__ = ["ValueMethods"]


class ValueMethods(Opened):
    """The store's methods about values that outlive their study."""

    def fact(
        self, identity: str, task: str, key: str, *, protocol: str, train_seed: int, study: str | None = None
    ) -> Fact | None:
        """The newest usable observation, with its values; None when nobody made one.

        `identity` and `task` are identities. Private observations are seen by their own `study` only.
        """
        return self.facts(identity, task, [key], protocol=protocol, train_seed=train_seed, study=study).get(key)

    def facts(
        self,
        identity: str,
        task: str,
        keys: Sequence[str],
        *,
        protocol: str,
        train_seed: int,
        study: str | None = None,
    ) -> dict[str, Fact]:
        """`fact` for many keys at once, by key; keys without one are left out."""

        def read(connection: Connection) -> dict[str, Fact]:
            found: dict[str, Fact] = {}
            for part in chunks(keys):
                where = (
                    Observation.identity == identity,
                    Observation.task_identity == task,
                    Observation.protocol == protocol,
                    Observation.key.in_(part),
                    Observation.train_seed == train_seed,
                )
                found.update(_facts(connection, where, study))
            return found

        return self._read(read)

    def add_device_sessions(self, sessions: Sequence[DeviceSession]) -> int:
        """Store measuring sessions and bring the fronts they move up to date, in one transaction.

        Returns for how many architectures there is something new. A session that is stored already is ignored.
        """

        def add(connection: Connection) -> int:
            new = insert_sessions(connection, sessions)
            for (identity, signature), architectures in sorted(new.items()):
                refresh_architectures(connection, self._cache, identity, signature, architectures)
            return sum(len(architectures) for architectures in new.values())

        return self._write(add)

    def device_value(
        self, identity: str, signature: str, architecture_key: str, device: str, metric: str
    ) -> Value | None:
        """The median over all sessions (`n` of them, `std` between them), NaN where it cannot run on the device.

        `device` is a device identity. None when it was never measured.
        """
        return self.device_values(identity, signature, [architecture_key], device, metric).get(architecture_key)

    def device_values(
        self, identity: str, signature: str, architectures: Collection[str], device: str, metric: str
    ) -> dict[str, Value]:
        """`device_value` for many architectures at once, by architecture key."""
        slot: Slot = (metric, device)
        medians = self._read(lambda c: device_medians(c, identity, signature, {slot}, set(architectures)))
        wanted = set(architectures)
        return {a: values[slot] for a, values in medians.items() if a in wanted and slot in values}

    def values_by_device(self, identity: str, signature: str, metric: str) -> dict[str, dict[str, float]]:
        """The finite medians of a device metric, by device identity and architecture key."""
        here = (DeviceValue.identity == identity, DeviceValue.signature == signature, DeviceValue.metric == metric)

        def read(connection: Connection) -> dict[str, dict[str, float]]:
            slots = {
                (metric, device) for device in connection.scalars(select(DeviceValue.device).where(*here).distinct())
            }
            found: dict[str, dict[str, float]] = defaultdict(dict)
            for architecture, values in device_medians(connection, identity, signature, slots, None).items():
                for (_, device), value in values.items():
                    if math.isfinite(value.value):
                        found[device][architecture] = value.value
            return dict(found)

        return self._read(read)

    def measured_devices(self) -> dict[str, int]:
        """How many architectures have a value on each device, by device identity."""
        distinct = func.count(DeviceValue.architecture_key.distinct())
        query = select(DeviceValue.device, distinct).group_by(DeviceValue.device)
        return self._read(lambda connection: {str(device): int(n) for device, n in connection.execute(query)})

    def analytic_values(
        self, identity: str, signature: str, architectures: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """Analytic values by architecture key and metric; architectures without any are left out."""

        def read(connection: Connection) -> dict[str, dict[str, float]]:
            found: dict[str, dict[str, float]] = {}
            for part in chunks(architectures):
                query = select(AnalyticValue.architecture_key, AnalyticValue.metric, AnalyticValue.value).where(
                    AnalyticValue.identity == identity,
                    AnalyticValue.signature == signature,
                    AnalyticValue.architecture_key.in_(part),
                )
                for architecture, metric, value in connection.execute(query):
                    found.setdefault(architecture, {})[metric] = number(value)
            return found

        return self._read(read)

    def add_analytic_values(self, identity: str, signature: str, values: Mapping[str, Mapping[str, float]]) -> None:
        """Store analytic values by architecture key and metric; known ones are left as they are."""
        flat = {(arch, metric): value for arch, metrics in values.items() for metric, value in metrics.items()}

        def add(connection: Connection) -> None:
            new = insert_analytic(connection, identity, signature, flat)
            refresh_architectures(connection, self._cache, identity, signature, new)

        self._write(add)


def _facts(connection: Connection, where: Sequence[Any], study: str | None) -> dict[str, Fact]:
    mine = select(StudyRow.id).where(StudyRow.name == study).scalar_subquery()
    visible = (
        Observation.private.is_(False)
        if study is None
        else (Observation.private.is_(False) | (Observation.study_id == mine))
    )
    query = select(Observation.__table__).where(*where, Observation.usable, visible).order_by(Observation.id)
    newest = {row["key"]: row for row in connection.execute(query).mappings()}
    ids = [row["id"] for row in newest.values()]
    values: dict[int, dict[str, Value]] = {id_: {} for id_ in ids}
    columns = select(
        ObservationValue.observation_id, ObservationValue.metric, ObservationValue.value, ObservationValue.kind
    )
    for id_, metric, value, kind in connection.execute(columns.where(ObservationValue.observation_id.in_(ids))):
        values[id_][metric] = stored_value(value, kind)
    return {
        key: Fact(
            row["id"],
            key,
            row["architecture_key"],
            row["protocol"],
            row["train_seed"],
            values[row["id"]],
            row["created"],
        )
        for key, row in newest.items()
    }
