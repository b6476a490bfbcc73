"""A pilot: a long-lived Tune trial that works through leases."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archfront.cluster._controller import Answer
from archfront.cluster._memory import give_memory_back, keep_memory
from archfront.cluster._trial import NOTHING, Evaluator, ReportCallback, TrialResult, run_trial
from archfront.cluster.store import Report

__all__ = ["RECONNECT_SECONDS", "Job", "pilot"]

HEARTBEATS = 12
"""Signs of life within the patience that a study has with its workers."""
REPORT_SECONDS = 1.0
"""Reports of a long evaluation are sent this often."""
COLLECT_SECONDS = 10.0
"""Cycles are collected this often, and a process that has grown returns memory."""
RECONNECT_SECONDS = 30.0
"""A controller that is being replaced answers within this."""


@dataclass(frozen=True)
class Job:
    """What a pilot needs."""

    controller: Any
    evaluator: Evaluator
    patience: float


def pilot(config: dict[str, Any], job: Job) -> None:
    """The trainable: join, then results for work until it is over."""
    import ray
    import torch
    from ray import tune

    torch.set_num_threads(1)
    keep_memory()
    slot = tune.get_context().get_trial_id()
    wire = _Wire(job.controller, str(slot))
    results: list[TrialResult] = []
    seconds, collected = 0.0, time.monotonic()
    with wire.beating(job.patience / HEARTBEATS):
        while True:
            try:
                answer = wire.exchange(results, seconds)
            except ray.exceptions.RayActorError:  # the controller is being replaced
                wire.rejoin()
                answer = "refused"
            results = []
            if answer == "over":
                break
            if answer == "refused":
                wire.rejoin()
                continue
            assert isinstance(answer, list)
            begun = time.monotonic()
            results = [run_trial(job.evaluator, w.proposal, w.config, wire.reporter(w.proposal)) for w in answer]
            now = time.monotonic()
            seconds = now - begun
            if now - collected > COLLECT_SECONDS:
                give_memory_back()
                collected = now
    tune.report({"over": 1})


class _Wire:
    """A pilot's side of the line to the controller."""

    def __init__(self, controller: Any, slot: str) -> None:
        self.controller, self.slot = controller, slot
        self._reports: list[Report] = []
        self._sent = time.monotonic()
        self.rejoin()

    def rejoin(self) -> None:
        """Begin as a new incarnation, also with a controller that is just starting."""
        import ray

        self.incarnation = uuid.uuid4().hex
        self._reports = []
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                ray.get(self.controller.join.remote(self.slot, self.incarnation))
                return
            except ray.exceptions.RayActorError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def exchange(self, results: list[TrialResult], seconds: float) -> Answer:
        import ray

        reports, self._reports, self._sent = self._reports, [], time.monotonic()
        call = self.controller.exchange.remote(self.slot, self.incarnation, results, reports, seconds)
        answer: Answer = ray.get(call)
        return answer

    def reporter(self, proposal: str) -> ReportCallback:
        """Collects reports; those of a long evaluation are sent on the way."""

        def report(epoch: int, metrics: Mapping[str, float], attributes: Mapping[str, float] = NOTHING, /) -> None:
            self._reports.append(Report(proposal, epoch, dict(metrics), dict(attributes)))
            if time.monotonic() - self._sent > REPORT_SECONDS:
                reports, self._reports, self._sent = self._reports, [], time.monotonic()
                self.controller.hear.remote(self.slot, self.incarnation, reports)

        return report

    @contextlib.contextmanager
    def beating(self, seconds: float) -> Iterator[None]:
        """Signs of life from a thread while an evaluation runs, one every so many seconds."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(seconds):
                self.controller.hear.remote(self.slot, self.incarnation)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
