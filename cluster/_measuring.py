"""Device values of a study's proposals: taken from the store where they are known, measured where they are not."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

from archfront.cluster._attached import AttachedMeasurer, measurer_of
from archfront.cluster._block_tables import block_latency, table_of
from archfront.cluster._device import Device, tells
from archfront.cluster._measure import Measurer
from archfront.cluster._plan import Plan
from archfront.cluster._timing import Timing
from archfront.cluster.store import ALL_DEVICES, DeviceSession, FrontPoint, Store
from archfront.search._types import Configuration, Proposal, Value
from archfront.spaces._errors import MeasurementError, UnknownNameError
from archfront.spaces._lookup import LookedUp, LookupSpace

__all__ = ["Measuring", "sessions_of"]


class Measuring:
    """The measured values (`latency_ms@cpu`) that a study's objectives and constraints name."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self.store, self.plan, self.record = store, plan, plan.record
        named = [(o.metric, o.device) for o in self.record.objectives]
        named += [(c.metric, c.device) for c in self.record.constraints]
        quality = set() if plan.model_space is None else {m.name for m in plan.model_space.task().metrics}
        on_devices = {(metric, device) for metric, device in named if device is not None and metric not in quality}
        bring_their_own = plan.model_space is None  # a user's function does
        self._slots = [] if bring_their_own else sorted(on_devices)
        self._timed_slots = [(m, d) for m, d in self._slots if not tells(plan.devices[d])]
        luts = [plan.devices[name] for name in {d for _, d in self._slots} if plan.devices[name].kind == "lut"]
        self._tables = {device.name: table_of(store, device) for device in luts}
        self._measurers: dict[str, Measurer | AttachedMeasurer] = {}
        self._sessions: dict[str, list[DeviceSession]] = {}
        self._values: dict[str, dict[str, Value]] = {}

    @property
    def timed(self) -> bool:
        """Whether anything has to be timed, rather than looked up."""
        return bool(self._timed_slots)

    def known(self, proposal: Proposal) -> dict[str, Value]:
        """Values by name that are stored, or were measured for this proposal."""
        if proposal.id not in self._values:
            stored = {} if self.record.options["fresh"] else self._stored(proposal)
            self._values[proposal.id] = stored | self._looked_up(proposal)
        return self._values[proposal.id]

    def _looked_up(self, proposal: Proposal) -> dict[str, Value]:
        """Values of the table's own devices, and of those with a table of blocks; NaN on a device that cannot run the
        proposal."""
        values = {}
        found, blocks = self._in_table(proposal), self._in_block_tables(proposal)
        for metric, device in self._slots:
            if device in blocks:
                value = blocks[device]
                number = math.nan if isinstance(value, str) else _of_latency(metric, value, self.plan.devices[device])
                values[f"{metric}@{device}"] = Value(number, "looked_up")
            elif found is not None and (metric, device) not in self._timed_slots:
                number = math.nan if device in found.invalid else found.device.get((metric, device), math.nan)
                values[f"{metric}@{device}"] = Value(number, "looked_up")
        return values

    def refusal(self, proposal: Proposal) -> str | None:
        """Why a device that is a table cannot run a proposal; None when all can."""
        blocks = self._in_block_tables(proposal)
        refused = [f"{why} on {device}" for device, why in blocks.items() if isinstance(why, str)]
        found = self._in_table(proposal)
        if found is not None:
            places = dict.fromkeys(device for _, device in self._slots)
            refused += [f"{found.invalid[device]} on {device}" for device in places if device in found.invalid]
        return next(iter(refused), None)

    def _in_block_tables(self, proposal: Proposal) -> dict[str, float | str]:
        """Milliseconds by device, or why there are none."""
        found: dict[str, float | str] = {}
        for device, table in self._tables.items():
            try:
                found[device] = block_latency(table, self.plan.space, self.plan.own(proposal.config))
            except UnknownNameError as error:
                found[device] = error.message
        return found

    def _in_table(self, proposal: Proposal) -> LookedUp | None:
        """What the space's table knows, where devices of the study are its columns."""
        if not any(self.plan.devices[device].kind == "table" for _, device in self._slots):
            return None
        space = self.plan.space
        assert isinstance(space, LookupSpace)
        return space.look_up(self.plan.own(proposal.config), space.task().name, self.plan.looked_up_protocol)

    def _stored(self, proposal: Proposal) -> dict[str, Value]:
        if not self._timed_slots:
            return {}
        record = self.record
        (key,) = self.plan.architecture_keys([proposal])
        found = {}
        for metric, device in self._timed_slots:
            value = self.store.device_value(record.identity, record.signature, key, record.devices[device], metric)
            if value is not None:
                found[f"{metric}@{device}"] = value
        return found

    def needed(self, proposal: Proposal) -> bool:
        """Whether a value has still to be measured."""
        return len(self.known(proposal)) < len(self._slots)

    def measure(self, proposals: Sequence[Proposal]) -> dict[str, dict[str, Value | str]]:
        """Measure what is missing, back to back: by proposal id and value name, an error text where it failed.

        The sessions wait in `taken_sessions` to be stored in the transaction of their evaluation.
        """
        results: dict[str, dict[str, Value | str]] = {p.id: {} for p in proposals}
        for device in dict.fromkeys(device for _, device in self._timed_slots):
            metrics = [metric for metric, place in self._timed_slots if place == device]
            waiting = [p for p in proposals if any(f"{m}@{device}" not in self.known(p) for m in metrics)]
            timings = self._timed(self.plan.devices[device], [p.config for p in waiting], proposals[0].number)
            for proposal, timing in zip(waiting, timings, strict=True):
                if isinstance(timing, MeasurementError):
                    results[proposal.id].update({f"{m}@{device}": str(timing) for m in metrics})
                    continue
                sessions = sessions_of(self.plan, self.plan.devices[device], proposal.config, timing, metrics)
                self._sessions.setdefault(proposal.id, []).extend(sessions)
                values = {f"{s.metric}@{device}": Value(s.value, "measured", n=1) for s in sessions}
                results[proposal.id].update(values)
                self._values[proposal.id].update(values)
        return results

    def taken_sessions(self, proposal: Proposal) -> list[DeviceSession]:
        """The sessions of a proposal that are not stored yet; they are then."""
        self._values.pop(proposal.id, None)
        return self._sessions.pop(proposal.id, [])

    def measure_front(self) -> None:
        """Measure the members of the study's front again, interleaved, and store the sessions.

        A member that only comes onto the front by these measurements is measured again too.
        """
        if not self._timed_slots:
            return
        done: set[str] = set()
        while points := [p for p in self._front_points() if p.key not in done]:
            self._measure_points(points)
            done.update(point.key for point in points)

    def _front_points(self) -> Sequence[FrontPoint]:
        return self.store.front(study=self.record.name, device=ALL_DEVICES).points

    def _measure_points(self, points: Sequence[FrontPoint]) -> None:
        for name in dict.fromkeys(device for _, device in self._timed_slots):
            device = self.plan.devices[name]
            metrics = [metric for metric, place in self._timed_slots if place == name]
            timings = self._timed(device, [dict(p.config) for p in points], len(points))
            self.store.add_device_sessions(
                [
                    session
                    for point, timing in zip(points, timings, strict=True)
                    if isinstance(timing, Timing)
                    for session in sessions_of(self.plan, device, dict(point.config), timing, metrics)
                ]
            )

    def _timed(self, device: Device, configs: Sequence[Configuration], seed: int) -> list[Timing | MeasurementError]:
        if not configs:
            return []
        if device.name not in self._measurers:
            self._measurers[device.name] = measurer_of(self.plan.space, device)
        return self._measurers[device.name].measure([self.plan.own(c) for c in configs], seed)

    def close(self) -> None:
        """End the measuring processes."""
        for measurer in self._measurers.values():
            measurer.close()


def sessions_of(
    plan: Plan, device: Device, config: Configuration, timing: Timing, metrics: Sequence[str]
) -> list[DeviceSession]:
    """A timing as the store keeps it, once per metric."""
    session = uuid.uuid4().hex
    record, (key,) = plan.record, plan.architecture_keys_of([config])
    return [
        DeviceSession(
            record.identity,
            record.signature,
            key,
            device.identity,
            metric,
            _of_latency(metric, timing.value, device),
            session,
            "measured",
            timing.minimum,
            timing.median,
            timing.spread,
            timing.n,
            timing.drift,
            record.name,
        )
        for metric in metrics
    ]


def _of_latency(metric: str, latency_ms: float, device: Device) -> float:
    """A device metric that follows from the milliseconds of a call."""
    return latency_ms if metric == "latency_ms" else 1e3 * device.batch / latency_ms
