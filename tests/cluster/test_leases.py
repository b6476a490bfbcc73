"""Leases: every proposal comes back once, whatever dies, stalls or comes too late."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from archfront.cluster._leases import LARGEST_LEASE, LEASE_SECONDS, Leases, Work, lease_size
from archfront.cluster._trial import TrialResult


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def work(*names: str) -> list[Work]:
    return [Work(name, {}) for name in names]


def ok(*names: str) -> list[TrialResult]:
    return [TrialResult(name, "ok") for name in names]


def names(answer: object) -> list[str]:
    assert isinstance(answer, list)
    return [one.proposal for one in answer]


def leases(**given: float) -> Leases:
    return Leases(given.pop("clock", Clock()), **given)  # type: ignore[arg-type]


def test_work_goes_out_and_comes_back_once() -> None:
    here = leases()
    here.join("a", "1")
    here.offer(work("x", "y"))
    assert names(here.exchange("a", "1", [])) == ["x"], "one while nothing is known of its cost"
    assert names(here.exchange("a", "1", ok("x"), 0.0001)) == ["y"]
    assert names(here.exchange("a", "1", ok("y", "x"), 0.0001)) == []
    assert [result.proposal for result in here.take()] == ["x", "y"]
    assert here.take() == []
    assert here.out == 0


def test_a_lease_is_about_a_tenth_of_a_second() -> None:
    assert lease_size(math.nan) == lease_size(10.0) == 1
    assert lease_size(LEASE_SECONDS / 8) == 8
    assert lease_size(0.0) == LARGEST_LEASE


def test_what_is_long_is_divided_and_what_is_short_is_not() -> None:
    for seconds, size in ((0.01, 5), (0.0001, 10)):
        here = leases()
        for slot in "ab":
            here.join(slot, slot)
        here.offer(work("first"))
        here.exchange("a", "a", [])
        here.offer(work(*map(str, range(10))))
        assert len(names(here.exchange("a", "a", ok("first"), seconds))) == size


def test_a_stale_incarnation_is_refused_and_its_results_dropped() -> None:
    here = leases()
    here.offer(work("x"))
    here.join("a", "1")
    here.exchange("a", "1", [])
    here.join("a", "2")
    assert here.exchange("a", "1", ok("x")) == "refused"
    assert not here.hear("a", "1")
    assert here.take() == []
    assert names(here.exchange("a", "2", [])) == ["x"]
    assert here.exchange("b", "1", []) == "refused", "never joined"


def test_what_died_is_leased_alone_and_poisoned_the_second_time() -> None:
    here = leases()
    here.join("a", "1")
    here.offer(work("first"))
    here.exchange("a", "1", [])
    here.offer(work("x", "y"))
    assert names(here.exchange("a", "1", ok("first"), 0.0001)) == ["x", "y"]
    here.leave("a")
    here.join("a", "2")
    here.offer(work("z"))
    assert names(here.exchange("a", "2", [])) == ["x"], "alone, and first"
    here.join("a", "3")
    assert names(here.exchange("a", "3", [])) == ["y"]
    assert names(here.exchange("a", "3", ok("y"), 0.1)) == ["z"]
    first, x, y = here.take()
    assert (first.status, x.status, y.status) == ("ok", "failed", "ok")
    assert x.error == "the worker process died (2 times)"


def test_a_stalled_pilot_loses_its_lease_and_is_refused_when_it_returns() -> None:
    clock = Clock()
    here = Leases(clock, patience=10.0)
    here.join("a", "1")
    here.offer(work("x"))
    here.exchange("a", "1", [])
    clock.now = 9.0
    assert here.hear("a", "1")
    clock.now = 18.0
    assert here.expire() == []
    clock.now = 19.5
    assert here.expire() == ["a"]
    assert here.exchange("a", "1", ok("x")) == "refused"
    here.join("b", "1")
    assert names(here.exchange("b", "1", [])) == ["x"]
    clock.now = 40.0
    here.expire()
    (result,) = here.take()
    assert result.error == "the worker process stalled (2 times)"


def test_a_pilot_that_waits_for_work_does_not_stall() -> None:
    clock = Clock()
    here = Leases(clock, patience=10.0)
    here.join("a", "1")
    clock.now = 1000.0
    assert here.expire() == []
    here.offer(work("x"))
    assert names(here.exchange("a", "1", [])) == ["x"]


def test_what_a_pilot_leaves_out_is_leased_again() -> None:
    here = leases()
    here.join("a", "1")
    here.offer(work("first"))
    here.exchange("a", "1", [])
    here.offer(work("x", "y"))
    here.exchange("a", "1", ok("first"), 0.0001)
    assert names(here.exchange("a", "1", ok("y"), 0.0001)) == ["x"]


def test_deaths_without_a_result_are_counted() -> None:
    here = leases()
    for _ in range(3):
        here.leave("a")
    assert here.barren == 3
    here.join("a", "1")
    here.offer(work("x"))
    here.exchange("a", "1", [])
    here.exchange("a", "1", ok("x"), 0.1)
    assert here.barren == 0


class Cluster(RuleBasedStateMachine):
    """Pilots that work, lose work, die, stall and come back late, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.leases = Leases(self.clock, patience=10.0)
        self.offered = 0
        self.back: Counter[str] = Counter()
        self.pilots: dict[tuple[str, str], list[str]] = {}
        self.born = 0

    @rule(n=st.integers(1, 5))
    def offer(self, n: int) -> None:
        self.leases.offer(work(*(str(self.offered + i) for i in range(n))))
        self.offered += n

    @rule(slot=st.sampled_from("abc"))
    def join(self, slot: str) -> None:
        self.born += 1
        self.leases.join(slot, str(self.born))
        self.pilots[slot, str(self.born)] = []

    @rule(slot=st.sampled_from("abc"))
    def leave(self, slot: str) -> None:
        self.leases.leave(slot)

    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.001, 0.02, 1.0]))
    def exchange(self, data: st.DataObject, seconds: float) -> None:
        if not self.pilots:
            return
        pilot = data.draw(st.sampled_from(sorted(self.pilots)))
        leased = self.pilots[pilot]
        kept = leased if data.draw(st.booleans()) else leased[::2]
        answer = self.leases.exchange(*pilot, ok(*kept), seconds)
        if answer == "refused":
            del self.pilots[pilot]
        else:
            self.pilots[pilot] = names(answer)

    @rule(seconds=st.sampled_from([1.0, 6.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.leases.expire()

    @rule()
    def take(self) -> None:
        self.back.update(result.proposal for result in self.leases.take())

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert self.leases.out + self.back.total() == self.offered
        assert all(count == 1 for count in self.back.values())

    def teardown(self) -> None:
        self.leases.join("last", "pilot")
        for slot in "abc":
            self.leases.leave(slot)
        done: list[str] = []
        while done or self.leases.out:
            done = names(self.leases.exchange("last", "pilot", ok(*done)))
            self.take()
        assert sorted(self.back) == sorted(map(str, range(self.offered)))


Cluster.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCluster = Cluster.TestCase


@pytest.mark.parametrize("deaths", [1, 3])
def test_how_many_deaths_are_too_many_is_the_studys_choice(deaths: int) -> None:
    here = leases(deaths=deaths)
    here.offer(work("x"))
    for i in range(deaths):
        here.join("a", str(i))
        assert names(here.exchange("a", str(i), [])) == ["x"]
    here.leave("a")
    assert [result.status for result in here.take()] == ["failed"]
