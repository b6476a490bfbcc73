"""The few statements that the two databases spell differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, FromClause, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert_new"]


def insert_new(connection: Connection, table: FromClause, rows: Sequence[Mapping[str, Any]], *unique: str) -> None:
    """Insert the rows that do not exist yet. `unique` are the columns that decide; none means any unique constraint."""
    if not rows:
        return
    assert isinstance(table, Table)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing(index_elements=unique or None)
    connection.execute(statement, list(rows))
