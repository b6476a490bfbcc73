"""What a search would do: everything is checked and one trial is timed, nothing is stored."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from archfront.cluster._attached import measurer_of
from archfront.cluster._bank import bank_of, bank_trainer, kept_bank
from archfront.cluster._device import Device, tells
from archfront.cluster._evaluators import FunctionEvaluator, TrainingEvaluator
from archfront.cluster._history import with_pasts
from archfront.cluster._plan import Plan, bound_space
from archfront.cluster._request import Request, record_of
from archfront.cluster._threads import one_thread
from archfront.cluster._trial import NOTHING, Evaluator, run_trial
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster.store import Store, StudyRecord
from archfront.spaces._errors import ArchfrontError
from archfront.spaces._model_space import ModelSpace
from archfront.trainers._slice import bank_hash, save_bank
from archfront.trainers._types import Budget

__all__ = ["dry_run"]

WARM_UP_FRACTION = 0.02
"""Of the training data: a process's first trial imports much and grows its memory."""


def dry_run(store: Store, options: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """Objectives, devices, size of the space, seconds of one trial, expected minutes.

    The timed trial is the default configuration, trained for two epochs in a warm process, or cut from a supernet
    that was. Raises ArchfrontError when it fails.
    """
    stored = {d.name: Device.of(d.definition) for d in store.devices() if d.definition}
    record = record_of(Request("dry-run", **with_pasts(store, options)), stored)
    with tempfile.TemporaryDirectory() as folder:
        space = None if record.private else bound_space(record)
        with one_thread():
            bank, bank_s = (None, None) if space is None else _bank(record, space, store, Path(folder))
            plan = Plan.of(record, files=TrialFiles(folder), stored=stored, space=space, bank=bank)
            trial_s = _trial_seconds(plan)
        measuring_s = 0.0
        for device in plan.devices.values():
            if tells(device):
                continue
            measurer = measurer_of(space, device)  # type: ignore[arg-type]
            try:
                measurer.measure([plan.own(plan.searched.default)])
                started = time.perf_counter()
                measurer.measure([plan.own(plan.searched.default)])
                measuring_s += time.perf_counter() - started
            finally:
                measurer.close()
    trials = record.budget.trials
    expected = None if trials is None else ((bank_s or 0) + trials * (trial_s / max(1, workers) + measuring_s)) / 60
    return {
        "space": record.space,
        "task": record.task,
        "strategy": record.strategy,
        "parameters": len(plan.searched.varied),
        "size": plan.searched.size,
        "objectives": [f"{o.name}:{o.direction}" for o in record.objectives],
        "constraints": [str(c) for c in record.constraints],
        "devices": [f"{name} ({d.hardware}, {d.threads} thread, batch {d.batch})" for name, d in plan.devices.items()],
        "epochs": record.options["epochs"],
        "trials": trials,
        "workers": workers,
        **({} if bank_s is None else {"seconds_of_supernet": _short(bank_s)}),
        "seconds_per_trial": _short(trial_s),
        "seconds_per_measurement": _short(measuring_s),
        "expected_minutes": None if expected is None else _short(expected),
    }


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _bank(
    record: StudyRecord, space: ModelSpace, store: Store, folder: Path
) -> tuple[tuple[str, str] | None, float | None]:
    """(hash, path) of the supernet to cut from, and the seconds its training will take; None where there is none."""
    wanted, epochs = record.options["supernet"], record.options["epochs"]
    if wanted is None:
        return None, None
    if wanted != "train" or kept_bank(record, store) is not None:
        return bank_of(record, space, store, TrialFiles(str(folder))), 0.0
    started = time.perf_counter()
    trainer = bank_trainer(record, space, epochs=2)
    for _ in trainer.run():  # two epochs, as a progressive training's differ
        seconds = time.perf_counter() - started
    save_bank(trainer.bank, folder / "bank.pt")
    return (bank_hash(trainer.bank), str(folder / "bank.pt")), epochs * seconds / 2


def _trial_seconds(plan: Plan) -> float:
    """Seconds of a trial of the default configuration, in a process that has run one before."""
    evaluator = plan.evaluator
    if isinstance(evaluator, FunctionEvaluator):
        return _timed(plan, evaluator, "dry-run")[-1]  # once: it may be long, or do something
    if not isinstance(evaluator, TrainingEvaluator):
        _timed(plan, evaluator, "warm-up")
        return _timed(plan, evaluator, "dry-run")[-1]
    _timed(plan, replace(evaluator, budget=Budget(1, WARM_UP_FRACTION * evaluator.budget.data_fraction)), "warm-up")
    first, second, end = _timed(plan, replace(evaluator, budget=replace(evaluator.budget, epochs=2)), "dry-run")
    epochs: int = plan.record.options["epochs"]
    return end + (epochs - 2) * (second - first)


def _timed(plan: Plan, evaluator: Evaluator, name: str) -> list[float]:
    """Seconds from the start of the trial to each of its reports, and to its end. Raises ArchfrontError."""
    reports: list[float] = []
    started = time.perf_counter()

    def report(epoch: int, metrics: Mapping[str, float], attributes: Mapping[str, float] = NOTHING, /) -> None:
        reports.append(time.perf_counter() - started)

    result = run_trial(evaluator, name, plan.searched.default, report)
    if result.status != "ok":
        raise ArchfrontError(f"the default configuration fails: {result.error}", "mend it before searching")
    return [*reports, time.perf_counter() - started]
