"""A problem of the comparison: two objectives of a table, and the front of the whole table where there is one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from archfront import spaces
from archfront.cluster._device import named_device
from archfront.cluster._goals import goals_of
from archfront.predictors._context import Context, exact_of
from archfront.search._types import Configuration, Objective
from archfront.spaces._errors import UsageError
from archfront.spaces._lookup import LookedUp, LookupSpace
from archfront.spaces._table import TableLookup

__all__ = ["Problem", "problem"]

Floats = NDArray[np.float64]
STATED = {("nasbench201", "cifar100", "error"): 0.4}
"""References that protocol P1 states."""
QUALITY_QUANTILE, COST_QUANTILE = 0.75, 0.95
"""Of a table's values, for the reference of objectives without a stated one (0.4 is the 0.74 quantile of its table)."""
SAMPLED = 1_000
"""Random configurations (seed 0) that stand for a space without a whole table."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Objectives of a bound look-up space. `reference` and losses are minimised; `full` is the hypervolume of the whole
    table's front, None without one."""

    space: LookupSpace
    objectives: tuple[Objective, ...]
    epochs: int
    reference: Floats
    full: float | None

    def losses(self, config: Configuration) -> Floats | str:
        """What an evaluation tells (m,), or why the configuration is invalid."""
        task = self.space.task().name
        found = self.space.look_up(config, task, self.space.protocol_of(self.epochs))
        return _losses(self.objectives, found)

    def context(self) -> Context:
        """What a study on this table lets its strategy know."""
        task, protocol = self.space.task(), self.space.protocol_of(self.epochs)
        return Context(self.space, task, exact_of(lambda c: self.space.look_up(c, task.name, protocol).analytic))

    def hypervolume(self, losses: Sequence[Floats]) -> float:
        """Up to the reference; 0 of nothing."""
        return float(moocore.hypervolume(np.array(losses), ref=self.reference)) if len(losses) else 0.0

    def share(self, losses: Sequence[Floats]) -> float | None:
        """The hypervolume as a share of the whole table's; None without one."""
        return None if self.full is None else self.hypervolume(losses) / self.full

    @property
    def protocol(self) -> dict[str, Any]:
        """What makes two rows comparable."""
        return {
            "space": self.space.full_name,
            "task": self.space.task().identity,
            "epochs": self.epochs,
            "objectives": [f"{o.name}:{o.direction}" for o in self.objectives],
            "reference": [o.loss(float(r)) for o, r in zip(self.objectives, self.reference, strict=True)],
        }


@lru_cache(maxsize=16)
def problem(
    name: str,
    task: str | None,
    device: str | None,
    epochs: int | None,
    objectives: tuple[str, ...] = (),
    reference: tuple[tuple[str, float], ...] = (),
) -> Problem:
    """The problem of a look-up space on one device. Raises UnknownNameError, UsageError: also for a device that would
    have to measure."""
    space = spaces.load(name, task=task)
    if not isinstance(space, LookupSpace):
        raise UsageError(f"space {name!r} is trained, not looked up", "bench compares on tables, e.g. nasbench201")
    if space.refusal is not None:
        raise UsageError(space.refusal)
    if device is not None and device not in space.devices:
        named_device(device, also=space.devices)
        raise UsageError(f"device {device!r} measures: bench compares on the columns of tables", _known(space))
    goals = goals_of(space, objectives, (), [] if device is None else [device], {})
    for name_, used in goals.devices.items():
        if used.kind != "table":
            raise UsageError(f"device {name_!r} measures: bench compares on the columns of tables", _known(space))
    epochs = space.epochs if epochs is None else epochs
    table = _table_losses(space, goals.objectives, epochs)
    point = _reference(space, goals.objectives, table, dict(reference))
    complete = isinstance(space, TableLookup)
    full = float(moocore.hypervolume(table, ref=point)) if complete else None
    return Problem(space, goals.objectives, epochs, point, full)


def _known(space: LookupSpace) -> str:
    return f"{space.name} has {', '.join(space.devices) or 'no devices'}"


def _losses(objectives: Sequence[Objective], found: LookedUp) -> Floats | str:
    values = []
    for objective in objectives:
        if (why := found.invalid.get("") or found.invalid.get(objective.device or "")) is not None:
            return why
        if objective.device is not None:
            value = found.device.get((objective.metric, objective.device), math.nan)
        else:
            value = {**found.analytic, **found.quality}.get(objective.metric, math.nan)
        if not math.isfinite(value):
            return f"{objective.name} is {value}"
        values.append(objective.loss(value))
    return np.array(values)


def _table_losses(space: LookupSpace, objectives: Sequence[Objective], epochs: int) -> Floats:
    """The losses (rows, m) of every valid row of a table, or of random configurations."""
    protocol = space.protocol_of(epochs)
    if isinstance(space, TableLookup):
        table = space.table
        points = [table.looked_up(row, protocol) for row in range(len(table))]
    else:
        configs = space.search_space.sample(np.random.default_rng(0), SAMPLED)
        points = [space.look_up(config, space.task().name, protocol) for config in configs]
    return np.array([losses for point in points if not isinstance(losses := _losses(objectives, point), str)])


def _reference(
    space: LookupSpace, objectives: Sequence[Objective], table: Floats, given: Mapping[str, float]
) -> Floats:
    point = []
    quality = {metric.name for metric in space.task().metrics}
    for j, o in enumerate(objectives):
        stated = given.get(o.name, given.get(o.metric, STATED.get((space.name, space.task().name, o.metric))))
        quantile = QUALITY_QUANTILE if o.metric in quality and o.device is None and j == 0 else COST_QUANTILE
        point.append(float(np.quantile(table[:, j], quantile)) if stated is None else o.loss(stated))
    return np.array(point)
