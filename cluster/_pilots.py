"""The engine of cheap evaluations: one long-lived Tune trial per slot, a pilot that works through leases.

Tune places the pilots and replaces them when they die; a controller actor holds the leases; the study's loop runs in a
thread of the driver, offers proposals, and tells what comes back.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

from archfront.cluster._controller import Controller, News
from archfront.cluster._leases import PATIENCE_SECONDS, Work, lease_size
from archfront.cluster._loop import StudyLoop
from archfront.cluster._pilot import RECONNECT_SECONDS, Job, pilot
from archfront.spaces._errors import ArchfrontError

__all__ = ["Pilots"]

MOST_BARREN = 5
"""Deaths per slot without any result between them, after which the search gives up."""
STALE_SHARE = 8
"""At most one in so many of the evaluations told may be out, so that a strategy that learns does not fall behind."""


class Pilots:
    """Drives a study's loop with pilots: the loop runs in a thread, `Tuner.fit` in the caller's."""

    def __init__(self, loop: StudyLoop) -> None:
        import ray

        self.loop, self.slots = loop, loop.capacity
        deaths = loop.record.options["max_failures"] + 1
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(Controller)
        self._patience = loop.record.options.get("patience", PATIENCE_SECONDS)
        self._controller = actor.remote(deaths, self._patience)
        self._known = ""
        self._asking = math.nan
        self._leave = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name="study", daemon=True)

    def trainable(self) -> Any:
        """One pilot."""
        from ray import tune

        return tune.with_parameters(pilot, job=Job(self._controller, self.loop.plan.evaluator, self._patience))

    def tune_options(self) -> dict[str, Any]:
        """Of `TuneConfig`."""
        return {"num_samples": self.slots, "max_concurrent_trials": self.slots}

    def run_options(self) -> dict[str, Any]:
        """Of `RunConfig`. Pilots come back without end: giving up is the loop's business."""
        from ray import tune

        return {
            "failure_config": tune.FailureConfig(max_failures=-1),
            "callbacks": [_bereaved(self._controller)],
            "stop": _stopper(self._thread),
        }

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """The loop runs meanwhile; raises what it raised. Leaving early stops it."""
        import ray

        self._thread.start()
        try:
            yield
        finally:
            self._leave.set()
            self._thread.join()
            ray.kill(self._controller)
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        import ray

        try:
            self._drive()
        except BaseException as error:
            self._error = error
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._controller.close.remote())

    def _drive(self) -> None:
        """Ask, offer, wait, tell; until the loop is done and nothing is out."""
        loop = self.loop
        mean = math.nan
        while not self._leave.is_set():
            loop.capacity = self._capacity(mean)
            begun = time.perf_counter()
            step = loop.next(loop.capacity)
            if step == "done" and not loop.running:
                return
            work = [] if isinstance(step, str) else [Work(p.id, p.config) for p in step]
            if work:
                self._learn((time.perf_counter() - begun) / len(work))
            news = self._exchanged(work)
            mean = news.mean
            loop.reported(news.reports)
            loop.completed(news.results)
            if news.barren > MOST_BARREN * self.slots:
                raise ArchfrontError(
                    f"the workers of study {loop.study!r} died {news.barren} times without a result between",
                    "archfront resume --workers 0 shows why",
                )

    def _exchanged(self, work: list[Work]) -> News:
        """One call of the controller. It keeps nothing when its process dies: its successor is offered all that is out,
        and so is one that could not be reached for a while."""
        import ray

        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                news: News = ray.get(self._controller.drive.remote(self._known, work))
            except ray.exceptions.RayActorError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                self._known = news.controller
                if not news.lost:
                    return news
            work = [Work(p.id, p.config) for p in self.loop.running]

    def _learn(self, seconds: float) -> None:
        self._asking = seconds if math.isnan(self._asking) else 0.7 * self._asking + 0.3 * seconds

    def _capacity(self, evaluating: float) -> int:
        """How many proposals may be out: a lease for each slot and as many in stock, if they are cheap. Few while
        little is known, when asking takes long, and when what comes back has to be measured."""
        if math.isnan(evaluating) or self.loop.measuring.timed:
            return self.slots
        slower = evaluating if math.isnan(self._asking) else max(evaluating, self._asking)
        lease = lease_size(slower)
        stock = max(1, self.slots // 8) if lease == 1 else self.slots * lease
        return max(self.slots, min(self.slots * lease + stock, self.loop.told // STALE_SHARE))


def _bereaved(controller: Any) -> Any:
    """Tune's callback: a pilot that died gives its leases back before its successor comes."""
    from ray.tune import Callback

    class Bereaved(Callback):  # type: ignore[misc, unused-ignore]
        """Its pickle is empty: nothing is restored."""

        def __init__(self, controller: Any) -> None:
            self.controller = controller

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.controller.leave.remote(trial.trial_id)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.controller.leave.remote(trial.trial_id)

    return Bereaved(controller)


def _stopper(thread: threading.Thread) -> Any:
    """Tune's: no pilot is waited for when the loop has ended."""
    from ray.tune import Stopper

    class Ended(Stopper):  # type: ignore[misc, unused-ignore]
        """Its pickle is empty: nothing is restored."""

        def __init__(self, thread: threading.Thread) -> None:
            self.thread = thread

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.thread.ident is not None and not self.thread.is_alive()

    return Ended(thread)
