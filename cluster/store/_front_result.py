"""A front as it is handed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archfront.cluster.store._codec import objective_out
from archfront.predictors._prediction import GUESSED_KINDS
from archfront.search._types import Constraint, Objective, Value
from archfront.spaces._errors import UsageError
from archfront.spaces._metric import METRICS

__all__ = ["FrontPoint", "FrontResult", "cheapest_first"]


@dataclass(frozen=True)
class FrontPoint:
    """One non-dominated configuration.

    `values` by the name of the objective ("latency_ms@cpu"); `others` are further observed values by metric, `test_*`
    among them. `entered` is when it came onto the front: the study's sequence number, or the observation's id on a
    front of facts. `study` and `origin` are "" when the study that found it was removed.
    """

    key: str
    config: Mapping[str, Any]
    values: Mapping[str, Value]
    study: str
    origin: str
    kind: str
    proposal: str | None
    entered: int
    architecture_key: str = ""
    others: Mapping[str, Value] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Every value by its plain metric name, raw; of one metric on several devices each keeps its full name."""
        plain = [name.partition("@")[0] for name in self.values]
        own = {
            short if plain.count(short) == 1 else name: value.value
            for short, (name, value) in zip(plain, self.values.items(), strict=True)
        }
        return {**{name: value.value for name, value in self.others.items()}, **own}

    @property
    def guessed(self) -> dict[str, float | None]:
        """The standard deviations of those values that are predicted, by plain metric name; empty where none is."""
        return {name.partition("@")[0]: value.std for name, value in self.values.items() if value.kind in GUESSED_KINDS}


@dataclass(frozen=True)
class FrontResult:
    """The non-dominated points, cheapest first.

    `study` is "" on a front of everyone's facts. `device` is a device's name, None without one, "*" over all of a
    study's. `reference` is raw, one value per objective, None when too little is known. `stored` is False when it was
    computed for this request. `others` are the names of other fronts that would have fitted.
    """

    space: str
    task: str
    study: str
    device: str | None
    protocol: str
    objectives: tuple[Objective, ...]
    points: tuple[FrontPoint, ...]
    stored: bool
    reference: tuple[float, ...] | None
    hypervolume: float | None
    others: tuple[str, ...] = ()
    identity: str = ""
    signature: str = ""
    task_identity: str = ""

    def __len__(self) -> int:
        return len(self.points)

    def best(self, metric: str, where: Sequence[Constraint] = (), **bounds: float) -> FrontPoint:
        """The point that is best in `metric`, among those within `where` and the bounds; ties go to the cheapest.

        `latency_ms=2.0` means at most 2, at least for a metric that is maximised. Raises UsageError for a metric that
        no point has, or when no point is within the bounds.
        """
        limits = [*where, *(self._bound(name, bound) for name, bound in bounds.items())]
        for name in (metric, *(limit.metric for limit in limits)):
            if self.points and not any(name in point.metrics for point in self.points):
                known = ", ".join(sorted({known for point in self.points for known in point.metrics}))
                raise UsageError(f"no point of this front has the metric {name!r}", f"known: {known}")
        fitting = [
            point
            for point in self.points
            if metric in point.metrics
            and all(c.metric in point.metrics and c.violation(point.metrics[c.metric]) == 0 for c in limits)
        ]
        if not fitting:
            asked = ", ".join(map(str, limits)) or "no bound"
            raise UsageError(f"none of the {len(self.points)} points of this front is within {asked}", "loosen a bound")
        sign = -1.0 if self._direction(metric) == "max" else 1.0
        return min(fitting, key=lambda point: sign * point.metrics[metric])

    def document(self) -> dict[str, Any]:
        """The front as JSON, with the keys that `archfront front --json` promises."""
        return {
            "space": self.space,
            "task": self.task,
            "study": self.study or None,
            "device": self.device,
            "protocol": self.protocol,
            "stored": self.stored,
            "objectives": [objective_out(objective) for objective in self.objectives],
            "reference": None if self.reference is None else list(self.reference),
            "hypervolume": self.hypervolume,
            "points": [
                {
                    "key": point.key,
                    "config": dict(point.config),
                    "metrics": point.metrics,
                    "study": point.study,
                    "origin": point.origin,
                    "kind": point.kind,
                    **({"std": spread} if (spread := point.guessed) else {}),
                }
                for point in self.points
            ],
        }

    def _bound(self, metric: str, bound: float) -> Constraint:
        return Constraint(metric, "<=" if self._direction(metric) == "min" else ">=", float(bound))

    def _direction(self, metric: str) -> str:
        for objective in self.objectives:
            if metric in (objective.metric, objective.name):
                return objective.direction
        declared = METRICS.get(metric.removeprefix("test_"))
        return declared.direction if declared else "min"


def cheapest_first(objectives: Sequence[Objective], points: Sequence[FrontPoint]) -> tuple[FrontPoint, ...]:
    """By the first cost (a device metric, else an analytic one, else the first objective), then by the rest."""
    costs = [
        o
        for o in objectives
        if o.device is not None and (o.metric not in METRICS or METRICS[o.metric].source != "quality")
    ]
    costs += [
        o for o in objectives if o.device is None and o.metric in METRICS and METRICS[o.metric].source == "analytic"
    ]
    order = list(dict.fromkeys([*costs, *objectives]))
    return tuple(sorted(points, key=lambda p: (*(o.loss(p.values[o.name].value) for o in order), p.key)))
