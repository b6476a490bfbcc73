"""What a study is after: its objectives and constraints, checked against what its task and its devices give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from archfront.cluster._device import Device, named_device
from archfront.search._types import Constraint, Objective
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._metric import METRICS
from archfront.spaces._task import Task

__all__ = ["Goals", "goals_of", "parsed_constraints", "refuse_too_many"]

MOST_OBJECTIVES = 4
DEFAULT_DEVICE = "cpu"


@dataclass(frozen=True)
class Goals:
    """Objectives and constraints of which every device metric names its device, and these devices by name."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    devices: Mapping[str, Device]


def goals_of(
    task: Task,
    objectives: Sequence[str | Objective],
    constraints: Sequence[str | Constraint],
    devices: Sequence[str],
    stored: Mapping[str, Device],
) -> Goals:
    """A device metric without a device is spread over `devices` as an objective (rule 15), and means the only device
    there is as a constraint; `cpu` where none is named. Without objectives: the task's first metric and latency.

    Raises UnknownNameError, and UsageError for a device without use and a metric that a device does not measure.
    """
    aims = _spread(task, objectives, devices)
    refuse_too_many(aims)
    places = list(dict.fromkeys([*(o.device for o in aims if o.device), *devices])) or [DEFAULT_DEVICE]
    bounds = tuple(_placed(task, c, places) for c in parsed_constraints(constraints))
    named = [(o.metric, o.device) for o in aims] + [(c.metric, c.device) for c in bounds]
    used = dict.fromkeys(device for _, device in named if device is not None)
    idle = [name for name in devices if name not in used]
    if idle:
        raise UsageError(f"--device {idle[0]}: no objective is measured on a device", "add --objective latency_ms")
    found = {name: named_device(name, stored) for name in used}
    for metric, device in named:
        if device is not None and (refusal := found[device].refusal(metric)) is not None:
            raise UsageError(refusal)
    return Goals(aims, bounds, found)


def refuse_too_many(objectives: Sequence[Objective]) -> None:
    """Raise UsageError for more than MOST_OBJECTIVES."""
    if len(objectives) > MOST_OBJECTIVES:
        raise UsageError(
            f"{len(objectives)} objectives ({', '.join(o.name for o in objectives)}) are more than {MOST_OBJECTIVES}",
            "run one study per device: facts are shared, nothing is trained twice",
        )


def parsed_constraints(constraints: Sequence[str | Constraint]) -> list[Constraint]:
    """Raises UsageError."""
    return [c if isinstance(c, Constraint) else Constraint.parse(c) for c in constraints]


def _spread(task: Task, objectives: Sequence[str | Objective], devices: Sequence[str]) -> tuple[Objective, ...]:
    directions = {m.name: m.direction for m in task.metrics}
    asked = list(objectives) or [task.metrics[0].name, "latency_ms"]
    given = [o if isinstance(o, Objective) else Objective.parse(o, directions) for o in asked]
    places = list(dict.fromkeys([*devices, *(o.device for o in given if o.device)])) or [DEFAULT_DEVICE]
    spread: list[Objective] = []
    for objective in given:
        bare = _needs_device("objective", task, objective.metric, objective.device) and objective.device is None
        spread += [replace(objective, device=place) for place in places] if bare else [objective]
    return tuple(dict.fromkeys(spread))


def _placed(task: Task, constraint: Constraint, places: Sequence[str]) -> Constraint:
    if not _needs_device("constraint", task, constraint.metric, constraint.device) or constraint.device is not None:
        return constraint
    if len(places) != 1:
        raise UsageError(f"constraint {str(constraint)!r}: on which device?", f"known: {', '.join(places)}")
    return replace(constraint, device=places[0])


def _needs_device(what: str, task: Task, metric: str, device: str | None) -> bool:
    """Whether a metric is measured on a device. Raises UnknownNameError, and UsageError for a device it has not."""
    quality = [m.name for m in task.metrics]
    shared = [m.name for m in METRICS.values() if m.source != "quality"]
    if metric not in quality and metric not in shared:
        raise UnknownNameError.of(f"{what} of task {task.name!r}", metric, [*quality, *shared])
    measured = metric not in quality and METRICS[metric].source == "device"
    if device is not None and not measured:
        raise UsageError(f"{what} {metric}@{device}: {metric} does not depend on a device")
    return measured
