"""Who works on what: leases of proposals to pilots, fenced, given back when a pilot dies or stalls."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from archfront.cluster._trial import TrialResult
from archfront.search._types import Configuration

__all__ = ["LARGEST_LEASE", "PATIENCE_SECONDS", "Leases", "Work", "lease_size"]

LEASE_SECONDS = 0.1
"""Of work in one lease, as far as the mean of the evaluations so far says: a call costs a millisecond."""
LARGEST_LEASE = 256
CALL_SECONDS = 0.003
"""Of a pilot's call: work for less is not divided among the slots."""
PATIENCE_SECONDS = 60.0
"""A pilot that was not heard for so long is stalled."""
WEIGHT = 0.3
"""Of the newest lease in the running mean of seconds per evaluation."""


@dataclass(frozen=True)
class Work:
    """A proposal to evaluate."""

    proposal: str
    config: Configuration


@dataclass
class _Slot:
    """A place where one pilot at a time works. `leased` by proposal."""

    incarnation: str
    heard: float
    leased: dict[str, Work] = field(default_factory=dict)


def lease_size(seconds: float) -> int:
    """Evaluations of so many seconds in one lease; 1 while nothing is known (NaN)."""
    return 1 if math.isnan(seconds) else int(min(max(LEASE_SECONDS / max(seconds, 1e-9), 1), LARGEST_LEASE))


class Leases:
    """The proposals of one sitting that are out. Knows neither Ray nor time: `clock` gives monotonic seconds.

    Each call of a pilot carries its slot and incarnation; a slot has one incarnation at a time, and what any other one
    says is refused. A proposal comes back once, whatever happens: as a result, or as failed when `deaths` of its leases
    died. A proposal whose lease died once is leased alone, so that its next death tells who the culprit is.
    """

    def __init__(self, clock: Callable[[], float], *, deaths: int = 2, patience: float = PATIENCE_SECONDS) -> None:
        self._clock, self._limit, self._patience = clock, deaths, patience
        self._slots: dict[str, _Slot] = {}
        self._waiting: deque[Work] = deque()
        self._suspects: deque[Work] = deque()
        self._deaths: dict[str, int] = {}
        self._results: list[TrialResult] = []
        self.mean = math.nan
        """Seconds per evaluation; NaN before the first."""
        self.barren = 0
        """Deaths of pilots since the last result."""

    @property
    def out(self) -> int:
        """Proposals offered whose results were not taken."""
        leased = sum(len(slot.leased) for slot in self._slots.values())
        return leased + len(self._waiting) + len(self._suspects) + len(self._results)

    @property
    def slots(self) -> int:
        """Slots with a pilot."""
        return len(self._slots)

    def offer(self, work: Sequence[Work]) -> None:
        """Proposals that pilots may take from now on."""
        self._waiting.extend(work)

    def join(self, slot: str, incarnation: str) -> None:
        """A pilot begins in a slot. Its predecessor is dead, or as good as."""
        self._drop(slot)
        self._slots[slot] = _Slot(incarnation, self._clock())

    def leave(self, slot: str) -> None:
        """The pilot of a slot is dead, perhaps before it could join."""
        self._drop(slot)
        self.barren += 1

    def hear(self, slot: str, incarnation: str) -> bool:
        """A sign of life; False from a pilot that is refused."""
        here = self._slots.get(slot)
        if here is None or here.incarnation != incarnation:
            return False
        here.heard = self._clock()
        return True

    def exchange(
        self, slot: str, incarnation: str, results: Sequence[TrialResult], seconds: float = 0.0
    ) -> list[Work] | Literal["refused"]:
        """A pilot's results, which took it so many seconds, and what it works on next: nothing when nothing waits.
        Results of proposals that it has no lease of are dropped; what it was leased and does not return is leased
        again."""
        if not self.hear(slot, incarnation):
            return "refused"
        here = self._slots[slot]
        if results:
            self._learn(seconds / len(results))
            self.barren = 0
        for result in results:
            if here.leased.pop(result.proposal, None) is not None:
                self._deaths.pop(result.proposal, None)
                self._results.append(result)
        self._waiting.extendleft(reversed(here.leased.values()))
        work = self._taken()
        here.leased = {one.proposal: one for one in work}
        return work

    def expire(self) -> list[str]:
        """Take the leases of stalled pilots away: the slots. Their pilots are refused when they come back."""
        now = self._clock()
        stalled = [name for name, slot in self._slots.items() if slot.leased and now - slot.heard > self._patience]
        for slot in stalled:
            self._drop(slot, "stalled")
        return stalled

    def take(self) -> list[TrialResult]:
        """The results since the last call."""
        taken, self._results = self._results, []
        return taken

    @property
    def ready(self) -> bool:
        """Whether `take` has something."""
        return bool(self._results)

    def _taken(self) -> list[Work]:
        if self._suspects:
            return [self._suspects.popleft()]
        fair = math.ceil(len(self._waiting) / max(1, len(self._slots)))
        worth = 1 if math.isnan(self.mean) else int(CALL_SECONDS / max(self.mean, 1e-9))
        size = min(max(fair, worth), lease_size(self.mean), len(self._waiting))
        return [self._waiting.popleft() for _ in range(size)]

    def _learn(self, seconds: float) -> None:
        self.mean = seconds if math.isnan(self.mean) else (1 - WEIGHT) * self.mean + WEIGHT * seconds

    def _drop(self, name: str, how: str = "died") -> None:
        slot = self._slots.pop(name, None)
        if slot is None:
            return
        for work in slot.leased.values():
            deaths = self._deaths[work.proposal] = self._deaths.get(work.proposal, 0) + 1
            if deaths < self._limit:
                self._suspects.append(work)
                continue
            del self._deaths[work.proposal]
            error = f"the worker process {how} ({deaths} times)"
            self._results.append(TrialResult(work.proposal, "failed", error=error))
