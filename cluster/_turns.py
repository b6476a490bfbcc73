"""Trainings and measurements on one host take turns: trainings share the host, a measurement has it alone."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from archfront.trainers._types import Report

__all__ = ["TrainingTurns", "measuring_turn"]


class TrainingTurns:
    """The turns of one training on this host. `seconds` is how long it held them: what it cost without its pauses."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a turn while computing, an epoch at most: a measurement waits for its end. Report outside of it:
        whoever hears the report may be measuring."""
        with _locked("queue", fcntl.LOCK_SH):
            pass  # stand behind a measurement that waits: shared locks would pass it forever
        with _locked("host", fcntl.LOCK_SH):
            started = time.perf_counter()
            try:
                yield
            finally:
                self.seconds += time.perf_counter() - started

    def paced(self, reports: Iterator[Report]) -> Iterator[Report]:
        """A training's reports, each computed in a turn of its own."""
        while True:
            with self.take():
                report = next(reports, None)
            if report is None:
                return
            yield report


@contextmanager
def measuring_turn() -> Iterator[None]:
    """Wait until the trainings of this host are between two turns, and keep them there."""
    with ExitStack() as held:
        held.enter_context(_locked("queue", fcntl.LOCK_EX))
        held.enter_context(_locked("host", fcntl.LOCK_EX))
        yield


@contextmanager
def _locked(name: str, how: int) -> Iterator[None]:
    """A lock of this user on this host; the operating system releases it when its process dies."""
    path = Path(tempfile.gettempdir()) / f"archfront-{os.getuid()}-{name}.lock"
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield
