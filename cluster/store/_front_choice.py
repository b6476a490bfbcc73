"""Which front is meant: what is not said comes from the newest fitting study (rule 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, or_, select

from archfront.cluster.store._candidates import Scope
from archfront.cluster.store._front_spec import ALL_DEVICES, FrontSpec, of_device
from archfront.cluster.store._models import DeviceRow, StudyRow
from archfront.cluster.store._records import NoFrontError, StudyRecord
from archfront.cluster.store._studies import record_of, study_id
from archfront.search._types import Constraint, Objective
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._metric import METRICS

__all__ = ["Question", "choose"]


@dataclass(frozen=True)
class Question:
    """What was asked for; None is not said. `device` is a name or an identity, "*" all devices of the study."""

    space: str | None = None
    study: str | None = None
    task: str | None = None
    protocol: str | None = None
    device: str | None = None
    objectives: Sequence[Objective | str] | None = None
    where: Sequence[Constraint] = ()


@dataclass(frozen=True)
class Chosen:
    """The study that answers, the front, and the fronts that would have fitted too."""

    study: StudyRecord
    spec: FrontSpec
    device: str | None
    others: tuple[str, ...]


def choose(connection: Connection, question: Question) -> Chosen:
    """Raises NoFrontError when no study fits, UsageError when the device is not said and several are possible."""
    fitting = _fitting(connection, question)
    if not fitting:
        asked = [
            f"{n} {v!r}" for n in ("space", "study", "task", "protocol") if (v := getattr(question, n)) is not None
        ]
        raise NoFrontError(f"no study of {', '.join(asked) or 'any kind'} is in this store", _what_is(connection))
    number, record = fitting[0]
    objectives = _objectives(record, question.objectives)
    objectives, device, devices = _on_device(connection, record, objectives, question.device)
    own = question.study is not None or record.private
    where = (record.identity, record.signature, record.task_identity, record.protocol)
    scope = Scope(number if own else None, *where)
    kept = record.constraints if own else ()
    bounds = [*kept, *(_placed(c, objectives) for c in question.where)]
    identity = ALL_DEVICES if device == ALL_DEVICES else devices.get(device or "", "")
    spec = FrontSpec(
        scope,
        identity,
        tuple((o, (o.metric, devices[o.device] if o.device is not None else "")) for o in objectives),
        tuple((c, (c.metric, devices.get(c.device or "", c.device or ""))) for c in bounds),
    )
    return Chosen(record, spec, device, _others(fitting, own))


def _what_is(connection: Connection) -> str:
    """The spaces and tasks of the store's studies, as a hint."""
    rows = connection.execute(select(StudyRow.space, StudyRow.task).distinct().order_by(StudyRow.space, StudyRow.task))
    there = [f"{space} / {task}" if task else str(space) for space, task in rows]
    return f"it has: {', '.join(there)}" if there else "it is empty: start one with `archfront search SPACE`"


def _fitting(connection: Connection, question: Question) -> list[tuple[int, StudyRecord]]:
    """Studies, those that have the device and the objectives before the others, public before private, newest first."""
    query = select(StudyRow.__table__)
    if question.study is not None:
        query = query.where(StudyRow.id == study_id(connection, question.study))
    if question.space is not None:
        bare = StudyRow.space.startswith(question.space + "/", autoescape=True)
        query = query.where(or_(StudyRow.space == question.space, StudyRow.identity == question.space, bare))
    if question.task is not None:
        query = query.where(or_(StudyRow.task == question.task, StudyRow.task_identity == question.task))
    if question.protocol is not None:
        query = query.where(StudyRow.protocol == question.protocol)
    rows = connection.execute(query.order_by(StudyRow.created.desc(), StudyRow.id.desc())).mappings().all()
    studies = [(int(row["id"]), record_of(row)) for row in rows]

    def rank(pair: tuple[int, StudyRecord]) -> tuple[bool, bool, bool]:
        record = pair[1]
        no_device = question.device not in (None, ALL_DEVICES, *record.devices, *record.devices.values())
        metrics = {o.metric for o in record.objectives}
        asked = {o.metric if isinstance(o, Objective) else _metric(o) for o in question.objectives or ()}
        return no_device, not asked <= metrics, record.private

    return sorted(studies, key=rank)  # stable: newest first within a rank


