"""What could stand on a front: every key of a study, or of everyone's facts, with its present values.

A *slot* is (metric, device identity), the identity "" for what belongs to no device.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, false, or_, select

from archfront.cluster.store._codec import number, stored_value, values_in
from archfront.cluster.store._models import (
    AnalyticValue,
    DeviceValue,
    EvaluationRow,
    Observation,
    ObservationValue,
    ProposalRow,
)
from archfront.search._types import FOUND, Value
from archfront.spaces._metric import METRICS

__all__ = ["Candidate", "Scope", "Slot", "device_medians"]

Slot = tuple[str, str]
_MANY = 5000
"""With more names than this, everything is read rather than filtered."""


@dataclass
class Candidate:
    """A key with its present values by slot. `sequence` is its evaluation's, or its newest observation's id."""

    key: str
    architecture_key: str
    sequence: int
    proposal: str | None
    observation: int | None
    values: dict[Slot, Value]


@dataclass(frozen=True)
class Scope:
    """Where candidates come from: a study's evaluations of known quality, or (`study` None) the facts of a protocol."""

    study: int | None
    identity: str
    signature: str
    task_identity: str
    protocol: str

    def candidates(
        self,
        connection: Connection,
        names: Mapping[str, Slot],
        keys: Collection[str] | None = None,
        architectures: Collection[str] = (),
        devices: Collection[str] | None = None,
    ) -> list[Candidate]:
        """In the order of their sequence: all of them, or those of `keys` or `architectures`.

        `names` are the values that matter, by the name under which an evaluation of the study tells them. Device
        values are the present medians; without any session the value as told stands. With `devices`, facts that no
        session on one of these measured may be left out: a new device's front need not read a million facts.
        """
        if keys is not None and architectures:
            keys = {*keys, *self._keys_of(connection, architectures)}
        if self.study is None:
            found = self._from_facts(connection, names, keys, devices)
        else:
            found = self._from_study(connection, names, keys)
        return self._filled(connection, found, names, every=keys is None)

    def completed(
        self,
        connection: Connection,
        told: Sequence[Candidate],
        names: Mapping[str, Slot],
        architectures: Collection[str] = (),
    ) -> list[Candidate]:
        """The same of a study's evaluations that were told just now, which need not be read and are filled in place,
        and of whatever else is of these architectures."""
        keys = {one.key for one in told}
        others = self._keys_of(connection, architectures) - keys if architectures else set()
        read = self._from_study(connection, names, others) if others else []
        found = sorted([*read, *told], key=lambda one: one.sequence)
        return self._filled(connection, found, names, every=False)

    def _filled(
        self, connection: Connection, found: list[Candidate], names: Mapping[str, Slot], *, every: bool
    ) -> list[Candidate]:
        """With device medians and analytic values."""
        wanted = None if every else {c.architecture_key for c in found}
        slots = set(names.values())
        medians = device_medians(connection, self.identity, self.signature, {s for s in slots if s[1]}, wanted)
        for candidate in found:
            candidate.values.update(medians.get(candidate.architecture_key, {}))
        self._add_analytic(connection, found, {metric for metric, device in slots if not device}, wanted)
        return found

    def _keys_of(self, connection: Connection, architectures: Collection[str]) -> set[str]:
        """The keys of these architectures. Asked apart, by one index: a planner may scan the study for an OR."""
        if self.study is not None:
            found = _among(ProposalRow.architecture_key, architectures)
            mine = connection.execute(select(ProposalRow.key, ProposalRow.study_id).where(found))
            return {key for key, study in mine if study == self.study}
        where = (Observation.identity, Observation.task_identity, Observation.protocol)
        found = _among(Observation.architecture_key, architectures)
        here = (self.identity, self.task_identity, self.protocol)
        return {
            key for key, *there in connection.execute(select(Observation.key, *where).where(found)) if (*there,) == here
        }

    def _from_study(
        self, connection: Connection, names: Mapping[str, Slot], keys: Collection[str] | None
    ) -> list[Candidate]:
        """Values as told; quality metrics that were observed but not told are added."""
        query = (
            select(
                ProposalRow.key,
                ProposalRow.architecture_key,
                EvaluationRow.sequence,
                ProposalRow.id,
                EvaluationRow.observation_id,
                EvaluationRow.values,
            )
            .join(EvaluationRow, EvaluationRow.proposal_id == ProposalRow.id)
            .outerjoin(Observation, Observation.id == EvaluationRow.observation_id)
            .where(
                ProposalRow.study_id == self.study,
                EvaluationRow.status.in_(FOUND),
                or_(EvaluationRow.observation_id.is_(None), Observation.usable),
                _among(ProposalRow.key, keys),
            )
        )
        found: list[Candidate] = []
        for key, architecture, sequence, proposal, observation, told in connection.execute(query):
            values = {names[name]: value for name, value in values_in(_only(told, names)).items()}
            found.append(Candidate(key, architecture, sequence, proposal, observation, values))
        missing = {slot for slot in names.values() if any(slot not in c.values for c in found)}
        self._add_observed(connection, found, _observed(missing), every=keys is None)
        return sorted(found, key=lambda candidate: candidate.sequence)

    def _add_observed(
        self, connection: Connection, found: list[Candidate], slots: Mapping[str, Slot], *, every: bool
    ) -> None:
        by_observation = {c.observation: c for c in found if c.observation is not None}
        if not slots or not by_observation:
            return
        query = select(
            ObservationValue.observation_id, ObservationValue.metric, ObservationValue.value, ObservationValue.kind
        ).where(ObservationValue.metric.in_(slots))
        if every or len(by_observation) > _MANY:
            mine = select(EvaluationRow.observation_id).where(EvaluationRow.study_id == self.study)
            query = query.where(ObservationValue.observation_id.in_(mine))
        else:
            query = query.where(ObservationValue.observation_id.in_(by_observation))
        for observation, metric, value, kind in connection.execute(query):
            if observation in by_observation:
                by_observation[observation].values.setdefault(slots[metric], stored_value(value, kind))

    def _from_facts(
        self,
        connection: Connection,
        names: Mapping[str, Slot],
        keys: Collection[str] | None,
        devices: Collection[str] | None,
    ) -> list[Candidate]:
        """Per key the mean over train seeds of the newest usable observations."""
        observed = _observed(names.values())
        query = (
            select(
                Observation.key,
                Observation.architecture_key,
                Observation.id,
                Observation.proposal_id,
                Observation.train_seed,
                ObservationValue.metric,
                ObservationValue.value,
                ObservationValue.kind,
            )
            .outerjoin(
                ObservationValue,
                and_(ObservationValue.observation_id == Observation.id, ObservationValue.metric.in_(observed)),
            )
            .where(
                Observation.identity == self.identity,
                Observation.task_identity == self.task_identity,
                Observation.protocol == self.protocol,
                Observation.usable,
                Observation.private.is_(False),
                _among(Observation.key, keys),
            )
        )
        if devices is not None and keys is None:
            query = query.where(Observation.architecture_key.in_(self._measured_on(devices)))
        newest: dict[str, Candidate] = {}
        seeds: dict[str, dict[int, tuple[int, dict[str, Value]]]] = defaultdict(dict)
        for key, architecture, observation, proposal, seed, metric, value, kind in sorted(
            connection.execute(query), key=lambda row: int(row[2])
        ):
            if seeds[key].get(seed, (None,))[0] != observation:
                seeds[key][seed] = (observation, {})
                newest[key] = Candidate(key, architecture, observation, proposal, observation, {})
            if metric is not None:
                seeds[key][seed][1][metric] = stored_value(value, kind)
        for key, candidate in newest.items():
            candidate.values = {observed[m]: value for m, value in mean_over_seeds(seeds[key]).items()}
        return sorted(newest.values(), key=lambda candidate: candidate.sequence)

    def _measured_on(self, devices: Collection[str]) -> Select[Any]:
        """The architectures with a session on one of these devices."""
        return select(DeviceValue.architecture_key).where(
            DeviceValue.identity == self.identity,
            DeviceValue.signature == self.signature,
            DeviceValue.device.in_(devices),
        )

    def _add_analytic(
        self, connection: Connection, found: list[Candidate], metrics: Collection[str], wanted: Collection[str] | None
    ) -> None:
        missing = {metric for metric in metrics if any((metric, "") not in c.values for c in found)}
        if not missing:
            return
        query = select(AnalyticValue.architecture_key, AnalyticValue.metric, AnalyticValue.value).where(
            AnalyticValue.identity == self.identity,
            AnalyticValue.signature == self.signature,
            AnalyticValue.metric.in_(missing),
            _among(AnalyticValue.architecture_key, wanted),
        )
        known = {(architecture, metric): value for architecture, metric, value in connection.execute(query)}
        for candidate in found:
            for metric in missing:
                if (candidate.architecture_key, metric) in known:
                    value = stored_value(known[candidate.architecture_key, metric], "analytic")
                    candidate.values.setdefault((metric, ""), value)


