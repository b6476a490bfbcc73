"""The tables. Times are UTC unix seconds; a NULL number is one that was not finite."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "AnalyticValue",
    "Artefact",
    "Base",
    "BenchRow",
    "DeviceRow",
    "DeviceValue",
    "EvaluationRow",
    "FrontPointRow",
    "FrontRow",
    "Observation",
    "ObservationValue",
    "ProposalRow",
    "ReportRow",
    "SnapshotRow",
    "SpaceRow",
    "StudyRow",
]

Json = dict[str, Any]
_AUTOINCREMENT = {"sqlite_autoincrement": True}  # an id never comes back after a removal


class Base(DeclarativeBase):
    """All tables; constraint names follow one pattern so that migrations can name them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {Json: JSON, list[Any]: JSON, str: String, float: Float}


def _id() -> Mapped[int]:
    return mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _study(*, nullable: bool = False, index: bool = False) -> Mapped[Any]:
    return mapped_column(ForeignKey("study.id", ondelete="CASCADE"), nullable=nullable, index=index)


class SpaceRow(Base):
    """A model space, or a bare search space, as it was when first searched."""

    __tablename__ = "space"
    identity: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    variant: Mapped[str]
    definition: Mapped[Json]


FAILED, REUSED = "status not in ('ok', 'stopped')", "reused"
"""Conditions of indexes: a planner takes one for a query that says the same."""


def _few(name: str, condition: str) -> Index:
    """An index of the few evaluations of a study of which this is true: they are counted without reading the others."""
    return Index(name, "study_id", sqlite_where=text(condition), postgresql_where=text(condition))


class DeviceRow(Base):
    """A hardware target."""

    __tablename__ = "device"
    identity: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    definition: Mapped[Json]


class StudyRow(Base):
    """One search. `reference` is raw (not minimised), one entry per objective, null where not yet known."""

    __tablename__ = "study"
    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(unique=True)
    identity: Mapped[str]
    space: Mapped[str]
    searched: Mapped[Json]
    task: Mapped[str]
    task_identity: Mapped[str]
    signature: Mapped[str]
    protocol: Mapped[str]
    trainer: Mapped[str]
    strategy: Mapped[str]
    parameters: Mapped[Json]
    objectives: Mapped[list[Any]]
    constraints: Mapped[list[Any]]
    devices: Mapped[Json]
    budget_trials: Mapped[int | None]
    budget_seconds: Mapped[float | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    train_seed: Mapped[int] = mapped_column(BigInteger)
    options: Mapped[Json]
    private: Mapped[bool]
    status: Mapped[str]
    run_epoch: Mapped[int]
    reference: Mapped[list[Any]]
    seconds: Mapped[float]
    startup_seconds: Mapped[float]
    created: Mapped[float]
    __table_args__ = (Index(None, "identity", "task_identity", "protocol"), _AUTOINCREMENT)


class ProposalRow(Base):
    """What a strategy wants tried. `state` is queued, running or done. The ask that it came from: its number in the
    study, how many it wanted, how much had been told; null for what was entered, or asked before this was kept."""

    __tablename__ = "proposal"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    study_id: Mapped[int] = _study()
    number: Mapped[int]
    key: Mapped[str]
    architecture_key: Mapped[str] = mapped_column(index=True)
    config: Mapped[Json]
    origin: Mapped[str]
    parents: Mapped[list[Any]]
    iteration: Mapped[int]
    predicted: Mapped[Json]
    state: Mapped[str]
    ask_number: Mapped[int | None]
    ask_size: Mapped[int | None]
    ask_told: Mapped[int | None]
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        UniqueConstraint("study_id", "key"),
        Index(None, "study_id", "state"),
    )


class EvaluationRow(Base):
    """What came back for a proposal: at most one row each. `sequence` counts from 1 in the order of telling."""

    __tablename__ = "evaluation"
    proposal_id: Mapped[str] = mapped_column(ForeignKey("proposal.id", ondelete="CASCADE"), primary_key=True)
    study_id: Mapped[int] = _study()
    sequence: Mapped[int]
    batch: Mapped[int]
    status: Mapped[str]
    error: Mapped[str]
    seconds: Mapped[float]
    fidelity: Mapped[Json]
    reused: Mapped[bool]
    observation_id: Mapped[int | None] = mapped_column(BigInteger)
    values: Mapped[Json]
    created: Mapped[float]
    __table_args__ = (
        UniqueConstraint("study_id", "sequence"),
        _few("ix_evaluation_failed", FAILED),
        _few("ix_evaluation_reused", REUSED),
    )


