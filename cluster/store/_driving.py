"""Who runs a study: one process at a time. The claim ends with its process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from archfront.cluster.store._core import Opened
from archfront.spaces._errors import StoreError

__all__ = ["DrivingMethods"]


class DrivingMethods(Opened):
    """The store's method about the process that runs a study."""

    @contextlib.contextmanager
    def driving(self, study: str) -> Iterator[None]:
        """Be the one that runs this study, which may not exist yet. Raises StoreError when another one is.

        Beside an SQLite file a lock on a small file, on a server an advisory lock of a connection: a process that is
        killed releases it at once, so that `resume` need not wait.
        """
        claimed = self._on_server(study) if self._file is None else _on_file(self._file, study)
        with claimed:
            yield

    @contextlib.contextmanager
    def _on_server(self, study: str) -> Iterator[None]:
        with self._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            schema = connection.scalar(text("select current_schema()"))  # several stores may share a database
            name = f"archfront {schema} {study}"
            key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
            if not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": key}):
                raise _busy(study, "another process")
            try:
                yield
            finally:
                with contextlib.suppress(Exception):  # a connection that broke holds nothing any more
                    connection.execute(text("select pg_advisory_unlock(:key)"), {"key": key})


@contextlib.contextmanager
def _on_file(store: Path, study: str) -> Iterator[None]:
    path = store.with_name(f"{store.name}-run-{hashlib.sha256(study.encode()).hexdigest()[:16]}")
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise _busy(study, file.read() or "another process") from None
            if not _same(path, file.fileno()):
                continue  # its last owner has just removed it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _busy(study: str, who: str) -> StoreError:
    return StoreError(
        f"study {study!r} is being run by {who}",
        f"wait for it, or stop it; what it has found so far: archfront front --study {study}",
    )
