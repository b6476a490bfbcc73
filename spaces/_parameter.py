"""What every parameter is, and the repeated group.

Populations are handled as columns of float64 *codes*: the index of the option for choices, the value itself for
numbers. Everything here is vectorised over such a column.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._condition import Condition, IndexBelow, Scalar, condition_from_dict, condition_to_dict

__all__ = ["Floats", "Parameter", "Repeated", "Role", "SelfTuned", "Transform", "walk"]

Floats = NDArray[np.float64]
Role = Literal["architecture", "hyperparameter", "measurement"]
Transform = Literal["logit", "log", "log_below", "identity"]


_KINDS: dict[str, Any] = {}
"""Classes by kind, for reading JSON."""


class _Missing(enum.Enum):
    MISSING = 0


@dataclass(frozen=True)
class SelfTuned:
    """How a self-tuning trainer may move a parameter during a run.

    `applies_to`: a module-name pattern or the name of an augmentation; `transform`: from the unbounded inner value to
    the parameter ("logit" between both ends, "log" above the lower one, "log_below" below the upper one, "identity");
    `sigma0`: initial scale of the perturbation.
    """

    applies_to: str
    transform: Transform = "logit"
    sigma0: float = 0.5


@dataclass(frozen=True)
class Parameter(ABC):
    """One typed decision. `when` is a conjunction; `group` and `index` are set for members of a repeated group."""

    kind: ClassVar[str]
    name: str
    default: Any = field(default=_Missing.MISSING, kw_only=True)
    role: Role = field(default="architecture", kw_only=True)
    unit: str = field(default="", kw_only=True)
    elastic: bool = field(default=False, kw_only=True)
    self_tuned: SelfTuned | None = field(default=None, kw_only=True)
    when: tuple[Condition, ...] = field(default=(), kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    index: int | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "kind" in vars(cls):
            _KINDS[cls.kind] = cls

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a parameter needs a name")
        if self.role not in get_args(Role):
            raise ValueError(f"{self.name}: role={self.role!r} must be one of {', '.join(get_args(Role))}")
        object.__setattr__(self, "when", (self.when,) if isinstance(self.when, Condition) else tuple(self.when))
        self._check()
        default = self._central() if self.default is _Missing.MISSING else self.default
        if (problem := self.problem(default)) is not None:
            raise ValueError(f"{self.name}: default={default!r} is not legal: {problem[1]}")
        object.__setattr__(self, "default", self.normalise(default))

    @abstractmethod
    def _check(self) -> None:
        """Raise ValueError when the domain makes no sense; bring its fields to normal form."""

    @abstractmethod
    def _central(self) -> Any:
        """The default where none was given."""

    @property
    @abstractmethod
    def size(self) -> float:
        """Number of values, math.inf for a continuum."""

    @abstractmethod
    def problem(self, value: Any) -> tuple[str, str] | None:
        """(code, message) when `value` is not legal. Codes: type, range, step, choice."""

    @abstractmethod
    def normalise(self, value: Any) -> Scalar:
        """A legal value as the Python scalar that is stored: no numpy, int for integers, float for reals."""

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> Floats:
        """Codes (n,) of legal values."""

    @abstractmethod
    def decode(self, codes: Floats) -> list[Any]:
        """Inverse of `encode`: n Python scalars."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """Codes of n uniform draws (log-uniform where `log`)."""

    @abstractmethod
    def perturb(self, codes: Floats, rng: np.random.Generator) -> Floats:
        """A different value near each of `codes` (any other option for categoricals). Needs size > 1."""

    @abstractmethod
    def steps(self, code: float, rng: np.random.Generator) -> Floats:
        """Codes of the values one step away from `code`: all other options, or the adjacent numbers."""

    @abstractmethod
    def to_ints(self, codes: Floats) -> NDArray[np.int64]:
        """Position of each value in the list of values (bins for reals)."""

    @abstractmethod
    def from_ints(self, ints: NDArray[np.int64]) -> Floats:
        """Inverse of `to_ints` (bin centres for reals)."""

    @property
    @abstractmethod
    def cardinality(self) -> int:
        """Number of integers `to_ints` uses. ValueError for a real without bins."""

    @property
    @abstractmethod
    def feature_names(self) -> list[str]:
        """Names of the columns of `features`."""

    @abstractmethod
    def features(self, codes: Floats) -> Floats:
        """Columns (n, k) in 0..1 for predictors."""

    @abstractmethod
    def narrowed(self, low: Any, high: Any) -> Parameter:
        """The same parameter between two legal values. ValueError when nothing is left."""

    @abstractmethod
    def without(self, removed: Sequence[Any]) -> Parameter:
        """The same parameter without these values. ValueError when nothing is left or it is a continuum."""

    @abstractmethod
    def largest(self) -> Any:
        """The value that makes the largest network: the last of an order; the default where there is no order."""

    @abstractmethod
    def smallest(self) -> Any:
        """The value that makes the smallest network."""

    def fixed(self, value: Any) -> Parameter:
        """The same parameter with one value left."""
        return self.narrowed(value, value)

    def enumerate(self) -> Floats:
        """Codes of all values, in order. ValueError for a continuum."""
        if not math.isfinite(self.size):
            raise ValueError(f"{self.name} is a continuum: its values cannot be listed")
        return self.from_ints(np.arange(int(self.size)))

    def at(self, index: int, when: tuple[Condition, ...], default: Any) -> Parameter:
        """Member `index` of a group of copies of this parameter."""
        conditions = tuple(c.at(index) if isinstance(c, IndexBelow) else c for c in (*self.when, *when))
        return replace(
            self, name=f"{self.name}[{index}]", when=conditions, default=default, group=self.name, index=index
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        data: dict[str, Any] = {"kind": self.kind}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "when":
                value = [condition_to_dict(c) for c in value]
            elif isinstance(value, SelfTuned):
                value = vars(value)
            data[entry.name] = list(value) if isinstance(value, tuple) else value
        return data

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Parameter:
        """Inverse of `to_dict`."""
        values = dict(data)
        cls = _KINDS[values.pop("kind")]
        values["when"] = tuple(condition_from_dict(c) for c in values["when"])
        if values["self_tuned"] is not None:
            values["self_tuned"] = SelfTuned(**values["self_tuned"])
        parameter: Parameter = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        return parameter


@dataclass(frozen=True)
class Repeated:
    """`count` copies of a parameter, named name[0] .. name[count-1]; `defaults` gives each its own default.

    IndexBelow("depth") in `when` makes member i active where i < depth.
    """

    parameter: Parameter
    count: int
    when: tuple[Condition, ...] | Condition = ()
    defaults: tuple[Any, ...] | None = None

    def expand(self) -> list[Parameter]:
        """The members."""
        if self.count < 1:
            raise ValueError(f"{self.parameter.name}: count={self.count} must be at least 1")
        if self.defaults is not None and len(self.defaults) != self.count:
            raise ValueError(f"{self.parameter.name}: {len(self.defaults)} defaults for {self.count} members")
        when = (self.when,) if isinstance(self.when, Condition) else tuple(self.when)
        defaults = self.defaults or (self.parameter.default,) * self.count
        return [self.parameter.at(i, when, defaults[i]) for i in range(self.count)]


def walk(positions: Floats, rng: np.random.Generator, last: int) -> Floats:
    """Another position in 0..last: mostly a neighbour, seldom far (geometric steps), each end reflected inwards."""
    distance = np.minimum(rng.geometric(0.5, len(positions)), last).astype(np.float64)
    up = rng.random(len(positions)) < 0.5
    moved = positions + np.where(up, distance, -distance)
    other = positions - np.where(up, distance, -distance)
    inside = (moved >= 0) & (moved <= last)
    moved = np.clip(np.where(inside, moved, other), 0, last)
    stuck = moved == positions
    return np.where(stuck, np.where(positions < last, positions + 1, positions - 1), moved)
