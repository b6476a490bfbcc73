"""Trainings share a host, a measurement has it alone, and gets its turn however many trainings there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from archfront.cluster import _locks, _turns
from archfront.cluster._evaluators import TrainingEvaluator
from archfront.cluster._turns import TrainingTurns, measuring_turn
from archfront.spaces._errors import MeasurementError
from archfront.spaces._toy import ToyImages
from archfront.trainers._types import Budget


@pytest.fixture(autouse=True)
def own_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_locks.tempfile, "gettempdir", lambda: str(tmp_path))


def test_trainings_share_the_host() -> None:
    both = threading.Barrier(2, timeout=30)

    def train() -> None:
        with TrainingTurns().take():
            both.wait()

    other = threading.Thread(target=train)
    other.start()
    train()
    other.join()


def test_a_measurement_is_alone_and_not_starved() -> None:
    """Two trainings whose turns overlap all the time, and a measurement that wants to come between."""
    stop = threading.Event()
    training = [False, False]

    def train(which: int) -> None:
        turns = TrainingTurns()
        while not stop.is_set():
            with turns.take():
                training[which] = True
                time.sleep(0.01 * (1 + which))
                training[which] = False

    threads = [threading.Thread(target=train, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            with measuring_turn():
                for _ in range(5):
                    assert training == [False, False]
                    time.sleep(0.002)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_whoever_does_not_end_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "TURN_SECONDS", 0.1)
    with TrainingTurns().take(), pytest.raises(MeasurementError, match="has not paused"), measuring_turn():
        pass
    with measuring_turn(), pytest.raises(MeasurementError, match="has been measured"), TrainingTurns().take():
        pass


def test_a_trial_pauses_between_epochs_and_its_seconds_do_not_count_that() -> None:
    """The measurement begins when the first epoch is reported."""
    release = threading.Event()
    measuring = threading.Event()
    epochs: list[int] = []

    def measure() -> None:
        with measuring_turn():
            measuring.set()
            release.wait(30)

    thread = threading.Thread(target=measure)

    def report(epoch: int, _: Mapping[str, float]) -> None:
        epochs.append(epoch)
        if epoch == 1:
            thread.start()
            assert measuring.wait(30), "a report is made outside of a turn"
            threading.Timer(1.0, release.set).start()
        assert epoch == 1 or release.is_set(), "no epoch ends while something is measured"

    space = ToyImages.bind()
    evaluator = TrainingEvaluator(space, "backprop", Budget(epochs=3), 0)
    started = time.perf_counter()
    result = evaluator.evaluate("p", space.search_space.default, report)
    passed = time.perf_counter() - started
    thread.join()
    assert (result.status, epochs) == ("ok", [1, 2, 3])
    assert result.seconds <= passed - 0.9
