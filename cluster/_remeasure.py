"""A device that came later: what is stored is measured on it, and its fronts follow without any training."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from archfront.cluster._deployed import scores
from archfront.cluster._device import Device
from archfront.cluster._goals import device_of
from archfront.cluster._measure import CannotRunError, Measurer
from archfront.cluster._measuring import sessions_of
from archfront.cluster._plan import Plan, bound_space
from archfront.cluster._timing import Timing
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster.export import load_network
from archfront.cluster.store import ALL_DEVICES, DeviceSession, FrontPoint, Store
from archfront.search._types import Kind, Value
from archfront.spaces._errors import ArchfrontError, ExportError, UnknownNameError
from archfront.spaces._lookup import LookupSpace

__all__ = ["Remeasured", "measure_studies"]


@dataclass(frozen=True)
class Remeasured:
    """One study: how many architectures were measured, and why others are missing, by key."""

    study: str
    measured: int
    missing: Mapping[str, str]


def measure_studies(
    store: Store,
    device: Device | str,
    names: Sequence[str] | None = None,
    stored: Mapping[str, Device] = MappingProxyType({}),
) -> list[Remeasured]:
    """Measure every front member of these studies (all that bind a model space by default) on one device, by latency,
    and on a device that quantises by quality too. A name is looked for among `stored` devices; in a study of a table it
    may be one of its columns: then it is looked up there. An architecture that cannot run on the device is stored as
    such: it is on none of its fronts, and its other values stay.

    Raises UnknownNameError for a study that is not there or a name that nothing has.
    """
    for name in names or ():
        store.study(name)
    done, refused = [], None
    for record in store.studies():
        if record.private or record.options.get("space") is None or (names is not None and record.name not in names):
            continue
        space = bound_space(record)
        try:
            target = device_of(space, device, stored) if isinstance(device, str) else device
        except UnknownNameError as error:  # one study's table may have the column, another's not
            refused = error
            continue
        store.put_devices([target.record()])
        files = TrialFiles(f"{store.files_url}/trials")
        plan = Plan.of(record, files=files, stored={}, space=space, measure=False)
        points = store.front(study=record.name, device=ALL_DEVICES).points
        look = _looked_up if target.kind == "table" else _measured
        done.append(look(store, plan, target, points))
    if not done and refused is not None:
        raise refused
    return done


def _looked_up(store: Store, plan: Plan, device: Device, points: Sequence[FrontPoint]) -> Remeasured:
    space = plan.space
    assert isinstance(space, LookupSpace)
    missing: dict[str, str] = {}
    sessions = []
    for point, key in zip(points, plan.architecture_keys_of([dict(p.config) for p in points]), strict=True):
        found = space.look_up(plan.own(dict(point.config)), space.task().name, plan.looked_up_protocol)
        if device.name in found.invalid:
            missing[point.key] = found.invalid[device.name]
        for metric in space.devices[device.name]:
            value = math.nan if point.key in missing else found.device.get((metric, device.name), math.nan)
            place = (plan.record.identity, plan.record.signature, key, device.identity)
            sessions.append(DeviceSession(*place, metric, value, "looked up", kind="looked_up", study=plan.record.name))
    store.add_device_sessions(sessions)
    return Remeasured(plan.record.name, len(points) - len(missing), missing)


def _measured(store: Store, plan: Plan, device: Device, points: Sequence[FrontPoint]) -> Remeasured:
    missing: dict[str, str] = {}
    if device.own_quality:
        qualities = {point.key: _quality(store, plan, point, missing) for point in points}
        store.observe_on_device(plan.record.name, device.identity, {key: q for key, q in qualities.items() if q})
    measurer = Measurer(plan.space, device)
    try:
        timings = measurer.measure([plan.own(dict(point.config)) for point in points], plan.record.seed)
    finally:
        measurer.close()
    sessions = []
    for point, timing in zip(points, timings, strict=True):
        if isinstance(timing, Timing):
            sessions += sessions_of(plan, device, dict(point.config), timing, ["latency_ms"])
        else:
            missing.setdefault(point.key, str(timing))
            if isinstance(timing, CannotRunError):
                sessions.append(_cannot_run(plan, device, point))
    store.add_device_sessions(sessions)
    return Remeasured(plan.record.name, sum(isinstance(timing, Timing) for timing in timings), missing)


def _quality(store: Store, plan: Plan, point: FrontPoint, missing: dict[str, str]) -> dict[str, Value]:
    """What the network of a point is worth when it is quantised; NaN where it cannot be, nothing without weights."""
    config = plan.own(dict(point.config))
    kind: Kind = "sliced" if plan.record.options["supernet"] is not None else "trained"
    try:
        net = load_network(store, point.key, study=plan.record.name, space=plan.space)
    except ArchfrontError as error:
        missing[point.key] = str(error)
        return {}
    try:
        return {metric: Value(x, kind) for metric, x in scores(net, plan.space, config).items()}
    except ExportError as error:
        missing[point.key] = str(error)
        return {metric.name: Value(math.nan, kind) for metric in plan.space.task().metrics}


def _cannot_run(plan: Plan, device: Device, point: FrontPoint) -> DeviceSession:
    (key,) = plan.architecture_keys_of([dict(point.config)])
    record = plan.record
    place = (record.identity, record.signature, key, device.identity, "latency_ms")
    return DeviceSession(*place, math.nan, uuid.uuid4().hex, study=record.name)
