"""What came back: evaluations, observations, values and fronts in one transaction, exactly once per proposal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Table, bindparam, insert, or_, select, update

from archfront.cluster.store._candidates import Candidate
from archfront.cluster.store._codec import chunks, finite, values_in, values_out
from archfront.cluster.store._core import Opened
from archfront.cluster.store._front_spec import facts_of, select_specs, specs_touched
from archfront.cluster.store._fronts import refresh, refresh_architectures
from archfront.cluster.store._models import (
    EvaluationRow,
    FrontRow,
    Observation,
    ObservationValue,
    ProposalRow,
    StudyRow,
)
from archfront.cluster.store._records import DeviceSession, Outcome
from archfront.cluster.store._reference import freeze_reference
from archfront.cluster.store._sessions import insert_analytic, insert_sessions
from archfront.cluster.store._sql import insert_new
from archfront.cluster.store._studies import locked_study, study_id
from archfront.search._types import FOUND, Evaluation, Value
from archfront.spaces._errors import StoreError

__all__ = ["RecordMethods", "evaluation_of"]


class RecordMethods(Opened):
    """The store's methods about evaluations."""

    def record(
        self,
        study: str,
        epoch: int,
        outcomes: Sequence[Outcome],
        *,
        batch: int | None = None,
        seconds: float | None = None,
    ) -> int:
        """Store what came back, in the order in which it is told: how many were new.

        One transaction with everything that follows from it: observations, device and analytic values, fronts, the
        proposals' state, and the study's reference point once 20 ok values are known. A proposal that has an
        evaluation is ignored. `batch` is the number of the tell, by default the next one; `seconds` is what the study
        has taken in all its sittings, so that a killed one counts up to here. Raises StoreError for an older epoch, or
        for a proposal that the study does not have.
        """

        def put(connection: Connection) -> int:
            here = locked_study(connection, study, epoch)
            new, last, last_batch = _unknown_yet(connection, study, here["id"], outcomes)
            if not new:
                return 0
            now = time.time()
            observations = _insert_observations(connection, here, new, now)
            rows = [
                {
                    "study_id": here["id"],
                    "sequence": last + place,
                    "batch": batch or last_batch + 1,
                    "created": now,
                    **_row(outcome, observations),
                }
                for place, (outcome, _) in enumerate(new, start=1)
            ]
            connection.execute(_INSERT, rows)
            moved = _insert_values(connection, here, study, new)
            connection.execute(_DONE, [{"proposal": outcome.proposal} for outcome, _ in new])
            read = any(outcome.reused is not None for outcome, _ in new)  # what a fact says is with its observation
            told = {} if read else {here["id"]: _candidates(here, new, last, observations)}
            self._refresh(connection, here, new, moved, told, last + len(new))
            freeze_reference(connection, here, last + len(new))
            if seconds is not None:
                connection.execute(_SPENT, {"study": here["id"], "spent": seconds})
            return len(new)

        return self._write(put)

    def withdraw(self, observation: int) -> None:
        """Declare an observation unusable: it is no fact any more, and its evaluations leave every front."""

        def withdraw(connection: Connection) -> None:
            where = Observation.id == observation
            row = connection.execute(select(Observation.__table__).where(where)).mappings().first()
            if row is None:
                raise StoreError(f"there is no observation {observation}", "its study may have been removed")
            connection.execute(update(Observation).where(where).values(usable=False))
            users = select(EvaluationRow.study_id).where(EvaluationRow.observation_id == observation)
            facts = facts_of(row["identity"], row["task_identity"], [row["protocol"]])
            specs = select_specs(connection, or_(FrontRow.study_id.in_(users), facts))
            refresh(connection, self._cache, specs, keys={row["key"]})

        self._write(withdraw)

    def observe_on_device(self, study: str, device: str, qualities: Mapping[str, Mapping[str, Value]]) -> int:
        """Add what a study's networks are worth on a device that changes them, by key and metric, to the observations
        of their weights; `device` is an identity. Returns for how many keys: those without an observation have none."""

        def add(connection: Connection) -> int:
            here = locked_study(connection, study)
            query = (
                select(ProposalRow.key, ProposalRow.architecture_key, EvaluationRow.observation_id)
                .join(EvaluationRow, EvaluationRow.proposal_id == ProposalRow.id)
                .where(ProposalRow.study_id == here["id"], ProposalRow.key.in_(qualities))
                .where(EvaluationRow.observation_id.is_not(None))
            )
            found = {key: (architecture, id_) for key, architecture, id_ in connection.execute(query)}
            rows = [
                {
                    "observation_id": id_,
                    "metric": f"{metric}@{device}",
                    "value": finite(value.value),
                    "kind": value.kind,
                }
                for key, (_, id_) in found.items()
                for metric, value in qualities[key].items()
            ]
            insert_new(connection, ObservationValue.__table__, rows)
            moved = {architecture for architecture, _ in found.values()}
            refresh_architectures(connection, self._cache, here["identity"], here["signature"], moved)
            return len(found)

        return self._write(add)

    def told(self, study: str, after_sequence: int = 0) -> list[tuple[int, int, Evaluation]]:
        """(sequence, batch, evaluation) in the order of telling, those after a sequence number."""

        def read(connection: Connection) -> list[tuple[int, int, Evaluation]]:
            query = (
                select(EvaluationRow.__table__, ProposalRow.config, ProposalRow.key)
                .join(ProposalRow, ProposalRow.id == EvaluationRow.proposal_id)
                .where(EvaluationRow.study_id == study_id(connection, study))
                .where(EvaluationRow.sequence > after_sequence)
                .order_by(EvaluationRow.sequence)
            )
            return [(row["sequence"], row["batch"], evaluation_of(row)) for row in connection.execute(query).mappings()]

        return self._read(read)

    def evaluation_of(self, study: str, key: str) -> Evaluation | None:
        """What a study was told of a key; None while it was not."""

        def read(connection: Connection) -> Any:
            query = (
                select(EvaluationRow.__table__, ProposalRow.config, ProposalRow.key)
                .join(ProposalRow, ProposalRow.id == EvaluationRow.proposal_id)
                .where(ProposalRow.study_id == study_id(connection, study), ProposalRow.key == key)
                .order_by(EvaluationRow.sequence)
            )
            return connection.execute(query).mappings().first()

        row = self._read(read)
        return None if row is None else evaluation_of(row)

    def _refresh(
        self,
        connection: Connection,
        here: Mapping[str, Any],
        new: Sequence[_New],
        moved: set[str],
        told: Mapping[int | None, Sequence[Candidate]],
        last: int,
    ) -> None:
        protocols = {outcome.protocol or here["protocol"] for outcome, _ in new}
        specs = specs_touched(connection, self._cache.specs, here, protocols)
        keys = {outcome.evaluation.key for outcome, _ in new}
        now = {here["id"]: last}
        refresh(connection, self._cache, specs, keys=keys, architectures=moved, told=told, now=now)
        refresh_architectures(connection, self._cache, here["identity"], here["signature"], moved, but=specs)


