"""What a chaos search evaluates: a function that takes a while, one whose clock jumps, a trainer that keeps a diary."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from archfront.trainers._types import Report
from archfront.trainers.backprop import Backprop
from tests.cluster import toys

__all__ = ["DIARY", "JUMPS", "PACE", "Diary", "paced"]

PACE = "CHAOS_PACE"
"""Seconds that an evaluation, or an epoch of a training, takes, about."""
JUMPS = "CHAOS_JUMPS"
"""Any text: wall clocks jump by up to a day, forwards and backwards, in every process that evaluates or drives."""
DIARY = "CHAOS_DIARY"
"""The folder where `Diary` writes."""


def paced(config: Mapping[str, Any]) -> dict[str, float]:
    """`toys.two`, at random delays."""
    _wait()
    return toys.two(config)


def _wait() -> None:
    time.sleep(random.uniform(0.5, 1.5) * float(os.environ.get(PACE, "0")))


class Diary(Backprop):
    """Writes down every epoch that it trains, in a file per configuration."""

    def run(self) -> Iterator[Report]:
        key = self.space.search_space.key(self.config)
        for report in super().run():
            _wait()
            with (Path(os.environ[DIARY]) / key).open("a") as file:
                file.write(f"{report.step}\n")
            yield report


def _jumping(now: Callable[[], float]) -> Callable[[], float]:
    """A wall clock that is set anew five times a second, by up to a day."""

    def read() -> float:
        return now() + random.Random(int(now() * 5)).uniform(-86_400, 86_400)

    return read


if JUMPS in os.environ:
    time.time = _jumping(time.time)
