"""Fronts: the kept ones, and any other computed on request."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, or_, select

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

_NOTHING: Mapping[str, Value] = MappingProxyType({})


class _Member(NamedTuple):
    """A point before its configuration is read; `slots` are its values by (metric, device)."""

    key: str
    proposal: str | None
    observation: int | None
    kind: str
    entered: int
    slots: Mapping[tuple[str, str], Value]


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
            if kept is None:
                members = _computed(connection, chosen.spec, at_sequence)
            else:
                members = _within(chosen.spec, _members(connection, kept, at_sequence))
            points = cheapest_first([o for o, _ in chosen.spec.objectives], _points(connection, chosen.spec, members))
            return _result(connection, chosen, points, stored=kept is not None)

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


def _members(connection: Connection, kept: FrontSpec, at_sequence: int | None) -> Iterator[_Member]:
    """The kept front's points."""
    point = FrontPointRow
    query = select(
        point.key, point.proposal_id, point.observation_id, point.kind, point.entered_sequence, point.values
    ).where(point.front_id == kept.id)
    if at_sequence is None:
        query = query.where(point.left_sequence.is_(None))
    else:
        left = point.left_sequence
        query = query.where(point.entered_sequence <= at_sequence, or_(left.is_(None), left > at_sequence))
    slots = {o.name: slot for o, slot in kept.objectives}
    for key, proposal, observation, kind, entered, values in connection.execute(query.order_by(point.id)):
        named = {slots[name]: value for name, value in values_in(values).items()}
        yield _Member(key, proposal, observation, kind, entered, named)


def _within(spec: FrontSpec, members: Iterable[_Member]) -> list[_Member]:
    """The members within the constraints."""
    objectives = {slot for _, slot in spec.objectives}
    bounds = [(c, slot) for c, slot in spec.constraints if slot in objectives]
    return [member for member in members if all(c.violation(member.slots[slot].value) == 0 for c, slot in bounds)]


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
    return _Member(candidate.key, candidate.proposal, candidate.observation, kind, candidate.sequence, candidate.values)


def _points(connection: Connection, spec: FrontSpec, members: Sequence[_Member]) -> list[FrontPoint]:
    names = [(objective.name, slot) for objective, slot in spec.objectives]
    shown = [name for name, _ in names]
    proposals = _proposals(connection, [m.proposal for m in members if m.proposal])
    observed = _observed(connection, [m.observation for m in members if m.observation], but=shown)
    told = _told(connection, [m.proposal for m in members if m.proposal and not m.observation], but=shown)
    orphans = _configurations(connection, [m.observation for m in members if m.proposal not in proposals])
    points = []
    for member in members:
        values = {name: member.slots[slot] for name, slot in names}
        others = (observed if member.observation else told).get(member.observation or member.proposal, _NOTHING)
        if member.proposal in proposals:
            config, origin, architecture, study = proposals[member.proposal]
        else:
            (config, architecture), origin, study = orphans[member.observation], "", ""
        proposal = member.proposal if study else None
        points.append(
            FrontPoint(
                *(member.key, config, values, study, origin),
                *(member.kind, proposal, member.entered, architecture, others),
            )
        )
    return points


def _proposals(connection: Connection, ids: Sequence[str]) -> dict[str | None, tuple[Any, str, str, str]]:
    """Configuration, origin, architecture and the name of the study, of those that are still there."""
    found: dict[str | None, tuple[Any, str, str, str]] = {}
    row = ProposalRow
    for part in chunks(ids):
        query = select(row.id, row.config, row.origin, row.architecture_key, StudyRow.name).join(
            StudyRow, StudyRow.id == row.study_id
        )
        for id_, config, origin, architecture, study in connection.execute(query.where(row.id.in_(part))):
            found[id_] = (config, origin, architecture, study)
    return found


def _told(connection: Connection, proposals: Sequence[str], but: Collection[str]) -> dict[Any, dict[str, Value]]:
    """The quality values of evaluations without an observation, by proposal, `but` those of some metrics."""
    found: dict[Any, dict[str, Value]] = {}
    for part in chunks(proposals):
        query = select(EvaluationRow.proposal_id, EvaluationRow.values)
        for proposal, values in connection.execute(query.where(EvaluationRow.proposal_id.in_(part))):
            others = {name: value for name, value in quality_of(values_in(values)).items() if name not in but}
            if others:
                found[proposal] = others
    return found


def _observed(connection: Connection, ids: Sequence[int], but: Collection[str]) -> dict[Any, dict[str, Value]]:
    """The values of observations, `but` those of some metrics."""
    found: dict[Any, dict[str, Value]] = defaultdict(dict)
    row = ObservationValue
    for part in chunks(ids):
        query = select(row.observation_id, row.metric, row.value, row.kind)
        query = query.where(row.observation_id.in_(part), row.metric.not_in(but))
        for id_, metric, value, kind in connection.execute(query):
            found[id_][metric] = stored_value(value, kind)
    return found


def _configurations(connection: Connection, ids: Sequence[int | None]) -> dict[int | None, tuple[Any, str]]:
    """What was observed, where the study that proposed it is gone: configuration and architecture."""
    found: dict[int | None, tuple[Any, str]] = {}
    for part in chunks(ids):
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
