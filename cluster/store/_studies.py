"""Studies: made, listed, begun again, ended, removed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select, text, update

from archfront.cluster.store._candidates import Scope
from archfront.cluster.store._codec import constraint_in, constraint_out, objective_in, objective_out
from archfront.cluster.store._core import Opened
from archfront.cluster.store._front_spec import FrontSpec, specs_of_study
from archfront.cluster.store._fronts import ask_for
from archfront.cluster.store._models import (
    FAILED,
    REUSED,
    Artefact,
    DeviceRow,
    DeviceValue,
    EvaluationRow,
    FrontPointRow,
    FrontRow,
    Observation,
    ObservationValue,
    ProposalRow,
    ReportRow,
    SnapshotRow,
    SpaceRow,
    StudyRow,
)
from archfront.cluster.store._records import Counts, DeviceRecord, StudyRecord, StudyStatus
from archfront.cluster.store._sql import insert_new
from archfront.search._types import SearchBudget
from archfront.spaces._errors import ExistsError, StoreError, UnknownNameError, UsageError

__all__ = ["StudyMethods", "locked_study", "study_id"]


class StudyMethods(Opened):
    """The store's methods about studies."""

    def create_study(self, record: StudyRecord) -> StudyRecord:
        """Store a new study and ask for its fronts; the answer has `created` and `reference` filled in.

        Raises ExistsError when the name is taken.
        """
        whole = replace(
            record,
            created=record.created or time.time(),
            reference=record.reference or (None,) * len(record.objectives),
        )

        def create(connection: Connection) -> StudyRecord:
            if connection.scalar(select(StudyRow.id).where(StudyRow.name == record.name)) is not None:
                raise ExistsError(
                    f"study {record.name!r} exists",
                    f"continue it with `archfront resume {record.name}`, choose another --study name, "
                    f"or remove it with `archfront studies rm {record.name}`",
                )
            name, _, variant = record.space.partition("/")
            space = {"identity": record.identity, "name": name, "variant": variant, "definition": record.definition}
            insert_new(connection, SpaceRow.__table__, [space], "identity")
            connection.execute(insert(StudyRow), [_row(whole)])
            ask_for(connection, self._cache, _specs(connection, whole))
            return whole

        return self._write(create)

    def study(self, name: str) -> StudyRecord:
        """The study of that name. Raises UnknownNameError with the closest known name."""

        def one(connection: Connection) -> StudyRecord:
            row = connection.execute(_STUDIES.where(StudyRow.name == name)).mappings().first()
            if row is None:
                raise _unknown(connection, name)
            return record_of(row)

        return self._read(one)

    def studies(self) -> list[StudyRecord]:
        """All of them, oldest first."""
        query = _STUDIES.order_by(StudyRow.created, StudyRow.id)
        return self._read(lambda connection: [record_of(row) for row in connection.execute(query).mappings()])

    def counts(self, name: str) -> Counts:
        """How many proposals a study made, and how many of them came back, failed, or took a stored fact."""

        def count(connection: Connection) -> Counts:
            here = {"study": study_id(connection, name)}
            return Counts(*(connection.scalar(query, here) or 0 for query in _COUNTS))

        return self._read(count)

    def remove_study(self, name: str) -> None:
        """Remove a study with its proposals, evaluations, reports, snapshots, artefacts and fronts.

        What it observed and measured stays for others, unless the study is private. `gc()` removes its files.
        """

        def remove(connection: Connection) -> None:
            study = study_id(connection, name)
            mine = select(ProposalRow.id).where(ProposalRow.study_id == study).scalar_subquery()
            fronts = select(FrontRow.id).where(FrontRow.study_id == study).scalar_subquery()
            secret = select(Observation.id).where(Observation.study_id == study, Observation.private).scalar_subquery()
            connection.execute(delete(FrontPointRow).where(FrontPointRow.front_id.in_(fronts)))
            connection.execute(delete(ReportRow).where(ReportRow.proposal_id.in_(mine)))
            connection.execute(delete(ObservationValue).where(ObservationValue.observation_id.in_(secret)))
            connection.execute(delete(Observation).where(Observation.study_id == study, Observation.private))
            forget = update(Observation).where(Observation.study_id == study)
            connection.execute(forget.values(study_id=None, proposal_id=None))
            connection.execute(update(DeviceValue).where(DeviceValue.study_id == study).values(study_id=None))
            for table in (EvaluationRow, FrontRow, SnapshotRow, Artefact, ProposalRow):
                connection.execute(delete(table).where(table.study_id == study))
            connection.execute(delete(StudyRow).where(StudyRow.id == study))
            self._cache.clear()

        self._write(remove)

    def begin_sitting(self, name: str) -> int:
        """Start or go on with a study: its new run epoch. Writes of older epochs are refused from now on.

        What was running is queued again; the status becomes "running".
        """

        def begin(connection: Connection) -> int:
            study = locked_study(connection, name)
            epoch = int(study["run_epoch"]) + 1
            _set(connection, study["id"], run_epoch=epoch, status="running")
            running = update(ProposalRow).where(ProposalRow.study_id == study["id"], ProposalRow.state == "running")
            connection.execute(running.values(state="queued"))
            return epoch

        return self._write(begin)

    def end_sitting(
        self, name: str, status: StudyStatus, *, seconds: float, startup_seconds: float, epoch: int | None = None
    ) -> None:
        """Say how a sitting ended. Both durations are totals over all sittings. An older `epoch` is refused."""

        def end(connection: Connection) -> None:
            study = locked_study(connection, name, epoch)
            _set(connection, study["id"], status=status, seconds=seconds, startup_seconds=startup_seconds)

        self._write(end)

    def set_budget(self, name: str, budget: SearchBudget) -> None:
        """Give a study another total; what was proposed stays. Resolved parameters are not computed anew."""

        def change(connection: Connection) -> None:
            study = locked_study(connection, name)
            _set(connection, study["id"], budget_trials=budget.trials, budget_seconds=budget.seconds)

        self._write(change)

    def set_reference(self, name: str, reference: Sequence[float | None]) -> None:
        """Freeze the reference point: raw values, one per objective of the study, None where still unknown."""

        def freeze(connection: Connection) -> None:
            study = locked_study(connection, name)
            if len(reference) != len(study["objectives"]):
                raise UsageError(
                    f"the reference has {len(reference)} values, study {name!r} {len(study['objectives'])} objectives"
                )
            if any(x is not None and not math.isfinite(x) for x in reference):
                raise UsageError(f"the reference {list(reference)} of study {name!r} is not finite")
            _set(connection, study["id"], reference=[None if x is None else float(x) for x in reference])

        self._write(freeze)

    def put_devices(self, devices: Sequence[DeviceRecord]) -> None:
        """Remember devices; one whose identity is known is left as it is."""
        rows = [
            {"identity": d.identity, "name": d.name, "kind": d.kind, "definition": dict(d.definition)} for d in devices
        ]
        self._write(lambda connection: insert_new(connection, DeviceRow.__table__, rows, "identity"))

    def devices(self) -> list[DeviceRecord]:
        """Every device the store remembers, by name."""
        query = select(DeviceRow.__table__).order_by(DeviceRow.name, DeviceRow.identity)
        return self._read(lambda connection: [DeviceRecord(**row) for row in connection.execute(query).mappings()])


