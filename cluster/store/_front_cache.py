"""Fronts kept in memory between writes, as long as nobody else changed them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from archfront.cluster._front import Front
from archfront.cluster.store._front_spec import FrontSpec
from archfront.cluster.store._models import FrontPointRow

__all__ = ["FrontCache"]


class FrontCache:
    """The present members of each front, by front id, with the version they belong to."""

    def __init__(self) -> None:
        self.specs: dict[int, FrontSpec] = {}
        """What each front asks for, which never changes; only the version that it was read with is old."""
        self._kept: dict[int, tuple[int, Front]] = {}

    def front(self, connection: Connection, spec: FrontSpec) -> Front:
        """The members as of `spec.version`, read again when another writer was there. The caller holds its lock."""
        version, front = self._kept.get(spec.id, (-1, None))
        if front is None or version != spec.version:
            front = Front(len(spec.objectives))
            query = (
                select(FrontPointRow.key, FrontPointRow.values)
                .where(FrontPointRow.front_id == spec.id, FrontPointRow.left_sequence.is_(None))
                .order_by(FrontPointRow.id)
            )
            for key, values in connection.execute(query):
                front.add(key, [o.loss(float(values[o.name]["value"])) for o, _ in spec.objectives])
            self._kept[spec.id] = (spec.version, front)
        return front

    def advance(self, front_id: int, version: int) -> None:
        """The front in memory now is that of `version`."""
        self._kept[front_id] = (version, self._kept[front_id][1])

    def clear(self) -> None:
        """Read everything again."""
        self._kept.clear()
        self.specs.clear()
