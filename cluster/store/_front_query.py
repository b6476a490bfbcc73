"""Fronts: the kept ones, and any other computed on request."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, or_, select

from archfront.cluster._front import Front, hypervolume
from archfront.cluster.store._candidates import Candidate
from archfront.cluster.store._codec import chunks, stored_value, values_in, values_out
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

_Row = RowMapping | Mapping[str, Any]


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
                rows = _computed(connection, chosen.spec, at_sequence)
            else:
                rows = _within(chosen.spec, _rows(connection, kept, at_sequence))
            points = cheapest_first([o for o, _ in chosen.spec.objectives], _points(connection, chosen.spec, rows))
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
            query = select(FrontPointRow.__table__).where(FrontPointRow.front_id == kept.id).order_by(FrontPointRow.id)
            return _history(chosen.spec, connection.execute(query).mappings().all(), limit)

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


def _rows(connection: Connection, kept: FrontSpec, at_sequence: int | None) -> list[_Row]:
    """The kept front's points, with their values under the front's own names."""
    query = select(FrontPointRow.__table__).where(FrontPointRow.front_id == kept.id)
    left = FrontPointRow.left_sequence
    if at_sequence is None:
        query = query.where(left.is_(None))
    else:
        query = query.where(FrontPointRow.entered_sequence <= at_sequence, or_(left.is_(None), left > at_sequence))
    names = {o.name: slot for o, slot in kept.objectives}
    rows = connection.execute(query.order_by(FrontPointRow.id)).mappings().all()
    return [{**row, "slots": {names[n]: v for n, v in values_in(row["values"]).items()}} for row in rows]


def _within(spec: FrontSpec, rows: Iterable[_Row]) -> list[_Row]:
    """The rows within the constraints, with their values under the names of `spec`."""
    objectives = {slot for _, slot in spec.objectives}
    bounds = [(c, slot) for c, slot in spec.constraints if slot in objectives]
    return [row for row in rows if all(c.violation(row["slots"][slot].value) == 0 for c, slot in bounds)]


def _computed(connection: Connection, spec: FrontSpec, at_sequence: int | None) -> list[_Row]:
    """A front nobody keeps, from the present values of what was there at `at_sequence`."""
    candidates = spec.scope.candidates(connection, spec.names)
    here = {c.key: c for c in candidates if at_sequence is None or c.sequence <= at_sequence}
    losses = {key: spec.losses(candidate.values) for key, candidate in here.items()}
    front = Front(len(spec.objectives))
    front.rebuild({key: point for key, point in losses.items() if point is not None})
    return [_row_of(spec, here[key]) for key, _ in front.items()]


def _row_of(spec: FrontSpec, candidate: Candidate) -> _Row:
    values = {objective.name: candidate.values[slot] for objective, slot in spec.objectives}
    return {
        "key": candidate.key,
        "proposal_id": candidate.proposal,
        "observation_id": candidate.observation,
        "kind": kind_of(spec, values),
        "entered_sequence": candidate.sequence,
        "slots": candidate.values,
        "values": values_out(values),
    }


def _points(connection: Connection, spec: FrontSpec, rows: Sequence[_Row]) -> list[FrontPoint]:
    proposals: dict[str, Any] = {}
    for ids in chunks([row["proposal_id"] for row in rows if row["proposal_id"]]):
        query = select(
            ProposalRow.id, ProposalRow.config, ProposalRow.origin, ProposalRow.architecture_key, StudyRow.name
        ).join(StudyRow, StudyRow.id == ProposalRow.study_id)
        proposals.update({row.id: row for row in connection.execute(query.where(ProposalRow.id.in_(ids)))})
    observed = _observed(connection, [row["observation_id"] for row in rows if row["observation_id"]])
    orphans = [row["observation_id"] for row in rows if row["proposal_id"] not in proposals]
    observations = _configurations(connection, orphans)
    told = _told(connection, [row["proposal_id"] for row in rows if not row["observation_id"]])
    points = []
    for row in rows:
        proposal = proposals.get(row["proposal_id"])
        source = proposal or observations[row["observation_id"]]
        values = {objective.name: row["slots"][slot] for objective, slot in spec.objectives}
        found = observed[row["observation_id"]] if row["observation_id"] else told[row["proposal_id"]]
        others = {m: v for m, v in found.items() if m not in values}
        points.append(
            FrontPoint(
                row["key"],
                source.config,
                values,
                proposal.name if proposal else "",
                proposal.origin if proposal else "",
                row["kind"],
                row["proposal_id"] if proposal else None,
                row["entered_sequence"],
                source.architecture_key,
                others,
            )
        )
    return points


def _told(connection: Connection, proposals: Sequence[str]) -> dict[str, dict[str, Value]]:
    """The quality values of evaluations without an observation, by proposal."""
    found: dict[str, dict[str, Value]] = {}
    for part in chunks(proposals):
        query = select(EvaluationRow.proposal_id, EvaluationRow.values)
        for proposal, values in connection.execute(query.where(EvaluationRow.proposal_id.in_(part))):
            found[proposal] = quality_of(values_in(values))
    return found


def _observed(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Value]]:
    """The values of observations."""
    values: dict[int, dict[str, Value]] = defaultdict(dict)
    for part in chunks(ids):
        query = select(
            ObservationValue.observation_id, ObservationValue.metric, ObservationValue.value, ObservationValue.kind
        ).where(ObservationValue.observation_id.in_(part))
        for id_, metric, value, kind in connection.execute(query):
            values[id_][metric] = stored_value(value, kind)
    return values


def _configurations(connection: Connection, ids: Sequence[int]) -> dict[int, Any]:
    """What was observed, where the study that proposed it is gone."""
    found: dict[int, Any] = {}
    for part in chunks(ids):
        query = select(Observation.id, Observation.config, Observation.architecture_key)
        found.update({row.id: row for row in connection.execute(query.where(Observation.id.in_(part)))})
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


def _history(spec: FrontSpec, rows: Sequence[_Row], limit: Sequence[float]) -> list[tuple[int, float]]:
    names = [(o, o.name) for o, _ in spec.objectives]
    points = {row["id"]: [o.loss(float(row["values"][name]["value"])) for o, name in names] for row in rows}
    events = [(row["entered_sequence"], True, row["id"]) for row in rows]
    events += [(row["left_sequence"], False, row["id"]) for row in rows if row["left_sequence"] is not None]
    members: dict[int, list[float]] = {}
    history = []
    for sequence, group in itertools.groupby(
        sorted(events, key=lambda event: (event[0], not event[1])), lambda e: e[0]
    ):
        for _, enters, id_ in group:
            if enters:
                members[id_] = points[id_]
            else:
                members.pop(id_, None)
        history.append((int(sequence), hypervolume(np.array(list(members.values()), dtype=np.float64), limit)))
    return history
