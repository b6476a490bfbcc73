"""Trainings share a host, a measurement has it alone, and gets its turn however many trainings there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from archfront.cluster import _locks, _turns
from archfront.cluster._evaluators import TrainingEvaluator
from archfront.cluster._locks import is_locked, locked
from archfront.cluster._turns import TrainingTurns, measuring_turn
from archfront.spaces._errors import MeasurementError
from archfront.spaces._toy import ToyImages
from archfront.trainers._types import Budget
from archfront.trainers.backprop import Backprop


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


def test_measurements_are_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "TURN_SECONDS", 0.1)
    with measuring_turn(), pytest.raises(MeasurementError, match="has not paused"), measuring_turn():
        pass


def test_a_pause_that_nobody_wants_is_none() -> None:
    turns = TrainingTurns()
    turns.pause()
    with turns.take():
        turns.pause()
        assert is_locked("queue") is False
        with pytest.raises(MeasurementError), locked("host", limit_s=0.0, busy="held"):
            pass


def test_a_failed_pause_gives_the_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "TURN_SECONDS", 0.1)
    turns = TrainingTurns()
    waiting = locked("queue", limit_s=1.0, busy="held")
    with pytest.raises(MeasurementError, match="has been measured"), turns.take(), waiting:
        turns.pause()
    with measuring_turn():
        pass
    assert turns.seconds < 0.1


def test_a_trial_pauses_within_an_epoch_and_its_seconds_do_not_count_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement that is asked for in the second epoch's first batch ends before its second."""
    batches: list[int] = []
    measured: list[int] = []

    def measure() -> None:
        with measuring_turn():
            measured.append(len(batches))
            time.sleep(1.0)
            measured.append(len(batches))

    thread = threading.Thread(target=measure)
    loss = Backprop._loss

    def watched(trainer: Backprop, *given: Any) -> Any:
        batches.append(trainer.epoch)
        if batches.count(1) == 1 and not thread.is_alive():
            thread.start()
            while not is_locked("queue"):
                time.sleep(0.001)
        return loss(trainer, *given)

    monkeypatch.setattr(Backprop, "_loss", watched)
    space = ToyImages.bind()
    config = {**space.search_space.default, "trainer.batch_size": 16}
    evaluator = TrainingEvaluator(space, "backprop", Budget(epochs=3), 0)
    started = time.perf_counter()
    result = evaluator.evaluate("p", config, lambda epoch, metrics, attributes: None)
    passed = time.perf_counter() - started
    thread.join()
    assert (result.status, result.epochs) == ("ok", 3)
    first = batches.index(1) + 1
    assert measured == [first, first]
    assert batches.count(1) == batches.count(0) > 1
    assert result.seconds <= passed - 0.9


def test_a_report_is_made_outside_of_a_turn() -> None:
    """Whoever hears it measures at once."""

    def report(epoch: int, metrics: Mapping[str, float], attributes: Mapping[str, float]) -> None:
        with measuring_turn():
            epochs.append(epoch)

    epochs: list[int] = []
    space = ToyImages.bind()
    result = TrainingEvaluator(space, "backprop", Budget(epochs=2), 0).evaluate("p", space.search_space.default, report)
    assert (result.status, epochs) == ("ok", [1, 2])
