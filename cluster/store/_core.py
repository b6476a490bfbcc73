"""An open store: one writer, many readers, one place where database errors become ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from archfront.cluster.store._engine import address, engines, explained, shown, sqlite_file
from archfront.cluster.store._front_cache import FrontCache
from archfront.cluster.store._migrate import check_file, is_current, is_there, migrate
from archfront.cluster.store._records import NoStoreError

__all__ = ["Opened"]

T = TypeVar("T")
_RETRY_AFTER_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""A server that is started again is waited for, half a minute in all."""
_RETRIABLE = {"40001", "40P01"}  # serialisation failure, deadlock


class Opened:
    """A store's connections. Raises StoreError when it cannot be opened; an older store is upgraded. Where there is
    none it is made, or with `create=False` NoStoreError is raised."""

    def __init__(self, url: str | None = None, *, files: str | None = None, create: bool = True) -> None:
        self._address = address(url)
        self._file = sqlite_file(self._address)
        self._files_url = files or os.environ.get("ARCHFRONT_FILES") or None
        if self._file is not None:
            check_file(self._file)
            if not create and not self._file.exists():
                raise self._absent()
        self._writer, self._reader = engines(self._address)
        self._lock = threading.RLock()
        self._cache = FrontCache()
        self._answered = False
        try:
            if not create and not self._read(is_there):
                raise self._absent()
            if not self._read(is_current):  # a reader need not wait for another process's write
                self._write(lambda connection: migrate(connection, str(self._file or self.url)))
            self._answered = True
        except BaseException:
            self.close()
            raise

    def _absent(self) -> NoStoreError:
        return NoStoreError(f"there is no store at {self._file or self.url}", "a search makes one, or give --store")

    @property
    def url(self) -> str:
        """The store's address, without a password."""
        return shown(self._address)

    def close(self) -> None:
        """Close every connection; calling it again does nothing."""
        self._writer.dispose()
        self._reader.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, question: Callable[[Connection], T]) -> T:
        """`question` in one snapshot; readers never block the writer."""

        def once() -> T:
            with self._reader.begin() as connection:
                return question(connection)

        return self._patiently(once)

    def _write(self, change: Callable[[Connection], T]) -> T:
        """`change` in one transaction. It may run again when a server drops the connection: it must be repeatable."""

        def once() -> T:
            try:
                with self._writer.begin() as connection:
                    return change(connection)
            except BaseException:
                self._cache.clear()  # it may be ahead of what was committed
                raise

        with self._lock:
            return self._patiently(once)

    def _patiently(self, once: Callable[[], T]) -> T:
        lost = False
        for pause in (*_RETRY_AFTER_S, None):
            try:
                return once()
            except DBAPIError as error:
                lost = lost or (self._file is None and (_passing(error) or (self._answered and _away(error))))
                if not lost or pause is None:
                    raise explained(error, self._address) from error
                time.sleep(pause)
        raise AssertionError("the last pause is None")


def _passing(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed if it is tried again."""
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _RETRIABLE


def _away(error: DBAPIError) -> bool:
    """Whether nobody answers there now, where somebody did before: a server that is started again."""
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, OperationalError) and (state is None or state.startswith(("08", "57P")))
