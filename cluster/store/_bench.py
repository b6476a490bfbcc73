"""Rows of comparisons: finished ones are kept, so that the same command continues."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, delete, select

from archfront.cluster.store._codec import chunks
from archfront.cluster.store._core import Opened
from archfront.cluster.store._models import BenchRow
from archfront.cluster.store._sql import insert_new

__all__ = ["BenchMethods"]


class BenchMethods(Opened):
    """The store's methods about comparisons."""

    def add_bench(self, kind: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Store content (JSON) by what it measured; what is stored already stays as it is."""
        now = time.time()
        new = [{"kind": kind, "what": what, "content": dict(c), "created": now} for what, c in rows.items()]
        self._write(lambda connection: insert_new(connection, BenchRow.__table__, new, "kind", "what"))

    def remove_bench(self, kind: str, whats: Collection[str]) -> None:
        """Forget what is to be measured again."""

        def remove(connection: Connection) -> None:
            for part in chunks(sorted(whats)):
                connection.execute(delete(BenchRow).where(BenchRow.kind == kind, BenchRow.what.in_(part)))

        self._write(remove)

    def bench(self, kind: str, whats: Collection[str]) -> dict[str, dict[str, Any]]:
        """Stored content by what it measured; what nobody measured is left out."""

        def read(connection: Connection) -> dict[str, dict[str, Any]]:
            found: dict[str, dict[str, Any]] = {}
            for part in chunks(sorted(whats)):
                query = select(BenchRow.what, BenchRow.content).where(BenchRow.kind == kind, BenchRow.what.in_(part))
                found.update((what, content) for what, content in connection.execute(query))
            return found

        return self._read(read)
