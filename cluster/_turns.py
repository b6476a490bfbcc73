"""Trainings and measurements on one host take turns: trainings share the host, a measurement has it alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from archfront.cluster._locks import is_locked, locked
from archfront.trainers._types import Report

__all__ = ["TrainingTurns", "measuring_turn"]

TURN_SECONDS = 2 * 3600.0
"""The longest turn that others wait for: what a training does between two pauses (a batch, a validation, an epoch of a
trainer that does not pause), or all that is measured at once. Whoever gives up loses a training, and a process that
dies gives its turn back at once."""


class TrainingTurns:
    """The turns of one training on this host. `seconds` is how long it held them: what it cost without its pauses."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._turn = ExitStack()
        self._since: float | None = None

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a turn while computing; `pause` meanwhile, as often as possible. Report outside of it: whoever hears
        the report may be measuring. Raises MeasurementError when a measurement does not end."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    def pause(self) -> None:
        """Let a measurement that waits go first. Costs microseconds where none does. Raises MeasurementError."""
        if self._since is not None and is_locked("queue"):
            self._end()
            self._begin()

    def paced(self, reports: Iterator[Report]) -> Iterator[Report]:
        """A training's reports, each computed in a turn of its own."""
        while True:
            with self.take():
                report = next(reports, None)
            if report is None:
                return
            yield report

    def _begin(self) -> None:
        busy = "something has been measured on this host"
        with locked("queue", limit_s=TURN_SECONDS, busy=busy, shared=True):
            pass  # stand behind a measurement that waits: shared locks would pass it forever
        self._turn.enter_context(locked("host", limit_s=TURN_SECONDS, busy=busy, shared=True))
        self._since = time.perf_counter()

    def _end(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None
        self._turn.close()


@contextmanager
def measuring_turn() -> Iterator[None]:
    """Wait until the trainings of this host pause, and keep them there: nothing else is trained or measured.

    Raises MeasurementError when one does not come to the end of its turn.
    """
    busy = "a training or a measurement on this host has not paused"
    with locked("queue", limit_s=TURN_SECONDS, busy=busy), locked("host", limit_s=TURN_SECONDS, busy=busy):
        yield