class Observation(Base):
    """One trained, sliced or looked-up configuration. The newest usable one per key, protocol and seed is a fact."""

    __tablename__ = "observation"
    id: Mapped[int] = _id()
    proposal_id: Mapped[str | None] = mapped_column(unique=True)
    study_id: Mapped[int | None]
    private: Mapped[bool]
    identity: Mapped[str]
    task_identity: Mapped[str]
    key: Mapped[str]
    architecture_key: Mapped[str] = mapped_column(index=True)
    config: Mapped[Json]
    protocol: Mapped[str]
    train_seed: Mapped[int] = mapped_column(BigInteger)
    usable: Mapped[bool]
    created: Mapped[float]
    __table_args__ = (Index("ix_observation_fact", "identity", "task_identity", "protocol", "key"), _AUTOINCREMENT)


class ObservationValue(Base):
    """One quality value of an observation."""

    __tablename__ = "observation_value"
    observation_id: Mapped[int] = mapped_column(ForeignKey("observation.id", ondelete="CASCADE"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    kind: Mapped[str]


class DeviceValue(Base):
    """One measuring session of an architecture on a device; `value` is the statistic that the measurer chose."""

    __tablename__ = "device_value"
    id: Mapped[int] = _id()
    identity: Mapped[str]
    signature: Mapped[str]
    architecture_key: Mapped[str]
    device: Mapped[str]
    metric: Mapped[str]
    session: Mapped[str]
    value: Mapped[float | None]
    kind: Mapped[str]
    minimum: Mapped[float | None]
    median: Mapped[float | None]
    spread: Mapped[float | None]
    n: Mapped[int]
    reference_drift: Mapped[float | None]
    study_id: Mapped[int | None]
    created: Mapped[float]
    __table_args__ = (
        UniqueConstraint(
            "identity", "signature", "architecture_key", "device", "metric", "session", name="uq_device_value_session"
        ),
        _AUTOINCREMENT,
    )


class BenchRow(Base):
    """What a comparison measured once, by kind ("search", "predictors") and a text that says what."""

    __tablename__ = "bench"
    id: Mapped[int] = _id()
    kind: Mapped[str]
    what: Mapped[str]
    content: Mapped[Json]
    created: Mapped[float]
    __table_args__ = (UniqueConstraint("kind", "what", name="uq_bench_kind_what"), _AUTOINCREMENT)


class AnalyticValue(Base):
    """A value that is computed from the architecture alone."""

    __tablename__ = "analytic_value"
    identity: Mapped[str] = mapped_column(primary_key=True)
    signature: Mapped[str] = mapped_column(primary_key=True)
    architecture_key: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]


class ReportRow(Base):
    """One report of a running trial; a step reported twice is kept once."""

    __tablename__ = "report"
    proposal_id: Mapped[str] = mapped_column(ForeignKey("proposal.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    metrics: Mapped[Json]
    attributes: Mapped[Json] = mapped_column(server_default="{}")


class FrontRow(Base):
    """A kept front: of a study (`study_id`), or of everyone's facts. `device` "" is none, "*" all of the study's.

    `name` spells out what is unique; `version` grows with every change.
    """

    __tablename__ = "front"
    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(unique=True)
    study_id: Mapped[int | None] = _study(nullable=True, index=True)
    identity: Mapped[str]
    signature: Mapped[str]
    task_identity: Mapped[str]
    protocol: Mapped[str]
    device: Mapped[str]
    objectives: Mapped[list[Any]]
    constraints: Mapped[list[Any]]
    version: Mapped[int]
    __table_args__ = (Index(None, "identity", "signature"), _AUTOINCREMENT)


class FrontPointRow(Base):
    """A stay on a front. The sequence is the study's, or the newest observation's id on a front of facts."""

    __tablename__ = "front_point"
    id: Mapped[int] = _id()
    front_id: Mapped[int] = mapped_column(ForeignKey("front.id", ondelete="CASCADE"))
    key: Mapped[str]
    proposal_id: Mapped[str | None]
    observation_id: Mapped[int | None] = mapped_column(BigInteger)
    values: Mapped[Json]
    kind: Mapped[str]
    entered_sequence: Mapped[int] = mapped_column(BigInteger)
    left_sequence: Mapped[int | None] = mapped_column(BigInteger)
    __table_args__ = (Index(None, "front_id", "left_sequence"), _AUTOINCREMENT)


class SnapshotRow(Base):
    """A strategy's state after an ask; large parts lie in files, named by their hash."""

    __tablename__ = "snapshot"
    id: Mapped[int] = _id()
    study_id: Mapped[int] = _study(index=True)
    sequence: Mapped[int]
    proposals: Mapped[int]
    state: Mapped[Json]
    blobs: Mapped[Json]
    created: Mapped[float]
    __table_args__ = _AUTOINCREMENT


class Artefact(Base):
    """A file that belongs to a configuration: weights, a bank, an export. `sha256` names the file."""

    __tablename__ = "artefact"
    id: Mapped[int] = _id()
    study_id: Mapped[int | None] = _study(nullable=True, index=True)
    proposal_id: Mapped[str | None]
    key: Mapped[str]
    kind: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    meta: Mapped[Json]
    created: Mapped[float]
    __table_args__ = (Index(None, "key", "kind"), _AUTOINCREMENT)
