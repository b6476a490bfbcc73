"""Bring a store to the present tables, or say why not."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from archfront.cluster.store._models import Base
from archfront.spaces._errors import StoreError

__all__ = ["HEAD", "REVISIONS", "VERSION_TABLE", "check_file", "is_current", "is_there", "migrate"]

VERSION_TABLE = "archfront_version"
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every revision this archfront knows, oldest first; a test compares them with the migrations folder."""
HEAD = REVISIONS[-1]
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x61726368  # any number, the same for all: one migration at a time on a server


def check_file(path: Path) -> None:
    """Raise StoreError, the file untouched, unless it is absent, empty, or a store of this or an older archfront."""
    if not path.parent.is_dir():
        raise StoreError(f"store {path}: the folder {path.parent} does not exist", "create it, or give --store another")
    if not path.exists():
        return
    if not path.is_file():
        raise StoreError(f"store {path} is not a file", "give --store the path of a file")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StoreError(f"store {path} cannot be read: {error.strerror}", "give --store another one") from error
    if not head:
        return
    if head != b"SQLite format 3\0":
        raise StoreError(f"{path} is not an archfront store", "it is no SQLite file: give --store another path")
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            revisions = (
                connection.execute(f"select version_num from {VERSION_TABLE}") if VERSION_TABLE in tables else ()
            )
            _check(str(path), tables, [revision for (revision,) in revisions], strict=True)
    except sqlite3.Error as error:
        raise StoreError(f"store {path} cannot be read: {error}", "what was committed stays") from error


def is_there(connection: Connection) -> bool:
    """Whether there is a store, of whatever revision."""
    return inspect(connection).has_table(VERSION_TABLE)


def is_current(connection: Connection) -> bool:
    """Whether there is nothing to create or upgrade."""
    return is_there(connection) and _revisions(connection) == [HEAD]


def migrate(connection: Connection, where: str) -> None:
    """Create or upgrade the tables within the caller's transaction. Raises StoreError for a store we do not know."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    tables = set(inspect(connection).get_table_names())
    revisions: list[str] = []
    if VERSION_TABLE in tables:
        revisions = _revisions(connection)
    _check(where, tables, revisions, strict=connection.dialect.name == "sqlite")
    if revisions != [HEAD]:
        upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` in the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config(stdout=io.StringIO(), output_buffer=io.StringIO())
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revisions(connection: Connection) -> list[str]:
    return list(connection.scalars(text(f"select version_num from {VERSION_TABLE}")))


def _check(where: str, tables: set[str], revisions: list[str], *, strict: bool) -> None:
    """`strict`: a file is ours alone; a server's schema may hold other people's tables beside ours."""
    if VERSION_TABLE not in tables:
        foreign = tables - {"sqlite_sequence"} if strict else tables & set(Base.metadata.tables)
        if foreign:
            names = ", ".join(sorted(foreign)[:5])
            raise StoreError(
                f"{where} is not an archfront store: it holds tables of something else ({names})",
                "give --store another one",
            )
        return
    unknown = sorted(set(revisions) - set(REVISIONS))
    if unknown:
        raise StoreError(
            f"store {where} was written by a newer archfront (revision {', '.join(unknown)}, this one knows {HEAD})",
            "upgrade archfront, or give --store another one",
        )
