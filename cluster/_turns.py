"""Trainings and measurements on one host take turns: trainings share the host, a measurement has it alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from archfront.cluster._locks import locked
from archfront.trainers._types import Report

__all__ = ["TrainingTurns", "measuring_turn"]

TURN_SECONDS = 24 * 3600.0
"""The longest turn that others wait for: an epoch (of a 224-pixel network on a CPU: hours), or all that is measured at
once. Whoever gives up loses a training, and a process that dies gives its turn back at once."""


class TrainingTurns:
    """The turns of one training on this host. `seconds` is how long it held them: what it cost without its pauses."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a turn while computing, an epoch at most: a measurement waits for its end. Report outside of it:
        whoever hears the report may be measuring. Raises MeasurementError when a measurement does not end."""
        busy = "something has been measured on this host"
        with locked("queue", limit_s=TURN_SECONDS, busy=busy, shared=True):
            pass  # stand behind a measurement that waits: shared locks would pass it forever
        with locked("host", limit_s=TURN_SECONDS, busy=busy, shared=True):
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
    """Wait until the trainings of this host are between two turns, and keep them there.

    Raises MeasurementError when one does not come to the end of its turn.
    """
    busy = "a training on this host has not paused"
    with locked("queue", limit_s=TURN_SECONDS, busy=busy), locked("host", limit_s=TURN_SECONDS, busy=busy):
        yield