_New = tuple[Outcome, str]  # with its architecture key

_INSERT = insert(EvaluationRow)
_DONE = update(cast(Table, ProposalRow.__table__)).where(ProposalRow.id == bindparam("proposal")).values(state="done")
_SPENT = update(StudyRow).where(StudyRow.id == bindparam("study")).values(seconds=bindparam("spent"))
_LAST = (
    select(EvaluationRow.sequence, EvaluationRow.batch)
    .where(EvaluationRow.study_id == bindparam("study"))
    .order_by(EvaluationRow.sequence.desc())
    .limit(1)
)
_KNOWN = (
    select(
        ProposalRow.id,
        ProposalRow.study_id,
        ProposalRow.key,
        ProposalRow.architecture_key,
        EvaluationRow.proposal_id,
        _LAST.with_only_columns(EvaluationRow.sequence).scalar_subquery(),
        _LAST.with_only_columns(EvaluationRow.batch).scalar_subquery(),
    )
    .outerjoin(EvaluationRow, EvaluationRow.proposal_id == ProposalRow.id)
    .where(ProposalRow.id.in_(bindparam("ids", expanding=True)))
)
"""With the study's last sequence and batch number: every statement less is felt where a transaction has one outcome."""


def _candidates(
    here: Mapping[str, Any], new: Sequence[_New], last: int, observations: Mapping[str, int]
) -> list[Candidate]:
    """What was told, as the study's own fronts see it: as told, and what else was observed."""
    found = []
    for sequence, (outcome, architecture) in enumerate(new, start=last + 1):
        evaluation = outcome.evaluation
        if evaluation.status in FOUND:
            values = {_slot(here, name): value for name, value in evaluation.values.items()}
            for metric, value in outcome.observed.items():
                values.setdefault((metric, ""), value)
            observation = observations.get(outcome.proposal)
            found.append(Candidate(evaluation.key, architecture, sequence, outcome.proposal, observation, values))
    return found


def _slot(here: Mapping[str, Any], name: str) -> tuple[str, str]:
    metric, _, device = name.partition("@")
    return metric, here["devices"].get(device, device) if device else ""