def _observed(slots: Iterable[Slot]) -> dict[str, Slot]:
    """Slots by the names that observations have for them: of no device, or quality of a network on a device that runs
    it changed (rule 2)."""
    return {
        f"{metric}@{device}" if device else metric: (metric, device)
        for metric, device in slots
        if not device or metric not in METRICS or METRICS[metric].source == "quality"
    }


def device_medians(
    connection: Connection,
    identity: str,
    signature: str,
    slots: Collection[Slot],
    architectures: Collection[str] | None,
) -> dict[str, dict[Slot, Value]]:
    """By architecture key and slot the median over all sessions; NaN when none of them could run it."""
    if not slots or (architectures is not None and not architectures):
        return {}
    query = (
        select(
            DeviceValue.architecture_key, DeviceValue.metric, DeviceValue.device, DeviceValue.value, DeviceValue.kind
        )
        .where(
            DeviceValue.identity == identity,
            DeviceValue.signature == signature,
            DeviceValue.device.in_({device for _, device in slots}),
            DeviceValue.metric.in_({metric for metric, _ in slots}),
            _among(DeviceValue.architecture_key, architectures),
        )
        .order_by(DeviceValue.id)
    )
    sessions: dict[tuple[str, Slot], list[tuple[float | None, Any]]] = defaultdict(list)
    for architecture, metric, device, value, kind in connection.execute(query):
        sessions[architecture, (metric, device)].append((value, kind))
    medians: dict[str, dict[Slot, Value]] = defaultdict(dict)
    for (architecture, slot), rows in sessions.items():
        valid = [value for value, _ in rows if value is not None]
        middle = statistics.median(valid) if valid else number(None)
        medians[architecture][slot] = Value(middle, rows[-1][1], _spread(valid), max(1, len(valid)))
    return medians


def mean_over_seeds(seeds: Mapping[int, tuple[int, Mapping[str, Value]]]) -> dict[str, Value]:
    """By metric the mean, spread and number of seeds; `seeds` maps a train seed to (observation, values by metric)."""
    by_metric: dict[str, list[Value]] = defaultdict(list)
    for _, values in sorted(seeds.values(), key=lambda pair: pair[0]):
        for metric, value in values.items():
            by_metric[metric].append(value)
    means: dict[str, Value] = {}
    for metric, values_ in by_metric.items():
        numbers = [value.value for value in values_]
        means[metric] = Value(statistics.fmean(numbers), values_[-1].kind, _spread(numbers), len(numbers))
    return means


def _spread(numbers: Sequence[float]) -> float | None:
    """The standard deviation, where there is one."""
    return statistics.stdev(numbers) if len(numbers) > 1 and all(map(math.isfinite, numbers)) else None


def _among(column: Any, names: Collection[str] | None) -> ColumnElement[bool]:
    """`column` in `names`; true when everything is wanted or the list is too long."""
    return ~false() if names is None or len(names) > _MANY else column.in_(names)


def _only(stored: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: stored[name] for name in names if name in stored}
