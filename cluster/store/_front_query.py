"""Fronts: the kept ones, and any other computed on request."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select

from archfront.cluster._front import Front, hypervolume
from archfront.cluster._running_volume import RunningVolume
from archfront.cluster.store._candidates import Candidate
from archfront.cluster.store._codec import chunks, stored_value, values_in
from archfront.cluster.store._core import Opened
from archfront.cluster.store._front_choice import Chosen, Question, choose
from archfront.cluster.store._front_result import FrontPoint, FrontResult, cheapest_first
from archfront.cluster.store._front_spec import ALL_DEVICES, FrontSpec, select_specs
from archfront.cluster.store._fronts import kind_of
from archfront.cluster.store._models import (
    EvaluationRow,
    FrontPointRow,
    FrontRow,
    Observation,
    ObservationValue,
    ProposalRow,
    StudyRow,
)
from archfront.cluster.store._records import quality_of
from archfront.cluster.store._reference import reference_of
from archfront.search._types import Constraint, Objective, Value

__all__ = ["FrontMethods"]


class _Member(NamedTuple):
    """A point before its configuration is read; `values` by the names of the objectives asked for."""

    key: str
    proposal: str | None
    observation: int | None
    kind: str
    entered: int
    values: Mapping[str, Value]


_Some = Select[Any] | list[Any]
"""Ids, or the question that gives them."""


class _Ids(NamedTuple):
    """Of members: their proposals, those of them that observed nothing, and the observations of the others."""

    proposals: _Some
    unobserved: _Some
    observations: _Some

    @classmethod
    def of(cls, members: Sequence[_Member]) -> _Ids:
        proposed = [member for member in members if member.proposal]
        unobserved = [member.proposal for member in proposed if member.observation is None]
        observations = [member.observation for member in members if member.observation is not None]
        return cls([member.proposal for member in proposed], unobserved, observations)

    @classmethod
    def where(cls, there: ColumnElement[bool]) -> _Ids:
        """Of a kept front's points."""
        proposals, observations = (
            select(c).where(there) for c in (FrontPointRow.proposal_id, FrontPointRow.observation_id)
        )
        return cls(proposals, proposals.where(FrontPointRow.observation_id.is_(None)), observations)


