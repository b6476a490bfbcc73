"""Locks of this user on this host, by name: the operating system releases them when their process dies."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from archfront.spaces._errors import MeasurementError

__all__ = ["locked"]


@contextmanager
def locked(name: str, *, limit_s: float, busy: str, shared: bool = False) -> Iterator[TextIO]:
    """Hold the lock; its file, which may remember something, is open meanwhile.

    Raises MeasurementError, which begins with `busy`, when others hold it for longer than `limit_s`.
    """
    path = Path(tempfile.gettempdir()) / f"archfront-{os.getuid()}-{name}.lock"
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a+") as file:
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
        yield file
