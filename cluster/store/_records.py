"""What goes into the store and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from archfront.search._types import Constraint, Evaluation, Kind, Objective, Proposal, SearchBudget, Value
from archfront.spaces._errors import StoreError, UsageError

__all__ = [
    "ArtefactRecord",
    "Ask",
    "Counts",
    "DeviceRecord",
    "DeviceSession",
    "Fact",
    "KeyMatch",
    "NoFrontError",
    "NoStoreError",
    "Outcome",
    "ProposalRecord",
    "Report",
    "Snapshot",
    "StudyRecord",
    "StudyStatus",
    "quality_of",
]

ProposalState = Literal["queued", "running", "done"]
StudyStatus = Literal["running", "done", "interrupted", "failed"]


class NoStoreError(StoreError):
    """A store that is only read is not there."""

    code = "no_store"


class NoFrontError(StoreError):
    """No study in the store fits what was asked for."""

    code = "no_front"


@dataclass(frozen=True)
class StudyRecord:
    """Everything that a study is made of.

    `space` is its name ("pflayer/small"), `identity` the model space's identity, `definition` that space as JSON,
    `searched` the SearchSpace actually searched, as JSON. `devices` maps names to device identities. `private`
    studies search a user's own function: nobody else takes their facts. `reference` is raw (not minimised), one entry
    per objective; None entries are filled by the store from the first 20 ok values. `options` is the engine's own.
    """

    name: str
    space: str
    identity: str
    objectives: tuple[Objective, ...]
    searched: Mapping[str, Any] = field(default_factory=dict)
    definition: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    task_identity: str = ""
    signature: str = ""
    protocol: str = ""
    trainer: str = ""
    strategy: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)
    budget: SearchBudget = field(default_factory=SearchBudget)
    seed: int = 0
    train_seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    private: bool = False
    reference: tuple[float | None, ...] | None = None
    status: StudyStatus = "running"
    run_epoch: int = 0
    seconds: float = 0.0
    startup_seconds: float = 0.0
    created: float = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("a study without a name", "give --study NAME")
        if not self.objectives:
            raise UsageError(f"study {self.name!r} has no objective", "give at least one --objective METRIC")
        names = [objective.name for objective in self.objectives]
        if len(set(names)) < len(names):
            raise UsageError(f"study {self.name!r} names an objective twice: {', '.join(names)}")
        unknown = {o.device for o in self.objectives if o.device} - set(self.devices)
        if unknown:
            raise UsageError(
                f"study {self.name!r} has objectives on {', '.join(sorted(unknown))}, but its devices are "
                f"{', '.join(sorted(self.devices)) or 'none'}",
                "name each device in `devices`",
            )
        if self.reference is not None and len(self.reference) != len(self.objectives):
            raise UsageError(
                f"the reference of study {self.name!r} has {len(self.reference)} values for "
                f"{len(self.objectives)} objectives"
            )
        if self.status not in get_args(StudyStatus):
            raise ValueError(f"status={self.status!r} must be one of {', '.join(get_args(StudyStatus))}")


@dataclass(frozen=True)
class Counts:
    """How far a study is. `told` is everything given back; `failed` (neither ok nor stopped) is a part of it."""

    proposed: int
    told: int
    failed: int
    reused: int


@dataclass(frozen=True)
class Ask:
    """One call of a strategy's `ask`: its number in the study, how many proposals it wanted, and how many evaluations
    had been told."""

    number: int
    size: int
    told: int


@dataclass(frozen=True)
class ProposalRecord:
    """A proposal, the key of its architecture parameters, how far it is, and the ask that it came from: None for what
    was entered, and in studies of before this was kept."""

    proposal: Proposal
    architecture_key: str
    state: ProposalState = "queued"
    ask: Ask | None = None


@dataclass(frozen=True)
class DeviceRecord:
    """A hardware target as the store remembers it."""

    identity: str
    name: str
    kind: str
    definition: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceSession:
    """One measuring session. `value` is the statistic to use, in the metric's unit; NaN = cannot run on the device.

    `device` is a device identity. A second row with the same (architecture, device, metric, `session`) is ignored:
    give each real session its own text.
    """

    identity: str
    signature: str
    architecture_key: str
    device: str
    metric: str
    value: float
    session: str
    kind: Kind = "measured"
    minimum: float | None = None
    median: float | None = None
    spread: float | None = None
    n: int = 1
    reference_drift: float | None = None
    study: str | None = None
    created: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What the engine hands over for one proposal.

    `quality` are the quality values that make the observation, `test_*` among them, by metric; left out, they are
    those of the evaluation that have no device and are trained, sliced or looked up. `reused` is the id of the fact
    that was taken instead. `protocol` and `train_seed` are the study's unless given. Device sessions and analytic
    values (by metric) are stored beside the evaluation; looked-up device values and analytic values that the
    evaluation itself holds need not be repeated.
    """

    evaluation: Evaluation
    quality: Mapping[str, Value] | None = None
    reused: int | None = None
    protocol: str | None = None
    train_seed: int | None = None
    sessions: tuple[DeviceSession, ...] = ()
    analytic: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.evaluation.proposal is None:
            raise ValueError(
                f"the evaluation of key {self.evaluation.key!r} has no proposal: insert one for foreign results too"
            )

    @property
    def proposal(self) -> str:
        """The id of the proposal."""
        return str(self.evaluation.proposal)

    @property
    def observed(self) -> Mapping[str, Value]:
        """The quality values of the observation, by metric."""
        return quality_of(self.evaluation.values) if self.quality is None else self.quality


def quality_of(values: Mapping[str, Value]) -> dict[str, Value]:
    """Those that belong to no device and are trained, sliced or looked up."""
    kinds = ("trained", "sliced", "looked_up")
    return {name: value for name, value in values.items() if "@" not in name and value.kind in kinds}


@dataclass(frozen=True)
class Fact:
    """The newest usable observation of a key under a protocol and a train seed; `values` by metric."""

    observation: int
    key: str
    architecture_key: str
    protocol: str
    train_seed: int
    values: Mapping[str, Value]
    created: float


@dataclass(frozen=True)
class Report:
    """One report of a running trial; `step` counts from 1 (an epoch). `attributes`: what is no metric of the task, as
    losses, rates, and the values and scales of a schedule."""

    proposal: str
    step: int
    metrics: Mapping[str, float]
    attributes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """A strategy's state after an ask: told up to `sequence`, asked for `proposals` proposals so far.

    `state` is JSON; `blobs` are large parts by name, kept as files.
    """

    sequence: int
    proposals: int
    state: Mapping[str, Any]
    blobs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyMatch:
    """Where a key occurs."""

    identity: str
    space: str
    study: str
    key: str


@dataclass(frozen=True)
class ArtefactRecord:
    """A stored file. `location` is a path, or a URL on a remote file store."""

    id: int
    key: str
    kind: str
    sha256: str
    size: int
    location: str
    study: str | None = None
    proposal: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
