"""Where the store is: its address, its engines, and what their errors mean."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from archfront.cluster.store._codec import dumps, loads
from archfront.spaces._errors import StoreError

__all__ = ["DEFAULT_URL", "address", "engines", "explained", "shown", "sqlite_file"]

DEFAULT_URL = "sqlite:///archfront.db"
_PRAGMAS = (
    "journal_mode=wal",
    "synchronous=full",
    "busy_timeout=30000",
    "foreign_keys=on",
    "wal_autocheckpoint=10000",  # pages: a page that a thousand transactions change is copied back once, not often
)
_POSTGRES = {"postgresql", "postgres", "postgresql+psycopg"}


def address(url: str | None) -> URL:
    """`url`, else $ARCHFRONT_STORE, else archfront.db here. A text without "://" is the path of an SQLite file.

    Raises StoreError for an address that is neither SQLite nor PostgreSQL.
    """
    text = url or os.environ.get("ARCHFRONT_STORE") or DEFAULT_URL
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        parsed = make_url(text)
    except ArgumentError as error:
        raise StoreError(
            f"store address {text!r} cannot be read", "write sqlite:///FILE or postgresql://HOST/NAME"
        ) from error
    if parsed.drivername in _POSTGRES:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise StoreError(
            f"store {shown(parsed)!r} is neither SQLite nor PostgreSQL",
            "write sqlite:///FILE or postgresql://HOST/NAME",
        )
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise StoreError(f"store {text!r} names no file", "a store must outlive its process: write sqlite:///FILE")
    return parsed.set(database=str(Path(parsed.database).expanduser()))


def shown(url: URL) -> str:
    """The address without its password."""
    return url.render_as_string(hide_password=True)


def sqlite_file(url: URL) -> Path | None:
    """The file of an SQLite store, absolute; None for a server."""
    return Path(str(url.database)).absolute() if url.get_backend_name() == "sqlite" else None


def engines(url: URL) -> tuple[Engine, Engine]:
    """The writer's engine and the readers' (one and the same on PostgreSQL). Opens no connection."""
    if sqlite_file(url) is None:
        server = _postgres(url)
        return server, server
    writer, reader = (create_engine(url, json_serializer=dumps, json_deserializer=loads) for _ in range(2))
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _beginner(begin))
    return writer, reader


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    for pragma in _PRAGMAS:
        connection.execute(f"pragma {pragma}")


def _beginner(statement: str) -> Any:
    # A deferred transaction that reads and then writes fails at once when another process committed in between.
    return lambda connection: connection.exec_driver_sql(statement)


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(url, json_serializer=dumps, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"store {shown(url)!r} needs {error.name}, which is not installed", "pip install 'archfront[postgres]'"
        ) from error


def explained(error: DBAPIError, url: URL) -> StoreError:
    """What a database's error means, which store it is about, and the way out."""
    text = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error).__name__
    where = str(sqlite_file(url) or shown(url))
    if isinstance(error, IntegrityError):
        return StoreError(f"store {where} refused a change: {text}", "nothing of this change was stored")
    if sqlite_file(url) is None:
        return StoreError(f"store {where} does not answer: {text}", "is the server up? What was committed stays")
    for symptom, hint in _WAYS_OUT.items():
        if symptom in text:
            return StoreError(f"store {where}: {text}", hint)
    return StoreError(f"store {where}: {text}", "what was committed stays")


_WAYS_OUT = {
    "full": "free some space and resume; what was committed stays",
    "locked": "another process writes for more than 30 s: end it or wait, then resume; what was committed stays",
    "readonly": "make the file and its folder writable, or give --store another one; what was committed stays",
    "unable to open": "its folder must exist and be writable (SQLite keeps files beside it), or give --store another",
    "not a database": "this is no SQLite file: give --store another one",
    "malformed": "the file is damaged: copy it, then try `sqlite3 FILE .recover`",
}
