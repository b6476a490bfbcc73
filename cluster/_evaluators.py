"""The four ways to evaluate a configuration: train it, slice it from a supernet, look it up, call a function."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from archfront import trainers
from archfront.cluster._deployed import scores
from archfront.cluster._device import Device
from archfront.cluster._trial import ReportCallback, TrialResult
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster._turns import TrainingTurns
from archfront.spaces._costs import analytic_costs
from archfront.spaces._errors import ExportError, UsageError
from archfront.spaces._lookup import LookupSpace
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration
from archfront.spaces._supernet import Supernet
from archfront.spaces._task import Split
from archfront.trainers._schedule import Schedule
from archfront.trainers._slice import calibrated_subnet, load_bank, validation_part
from archfront.trainers._trainer import Trainer, outputs_of
from archfront.trainers._types import Budget, Report

__all__ = ["FunctionEvaluator", "LookupEvaluator", "SliceEvaluator", "TrainingEvaluator", "UserFunction"]

UserFunction = Callable[..., Mapping[str, Any]]

REPORTS = 100
"""A training reports and checkpoints about this often: after each epoch, or after each hundredth of a long one."""

_BANKS: dict[str, Supernet] = {}
"""Banks this process has loaded, by hash: a re-used worker loads each once."""


@dataclass(frozen=True)
class TrainingEvaluator:
    """Train one configuration for the planned epochs, with a checkpoint after each; then test it once."""

    trains: ClassVar[bool] = True
    space: ModelSpace
    trainer: str
    budget: Budget
    train_seed: int
    files: TrialFiles | None = None
    start: tuple[str, str] | None = None
    """(hash, path) of the supernet whose slice a training begins with."""
    variants: tuple[Device, ...] = ()
    """Devices on which the network has a quality of its own."""
    schedule: str | None = None
    """As JSON: the values that a training follows."""

    def evaluate(self, proposal: str, config: Configuration, report: ReportCallback) -> TrialResult:
        """Continues from the proposal's checkpoint when there is one. Pauses between batches for measurements."""
        turns = TrainingTurns()
        with turns.take():
            trainer, metrics = self._started(proposal, config)
        trainer.pause = turns.pause
        stride = max(1, self.budget.epochs // REPORTS)
        reported = trainer.epoch
        given: Report | None = None
        for given in turns.paced(trainer.run()):
            metrics = dict(given.metrics)
            if given.step % stride == 0:
                reported = given.step
                self._checkpoint(proposal, trainer, given, report)
        if given is not None and reported != trainer.epoch:
            self._checkpoint(proposal, trainer, given, report)
        with turns.take():
            weights, net = "", trainer.export()
            if self.files is not None:
                weights = self.files.save(f"{proposal}.weights", net.state_dict())
            quality, error = _with_variants(metrics, net, self.space, trainer.config, self.variants)
            test = trainer.evaluate("test") if "test" in self.space.task().splits else {}
            costs = analytic_costs(self.space, trainer.config)
        return TrialResult(
            proposal,
            "ok",
            quality,
            {f"test_{name}": value for name, value in test.items()},
            costs,
            "trained",
            trainer.epoch,
            turns.seconds,
            error,
            weights,
        )

    def _started(self, proposal: str, config: Configuration) -> tuple[Trainer, dict[str, float]]:
        """The trainer as its checkpoint left it, and its last metrics."""
        make = trainers.load(self.trainer)
        device = "cuda" if torch.cuda.is_available() else "cpu"  # Ray hides the GPUs that a trial was not given
        trainer = make(self.space, config, budget=self.budget, seed=self.train_seed, device=device)
        if self.schedule is not None:
            trainer.follow(Schedule.from_json(self.schedule))
        if self.files is None or (saved := self.files.load(f"{proposal}.checkpoint")) is None:
            if self.start is not None:
                trainer.start_from(calibrated_subnet(_loaded(self.space, *self.start), trainer.config))
            return trainer, {}
        trainer.load_state_dict(saved["trainer"])
        return trainer, dict(saved["metrics"])

    def _checkpoint(self, proposal: str, trainer: Trainer, given: Report, report: ReportCallback) -> None:
        if self.files is not None:
            self.files.save(f"{proposal}.checkpoint", {"trainer": trainer.state_dict(), "metrics": dict(given.metrics)})
        report(given.step, given.metrics, given.attributes)


@dataclass(frozen=True)
class SliceEvaluator:
    """Cut a sub-network out of a trained bank, recalibrate it, evaluate it on a part of the validation split: no
    training."""

    trains: ClassVar[bool] = False
    space: ModelSpace
    bank: str
    bank_path: str
    variants: tuple[Device, ...] = ()
    validation_fraction: float = 1.0

    def evaluate(self, proposal: str, config: Configuration, report: ReportCallback) -> TrialResult:
        """One report."""
        turns = TrainingTurns()
        with turns.take():
            own = {name: value for name, value in config.items() if name in self.space.search_space}
            net = calibrated_subnet(self.loaded(), own)
            part = validation_part(self.space, self.validation_fraction)
            data = self.space.prepared(own, part)
            metrics = self.space.task().score(*data.chosen(outputs_of(net, data)))
            quality, error = _with_variants(metrics, net, self.space, own, self.variants, part)
            costs = analytic_costs(self.space, own)
        report(1, metrics)
        return TrialResult(proposal, "ok", quality, {}, costs, "sliced", 0, turns.seconds, error)

    def loaded(self) -> Supernet:
        """The bank, once per process."""
        return _loaded(self.space, self.bank, self.bank_path)


def _loaded(space: ModelSpace, bank: str, path: str) -> Supernet:
    if bank not in _BANKS:
        _BANKS[bank] = load_bank(space, path)
    return _BANKS[bank]


def _with_variants(
    metrics: Mapping[str, float],
    net: nn.Module,
    space: ModelSpace,
    config: Configuration,
    variants: Sequence[Device],
    split: Split | None = None,
) -> tuple[dict[str, float], str]:
    """The metrics, and those on each variant under "metric@device": NaN where the network cannot run, and why."""
    quality, errors = dict(metrics), []
    for device in variants:
        try:
            own: Mapping[str, float] = scores(net, space, config, split)
        except ExportError as error:
            own = dict.fromkeys(metrics, math.nan)
            errors.append(f"on device {device.name!r}: {error}")
        quality |= {f"{metric}@{device.name}": value for metric, value in own.items()}
    return quality, "; ".join(errors)


@dataclass(frozen=True)
class LookupEvaluator:
    """Look a configuration up, as far as `epochs`; device values are the study's to take from the table."""

    trains: ClassVar[bool] = False
    space: LookupSpace
    epochs: int

    def evaluate(self, proposal: str, config: Configuration, report: ReportCallback) -> TrialResult:
        """One report per point of the table's curve."""
        started = time.perf_counter()
        own = {name: value for name, value in config.items() if name in self.space.search_space}
        for epoch, point in self.space.curve(own, self.space.task().name, self.epochs):
            if "" in point.invalid:
                return TrialResult(proposal, "invalid", kind="looked_up", error=point.invalid[""])
            report(epoch, point.quality)
            found = point
        return TrialResult(
            proposal,
            "ok",
            found.quality,
            {f"test_{name}": value for name, value in found.test.items()},
            found.analytic,
            "looked_up",
            self.epochs,
            time.perf_counter() - started,
        )


@dataclass(frozen=True)
class FunctionEvaluator:
    """Call a user's function: evaluate(config, *, seed, budget, report) -> {metric: value}; it may take fewer."""

    trains: ClassVar[bool] = False
    function: UserFunction
    budget: Budget
    seed: int

    def evaluate(self, proposal: str, config: Configuration, report: ReportCallback) -> TrialResult:
        """Values may be plain numbers under "metric" or "metric@device"."""
        started = time.perf_counter()
        offered = {"seed": self.seed, "budget": self.budget, "report": report}
        taken = {name: value for name, value in offered.items() if self._takes is None or name in self._takes}
        values = self.function(dict(config), **taken)
        if not isinstance(values, Mapping):
            raise UsageError(
                f"the evaluate function returned {type(values).__name__}", "return a dict of metric name to number"
            )
        numbers = {str(name): float(value) for name, value in values.items()}
        seconds = time.perf_counter() - started
        return TrialResult(proposal, "ok", numbers, kind="trained", epochs=self.budget.epochs, seconds=seconds)

    @cached_property
    def _takes(self) -> frozenset[str] | None:
        """The names of its parameters; None when it takes any."""
        parameters = inspect.signature(self.function).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return None
        return frozenset(p.name for p in parameters)
