"""A study's record turned back into the objects that run it: the same path for a new study and for a resumed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archfront import spaces, trainers
from archfront.cluster._device import Device
from archfront.cluster._evaluators import FunctionEvaluator, LookupEvaluator, SliceEvaluator, TrainingEvaluator
from archfront.cluster._goals import device_of
from archfront.cluster._request import resolved_strategy
from archfront.cluster._trial import Evaluator
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster.store import StudyRecord
from archfront.predictors._context import Context, exact_of
from archfront.predictors._datasets import DataSets, KnownDataSets
from archfront.predictors._workshop import InProcess, Workshop
from archfront.search._strategy import Strategy, Suggestion, checked_configuration
from archfront.search._types import Configuration, Proposal
from archfront.spaces._costs import analytic_costs
from archfront.spaces._errors import UsageError
from archfront.spaces._lookup import LookupSpace
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._registry import function_at
from archfront.spaces._search_space import SearchSpace
from archfront.trainers._types import Budget

__all__ = ["Plan", "bound_space"]


@dataclass(frozen=True)
class Plan:
    """What a sitting of a study works with."""

    record: StudyRecord
    searched: SearchSpace
    model_space: ModelSpace | None
    devices: Mapping[str, Device]
    evaluator: Evaluator
    files: TrialFiles
    workshop: Workshop = field(default_factory=InProcess)
    known: Callable[[], DataSets] | None = None

    @classmethod
    def of(
        cls,
        record: StudyRecord,
        *,
        files: TrialFiles,
        stored: Mapping[str, Device],
        space: ModelSpace | None = None,
        evaluate: Callable[..., Any] | None = None,
        bank: tuple[str, str] | None = None,
        measure: bool = True,
        workshop: Workshop | None = None,
        known: Callable[[], DataSets] | None = None,
    ) -> Plan:
        """Rebuild everything from the record. `space` and `evaluate` stand in for what lives only in a script; `bank`
        is (hash, path) of the supernet; without `measure` the study's own devices need not be here; `workshop` does the
        strategy's heavy work; `known` tells what is known on other tasks. Raises UsageError when something cannot be
        rebuilt."""
        workshop = workshop or InProcess()
        budget = Budget(record.options["epochs"], record.options["data_fraction"])
        if record.private:
            function = evaluate or _function(record)
            evaluator: Evaluator = FunctionEvaluator(function, budget, record.train_seed)
            return cls(record, SearchSpace.from_dict(record.searched), None, {}, evaluator, files, workshop)
        space = space or bound_space(record)
        devices = {name: device_of(space, name, stored) for name in record.devices if measure}
        for name, device in devices.items():
            if device.identity != record.devices[name]:
                raise UsageError(
                    f"device {name!r} of study {record.name!r} is {record.devices[name]}, here it is {device.identity}",
                    "resume on the machine where the study began",
                )
        variants = tuple(device for device in devices.values() if device.own_quality)
        if isinstance(space, LookupSpace):
            evaluator = LookupEvaluator(space, budget.epochs)
        elif bank is not None:
            evaluator = SliceEvaluator(space, *bank, variants, record.options.get("validation_fraction", 1.0))
        else:
            trainers.load(record.trainer)
            start = record.options.get("start_weights")
            begun = None if start is None else (start[0], start[1])
            schedule = record.options.get("schedule")
            evaluator = TrainingEvaluator(
                space, record.trainer, budget, record.train_seed, files, begun, variants, schedule
            )
        return cls(record, SearchSpace.from_dict(record.searched), space, devices, evaluator, files, workshop, known)

    def strategy(self) -> Strategy:
        """A fresh strategy with the parameters that were resolved when the study was created."""
        record = self.record
        cls, given = resolved_strategy(
            record.strategy, record.parameters, self.searched, record.objectives, record.budget
        )
        return cls(
            self.searched,
            self.record.objectives,
            constraints=self.record.constraints,
            budget=self.record.budget,
            seed=self.record.seed,
            context=self.context(),
            start=self._start(),
            **given,
        )

    def context(self) -> Context:
        """What strategies may ask beside told evaluations."""
        if self.model_space is None:
            return Context(workshop=self.workshop)
        given = (self.model_space, self.model_space.task(), exact_of(self.costs), self.workshop)
        return Context(*given) if self.known is None else KnownDataSets(*given, known=self.known)

    @property
    def space(self) -> ModelSpace:
        """The model space. Raises UsageError for a study of a user's own function."""
        if self.model_space is None:
            raise UsageError(f"study {self.record.name!r} searches a function, not a model space")
        return self.model_space

    def own(self, config: Configuration) -> Configuration:
        """The model space's part of a configuration."""
        return {name: value for name, value in config.items() if name in self.space.search_space}

    def costs(self, config: Configuration) -> dict[str, float]:
        """Analytic costs of a configuration: counted, or what its table has."""
        if isinstance(self.space, LookupSpace):
            looked_up = self.space.look_up(self.own(config), self.space.task().name, self.looked_up_protocol)
            return dict(looked_up.analytic)
        return analytic_costs(self.space, self.own(config))

    @property
    def looked_up_protocol(self) -> str:
        """The column that a table space is looked up in."""
        assert isinstance(self.space, LookupSpace)
        return self.space.protocol_of(self.record.options["epochs"])

    def architecture_keys(self, proposals: Sequence[Proposal]) -> list[str]:
        """Keys of what `build` and `prepare` read; empty for a bare search space, which has no architectures."""
        if self.model_space is None:
            return [""] * len(proposals)
        return self.architecture_keys_of([proposal.config for proposal in proposals])

    def architecture_keys_of(self, configs: Sequence[Configuration]) -> list[str]:
        """The same of configurations of a model space."""
        space = self.space.search_space
        return space.architecture_keys_of(space.canonicalise_all([self.own(config) for config in configs]))

    def _start(self) -> list[Suggestion]:
        options = self.record.options
        first = [Suggestion(self.searched.default, "default")] if options["default"] else []
        users = [checked_configuration(self.searched, config, "--start") for config in options["start"]]
        warm = (options.get("start_from") or {"configs": []})["configs"]
        return [*first, *(Suggestion(c, "user") for c in users), *(Suggestion(c, "warm-start") for c in warm)]


def bound_space(record: StudyRecord) -> ModelSpace:
    """The study's model space, bound as it was. Raises UsageError for a class that lived in a script, or when the
    space or the data is no longer what it was."""
    name = record.options["space"]
    if name is None:
        raise UsageError(
            f"study {record.name!r} searched a space defined in a script",
            "resume it from there: Study.open(..., space=)",
        )
    data = record.options["data"]
    space = spaces.load(name, task=record.task, data=Path(data) if data else None)
    if space.search_space.identity != record.identity:
        raise UsageError(f"space {name!r} has changed since study {record.name!r} began", "start a new study")
    if space.task().identity != record.task_identity:
        raise UsageError(f"the data of study {record.name!r} has changed since it began", "start a new study")
    return space


def _function(record: StudyRecord) -> Callable[..., Any]:
    """The user's function, where the study knows its path."""
    path = record.options["evaluate"]
    if path is None:
        raise UsageError(
            f"study {record.name!r} evaluates a function defined in a script",
            "resume it from there: Study.open(name).run(evaluate=...), or give evaluate as 'pkg.mod:fn'",
        )
    return function_at(path)
