"""The front of a device on which little is measured: the rest is predicted from it and from other devices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archfront import predictors
from archfront.cluster._front import nondominated
from archfront.cluster._plan import Plan, bound_space
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster.store import FrontPoint, FrontResult, Store, cheapest_first
from archfront.predictors._few_shot_devices import LEAST, Known, OtherDevices, tabulated
from archfront.predictors._predictor import Predictor
from archfront.search._types import Configuration, Constraint, Objective, Value
from archfront.spaces._errors import UsageError
from archfront.spaces._metric import METRICS
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._table import TableLookup

__all__ = ["ElsewhereKnown", "PredictedFront", "known_elsewhere", "plan_of", "predicted_front"]

ENOUGH = 2 * LEAST
"""Another device is used as long as all that are used together know so many architectures."""


@dataclass(frozen=True)
class PredictedFront:
    """A front with predicted values of its device: their kind says so, and that of their points. It was learned from
    `learned` architectures measured there and from these `others`; `unknown` architectures could not be predicted."""

    result: FrontResult
    learned: int
    others: tuple[str, ...]
    unknown: int


def predicted_front(
    store: Store,
    space: str | None = None,
    study: str | None = None,
    *,
    device: str,
    predictor: str = "few_shot",
    parameters: Mapping[str, Any] | None = None,
    where: Sequence[Constraint] = (),
    **question: Any,
) -> PredictedFront:
    """The front of everything known (of a study, or of everyone's facts), on a device by measured values where there
    are some and predicted ones elsewhere. `question` is what else `Store.front` takes.

    Raises as `Store.front` does, and UsageError where too little is measured, no other device is known, or a quality
    of the device's own (int8) would have to be predicted.
    """
    every = store.known_points(space, study, device=device, **question)  # what is out of bounds teaches too
    asked = [o for o in every.objectives if o.device is not None and o.device == every.device]
    for objective in asked:
        if objective.metric not in METRICS or METRICS[objective.metric].source != "device":
            raise UsageError(
                f"{objective.name} is not predicted: device {device!r} changes the networks",
                f"measure it: archfront devices measure {device} --study STUDY",
            )
    plan, points = plan_of(store, every), list(every.points)
    others: tuple[str, ...] = ()
    learned = 0
    for objective in asked:
        guess = _Guess.of(store, plan, every, objective, predictor, parameters or {})
        points = guess.filled(points)
        others, learned = guess.others, guess.learned
    names = [objective.name for objective in every.objectives]
    whole = [p for p in points if all(n in p.values and math.isfinite(p.values[n].value) for n in names)]
    fitting = [p for p in whole if all(c.violation(p.metrics[c.metric]) <= 0 for c in where if c.metric in p.metrics)]
    front = replace(every, points=cheapest_first(every.objectives, _best(every, fitting)))
    return PredictedFront(front, learned, others, sum(any(n not in p.values for n in names) for p in points))


def _best(every: FrontResult, points: Sequence[FrontPoint]) -> list[FrontPoint]:
    if not points:
        return []
    losses = np.array([[o.loss(point.values[o.name].value) for o in every.objectives] for point in points])
    return [point for point, stays in zip(points, nondominated(losses), strict=True) if stays]


@dataclass(frozen=True)
class _Guess:
    """What is predicted of one objective, by key."""

    objective: Objective
    values: Mapping[str, Value]
    learned: int
    others: tuple[str, ...]

    @classmethod
    def of(
        cls,
        store: Store,
        plan: Plan,
        every: FrontResult,
        objective: Objective,
        name: str,
        parameters: Mapping[str, Any],
    ) -> _Guess:
        own = {p.key: plan.own(dict(p.config)) for p in every.points}
        measured = {p.key: p.values[objective.name].value for p in every.points if objective.name in p.values}
        labels = {key: value for key, value in measured.items() if math.isfinite(value)}  # the others cannot run there
        make = predictors.load(name)
        known = known_elsewhere(store, plan, objective.metric, str(every.device), list(own.values()))
        told = _told(plan, known)
        _refuse_too_little(make, name, told, len(labels), str(every.device))
        if name == "few_shot":
            own = {key: own[key] for key, there in zip(own, known.has(list(own.values())), strict=True) if there}
            parameters = {"pool": list(own.values()), **parameters}
        made = make(plan.space.search_space, told, **parameters)
        train = [key for key in own if key in labels]
        made.fit([own[key] for key in train], {objective.metric: np.array([labels[key] for key in train])})
        values: dict[str, Value] = {}
        if wanted := [key for key in own if key not in measured]:
            found = made.predict([own[key] for key in wanted])[objective.metric]
            std = [None] * len(wanted) if found.std is None else [float(x) for x in found.std]
            means = zip(wanted, found.mean, std, strict=True)
            values = {key: Value(float(mean), "predicted", spread) for key, mean, spread in means}
        return cls(objective, values, len(train), known.names if name == "few_shot" else ())

    def filled(self, points: Sequence[FrontPoint]) -> list[FrontPoint]:
        """With the predicted values where nothing is measured."""
        name = self.objective.name
        return [
            replace(p, values={**p.values, name: self.values[p.key]}, kind="predicted") if p.key in self.values else p
            for p in points
        ]


def _told(plan: Plan, known: ElsewhereKnown) -> OtherDevices:
    context = plan.context()
    return OtherDevices(context.model_space, context.task, context.exact, known=known.values if known.names else None)


def _refuse_too_little(make: type[Predictor], name: str, told: OtherDevices, labels: int, device: str) -> None:
    if (refusal := make.supports(told)) is not None:
        raise UsageError(
            f"predictor {name!r} cannot be used here: {refusal}",
            "measure these architectures on other devices too, or give --predictor gaussian_process",
        )
    if labels < make.minimum:
        raise UsageError(
            f"{labels} architectures are measured on {device}, {name} needs {make.minimum}",
            f"archfront devices measure {device} --study STUDY --sample 20",
        )


@dataclass(frozen=True)
class ElsewhereKnown:
    """What other devices are known to take, in the order of `names`."""

    names: tuple[str, ...]
    values: Known

    def has(self, configs: Sequence[Configuration]) -> list[bool]:
        """Whether some device knows each configuration."""
        if not self.names or not configs:
            return [False] * len(configs)
        return [bool(np.isfinite(row).any()) for row in self.values(configs)]


def known_elsewhere(
    store: Store, plan: Plan, metric: str, device: str, configs: Sequence[Configuration]
) -> ElsewhereKnown:
    """A device metric on the columns of the space's table, and on the store's other devices, those first that know
    most of `configs`, as long as together they know enough of them."""
    record, space = plan.record, plan.space
    names = {d.identity: d.name for d in store.devices()}
    stored = store.values_by_device(record.identity, record.signature, metric)
    table = list(space.devices) if isinstance(space, TableLookup) else []
    columns = [name for name in table if metric in space.devices[name] and name != device]  # type: ignore[attr-defined]
    others = {
        names[identity]: values
        for identity, values in stored.items()
        if names.get(identity, device) not in (device, *table)
    }
    keys = space.search_space.architecture_keys_of(configs)
    chosen: list[str] = []
    together = set(keys)
    for name in sorted(others, key=lambda one: (-len(others[one].keys() & set(keys)), one)):
        left = together & others[name].keys()
        if len(left) >= ENOUGH:
            chosen, together = [*chosen, name], left
    known: list[Known] = [tabulated(space, columns, metric)] if columns else []  # type: ignore[arg-type]
    if chosen:
        known.append(_by_architecture(space.search_space, [others[name] for name in chosen]))
    return ElsewhereKnown((*columns, *chosen), lambda asked: np.concatenate([one(asked) for one in known], axis=1))


def _by_architecture(space: SearchSpace, devices: Sequence[Mapping[str, float]]) -> Known:
    def values(configs: Sequence[Configuration]) -> Floats:
        keys = space.architecture_keys_of(space.canonicalise_all(configs))
        return np.array([[device.get(key, math.nan) for device in devices] for key in keys], np.float64)

    return values


def plan_of(store: Store, result: FrontResult) -> Plan:
    """A plan of a study that the front could come from. Raises UsageError for a study of a user's function."""
    fitting = [r for r in store.studies() if (r.identity, r.signature) == (result.identity, result.signature)]
    record = next((r for r in fitting if not r.private and result.study in ("", r.name)), None)
    if record is None:
        raise UsageError("nothing is predicted for a user's function", "its devices are known to it alone")
    space = bound_space(record)
    return Plan.of(record, files=TrialFiles(f"{store.files_url}/trials"), stored={}, space=space, measure=False)
