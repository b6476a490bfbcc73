"""Proposals: inserted before they are launched, together with the state of the strategy that made them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, get_args

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from archfront.cluster.store._artefacts import ArtefactMethods
from archfront.cluster.store._codec import chunks
from archfront.cluster.store._models import ProposalRow, ReportRow, SnapshotRow
from archfront.cluster.store._records import Ask, ProposalRecord, ProposalState, Report, Snapshot
from archfront.cluster.store._sql import insert_new
from archfront.cluster.store._studies import locked_study, study_id
from archfront.search._types import Proposal
from archfront.spaces._errors import UnknownNameError

__all__ = ["ProposalMethods"]


_FORGET = delete(SnapshotRow).where(SnapshotRow.study_id == bindparam("study"))
_REMEMBER = insert(SnapshotRow)
_LAUNCH = (
    update(ProposalRow)
    .where(ProposalRow.id.in_(bindparam("ids", expanding=True)), ProposalRow.state == "queued")
    .values(state="running")
)


class ProposalMethods(ArtefactMethods):
    """The store's methods about proposals, reports and snapshots."""

    def insert_proposals(
        self, study: str, epoch: int, proposals: Sequence[ProposalRecord], snapshot: Snapshot | None = None
    ) -> None:
        """Store proposals and the strategy's state after asking for them, in one transaction.

        A proposal whose id is stored already is ignored. Only the newest snapshot of a study is kept. Raises
        StoreError for an older epoch, or when the study has the number or the key under another id.
        """
        blobs = {name: self._put_file(data) for name, data in (snapshot.blobs if snapshot else {}).items()}

        def put(connection: Connection) -> None:
            here = locked_study(connection, study, epoch)["id"]
            insert_new(connection, ProposalRow.__table__, [_row(here, p) for p in proposals], "id")
            if snapshot is not None:
                connection.execute(_FORGET, {"study": here})
                state = {"sequence": snapshot.sequence, "proposals": snapshot.proposals, "state": snapshot.state}
                row = {"study_id": here, **state, "blobs": blobs, "created": time.time()}
                connection.execute(_REMEMBER, [row])

        self._write(put)

    def mark_running(self, ids: Sequence[str]) -> None:
        """The queued proposals among `ids` are being evaluated now."""

        def mark(connection: Connection) -> None:
            for part in chunks(ids):
                connection.execute(_LAUNCH, {"ids": part})

        self._write(mark)

    def proposals(self, study: str, state: ProposalState | None = None) -> list[ProposalRecord]:
        """A study's proposals in the order of their numbers, or only those in one state."""
        if state is not None and state not in get_args(ProposalState):
            raise ValueError(f"state={state!r} must be one of {', '.join(get_args(ProposalState))}")

        def read(connection: Connection) -> list[ProposalRecord]:
            query = select(ProposalRow.__table__).where(ProposalRow.study_id == study_id(connection, study))
            if state is not None:
                query = query.where(ProposalRow.state == state)
            return [_record(row) for row in connection.execute(query.order_by(ProposalRow.number)).mappings()]

        return self._read(read)

    def proposal_of(self, study: str, key: str) -> ProposalRecord:
        """The first proposal of a key. Raises UnknownNameError for a key that the study has not."""

        def read(connection: Connection) -> Any:
            where = (ProposalRow.study_id == study_id(connection, study), ProposalRow.key == key)
            query = select(ProposalRow.__table__).where(*where).order_by(ProposalRow.number).limit(1)
            return connection.execute(query).mappings().first()

        row = self._read(read)
        if row is None:
            raise UnknownNameError(f"study {study!r} has no key {key[:12]}", f"see `archfront show {study}`")
        return _record(row)

    def latest_snapshot(self, study: str) -> Snapshot | None:
        """The strategy's state after its last ask, blobs included; None before the first."""

        def read(connection: Connection) -> Any:
            query = select(SnapshotRow.__table__).where(SnapshotRow.study_id == study_id(connection, study))
            return connection.execute(query.order_by(SnapshotRow.id.desc()).limit(1)).mappings().first()

        row = self._read(read)
        if row is None:
            return None
        blobs = {name: self._read_file(sha256) for name, sha256 in row["blobs"].items()}
        return Snapshot(row["sequence"], row["proposals"], row["state"], blobs)

    def add_reports(self, reports: Sequence[Report]) -> None:
        """Store reports; a (proposal, step) that is there already is left as it is."""
        rows = [
            {"proposal_id": r.proposal, "step": r.step, "metrics": dict(r.metrics), "attributes": dict(r.attributes)}
            for r in reports
        ]
        self._write(lambda connection: insert_new(connection, ReportRow.__table__, rows, "proposal_id", "step"))

    def reports(self, proposal: str) -> list[Report]:
        """What a proposal's trial reported, in order of the steps."""
        query = select(ReportRow.step, ReportRow.metrics, ReportRow.attributes).where(ReportRow.proposal_id == proposal)

        def read(connection: Connection) -> list[Report]:
            rows = connection.execute(query.order_by(ReportRow.step))
            return [
                Report(proposal, step, *({name: float(x) for name, x in values.items()} for values in parts))
                for step, *parts in rows
            ]

        return self._read(read)


def _row(study: int, record: ProposalRecord) -> dict[str, Any]:
    proposal, ask = record.proposal, record.ask
    return {
        "id": proposal.id,
        "study_id": study,
        "number": proposal.number,
        "key": proposal.key,
        "architecture_key": record.architecture_key,
        "config": proposal.config,
        "origin": proposal.origin,
        "parents": list(proposal.parents),
        "iteration": proposal.iteration,
        "predicted": {name: list(pair) for name, pair in proposal.predicted.items()},
        "state": record.state,
        "ask_number": None if ask is None else ask.number,
        "ask_size": None if ask is None else ask.size,
        "ask_told": None if ask is None else ask.told,
    }


def _record(row: Any) -> ProposalRecord:
    proposal = Proposal(
        row["id"],
        row["number"],
        row["config"],
        row["key"],
        row["origin"],
        tuple(row["parents"]),
        row["iteration"],
        {name: (float(mean), float(std)) for name, (mean, std) in row["predicted"].items()},
    )
    number = row["ask_number"]
    ask = None if number is None else Ask(number, row["ask_size"], row["ask_told"])
    return ProposalRecord(proposal, row["architecture_key"], row["state"], ask)
