"""The leases behind an async Ray actor: pilots and the driver wait in its methods until there is news for them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from archfront.cluster._leases import Leases, Work
from archfront.cluster._trial import TrialResult
from archfront.cluster.store import Report

__all__ = ["Answer", "Controller", "News"]

POLL_SECONDS = 0.5
"""How long a call waits for news."""

Answer = list[Work] | Literal["refused", "over"]


@dataclass(frozen=True)
class News:
    """What the driver hears from a controller. `lost`: it is new and holds nothing of what its predecessor was offered.
    `mean`: seconds per evaluation, NaN at first; `barren`: deaths of pilots since the last result."""

    controller: str
    results: list[TrialResult] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    mean: float = math.nan
    barren: int = 0
    lost: bool = False


class Controller:
    """An async actor around `Leases`."""

    def __init__(self, deaths: int, patience: float) -> None:
        self.id = uuid.uuid4().hex
        self.leases = Leases(time.monotonic, deaths=deaths, patience=patience)
        self._over = False
        self._reports: list[Report] = []
        self._offered = asyncio.Event()
        self._came = asyncio.Event()

    async def join(self, slot: str, incarnation: str) -> None:
        """A pilot begins; what its predecessor had is leased again."""
        self.leases.join(slot, incarnation)
        self._wake()

    async def leave(self, slot: str) -> None:
        """A pilot died."""
        self.leases.leave(slot)
        self._wake()

    async def hear(self, slot: str, incarnation: str, reports: Sequence[Report] = ()) -> bool:
        """A sign of life, with reports of the evaluation that runs."""
        known = self.leases.hear(slot, incarnation)
        if known and reports:
            self._reports += reports
            self._came.set()
        return known

    async def exchange(
        self, slot: str, incarnation: str, results: Sequence[TrialResult], reports: Sequence[Report], seconds: float
    ) -> Answer:
        """Results, which took so many seconds, for work. An empty list: ask again."""
        if await self.hear(slot, incarnation, reports):
            work = self.leases.exchange(slot, incarnation, results, seconds)
            if self.leases.ready:
                self._came.set()
            if not work and not self._over:
                self._offered.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._offered.wait(), POLL_SECONDS)
                work = self.leases.exchange(slot, incarnation, ())
            if work or not self._over:
                return work
        return "over" if self._over else "refused"

    async def drive(self, known: str, work: Sequence[Work]) -> News:
        """The driver's call: more work, for what came back meanwhile. `known` is the controller that answered last; a
        new one takes nothing until the driver knows that."""
        if known and known != self.id:
            return News(self.id, lost=True)
        self.leases.offer(work)
        if work:
            self._offered.set()
        if not (self.leases.ready or self._reports):
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), POLL_SECONDS)
        if self.leases.expire():
            self._offered.set()
        reports, self._reports = self._reports, []
        leases = self.leases
        return News(self.id, leases.take(), reports, leases.mean, leases.barren)

    async def close(self) -> None:
        """Every pilot goes home with its next call."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._offered.set()
        self._came.set()
