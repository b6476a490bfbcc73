"""The few statements that the two databases spell differently."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable, FromClause, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert_new"]


def insert_new(connection: Connection, table: FromClause, rows: Sequence[Mapping[str, Any]], *unique: str) -> None:
    """Insert the rows that do not exist yet. `unique` are the columns that decide; none means any unique constraint."""
    if rows:
        assert isinstance(table, Table)
        connection.execute(_insert_new(connection.dialect.name, table, unique), list(rows))


@functools.cache
def _insert_new(database: str, table: Table, unique: tuple[str, ...]) -> Executable:
    dialect = postgresql if database == "postgresql" else sqlite
    statement: Executable = dialect.insert(table).on_conflict_do_nothing(index_elements=unique or None)
    return statement
