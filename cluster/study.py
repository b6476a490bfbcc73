"""A study: one search that lives in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archfront.cluster._attached import refuse_absent
from archfront.cluster._calibration import Calibration, calibration_of
from archfront.cluster._device import Device
from archfront.cluster._history import with_pasts
from archfront.cluster._in_process import run_in_process
from archfront.cluster._known_datasets import Earlier
from archfront.cluster._loop import Progress, StudyLoop
from archfront.cluster._plan import Plan, bound_space
from archfront.cluster._replay import Replay, replayed
from archfront.cluster._request import FUNCTION_AND_MODEL, Request, record_of, seconds_of
from archfront.cluster._table_hash import table_hash
from archfront.cluster._trial import TrialResult
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster._workshop import RayWorkshop
from archfront.cluster.front import Front
from archfront.cluster.store import Store, StudyRecord
from archfront.predictors._workshop import Workshop
from archfront.search._types import Constraint, Objective, SearchBudget
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._registry import function_at
from archfront.spaces._search_space import Configuration, SearchSpace

if TYPE_CHECKING:
    from archfront.cluster._bank import BankWatch

__all__ = ["Study", "Summary"]

Watch = Callable[[Progress], None]
Summary = dict[str, Any]


def _nobody(_: Progress) -> None:
    return None


class Study:
    """A search by name. Nothing is stored before `run` or `tell`.

        study = Study("laptop", space="pflayer", objectives=["error", "latency_ms@cpu"], strategy="nsga2")
        study.run(trials=40)
        study.front(device="cpu").plot("front.png")

    The keyword arguments are those of `Request`. `store` is an address or an open Store (then the caller closes it).
    """

    def __init__(
        self,
        name: str,
        *,
        space: str | SearchSpace | ModelSpace,
        store: str | Store | None = None,
        files: str | None = None,
        **options: Any,
    ) -> None:
        self.name = name
        self._given: dict[str, Any] = {"name": name, "space": space, **options}
        _known_options(options)
        self._own_store = not isinstance(store, Store)
        self.store = store if isinstance(store, Store) else Store(store, files=files)
        self._record: StudyRecord | None = None
        self._function: Callable[..., Any] | None = None

    @classmethod
    def open(
        cls,
        name: str,
        *,
        store: str | Store | None = None,
        files: str | None = None,
        space: SearchSpace | ModelSpace | None = None,
    ) -> Study:
        """A study that is in the store; `run` then continues it. `space` for a model space that lives in a script.

        Raises UnknownNameError with the closest name, NoStoreError where there is no store.
        """
        study = cls.__new__(cls)
        study.name, study._given, study._function = name, {"space": space}, None
        study._own_store = not isinstance(store, Store)
        study.store = store if isinstance(store, Store) else Store(store, files=files, create=False)
        study._record = study.store.study(name)
        return study

    @property
    def record(self) -> StudyRecord:
        """The study as stored. Raises UsageError before it is."""
        if self._record is None:
            raise UsageError(f"study {self.name!r} has not begun", "call run() or tell() first")
        return self._record

    def run(
        self,
        trials: int | None = None,
        *,
        minutes: float | None = None,
        workers: int = 0,
        address: str | None = None,
        evaluate: Callable[..., Any] | str | None = None,
        watch: Watch = _nobody,
        watch_supernet: BankWatch | None = None,
        verbose: bool = False,
    ) -> Summary:
        """Search until the budget is spent, and return the summary.

        `workers=0` runs in this process; otherwise on a local Ray of that many slots, or on the cluster at `address`.
        A study that was interrupted continues where it was. Raises UsageError before anything runs for a request that
        cannot be met, StoreError for a study that another process runs; KeyboardInterrupt leaves a study that can be
        resumed. `watch` hears of each evaluation, `watch_supernet` of each epoch of a supernet that is trained first.
        """
        started = time.monotonic()
        self._check_engine(workers, address)
        with self.store.driving(self.name):
            return self._run(started, trials, minutes, workers, address, evaluate, watch, watch_supernet, verbose)

    def _run(
        self,
        started: float,
        trials: int | None,
        minutes: float | None,
        workers: int,
        address: str | None,
        evaluate: Callable[..., Any] | str | None,
        watch: Watch,
        watch_supernet: BankWatch | None,
        verbose: bool,
    ) -> Summary:
        if self._record is not None:
            self._record = self.store.study(self.name)  # another sitting may have ended since it was opened
        self._begin(trials, minutes, evaluate)
        if self.record.status == "done":
            return self.summary()
        before = self.record
        epoch = self.store.begin_sitting(self.name)
        status, first_ask = "failed", None
        try:
            with ExitStack() as stack:
                capacity = 1
                if workers or address:
                    from archfront.cluster.engine import RayOptions, ray_cluster, run_on_ray

                    options = RayOptions(workers, address, verbose)
                    capacity = stack.enter_context(ray_cluster(options))
                workshop = RayWorkshop() if workers or address else None
                plan = self._plan(self._function, watch_supernet, workshop)
                refuse_absent(list(plan.devices.values()))
                first_ask = time.monotonic()
                earlier = before.seconds - first_ask
                loop = StudyLoop(
                    self.store,
                    plan,
                    epoch,
                    capacity=capacity,
                    elapsed=lambda: earlier + time.monotonic(),
                    watch=watch,
                )
                stack.callback(loop.close)
                if workers or address:
                    run_on_ray(loop, options)
                else:
                    run_in_process(loop)
                status = "done" if loop.complete else "interrupted"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            now = time.monotonic()
            begun = first_ask if first_ask is not None else now
            self.store.end_sitting(
                self.name,
                status,  # type: ignore[arg-type]
                seconds=before.seconds + now - begun,
                startup_seconds=before.startup_seconds + begun - started,
                epoch=epoch,
            )
            self._record = self.store.study(self.name)
        return self.summary()

    def _begin(
        self,
        trials: int | None,
        minutes: float | None,
        evaluate: Callable[..., Any] | str | None,
        *,
        foreign: bool = False,
    ) -> None:
        """Store the study when it is new. A study of this name that somebody else began is refused."""
        if evaluate is not None:
            self._function = function_at(evaluate) if isinstance(evaluate, str) else evaluate
        if self._record is not None:
            if evaluate is not None and not self._record.private:
                raise UsageError(*FUNCTION_AND_MODEL)
            self._extend(self._record, trials, minutes)
            return
        given = {**self._given, "trials": trials, "minutes": minutes, "foreign": foreign}
        if evaluate is not None:
            given["evaluate"] = evaluate
        if callable(given.get("evaluate")):
            self._function = given["evaluate"]
        record = record_of(Request(**with_pasts(self.store, given)), self._stored_devices())
        self._record = self.store.create_study(record)

    def _extend(self, record: StudyRecord, trials: int | None, minutes: float | None) -> None:
        """A larger total reopens a finished study. Raises UsageError for a smaller one."""
        old = record.budget
        seconds = old.seconds if minutes is None else seconds_of(minutes)
        new = SearchBudget(old.trials if trials is None else trials, seconds)
        if new == old:
            return
        if trials is not None and old.trials is not None and trials < old.trials:
            raise UsageError(f"study {self.name!r} has {old.trials} trials in all, not {trials}", "start a new study")
        self.store.set_budget(self.name, new)
        self._record = replace(record, budget=new, status="interrupted")

    def _check_engine(self, workers: int, address: str | None) -> None:
        if workers < 0:
            raise UsageError(f"workers={workers} must be 0 (in this process) or more")
        options = self._given if self._record is None else self._record.options
        scheduler = options.get("scheduler", "none")
        if scheduler != "none" and not workers and not address:
            raise UsageError(f"--scheduler {scheduler} compares trials that run side by side", "give --workers 2")

    def _stored_devices(self) -> dict[str, Device]:
        return {d.name: Device.of(d.definition) for d in self.store.devices() if d.definition}

    def _plan(
        self,
        function: Callable[..., Any] | None,
        watch_supernet: BankWatch | None = None,
        workshop: Workshop | None = None,
    ) -> Plan:
        from archfront.cluster._bank import bank_of

        heard = watch_supernet or (lambda report, epochs: None)
        files = TrialFiles(f"{self.store.files_url}/trials")
        space = self._own_space()
        plan = Plan.of(
            self.record,
            files=files,
            stored=self._stored_devices(),
            space=space,
            evaluate=function,
            bank=None if space is None else bank_of(self.record, space, self.store, files, heard),
            workshop=workshop,
            known=Earlier.of(self.store, self.record, space),
        )
        self.store.put_devices([device.record() for device in plan.devices.values()])
        return plan

    def _own_space(self) -> ModelSpace | None:
        """The model space, as it was given or bound again; None for a function."""
        if self.record.private:
            return None
        given = self._given["space"]
        return given if isinstance(given, ModelSpace) else bound_space(self.record)

    def tell(self, config: Configuration, metrics: Mapping[str, float]) -> None:
        """Store a result found elsewhere; it counts as a trial of this study. Parameters that `config` leaves out have
        their defaults. Raises ConfigurationError, UsageError.

        A study that begins so has a total of one trial until `run(trials=...)` says more.
        """
        with self.store.driving(self.name):
            self._tell(config, metrics)

    def _tell(self, config: Configuration, metrics: Mapping[str, float]) -> None:
        self._begin(self._told_total(), None, None, foreign=True)
        epoch = self.store.begin_sitting(self.name)
        loop = StudyLoop(self.store, self._plan(self._function or _foreign), epoch, capacity=1)
        try:
            proposal = loop.enter(config)
            numbers = {name: float(value) for name, value in metrics.items()}
            loop.completed([TrialResult(proposal.id, "ok", numbers)])
            loop.finish()
        finally:
            loop.close()
            self.store.end_sitting(
                self.name,
                "interrupted",
                seconds=self.record.seconds,
                startup_seconds=self.record.startup_seconds,
                epoch=epoch,
            )

    def _told_total(self) -> int | None:
        """The total with room for one more result."""
        if self._record is None:
            return 1
        total, proposed = self._record.budget.trials, self.store.counts(self.name).proposed
        return total if total is None or proposed < total else proposed + 1

    def front(
        self,
        device: str | None = None,
        *,
        objectives: Sequence[Objective | str] | None = None,
        where: Sequence[str | Constraint] = (),
    ) -> Front:
        """The study's front on a device (the only one by default)."""
        bounds = [c if isinstance(c, Constraint) else Constraint.parse(c) for c in where]
        found = self.store.front(study=self.name, device=device, objectives=objectives, where=bounds)
        given = self._given["space"]
        return Front(found, self.store, given if isinstance(given, ModelSpace) else None)

    def calibration(self) -> tuple[Calibration, ...]:
        """What the strategy predicted against what was found, one per predicted metric; empty without any."""
        return calibration_of(self.store, self.name)

    def replay(self) -> Replay:
        """Ask a fresh strategy again as it was asked, told what it was told: where it differs, if it does.

        Raises UsageError for a study whose asks were not stored, or that cannot be rebuilt here.
        """
        space = self._own_space()
        plan = Plan.of(
            self.record,
            files=TrialFiles(f"{self.store.files_url}/trials"),
            stored={},
            space=space,
            evaluate=_foreign,
            measure=False,
            known=Earlier.of(self.store, self.record, space),
        )
        return replayed(self.store, plan)

    def table_hash(self) -> str:
        """SHA-256 of keys, origins, statuses and metrics in the order of proposals, without what was measured: two
        studies of one seed have the same with `reproducible`."""
        return table_hash(self.store, self.name)

    def summary(self) -> Summary:
        """The stable keys of `search --json`."""
        return summary_of(self.store, self.store.study(self.name))

    def close(self) -> None:
        """Close the store, if this study opened it."""
        if self._own_store:
            self.store.close()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def summary_of(store: Store, record: StudyRecord) -> Summary:
    """A study in the stable keys of `search`, `resume` and `studies`."""
    counts = store.counts(record.name)
    front = store.front(study=record.name, device="*")
    return {
        "study": record.name,
        "space": record.space,
        "task": record.task,
        "strategy": record.strategy,
        "status": record.status,
        "proposed": counts.proposed,
        "told": counts.told,
        "failed": counts.failed,
        "reused": counts.reused,
        "front_size": len(front),
        "hypervolume": front.hypervolume,
        "seconds": round(record.seconds, 3),
        "startup_seconds": round(record.startup_seconds, 3),
        "store": store.url,
    }


def _foreign(config: Configuration) -> Mapping[str, float]:
    raise UsageError("this study was made from foreign results and has no function", "give run(evaluate=...)")


def _known_options(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in Request.__dataclass_fields__ or name in ("trials", "minutes", "foreign"):
            raise UnknownNameError.of("option of Study", name, Request.__dataclass_fields__)