class FrontMethods(Opened):
    """The store's methods about fronts."""

    def front(
        self,
        space: str | None = None,
        study: str | None = None,
        *,
        task: str | None = None,
        protocol: str | None = None,
        device: str | None = None,
        objectives: Sequence[Objective | str] | None = None,
        where: Sequence[Constraint] = (),
        at_sequence: int | None = None,
    ) -> FrontResult:
        """The front of a study, or (without `study`) of everyone's facts of a space, task and protocol.

        What is not given comes from the newest fitting study. `space`, `task` and `device` are names or identities; a
        bare space name fits all of its variants. A device that the study does not know takes over the study's device
        objectives; "*" is all devices of the study at once. `at_sequence` gives the front as it was then. An empty
        front is an answer.

        Raises NoFrontError (code "no_front") when no study fits, UnknownNameError for a study or device nobody knows,
        UsageError when several devices are possible.
        """
        question = Question(space, study, task, protocol, device, objectives, where)

        def read(connection: Connection) -> FrontResult:
            chosen = choose(connection, question)
            kept = _kept(connection, chosen.spec)
            points: list[FrontPoint] = []
            if kept is None:
                for some in chunks(_computed(connection, chosen.spec, at_sequence)):
                    points += _points(connection, chosen.spec, some, _Ids.of(some))
            else:
                there = _there(kept, at_sequence)
                members = _members(connection, chosen.spec, kept, there)
                points += _points(connection, chosen.spec, members, _Ids.where(there))
            objectives = [objective for objective, _ in chosen.spec.objectives]
            return _result(connection, chosen, cheapest_first(objectives, points), stored=kept is not None)

        return self._read(read)

    def points_of(
        self, keys: Collection[str], study: str, device: str, objectives: Sequence[Objective | str] | None = None
    ) -> FrontResult:
        """These keys of a study as they are on a device, dominated or not; what has not all values there is left out.
        Of a public study by everyone's facts: another study may have found what is worth knowing of the device.
        Raises as `front` does."""

        def read(connection: Connection) -> FrontResult:
            chosen = choose(connection, Question(study=study, device=device, objectives=objectives))
            scope = chosen.spec.scope
            spec = replace(chosen.spec, scope=scope if chosen.study.private else replace(scope, study=None))
            found = [
                _member_of(spec, candidate)
                for candidate in spec.scope.candidates(connection, spec.names, keys)
                if spec.losses(candidate.values) is not None
            ]
            points = _points(connection, spec, found, _Ids.of(found))
            names = [objective for objective, _ in spec.objectives]
            return _result(connection, chosen, cheapest_first(names, points), stored=False)

        return self._read(read)

    def known_points(
        self,
        space: str | None = None,
        study: str | None = None,
        *,
        task: str | None = None,
        protocol: str | None = None,
        device: str | None = None,
        objectives: Sequence[Objective | str] | None = None,
    ) -> FrontResult:
        """All that could stand on this front, dominated or not, in the order in which it was found, with as many of
        the objectives' values as are known; what is known to be out of the study's bounds is left out. Raises as
        `front` does."""
        question = Question(space, study, task, protocol, device, objectives)

        def read(connection: Connection) -> FrontResult:
            chosen = choose(connection, question)
            found = chosen.spec.scope.candidates(connection, chosen.spec.names)
            members = [_partly(chosen.spec, one) for one in found if not _out_of_bounds(chosen.spec, one)]
            points: list[FrontPoint] = []
            for some in chunks(members):
                points += _points(connection, chosen.spec, some, _Ids.of(some))
            empty = _result(connection, chosen, (), stored=False)
            return replace(empty, points=tuple(points), hypervolume=None)

        return self._read(read)

    def hypervolume_history(self, study: str, device: str | None = None) -> list[tuple[int, float]]:
        """(sequence, hypervolume) after each change of a study's kept front; empty without any ok value.

        Without `device`, over all of the study's objectives. The reference is the study's.
        """

        def read(connection: Connection) -> list[tuple[int, float]]:
            chosen = choose(connection, Question(study=study, device=ALL_DEVICES if device is None else device))
            kept = _kept(connection, chosen.spec)
            reference = reference_of(connection, chosen)
            if kept is None or reference is None:
                return []
            limit = [o.loss(x) for (o, _), x in zip(chosen.spec.objectives, reference, strict=True)]
            point = FrontPointRow
            query = select(point.id, point.values, point.entered_sequence, point.left_sequence)
            rows = connection.execute(query.where(point.front_id == kept.id).order_by(point.id))
            return _history(chosen.spec, rows, limit)

        return self._read(read)


def _kept(connection: Connection, spec: FrontSpec) -> FrontSpec | None:
    """The kept front that answers `spec`: the same objectives, and constraints that are its own or can be filtered."""
    for kept in select_specs(connection, FrontRow.name == spec.name, lock=False):
        same = {(slot, o.direction) for o, slot in kept.objectives} == {(s, o.direction) for o, s in spec.objectives}
        if same and all(_filters(kept, c, slot) for c, slot in spec.constraints):
            return kept
    return None


def _filters(kept: FrontSpec, constraint: Constraint, slot: tuple[str, str]) -> bool:
    """Whether the front under `constraint` is a part of the kept one: whoever beats a feasible point is feasible."""
    if (constraint, slot) in kept.constraints:
        return True
    better = {"<=": "min", ">=": "max"}[constraint.operator]
    return any(at == slot and o.direction == better for o, at in kept.objectives)