def study_id(connection: Connection, name: str) -> int:
    """Raises UnknownNameError."""
    found = connection.scalar(select(StudyRow.id).where(StudyRow.name == name))
    if found is None:
        raise _unknown(connection, name)
    return found


_MINE = EvaluationRow.study_id == bindparam("study")
_COUNTS = (  # numbers and sequences have no gaps
    select(func.max(ProposalRow.number) + 1).where(ProposalRow.study_id == bindparam("study")),
    select(func.max(EvaluationRow.sequence)).where(_MINE),
    select(func.count()).where(_MINE, text(FAILED)),
    select(func.count()).where(_MINE, text(REUSED)),
)
_STUDIES = select(StudyRow.__table__, SpaceRow.definition).join(SpaceRow, SpaceRow.identity == StudyRow.identity)
_LOCKED = (
    select(
        StudyRow.id,
        StudyRow.run_epoch,
        StudyRow.identity,
        StudyRow.signature,
        StudyRow.task_identity,
        StudyRow.protocol,
        StudyRow.train_seed,
        StudyRow.private,
        StudyRow.objectives,
        StudyRow.devices,
        StudyRow.reference,
    )
    .where(StudyRow.name == bindparam("study_name"))
    .with_for_update()
)
"""Made once, as every statement that each evaluation needs: to make one takes longer than to run it."""


def locked_study(connection: Connection, name: str, epoch: int | None = None) -> Mapping[str, Any]:
    """What a write needs to know of its study, which no other writer changes until this transaction ends.

    Raises UnknownNameError; StoreError when `epoch` is not the study's present one.
    """
    row = connection.execute(_LOCKED, {"study_name": name}).mappings().first()
    if row is None:
        raise _unknown(connection, name)
    if epoch is not None and epoch != row["run_epoch"]:
        raise StoreError(
            f"study {name!r} is in its sitting {row['run_epoch']}; a write of sitting {epoch} was refused",
            "another process went on with this study: end this one",
        )
    return dict(row)


def record_of(row: RowMapping) -> StudyRecord:
    """A row of the study table as a record; without its space's definition where the row has none."""
    fields = {str(name): value for name, value in row.items() if name != "id"}
    fields["objectives"] = tuple(objective_in(o) for o in fields["objectives"])
    fields["constraints"] = tuple(constraint_in(c) for c in fields["constraints"])
    fields["budget"] = SearchBudget(fields.pop("budget_trials"), fields.pop("budget_seconds"))
    fields["reference"] = tuple(fields["reference"])
    return StudyRecord(**fields)


def _row(record: StudyRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in StudyRecord.__dataclass_fields__ if name != "budget"}
    return row | {
        "budget_trials": record.budget.trials,
        "budget_seconds": record.budget.seconds,
        "objectives": [objective_out(o) for o in record.objectives],
        "constraints": [constraint_out(c) for c in record.constraints],
        "reference": list(record.reference or ()),
    }


def _specs(connection: Connection, record: StudyRecord) -> list[FrontSpec]:
    """The study's own fronts, and for public studies those of everyone's facts."""
    where = (record.identity, record.signature, record.task_identity, record.protocol)
    own = Scope(study_id(connection, record.name), *where)
    specs = specs_of_study(own, record.objectives, record.constraints, record.devices)
    if record.private:
        return specs
    return [*specs, *specs_of_study(Scope(None, *where), record.objectives, (), record.devices)]


def _unknown(connection: Connection, name: str) -> UnknownNameError:
    return UnknownNameError.of("study", name, connection.scalars(select(StudyRow.name)).all())


def _set(connection: Connection, study: int, **values: Any) -> None:
    connection.execute(update(StudyRow).where(StudyRow.id == study).values(**values))
