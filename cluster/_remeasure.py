"""A device that came later: what is stored is measured on it, and its fronts follow without any training."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from archfront.cluster._attached import measurer_of, refuse_absent
from archfront.cluster._block_tables import block_latency, refuse_blockless, table_of
from archfront.cluster._deployed import scores
from archfront.cluster._device import Device, tells
from archfront.cluster._goals import device_of
from archfront.cluster._measure import CannotRunError
from archfront.cluster._measuring import sessions_of
from archfront.cluster._plan import Plan, bound_space
from archfront.cluster._predicted import ENOUGH, known_elsewhere
from archfront.cluster._timing import Timing
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster.export import load_network
from archfront.cluster.store import ALL_DEVICES, DeviceSession, Store
from archfront.predictors.few_shot import FewShot
from archfront.search._types import FOUND, Configuration, Evaluation, Kind, Value
from archfront.spaces._errors import ArchfrontError, ExportError, UnknownNameError
from archfront.spaces._lookup import LookupSpace
from archfront.trainers._slice import validation_part

__all__ = ["Remeasured", "measure_studies"]

Chosen = Mapping[str, Configuration]
"""What is measured: configurations by key."""


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
    *,
    sample: int | None = None,
) -> list[Remeasured]:
    """Measure every front member of these studies (all that bind a model space by default) on one device, by latency,
    and on a device that quantises by quality too; with `sample` so many others of what a study evaluated beside them,
    those that say most about the rest (see `predicted_front`). A name is looked for among `stored` devices; in a study
    of a table it may be one of its columns: then it is looked up there. An architecture that cannot run on the device
    is stored as such: it is on none of its fronts, and its other values stay.

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
        refuse_absent([target])
        store.put_devices([target.record()])
        files = TrialFiles(f"{store.files_url}/trials")
        plan = Plan.of(record, files=files, stored={}, space=space, measure=False)
        chosen = _to_measure(store, plan, target)
        if sample is not None:
            chosen |= _planned(store, plan, target, sample, chosen)
        look = _looked_up if tells(target) else _measured
        done.append(look(store, plan, target, chosen))
    if not done and refused is not None:
        raise refused
    return done


def _planned(store: Store, plan: Plan, device: Device, n: int, but: Chosen) -> dict[str, Configuration]:
    """n architectures that the study evaluated and this device has no value of. Where other devices know them, those
    that tell most of how this one differs; random ones elsewhere."""
    record = plan.record
    evaluated = {e.key: e.config for _, _, e in store.told(record.name) if e.status in FOUND and e.key not in but}
    architectures = plan.architecture_keys_of(list(evaluated.values()))
    place = (record.identity, record.signature)
    known = store.device_values(*place, architectures, device.identity, "latency_ms")
    missing = [key for key, arch in zip(evaluated, architectures, strict=True) if arch not in known]
    own = [plan.own(evaluated[key]) for key in missing]
    elsewhere = known_elsewhere(store, plan, "latency_ms", device.name, own)
    told = [i for i, there in enumerate(elsewhere.has(own)) if there]
    if len(told) >= ENOUGH:
        pool = [own[i] for i in told]
        few_shot = FewShot(plan.space.search_space, known=elsewhere.values, pool=pool, seed=record.seed)
        order = [told[i] for i in few_shot.choose(pool, min(n, len(pool)))]
    else:
        order = [int(i) for i in np.random.default_rng(record.seed).permutation(len(missing))[:n]]
    return {missing[i]: evaluated[missing[i]] for i in order}


def _to_measure(store: Store, plan: Plan, device: Device) -> dict[str, Configuration]:
    """The members of the study's front, and what the study could not measure on this device, by key."""
    study = plan.record.name
    chosen = {point.key: dict(point.config) for point in store.front(study=study, device=ALL_DEVICES).points}
    if device.name in plan.record.devices:
        waiting = [e for _, _, e in store.told(study) if e.status == "unmeasured"]
        chosen |= {e.key: e.config for e in waiting if not _measured_already(plan, device, e)}
    return chosen


def _measured_already(plan: Plan, device: Device, evaluation: Evaluation) -> bool:
    wanted = [o.name for o in plan.record.objectives if o.device == device.name]
    wanted += [c.name for c in plan.record.constraints if c.device == device.name]
    return evaluation.finite(wanted)