def _there(kept: FrontSpec, at_sequence: int | None) -> ColumnElement[bool]:
    """Which points are on a kept front, now or at a moment."""
    left = FrontPointRow.left_sequence
    if at_sequence is None:
        return and_(FrontPointRow.front_id == kept.id, left.is_(None))
    entered = FrontPointRow.entered_sequence <= at_sequence
    return and_(FrontPointRow.front_id == kept.id, entered, or_(left.is_(None), left > at_sequence))


def _members(connection: Connection, spec: FrontSpec, kept: FrontSpec, there: ColumnElement[bool]) -> Iterator[_Member]:
    """The kept front's points that are within the constraints."""
    point = FrontPointRow
    query = select(point.key, point.proposal_id, point.observation_id, point.kind, point.entered_sequence, point.values)
    own = {slot: o.name for o, slot in kept.objectives}
    names = {own[slot]: o.name for o, slot in spec.objectives}
    bounds = [(c, names[own[slot]]) for c, slot in spec.constraints if slot in own]
    for key, proposal, observation, kind, entered, stored in connection.execute(query.where(there).order_by(point.id)):
        values = {names[name]: value for name, value in values_in(stored).items()}
        if all(c.violation(values[name].value) == 0 for c, name in bounds):
            yield _Member(key, proposal, observation, kind, entered, values)


def _computed(connection: Connection, spec: FrontSpec, at_sequence: int | None) -> list[_Member]:
    """A front nobody keeps, from the present values of what was there at `at_sequence`."""
    candidates = spec.scope.candidates(connection, spec.names)
    here = {c.key: c for c in candidates if at_sequence is None or c.sequence <= at_sequence}
    losses = {key: spec.losses(candidate.values) for key, candidate in here.items()}
    front = Front(len(spec.objectives))
    front.rebuild({key: point for key, point in losses.items() if point is not None})
    return [_member_of(spec, here[key]) for key, _ in front.items()]


def _member_of(spec: FrontSpec, candidate: Candidate) -> _Member:
    values = {objective.name: candidate.values[slot] for objective, slot in spec.objectives}
    kind = kind_of(spec, values)
    return _Member(candidate.key, candidate.proposal, candidate.observation, kind, candidate.sequence, values)


def _out_of_bounds(spec: FrontSpec, candidate: Candidate) -> bool:
    known = [(c, candidate.values[slot]) for c, slot in spec.constraints if slot in candidate.values]
    return any(not constraint.violation(value.value) <= 0 for constraint, value in known)  # NaN satisfies nothing


def _partly(spec: FrontSpec, candidate: Candidate) -> _Member:
    """A candidate with those of its values that are known."""
    values = {o.name: candidate.values[slot] for o, slot in spec.objectives if slot in candidate.values}
    kind = kind_of(spec, values) if len(values) == len(spec.objectives) else ""
    return _Member(candidate.key, candidate.proposal, candidate.observation, kind, candidate.sequence, values)


def _points(connection: Connection, spec: FrontSpec, members: Iterable[_Member], ids: _Ids) -> list[FrontPoint]:
    """`ids` are those of the members, or of more."""
    shown = [objective.metric for objective, _ in spec.objectives]
    proposed = _proposed(connection, ids.proposals)
    others = _observed(connection, ids.observations, but=shown) | _told(connection, ids.unobserved, but=shown)
    points: list[FrontPoint] = []
    orphans: dict[int | None, int] = {}
    for member in members:
        config, origin, architecture, study = proposed.get(member.proposal) or ({}, "", "", "")
        point = FrontPoint(
            member.key,
            config,
            member.values,
            study,
            origin,
            member.kind,
            member.proposal if study else None,
            member.entered,
            architecture,
            others.get(member.observation or member.proposal, {}),
        )
        if not study:
            orphans[member.observation] = len(points)
        points.append(point)
    for observation, (config, architecture) in _configurations(connection, list(orphans)).items():
        at = orphans[observation]
        points[at] = replace(points[at], config=config, architecture_key=architecture)
    return points


