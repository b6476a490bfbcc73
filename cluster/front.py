"""A front in the user's hands: a table, a plot, and the networks on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archfront.cluster.store import FrontPoint, FrontResult, Store
from archfront.search._types import Constraint, Objective

if TYPE_CHECKING:
    from torch import nn

    from archfront.spaces._model_space import ModelSpace

__all__ = ["Front", "Member"]


@dataclass(frozen=True, repr=False)
class Member:
    """One configuration of a front, with the way to its network."""

    point: FrontPoint
    result: FrontResult
    store: Store
    space: ModelSpace | None = None

    def __repr__(self) -> str:
        values = ", ".join(f"{o.name}={self.point.values[o.name].value:.4g}" for o in self.result.objectives)
        return f"<{self.key[:12]}: {values} ({self.point.origin})>"

    @property
    def key(self) -> str:
        """The configuration's key."""
        return self.point.key

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration."""
        return self.point.config

    @property
    def metrics(self) -> dict[str, float]:
        """Every value by its plain metric name."""
        return self.point.metrics

    def load(self) -> nn.Module:
        """The network with its stored weights, in eval mode. Raises ExportError when none are stored."""
        from archfront.cluster.export import load_network

        return load_network(self.store, self.key, study=self.point.study or None, space=self.space)


class Front:
    """The non-dominated configurations, cheapest first. Iterate, index, plot, or ask for the best."""

    def __init__(self, result: FrontResult, store: Store, space: ModelSpace | None = None) -> None:
        self.result, self.store, self.space = result, store, space

    def __repr__(self) -> str:
        head = f"<{self.title}: {len(self)} points>"
        return "\n".join([head, *(f"  {member!r}" for member in self)])

    def __len__(self) -> int:
        return len(self.result.points)

    def __iter__(self) -> Iterator[Member]:
        return map(self._member, self.result.points)

    def __getitem__(self, index: int) -> Member:
        return self._member(self.result.points[index])

    def _member(self, point: FrontPoint) -> Member:
        return Member(point, self.result, self.store, self.space)

    @property
    def title(self) -> str:
        """Of what space, task and device it is."""
        result = self.result
        on = f" on {result.device}" if result.device and result.device != "*" else ""
        return f"front of {result.space} / {result.task}{on}"

    @property
    def objectives(self) -> Sequence[Objective]:
        """The objectives of this front."""
        return self.result.objectives

    @property
    def hypervolume(self) -> float | None:
        """Dominated hypervolume up to the reference point; None while too little is known for one."""
        return self.result.hypervolume

    def best(self, metric: str, where: Sequence[Constraint] = (), **bounds: float) -> Member:
        """The best member in `metric` within the bounds: best("error", latency_ms=2.0). Raises UsageError."""
        return self._member(self.result.best(metric, where, **bounds))

    def only(self, member: Member) -> Front:
        """The same front with one of its members."""
        return Front(replace(self.result, points=(member.point,)), self.store, self.space)

    @cached_property
    def default(self) -> Default | None:
        """The paper's own setting (proposal 0) as it was evaluated, with current device values; None without one."""
        return default_of(self)

    def plot(self, path: str | Path) -> Path:
        """All evaluations grey, the front coloured and connected; returns the file's path."""
        from archfront.cluster._plot import plot_fronts

        return plot_fronts([self], Path(path))

    def to_dict(self) -> dict[str, Any]:
        """The stable keys of `front --json`."""
        return self.result.document()


@dataclass(frozen=True)
class Default:
    """The paper's own setting: values by objective name, raw."""

    key: str
    config: Mapping[str, Any]
    values: Mapping[str, float]


def default_of(front: Front) -> Default | None:
    """The newest evaluation of the paper's own setting in the front's study, or in any study of its space, task and
    protocol."""
    store, result = front.store, front.result
    found = store.newest_default(result)
    if found is None:
        return None
    study, architecture, evaluation = found
    told = {o.name: evaluation.values[o.name].value for o in front.objectives if o.name in evaluation.values}
    values = {name: value for name, value in told.items() if not math.isnan(value)}
    elsewhere = {device.name: device.identity for device in store.devices()}
    devices = {**elsewhere, **store.study(study).devices}
    for objective in front.objectives:
        device = None if objective.device is None else devices.get(objective.device)
        if device is not None:
            measured = store.device_value(result.identity, result.signature, architecture, device, objective.metric)
            if measured is not None:
                values[objective.name] = measured.value
    return Default(evaluation.key, evaluation.config, values)
