"""Files of this user on this host, by name, and locks on them: a lock is released when its process dies."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archfront.spaces._errors import MeasurementError

__all__ = ["host_file", "is_locked", "locked"]


def host_file(name: str) -> Path:
    """Where this user's processes on this host find the file."""
    return Path(tempfile.gettempdir()) / f"archfront-{os.getuid()}-{name}"


@contextmanager
def locked(name: str, *, limit_s: float, busy: str, shared: bool = False) -> Iterator[None]:
    """Hold the lock. Raises MeasurementError, which begins with `busy`, when others hold it longer than `limit_s`."""
    path = host_file(f"{name}.lock")
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as file:
        deadline = time.monotonic() + limit_s
        while True:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise MeasurementError(
                        f"{busy} for {limit_s:.0f} s", f"another process of yours holds {path}"
                    ) from None
                time.sleep(0.01)
        yield


def is_locked(name: str) -> bool:
    """Whether somebody holds the lock for himself alone, now."""
    with host_file(f"{name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