def _proposed(connection: Connection, proposals: _Some) -> dict[Any, tuple[Any, str, str, str]]:
    """Configuration, origin, architecture and the name of the study, of those that are still there."""
    row = ProposalRow
    query = select(row.id, row.config, row.origin, row.architecture_key, StudyRow.name)
    query = query.join(StudyRow, StudyRow.id == row.study_id).where(row.id.in_(proposals))
    return {id_: (config, origin, arch, study) for id_, config, origin, arch, study in connection.execute(query)}


def _told(connection: Connection, proposals: _Some, but: Collection[str]) -> dict[Any, dict[str, Value]]:
    """The quality values of evaluations, by proposal, `but` those of some metrics."""
    row = EvaluationRow
    query = select(row.proposal_id, row.values).where(row.proposal_id.in_(proposals))
    found: dict[Any, dict[str, Value]] = {}
    for proposal, values in connection.execute(query):
        others = {name: value for name, value in quality_of(values_in(values)).items() if name not in but}
        if others:
            found[proposal] = others
    return found


def _observed(connection: Connection, observations: _Some, but: Collection[str]) -> dict[Any, dict[str, Value]]:
    """The values of observations that belong to no device, `but` those of some metrics."""
    row = ObservationValue
    query = select(row.observation_id, row.metric, row.value, row.kind)
    query = query.where(row.observation_id.in_(observations), row.metric.not_in(but), ~row.metric.contains("@"))
    found: dict[Any, dict[str, Value]] = defaultdict(dict)
    for id_, metric, value, kind in connection.execute(query):
        found[id_][metric] = stored_value(value, kind)
    return found


def _configurations(connection: Connection, observations: Sequence[int | None]) -> dict[int | None, tuple[Any, str]]:
    """What was observed, where the study that proposed it is gone: configuration and architecture."""
    found: dict[int | None, tuple[Any, str]] = {}
    for part in chunks(observations):
        query = select(Observation.id, Observation.config, Observation.architecture_key)
        for id_, config, architecture in connection.execute(query.where(Observation.id.in_(part))):
            found[id_] = (config, architecture)
    return found


def _result(connection: Connection, chosen: Chosen, points: tuple[FrontPoint, ...], *, stored: bool) -> FrontResult:
    study, spec = chosen.study, chosen.spec
    objectives = tuple(objective for objective, _ in spec.objectives)
    reference = reference_of(connection, chosen)
    volume = None
    if reference is not None:
        losses = [[o.loss(point.values[o.name].value) for o in objectives] for point in points]
        limit = [o.loss(x) for o, x in zip(objectives, reference, strict=True)]
        volume = hypervolume(np.array(losses, dtype=np.float64), limit)
    return FrontResult(
        study.space,
        study.task,
        study.name if spec.scope.study is not None else "",
        chosen.device,
        study.protocol,
        objectives,
        points,
        stored,
        reference,
        volume,
        chosen.others,
        study.identity,
        study.signature,
        study.task_identity,
    )


def _history(spec: FrontSpec, rows: Iterable[Any], limit: Sequence[float]) -> list[tuple[int, float]]:
    names = [(o, o.name) for o, _ in spec.objectives]
    points: dict[int, list[float]] = {}
    events: list[tuple[int, bool, int]] = []
    for id_, values, entered, left in rows:
        points[id_] = [o.loss(float(values[name]["value"])) for o, name in names]
        events.append((entered, False, id_))
        if left is not None:
            events.append((left, True, id_))
    members: dict[int, list[float]] = {}
    running = RunningVolume(limit)
    history = []
    for sequence, group in itertools.groupby(sorted(events), lambda event: event[0]):
        for _, leaves, id_ in group:
            if not leaves:
                members[id_] = points[id_]
                running.add(points[id_])
            elif members.pop(id_) in running:  # it was withdrawn, not beaten
                running = RunningVolume(limit)
                for point in members.values():
                    running.add(point)
        history.append((sequence, running.value))
    return history