def _looked_up(store: Store, plan: Plan, device: Device, chosen: Chosen) -> Remeasured:
    missing: dict[str, str] = {}
    sessions = []
    values = _in_blocks(store, plan, device) if device.kind == "lut" else _in_table(plan, device)
    architectures = plan.architecture_keys_of(list(chosen.values()))
    for (key, config), architecture in zip(chosen.items(), architectures, strict=True):
        found, refusal = values(plan.own(config))
        if refusal:
            missing[key] = refusal
        for metric, value in found.items():
            place = (plan.record.identity, plan.record.signature, architecture, device.identity)
            sessions.append(DeviceSession(*place, metric, value, "looked up", kind="looked_up", study=plan.record.name))
    store.add_device_sessions(sessions)
    return Remeasured(plan.record.name, len(chosen) - len(missing), missing)


LookUp = Callable[[Configuration], tuple[Mapping[str, float], str]]
"""A configuration's device values by metric, and why they are NaN where they are."""


def _in_table(plan: Plan, device: Device) -> LookUp:
    space = plan.space
    assert isinstance(space, LookupSpace)

    def values(config: Configuration) -> tuple[Mapping[str, float], str]:
        found = space.look_up(config, space.task().name, plan.looked_up_protocol)
        metrics, refusal = space.devices[device.name], found.invalid.get(device.name, "")
        if refusal:
            return dict.fromkeys(metrics, math.nan), refusal
        return {metric: found.device.get((metric, device.name), math.nan) for metric in metrics}, ""

    return values


def _in_blocks(store: Store, plan: Plan, device: Device) -> LookUp:
    refuse_blockless(plan.space)
    table = table_of(store, device)

    def values(config: Configuration) -> tuple[Mapping[str, float], str]:
        try:
            return {"latency_ms": block_latency(table, plan.space, config)}, ""
        except UnknownNameError as error:
            return {"latency_ms": math.nan}, error.message

    return values


def _measured(store: Store, plan: Plan, device: Device, chosen: Chosen) -> Remeasured:
    missing: dict[str, str] = {}
    if device.own_quality:
        qualities = {key: _quality(store, plan, key, config, missing) for key, config in chosen.items()}
        store.observe_on_device(plan.record.name, device.identity, {key: q for key, q in qualities.items() if q})
    measurer = measurer_of(plan.space, device)
    try:
        timings = measurer.measure([plan.own(config) for config in chosen.values()], plan.record.seed)
    finally:
        measurer.close()
    sessions = []
    for (key, config), timing in zip(chosen.items(), timings, strict=True):
        if isinstance(timing, Timing):
            sessions += sessions_of(plan, device, config, timing, ["latency_ms"])
        else:
            missing.setdefault(key, str(timing))
            if isinstance(timing, CannotRunError):
                sessions.append(_cannot_run(plan, device, config))
    store.add_device_sessions(sessions)
    return Remeasured(plan.record.name, sum(isinstance(timing, Timing) for timing in timings), missing)


def _quality(store: Store, plan: Plan, key: str, config: Configuration, missing: dict[str, str]) -> dict[str, Value]:
    """What a network is worth when it is quantised; NaN where it cannot be, nothing without weights."""
    config = plan.own(config)
    kind: Kind = "sliced" if plan.record.options["supernet"] is not None else "trained"
    try:
        net = load_network(store, key, study=plan.record.name, space=plan.space)
    except ArchfrontError as error:
        missing[key] = str(error)
        return {}
    try:
        split = validation_part(plan.space, plan.record.options.get("validation_fraction", 1.0))
        return {metric: Value(x, kind) for metric, x in scores(net, plan.space, config, split).items()}
    except ExportError as error:
        missing[key] = str(error)
        return {metric.name: Value(math.nan, kind) for metric in plan.space.task().metrics}


def _cannot_run(plan: Plan, device: Device, config: Configuration) -> DeviceSession:
    (key,) = plan.architecture_keys_of([config])
    record = plan.record
    place = (record.identity, record.signature, key, device.identity, "latency_ms")
    return DeviceSession(*place, math.nan, uuid.uuid4().hex, study=record.name)