def _metric(text: str) -> str:
    return text.partition(":")[0].partition("@")[0]


def _objectives(record: StudyRecord, asked: Sequence[Objective | str] | None) -> list[Objective]:
    """The study's objectives, or the asked ones; a bare metric takes the study's objectives of that metric."""
    if asked is None:
        return list(record.objectives)
    chosen: list[Objective] = []
    directions = {o.metric: o.direction for o in record.objectives}
    for objective in asked:
        if isinstance(objective, Objective):
            chosen.append(objective)
            continue
        same = [o for o in record.objectives if objective in (o.metric, o.name)]
        chosen += same or [Objective.parse(objective, directions)]
    return list(dict.fromkeys(chosen))


def _on_device(
    connection: Connection, record: StudyRecord, objectives: list[Objective], asked: str | None
) -> tuple[list[Objective], str | None, Mapping[str, str]]:
    """The objectives of one device, its name, and the identities of devices by name.

    A device that the study does not know takes over the study's device objectives: measured later, it ranks the same
    configurations.
    """
    devices = dict(record.devices)
    used = list(dict.fromkeys(o.device for o in objectives if o.device is not None))
    if asked == ALL_DEVICES:
        return objectives, ALL_DEVICES if len(used) > 1 else next(iter(used), None), devices
    if asked is None:
        if len(used) > 1:
            raise UsageError(
                f"study {record.name!r} has the devices {', '.join(used)}, and a front has one device",
                f"give --device {used[0]}",
            )
        unknown = [device for device in used if device not in devices]
        devices.update({device: _identity(connection, device) for device in unknown})
        return objectives, next(iter(used), None), devices
    names = {identity: name for name, identity in devices.items()}
    name = names.get(asked, asked)
    if not used:
        raise UsageError(
            f"study {record.name!r} has no objective on a device, so its front has none", "leave --device out"
        )
    if name not in devices:
        devices[name] = _identity(connection, asked)
    if name in used:
        return of_device(objectives, name), name, devices
    quantises = _precision(connection, devices[name]) != "fp32"
    moved = [
        replace(o, device=name) if o.device is not None or (quantises and _is_quality(o.metric)) else o
        for o in objectives
    ]
    return list(dict.fromkeys(moved)), name, devices


def _is_quality(metric: str) -> bool:
    return metric not in METRICS or METRICS[metric].source == "quality"


def _precision(connection: Connection, identity: str) -> str:
    definition = connection.scalar(select(DeviceRow.definition).where(DeviceRow.identity == identity)) or {}
    return str(definition.get("precision", "fp32"))


def _identity(connection: Connection, device: str) -> str:
    """The identity of a device the store remembers, by name or identity."""
    query = select(DeviceRow.identity).where(or_(DeviceRow.name == device, DeviceRow.identity == device))
    found = connection.scalars(query).all()
    if not found:
        raise UnknownNameError.of("device", device, connection.scalars(select(DeviceRow.name)).all())
    if len(found) > 1:
        raise UsageError(f"several devices are named {device!r}: {', '.join(sorted(found))}", "give one of these")
    return found[0]


def _placed(constraint: Constraint, objectives: Sequence[Objective]) -> Constraint:
    """A bound on a device metric without a device means the front's."""
    same = [o for o in objectives if o.metric == constraint.metric]
    if constraint.device is None and len(same) == 1:
        return replace(constraint, device=same[0].device)
    return constraint


def _others(fitting: Sequence[tuple[int, StudyRecord]], own: bool) -> tuple[str, ...]:
    """Other fronts that fit: studies when one was asked for, else other tasks, protocols and objectives."""
    if own:
        return tuple(record.name for _, record in fitting[1:])
    described = [
        f"{r.space} {r.task} protocol {r.protocol[:12]} ({', '.join(o.name for o in r.objectives)})" for _, r in fitting
    ]
    return tuple(other for other in dict.fromkeys(described) if other != described[0])
