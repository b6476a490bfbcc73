"""The values that travel between strategies, the engine and the store."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._metric import METRICS, Direction

__all__ = [
    "FOUND",
    "STATUSES",
    "Asked",
    "Constraint",
    "Evaluation",
    "Kind",
    "Objective",
    "Proposal",
    "SearchBudget",
    "Status",
    "Value",
]

Configuration = dict[str, Any]
Status = Literal["ok", "stopped", "unmeasured", "failed", "invalid", "timeout", "cancelled", "poisoned"]
"""unmeasured: the quality was found, but a device did not give its values; measured later, it may join fronts."""
Kind = Literal["trained", "sliced", "looked_up", "measured", "analytic", "predicted", "proxy"]
Reason = Literal["", "waiting", "exhausted", "budget", "deadline"]
STATUSES: tuple[Status, ...] = get_args(Status)
FOUND: tuple[Status, ...] = ("ok", "unmeasured")
"""Those of which the quality is known."""
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Objective:
    """What is optimised: a metric, its direction, and for device metrics the device it is measured on."""

    metric: str
    direction: Direction
    device: str | None = None
    unit: str = ""

    @property
    def name(self) -> str:
        """The name of its value in an evaluation: "error" or "latency_ms@cpu"."""
        return self.metric if self.device is None else f"{self.metric}@{self.device}"

    def loss(self, value: float) -> float:
        """`value` as something to minimise. Its own inverse."""
        return value if self.direction == "min" else -value

    @classmethod
    def parse(cls, text: str, known: Mapping[str, Direction] | None = None) -> Objective:
        """Read METRIC[@DEVICE][:min|max]. `known` gives a task's directions, beside those of `METRICS`.

        Raises UsageError when the direction is neither written nor known, UnknownNameError when there is a task.
        """
        body, colon, tail = text.strip().rpartition(":")
        if not colon:
            body, tail = text.strip(), ""
        metric, _, device = body.partition("@")
        declared = METRICS.get(metric)
        directions = {**({metric: declared.direction} if declared else {}), **(known or {})}
        if tail not in ("", "min", "max") or not metric:
            raise UsageError(f"objective {text!r} is not METRIC[@DEVICE][:min|max]")
        direction = cast(Direction, tail or directions.get(metric))
        if direction not in ("min", "max"):
            if known is not None:
                shared = [m.name for m in METRICS.values() if m.source != "quality"]
                raise UnknownNameError.of("objective", metric, [*known, *shared])
            raise UsageError(f"objective {text!r} has no direction", f"write {metric}:min or {metric}:max")
        return cls(metric, direction, device or None, declared.unit if declared else "")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric: "latency_ms@pi<=5"."""

    metric: str
    operator: Literal["<=", ">="]
    bound: float
    device: str | None = None

    @property
    def name(self) -> str:
        """The name of the bounded value in an evaluation."""
        return self.metric if self.device is None else f"{self.metric}@{self.device}"

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read METRIC[@DEVICE]<=NUMBER or >=. Raises UsageError."""
        match = re.fullmatch(r"\s*([\w.]+)(?:@([\w.:-]+))?\s*(<=|>=)\s*(\S+)\s*", text)
        try:
            if match is None:
                raise ValueError(text)
            bound = float(match[4])
        except ValueError:
            raise UsageError(f"constraint {text!r} is not METRIC[@DEVICE]<=NUMBER or >=NUMBER") from None
        return cls(match[1], "<=" if match[3] == "<=" else ">=", bound, match[2])

    def violation(self, value: float) -> float:
        """0 where `value` satisfies the bound, else the excess relative to the bound's size."""
        excess = value - self.bound if self.operator == "<=" else self.bound - value
        return max(0.0, excess) / (abs(self.bound) or 1.0)

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.bound:g}"


@dataclass(frozen=True)
class SearchBudget:
    """What a study may spend; None is no limit. Proposal 0 and reused facts count as trials."""

    trials: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise UsageError(f"trials={self.trials} must be at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise UsageError(f"seconds={self.seconds} must be above 0")


@dataclass(frozen=True)
class Value:
    """One number with where it comes from; `std` and `n` over seeds or repeats."""

    value: float
    kind: Kind
    std: float | None = None
    n: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(KINDS)}")
        object.__setattr__(self, "value", float(self.value))  # numpy scalars are welcome


@dataclass(frozen=True)
class Proposal:
    """A configuration that a strategy wants tried. `number` counts from 0 within the study; `config` is canonical."""

    id: str
    number: int
    config: Configuration
    key: str
    origin: str
    parents: tuple[str, ...] = ()
    iteration: int = 0
    predicted: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What `ask` returns; `reason` says why there are fewer than were asked for."""

    proposals: tuple[Proposal, ...]
    reason: Reason = ""


@dataclass(frozen=True)
class Evaluation:
    """What came back for a proposal (`proposal` is its id; None for foreign data).

    `values` by objective name ("error", "latency_ms@cpu"), raw (not turned to minimisation). `fidelity` is what was
    reached, e.g. {"epochs": 3}.
    """

    config: Configuration
    key: str
    status: Status
    values: Mapping[str, Value] = field(default_factory=dict)
    proposal: str | None = None
    fidelity: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status={self.status!r} must be one of {', '.join(STATUSES)}")

    def finite(self, names: Sequence[str]) -> bool:
        """Whether every one of the named values is there and finite."""
        return all(name in self.values and math.isfinite(self.values[name].value) for name in names)
