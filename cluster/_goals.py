"""What a study is after: its objectives and constraints, checked against what its task and its devices give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from archfront.cluster._block_tables import refuse_blockless
from archfront.cluster._device import Device, named_device, table_device
from archfront.search._types import Constraint, Objective
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._lookup import LookupSpace
from archfront.spaces._metric import METRICS
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._task import Task

__all__ = ["Goals", "device_of", "goals_of", "parsed_constraints", "refuse_too_many"]

MOST_OBJECTIVES = 4
DEFAULT_DEVICE = "cpu"


@dataclass(frozen=True)
class Goals:
    """Objectives and constraints of which every device metric names its device, and these devices by name."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    devices: Mapping[str, Device]


def goals_of(
    space: ModelSpace,
    objectives: Sequence[str | Objective],
    constraints: Sequence[str | Constraint],
    devices: Sequence[str],
    stored: Mapping[str, Device],
) -> Goals:
    """A device metric without a device is spread over `devices` as an objective (rule 15), and means the only device
    there is as a constraint; the default device where none is named: a table's first, else `cpu`. Without objectives:
    the task's first metric and latency, or what stands in its place (rule 15). Quality without a device is that of the
    weights, and on each device that quantises them another one (rule 2).

    Raises UnknownNameError, and UsageError for a device without use and a metric that a device does not measure.
    """
    task, default = space.task(), _default_device(space)
    aims = _spread(task, list(objectives) or _usual(space), devices, default)
    refuse_too_many(aims)
    places = list(dict.fromkeys([*(o.device for o in aims if o.device), *devices])) or [default]
    bounds = tuple(_placed(task, c, places) for c in parsed_constraints(constraints))
    named = [(o.metric, o.device) for o in aims] + [(c.metric, c.device) for c in bounds]
    used = dict.fromkeys(device for _, device in named if device is not None)
    idle = [name for name in devices if name not in used]
    if idle:
        raise UsageError(f"--device {idle[0]}: no objective is measured on a device", "add --objective latency_ms")
    found = {name: device_of(space, name, stored) for name in used}
    own = [name for name, device in found.items() if device.own_quality]
    if own and isinstance(space, LookupSpace):
        raise UsageError(
            f"device {own[0]!r} changes the networks it runs, and the table {space.name!r} knows what they are worth "
            "unchanged",
            "search a model space, or name a device in fp32",
        )
    aims = _with_own_quality(task, aims, found)
    refuse_too_many(aims)
    for metric, device in named:
        quality = any(metric == known.name for known in task.metrics)
        if device is not None and not quality and (refusal := _refusal(space, found[device], metric)) is not None:
            raise UsageError(refusal)
        if device is not None and quality and not found[device].own_quality:
            raise UsageError(f"{metric}@{device}: {metric} does not depend on a device in fp32", f"say {metric}")
        if device is None and (refusal := _no_such_value(space, metric)) is not None:
            raise UsageError(refusal)
    return Goals(aims, bounds, found)


def _with_own_quality(task: Task, aims: Sequence[Objective], devices: Mapping[str, Device]) -> tuple[Objective, ...]:
    """The quality of the weights, as long as some device runs these, and that on each device with another one."""
    variants = [name for name, device in devices.items() if device.own_quality]
    plain = not devices or len(variants) < len(devices)
    quality = {metric.name for metric in task.metrics}
    spread: list[Objective] = []
    for aim in aims:
        if aim.device is not None or aim.metric not in quality:
            spread.append(aim)
            continue
        spread += [aim] if plain else []
        spread += [replace(aim, device=name) for name in variants]
    return tuple(dict.fromkeys(spread))


def device_of(space: ModelSpace, name: str, stored: Mapping[str, Device] | None = None) -> Device:
    """What a device's name means for a space: a column of its table wins over what measures (rule 13).

    Raises UnknownNameError, and UsageError for a device that would have to measure networks that nobody builds.
    """
    if not isinstance(space, LookupSpace):
        device = named_device(name, stored)
        if device.kind == "lut":
            refuse_blockless(space)
        return device
    if name in space.devices:
        return table_device(name, space.name, space.device_content(name))
    if not space.builds:
        raise UnknownNameError.of(f"device of table {space.name!r}", name, space.devices)
    return named_device(name, stored, also=space.devices)


def _refusal(space: ModelSpace, device: Device, metric: str) -> str | None:
    if not isinstance(space, LookupSpace) or device.name not in space.devices:
        return device.refusal(metric)
    known = space.devices[device.name]
    return (
        None if metric in known else f"table {space.name!r} has {' and '.join(known)} of {device.name!r}, not {metric}"
    )


def _no_such_value(space: ModelSpace, metric: str) -> str | None:
    """Tables have the analytic columns they have."""
    if not isinstance(space, LookupSpace) or metric not in METRICS or METRICS[metric].source != "analytic":
        return None
    known = ", ".join([*(m.name for m in space.task().metrics), *space.analytic])
    return None if metric in space.analytic else f"table {space.name!r} has no {metric}: it has {known}"


def _default_device(space: ModelSpace) -> str:
    return next(iter(space.devices), DEFAULT_DEVICE) if isinstance(space, LookupSpace) else DEFAULT_DEVICE


def _usual(space: ModelSpace) -> list[str]:
    """The objectives of a search that names none."""
    first = space.task().metrics[0].name
    if not isinstance(space, LookupSpace):
        return [first, "latency_ms"]
    if space.devices:
        return [first, next(iter(space.devices.values()))[0]]
    others = [*space.analytic[:1], *(m.name for m in space.task().metrics[1:2])]
    return [first, *others[:1]]


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


def _spread(
    task: Task, objectives: Sequence[str | Objective], devices: Sequence[str], default: str
) -> tuple[Objective, ...]:
    directions = {m.name: m.direction for m in task.metrics}
    given = [o if isinstance(o, Objective) else Objective.parse(o, directions) for o in objectives]
    places = list(dict.fromkeys([*devices, *(o.device for o in given if o.device)])) or [default]
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
    if device is not None and not measured and metric not in quality:
        raise UsageError(f"{what} {metric}@{device}: {metric} does not depend on a device")
    return measured