def _unknown_yet(
    connection: Connection, name: str, study: int, outcomes: Sequence[Outcome]
) -> tuple[list[_New], int, int]:
    """The outcomes without an evaluation so far, one per proposal, in order, each with its architecture key; and the
    study's last sequence and batch number."""
    known: dict[str, tuple[str, str, bool]] = {}
    last = batch = 0
    for part in chunks([outcome.proposal for outcome in outcomes]):
        here = {"ids": part, "study": study}
        for id_, owner, key, architecture, told, *numbers in connection.execute(_KNOWN, here):
            if owner == study:
                known[id_] = (key, architecture, told is None)
                last, batch = (number or 0 for number in numbers)
    new: dict[str, _New] = {}
    for outcome in outcomes:
        if outcome.proposal not in known:
            raise StoreError(f"study {name!r} has no proposal {outcome.proposal!r}", "insert proposals before results")
        key, architecture, untold = known[outcome.proposal]
        if outcome.evaluation.key != key:
            raise ValueError(f"proposal {outcome.proposal} has key {key!r}, its evaluation {outcome.evaluation.key!r}")
        if untold:
            new.setdefault(outcome.proposal, (outcome, architecture))
    return list(new.values()), last, batch


def _insert_observations(
    connection: Connection, here: Mapping[str, Any], new: Sequence[_New], now: float
) -> dict[str, int]:
    """One observation for each outcome that observed something itself: their ids, by proposal. A private study's are
    of no use to anybody else: its evaluations say it all."""
    if here["private"]:
        return {}
    fresh = [(outcome, arch) for outcome, arch in new if outcome.reused is None and outcome.observed]
    if not fresh:
        return {}
    rows = [
        {
            "proposal_id": outcome.proposal,
            "study_id": here["id"],
            "private": here["private"],
            "identity": here["identity"],
            "task_identity": here["task_identity"],
            "key": outcome.evaluation.key,
            "architecture_key": architecture,
            "config": outcome.evaluation.config,
            "protocol": here["protocol"] if outcome.protocol is None else outcome.protocol,
            "train_seed": here["train_seed"] if outcome.train_seed is None else outcome.train_seed,
            "usable": outcome.evaluation.status in FOUND,
            "created": now,
        }
        for outcome, architecture in fresh
    ]
    statement = insert(Observation).returning(Observation.proposal_id, Observation.id)
    ids = {str(proposal): id_ for proposal, id_ in connection.execute(statement, rows)}
    values = [
        {"observation_id": ids[outcome.proposal], "metric": m, "value": finite(v.value), "kind": v.kind}
        for outcome, _ in fresh
        for m, v in outcome.observed.items()
    ]
    connection.execute(insert(ObservationValue), values)
    return ids


def _row(outcome: Outcome, observations: Mapping[str, int]) -> dict[str, Any]:
    evaluation = outcome.evaluation
    return {
        "proposal_id": outcome.proposal,
        "status": evaluation.status,
        "error": evaluation.error,
        "seconds": evaluation.seconds,
        "fidelity": dict(evaluation.fidelity),
        "reused": outcome.reused is not None,
        "observation_id": outcome.reused if outcome.reused is not None else observations.get(outcome.proposal),
        "values": values_out(evaluation.values),
    }


def _insert_values(connection: Connection, here: Mapping[str, Any], study: str, new: Sequence[_New]) -> set[str]:
    """Store device sessions and analytic values: the architectures that have a new session.

    What a user's own function says stays in its evaluations; everything else that was looked up or computed is
    stored once per architecture.
    """
    sessions = [session for outcome, _ in new for session in outcome.sessions]
    analytic: dict[tuple[str, str], float] = {}
    for outcome, architecture in new:
        for metric, value in outcome.analytic.items():
            analytic[architecture, metric] = value
        if here["private"] or outcome.evaluation.status not in FOUND:
            continue
        for name, told in outcome.evaluation.values.items():
            metric, _, device = name.partition("@")
            if device and told.kind == "looked_up":
                place = (here["identity"], here["signature"], architecture, here["devices"].get(device, device))
                looked_up = DeviceSession(*place, metric, told.value, "looked up", kind="looked_up", study=study)
                sessions.append(looked_up)
            elif not device and told.kind == "analytic":
                analytic.setdefault((architecture, metric), told.value)
    computed = insert_analytic(connection, here["identity"], here["signature"], analytic)
    measured = insert_sessions(connection, sessions)
    return computed | measured.get((here["identity"], here["signature"]), set())


def evaluation_of(row: Any) -> Evaluation:
    """An evaluation's row, with its proposal's configuration and key."""
    return Evaluation(
        row["config"],
        row["key"],
        row["status"],
        values_in(row["values"]),
        row["proposal_id"],
        {name: float(x) for name, x in row["fidelity"].items()},
        row["seconds"],
        row["error"],
    )
